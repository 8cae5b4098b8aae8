//! `[notify]`: where notifications go beside the log, and how often.
//!
//! The limits carry the names under which operators of the predecessor know them; all of them are in seconds.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::cluster::is_http_url;
use super::reader::Reader;

/// The longest window: a month.
const LONGEST_S: u64 = 31 * 24 * 3600;

/// Channels and limits of notifications.
#[derive(Clone, Debug)]
pub struct Notify {
    /// The Telegram bot's token.
    pub telegram_bot_token: Option<SecretString>,
    /// The chat that the bot writes to.
    pub telegram_chat_id: Option<String>,
    /// The Bot API's base URL.
    pub telegram_url: String,
    /// Who may command by Telegram; none = nobody.
    pub commands: Option<Commands>,
    /// A webhook that gets each message as JSON.
    pub webhook_url: Option<SecretString>,
    /// What signs it.
    pub webhook_secret: Option<SecretString>,
    /// A webhook that takes Slack's JSON.
    pub slack_url: Option<SecretString>,
    /// A mailbox.
    pub smtp: Option<Smtp>,
    /// A URL that the leader calls again and again: whoever watches it hears of its silence.
    pub heartbeat_url: Option<SecretString>,
    /// How often.
    pub heartbeat_interval: Duration,
    /// Windows by kind.
    pub throttle: Throttle,
    /// How long a notification waits for others to go with.
    pub aggregation: Duration,
    /// How long one is worth delivering.
    pub expiry: Duration,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Starts and stops are told, too.
    pub start_stop: bool,
}

/// Commands by Telegram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commands {
    /// Chats from which they are taken.
    pub chats: Vec<i64>,
    /// Who may send them there; anybody in these chats if empty.
    pub users: Vec<i64>,
    /// How long the code of a dangerous one holds.
    pub code_expiry: Duration,
    /// Older than this, a command is refused, unless it halts.
    pub oldest: Duration,
    /// How long one poll waits.
    pub poll: Duration,
    /// Commands of a chat that are answered within a minute.
    pub per_minute: u32,
}

/// Mail.
#[derive(Clone, Debug)]
pub struct Smtp {
    /// `smtps://user:password@host:465` or `smtp://host:587?tls=required`.
    pub url: SecretString,
    /// From whom.
    pub from: String,
    /// To whom; several are separated by commas.
    pub to: String,
}

/// At most one notification per key within these windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttle {
    /// Failed starts.
    pub startup: Duration,
    /// The price feed.
    pub websocket: Duration,
    /// The bridge and the broker.
    pub broker: Duration,
    /// The database.
    pub database: Duration,
    /// Everything else.
    pub default: Duration,
}

impl Notify {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let (telegram_bot_token, telegram_chat_id, telegram_url) = telegram(reader);
        let commands = commands(reader, telegram_bot_token.is_some());
        let webhook_url = url(reader, "notify.webhook_url");
        let webhook_secret = reader.secret("notify.webhook_secret");
        let slack_url = url(reader, "notify.slack_url");
        let smtp = smtp(reader);
        let heartbeat_url = url(reader, "notify.heartbeat_url");
        let heartbeat_interval = reader.seconds("notify.heartbeat_interval", 60, 1..=3600);
        let window = |reader: &mut Reader, name: &str, default| {
            reader.seconds(&format!("notify.notification_throttle_{name}"), default, 1..=LONGEST_S)
        };
        let throttle = Throttle {
            startup: window(reader, "startup", 3600),
            websocket: window(reader, "websocket", 3600),
            broker: window(reader, "broker", 1800),
            database: window(reader, "database", 3600),
            default: window(reader, "default", 3600),
        };
        let aggregation = reader.seconds("notify.notification_aggregation_window", 60, 0..=3600);
        let expiry = reader.seconds("notify.notification_expiry", 86_400, 60..=LONGEST_S);
        let timeout = reader.seconds("notify.notification_timeout", 10, 1..=60);
        let start_stop = reader.flag("notify.notification_start_stop", true);
        Self {
            telegram_bot_token,
            telegram_chat_id,
            telegram_url,
            commands,
            webhook_url,
            webhook_secret,
            slack_url,
            smtp,
            heartbeat_url,
            heartbeat_interval,
            throttle,
            aggregation,
            expiry,
            timeout,
            start_stop,
        }
    }
}

fn telegram(reader: &mut Reader) -> (Option<SecretString>, Option<String>, String) {
    let token = reader.secret("notify.telegram_bot_token");
    let allowed = "a chat's number, e.g. -1001234567890, or its @name";
    let chat = reader.text("notify.telegram_chat_id", None, allowed, |text| {
        text.parse::<i64>().is_ok() || text.strip_prefix('@').is_some_and(|name| !name.is_empty())
    });
    let default_url = "https://api.telegram.org";
    let url =
        reader.text("notify.telegram_url", Some(default_url), "an http:// or https:// URL", is_http_url);
    let keys = ["notify.telegram_bot_token", "notify.telegram_bot_token_file", "notify.telegram_chat_id"];
    if reader.sound(&keys) {
        match (&token, &chat) {
            (Some(_), None) => {
                let advice =
                    "a bot token is set, so name the chat: TELEGRAM_CHAT_ID or notify.telegram_chat_id";
                reader.missing("notify.telegram_chat_id", advice);
            }
            (None, Some(_)) => {
                let advice =
                    "a chat is set, so give the bot's token: TELEGRAM_BOT_TOKEN or TELEGRAM_BOT_TOKEN_FILE";
                reader.missing("notify.telegram_bot_token", advice);
            }
            _ => {}
        }
    }
    (token, chat, url.unwrap_or_default().trim_end_matches('/').to_owned())
}

fn commands(reader: &mut Reader, has_token: bool) -> Option<Commands> {
    let list = |text: &str| -> Option<Vec<i64>> {
        text.split(',').map(str::trim).map(|part| part.parse().ok().filter(|id| *id != 0)).collect()
    };
    let numbers = |reader: &mut Reader, key: &str, allowed: &str| {
        let text = reader.text(key, None, allowed, |text| list(text).is_some());
        text.and_then(|text| list(&text)).unwrap_or_default()
    };
    let allowed = "numbers of chats, e.g. -1001234567890, several separated by commas";
    let chats = numbers(reader, "notify.telegram_command_chats", allowed);
    let allowed = "numbers of users, e.g. 123456789, several separated by commas";
    let users = numbers(reader, "notify.telegram_command_users", allowed);
    let code_expiry = reader.seconds("notify.telegram_code_expiry", 60, 10..=600);
    let oldest = reader.seconds("notify.telegram_command_age", 120, 10..=86_400);
    let poll = reader.seconds("notify.telegram_poll", 25, 1..=50);
    let per_minute = reader.whole("notify.telegram_commands_per_minute", 20, 1..=600, "commands a minute");
    let per_minute = u32::try_from(per_minute).unwrap_or(u32::MAX);
    let keys = ["notify.telegram_command_chats", "notify.telegram_command_users"];
    if chats.is_empty() && !users.is_empty() && reader.sound(&keys) {
        let advice = "users are allowed, so name the chats in which: a private chat has its user's number";
        reader.missing("notify.telegram_command_chats", advice);
    }
    let token = ["notify.telegram_bot_token", "notify.telegram_bot_token_file"];
    if !chats.is_empty() && !has_token && reader.sound(&token) {
        let advice =
            "commands are allowed, so give the bot's token: TELEGRAM_BOT_TOKEN or TELEGRAM_BOT_TOKEN_FILE";
        reader.missing("notify.telegram_bot_token", advice);
    }
    (!chats.is_empty()).then_some(Commands { chats, users, code_expiry, oldest, poll, per_minute })
}

/// A URL that is a secret as a whole: who knows it may write.
fn url(reader: &mut Reader, key: &str) -> Option<SecretString> {
    let url = reader.secret(key)?;
    if is_http_url(url.expose_secret()) {
        return Some(url);
    }
    reader.invalid(key, "a text of another form (not shown)", "an http:// or https:// URL");
    None
}

fn smtp(reader: &mut Reader) -> Option<Smtp> {
    let url = reader.secret("notify.smtp_url");
    let address = |text: &str| text.split(',').all(|part| part.trim().parse::<lettre::Address>().is_ok());
    let allowed = "mail addresses, e.g. ops@example.org, several separated by commas";
    let from = reader.text("notify.smtp_from", None, "a mail address, e.g. baton@example.org", |text| {
        text.parse::<lettre::Address>().is_ok()
    });
    let to = reader.text("notify.smtp_to", None, allowed, address);
    let url = url?;
    type Transport = lettre::AsyncSmtpTransport<lettre::Tokio1Executor>;
    if Transport::from_url(url.expose_secret()).is_err() {
        let allowed = "smtps://user:password@host:465 or smtp://host:587?tls=required";
        reader.invalid("notify.smtp_url", "a text of another form (not shown)", allowed);
    }
    let keys = ["notify.smtp_from", "notify.smtp_to"];
    match (from, to) {
        (Some(from), Some(to)) => Some(Smtp { url, from, to }),
        (from, to) => {
            if reader.sound(&keys) {
                for (key, set) in keys.into_iter().zip([from.is_some(), to.is_some()]) {
                    if !set {
                        reader.missing(key, "a mail server is set, so name both sender and receiver");
                    }
                }
            }
            None
        }
    }
}
