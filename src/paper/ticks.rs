//! A recorded market: prices with their times, read from a CSV file and played back.
//!
//! The file has the columns `ms,exchange,symbol,ltp`: milliseconds since its begin, in order, and the last price. Between
//! two recorded prices a symbol stands still (its ticks go on, as from a quiet market).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::hub::Hub;
use super::options::SymbolKey;
use crate::domain::money::Price;

/// One recorded price.
#[derive(Clone, PartialEq, Debug)]
pub struct Tick {
    /// When, since the begin.
    pub at: Duration,
    /// Of what.
    pub key: SymbolKey,
    /// The last price.
    pub ltp: Price,
}

/// A row that cannot be played.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {problem}; the columns are ms,exchange,symbol,ltp, in the order of time")]
pub struct BadTicks {
    /// Which, counted from 1; the header is the first.
    pub line: u64,
    /// What is wrong.
    pub problem: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    ms: u64,
    exchange: String,
    symbol: String,
    ltp: Price,
}

/// Reads a recording.
///
/// # Errors
/// The first row that cannot be played.
pub fn read(csv: impl io::Read) -> Result<Vec<Tick>, BadTicks> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(csv);
    let mut ticks: Vec<Tick> = Vec::new();
    for (row, line) in reader.deserialize().zip(2..) {
        let bad = |problem: String| BadTicks { line, problem };
        let Row { ms, exchange, symbol, ltp } = row.map_err(|error: csv::Error| bad(error.to_string()))?;
        let at = Duration::from_millis(ms);
        if ltp <= Price::ZERO {
            return Err(bad(format!("a last price of {ltp}")));
        }
        if ticks.last().is_some_and(|last| last.at > at) {
            return Err(bad(format!("{ms} ms is before the row above")));
        }
        ticks.push(Tick { at, key: SymbolKey::new(symbol, exchange), ltp });
    }
    Ok(ticks)
}

/// Plays a recording `speed` times as fast as it was made; ends with it, or with the bridge.
pub(super) async fn play(hub: Arc<Hub>, ticks: Vec<Tick>, speed: u32) {
    let begun = Instant::now();
    for tick in ticks {
        tokio::select! {
            () = tokio::time::sleep_until(begun + tick.at / speed.max(1)) => {}
            () = hub.cancel.cancelled() => return,
        }
        // What is not listed was refused before.
        hub.apply(|state, now| state.exchange.set_price(&tick.key, Some(tick.ltp), None, now));
    }
    tracing::info!("the recorded market is over: prices stand still");
}

#[cfg(test)]
mod tests {
    use rust_decimal::dec;

    use super::*;

    #[test]
    fn a_recording_is_read_in_the_order_of_time_or_refused_by_its_line() {
        let ticks =
            read("ms,exchange,symbol,ltp\n0, MCX,GOLD,140000.5\n250,MCX,GOLD,139999\n".as_bytes()).unwrap();
        assert_eq!(
            (ticks.len(), ticks[1].at, ticks[0].ltp),
            (2, Duration::from_millis(250), Price(dec!(140000.5)))
        );
        assert_eq!(ticks[0].key, SymbolKey::new("GOLD", "MCX"));
        for (rows, line) in
            [("0,MCX,GOLD,x", 2), ("0,MCX,GOLD,0", 2), ("5,MCX,G,1\n4,MCX,G,1", 3), ("0,MCX,GOLD", 2)]
        {
            let error = read(format!("ms,exchange,symbol,ltp\n{rows}\n").as_bytes()).unwrap_err();
            assert_eq!(error.line, line, "{error}");
        }
    }
}
