//! Signals waiting for their turn: one lane an instrument, in inbox order.
//!
//! Within a lane a signal is decided only when the ones before it are decided and what they ordered no longer stands
//! in its way. Lanes do not wait for each other. An EXIT that waits for longer than its patience overtakes the entries
//! before it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ha::Moment;

use super::book::{Book, Queued};
use super::decide::exit_request;
use crate::domain::exit::ExitRequest;
use crate::domain::ids::SignalId;
use crate::domain::intent::OrderIntent;
use crate::domain::order::{IntentState, OrderClass};
use crate::domain::portfolio::Quotes;
use crate::domain::signal::{Action, SignalType};

/// For how long quotes may decide: a signal that had to wait longer than this after they came has them asked anew.
pub const QUOTE_LIFE: Duration = Duration::from_secs(2);

/// How far the first signal of a lane is.
#[derive(Clone, Debug, Default)]
pub enum Phase {
    /// Not looked at yet, or to be looked at again.
    #[default]
    Waiting,
    /// Its quotes are being fetched.
    Quoting,
    /// Its quotes came at a moment; some may be missing.
    Quoted(Quotes, Moment),
}

/// A signal in a lane.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The signal.
    pub queued: Queued,
    /// How far it is.
    pub phase: Phase,
    /// Not to be decided before.
    pub not_before: Moment,
    /// When it was put into its lane.
    pub since: Moment,
}

impl Waiting {
    /// A signal that came now.
    pub fn new(queued: Queued, now: Moment) -> Self {
        Self { queued, phase: Phase::Waiting, not_before: now, since: now }
    }

    /// The quotes it may be decided by; none before they are here, and none once they are old.
    pub fn quotes(&self, now: Moment) -> Option<&Quotes> {
        match &self.phase {
            Phase::Quoted(quotes, at) if now.since(*at) <= QUOTE_LIFE => Some(quotes),
            _ => None,
        }
    }
}

/// All lanes.
#[derive(Clone, Debug, Default)]
pub struct Lanes(BTreeMap<String, VecDeque<Waiting>>);

impl Lanes {
    /// Puts a signal into its lane, in inbox order; false when it is there already.
    pub fn add(&mut self, queued: Queued, now: Moment) -> bool {
        let lane = self.0.entry(queued.signal.instrument.clone()).or_default();
        match lane.binary_search_by_key(&queued.seq, |waiting| waiting.queued.seq) {
            Ok(_) => false,
            Err(place) => {
                lane.insert(place, Waiting::new(queued, now));
                true
            }
        }
    }

    /// How many signals of an instrument are waiting.
    pub fn waiting_on(&self, instrument: &str) -> usize {
        self.0.get(instrument).map_or(0, VecDeque::len)
    }

    /// The signals that are waiting.
    pub fn ids(&self) -> impl Iterator<Item = SignalId> {
        self.0.values().flatten().map(|waiting| waiting.queued.id)
    }

    /// How many are waiting.
    pub fn len(&self) -> usize {
        self.0.values().map(VecDeque::len).sum()
    }

    /// True when none is waiting.
    pub fn is_empty(&self) -> bool {
        self.0.values().all(VecDeque::is_empty)
    }

    /// The first signal of each lane.
    pub fn heads(&mut self) -> impl Iterator<Item = &mut Waiting> {
        self.0.values_mut().filter_map(VecDeque::front_mut)
    }

    /// The first EXIT of each lane that an entry at its head keeps from its turn.
    ///
    /// The entry may be stuck for a minute (no quote, an order in doubt, ERROR), and taking risk off must not wait for
    /// that, whatever else stands between the two. Entries that the EXIT means are refused when it acts.
    pub fn exits_behind_entries(&self) -> impl Iterator<Item = &Waiting> {
        self.0.values().filter_map(|lane| {
            let blocked = lane.front().is_some_and(|head| head.queued.signal.kind().opens());
            let exit = |waiting: &&Waiting| waiting.queued.signal.kind() == SignalType::Exit;
            lane.iter().filter(|_| blocked).find(exit)
        })
    }

    /// Entries that an EXIT means and that wait before it: of its instrument, label and strategy, from an earlier bar.
    pub fn entries_meant(&self, exit: &ExitRequest<'_>) -> Vec<SignalId> {
        let meant = |waiting: &&Waiting| {
            let Queued { signal, seq, .. } = &waiting.queued;
            signal.entry().is_some_and(|entry| exit.target.includes(entry.label))
                && exit.strategy.is_none_or(|strategy| strategy == signal.strategy)
                && *seq < exit.seq
                && (signal.bar_time, *seq) < (exit.bar_time, exit.seq)
        };
        let lane = self.0.get(exit.instrument).into_iter().flatten();
        lane.filter(meant).map(|waiting| waiting.queued.id).collect()
    }

    /// True where an EXIT waits that means this entry.
    pub fn is_called_off(&self, entry: &Queued) -> bool {
        let lane = self.0.get(&entry.signal.instrument).into_iter().flatten();
        let mut exits = lane.filter_map(|waiting| match &waiting.queued.signal.action {
            Action::Exit(wanted) => Some(exit_request(&waiting.queued, wanted)),
            _ => None,
        });
        exits.any(|exit| self.entries_meant(&exit).contains(&entry.id))
    }

    /// When the EXIT that has waited for longest came into its lane.
    pub fn exit_waiting_since(&self) -> Option<Moment> {
        let exits =
            self.0.values().flatten().filter(|waiting| waiting.queued.signal.kind() == SignalType::Exit);
        exits.map(|waiting| waiting.since).min()
    }

    /// The entries that are waiting, wherever in their lanes.
    pub fn entries(&self) -> impl Iterator<Item = &Waiting> {
        self.0.values().flatten().filter(|waiting| waiting.queued.signal.kind().opens())
    }

    /// A waiting signal.
    pub fn find(&mut self, id: SignalId) -> Option<&mut Waiting> {
        self.0.values_mut().flatten().find(|waiting| waiting.queued.id == id)
    }

    /// Takes a signal out: it is decided.
    pub fn remove(&mut self, id: SignalId) {
        for lane in self.0.values_mut() {
            lane.retain(|waiting| waiting.queued.id != id);
        }
        self.0.retain(|_, lane| !lane.is_empty());
    }
}

/// Says whether the head of a lane may be decided now.
///
/// An entry waits for whatever is out, in doubt or closing on its instrument, but for a stop that rests untouched.
/// An EXIT waits only for entries that may fill any moment, and for one in doubt when there is nothing else to close; for no longer than `patience`:
/// what fills after that is closed at once. It also waits, for as long as it takes, while a stop or an operator wants
/// one of its positions closed and no order was journaled for that yet: the wish may be dropped again (a halt of all
/// orders, a price that came back), and an EXIT that was refused meanwhile would be lost.
pub fn may_decide(book: &Book, waiting: &Waiting, now: Moment, patience: Duration) -> bool {
    if now < waiting.not_before {
        return false;
    }
    let instrument = &waiting.queued.signal.instrument;
    if waiting.queued.signal.entry().is_some() {
        let stands = |intent: &OrderIntent| !intent.state.is_terminal() && !intent.rests_untouched();
        let busy = book.intents_of(instrument, stands).next().is_some();
        let closing =
            book.closing.keys().filter_map(|id| book.position(*id)).any(|p| p.instrument == *instrument);
        return !busy && !closing;
    }
    if let Action::Exit(exit) = &waiting.queued.signal.action
        && book.portfolio.held_of(instrument).any(|p| exit.target.names(p) && book.may_be_kept_open(p.id))
    {
        return false;
    }
    let held = book.portfolio.held_of(instrument).next().is_some();
    let awaited = |intent: &OrderIntent| {
        let filling = intent.state == IntentState::Journaled || intent.state.is_live();
        let only_hope = intent.state == IntentState::InDoubt && !held;
        intent.class == OrderClass::Entry && (filling || only_hope)
    };
    book.intents_of(instrument, awaited).next().is_none() || now.since(waiting.since) >= patience
}
