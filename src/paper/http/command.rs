//! A validated request: body in, typed command out.

use chrono::{NaiveDate, Utc};
use rust_decimal::Decimal;
use serde_json::{Map, Value};

use super::Verb;
use super::form::{Faulty, Form};
use crate::domain::money::{Price, Quantity};
use crate::domain::order::{OrderSpec, PriceType, Product, Side};
use crate::paper::SymbolKey;
use crate::paper::calendar;
use crate::paper::core::OrderRequest;

/// What a request asks for.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Command {
    Place(OrderRequest),
    Modify { id: String, change: OrderSpec },
    Cancel { id: String },
    CancelAll,
    ClosePosition { strategy: String },
    OrderStatus { id: String },
    OpenPosition { key: SymbolKey, product: Product },
    OrderBook,
    TradeBook,
    PositionBook,
    Holdings,
    Funds,
    Quotes(SymbolKey),
    MultiQuotes(Vec<SymbolKey>),
    History { key: SymbolKey, from: NaiveDate, to: NaiveDate },
    Symbol(SymbolKey),
    Ping,
    Analyzer,
    Toggle { analyze: bool },
    Holidays { year: i32 },
    Timings { date: NaiveDate },
}

/// A command and the key it came with.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Keyed {
    pub(super) command: Command,
    pub(super) api_key: String,
}

const SIDES: [(&str, Side); 4] =
    [("BUY", Side::Buy), ("SELL", Side::Sell), ("buy", Side::Buy), ("sell", Side::Sell)];
const PRICE_TYPES: [(&str, PriceType); 4] = [
    ("MARKET", PriceType::Market),
    ("LIMIT", PriceType::Limit),
    ("SL", PriceType::StopLimit),
    ("SL-M", PriceType::StopMarket),
];
const PRODUCTS: [(&str, Product); 3] =
    [("MIS", Product::Mis), ("NRML", Product::Nrml), ("CNC", Product::Cnc)];
const EXCHANGES: [&str; 14] = [
    "NSE",
    "NFO",
    "CDS",
    "BSE",
    "BFO",
    "BCD",
    "MCX",
    "NCDEX",
    "NCO",
    "NSE_INDEX",
    "BSE_INDEX",
    "MCX_INDEX",
    "GLOBAL_INDEX",
    "CRYPTO",
];

/// Reads a body for a verb, or lists everything that is wrong with it.
pub(super) fn parse(verb: Verb, fields: &Map<String, Value>) -> Result<Keyed, Faulty> {
    let mut form = Form::new(fields);
    let api_key = form.text("apikey");
    let command = read(verb, &mut form);
    form.finish()?;
    // Without a fault on the form every reader gave a value.
    let command = command.ok_or_else(|| Faulty::one("_schema", "Invalid input type."))?;
    Ok(Keyed { command, api_key })
}

fn read(verb: Verb, form: &mut Form<'_>) -> Option<Command> {
    Some(match verb {
        Verb::PlaceOrder => {
            let strategy = form.text("strategy");
            let (symbol, exchange) = instrument(form);
            let side = form.choice("action", &SIDES, None);
            let quantity = Quantity(form.quantity("quantity"));
            let price_type = form.choice("pricetype", &PRICE_TYPES, Some(PriceType::Market));
            let product = form.choice("product", &PRODUCTS, Some(Product::Mis));
            let price = Price(form.number("price", Some(Decimal::ZERO)));
            let trigger_price = Price(form.number("trigger_price", Some(Decimal::ZERO)));
            form.number("disclosed_quantity", Some(Decimal::ZERO));
            form.ignored("underlying_ltp");
            let (side, price_type, product) = (side?, price_type?, product?);
            let spec =
                OrderSpec { symbol, exchange, side, quantity, price_type, product, price, trigger_price };
            Command::Place(OrderRequest { spec, strategy })
        }
        Verb::ModifyOrder => {
            form.text("strategy");
            let (symbol, exchange) = instrument(form);
            let id = form.text("orderid");
            let side = form.choice("action", &SIDES, None);
            let product = form.choice("product", &PRODUCTS, None);
            let price_type = form.choice("pricetype", &PRICE_TYPES, None);
            let price = Price(form.number("price", None));
            let quantity = Quantity(form.quantity("quantity"));
            form.number("disclosed_quantity", None);
            let trigger_price = Price(form.number("trigger_price", None));
            let (side, price_type, product) = (side?, price_type?, product?);
            let change =
                OrderSpec { symbol, exchange, side, quantity, price_type, product, price, trigger_price };
            Command::Modify { id, change }
        }
        Verb::CancelOrder => {
            form.text("strategy");
            Command::Cancel { id: form.text("orderid") }
        }
        Verb::CancelAllOrder => {
            form.text("strategy");
            Command::CancelAll
        }
        Verb::ClosePosition => Command::ClosePosition { strategy: form.text("strategy") },
        Verb::OrderStatus => {
            form.text("strategy");
            Command::OrderStatus { id: form.text("orderid") }
        }
        Verb::OpenPosition => {
            form.text("strategy");
            let (symbol, exchange) = instrument(form);
            let product = form.choice("product", &PRODUCTS, None)?;
            Command::OpenPosition { key: SymbolKey { symbol, exchange }, product }
        }
        Verb::OrderBook => Command::OrderBook,
        Verb::TradeBook => Command::TradeBook,
        Verb::PositionBook => Command::PositionBook,
        Verb::Holdings => Command::Holdings,
        Verb::Funds => Command::Funds,
        Verb::Quotes => Command::Quotes(key(form)),
        Verb::MultiQuotes => Command::MultiQuotes(keys(form)),
        Verb::History => {
            let key = key(form);
            form.choice("interval", &[("1m", ())], None);
            form.ignored("source");
            let (from, to) = (date(form, "start_date"), date(form, "end_date"));
            Command::History { key, from: from?, to: to? }
        }
        Verb::Symbol => Command::Symbol(key(form)),
        Verb::Ping => Command::Ping,
        Verb::Analyzer => Command::Analyzer,
        Verb::AnalyzerToggle => {
            let value = form.value("mode")?;
            if !value.is_boolean() {
                form.fault("mode", "Not a valid boolean.");
            }
            Command::Toggle { analyze: value.as_bool()? }
        }
        Verb::MarketHolidays => {
            let year = form.number("year", Some(Decimal::from(this_year())));
            let year = i32::try_from(year).ok().filter(|year| (2020..=2050).contains(year));
            if year.is_none() {
                form.fault("year", "Must be greater than or equal to 2020 and less than or equal to 2050.");
            }
            Command::Holidays { year: year? }
        }
        Verb::MarketTimings => Command::Timings { date: date(form, "date")? },
    })
}

fn date(form: &mut Form<'_>, name: &'static str) -> Option<NaiveDate> {
    let date = form.text(name).parse().ok();
    if date.is_none() {
        form.fault(name, "Not a valid date.");
    }
    date
}

fn this_year() -> i32 {
    use chrono::Datelike;
    Utc::now().with_timezone(&calendar::ist()).year()
}

fn instrument(form: &mut Form<'_>) -> (String, String) {
    let symbol = form.text("symbol");
    let exchange = form.choice("exchange", &EXCHANGES.map(|name| (name, name)), None).unwrap_or_default();
    (symbol, exchange.to_owned())
}

fn key(form: &mut Form<'_>) -> SymbolKey {
    let (symbol, exchange) = instrument(form);
    SymbolKey { symbol, exchange }
}

fn keys(form: &mut Form<'_>) -> Vec<SymbolKey> {
    let Some(value) = form.value("symbols") else { return Vec::new() };
    match serde_json::from_value::<Vec<SymbolKey>>(value.clone()) {
        Ok(keys) if !keys.is_empty() => keys,
        _ => {
            form.fault("symbols", "Must be a list of at least one symbol and exchange.");
            Vec::new()
        }
    }
}

impl Command {
    /// The verbs that read the local calendar only require the API key, they do not verify it.
    pub(super) fn verifies_key(&self) -> bool {
        !matches!(self, Self::Holidays { .. } | Self::Timings { .. })
    }
}
