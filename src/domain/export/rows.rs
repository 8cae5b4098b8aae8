//! From the file's rows to trades: columns by name, every faulty line named, two rows joined to a trade.

use std::collections::BTreeMap;
use std::io;

use chrono::{DateTime, NaiveDateTime};
use rust_decimal::{Decimal, dec};

use super::{ExportError, ExportLeg, ExportTrade};
use crate::domain::fault::Fault;
use crate::domain::money::Price;
use crate::domain::signal::from_ist;

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
    let mut legs: BTreeMap<u64, (Option<ExportLeg>, Option<ExportLeg>)> = Default::default();
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
