//! `baton notify test`: one message through every configured channel, now, without the outbox.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use chrono::Utc;
use clap::Subcommand;
use serde_json::{Value, json};
use uuid::Uuid;

use super::output::{Cell, Colour, Output};
use crate::config::{self, Inputs};
use crate::notify::channels::{Delivery, Message};
use crate::notify::compose::moment;
use crate::notify::{Channel, Severity};

/// What to do with notifications.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Verb {
    /// Send a test message through every configured channel; exit code 0 when each delivered it.
    #[command(after_help = "Examples:
  baton notify test
  baton --config /etc/baton/baton.toml notify test -o json")]
    Test,
}

/// Runs the verb.
///
/// # Errors
/// The notification settings have faults.
pub async fn run(_verb: Verb, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let (notify, cluster) = config::notify(inputs)?;
    let channels = Channel::configured(&notify)?;
    // The log of this process is of no use to anybody.
    let channels: Vec<_> = channels
        .iter()
        .filter(|channel| channel.takes_notices() && !matches!(channel, Channel::Log))
        .collect();
    if channels.is_empty() {
        anyhow::bail!(
            "no channel is configured: set telegram_bot_token and telegram_chat_id, webhook_url, slack_url or smtp_url \
             under [notify]; until then notifications go to the log alone"
        );
    }
    let message = message(&cluster);
    let sending = channels.iter().map(|channel| async {
        let begun = Instant::now();
        (channel.name(), channel.deliver(&message).await, begun.elapsed())
    });
    let results = futures_util::future::join_all(sending).await;
    let all = results.iter().all(|(_, delivery, _)| *delivery == Delivery::Sent);
    show(&results, output)?;
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn message(cluster: &config::Cluster) -> Message {
    let now = Utc::now();
    let subject = format!("[{}] INFO TEST", cluster.name);
    let body =
        format!("{subject}\nA test message, nothing is wrong\n{}, sent by {}", moment(now), cluster.member);
    Message {
        id: Uuid::now_v7(),
        cluster: cluster.name.clone(),
        subject,
        body,
        severity: Severity::Info,
        types: vec!["TEST".to_owned()],
        possible_repeat: false,
        created_at: now,
        recipient: None,
    }
}

fn show(results: &[(&str, Delivery, Duration)], output: &Output) -> std::io::Result<()> {
    if output.is_json() {
        let results: Vec<Value> = results
            .iter()
            .map(|(channel, delivery, took)| {
                let sent = *delivery == Delivery::Sent;
                json!({ "channel": channel, "sent": sent, "why": why(delivery), "took_ms": took.as_millis() })
            })
            .collect();
        return output.json(&json!({ "results": results }));
    }
    let rows: Vec<Vec<Cell>> = results
        .iter()
        .map(|(channel, delivery, took)| {
            let result = match delivery {
                Delivery::Sent => Cell::of("sent").in_colour(Colour::Green),
                Delivery::Again { uncertain: true, .. } => Cell::of("UNKNOWN").in_colour(Colour::Red),
                Delivery::Again { .. } | Delivery::Refused { .. } => {
                    Cell::of("FAILED").in_colour(Colour::Red)
                }
            };
            let why = why(delivery).unwrap_or_default();
            vec![Cell::of(channel), result, Cell::of(format!("{} ms", took.as_millis())), Cell::of(why)]
        })
        .collect();
    output.table(&["CHANNEL", "RESULT", "TOOK", "WHY"], &rows)
}

fn why(delivery: &Delivery) -> Option<&str> {
    match delivery {
        Delivery::Sent => None,
        Delivery::Again { why, .. } | Delivery::Refused { why } => Some(why),
    }
}
