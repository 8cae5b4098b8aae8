//! `[feed]`: where live prices come from, and from what age on they are worth less.

use std::time::Duration;

use super::reader::Reader;

/// The port of the bridge's WebSocket proxy.
const PROXY_PORT: u16 = 8765;

/// Live prices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// The proxy's URL; `None` while the live feed is switched off.
    pub url: Option<String>,
    /// A price that is older is asked for over REST.
    pub live_max_age: Duration,
    /// An older price is stale.
    pub stale: Duration,
    /// An older price is dead: entries that need it are frozen.
    pub dead: Duration,
}

impl Feed {
    pub(super) fn read(reader: &mut Reader, bridge: &str) -> Self {
        let enabled = reader.flag("feed.enabled", true);
        let allowed = "a ws:// or wss:// URL";
        let url = reader
            .text("feed.url", None, allowed, |url| url.starts_with("ws://") || url.starts_with("wss://"));
        let url = enabled.then(|| url.unwrap_or_else(|| derived(bridge)));
        let live_max_age = reader.millis("feed.live_max_age_ms", 2000, 100..=600_000);
        let stale = reader.millis("feed.stale_ms", 30_000, 100..=3_600_000);
        let dead = reader.millis("feed.dead_ms", 300_000, 100..=86_400_000);
        let keys = ["feed.live_max_age_ms", "feed.stale_ms", "feed.dead_ms"];
        if reader.sound(&keys) && live_max_age >= stale {
            let allowed = format!("more than {} ms: stale_ms > live_max_age_ms", live_max_age.as_millis());
            reader.invalid("feed.stale_ms", format!("{} ms", stale.as_millis()), allowed);
        }
        if reader.sound(&keys) && stale >= dead {
            let allowed = format!("more than {} ms: dead_ms > stale_ms", stale.as_millis());
            reader.invalid("feed.dead_ms", format!("{} ms", dead.as_millis()), allowed);
        }
        Self { url, live_max_age, stale, dead }
    }
}

/// The proxy on the bridge's host, with TLS where the bridge has it.
fn derived(bridge: &str) -> String {
    let (scheme, rest) = match bridge.split_once("://") {
        Some(("https", rest)) => ("wss", rest),
        Some((_, rest)) => ("ws", rest),
        None => ("ws", bridge),
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    // An IPv6 address stands in brackets, and only what follows them is a port.
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    format!("{scheme}://{host}:{PROXY_PORT}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_is_looked_for_on_the_bridges_host() {
        for (bridge, proxy) in [
            ("http://127.0.0.1:5000", "ws://127.0.0.1:8765"),
            ("https://bridge.example/prefix", "wss://bridge.example:8765"),
            ("http://[::1]:5000", "ws://[::1]:8765"),
            ("http://[::1]", "ws://[::1]:8765"),
        ] {
            assert_eq!(derived(bridge), proxy);
        }
    }
}
