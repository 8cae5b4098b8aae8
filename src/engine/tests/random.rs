//! Random days: whatever the broker does, no change is refused by the ledger, memory and rows stay equal, a recovery
//! finds nothing wrong, and what the broker executed is what is held.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rust_decimal::dec;

use super::desk::{Desk, entry, order, rules, trade};
use super::slices::freezes;
use crate::broker::OrderStatus;
use crate::domain::ids::IntentId;
use crate::domain::intent::OrderIntent;
use crate::domain::money::{Price, Quantity};
use crate::domain::order::{IntentState, Side};
use crate::domain::resting::{Level, Resting, Step, steps};
use crate::engine::intents::resting_stop;

/// Where the stops rest.
const LEVEL: Level = Level { trigger: Price(dec!(900)), limit: Price(dec!(880)) };

#[derive(Clone, Debug)]
enum Happens {
    Entry,
    Exit,
    Retry,
    /// Stops are put to rest over what has none.
    Rest,
    /// The broker takes the oldest unanswered order; the answer may be lost, or come from a bridge that refused it.
    Answer(Answer),
    /// The n-th order at the broker executes up to so many units.
    Fill(usize, i64),
    /// The order book calls the n-th order something.
    Word(usize, OrderStatus),
    /// The books are read, so many milliseconds later.
    Read(u64),
    /// The books are read while they show nothing.
    Blank,
    Takeover,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Acknowledged,
    Lost,
    LostAndNotTaken,
    Refused,
}

fn happens() -> impl Strategy<Value = Happens> {
    let answer = prop_oneof![
        4 => Just(Answer::Acknowledged),
        2 => Just(Answer::Lost),
        1 => Just(Answer::LostAndNotTaken),
        1 => Just(Answer::Refused),
    ];
    let word = prop_oneof![
        Just(OrderStatus::Open),
        Just(OrderStatus::Complete),
        Just(OrderStatus::Cancelled),
        Just(OrderStatus::Rejected)
    ];
    prop_oneof![
        3 => Just(Happens::Entry),
        2 => Just(Happens::Exit),
        3 => Just(Happens::Retry),
        2 => Just(Happens::Rest),
        6 => answer.prop_map(Happens::Answer),
        5 => (0usize..12, 1i64..900).prop_map(|(n, units)| Happens::Fill(n, units)),
        3 => (0usize..12, word).prop_map(|(n, word)| Happens::Word(n, word)),
        6 => prop_oneof![Just(20u64), Just(1_000), Just(20_000)].prop_map(Happens::Read),
        1 => Just(Happens::Blank),
        1 => Just(Happens::Takeover),
    ]
}

/// A desk and the broker's own truth.
struct Day {
    desk: Desk,
    orders: Vec<(String, OrderIntent, i64)>,
    unanswered: BTreeMap<IntentId, OrderIntent>,
    n: u128,
    oversold: bool,
}

impl Day {
    /// With `sliced`, exits are of one lot each.
    fn begin(sliced: bool) -> Self {
        let (orders, unanswered) = (Vec::new(), BTreeMap::new());
        let mut desk = Desk::new();
        if sliced {
            freezes(&mut desk.book, 100);
        }
        Self { desk, orders, unanswered, n: 0, oversold: false }
    }

    fn journal(&mut self, intent: OrderIntent) {
        if self.desk.journal(&intent) {
            self.unanswered.insert(intent.id, intent);
        }
    }

    fn pass(&mut self, event: Happens) {
        match event {
            Happens::Entry => {
                let book = &self.desk.book;
                let busy = book.intents.values().any(|t| !t.intent.state.is_terminal());
                let free = |n: &u8| book.portfolio.find("GOLD_MINI", &format!("Long_{n}")).is_none();
                if !busy
                    && book.closing.is_empty()
                    && let Some(label) = (1..=4).find(free)
                {
                    self.n += 1;
                    // Quantities differ, so that two orders do not say the same; names do not travel in live mode.
                    let units = 100 + i64::try_from(self.n).unwrap();
                    self.journal(entry(&self.desk.book, self.n, label, units));
                }
            }
            Happens::Exit => {
                self.n += 1;
                let closing = &self.desk.book.closing;
                let open = self.desk.book.portfolio.positions.iter().filter(|p| !closing.contains_key(&p.id));
                let open: Vec<_> = open.map(|position| position.id).collect();
                for (leg, id) in open.into_iter().enumerate() {
                    let leg = i32::try_from(leg).unwrap();
                    self.journal(self.desk.exit(self.n, leg, id));
                }
            }
            Happens::Retry => {
                let ids: Vec<_> = self.desk.book.closing.keys().copied().collect();
                for id in ids {
                    if let Some(intent) = self.desk.due_exit(id) {
                        self.journal(intent);
                    }
                }
            }
            Happens::Rest => {
                for stop in self.stops_to_put() {
                    self.journal(stop);
                }
            }
            Happens::Answer(answer) => self.answer(answer),
            Happens::Fill(n, units) => {
                if let Some((id, intent, filled)) = self.orders.get_mut(n) {
                    let units = units.min(intent.order.quantity.0 - *filled);
                    if units > 0 {
                        *filled += units;
                        let row = trade(id, intent, units, dec!(1000) + rust_decimal::Decimal::from(units));
                        self.desk.books.trades.push(row);
                    }
                }
            }
            Happens::Word(n, word) => {
                if let Some((id, intent, _)) = self.orders.get(n) {
                    self.desk.show(order(id, intent, word));
                }
            }
            Happens::Read(ms) => drop(self.desk.read(ms)),
            Happens::Blank => {
                let books = std::mem::take(&mut self.desk.books);
                self.desk.read(20);
                self.desk.books = books;
            }
            Happens::Takeover => self.desk.restart(),
        }
        // An exit that the books disowned and that sells after all sells twice: told to a person, not booked.
        self.oversold |= self.desk.rows.intents.values().any(|intent| {
            intent.plan.is_none()
                && matches!(
                    intent.state,
                    IntentState::Abandoned | IntentState::Cancelled | IntentState::Rejected
                )
        });
    }

    /// Stops for the units of open positions that no stop sells.
    fn stops_to_put(&self) -> Vec<OrderIntent> {
        let book = &self.desk.book;
        let open = book.portfolio.positions.iter().filter(|p| !book.closing.contains_key(&p.id));
        let put = open.flat_map(|position| {
            let stops: Vec<Resting> = book
                .resting()
                .filter(|t| t.intent.position == position.id)
                .map(|t| Resting {
                    id: t.intent.id,
                    units: t.intent.exit_quantity_out(),
                    trigger: t.intent.order.trigger_price,
                    known: t.intent.state.is_live(),
                    begun: t.intent.filled > Quantity::ZERO,
                })
                .collect();
            steps(position.quantity, LEVEL, None, &stops).into_iter().filter_map(|step| match step {
                Step::Place(units) => Some(resting_stop(&rules(), book, position, units, LEVEL)),
                Step::Raise(_) | Step::Withdraw(_) => None,
            })
        });
        put.collect()
    }

    /// Units that orders may still sell of a position, and units that it holds: never more out than in.
    fn out_of_held(&self) -> Vec<(Quantity, Quantity)> {
        let rows = &self.desk.rows;
        let out =
            |id| rows.intents.values().filter(move |i| i.position == id).map(OrderIntent::exit_quantity_out);
        rows.positions.values().map(|p| (out(p.id).sum(), p.quantity)).collect()
    }

    fn answer(&mut self, answer: Answer) {
        let Some((id, intent)) = self.unanswered.pop_first() else { return };
        let order_id = format!("O{}", self.orders.len());
        if matches!(answer, Answer::Acknowledged | Answer::Lost) {
            self.desk.show(order(&order_id, &intent, OrderStatus::Open));
            self.orders.push((order_id.clone(), intent, 0));
        }
        // After a takeover nobody hears the answer.
        if self.desk.state(id) == IntentState::Journaled {
            let (state, order_id) = match answer {
                Answer::Acknowledged => (IntentState::Acknowledged, Some(order_id)),
                Answer::Lost | Answer::LostAndNotTaken => (IntentState::InDoubt, None),
                Answer::Refused => (IntentState::Rejected, None),
            };
            self.desk.outcome(id, state, order_id.as_deref());
        }
    }

    /// Units bought less units sold, as the broker executed them.
    fn executed(&self) -> i64 {
        let signed = |(_, intent, filled): &(String, OrderIntent, i64)| match intent.order.side {
            Side::Buy => *filled,
            Side::Sell => -*filled,
        };
        self.orders.iter().map(signed).sum()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn no_day_makes_a_change_that_the_ledger_refuses(
        events in prop::collection::vec(happens(), 1..150), sliced in any::<bool>(),
    ) {
        let mut day = Day::begin(sliced);
        for event in events {
            day.pass(event);
            // R: S15, stops that rest included.
            if !day.oversold {
                for (out, held) in day.out_of_held() {
                    prop_assert!(out <= held, "{} units out of {} held", out, held);
                }
            }
        }
        day.desk.read(20);
        day.desk.check();
        let names = day.orders.iter().filter(|(id, ..)| {
            day.desk.rows.intents.values().any(|intent| intent.broker_order_id.as_deref() == Some(id))
        });
        // Every order found, and no exit disowned: then what the broker executed is what is held.
        if names.count() == day.orders.len() && !day.oversold {
            prop_assert_eq!(day.desk.rows.held(), day.executed());
        }
        // The book as a successor reads it is due the same exits.
        let ids: Vec<_> = day.desk.book.closing.keys().copied().collect();
        let open = day.desk.rows.intents.values().any(|intent| intent.state == IntentState::Journaled);
        if !open {
            let due = |desk: &Desk| -> Vec<_> {
                let due = |id: &_| desk.due_exit(*id).map(|i| (i.position, i.signal, i.leg, i.order));
                ids.iter().filter_map(due).collect()
            };
            let before = due(&day.desk);
            day.desk.restart();
            prop_assert_eq!(due(&day.desk), before);
        }
    }
}
