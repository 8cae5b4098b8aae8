//! The routes that make several orders of one request, or an order of a position: basket, split and smart orders, and what
//! orders would block. The bridge tells each order's fate by itself: "success" at the top says nothing of them.

use std::time::Duration;

use serde_json::{Value, json};

use super::orders::place;
use super::pipeline::Handled;
use super::reply::Reply;
use crate::domain::money::{Price, Quantity};
use crate::domain::order::{OrderSpec, PriceType, Side};
use crate::paper::core::{Handling, OrderRequest};
use crate::paper::hub::{State, number};
use crate::paper::{BridgeMode, SymbolKey};

/// What accompanies each order of a request.
#[derive(Clone, Copy)]
pub(super) struct Way {
    pub(super) shape: BridgeMode,
    pub(super) handling: Handling,
    pub(super) arrival: Option<u64>,
    pub(super) now: Duration,
    /// The sandbox has no session to ask a price of.
    pub(super) no_prices: bool,
}

/// A smart order: as much as leads from what is held to `target`. With nothing held and nothing wanted it is a plain order.
/// The sandbox makes a market order of it, whatever it says.
pub(super) fn smart(state: &mut State, request: OrderRequest, target: i64, way: Way) -> Handled {
    let OrderRequest { mut spec, strategy } = request;
    let key = SymbolKey::new(&spec.symbol, &spec.exchange);
    let held = state.exchange.held_quantity(&key, spec.product).0;
    let missing = target - held;
    if missing != 0 {
        spec.side = if missing > 0 { Side::Buy } else { Side::Sell };
        spec.quantity = Quantity(missing.abs());
    } else if held != 0 || spec.quantity == Quantity::ZERO {
        let fields = json!({ "message": "Positions Already Matched. No Action needed." });
        return Handled::undone(Reply::success(way.shape, fields));
    }
    if state.mode == BridgeMode::Analyze {
        spec = OrderSpec {
            price_type: PriceType::Market,
            price: Price::ZERO,
            trigger_price: Price::ZERO,
            ..spec
        };
    }
    one(state, OrderRequest { spec, strategy }, way)
}

/// All of a basket, each by itself.
pub(super) fn basket(state: &mut State, strategy: &str, orders: Vec<OrderSpec>, way: Way) -> Handled {
    let mut made = Made::default();
    for spec in orders {
        let symbol = spec.symbol.clone();
        let row = made.order(state, OrderRequest { spec, strategy: strategy.to_owned() }, way);
        row["symbol"] = symbol.into();
    }
    made.handled(way.shape, json!({}))
}

/// An order in parts of `size`, the last one with what remains.
pub(super) fn split(state: &mut State, request: &OrderRequest, size: Quantity, way: Way) -> Handled {
    let total = request.spec.quantity;
    let mut made = Made::default();
    let mut left = total.0;
    while left > 0 {
        let quantity = Quantity(left.min(size.0));
        left -= quantity.0;
        let mut part = request.clone();
        part.spec.quantity = quantity;
        let place = made.rows.len() + 1;
        let row = made.order(state, part, way);
        row["order_num"] = place.into();
        row["quantity"] = json!(quantity);
    }
    made.handled(way.shape, json!({ "split_size": size, "total_quantity": total }))
}

/// What positions would block, long and short of one contract against each other.
pub(super) fn margin(state: &State, orders: &[OrderSpec], shape: BridgeMode) -> Reply {
    let span = state.exchange.margin_of(orders).0;
    let data = json!({
        "total_margin_required": number(span.round_dp(2)),
        "span_margin": number(span.round_dp(2)),
        "exposure_margin": 0.0,
    });
    Reply::success(shape, json!({ "data": data }))
}

/// One order by itself.
pub(super) fn one(state: &mut State, request: OrderRequest, way: Way) -> Handled {
    if way.no_prices && request.spec.price_type == PriceType::Market {
        let message = "Market order rejected: unable to fetch current price";
        return Handled::undone(Reply::error(way.shape, 400, message));
    }
    place(state, request, way.shape, way.handling, way.arrival, way.now)
}

/// The fates of one request's orders.
#[derive(Default)]
pub(super) struct Made {
    pub(super) rows: Vec<Value>,
    some: bool,
}

impl Made {
    /// Places an order; its row has `status` and an `orderid` or a `message`.
    pub(super) fn order(&mut self, state: &mut State, request: OrderRequest, way: Way) -> &mut Value {
        let handled = one(state, request, way);
        self.some |= handled.done;
        let said = handled.reply.body();
        let row = match handled.orderid.filter(|_| handled.done) {
            Some(id) => json!({ "status": "success", "orderid": id }),
            None => json!({ "status": "error", "message": said["message"] }),
        };
        self.failed(row)
    }

    /// Notes a row.
    pub(super) fn failed(&mut self, row: Value) -> &mut Value {
        self.rows.push(row);
        let last = self.rows.len() - 1;
        &mut self.rows[last]
    }

    /// The answer: success, whatever became of the orders.
    pub(super) fn handled(self, shape: BridgeMode, mut fields: Value) -> Handled {
        fields["results"] = self.rows.into();
        let reply = Reply::success(shape, fields);
        if self.some { Handled::done(reply, None) } else { Handled::undone(reply) }
    }
}
