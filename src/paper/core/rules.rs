//! What is refused. In analyze shape the bridge refuses at once; in live shape it passes the order on and the
//! broker rejects it afterwards, which is why "success" there is no more than an acknowledgement.

use rust_decimal::Decimal;

use super::market::Listing;
use super::order::OrderStatus;
use crate::domain::money::{Price, Quantity, Rupees};
use crate::domain::order::{OrderSpec, PriceType, Product, Side};
use crate::paper::SymbolKey;

/// Why the exchange or the account does not do what was asked. The text is the client's message.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Not in the master contract.
    #[error("Symbol '{}' not found for exchange '{}'. Please check the symbol and try again.", .0.symbol, .0.exchange)]
    UnknownSymbol(SymbolKey),
    /// Not a whole number of lots.
    #[error("Quantity must be in multiples of lot size {lot}. Got {quantity}")]
    LotMultiple {
        /// Units in a lot.
        lot: Quantity,
        /// What was asked.
        quantity: Quantity,
    },
    /// A product that this exchange does not know.
    #[error("{product} product type is not allowed for {exchange} exchange")]
    WrongProduct {
        /// What was asked.
        product: Product,
        /// Where.
        exchange: String,
    },
    /// A limit or stop order without its price.
    #[error("{field} is required for {price_type} orders and must be greater than 0")]
    PriceMissing {
        /// `Price` or `Trigger price`.
        field: &'static str,
        /// Order type.
        price_type: PriceType,
    },
    /// Above the exchange's largest order.
    #[error("RMS: quantity {quantity} is above the freeze quantity {freeze}")]
    Freeze {
        /// What was asked.
        quantity: Quantity,
        /// The largest.
        freeze: Quantity,
    },
    /// A stop order of a kind that the segment does not take.
    #[error("RMS: SL-M orders are blocked for options: use SL with a limit price")]
    NoStopMarket,
    /// A stop whose trigger the price has passed already, or whose limit its own trigger could not reach.
    #[error("RMS: trigger price {trigger} does not fit: last price {ltp}, limit price {limit}")]
    Trigger {
        /// Trigger price.
        trigger: Price,
        /// Last traded price.
        ltp: Price,
        /// Limit price; zero for SL-M.
        limit: Price,
    },
    /// Off the price grid.
    #[error("RMS: price is not a multiple of the tick size {0}")]
    TickSize(Decimal),
    /// Margin does not suffice.
    #[error("Insufficient funds. Required: {required}, Available: {available}")]
    Margin {
        /// Rupees that would be blocked.
        required: Rupees,
        /// Rupees free.
        available: Rupees,
    },
    /// Delivery of what is not held.
    #[error("Cannot sell {quantity} under CNC: {held} held")]
    ShortSell {
        /// What was asked.
        quantity: Quantity,
        /// Units held.
        held: Quantity,
    },
    /// The broker's risk control, of its own accord.
    #[error("RMS: blocked by the risk control")]
    RiskControl,
    /// No such order, or hidden.
    #[error("Order {0} not found")]
    OrderNotFound(String),
    /// Done already.
    #[error("Cannot {verb} order in {} status", .status.as_str())]
    OrderDone {
        /// `cancel` or `modify`.
        verb: &'static str,
        /// Where it stands.
        status: OrderStatus,
    },
    /// A modification to no more than what is filled.
    #[error("Quantity {quantity} is not above the filled quantity {filled}")]
    BelowFilled {
        /// What was asked.
        quantity: Quantity,
        /// Filled by then.
        filled: Quantity,
    },
    /// The paper bridge keeps no more orders.
    #[error("The paper bridge holds its maximum of {0} orders: restart it or raise max_orders")]
    Full(usize),
}

impl Refusal {
    /// The sandbox, too, has taken the order by then: its book has a row for it, and the refusal carries its id.
    pub(super) fn is_booked(&self) -> bool {
        matches!(self, Self::ShortSell { .. } | Self::RiskControl)
    }
}

fn is_equity(exchange: &str) -> bool {
    matches!(exchange, "NSE" | "BSE")
}

/// Checks that the bridge's sandbox makes before it takes an order.
pub(super) fn sandbox_check(spec: &OrderSpec, listing: &Listing) -> Result<(), Refusal> {
    let lot = listing.spec.lot_size;
    if spec.quantity.0 % lot.0.max(1) != 0 {
        return Err(Refusal::LotMultiple { lot, quantity: spec.quantity });
    }
    let allowed = match spec.product {
        Product::Mis => true,
        Product::Nrml => !is_equity(&spec.exchange),
        Product::Cnc => is_equity(&spec.exchange),
    };
    if !allowed {
        return Err(Refusal::WrongProduct { product: spec.product, exchange: spec.exchange.clone() });
    }
    let needs_price = matches!(spec.price_type, PriceType::Limit | PriceType::StopLimit);
    if needs_price && spec.price.0 <= Decimal::ZERO {
        return Err(Refusal::PriceMissing { field: "Price", price_type: spec.price_type });
    }
    let needs_trigger = matches!(spec.price_type, PriceType::StopLimit | PriceType::StopMarket);
    if needs_trigger && spec.trigger_price.0 <= Decimal::ZERO {
        return Err(Refusal::PriceMissing { field: "Trigger price", price_type: spec.price_type });
    }
    Ok(())
}

/// What a broker's risk management checks on top, and the sandbox does not.
pub(super) fn broker_check(spec: &OrderSpec, listing: &Listing) -> Result<(), Refusal> {
    sandbox_check(spec, listing)?;
    let freeze = listing.spec.freeze_qty;
    if freeze.0 > 0 && spec.quantity.0 > freeze.0 {
        return Err(Refusal::Freeze { quantity: spec.quantity, freeze });
    }
    let tick = listing.spec.tick_size.0;
    if spec.price.0 % tick != Decimal::ZERO || spec.trigger_price.0 % tick != Decimal::ZERO {
        return Err(Refusal::TickSize(tick));
    }
    stop_check(spec, listing)
}

/// A stop rests on the far side of the market: one that would trigger at once is refused, and so is SL-M for options.
fn stop_check(spec: &OrderSpec, listing: &Listing) -> Result<(), Refusal> {
    let (trigger, limit, ltp) = (spec.trigger_price, spec.price, listing.ltp);
    let has_limit = match spec.price_type {
        PriceType::Market | PriceType::Limit => return Ok(()),
        PriceType::StopMarket if is_option(spec) => return Err(Refusal::NoStopMarket),
        PriceType::StopMarket => false,
        PriceType::StopLimit => true,
    };
    let fits = match spec.side {
        Side::Sell => trigger < ltp && (!has_limit || limit <= trigger),
        Side::Buy => trigger > ltp && (!has_limit || limit >= trigger),
    };
    if fits { Ok(()) } else { Err(Refusal::Trigger { trigger, ltp, limit }) }
}

fn is_option(spec: &OrderSpec) -> bool {
    let option = spec.symbol.strip_suffix("CE").or_else(|| spec.symbol.strip_suffix("PE"));
    option.is_some_and(|strike| strike.ends_with(|c: char| c.is_ascii_digit()))
}
