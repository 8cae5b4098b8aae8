//! What a term is told, and why it ends.

use std::collections::BTreeSet;
use std::sync::Arc;

use ha::Moment;

use crate::broker::{BrokerError, BrokerPosition};
use crate::domain::ids::SignalId;
use crate::domain::listing::Listing;
use crate::domain::money::Price;
use crate::domain::portfolio::Quotes;
use crate::engine::evidence::Reading;
use crate::engine::outcomes::Outcome;
use crate::engine::requests::Answered;
use crate::ledger::LedgerError;

/// What the loop is told.
#[derive(Debug)]
pub enum Event {
    /// An order's submission ended.
    Outcome(Outcome),
    /// A signal's quotes are here; what could not be read is missing.
    Quoted {
        /// Whose.
        id: SignalId,
        /// Live prices.
        quotes: Quotes,
        /// When the last of them came.
        at: Moment,
        /// The symbols that gave none, with the reason.
        failures: Vec<String>,
    },
    /// An instrument's quotes that were asked for ahead of its signal are here, or not all of them.
    Ahead {
        /// Whose.
        instrument: String,
        /// Live prices.
        quotes: Option<Quotes>,
        /// When the last of them came.
        at: Moment,
    },
    /// The second quote of a listing whose price jumped to a stop, or none.
    Confirmed {
        /// Of what.
        listing: Listing,
        /// The quote.
        quote: Option<Price>,
        /// When it was asked for.
        asked: Moment,
    },
    /// A cancel or a modify has its answer: what became of the order the books will tell.
    Answered(Answered),
    /// The books were read, or not.
    Books(Result<Reading, BrokerError>),
    /// The position book was read for exits that wait for it, or not.
    Held {
        /// What the broker holds.
        book: Result<Vec<BrokerPosition>, BrokerError>,
        /// Symbols that somebody closes without the ledger.
        marked: BTreeSet<String>,
        /// When the first of it was asked for.
        begun: Moment,
    },
}

/// Why a term ended.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// The fence was closed: another leads, or nobody.
    #[error("{0}")]
    Fenced(Arc<str>),
    /// The ledger failed in a way that leaves the memory behind the truth.
    #[error("the ledger failed: {0}")]
    Ledger(LedgerError),
    /// Asked to stop; everything sent is answered or in doubt.
    #[error("drained")]
    Drained,
    /// Stored state was found damaged, or whole again: it is read back anew.
    #[error("stored state is to be read back anew")]
    Reread,
}
