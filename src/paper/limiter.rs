//! The bridge's request limiter: a moving window of one second per client address and route, answering
//! `{"message":"10 per 1 second"}`. Two agents on one host share it, as they do on the real bridge.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use super::http::Verb;
use super::options::RateLimits;

const WINDOW: Duration = Duration::from_secs(1);
/// Windows kept; above it those that are over are dropped.
const MAX_WINDOWS: usize = 1024;

#[derive(Debug)]
pub(super) struct Limiter {
    limits: RateLimits,
    windows: HashMap<(IpAddr, Verb), VecDeque<Duration>>,
}

impl Limiter {
    pub(super) fn new(limits: RateLimits) -> Self {
        Self { limits, windows: HashMap::new() }
    }

    pub(super) fn set(&mut self, limits: RateLimits) {
        self.limits = limits;
    }

    pub(super) fn limits(&self) -> RateLimits {
        self.limits
    }

    /// Counts a request; the limit per second when it is one too many (such a request is not counted).
    pub(super) fn admit(&mut self, client: IpAddr, verb: Verb, now: Duration) -> Result<(), u32> {
        let limit =
            if verb.is_order_route() { self.limits.orders_per_second } else { self.limits.api_per_second };
        let Some(limit) = limit else { return Ok(()) };
        if self.windows.len() >= MAX_WINDOWS {
            self.windows.retain(|_, hits| hits.back().is_some_and(|last| now < *last + WINDOW));
        }
        let hits = self.windows.entry((client, verb)).or_default();
        while hits.front().is_some_and(|first| *first + WINDOW <= now) {
            hits.pop_front();
        }
        if hits.len() >= limit as usize {
            return Err(limit);
        }
        hits.push_back(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_window_moves_and_is_per_route_and_client() {
        let mut limiter = Limiter::new(RateLimits { orders_per_second: Some(2), api_per_second: None });
        let [one, two] = [1, 2].map(|last| IpAddr::from(Ipv4Addr::new(127, 0, 0, last)));
        let at = Duration::from_millis;
        assert_eq!(limiter.admit(one, Verb::PlaceOrder, at(0)), Ok(()));
        assert_eq!(limiter.admit(one, Verb::PlaceOrder, at(600)), Ok(()));
        assert_eq!(limiter.admit(one, Verb::PlaceOrder, at(900)), Err(2));
        assert_eq!(limiter.admit(two, Verb::PlaceOrder, at(900)), Ok(()));
        assert_eq!(limiter.admit(one, Verb::CancelOrder, at(900)), Ok(()));
        // The first has left the window, the second has not.
        assert_eq!(limiter.admit(one, Verb::PlaceOrder, at(1000)), Ok(()));
        assert_eq!(limiter.admit(one, Verb::PlaceOrder, at(1001)), Err(2));
        assert!((0..100).all(|_| limiter.admit(one, Verb::OrderBook, at(0)).is_ok()));
    }
}
