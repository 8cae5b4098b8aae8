//! The custodian: leads while stored state does not add up, and trades into none of it (HA.md rule 14).
//!
//! It takes signals in and decides none: entries are refused with the reason, everything else waits and acts after the
//! repair. Two kinds of order leave. An operator's close is sized by the broker's verified book, made for it: where the
//! rows of a contract are believed and add up to what the book holds, each position is closed as ever; where they do not,
//! all that the book holds, less what may still be sold of it, goes in one order of no position, which a repair books. Stops
//! that rest at the broker are cancelled for it, and count as sold until they are seen to have ended: then it is asked
//! again. A stop fires only on a position whose own row is believed, while the rows of its contract add up to the book.
//!
//! Nothing derived is written: aggregates made of damaged rows would make the damage look whole.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::command::{Beside, Close, Closing, NotClosed, Select, Taken};
use super::intents::custody_order;
use super::term::Term;
use crate::broker::BrokerError;
use crate::domain::cause::ExitCause;
use crate::domain::freeze::{freeze, slice};
use crate::domain::ids::{IntentId, PositionId, SignalId};
use crate::domain::intent::OrderIntent;
use crate::domain::listing::Listing;
use crate::domain::money::Quantity;
use crate::domain::order::{IntentState, OrderClass};
use crate::domain::position::{HoldingKey, Position};
use crate::domain::refusal::Refusal;
use crate::domain::signal::SignalType;
use crate::emergency::books::VerifiedBook;
use crate::ledger::{Change, LedgerError};
use crate::notify::{Event, Kind};
use crate::recovery::reconcile::allowance;
use crate::recovery::salvage::Suspect;

/// How long an operator's close waits for the broker's books.
const BOOK_PATIENCE: Duration = Duration::from_secs(3);
/// How often the engine shows that it is alive meanwhile.
const BEAT: Duration = Duration::from_millis(100);

/// Why this leader is custodian, and what it may not go by.
#[derive(Debug)]
pub(super) struct Custody {
    /// `VALIDATION_FAILED` or `DATA_CORRUPT`.
    code: &'static str,
    /// Rows that are not believed.
    suspects: Vec<Suspect>,
    /// Not every order of ours is known.
    orders_lost: bool,
    /// Signals of which it was said that they wait.
    noted: BTreeSet<SignalId>,
    /// Positions of which it was said that their stop does not fire.
    told: BTreeSet<PositionId>,
}

impl Custody {
    pub(super) fn new(code: &'static str, suspects: Vec<Suspect>, orders_lost: bool) -> Self {
        Self { code, suspects, orders_lost, noted: BTreeSet::new(), told: BTreeSet::new() }
    }

    /// Says whether a position may be closed for this cause: by an operator's explicit word, or by its stop.
    pub(super) fn lets(&self, cause: ExitCause) -> bool {
        cause == ExitCause::Operator || cause.class() == OrderClass::Protective
    }

    /// Not every order of ours is known, so none at the broker can be called foreign.
    pub(super) fn is_blind(&self) -> bool {
        self.orders_lost
    }

    pub(super) fn refusal(&self) -> Refusal {
        let code = self.code;
        Refusal::new(
            "CUSTODY",
            format!(
                "stored state is damaged ({code}) and nobody trades into it; see RUNBOOK.md#{}",
                code.to_lowercase()
            ),
        )
    }

    /// Units of the rows of a contract that are not believed.
    fn suspected(&self, contract: &HoldingKey) -> impl Iterator<Item = Quantity> {
        self.suspects
            .iter()
            .filter(move |suspect| suspect.contract == *contract)
            .map(|suspect| suspect.quantity)
    }

    /// Whatever a row that is not believed holds, and those that are, add up to: none beyond all numbers.
    fn rows(&self, believed: impl Iterator<Item = Quantity>, contract: &HoldingKey) -> Option<Quantity> {
        let mut all = believed.chain(self.suspected(contract));
        all.try_fold(0i64, |sum, units| sum.checked_add(units.0)).map(Quantity)
    }
}

fn contract(position: &Position) -> HoldingKey {
    HoldingKey {
        symbol: position.symbol.clone(),
        exchange: position.exchange.clone(),
        product: position.product,
    }
}

impl Term<'_> {
    /// Tells once of each position whose stop nobody watches now.
    pub(super) fn tell_suspects(&self) {
        let Some(custody) = &self.custody else { return };
        for suspect in &custody.suspects {
            tracing::error!(
                code = custody.code,
                position = suspect.id,
                "[SL] {}: the stop is NOT watched while stored state is damaged: {}",
                suspect.contract.symbol,
                suspect.why
            );
            let text = format!(
                "{} units of {}: its row is not believed ({}), so its stop is not watched: watch it by hand, or close it with `baton close {}`",
                suspect.quantity, suspect.contract, suspect.why, suspect.contract.symbol
            );
            self.engine.notifier.raise(Event::about(Kind::StopNotWatched, suspect.id.clone(), text));
        }
    }

    /// One round of a custodian's loop. A table that cannot be read is no reason to stop: an operator may still close.
    pub(super) async fn keep_custody(&mut self, swept: bool) -> Result<(), LedgerError> {
        if swept {
            self.listen().await;
            let seen = self.sweep().await;
            self.bearable(seen)?;
        }
        let held = self.hold_signals().await;
        self.bearable(held)?;
        let kept = self.keep_bids().await;
        self.bearable(kept)?;
        let due = self.exits_due();
        if !due.is_empty() {
            self.journal_and_send(due, Vec::new(), &HashMap::new()).await?;
        }
        self.read_books_if_due();
        Ok(())
    }

    /// What damaged tables say is borne by a custodian; the end of leadership and a database that is away are not.
    pub(super) fn bearable(&self, result: Result<(), LedgerError>) -> Result<(), LedgerError> {
        match result {
            Err(error) if self.custody.is_some() && error.is_refusal() => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "[RECOVERY] stored state is damaged"
                );
                Ok(())
            }
            other => other,
        }
    }

    /// Refuses the entries that wait, and says of the others that they wait.
    async fn hold_signals(&mut self) -> Result<(), LedgerError> {
        let Some(custody) = &self.custody else { return Ok(()) };
        let refusal = custody.refusal();
        let entries: Vec<(SignalId, SignalType)> =
            self.lanes.entries().map(|waiting| (waiting.queued.id, waiting.queued.signal.kind())).collect();
        let fresh: Vec<SignalId> = self
            .lanes
            .ids()
            .filter(|id| !custody.noted.contains(id) && !entries.iter().any(|(entry, _)| entry == id))
            .collect();
        for (id, kind) in entries {
            self.refuse(id, Some(kind), std::slice::from_ref(&refusal), None).await?;
        }
        if fresh.is_empty() {
            return Ok(());
        }
        tracing::info!(signals = fresh.len(), "they wait: {refusal}");
        let why = json!([refusal]);
        self.ask_pool(|| self.engine.ledger.note_waiting(self.fence(), &fresh, &why)).await?;
        if let Some(custody) = &mut self.custody {
            custody.noted.extend(fresh);
        }
        Ok(())
    }

    /// Says whether an order's evidence may be booked now. A custodian books nothing on a row that it does not believe,
    /// and opens no second position beside it: that evidence waits for the repair.
    pub(super) fn may_settle(&self, id: IntentId) -> bool {
        let (Some(custody), Some(tracked)) = (&self.custody, self.book.intents.get(&id)) else { return true };
        let intent = &tracked.intent;
        let suspect = custody.suspects.iter().any(|suspect| suspect.id == intent.position.to_string());
        let opens = intent.class == OrderClass::Entry && intent.filled == Quantity::ZERO && !suspect;
        intent.custody || opens || self.book.position(intent.position).is_some()
    }

    /// Positions whose stops nobody watches.
    pub(super) fn unwatched(&self) -> usize {
        self.custody.as_ref().map_or(0, |custody| custody.suspects.len())
    }

    /// A position's stop was hit, and the rows of its contract do not add up to what the broker holds.
    pub(super) fn tell_disagreement(&mut self, intent: &OrderIntent, held: Quantity) {
        let Some(custody) = &mut self.custody else { return };
        if !custody.told.insert(intent.position) {
            return;
        }
        let order = &intent.order;
        tracing::error!(
            code = custody.code, position = %intent.position,
            "[SL] {}: the stop does NOT fire: the rows of its contract do not add up to the {held} units that the broker holds",
            order.symbol
        );
        let text = format!(
            "{} units of {}: the price is at the stop, and it does not fire: the broker's verified book holds {held}, the \
             damaged ledger says otherwise: close it with `baton close {}`",
            order.quantity, order.symbol, order.symbol
        );
        self.engine.notifier.raise(Event::about(Kind::StopNotWatched, intent.position.to_string(), text));
    }

    /// The rows of an intent's contract add up to `held`, believed or not.
    pub(super) fn rows_agree(&self, contract: &HoldingKey, held: Quantity) -> bool {
        let Some(custody) = &self.custody else { return true };
        let believed =
            self.book.portfolio.held().filter(|p| self::contract(p) == *contract).map(|p| p.quantity);
        custody.rows(believed, contract) == Some(held)
    }

    /// Takes up an operator's close while custodian: sized by the broker's book, read for it, or not at all.
    pub(super) async fn close_in_custody(&mut self, close: Close) -> Result<(), LedgerError> {
        let book = match self.verified_book().await {
            Ok(book) => book,
            Err(error) => {
                close.answer(Err(NotClosed::Unverified(error.to_string())));
                return Ok(());
            }
        };
        let marked = self.engine.marks.marked().await.unwrap_or_default();
        if close.is_forgotten() {
            return Ok(());
        }
        let now = self.fence().now();
        let mut closing = Closing::default();
        let mut orders = Vec::new();
        let mut verified = HashMap::new();
        for contract in self.contracts(&close.select, &book) {
            self.withdraw_stops_of(&contract).await?;
            let held = book.held.get(&contract).copied().unwrap_or(Quantity::ZERO);
            let positions: Vec<(PositionId, Quantity)> = self
                .book
                .portfolio
                .held()
                .filter(|position| self::contract(position) == contract)
                .map(|position| (position.id, position.quantity))
                .collect();
            if marked.contains(&contract.symbol) {
                // An emergency close without the ledger is at it, and may sell all of it: the rest is closed.
                let (id, units) = (IntentId::new(), Quantity::ZERO);
                closing.beside.push(Beside { id, contract, held, out: held, units });
                continue;
            }
            let custody = self.custody.as_ref();
            let believed = custody.is_some_and(|custody| custody.suspected(&contract).next().is_none());
            if believed && !positions.is_empty() && self.rows_agree(&contract, held) {
                for (position, held) in positions.into_iter().filter(|(id, _)| close.select.includes(*id)) {
                    let under_way = self.book.closing.contains_key(&position);
                    self.book.close_by(position, ExitCause::Operator, close.why.clone(), now);
                    closing.positions.push(Taken { position, held, under_way });
                }
                continue;
            }
            if let Select::Position(id) = &close.select {
                let why = format!(
                    "position {id} cannot be told apart while stored state is damaged: close its contract, `baton close {}`",
                    contract.symbol
                );
                close.answer(Err(NotClosed::Unverified(why)));
                return Ok(());
            }
            let out = self.may_still_be_sold(&contract, &book);
            let configured = self.engine.rules.catalog.iter().find(|of| of.symbol == contract.symbol);
            let listing = Listing::new(&contract.exchange, &contract.symbol);
            let freeze = freeze(configured, self.book.contracts.as_deref(), &listing);
            let lot = configured.map_or(Quantity(1), |instrument| instrument.lot_size);
            let units = slice(allowance(held, out), freeze, lot);
            let instrument = self.instrument_of(&contract);
            let mut intent = custody_order(&self.engine.rules, &self.book, &instrument, &contract, units);
            intent.reason = Some(close.why.clone());
            closing.beside.push(Beside { id: intent.id, contract, held, out, units });
            if units > Quantity::ZERO {
                verified.insert(intent.id, held);
                orders.push(intent);
            }
        }
        let refused = self.send_in_custody(orders, &verified).await?;
        for beside in closing.beside.iter_mut().filter(|beside| refused.contains(&beside.id)) {
            beside.units = Quantity::ZERO;
        }
        close.answer(Ok(closing));
        Ok(())
    }

    /// Journals and sends sales by the book; gives those that the ledger did not take.
    async fn send_in_custody(
        &mut self,
        orders: Vec<OrderIntent>,
        verified: &HashMap<IntentId, Quantity>,
    ) -> Result<HashSet<IntentId>, LedgerError> {
        if orders.is_empty() {
            return Ok(HashSet::new());
        }
        let (undecided, begun) = (HashMap::new(), SystemTime::now());
        let journaled = self.patiently(self.journal.commit(orders, &undecided, verified)).await?;
        for intent in journaled.intents {
            let order = intent.order();
            tracing::warn!(
                intent = %intent.id(),
                "[RECOVERY] the custodian sells {} {} by the broker's verified book: {}",
                order.quantity, order.symbol, intent.intent().reason.as_deref().unwrap_or_default()
            );
            self.engine.metrics.orders.with_label_values(&[IntentState::Journaled.as_str()]).inc();
            self.book.journaled(intent.intent().clone(), None, intent.send_by());
            self.send(intent, None, begun);
        }
        Ok(journaled.blocked.iter().map(|(intent, _)| intent.id).collect())
    }

    /// The contracts that a close means: of the rows, believed or not, and of the configuration.
    fn contracts(&self, select: &Select, book: &VerifiedBook) -> BTreeSet<HoldingKey> {
        let positions = self.book.portfolio.held();
        let named = positions.filter(|position| select.names(position)).map(contract);
        let suspects = self.custody.iter().flat_map(|custody| &custody.suspects);
        let suspects = suspects.filter(|suspect| match select {
            Select::All => true,
            Select::Position(id) => suspect.id == id.to_string(),
            Select::Named(name) => [&suspect.contract.symbol, &suspect.instrument].contains(&name),
        });
        let configured = self.engine.rules.catalog.iter().filter(|instrument| match select {
            Select::All => true,
            Select::Position(_) => false,
            Select::Named(name) => [&instrument.symbol, &instrument.name].contains(&name),
        });
        let configured = configured.map(|instrument| HoldingKey {
            symbol: instrument.symbol.clone(),
            exchange: instrument.exchange.clone(),
            product: instrument.product,
        });
        let configured =
            configured.filter(|key| book.held.get(key).is_some_and(|held| *held != Quantity::ZERO));
        // Named by its symbol, whatever the ledger says of it: the row may be gone.
        let shown = book.held.iter().filter(|(key, held)| {
            matches!(select, Select::Named(name) if key.symbol == *name) && **held != Quantity::ZERO
        });
        let shown = shown.map(|(key, _)| key.clone());
        let suspects = suspects.map(|suspect| suspect.contract.clone());
        named.chain(suspects).chain(configured).chain(shown).collect()
    }

    /// Units of a contract that orders on their way may still sell: ours without an answer, and every one that the
    /// broker's order book shows working.
    fn may_still_be_sold(&self, contract: &HoldingKey, book: &VerifiedBook) -> Quantity {
        let of = |symbol: &str, exchange: &str, product| {
            (symbol, exchange, product) == (&*contract.symbol, &*contract.exchange, contract.product)
        };
        let shown: HashSet<&str> = book.orders.iter().map(|order| order.order_id.as_str()).collect();
        let ours = self.book.intents.values().map(|tracked| &tracked.intent).filter(|intent| {
            let order = &intent.order;
            let is_shown = intent.broker_order_id.as_deref().is_some_and(|id| shown.contains(id));
            intent.is_exit() && of(&order.symbol, &order.exchange, order.product) && !is_shown
        });
        let units = ours.map(OrderIntent::exit_quantity_out).chain([book.working(contract)]);
        Quantity(units.fold(0, |sum: i64, units| sum.saturating_add(units.0.max(0))))
    }

    fn instrument_of(&self, contract: &HoldingKey) -> String {
        let suspects = self.custody.iter().flat_map(|custody| &custody.suspects);
        let named =
            suspects.filter(|suspect| suspect.contract == *contract).map(|suspect| &suspect.instrument);
        let configured = self.engine.rules.catalog.iter().filter(|of| of.symbol == contract.symbol);
        let mut names = configured.map(|instrument| &instrument.name).chain(named);
        names.next().cloned().unwrap_or_else(|| contract.symbol.clone())
    }

    /// Reads the broker's books without looking dead: mode, session, orders, and only then positions, so that what
    /// fills between the two is counted twice rather than not at all.
    async fn verified_book(&self) -> Result<VerifiedBook, BrokerError> {
        let (broker, armed) = (Arc::clone(&self.engine.broker), self.engine.pace.armed);
        let mut reading = std::pin::pin!(VerifiedBook::read(broker, armed));
        let until = self.fence().now().plus(BOOK_PATIENCE);
        loop {
            tokio::select! {
                book = &mut reading => return book,
                () = tokio::time::sleep(BEAT) => {
                    self.engine.pulse.beat();
                    if self.fence().now() >= until {
                        let within_ms = BOOK_PATIENCE.as_millis();
                        return Err(BrokerError::TimedOut { route: "positionbook", within_ms });
                    }
                }
            }
        }
    }

    /// Takes out of a change what is derived from rows that may be damaged.
    pub(super) fn undamaged(&self, mut change: Change) -> Change {
        if self.custody.is_some() {
            change.portfolio = None;
            change.pyramids.clear();
        }
        change
    }
}
