//! Exits whose intents PostgreSQL lost when it failed over.
//!
//! Reduce-only lets exits through, and the position book still holds what an open order has not sold yet. So as long
//! as reduce-only was not off since the failover, an exit waits while an order to sell its contract stands open that no intent
//! explains; and a while after it is gone, until every reading of the position book is one begun since.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ha::Moment;

use super::evidence::Reading;
use super::term::Term;
use crate::broker::{BrokerOrder, OrderStatus};
use crate::domain::order::Side;
use crate::domain::position::HoldingKey;
use crate::ledger::LedgerError;

/// How long a reading of the position book counts after it came, and some more; see `holdings`.
const COUNTS: Duration = Duration::from_secs(3);

/// The contracts on which such orders stand.
#[derive(Debug, Default)]
pub(super) struct LostExits(BTreeMap<HoldingKey, Standing>);

#[derive(Debug)]
struct Standing {
    orders: BTreeSet<String>,
    /// Since when no reading shows them any more.
    gone: Option<Moment>,
}

impl LostExits {
    /// True while exits of a contract have to wait.
    pub fn hold(&self, contract: &HoldingKey) -> bool {
        self.0.contains_key(contract)
    }

    /// True while no exit has to wait.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes in what the newest reading shows; gives the contracts that it is news of. `reading` is the longest that one
    /// may take.
    fn see(
        &mut self,
        shown: BTreeMap<HoldingKey, BTreeSet<String>>,
        now: Moment,
        reading: Duration,
    ) -> Vec<HoldingKey> {
        for (contract, standing) in &mut self.0 {
            if !shown.contains_key(contract) {
                standing.gone.get_or_insert(now);
            }
        }
        self.0.retain(|_, standing| standing.gone.is_none_or(|gone| now.since(gone) < reading + COUNTS));
        let mut news = Vec::new();
        for (contract, orders) in shown {
            let before = self.0.insert(contract.clone(), Standing { orders, gone: None });
            if before.is_none_or(|before| before.orders != self.0[&contract].orders) {
                news.push(contract);
            }
        }
        news
    }
}

/// It may still sell.
fn may_sell(order: &BrokerOrder) -> bool {
    let ended =
        matches!(order.status, OrderStatus::Complete | OrderStatus::Rejected | OrderStatus::Cancelled);
    order.side == Side::Sell && !ended
}

impl Term<'_> {
    /// Looks at a reading of the books for orders that an exit must not be sent beside.
    pub(super) async fn look_for_lost_exits(&mut self, reading: &Reading) -> Result<(), LedgerError> {
        let claimed = &self.book.claimed;
        let unexplained = |order: &&BrokerOrder| may_sell(order) && !claimed.contains(&order.order_id);
        let unexplained: Vec<&BrokerOrder> = reading.books.orders.iter().filter(unexplained).collect();
        let ids: Vec<&str> = unexplained.iter().map(|order| order.order_id.as_str()).collect();
        let lost = match ids.is_empty() {
            true => BTreeSet::new(),
            false => self.ask_pool(|| self.engine.ledger.perhaps_lost(&ids)).await?,
        };
        let mut shown: BTreeMap<HoldingKey, BTreeSet<String>> = BTreeMap::new();
        for order in unexplained.into_iter().filter(|order| lost.contains(&order.order_id)) {
            shown.entry(contract(order)).or_default().insert(order.order_id.clone());
        }
        for contract in self.lost_exits.see(shown, self.fence().now(), self.engine.pace.reading) {
            tracing::error!(
                orders = ?self.lost_exits.0[&contract].orders,
                "[RECOVERY] {contract}: no exit is sent while an order to sell stands open that no intent explains: \
                 PostgreSQL failed over, and its intent may be lost. Cancel it at the broker if it is not wanted"
            );
        }
        Ok(())
    }
}

fn contract(order: &BrokerOrder) -> HoldingKey {
    HoldingKey { symbol: order.symbol.clone(), exchange: order.exchange.clone(), product: order.product }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::order::Product;

    fn at(ms: u64) -> Moment {
        Moment::since_boot(Duration::from_millis(ms))
    }

    fn see(lost: &mut LostExits, shown: BTreeMap<HoldingKey, BTreeSet<String>>, ms: u64) -> Vec<HoldingKey> {
        lost.see(shown, at(ms), Duration::from_secs(5))
    }

    fn gold() -> HoldingKey {
        HoldingKey { symbol: "GOLD".to_owned(), exchange: "MCX".to_owned(), product: Product::Nrml }
    }

    fn shown(orders: &[&str]) -> BTreeMap<HoldingKey, BTreeSet<String>> {
        let orders = orders.iter().map(|id| (*id).to_owned()).collect();
        BTreeMap::from([(gold(), orders)])
    }

    #[test]
    fn a_contract_is_told_once_an_order_and_held_until_readings_begun_before_its_end_count_no_more() {
        let mut lost = LostExits::default();
        assert_eq!(see(&mut lost, shown(&["1"]), 0), [gold()]);
        assert_eq!(see(&mut lost, shown(&["1"]), 10), []);
        assert_eq!(see(&mut lost, shown(&["1", "2"]), 20), [gold()]);
        see(&mut lost, BTreeMap::new(), 1_000);
        see(&mut lost, BTreeMap::new(), 8_999);
        assert!(lost.hold(&gold()), "a position book read before its end may still decide");
        // Shown again, by a book that had lagged: the wait begins anew.
        assert_eq!(see(&mut lost, shown(&["2"]), 8_999), [gold()]);
        see(&mut lost, BTreeMap::new(), 10_000);
        see(&mut lost, BTreeMap::new(), 17_999);
        assert!(lost.hold(&gold()) && !lost.is_empty());
        see(&mut lost, BTreeMap::new(), 18_000);
        assert!(!lost.hold(&gold()) && lost.is_empty());
    }
}
