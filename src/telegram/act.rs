//! Carrying commands out, by the same code as command line and API: the ledger's switches, the engine's desk, the views.

use tokio::time::Instant;

use super::command::{Command, Verb};
use super::{Ending, Term, words};
use crate::engine::command::{FILLS, NotClosed, Select};
use crate::ledger::LedgerError;
use crate::ledger::release::{Seen, SetError};
use crate::ledger::switching::{Switch, SwitchChange, SwitchView};
use crate::ledger::telegram::Incoming;
use crate::ledger::views::Which;

/// Rows of a list that are read; what is shown is less.
const ROWS: i64 = 1000;
/// Orders that are not at their end.
const UNDER_WAY: [&str; 4] = ["journaled", "acknowledged", "partially_filled", "in_doubt"];

impl Term<'_> {
    /// Does what was asked; gives what came of it.
    pub(super) async fn act(
        &self,
        incoming: &Incoming,
        command: &Command,
        seen: Seen,
    ) -> Result<(String, Ending), LedgerError> {
        let done = |text: String| Ok((text, Ending::Done));
        match command.verb {
            Verb::Help => done(words::help()),
            Verb::Status => done(self.status().await?),
            Verb::Positions => {
                let positions = self.commander.ledger.positions(Which::Unfinished, ROWS).await?;
                done(words::positions(&positions))
            }
            Verb::Errors => done(words::errors(&self.commander.ledger.errors(true, ROWS).await?)),
            Verb::Set(switch, on) => self.set(incoming, command, (switch, on), seen).await,
            Verb::Flatten => Ok(self.flatten(incoming, command).await),
            // Its command was read in its place.
            Verb::Confirm => Ok((words::WRONG_CODE.to_owned(), Ending::Refused)),
        }
    }

    async fn set(
        &self,
        incoming: &Incoming,
        command: &Command,
        (switch, on): (Switch, bool),
        seen: Seen,
    ) -> Result<(String, Ending), LedgerError> {
        let who = incoming.actor.clone();
        let change = SwitchChange { switch, on, who, why: command.reason(), until: None, seen };
        let outcome = words::set(switch, on, &change.who);
        let claim = (self.epoch, incoming.bot, incoming.update);
        match self.commander.ledger.set_switch_for(claim, &change, &outcome).await {
            Ok(true) => {}
            Ok(false) => return Ok((words::not_done(command), Ending::Refused)),
            Err(SetError::Ledger(error)) => return Err(error),
            Err(moved) => return Ok((words::failed(command, &moved.to_string()), Ending::Refused)),
        }
        let state = if on { "on" } else { "off" };
        tracing::warn!(switch = %switch, who = change.who, "[HA] {switch} is {state}: {}", change.why);
        Ok((outcome, Ending::Done))
    }

    async fn flatten(&self, incoming: &Incoming, command: &Command) -> (String, Ending) {
        let why = format!("{}: {}", incoming.actor, command.reason());
        let closing = match self.commander.desk.close(Select::All, incoming.actor.clone(), why).await {
            Ok(closing) => closing,
            Err(NotClosed::Unknown) => {
                return (words::not_closed(command, &NotClosed::Unknown), Ending::Unknown);
            }
            Err(why) => return (words::not_closed(command, &why), Ending::Refused),
        };
        match closing.progress(&self.commander.ledger, Instant::now() + FILLS).await {
            Some(views) => (words::flattened(&views, closing.entries), Ending::Done),
            // It was taken up: whether the ledger can say how far it is changes nothing of that.
            None => (words::flattening(closing.positions.len(), "the database does not say"), Ending::Done),
        }
    }

    /// What a dangerous command is about to do.
    pub(super) async fn preview(&self, command: &Command) -> Result<String, LedgerError> {
        if command.verb == Verb::Set(Switch::Halted, false) {
            return Ok(words::halts(&self.commander.ledger.switch_views().await?));
        }
        if command.verb != Verb::Flatten {
            return Ok(String::new());
        }
        let positions = self.commander.ledger.positions(Which::Unfinished, ROWS).await?;
        Ok(format!("{}\n{}", words::positions(&positions), words::under_way(self.under_way().await?.0)))
    }

    /// Orders that are on their way, and how many of them are in doubt.
    async fn under_way(&self) -> Result<(usize, usize), LedgerError> {
        let states = UNDER_WAY.map(str::to_owned);
        let orders = self.commander.ledger.orders_in(&states, ROWS).await?;
        let doubted = orders.iter().filter(|order| order.state == "in_doubt").count();
        Ok((orders.len(), doubted))
    }

    async fn status(&self) -> Result<String, LedgerError> {
        let commander = self.commander;
        let switches: Vec<SwitchView> =
            commander.ledger.switch_views().await?.into_iter().filter(|switch| switch.on).collect();
        let open = commander.ledger.unresolved_errors().await?;
        let instances = commander.handle.instances().await.unwrap_or_default();
        let stats = commander.handle.stats().borrow().clone();
        let operational = commander.operational.borrow().clone();
        let positions = commander.ledger.positions(Which::Unfinished, ROWS).await?;
        let portfolio = commander.ledger.portfolio().await?;
        let (orders, doubted) = self.under_way().await?;
        Ok(words::status(&words::Status {
            cluster: &commander.cluster,
            mode: commander.mode,
            operational: &operational,
            me: commander.handle.instance().member.as_str(),
            epoch: self.epoch,
            degraded: stats.ha_degraded,
            instances: &instances,
            switches: &switches,
            positions: positions.len(),
            equity: portfolio.map(|portfolio| portfolio.closed_equity),
            orders,
            doubted,
            errors: open.iter().map(|(_, count)| count).sum(),
        }))
    }
}
