//! `baton recover --repair`: proposals first; with `--apply` the same ones, proven, in one transaction.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use rust_decimal::Decimal;
use serde_json::json;

use super::{Args, ledger, same_schema, unread};
use crate::app;
use crate::cli::ask;
use crate::cli::output::{Colour, Output};
use crate::config::{Config, Inputs};
use crate::domain::money::Price;
use crate::domain::order::Side;
use crate::domain::position::HoldingKey;
use crate::ledger::repair::Operator;
use crate::ledger::reread::Readable;
use crate::ledger::snapshot::Snapshot;
use crate::ledger::{Ledger, LedgerError};
use crate::recovery::Recovered;
use crate::recovery::reconcile::{DiffRow, ReconcileError, Reconciler};
use crate::recovery::repair::{Plan, Proposal, plan};
use crate::telemetry::metrics::Metrics;

/// Why a repair was not made; nothing was written.
#[derive(Debug, thiserror::Error)]
enum RepairError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("stored state or the broker's book changed since the proposals were made; look at them again")]
    Changed,
    #[error("it would still not be whole: {}", .0.join("; "))]
    StillBroken(Vec<String>),
}

/// What the broker says, and what could not be learned from it.
#[derive(Default)]
struct Books {
    diff: Vec<DiffRow>,
    prices: BTreeMap<HoldingKey, Price>,
    /// The orders that were sold by hand.
    by_hand: BTreeMap<HoldingKey, Vec<String>>,
    note: Option<String>,
}

pub(super) async fn run(
    args: &Args,
    config: &Config,
    inputs: &Inputs,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    let ledger = ledger(config)?;
    same_schema(&ledger).await?;
    let state = ledger.readable().await.map_err(unreadable)?;
    let books = match &state.snapshot {
        Some(snapshot) => ask_broker(config, &ledger, snapshot, args, !state.restored.is_empty()).await?,
        None => Books::default(),
    };
    let of = |state: &Readable| {
        let Some(snapshot) = &state.snapshot else { return Plan::of_unreadable(state) };
        let mut plan =
            plan(snapshot, &books.diff, &books.prices, config.trading.capital, &config.instruments);
        let keys: BTreeSet<HoldingKey> =
            plan.mending.bookings.iter().map(|b| b.position.holding_key()).collect();
        let orders = keys.iter().filter_map(|key| books.by_hand.get(key)).flatten();
        plan.mending.by_hand = orders.cloned().collect();
        plan.after(&state.restored)
    };
    let proposed = of(&state);
    let applied = match &args.apply {
        false => false,
        true if proposed.proposals.is_empty() => {
            bail!("there is nothing to mend that the books or the fills tell how")
        }
        true => {
            let operator = Operator {
                name: &ask::operator(args.operator.as_deref(), inputs)?,
                reason: args.reason.as_deref().unwrap_or_default(),
            };
            if !args.yes && !output.is_json() {
                told(&proposed, &books, false, output)?;
            }
            let what = format!("Set {} values of stored state", proposed.proposals.len());
            ask::configured(&what, config, args.yes, output)?;
            apply(config, &ledger, &proposed, of, operator).await.map_err(unconfirmed)?;
            true
        }
    };
    told(&proposed, &books, applied, output)?;
    let clean = proposed.unsolved.is_empty() && (applied || proposed.proposals.is_empty());
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn unreadable(error: LedgerError) -> anyhow::Error {
    unread(error, "stored state cannot be read, so nothing can be proposed")
}

/// A lost connection may have taken the answer to the commit with it.
fn unconfirmed(error: RepairError) -> anyhow::Error {
    match error {
        RepairError::Ledger(error) if error.is_transient() || error.is_corruption() => {
            unread(error, "whether anything was set is not confirmed; `baton recover --check` looks")
        }
        error => error.into(),
    }
}

async fn apply(
    config: &Config,
    ledger: &Ledger,
    proposed: &Plan,
    of: impl Fn(&Readable) -> Plan,
    operator: Operator<'_>,
) -> Result<(), RepairError> {
    let same = |state: &Readable| {
        let now = of(state);
        if now.proposals != proposed.proposals {
            return Err(RepairError::Changed);
        }
        if state.snapshot.is_none() {
            return Err(RepairError::StillBroken(now.unsolved));
        }
        Ok((now.mending, json!(now.proposals)))
    };
    let whole = |snapshot| {
        Recovered::prove(snapshot, config.trading.capital, &config.instruments).map(|_| ()).map_err(|error| {
            RepairError::StillBroken(error.findings().iter().map(ToString::to_string).collect())
        })
    };
    ledger.repair_unreadable(operator, "repair", same, whole).await
}

/// The verified comparison, and the prices of sales that are not Baton's. A book that cannot be verified, or compared with a
/// ledger that is damaged, says nothing: the ledger's own faults can still be mended.
async fn ask_broker(
    config: &Config,
    ledger: &Ledger,
    snapshot: &Snapshot,
    args: &Args,
    is_damaged: bool,
) -> anyhow::Result<Books> {
    let metrics = Arc::new(Metrics::new());
    let broker = app::bridge(config, &metrics)?;
    let settle = config.recovery.drift_settle;
    let reconciler = Reconciler::new(ledger.clone(), Arc::clone(&broker), metrics, settle);
    let compared = async {
        let first = reconciler.compare().await?;
        // A drift is what lasts.
        if first.drift > 0 {
            tokio::time::sleep(settle).await;
            return reconciler.compare().await;
        }
        Ok(first)
    };
    // What a custodian sold by the broker's book alone is booked like a sale by hand.
    let custody = match ledger.custody_prices().await {
        Err(error) if !is_damaged || error.is_transient() => return Err(unreadable(error)),
        custody => custody.unwrap_or_default(),
    };
    let (diff, mut note) = match compared.await {
        Ok(diff) => (diff.rows, None),
        Err(ReconcileError::Ledger(error)) if !is_damaged || error.is_transient() => {
            return Err(unreadable(error));
        }
        Err(error) => (Vec::new(), Some(format!("{error}; only the ledger's own faults are looked at"))),
    };
    let (mut prices, mut by_hand) = (BTreeMap::new(), BTreeMap::new());
    let drifting: Vec<HoldingKey> =
        diff.iter().filter(|row| row.verdict.is_drift()).filter_map(DiffRow::key).collect();
    let trades = if drifting.is_empty() { Ok(Vec::new()) } else { broker.trades().await };
    if let Err(error) = &trades {
        note = Some(format!(
            "the trade book cannot be read ({error}), so the orders that were sold by hand are not known: an exit that \
             was given up may be taken for one of them"
        ));
    }
    let ours: HashSet<&String> = snapshot.claimed_orders.iter().collect();
    for key in drifting {
        let sold = trades.iter().flatten().filter(|trade| {
            (&trade.symbol, &trade.exchange, trade.side) == (&key.symbol, &key.exchange, Side::Sell)
                && !ours.contains(&trade.order_id)
        });
        let (mut units, mut value, mut orders) = (0, Decimal::ZERO, Vec::new());
        for trade in sold {
            units += trade.quantity.0;
            value += trade.average_price.0 * trade.quantity.decimal();
            orders.push(trade.order_id.clone());
        }
        if let Some(price) = args.price.iter().find(|given| given.symbol == key.symbol) {
            prices.insert(key.clone(), price.price);
        } else if units > 0 {
            prices.insert(key.clone(), Price(value / Decimal::from(units)).rounded());
        } else if let Some(price) = custody.get(&key) {
            prices.insert(key.clone(), *price);
        }
        by_hand.insert(key, orders);
    }
    Ok(Books { diff, prices, by_hand, note })
}

fn told(plan: &Plan, books: &Books, applied: bool, output: &Output) -> anyhow::Result<()> {
    if output.is_json() {
        output.json(&json!({
            "applied": applied, "proposals": plan.proposals, "unsolved": plan.unsolved, "note": books.note,
        }))?;
        return Ok(());
    }
    let heading = match (applied, plan.proposals.len()) {
        (true, n) => output.paint(Colour::Green, format!("{n} values were set; the leader reads state back")),
        (false, 0) => "nothing to set".to_owned(),
        (false, n) => output.paint(
            Colour::Yellow,
            format!("{n} values would be set (nothing was written: add --apply --reason TEXT)"),
        ),
    };
    output.line(heading)?;
    for Proposal { table, row, field, before, after, because } in &plan.proposals {
        output.line(format!("  {table} {row}: {field} {before} -> {after}"))?;
        output.line(format!("      {}", output.paint(Colour::Dim, because)))?;
    }
    for unsolved in &plan.unsolved {
        output.line(format!("  {} {unsolved}", output.paint(Colour::Red, "no proposal:")))?;
    }
    if let Some(note) = &books.note {
        output.line(format!("  {} {note}", output.paint(Colour::Yellow, "note:")))?;
    }
    Ok(())
}
