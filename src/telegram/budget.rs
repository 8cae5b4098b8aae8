//! How many commands of a chat are answered: a flood must not fill the ledger, nor use up the bot's right to write.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// Over which the commands of a chat are counted.
const WINDOW: Duration = Duration::from_secs(60);

/// Counts commands by chat; only allowed chats are counted, so their number is bounded.
#[derive(Debug)]
pub struct Budget {
    per_minute: usize,
    seen: HashMap<i64, VecDeque<Instant>>,
}

/// What a command finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    /// It is answered.
    Within,
    /// It is the first one beyond: the sender is told so, once.
    Full,
    /// It is passed over.
    Beyond,
}

impl Budget {
    /// A budget of so many commands a minute for each chat.
    pub fn new(per_minute: u32) -> Self {
        Self { per_minute: per_minute as usize, seen: HashMap::new() }
    }

    /// Counts a command of a chat.
    pub fn take(&mut self, chat: i64, now: Instant) -> Room {
        let seen = self.seen.entry(chat).or_default();
        while seen.front().is_some_and(|at| now.duration_since(*at) >= WINDOW) {
            seen.pop_front();
        }
        let room = match seen.len().cmp(&self.per_minute) {
            std::cmp::Ordering::Less => Room::Within,
            std::cmp::Ordering::Equal => Room::Full,
            std::cmp::Ordering::Greater => Room::Beyond,
        };
        if room != Room::Beyond {
            seen.push_back(now);
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_once_and_passed_over_until_the_minute_is_over() {
        let (mut budget, begun) = (Budget::new(2), Instant::now());
        let mut take = |chat, second| budget.take(chat, begun + Duration::from_secs(second));
        let rooms: Vec<Room> = (0..5).map(|second| take(1, second)).collect();
        assert_eq!(rooms, [Room::Within, Room::Within, Room::Full, Room::Beyond, Room::Beyond]);
        assert_eq!(take(2, 5), Room::Within, "another chat has a budget of its own");
        assert_eq!(
            (take(1, 60), take(1, 60)),
            (Room::Full, Room::Beyond),
            "one place is free, for the word that it is full"
        );
        assert_eq!(take(1, 180), Room::Within);
    }
}
