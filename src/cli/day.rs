//! The account's day, as a line of `baton status`.

use rust_decimal::Decimal;
use serde::Deserialize;

use super::errors::moment;
use super::output::{Colour, Output};

/// What `GET /api/v1/day` answers, as far as the line needs it.
#[derive(Debug, Deserialize)]
struct Day {
    date: String,
    opening_equity: Option<Decimal>,
    equity: Option<Decimal>,
    pnl: Option<Decimal>,
    realised: Decimal,
    /// None of an older version's answer.
    charges: Option<Decimal>,
    unknown: Option<String>,
    orders: u64,
    stop_outs: u64,
    latched: Vec<Latch>,
}

#[derive(Debug, Deserialize)]
struct Latch {
    code: String,
    at: String,
}

/// The line; what could not be asked is not known.
pub(super) fn line(day: Option<&serde_json::Value>, output: &Output) -> String {
    let read = day.and_then(|day| serde_json::from_value::<Day>(day.clone()).ok());
    let Some(day) = read else { return "the account's day is not known".to_owned() };
    let opened = day
        .opening_equity
        .map_or("not opened yet".to_owned(), |equity| format!("opened at {}", rupees(equity)));
    let now = match (day.equity, day.pnl) {
        (Some(equity), Some(pnl)) => format!("now {} ({})", rupees(equity), signed(pnl)),
        (Some(equity), None) => format!("now {}", rupees(equity)),
        (None, _) => format!("now not known: {}", day.unknown.as_deref().unwrap_or("no reason is given")),
    };
    let (orders, stop_outs) = (counted(day.orders, "order"), counted(day.stop_outs, "stop-out"));
    let latched: Vec<String> =
        day.latched.iter().map(|limit| format!("{} since {}", limit.code, moment(&limit.at))).collect();
    let latched = match latched.as_slice() {
        [] => "no limit is hit".to_owned(),
        hit => output.paint(Colour::Yellow, format!("no entries today: {}", hit.join(", "))),
    };
    let (date, realised) = (day.date, signed(day.realised));
    let charges = day.charges.map_or("not known".to_owned(), rupees);
    format!(
        "{date}: {opened}, {now}, realised {realised} before charges of {charges}, {orders}, {stop_outs} in a row; {latched}"
    )
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn rupees(amount: Decimal) -> String {
    format!("₹{:.2}", amount.round_dp(2))
}

fn signed(amount: Decimal) -> String {
    let sign = if amount.is_sign_negative() && !amount.is_zero() { "-" } else { "+" };
    format!("{sign}{}", rupees(amount.abs()))
}
