//! Operators' commands by Telegram, taken once, ended once.
//!
//! Each step is one statement. *Taking* moves the bot's offset, stores the command, uses up the code that it brings and
//! appends to the audit chain, if the epoch still leads: no lost answer and no failover brings a command twice. *Ending*
//! queues the reply with the outcome. A switch is set in the statement that claims its command, so a leader that was
//! paused between taking and acting finds that its successor has dropped the command, and sets nothing.

use ha::Epoch;
use serde_json::json;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::release::{Seen, SetError, Setting, as_seen};
use super::switching::{SET_BY, SwitchChange, setting};
use super::{Ledger, LedgerError};

/// The outbox channel of replies; a queue of its own, so that neither holds up the other.
pub const REPLIES: &str = "telegram_reply";

/// How long a reply is worth delivering, in seconds.
const REPLY_EXPIRY_S: f64 = 600.0;
/// After this long without an update the bot's offset counts no more.
const OFFSET_LIFE: &str = "6 days";

/// A command as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Incoming {
    /// The bot's number.
    pub bot: i64,
    /// The update's.
    pub update: i64,
    /// The chat that it came from.
    pub chat: i64,
    /// Who sent it.
    pub sender: i64,
    /// Who sent it, for histories: `telegram:name`.
    pub actor: String,
    /// The command, without its code.
    pub command: String,
    /// The code that it brings, to confirm an earlier one.
    pub brings: Option<String>,
    /// The code that will confirm it, and for how many seconds; what the sender was offered before lapses.
    pub offers: Option<(String, f64)>,
    /// It changes something: it is kept in the audit chain.
    pub audited: bool,
}

/// A command that nobody else will act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What its code confirmed; none when the code is wrong, used up or too old.
    pub confirms: Option<Confirmed>,
}

/// A command that its code confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// The command.
    pub command: String,
    /// What was in force when the code was offered.
    pub seen: Seen,
}

/// A command whose leader ended before it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The bot's number.
    pub bot: i64,
    /// The update's.
    pub update: i64,
    /// Who sent it.
    pub actor: String,
    /// What was asked; of a confirmation, what it confirmed.
    pub command: String,
    /// It is confirmed.
    pub confirmed: bool,
    /// What came of it, if it acted.
    pub outcome: Option<String>,
}

const TAKE: &str = "WITH leads AS (
        SELECT 1 FROM leadership WHERE epoch = $1 FOR SHARE
    ), moved AS (
        INSERT INTO telegram_bot AS b (bot, next_update) SELECT $2, $3::bigint + 1 FROM leads
        ON CONFLICT (bot) DO UPDATE SET next_update = excluded.next_update, taken_at = now()
            WHERE b.next_update <= $3 OR b.taken_at < now() - interval '{life}'
        RETURNING 1
    ), kept AS (
        INSERT INTO telegram_command (bot, update_id, chat, sender, actor, command, epoch, code, code_until)
        SELECT $2, $3, $4, $5, $6, $7, $1, $9, now() + make_interval(secs => $10::float8) FROM moved
        ON CONFLICT DO NOTHING
        RETURNING 1
    ), lapsed AS (
        UPDATE telegram_command SET code_until = now()
        WHERE bot = $2 AND chat = $4 AND sender = $5 AND update_id <> $3 AND $9::text IS NOT NULL
          AND code_used_by IS NULL AND code_until > now() AND EXISTS (SELECT 1 FROM kept)
    ), confirmed AS (
        UPDATE telegram_command SET code_used_by = $3
        WHERE bot = $2 AND chat = $4 AND sender = $5 AND code = $8
          AND code_used_by IS NULL AND code_until > now() AND EXISTS (SELECT 1 FROM kept)
        RETURNING command, epoch, (SELECT coalesce(max(id), 0) FROM switch_history WHERE at <= taken_at) AS change
    )
    SELECT (SELECT command FROM confirmed LIMIT 1), (SELECT epoch FROM confirmed LIMIT 1), (SELECT change FROM confirmed LIMIT 1),
        CASE WHEN $11::text IS NULL THEN NULL ELSE audit_append('telegram', $6, $11) END
    FROM kept";

/// Ends a command with its reply; `$5` names the states that it may be in, `$10` the epoch that must lead, if any.
const ANSWER: &str = "WITH leads AS (
        SELECT 1 FROM leadership WHERE $10::bigint IS NULL OR epoch = $10 FOR SHARE
    ), ended AS (
        UPDATE telegram_command SET state = $4, outcome = $3, ended_at = now() FROM leads
        WHERE bot = $1 AND update_id = $2 AND state = ANY ($5)
        RETURNING chat, actor, command
    ), reply AS (
        INSERT INTO notification_outbox (id, channel, severity, types, subject, body, recipient, expires_at)
        SELECT $6, $7, 'info', '{}', command, $3, chat::text, now() + make_interval(secs => $8::float8) FROM ended
    )
    SELECT CASE WHEN $9 THEN audit_append('telegram', actor, jsonb_build_object('update', $2::bigint, 'outcome', $3::text)::text) END
    FROM ended";

impl Ledger {
    /// The first update that was not taken yet; none when the bot has none, or had none for long.
    ///
    /// # Errors
    /// Any database error.
    pub async fn telegram_offset(&self, bot: i64) -> Result<Option<i64>, LedgerError> {
        let statement = format!(
            "SELECT next_update FROM telegram_bot WHERE bot = $1 AND taken_at > now() - interval '{OFFSET_LIFE}'"
        );
        let row = self.client().await?.query_opt(&statement, &[&bot]).await;
        let row = row.map_err(LedgerError::during("read the bot's offset"))?;
        Ok(row.map(|row| row.get(0)))
    }

    /// Passes over updates up to this one; true if they were not passed before.
    ///
    /// # Errors
    /// Any database error; it is then asked for again.
    pub async fn pass_updates(&self, epoch: i64, bot: i64, update: i64) -> Result<bool, LedgerError> {
        let statement = format!(
            "WITH leads AS (SELECT 1 FROM leadership WHERE epoch = $1 FOR SHARE)
             INSERT INTO telegram_bot AS b (bot, next_update) SELECT $2, $3::bigint + 1 FROM leads
             ON CONFLICT (bot) DO UPDATE SET next_update = excluded.next_update, taken_at = now()
                WHERE b.next_update <= $3 OR b.taken_at < now() - interval '{OFFSET_LIFE}'"
        );
        let passed = self.client().await?.execute(&statement, &[&epoch, &bot, &update]).await;
        Ok(passed.map_err(LedgerError::during("pass over updates"))? > 0)
    }

    /// Takes a command under an epoch; none when that epoch leads no more, or somebody took the command before.
    ///
    /// # Errors
    /// Any database error; a lost connection leaves it unknown, and [`Ledger::left_commands`] finds it out.
    pub async fn take_command(&self, epoch: i64, command: &Incoming) -> Result<Option<Taken>, LedgerError> {
        let told = command.audited.then(|| {
            json!({ "update": command.update, "chat": command.chat, "sender": command.sender,
                "command": command.command, "brings_code": command.brings.is_some(), "epoch": epoch })
            .to_string()
        });
        let (offered, offered_s) = command.offers.clone().unzip();
        let values: [&(dyn ToSql + Sync); 11] = [
            &epoch,
            &command.bot,
            &command.update,
            &command.chat,
            &command.sender,
            &command.actor,
            &command.command,
            &command.brings,
            &offered,
            &offered_s,
            &told,
        ];
        let statement = TAKE.replace("{life}", OFFSET_LIFE);
        let row = self.client().await?.query_opt(&statement, &values).await;
        let row = row.map_err(LedgerError::during("take a command"))?;
        let confirms = |row: &tokio_postgres::Row| {
            let command = row.get::<_, Option<String>>(0)?;
            let epoch = row.get::<_, Option<i64>>(1).map(Epoch::new);
            Some(Confirmed { command, seen: Seen { epoch, change: row.get(2) } })
        };
        Ok(row.map(|row| Taken { confirms: confirms(&row) }))
    }

    /// Sets a switch for a command that this epoch took; false when its successor has dropped the command.
    ///
    /// # Errors
    /// Something moved since the author of a release looked. Any database error; a lost connection leaves it unknown, and
    /// [`Ledger::left_commands`] finds it out.
    pub async fn set_switch_for(
        &self,
        (epoch, bot, update): (i64, i64, i64),
        change: &SwitchChange,
        outcome: &str,
    ) -> Result<bool, SetError> {
        // The leadership row first, as everywhere: two statements that lock in one order never wait for each other.
        let statement = setting(&format!(
            "UPDATE telegram_command SET state = 'done', outcome = $9 FROM o
             WHERE bot = $7 AND update_id = $8 AND epoch = $6 AND state = 'taken' AND {} RETURNING 1",
            as_seen(SET_BY, "$10", "$11")
        ));
        let until = change.until.filter(|_| change.on);
        let (switch, on, seen) = (change.switch.as_str(), change.on, change.must_hold());
        let looked = seen.epoch.map(Epoch::get);
        let values: [&(dyn ToSql + Sync); 11] = [
            &switch,
            &on,
            &change.who,
            &change.why,
            &until,
            &epoch,
            &bot,
            &update,
            &outcome,
            &looked,
            &seen.change,
        ];
        let setting = Setting {
            brake: switch.to_owned(),
            operation: "set a switch for a command",
            statement: &statement,
            values: &values,
            names: 1,
            set_by: SET_BY,
            seen,
        };
        setting.run(&self.client().await?).await
    }

    /// Ends a command: stores what came of it and queues that as the reply, to the chat that asked.
    ///
    /// # Errors
    /// Any database error; [`Ledger::left_commands`] finds it again.
    pub async fn answer_command(
        &self,
        (bot, update): (i64, i64),
        outcome: &str,
        audited: bool,
    ) -> Result<(), LedgerError> {
        let from = ["taken", "done", "dropped"];
        self.end_command((bot, update), outcome, ("answered", &from), audited, None).await
    }

    /// Ends a command that was left: from now on it acts no more. Nothing happens if it was ended meanwhile, or if this
    /// epoch leads no more.
    ///
    /// # Errors
    /// Any database error; it is found again.
    pub async fn drop_command(&self, epoch: i64, left: &Left, outcome: &str) -> Result<(), LedgerError> {
        let (state, from) = if left.outcome.is_some() { ("answered", "done") } else { ("dropped", "taken") };
        self.end_command((left.bot, left.update), outcome, (state, &[from]), true, Some(epoch)).await
    }

    async fn end_command(
        &self,
        (bot, update): (i64, i64),
        outcome: &str,
        (state, from): (&str, &[&str]),
        audited: bool,
        epoch: Option<i64>,
    ) -> Result<(), LedgerError> {
        let id = Uuid::now_v7();
        let values: [&(dyn ToSql + Sync); 10] =
            [&bot, &update, &outcome, &state, &from, &id, &REPLIES, &REPLY_EXPIRY_S, &audited, &epoch];
        let ended = self.client().await?.query(ANSWER, &values).await;
        ended.map_err(LedgerError::during("answer a command"))?;
        Ok(())
    }

    /// Commands that were taken and not answered, by a leader that ended, or by this one when the database failed.
    ///
    /// # Errors
    /// Any database error.
    pub async fn left_commands(&self, bot: i64) -> Result<Vec<Left>, LedgerError> {
        let rows = self
            .client()
            .await?
            .query(
                "SELECT c.bot, c.update_id, c.actor, coalesce(asked.command, c.command), c.outcome, asked.command IS NOT NULL
                 FROM telegram_command c
                 LEFT JOIN telegram_command asked ON asked.bot = c.bot AND asked.code_used_by = c.update_id
                 WHERE c.bot = $1 AND c.state IN ('taken', 'done') ORDER BY c.update_id",
                &[&bot],
            )
            .await
            .map_err(LedgerError::during("find commands that were left"))?;
        let left = |row: &tokio_postgres::Row| Left {
            bot: row.get(0),
            update: row.get(1),
            actor: row.get(2),
            command: row.get(3),
            outcome: row.get(4),
            confirmed: row.get(5),
        };
        Ok(rows.iter().map(left).collect())
    }
}
