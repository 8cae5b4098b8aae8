//! `[broker]`: the bridge, whether its orders are real, and the times that decide what is in doubt.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::cluster::is_http_url;
use super::reader::Reader;
use super::tls;
use crate::broker::plugin::{PLUGINS, Plugin};

/// Whether orders are real.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The bridge must be in analyze mode: its orders are simulated.
    Paper,
    /// The bridge must be live: its orders are real.
    Live,
}

impl Mode {
    /// The stable name: `paper` or `live`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Paper => "paper",
            Self::Live => "live",
        }
    }
}

/// The bridge to the broker.
#[derive(Clone, Debug)]
pub struct Broker {
    /// The bridge's base URL without `/api/v1` and without a trailing slash.
    pub url: String,
    /// Authorities in PEM beside the system's, for `https://` and `wss://`.
    pub ca_file: Option<PathBuf>,
    /// The bridge's API key.
    pub api_key: SecretString,
    /// Paper unless set; every answer of the bridge is checked against it.
    pub mode: Mode,
    /// The bridge's broker plugin, whose words are spoken there; one that understands all unless set.
    pub plugin: Plugin,
    /// The broker account, which arms `live`; always set in live mode.
    pub account: Option<String>,
    /// U: `TCP_USER_TIMEOUT` on broker sockets.
    pub user_timeout: Duration,
    /// H: the longest an order call may take.
    pub order_timeout: Duration,
    /// The longest a read may take.
    pub read_timeout: Duration,
    /// B: how long an order may take to appear at the broker.
    pub settle: Duration,
    /// K: the idle time after which the bridge closes a kept-alive connection, if known.
    pub idle_close: Option<Duration>,
    /// D: how long the bridge may not show an order that it has accepted.
    pub hides: Duration,
    /// Order calls a second.
    pub orders_per_second: u32,
    /// Prices that this instance asks for in a second; other reads are not paced.
    pub reads_per_second: u32,
    /// Connections kept open for orders.
    pub warm_connections: usize,
    /// How often the books are read while something is open or in doubt.
    pub poll: Duration,
}

impl Broker {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let default_url = "http://127.0.0.1:5000";
        let url = reader.text("broker.url", Some(default_url), "an http:// or https:// URL", is_http_url);
        let url = url.unwrap_or_default().trim_end_matches('/').trim_end_matches("/api/v1").to_owned();
        let ca_file = tls::authority_file(reader, "broker.ca_file").map(|(path, _)| path);
        let api_key = reader.required_secret("broker.api_key");
        let mode = reader.choice("broker.mode", Mode::Paper, &[("paper", Mode::Paper), ("live", Mode::Live)]);
        let plugins: Vec<_> = PLUGINS.iter().map(|plugin| (plugin.name, *plugin)).collect();
        let plugin = reader.choice("broker.plugin", Plugin::ANY, &plugins);
        let account = reader.text("broker.account", None, "the broker's account id, not empty", |text| {
            !text.trim().is_empty() && text.len() <= 64
        });
        let user_timeout = reader.millis("broker.user_timeout_ms", 2000, 100..=60_000);
        let order_timeout = reader.millis("broker.order_timeout_ms", 5000, 100..=120_000);
        let read_timeout = reader.millis("broker.read_timeout_ms", 5000, 100..=120_000);
        let settle = reader.millis("broker.settle_ms", 180_000, 100..=3_600_000);
        let idle_close = reader.optional_whole("broker.idle_close_ms", None, 100..=3_600_000, "ms");
        let idle_close = idle_close.map(Duration::from_millis);
        let hides = reader.millis("broker.hides_ms", 90_000, 0..=3_600_000);
        // One of them is the exits' own.
        let orders_per_second =
            reader.whole("broker.orders_per_second", 3, 2..=1000, "orders a second") as u32;
        let reads_per_second =
            reader.whole("broker.reads_per_second", 10, 1..=10_000, "reads a second") as u32;
        let warm_connections = reader.whole("broker.warm_connections", 2, 1..=32, "connections") as usize;
        let poll = reader.millis("broker.poll_ms", 1000, 50..=600_000);

        if mode == Mode::Live && account.is_none() && reader.sound(&["broker.account", "broker.mode"]) {
            let advice = "broker.mode = \"live\" sends real orders, so name the account they are for";
            reader.missing("broker.account", advice);
        }
        settles_late_enough(reader, settle, idle_close, hides);
        Self {
            url,
            ca_file,
            api_key,
            mode,
            plugin,
            account,
            user_timeout,
            order_timeout,
            read_timeout,
            settle,
            idle_close,
            hides,
            orders_per_second,
            reads_per_second,
            warm_connections,
            poll,
        }
    }
}

/// B > K + D. An order may be written as late as the bridge keeps an idle connection open, and then stay hidden: with
/// less, one that is on its way is taken for one that never was. Without K nothing is known of late writes, and an exit
/// is not abandoned by its absence; what is hidden is hidden all the same.
fn settles_late_enough(reader: &mut Reader, settle: Duration, idle_close: Option<Duration>, hides: Duration) {
    let least = idle_close.unwrap_or_default() + hides;
    if settle > least || !reader.sound(&["broker.settle_ms", "broker.idle_close_ms", "broker.hides_ms"]) {
        return;
    }
    let relation = match idle_close {
        Some(_) => {
            "settle_ms > idle_close_ms + hides_ms, because a process that was paused can still write on a connection that \
             the bridge keeps open, and the bridge may take hides_ms to show what it accepted"
        }
        None => "settle_ms > hides_ms, because the bridge may take hides_ms to show what it accepted",
    };
    let allowed = format!("more than {} ms: {relation}", least.as_millis());
    reader.invalid("broker.settle_ms", format!("{} ms", settle.as_millis()), allowed);
}
