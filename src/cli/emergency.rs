//! `baton emergency-close`: sells what the broker holds of a symbol, or of all, while PostgreSQL is gone.
//!
//! Speaks to Redis and the bridge itself: it is for the hour in which no instance can act.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use super::ask;
use super::output::Output;
use crate::app;
use crate::broker::BrokerOrder;
use crate::config::{self, Config, Inputs};
use crate::domain::money::Quantity;
use crate::domain::position::HoldingKey;
use crate::emergency::all::{Holdings, Outcome, unexplained};
use crate::emergency::close::{Closed, Closer};
use crate::emergency::journal::End;
use crate::emergency::mark::Marks;
use crate::ledger::Ledger;
use crate::telemetry::metrics::Metrics;

/// How long Redis may take.
const REDIS: Duration = Duration::from_secs(1);

/// Sells what the broker holds of a symbol, or of all that is traded, without the database.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Only while PostgreSQL is gone for everybody: as long as an instance leads, `baton close` is the way. The order is kept
in a local journal (emergency.journal) and imported by the instance on this machine when PostgreSQL is back.

Exit code 0 when all that the broker held is sold, 1 when it is not, or not known, or refused.

Examples:
  baton emergency-close GOLDM05DEC25FUT --reason 'database lost, price falls'
  baton emergency-close GOLD_MINI --reason 'database lost' --stopped b2 --yes
  baton emergency-close --all --reason 'database lost'"
)]
pub struct Args {
    /// A configured instrument, or its tradable symbol.
    #[arg(value_name = "SYMBOL", required_unless_present = "all", conflicts_with = "all")]
    name: Option<String>,
    /// Everything that the broker holds of the configured contracts, one after another, in orders up to the freeze quantity.
    #[arg(long)]
    all: bool,
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
    let Some(name) = &args.name else {
        return close_all(&closer, &args, &config, output).await;
    };
    let confirmed =
        |question: &str| confirm(&args, &config, question, name, output).map_err(|error| error.to_string());
    let closed = closer.close(name, confirmed).await?;
    let code = if closed.sold() == closed.held { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if output.is_json() {
        output.json(&shown(&closed))?;
    } else {
        told(&closed, output)?;
    }
    Ok(code)
}

fn confirm(args: &Args, config: &Config, question: &str, word: &str, output: &Output) -> anyhow::Result<()> {
    let question = format!("{question} ({})", config.broker.mode.as_str());
    ask::typed(&question, word, args.yes, output)
}

/// Closes one contract after another; what stops one does not stop the next.
async fn close_all(
    closer: &Closer<'_>,
    args: &Args,
    config: &Config,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    let Holdings { ours, foreign, buying } = closer.holdings().await?;
    if !output.is_json() {
        tell_buying(&buying, output)?;
    }
    for (contract, held) in foreign.iter().filter(|_| !output.is_json()) {
        output.line(format!("Left alone, for it is not configured: {held} units of {contract}."))?;
    }
    if !ours.is_empty() {
        let listed: Vec<_> =
            ours.iter().map(|(contract, held)| format!("{held} units of {contract}")).collect();
        let question = format!("Sell {}, without the database", listed.join(", "));
        confirm(args, config, &question, "all", output)?;
    }
    let mut outcomes = Vec::new();
    for contract in ours.keys() {
        let outcome = closer.close_whole(contract).await;
        if !output.is_json() {
            tell_outcome(&outcome, output)?;
        }
        outcomes.push(outcome);
    }
    // What was bought meanwhile, or may still be, would be nobody's.
    let after = closer.holdings().await;
    let still_buying = after.as_ref().map_or(&buying, |after| &after.buying);
    let still_held = after.as_ref().map(|after| unexplained(&after.ours, &outcomes)).unwrap_or_default();
    let unread = after.as_ref().err().map(ToString::to_string);
    if output.is_json() {
        let contracts: Vec<Value> = outcomes.iter().map(shown_outcome).collect();
        let buying: Vec<Value> = still_buying.iter().map(shown_order).collect();
        output.json(&json!({
            "contracts": contracts, "buying": buying, "still_held": shown_holdings(still_held.iter().copied()),
            "foreign": shown_holdings(foreign.iter().map(|(contract, held)| (contract, *held))), "error": unread,
        }))?;
    } else {
        if ours.is_empty() {
            output.line("The broker holds nothing of the configured contracts.")?;
        }
        if let Some(why) = &unread {
            output.line(format!("What is left is not known: {why}. Ask again."))?;
        }
        for (contract, held) in &still_held {
            output.line(format!("The broker shows {held} units of {contract} all the same: ask again."))?;
        }
        tell_buying(still_buying, output)?;
    }
    let all_sold = outcomes.iter().all(Outcome::is_flat);
    let nothing_left = still_held.is_empty() && still_buying.is_empty() && unread.is_none();
    Ok(if all_sold && nothing_left { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn shown_holdings<'a>(held: impl Iterator<Item = (&'a HoldingKey, Quantity)>) -> Vec<Value> {
    held.map(|(contract, held)| json!({ "contract": contract, "held": held })).collect()
}

fn tell_buying(buying: &[BrokerOrder], output: &Output) -> anyhow::Result<()> {
    for order in buying {
        output.line(format!(
            "Order {} may still buy {} units of {}: cancel it in the broker's terminal, or what it buys is nobody's.",
            order.order_id, order.quantity, order.symbol
        ))?;
    }
    Ok(())
}

fn shown_order(order: &BrokerOrder) -> Value {
    json!({ "order_id": order.order_id, "symbol": order.symbol, "exchange": order.exchange, "quantity": order.quantity })
}

fn tell_outcome(outcome: &Outcome, output: &Output) -> anyhow::Result<()> {
    for closed in &outcome.orders {
        told(closed, output)?;
    }
    if let Some(why) = &outcome.stopped {
        output.line(format!("{} is not closed: {why}.", outcome.contract))?;
    }
    Ok(())
}

fn shown_outcome(outcome: &Outcome) -> Value {
    let orders: Vec<Value> = outcome.orders.iter().map(shown).collect();
    let stopped = outcome.stopped.as_ref().map(ToString::to_string);
    json!({ "contract": outcome.contract, "sold": outcome.sold(), "orders": orders, "error": stopped })
}

fn shown(closed: &Closed) -> Value {
    json!({
        "id": closed.id, "contract": closed.contract, "held": closed.held, "quantity": closed.quantity,
        "order_id": closed.order_id, "sold": closed.sold(), "end": closed.end,
    })
}

fn told(closed: &Closed, output: &Output) -> anyhow::Result<()> {
    let Closed { contract, held, quantity, order_id, .. } = closed;
    let order = order_id.as_deref().unwrap_or("none");
    Ok(output.line(match &closed.end {
        Some(End::Sold { quantity: sold, price, .. }) => {
            format!("Sold {sold} of {held} units of {contract} at {price}, order {order}.")
        }
        Some(End::NotSent { reason }) => format!("Nothing was sold of {contract}: {reason}."),
        None => format!(
            "Order {order} for {quantity} of {held} units of {contract} works at the broker; ask again."
        ),
    })?)
}
