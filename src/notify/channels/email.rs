//! E-mail by SMTP. The message's id is the mail's Message-ID, so that a mail program shows a repeat once.

use std::time::Duration;

use lettre::message::{Mailbox, Mailboxes, MessageBuilder, header};
use lettre::transport::smtp::Error as SmtpError;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use secrecy::ExposeSecret;

use super::{Delivery, Message};
use crate::config;

/// A mailbox to write to.
pub struct Email {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Mailboxes,
}

/// Mail settings that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum EmailError {
    /// The URL of the server.
    #[error(
        "notify.smtp_url is no mail server; use smtps://user:password@host:465 or smtp://host:587?tls=required"
    )]
    Url(#[source] SmtpError),
    /// A mail address.
    #[error("{key} {address:?} is no mail address; use for example ops@example.org")]
    Address {
        /// Which setting.
        key: &'static str,
        /// What was found.
        address: String,
        /// Why.
        #[source]
        source: lettre::address::AddressError,
    },
}

impl Email {
    /// Prepares the way to a mail server; connects for each message.
    ///
    /// # Errors
    /// An address or the URL cannot be read.
    pub fn new(smtp: &config::Smtp, timeout: Duration) -> Result<Self, EmailError> {
        let address = |key, text: &str| {
            let address = text.to_owned();
            move |source| EmailError::Address { key, address, source }
        };
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(smtp.url.expose_secret())
            .map_err(EmailError::Url)?
            .timeout(Some(timeout))
            .build();
        let from = smtp.from.parse().map_err(address("notify.smtp_from", &smtp.from))?;
        let to = smtp.to.parse().map_err(address("notify.smtp_to", &smtp.to))?;
        Ok(Self { transport, from, to })
    }

    /// Sends one mail.
    pub(super) async fn deliver(&self, message: &Message) -> Delivery {
        let repeat = if message.possible_repeat { "(possible repeat) " } else { "" };
        let host = self.from.email.domain();
        let mail = MessageBuilder::new()
            .from(self.from.clone())
            .mailbox(header::To::from(self.to.clone()))
            .message_id(Some(format!("<{}@{host}>", message.id)))
            .subject(format!("{repeat}{}", message.subject))
            .body(message.text());
        let mail = match mail {
            Ok(mail) => mail,
            Err(error) => return Delivery::Refused { why: error.to_string() },
        };
        match self.transport.send(mail).await {
            Ok(_) => Delivery::Sent,
            Err(error) if error.is_permanent() => Delivery::Refused {
                why: format!("{error}; check notify.smtp_url, notify.smtp_from and notify.smtp_to"),
            },
            // A refusal for now did not take it; whatever broke off in between is not known.
            Err(error) => Delivery::Again {
                after: None,
                uncertain: !error.is_transient() && !error.is_client(),
                why: error.to_string(),
            },
        }
    }
}
