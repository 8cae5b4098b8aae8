//! The stop monitor, look by look.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::FutureExt;
use rust_decimal::{Decimal, dec};

use super::desk::{Desk, at};
use crate::domain::cause::ExitCause;
use crate::domain::fixtures;
use crate::domain::ids::PositionId;
use crate::domain::listing::Listing;
use crate::domain::money::Price;
use crate::domain::order::{IntentState, OrderClass};
use crate::domain::policy::StopPolicy;
use crate::domain::stops::Trigger;
use crate::engine::book::Book;
use crate::engine::stops::{CONFIRM, Hit, Look, Sight, StopMonitor};
use crate::feed::{Ages, PriceBoard, PriceSource, Priced, Sighted};
use crate::paper::rng::Rng;

/// A desk that holds 100 units bought at 1000 with the stop at 900, and its monitor.
struct Watch {
    desk: Desk,
    monitor: StopMonitor,
    policy: StopPolicy,
    price: Option<Priced>,
    position: PositionId,
    listing: Listing,
}

impl Watch {
    fn new() -> Self {
        let mut desk = Desk::new();
        let position = desk.bought(1, 1, 100).position;
        let listing = desk.book.position(position).unwrap().listing();
        let (monitor, policy) = (StopMonitor::default(), StopPolicy::default());
        Self { desk, monitor, policy, price: None, position, listing }
    }

    fn look(&mut self, ms: u64) -> Look {
        let prices = BTreeMap::from([(self.listing.clone(), self.price)]);
        let sighted = |priced| Sighted { priced, is_calm: false, calm: None };
        let price_of = |listing: &Listing| prices.get(listing).copied().flatten().map(sighted);
        let sight = Sight { policy: &self.policy, book: &self.desk.book, ages: Ages::default(), now: at(ms) };
        self.monitor.look(sight, price_of)
    }

    /// A price that arrives, and what the look at it finds.
    fn tick(&mut self, ms: u64, price: Decimal) -> Look {
        self.price = Some(Priced { price: Price(price), source: PriceSource::Live, at: at(ms) });
        self.look(ms)
    }

    fn answer(&mut self, ms: u64, quote: Option<Decimal>) {
        self.answer_of(ms, ms, quote);
    }

    /// To a question of `asked`.
    fn answer_of(&mut self, asked: u64, ms: u64, quote: Option<Decimal>) {
        self.monitor.answered(&self.desk.book, &self.listing, quote.map(Price), at(asked), at(ms));
    }
}

fn confirm_ms() -> u64 {
    u64::try_from(CONFIRM.as_millis()).unwrap()
}

// R: D3
#[test]
fn a_price_at_the_stop_hits_and_one_above_it_does_not() {
    let mut watch = Watch::new();
    assert_eq!(watch.tick(1, dec!(900.05)), Look::default());
    let look = watch.tick(2, dec!(900));
    assert_eq!(look.hits.len(), 1);
    assert_eq!(look.hits[0].trigger, Trigger::StopLoss(Price(dec!(900))));
    assert_eq!(look.hits[0].trigger.sentence(Price(dec!(900))), "Price 900 <= SL 900");
}

#[test]
fn a_price_at_the_take_profit_hits() {
    let mut watch = Watch::new();
    let position = watch.position;
    let held = watch.desk.book.portfolio.positions.iter_mut().find(|held| held.id == position).unwrap();
    held.take_profit = Some(Price(dec!(1010)));
    assert_eq!(watch.tick(1, dec!(1009)), Look::default());
    let look = watch.tick(2, dec!(1010.5));
    assert_eq!(look.hits[0].trigger.sentence(look.hits[0].price), "Price 1010.5 >= TP 1010");
    assert_eq!(look.hits[0].trigger.cause(), ExitCause::TakeProfit);
}

#[test]
fn a_jump_is_confirmed_by_a_second_quote_first() {
    let mut watch = Watch::new();
    watch.tick(1, dec!(1000));
    let look = watch.tick(10, dec!(500));
    assert_eq!((look.hits.len(), look.ask.as_slice()), (0, [watch.listing.clone()].as_slice()));
    assert_eq!(watch.look(20), Look::default(), "it is asked for once");
    watch.answer(30, Some(dec!(505)));
    assert_eq!(watch.look(31).hits.len(), 1, "two sources agree");
}

#[test]
fn a_bad_tick_that_the_second_quote_contradicts_sells_nothing() {
    let mut watch = Watch::new();
    watch.tick(1, dec!(1000));
    assert_eq!(watch.tick(10, dec!(500)).ask.len(), 1);
    watch.answer(30, Some(dec!(1001)));
    assert_eq!(watch.look(31), Look::default());
    assert_eq!(watch.look(2000), Look::default(), "the same price says nothing new");
    assert_eq!(watch.tick(3000, dec!(1000)), Look::default());
}

// A pyramid's stops differ: the bad tick sets nothing off for one position, and is no measure for the other all the same.
#[test]
fn a_bad_tick_between_two_stops_sells_nothing_in_whatever_order_they_stand() {
    for first_is_higher in [true, false] {
        let mut watch = Watch::new();
        let other = watch.desk.bought(2, 2, 100).position;
        assert_eq!(watch.desk.book.position(other).unwrap().listing(), watch.listing, "one contract");
        let [higher, lower] = if first_is_higher { [watch.position, other] } else { [other, watch.position] };
        for position in &mut watch.desk.book.portfolio.positions {
            position.current_stop = Price(if position.id == higher { dec!(960) } else { dec!(100) });
        }
        watch.tick(1, dec!(1000));
        let look = watch.tick(10, dec!(500));
        assert_eq!((look.hits.len(), look.ask.len()), (0, 1), "{first_is_higher}");
        assert_eq!(watch.look(20), Look::default(), "{first_is_higher}: nor at the next look");
        watch.answer(30, Some(dec!(1001)));
        assert_eq!(watch.look(31), Look::default(), "{first_is_higher}: a bad tick");
        assert_eq!(watch.tick(40, dec!(1000)), Look::default());
        // And a crash is one.
        let look = watch.tick(50, dec!(499));
        let hits: Vec<PositionId> = look.hits.iter().map(|hit| hit.position).collect();
        assert_eq!(hits, [higher], "{first_is_higher}, the other's stop is lower: {lower}");
    }
}

/// Two positions on one contract, the stop of one at 960 and of the other at `lower`.
fn two_stops(lower: Decimal) -> (Watch, PositionId) {
    let mut watch = Watch::new();
    let other = watch.desk.bought(2, 2, 100).position;
    for position in &mut watch.desk.book.portfolio.positions {
        position.current_stop = Price(if position.id == other { dec!(960) } else { lower });
    }
    watch.tick(1, dec!(1000));
    (watch, other)
}

fn sold(look: &Look) -> Vec<PositionId> {
    look.hits.iter().map(|hit| hit.position).collect()
}

#[test]
fn bad_ticks_that_came_before_their_contradiction_are_no_measure_either() {
    let (mut watch, _) = two_stops(dec!(100));
    assert_eq!(watch.tick(10, dec!(500)).ask.len(), 1);
    assert_eq!(watch.tick(20, dec!(499)), Look::default());
    watch.answer_of(10, 60, Some(dec!(1001)));
    for ms in [61, 300, 600] {
        assert_eq!(watch.look(ms), Look::default(), "at {ms}");
    }
}

#[test]
fn a_quote_that_was_asked_for_before_a_doubt_does_not_answer_it() {
    let (mut watch, higher) = two_stops(dec!(945));
    let lower = watch.position;
    assert_eq!(watch.tick(10, dec!(958)).ask.len(), 1, "the higher one's");
    assert_eq!(watch.tick(300, dec!(930)).ask.len(), 1, "the lower one's");
    watch.answer_of(10, 400, Some(dec!(962)));
    assert_eq!(watch.look(401), Look::default());
    watch.answer_of(300, 500, Some(dec!(929)));
    assert_eq!(sold(&watch.look(501)), [lower], "two sources agree");
    assert_eq!(sold(&watch.tick(600, dec!(928))), [lower, higher], "and a second price below the stop");
}

#[test]
fn a_price_is_not_its_own_measure_when_a_stop_is_raised_to_it() {
    let mut watch = Watch::new();
    watch.tick(1, dec!(1000));
    assert_eq!(watch.tick(10, dec!(905)), Look::default(), "above its stop");
    watch.desk.book.portfolio.positions[0].current_stop = Price(dec!(960));
    let look = watch.look(20);
    assert_eq!((look.hits.len(), look.ask.len()), (0, 1), "a jump from 1000");
    watch.answer(30, Some(dec!(904)));
    assert_eq!(watch.look(31).hits.len(), 1);
}

#[test]
fn what_is_bought_anew_is_measured_by_its_level_first() {
    let mut watch = Watch::new();
    watch.tick(1, dec!(1000));
    let position = watch.desk.book.portfolio.positions.remove(0);
    watch.look(10);
    watch.desk.book.portfolio.positions.push(crate::domain::position::Position {
        id: PositionId::new(),
        current_stop: Price(dec!(2000)),
        ..position
    });
    watch.look(20);
    assert_eq!(watch.tick(30, dec!(1990)).hits.len(), 1, "no jump from 1000, and none from the stop");
}

// The incident: a filter of 5 % kept the stop from firing in a real crash.
#[test]
fn a_second_price_below_the_stop_sells_whatever_the_second_source_said() {
    let mut watch = Watch::new();
    watch.tick(1, dec!(1000));
    watch.tick(10, dec!(500));
    watch.answer(30, Some(dec!(1001)));
    assert_eq!(watch.tick(40, dec!(498)).hits.len(), 1);
}

#[test]
fn without_a_second_quote_a_jump_sells_within_the_second() {
    let mut watch = Watch::new();
    watch.tick(1, dec!(1000));
    watch.tick(10, dec!(500));
    assert_eq!(watch.look(10 + confirm_ms() - 1), Look::default());
    assert_eq!(watch.look(10 + confirm_ms()).hits.len(), 1);
    assert!(CONFIRM < Duration::from_secs(1));
    // And at once when it is known that none comes.
    let mut watch = Watch::new();
    watch.tick(1, dec!(1000));
    watch.tick(10, dec!(500));
    watch.answer(11, None);
    assert_eq!(watch.look(12).hits.len(), 1);
}

#[test]
fn the_first_price_of_a_term_sells_when_the_stop_was_passed_meanwhile() {
    let mut watch = Watch::new();
    assert_eq!(watch.tick(1, dec!(890)).hits.len(), 1, "within the confirmation's percentage of the stop");
    let mut watch = Watch::new();
    assert_eq!(watch.tick(1, dec!(800)).ask.len(), 1, "a gap is confirmed");
}

// Bought at 1000 after a rise: the board may still hold the price from before it, which is below the new stop.
#[test]
fn a_price_from_before_the_entry_was_booked_sells_nothing() {
    let mut watch = Watch::new();
    let bought = watch.desk.book.portfolio.positions.clone();
    watch.desk.book.portfolio.positions.clear();
    assert_eq!(watch.tick(1, dec!(890)), Look::default(), "nothing is held yet");
    watch.desk.book.portfolio.positions = bought;
    let look = watch.look(50);
    assert_eq!((look.hits.len(), look.ask.len()), (0, 0));
    assert_eq!((look.unarmed, look.told.len()), (1, 0), "counted as unarmed, and told only if it stays so");
    assert_eq!(watch.tick(70, dec!(905)), Look::default());
    assert_eq!(watch.tick(80, dec!(890)).hits.len(), 1, "a price since then does");
}

#[test]
fn a_dead_price_and_a_missing_stop_leave_a_position_unarmed() {
    let mut watch = Watch::new();
    assert_eq!(watch.look(1).unarmed, 1, "no price yet");
    assert!(watch.look(2).told.is_empty(), "told after a moment only");
    assert_eq!(watch.look(4000).told.len(), 1);
    assert!(watch.look(5000).told.is_empty(), "told once");
    let armed = watch.tick(6000, dec!(1000));
    assert_eq!((armed.unarmed, armed.armed.len()), (0, 1));
    assert_eq!(watch.look(6000 + 300_000).unarmed, 0, "a stale price is still a price");
    assert_eq!(watch.look(6001 + 300_000).unarmed, 1, "a dead one is not");
    watch.policy.watch = false;
    let off = watch.tick(400_000, dec!(1));
    assert_eq!((off.hits.len(), off.unarmed), (0, 1), "switched off is not silent");
}

/// Positions of a few listings, several of each, on a board that nobody else reads.
struct Floor {
    book: Book,
    board: PriceBoard,
    listings: Vec<Listing>,
    bought: i64,
}

impl Floor {
    fn new() -> Self {
        let listings: Vec<Listing> =
            (0..6).map(|number| Listing::new("NFO", format!("S{number}FUT"))).collect();
        let board = PriceBoard::new();
        board.want(listings.iter().cloned().collect::<BTreeSet<_>>());
        Self { book: Book::default(), board, listings, bought: 0 }
    }

    fn buy(&mut self, listing: usize) {
        self.bought += 1;
        let mut position = fixtures::position("GOLD_MINI", 1, 1, dec!(1000), dec!(990), self.bought);
        Listing { exchange: position.exchange, symbol: position.symbol } = self.listings[listing].clone();
        self.book.portfolio.positions.push(position);
    }

    fn look(&self, monitor: &mut StopMonitor, policy: &StopPolicy, ms: u64) -> Look {
        monitor.look(self.sight(policy, ms), |of| self.board.sight(of))
    }

    fn glance(&self, monitor: &mut StopMonitor, policy: &StopPolicy, ms: u64) -> Option<Look> {
        monitor.glance(&self.board.take_moved(), self.sight(policy, ms), |of| self.board.sight(of))
    }

    fn sight<'a>(&'a self, policy: &'a StopPolicy, ms: u64) -> Sight<'a> {
        Sight { policy, book: &self.book, ages: Ages::default(), now: at(ms) }
    }
}

// R: D3
#[test]
fn a_glance_at_what_has_moved_finds_what_a_look_at_everything_finds_of_it() {
    let seed = 20_261_129;
    println!("seed {seed}");
    let (mut rng, mut floor) = (Rng::new(seed), Floor::new());
    // No move is a jump: what waits for a second quote goes by time as well.
    let policy = StopPolicy { confirm_percent: dec!(1000), ..StopPolicy::default() };
    let (mut all, mut some) = (StopMonitor::default(), StopMonitor::default());
    floor.look(&mut all, &policy, 0);
    floor.look(&mut some, &policy, 0);
    let (mut hits, mut refused) = (0, 0);
    for ms in 1..20_000 {
        let mut moved = BTreeSet::new();
        for _ in 0..rng.below(3) {
            let listing = &floor.listings[rng.below(6) as usize];
            let price = Price(dec!(989) + Decimal::from(rng.below(30)) / dec!(10));
            floor.board.record(listing, price, PriceSource::Live, at(ms));
            moved.insert(listing.clone());
        }
        match rng.below(200) {
            0 => floor.buy(rng.below(6) as usize),
            1 if floor.bought > 0 => {
                let place = rng.below(floor.book.portfolio.positions.len().max(1) as u64) as usize;
                if place < floor.book.portfolio.positions.len() {
                    floor.book.portfolio.positions.remove(place);
                }
            }
            _ => {}
        }
        let everything = floor.look(&mut all, &policy, ms);
        let of_the_moved = |hit: &&Hit| moved.contains(&floor.book.position(hit.position).unwrap().listing());
        let expected: BTreeSet<u128> =
            everything.hits.iter().filter(of_the_moved).map(|hit| hit.position.0.as_u128()).collect();
        let Some(look) = floor.glance(&mut some, &policy, ms) else {
            refused += 1;
            assert_eq!(floor.look(&mut some, &policy, ms).hits, everything.hits);
            continue;
        };
        let found: BTreeSet<u128> = look.hits.iter().map(|hit| hit.position.0.as_u128()).collect();
        assert_eq!(found, expected, "at {ms}");
        hits += found.len();
    }
    assert!(hits > 1000 && refused > 20, "{hits} hits, {refused} times everything");
}

#[test]
fn a_glance_is_refused_while_the_book_holds_something_else_than_at_the_last_look() {
    let (mut floor, policy, mut monitor) = (Floor::new(), StopPolicy::default(), StopMonitor::default());
    floor.buy(0);
    floor.buy(0);
    assert_eq!(floor.glance(&mut monitor, &policy, 1), None, "there was none yet");
    floor.look(&mut monitor, &policy, 2);
    assert_eq!(floor.glance(&mut monitor, &policy, 3), Some(Look::default()));
    // As many as before, and others.
    floor.book.portfolio.positions.remove(0);
    floor.buy(1);
    floor.board.record(&floor.listings[0], Price(dec!(985)), PriceSource::Live, at(4));
    assert_eq!(floor.glance(&mut monitor, &policy, 4), None);
    assert_eq!(floor.look(&mut monitor, &policy, 4).hits.len(), 1);
    floor.board.record(&floor.listings[1], Price(dec!(985)), PriceSource::Live, at(5));
    let look = floor.glance(&mut monitor, &policy, 5).unwrap();
    assert_eq!(look.hits.len(), 1, "what was bought since is among them");
}

/// What a look found to be done.
fn found(look: &Look) -> (BTreeSet<u128>, Vec<Listing>) {
    (look.hits.iter().map(|hit| hit.position.0.as_u128()).collect(), look.ask.clone())
}

// R: D3: prices that set nothing off wake nobody; what one sets off is found all the same, and judged by the price before it
#[test]
fn a_monitor_that_sleeps_through_calm_prices_finds_what_one_finds_that_looks_at_each() {
    let seed = 20_261_130;
    println!("seed {seed}");
    let (mut rng, mut floor, policy) = (Rng::new(seed), Floor::new(), StopPolicy::default());
    let (mut wakeful, mut sleeper) = (StopMonitor::default(), StopMonitor::default());
    // Nobody ever says there what is calm.
    let loud = PriceBoard::new();
    loud.want(floor.listings.iter().cloned().collect());
    let (mut hits, mut asked, mut slept) = (0, 0, 0);
    for ms in 1..20_000 {
        let held = floor.book.portfolio.positions.len();
        match rng.below(100) {
            0 => floor.buy(rng.below(6) as usize),
            change @ 1..=2 if held > 0 => {
                let place = rng.below(held as u64) as usize;
                let position = &mut floor.book.portfolio.positions[place];
                let (stop, priced) =
                    (Price(dec!(990) + Decimal::from(rng.below(4))), loud.get(&position.listing()));
                if change == 1 {
                    floor.book.portfolio.positions.remove(place);
                } else if priced.is_none_or(|priced| priced.price > stop) {
                    position.raise_stop(stop);
                }
            }
            _ => {}
        }
        match sleeper.calm(&policy, &floor.book) {
            Some(calm) => floor.board.rest(calm),
            None => floor.board.alert(),
        }
        let listing = floor.listings[rng.below(6) as usize].clone();
        let price = Price(match rng.below(40) {
            // Jumps, unless the price before was one, too.
            0 => dec!(900),
            1 => dec!(945),
            _ => dec!(989) + Decimal::from(rng.below(100)) / dec!(10),
        });
        loud.record(&listing, price, PriceSource::Live, at(ms));
        floor.board.record(&listing, price, PriceSource::Live, at(ms));
        let sight = floor.sight(&policy, ms);
        let expected = wakeful
            .glance(&loud.take_moved(), sight, |of| loud.sight(of))
            .unwrap_or_else(|| wakeful.look(sight, |of| loud.sight(of)));
        let is_woken = floor.board.changed().now_or_never().is_some();
        let look = match is_woken {
            false => Look::default(),
            true => floor
                .glance(&mut sleeper, &policy, ms)
                .unwrap_or_else(|| floor.look(&mut sleeper, &policy, ms)),
        };
        assert_eq!(found(&look), found(&expected), "at {ms}, {listing} at {price}");
        for listing in &look.ask {
            wakeful.answered(&floor.book, listing, None, at(ms), at(ms));
            sleeper.answered(&floor.book, listing, None, at(ms), at(ms));
        }
        (hits, asked, slept) =
            (hits + look.hits.len(), asked + look.ask.len(), slept + usize::from(!is_woken));
    }
    assert!(hits > 1000 && asked > 20 && slept > 5000, "{hits} hits, {asked} asked, {slept} slept through");
}

// R: S15: one closer a position.
#[test]
fn a_hit_makes_one_protective_exit_and_takes_over_an_exit_that_waits() {
    let mut watch = Watch::new();
    let position = watch.position;
    let desk = &mut watch.desk;
    assert!(desk.book.close_by(position, ExitCause::StopLoss, "Price 899 <= SL 900".to_owned(), at(1)));
    assert!(!desk.book.close_by(position, ExitCause::StopLoss, "again".to_owned(), at(2)));
    assert!(!desk.book.close_by(position, ExitCause::Signal, "weaker".to_owned(), at(2)));
    let exit = desk.due_exit(position).unwrap();
    assert_eq!((exit.class, exit.cause), (OrderClass::Protective, Some(ExitCause::StopLoss)));
    assert_eq!(exit.reason.as_deref(), Some("Price 899 <= SL 900"));
    assert!(desk.journal(&exit));
    assert_eq!(desk.due_exit(position), None, "it is out");
    desk.check();
    // An operator's word while it is out makes no second one, and is the reason of the next.
    assert!(desk.book.close_by(position, ExitCause::Operator, "asha: done".to_owned(), at(3)));
    assert_eq!(desk.due_exit(position), None);
    desk.outcome(exit.id, IntentState::Rejected, None);
    let again = desk.due_exit(position).unwrap();
    assert_eq!((again.class, again.attempt), (OrderClass::Operator, 1));
    // The monitor leaves alone what is on its way out for good.
    assert!(watch.tick(10, dec!(890)).hits.is_empty());
}

#[test]
fn a_takeover_goes_on_with_the_cause_of_the_exit_that_failed() {
    let mut watch = Watch::new();
    let position = watch.position;
    let desk = &mut watch.desk;
    desk.book.close_by(position, ExitCause::StopLoss, "Price 899 <= SL 900".to_owned(), at(1));
    let exit = desk.due_exit(position).unwrap();
    assert!(desk.journal(&exit));
    desk.outcome(exit.id, IntentState::NotSent, None);
    desk.restart();
    let again = desk.due_exit(position).unwrap();
    assert_eq!((again.class, again.attempt), (OrderClass::Protective, 1));
    assert_eq!(again.cause, Some(ExitCause::StopLoss));
}
