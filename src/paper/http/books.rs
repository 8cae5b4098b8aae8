//! Order book, trade book, positions, funds: one truth in two shapes.
//!
//! Live shape has no `strategy`, no filled quantity and no average in the order book, and money as text; a partial
//! fill still shows `open`. Analyze shape has all of them.

use std::time::Duration;

use serde_json::{Value, json};

use super::reply::Reply;
use crate::domain::order::{Product, Side};
use crate::paper::core::{Order, OrderStatus, Trade};
use crate::paper::faults::Fault;
use crate::paper::hub::{State, number, price};
use crate::paper::{BridgeMode, SymbolKey};

const STAMP: &str = "%Y-%m-%d %H:%M:%S";

/// The status that the book shows, which a plug-in bug may have copied from another row.
fn shown_status(state: &State, order: &Order) -> OrderStatus {
    let stale = order.status.is_live() && state.faults.holds(&Fault::StaleStatus, Some(&order.spec.symbol));
    if stale { OrderStatus::Complete } else { order.status }
}

fn order_row(state: &State, order: &Order, shape: BridgeMode) -> Value {
    let spec = &order.spec;
    let mut row = json!({
        "symbol": spec.symbol,
        "exchange": spec.exchange,
        "action": spec.side,
        "quantity": spec.quantity,
        "price": price(spec.price),
        "trigger_price": price(spec.trigger_price),
        "pricetype": spec.price_type,
        "product": spec.product,
        "orderid": order.id,
        "order_status": shown_status(state, order),
        "timestamp": state.exchange.wall(order.placed_at).format(STAMP).to_string(),
    });
    if shape == BridgeMode::Analyze {
        row["average_price"] = price(order.average_price());
        row["filled_quantity"] = json!(order.filled);
        row["pending_quantity"] = json!(order.pending());
        row["rejection_reason"] = order.rejection_reason.as_str().into();
        row["strategy"] = order.strategy.as_str().into();
    }
    row
}

pub(super) fn order_book(state: &State, shape: BridgeMode, now: Duration) -> Reply {
    let visible: Vec<&Order> = state.exchange.visible_orders(now).collect();
    let mut rows: Vec<Value> = visible.iter().map(|order| order_row(state, order, shape)).collect();
    for (place, order) in visible.iter().enumerate() {
        // The sandbox has its orders' states from its own table.
        let inherits = shape == BridgeMode::Live
            && order.status.is_live()
            && state.faults.holds(&Fault::InheritedStatus, Some(&order.spec.symbol));
        if inherits {
            let Some(before) = place.checked_sub(1).map(|before| rows[before]["order_status"].clone()) else {
                return Reply::internal("cannot access local variable 'order_status'");
            };
            rows[place]["order_status"] = before;
        }
    }
    let side = |side: Side| visible.iter().filter(|order| order.spec.side == side).count();
    let status = |status| visible.iter().filter(|order| shown_status(state, order) == status).count();
    let mut statistics = json!({
        "total_buy_orders": side(Side::Buy),
        "total_sell_orders": side(Side::Sell),
        "total_completed_orders": status(OrderStatus::Complete),
        "total_open_orders": status(OrderStatus::Open),
        "total_rejected_orders": status(OrderStatus::Rejected),
    });
    if shape == BridgeMode::Analyze {
        statistics["total_trigger_pending_orders"] = status(OrderStatus::TriggerPending).into();
    }
    Reply::success(shape, json!({ "data": { "orders": rows, "statistics": statistics } }))
}

/// One order. Live shape takes the average from the first matching trade row only, as the bridge does.
pub(super) fn order_status(state: &State, id: &str, shape: BridgeMode, now: Duration) -> Reply {
    let Some(order) = state.exchange.order(id).filter(|order| order.is_visible(now)) else {
        return Reply::error(shape, 404, format!("Order with ID {id} not found"));
    };
    let mut row = order_row(state, order, shape);
    match shape {
        BridgeMode::Analyze => {
            if let Value::Object(fields) = &mut row
                && let Some(price_type) = fields.remove("pricetype")
            {
                fields.insert("price_type".to_owned(), price_type);
            }
        }
        BridgeMode::Live => {
            let first = state.exchange.trades().iter().find(|trade| state.exchange.order_of(trade).id == id);
            row["average_price"] = price(first.map(|trade| trade.price).unwrap_or_default());
        }
    }
    Reply::success(shape, json!({ "data": row }))
}

fn trade_row(state: &State, trade: &Trade, shape: BridgeMode) -> Value {
    let order = state.exchange.order_of(trade);
    let spec = &order.spec;
    let at = state.exchange.wall(trade.at);
    let stamp = if shape == BridgeMode::Analyze { STAMP } else { "%H:%M:%S" };
    let unknown = state.faults.holds(&Fault::ZeroAverages, Some(&spec.symbol));
    let mut row = json!({
        "symbol": spec.symbol,
        "exchange": spec.exchange,
        "product": spec.product,
        "action": spec.side,
        "quantity": trade.quantity,
        "average_price": if unknown { json!(0.0) } else { price(trade.price) },
        "trade_value": number(trade.price.0 * trade.quantity.decimal()),
        "orderid": order.id,
        "timestamp": at.format(stamp).to_string(),
    });
    if shape == BridgeMode::Analyze {
        row["strategy"] = order.strategy.as_str().into();
        row["tradeid"] = trade.id.as_str().into();
        row["price"] = price(trade.price);
    }
    row
}

pub(super) fn trade_book(state: &State, shape: BridgeMode, now: Duration) -> Reply {
    let rows: Vec<Value> = state
        .exchange
        .trades()
        .iter()
        .filter(|trade| state.exchange.order_of(trade).is_visible(now))
        .map(|trade| trade_row(state, trade, shape))
        .collect();
    Reply::success(shape, json!({ "data": rows }))
}

/// Flat positions of the day are listed with quantity 0, as brokers do.
pub(super) fn position_book(state: &State, shape: BridgeMode) -> Reply {
    let rows: Vec<Value> = state
        .exchange
        .holdings()
        .filter_map(|held| {
            let listing = state.exchange.listing(&held.key)?;
            let (realised, unrealised) = state.exchange.profit(held);
            let average = match shape {
                BridgeMode::Analyze => price(held.average_price),
                BridgeMode::Live => format!("{:.2}", held.average_price.0).into(),
            };
            let mut row = json!({
                "symbol": held.key.symbol,
                "exchange": held.key.exchange,
                "product": held.product,
                "quantity": held.quantity,
                "average_price": average,
            });
            let has = |fault| state.faults.holds(&fault, Some(&held.key.symbol));
            if !has(Fault::BarePositions) {
                let name = if has(Fault::RenamedLastPrice) { "last_price" } else { "ltp" };
                row[name] = price(listing.ltp);
                row["pnl"] = number((realised + unrealised).0.round_dp(2));
            }
            Some(row)
        })
        .collect();
    let mut fields = json!({ "data": rows });
    if shape == BridgeMode::Analyze {
        let funds = state.exchange.funds();
        fields["total_pnl"] = number((funds.realised + funds.unrealised).0.round_dp(2));
    }
    Reply::success(shape, fields)
}

pub(super) fn open_position(state: &State, key: &SymbolKey, product: Product, shape: BridgeMode) -> Reply {
    Reply::success(shape, json!({ "quantity": state.exchange.held_quantity(key, product) }))
}

/// The paper account trades derivatives; nothing is ever delivered.
pub(super) fn holdings(shape: BridgeMode) -> Reply {
    let statistics = json!({
        "totalholdingvalue": 0.0, "totalinvvalue": 0.0, "totalprofitandloss": 0.0, "totalpnlpercentage": 0.0,
    });
    Reply::success(shape, json!({ "data": { "holdings": [], "statistics": statistics } }))
}

pub(super) fn funds(state: &State, shape: BridgeMode) -> Reply {
    let funds = state.exchange.funds();
    let amount = |value: rust_decimal::Decimal| match shape {
        BridgeMode::Analyze => number(value.round_dp(2)),
        BridgeMode::Live => format!("{value:.2}").into(),
    };
    let data = json!({
        "availablecash": amount(funds.available.0),
        "collateral": amount(rust_decimal::Decimal::ZERO),
        "m2mrealized": amount(funds.realised.0),
        "m2munrealized": amount(funds.unrealised.0),
        "utiliseddebits": amount(funds.utilised.0),
    });
    Reply::success(shape, json!({ "data": data }))
}
