//! Events counted by key until the recorder fetches them: bounded by the number of keys, whatever the number of events.
//!
//! Ten thousand equal errors a second are one row here, and one statement for the database. Raising takes a short lock
//! and never waits for anything else.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::event::{Event, Key, Severity};

/// Keys beyond this are counted under their kind alone; critical ones are let in up to four times as many.
pub const KEYS: usize = 512;

/// What one key has gathered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Occurrences.
    pub count: i64,
    /// The first and the last of them.
    pub span: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// The last text.
    pub message: String,
    /// Sources that say so now.
    pub raised: BTreeSet<&'static str>,
    /// Sources that say it is over.
    pub withdrawn: BTreeSet<&'static str>,
}

/// Every key's tally.
#[derive(Debug, Default)]
pub struct Tallies {
    keys: BTreeMap<Key, Tally>,
    /// Sources whose reports of an earlier process are over.
    pub fresh: BTreeSet<&'static str>,
    /// Events that were counted under their kind alone.
    pub overflowed: u64,
}

impl Tally {
    fn raise(&mut self, source: &'static str, message: String, at: DateTime<Utc>) {
        self.count += 1;
        self.span = Some((self.span.map_or(at, |(first, _)| first), at));
        self.message = message;
        self.withdrawn.remove(source);
        self.raised.insert(source);
    }

    /// Adds what was gathered later.
    pub fn absorb(&mut self, later: Self) {
        self.count += later.count;
        self.span = match (self.span, later.span) {
            (Some((first, _)), Some((_, last))) => Some((first, last)),
            (mine, theirs) => theirs.or(mine),
        };
        if !later.message.is_empty() {
            self.message = later.message;
        }
        self.withdrawn.retain(|source| !later.raised.contains(source));
        self.raised.retain(|source| !later.withdrawn.contains(source));
        self.raised.extend(later.raised);
        self.withdrawn.extend(later.withdrawn);
    }
}

impl Tallies {
    /// Counts an event.
    pub fn raise(&mut self, event: Event, source: &'static str, at: DateTime<Utc>) {
        let limit = if event.key.kind.severity() == Severity::Critical { KEYS * 4 } else { KEYS };
        let mut key = event.key;
        if !self.keys.contains_key(&key) && self.keys.len() >= limit {
            self.overflowed += 1;
            key.scope = String::new();
        }
        self.keys.entry(key).or_default().raise(source, event.message, at);
    }

    /// Notes that a source sees an end.
    pub fn withdraw(&mut self, key: Key, source: &'static str) {
        if !self.keys.contains_key(&key) && self.keys.len() >= KEYS * 4 {
            self.overflowed += 1;
            return;
        }
        let tally = self.keys.entry(key).or_default();
        tally.raised.remove(source);
        tally.withdrawn.insert(source);
    }

    /// Takes everything out.
    pub fn take(&mut self) -> BTreeMap<Key, Tally> {
        std::mem::take(&mut self.keys)
    }

    /// Gives back what could not be recorded: it is older than what came meanwhile.
    pub fn put_back(&mut self, earlier: BTreeMap<Key, Tally>) {
        let later = std::mem::replace(&mut self.keys, earlier);
        for (key, tally) in later {
            self.keys.entry(key).or_default().absorb(tally);
        }
    }

    /// What has occurred and is not taken out.
    pub fn pending(&self) -> BTreeMap<Key, Tally> {
        let occurred = self.keys.iter().filter(|(_, tally)| tally.count > 0);
        occurred.map(|(key, tally)| (key.clone(), tally.clone())).collect()
    }

    /// True when there is nothing.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.fresh.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::super::event::Kind;
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(second)
    }

    #[test]
    fn a_storm_of_varying_text_is_one_key_with_its_count_and_span() {
        let mut tallies = Tallies::default();
        for second in 0..10_000 {
            let text = format!("port {second} refused");
            tallies.raise(Event::new(Kind::BrokerError, text), "check", at(second));
        }
        let taken = tallies.take();
        let tally = &taken[&Key::new(Kind::BrokerError, "")];
        assert_eq!((taken.len(), tally.count, tally.span), (1, 10_000, Some((at(0), at(9999)))));
        assert_eq!(tally.message, "port 9999 refused");
        assert!(tallies.is_empty());
    }

    #[test]
    fn more_keys_than_fit_are_counted_under_their_kind_and_none_is_lost() {
        let mut tallies = Tallies::default();
        for number in 0..KEYS + 100 {
            tallies.raise(Event::about(Kind::ForeignOrder, number.to_string(), "seen"), "", at(0));
            tallies.raise(Event::about(Kind::OrderAbandoned, number.to_string(), "gone"), "", at(0));
        }
        assert!(tallies.overflowed > 0);
        let taken = tallies.take();
        let total: i64 = taken.values().map(|tally| tally.count).sum();
        assert_eq!(total, 2 * (KEYS as i64 + 100));
        let critical = taken.keys().filter(|key| key.kind == Kind::OrderAbandoned && !key.scope.is_empty());
        assert_eq!(critical.count(), KEYS + 100, "critical ones keep their keys");
    }

    #[test]
    fn the_last_word_of_each_source_counts() {
        let key = Key::new(Kind::BrokerError, "");
        let mut tallies = Tallies::default();
        tallies.raise(Event::new(Kind::BrokerError, "down"), "check", at(0));
        tallies.raise(Event::new(Kind::BrokerError, "down"), "state", at(1));
        tallies.withdraw(key.clone(), "check");
        let mut earlier = tallies.take().remove(&key).unwrap();
        assert_eq!((earlier.raised.len(), earlier.withdrawn.len()), (1, 1));
        tallies.raise(Event::new(Kind::BrokerError, "down again"), "check", at(2));
        tallies.withdraw(key.clone(), "state");
        earlier.absorb(tallies.take().remove(&key).unwrap());
        assert_eq!(earlier.raised, BTreeSet::from(["check"]));
        assert_eq!(earlier.withdrawn, BTreeSet::from(["state"]));
        assert_eq!((earlier.count, earlier.message.as_str()), (3, "down again"));
    }
}
