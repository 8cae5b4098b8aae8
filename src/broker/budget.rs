//! The order-rate budget, with a reserve that entries can never use.
//!
//! Exits draw on the reserve first and on the common part next, so they never wait behind entries. The limit is
//! this instance's own: only the leader sends orders, so it is the cluster's too, except in the seconds around a
//! takeover. Each part may burst to its rate, so the worst second holds twice the configured rate; the default
//! of 3 stays well below the bridge's and the regulator's 10.
//!
//! Orders wait in line: entries in one, everything that takes risk off in another. A waiting order has a deadline, and
//! one that later orders overtake again and again would miss it.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::Mutex;

use super::settings::SettingsError;
use crate::domain::order::OrderClass;

/// The budget of one instance.
pub(super) struct Budget(Option<Parts>);

struct Parts {
    common: DefaultDirectRateLimiter,
    reserve: DefaultDirectRateLimiter,
    clock: DefaultClock,
    entries: Line,
    others: Line,
}

/// Its lock is given in the order of asking; who holds it is first in line.
type Line = Mutex<()>;

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
            entries: Line::default(),
            others: Line::default(),
        })))
    }

    /// Waits until an order of this class may go, behind those of its line that asked before it; the caller bounds
    /// the wait, and one that gives up leaves the line.
    pub async fn take(&self, class: OrderClass) {
        let Some(parts) = &self.0 else { return };
        let line = match class {
            OrderClass::Entry => &parts.entries,
            OrderClass::Exit | OrderClass::Protective | OrderClass::Operator => &parts.others,
        };
        let _first = line.lock().await;
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

    // An order that newer ones overtake starves past its deadline: it was seen to wait 4.8 s in a queue of half a second.
    #[tokio::test]
    async fn orders_leave_in_the_order_of_asking() {
        let budget = Budget::new(NonZeroU32::new(300), 100).unwrap();
        let left = std::sync::Mutex::new(Vec::new());
        let orders = (0..400).map(|number| {
            let (budget, left) = (&budget, &left);
            async move {
                budget.take(OrderClass::Entry).await;
                left.lock().unwrap().push(number);
            }
        });
        futures_util::future::join_all(orders).await;
        assert_eq!(left.into_inner().unwrap(), (0..400).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn an_exit_does_not_stand_in_line_behind_entries() {
        let budget = Budget::new(NonZeroU32::new(3), 1).unwrap();
        for _ in 0..2 {
            budget.take(OrderClass::Entry).await;
        }
        let mut entry = Box::pin(budget.take(OrderClass::Entry));
        assert!(futures_util::poll!(&mut entry).is_pending());
        assert!(futures_util::poll!(Box::pin(budget.take(OrderClass::Exit))).is_ready());
    }

    #[tokio::test]
    async fn who_gives_up_leaves_the_line() {
        let budget = Budget::new(NonZeroU32::new(3), 1).unwrap();
        for _ in 0..2 {
            budget.take(OrderClass::Entry).await;
        }
        let mut impatient = Box::pin(budget.take(OrderClass::Entry));
        assert!(futures_util::poll!(&mut impatient).is_pending());
        drop(impatient);
        budget.take(OrderClass::Entry).await;
    }

    #[test]
    fn a_reserve_that_leaves_nothing_is_refused() {
        assert!(Budget::new(NonZeroU32::new(3), 3).is_err());
        assert!(Budget::new(NonZeroU32::new(3), 0).is_err());
        assert!(Budget::new(None, 0).is_ok());
    }
}
