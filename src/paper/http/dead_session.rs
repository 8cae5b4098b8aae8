//! A broker session that is dead, which the bridge has not noticed.

use std::time::Duration;

use serde_json::{Value, json};

use super::Verb;
use super::command::Command;
use super::pipeline::broker_error;
use super::reply::Reply;
use crate::domain::order::PriceType;
use crate::paper::BridgeMode;
use crate::paper::hub::Hub;

/// How long the bridge tries to get a price before it gives up on a market order.
const PRICE_RETRIES: Duration = Duration::from_millis(950);

/// What a dead broker session makes of a request while the bridge has not noticed; `None` = nothing.
pub(super) async fn without(hub: &Hub, verb: Verb, command: &Command, shape: BridgeMode) -> Option<Reply> {
    let (mode, empty) = {
        let state = hub.lock();
        if !state.session_expired() {
            return None;
        }
        (state.mode, state.books_are_empty())
    };
    let needs_quotes = matches!(
        verb,
        Verb::Quotes
            | Verb::MultiQuotes
            | Verb::Depth
            | Verb::History
            | Verb::OptionSymbol
            | Verb::OptionChain
            | Verb::SyntheticFuture
            | Verb::OptionsOrder
            | Verb::OptionsMultiOrder
    );
    let refused = "Error fetching data: Client error '403 Forbidden': Incorrect `api_key` or `access_token`.";
    if mode == BridgeMode::Analyze {
        // It asks for a price for a while; the order is refused where it is placed.
        if matches!(command, Command::Place(request) if request.spec.price_type == PriceType::Market)
            || matches!(command, Command::PlaceSmart { .. })
        {
            tokio::time::sleep(PRICE_RETRIES).await;
            return None;
        }
        return needs_quotes.then(|| Reply::internal(refused));
    }
    match verb {
        Verb::PlaceOrder | Verb::PlaceSmartOrder => Some(broker_error(403, None)),
        // Each order of these is refused by itself; the whole is a success.
        Verb::BasketOrder | Verb::SplitOrder => Some(each_refused(command, shape)),
        Verb::OrderBook if empty => {
            Some(Reply::success(shape, json!({ "data": { "orders": [], "statistics": {} } })))
        }
        Verb::TradeBook | Verb::PositionBook | Verb::Holdings if empty => {
            Some(Reply::success(shape, json!({ "data": [] })))
        }
        Verb::Funds => Some(Reply::success(shape, json!({ "data": {} }))),
        Verb::CancelAllOrder => Some(Reply::internal("Failed to cancel orders due to internal error")),
        Verb::ClosePosition => Some(Reply::internal("Failed to close positions due to internal error")),
        Verb::CancelOrder => Some(Reply::internal("Failed to cancel order: Client error '403 Forbidden'")),
        Verb::ModifyOrder => Some(Reply::internal("Failed to modify order: Client error '403 Forbidden'")),
        Verb::OrderBook
        | Verb::TradeBook
        | Verb::PositionBook
        | Verb::Holdings
        | Verb::OpenPosition
        | Verb::OrderStatus
        | Verb::Quotes
        | Verb::MultiQuotes
        | Verb::Depth
        | Verb::History
        | Verb::OptionSymbol
        | Verb::OptionChain
        | Verb::SyntheticFuture
        | Verb::OptionsOrder
        | Verb::OptionsMultiOrder
        | Verb::Margin => Some(Reply::internal(refused)),
        Verb::Symbol
        | Verb::Intervals
        | Verb::Search
        | Verb::Expiry
        | Verb::Ping
        | Verb::Analyzer
        | Verb::AnalyzerToggle
        | Verb::MarketHolidays
        | Verb::MarketTimings => None,
    }
}

/// A request of several orders, of which the broker takes none.
fn each_refused(command: &Command, shape: BridgeMode) -> Reply {
    let message = "Incorrect `api_key` or `access_token`.";
    let orders: Vec<Value> = match command {
        Command::Basket { orders, .. } => {
            orders.iter().map(|order| json!({ "symbol": order.symbol })).collect()
        }
        _ => vec![json!({ "order_num": 1 })],
    };
    let rows = orders.into_iter().map(|mut row| {
        row["status"] = "error".into();
        row["message"] = message.into();
        row
    });
    Reply::success(shape, json!({ "results": rows.collect::<Vec<_>>() }))
}
