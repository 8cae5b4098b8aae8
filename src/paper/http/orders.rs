//! The routes that change orders.

use std::time::Duration;

use serde_json::json;

use super::pipeline::Handled;
use super::reply::Reply;
use crate::domain::money::{Price, Quantity};
use crate::domain::order::{OrderSpec, PriceType, Side};
use crate::paper::BridgeMode;
use crate::paper::core::{Handling, OrderRequest, OrderStatus, Refusal};
use crate::paper::hub::State;

/// The live bridge's text when the broker does not cancel or modify.
fn broker_refusal(verb: &str, refusal: &Refusal) -> String {
    format!("Failed to {verb} order: Client error '400 Bad Request': {refusal}")
}

pub(super) fn place(
    state: &mut State,
    request: OrderRequest,
    shape: BridgeMode,
    handling: Handling,
    arrival: Option<u64>,
    now: Duration,
) -> Handled {
    match state.exchange.place(request, state.mode, handling, arrival, now) {
        // The sandbox has a row of what it refuses so late, and says which.
        Ok(order) if order.status == OrderStatus::Rejected && state.mode == BridgeMode::Analyze => {
            let id = order.id.clone();
            let fields = json!({ "message": order.rejection_reason, "orderid": id });
            Handled { orderid: Some(id), ..Handled::undone(Reply::error_with(shape, 400, fields)) }
        }
        Ok(order) => {
            let id = order.id.clone();
            Handled::done(Reply::success(shape, json!({ "orderid": id })), Some(id))
        }
        Err(refusal @ Refusal::Full(_)) => Handled::undone(Reply::internal(&refusal.to_string())),
        Err(refusal) => Handled::undone(Reply::error(shape, 400, refusal.to_string())),
    }
}

pub(super) fn modify(
    state: &mut State,
    id: &str,
    change: &OrderSpec,
    shape: BridgeMode,
    now: Duration,
) -> Handled {
    match state.exchange.modify(id, change, state.mode, now) {
        Ok(_) => {
            let mut fields = json!({ "orderid": id });
            if shape == BridgeMode::Analyze {
                fields["message"] = "Order modified successfully".into();
            }
            Handled::done(Reply::success(shape, fields), Some(id.to_owned()))
        }
        Err(refusal) => refused("modify", id, &refusal, shape),
    }
}

pub(super) fn cancel(state: &mut State, id: &str, shape: BridgeMode, now: Duration) -> Handled {
    match state.exchange.cancel(id, now) {
        Ok(_) => Handled::done(Reply::success(shape, json!({ "orderid": id })), Some(id.to_owned())),
        Err(refusal) => refused("cancel", id, &refusal, shape),
    }
}

fn refused(verb: &str, id: &str, refusal: &Refusal, shape: BridgeMode) -> Handled {
    let reply = match (shape, refusal) {
        (BridgeMode::Live, _) => Reply::internal(&broker_refusal(verb, refusal)),
        (BridgeMode::Analyze, Refusal::OrderNotFound(_)) => Reply::error(shape, 404, refusal.to_string()),
        (BridgeMode::Analyze, _) => Reply::error(shape, 400, refusal.to_string()),
    };
    Handled { orderid: Some(id.to_owned()), ..Handled::undone(reply) }
}

/// Account-wide, and in analyze shape past the stops that wait for their trigger, as the sandbox does.
pub(super) fn cancel_all(state: &mut State, shape: BridgeMode, now: Duration) -> Reply {
    let meant = |status: OrderStatus| match state.mode {
        BridgeMode::Analyze => status == OrderStatus::Open,
        BridgeMode::Live => status.is_live(),
    };
    let ids: Vec<String> = state
        .exchange
        .visible_orders(now)
        .filter(|order| meant(order.status))
        .map(|order| order.id.clone())
        .collect();
    let (canceled, failed): (Vec<_>, Vec<_>) =
        ids.into_iter().partition(|id| state.exchange.cancel(id, now).is_ok());
    let message = format!("Canceled {} orders. Failed to cancel {} orders.", canceled.len(), failed.len());
    let fields = json!({ "message": message, "canceled_orders": canceled, "failed_cancellations": failed });
    Reply::success(shape, fields)
}

/// Account-wide market orders against every position; resting stops stay.
pub(super) fn close_positions(state: &mut State, strategy: &str, shape: BridgeMode, now: Duration) -> Reply {
    let open: Vec<_> =
        state.exchange.holdings().filter(|held| held.quantity != Quantity::ZERO).cloned().collect();
    let no_prices = state.mode == BridgeMode::Analyze && state.session_is_dead();
    let (mut closed, mut failed) = (0, 0);
    for held in open {
        let side = if held.quantity.0 > 0 { Side::Sell } else { Side::Buy };
        let spec = OrderSpec {
            symbol: held.key.symbol,
            exchange: held.key.exchange,
            side,
            quantity: Quantity(held.quantity.0.abs()),
            price_type: PriceType::Market,
            product: held.product,
            price: Price::ZERO,
            trigger_price: Price::ZERO,
        };
        let request = OrderRequest { spec, strategy: strategy.to_owned() };
        if !no_prices && state.exchange.place(request, state.mode, Handling::default(), None, now).is_ok() {
            closed += 1;
        } else {
            failed += 1;
        }
    }
    let mut fields = json!({ "message": "All Open Positions Squared Off" });
    if shape == BridgeMode::Analyze {
        fields["closed_positions"] = closed.into();
        fields["failed_closures"] = failed.into();
    }
    Reply::success(shape, fields)
}
