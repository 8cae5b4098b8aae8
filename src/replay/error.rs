//! Why a replay, or one question to the cluster, failed.

use std::time::Duration;

use crate::domain::export::ExportError;

/// Why a replay, or one question to the cluster, failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The export's time line cannot be made.
    #[error("the export cannot be replayed")]
    Export(#[from] ExportError),
    /// No address was given.
    #[error("no address of an instance is known; give one, e.g. http://127.0.0.1:8080")]
    NoAddress,
    /// The HTTP client could not be made.
    #[error("cannot make an HTTP client; see the cause")]
    Client(#[source] reqwest::Error),
    /// No instance gave a usable answer before the deadline.
    #[error("{what}: no instance answered within {} s (last, {address}: {why}); is the cluster up?", waited.as_secs())]
    Unanswered {
        /// The question.
        what: String,
        /// How long it was put.
        waited: Duration,
        /// The instance asked last.
        address: String,
        /// What went wrong there.
        why: String,
    },
    /// An instance understood and refused.
    #[error("{what}: {address} answered {status}: {detail}{}", advice(*status))]
    Refused {
        /// The question.
        what: String,
        /// Who refused.
        address: String,
        /// HTTP status.
        status: u16,
        /// What it said.
        detail: String,
    },
    /// An answer that this version cannot read.
    #[error("{what}: the answer of {address} has another form: {why}; is it an instance of this version?")]
    Unreadable {
        /// The question.
        what: String,
        /// Who answered.
        address: String,
        /// The first thing that does not fit.
        why: String,
    },
    /// A signal did not become final in time.
    #[error("signal {id} ({row}) is still {status} after {} s; look at its orders, one may be in doubt", waited.as_secs())]
    Unfinished {
        /// The signal's id.
        id: String,
        /// The sender's id, or a name for it.
        row: String,
        /// Its status then.
        status: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The paper bridge's price could not be set.
    #[error("cannot set the price of {symbol} over {url}: {why}; check --paper-control and the contract")]
    Price {
        /// The contract.
        symbol: String,
        /// The control port.
        url: String,
        /// What went wrong.
        why: String,
    },
}

fn advice(status: u16) -> &'static str {
    match status {
        401 | 403 => "; give the cluster's token (signals.token)",
        404 => "; is that the base URL of an instance?",
        _ => "",
    }
}
