//! Orders: journaled together in one statement, sent each on its own, held back when the ledger says no.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use super::anew::NEVER_GIVEN_OUT;
use super::book::Tracked;
use super::intents::exit_order;
use super::lanes::Waiting;
use super::senders::say_unsent;
use super::submit::{Way, submit};
use super::term::Term;
use crate::broker::Ahead;
use crate::domain::exit::ExitRequest;
use crate::domain::ids::{IntentId, SignalId};
use crate::domain::intent::OrderIntent;
use crate::domain::order::{IntentState, OrderClass};
use crate::domain::refusal::Refusal;
use crate::domain::signal::SignalType;
use crate::failpoint;
use crate::ledger::change::IntentUpdate;
use crate::ledger::journal::Blocked;
use crate::ledger::{Change, JournaledIntent, LedgerError};
use crate::strategy::states;
use crate::telemetry::traces::Step;

/// How long a signal or an exit that a switch or the ledger holds back waits before the next try.
pub(super) const BLOCKED_RETRY: Duration = Duration::from_millis(500);

impl Term<'_> {
    /// Exits of positions that are meant to be gone and have no exit out.
    pub(super) fn exits_due(&mut self) -> Vec<OrderIntent> {
        let now = self.fence().now();
        let mut due = Vec::new();
        for (id, closing) in &self.book.closing {
            let held_back = self.custody.as_ref().is_some_and(|custody| !custody.lets(closing.cause));
            if held_back || now < closing.not_before || self.book.exit_is_out(*id) {
                continue;
            }
            let Some(position) = self.book.position(*id) else { continue };
            let (rules, quantity) = (&self.engine.rules, position.quantity);
            let mut intent = exit_order(rules, &self.book, position, quantity, closing.cause);
            intent.reason = closing.why.clone();
            intent.signal = closing.signal.map(|(signal, _)| signal);
            intent.leg = closing.signal.map_or(0, |(_, leg)| leg);
            intent.attempt = closing.next_attempt;
            due.push(intent);
        }
        for intent in &due {
            self.book.plan(intent.clone(), now);
        }
        due
    }

    pub(super) async fn journal_and_send(
        &mut self,
        batch: Vec<OrderIntent>,
        decided: Vec<Waiting>,
        decisions: &HashMap<SignalId, Value>,
    ) -> Result<(), LedgerError> {
        let (batch, crowded) = self.make_room(batch).await?;
        let (batch, held) = self.verified(batch);
        if !batch.is_empty() {
            self.journal(batch, decided, decisions).await?;
        }
        for exit in crowded.iter().chain(&held) {
            self.hold(exit);
        }
        Ok(())
    }

    async fn journal(
        &mut self,
        batch: Vec<OrderIntent>,
        decided: Vec<Waiting>,
        decisions: &HashMap<SignalId, Value>,
    ) -> Result<(), LedgerError> {
        failpoint::hit("before_journal");
        let (begun, at) = (Instant::now(), SystemTime::now());
        let verified = self.verified_units(&batch);
        let broker = &self.engine.broker;
        // One that is not journaled is given back. Of several, those that the journal refuses, or that a slow commit makes ask
        // anew, would be in the others' way.
        let alone = batch.first().filter(|_| batch.len() == 1);
        let mut ahead: HashMap<IntentId, Ahead> =
            alone.and_then(|intent| Some((intent.id, broker.ahead(intent.class)?))).into_iter().collect();
        let ids: Vec<IntentId> = batch.iter().map(|intent| intent.id).collect();
        let journaled = match self.patiently(self.journal.commit(batch, decisions, &verified)).await {
            Ok(journaled) => journaled,
            Err(error) => {
                if !matches!(error, LedgerError::Fenced(_)) {
                    // They may be committed all the same, and were given to nobody to send.
                    let why = format!("{NEVER_GIVEN_OUT}: {error}");
                    tokio::spawn(say_unsent(self.engine.ledger.clone(), ids, why));
                }
                return Err(error);
            }
        };
        // Marked, or no more, since this term read state back.
        self.reread |= journaled.custody != self.custody.is_some();
        let metrics = &self.engine.metrics;
        metrics.order_latency.with_label_values(&["journal"]).observe(begun.elapsed().as_secs_f64());
        let kinds: HashMap<SignalId, SignalType> =
            decided.iter().map(|w| (w.queued.id, w.queued.signal.kind())).collect();
        let mut out = Vec::new();
        for intent in journaled.intents {
            let signal = intent.intent().signal;
            let begun = |id| self.book.working.get(&id).map(|working| working.kind);
            let kind = signal.and_then(|id| kinds.get(&id).copied().or_else(|| begun(id)));
            if let Some(id) = signal {
                self.lanes.remove(id);
            }
            out.extend(signal);
            metrics.orders.with_label_values(&[IntentState::Journaled.as_str()]).inc();
            self.book.journaled(intent.intent().clone(), kind, intent.send_by());
            let ahead = ahead.remove(&intent.id());
            self.send(intent, ahead, at);
        }
        // Not sooner: a signal may have made several orders.
        out.into_iter().for_each(|signal| self.clocks.forget(signal));
        for (intent, blocked) in journaled.blocked {
            self.held_back(&intent, blocked).await?;
        }
        Ok(())
    }

    /// Sends an order in a task of its own, by the place in the budget that was asked for `ahead`; its journaling began at `begun`.
    pub(super) fn send(&mut self, journaled: JournaledIntent, ahead: Option<Ahead>, begun: SystemTime) {
        let epoch = self.fence().epoch().get();
        self.clocks.sent(journaled.intent());
        self.engine
            .traces
            .record(|| Step::order(journaled.intent(), "journal").since(begun).with("baton.epoch", epoch));
        self.in_flight += 1;
        let way = Way {
            broker: Arc::clone(&self.engine.broker),
            ahead,
            fence: self.fence().clone(),
            ledger: self.engine.ledger.clone(),
            events: self.sender.clone(),
            traces: self.engine.traces.clone(),
            underway: self.engine.sending.begin(journaled.id()),
        };
        tokio::spawn(submit(journaled, way));
    }

    /// The ledger did not take an intent: an entry under a switch is refused, everything else is tried again.
    async fn held_back(&mut self, intent: &OrderIntent, blocked: Blocked) -> Result<(), LedgerError> {
        self.book.unplan(intent.id);
        let retry = self.fence().now().plus(BLOCKED_RETRY);
        let refusal = match blocked {
            Blocked::Switch(switches) => {
                let code = if switches.halted { "HALTED" } else { "REDUCE_ONLY" };
                Some(Refusal::new(code, switches.sentence()))
            }
            Blocked::Instrument(switches) => {
                let code = if switches.halted { "INSTRUMENT_HALTED" } else { "INSTRUMENT_REDUCE_ONLY" };
                Some(Refusal::new(code, format!("{}: {}", intent.instrument, switches.sentence())))
            }
            Blocked::Strategy => intent.plan.as_ref().map(|plan| states::disabled(&plan.strategy)),
            Blocked::Custody | Blocked::Ledger => None,
        };
        if let (Some(refusal), OrderClass::Entry, Some(signal)) = (refusal, intent.class, intent.signal) {
            if self.book.working.contains_key(&signal) {
                // An order of it went out before, and ended.
                return self.end_entry(signal, Some(refusal)).await;
            }
            self.lanes.remove(signal);
            return self.refuse(signal, Some(SignalType::BaseEntry), &[refusal], None).await;
        }
        tracing::debug!(intent = %intent.id, ?blocked, "held back; trying again");
        if matches!(blocked, Blocked::Switch(_)) {
            self.book.judge_anew(intent);
        }
        self.try_again(intent, retry);
        Ok(())
    }

    /// Before an EXIT: entries that it means and that are still open or in doubt are marked, so that what they fill
    /// later is closed at once. Returns how many there are.
    pub(super) async fn unwind_entries(&mut self, request: &ExitRequest<'_>) -> Result<usize, LedgerError> {
        let meant = self.book.entries_meant(request);
        let mut change = Change::default();
        for Tracked { intent, .. } in meant.iter().filter_map(|id| self.book.intents.get(id)) {
            if !intent.unwind {
                change.intents.push(IntentUpdate {
                    id: intent.id,
                    state: intent.state,
                    reason: Some("an EXIT came while it was open: a late fill is closed at once".to_owned()),
                    broker_order_id: None,
                    filled: intent.filled,
                    unwind: true,
                });
            }
        }
        self.commit(change).await?;
        Ok(meant.len())
    }
}
