//! Notifying while the database is away: each instance throttles for itself, and Redis says who is first.
//!
//! Told is what was delivered. Until then the instance that is first keeps its word in Redis short and renews it, so that
//! another takes over when it dies; the others neither tell nor count the key as told. When the database is back, what
//! was delivered is merged with the occurrences, and what was not goes into the outbox in the same transaction: durable
//! from there on, and marked if an attempt may have arrived. Without Redis, too, every instance tells once: three messages
//! are better than none.

mod claims;
mod hand;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::time::Instant;

use self::claims::{Claims, Holder};
use self::hand::Hand;
use super::channels::Channel;
use super::event::{Key, Life};
use super::tally::Tally;
use super::{Settings, compose};
use crate::ledger::outbox::{Item, Unsent};
use crate::telemetry::metrics::Metrics;

/// Keys whose last notification is remembered.
const REMEMBERED: usize = 4096;

/// How far the telling of a key without the database has got.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Word {
    /// Another instance has it in hand.
    Elsewhere { since: Instant },
    /// This instance has.
    InHand { at: Instant },
    /// The operator has it, by this instance or another.
    Told { at: Instant, here: bool },
}

/// What has to be merged with a key's occurrences.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub at: Instant,
    /// By this instance.
    pub here: bool,
}

/// The local throttle.
pub(super) struct Away {
    settings: Arc<Settings>,
    channels: Arc<[Channel]>,
    metrics: Arc<Metrics>,
    claims: Claims,
    /// What the database last said of each key.
    known: HashMap<Key, Instant>,
    /// What is told, or being told, since it is away.
    words: HashMap<Key, Word>,
    /// Messages that are on their way.
    hands: Vec<Hand>,
    /// What was let go of for the database and did not get there.
    unsent: Vec<Unsent>,
}

impl Away {
    pub fn new(settings: Arc<Settings>, channels: Arc<[Channel]>, metrics: Arc<Metrics>) -> Self {
        let claims = Claims::new(&settings);
        let (known, words) = (HashMap::new(), HashMap::new());
        Self { settings, channels, metrics, claims, known, words, hands: Vec::new(), unsent: Vec::new() }
    }

    /// What has to be merged with a key's occurrences.
    pub fn told(&self, key: &Key) -> Option<Told> {
        match self.words.get(key)? {
            Word::Elsewhere { .. } => None,
            Word::InHand { at } => Some(Told { at: *at, here: true }),
            Word::Told { at, here } => Some(Told { at: *at, here: *here }),
        }
    }

    /// True while something is in anybody's hand.
    pub fn is_busy(&self) -> bool {
        let elsewhere = |word: &Word| matches!(word, Word::Elsewhere { .. });
        !self.hands.is_empty() || !self.unsent.is_empty() || self.words.values().any(elsewhere)
    }

    /// The database has a key's occurrences, and notified it last `age_s` seconds ago.
    pub fn merged(&mut self, key: &Key, age_s: f64) {
        self.words.remove(key);
        if self.known.len() >= REMEMBERED {
            let settings = &self.settings;
            self.known.retain(|key, at| at.elapsed() < settings.window(key.kind));
        }
        let age = Duration::from_secs_f64(age_s.clamp(0.0, 1e9));
        if let Some(at) = Instant::now().checked_sub(age).filter(|_| self.known.len() < REMEMBERED) {
            self.known.insert(key.clone(), at);
        }
    }

    /// Notifies of what is due, once per key and window, all in one message.
    pub async fn tell(&mut self, pending: &BTreeMap<Key, Tally>) {
        for unsent in std::mem::take(&mut self.unsent) {
            self.hands.push(Hand::again(unsent, &self.channels, &self.settings, &self.metrics));
        }
        self.keep_hands().await;
        let due: Vec<_> = pending.iter().filter(|(key, tally)| self.is_due(key, tally)).collect();
        let (mut items, mut keys) = (Vec::new(), Vec::new());
        for (key, tally) in due {
            let now = Instant::now();
            let word = match self.claims.ask(key).await {
                Holder::Me => {
                    items.push(self.item(key, tally));
                    keys.push(key.clone());
                    Word::InHand { at: now }
                }
                Holder::Another => match self.words.get(key) {
                    Some(Word::Elsewhere { since }) => Word::Elsewhere { since: *since },
                    _ => Word::Elsewhere { since: now },
                },
                Holder::Told => Word::Told { at: now, here: false },
            };
            self.words.insert(key.clone(), word);
        }
        if !items.is_empty() {
            let composed = compose::compose(&self.settings.cluster, &items, Utc::now());
            self.hands.push(Hand::new(keys, composed, &self.channels, &self.settings, &self.metrics));
        }
    }

    /// Notes what was delivered, and keeps the word on what is not.
    async fn keep_hands(&mut self) {
        for hand in &mut self.hands {
            if hand.keys.is_empty() || !hand.is_due() {
                continue;
            }
            if hand.is_told(&self.channels) {
                for key in std::mem::take(&mut hand.keys) {
                    self.claims.told(&key, &self.settings).await;
                    self.words.insert(key, Word::Told { at: hand.at, here: true });
                }
            } else {
                for key in &hand.keys {
                    self.claims.ask(key).await;
                }
            }
        }
        self.hands.retain(|hand| !hand.is_done());
    }

    /// Of these keys, those that another instance has in hand: whether the operator hears of them is not known yet. A word
    /// that nobody renews lapses, and one that is kept for ever binds nobody.
    pub async fn in_hand_elsewhere<'a>(&mut self, keys: impl Iterator<Item = &'a Key>) -> Vec<Key> {
        let mut waiting = Vec::new();
        for key in keys {
            let Some(Word::Elsewhere { since }) = self.words.get(key).copied() else { continue };
            match self.claims.look(key).await {
                Holder::Told => {
                    self.words.insert(key.clone(), Word::Told { at: since, here: false });
                }
                Holder::Another if since.elapsed() < self.claims.longest_wait() => waiting.push(key.clone()),
                Holder::Another | Holder::Me => {
                    self.words.remove(key);
                }
            }
        }
        waiting
    }

    /// Lets go of every message: what was not delivered, for the outbox.
    pub async fn hand_over(&mut self) -> Vec<Unsent> {
        let mut unsent = std::mem::take(&mut self.unsent);
        for hand in std::mem::take(&mut self.hands) {
            unsent.extend(hand.let_go(&self.channels).await);
        }
        unsent
    }

    /// The outbox has what was let go of: it is told, as far as this room is concerned.
    pub async fn handed_over(&mut self) {
        let in_hand = self.words.iter().filter_map(|(key, word)| match word {
            Word::InHand { at } => Some((key.clone(), *at)),
            _ => None,
        });
        for (key, at) in in_hand.collect::<Vec<_>>() {
            self.claims.told(&key, &self.settings).await;
            self.words.insert(key, Word::Told { at, here: true });
        }
    }

    /// It did not get there, or nobody knows: it may be on its way by another instance, too.
    pub fn take_back(&mut self, unsent: Vec<Unsent>) {
        self.unsent.extend(unsent.into_iter().map(|one| Unsent { uncertain: true, ..one }));
    }

    /// Waits for what is on its way, as long as one attempt may take.
    pub async fn finish(&mut self) {
        let patience = self.settings.timeout;
        let delivered = async {
            for hand in &mut self.hands {
                hand.finish().await;
            }
        };
        if tokio::time::timeout(patience, delivered).await.is_err() {
            tracing::warn!("[NOTIFICATION] not all that was told without the database is delivered");
        }
    }

    fn is_due(&self, key: &Key, tally: &Tally) -> bool {
        let window = self.settings.window(key.kind);
        let told = match self.words.get(key) {
            Some(Word::InHand { .. }) => return false,
            Some(Word::Told { at, .. }) => Some(*at),
            Some(Word::Elsewhere { .. }) | None => None,
        };
        let told = told.max(self.known.get(key).copied());
        let gathered = tally.span.is_some_and(|(first, _)| {
            (Utc::now() - first).to_std().unwrap_or_default() >= self.settings.gather(key.kind)
        });
        // What is over already can wait for the database.
        let holds = key.kind.life() == Life::Moment || !tally.raised.is_empty();
        holds && gathered && told.is_none_or(|at| at.elapsed() >= window)
    }

    fn item(&self, key: &Key, tally: &Tally) -> Item {
        let (since, at) = tally.span.unwrap_or((Utc::now(), Utc::now()));
        Item {
            error_type: key.kind.as_str().to_owned(),
            scope: key.scope.clone(),
            severity: key.kind.severity().as_str().to_owned(),
            message: tally.message.clone(),
            occurrences: tally.count,
            since,
            at,
            seen_by: self.settings.member.clone(),
            recovered: false,
        }
    }
}
