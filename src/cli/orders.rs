//! `baton orders`: what is out and what is in doubt, and the operator's word on the latter.

use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use serde::Deserialize;

use super::books::{Part, more};
use super::output::{Cell, Output};
use super::resolve::{self, Resolve};
use crate::config::Inputs;
use crate::domain::table;

/// What to do with orders.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// List the newest orders, or those in doubt.
    #[command(after_help = "Examples:
  baton orders list
  baton orders list --instrument GOLD_MINI --from 2026-08-10 -o csv > orders.csv
  baton orders list --in-doubt -o json | jq '.orders[].id'")]
    List(List),
    /// End an order in doubt, or one that left the books, by your word with your evidence; needs the database's URL.
    #[command(
        after_help = "An order that was never at the broker is abandoned; one that is there is acknowledged by its order id,
and its fills are then read from the trade book. One that was acknowledged and is in no book any more is cancelled. The
broker's order book is looked at first: a word that it contradicts is not taken without --despite-books. The word is kept in
the audit log with its evidence.

Examples:
  baton orders resolve 0199... --as abandoned --evidence \"not in the terminal at 10:40, broker desk confirmed\"
  baton orders resolve 0199... --as acknowledged --order-id 251125000012345 --evidence \"terminal, order details\"
  baton orders resolve 0199... --as cancelled --evidence \"expired at the session's end, contract note\" --yes"
    )]
    Resolve(Resolve),
}

/// Which orders.
#[derive(Clone, Debug, clap::Args)]
pub struct List {
    /// Only those whose outcome at the broker is not known.
    #[arg(long)]
    pub in_doubt: bool,
    #[command(flatten)]
    part: Part,
}

#[derive(Deserialize)]
struct Order {
    id: String,
    class: String,
    side: String,
    quantity: i64,
    symbol: String,
    state: String,
    reason: Option<String>,
    journaled_at: String,
}

/// Runs a verb of `baton orders`.
///
/// # Errors
/// No instance answers; the order is not in doubt; the database is not reached; stdout cannot be written to.
pub async fn run(verb: Verb, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::List(list) => self::list(&list, inputs, output).await,
        Verb::Resolve(word) => resolve::run(&word, inputs, output).await,
    }
}

async fn list(list: &List, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let state = if list.in_doubt { "&state=in_doubt" } else { "" };
    let Some(mut page) =
        list.part.read("/api/v1/orders", state, "orders", table::ORDERS, inputs, output).await?
    else {
        return Ok(ExitCode::SUCCESS);
    };
    let orders: Vec<Order> = serde_json::from_value(page["orders"].take())
        .context("the instance answers, but not as one of this version does")?;
    if orders.is_empty() {
        output.line(if list.in_doubt { "no order is in doubt" } else { "no orders" })?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<Cell>> = orders.iter().map(row).collect();
    output.table(&["ID", "CLASS", "SIDE", "UNITS", "SYMBOL", "STATE", "SINCE", "REASON"], &rows)?;
    more(&page, output)
}

fn row(order: &Order) -> Vec<Cell> {
    let since = order.journaled_at.get(..19).unwrap_or(&order.journaled_at);
    vec![
        Cell::of(&order.id),
        Cell::of(&order.class),
        Cell::of(&order.side),
        Cell::of(order.quantity),
        Cell::of(&order.symbol),
        Cell::of(&order.state),
        Cell::of(since),
        Cell::of(order.reason.as_deref().unwrap_or("")),
    ]
}
