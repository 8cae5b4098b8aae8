//! The order-rate budget, with a reserve that entries can never use.
//!
//! Exits draw on the reserve first and on the common part next, so they never wait behind entries. The limit is
//! this instance's own: only the leader sends orders, so it is the cluster's too, except in the seconds around a
//! takeover. Each part may burst to its rate, so the worst second holds twice the configured rate; the default
//! of 3 stays well below the bridge's and the regulator's 10.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use super::settings::SettingsError;
use crate::domain::order::OrderClass;

/// The budget of one instance.
pub(super) struct Budget(Option<Parts>);

struct Parts {
    common: DefaultDirectRateLimiter,
    reserve: DefaultDirectRateLimiter,
    clock: DefaultClock,
}

// === impl Budget ===

impl Budget {
    /// `total` orders a second, `reserve` of them for exits only; `None` = no limit.
    pub fn new(total: Option<NonZeroU32>, reserve: u32) -> Result<Self, SettingsError> {
        let Some(total) = total else { return Ok(Self(None)) };
        let refused = || SettingsError::Reserve { reserve, total: total.get() };
        let common = total.get().checked_sub(reserve).and_then(NonZeroU32::new).ok_or_else(refused)?;
        let reserve = NonZeroU32::new(reserve).ok_or_else(refused)?;
        Ok(Self(Some(Parts {
            common: RateLimiter::direct(Quota::per_second(common)),
            reserve: RateLimiter::direct(Quota::per_second(reserve)),
            clock: DefaultClock::default(),
        })))
    }

    /// Waits until an order of this class may go; the caller bounds the wait.
    pub async fn take(&self, class: OrderClass) {
        let Some(parts) = &self.0 else { return };
        while let Err(wait) = parts.try_take(class) {
            tokio::time::sleep(wait).await;
        }
    }
}

impl Parts {
    /// Takes a place, or says after what time to ask again.
    fn try_take(&self, class: OrderClass) -> Result<(), Duration> {
        let now = || self.clock.now();
        let reserve = match class {
            OrderClass::Entry => None,
            OrderClass::Exit | OrderClass::Protective | OrderClass::Operator => match self.reserve.check() {
                Ok(()) => return Ok(()),
                Err(until) => Some(until.wait_time_from(now())),
            },
        };
        match self.common.check() {
            Ok(()) => Ok(()),
            Err(until) => {
                let wait = until.wait_time_from(now());
                Err(reserve.map_or(wait, |other| other.min(wait)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_pass_while_entries_have_used_up_their_part() {
        let budget = Budget::new(NonZeroU32::new(3), 1).unwrap();
        let parts = budget.0.as_ref().unwrap();
        assert!(parts.try_take(OrderClass::Entry).is_ok());
        assert!(parts.try_take(OrderClass::Entry).is_ok());
        let wait = parts.try_take(OrderClass::Entry).unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_millis(500));
        assert!(parts.try_take(OrderClass::Exit).is_ok());
    }

    #[test]
    fn exits_may_use_the_common_part_too() {
        let budget = Budget::new(NonZeroU32::new(3), 1).unwrap();
        let parts = budget.0.as_ref().unwrap();
        for class in [OrderClass::Exit, OrderClass::Protective, OrderClass::Operator] {
            assert!(parts.try_take(class).is_ok());
        }
        assert!(parts.try_take(OrderClass::Entry).is_err());
    }

    #[test]
    fn a_reserve_that_leaves_nothing_is_refused() {
        assert!(Budget::new(NonZeroU32::new(3), 3).is_err());
        assert!(Budget::new(NonZeroU32::new(3), 0).is_err());
        assert!(Budget::new(None, 0).is_ok());
    }
}
