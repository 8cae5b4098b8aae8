//! The control port: what tests and the demo use to move the market, cause faults and read the truth.
//!
//! | route | |
//! |---|---|
//! | `GET /_ctl/orders` | every order the core has, hidden ones included, with the request that made it and its fills |
//! | `GET /_ctl/arrivals` | every order request received, carried out or not, with what was answered |
//! | `GET /_ctl/log?after=N` | kept log lines with a number above N |
//! | `GET /_ctl/requests` | number of requests per verb |
//! | `GET /_ctl/stream` | what became of what the WebSocket had to say: updates due, ends, late, lost, repeated; ticks withheld, sockets refused |
//! | `POST /_ctl/price` | `{symbol, exchange, ltp?, spread_ticks?}` |
//! | `POST /_ctl/market` | `{moving}` |
//! | `POST /_ctl/ticks?speed=N` | plays a recorded market (see [`ticks`]), N times as fast |
//! | `POST /_ctl/calendar` | `"always_open"`, `{"exchange": [{date, description}, …]}` with holidays, or `{"hours": {opens, closes}}` |
//! | `POST /_ctl/fills` | `{hold?, model?}`: stop and resume matching, or replace the fill model |
//! | `POST /_ctl/day/end` | the exchange closes: every resting order is cancelled, as day orders are |
//! | `POST /_ctl/limits` | `{orders_per_second, api_per_second}`, `null` lifts |
//! | `GET`, `POST`, `DELETE /_ctl/faults` | rules in force; add one or a list; take all away |
//! | `DELETE /_ctl/faults/{id}` | take one away |
//! | `POST /_ctl/ws/drop` | cut all WebSocket connections without a close frame |
//!
//! Errors are `{"error": …}` with status 400 or 404.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use rust_decimal::Decimal;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::calendar::Calendar;
use super::core::{Exchange, Order, Trade};
use super::faults::{Active, Faults, Rule};
use super::hub::{Frame, Hub};
use super::options::{FillModel, RateLimits, SymbolKey};
use super::ticks;
use super::witness::Arrival;
use crate::domain::money::Price;

type Shared = State<Arc<Hub>>;

/// The routes, without authentication.
pub(super) fn router(hub: Arc<Hub>) -> Router {
    Router::new()
        .route("/_ctl/orders", get(orders))
        .route("/_ctl/arrivals", get(arrivals))
        .route("/_ctl/log", get(log))
        .route("/_ctl/requests", get(requests))
        .route("/_ctl/stream", get(stream))
        .route("/_ctl/price", post(set_price))
        .route("/_ctl/market", post(set_market))
        .route("/_ctl/ticks", post(play_ticks))
        .route("/_ctl/calendar", post(set_calendar))
        .route("/_ctl/fills", post(set_fills))
        .route("/_ctl/day/end", post(end_day))
        .route("/_ctl/limits", post(set_limits))
        .route("/_ctl/faults", get(list_faults).post(add_faults).delete(clear_faults))
        .route("/_ctl/faults/{id}", delete(remove_fault))
        .route("/_ctl/ws/drop", post(drop_sockets))
        .with_state(hub)
}

#[derive(Debug)]
struct Problem(StatusCode, String);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

/// Reads a body whatever its content type, so that a bare `curl -d` works.
fn body<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    serde_json::from_str(text).map_err(|error| Problem(StatusCode::BAD_REQUEST, error.to_string()))
}

fn done() -> Json<Value> {
    Json(json!({ "status": "success" }))
}

/// One order with all that is known about it.
#[derive(Debug, Serialize)]
struct Truth<'a> {
    arrival: Option<u64>,
    orderid: &'a str,
    #[serde(flatten)]
    spec: &'a crate::domain::order::OrderSpec,
    strategy: &'a str,
    order_status: super::core::OrderStatus,
    filled_quantity: crate::domain::money::Quantity,
    average_price: Price,
    rejection_reason: &'a str,
    placed_at: String,
    placed_us: u64,
    hidden: bool,
    fills: Vec<Value>,
    request: Option<&'a Arrival>,
}

async fn orders(State(hub): Shared) -> Json<Value> {
    let rows: Vec<Value> = hub.apply(|state, now| {
        let mut fills: Vec<Vec<&Trade>> = vec![Vec::new(); state.exchange.orders().len()];
        for trade in state.exchange.trades() {
            fills[trade.order].push(trade);
        }
        let requests: std::collections::HashMap<u64, &Arrival> =
            state.witness.arrivals().map(|arrival| (arrival.arrival, arrival)).collect();
        let orders = state.exchange.orders().iter().zip(&fills);
        orders
            .map(|(order, fills)| {
                let request = order.arrival.and_then(|number| requests.get(&number).copied());
                truth(&state.exchange, order, fills, request, !order.is_visible(now))
            })
            .collect()
    });
    Json(json!({ "orders": rows }))
}

fn truth(
    exchange: &Exchange,
    order: &Order,
    fills: &[&Trade],
    request: Option<&Arrival>,
    hidden: bool,
) -> Value {
    let fill = |trade: &&Trade| {
        json!({
            "tradeid": trade.id, "quantity": trade.quantity, "price": trade.price,
            "at": exchange.wall(trade.at).to_rfc3339(),
        })
    };
    let truth = Truth {
        arrival: order.arrival,
        orderid: &order.id,
        spec: &order.spec,
        strategy: &order.strategy,
        order_status: order.status,
        filled_quantity: order.filled,
        average_price: order.average_price(),
        rejection_reason: &order.rejection_reason,
        placed_at: exchange.wall(order.placed_at).to_rfc3339(),
        placed_us: u64::try_from(order.placed_at.as_micros()).unwrap_or(u64::MAX),
        hidden,
        fills: fills.iter().map(fill).collect(),
        request,
    };
    serde_json::to_value(truth).unwrap_or(Value::Null)
}

async fn arrivals(State(hub): Shared) -> Json<Value> {
    let state = hub.lock();
    Json(json!({ "arrivals": state.witness.arrivals().collect::<Vec<_>>() }))
}

#[derive(Debug, Deserialize)]
struct After {
    #[serde(default)]
    after: u64,
}

async fn log(State(hub): Shared, Query(After { after }): Query<After>) -> Json<Value> {
    Json(json!({ "lines": hub.lock().witness.lines_after(after) }))
}

async fn requests(State(hub): Shared) -> Json<Value> {
    Json(json!({ "requests": hub.lock().requests }))
}

async fn stream(State(hub): Shared) -> Json<Value> {
    Json(json!({ "stream": hub.lock().streamed }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SetPrice {
    symbol: String,
    exchange: String,
    /// A number or a decimal as text.
    ltp: Option<Value>,
    spread_ticks: Option<u32>,
}

async fn set_price(State(hub): Shared, text: String) -> Result<Json<Value>, Problem> {
    let wanted: SetPrice = body(&text)?;
    let bad = |problem: &str| Problem(StatusCode::BAD_REQUEST, problem.to_owned());
    let ltp = match wanted.ltp {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text),
        Some(Value::Number(number)) => Some(number.to_string()),
        Some(_) => return Err(bad("ltp must be a number")),
    };
    let ltp = ltp.map(|text| text.parse::<Decimal>().map_err(|_| bad("ltp must be a number"))).transpose()?;
    if ltp.is_some_and(|ltp| ltp <= Decimal::ZERO) {
        return Err(bad("ltp must be positive"));
    }
    let key = SymbolKey::new(wanted.symbol, wanted.exchange);
    let known =
        hub.apply(|state, now| state.exchange.set_price(&key, ltp.map(Price), wanted.spread_ticks, now));
    if known { Ok(done()) } else { Err(Problem(StatusCode::NOT_FOUND, format!("{key} is not listed"))) }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SetMarket {
    moving: bool,
}

async fn set_market(State(hub): Shared, text: String) -> Result<Json<Value>, Problem> {
    let SetMarket { moving } = body(&text)?;
    hub.apply(|state, _| state.exchange.set_moving(moving));
    Ok(done())
}

fn once() -> u32 {
    1
}

#[derive(Debug, Deserialize)]
struct Speed {
    #[serde(default = "once")]
    speed: u32,
}

async fn play_ticks(
    State(hub): Shared,
    Query(Speed { speed }): Query<Speed>,
    text: String,
) -> Result<Json<Value>, Problem> {
    let bad = |problem: String| Problem(StatusCode::BAD_REQUEST, problem);
    let recorded = ticks::read(text.as_bytes()).map_err(|error| bad(error.to_string()))?;
    let unlisted = recorded.iter().find(|tick| hub.lock().exchange.listing(&tick.key).is_none());
    if let Some(tick) = unlisted {
        return Err(bad(format!("{} is not listed", tick.key)));
    }
    hub.tasks.spawn(ticks::play(Arc::clone(&hub), recorded, speed));
    Ok(done())
}

async fn set_calendar(State(hub): Shared, text: String) -> Result<Json<Value>, Problem> {
    let calendar: Calendar = body(&text)?;
    hub.lock().calendar = calendar;
    Ok(done())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SetFills {
    hold: Option<bool>,
    model: Option<FillModel>,
}

async fn set_fills(State(hub): Shared, text: String) -> Result<Json<Value>, Problem> {
    let wanted: SetFills = body(&text)?;
    hub.apply(|state, _| {
        if let Some(model) = wanted.model {
            state.exchange.set_fill_model(model);
        }
        if let Some(hold) = wanted.hold {
            state.fills_held = hold;
        }
    });
    Ok(done())
}

async fn end_day(State(hub): Shared) -> Json<Value> {
    let cancelled = hub.apply(|state, now| state.exchange.end_day(now));
    Json(json!({ "status": "success", "cancelled": cancelled }))
}

async fn set_limits(State(hub): Shared, text: String) -> Result<Json<Value>, Problem> {
    let limits: RateLimits = body(&text)?;
    hub.lock().limiter.set(limits);
    Ok(done())
}

async fn list_faults(State(hub): Shared) -> Json<Value> {
    let faults: Vec<Active> = hub.lock().faults.active().to_vec();
    Json(json!({ "faults": faults }))
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    Many(Vec<Value>),
    One(Value),
}

async fn add_faults(State(hub): Shared, text: String) -> Result<Json<Value>, Problem> {
    let values = match body::<OneOrMany>(&text)? {
        OneOrMany::Many(values) => values,
        OneOrMany::One(value) => vec![value],
    };
    // All are read before the first is in force: a mistake changes nothing.
    let rules: Vec<Rule> =
        values.into_iter().map(|value| body(&value.to_string())).collect::<Result<_, _>>()?;
    let ids = hub.apply(|state, _| state.faults.add(rules));
    let ids = ids.map_err(|bad| Problem(StatusCode::BAD_REQUEST, bad.to_string()))?;
    Ok(Json(json!({ "ids": ids })))
}

async fn clear_faults(State(hub): Shared) -> Json<Value> {
    hub.change_faults(Faults::clear);
    done()
}

async fn remove_fault(State(hub): Shared, Path(id): Path<u64>) -> Result<Json<Value>, Problem> {
    let removed = hub.change_faults(|faults| faults.remove(id));
    if removed { Ok(done()) } else { Err(Problem(StatusCode::NOT_FOUND, format!("no fault rule {id}"))) }
}

async fn drop_sockets(State(hub): Shared) -> Json<Value> {
    hub.send(Frame::Drop);
    done()
}
