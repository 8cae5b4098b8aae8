//! What a term knows of the stops at the broker beyond ledger and books; it dies with the term.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use ha::Moment;
use uuid::Uuid;

use crate::domain::ids::{IntentId, PositionId};
use crate::domain::intent::OrderIntent;
use crate::domain::money::{Price, Quantity};
use crate::domain::order::OrderSpec;
use crate::domain::request::RequestState;
use crate::domain::resting::Resting;
use crate::engine::book::Book;
use crate::ledger::requests::MoveUnderWay;

/// Before a cancel without effect is asked again: refused, on its way, answered or in doubt.
const CANCEL_REFUSED: Duration = Duration::from_secs(1);
const CANCEL_SENT: Duration = Duration::from_secs(10);
const CANCEL_ANSWERED: Duration = Duration::from_secs(3);
/// While the exchange is closed a bid's cancels are doubled in their distance up to this: none has an effect until the morning.
const CANCEL_AT_MOST: Duration = Duration::from_secs(60);
/// Between two stops for the same position, doubled each time; between two moves of a stop, a little longer each time.
const PACE: Duration = Duration::from_secs(1);
const PACE_AT_MOST: Duration = Duration::from_secs(30);

/// What a term knows of the stops at the broker beyond ledger and books.
#[derive(Debug, Default)]
pub(in crate::engine) struct AtBroker {
    /// Where the books last showed each stop that waits for its trigger, and each bid.
    pub shown: HashMap<IntentId, Price>,
    /// Stops that the books have shown at work: acknowledged is not accepted.
    pub seen: HashSet<IntentId>,
    pub cancels: HashMap<IntentId, Cancel>,
    pub moves: HashMap<IntentId, Move>,
    /// Moves that the broker did not make, and when the next may be asked.
    pub refused: HashMap<IntentId, (u32, Moment)>,
    paces: HashMap<PositionId, Pace>,
    /// Positions that an exit wants room on, until when.
    pub room: HashMap<PositionId, Moment>,
    /// Since when a hit waits for the stop to sell.
    pub hits: HashMap<IntentId, Moment>,
    /// Units without a stop, and since when it is so many.
    pub bare: BTreeMap<PositionId, (Quantity, Moment)>,
    /// Positions that were looked at, and what was last told of them.
    pub told: HashMap<PositionId, Told>,
    pub next_look: Option<Moment>,
}

/// What was last told of a position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::engine) enum Told {
    /// Nothing in this term.
    Nothing,
    /// That all of it has its stop.
    Rests,
    /// That it has not.
    Bare,
}

/// A cancel that was asked for.
#[derive(Debug)]
pub(in crate::engine) struct Cancel {
    pub at: Moment,
    pub answer: Option<RequestState>,
    /// Those before it of the same order.
    pub before: u32,
}

/// A move that was asked for.
#[derive(Debug)]
pub(in crate::engine) struct Move {
    pub request: Uuid,
    pub to: OrderSpec,
    pub at: Moment,
    pub answer: Option<RequestState>,
}

#[derive(Clone, Copy, Debug)]
struct Pace {
    not_before: Moment,
    times: u32,
}

impl AtBroker {
    /// True while the books are awaited: a stop was not seen at work yet, is being cancelled or moved, or is to sell any
    /// moment.
    pub fn is_moving(&self, book: &Book) -> bool {
        let asked = !self.cancels.is_empty() || !self.moves.is_empty() || !self.hits.is_empty();
        asked || book.resting().any(|t| t.intent.state.is_live() && !self.seen.contains(&t.intent.id))
    }

    /// A stop for this position may be tried again from then on.
    pub fn later(&mut self, position: PositionId, not_before: Moment) {
        let times = self.paces.get(&position).map_or(0, |pace| pace.times);
        self.paces.insert(position, Pace { not_before, times });
    }

    /// What a stop for this position waited for is here.
    pub fn now(&mut self, position: PositionId, now: Moment) {
        if let Some(pace) = self.paces.get_mut(&position) {
            pace.not_before = pace.not_before.min(now);
        }
    }

    /// Takes up the moves that an earlier term left before the books showed them: those that nobody heard the answer of may
    /// still arrive for a while.
    pub fn inherit(&mut self, moves: Vec<MoveUnderWay>, book: &Book, now: Moment) {
        for MoveUnderWay { id, intent, price, trigger_price, acknowledged } in moves {
            let Some(tracked) = book.intents.get(&intent) else { continue };
            let to = OrderSpec { price, trigger_price, ..tracked.intent.order.clone() };
            let answer = if acknowledged { RequestState::Acknowledged } else { RequestState::InDoubt };
            let asked = Move { request: id, to, at: now, answer: Some(answer) };
            self.moves.insert(intent, asked);
        }
    }

    pub fn is_paced(&self, position: PositionId, now: Moment) -> bool {
        self.paces.get(&position).is_some_and(|pace| now < pace.not_before)
    }

    pub fn pace(&mut self, position: PositionId, now: Moment) {
        let times = self.paces.get(&position).map_or(0, |pace| pace.times) + 1;
        let wait = (PACE * (1 << (times - 1).min(8))).min(PACE_AT_MOST);
        self.paces.insert(position, Pace { not_before: now.plus(wait), times });
    }

    /// A move or a cancel of an order is under way, or a move was refused a moment ago.
    pub fn is_asked(&self, id: IntentId, now: Moment) -> bool {
        let refused = self.refused.get(&id).is_some_and(|(_, next)| now < *next);
        refused || self.moves.contains_key(&id) || self.cancels.contains_key(&id)
    }

    /// A move was asked for.
    pub fn moved(&mut self, id: IntentId, request: Uuid, to: OrderSpec, now: Moment) {
        self.moves.insert(id, Move { request, to, at: now, answer: None });
    }

    pub fn not_moved(&mut self, id: IntentId, now: Moment) {
        let (times, next) = self.refused.entry(id).or_insert((0, now));
        *times += 1;
        *next = now.plus(PACE * *times);
    }

    /// All of a position has its stop.
    pub fn covered(&mut self, position: PositionId) {
        self.bare.remove(&position);
        self.paces.remove(&position);
    }

    /// Where a stop or a bid stands, as far as is known.
    pub fn stands_at(&self, intent: &OrderIntent) -> Price {
        self.shown.get(&intent.id).copied().unwrap_or(intent.order.stands_at())
    }

    pub fn of(&self, intent: &OrderIntent) -> Resting {
        Resting {
            id: intent.id,
            units: intent.exit_quantity_out(),
            trigger: self.stands_at(intent),
            known: intent.state.is_live(),
            begun: intent.filled > Quantity::ZERO,
        }
    }

    /// Says whether a cancel has to be asked for, or asked again; its exchange `is_closed` as far as is known.
    pub fn may_cancel(&self, intent: &OrderIntent, is_closed: bool, now: Moment) -> bool {
        self.cancels.get(&intent.id).is_none_or(|cancel| {
            let wait = match cancel.answer {
                None => CANCEL_SENT,
                Some(RequestState::Rejected | RequestState::NotSent) => CANCEL_REFUSED,
                Some(_) => CANCEL_ANSWERED,
            };
            let wait = match is_closed && intent.bidding().is_some() {
                true => (wait * (1 << cancel.before.min(6))).min(CANCEL_AT_MOST),
                false => wait,
            };
            now.since(cancel.at) >= wait
        })
    }

    /// A cancel was asked for.
    pub fn cancelled(&mut self, id: IntentId, now: Moment) {
        let before = self.cancels.get(&id).map_or(0, |cancel| cancel.before + 1);
        self.cancels.insert(id, Cancel { at: now, answer: None, before });
    }

    pub fn forget(&mut self, book: &Book, now: Moment) {
        let rests = |id: &IntentId| book.intents.get(id).is_some_and(|t| !t.intent.state.is_terminal());
        self.shown.retain(|id, _| rests(id));
        self.seen.retain(|id| rests(id));
        self.cancels.retain(|id, _| rests(id));
        self.moves.retain(|id, _| rests(id));
        self.refused.retain(|id, _| rests(id));
        let hit = |id: &IntentId| {
            book.intents.get(id).is_some_and(|t| book.closing.contains_key(&t.intent.position))
        };
        self.hits.retain(|id, _| rests(id) && hit(id));
        self.room.retain(|_, until| now < *until);
        self.paces.retain(|id, _| book.position(*id).is_some());
        self.bare.retain(|id, _| book.position(*id).is_some());
    }
}
