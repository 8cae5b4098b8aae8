//! Where signals may come from, and how many: the allow-list and each source's quota.
//!
//! A source is the client's address: of an IPv6 one the first 64 bits, which is what one customer is given. Behind a trusted
//! proxy it is the last address in `X-Forwarded-For` that is not itself a trusted proxy's, since every proxy appends and whatever
//! stands before that is only said by the client. Each instance counts for itself.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use http::{HeaderMap, StatusCode};
use ipnet::{IpNet, Ipv6Net};

use super::Problem;
use crate::config::Signals;

/// So many sources are remembered before those that are quiet are forgotten.
const SOURCES: usize = 4096;

/// Lets senders in, or not.
pub(super) struct Admission {
    allowed: Vec<IpNet>,
    proxies: Vec<IpNet>,
    quota: RateLimiter<IpNet, HashMapStateStore<IpNet>, DefaultClock>,
    clock: DefaultClock,
}

impl Admission {
    pub fn new(config: &Signals) -> Self {
        Self {
            allowed: config.allow_from.clone(),
            proxies: config.trusted_proxies.clone(),
            quota: RateLimiter::hashmap(Quota::per_minute(config.quota)),
            clock: DefaultClock::default(),
        }
    }

    /// Where a request comes from.
    pub fn source(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.ip().to_canonical();
        if !within(&self.proxies, peer) {
            return peer;
        }
        let said = headers.get_all("x-forwarded-for");
        let said: Vec<&str> =
            said.iter().flat_map(|value| value.to_str().unwrap_or("?").split(',')).collect();
        let mut nearest = peer;
        for hop in said.iter().rev() {
            // What is no address was not written by a proxy that can be trusted.
            let Some(hop) = address(hop.trim()) else { return nearest };
            nearest = hop;
            if !within(&self.proxies, hop) {
                break;
            }
        }
        nearest
    }

    /// Refuses who is not on the list.
    ///
    /// # Errors
    /// 403 `SENDER_NOT_ALLOWED`.
    pub fn allows(&self, source: IpAddr) -> Result<(), Problem> {
        if self.allowed.is_empty() || within(&self.allowed, source) {
            return Ok(());
        }
        Err(Problem::new(
            StatusCode::FORBIDDEN,
            "SENDER_NOT_ALLOWED",
            format!(
                "{source} is not in signals.allow_from; behind a proxy name that one in signals.trusted_proxies"
            ),
        ))
    }

    /// Counts a request of this source; none of it may be stored once that is too much.
    ///
    /// # Errors
    /// 429 `QUOTA_EXCEEDED`, with the time until there is room again.
    pub fn count(&self, source: IpAddr) -> Result<(), Problem> {
        if self.quota.len() > SOURCES {
            self.quota.retain_recent();
        }
        self.quota.check_key(&customer(source)).map_err(|until| {
            let wait = until.wait_time_from(self.clock.now()).max(Duration::from_millis(1));
            let detail = format!(
                "{source} has sent more than signals.quota_per_minute; exits are taken at any rate, the rest was not \
                 stored"
            );
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "QUOTA_EXCEEDED", detail).retry_after(wait)
        })
    }
}

fn within(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// An address as proxies write it: alone, or with a port.
fn address(text: &str) -> Option<IpAddr> {
    let address = text.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

/// What is counted together.
fn customer(source: IpAddr) -> IpNet {
    match source {
        IpAddr::V6(address) => Ipv6Net::new(address, 64).map_or(source.into(), |net| net.trunc().into()),
        IpAddr::V4(_) => source.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(allow: &[&str], proxies: &[&str], quota: u32) -> Admission {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Admission::new(&Signals {
            token: None,
            secret: None,
            allow_from: nets(allow),
            trusted_proxies: nets(proxies),
            quota: quota.try_into().unwrap(),
        })
    }

    fn said(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| ("x-forwarded-for".parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn the_source_is_the_last_address_that_no_trusted_proxy_has() {
        let admission = admission(&[], &["10.0.0.0/8", "fd00::/8"], 1);
        let source = |peer: &str, values: &[&'static str]| {
            admission.source(peer.parse().unwrap(), &said(values)).to_string()
        };
        assert_eq!(
            source("203.0.113.7:5000", &["198.51.100.1"]),
            "203.0.113.7",
            "nobody believes a stranger"
        );
        assert_eq!(source("10.0.0.1:5000", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(source("10.0.0.1:5000", &["1.1.1.1, 198.51.100.1, 10.9.9.9"]), "198.51.100.1");
        assert_eq!(source("10.0.0.1:5000", &["1.1.1.1", "198.51.100.1:4711"]), "198.51.100.1");
        assert_eq!(source("[fd00::1]:5000", &["2001:db8::5"]), "2001:db8::5");
        assert_eq!(source("[::ffff:10.0.0.1]:5000", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(source("10.0.0.1:5000", &[]), "10.0.0.1");
        assert_eq!(source("10.0.0.1:5000", &["198.51.100.1, unknown"]), "10.0.0.1");
        assert_eq!(source("10.0.0.1:5000", &["10.2.2.2"]), "10.2.2.2", "all of them are ours");
    }

    #[test]
    fn whoever_is_not_on_the_list_stays_out() {
        let admission = admission(&["52.89.214.238/32", "2001:db8::/32"], &[], 1);
        for inside in ["52.89.214.238", "2001:db8::1"] {
            assert!(admission.allows(inside.parse().unwrap()).is_ok(), "{inside}");
        }
        for outside in ["52.89.214.239", "2001:db9::1", "127.0.0.1"] {
            let refused = admission.allows(outside.parse().unwrap()).unwrap_err();
            assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{outside}");
        }
        assert!(self::admission(&[], &[], 1).allows("203.0.113.7".parse().unwrap()).is_ok());
    }

    // R: B7
    #[test]
    fn each_source_has_a_quota_of_its_own() {
        let admission = admission(&[], &[], 3);
        let count =
            |source: &str| admission.count(source.parse().unwrap()).map_err(|problem| problem.document());
        for _ in 0..3 {
            count("203.0.113.7").unwrap();
        }
        let refused = count("203.0.113.7").unwrap_err();
        assert_eq!((&refused["status"], &refused["code"]), (&429.into(), &"QUOTA_EXCEEDED".into()));
        count("203.0.113.8").unwrap();
        // One customer has all of a /64.
        for last in 1..=3 {
            count(&format!("2001:db8::{last}")).unwrap();
        }
        count("2001:db8::4").unwrap_err();
        count("2001:db8:0:1::4").unwrap();
    }
}
