//! Positions that are meant to be gone: one closer each, whoever asked, paced and never given up.

use ha::Moment;

use super::Book;
use crate::domain::cause::ExitCause;
use crate::domain::ids::{PositionId, SignalId};
use crate::domain::intent::OrderIntent;
use crate::domain::position::PositionStatus;

/// A position that is meant to be gone: exits are sent until it is flat.
#[derive(Clone, Debug)]
pub struct Closing {
    /// The EXIT that asked for it and its leg; none for what no signal asked for.
    pub signal: Option<(SignalId, i32)>,
    /// Why; the strongest of those that asked for it. Decides what may hold the next exit back.
    pub cause: ExitCause,
    /// The same in words.
    pub why: Option<String>,
    /// The next exit's attempt number.
    pub next_attempt: i32,
    /// Exits that ended one after the other without selling what they were for.
    pub failures: u32,
    /// No new exit before this moment.
    pub not_before: Moment,
}

impl Closing {
    /// To be closed now, by no signal's wish.
    pub(super) fn at_once(now: Moment, cause: ExitCause) -> Self {
        Self { signal: None, cause, why: None, next_attempt: 0, failures: 0, not_before: now }
    }
}

impl Book {
    /// Has a position closed for `signal`, under the next free leg number.
    pub fn close_for(&mut self, signal: SignalId, position: PositionId, not_before: Moment) {
        let legs = self.intents.values().filter(|t| t.intent.signal == Some(signal)).map(|t| t.intent.leg);
        let waiting = self
            .closing
            .values()
            .filter_map(|c| c.signal)
            .filter(|(by, _)| *by == signal)
            .map(|(_, leg)| leg);
        let leg = legs.chain(waiting).max().map_or(0, |leg| leg + 1);
        let closing =
            Closing { signal: Some((signal, leg)), ..Closing::at_once(not_before, ExitCause::Signal) };
        self.closing.entry(position).or_insert(closing);
    }

    /// Has an exit that the ledger did not take, or that was not given to it, tried again from `retry` on. Where another leg of
    /// its signal went out, this one is owed: the signal is not in its lane any more.
    /// What the ledger does not take of an entry closes nothing.
    pub fn wait_to_close(&mut self, exit: &OrderIntent, retry: Moment) {
        if !exit.is_exit() {
            return;
        }
        if let Some(closing) = self.closing.get_mut(&exit.position) {
            closing.not_before = retry;
        } else if let Some(signal) = exit.signal.filter(|signal| self.working.contains_key(signal)) {
            self.close_for(signal, exit.position, retry);
        }
    }

    /// Has a position closed for a reason of its own, beside or before any signal's. False when it is on its way out
    /// for a reason as strong already, or not held. The one closer of a position is its entry here: a second reason
    /// never makes a second exit.
    pub fn close_by(&mut self, position: PositionId, cause: ExitCause, why: String, now: Moment) -> bool {
        let stronger = self.is_news_to(position, cause);
        if stronger {
            let closing = self.closing.entry(position).or_insert(Closing::at_once(now, cause));
            closing.cause = cause;
            closing.why = Some(why);
            closing.not_before = closing.not_before.min(now);
        }
        stronger
    }

    /// As [`Self::close_by`], for a cause that every look gives anew: true only when it was not this one's before, under a former
    /// leader either.
    pub fn close_at_look(
        &mut self,
        position: PositionId,
        cause: ExitCause,
        why: String,
        now: Moment,
    ) -> bool {
        let is_first = self.closing.get(&position).is_none_or(|closing| closing.cause < cause);
        let begun = self.close_by(position, cause, why, now) && is_first;
        // A stop that a switch held back meanwhile has taken its entry along.
        begun && self.looked.insert((position, cause))
    }

    /// True for a held position that is not on its way out, or only for a reason weaker than `cause`.
    pub fn is_news_to(&self, position: PositionId, cause: ExitCause) -> bool {
        let before = self.closing.get(&position);
        let stronger = before.is_none_or(|c| c.cause < cause || c.cause == cause && c.why.is_none());
        stronger && self.position(position).is_some()
    }

    /// Forgets a wish to close what no order was sent for yet.
    pub fn keep_open(&mut self, position: PositionId) {
        if self.may_be_kept_open(position) {
            self.closing.remove(&position);
        }
    }

    /// A switch holds the sale `exit` back: the monitor looks again at a price that reached a stop or a take-profit, for it may come back
    /// before the sale is let through. What the clock asks for stays asked for.
    pub fn judge_anew(&mut self, exit: &OrderIntent) {
        let by_price = matches!(exit.cause, Some(ExitCause::StopLoss | ExitCause::TakeProfit));
        if by_price && exit.signal.is_none() && !exit.rests() && exit.attempt == 0 {
            self.keep_open(exit.position);
        }
    }

    /// True while a position is wanted closed by no signal and no order was journaled for it yet.
    pub fn may_be_kept_open(&self, position: PositionId) -> bool {
        self.position(position).is_some_and(|p| p.status == PositionStatus::Open)
            && self.closing.get(&position).is_some_and(|closing| closing.signal.is_none())
    }
}
