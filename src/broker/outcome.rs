//! The one table that says what an answer to an order request proves.
//!
//! Pure: bytes in, [`Submission`] out. Whatever no row names is **in doubt**: the bridge returns the same answer
//! for many faults whether or not the order exists at the broker, so silence and errors prove nothing.
//!
//! | answer | outcome |
//! |---|---|
//! | connection refused, request handed back unwritten, withheld by `may_send` | not sent |
//! | 200 `success`, order id, our mode | acknowledged |
//! | 200 `success`, order id, the other mode | in doubt, `wrong_mode` with the order id |
//! | 200 `success`, `mode: semi_auto`, no order id | not sent (queued for a human) |
//! | 200 `success`, `orderid: null` | rejected (the broker refused with HTTP 200) where the plugin refuses so, else in doubt |
//! | 200 `error` with a message and no order id | rejected |
//! | 400 with validation text | not sent |
//! | 400 `error` with a message | rejected; with an order id only in analyze mode |
//! | 403 "Invalid openalgo apikey" | not sent (session) |
//! | 404 as JSON | place: not sent; modify, cancel of an unknown order: rejected |
//! | 429 "N per N unit" | not sent (the bridge's own limit) |
//! | anything else: timeout, reset, half an answer, HTML, 5xx, the broker's own 403 and 429 | in doubt |

use serde_json::Value;

use super::json::{self, Object};
use super::plugin::Plugin;
use super::types::{BridgeMode, NotSentCause, Submission, WrongMode};

/// Which order request was answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// A new order.
    Place,
    /// A change of a resting order.
    Modify,
    /// A cancel.
    Cancel,
}

/// A complete answer of the bridge.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The `content-type` header, if there was one.
    pub content_type: Option<String>,
    /// The whole body.
    pub body: Vec<u8>,
}

/// Why no complete answer came.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// No connection: nothing can have been written.
    #[error("no connection to the bridge: {0}; check that it runs and that broker.url is right")]
    Connect(String),
    /// The connection ended before the HTTP client took the request up; it handed the request back.
    #[error("the connection ended before the order was written: {0}")]
    HandedBack(String),
    /// `may_send` said no, or the time was up: nothing was written.
    #[error("past its deadline")]
    Withheld,
    /// The cluster's order budget had no room in time: nothing was written.
    #[error("the order budget had no room within {0} ms")]
    Budget(u128),
    /// Written, and no complete answer within the time limit.
    #[error("no answer within {0} ms; the bridge waits up to 120 s for the broker")]
    TimedOut(u128),
    /// Written, and the connection or the answer broke.
    #[error("the answer was lost: {0}")]
    Broken(String),
}

/// What a fault proves.
pub fn of_fault(fault: &Fault) -> Submission {
    let reason = fault.to_string();
    let cause = match fault {
        Fault::Connect(_) => NotSentCause::Connect,
        Fault::HandedBack(_) => NotSentCause::ConnectionLost,
        Fault::Withheld => NotSentCause::Deadline,
        Fault::Budget(_) => NotSentCause::RateLimited,
        Fault::TimedOut(_) | Fault::Broken(_) => return in_doubt(reason),
    };
    Submission::NotSent { reason, cause }
}

/// What an answer to `verb` proves, for an agent armed for `armed` and a bridge with this broker plugin.
pub fn of_answer(verb: Verb, armed: BridgeMode, plugin: &Plugin, answer: &Answer) -> Submission {
    let status = answer.status;
    let Some(body) = object(answer) else {
        let text = String::from_utf8_lossy(&answer.body);
        return in_doubt(format!("HTTP {status} without a JSON object: {}", json::clip(text.trim())));
    };
    if let Some(wrong) = wrong_mode(verb, armed, status, &body) {
        let said = json::message(&body);
        return Submission::InDoubt {
            reason: format!(
                "the bridge answered in {} mode but this agent is armed for {armed}: {said}",
                wrong.found
            ),
            wrong_mode: Some(wrong),
        };
    }
    let said = json::message(&body);
    match status {
        200 => of_success(plugin, &body, &said),
        400 => of_bad_request(armed, &body, &said),
        403 if said.trim() == "Invalid openalgo apikey" => not_sent(NotSentCause::SessionExpired, said),
        // Unknown routes carry their path; without one a modify or cancel names an order that is not there.
        404 if verb == Verb::Place || body.contains_key("path") => not_sent(NotSentCause::UnknownRoute, said),
        404 if is(&body, "status", "error") => rejected(said),
        429 if is_bridge_limit(&said) => not_sent(NotSentCause::RateLimited, said),
        _ => in_doubt(format!("HTTP {status}: {said}")),
    }
}

fn of_success(plugin: &Plugin, body: &Object, said: &str) -> Submission {
    let id = body.get("orderid");
    if is(body, "status", "error") && id.is_none_or(json::is_blank) && has_message(body) {
        return rejected(said.to_owned());
    }
    if !is(body, "status", "success") {
        return in_doubt(format!("HTTP 200 without success: {said}"));
    }
    match (id, order_id(body)) {
        _ if is(body, "mode", "semi_auto") && id.is_none() => {
            not_sent(NotSentCause::QueuedForHuman, said.to_owned())
        }
        // A mode that nobody documented: whatever it did with the order is unknown.
        _ if unknown_mode(body) => in_doubt("HTTP 200 in an unknown mode".to_owned()),
        (_, Some(order_id)) => Submission::Acknowledged { order_id },
        (Some(Value::Null), _) if plugin.null_id_refuses => {
            rejected(format!("the broker gave no order id: {said}"))
        }
        _ => in_doubt(format!("success without a usable order id: {said}")),
    }
}

fn rejected(reason: String) -> Submission {
    Submission::Rejected { reason, order_id: None }
}

fn of_bad_request(armed: BridgeMode, body: &Object, said: &str) -> Submission {
    if is_validation(body) {
        return not_sent(NotSentCause::Validation, said.to_owned());
    }
    if !is(body, "status", "error") || !has_message(body) {
        return in_doubt(format!("HTTP 400: {said}"));
    }
    // The sandbox books its refusals as orders, with an id. From a live bridge refusal and id contradict.
    let sandbox = armed == BridgeMode::Analyze && is(body, "mode", "analyze");
    match body.get("orderid") {
        Some(id) if !json::is_blank(id) && !sandbox => {
            in_doubt(format!("HTTP 400 with order id {id}: {said}"))
        }
        _ => Submission::Rejected { reason: said.to_owned(), order_id: order_id(body) },
    }
}

/// The mode the answer was given in, if it contradicts the armed one.
fn wrong_mode(verb: Verb, armed: BridgeMode, status: u16, body: &Object) -> Option<WrongMode> {
    let found = match body.get("mode") {
        Some(Value::String(mode)) => mode.parse().ok()?,
        // Only the sandbox names itself, so a placed order's answer without a mode came from a live bridge.
        None | Some(Value::Null) if verb == Verb::Place && status == 200 && is(body, "status", "success") => {
            BridgeMode::Live
        }
        _ => return None,
    };
    (found != armed).then(|| WrongMode { found, order_id: order_id(body) })
}

fn unknown_mode(body: &Object) -> bool {
    match body.get("mode") {
        None | Some(Value::Null) => false,
        Some(Value::String(mode)) => mode.parse::<BridgeMode>().is_err(),
        Some(_) => true,
    }
}

/// A usable order id: text, or a positive whole number.
fn order_id(body: &Object) -> Option<String> {
    match body.get("orderid")? {
        Value::Number(number) if number.as_u64().is_some_and(|id| id > 0) => Some(number.to_string()),
        value @ Value::String(_) => {
            json::text(value).filter(|id| !matches!(id.as_str(), "None" | "null" | "nan" | "0"))
        }
        _ => None,
    }
}

/// The bridge's own validation: an object, its Python text, or Flask's word for broken JSON.
fn is_validation(body: &Object) -> bool {
    match body.get("message") {
        Some(Value::Object(fields)) => !fields.is_empty(),
        Some(Value::String(text)) => {
            text.starts_with("{'")
                || text.starts_with("{\"")
                || (!body.contains_key("status") && text.starts_with("The browser (or proxy) sent"))
        }
        _ => false,
    }
}

/// `^\d+ per \d+ \w+`: the bridge's own limiter. A broker's 429 reads otherwise and proves nothing.
fn is_bridge_limit(said: &str) -> bool {
    let mut words = said.split(' ');
    let number =
        |word: Option<&str>| word.is_some_and(|w| !w.is_empty() && w.bytes().all(|b| b.is_ascii_digit()));
    number(words.next())
        && words.next() == Some("per")
        && number(words.next())
        && words.next().is_some_and(|w| w.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
}

fn object(answer: &Answer) -> Option<Object> {
    let json = answer.content_type.as_deref().is_none_or(|kind| kind.to_ascii_lowercase().contains("json"));
    if !json {
        return None;
    }
    match serde_json::from_slice(&answer.body) {
        Ok(Value::Object(body)) => Some(body),
        _ => None,
    }
}

fn is(body: &Object, field: &str, word: &str) -> bool {
    body.get(field).and_then(Value::as_str) == Some(word)
}

fn has_message(body: &Object) -> bool {
    body.get("message").is_some_and(|message| !json::is_blank(message))
}

fn in_doubt(reason: String) -> Submission {
    Submission::InDoubt { reason, wrong_mode: None }
}

fn not_sent(cause: NotSentCause, reason: String) -> Submission {
    Submission::NotSent { reason, cause }
}

#[cfg(test)]
mod tests;
