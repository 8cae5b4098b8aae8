//! The frames, in the proxy's words.

use serde_json::{Value, json};

use crate::paper::core::{OrderStatus, OrderUpdate};
use crate::paper::hub::{TickData, price};
use crate::paper::options::Options;
use crate::paper::{BridgeMode, SymbolKey};

/// What a subscriber wants to hear of a symbol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Mode {
    /// 1: the last price.
    Ltp,
    /// 2: with volume and the day's prices.
    Quote,
    /// 3: with five levels.
    Depth,
}

impl Mode {
    /// From `1|2|3` or its name; 1 when left out.
    pub(super) fn read(value: Option<&Value>) -> Option<Self> {
        match value {
            None => Some(Self::Ltp),
            Some(Value::Number(number)) => match number.as_u64() {
                Some(1) => Some(Self::Ltp),
                Some(2) => Some(Self::Quote),
                Some(3) => Some(Self::Depth),
                _ => None,
            },
            Some(Value::String(name)) => match name.to_ascii_lowercase().as_str() {
                "ltp" => Some(Self::Ltp),
                "quote" => Some(Self::Quote),
                "depth" => Some(Self::Depth),
                _ => None,
            },
            Some(_) => None,
        }
    }

    pub(super) fn number(self) -> u8 {
        match self {
            Self::Ltp => 1,
            Self::Quote => 2,
            Self::Depth => 3,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ltp => "ltp",
            Self::Quote => "quote",
            Self::Depth => "depth",
        }
    }
}

/// No `type` and no `request_id`, as the proxy's errors are.
pub(super) fn error(code: &str, message: &str) -> Value {
    json!({ "status": "error", "code": code, "message": message })
}

pub(super) fn authenticated(options: &Options) -> Value {
    json!({
        "type": "auth", "status": "success", "message": "Authentication successful",
        "broker": options.broker, "user_id": options.user_id,
        "supported_features": { "ltp": true, "quote": true, "depth": true, "order_updates": true },
    })
}

pub(super) fn pong(request: &Value, now_ms: i64) -> Value {
    let mut pong = json!({ "type": "pong", "status": "success", "server_timestamp": now_ms });
    if let Some(timestamp) = request.get("timestamp") {
        pong["client_timestamp"] = timestamp.clone();
    }
    if let Some(id) = request.get("_pingId") {
        pong["_pingId"] = id.clone();
    }
    pong
}

/// A row of a subscribe reply.
pub(super) fn subscription(key: &SymbolKey, mode: Mode, depth: &Value, listed: bool, broker: &str) -> Value {
    let mut row = json!({
        "symbol": key.symbol, "exchange": key.exchange, "mode": mode.number(),
        "status": if listed { "success" } else { "error" },
    });
    if listed {
        row["depth"] = depth.clone();
        row["broker"] = broker.into();
    } else {
        row["message"] = format!("Symbol {} not found for exchange {}", key.symbol, key.exchange).into();
    }
    row
}

pub(super) fn tick(tick: &TickData, mode: Mode, broker: &str) -> Value {
    let listing = &tick.listing;
    let key = &listing.spec.key;
    let at_ms = tick.at.timestamp_millis();
    let mut data = json!({
        "symbol": key.symbol, "exchange": key.exchange, "mode": mode.name(),
        "ltp": price(listing.ltp), "ltt": at_ms, "timestamp": at_ms,
    });
    if mode >= Mode::Quote {
        let lot = listing.spec.lot_size;
        for (name, value) in [
            ("volume", json!(listing.volume)),
            ("last_quantity", json!(lot)),
            ("average_price", price(listing.ltp)),
            ("total_buy_quantity", json!(lot.0 * 100)),
            ("total_sell_quantity", json!(lot.0 * 100)),
            ("open", price(listing.open)),
            ("high", price(listing.high)),
            ("low", price(listing.low)),
            ("close", price(listing.prev_close)),
        ] {
            data[name] = value;
        }
    }
    if mode == Mode::Depth {
        let quote = listing.quote();
        let step = |level: i64| listing.spec.tick_size.0 * rust_decimal::Decimal::from(level);
        let levels = |best: crate::domain::money::Price, sign: i64| -> Vec<Value> {
            (0..5)
                .map(|level| {
                    let at = crate::domain::money::Price(best.0 + step(level * sign));
                    json!({ "price": price(at), "quantity": listing.spec.lot_size.0 * 10, "orders": 5 })
                })
                .collect()
        };
        data["depth"] = json!({ "buy": levels(quote.bid, -1), "sell": levels(quote.ask, 1) });
    }
    json!({
        "type": "market_data", "symbol": key.symbol, "exchange": key.exchange, "mode": mode.number(),
        "broker": broker, "data": data,
    })
}

/// No strategy, no timestamp, no sequence. The sandbox's `open` has nothing pending.
pub(super) fn order_update(update: &OrderUpdate, shape: BridgeMode, options: &Options) -> Value {
    let spec = &update.spec;
    let sandbox_open = shape == BridgeMode::Analyze && update.status == OrderStatus::Open;
    let pending = if sandbox_open && update.filled.0 == 0 { 0 } else { update.pending.0 };
    json!({
        "type": "order_update",
        "user_id": options.user_id,
        "mode": shape,
        "broker": options.broker,
        "orderid": update.order_id,
        "symbol": spec.symbol,
        "exchange": spec.exchange,
        "action": spec.side,
        "quantity": spec.quantity,
        "price": price(spec.price),
        "trigger_price": price(spec.trigger_price),
        "pricetype": spec.price_type,
        "product": spec.product,
        "order_status": update.status,
        "filled_quantity": update.filled,
        "pending_quantity": pending,
        "average_price": price(update.average_price),
        "rejection_reason": update.rejection_reason,
    })
}
