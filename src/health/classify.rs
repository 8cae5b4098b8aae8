//! What a failed check asks for: patience, a change, or a person at the bridge.

use serde::Serialize;

use crate::broker::BrokerError;
use crate::ledger::LedgerError;

/// Who can mend a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Class {
    /// Time: a timeout, a name that does not resolve, a 5xx, a 429.
    Transient,
    /// A change of configuration: a bad key, a bad address.
    Permanent,
    /// A person at the bridge or the broker: an expired session, the wrong mode.
    Operator,
}

/// Classifies a failed read from the bridge.
pub fn of_broker(error: &BrokerError) -> Class {
    match error {
        BrokerError::Unreachable { .. } | BrokerError::TimedOut { .. } | BrokerError::RateLimited { .. } => {
            Class::Transient
        }
        BrokerError::Refused { status, .. } if *status >= 500 || matches!(status, 408 | 425 | 429) => {
            Class::Transient
        }
        BrokerError::Refused { .. } | BrokerError::Malformed { .. } => Class::Permanent,
        BrokerError::SessionExpired { .. } | BrokerError::WrongMode { .. } => Class::Operator,
    }
}

/// Classifies a failed ping of the bridge: it never asks the broker, so a refusal is about the key.
pub fn of_key(error: &BrokerError) -> Class {
    match error {
        BrokerError::SessionExpired { .. } => Class::Permanent,
        error => of_broker(error),
    }
}

/// Classifies a failed statement.
pub fn of_ledger(error: &LedgerError) -> Class {
    if error.is_refused_login() || !error.is_transient() { Class::Permanent } else { Class::Transient }
}

/// Classifies a failed request to Redis.
pub fn of_redis(error: &redis::RedisError) -> Class {
    match error.kind() {
        redis::ErrorKind::AuthenticationFailed | redis::ErrorKind::InvalidClientConfig => Class::Permanent,
        _ if error.code() == Some("NOAUTH") || error.code() == Some("WRONGPASS") => Class::Permanent,
        _ => Class::Transient,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::BridgeMode;

    // R: N2
    #[test]
    fn every_answer_of_the_bridge_has_its_class() {
        let route = "funds";
        let said = String::new;
        let refused = |status| BrokerError::Refused { route, status, said: said() };
        let wrong = BrokerError::WrongMode { expected: BridgeMode::Live, found: BridgeMode::Analyze };
        for (error, class, of_the_key) in [
            (BrokerError::Unreachable { route, reason: said() }, Class::Transient, Class::Transient),
            (BrokerError::TimedOut { route, within_ms: 1 }, Class::Transient, Class::Transient),
            (BrokerError::RateLimited { said: said() }, Class::Transient, Class::Transient),
            (refused(500), Class::Transient, Class::Transient),
            (refused(502), Class::Transient, Class::Transient),
            (refused(504), Class::Transient, Class::Transient),
            (refused(408), Class::Transient, Class::Transient),
            (refused(429), Class::Transient, Class::Transient),
            (refused(400), Class::Permanent, Class::Permanent),
            (refused(403), Class::Permanent, Class::Permanent),
            (refused(404), Class::Permanent, Class::Permanent),
            (BrokerError::Malformed { route, problem: said() }, Class::Permanent, Class::Permanent),
            (BrokerError::SessionExpired { said: said() }, Class::Operator, Class::Permanent),
            (wrong, Class::Operator, Class::Operator),
        ] {
            assert_eq!((of_broker(&error), of_key(&error)), (class, of_the_key), "{error}");
        }
    }
}
