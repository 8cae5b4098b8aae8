//! Misfortunes to order, switchable while the bridge runs.
//!
//! A [`Rule`] is a [`Fault`] with an aim: a verb, a symbol, a number of times, a probability. A request draws its
//! rules once, after its JSON was read and before it is validated. Rules that decide how the request *ends* (a cut, a
//! refusal, an error) exclude each other: the oldest that matches wins and only it is used up. Rules that *shape*
//! (hang, hide, delay) add up. Rules that describe a *state* (session, tick silence, stale books) hold while
//! they exist and are never used up; a stalled upstream heals by itself when all have left.
//!
//! On the control port, with defaults shown for what may be left out:
//! `{"fault":{"kind":"lost_ack_after"},"verb":null,"symbol":null,"count":null,"probability":1.0}`.

use serde::{Deserialize, Serialize};

use super::http::Verb;
use super::rng::Rng;

/// Everything that can go wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// Ends: the connection is cut, nothing was done.
    LostAckBefore,
    /// Ends: it was done, then the connection is cut without a byte of answer.
    LostAckAfter,
    /// Shapes: waits before doing it.
    HangBefore {
        /// Milliseconds.
        ms: u64,
    },
    /// Shapes: does it, then waits before answering.
    HangAfter {
        /// Milliseconds.
        ms: u64,
    },
    /// Shapes a cancel or a modify: answered at once with success, done later, when it may be too late.
    TakesLate {
        /// Milliseconds.
        ms: u64,
    },
    /// Ends: not done; HTTP 200, `success` and `orderid: null`, as brokers do who refuse over 200.
    NullOrderid,
    /// Ends: the broker's error code and text are passed through, whether or not it was done.
    BrokerError {
        /// HTTP status: 400, 403, 429, 500 or 504.
        status: u16,
        /// The broker's text; a plausible one when left out.
        message: Option<String>,
        /// Whether it was done nevertheless.
        #[serde(default)]
        placed: bool,
    },
    /// Ends: HTTP 502 and an HTML page from the proxy before the bridge.
    BadGateway {
        /// Whether it was done nevertheless.
        #[serde(default)]
        placed: bool,
    },
    /// Ends: the bridge's own limiter answers 429; nothing was done.
    RateLimited,
    /// Ends: the bridge queues it for a human; success without an `orderid`, nothing was done.
    SemiAuto,
    /// Shapes: the answer's `orderid` is a number.
    NumericOrderid,
    /// Shapes: the answer has the other mode's shape.
    WrongMode,
    /// State: the broker's token is dead, the bridge has not noticed (OPENALGO.md, "Session expiry").
    SessionExpired,
    /// State: as [`SessionExpired`](Self::SessionExpired), but the books are answered, and empty.
    EmptyBooks,
    /// State: the bridge has revoked the session: 403 "Invalid openalgo apikey" everywhere.
    SessionRevoked,
    /// State: no ticks for the rule's symbol, or for any; sockets stay open and pings are answered.
    TickSilence,
    /// State: the proxy's link to its broker has stalled: no ticks, while sockets, answers and the session are as ever. It
    /// is made anew, and the rule is gone with it, when the last authenticated socket has left, or by a login.
    StalledUpstream,
    /// State: the order book shows every live order as complete, as a known plug-in bug does.
    StaleStatus,
    /// State: the order book shows every live order in the state of the row before it, and with none before it answers
    /// 500, as some plug-ins do with orders in transit.
    InheritedStatus,
    /// State: rows of the position book have neither `ltp` nor `pnl`, as some plug-ins' have.
    BarePositions,
    /// State: rows of the position book say `last_price` for `ltp`, as some plug-ins' do.
    RenamedLastPrice,
    /// State: trades have an average price of zero, before the broker's own book has it.
    ZeroAverages,
    /// State: the WebSocket proxy is down: sockets are closed as they come. The REST interface is not concerned.
    StreamDown,
    /// State: the list of contracts is being refilled: the rule's symbol, or any, is unknown to quotes and `symbol`.
    ContractsGone,
    /// Shapes an order: the broker's risk control refuses it once it is taken. A live bridge has acknowledged it by then;
    /// the sandbox answers 400 with the id of the row that its book has of it.
    RiskRefusal,
    /// Shapes an order: its first fill comes later.
    SlowFills {
        /// Milliseconds added to the latency.
        ms: u64,
    },
    /// Shapes an order: accepted and answered, but in no book, stream or match before its time.
    Hidden {
        /// Milliseconds.
        ms: u64,
    },
    /// Shapes an order: each of its updates is sent more than once.
    DuplicateUpdates {
        /// How often it is sent in all.
        copies: u32,
    },
    /// Shapes an order: its updates come late (after the HTTP answer).
    DelayUpdates {
        /// Milliseconds.
        ms: u64,
    },
    /// Shapes an order: its updates never come.
    LoseUpdates,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Nature {
    Ends,
    Shapes,
    ShapesOrder,
    State,
}

impl Fault {
    fn nature(&self) -> Nature {
        match self {
            Self::LostAckBefore
            | Self::LostAckAfter
            | Self::NullOrderid
            | Self::BrokerError { .. }
            | Self::BadGateway { .. }
            | Self::RateLimited
            | Self::SemiAuto => Nature::Ends,
            Self::HangBefore { .. }
            | Self::HangAfter { .. }
            | Self::TakesLate { .. }
            | Self::NumericOrderid
            | Self::WrongMode => Nature::Shapes,
            Self::RiskRefusal
            | Self::SlowFills { .. }
            | Self::Hidden { .. }
            | Self::DuplicateUpdates { .. }
            | Self::DelayUpdates { .. }
            | Self::LoseUpdates => Nature::ShapesOrder,
            Self::SessionExpired
            | Self::EmptyBooks
            | Self::SessionRevoked
            | Self::TickSilence
            | Self::StalledUpstream
            | Self::StaleStatus
            | Self::InheritedStatus
            | Self::BarePositions
            | Self::RenamedLastPrice
            | Self::ZeroAverages
            | Self::StreamDown
            | Self::ContractsGone => Nature::State,
        }
    }
}

/// What a rule is aimed at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Every route.
    Any,
    /// This route.
    #[serde(untagged)]
    Verb(Verb),
}

fn always() -> f64 {
    1.0
}

/// A fault and its aim.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What goes wrong.
    pub fault: Fault,
    /// Which route, or `"any"`. Left out: the routes that change orders; for what shapes an order, placeorder.
    #[serde(default)]
    pub verb: Option<Target>,
    /// Only requests about this symbol (a cancel or modify is about its order's symbol).
    #[serde(default)]
    pub symbol: Option<String>,
    /// How many requests it meets before it is used up; left out: any number.
    #[serde(default)]
    pub count: Option<u32>,
    /// Chance that a request it is aimed at meets it.
    #[serde(default = "always")]
    pub probability: f64,
}

impl Rule {
    /// A fault without further aim: meets every order request until it is taken away.
    pub fn every(fault: Fault) -> Self {
        Self { fault, verb: None, symbol: None, count: None, probability: always() }
    }

    /// A fault that meets the next request of a verb, once.
    pub fn once(fault: Fault, verb: Verb) -> Self {
        Self { verb: Some(Target::Verb(verb)), count: Some(1), ..Self::every(fault) }
    }

    fn aims_at(&self, verb: Verb, symbol: Option<&str>) -> bool {
        let verb_fits = match (self.verb, self.fault.nature()) {
            (Some(Target::Any), _) => true,
            (Some(Target::Verb(wanted)), _) => wanted == verb,
            (None, Nature::ShapesOrder) => verb == Verb::PlaceOrder,
            (None, _) => verb.changes_orders(),
        };
        verb_fits && self.symbol.as_deref().is_none_or(|wanted| symbol == Some(wanted))
    }
}

/// A rule in force.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Active {
    /// Its number, for taking it away.
    pub id: u64,
    /// Fault, aim, and the count that is left.
    #[serde(flatten)]
    pub rule: Rule,
    /// How many requests have met it.
    pub hits: u64,
}

/// Why a rule is not put in force.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum BadRule {
    /// A count of zero.
    #[error("a rule with count 0 is never met: leave count out for any number")]
    NeverMet,
    /// Not a probability.
    #[error("probability {0} is not between 0 and 1")]
    Probability(f64),
    /// The list is full.
    #[error("{MAX_RULES} fault rules are in force already: DELETE /_ctl/faults first")]
    TooMany,
}

/// What one request meets.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Plan {
    /// At most one fault that decides the end.
    pub(super) end: Option<Fault>,
    /// All that shape the way.
    pub(super) shapes: Vec<Fault>,
}

impl Plan {
    /// Names of the faults, for the log.
    pub(super) fn names(&self) -> Vec<serde_json::Value> {
        self.end.iter().chain(&self.shapes).filter_map(|fault| serde_json::to_value(fault).ok()).collect()
    }
}

/// The rules in force.
#[derive(Clone, Debug)]
pub(super) struct Faults {
    rules: Vec<Active>,
    next_id: u64,
    rng: Rng,
}

/// More rules than a test could mean; bounds the work per request.
const MAX_RULES: usize = 256;

impl Faults {
    pub(super) fn new(seed: u64) -> Self {
        Self { rules: Vec::new(), next_id: 1, rng: Rng::new(seed ^ 0x00fa_0175) }
    }

    /// Puts rules in force and gives their numbers: all of them, or none.
    pub(super) fn add(&mut self, rules: Vec<Rule>) -> Result<Vec<u64>, BadRule> {
        for rule in &rules {
            if rule.count == Some(0) {
                return Err(BadRule::NeverMet);
            }
            if !(0.0..=1.0).contains(&rule.probability) {
                return Err(BadRule::Probability(rule.probability));
            }
        }
        if self.rules.len() + rules.len() > MAX_RULES {
            return Err(BadRule::TooMany);
        }
        let first = self.next_id;
        for rule in rules {
            self.rules.push(Active { id: self.next_id, rule, hits: 0 });
            self.next_id += 1;
        }
        Ok((first..self.next_id).collect())
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    /// Takes away every rule of a fault that has healed.
    pub(super) fn heal(&mut self, fault: &Fault) {
        self.rules.retain(|active| active.rule.fault != *fault);
    }

    pub(super) fn remove(&mut self, id: u64) -> bool {
        let before = self.rules.len();
        self.rules.retain(|active| active.id != id);
        self.rules.len() < before
    }

    pub(super) fn active(&self) -> &[Active] {
        &self.rules
    }

    /// Draws what a request meets, and uses the rules up.
    pub(super) fn draw(&mut self, verb: Verb, symbol: Option<&str>) -> Plan {
        let mut plan = Plan::default();
        for active in &mut self.rules {
            let ends = active.rule.fault.nature() == Nature::Ends;
            if active.rule.fault.nature() == Nature::State
                || !active.rule.aims_at(verb, symbol)
                || ends && plan.end.is_some()
                || !self.rng.chance(active.rule.probability)
            {
                continue;
            }
            active.hits += 1;
            if let Some(count) = &mut active.rule.count {
                *count = count.saturating_sub(1);
            }
            if ends {
                plan.end = Some(active.rule.fault.clone());
            } else {
                plan.shapes.push(active.rule.fault.clone());
            }
        }
        self.rules.retain(|active| active.rule.count != Some(0));
        plan
    }

    /// Whether a state fault is in force, for a symbol if the rule names one.
    pub(super) fn holds(&self, fault: &Fault, symbol: Option<&str>) -> bool {
        self.rules.iter().any(|active| {
            active.rule.fault == *fault
                && active.rule.symbol.as_deref().is_none_or(|wanted| symbol == Some(wanted))
        })
    }
}

#[cfg(test)]
mod tests;
