//! Where notifications go. A channel delivers one message, once, and says what is known of the outcome; when to try
//! again is the outbox's business.

pub mod bot;
mod email;
mod http;
mod log;
mod slack;
mod telegram;
mod webhook;

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

pub use email::{Email, EmailError};
pub use telegram::Telegram;
pub use webhook::sign;

use super::event::Severity;
use crate::config;

/// What is delivered.
#[derive(Clone, Debug)]
pub struct Message {
    /// Travels with it, so that a receiver can tell a repeat.
    pub id: Uuid,
    /// The cluster it is about.
    pub cluster: String,
    /// One line.
    pub subject: String,
    /// All of it.
    pub body: String,
    /// The worst severity in it.
    pub severity: Severity,
    /// The kinds in it.
    pub types: Vec<String>,
    /// An earlier attempt may have arrived.
    pub possible_repeat: bool,
    /// When it was composed.
    pub created_at: DateTime<Utc>,
    /// The chat that it goes to, if that is not the channel's own.
    pub recipient: Option<String>,
}

/// What is known of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It arrived.
    Sent,
    /// It did not, or nobody knows.
    Again {
        /// How long the other side asks to wait.
        after: Option<Duration>,
        /// It may have arrived all the same.
        uncertain: bool,
        /// What happened; names no secret.
        why: String,
    },
    /// It will never be taken.
    Refused {
        /// Why, and what to do.
        why: String,
    },
}

/// A way to the operator.
pub enum Channel {
    /// The Telegram Bot API.
    Telegram(Telegram),
    /// The same bot's answers to commands, each to the chat that asked.
    Replies(Telegram),
    /// A webhook with a signature.
    Webhook(webhook::Webhook),
    /// A webhook that takes Slack's JSON.
    Slack(slack::Slack),
    /// SMTP.
    Email(Email),
    /// The log of whichever instance delivers.
    Log,
}

impl Channel {
    /// The configured channels; the log is always one.
    ///
    /// # Errors
    /// The HTTP client cannot be built, or an address is none.
    pub fn configured(notify: &config::Notify) -> Result<Vec<Self>, ChannelError> {
        let client = http::client(notify.timeout)?;
        let mut channels = vec![Self::Log];
        if let (Some(token), Some(chat)) = (&notify.telegram_bot_token, &notify.telegram_chat_id) {
            let telegram = Telegram::new(client.clone(), &notify.telegram_url, token.clone(), chat.clone());
            if notify.commands.is_some() {
                channels.push(Self::Replies(telegram.clone()));
            }
            channels.push(Self::Telegram(telegram));
        }
        if let Some(url) = &notify.webhook_url {
            let secret = notify.webhook_secret.clone();
            channels.push(Self::Webhook(webhook::Webhook::new(client.clone(), url.clone(), secret)));
        }
        if let Some(url) = &notify.slack_url {
            channels.push(Self::Slack(slack::Slack::new(client, url.clone())));
        }
        if let Some(smtp) = &notify.smtp {
            channels.push(Self::Email(Email::new(smtp, notify.timeout)?));
        }
        Ok(channels)
    }

    /// Its name in the outbox, the metrics and the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Telegram(_) => "telegram",
            Self::Replies(_) => crate::ledger::telegram::REPLIES,
            Self::Webhook(_) => "webhook",
            Self::Slack(_) => "slack",
            Self::Email(_) => "email",
            Self::Log => "log",
        }
    }

    /// It takes notifications, not only what is addressed to it.
    pub fn takes_notices(&self) -> bool {
        !matches!(self, Self::Replies(_))
    }

    /// Attempts a minute that the other side bears, for the whole cluster.
    pub fn per_minute(&self) -> i32 {
        match self {
            // The Bot API allows twenty a minute into one group.
            Self::Telegram(_) | Self::Replies(_) => 20,
            Self::Slack(_) | Self::Email(_) => 30,
            Self::Webhook(_) | Self::Log => 600,
        }
    }

    /// Delivers one message, once.
    pub async fn deliver(&self, message: &Message) -> Delivery {
        match self {
            Self::Telegram(telegram) | Self::Replies(telegram) => telegram.deliver(message).await,
            Self::Webhook(webhook) => webhook.deliver(message).await,
            Self::Slack(slack) => slack.deliver(message).await,
            Self::Email(email) => email.deliver(message).await,
            Self::Log => log::deliver(message),
        }
    }
}

/// Channels that cannot work as configured.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// No HTTP client.
    #[error("cannot build the HTTP client for notifications")]
    Client(#[source] reqwest::Error),
    /// No mail.
    #[error(transparent)]
    Email(#[from] EmailError),
}

impl Message {
    /// The text for people: marked when it may be a repeat, with the id's last digits to tell one from another.
    pub fn text(&self) -> String {
        let repeat = if self.possible_repeat { "(possible repeat) " } else { "" };
        format!("{repeat}{}\n{}", self.body, self.mark())
    }

    /// What tells this message from another, for people.
    pub fn mark(&self) -> String {
        let id = self.id.simple().to_string();
        format!("#{}", &id[id.len() - 8..])
    }
}
