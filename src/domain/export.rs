//! TradingView strategy exports: a CSV of trades, read into a time line and into the signals that replay it.
//!
//! The file has two rows a trade, the exit's first. Columns are found by name, since the currency is part of a
//! name (`Price INR`) and TradingView renamed some over the years. Times are naive: Indian Standard Time.
//!
//! **Overlaps.** Most trades follow one another, but pyramids overlap their base, and an entry that was closed in
//! two parts is exported as two trades. Every row still becomes one signal: an entry while other trades are open
//! is a PYRAMID with the lowest free label, otherwise it is a BASE_ENTRY of `Long_1` (also when only pyramids are
//! left: `Long_1` is free then), and each exit names its own label. The gates then decide as in live trading; an
//! exit whose entry was refused finds nothing held.

use std::io;

use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};
use rust_decimal::{Decimal, dec};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::fault::{Fault, join};
use super::label::Label;
use super::money::{Price, STORED_DECIMALS};
use super::signal::from_ist;

/// One row: an entry or an exit.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ExportLeg {
    /// When, in UTC (the file is in Indian time).
    pub time: DateTime<Utc>,
    /// Price traded at.
    pub price: Price,
    /// Size as the strategy counted it, in contracts.
    pub quantity: Decimal,
    /// The strategy's name for it, e.g. `ENTRY-43L`.
    pub signal: String,
    /// Line in the file.
    pub line: u64,
}

/// One long trade.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ExportTrade {
    /// Its number in the file.
    pub number: u64,
    /// How it began.
    pub entry: ExportLeg,
    /// How it ended; none while it was open at the time of the export.
    pub exit: Option<ExportLeg>,
}

/// One step of the time line.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ExportEvent<'a> {
    /// The trade.
    pub trade: &'a ExportTrade,
    /// The row.
    pub leg: &'a ExportLeg,
    /// True for the trade's exit.
    pub is_exit: bool,
    /// The position it opens or closes.
    pub label: Label,
}

/// An export that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The bytes are no CSV.
    #[error("the export is no readable CSV: {0}; export the strategy's list of trades again")]
    Csv(#[from] csv::Error),
    /// The rows have faults, each under `line N`.
    #[error("the export has faults: {}", join(.0))]
    Faults(Vec<Fault>),
}

/// What a replay fills in: exports name neither stop nor indicators.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReplayDefaults {
    /// Stop below the entry price, in percent of it.
    pub stop_percent: Decimal,
    /// ATR in percent of the price.
    pub atr_percent: Decimal,
    /// Efficiency ratio, 0 to 1.
    pub er: Decimal,
}

impl Default for ReplayDefaults {
    fn default() -> Self {
        Self { stop_percent: dec!(1), atr_percent: dec!(0.5), er: dec!(0.8) }
    }
}

/// Reads an export.
///
/// # Errors
/// No CSV, or every fault of its rows by line.
pub fn read(source: impl io::Read) -> Result<Vec<ExportTrade>, ExportError> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(source);
    let columns = Columns::find(reader.headers()?)?;
    let mut faults = Vec::new();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record?;
        let line = record.position().map_or(0, csv::Position::line);
        match columns.row(&record, line) {
            Ok(row) => rows.push(row),
            Err(more) => faults.extend(more),
        }
    }
    let trades = pair(rows, &mut faults);
    if faults.is_empty() { Ok(trades) } else { Err(ExportError::Faults(faults)) }
}

/// The trades as a time line: by time, at the same time exits before entries (but no exit before its own entry),
/// then by trade number. Each event has the label of the position that it opens or closes.
///
/// # Errors
/// An entry while six trades are open already: there is no label for it.
pub fn timeline(trades: &[ExportTrade]) -> Result<Vec<ExportEvent<'_>>, ExportError> {
    let mut events: Vec<ExportEvent<'_>> = Vec::with_capacity(trades.len() * 2);
    for trade in trades {
        let event = |leg, is_exit| ExportEvent { trade, leg, is_exit, label: Label::BASE };
        events.push(event(&trade.entry, false));
        events.extend(trade.exit.as_ref().map(|exit| event(exit, true)));
    }
    events.sort_by_key(|event| {
        let instant = event.trade.entry.time == event.leg.time;
        let rank = match (event.is_exit, instant) {
            (true, false) => 0,
            (false, _) => 1,
            (true, true) => 2,
        };
        (event.leg.time, rank, event.trade.number)
    });
    let mut open: Vec<(u64, Label)> = Vec::new();
    let mut faults = Vec::new();
    for event in &mut events {
        let number = event.trade.number;
        if event.is_exit {
            if let Some(place) = open.iter().position(|(open, _)| *open == number) {
                event.label = open.swap_remove(place).1;
            }
        } else if let Some(free) = Label::all().find(|label| open.iter().all(|(_, taken)| taken != label)) {
            event.label = free;
            open.push((number, free));
        } else {
            let message = format!("trade {number} begins while six are open; there is no label for it");
            faults.push(Fault::new(format!("line {}", event.leg.line), message));
        }
    }
    if faults.is_empty() { Ok(events) } else { Err(ExportError::Faults(faults)) }
}

impl ExportEvent<'_> {
    /// The id of its signal, the same in every replay: `tv-<trade>-entry` or `tv-<trade>-exit`.
    pub fn id(&self) -> String {
        format!("tv-{}-{}", self.trade.number, if self.is_exit { "exit" } else { "entry" })
    }

    /// Its webhook payload, sent at `now`; numbers are text, so that they stay exact.
    pub fn payload(&self, instrument: &str, defaults: &ReplayDefaults, now: DateTime<Utc>) -> Value {
        let price = self.leg.price.0;
        let iso = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Millis, true);
        let mut payload = json!({
            "id": self.id(),
            "type": "EXIT",
            "instrument": instrument,
            "position": self.label.to_string(),
            "price": price,
            "reason": self.leg.signal,
            "bar_time": iso(self.leg.time),
            "timestamp": iso(now),
        });
        if !self.is_exit {
            let percent = |percent: Decimal| price * percent / dec!(100);
            payload["type"] = json!(if self.label.is_base() { "BASE_ENTRY" } else { "PYRAMID" });
            payload["stop"] =
                json!((price - percent(defaults.stop_percent)).round_dp(STORED_DECIMALS).normalize());
            payload["atr"] = json!(percent(defaults.atr_percent).round_dp(STORED_DECIMALS).normalize());
            payload["er"] = json!(defaults.er);
            if self.leg.quantity.is_integer() {
                payload["lots"] = json!(self.leg.quantity.normalize());
            }
        }
        payload
    }
}

struct Row {
    number: u64,
    is_exit: bool,
    /// The exit of a trade that is still open.
    is_open: bool,
    leg: ExportLeg,
}

/// Where each column is.
struct Columns {
    number: usize,
    kind: usize,
    time: usize,
    signal: usize,
    price: usize,
    quantity: usize,
}

impl Columns {
    fn find(headers: &csv::StringRecord) -> Result<Self, ExportError> {
        let mut faults = Vec::new();
        let mut find = |starts: &[&str]| {
            let place = headers.iter().position(|header| {
                let header = header.trim_start_matches('\u{feff}').trim().to_ascii_lowercase();
                starts.iter().any(|start| header.starts_with(start))
            });
            place.unwrap_or_else(|| {
                faults.push(Fault::new(
                    "line 1",
                    format!("no column that starts with {:?}", starts.join("\" or \"")),
                ));
                0
            })
        };
        let columns = Self {
            number: find(&["trade #", "trade number"]),
            kind: find(&["type"]),
            time: find(&["date"]),
            signal: find(&["signal"]),
            price: find(&["price"]),
            quantity: find(&["position size (qty)", "size (qty)", "quantity", "contracts"]),
        };
        if faults.is_empty() { Ok(columns) } else { Err(ExportError::Faults(faults)) }
    }

    fn row(&self, record: &csv::StringRecord, line: u64) -> Result<Row, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut fault = |message: String| faults.push(Fault::new(format!("line {line}"), message));
        let cell = |place: usize| record.get(place).unwrap_or_default();
        let number = cell(self.number).trim_start_matches('\u{feff}').parse().ok();
        if number.is_none() {
            fault(format!("trade number {:?} is no whole number", cell(self.number)));
        }
        let kind = cell(self.kind).to_ascii_lowercase();
        let is_exit = match kind.as_str() {
            "entry long" => Some(false),
            "exit long" => Some(true),
            "entry short" | "exit short" => {
                fault("a short trade; only long ones can be replayed".to_owned());
                None
            }
            _ => {
                fault(format!("type {:?}; expected \"Entry long\" or \"Exit long\"", cell(self.kind)));
                None
            }
        };
        let signal = cell(self.signal).to_owned();
        let is_open = is_exit == Some(true) && (signal.is_empty() || signal.eq_ignore_ascii_case("open"));
        let time = ["%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"]
            .iter()
            .find_map(|format| NaiveDateTime::parse_from_str(cell(self.time), format).ok())
            .and_then(from_ist);
        if time.is_none() && !is_open {
            fault(format!("time {:?}; expected YYYY-MM-DD HH:MM", cell(self.time)));
        }
        let mut positive = |what: &str, text: &str| {
            let value = text.replace(',', "").parse::<Decimal>().ok();
            let value = value.filter(|value| *value > Decimal::ZERO && *value <= dec!(10_000_000_000));
            if value.is_none() && !is_open {
                fault(format!("{what} {text:?} is no positive number"));
            }
            value
        };
        let price = positive("price", cell(self.price));
        let quantity = positive("quantity", cell(self.quantity));
        if !faults.is_empty() {
            return Err(faults);
        }
        // An open trade's exit row holds no trade; what it lacks is never read.
        let time = time.unwrap_or(DateTime::UNIX_EPOCH);
        let (price, quantity) = (Price(price.unwrap_or_default()), quantity.unwrap_or_default());
        let leg = ExportLeg { time, price, quantity, signal, line };
        match (number, is_exit) {
            (Some(number), Some(is_exit)) => Ok(Row { number, is_exit, is_open, leg }),
            _ => Err(faults),
        }
    }
}

/// Joins rows to trades, in the order of their numbers.
fn pair(rows: Vec<Row>, faults: &mut Vec<Fault>) -> Vec<ExportTrade> {
    let mut legs: std::collections::BTreeMap<u64, (Option<ExportLeg>, Option<ExportLeg>)> =
        Default::default();
    for row in rows {
        let line = row.leg.line;
        let trade = legs.entry(row.number).or_default();
        let place = if row.is_exit { &mut trade.1 } else { &mut trade.0 };
        if place.is_some() {
            let what = if row.is_exit { "exit" } else { "entry" };
            faults.push(Fault::new(
                format!("line {line}"),
                format!("trade {} has a second {what}", row.number),
            ));
        } else if !row.is_open {
            *place = Some(row.leg);
        }
    }
    let mut trades = Vec::with_capacity(legs.len());
    for (number, (entry, exit)) in legs {
        match (entry, exit) {
            (Some(entry), Some(exit)) if exit.time < entry.time => {
                let message = format!("trade {number} ends before it begins");
                faults.push(Fault::new(format!("line {}", exit.line), message));
            }
            (Some(entry), exit) => trades.push(ExportTrade { number, entry, exit }),
            (None, exit) => {
                let line = exit.map_or_else(|| "file".to_owned(), |exit| format!("line {}", exit.line));
                faults.push(Fault::new(line, format!("trade {number} has no entry")));
            }
        }
    }
    trades
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::instrument::Catalog;
    use crate::domain::policy::SignalPolicy;
    use crate::domain::signal::{SignalType, parse};

    const HEADER: &str = "\u{feff}Trade #,Type,Date/Time,Signal,Price INR,Position size (qty),Net P&L INR\n";

    fn file(rows: &str) -> String {
        format!("{HEADER}{rows}")
    }

    fn line_of_events(trades: &[ExportTrade]) -> Vec<String> {
        timeline(trades).unwrap().iter().map(|event| format!("{} {}", event.id(), event.label)).collect()
    }

    #[test]
    fn rows_become_a_time_line_with_labels() {
        let text = file(
            "1,Exit long,2020-04-15 12:00,Stop,46189,37,1\n1,Entry long,2020-04-03 09:00,ENTRY-37L,43667,37,1\n\
             2,Exit long,2020-04-15 12:00,Stop,46189,18,1\n2,Entry long,2020-04-07 09:00,PYR1-18L,45075,18,1\n\
             3,Exit long,2020-04-15 12:00,Stop,46189,5,1\n3,Entry long,2020-04-15 12:00,ENTRY-5L,46189.5,5,1\n\
             4,Exit long,,Open,,,\n4,Entry long,2020-04-16 12:00,ENTRY-5L,46189,5.5,1\n",
        );
        let trades = read(text.as_bytes()).unwrap();
        assert_eq!(trades[0].entry.time.to_rfc3339(), "2020-04-03T03:30:00+00:00");
        assert_eq!(trades[3].exit, None);
        assert_eq!(
            line_of_events(&trades),
            [
                "tv-1-entry Long_1",
                "tv-2-entry Long_2",
                "tv-1-exit Long_1",
                "tv-2-exit Long_2",
                "tv-3-entry Long_1",
                "tv-3-exit Long_1",
                "tv-4-entry Long_1",
            ]
        );
    }

    #[test]
    fn every_faulty_line_is_named() {
        let text = file(
            "1,Exit long,2020-04-15,Stop,46189,37,1\n1,Entry long,2020-04-03 09:00,E,-5,x,1\n\
             2,Entry short,2020-04-03 09:00,E,5,1,1\nx,Entry long,2020-04-03 09:00,E,5,1,1\n\
             5,Exit long,2020-04-03 09:00,E,5,1,1\n6,Entry long,2020-04-03 09:00,E,5,1,1\n\
             6,Entry long,2020-04-03 09:00,E,5,1,1\n7,Entry long,2020-04-03 09:00,E,5,1,1\n\
             7,Exit long,2020-04-02 09:00,E,5,1,1\n",
        );
        let Err(ExportError::Faults(faults)) = read(text.as_bytes()) else { panic!("accepted") };
        let mut lines: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
        lines.sort_unstable();
        assert_eq!(
            lines,
            ["line 10", "line 2", "line 3", "line 3", "line 4", "line 5", "line 6", "line 8"],
            "{faults:?}"
        );
        let headers = read("Trade #,Kind,When\n".as_bytes()).unwrap_err().to_string();
        assert!(headers.contains("\"type\"") && headers.contains("\"price\""), "{headers}");
    }

    #[test]
    fn a_seventh_trade_at_a_time_is_refused() {
        let rows: String =
            (1..=7).map(|n| format!("{n},Entry long,2020-04-0{n} 09:00,E,100,1,1\n")).collect();
        let trades = read(file(&rows).as_bytes()).unwrap();
        let error = timeline(&trades).unwrap_err().to_string();
        assert!(error.contains("line 8") && error.contains("trade 7"), "{error}");
    }

    /// Reads the real export when `BATON_REPLAY_EXPORT` names it: it is not part of the project.
    #[test]
    fn the_real_export_replays_as_acceptable_signals() {
        let Some(path) = std::env::var_os("BATON_REPLAY_EXPORT") else {
            eprintln!("skipped: BATON_REPLAY_EXPORT names no file");
            return;
        };
        let trades = read(std::fs::File::open(path).unwrap()).unwrap();
        assert_eq!(trades.len(), 371);
        let events = timeline(&trades).unwrap();
        assert_eq!(events.len(), 742);
        let now = DateTime::from_timestamp(1_764_000_000, 0).unwrap();
        let mut kinds = std::collections::BTreeMap::<String, usize>::new();
        let mut keys = std::collections::BTreeSet::new();
        for event in &events {
            let body = event.payload("GOLD_MINI", &ReplayDefaults::default(), now).to_string();
            let signal = parse(body.as_bytes(), &Catalog::default(), &SignalPolicy::default(), now).unwrap();
            assert_eq!(signal.bar_time, event.leg.time);
            assert!(keys.insert(signal.key.0.clone()), "{} repeats", signal.key);
            *kinds.entry(signal.kind().to_string()).or_default() += 1;
        }
        assert!(events.windows(2).all(|pair| pair[0].leg.time <= pair[1].leg.time));
        assert_eq!(kinds[SignalType::BaseEntry.as_str()], 368);
        assert_eq!(kinds[SignalType::Pyramid.as_str()], 3);
        assert_eq!(kinds[SignalType::Exit.as_str()], 371);
    }
}
