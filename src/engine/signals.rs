//! Signals: read from the inbox into the lanes, decided when their turn comes, ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::book::Queued;
use super::coming::{Early, quotes_of};
use super::decide::{Decision, decide, exit_plan, exit_request, quotes_needed};
use super::draft::Draft;
use super::holdings::drift_on;
use super::lanes::{Phase, Waiting, may_decide};
use super::term::{Event, LANE_LIMIT, Term, wall_clock};
use crate::domain::age;
use crate::domain::exit::ExitRequest;
use crate::domain::ids::SignalId;
use crate::domain::portfolio::Quotes;
use crate::domain::position::Position;
use crate::domain::refusal::Refusal;
use crate::domain::signal::{Action, Signal, SignalType};
use crate::ledger::change::SignalUpdate;
use crate::ledger::inbox::{PendingSignal, SignalStatus};
use crate::ledger::{Change, LedgerError};
use crate::recovery::reconcile::Standing;
use crate::telemetry::traces::{self, Step};

/// Signals of one lane that are decided before events have their turn.
const ROUNDS: u32 = 32;

impl Term<'_> {
    /// Reads what is new in the inbox into the lanes.
    pub(super) async fn sweep(&mut self) -> Result<(), LedgerError> {
        let known: Vec<uuid::Uuid> =
            self.lanes.ids().chain(self.book.working.keys().copied()).map(|id| id.0).collect();
        let room = LANE_LIMIT.saturating_sub(self.lanes.len());
        let limit = i64::try_from(room).unwrap_or(0);
        let found = self.ask_pool(|| self.engine.ledger.unfinished_signals(&known, limit)).await?;
        for pending in found {
            self.engine.coming.handed.found(pending.id);
            self.admit(pending).await?;
        }
        Ok(())
    }

    /// Takes up a signal of the inbox; to be called once for each.
    pub(super) async fn admit(&mut self, pending: PendingSignal) -> Result<(), LedgerError> {
        let signal: Signal = match serde_json::from_value(pending.payload) {
            Ok(signal) => signal,
            Err(error) => {
                let refusal =
                    Refusal::new("UNREADABLE", format!("the stored signal cannot be read: {error}"));
                return self.refuse(pending.id, None, &[refusal], None).await;
            }
        };
        if pending.status == SignalStatus::Working {
            let queued = Queued { id: pending.id, seq: pending.seq, signal, attempt: pending.attempts };
            if pending.unsent && queued.signal.kind().opens() && self.custody.is_none() {
                self.lanes.add(queued, self.fence().now());
            } else {
                self.resume(queued);
            }
            return Ok(());
        }
        let age = Duration::from_millis(u64::try_from(pending.age_ms).unwrap_or(0));
        self.clocks.stored(pending.id, age);
        let trace_id = traces::of_signal(pending.id);
        tracing::info!(signal = %pending.id, %trace_id, "SIGNAL DETECTED: {} {} by {}", signal.kind(), signal.instrument, signal.strategy);
        let now = self.fence().now();
        self.lanes.add(Queued { id: pending.id, seq: pending.seq, signal, attempt: 0 }, now);
        Ok(())
    }

    /// Takes up a signal that a former term began; an EXIT's legs that were still owed are owed again.
    fn resume(&mut self, queued: Queued) {
        self.book.resume(queued.id, queued.signal.kind());
        if let Action::Exit(wanted) = &queued.signal.action {
            let owed = exit_plan(&self.book, &exit_request(&queued, wanted)).orders;
            let now = self.fence().now();
            for order in owed {
                self.book.close_for(queued.id, order.position, now);
            }
        }
    }

    /// Decides what may be decided, journals all of it in one statement, and sends it.
    pub(super) async fn decide_heads(&mut self) -> Result<(), LedgerError> {
        for round in 0.. {
            let ready = self.ready_heads();
            // A lane gives up one signal a round, and most rounds order nothing: bars, refusals.
            let took = !ready.is_empty();
            let mut batch = self.exits_due();
            let mut decisions = HashMap::new();
            let mut decided = Vec::new();
            for waiting in ready {
                self.engine.pulse.beat();
                let queued = &waiting.queued;
                if queued.attempt > 0 && self.lanes.is_called_off(queued) {
                    // Its first order would have been before the EXIT; this one would be bought to be sold.
                    self.refuse(queued.id, Some(queued.signal.kind()), &[overtaken()], None).await?;
                    continue;
                }
                let unwound = match &queued.signal.action {
                    Action::Exit(wanted) => {
                        let request = exit_request(queued, wanted);
                        self.refuse_overtaken(&request).await?;
                        self.unwind_entries(&request).await?
                    }
                    _ => 0,
                };
                let quotes = match (&queued.signal.action, &waiting.phase) {
                    (Action::MarketData(_), _) => self.fresh_prices(&queued.signal.instrument),
                    (_, Phase::Quoted(quotes, _)) => quotes.clone(),
                    _ => Quotes::default(),
                };
                self.look_at_strategy(&queued.signal).await?;
                let age = (wall_clock() - queued.signal.sent_at).num_milliseconds().max(0);
                self.engine.metrics.signal_age.observe(age as f64 / 1000.0);
                match decide(&self.engine.rules, &self.book, queued, &quotes, wall_clock()) {
                    Decision::Order(intents, decision) => {
                        self.engine.traces.record(|| self.decided(&waiting, intents.len()));
                        self.clocks.decided(queued.id, &self.engine.metrics);
                        decisions.insert(queued.id, decision);
                        for intent in &intents {
                            self.book.plan(intent.clone(), self.fence().now());
                        }
                        batch.extend(intents);
                        decided.push(waiting);
                    }
                    Decision::Refuse(..) if unwound > 0 => {
                        let note = Refusal::new(
                            "CLOSED_IF_FILLED",
                            "nothing is held yet; what its entry fills is closed at once",
                        );
                        self.conclude(queued, Decision::Note(note)).await?;
                    }
                    other => self.conclude(queued, other).await?,
                }
            }
            if !batch.is_empty() {
                self.journal_and_send(batch, decided, &decisions).await?;
            } else if !took {
                break;
            }
            if round >= ROUNDS {
                // Events have their turn; the rest of the backlog follows at once.
                self.sweep_now();
                break;
            }
        }
        Ok(())
    }

    /// What would refuse an entry for good is read once more: somebody may have enabled its strategy a moment ago. What
    /// somebody disabled a moment ago, the journal's statement sees.
    async fn look_at_strategy(&mut self, signal: &Signal) -> Result<(), LedgerError> {
        if signal.entry().is_some() && self.book.strategies.refusal(&signal.strategy).is_some() {
            let said = self.ask_pool(|| self.engine.ledger.strategies_said()).await?;
            self.engine.strategies.heard(said);
            self.book.strategies = self.engine.strategies.load();
        }
        Ok(())
    }

    /// The step from a signal's lane to its orders.
    fn decided(&self, waiting: &Waiting, orders: usize) -> Step {
        let Queued { id, signal, .. } = &waiting.queued;
        Step::of_signal(*id, "decide")
            .since(SystemTime::now() - self.fence().now().since(waiting.since))
            .with("baton.type", signal.kind().as_str())
            .with("baton.instrument", signal.instrument.clone())
            .with("baton.orders", i64::try_from(orders).unwrap_or(i64::MAX))
    }

    /// Entries that still wait and that an EXIT means: they would be bought to be sold.
    async fn refuse_overtaken(&mut self, exit: &ExitRequest<'_>) -> Result<(), LedgerError> {
        for id in self.lanes.entries_meant(exit) {
            let kind = self.lanes.find(id).map(|waiting| waiting.queued.signal.kind());
            self.refuse(id, kind, &[overtaken()], None).await?;
        }
        Ok(())
    }

    /// The heads of lanes that may be decided; asks for quotes where they are needed first.
    fn ready_heads(&mut self) -> Vec<Waiting> {
        let fence = self.fence().clone();
        let now = fence.now();
        // ERROR, waiting for the bridge, a dead broker session and a heartbeat that is overdue stop entries; exits go on.
        let trading = self.entries_wait_for().is_empty();
        let (book, engine, sender, ahead) = (&self.book, self.engine, &self.sender, &mut self.ahead);
        let mut room = engine.pace.entries_in_flight.saturating_sub(self.in_flight);
        let mut ready = Vec::new();
        for head in self.lanes.heads() {
            let signal = &head.queued.signal;
            let opens = signal.kind().opens();
            let too_old =
                age::judge(&engine.rules.policy.age, signal.kind(), signal.sent_at, wall_clock()).is_err();
            if too_old {
                // Refused whatever else stands in its way.
                ready.push(head.clone());
                continue;
            }
            if !may_decide(book, head, now, engine.pace.exit_patience) || (opens && !trading) {
                continue;
            }
            // A difference that was seen once may be the book's delay: an entry waits for the second look.
            let contract = engine.rules.catalog.get(&signal.instrument).filter(|_| opens);
            let suspected = contract.and_then(|instrument| drift_on(&book.drift, instrument));
            if suspected.is_some_and(|known| known.standing == Standing::Suspected) {
                continue;
            }
            let needed = quotes_needed(&engine.rules, book, signal);
            if matches!(head.phase, Phase::Quoting) {
                continue;
            }
            let complete = |head: &Waiting| {
                let quotes = head.quotes(now);
                let has = |(exchange, symbol): &(String, String)| quotes?.get(exchange, symbol);
                needed.iter().all(|contract| has(contract).is_some())
            };
            if opens && !complete(head) {
                match ahead.serve(&signal.instrument, head.queued.id, now) {
                    Some(Early::Came(quotes, at)) => head.phase = Phase::Quoted(quotes, at),
                    Some(Early::Asked(_)) => continue,
                    None => {}
                }
            }
            if complete(head) {
                if !opens || room > 0 {
                    room -= usize::from(opens);
                    ready.push(head.clone());
                }
                continue;
            }
            head.phase = Phase::Quoting;
            let (broker, sender, id) = (Arc::clone(&engine.broker), sender.clone(), head.queued.id);
            let fence = fence.clone();
            tokio::spawn(async move {
                let (quotes, failures) = quotes_of(&*broker, needed).await;
                // Gone with the term.
                let _ = sender.send(Event::Quoted { id, quotes, at: fence.now(), failures }).await;
            });
        }
        let lane_is_served = |exit: &Waiting, ready: &[Waiting]| {
            ready.iter().any(|head| head.queued.signal.instrument == exit.queued.signal.instrument)
        };
        for exit in self.lanes.exits_behind_entries() {
            let patience = engine.pace.exit_patience;
            if now.since(exit.since) >= patience
                && may_decide(book, exit, now, patience)
                && !lane_is_served(exit, &ready)
            {
                ready.push(exit.clone());
            }
        }
        ready
    }

    /// Ends a signal that orders nothing.
    pub(super) async fn conclude(&mut self, queued: &Queued, decision: Decision) -> Result<(), LedgerError> {
        let kind = queued.signal.kind();
        match decision {
            Decision::Refuse(refusals, decision) => {
                self.refuse(queued.id, Some(kind), &refusals, decision).await
            }
            Decision::Note(note) => self.end(queued, json!([note]), Vec::new()).await,
            Decision::Trail(moved, left) => self.end(queued, json!(left), moved).await,
            Decision::Order(..) => Ok(()),
        }
    }

    async fn end(
        &mut self,
        queued: &Queued,
        reasons: Value,
        moved: Vec<Position>,
    ) -> Result<(), LedgerError> {
        let mut draft = Draft::new(&self.book, &self.engine.rules, wall_clock());
        for position in moved {
            if let Some(held) = draft.position(position.id) {
                *held = position;
            }
        }
        draft.signal(queued.id, SignalStatus::Executed, reasons, None);
        let change = draft.finish();
        self.lanes.remove(queued.id);
        self.clocks.forget(queued.id);
        self.engine.metrics.signals.with_label_values(&[queued.signal.kind().as_str(), "acted"]).inc();
        self.commit(change).await
    }

    pub(super) async fn refuse(
        &mut self,
        id: SignalId,
        kind: Option<SignalType>,
        refusals: &[Refusal],
        decision: Option<Value>,
    ) -> Result<(), LedgerError> {
        let sentences: Vec<String> = refusals.iter().map(ToString::to_string).collect();
        tracing::info!(signal = %id, trace_id = %traces::of_signal(id), "signal refused: {}", sentences.join("; "));
        self.engine
            .traces
            .record(|| Step::of_signal(id, "refuse").with("baton.reasons", sentences.join("; ")));
        let stale = refusals.iter().any(|refusal| refusal.code == "SIGNAL_TOO_OLD");
        let outcome = if stale { "dropped_stale" } else { "rejected" };
        let kind = kind.map_or("OTHER", SignalType::as_str);
        self.engine.metrics.signals.with_label_values(&[kind, outcome]).inc();
        self.lanes.remove(id);
        self.clocks.forget(id);
        let update = SignalUpdate { id, status: SignalStatus::Refused, reasons: json!(refusals), decision };
        self.commit(Change { signals: vec![update], ..Change::default() }).await
    }
}

fn overtaken() -> Refusal {
    Refusal::new("OVERTAKEN_BY_EXIT", "an EXIT that means it came while it had to wait")
}
