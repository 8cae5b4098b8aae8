//! `[signals]`: who may send signals, from where, and how many.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use ipnet::IpNet;
use secrecy::SecretString;

use super::reader::Reader;

/// Who may send signals.
#[derive(Clone, Debug)]
pub struct Signals {
    /// The bearer token that senders put in the `Authorization` header.
    pub token: Option<SecretString>,
    /// The text that senders who cannot set headers put in the body's `secret`.
    pub secret: Option<SecretString>,
    /// Networks that signals are taken from; none named: from everywhere.
    pub allow_from: Vec<IpNet>,
    /// Proxies whose `X-Forwarded-For` tells where a signal comes from.
    pub trusted_proxies: Vec<IpNet>,
    /// Signals a minute that one source may send to this instance, exits apart; as many may come at once.
    pub quota: NonZeroU32,
}

impl Signals {
    pub(super) fn read(reader: &mut Reader, listen: SocketAddr) -> Self {
        let token = reader.secret("signals.token");
        let secret = reader.secret("signals.secret");
        let keys =
            ["signals.token", "signals.token_file", "signals.secret", "signals.secret_file", "http.listen"];
        if token.is_none() && secret.is_none() && !listen.ip().is_loopback() && reader.sound(&keys) {
            let advice = format!(
                "{listen} can be reached from other machines, and without it (or signals.secret) anybody could send \
                 signals; set BATON_SIGNALS__TOKEN or BATON_SIGNALS__SECRET (or the same name with _FILE), or listen \
                 on 127.0.0.1"
            );
            reader.missing("signals.token", advice);
        }
        let allow_from = networks(reader, "signals.allow_from");
        let trusted_proxies = networks(reader, "signals.trusted_proxies");
        let quota = reader.whole("signals.quota_per_minute", 600, 1..=1_000_000, "signals a minute");
        let quota = u32::try_from(quota).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
        Self { token, secret, allow_from, trusted_proxies, quota }
    }
}

fn networks(reader: &mut Reader, key: &str) -> Vec<IpNet> {
    let allowed = "addresses or networks (10.1.2.3, 10.0.0.0/8, 2001:db8::/32) with commas between them";
    let text = reader.text(key, Some(""), allowed, |text| parse(text).is_some());
    text.as_deref().and_then(parse).unwrap_or_default()
}

fn parse(text: &str) -> Option<Vec<IpNet>> {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    words.map(|word| word.parse().ok().or_else(|| Some(word.parse::<IpAddr>().ok()?.into()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_addresses_with_or_without_a_prefix() {
        let parsed = parse("10.1.2.3, 10.0.0.0/8,2001:db8::/32, ::1").unwrap();
        let shown: Vec<String> = parsed.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.1.2.3/32", "10.0.0.0/8", "2001:db8::/32", "::1/128"]);
        assert_eq!(parse(""), Some(Vec::new()));
        for wrong in ["10.0.0.0/33", "tradingview.com", "10.0.0"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
