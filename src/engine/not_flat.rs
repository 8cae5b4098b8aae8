//! Exits that do not get their position flat: whoever can do something about it is told.
//!
//! The leader tries for as long as it takes, and later each time; that the broker refuses again and again only a person can mend.
//! A position that is on its way out is not flat when [`TRIES`] exits in a row ended without selling what they were for, or when
//! for [`PATIENCE`] nothing of it was sold. It is told once, and is over when nothing is held any more. What waits for its
//! exchange to open, or for the end of a closing auction, is where it has to be; it counts from then on. What the broker does not
//! hold cannot be sold, and is told as a drift.
//!
//! How often was tried is in the ledger, and since when is not: a new leader waits anew, but a single refusal is enough for it where
//! the last exit before it ended like that. Until then it says that it does not know, so that what its predecessor told stands.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use ha::Moment;

use super::book::{Book, Closing};
use super::term::Term;
use crate::domain::ids::PositionId;
use crate::domain::intent::OrderIntent;
use crate::domain::money::Quantity;
use crate::domain::order::{IntentState, OrderClass};
use crate::domain::position::Position;
use crate::notify::{Census, Event, Key, Kind, Notifier};
use crate::telemetry::metrics::Metrics;

/// Exits that end without selling what they were for, until it is told: one may be a hiccup of the broker's.
const TRIES: usize = 2;
/// For how long nothing of a position may be sold.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);

/// A position on its way out.
#[derive(Clone, Copy, Debug)]
struct Watched {
    held: Quantity,
    /// Since when it holds that much and could be sold.
    since: Moment,
    /// Exits from this attempt on are counted.
    from: i32,
}

/// What a term knows of its exits.
#[derive(Debug, Default)]
pub(super) struct NotFlat {
    watched: HashMap<PositionId, Watched>,
    /// Positions that were told, with the sentence.
    told: BTreeMap<PositionId, String>,
    /// On their way out when the term began: a former leader may have told of them.
    inherited: Option<BTreeSet<PositionId>>,
    next_look: Option<Moment>,
}

impl NotFlat {
    /// Notes how far each position is that is on its way out and that `counts`; gives those that do not get flat.
    pub fn look(
        &mut self,
        book: &Book,
        counts: impl Fn(&Closing) -> bool,
        now: Moment,
    ) -> BTreeMap<PositionId, String> {
        self.watched.retain(|id, _| book.closing.contains_key(id));
        let mut found = BTreeMap::new();
        for (id, closing) in book.closing.iter().filter(|(_, closing)| counts(closing)) {
            let Some(position) = book.position(*id) else { continue };
            let fresh = Watched { held: position.quantity, since: now, from: closing.next_attempt };
            let before = Watched { from: closing.next_attempt - 1, ..fresh };
            let watched = self.watched.entry(*id).or_insert(before);
            if book.closed.contains(&position.exchange) || book.auctions.contains(&position.listing()) {
                *watched = fresh;
                continue;
            }
            let missing =
                book.drift.of(&position.holding_key()).is_some_and(|known| known.broker < known.ledger);
            if watched.held != position.quantity || missing {
                (watched.held, watched.since) = (position.quantity, now);
            }
            if in_vain(book, *id, watched.from) >= TRIES || now.since(watched.since) >= PATIENCE {
                found.insert(*id, sentence(book, position, closing));
            }
        }
        found
    }

    /// Counts what does not get flat, tells what is news of it, and what is over.
    pub fn tell(
        &mut self,
        found: BTreeMap<PositionId, String>,
        book: &Book,
        metrics: &Metrics,
        notifier: &Notifier,
    ) {
        metrics.exits_not_flat.set(i64::try_from(found.len()).unwrap_or(i64::MAX));
        let is_over = |id: &PositionId| !book.closing.contains_key(id);
        let inherited = self.inherited.get_or_insert_with(|| book.closing.keys().copied().collect());
        let former = inherited.extract_if(.., is_over);
        let own = self.told.extract_if(.., |id, _| is_over(id)).map(|(id, _)| id);
        for id in former.chain(own).collect::<BTreeSet<_>>() {
            notifier.resolve(Key::new(Kind::ExitNotFlat, id.to_string()));
        }
        for (id, sentence) in found {
            if self.told.contains_key(&id) {
                continue;
            }
            tracing::error!(position = %id, "[STATE] {sentence}");
            let sentence = format!("{sentence}; see RUNBOOK.md#exit-not-flat");
            notifier.raise(Event::about(Kind::ExitNotFlat, id.to_string(), sentence.clone()));
            self.told.insert(id, sentence);
        }
    }

    /// All that is told; of the other positions on their way out a former leader may have told.
    pub fn census(&self, epoch: i64, book: &Book) -> Census {
        let holds = self.told.iter().map(|(id, sentence)| (id.to_string(), sentence.clone()));
        let unsure = book.closing.keys().filter(|id| !self.told.contains_key(id)).map(PositionId::to_string);
        Census { epoch, holds: holds.collect(), unsure: unsure.collect() }
    }
}

/// Exits of a position, a stop that rests not counted.
fn exits(book: &Book, id: PositionId) -> impl Iterator<Item = &OrderIntent> {
    let intents = book.intents.values().map(|tracked| &tracked.intent);
    intents.filter(move |i| i.position == id && i.class != OrderClass::Entry && !i.rests())
}

/// Exits from the attempt `from` on that ended without selling what they were for, since one did.
fn in_vain(book: &Book, id: PositionId, from: i32) -> usize {
    let sold = exits(book, id).filter(|intent| intent.state == IntentState::Filled);
    let from = sold.map(|intent| intent.attempt + 1).fold(from, i32::max);
    exits(book, id).filter(|intent| intent.state.is_terminal() && intent.attempt >= from).count()
}

/// What is still held, how often it was tried, and what the broker said last.
fn sentence(book: &Book, position: &Position, closing: &Closing) -> String {
    let Position { quantity, entry_quantity, symbol, .. } = position;
    let why = closing.why.as_deref().unwrap_or(closing.cause.as_str());
    let tries = closing.next_attempt;
    let last = exits(book, position.id).max_by_key(|intent| (intent.attempt, intent.id));
    let said = last.and_then(|last| last.reason.as_deref()).map_or(String::new(), |why| format!(": {why}"));
    let last = match last.map(|last| (last.state, last)) {
        None => "no order was sent for it yet".to_owned(),
        Some((IntentState::InDoubt, _)) => format!("what became of its last order is not known{said}"),
        Some((state, last)) if !state.is_terminal() => {
            format!("order {tries} is at the broker with {} of {} sold", last.filled, last.order.quantity)
        }
        Some((state, _)) => format!("order {tries} ended as {state}{said}"),
    };
    format!(
        "{quantity} of {entry_quantity} units of {symbol} are to be sold ({why}) and are still held: {last}"
    )
}

impl Term<'_> {
    /// Looks at the positions that are on their way out. What a custodian does not close is none of them.
    pub(super) fn watch_exits(&mut self) {
        let now = self.fence().now();
        if self.not_flat.next_look.is_some_and(|next| now < next) {
            return;
        }
        self.not_flat.next_look = Some(now.plus(LOOK));
        let custody = self.custody.as_ref();
        // A custodian reads no hours; nobody else judges before it is known what is closed.
        let is_known = self.book.market_asked || custody.is_some();
        let counts =
            |closing: &Closing| is_known && custody.is_none_or(|custody| custody.lets(closing.cause));
        let found = self.not_flat.look(&self.book, counts, now);
        self.not_flat.tell(found, &self.book, &self.engine.metrics, &self.engine.notifier);
    }
}
