//! The bridge of a simulated session: the paper exchange, in memory and by the session's clock, with books as a live broker
//! shows them.

use std::time::Duration;

use rust_decimal::Decimal;

use crate::broker::{Books, BrokerOrder, BrokerTrade, OrderStatus};
use crate::domain::money::{Price, Quantity, Rupees};
use crate::domain::order::{OrderSpec, Side};
use crate::engine::tests::desk::row;
use crate::paper::core::{self, Exchange, Handling, OrderRequest, Settings};
use crate::paper::{BridgeMode, FillModel, SymbolKey, SymbolSpec};

/// An order fills in two parts, the second some seconds after it arrived.
const FILL: FillModel = FillModel { latency_ms: 400, slices: 2, slice_delay_ms: 3_500, spread_ticks: 1 };

/// The exchange, and what of it the books show already.
pub(super) struct Bridge {
    pub exchange: Exchange,
    /// Orders that no book shows yet, by their place at the exchange.
    hidden: Vec<usize>,
    /// Orders that may still change: their place at the exchange and in the book.
    live: Vec<(usize, usize)>,
    known: usize,
}

impl Bridge {
    pub fn new(seed: u64, capital: Rupees, begins: chrono::DateTime<chrono::Utc>) -> Self {
        let exchange = Exchange::new(Settings {
            symbols: SymbolSpec::defaults(),
            fill: FILL,
            moving: false,
            tick_interval: Duration::from_secs(1),
            capital,
            max_orders: usize::MAX,
            seed,
            started_at: begins.fixed_offset(),
        });
        Self { exchange, hidden: Vec::new(), live: Vec::new(), known: 0 }
    }

    /// The last price of a symbol.
    pub fn price(&self, key: &SymbolKey) -> Price {
        self.exchange.listing(key).expect("it is listed").ltp
    }

    /// Takes an order; its id.
    pub fn place(&mut self, spec: &OrderSpec, handling: Handling, now: Duration) -> String {
        let request = OrderRequest { spec: spec.clone(), strategy: String::new() };
        let placed = self.exchange.place(request, BridgeMode::Live, handling, None, now);
        placed.expect("a live bridge takes every order of a listed contract").id.clone()
    }

    /// Brings the day's books up to date: new orders and trades, and what became of the others.
    pub fn show(&mut self, books: &mut Books, now: Duration) {
        let orders = self.exchange.orders();
        self.hidden.extend(self.known..orders.len());
        self.known = orders.len();
        let live = &mut self.live;
        self.hidden.retain(|place| {
            let visible = orders[*place].is_visible(now);
            if visible {
                live.push((*place, books.orders.len()));
                books.orders.push(shown(&orders[*place]));
            }
            !visible
        });
        for (place, row) in &self.live {
            books.orders[*row].status = status(orders[*place].status);
        }
        for row in self.live.iter().map(|(_, row)| *row) {
            let before = row.checked_sub(1).map(|before| books.orders[before].status.clone());
            books.orders[row].may_inherit = before.as_ref() == Some(&books.orders[row].status);
        }
        self.live.retain(|(place, _)| orders[*place].status.is_live());
        for trade in &self.exchange.trades()[books.trades.len()..] {
            let order = self.exchange.order_of(trade);
            books.trades.push(BrokerTrade {
                order_id: order.id.clone(),
                symbol: order.spec.symbol.clone(),
                exchange: order.spec.exchange.clone(),
                side: order.spec.side,
                quantity: trade.quantity,
                average_price: trade.price,
                trade_id: None,
                timestamp: String::new(),
            });
        }
    }

    /// Rupees that were got for what was sold, less those paid for what was bought.
    pub fn earned(&self) -> Rupees {
        let sums = self.exchange.trades().iter().map(|trade| {
            let order = self.exchange.order_of(trade);
            let spec = &self.exchange.listing(&order.key()).expect("it is listed").spec;
            let value = trade.price.0 * trade.quantity.decimal() * spec.rupees_per_point_per_unit();
            if order.spec.side == Side::Sell { value } else { -value }
        });
        Rupees(sums.sum::<Decimal>())
    }

    /// Units of everything that is held.
    pub fn held(&self) -> Quantity {
        self.exchange.holdings().map(|holding| holding.quantity).sum()
    }
}

fn status(status: core::OrderStatus) -> OrderStatus {
    match status {
        core::OrderStatus::Open => OrderStatus::Open,
        core::OrderStatus::TriggerPending => OrderStatus::TriggerPending,
        core::OrderStatus::Complete => OrderStatus::Complete,
        core::OrderStatus::Rejected => OrderStatus::Rejected,
        core::OrderStatus::Cancelled => OrderStatus::Cancelled,
    }
}

fn shown(order: &core::Order) -> BrokerOrder {
    BrokerOrder {
        rejection_reason: Some(order.rejection_reason.clone()).filter(|reason| !reason.is_empty()),
        ..row(&order.id, &order.spec, status(order.status))
    }
}
