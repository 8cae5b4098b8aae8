//! Exits are verified before they are journaled: none is larger than what the broker's position book shows held.
//!
//! The ledger alone cannot know that a position was closed by hand or squared off by the broker; an exit sold on its
//! word would open a short. So an exit waits for one reading of the position book, made after it was asked for, and is
//! cut to what the book holds less what other exits of the contract may still sell. A reading serves a contract once:
//! what it allowed is on its way then, and the next exit asks anew. Nothing is journaled meanwhile, so a leader that
//! dies while it waits leaves nothing in doubt. A book that cannot be read is unknown, never flat: the exit goes on
//! waiting, and is not sent blind.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use ha::Moment;

use super::book::Book;
use super::lanes::{Phase, Waiting};
use super::tell;
use super::term::{Event, Term};
use crate::broker::{BrokerError, BrokerPosition};
use crate::domain::ids::{IntentId, PositionId, SignalId};
use crate::domain::instrument::Instrument;
use crate::domain::intent::OrderIntent;
use crate::domain::money::Quantity;
use crate::domain::order::OrderClass;
use crate::domain::position::{HoldingKey, Position};
use crate::domain::refusal::Refusal;
use crate::ledger::LedgerError;
use crate::recovery::reconcile::{Drift, Known, Standing, allowance, held_by_broker};

/// How long a reading counts after it came.
const FRESH: Duration = Duration::from_secs(2);
/// Between two readings for an exit that found too little, or no book: doubled each time, up to [`RETRY_AT_MOST`].
const RETRY: Duration = Duration::from_millis(500);
const RETRY_AT_MOST: Duration = Duration::from_secs(5);
/// An exit that waits for a reading is looked at again when it comes; this is for one that never comes.
const READING_PATIENCE: Duration = Duration::from_secs(5);

/// What is known of the broker's holdings, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    reading: Option<(Moment, BTreeMap<HoldingKey, Quantity>)>,
    /// When the request of that reading left.
    begun: Option<Moment>,
    /// Contracts that were served, and when: by readings that were begun before that they are not served again.
    used: BTreeMap<HoldingKey, Moment>,
    asked: Option<Moment>,
    signals: BTreeSet<SignalId>,
    positions: BTreeSet<PositionId>,
    short: BTreeMap<HoldingKey, u32>,
    marked: BTreeSet<String>,
    failures: u32,
}

/// What a verification made of an exit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Allowed {
    /// So many units may be sold: at least one, at most what was asked for.
    Units(Quantity),
    /// The verified book holds nothing that this exit may sell.
    Nothing,
    /// There is no reading to go by.
    Unknown,
    /// Stored state is damaged, and what it says of the contract is not what the book holds.
    Disagrees(Quantity),
}

/// An exit that waits.
#[derive(Debug)]
pub(super) struct Held {
    intent: OrderIntent,
    until: Moment,
}

impl Held {
    /// An exit that is looked at again at `until`.
    pub fn until(intent: OrderIntent, until: Moment) -> Self {
        Self { intent, until }
    }
}

impl Holdings {
    /// Takes a reading in that was `begun` before; it serves each contract once.
    pub fn came(&mut self, positions: &[BrokerPosition], begun: Moment, now: Moment) {
        self.failures = 0;
        self.begun = Some(begun);
        self.used.retain(|_, served| *served >= begun);
        self.reading = Some((now, held_by_broker(positions)));
    }

    /// Something of a contract was bought or sold, as is known from `now` on: a reading that was begun before may show it or not, and
    /// serves no exit.
    pub fn traded(&mut self, key: HoldingKey, now: Moment) {
        self.used.insert(key, now);
    }

    /// What the last reading holds of an intent's contract.
    fn shown(&self, key: &HoldingKey) -> Option<Quantity> {
        let (_, held) = self.reading.as_ref()?;
        Some(held.get(key).copied().unwrap_or(Quantity::ZERO))
    }

    /// Says whether the last reading, if it was begun after `since` and not long ago, holds of an entry's contract what `book`
    /// does.
    pub fn agree(&self, book: &Book, entry: &OrderIntent, since: Moment, now: Moment) -> Option<bool> {
        let key = key(entry);
        let held = book.portfolio.held().filter(|position| position.holding_key() == key);
        let held: Quantity = held.map(|position| position.quantity).sum();
        self.begun.filter(|begun| *begun >= since && now.since(*begun) <= FRESH)?;
        Some(self.shown(&key)? == held)
    }

    /// What a reading holds that is young enough to go by.
    fn fresh(&self, now: Moment) -> Option<&BTreeMap<HoldingKey, Quantity>> {
        let (_, held) = self.reading.as_ref().filter(|(came, _)| now.since(*came) <= FRESH)?;
        Some(held)
    }

    /// The next exit of a contract has a reading to go by.
    fn serves(&self, key: &HoldingKey, now: Moment) -> bool {
        self.fresh(now).is_some() && !self.used.contains_key(key)
    }

    /// Judges the exits of one batch together, so that they do not sell the same units twice.
    pub fn judge(&mut self, book: &Book, exits: &[OrderIntent], now: Moment) -> BTreeMap<IntentId, Allowed> {
        let batch: BTreeSet<IntentId> = exits.iter().map(|intent| intent.id).collect();
        let fresh = self.fresh(now);
        let mut left: BTreeMap<HoldingKey, Quantity> = BTreeMap::new();
        let mut verdicts = BTreeMap::new();
        for intent in exits {
            let key = key(intent);
            let held = fresh.filter(|_| !self.used.contains_key(&key));
            let Some(held) = held else {
                verdicts.insert(intent.id, Allowed::Unknown);
                continue;
            };
            let left = left.entry(key.clone()).or_insert_with(|| {
                allowance(held.get(&key).copied().unwrap_or(Quantity::ZERO), out(book, &key, &batch))
            });
            let units = intent.order.quantity.min(*left);
            *left = *left - units;
            let nothing = units == Quantity::ZERO;
            verdicts.insert(intent.id, if nothing { Allowed::Nothing } else { Allowed::Units(units) });
        }
        self.used.extend(left.into_keys().map(|key| (key, now)));
        verdicts
    }
}

/// Units of a contract that exits outside of `batch` may still sell.
fn out(book: &Book, key: &HoldingKey, batch: &BTreeSet<IntentId>) -> Quantity {
    let exits = book.intents.values().map(|tracked| &tracked.intent);
    exits
        .filter(|intent| intent.is_exit() && !batch.contains(&intent.id) && self::key(intent) == *key)
        .map(OrderIntent::exit_quantity_out)
        .sum()
}

/// An exit of a contract outside of `batch` is under way; a stop that rests untouched is not.
fn on_its_way(book: &Book, key: &HoldingKey, batch: &BTreeSet<IntentId>) -> bool {
    let mut exits = book.intents.values().map(|tracked| &tracked.intent);
    exits.any(|intent| {
        intent.is_exit()
            && !batch.contains(&intent.id)
            && self::key(intent) == *key
            && !intent.rests_untouched()
            && intent.exit_quantity_out() > Quantity::ZERO
    })
}

pub(super) fn key(intent: &OrderIntent) -> HoldingKey {
    let order = &intent.order;
    HoldingKey { symbol: order.symbol.clone(), exchange: order.exchange.clone(), product: order.product }
}

/// What is known to differ between the ledger and the broker's book on an instrument's contract.
pub(super) fn drift_on(drift: &Drift, instrument: &Instrument) -> Option<Known> {
    drift.of(&HoldingKey {
        symbol: instrument.symbol.clone(),
        exchange: instrument.exchange.clone(),
        product: instrument.product,
    })
}

impl Term<'_> {
    /// Takes in what is known of the contracts, and refuses the entries on those that drift: also behind an EXIT that
    /// waits, for the operator is to know now, and the entry is too old when the EXIT has acted.
    pub(super) async fn refuse_drifting(&mut self) -> Result<(), LedgerError> {
        let before = std::mem::replace(&mut self.book.drift, self.engine.reconciler.drift());
        tell::drift(&before, &self.book.drift, &self.engine.notifier);
        if self.book.drift.confirmed().next().is_none() {
            return Ok(());
        }
        let catalog = &self.engine.rules.catalog;
        let confirmed = |waiting: &Waiting| {
            let signal = &waiting.queued.signal;
            let instrument = catalog.get(&signal.instrument)?;
            let known = drift_on(&self.book.drift, instrument)?;
            let sentence = format!(
                "the ledger holds {} units of {}, the broker's book {}: no entry until they agree",
                known.ledger, instrument.symbol, known.broker
            );
            let refusal = Refusal::new("POSITION_DRIFT", sentence);
            (known.standing == Standing::Confirmed).then_some((waiting.queued.id, signal.kind(), refusal))
        };
        let refused: Vec<_> = self.lanes.entries().filter_map(confirmed).collect();
        for (id, kind, refusal) in refused {
            self.refuse(id, Some(kind), &[refusal], None).await?;
        }
        Ok(())
    }

    /// Parts a batch into what may be journaled now, entries and exits cut to what the broker holds, and the exits that
    /// are to be held until then.
    pub(super) fn verified(&mut self, batch: Vec<OrderIntent>) -> (Vec<OrderIntent>, Vec<Held>) {
        let (exits, mut ready): (Vec<_>, Vec<_>) = batch.into_iter().partition(OrderIntent::is_exit);
        let mut held = Vec::new();
        if exits.is_empty() {
            return (ready, held);
        }
        let now = self.fence().now();
        let (stand, exits): (Vec<_>, Vec<_>) =
            exits.into_iter().partition(|intent| self.lost_exits.hold(&key(intent)));
        held.extend(stand.into_iter().map(|intent| Held { intent, until: now.plus(RETRY) }));
        let batch: BTreeSet<IntentId> = exits.iter().map(|intent| intent.id).collect();
        let verdicts = self.holdings.judge(&self.book, &exits, now);
        for mut intent in exits {
            let verdict = verdicts.get(&intent.id).copied().unwrap_or(Allowed::Unknown);
            if verdict != Allowed::Unknown && self.holdings.marked.contains(&intent.order.symbol) {
                held.push(Held { intent, until: now.plus(RETRY) });
                continue;
            }
            match self.in_custody(&intent, &batch, verdict) {
                Allowed::Disagrees(broker) => {
                    self.tell_disagreement(&intent, broker);
                    held.push(Held { intent, until: now.plus(RETRY_AT_MOST) });
                }
                Allowed::Units(units) => {
                    if units < intent.order.quantity {
                        self.tell_short(&intent, units);
                        intent.order.quantity = units;
                    } else {
                        self.holdings.short.remove(&key(&intent));
                    }
                    ready.push(intent);
                }
                Allowed::Nothing => {
                    let wait = self.tell_short(&intent, Quantity::ZERO);
                    held.push(Held { intent, until: now.plus(wait) });
                }
                Allowed::Unknown => {
                    self.holdings.signals.extend(intent.signal);
                    self.holdings.positions.insert(intent.position);
                    self.read_positions(Duration::ZERO);
                    held.push(Held { intent, until: now.plus(READING_PATIENCE) });
                }
            }
        }
        (ready, held)
    }

    /// A custodian's stop fires only where the rows of its contract add up to what the book holds.
    fn in_custody(&self, intent: &OrderIntent, batch: &BTreeSet<IntentId>, verdict: Allowed) -> Allowed {
        if self.custody.is_none() || intent.class != OrderClass::Protective || verdict == Allowed::Unknown {
            return verdict;
        }
        let key = key(intent);
        if on_its_way(&self.book, &key, batch) {
            // What is on its way may be in the book already and not in the rows yet.
            return Allowed::Unknown;
        }
        match self.holdings.shown(&key) {
            Some(held) if self.rows_agree(&key, held) => verdict,
            Some(held) => Allowed::Disagrees(held),
            None => Allowed::Unknown,
        }
    }

    /// What the book holds of the contracts of a custodian's orders; the journal statement compares.
    pub(super) fn verified_units(&self, batch: &[OrderIntent]) -> HashMap<IntentId, Quantity> {
        if self.custody.is_none() {
            return HashMap::new();
        }
        batch.iter().filter_map(|intent| Some((intent.id, self.holdings.shown(&key(intent))?))).collect()
    }

    /// Takes an exit back until its time: nothing of it was journaled. To follow the journaling of its batch: another
    /// leg of its signal may have gone out, and this one is owed then.
    pub(super) fn hold(&mut self, Held { intent, until }: &Held) {
        self.book.unplan(intent.id);
        self.try_again(intent, *until);
    }

    /// An order of which nothing was journaled is decided again at `retry`, by whoever asked for it: the stop that is to rest,
    /// the close that is owed, the signal in its lane.
    pub(super) fn try_again(&mut self, intent: &OrderIntent, retry: Moment) {
        if intent.rests() {
            self.at_broker.later(intent.position, retry);
            return;
        }
        self.book.wait_to_close(intent, retry);
        if let Some(waiting) = intent.signal.and_then(|id| self.lanes.find(id)) {
            waiting.not_before = retry;
            waiting.phase = Phase::Waiting;
        }
    }

    /// Says once per shortage that the broker holds too little, and has it looked into. Gives the time to wait.
    fn tell_short(&mut self, intent: &OrderIntent, units: Quantity) -> Duration {
        let key = key(intent);
        let times = self.holdings.short.entry(key.clone()).or_insert(0);
        *times += 1;
        let times = *times;
        if times == 1 {
            tracing::warn!(
                position = %intent.position,
                "[RECONCILE] an exit of {} units of {key} is held back: the broker's verified book allows {units}",
                intent.order.quantity
            );
        }
        self.engine.reconciler.look_soon();
        backoff(times)
    }

    /// Says whether the broker's position book, read after `since`, holds of an entry's contract what the ledger does; what
    /// the trade book does not show yet shows there. Until it does, it is read again.
    pub(super) fn agrees_since(&mut self, entry: &OrderIntent, since: Moment) -> bool {
        let agrees = self.holdings.agree(&self.book, entry, since, self.fence().now());
        if agrees != Some(true) {
            self.read_positions(if agrees.is_none() { Duration::ZERO } else { RETRY });
        }
        agrees == Some(true)
    }

    /// Asks for a reading, unless one is on its way.
    fn read_positions(&mut self, after: Duration) {
        let now = self.fence().now();
        if self.holdings.asked.is_some_and(|asked| now.since(asked) < READING_PATIENCE) {
            return;
        }
        self.holdings.asked = Some(now);
        let (broker, sender) = (Arc::clone(&self.engine.broker), self.sender.clone());
        let (marks, fence) = (Arc::clone(&self.engine.marks), self.fence().clone());
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let begun = fence.now();
            // Gone with the term.
            // Without Redis nobody can have marked anything.
            let (book, marked) = tokio::join!(broker.positions(), marks.marked());
            let _ = sender.send(Event::Held { book, marked: marked.unwrap_or_default(), begun }).await;
        });
    }

    /// Asks for a reading for an EXIT that is on its way, where it will need one: something is held of its instrument and
    /// nobody closes it yet.
    pub(super) fn read_positions_ahead(&mut self, instrument: &str) {
        let now = self.fence().now();
        let needs = |position: &Position| {
            let key = HoldingKey {
                symbol: position.symbol.clone(),
                exchange: position.exchange.clone(),
                product: position.product,
            };
            !self.book.closing.contains_key(&position.id) && !self.holdings.serves(&key, now)
        };
        if self.book.portfolio.held_of(instrument).any(needs) {
            self.read_positions(Duration::ZERO);
        }
    }

    /// The position book came, or did not.
    pub(super) fn held(
        &mut self,
        reading: Result<Vec<BrokerPosition>, BrokerError>,
        marked: BTreeSet<String>,
        begun: Moment,
    ) {
        self.holdings.asked = None;
        for symbol in marked.difference(&self.holdings.marked) {
            tracing::warn!(
                symbol,
                "[RECONCILE] an operator closes it without the ledger: its exits wait until that is told"
            );
        }
        self.holdings.marked = marked;
        match reading {
            Ok(positions) => {
                let now = self.fence().now();
                self.holdings.came(&positions, begun, now);
                for id in std::mem::take(&mut self.holdings.signals) {
                    if let Some(waiting) = self.lanes.find(id) {
                        waiting.not_before = now;
                    }
                }
                for id in std::mem::take(&mut self.holdings.positions) {
                    self.at_broker.now(id, now);
                    if let Some(closing) = self.book.closing.get_mut(&id) {
                        closing.not_before = now;
                    }
                }
            }
            Err(error) => {
                self.holdings.failures += 1;
                if self.holdings.failures == 1 {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "[RECONCILE] the position book cannot be read: exits wait for it, none is sent blind"
                    );
                }
                self.read_positions(backoff(self.holdings.failures));
            }
        }
    }
}

fn backoff(times: u32) -> Duration {
    (RETRY * (1 << times.saturating_sub(1).min(8))).min(RETRY_AT_MOST)
}
