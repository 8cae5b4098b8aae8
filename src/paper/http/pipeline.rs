//! The life of one request, faults included.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::command::{self, Command};
use super::many::Way;
use super::reply::Reply;
use super::{Call, Verb, books, contracts, data, dead_session, many, options, orders};
use crate::paper::BridgeMode;
use crate::paper::core::Handling;
use crate::paper::faults::{Fault, Plan};
use crate::paper::hub::{Hub, State};
use crate::paper::witness::Outcome;

/// What came of a request: the answer and, for orders, the truth behind it.
#[derive(Debug)]
pub(super) struct Handled {
    pub(super) reply: Reply,
    /// The order it made or named.
    pub(super) orderid: Option<String>,
    /// Whether the core carried it out, whatever is answered.
    pub(super) done: bool,
}

impl Handled {
    /// Not carried out.
    pub(super) fn undone(reply: Reply) -> Self {
        Self { reply, orderid: None, done: false }
    }

    /// Carried out.
    pub(super) fn done(reply: Reply, orderid: Option<String>) -> Self {
        Self { reply, orderid, done: true }
    }
}

/// Works off a request; order requests are witnessed at arrival and at the end.
pub(super) async fn work(hub: Arc<Hub>, call: Call) -> Reply {
    let verb = call.verb;
    let parsed = serde_json::from_slice::<Value>(&call.body);
    let arrival = {
        let mut state = hub.lock();
        let now = hub.now();
        state.count(verb);
        if let Some(error) = state.witness.broken() {
            return Reply::internal(&format!(
                "The paper bridge's log is broken, so it takes nothing: {error}"
            ));
        }
        let at = state.exchange.wall(now);
        let body = || match &parsed {
            Ok(body) => masked(body.clone()),
            Err(_) => Value::from(String::from_utf8_lossy(&call.body).into_owned()),
        };
        verb.changes_orders().then(|| state.witness.received(verb, body(), at, now))
    };
    if let (Some(hook), Some(arrival)) = (&hub.options.on_arrival, &arrival) {
        (hook.0)(arrival.clone()).await;
    }
    let number = arrival.map(|arrival| arrival.arrival);
    let mut plan = Plan::default();
    let handled = converse(&hub, &call, parsed.ok(), number, &mut plan).await;
    if let Some(number) = number {
        let outcome = Outcome {
            orderid: handled.orderid,
            done: handled.done,
            status: handled.reply.status(),
            answer: handled.reply.body(),
            faults: plan.names(),
        };
        let mut state = hub.lock();
        let now = hub.now();
        let at = state.exchange.wall(now);
        state.witness.outcome(number, outcome, at, now);
    }
    handled.reply
}

fn masked(mut body: Value) -> Value {
    if let Some(key) = body.get_mut("apikey") {
        *key = Value::from("***");
    }
    body
}

async fn converse(
    hub: &Arc<Hub>,
    call: &Call,
    body: Option<Value>,
    arrival: Option<u64>,
    plan: &mut Plan,
) -> Handled {
    let verb = call.verb;
    let admitted = hub.lock().limiter.admit(call.client, verb, hub.now());
    if let Err(limit) = admitted {
        return Handled::undone(Reply::limited(limit));
    }
    if !call.is_json {
        return Handled::undone(Reply::internal("An unexpected error occurred"));
    }
    let Some(body) = body else { return Handled::undone(Reply::malformed()) };
    *plan = {
        let mut state = hub.lock();
        let symbol = subject(&state, &body);
        state.faults.draw(verb, symbol.as_deref())
    };
    match plan.end {
        Some(Fault::RateLimited) => {
            let limits = hub.lock().limiter.limits();
            let limit = if verb.is_order_route() { limits.orders_per_second } else { limits.api_per_second };
            return Handled::undone(Reply::limited(limit.unwrap_or(10)));
        }
        Some(Fault::BadGateway { placed: false }) => return Handled::undone(Reply::bad_gateway()),
        _ => (),
    }
    let keyed = body.as_object().map(|fields| command::parse(verb, fields));
    let keyed = match keyed {
        Some(Ok(keyed)) => keyed,
        Some(Err(faulty)) if verb == Verb::PlaceOrder => {
            return Handled::undone(Reply::plain_error(400, faulty.python_text()));
        }
        Some(Err(faulty)) => return Handled::undone(Reply::plain_error(400, faulty.object())),
        None => {
            return Handled::undone(Reply::plain_error(400, json!({ "_schema": ["Invalid input type."] })));
        }
    };
    let locked_out = keyed.api_key != hub.options.api_key || hub.lock().session_revoked();
    if locked_out && keyed.command.verifies_key() {
        return Handled::undone(Reply::bad_key());
    }
    behind_the_door(hub, verb, keyed.command, arrival, plan).await
}

/// Symbol that a request is about, for aiming faults.
fn subject(state: &State, body: &Value) -> Option<String> {
    let named = body["symbol"].as_str().map(str::to_owned);
    named.or_else(|| Some(state.exchange.order(body["orderid"].as_str()?)?.spec.symbol.clone()))
}

/// From here on the bridge talks to its broker.
async fn behind_the_door(
    hub: &Arc<Hub>,
    verb: Verb,
    command: Command,
    arrival: Option<u64>,
    plan: &Plan,
) -> Handled {
    for shape in &plan.shapes {
        if let Fault::HangBefore { ms } = shape {
            tokio::time::sleep(Duration::from_millis(*ms)).await;
        }
    }
    let shape = {
        let mode = hub.lock().mode;
        if plan.shapes.contains(&Fault::WrongMode) { mode.flipped() } else { mode }
    };
    match &plan.end {
        Some(Fault::LostAckBefore) => return Handled::undone(Reply::Cut),
        Some(Fault::NullOrderid) => {
            return Handled::undone(Reply::success(shape, json!({ "orderid": null })));
        }
        Some(Fault::SemiAuto) => return Handled::undone(semi_auto(arrival)),
        Some(Fault::BrokerError { status, message, placed: false }) => {
            return Handled::undone(broker_error(*status, message.as_deref()));
        }
        _ => (),
    }
    if let Some(reply) = dead_session::without(hub, verb, &command, shape).await {
        return Handled::undone(reply);
    }
    if let (Some(late), Command::Cancel { id } | Command::Modify { id, .. }) = (takes_late(plan), &command) {
        let reply = Reply::success(shape, json!({ "orderid": id }));
        let named = Some(id.clone());
        hub.tasks.spawn(later(Arc::clone(hub), command, shape, late));
        return Handled { reply, orderid: named, done: false };
    }
    let handling = handling(plan);
    let mut handled = hub.apply(|state, now| carry_out(hub, state, command, shape, handling, arrival, now));
    for shape in &plan.shapes {
        match shape {
            Fault::HangAfter { ms } => tokio::time::sleep(Duration::from_millis(*ms)).await,
            Fault::NumericOrderid => handled.reply.number_the_order_id(),
            _ => (),
        }
    }
    match &plan.end {
        Some(Fault::LostAckAfter) => handled.reply = Reply::Cut,
        Some(Fault::BadGateway { placed: true }) => handled.reply = Reply::bad_gateway(),
        Some(Fault::BrokerError { status, message, placed: true }) => {
            handled.reply = broker_error(*status, message.as_deref());
        }
        _ => (),
    }
    handled
}

/// How much later than its answer a cancel or a modify is to be done.
fn takes_late(plan: &Plan) -> Option<Duration> {
    plan.shapes.iter().find_map(|shape| match shape {
        Fault::TakesLate { ms } => Some(Duration::from_millis(*ms)),
        _ => None,
    })
}

/// Does what was answered already; nobody hears whether it was too late.
async fn later(hub: Arc<Hub>, command: Command, shape: BridgeMode, late: Duration) {
    tokio::select! {
        () = tokio::time::sleep(late) => {}
        () = hub.cancel.cancelled() => return,
    }
    let handling = Handling::default();
    drop(hub.apply(|state, now| carry_out(&hub, state, command, shape, handling, None, now)));
}

fn carry_out(
    hub: &Hub,
    state: &mut State,
    command: Command,
    shape: BridgeMode,
    handling: Handling,
    arrival: Option<u64>,
    now: Duration,
) -> Handled {
    let no_prices = state.mode == BridgeMode::Analyze && state.session_is_dead();
    let way = Way { shape, handling, arrival, now, no_prices };
    let reply = match command {
        Command::Place(request) => return many::one(state, request, way),
        Command::PlaceSmart { request, target } => return many::smart(state, request, target, way),
        Command::Basket { strategy, orders } => return many::basket(state, &strategy, orders, way),
        Command::Split { request, size } => return many::split(state, &request, size, way),
        Command::OptionsOrder { underlying, leg, strategy } => {
            return options::order(state, &underlying, leg, strategy, way);
        }
        Command::OptionsOrders { underlying, legs, strategy } => {
            return options::orders(state, &underlying, legs, &strategy, way);
        }
        Command::Modify { id, change } => return orders::modify(state, &id, &change, shape, now),
        Command::Cancel { id } => return orders::cancel(state, &id, shape, now),
        Command::CancelAll => orders::cancel_all(state, shape, now),
        Command::ClosePosition { strategy } => orders::close_positions(state, &strategy, shape, now),
        Command::OrderStatus { id } => books::order_status(state, &id, shape, now),
        Command::OpenPosition { key, product } => books::open_position(state, &key, product, shape),
        Command::OrderBook => books::order_book(state, shape, now),
        Command::TradeBook => books::trade_book(state, shape, now),
        Command::PositionBook => books::position_book(state, shape),
        Command::Holdings => books::holdings(shape),
        Command::Funds => books::funds(state, shape),
        Command::Quotes(key) => data::quotes(state, &key),
        Command::MultiQuotes(keys) => data::multi_quotes(state, &keys),
        Command::Symbol(key) => data::symbol(state, &key),
        Command::Depth(key) => data::depth(state, &key),
        Command::History { key, interval_minutes, from, to } => {
            data::history(state, &key, interval_minutes, from, to)
        }
        Command::Intervals => data::intervals(),
        Command::Search { query, exchange } => contracts::search(state, &query, exchange.as_deref()),
        Command::Expiry { base, exchange, kind } => contracts::expiry(state, &base, &exchange, kind),
        Command::OptionSymbol { underlying, offset, right } => {
            options::symbol(state, &underlying, offset, right)
        }
        Command::OptionChain { underlying, strikes } => options::chain(state, &underlying, strikes),
        Command::SyntheticFuture(underlying) => options::synthetic_future(state, &underlying),
        Command::Margin(orders) => many::margin(state, &orders, shape),
        Command::Ping => data::ping(hub),
        Command::Analyzer => data::analyzer(state),
        Command::Toggle { analyze } => data::toggle(state, analyze),
        Command::Holidays { year } => data::holidays(state, year),
        Command::Timings { date } => data::timings(state, date),
    };
    Handled::done(reply, None)
}

fn handling(plan: &Plan) -> Handling {
    let mut handling = Handling::default();
    for shape in &plan.shapes {
        match shape {
            Fault::Hidden { ms } => handling.hide += Duration::from_millis(*ms),
            Fault::SlowFills { ms } => handling.extra_latency += Duration::from_millis(*ms),
            Fault::DuplicateUpdates { copies } => handling.update_copies = *copies,
            Fault::DelayUpdates { ms } => handling.update_delay += Duration::from_millis(*ms),
            Fault::LoseUpdates => handling.update_copies = 0,
            Fault::RiskRefusal => handling.refuse = true,
            _ => (),
        }
    }
    handling
}

fn semi_auto(arrival: Option<u64>) -> Reply {
    Reply::Json(
        200,
        json!({
            "status": "success", "mode": "semi_auto",
            "message": "Order queued for approval in Action Center", "pending_order_id": arrival,
        }),
    )
}

/// Texts that brokers send; the bridge passes status and text through.
pub(super) fn broker_error(status: u16, message: Option<&str>) -> Reply {
    let message = message.unwrap_or(match status {
        400 => "Order rejected by the broker",
        403 => "Incorrect `api_key` or `access_token`.",
        429 => "Too many requests",
        504 => "Gateway timed out while waiting for the exchange",
        _ => "Failed to place order due to internal error",
    });
    Reply::plain_error(status, message)
}

/// `GET instruments`: the key is in the query, and the broker is not asked.
pub(super) fn instruments(hub: &Hub, query: &str) -> Reply {
    let asked: HashMap<String, String> =
        axum::extract::Query::try_from_uri(&format!("/?{query}").parse().unwrap_or_default())
            .map(|query| query.0)
            .unwrap_or_default();
    let state = hub.lock();
    if asked.get("apikey") != Some(&hub.options.api_key) || state.session_revoked() {
        return Reply::bad_key();
    }
    let as_csv = match asked.get("format").map(String::as_str) {
        None | Some("json") => false,
        Some("csv") => true,
        Some(_) => return Reply::plain_error(400, json!({ "format": ["Must be one of: json, csv."] })),
    };
    contracts::instruments(&state, asked.get("exchange").map(String::as_str), as_csv)
}
