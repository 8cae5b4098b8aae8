//! Events counted by key until the recorder fetches them: bounded by the number of keys, whatever the number of events.
//!
//! Ten thousand equal errors a second are one row here, and one statement for the database. Raising takes a short lock
//! and never waits for anything else.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::event::{Event, Key, Kind, Life, Severity};

/// Keys beyond this are counted under their kind alone; critical ones, and ends, are let in up to four times as many.
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

/// Everything that holds now of a kind that holds in the ledger, as whoever leads reads it there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// The epoch of whoever leads and says so: under another one it counts for nothing.
    pub epoch: i64,
    /// What it holds of, each with the sentence to tell it by.
    pub holds: BTreeMap<String, String>,
    /// Of what it may hold: nothing is begun or ended for these.
    pub unsure: BTreeSet<String>,
}

/// What is taken out to be recorded.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// What was gathered by key.
    pub keys: BTreeMap<Key, Tally>,
    /// Sources whose reports of an earlier process are over.
    pub fresh: BTreeSet<&'static str>,
    /// The last word on what holds, by kind and by who says so.
    pub census: BTreeMap<(Kind, &'static str), Census>,
}

/// Every key's tally.
#[derive(Debug, Default)]
pub struct Tallies {
    taken: Taken,
    /// What each source of this instance says now of what lasts per instance, with its last words.
    said: BTreeMap<(Key, &'static str), String>,
    /// Events that were counted under their kind alone, and ends that found no room.
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
        let Event { key, message } = event;
        if key.kind.life() == Life::PerInstance && self.said.len() < KEYS {
            self.said.insert((key.clone(), source), message.clone());
        }
        let limit = if key.kind.severity() == Severity::Critical { KEYS * 4 } else { KEYS };
        self.slot(key, limit).raise(source, message, at);
    }

    /// Notes that a source sees an end.
    pub fn withdraw(&mut self, key: Key, source: &'static str) {
        self.said.remove(&(key.clone(), source));
        if !self.taken.keys.contains_key(&key) && self.taken.keys.len() >= KEYS * 4 {
            self.overflowed += 1;
            return;
        }
        let tally = self.taken.keys.entry(key).or_default();
        tally.raised.remove(source);
        tally.withdrawn.insert(source);
    }

    /// Notes that a source of this process stands: what an earlier process reported from it is over.
    pub fn begin(&mut self, source: &'static str) {
        self.taken.fresh.insert(source);
    }

    /// Notes all that holds of a kind.
    pub fn count_all(&mut self, kind: Kind, source: &'static str, census: Census) {
        self.taken.census.insert((kind, source), census);
    }

    /// Says once more all that this instance has not taken back: nobody counts on what an instance said that was gone. Not that
    /// the database is away: it has just taken this instance's word.
    pub fn say_again(&mut self, at: DateTime<Utc>) {
        let said = self.said.clone().into_iter();
        for ((key, source), message) in said.filter(|((key, _), _)| key.kind != Kind::DatabaseError) {
            self.raise(Event { key, message }, source, at);
        }
    }

    /// Takes everything out.
    pub fn take(&mut self) -> Taken {
        std::mem::take(&mut self.taken)
    }

    /// Gives back what could not be recorded: it is older than what came meanwhile. It stays within the bounds, too.
    pub fn put_back(&mut self, earlier: Taken) {
        if earlier == Taken::default() {
            return;
        }
        let later = std::mem::replace(&mut self.taken, earlier);
        self.taken.fresh.extend(later.fresh);
        self.taken.census.extend(later.census);
        for (key, tally) in later.keys {
            // An end is worth as much as what is critical: what it ends would stay open.
            let critical = key.kind.severity() == Severity::Critical || !tally.withdrawn.is_empty();
            self.slot(key, if critical { KEYS * 4 } else { KEYS }).absorb(tally);
        }
    }

    /// The tally of a key, or of its kind alone when there are as many keys as `limit` already.
    fn slot(&mut self, mut key: Key, limit: usize) -> &mut Tally {
        if !self.taken.keys.contains_key(&key) && self.taken.keys.len() >= limit {
            self.overflowed += 1;
            key.scope = String::new();
        }
        self.taken.keys.entry(key).or_default()
    }

    /// What has occurred and is not taken out.
    pub fn pending(&self) -> BTreeMap<Key, Tally> {
        let occurred = self.taken.keys.iter().filter(|(_, tally)| tally.count > 0);
        occurred.map(|(key, tally)| (key.clone(), tally.clone())).collect()
    }

    /// True when there is nothing.
    pub fn is_empty(&self) -> bool {
        self.taken == Taken::default()
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
        let taken = tallies.take().keys;
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
        let taken = tallies.take().keys;
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
        let mut earlier = tallies.take().keys.remove(&key).unwrap();
        assert_eq!((earlier.raised.len(), earlier.withdrawn.len()), (1, 1));
        tallies.raise(Event::new(Kind::BrokerError, "down again"), "check", at(2));
        tallies.withdraw(key.clone(), "state");
        earlier.absorb(tallies.take().keys.remove(&key).unwrap());
        assert_eq!(earlier.raised, BTreeSet::from(["check"]));
        assert_eq!(earlier.withdrawn, BTreeSet::from(["state"]));
        assert_eq!((earlier.count, earlier.message.as_str()), (3, "down again"));
    }

    // While the database is away everything comes back again and again.
    #[test]
    fn what_is_put_back_stays_within_the_bounds_and_none_is_lost() {
        let (mut tallies, mut raised) = (Tallies::default(), 0);
        for round in 0..20 {
            let taken = tallies.take();
            for number in 0..KEYS {
                let scope = format!("{round}/{number}");
                tallies.raise(Event::about(Kind::ForeignOrder, scope.clone(), "seen"), "", at(0));
                tallies.raise(Event::about(Kind::OrderAbandoned, scope.clone(), "gone"), "", at(0));
                tallies.withdraw(Key::new(Kind::OrderInDoubt, scope), "");
                raised += 2;
            }
            tallies.put_back(taken);
        }
        let taken = tallies.take().keys;
        assert!(taken.len() <= KEYS * 4 + Kind::ALL.len(), "{} keys", taken.len());
        assert_eq!(taken.values().map(|tally| tally.count).sum::<i64>(), raised);
    }

    #[test]
    fn only_what_was_not_taken_back_is_said_again() {
        let mut tallies = Tallies::default();
        let raised = [Kind::BrokerError, Kind::DatabaseError, Kind::Failover].map(|kind| (kind, ""));
        for (kind, scope) in raised.into_iter().chain([(Kind::HostError, "disk")]) {
            tallies.raise(Event::about(kind, scope, "so it is"), "check", at(0));
        }
        tallies.withdraw(Key::new(Kind::BrokerError, ""), "check");
        tallies.take();
        tallies.say_again(at(9));
        let taken = tallies.take().keys;
        let disk = &taken[&Key::new(Kind::HostError, "disk")];
        assert_eq!((taken.len(), disk.count, disk.span), (1, 1, Some((at(9), at(9)))));
    }

    #[test]
    fn the_last_word_on_what_holds_counts() {
        let holds = |scope: &str| Census {
            holds: BTreeMap::from([(scope.to_owned(), "so it is".to_owned())]),
            ..Census::default()
        };
        let mut tallies = Tallies::default();
        tallies.count_all(Kind::OrderInDoubt, "engine", holds("a"));
        let taken = tallies.take();
        tallies.count_all(Kind::OrderInDoubt, "engine", holds("b"));
        tallies.count_all(Kind::PositionDrift, "engine", Census::default());
        tallies.put_back(taken);
        let census = tallies.take().census;
        assert_eq!((census.len(), &census[&(Kind::OrderInDoubt, "engine")]), (2, &holds("b")));
    }
}
