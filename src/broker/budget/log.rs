//! What one instance let through within the last second. Pure: the time is passed in.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::WINDOW;

/// The orders of the last second, oldest first.
#[derive(Debug, Default)]
pub(super) struct Log {
    orders: VecDeque<Order>,
    /// Places of these that were given back, and that the cluster's count still has.
    returned: Vec<Order>,
    last: u64,
}

#[derive(Clone, Copy, Debug)]
struct Order {
    number: u64,
    at: Instant,
    /// The cluster's count knows of it.
    counted: bool,
}

impl Log {
    /// A number for the next order, which no other has.
    pub fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Says whether fewer than `ceiling` went within the last second, or after what time that will be so.
    pub fn room(&mut self, ceiling: usize, now: Instant) -> Result<(), Duration> {
        self.orders.retain(|order| now.saturating_duration_since(order.at) < WINDOW);
        let Some(over) = self.orders.len().checked_sub(ceiling) else { return Ok(()) };
        let Some(leaves) = self.orders.get(over) else { return Err(WINDOW) };
        Err(WINDOW.saturating_sub(now.saturating_duration_since(leaves.at)).max(Duration::from_millis(1)))
    }

    /// Takes a place that the cluster does not know of, if there is [`room`](Self::room).
    pub fn take(&mut self, number: u64, ceiling: usize, now: Instant) -> Result<(), Duration> {
        self.room(ceiling, now)?;
        self.add(number, now, false);
        Ok(())
    }

    /// Notes an order that goes.
    pub fn add(&mut self, number: u64, at: Instant, counted: bool) {
        self.orders.push_back(Order { number, at, counted });
    }

    /// An order does not go after all.
    pub fn give_back(&mut self, number: u64) {
        let place = self.orders.iter().position(|order| order.number == number);
        let order = place.and_then(|place| self.orders.remove(place));
        self.returned.extend(order.filter(|order| order.counted));
    }

    /// Numbers of places that were given back, and that the cluster's count may still have.
    pub fn returned(&self, now: Instant) -> Vec<u64> {
        let young = |order: &&Order| now.saturating_duration_since(order.at) < WINDOW;
        self.returned.iter().filter(young).map(|order| order.number).collect()
    }

    /// The cluster's count has no more of these, nor of what is older than its window.
    pub fn told(&mut self, numbers: &[u64]) {
        self.returned.retain(|order| !numbers.contains(&order.number) && order.at.elapsed() < WINDOW);
    }

    /// Orders of the last second that the cluster's count lacks, with their ages.
    pub fn uncounted(&self, now: Instant) -> Vec<(u64, Duration)> {
        let ages = self.orders.iter().filter(|order| !order.counted);
        let ages = ages.map(|order| (order.number, now.saturating_duration_since(order.at)));
        ages.filter(|(_, age)| *age < WINDOW).collect()
    }

    /// The cluster's count has these now.
    pub fn counted(&mut self, orders: &[(u64, Duration)]) {
        for order in &mut self.orders {
            order.counted |= orders.iter().any(|(number, _)| *number == order.number);
        }
    }
}
