//! `baton cash deposit|withdraw|list`: money that was paid into the account or taken out of it at the broker.

use std::process::ExitCode;

use clap::Subcommand;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use uuid::Uuid;

use super::call::{Caller, Change, Target};
use super::errors::moment;
use super::output::{Cell, Colour, Output};
use crate::config::Inputs;
use crate::domain::cash::{CashKind, Movement};
use crate::domain::ids::MovementId;

const PATH: &str = "/api/v1/cash";

/// What to do with money.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Book what was paid into the account at the broker.
    #[command(
        after_help = "Baton moves no money: it books what you have moved. Equity, high-water mark and the day's opening move
together, so that it is neither profit nor loss.

Examples:
  baton cash deposit 500000 --reason 'transfer of 3 August'
  baton cash deposit 500000 --reason 'transfer of 3 August' --id 0198f3a0-0000-7000-8000-000000000001 --yes"
    )]
    Deposit(Move),
    /// Book what was taken out of the account at the broker.
    #[command(after_help = "More than the closed equity is refused.

Examples:
  baton cash withdraw 125000.50 --reason 'tax'")]
    Withdraw(Move),
    /// List what moved, the newest first, and what the account was opened with.
    List(List),
}

/// How much.
#[derive(Debug, clap::Args)]
pub struct Move {
    /// Rupees, above zero.
    #[arg(allow_hyphen_values = true)]
    amount: String,
    /// The movement's id, to ask again for one of which the answer was lost: it is booked once. A new one by default.
    #[arg(long, value_name = "UUID")]
    id: Option<Uuid>,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    target: Target,
}

/// Which cluster.
#[derive(Debug, clap::Args)]
pub struct List {
    #[command(flatten)]
    target: Target,
}

/// Runs the verb.
///
/// # Errors
/// The amount is none, it was not confirmed, or no instance took it.
pub async fn run(verb: Verb, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Deposit(asked) => asked.run(CashKind::Deposit, inputs, output).await,
        Verb::Withdraw(asked) => asked.run(CashKind::Withdrawal, inputs, output).await,
        Verb::List(List { target }) => list(&target.caller(inputs)?.get(PATH).await?, output),
    }
}

impl Move {
    async fn run(self, kind: CashKind, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
        let Self { amount, id, change, target } = self;
        let id = id.unwrap_or_else(Uuid::now_v7);
        let movement = Movement::asked(MovementId(id), kind.as_str(), &amount)
            .map_err(|fault| anyhow::anyhow!("{fault}; nothing was done"))?;
        let caller = target.caller(inputs)?;
        if !change.yes {
            caller.confirm(&change, &preview(&caller, &movement).await?, output).await?;
        }
        let body = json!({ "id": id, "kind": kind, "amount": amount.trim(), "reason": change.reason });
        let booked = caller.post(PATH, &body).await.map_err(|error| {
            anyhow::anyhow!("{error:#}; ask again with --id {id}, in case it was booked: it is booked once")
        })?;
        told(&movement, &booked, output)
    }
}

/// What it does to the account as it is.
async fn preview(caller: &Caller, movement: &Movement) -> anyhow::Result<String> {
    let account = caller.get(PATH).await?;
    let closed = account["closed_equity"].as_str().and_then(|text| text.parse::<Decimal>().ok());
    let then = closed.map_or(String::new(), |closed| {
        format!(" (closed equity {} -> {})", rupees(closed), rupees(closed + movement.amount.0))
    });
    Ok(format!("Book a {} of {}{then}", movement.kind, rupees(movement.amount.0.abs())))
}

fn told(movement: &Movement, booked: &Value, output: &Output) -> anyhow::Result<ExitCode> {
    if output.is_json() {
        output.json(booked)?;
        return Ok(ExitCode::SUCCESS);
    }
    let state = match booked["fresh"].as_bool() {
        Some(false) => output.paint(Colour::Yellow, "was booked before"),
        _ => output.paint(Colour::Green, "is booked"),
    };
    let (kind, amount) = (movement.kind, rupees(movement.amount.0.abs()));
    let closed = shown(&booked["closed_equity"]);
    output
        .line(format!("The {kind} of {amount} {state} as {}; the closed equity is {closed}", movement.id))?;
    Ok(ExitCode::SUCCESS)
}

fn list(account: &Value, output: &Output) -> anyhow::Result<ExitCode> {
    if output.is_json() {
        output.json(account)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = account["movements"].as_array().into_iter().flatten().map(|row| {
        let text = |name: &str| Cell::of(row[name].as_str().unwrap_or("-"));
        let at = Cell::of(moment(row["at"].as_str().unwrap_or("-")));
        vec![at, text("kind"), Cell::of(shown(&row["amount"])), text("who"), text("why"), text("id")]
    });
    output.table(&["BOOKED", "KIND", "AMOUNT", "BY", "WHY", "ID"], &rows.collect::<Vec<_>>())?;
    let [opening, capital, closed] =
        ["opening", "capital", "closed_equity"].map(|figure| shown(&account[figure]));
    output.line(format!("opened with {opening}, capital {capital}, closed equity {closed}"))?;
    if let Some(warning) = account["warning"].as_str() {
        output.line(format!("{}: {warning}", output.paint(Colour::Yellow, "warning")))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(amount: &Value) -> String {
    let amount = amount.as_str().and_then(|text| text.parse().ok());
    amount.map_or_else(|| "not known".to_owned(), rupees)
}

fn rupees(amount: Decimal) -> String {
    let sign = if amount.is_sign_negative() && !amount.is_zero() { "-" } else { "" };
    format!("{sign}₹{:.2}", amount.abs().round_dp(2))
}
