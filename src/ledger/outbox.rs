//! The outbox of notifications: decided items become one message a channel, claimed and delivered by whoever is there.
//!
//! A claim lasts for a lease. A claimer that dies leaves the message to the next one, which cannot know whether it
//! arrived, and says so. The channel's row is the gate for all instances: its lock serialises claims, and it holds the
//! flood budget and the pause that the other side asked for.

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::planned::Planned;
use super::{Ledger, LedgerError};

/// Decided, and not yet part of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The kind's name.
    pub error_type: String,
    /// What it is about.
    pub scope: String,
    /// The severity's name.
    pub severity: String,
    /// The text.
    pub message: String,
    /// Occurrences of the episode until the decision.
    pub occurrences: i64,
    /// When the episode began.
    pub since: DateTime<Utc>,
    /// The last occurrence, or the end.
    pub at: DateTime<Utc>,
    /// Who saw it.
    pub seen_by: String,
    /// It is over.
    pub recovered: bool,
}

/// A message as composed of items; the same for every channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Composed {
    /// One line.
    pub subject: String,
    /// All of it.
    pub body: String,
    /// The worst severity in it.
    pub severity: String,
    /// The kinds in it.
    pub types: Vec<String>,
}

/// A message of the time without the database that a channel is not known to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsent {
    /// Travels with it.
    pub id: Uuid,
    /// The channel's name.
    pub channel: &'static str,
    /// The message.
    pub composed: Composed,
    /// An attempt may have arrived.
    pub uncertain: bool,
}

/// A message that this instance may send now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Claimed {
    /// Travels with it.
    pub id: Uuid,
    /// One line.
    pub subject: String,
    /// All of it.
    pub body: String,
    /// The worst severity in it.
    pub severity: String,
    /// The kinds in it.
    pub types: Vec<String>,
    /// This attempt's number, from 1.
    pub attempts: i32,
    /// An earlier attempt may have arrived.
    pub uncertain: bool,
    /// When it was composed.
    pub created_at: DateTime<Utc>,
    /// The chat that it goes to, if that is not the channel's own.
    pub recipient: Option<String>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Attempt {
    /// Delivered.
    Sent,
    /// To be tried again.
    Again {
        /// How long to wait, in seconds.
        after_s: f64,
        /// It may have arrived all the same.
        uncertain: bool,
        /// The other side asked everybody for the pause.
        whole_channel: bool,
        /// What happened.
        why: String,
    },
    /// Given up.
    Dead {
        /// Why.
        why: String,
    },
}

/// One statement: opens the channel's gate for a moment, takes its oldest message, and notes the attempt.
const CLAIM: &str = "WITH gate AS (
        SELECT channel FROM notification_channel
        WHERE channel = $1 AND not_before <= now()
          AND (SELECT count(*) FROM unnest(sent) t WHERE t > now() - interval '1 minute') < $4::int
        FOR UPDATE SKIP LOCKED
    ), next AS (
        SELECT o.id, o.claimed_until IS NOT NULL AS abandoned FROM notification_outbox o JOIN gate USING (channel)
        WHERE o.state = 'queued' AND o.next_attempt_at <= now() AND o.expires_at > now()
          AND (o.claimed_until IS NULL OR o.claimed_until <= now())
        ORDER BY (o.severity = 'critical') DESC, o.id
        LIMIT 1 FOR UPDATE OF o SKIP LOCKED
    ), claimed AS (
        UPDATE notification_outbox o SET claimed_by = $2, claimed_until = now() + make_interval(secs => $3::float8),
            attempts = attempts + 1, uncertain = o.uncertain OR next.abandoned
        FROM next WHERE o.id = next.id
        RETURNING o.*
    ), counted AS (
        UPDATE notification_channel c SET
            sent = ARRAY(SELECT t FROM unnest(c.sent) t WHERE t > now() - interval '1 minute') || now()
        FROM claimed WHERE c.channel = claimed.channel
    )
    SELECT id, subject, body, severity, types, attempts, uncertain, created_at, recipient FROM claimed";

impl Ledger {
    /// Makes sure that a channel has its gate.
    ///
    /// # Errors
    /// Any database error.
    pub async fn open_channels(&self, channels: &[&str]) -> Result<(), LedgerError> {
        self.client()
            .await?
            .execute(
                "INSERT INTO notification_channel (channel) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING",
                &[&channels],
            )
            .await
            .map_err(LedgerError::during("open notification channels"))?;
        Ok(())
    }

    /// Turns all waiting items into one message a channel, as soon as one of them is due; gives the items.
    ///
    /// # Errors
    /// Any database error; the items stay then.
    pub async fn compose_due(
        &self,
        channels: &[&str],
        expires_s: f64,
        compose: impl FnOnce(&[Item], DateTime<Utc>) -> Composed,
    ) -> Result<Vec<Item>, LedgerError> {
        let during = LedgerError::during("compose notifications");
        let mut client = self.client().await?;
        let due = client
            .row("SELECT EXISTS (SELECT 1 FROM notification_item WHERE due_at <= now())", &[])
            .await
            .map_err(&during)?;
        if !due.get::<_, bool>(0) {
            return Ok(Vec::new());
        }
        let tx = client.transaction().await.map_err(&during)?;
        // One composer at a time, or two would share the items between two messages.
        let mine = tx
            .query_one(
                "SELECT pg_try_advisory_xact_lock(hashtextextended('baton/notification_item', 0))",
                &[],
            )
            .await
            .map_err(&during)?;
        if !mine.get::<_, bool>(0) {
            return Ok(Vec::new());
        }
        let rows = tx
            .query(
                "DELETE FROM notification_item WHERE EXISTS (SELECT 1 FROM notification_item WHERE due_at <= now())
                 RETURNING id, error_type, scope, severity, message, occurrences, since, at, seen_by, recovered, now()",
                &[],
            )
            .await
            .map_err(&during)?;
        let Some(now) = rows.first().map(|row| row.get(10)) else { return Ok(Vec::new()) };
        let mut items: Vec<(i64, Item)> = rows
            .iter()
            .map(|row| {
                let item = Item {
                    error_type: row.get(1),
                    scope: row.get(2),
                    severity: row.get(3),
                    message: row.get(4),
                    occurrences: row.get(5),
                    since: row.get(6),
                    at: row.get(7),
                    seen_by: row.get(8),
                    recovered: row.get(9),
                };
                (row.get(0), item)
            })
            .collect();
        items.sort_by_key(|(id, _)| *id);
        let items: Vec<Item> = items.into_iter().map(|(_, item)| item).collect();
        let composed = compose(&items, now);
        for channel in channels {
            tx.execute(
                "INSERT INTO notification_outbox (id, channel, severity, types, subject, body, expires_at)
                 VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7::float8))",
                &[
                    &Uuid::now_v7(),
                    channel,
                    &composed.severity,
                    &composed.types,
                    &composed.subject,
                    &composed.body,
                    &expires_s,
                ],
            )
            .await
            .map_err(&during)?;
        }
        tx.commit().await.map_err(&during)?;
        Ok(items)
    }

    /// Claims a channel's next message for `lease_s` seconds, if its gate is open: at most `per_minute` attempts a
    /// minute in the whole cluster.
    ///
    /// # Errors
    /// Any database error.
    pub async fn claim(
        &self,
        channel: &str,
        me: &str,
        lease_s: f64,
        per_minute: i32,
    ) -> Result<Option<Claimed>, LedgerError> {
        let client = self.client().await?;
        let during = LedgerError::during("claim a notification");
        let claim = client.prepare_cached(CLAIM).await.map_err(&during)?;
        let found =
            client.query_opt(&claim, &[&channel, &me, &lease_s, &per_minute]).await.map_err(&during)?;
        Ok(found.map(|row| Claimed {
            id: row.get(0),
            subject: row.get(1),
            body: row.get(2),
            severity: row.get(3),
            types: row.get(4),
            attempts: row.get(5),
            uncertain: row.get(6),
            created_at: row.get(7),
            recipient: row.get(8),
        }))
    }

    /// Notes how this instance's attempt ended. False when the claim has lapsed and another instance has the message.
    ///
    /// # Errors
    /// Any database error: the message is claimed again later, as uncertain.
    pub async fn attempted(&self, id: Uuid, me: &str, attempt: &Attempt) -> Result<bool, LedgerError> {
        let client = self.client().await?;
        let during = LedgerError::during("note a delivery");
        let changed = match attempt {
            Attempt::Sent => {
                client
                    .execute(
                        "UPDATE notification_outbox SET state = 'sent', finished_at = now(), claimed_by = NULL,
                            claimed_until = NULL, last_error = NULL WHERE id = $1 AND claimed_by = $2",
                        &[&id, &me],
                    )
                    .await
            }
            Attempt::Again { after_s, uncertain, whole_channel, why } => {
                client
                    .execute(
                        "WITH message AS (
                            UPDATE notification_outbox SET next_attempt_at = now() + make_interval(secs => $3::float8),
                                uncertain = uncertain OR $4, claimed_by = NULL, claimed_until = NULL, last_error = $5
                            WHERE id = $1 AND claimed_by = $2 RETURNING channel
                         ), gate AS (
                            UPDATE notification_channel c SET not_before = now() + make_interval(secs => $3::float8)
                            FROM message WHERE c.channel = message.channel AND $6
                         )
                         SELECT 1 FROM message",
                        &[&id, &me, after_s, uncertain, why, whole_channel],
                    )
                    .await
            }
            Attempt::Dead { why } => {
                client
                    .execute(
                        "UPDATE notification_outbox SET state = 'dead', finished_at = now(), claimed_by = NULL,
                            claimed_until = NULL, last_error = $3 WHERE id = $1 AND claimed_by = $2",
                        &[&id, &me, why],
                    )
                    .await
            }
        };
        Ok(changed.map_err(&during)? > 0)
    }

    /// Ends what nobody could deliver in time; gives each one's channel and kinds. Forgets messages after a week and
    /// errors that are over, and changes of operational states, after ninety days.
    ///
    /// # Errors
    /// Any database error.
    pub async fn expire_notifications(&self) -> Result<Vec<(String, Vec<String>)>, LedgerError> {
        let during = LedgerError::during("expire notifications");
        let client = self.client().await?;
        let rows = client
            .query(
                "UPDATE notification_outbox SET state = 'expired', finished_at = now(), claimed_by = NULL,
                    claimed_until = NULL WHERE state = 'queued' AND expires_at <= now()
                    AND (claimed_until IS NULL OR claimed_until <= now()) RETURNING channel, types",
                &[],
            )
            .await
            .map_err(&during)?;
        for forget in [
            "DELETE FROM notification_outbox WHERE state <> 'queued' AND finished_at < now() - interval '7 days'",
            "DELETE FROM error_notifications_log WHERE resolved AND last_occurrence < now() - interval '90 days'",
            "DELETE FROM operational_state_history WHERE at < now() - interval '90 days'",
            "DELETE FROM telegram_command WHERE state IN ('answered', 'dropped') AND ended_at < now() - interval '90 days'",
        ] {
            client.execute(forget, &[]).await.map_err(&during)?;
        }
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Counts what waits: messages that are not delivered, and items that are in no message yet.
    ///
    /// # Errors
    /// Any database error.
    pub async fn outbox_depth(&self) -> Result<i64, LedgerError> {
        let row = self
            .client()
            .await?
            .query_one(
                "SELECT (SELECT count(*) FROM notification_outbox WHERE state = 'queued')
                      + (SELECT count(*) FROM notification_item)",
                &[],
            )
            .await
            .map_err(LedgerError::during("count the outbox"))?;
        Ok(row.get(0))
    }
}
