//! `baton orders resolve`: the operator's word on how an order ended, held against the broker's books before it is taken.

use std::collections::HashSet;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use serde_json::json;
use uuid::Uuid;

use super::ask;
use super::output::{Colour, Output};
use crate::app;
use crate::broker::matching::{Unresolved, match_orders};
use crate::broker::{BrokerOrder, OrderStatus};
use crate::config::{self, Config, Inputs};
use crate::domain::intent::OrderIntent;
use crate::ledger::Ledger;
use crate::ledger::repair::Operator;
use crate::ledger::snapshot::{Depth, Snapshot};
use crate::telemetry::metrics::Metrics;

/// How an order ended, by the operator's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum As {
    /// It never reached the broker, or nobody will ever know better.
    Abandoned,
    /// The broker refused it.
    Rejected,
    /// It ended at the broker, cancelled or expired; the fills that are known stay.
    Cancelled,
    /// Its bytes never left.
    NotSent,
    /// It is at the broker, under the given order id.
    Acknowledged,
}

/// An operator's word.
#[derive(Clone, Debug, clap::Args)]
pub struct Resolve {
    /// The order's id.
    pub id: Uuid,
    /// How it ended.
    #[arg(long = "as", value_enum, value_name = "STATE")]
    pub ended: As,
    /// The broker's id of the order; with acknowledged.
    #[arg(long, value_name = "ID", required_if_eq("ended", "acknowledged"))]
    pub order_id: Option<String>,
    /// What you saw, and where.
    #[arg(long, value_name = "TEXT")]
    pub evidence: String,
    /// Who you are.
    #[arg(long, env = "USER", value_name = "NAME")]
    pub operator: String,
    /// Do it without asking for the cluster's name.
    #[arg(long)]
    pub yes: bool,
    /// Your word stands although the broker's order book says otherwise.
    #[arg(long)]
    pub despite_books: bool,
}

/// Shows the order and what the books say of it, asks, and takes the word.
///
/// # Errors
/// The books contradict it; nobody confirmed it; the order is not in doubt; the database is not reached.
pub(super) async fn run(word: &Resolve, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let order_id = word.order_id.as_deref().filter(|_| word.ended == As::Acknowledged);
    ensure!(
        word.order_id.is_none() || order_id.is_some(),
        "--order-id goes with --as acknowledged: an order that is not at the broker has none"
    );
    ensure!(!word.evidence.trim().is_empty(), "--evidence is empty: say what you saw, and where");
    let config = config::load(inputs)?;
    let postgres = &config.postgres;
    let ledger = Ledger::open(postgres.session.clone(), postgres.tls.clone(), 2, "baton/orders")?;
    ledger.check_schema().await?;
    let value = word.ended.to_possible_value().context("every state has a name")?;
    let state = value.get_name();
    let books = look(&config, &ledger, word).await?;
    if let Some(contradiction) = &books.contradiction
        && !word.despite_books
    {
        bail!("{contradiction}: nothing was done; add --despite-books if you know better");
    }
    // What is neither out nor in doubt is refused below, and nobody is asked about it.
    if !books.is_over {
        let known = books.order.as_ref().map_or_else(|| format!("order {}", word.id), shown);
        let what = format!("{known}\n{}\nCall it {state}, by {}'s word,", books.said, word.operator);
        ask::configured(&what, &config, word.yes, output)?;
    }
    let operator = Operator { name: &word.operator, reason: &word.evidence };
    let found = ledger.resolve_intent(word.id, state, order_id, operator).await?;
    ensure!(found, "there is no order {}: `baton orders list --in-doubt` has the ids", word.id);
    if output.is_json() {
        output.json(&json!({ "id": word.id, "state": state, "books": books.said }))?;
    } else {
        output.line(format!(
            "order {} is {state}, by {}'s word; the leader reads state back",
            word.id, word.operator
        ))?;
        output.line(format!("  {}", output.paint(Colour::Dim, books.said)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is known of the order.
struct Look {
    order: Option<OrderIntent>,
    /// It is neither out nor in doubt.
    is_over: bool,
    /// What the books say, in a sentence.
    said: String,
    /// The same, where it contradicts the word.
    contradiction: Option<String>,
}

async fn look(config: &Config, ledger: &Ledger, word: &Resolve) -> anyhow::Result<Look> {
    let nothing = |said: String, is_over| Look { order: None, is_over, said, contradiction: None };
    let snapshot = match ledger.snapshot(Depth::Open, &Arc::default()).await {
        Ok(snapshot) => snapshot,
        Err(error) if error.is_transient() => return Err(error.into()),
        // Damaged state is no reason to leave an order in doubt.
        Err(error) => {
            let said = format!("stored state cannot be read, so no book was looked at: {error}");
            return Ok(nothing(said, false));
        }
    };
    let Some(intent) = snapshot.intents.iter().find(|intent| intent.id.0 == word.id).cloned() else {
        return Ok(nothing("it is neither out nor in doubt".to_owned(), true));
    };
    let broker = app::bridge(config, &Arc::new(Metrics::new()))?;
    Ok(match broker.books().await {
        Err(error) => {
            let said = format!("the broker's books cannot be read, so nothing confirms it: {error}");
            Look { order: Some(intent), is_over: false, said, contradiction: None }
        }
        Ok(books) => {
            let (said, contradicts) =
                judge(word, &intent, &candidates(&intent, &snapshot, &books.orders, word));
            let contradiction = contradicts.then(|| said.clone());
            Look { order: Some(intent), is_over: false, said, contradiction }
        }
    })
}

/// The orders of the book that are, or may be, this one.
fn candidates<'a>(
    intent: &OrderIntent,
    snapshot: &Snapshot,
    orders: &'a [BrokerOrder],
    word: &Resolve,
) -> Vec<&'a BrokerOrder> {
    let named = intent.broker_order_id.as_ref().or(word.order_id.as_ref());
    let ids: Vec<String> = match named {
        Some(id) => vec![id.clone()],
        None => {
            let foreign = snapshot.foreign_orders.iter();
            let before = foreign.filter(|(_, seq)| **seq <= intent.watermark).map(|(id, _)| id);
            let known: HashSet<String> = snapshot.claimed_orders.iter().chain(before).cloned().collect();
            let unresolved =
                Unresolved { intent: intent.id, spec: intent.order.clone(), strategy: intent.strategy_tag() };
            let matching = match_orders(&[unresolved], orders, &known);
            let found = matching.found.into_iter().map(|found| found.order_id);
            found.chain(matching.ambiguous.into_iter().flat_map(|some| some.order_ids)).collect()
        }
    };
    orders.iter().filter(|order| ids.contains(&order.order_id)).collect()
}

/// What the book says of the word, and whether it contradicts it.
fn judge(word: &Resolve, intent: &OrderIntent, candidates: &[&BrokerOrder]) -> (String, bool) {
    let Some(order) = candidates.first() else {
        let said = match word.ended {
            As::Acknowledged => "the broker's order book has no order of that id",
            _ => "the broker's order book has no order like it",
        };
        return (said.to_owned(), word.ended == As::Acknowledged);
    };
    let rows = candidates.iter().map(|order| format!("order {} ({:?})", order.order_id, order.status));
    let rows = rows.collect::<Vec<_>>().join(", ");
    let same_terms = (&order.symbol, &order.exchange, order.side, order.quantity)
        == (&intent.order.symbol, &intent.order.exchange, intent.order.side, intent.order.quantity);
    let contradicts = match (word.ended, &order.status) {
        (As::Acknowledged, _) => !same_terms,
        (As::Rejected, OrderStatus::Rejected) | (As::Cancelled, OrderStatus::Cancelled) => false,
        _ => true,
    };
    let relation = if same_terms { "may be it" } else { "is of other terms" };
    (format!("in the broker's order book {rows} {relation}"), contradicts)
}

fn shown(intent: &OrderIntent) -> String {
    let order = &intent.order;
    format!(
        "{} order {}: {} {} {}, {} since its journaling under epoch {}",
        intent.class, intent.id, order.side, order.quantity, order.symbol, intent.state, intent.epoch
    )
}
