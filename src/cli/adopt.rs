//! `baton positions adopt`: what the broker holds and the ledger does not, taken up by the operator's word.
//!
//! Opens the database itself, like `baton recover --repair`, whose transaction it uses: shown first, then the same, proven.

use std::collections::HashSet;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use chrono::Utc;
use rust_decimal::Decimal;
use serde_json::json;

use super::ask;
use super::output::{Colour, Output};
use super::recover::unread;
use crate::app;
use crate::broker::Broker;
use crate::config::{self, Config, Inputs};
use crate::domain::ids::{IntentId, PositionId, SignalId};
use crate::domain::label::Label;
use crate::domain::money::{Lots, Price};
use crate::domain::order::Side;
use crate::ledger::repair::{Mending, Operator};
use crate::ledger::snapshot::{Depth, Snapshot};
use crate::ledger::{Ledger, LedgerError};
use crate::recovery::Recovered;
use crate::recovery::adopt::{self, Refused, Wanted};
use crate::recovery::reconcile::{DiffRow, Reconciler};
use crate::recovery::repair::{Plan, critical};
use crate::telemetry::metrics::Metrics;

/// How a position is taken up.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Only what the broker's verified book shows beyond the ledger can be taken up, and only while no order on the contract is
under way or in doubt. From then on it is Baton's: its stop is watched, EXITs sell it. A stop at or above the market's
price sells at once.

Exit codes: 0 taken up, or, without --apply, it could be; 1 not.

Examples:
  baton positions adopt GOLD_MINI --lots 2 --price 140250 --stop 138900
  baton positions adopt GOLD_MINI --lots 2 --price 140250 --stop 138900 --apply --reason 'bought by hand on Monday'"
)]
pub struct Args {
    /// A configured instrument, or its tradable symbol.
    #[arg(value_name = "NAME")]
    name: String,
    /// How many lots.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    lots: i64,
    /// What it was bought at, per quoted unit.
    #[arg(long, value_name = "PRICE")]
    price: Decimal,
    /// Its stop.
    #[arg(long, value_name = "PRICE")]
    stop: Decimal,
    /// Average true range in points; the distance from price to stop when left out.
    #[arg(long, value_name = "POINTS")]
    atr: Option<Decimal>,
    /// `Long_1` to `Long_6`; the first free one when left out.
    #[arg(long, value_name = "LABEL")]
    label: Option<Label>,
    /// The strategy whose EXITs mean it.
    #[arg(long, value_name = "NAME", default_value = "default")]
    strategy: String,
    /// Write it, proven and in one transaction.
    #[arg(long, requires = "reason")]
    apply: bool,
    /// Why; kept in the audit log.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Who you are; the user's name when left out.
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
    /// Do it without asking for the cluster's name.
    #[arg(long, requires = "apply")]
    yes: bool,
}

/// Why nothing was taken up; nothing was written.
#[derive(Debug, thiserror::Error)]
enum AdoptError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("stored state changed since it was looked at; look again")]
    Changed,
    #[error("it would still not be whole: {}", .0.join("; "))]
    NotWhole(Vec<String>),
}

pub(super) async fn run(args: Args, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let config = config::load(inputs)?;
    let postgres = &config.postgres;
    let ledger = Ledger::open(postgres.session.clone(), postgres.tls.clone(), 2, "baton/adopt")?;
    ledger.check_schema().await?;
    let broker = app::bridge(&config, &Arc::new(Metrics::new()))?;
    let diff = lasting_difference(&config, &ledger, &broker).await?;
    let snapshot = ledger
        .snapshot(Depth::Open, &Arc::default())
        .await
        .map_err(|error| unread(error, "stored state cannot be read"))?;
    let wanted = Wanted {
        position: PositionId::new(),
        intent: IntentId::new(),
        signal: SignalId::new(),
        name: args.name.clone(),
        lots: Lots(args.lots),
        price: Price(args.price),
        stop: Price(args.stop),
        atr: args.atr.map(Price),
        label: args.label,
        strategy: args.strategy.clone(),
        at: Utc::now(),
    };
    let of = |snapshot: &Snapshot| {
        adopt::plan(snapshot, &diff, &wanted, config.trading.capital, &config.instruments)
    };
    let proposed = of(&snapshot)?;
    if args.apply {
        let name = ask::operator(args.operator.as_deref(), inputs)?;
        let operator = Operator { name: &name, reason: args.reason.as_deref().unwrap_or_default() };
        if !args.yes && !output.is_json() {
            told(&proposed, false, output)?;
        }
        let what = format!("{} lots of {} become Baton's, at {},", args.lots, args.name, args.price);
        ask::configured(&what, &config, args.yes, output)?;
        let by_hand = bought_by_hand(&broker, &snapshot, &proposed).await;
        apply(&config, &ledger, &proposed, by_hand, of, operator).await?;
    }
    told(&proposed, args.apply, output)?;
    Ok(ExitCode::SUCCESS)
}

async fn apply(
    config: &Config,
    ledger: &Ledger,
    proposed: &Plan,
    by_hand: Vec<String>,
    of: impl Fn(&Snapshot) -> Result<Plan, Refused>,
    operator: Operator<'_>,
) -> Result<(), AdoptError> {
    let same = |snapshot: &Snapshot| {
        let now = of(snapshot)?;
        if now.proposals != proposed.proposals {
            return Err(AdoptError::Changed);
        }
        Ok((Mending { by_hand, ..now.mending }, json!(now.proposals)))
    };
    let whole = |snapshot| {
        Recovered::prove(snapshot, config.trading.capital, &config.instruments)
            .map(|_| ())
            .map_err(|error| AdoptError::NotWhole(critical(error.findings())))
    };
    ledger.repair(operator, "adopt", Depth::Open, same, whole).await
}

/// The verified comparison, of two looks that agree: a difference is what lasts.
async fn lasting_difference(
    config: &Config,
    ledger: &Ledger,
    broker: &Arc<dyn Broker>,
) -> anyhow::Result<Vec<DiffRow>> {
    let (settle, metrics) = (config.recovery.drift_settle, Arc::new(Metrics::new()));
    let reconciler = Reconciler::new(ledger.clone(), Arc::clone(broker), metrics, settle);
    let first = reconciler.compare().await?;
    tokio::time::sleep(settle).await;
    let second = reconciler.compare().await?;
    if first.rows != second.rows {
        bail!("ledger or broker moved between two looks: try again when nothing is traded");
    }
    Ok(second.rows)
}

/// The orders of the day that bought it beside Baton: explained from then on, and nobody's in doubt.
async fn bought_by_hand(broker: &Arc<dyn Broker>, snapshot: &Snapshot, plan: &Plan) -> Vec<String> {
    let Some(adopted) = &plan.mending.adopted else { return Vec::new() };
    let key = adopted.position.holding_key();
    let ours: HashSet<&String> = snapshot.claimed_orders.iter().collect();
    // A book that cannot be read explains nothing: those orders stay reported.
    let trades = broker.trades().await.unwrap_or_default();
    let bought = trades.iter().filter(|trade| {
        (&trade.symbol, &trade.exchange, trade.side) == (&key.symbol, &key.exchange, Side::Buy)
            && !ours.contains(&trade.order_id)
    });
    bought.map(|trade| trade.order_id.clone()).collect()
}

fn told(plan: &Plan, applied: bool, output: &Output) -> anyhow::Result<()> {
    if output.is_json() {
        output.json(&json!({ "applied": applied, "proposals": plan.proposals }))?;
        return Ok(());
    }
    output.line(match applied {
        true => output.paint(Colour::Green, "taken up; the leader reads state back and watches its stop"),
        false => output
            .paint(Colour::Yellow, "it can be taken up (nothing was written: add --apply --reason TEXT)"),
    })?;
    for proposal in &plan.proposals {
        let (table, row, field) = (proposal.table, &proposal.row, proposal.field);
        output.line(format!("  {table} {row}: {field} {} -> {}", proposal.before, proposal.after))?;
    }
    Ok(())
}
