//! `[dns]`: how the bridge's name is resolved.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::reader::Reader;

/// The servers of two public resolvers.
const SERVERS: &str = "8.8.8.8, 1.1.1.1, 8.8.4.4, 1.0.0.1";

/// Name resolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Asked when the system's resolver fails or lingers.
    pub servers: Vec<SocketAddr>,
    /// The longest that a question may take.
    pub timeout: Duration,
    /// How long a failure is remembered.
    pub negative_ttl: Duration,
}

impl Dns {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let allowed =
            "addresses of DNS servers, with commas between them (port 53 unless said), or empty for none";
        let servers = reader.text("dns.servers", Some(SERVERS), allowed, |text| servers(text).is_some());
        let timeout = reader.millis("dns.timeout_ms", 2000, 100..=60_000);
        let negative_ttl = reader.millis("dns.negative_ttl_ms", 1000, 0..=60_000);
        Self {
            servers: servers.as_deref().and_then(self::servers).unwrap_or_default(),
            timeout,
            negative_ttl,
        }
    }
}

fn servers(text: &str) -> Option<Vec<SocketAddr>> {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    words
        .map(|word| word.parse().ok().or_else(|| Some(SocketAddr::new(word.parse::<IpAddr>().ok()?, 53))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_addresses_with_or_without_a_port() {
        assert_eq!(servers(SERVERS).unwrap().len(), 4);
        assert_eq!(servers("").unwrap(), []);
        assert_eq!(
            servers("127.0.0.1:5353,::1").unwrap(),
            ["127.0.0.1:5353", "[::1]:53"].map(|a| a.parse().unwrap())
        );
        assert_eq!(servers("dns.example"), None);
    }
}
