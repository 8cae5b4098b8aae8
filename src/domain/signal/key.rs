//! The idempotency key: the sender's id, or a hash of what makes the signal itself.
//!
//! A sender's id lives in its strategy's namespace: `<strategy>/<id>`. Strategy names hold neither `/` nor `:`,
//! so no id of one strategy can look like another's, nor like a hash. `timestamp` is left out of the hash: a
//! repeat of the same alert carries a new one.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use super::SignalType;
use crate::domain::ids::SignalKey;
use crate::domain::label::Target;

/// Makes the key. `bar_time` counts to its minute.
pub fn derive_key(
    sender_id: Option<&str>,
    strategy: &str,
    instrument: &str,
    kind: SignalType,
    target: Option<Target>,
    bar_time: DateTime<Utc>,
) -> SignalKey {
    if let Some(id) = sender_id {
        return SignalKey(format!("{strategy}/{id}"));
    }
    let position = target.map_or_else(|| "-".to_owned(), |target| target.to_string());
    let minute = bar_time.format("%Y-%m-%dT%H:%MZ");
    let digest = Sha256::digest(format!("{strategy}|{instrument}|{kind}|{position}|{minute}"));
    let mut text = String::with_capacity(7 + 64);
    text.push_str("sha256:");
    for byte in digest {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
    }
    SignalKey(text)
}
