//! What the broker's books say about our intents: fills, ends, lost acknowledgements found, absences proven.
//!
//! 1. Fills come from the trade book alone; a `complete` without its trades proves nothing.
//! 2. `cancelled` and `rejected` count once the readings have said so for [`END_SETTLES`]: some bridge plugins show
//!    an order in transit with the status of the row before. Trades that come after such an end are booked all the
//!    same: they are facts.
//! 3. An in-doubt intent is found by its terms among orders that no intent explains and that were not there before
//!    it was sent. Found, it is adopted with its fills.
//! 4. Not found proves nothing before `sent_by + U + B`: only a reading begun after that may abandon it.
//! 5. An order found for an abandoned intent is adopted and, if it is an entry, closed at once; but not while an
//!    intent of the same terms is under way or in doubt, whose order it rather is.
//! 6. Books take nothing back: a row that is missing (a new day, a stale cache) unsays no fill and no state.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use ha::Moment;

use super::book::{Book, Tracked};
use super::draft::{BookingError, Draft};
use super::trades::{Traded, sum_trades};
use crate::broker::matching::{Unresolved, match_orders};
use crate::broker::{Books, BrokerOrder, OrderStatus};
use crate::domain::ids::IntentId;
use crate::domain::instrument::Catalog;
use crate::domain::intent::OrderIntent;
use crate::domain::money::{Price, Quantity};
use crate::domain::order::{IntentState, OrderClass, OrderSpec};
use crate::ledger::Change;
use crate::mutant::Mutant;

/// How long the readings must call an order cancelled or rejected before it is believed.
pub const END_SETTLES: Duration = Duration::from_secs(1);

/// When an absence is proven.
#[derive(Clone, Copy, Debug)]
pub struct AbsenceRule {
    /// U: how long written bytes may stay unacknowledged.
    pub user_timeout: Duration,
    /// B: how long an order may take to appear.
    pub settle: Duration,
    /// The bridge is known to close idle connections sooner than B, so a paused process cannot write late.
    pub idle_close_known: bool,
}

/// One reading of the books and when it was begun.
#[derive(Clone, Debug)]
pub struct Reading {
    /// What was read.
    pub books: Books,
    /// The moment the first request left.
    pub begun: Moment,
}

/// Ends that readings claim, by order id, until they are believed.
#[derive(Clone, Debug, Default)]
pub struct Suspects(HashMap<String, Claim>);

/// An end, and since which reading it is claimed without a break.
#[derive(Clone, Debug)]
struct Claim {
    end: OrderStatus,
    since: Moment,
}

/// What the books changed.
#[derive(Debug, Default)]
pub struct Findings {
    /// One change an intent, to be committed in order; each drafted over the book as it is now.
    pub intents: Vec<IntentId>,
    /// Orders that no intent explains and that were not known.
    pub foreign: Vec<String>,
    /// In-doubt intents with more candidates than intents: the operator's word is needed.
    pub ambiguous: Vec<(Vec<IntentId>, Vec<String>)>,
}

/// Everything an intent's evidence is judged by.
pub struct Evidence<'a> {
    orders: HashMap<&'a str, &'a BrokerOrder>,
    traded: HashMap<&'a str, Option<Traded>>,
    adopted: BTreeMap<IntentId, String>,
    ambiguous: Vec<(Vec<IntentId>, Vec<String>)>,
    unclaimed: Vec<String>,
    strange: Vec<Strange<'a>>,
    begun: Moment,
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
        let unclaimed = if book.intents.values().any(|t| t.intent.state.is_unresolved()) {
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
            strange: strange.map(|row| Strange { symbol: &row.symbol, seen: seen(&row.order_id) }).collect(),
            begun: reading.begun,
            rule,
        }
    }

    /// What there is to do about it: which intents to [`settle`](Self::settle), and what to tell.
    pub fn findings(&self, book: &Book, suspects: &mut Suspects) -> Findings {
        let mut claimed_ends = HashMap::new();
        let mut intents = Vec::new();
        for tracked in book.intents.values() {
            if self.verdict(tracked, suspects, &mut claimed_ends).is_some() {
                intents.push(tracked.intent.id);
            }
        }
        suspects.0 = claimed_ends;
        Findings { intents, foreign: self.unclaimed.clone(), ambiguous: self.ambiguous.clone() }
    }

    /// Drafts the change of one intent that [`findings`](Self::findings) named; `confirmed` are its suspects.
    ///
    /// # Errors
    /// The trades contradict the position.
    pub fn settle(
        &self,
        book: &Book,
        catalog: &Catalog,
        id: IntentId,
        confirmed: &Suspects,
        at: DateTime<Utc>,
    ) -> Result<Change, BookingError> {
        let mut draft = Draft::new(book, catalog, at);
        let Some(tracked) = book.intents.get(&id) else { return Ok(draft.finish()) };
        let Some(verdict) = self.verdict(tracked, confirmed, &mut HashMap::new()) else {
            return Ok(draft.finish());
        };
        draft.intent(tracked, verdict.state, verdict.reason, verdict.order_id);
        if let Some((quantity, price)) = verdict.fill {
            draft.fill(&tracked.intent, quantity, price)?;
        }
        Ok(draft.finish())
    }

    fn verdict(
        &self,
        tracked: &Tracked,
        suspects: &Suspects,
        claims: &mut HashMap<String, Claim>,
    ) -> Option<Verdict> {
        let intent = &tracked.intent;
        let order_id = intent.broker_order_id.as_deref().or(self.adopted.get(&intent.id).map(String::as_str));
        let Some(order_id) = order_id else { return self.absence(tracked) };
        let adopted = intent.broker_order_id.is_none();
        // Sums that leave the numbers' range say nothing that could be booked.
        let traded = self.traded.get(order_id).copied().unwrap_or(Some(Traded::default()))?;
        let Traded { quantity, value } = traded.at_most(intent.order.quantity);
        let quantity = quantity.max(intent.filled);
        let fresh = quantity - intent.filled;
        let fill = (fresh > Quantity::ZERO).then(|| {
            let price = (value - tracked.filled_value) / fresh.decimal();
            (fresh, Price(price.round_dp(8)))
        });
        let state = if quantity == intent.order.quantity {
            IntentState::Filled
        } else if intent.state.is_terminal() && intent.state != IntentState::Abandoned {
            intent.state
        } else {
            match self.believed_end(intent.state, order_id, suspects, claims) {
                Some(OrderStatus::Cancelled) => IntentState::Cancelled,
                Some(_) => IntentState::Rejected,
                None if quantity > Quantity::ZERO => IntentState::PartiallyFilled,
                None => IntentState::Acknowledged,
            }
        };
        if state == intent.state && fill.is_none() {
            return None;
        }
        let reason =
            match (adopted, self.orders.get(order_id).and_then(|order| order.rejection_reason.clone())) {
                (_, Some(reason)) if state == IntentState::Rejected => Some(reason),
                (false, _) if state == IntentState::Rejected => {
                    Some("the broker's order book says rejected".to_owned())
                }
                (true, _) => Some(format!("found in the broker's books as order {order_id}")),
                _ => None,
            };
        Some(Verdict { state, reason, order_id: adopted.then(|| order_id.to_owned()), fill })
    }

    /// The end that the order book shows, once it has shown it for long enough. An abandoned intent is first found,
    /// then ended.
    fn believed_end(
        &self,
        state: IntentState,
        order_id: &str,
        suspects: &Suspects,
        claims: &mut HashMap<String, Claim>,
    ) -> Option<&OrderStatus> {
        let end = self.orders.get(order_id).map(|order| &order.status)?;
        if !matches!(end, OrderStatus::Cancelled | OrderStatus::Rejected) {
            return None;
        }
        let before = suspects.0.get(order_id).filter(|claim| claim.end == *end);
        let since = before.map_or(self.begun, |claim| claim.since);
        claims.insert(order_id.to_owned(), Claim { end: end.clone(), since });
        let settled = self.begun.since(since) >= END_SETTLES;
        (settled && state != IntentState::Abandoned).then_some(end)
    }

    /// An in-doubt intent that is not in books read late enough is proven absent.
    fn absence(&self, tracked: &Tracked) -> Option<Verdict> {
        let intent = &tracked.intent;
        let ambiguous = self.ambiguous.iter().any(|(intents, _)| intents.contains(&intent.id));
        let provable = intent.class == OrderClass::Entry || self.rule.idle_close_known;
        if intent.state != IntentState::InDoubt
            || ambiguous
            || !provable
            || self.strange.iter().any(|row| row.may_hide(intent))
            || self.begun <= tracked.sent_by.plus(self.rule.user_timeout).plus(self.rule.settle)
        {
            return None;
        }
        let reason = format!(
            "not in the broker's books {} ms after its last byte could have arrived",
            self.rule.settle.as_millis()
        );
        Some(Verdict { state: IntentState::Abandoned, reason: Some(reason), order_id: None, fill: None })
    }
}

struct Verdict {
    state: IntentState,
    reason: Option<String>,
    order_id: Option<String>,
    fill: Option<(Quantity, Price)>,
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

type Adopted = (BTreeMap<IntentId, String>, Vec<(Vec<IntentId>, Vec<String>)>);

/// Matches the intents whose order id is not known, those of the same terms together: an order that was seen before
/// the oldest of them was journaled is none of theirs, whatever older intents of other terms are still looked for.
fn adopt(book: &Book, orders: &[BrokerOrder]) -> Adopted {
    if Mutant::AdoptsNothing.is_on() {
        return Adopted::default();
    }
    let mut groups: Vec<(&OrderSpec, Vec<&Tracked>)> = Vec::new();
    for tracked in book.intents.values().filter(|t| is_lost(t) && !is_shadowed(t, book)) {
        match groups.iter_mut().find(|(terms, _)| **terms == tracked.intent.order) {
            Some((_, group)) => group.push(tracked),
            None => groups.push((&tracked.intent.order, vec![tracked])),
        }
    }
    let (mut adopted, mut ambiguous) = Adopted::default();
    for (_, group) in groups {
        let oldest = group.iter().map(|t| t.intent.watermark).min().unwrap_or(i64::MAX);
        let foreign = book.foreign.iter().filter(|(_, seen)| **seen <= oldest).map(|(id, _)| id);
        let known: HashSet<String> =
            book.claimed.iter().chain(foreign).chain(adopted.values()).cloned().collect();
        let unresolved: Vec<Unresolved> = group
            .iter()
            .map(|tracked| Unresolved {
                intent: tracked.intent.id,
                spec: tracked.intent.order.clone(),
                strategy: tracked.intent.strategy_tag(),
            })
            .collect();
        let matching = match_orders(&unresolved, orders, &known);
        adopted.extend(matching.found.into_iter().map(|found| (found.intent, found.order_id)));
        ambiguous.extend(matching.ambiguous.into_iter().map(|a| (a.intents, a.order_ids)));
    }
    (adopted, ambiguous)
}

/// An abandoned intent takes no order that may belong to one of the same terms which is under way or in doubt.
fn is_shadowed(tracked: &Tracked, book: &Book) -> bool {
    tracked.intent.state == IntentState::Abandoned
        && book
            .intents
            .values()
            .any(|other| other.intent.state.is_unresolved() && other.intent.order == tracked.intent.order)
}

/// Its order, if there is one, has to be found by its terms.
fn is_lost(tracked: &Tracked) -> bool {
    matches!(tracked.intent.state, IntentState::InDoubt | IntentState::Abandoned)
        && tracked.intent.broker_order_id.is_none()
}
