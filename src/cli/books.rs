//! `baton trades`, `baton equity`, and how `baton orders list` asks: history for people, scripts and spreadsheets.

use std::process::ExitCode;

use anyhow::Context;
use serde_json::Value;

use super::call::Target;
use super::errors::moment;
use super::output::{Cell, Colour, Output};
use crate::config::Inputs;
use crate::domain::table;

/// Which part of a history.
#[derive(Clone, Debug, clap::Args)]
pub struct Part {
    /// Only of this instrument.
    #[arg(long, value_name = "NAME")]
    instrument: Option<String>,
    /// Only of this strategy.
    #[arg(long, value_name = "NAME")]
    strategy: Option<String>,
    /// Not before: a day in India, or RFC 3339.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Until the end of a day in India, or before a time in RFC 3339.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// How many at most.
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// The next page of an earlier answer.
    #[arg(long, value_name = "NEXT")]
    cursor: Option<String>,
    /// Where the cluster is found.
    #[command(flatten)]
    target: Target,
}

/// `baton trades`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A trade is a closed position. REALISED is before charges, NET after them; charges are as [charges] had them then.

Examples:
  baton trades --from 2026-08-01 --to 2026-08-31
  baton trades --instrument GOLD_MINI -o csv > trades.csv"
)]
pub struct Trades {
    #[command(flatten)]
    part: Part,
}

/// `baton equity`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The sum of what closed positions have realised, before charges and without what is held. With
--instrument or --strategy it is the sum of those alone, and equity is not told.

Examples:
  baton equity --from 2026-08-01
  baton equity -o csv > equity.csv
  baton equity -o json | jq .now"
)]
pub struct Equity {
    #[command(flatten)]
    part: Part,
}

/// Shows closed positions.
///
/// # Errors
/// No instance answers, or it refuses the question; stdout cannot be written to.
pub async fn trades(args: Trades, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let Some(page) = args.part.read("/api/v1/trades", "", "trades", table::TRADES, inputs, output).await?
    else {
        return Ok(ExitCode::SUCCESS);
    };
    let rows: Vec<Vec<Cell>> = listed(&page, "trades").iter().map(trade).collect();
    output.table(
        &["CLOSED", "INSTRUMENT", "LABEL", "UNITS", "ENTRY", "EXIT", "REALISED", "CHARGES", "NET", "CAUSE"],
        &rows,
    )?;
    more(&page, output)
}

/// Shows the equity curve.
///
/// # Errors
/// No instance answers, or it refuses the question; stdout cannot be written to.
pub async fn equity(args: Equity, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let Some(page) = args.part.read("/api/v1/equity", "", "points", table::EQUITY, inputs, output).await?
    else {
        return Ok(ExitCode::SUCCESS);
    };
    let now = &page["now"];
    if now.is_object() {
        let [capital, closed, held, equity, charges] =
            ["capital", "closed", "held", "closed_equity", "charges"].map(|name| rupees(now, name));
        output
            .line(format!("now {equity}: capital {capital}, closed trades {closed}, partial exits {held}; before charges of {charges}"))?;
    }
    let rows: Vec<Vec<Cell>> = listed(&page, "points").iter().map(point).collect();
    output.table(&["AT", "INSTRUMENT", "STRATEGY", "REALISED", "CUMULATIVE", "EQUITY"], &rows)?;
    more(&page, output)
}

impl Part {
    /// Asks for a page; prints it for scripts and spreadsheets, or gives it to be shown to people.
    pub(super) async fn read(
        &self,
        route: &str,
        beside: &str,
        name: &str,
        columns: &[&str],
        inputs: &Inputs,
        output: &Output,
    ) -> anyhow::Result<Option<Value>> {
        let mut path = format!("{route}?limit={}{beside}", self.limit);
        let pairs = [
            ("instrument", &self.instrument),
            ("strategy", &self.strategy),
            ("from", &self.from),
            ("to", &self.to),
            ("cursor", &self.cursor),
        ];
        for (name, value) in pairs {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", encoded(value)));
            }
        }
        let page = self.target.clone().caller(inputs)?.get(&path).await?;
        if output.is_json() {
            output.json(&page)?;
            return Ok(None);
        }
        if output.is_csv() {
            let text = table::csv(columns, listed(&page, name)).context("cannot write CSV; see the cause")?;
            output.text(&text)?;
            if let Some(next) = page["next"].as_str() {
                eprintln!("there are older ones: --cursor {next}");
            }
            return Ok(None);
        }
        Ok(Some(page))
    }
}

pub(super) fn listed<'a>(page: &'a Value, name: &str) -> &'a [Value] {
    page[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Says how the next page is had.
pub(super) fn more(page: &Value, output: &Output) -> anyhow::Result<ExitCode> {
    if let Some(next) = page["next"].as_str() {
        output.line(format!("older ones: --cursor {next}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn trade(trade: &Value) -> Vec<Cell> {
    vec![
        Cell::of(moment(&text(trade, "closed_at"))),
        Cell::of(text(trade, "instrument")),
        Cell::of(text(trade, "label")),
        Cell::of(&trade["quantity"]),
        Cell::of(rupees(trade, "entry_price")),
        Cell::of(rupees(trade, "exit_price")),
        profit(trade, "realised"),
        Cell::of(rupees(trade, "charges")),
        profit(trade, "net"),
        Cell::of(text(trade, "exit_cause")),
    ]
}

fn point(point: &Value) -> Vec<Cell> {
    vec![
        Cell::of(moment(&text(point, "at"))),
        Cell::of(text(point, "instrument")),
        Cell::of(text(point, "strategy")),
        profit(point, "realised"),
        Cell::of(rupees(point, "cumulative")),
        Cell::of(rupees(point, "equity")),
    ]
}

fn profit(row: &Value, name: &str) -> Cell {
    let text = rupees(row, name);
    let colour = if text.starts_with('-') { Colour::Red } else { Colour::Green };
    Cell::of(text).in_colour(colour)
}

fn text(row: &Value, name: &str) -> String {
    row[name].as_str().unwrap_or("-").to_owned()
}

/// To the paisa; a dash for what is not known.
pub(super) fn rupees(row: &Value, name: &str) -> String {
    let amount = row[name].as_str().and_then(|text| text.parse::<rust_decimal::Decimal>().ok());
    amount.map_or_else(|| "-".to_owned(), |amount| format!("{:.2}", amount.round_dp(2)))
}

/// A value as a query takes it.
fn encoded(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte);
    value
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_encoded_for_a_query() {
        assert_eq!(encoded("2026-08-10T09:15:00+05:30"), "2026-08-10T09:15:00%2B05:30");
        assert_eq!(encoded("a b&c"), "a%20b%26c");
    }
}
