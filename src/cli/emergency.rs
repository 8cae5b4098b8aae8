//! `baton emergency-close`: sells what the broker holds of a symbol while PostgreSQL is gone.
//!
//! Speaks to Redis and the bridge itself: it is for the hour in which no instance can act.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use super::ask;
use super::output::Output;
use crate::app;
use crate::config::{self, Config, Inputs};
use crate::emergency::close::{Closed, Closer};
use crate::emergency::journal::End;
use crate::emergency::mark::Marks;
use crate::ledger::Ledger;
use crate::telemetry::metrics::Metrics;

/// How long Redis may take.
const REDIS: Duration = Duration::from_secs(1);

/// Sells what the broker holds of a symbol, without the database.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Only while PostgreSQL is gone for everybody: as long as an instance leads, `baton close` is the way. The order is kept
in a local journal (emergency.journal) and imported by the instance on this machine when PostgreSQL is back.

Exit code 0 when all that the broker held is sold, 1 when it is not, or not known, or refused.

Examples:
  baton emergency-close GOLDM05DEC25FUT --reason 'database lost, price falls'
  baton emergency-close GOLD_MINI --reason 'database lost' --stopped b2 --yes"
)]
pub struct Args {
    /// A configured instrument, or its tradable symbol.
    #[arg(value_name = "SYMBOL")]
    name: String,
    /// Why; kept with the order.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who you are; the user's name when left out.
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
    /// A member that does not answer and that you have stopped yourself; may be repeated.
    #[arg(long, value_name = "MEMBER")]
    stopped: Vec<String>,
    /// You have seen at the broker that no sale of it is on its way: what its books may still hide is not waited for.
    #[arg(long)]
    seen_at_broker: bool,
    /// Do it without asking for the symbol.
    #[arg(long)]
    yes: bool,
}

/// Closes and tells what became of it.
///
/// # Errors
/// Refused, not confirmed, or the outcome is not known.
pub async fn run(args: Args, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let config = config::load(inputs)?;
    let operator = ask::operator(args.operator.as_deref(), inputs)?;
    let marks =
        Marks::new(&config.redis.access(), &config.cluster.name, REDIS).context("Redis cannot be used")?;
    let (pg, tls) = (config.postgres.session.clone(), config.postgres.tls.clone());
    let ledger = Ledger::open(pg, tls, 1, "baton/emergency")?;
    let stopped: BTreeSet<String> = args.stopped.iter().cloned().collect();
    let closer = Closer {
        ledger: &ledger,
        marks: &marks,
        broker: app::bridge(&config, &Arc::new(Metrics::new()))?,
        armed: app::armed(&config),
        catalog: &config.instruments,
        journal: &config.emergency.journal,
        cluster: &config.cluster.name,
        host: &config.cluster.member,
        operator: &operator,
        reason: &args.reason,
        stopped: &stopped,
        lease_ttl: config.timing.lease_ttl,
        send_window: config.broker.order_timeout,
        settle: config.broker.user_timeout + config.broker.settle,
        seen: args.seen_at_broker,
    };
    let closed = closer.close(&args.name, |question| confirm(&args, &config, question, output)).await?;
    told(&closed, output)
}

fn confirm(args: &Args, config: &Config, question: &str, output: &Output) -> Result<(), String> {
    let question = format!("{question} ({})", config.broker.mode.as_str());
    ask::typed(&question, &args.name, args.yes, output).map_err(|error| error.to_string())
}

fn told(closed: &Closed, output: &Output) -> anyhow::Result<ExitCode> {
    let sold = match &closed.end {
        Some(End::Sold { quantity, .. }) => quantity.0,
        _ => 0,
    };
    let code = if sold == closed.held.0 { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if output.is_json() {
        output.json(&json!({
            "id": closed.id, "contract": closed.contract, "held": closed.held, "quantity": closed.quantity,
            "order_id": closed.order_id, "sold": sold, "end": closed.end,
        }))?;
        return Ok(code);
    }
    let Closed { contract, held, quantity, order_id, .. } = closed;
    let order = order_id.as_deref().unwrap_or("none");
    output.line(match &closed.end {
        Some(End::Sold { quantity: sold, price, .. }) => {
            format!("Sold {sold} of {held} units of {contract} at {price}, order {order}.")
        }
        Some(End::NotSent { reason }) => format!("Nothing was sold of {contract}: {reason}."),
        None => format!(
            "Order {order} for {quantity} of {held} units of {contract} works at the broker; ask again."
        ),
    })?;
    Ok(code)
}
