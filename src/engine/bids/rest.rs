//! What a cancelled bid left, ordered once more: never beside the order that it follows.
//!
//! An entry *pauses* when the books have shown the end of its order and its signal has not ended. Whoever leads then decides
//! by what is stored: the cancel that made room for another order, what was bought, and what the broker's position book,
//! read after the end, holds. The ledger takes the order only where all that was bought, and all that may still be, leaves
//! room for it. So a leader that dies anywhere here leaves a pause, or an order that is an intent like every other.

use std::collections::HashMap;

use ha::Moment;
use serde_json::json;

use super::is_unwanted;
use crate::domain::execution::Bidding;
use crate::domain::ids::SignalId;
use crate::domain::intent::{EntryPlan, OrderIntent};
use crate::domain::limits::ORDERS_A_DAY;
use crate::domain::money::Quantity;
use crate::domain::order::IntentState;
use crate::domain::refusal::Refusal;
use crate::domain::{auction, sessions, square_off};
use crate::engine::anew;
use crate::engine::book::{Book, means};
use crate::engine::draft::shortfall;
use crate::engine::holdings::drift_on;
use crate::engine::intents::rest_order;
use crate::engine::orders::BLOCKED_RETRY;
use crate::engine::term::{Term, wall_clock};
use crate::ledger::change::SignalUpdate;
use crate::ledger::inbox::SignalStatus;
use crate::ledger::{Change, LedgerError};

/// An entry between two orders.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::engine) struct Pause {
    pub signal: SignalId,
    /// Its last order.
    pub last: OrderIntent,
    /// The bids that another order may follow, if one may.
    pub bidding: Option<Bidding>,
    /// What all of its orders bought.
    pub bought: Quantity,
    /// Nobody wants more of it.
    pub unwanted: bool,
}

/// What is to become of it.
enum Verdict {
    Wait,
    /// It ends; why no other order follows, where that needs saying.
    End(Option<Refusal>),
    Order(Box<OrderIntent>),
}

/// Since when a pause is known, and when it is to be looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    since: Moment,
    not_before: Moment,
}

/// True while an entry of an instrument is between two orders.
pub(in crate::engine) fn is_paused_on(book: &Book, instrument: &str) -> bool {
    pauses(book).any(|pause| pause.last.instrument == instrument)
}

/// The entries that are between two orders.
pub(in crate::engine) fn pauses(book: &Book) -> impl Iterator<Item = Pause> {
    let entries = book.working.iter().filter(|(_, working)| working.kind.opens());
    entries.filter_map(|(signal, working)| {
        let orders = working.intents.iter().filter_map(|id| book.intents.get(id)).map(|t| &t.intent);
        let mut orders: Vec<&OrderIntent> = orders.collect();
        orders.sort_by_key(|intent| intent.attempt);
        let last = *orders.last().filter(|_| orders.iter().all(|intent| intent.state.is_terminal()))?;
        let mut biddings = orders.iter().rev().filter_map(|intent| intent.bidding());
        Some(Pause {
            signal: *signal,
            last: last.clone(),
            bidding: biddings.find(|bidding| bidding.rest_at.is_some()).cloned(),
            bought: orders.iter().map(|intent| intent.filled).sum(),
            unwanted: orders.iter().any(|intent| is_unwanted(book, intent)),
        })
    })
}

impl Pause {
    fn wanted(&self) -> Quantity {
        self.last.bidding().map_or(self.last.order.quantity, |bidding| bidding.units)
    }

    /// Units that another order may still buy. It may follow a last one that was cancelled, or provably never left.
    pub fn left(&self) -> Quantity {
        let may_follow = match self.last.state {
            IntentState::Cancelled => true,
            IntentState::NotSent => anew::may_follow(&self.last),
            _ => false,
        };
        match &self.bidding {
            Some(bidding) if may_follow && self.bought < bidding.units => bidding.units - self.bought,
            _ => Quantity::ZERO,
        }
    }
}

impl Term<'_> {
    /// Orders what ended bids left, or ends their entries. Before signals are decided: an entry between two orders holds its
    /// lane.
    pub(in crate::engine) async fn resume_entries(&mut self) -> Result<(), LedgerError> {
        let paused: Vec<Pause> = pauses(&self.book).collect();
        self.bids.pauses.retain(|id, _| paused.iter().any(|pause| pause.signal == *id));
        for pause in paused {
            match self.judge(&pause).await? {
                Verdict::Wait => {}
                Verdict::End(why) => self.end_entry(pause.signal, why).await?,
                Verdict::Order(rest) => self.order_rest(&pause, *rest).await?,
            }
        }
        Ok(())
    }

    async fn judge(&mut self, pause: &Pause) -> Result<Verdict, LedgerError> {
        let (now, wall) = (self.fence().now(), wall_clock());
        let Some(bidding) = &pause.bidding else { return Ok(Verdict::End(None)) };
        let units = pause.left();
        if units == Quantity::ZERO {
            return Ok(Verdict::End(None));
        }
        if let Some(refusal) = self.refused(pause, bidding, wall) {
            return Ok(Verdict::End(Some(refusal)));
        }
        let known = match self.bids.pauses.get(&pause.signal) {
            Some(known) => *known,
            None => {
                let ledger = &self.engine.ledger;
                if !self.ask_pool(|| ledger.was_cancelled_for_more(pause.signal)).await? {
                    return Ok(Verdict::End(None));
                }
                *self.bids.pauses.entry(pause.signal).or_insert(Known { since: now, not_before: now })
            }
        };
        let instrument = self.engine.rules.catalog.get(&pause.last.instrument);
        let drifts = instrument.is_none_or(|instrument| drift_on(&self.book.drift, instrument).is_some());
        if now < known.not_before
            || drifts
            || !self.entries_wait_for().is_empty()
            || !self.agrees_since(&pause.last, known.since)
        {
            return Ok(Verdict::Wait);
        }
        let Some(bids) = bidding.rest(self.engine.rules.policy.orders.entry_patience_ms, wall) else {
            return Ok(Verdict::End(None));
        };
        let rest = rest_order(&self.engine.rules, &self.book, &pause.last, units, bids);
        Ok(Verdict::Order(Box::new(rest)))
    }

    /// What forbids another order for good.
    fn refused(
        &self,
        pause: &Pause,
        bidding: &Bidding,
        wall: chrono::DateTime<chrono::Utc>,
    ) -> Option<Refusal> {
        let rules = &self.engine.rules;
        let meant = |plan: &EntryPlan| {
            self.lanes.exits().any(|exit| exit.instrument == pause.last.instrument && means(&exit, plan))
        };
        if pause.unwanted || pause.last.plan.as_ref().is_some_and(meant) {
            return Some(Refusal::new("OVERTAKEN_BY_EXIT", "its position is meant to be gone"));
        }
        if bidding.is_stale(wall, rules.policy.age.reject_s) {
            return Some(Refusal::new("SIGNAL_TOO_OLD", "nobody led for too long between its two orders"));
        }
        self.lets_in_no_more(&pause.last, wall)
    }

    /// What of the clock and of the account's limits would refuse an entry now whose order is this one's.
    pub(super) fn lets_in_no_more(
        &self,
        entry: &OrderIntent,
        wall: chrono::DateTime<chrono::Utc>,
    ) -> Option<Refusal> {
        let rules = &self.engine.rules;
        let judged = sessions::judge(self.book.calendar.as_deref(), &entry.order.exchange, wall);
        if let Some(closed) = judged.err().filter(|_| !rules.allow_after_market) {
            return Some(closed);
        }
        if let Some(instrument) = rules.catalog.get(&entry.instrument) {
            let (calendar, square_off) = (self.book.calendar.as_deref(), &rules.policy.square_off);
            let late = square_off::judge_entry(square_off, calendar, instrument, wall).err();
            let auction = || auction::judge_entry(calendar, instrument, wall).err();
            if let Some(refusal) = late.or_else(|| auction().filter(|_| !rules.allow_after_market)) {
                return Some(refusal);
            }
        }
        // Its own order and its own position count already.
        let hit = self.book.day.as_ref().map(|day| day.refusals(&rules.policy.limits, 0));
        hit.and_then(|refusals| refusals.into_iter().find(|refusal| refusal.code != ORDERS_A_DAY))
    }

    async fn order_rest(&mut self, pause: &Pause, rest: OrderIntent) -> Result<(), LedgerError> {
        let (id, now) = (rest.id, self.fence().now());
        tracing::info!(
            signal = %pause.signal,
            "{} of {} units were bought; {} more are ordered at {} at most",
            pause.bought, pause.wanted(), rest.order.quantity, rest.order.price
        );
        if let Some(known) = self.bids.pauses.get_mut(&pause.signal) {
            known.not_before = now.plus(BLOCKED_RETRY);
        }
        self.book.plan(rest.clone(), now);
        self.journal_and_send(vec![rest], Vec::new(), &HashMap::new()).await?;
        if self.book.intents.contains_key(&id) {
            self.engine.metrics.bids.with_label_values(&["rest_ordered"]).inc();
        }
        Ok(())
    }

    /// Ends an entry that is between two orders: what it bought is held, the rest is not bought.
    pub(in crate::engine) async fn end_entry(
        &mut self,
        signal: SignalId,
        why: Option<Refusal>,
    ) -> Result<(), LedgerError> {
        let Some(pause) = pauses(&self.book).find(|pause| pause.signal == signal) else { return Ok(()) };
        let status = match pause.bought {
            Quantity::ZERO => SignalStatus::Rejected,
            _ => SignalStatus::Executed,
        };
        let mut reasons = vec![shortfall(pause.bought, pause.wanted())];
        reasons.extend(why);
        self.engine.metrics.bids.with_label_values(&["rest_left"]).inc();
        self.clocks.forget(signal);
        let update = SignalUpdate { id: signal, status, reasons: json!(reasons), decision: None };
        self.commit(Change { signals: vec![update], ..Change::default() }).await
    }

    /// Ends the entries that are between two orders and are meant: nobody is to go on with them.
    pub(in crate::engine) async fn end_paused_entries(
        &mut self,
        meant: impl Fn(&OrderIntent) -> bool,
        why: &str,
    ) -> Result<(), LedgerError> {
        let paused = pauses(&self.book).filter(|pause| meant(&pause.last));
        let paused: Vec<SignalId> = paused.map(|pause| pause.signal).collect();
        for signal in paused {
            self.end_entry(signal, Some(Refusal::new("OVERTAKEN_BY_EXIT", why))).await?;
        }
        Ok(())
    }
}
