//! A validated request: body in, typed command out.

use std::fmt;

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
    PlaceSmart { request: OrderRequest, target: i64 },
    Basket { strategy: String, orders: Vec<OrderSpec> },
    Split { request: OrderRequest, size: Quantity },
    OptionsOrder { underlying: Underlying, leg: Leg, strategy: String },
    OptionsOrders { underlying: Underlying, legs: Vec<Leg>, strategy: String },
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
    Symbol(SymbolKey),
    Depth(SymbolKey),
    History { key: SymbolKey, interval_minutes: i64, from: NaiveDate, to: NaiveDate },
    Intervals,
    Search { query: String, exchange: Option<String> },
    Expiry { base: String, exchange: String, kind: ContractKind },
    OptionSymbol { underlying: Underlying, offset: Offset, right: Right },
    OptionChain { underlying: Underlying, strikes: Option<usize> },
    SyntheticFuture(Underlying),
    Margin(Vec<OrderSpec>),
    Ping,
    Analyzer,
    Toggle { analyze: bool },
    Holidays { year: i32 },
    Timings { date: NaiveDate },
}

/// What options are on: a share, an index or a future, and the day they expire, `DDMMMYY`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Underlying {
    pub(super) symbol: String,
    pub(super) exchange: String,
    pub(super) expiry: Option<String>,
}

/// One option of an order, and the order for it, whose symbol is yet to be found.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Leg {
    pub(super) offset: Offset,
    pub(super) right: Right,
    pub(super) expiry: Option<String>,
    pub(super) order: OrderSpec,
}

/// Strikes out of the money; in the money when negative.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Offset(pub(super) i64);

/// Call or put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Right {
    Call,
    Put,
}

/// Which contracts have their expiry days told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ContractKind {
    Futures,
    Options,
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

/// The intervals that `history` knows, in minutes.
pub(super) const INTERVALS: [(&str, i64); 8] =
    [("1m", 1), ("3m", 3), ("5m", 5), ("10m", 10), ("15m", 15), ("30m", 30), ("1h", 60), ("D", 24 * 60)];
/// Orders in one basket, parts of one split order.
const MOST_ORDERS: usize = 100;
const MOST_LEGS: usize = 20;
const MOST_POSITIONS: usize = 50;
/// Strikes in or out of the money that can be named.
const MOST_STRIKES: i64 = 50;

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
            Command::Place(OrderRequest { spec: order(form)?, strategy })
        }
        Verb::PlaceSmartOrder => {
            let strategy = form.text("strategy");
            let (symbol, exchange) = instrument(form);
            let quantity = form.number("quantity", None).trunc();
            // Of a fraction the bridge takes the whole units.
            let target = form.signed("position_size").trunc();
            let spec = terms(form, Quantity(i64::try_from(quantity).ok()?))?;
            let request = OrderRequest { spec: OrderSpec { symbol, exchange, ..spec }, strategy };
            Command::PlaceSmart { request, target: i64::try_from(target).ok()? }
        }
        Verb::BasketOrder => {
            let strategy = form.text("strategy");
            Command::Basket { strategy, orders: form.list("orders", MOST_ORDERS, order) }
        }
        Verb::SplitOrder => {
            let strategy = form.text("strategy");
            let spec = order(form);
            let size = Quantity(form.quantity("splitsize"));
            let spec = spec?;
            let parts = spec.quantity.0.checked_div(size.0).unwrap_or_default();
            if usize::try_from(parts).is_ok_and(|parts| parts >= MOST_ORDERS) {
                form.fault("splitsize", format!("More than {MOST_ORDERS} orders."));
            }
            Command::Split { request: OrderRequest { spec, strategy }, size }
        }
        Verb::OptionsOrder => {
            let (strategy, underlying) = (form.text("strategy"), underlying(form));
            Command::OptionsOrder { leg: leg(form)?, underlying, strategy }
        }
        Verb::OptionsMultiOrder => {
            let (strategy, underlying) = (form.text("strategy"), underlying(form));
            let legs = form.list("legs", MOST_LEGS, |form| {
                let expiry = form.optional_text("expiry_date");
                Some(Leg { expiry, ..leg(form)? })
            });
            Command::OptionsOrders { underlying, legs, strategy }
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
        Verb::Symbol => Command::Symbol(key(form)),
        Verb::Depth => Command::Depth(key(form)),
        Verb::History => {
            let key = key(form);
            let interval_minutes = form.choice("interval", &INTERVALS, None);
            let (from, to) = (form.day("start_date"), form.day("end_date"));
            form.choice("source", &[("api", ()), ("db", ())], Some(()));
            Command::History { key, interval_minutes: interval_minutes?, from: from?, to: to? }
        }
        Verb::Intervals => Command::Intervals,
        Verb::Search => {
            Command::Search { query: form.text("query"), exchange: form.optional_text("exchange") }
        }
        Verb::Expiry => {
            let (base, exchange) = instrument(form);
            let kinds = [("futures", ContractKind::Futures), ("options", ContractKind::Options)];
            Command::Expiry { base, exchange, kind: form.choice("instrumenttype", &kinds, None)? }
        }
        Verb::OptionSymbol => {
            form.ignored("strategy");
            let underlying = underlying(form);
            let (offset, right) = (offset(form), right(form));
            Command::OptionSymbol { underlying, offset: offset?, right: right? }
        }
        Verb::OptionChain => {
            let underlying = underlying(form);
            let strikes = form.number("strike_count", Some(Decimal::ZERO));
            let strikes = usize::try_from(strikes).ok().filter(|strikes| *strikes > 0);
            Command::OptionChain { underlying, strikes }
        }
        Verb::SyntheticFuture => Command::SyntheticFuture(underlying(form)),
        Verb::Margin => Command::Margin(form.list("positions", MOST_POSITIONS, order)),
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
        Verb::MarketTimings => Command::Timings { date: form.day("date")? },
    })
}

/// An order as `placeorder` has it, but for the strategy.
fn order(form: &mut Form<'_>) -> Option<OrderSpec> {
    let (symbol, exchange) = instrument(form);
    let quantity = Quantity(form.quantity("quantity"));
    Some(OrderSpec { symbol, exchange, ..terms(form, quantity)? })
}

/// An order's terms without its symbol.
fn terms(form: &mut Form<'_>, quantity: Quantity) -> Option<OrderSpec> {
    let side = form.choice("action", &SIDES, None);
    let price_type = form.choice("pricetype", &PRICE_TYPES, Some(PriceType::Market));
    let product = form.choice("product", &PRODUCTS, Some(Product::Mis));
    let price = Price(form.number("price", Some(Decimal::ZERO)));
    let trigger_price = Price(form.number("trigger_price", Some(Decimal::ZERO)));
    form.number("disclosed_quantity", Some(Decimal::ZERO));
    form.ignored("underlying_ltp");
    let (side, price_type, product) = (side?, price_type?, product?);
    let (symbol, exchange) = (String::new(), String::new());
    Some(OrderSpec { symbol, exchange, side, quantity, price_type, product, price, trigger_price })
}

fn underlying(form: &mut Form<'_>) -> Underlying {
    let symbol = form.text("underlying");
    let exchange = exchange(form);
    form.ignored("strike_int");
    Underlying { symbol, exchange, expiry: form.optional_text("expiry_date") }
}

fn leg(form: &mut Form<'_>) -> Option<Leg> {
    let (offset, right) = (offset(form), right(form));
    let quantity = Quantity(form.quantity("quantity"));
    let order = terms(form, quantity);
    Some(Leg { offset: offset?, right: right?, expiry: None, order: order? })
}

fn right(form: &mut Form<'_>) -> Option<Right> {
    form.choice("option_type", &[("CE", Right::Call), ("PE", Right::Put)], None)
}

/// `ATM`, `ITM1` to `ITM50`, `OTM1` to `OTM50`.
fn offset(form: &mut Form<'_>) -> Option<Offset> {
    let text = form.text("offset");
    let strikes = |name: &str| {
        let strikes = text.strip_prefix(name)?.parse::<i64>().ok()?;
        (1..=MOST_STRIKES).contains(&strikes).then_some(strikes)
    };
    let offset = match text.as_str() {
        "ATM" => Some(0),
        _ => strikes("OTM").or_else(|| strikes("ITM").map(|strikes| -strikes)),
    };
    if offset.is_none() {
        form.fault("offset", format!("Must be ATM, ITM1 to ITM{MOST_STRIKES} or OTM1 to OTM{MOST_STRIKES}."));
    }
    offset.map(Offset)
}

fn this_year() -> i32 {
    use chrono::Datelike;
    Utc::now().with_timezone(&calendar::ist()).year()
}

fn instrument(form: &mut Form<'_>) -> (String, String) {
    let symbol = form.text("symbol");
    (symbol, exchange(form))
}

fn exchange(form: &mut Form<'_>) -> String {
    form.choice("exchange", &EXCHANGES.map(|name| (name, name)), None).unwrap_or_default().to_owned()
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

impl Right {
    /// The protocol's word.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Call => "CE",
            Self::Put => "PE",
        }
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("ATM"),
            out @ 1.. => write!(f, "OTM{out}"),
            within => write!(f, "ITM{}", -within),
        }
    }
}

impl Command {
    /// The verbs that read the local calendar only require the API key, they do not verify it.
    pub(super) fn verifies_key(&self) -> bool {
        !matches!(self, Self::Holidays { .. } | Self::Timings { .. })
    }
}
