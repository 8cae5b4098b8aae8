//! Which strategies may enter: their kinds, and what operators said of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Kind;
use crate::domain::refusal::Refusal;

/// The strategy of signals that name none.
pub const DEFAULT: &str = "default";

/// Every strategy that is configured, and what was said of it and of others.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct States {
    kinds: BTreeMap<String, Kind>,
    /// None before it was read: then the journal alone decides.
    said: Option<BTreeMap<String, bool>>,
}

impl States {
    /// The configured strategies, of which nothing was read yet.
    pub fn of(kinds: BTreeMap<String, Kind>) -> Self {
        Self { kinds, said: None }
    }

    /// The configured names with [`DEFAULT`], sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.kinds.keys().cloned().collect();
        names.push(DEFAULT.to_owned());
        names.sort();
        names.dedup();
        names
    }

    /// A strategy's name as metrics label it: senders may name any number, so what is not configured is `other`.
    pub fn label<'a>(&self, name: &'a str) -> &'a str {
        if name == DEFAULT || self.kinds.contains_key(name) { name } else { "other" }
    }

    /// The kind of a strategy: a name that is not configured is a sender's.
    pub fn kind(&self, name: &str) -> Kind {
        self.kinds.get(name).copied().unwrap_or(Kind::Webhook)
    }

    /// Whether a strategy of which `said` was said may enter.
    pub fn is_on(&self, name: &str, said: Option<bool>) -> bool {
        said.unwrap_or_else(|| self.kind(name).is_on_by_default())
    }

    /// Whether a strategy may enter as far as is known; false before anything was read.
    pub fn may_enter(&self, name: &str) -> bool {
        self.said.as_ref().is_some_and(|said| self.is_on(name, said.get(name).copied()))
    }

    /// Why an entry of the strategy is refused, if it is known to be off.
    pub fn refusal(&self, name: &str) -> Option<Refusal> {
        (self.said.is_some() && !self.may_enter(name)).then(|| disabled(name))
    }

    /// The same strategies, with what was said now.
    #[must_use]
    pub fn saying(&self, said: BTreeMap<String, bool>) -> Self {
        Self { kinds: self.kinds.clone(), said: Some(said) }
    }
}

/// Why an entry of a strategy that is off is refused.
pub fn disabled(name: &str) -> Refusal {
    Refusal::new(
        "STRATEGY_DISABLED",
        format!("strategy {name} is disabled: it enters nothing; its exits act and its stops are watched"),
    )
}

/// What is known at the moment, for everybody in the process; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct StateWatch(Arc<ArcSwap<States>>);

impl StateWatch {
    /// Begins with the configured strategies.
    pub fn of(kinds: BTreeMap<String, Kind>) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(States::of(kinds))))
    }

    /// What is known now.
    pub fn load(&self) -> Arc<States> {
        self.0.load_full()
    }

    /// Takes in what was read of all strategies.
    pub fn heard(&self, said: BTreeMap<String, bool>) {
        self.0.store(Arc::new(self.load().saying(said)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_wins_over_the_kind_and_nothing_is_refused_before_it_was_read() {
        let kinds = BTreeMap::from([("vwap".to_owned(), Kind::SessionVwap)]);
        let unread = States::of(kinds);
        assert_eq!((unread.refusal("vwap"), unread.may_enter("vwap")), (None, false));
        assert_eq!(unread.names(), [DEFAULT, "vwap"]);
        let read = unread.saying(BTreeMap::new());
        assert_eq!(read.refusal("vwap").unwrap().code, "STRATEGY_DISABLED");
        assert!(read.refusal(DEFAULT).is_none() && read.refusal("a_senders").is_none());
        let said = BTreeMap::from([("vwap".to_owned(), true), (DEFAULT.to_owned(), false)]);
        let said = read.saying(said);
        assert!(said.may_enter("vwap") && !said.may_enter(DEFAULT) && said.may_enter("a_senders"));
        assert!(said.refusal(DEFAULT).unwrap().sentence.contains("strategy default is disabled"));
    }
}
