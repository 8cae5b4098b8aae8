//! What follows from events and decisions: commits, installs, sends.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::book::{Queued, Tracked};
use super::decide::{Decision, decide, exit_order, quotes_needed};
use super::draft::Draft;
use super::evidence::{Evidence, Reading};
use super::lanes::{Phase, Waiting, may_decide};
use super::submit::submit;
use super::term::{Event, LANE_LIMIT, Term, wall_clock};
use crate::broker::{BrokerError, NotSentCause, Submission};
use crate::domain::ids::{IntentId, SignalId};
use crate::domain::intent::OrderIntent;
use crate::domain::order::{IntentState, OrderClass};
use crate::domain::portfolio::Quotes;
use crate::domain::refusal::Refusal;
use crate::domain::signal::{Signal, SignalType};
use crate::failpoint;
use crate::ledger::change::{IntentUpdate, SignalUpdate};
use crate::ledger::inbox::{PendingSignal, SignalStatus};
use crate::ledger::journal::Blocked;
use crate::ledger::{Change, LedgerError};

/// How long a signal whose quote could not be read waits before the next try.
const QUOTE_RETRY: Duration = Duration::from_millis(500);
/// How long a signal or an exit that a switch or the ledger holds back waits before the next try.
const BLOCKED_RETRY: Duration = Duration::from_millis(500);
/// Failed readings of the books in a row before the operator is told.
const BRIDGE_PATIENCE: u32 = 3;

impl Term<'_> {
    /// Applies one event: drafts the change, commits it, installs it.
    pub(super) async fn apply(&mut self, event: Event) -> Result<(), LedgerError> {
        match event {
            Event::Outcome { id, submission, took } => self.outcome(id, submission, took).await,
            Event::Quoted { id, quotes, failures } => {
                let retry = self.fence().now().plus(QUOTE_RETRY);
                if let Some(waiting) = self.lanes.find(id) {
                    if !failures.is_empty() {
                        tracing::warn!(signal = %id, "no live price: {}", failures.join("; "));
                        waiting.not_before = retry;
                    }
                    waiting.phase = Phase::Quoted(quotes);
                }
                Ok(())
            }
            Event::Books(Ok(reading)) => self.books(reading).await,
            Event::Books(Err(error)) => {
                self.books_failed(&error);
                Ok(())
            }
        }
    }

    async fn outcome(
        &mut self,
        id: IntentId,
        submission: Submission,
        took: Duration,
    ) -> Result<(), LedgerError> {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.engine.metrics.order_latency.with_label_values(&["send"]).observe(took.as_secs_f64());
        let Some(tracked) = self.book.intents.get(&id) else { return Ok(()) };
        let (state, reason, order_id) = match submission {
            Submission::Acknowledged { order_id } => (IntentState::Acknowledged, None, Some(order_id)),
            Submission::Rejected { reason } => (IntentState::Rejected, Some(reason), None),
            // A human may still release it at the bridge: not proven gone.
            Submission::NotSent { reason, cause: NotSentCause::QueuedForHuman } => {
                (IntentState::InDoubt, Some(reason), None)
            }
            Submission::NotSent { reason, cause } => {
                (IntentState::NotSent, Some(format!("{cause}: {reason}")), None)
            }
            Submission::InDoubt { reason, wrong_mode } => {
                if let Some(wrong) = wrong_mode {
                    self.engine
                        .operational
                        .error("WRONG_MODE", format!("the bridge answered in {} mode", wrong.found));
                }
                (IntentState::InDoubt, Some(reason), None)
            }
        };
        if !tracked.intent.state.may_become(state) {
            return Ok(());
        }
        tracing::info!(
            intent = %id, symbol = %tracked.intent.order.symbol, %state, order_id = order_id.as_deref(),
            took_ms = took.as_millis(), "order {state}{}", reason.as_deref().map(|r| format!(": {r}")).unwrap_or_default()
        );
        let mut draft = Draft::new(&self.book, &self.engine.rules.catalog, wall_clock());
        draft.intent(tracked, state, reason, order_id);
        let change = draft.finish();
        failpoint::hit("before_ack_commit");
        self.commit(change).await?;
        if !state.is_terminal() {
            self.read_books_soon();
        }
        Ok(())
    }

    async fn books(&mut self, reading: Reading) -> Result<(), LedgerError> {
        if self.bridge_failures >= BRIDGE_PATIENCE {
            self.engine.operational.active("the bridge answers again");
        }
        self.bridge_failures = 0;
        let confirmed = self.suspects.clone();
        let mut suspects = std::mem::take(&mut self.suspects);
        let evidence = Evidence::gather(&self.book, &reading, self.engine.pace.absence);
        let findings = evidence.findings(&self.book, &mut suspects);
        self.suspects = suspects;
        for (intents, orders) in &findings.ambiguous {
            tracing::error!(
                ?intents,
                ?orders,
                "more orders at the broker than in-doubt intents: say which is ours"
            );
        }
        for id in &findings.intents {
            let settled =
                evidence.settle(&self.book, &self.engine.rules.catalog, *id, &confirmed, wall_clock());
            match settled {
                Ok(change) => {
                    failpoint::hit("before_fill_commit");
                    self.commit(change).await?;
                }
                Err(error) => {
                    tracing::error!(intent = %id, error = &error as &dyn std::error::Error, "the broker's books contradict the ledger");
                    self.engine.operational.error("DATA_CORRUPT", format!("intent {id}: {error}"));
                }
            }
        }
        if !findings.foreign.is_empty() {
            tracing::warn!(orders = ?findings.foreign, "orders at the broker that are not ours: reported, never touched");
            let watermark =
                self.engine.ledger.remember_foreign_orders(self.fence(), &findings.foreign).await?;
            self.book.foreign.extend(findings.foreign.iter().map(|id| (id.clone(), watermark)));
            self.book.watermark = watermark;
        }
        self.plan_next_reading(!findings.intents.is_empty());
        Ok(())
    }

    fn books_failed(&mut self, error: &BrokerError) {
        self.bridge_failures += 1;
        tracing::warn!(
            error = error as &dyn std::error::Error,
            failures = self.bridge_failures,
            "the books could not be read"
        );
        if self.bridge_failures >= BRIDGE_PATIENCE {
            self.engine.operational.waiting(format!("the bridge is not usable: {error}"));
        }
        self.plan_next_reading(false);
    }

    /// Reads what is new in the inbox into the lanes.
    pub(super) async fn sweep(&mut self) -> Result<(), LedgerError> {
        let known: Vec<uuid::Uuid> =
            self.lanes.ids().chain(self.book.working.keys().copied()).map(|id| id.0).collect();
        let room = LANE_LIMIT.saturating_sub(self.lanes.len());
        let found = self.engine.ledger.unfinished_signals(&known, i64::try_from(room).unwrap_or(0)).await?;
        for pending in found {
            self.admit(pending).await?;
        }
        Ok(())
    }

    async fn admit(&mut self, pending: PendingSignal) -> Result<(), LedgerError> {
        let signal: Signal = match serde_json::from_value(pending.payload) {
            Ok(signal) => signal,
            Err(error) => {
                let refusal =
                    Refusal::new("UNREADABLE", format!("the stored signal cannot be read: {error}"));
                return self.refuse(pending.id, None, &[refusal], None).await;
            }
        };
        if pending.status == SignalStatus::Working {
            self.book.resume(pending.id, signal.kind());
            return Ok(());
        }
        let received = Instant::now()
            .checked_sub(Duration::from_millis(u64::try_from(pending.age_ms).unwrap_or(0)))
            .unwrap_or_else(Instant::now);
        self.received.insert(pending.id, received);
        tracing::info!(signal = %pending.id, "SIGNAL DETECTED: {} {} by {}", signal.kind(), signal.instrument, signal.strategy);
        let now = self.fence().now();
        self.lanes.add(Queued { id: pending.id, seq: pending.seq, signal }, now);
        Ok(())
    }

    /// Decides what may be decided, journals all of it in one statement, and sends it.
    pub(super) async fn decide_heads(&mut self) -> Result<(), LedgerError> {
        loop {
            let ready = self.ready_heads();
            let mut batch = self.exits_due();
            let mut decisions = HashMap::new();
            let mut decided = Vec::new();
            for waiting in ready {
                let queued = &waiting.queued;
                let quotes = match &waiting.phase {
                    Phase::Quoted(quotes) => quotes.clone(),
                    _ => Quotes::default(),
                };
                let age = (wall_clock() - queued.signal.sent_at).num_milliseconds().max(0);
                self.engine.metrics.signal_age.observe(age as f64 / 1000.0);
                match decide(&self.engine.rules, &self.book, queued, &quotes, wall_clock()) {
                    Decision::Order(intents, decision) => {
                        decisions.insert(queued.id, decision);
                        for intent in &intents {
                            self.book.plan(intent.clone(), self.fence().now());
                        }
                        batch.extend(intents);
                        decided.push(waiting);
                    }
                    other => self.conclude(&waiting.queued, other).await?,
                }
            }
            if batch.is_empty() {
                return Ok(());
            }
            self.journal_and_send(batch, decided, &decisions).await?;
        }
    }

    /// The heads of lanes that may be decided; asks for quotes where they are needed first.
    fn ready_heads(&mut self) -> Vec<Waiting> {
        let now = self.fence().now();
        let (book, engine, sender) = (&self.book, self.engine, &self.sender);
        let mut ready = Vec::new();
        for head in self.lanes.heads() {
            if !may_decide(book, head, now, engine.pace.exit_patience) {
                continue;
            }
            let needed = quotes_needed(&engine.rules, book, &head.queued.signal);
            let complete = match &head.phase {
                Phase::Quoting => continue,
                Phase::Waiting => needed.is_empty(),
                Phase::Quoted(quotes) => {
                    needed.iter().all(|(exchange, symbol)| quotes.get(exchange, symbol).is_some())
                }
            };
            let expired = {
                let signal = &head.queued.signal;
                crate::domain::age::judge(
                    &engine.rules.policy.age,
                    signal.kind(),
                    signal.sent_at,
                    wall_clock(),
                )
                .is_err()
            };
            if complete || expired {
                ready.push(head.clone());
                continue;
            }
            head.phase = Phase::Quoting;
            let (broker, sender, id) = (Arc::clone(&engine.broker), sender.clone(), head.queued.id);
            tokio::spawn(async move {
                let (mut quotes, mut failures) = (Quotes::default(), Vec::new());
                for (exchange, symbol) in needed {
                    match broker.quote(&symbol, &exchange).await {
                        Ok(quote) => quotes.set(&exchange, &symbol, quote.ltp),
                        Err(error) => failures.push(format!("{symbol}: {error}")),
                    }
                }
                // Gone with the term.
                let _ = sender.send(Event::Quoted { id, quotes, failures }).await;
            });
        }
        ready
    }

    /// Exits of positions that are meant to be gone and have no exit out.
    fn exits_due(&mut self) -> Vec<OrderIntent> {
        let now = self.fence().now();
        let mut due = Vec::new();
        for (id, closing) in &self.book.closing {
            if now < closing.not_before || self.book.exit_is_out(*id) {
                continue;
            }
            let Some(position) = self.book.position(*id) else { continue };
            let mut intent = exit_order(&self.engine.rules, &self.book, position, position.quantity);
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

    async fn journal_and_send(
        &mut self,
        batch: Vec<OrderIntent>,
        decided: Vec<Waiting>,
        decisions: &HashMap<SignalId, Value>,
    ) -> Result<(), LedgerError> {
        failpoint::hit("before_journal");
        let begun = Instant::now();
        let journaled = self.journal.commit(batch, decisions).await?;
        let metrics = &self.engine.metrics;
        metrics.order_latency.with_label_values(&["journal"]).observe(begun.elapsed().as_secs_f64());
        let kinds: HashMap<SignalId, SignalType> =
            decided.iter().map(|w| (w.queued.id, w.queued.signal.kind())).collect();
        let mut exited = Vec::new();
        for intent in journaled.intents {
            let signal = intent.intent().signal;
            let kind = signal.and_then(|id| kinds.get(&id).copied());
            if let Some(id) = signal {
                if let Some(received) = self.received.remove(&id) {
                    metrics
                        .order_latency
                        .with_label_values(&["total"])
                        .observe(received.elapsed().as_secs_f64());
                }
                self.lanes.remove(id);
            }
            if kind == Some(SignalType::Exit) {
                exited.push(intent.intent().instrument.clone());
            }
            metrics.orders.with_label_values(&[IntentState::Journaled.as_str()]).inc();
            self.book.journaled(intent.intent().clone(), kind, intent.send_by());
            self.in_flight += 1;
            let (broker, fence, sender) =
                (Arc::clone(&self.engine.broker), self.fence().clone(), self.sender.clone());
            tokio::spawn(submit(broker, fence, intent, sender));
        }
        for (intent, blocked) in journaled.blocked {
            self.held_back(&intent, blocked).await?;
        }
        self.unwind_entries(&exited).await
    }

    /// The ledger did not take an intent: an entry under a switch is refused, everything else is tried again.
    async fn held_back(&mut self, intent: &OrderIntent, blocked: Blocked) -> Result<(), LedgerError> {
        self.book.unplan(intent.id);
        let retry = self.fence().now().plus(BLOCKED_RETRY);
        if let (Blocked::Switch(switches), OrderClass::Entry, Some(signal)) =
            (blocked, intent.class, intent.signal)
        {
            self.lanes.remove(signal);
            let code = if switches.halted { "HALTED" } else { "REDUCE_ONLY" };
            return self
                .refuse(signal, Some(SignalType::BaseEntry), &[Refusal::new(code, switches.sentence())], None)
                .await;
        }
        tracing::debug!(intent = %intent.id, ?blocked, "held back; trying again");
        if let Some(closing) = self.book.closing.get_mut(&intent.position) {
            closing.not_before = retry;
        }
        if let Some(waiting) = intent.signal.and_then(|id| self.lanes.find(id)) {
            waiting.not_before = retry;
            waiting.phase = Phase::Waiting;
        }
        Ok(())
    }

    /// An EXIT went out while entries of its instrument are still open or in doubt: what they fill is closed at once.
    async fn unwind_entries(&mut self, instruments: &[String]) -> Result<(), LedgerError> {
        let mut change = Change::default();
        for instrument in instruments {
            for id in self.book.entries_out(instrument) {
                let Some(Tracked { intent, .. }) = self.book.intents.get(&id) else { continue };
                if !intent.unwind {
                    change.intents.push(IntentUpdate {
                        id,
                        state: intent.state,
                        reason: Some(
                            "an EXIT came while it was open: a late fill is closed at once".to_owned(),
                        ),
                        broker_order_id: None,
                        filled: intent.filled,
                        unwind: true,
                    });
                }
            }
        }
        self.commit(change).await
    }

    /// Ends a signal that orders nothing.
    async fn conclude(&mut self, queued: &Queued, decision: Decision) -> Result<(), LedgerError> {
        let kind = queued.signal.kind();
        match decision {
            Decision::Refuse(refusals, decision) => {
                self.refuse(queued.id, Some(kind), &refusals, decision).await
            }
            Decision::Note(note) => self.end(queued, json!([note]), Vec::new()).await,
            Decision::Trail(moved) => self.end(queued, json!([]), moved).await,
            Decision::Order(..) => Ok(()),
        }
    }

    async fn end(
        &mut self,
        queued: &Queued,
        reasons: Value,
        moved: Vec<crate::domain::position::Position>,
    ) -> Result<(), LedgerError> {
        let mut draft = Draft::new(&self.book, &self.engine.rules.catalog, wall_clock());
        for position in moved {
            if let Some(held) = draft.position(position.id) {
                *held = position;
            }
        }
        draft.signal(queued.id, SignalStatus::Executed, reasons, None);
        let change = draft.finish();
        self.lanes.remove(queued.id);
        self.received.remove(&queued.id);
        self.engine.metrics.signals.with_label_values(&[queued.signal.kind().as_str(), "acted"]).inc();
        self.commit(change).await
    }

    async fn refuse(
        &mut self,
        id: SignalId,
        kind: Option<SignalType>,
        refusals: &[Refusal],
        decision: Option<Value>,
    ) -> Result<(), LedgerError> {
        let sentences: Vec<String> = refusals.iter().map(ToString::to_string).collect();
        tracing::info!(signal = %id, "signal refused: {}", sentences.join("; "));
        let stale = refusals.iter().any(|refusal| refusal.code == "SIGNAL_TOO_OLD");
        let outcome = if stale { "dropped_stale" } else { "rejected" };
        let kind = kind.map_or("OTHER", SignalType::as_str);
        self.engine.metrics.signals.with_label_values(&[kind, outcome]).inc();
        self.lanes.remove(id);
        self.received.remove(&id);
        let update = SignalUpdate { id, status: SignalStatus::Refused, reasons: json!(refusals), decision };
        self.commit(Change { signals: vec![update], ..Change::default() }).await
    }

    /// The one way to change the book: commit, then install.
    async fn commit(&mut self, change: Change) -> Result<(), LedgerError> {
        if change.is_empty() {
            return Ok(());
        }
        self.engine.ledger.commit(self.fence(), &change).await?;
        let metrics = &self.engine.metrics;
        for update in &change.intents {
            let before = self.book.intents.get(&update.id).map(|tracked| tracked.intent.state);
            if before != Some(update.state) {
                metrics.orders.with_label_values(&[update.state.as_str()]).inc();
            }
        }
        for update in change.signals.iter().filter(|update| update.status != SignalStatus::Refused) {
            if let Some(working) = self.book.working.get(&update.id) {
                let outcome = if update.status == SignalStatus::Executed { "acted" } else { "failed" };
                metrics.signals.with_label_values(&[working.kind.as_str(), outcome]).inc();
            }
        }
        let now = self.fence().now();
        self.book.install(&change, now);
        metrics.orders_in_doubt.set(i64::try_from(self.book.in_doubt().count()).unwrap_or(i64::MAX));
        Ok(())
    }
}
