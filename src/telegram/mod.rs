//! Commands by Telegram: the leader alone listens to the bot, and an operator in an allowed chat has the switches, the
//! closing and the views that command line and API have.
//!
//! ```text
//! getUpdates ─▶ allowed? ─▶ take (one statement: offset, command, code, audit) ─▶ act ─▶ answer (outcome + reply)
//!                 └ no: counted, passed over, no answer              dangerous: offer a code, and wait for /confirm CODE
//! ```
//!
//! Three decisions. **Taken once**: the offset lives in the ledger and moves in the statement that stores the command,
//! under the epoch, so a failover or a lost answer brings none twice; what a leader took and did not end, its successor
//! ends with the truth: done, not done, or, of a flatten only, not known. **A code is a row**: it is used up in the
//! statement that takes the confirmation, so it holds through a failover and never acts twice. **Replies go through the
//! outbox**, in a queue of their own: durable, with the channel's flood budget and the pauses that Telegram asks for,
//! and marked when they may be repeats.

mod act;
mod budget;
mod command;
mod words;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use ha::{Handle, Role};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::Commands;
use crate::engine::command::Desk;
use crate::failpoint;
use crate::health::operational::Operational;
use crate::ledger::telegram::{Incoming, Left};
use crate::ledger::{Ledger, LedgerError};
use crate::notify::channels::bot::{Update, Written};
use crate::notify::{Bot, BotError, Event, Kind, Notifier};
use crate::telemetry::metrics::Metrics;
use budget::{Budget, Room};
use command::{Command, Said, Verb};

/// The wait after a fault that may pass by itself.
const RETRY: Duration = Duration::from_secs(1);
/// The wait after a refusal, which somebody has to mend.
const REFUSED: Duration = Duration::from_secs(60);
/// A stranger's chat is named in the log at most so often.
const STRANGER_EVERY: Duration = Duration::from_secs(60);
/// Strangers that are remembered for that.
const STRANGERS: usize = 64;

/// What commands work with.
pub struct Commander {
    /// Who is listened to.
    pub bot: Bot,
    /// Who may command.
    pub policy: Commands,
    /// The cluster's name.
    pub cluster: String,
    /// Paper or live.
    pub mode: &'static str,
    /// This instance's part in the cluster.
    pub handle: Arc<Handle>,
    /// Connections that neither orders nor requests wait for.
    pub ledger: Ledger,
    /// Where the engine takes commands from.
    pub desk: Desk,
    /// What this instance is doing.
    pub operational: watch::Receiver<Operational>,
    /// Tells of a bot that cannot be listened to.
    pub notifier: Notifier,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// One leadership's listening.
struct Term<'a> {
    commander: &'a Commander,
    epoch: i64,
    bot: i64,
    name: String,
    budget: Budget,
    strangers: HashMap<i64, Instant>,
}

/// What became of a message; a label of the metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    Done,
    Asked,
    Refused,
    Unknown,
}

// === impl Commander ===

impl Commander {
    /// Listens whenever this instance leads, until `stopped`.
    pub async fn run(self, stopped: CancellationToken) {
        let mut role = self.handle.role();
        loop {
            let leading = match &*role.borrow_and_update() {
                Role::Leader(fence) => Some(fence.epoch().get()),
                _ => None,
            };
            let listening = async {
                match leading {
                    Some(epoch) => self.lead(epoch).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = listening => {}
                changed = role.changed() => if changed.is_err() { return },
                () = stopped.cancelled() => return,
            }
        }
    }

    /// Listens under an epoch; whoever drops this leaves at most one command unanswered, and it is found again.
    async fn lead(&self, epoch: i64) {
        let (bot, name) = loop {
            match self.bot.me().await {
                Ok(me) => break me,
                Err(error) => self.wait_after(error).await,
            }
        };
        let (budget, strangers) = (Budget::new(self.policy.per_minute), HashMap::new());
        let mut term = Term { commander: self, epoch, bot, name, budget, strangers };
        tracing::info!(bot = term.name, epoch, "[NOTIFICATION] commands by Telegram are listened to");
        loop {
            if let Err(error) = term.turn().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "[NOTIFICATION] commands by Telegram wait for the database"
                );
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn wait_after(&self, error: BotError) {
        match error {
            BotError::Later { after, why } => {
                tracing::debug!("[NOTIFICATION] the bot cannot be listened to: {why}");
                tokio::time::sleep(after.unwrap_or(RETRY)).await;
            }
            BotError::Refused { why } => {
                tracing::error!("[NOTIFICATION] the bot may not be listened to: {why}");
                let event = Event::about(
                    Kind::NotificationFailed,
                    "telegram_commands",
                    format!("commands by Telegram are not heard: {why}"),
                );
                self.notifier.raise(event);
                tokio::time::sleep(REFUSED).await;
            }
        }
    }

    fn count(&self, outcome: &str) {
        self.metrics.telegram_commands.with_label_values(&[outcome]).inc();
    }
}

// === impl Term ===

impl Term<'_> {
    /// Ends what was left, then takes what was sent since.
    async fn turn(&mut self) -> Result<(), LedgerError> {
        let commander = self.commander;
        for left in commander.ledger.left_commands(self.bot).await? {
            self.end_left(&left).await?;
        }
        let offset = commander.ledger.telegram_offset(self.bot).await?;
        let updates = match commander.bot.updates(offset, commander.policy.poll).await {
            Ok(updates) => updates,
            Err(error) => {
                commander.wait_after(error).await;
                return Ok(());
            }
        };
        let mut passed = None;
        for update in updates {
            passed = if self.hear(&update).await? { None } else { Some(update.id) };
        }
        if let Some(update) = passed {
            commander.ledger.pass_updates(self.epoch, self.bot, update).await?;
        }
        Ok(())
    }

    /// Ends a command that its leader took and did not answer.
    async fn end_left(&self, left: &Left) -> Result<(), LedgerError> {
        let outcome = match &left.outcome {
            Some(outcome) => outcome.clone(),
            None => words::left(left, &self.name),
        };
        tracing::warn!(update = left.update, actor = left.actor, "[NOTIFICATION] {outcome}");
        self.commander.ledger.drop_command(self.epoch, left, &outcome).await?;
        self.commander.notifier.replied();
        Ok(())
    }

    /// Takes one update, if it is a command from somebody who may; says whether its number was taken.
    async fn hear(&mut self, update: &Update) -> Result<bool, LedgerError> {
        let Some(written) = &update.message else { return Ok(false) };
        let said = command::read(&written.text, &self.name);
        if said == Said::Nothing {
            return Ok(false);
        }
        let policy = &self.commander.policy;
        let known = policy.users.is_empty() || policy.users.contains(&written.sender);
        if !policy.chats.contains(&written.chat) || !known {
            self.pass_stranger(written);
            return Ok(false);
        }
        let urgent = matches!(&said, Said::Command(command) if command.verb.is_urgent());
        let room = if urgent { Room::Within } else { self.budget.take(written.chat, Instant::now()) };
        match room {
            Room::Within => self.obey(update.id, written, said).await?,
            Room::Full => self.refuse(update.id, written, &words::full(policy.per_minute)).await?,
            Room::Beyond => {
                self.commander.count("flooded");
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn pass_stranger(&mut self, written: &Written) {
        self.commander.count("stranger");
        let now = Instant::now();
        self.strangers.retain(|_, at| now.duration_since(*at) < STRANGER_EVERY);
        if self.strangers.len() < STRANGERS && self.strangers.insert(written.chat, now).is_none() {
            tracing::warn!(
                chat = written.chat,
                sender = written.sender,
                "[NOTIFICATION] a command from a chat or a user that is not allowed was passed over"
            );
        }
    }

    /// Takes a message only to say no.
    async fn refuse(&self, update: i64, written: &Written, why: &str) -> Result<(), LedgerError> {
        let incoming = self.incoming(update, written, written.text.chars().take(60).collect());
        if self.commander.ledger.take_command(self.epoch, &incoming).await?.is_some() {
            self.answer(&incoming, why, Ending::Refused).await?;
        }
        Ok(())
    }

    async fn obey(&self, update: i64, written: &Written, said: Said) -> Result<(), LedgerError> {
        let command = match said {
            Said::Command(command) => command,
            Said::Unknown(name) => return self.refuse(update, written, &words::unknown(&name)).await,
            Said::Nothing => return Ok(()),
        };
        let policy = &self.commander.policy;
        let age = Duration::from_secs(u64::try_from(Utc::now().timestamp() - written.at).unwrap_or(0));
        if age > policy.oldest && !command.verb.is_urgent() {
            return self.refuse(update, written, &words::too_old(&command, age)).await;
        }
        let mut incoming = self.incoming(update, written, command.kept());
        incoming.audited = command.verb.changes();
        if command.verb.is_dangerous() {
            incoming.offers = Some((code(), policy.code_expiry.as_secs_f64()));
        }
        if command.verb == Verb::Confirm {
            incoming.brings = Some(command.rest.clone());
        }
        let Some(taken) = self.commander.ledger.take_command(self.epoch, &incoming).await? else {
            return Ok(());
        };
        failpoint::hit("after_command_taken");
        let seen = taken.confirms.as_ref().map(|confirmed| confirmed.seen).unwrap_or_default();
        let (command, late) = match (command.verb, taken.confirms) {
            (Verb::Confirm, None) => {
                return self.answer(&incoming, words::WRONG_CODE, Ending::Refused).await;
            }
            // Only what can be read is ever stored with a code.
            (Verb::Confirm, Some(kept)) => match command::read(&kept.command, &self.name) {
                Said::Command(confirmed) => (confirmed, false),
                _ => return self.answer(&incoming, words::WRONG_CODE, Ending::Refused).await,
            },
            _ => (command, age > policy.oldest),
        };
        if let Some((code, _)) = &incoming.offers {
            let asked = self.ask(&command, code).await?;
            return self.answer(&incoming, &asked, Ending::Asked).await;
        }
        let (mut outcome, ending) = self.act(&incoming, &command, seen).await?;
        if late {
            outcome += &words::late(age);
        }
        failpoint::hit("after_command_acted");
        self.answer(&incoming, &outcome, ending).await
    }

    fn incoming(&self, update: i64, written: &Written, command: String) -> Incoming {
        let name: String = written.name.chars().filter(|c| !c.is_control()).take(40).collect();
        let actor = if name.is_empty() { written.sender.to_string() } else { name };
        Incoming {
            bot: self.bot,
            update,
            chat: written.chat,
            sender: written.sender,
            actor: format!("telegram:{actor}"),
            command,
            brings: None,
            offers: None,
            audited: false,
        }
    }

    /// What a dangerous command will do, and how to confirm it.
    async fn ask(&self, command: &Command, code: &str) -> Result<String, LedgerError> {
        let preview = self.preview(command).await?;
        Ok(words::asked(command, &preview, code, self.commander.policy.code_expiry))
    }

    async fn answer(&self, incoming: &Incoming, outcome: &str, ending: Ending) -> Result<(), LedgerError> {
        let ending = match ending {
            Ending::Done => "done",
            Ending::Asked => "asked",
            Ending::Refused => "refused",
            Ending::Unknown => "unknown",
        };
        self.commander
            .ledger
            .answer_command((incoming.bot, incoming.update), outcome, incoming.audited)
            .await?;
        self.commander.count(ending);
        self.commander.notifier.replied();
        Ok(())
    }
}

/// Six digits: they tell one offer from another and show that it was read; who may use them is decided by chat and sender.
fn code() -> String {
    // The last bits of a UUID are random.
    format!("{:06}", Uuid::now_v7().as_u128() as u64 % 1_000_000)
}
