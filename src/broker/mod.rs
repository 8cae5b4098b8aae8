//! The bridge client: every order goes out through here, and every answer is judged here.
//!
//! The bridge has no idempotency: the same body twice is two orders, and its answer to a failed order is often
//! the same whether or not the order exists. Two decisions follow. Orders and reads never share a path: an order
//! is written once, on a connection of our own that is known to be warm, and is never retried; reads go through
//! an ordinary pooled client and may be retried. And one table ([`outcome`]) says what an answer proves;
//! whatever it does not prove is *in doubt*, and only the broker's books ([`matching`]) resolve that. What differs from
//! broker to broker is a table ([`plugin`]), not a branch.
//!
//! ```text
//! place/modify/cancel ─ budget ─ warm connection ─ serialise ─ may_send? ─ write ─ outcome ─▶ Submission
//! books, positions, quote, funds … ─ reads (pooled, bounded retry) ─ books ─▶ typed rows
//! ```

mod books;
mod budget;
pub mod dns;
mod json;
pub mod matching;
mod openalgo;
pub mod outcome;
pub mod plugin;
mod reads;
pub mod session;
mod settings;
mod tls;
mod types;
mod unchanged;
mod warm;
mod wire;

use chrono::NaiveDate;
use futures_util::future::BoxFuture;

use crate::domain::contract::Contract;
use crate::domain::listing::Listing;
use crate::domain::market::Candle;
use crate::domain::order::{OrderClass, OrderSpec};
use crate::domain::sessions::{Holiday, Session};

pub use budget::Ahead;
pub use openalgo::OpenAlgo;
pub use plugin::Plugin;
pub use settings::{Settings, SettingsError, SharedBudget};
pub(crate) use tls::client_config as tls_config;
pub use types::{
    Books, BridgeMode, BrokerError, BrokerOrder, BrokerPosition, BrokerTrade, ForeignRow, Funds, MaySend,
    NotSentCause, OrderStatus, Quote, Quoted, Submission, Ticket, WrongMode,
};

/// A broker as the engine sees it. Object safe: used as `Arc<dyn Broker>`.
///
/// The order verbs return a [`Submission`] and never an error: each outcome is one of its four arms. Dropping
/// their future after the write has begun leaves the outcome in doubt; the connection is then reset, so that
/// bytes not yet delivered are discarded.
pub trait Broker: Send + Sync + 'static {
    /// Asks for a place in the rate budget for an order that is still being journaled: the wait for it and for the journal are
    /// one. It sends nothing, and is given back where it is dropped. None where a place is waited for by the order alone.
    fn ahead(&self, class: OrderClass) -> Option<Ahead> {
        let _ = class;
        None
    }

    /// Places `order`, once, without any retry.
    fn place<'a>(&'a self, order: &'a OrderSpec, ticket: Ticket<'a>) -> BoxFuture<'a, Submission>;

    /// Changes the resting order `order_id` to what `order` says. *Acknowledged* means the request was taken.
    fn modify<'a>(
        &'a self,
        order_id: &'a str,
        order: &'a OrderSpec,
        ticket: Ticket<'a>,
    ) -> BoxFuture<'a, Submission>;

    /// Asks for the cancel of `order_id`. *Acknowledged* means the request was taken, not that the order is
    /// cancelled: a fill may have crossed it.
    fn cancel<'a>(&'a self, order_id: &'a str, ticket: Ticket<'a>) -> BoxFuture<'a, Submission>;

    /// Reads the order book and then the trade book, so that a trade is never missing for a fill that the
    /// order book already shows.
    ///
    /// Here and below, a book without a row is the broker's word only from a session that proves itself alive before it and
    /// after it: from a dead one it is [`BrokerError::SessionExpired`].
    fn books(&self) -> BoxFuture<'_, Result<Books, BrokerError>>;

    /// Reads the order book; rows of kinds that this agent never sends are left out (see [`Books::foreign`]).
    fn orders(&self) -> BoxFuture<'_, Result<Vec<BrokerOrder>, BrokerError>>;

    /// Reads the trade book: several rows per order are partial fills.
    fn trades(&self) -> BoxFuture<'_, Result<Vec<BrokerTrade>, BrokerError>>;

    /// Reads the position book. An error is *unknown*, never flat.
    fn positions(&self) -> BoxFuture<'_, Result<Vec<BrokerPosition>, BrokerError>>;

    /// Reads one quote. The bridge gives no time with it, so its age is unknown.
    fn quote<'a>(&'a self, symbol: &'a str, exchange: &'a str) -> BoxFuture<'a, Result<Quote, BrokerError>>;

    /// Reads the quotes of several listings at once; one that has none gives its reason, not an error of the whole.
    /// Not repeated on failure: who asks for many asks again soon.
    fn quotes<'a>(&'a self, listings: &'a [Listing]) -> BoxFuture<'a, Result<Vec<Quoted>, BrokerError>>;

    /// Reads the minute candles of a day so far, in the order of time; the last one may be in progress.
    fn history<'a>(
        &'a self,
        listing: &'a Listing,
        day: NaiveDate,
    ) -> BoxFuture<'a, Result<Vec<Candle>, BrokerError>>;

    /// Reads the funds. A dead broker session answers "success" without data:
    /// [`BrokerError::SessionExpired`].
    fn funds(&self) -> BoxFuture<'_, Result<Funds, BrokerError>>;

    /// Reads whether the bridge trades live or only simulates.
    fn mode(&self) -> BoxFuture<'_, Result<BridgeMode, BrokerError>>;

    /// Reads a contract's data.
    fn symbol<'a>(
        &'a self,
        symbol: &'a str,
        exchange: &'a str,
    ) -> BoxFuture<'a, Result<Contract, BrokerError>>;

    /// Reads the sessions of a day from the bridge's calendar; an exchange without one is closed.
    fn timings(&self, day: NaiveDate) -> BoxFuture<'_, Result<Vec<Session>, BrokerError>>;

    /// Reads a year's days that are not as usual.
    fn holidays(&self, year: i32) -> BoxFuture<'_, Result<Vec<Holiday>, BrokerError>>;

    /// Checks that the bridge answers and takes the API key. Says nothing about the broker session.
    fn ping(&self) -> BoxFuture<'_, Result<(), BrokerError>>;
}
