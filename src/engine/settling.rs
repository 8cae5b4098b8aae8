//! What the broker's books say of orders, recorded: together where that cannot make a difference.

use std::collections::BTreeSet;
use std::slice;

use super::book::Book;
use super::evidence::{Evidence, Findings, Suspects};
use super::tell;
use super::term::{TOGETHER, Term, wall_clock};
use crate::domain::ids::IntentId;
use crate::failpoint;
use crate::ledger::LedgerError;

/// Parts intents into those that one change may tell of: of each instrument one, so that no fill is booked on a position,
/// or beside a label, that another one in the change has moved. Those of `alone` have a change of their own.
pub(super) fn together(
    book: &Book,
    ids: &[IntentId],
    alone: impl Fn(IntentId) -> bool,
) -> Vec<Vec<IntentId>> {
    let mut groups: Vec<Vec<IntentId>> = Vec::new();
    // Of the last group, while more may join it.
    let mut instruments: BTreeSet<&str> = BTreeSet::new();
    for id in ids {
        let Some(tracked) = book.intents.get(id) else { continue };
        let instrument = tracked.intent.instrument.as_str();
        if alone(*id) {
            instruments.clear();
            groups.push(vec![*id]);
            continue;
        }
        let joins =
            !instruments.is_empty() && instruments.len() < TOGETHER && !instruments.contains(instrument);
        match groups.last_mut().filter(|_| joins) {
            Some(group) => group.push(*id),
            None => {
                instruments.clear();
                groups.push(vec![*id]);
            }
        }
        instruments.insert(instrument);
    }
    groups
}

impl Term<'_> {
    /// Records all that a reading of the books proves. True when anything was recorded.
    pub(super) async fn settle(
        &mut self,
        evidence: &Evidence<'_>,
        findings: &Findings,
        confirmed: &Suspects,
    ) -> Result<bool, LedgerError> {
        let mut ids = findings.intents.clone();
        ids.retain(|id| self.may_settle(*id));
        // Where state is damaged, and of an end that nobody saw, each is told by itself.
        let alone = |id| self.custody.is_some() || findings.unseen.contains(&id);
        let mut moved = false;
        for group in together(&self.book, &ids, alone) {
            moved |= match group.as_slice() {
                [id] => self.settle_one(*id, evidence, findings, confirmed).await?,
                group => self.settle_group(group, evidence, findings, confirmed).await?,
            };
        }
        Ok(moved)
    }

    /// One of them that cannot be booked, or that the ledger refuses, keeps no other from being known.
    async fn settle_group(
        &mut self,
        group: &[IntentId],
        evidence: &Evidence<'_>,
        findings: &Findings,
        confirmed: &Suspects,
    ) -> Result<bool, LedgerError> {
        let rules = &self.engine.rules;
        if let Ok(change) = evidence.settle(&self.book, rules, group, confirmed, wall_clock()) {
            failpoint::hit("before_fill_commit");
            match self.commit(change).await {
                Err(error) if error.is_refusal() => {}
                committed => return committed.map(|()| true),
            }
        }
        let mut moved = false;
        for id in group {
            moved |= self.settle_one(*id, evidence, findings, confirmed).await?;
        }
        Ok(moved)
    }

    async fn settle_one(
        &mut self,
        id: IntentId,
        evidence: &Evidence<'_>,
        findings: &Findings,
        confirmed: &Suspects,
    ) -> Result<bool, LedgerError> {
        let rules = &self.engine.rules;
        match evidence.settle(&self.book, rules, slice::from_ref(&id), confirmed, wall_clock()) {
            Ok(change) => {
                failpoint::hit("before_fill_commit");
                if findings.unseen.contains(&id) {
                    tell::unseen_end(&change, &self.engine.notifier);
                }
                let committed = self.commit(change).await;
                let moved = committed.is_ok();
                self.bearable(committed)?;
                Ok(moved)
            }
            Err(error) => {
                tracing::error!(intent = %id, error = &error as &dyn std::error::Error, "the broker's books contradict the ledger");
                self.engine.operational.error("DATA_CORRUPT", format!("intent {id}: {error}"));
                Ok(false)
            }
        }
    }
}
