//! What the broker's books say about our intents: fills, ends, lost acknowledgements found, absences proven.
//!
//! 1. Fills come from the trade book alone; a `complete` without its trades proves nothing.
//! 2. `cancelled` and `rejected` count once the readings have said so for `END_SETTLES`, or, where the row before
//!    says the same, for `INHERITED_SETTLES`: some bridge plugins show an order in transit with that row's status.
//!    Trades that come after such an end are booked all the same: they are facts.
//! 3. An in-doubt intent is found by its terms among orders that no intent explains and that were not there before
//!    it was sent. Found, it is adopted with its fills.
//! 4. Not found proves nothing before `sent_by + U + B`: only a reading begun after that may abandon it, and only one
//!    of the order's own day: the next day's book never held it.
//! 5. An order found for an abandoned intent is adopted and, if it is an entry, closed at once; but not while an
//!    intent of the same terms is under way or in doubt, whose order it rather is.
//! 6. Books take nothing back: a row that is missing (a new day, a stale cache) unsays no fill and no state. But no
//!    order outlives its day: one that the verified books of a later day lack for B has ended, with the fills that are
//!    known, and the operator is told. Otherwise it would hold its position's exits back for ever.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use ha::Moment;

use super::Engine;
use super::adoption::{Ambiguity, adopt};
use super::book::{Book, Tracked};
use super::decide::Rules;
use super::draft::{BookingError, Draft};
pub use super::ends::Suspects;
use super::ends::{END_SETTLES, End, INHERITED_SETTLES};
use super::term::wall_clock;
use super::trades::{Traded, Trades, sum_trades};
use crate::broker::session::SessionState;
use crate::broker::{Books, BrokerError, BrokerOrder};
use crate::domain::ids::IntentId;
use crate::domain::intent::OrderIntent;
use crate::domain::money::{Price, Quantity};
use crate::domain::order::{IntentState, OrderClass};
use crate::domain::sessions::trading_day;
use crate::ledger::Change;

/// When an absence is proven.
#[derive(Clone, Copy, Debug)]
pub struct AbsenceRule {
    /// U: how long written bytes may stay unacknowledged.
    pub user_timeout: Duration,
    /// B: how long an order may take to appear.
    pub settle: Duration,
    /// The bridge is known to close idle connections sooner than B, so a paused process cannot write late. Otherwise an
    /// exit's absence proves something only when its sender is known to be past writing.
    pub idle_close_known: bool,
}

/// One reading of the books and when it was begun.
#[derive(Clone, Debug)]
pub struct Reading {
    /// What was read.
    pub books: Books,
    /// The moment the first request left.
    pub begun: Moment,
    /// The day in India in which all of it was read; none if it turned meanwhile.
    pub day: Option<NaiveDate>,
    /// The broker's session is known to be alive, so an empty book is the broker's word.
    pub verified: bool,
}

impl Reading {
    /// Reads the books, from `begun` on.
    pub(super) async fn take(engine: &Engine, begun: Moment) -> Result<Self, BrokerError> {
        let day = trading_day(wall_clock());
        let books = engine.broker.books().await?;
        let day = (day == trading_day(wall_clock())).then_some(day);
        let verified = engine.session.borrow().state == SessionState::Valid;
        Ok(Self { books, begun, day, verified })
    }
}

/// What the books changed.
#[derive(Debug, Default)]
pub struct Findings {
    /// Those that something is to be recorded of, in order; each drafted over the book as it is now.
    pub intents: Vec<IntentId>,
    /// Orders that no intent explains and that were not known.
    pub foreign: Vec<String>,
    /// Such orders were looked for: no intent's outcome was open that one of them may have been.
    pub looked: bool,
    /// In-doubt intents with more candidates than intents: the operator's word is needed.
    pub ambiguous: Vec<Ambiguity>,
    /// Those of `intents` whose end nobody saw: their day is over, and no book shows them.
    pub unseen: Vec<IntentId>,
}

impl Findings {
    /// Every order in the books was compared with what is known, and is an intent's.
    pub fn explain_every_order(&self) -> bool {
        self.looked && self.foreign.is_empty() && self.ambiguous.is_empty()
    }
}

/// Everything an intent's evidence is judged by.
pub struct Evidence<'a> {
    orders: HashMap<&'a str, &'a BrokerOrder>,
    traded: HashMap<Trades<'a>, Option<Traded>>,
    adopted: BTreeMap<IntentId, String>,
    ambiguous: Vec<Ambiguity>,
    unclaimed: Vec<String>,
    looked: bool,
    strange: Vec<Strange<'a>>,
    reading: &'a Reading,
    rule: AbsenceRule,
}

impl<'a> Evidence<'a> {
    /// Sums the trades and matches the intents whose order id is not known.
    pub fn gather(book: &Book, reading: &'a Reading, rule: AbsenceRule) -> Self {
        let orders: HashMap<&str, &BrokerOrder> =
            reading.books.orders.iter().map(|order| (order.order_id.as_str(), order)).collect();
        let (adopted, ambiguous) = adopt(book, &reading.books.orders);
        let taken: HashSet<&String> = adopted.values().collect();
        // While any intent's outcome is open, an unexplained order may be its: it is not written off as foreign.
        let looked = !book.intents.values().any(|t| t.intent.state.is_unresolved());
        let unclaimed = if !looked {
            Vec::new()
        } else {
            let ids = reading.books.orders.iter().map(|order| &order.order_id);
            let ids = ids.chain(reading.books.foreign.iter().map(|row| &row.order_id));
            ids.filter(|id| {
                !book.claimed.contains(*id) && !book.foreign.contains_key(*id) && !taken.contains(id)
            })
            .cloned()
            .collect()
        };
        let strange = reading.books.foreign.iter().filter(|row| !book.claimed.contains(&row.order_id));
        let seen = |id: &str| book.foreign.get(id).copied();
        Self {
            orders,
            traded: sum_trades(&reading.books.trades),
            adopted,
            ambiguous,
            unclaimed,
            looked,
            strange: strange.map(|row| Strange { symbol: &row.symbol, seen: seen(&row.order_id) }).collect(),
            reading,
            rule,
        }
    }

    /// What there is to do about it: which intents to [`settle`](Self::settle), and what to tell.
    pub fn findings(&self, book: &Book, suspects: &mut Suspects) -> Findings {
        let mut fresh = Suspects::default();
        let mut findings = Findings {
            foreign: self.unclaimed.clone(),
            looked: self.looked,
            ambiguous: self.ambiguous.clone(),
            ..Findings::default()
        };
        for tracked in book.intents.values() {
            if let Some(verdict) = self.verdict(tracked, suspects, &mut fresh) {
                findings.intents.push(tracked.intent.id);
                findings.unseen.extend(verdict.unseen.then_some(tracked.intent.id));
            }
        }
        *suspects = fresh;
        findings
    }

    /// Drafts the change of intents that [`findings`](Self::findings) named, of each instrument one; `confirmed` are their
    /// suspects.
    ///
    /// # Errors
    /// The trades contradict a position.
    pub fn settle(
        &self,
        book: &Book,
        rules: &Rules,
        ids: &[IntentId],
        confirmed: &Suspects,
        at: DateTime<Utc>,
    ) -> Result<Change, BookingError> {
        let mut draft = Draft::new(book, rules, at);
        for tracked in ids.iter().filter_map(|id| book.intents.get(id)) {
            let Some(verdict) = self.verdict(tracked, confirmed, &mut Suspects::default()) else { continue };
            draft.intent(tracked, verdict.state, verdict.reason, verdict.order_id);
            if let Some((quantity, price)) = verdict.fill {
                draft.fill(&tracked.intent, quantity, price)?;
            }
        }
        Ok(draft.finish())
    }

    fn verdict(&self, tracked: &Tracked, suspects: &Suspects, fresh: &mut Suspects) -> Option<Verdict> {
        let intent = &tracked.intent;
        let order_id = intent.broker_order_id.as_deref().or(self.adopted.get(&intent.id).map(String::as_str));
        let Some(order_id) = order_id else { return self.absence(tracked) };
        let adopted = intent.broker_order_id.is_none();
        // Sums that leave the numbers' range say nothing that could be booked.
        let traded = self.traded_of(intent, order_id).unwrap_or(Some(Traded::default()))?;
        let Traded { quantity, value } = traded.at_most(intent.order.quantity);
        let quantity = quantity.max(intent.filled);
        let fresh_units = quantity - intent.filled;
        let fill = (fresh_units > Quantity::ZERO).then(|| {
            let price = (value - tracked.filled_value) / fresh_units.decimal();
            (fresh_units, Price(price.round_dp(8)))
        });
        let mut end = None;
        let state = if quantity == intent.order.quantity {
            IntentState::Filled
        } else if intent.state.is_terminal() && intent.state != IntentState::Abandoned {
            intent.state
        } else {
            end = self.believed_end(intent, order_id, suspects, fresh);
            match end {
                Some(End::Cancelled | End::Gone) => IntentState::Cancelled,
                Some(End::Rejected) => IntentState::Rejected,
                None if quantity > Quantity::ZERO => IntentState::PartiallyFilled,
                None => IntentState::Acknowledged,
            }
        };
        if state == intent.state && fill.is_none() {
            return None;
        }
        let said = self.order_of(intent, order_id).and_then(|order| order.rejection_reason.clone());
        let reason = match end {
            Some(End::Rejected) => Some(said.unwrap_or("the broker's order book says rejected".to_owned())),
            Some(End::Gone) => Some(self.unseen_end(intent, order_id)),
            _ if adopted => Some(format!("found in the broker's books as order {order_id}")),
            _ => None,
        };
        let unseen = end == Some(End::Gone) && !intent.rests();
        Some(Verdict { state, reason, order_id: adopted.then(|| order_id.to_owned()), fill, unseen })
    }

    /// The end that the books show, once they have shown it for long enough. An abandoned intent is first found, then
    /// ended.
    fn believed_end(
        &self,
        intent: &OrderIntent,
        order_id: &str,
        suspects: &Suspects,
        fresh: &mut Suspects,
    ) -> Option<End> {
        let (end, settles) = match self.order_of(intent, order_id) {
            Some(order) if order.may_inherit => (End::of(&order.status)?, INHERITED_SETTLES),
            Some(order) => (End::of(&order.status)?, END_SETTLES),
            // The exchange ended it with its day; nothing of it can come to light any more.
            None if self.is_gone(intent, order_id) && intent.rests() => (End::Gone, END_SETTLES),
            None if self.is_gone(intent, order_id) => (End::Gone, self.rule.settle),
            None => return None,
        };
        let settled = suspects.carry(order_id, end, self.reading.begun, settles, fresh);
        (settled && intent.state != IntentState::Abandoned).then_some(end)
    }

    /// The books of a later day, verified, know nothing of an order that was at the broker.
    fn is_gone(&self, intent: &OrderIntent, order_id: &str) -> bool {
        let later = intent.day.zip(self.reading.day).is_some_and(|(journaled, read)| read > journaled);
        let unreadable = || self.reading.books.foreign.iter().any(|row| row.order_id == order_id);
        intent.state.is_live()
            && later
            && self.reading.verified
            && self.traded_of(intent, order_id).is_none()
            && !unreadable()
    }

    /// The row of an intent's order; one of the same id on another contract or side is another day's.
    fn order_of(&self, intent: &OrderIntent, order_id: &str) -> Option<&BrokerOrder> {
        let order = self.orders.get(order_id).copied()?;
        ((&order.symbol, order.side) == (&intent.order.symbol, intent.order.side)).then_some(order)
    }

    /// What an order's trades add up to, if it has any; none inside where that leaves the numbers' range.
    fn traded_of(&self, intent: &OrderIntent, order_id: &str) -> Option<Option<Traded>> {
        let (symbol, side) = (intent.order.symbol.as_str(), intent.order.side);
        self.traded.get(&Trades { order_id, symbol, side }).copied()
    }

    fn unseen_end(&self, intent: &OrderIntent, order_id: &str) -> String {
        let day = intent.day.map(|day| format!(" of {day}")).unwrap_or_default();
        format!(
            "order {order_id}{day} is in no book any more and nobody saw its end: taken for ended with {} of {} units \
             filled; look it up at the broker",
            intent.filled, intent.order.quantity
        )
    }

    /// An in-doubt intent that is not in books of its day, read late enough, is proven absent.
    fn absence(&self, tracked: &Tracked) -> Option<Verdict> {
        let intent = &tracked.intent;
        let ambiguous = self.ambiguous.iter().any(|(intents, _)| intents.contains(&intent.id));
        let provable = intent.class == OrderClass::Entry || self.rule.idle_close_known || tracked.silent;
        if intent.state != IntentState::InDoubt
            || ambiguous
            || !provable
            || self.strange.iter().any(|row| row.may_hide(intent))
            || intent.day.is_none()
            || self.reading.day != intent.day
            || self.reading.begun <= tracked.sent_by.plus(self.rule.user_timeout).plus(self.rule.settle)
        {
            return None;
        }
        let reason = format!(
            "not in the broker's books {} ms after its last byte could have arrived",
            self.rule.settle.as_millis()
        );
        Some(Verdict {
            state: IntentState::Abandoned,
            reason: Some(reason),
            order_id: None,
            fill: None,
            unseen: false,
        })
    }
}

struct Verdict {
    state: IntentState,
    reason: Option<String>,
    order_id: Option<String>,
    fill: Option<(Quantity, Price)>,
    /// The end that it tells of was seen by nobody.
    unseen: bool,
}

/// An order of a kind that this agent never sends, and its place among the foreign orders if it is known.
struct Strange<'a> {
    symbol: &'a str,
    seen: Option<i64>,
}

impl Strange<'_> {
    /// It may be this intent's own order, shown in words that cannot be read.
    fn may_hide(&self, intent: &OrderIntent) -> bool {
        self.symbol == intent.order.symbol && self.seen.is_none_or(|seen| seen > intent.watermark)
    }
}
