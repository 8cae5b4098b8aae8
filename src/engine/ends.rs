//! Ends that the books claim, and how long they must claim one before it is believed.

use std::collections::HashMap;
use std::time::Duration;

use ha::Moment;

use crate::broker::OrderStatus;

/// How long the readings must call an order cancelled or rejected before it is believed.
pub const END_SETTLES: Duration = Duration::from_secs(1);
/// The same where the row before it says so too: an order in transit, which may last 12 s, shows that row's status.
pub const INHERITED_SETTLES: Duration = Duration::from_secs(20);

/// Ends that readings claim, by order id, until they are believed.
#[derive(Clone, Debug, Default)]
pub struct Suspects(HashMap<String, Claim>);

/// What a reading claims.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// The row says cancelled.
    Cancelled,
    /// The row says rejected.
    Rejected,
    /// There is no row any more: the order's day is over, and with it the order.
    Gone,
}

/// An end, and since which reading it is claimed without a break.
#[derive(Clone, Debug)]
struct Claim {
    end: End,
    since: Moment,
}

impl End {
    /// The end that a row's status claims, if it claims one.
    pub fn of(status: &OrderStatus) -> Option<Self> {
        match status {
            OrderStatus::Cancelled => Some(Self::Cancelled),
            OrderStatus::Rejected => Some(Self::Rejected),
            _ => None,
        }
    }
}

impl Suspects {
    /// Carries a claim of a reading begun at `begun` on into `fresh`; true once it has stood for `settles`.
    pub(super) fn carry(
        &self,
        order_id: &str,
        end: End,
        begun: Moment,
        settles: Duration,
        fresh: &mut Self,
    ) -> bool {
        let before = self.0.get(order_id).filter(|claim| claim.end == end);
        let since = before.map_or(begun, |claim| claim.since);
        fresh.0.insert(order_id.to_owned(), Claim { end, since });
        begun.since(since) >= settles
    }
}
