use futures_util::{FutureExt, poll};
use rust_decimal::dec;

use super::*;

fn gold() -> Listing {
    Listing::new("MCX", "GOLDM05DEC25FUT")
}

fn at(seconds: u64) -> Moment {
    Moment::since_boot(Duration::from_secs(seconds))
}

fn board() -> PriceBoard {
    let board = PriceBoard::new();
    board.want(BTreeSet::from([gold()]));
    board
}

#[test]
fn the_latest_arrival_wins() {
    let board = board();
    board.record(&gold(), Price(dec!(100)), PriceSource::Live, at(10));
    board.record(&gold(), Price(dec!(90)), PriceSource::Rest, at(9));
    assert_eq!(board.get(&gold()).unwrap().price, Price(dec!(100)));
    board.record(&gold(), Price(dec!(101)), PriceSource::Rest, at(10));
    let priced = board.get(&gold()).unwrap();
    assert_eq!((priced.price, priced.source), (Price(dec!(101)), PriceSource::Rest));
}

#[test]
fn what_is_no_price_and_what_nobody_wants_is_not_stored() {
    let board = board();
    board.record(&gold(), Price::ZERO, PriceSource::Live, at(1));
    board.record(&gold(), Price(dec!(-1)), PriceSource::Live, at(1));
    board.record(&Listing::new("NFO", "OTHER"), Price(dec!(5)), PriceSource::Live, at(1));
    assert!(board.all().is_empty());
    assert!(board.changed().now_or_never().is_none(), "nothing was recorded");
}

#[test]
fn wanting_anew_keeps_the_prices_of_what_is_still_wanted() {
    let board = board();
    let silver = Listing::new("MCX", "SILVERM27FEB26FUT");
    board.record(&gold(), Price(dec!(100)), PriceSource::Live, at(1));
    board.want(BTreeSet::from([gold(), silver.clone()]));
    assert_eq!(board.all().len(), 1);
    assert_eq!(board.older_than(Duration::from_secs(5), at(2)), std::slice::from_ref(&silver));
    board.want(BTreeSet::from([silver]));
    assert_eq!(board.get(&gold()), None);
    assert!(board.all().is_empty());
}

#[test]
fn wanting_the_same_again_wakes_nobody() {
    let board = board();
    let mut wanted = board.wanted();
    wanted.mark_unchanged();
    board.want(BTreeSet::from([gold()]));
    board.want_just(&HashSet::from([&gold()]));
    assert!(!wanted.has_changed().unwrap());
    let silver = Listing::new("MCX", "SILVERM27FEB26FUT");
    board.want_just(&HashSet::from([&silver]));
    assert_eq!(**wanted.borrow_and_update(), BTreeSet::from([silver.clone()]), "as many, and others");
    board.want_just(&HashSet::from([&silver, &gold()]));
    assert_eq!(wanted.borrow_and_update().len(), 2);
    board.want(BTreeSet::new());
    assert!(wanted.has_changed().unwrap());
}

#[test]
fn freshness_falls_with_age() {
    let board = board();
    assert_eq!(board.freshness(&gold(), at(1)), Freshness::Dead);
    board.record(&gold(), Price(dec!(100)), PriceSource::Live, at(10));
    for (seconds, expected) in
        [(10, Freshness::Live), (40, Freshness::Live), (41, Freshness::Stale), (311, Freshness::Dead)]
    {
        assert_eq!(board.freshness(&gold(), at(seconds)), expected, "after {seconds} s");
    }
}

#[test]
fn quotes_are_of_what_came_in_time_and_a_dead_price_still_values() {
    let board = board();
    board.record(&gold(), Price(dec!(100)), PriceSource::Live, at(10));
    let within = |age, now| board.quotes([gold(), Listing::new("NFO", "OTHER")].into_iter(), age, at(now));
    let ages = board.ages();
    assert_eq!(within(ages.stale, 40).get("MCX", "GOLDM05DEC25FUT"), Some(Price(dec!(100))));
    assert_eq!(within(ages.stale, 41), Quotes::new());
    assert_eq!(within(ages.worth(), 910).get("MCX", "GOLDM05DEC25FUT"), Some(Price(dec!(100))));
    assert_eq!(within(ages.worth(), 911), Quotes::new());
}

#[test]
fn what_is_not_renewed_comes_from_the_cache_and_keeps_its_time() {
    let board = board();
    board.record(&gold(), Price(dec!(100)), PriceSource::Live, at(10));
    assert_eq!(board.demote(Duration::from_secs(5), at(15)), 0);
    assert_eq!(board.demote(Duration::from_secs(5), at(16)), 1);
    let priced = board.get(&gold()).unwrap();
    assert_eq!((priced.price, priced.source, priced.at), (Price(dec!(100)), PriceSource::Cache, at(10)));
}

#[test]
fn what_has_moved_is_told_once_and_again_when_it_moves_again() {
    let (board, silver) = (PriceBoard::new(), Listing::new("MCX", "SILVERM27FEB26FUT"));
    board.want(BTreeSet::from([gold(), silver.clone()]));
    let moved = || board.take_moved().iter().map(|of| (**of).clone()).collect::<Vec<_>>();
    let record = |listing: &Listing, seconds| {
        board.record(listing, Price(dec!(100)), PriceSource::Live, at(seconds));
    };
    assert!(moved().is_empty());
    record(&gold(), 1);
    record(&silver, 1);
    record(&gold(), 2);
    assert_eq!(moved(), [gold(), silver]);
    assert!(moved().is_empty());
    record(&gold(), 1);
    assert!(moved().is_empty(), "an older price moves nothing");
    record(&gold(), 2);
    assert_eq!(moved(), [gold()], "the same price again is a price");
    board.want(BTreeSet::new());
    record(&gold(), 3);
    assert!(moved().is_empty(), "nobody wants it");
}

#[tokio::test]
async fn a_reader_misses_no_record_and_many_count_as_one() {
    let board = board();
    for seconds in 1..100 {
        board.record(&gold(), Price(dec!(100)), PriceSource::Live, at(seconds));
    }
    // Recorded before anybody waited.
    board.changed().await;
    let mut waiting = Box::pin(board.changed());
    assert!(poll!(&mut waiting).is_pending());
    board.record(&gold(), Price(dec!(100)), PriceSource::Live, at(100));
    waiting.await;
}

fn between(above: i64, below: Option<i64>) -> Option<Calm> {
    let level = |price: i64| Price(price.into());
    Some(Calm { above: Some(level(above)), below: below.map(level) })
}

fn wakes(board: &PriceBoard) -> bool {
    board.changed().now_or_never().is_some()
}

#[test]
fn a_calm_price_wakes_nobody_and_is_on_the_board_all_the_same() {
    let (board, silver) = (PriceBoard::new(), Listing::new("MCX", "SILVERM27FEB26FUT"));
    board.want(BTreeSet::from([gold(), silver.clone()]));
    let record = |listing: &Listing, price: i64, seconds| {
        board.record(listing, Price(price.into()), PriceSource::Live, at(seconds));
    };
    record(&silver, 5, 1);
    assert!(wakes(&board), "nobody has said yet what is calm");
    board.rest([(&gold(), between(90, Some(110)))]);
    board.take_moved();
    record(&gold(), 100, 2);
    record(&silver, 6, 2);
    assert!(!wakes(&board) && board.take_moved().is_empty());
    assert_eq!(board.get(&gold()).unwrap().price, Price(dec!(100)));
    for (price, seconds) in [(90, 3), (110, 4), (111, 5)] {
        record(&gold(), price, seconds);
        assert!(wakes(&board), "{price}");
        assert_eq!(board.take_moved().len(), 1);
        let sighted = board.sight(&gold()).unwrap();
        let calm = sighted.calm.map(|calm| (calm.price, calm.at));
        assert_eq!((sighted.priced.at, calm), (at(seconds), Some((Price(dec!(100)), at(2)))));
    }
    board.alert();
    assert!(!wakes(&board), "nothing has come since");
    record(&silver, 7, 6);
    assert!(wakes(&board) && board.take_moved().len() == 1);
    board.rest([]);
    record(&silver, 8, 7);
    assert!(!wakes(&board) && board.sight(&silver).unwrap().calm.is_none(), "nobody has levels there");
    board.alert();
    assert!(wakes(&board), "something has happened, and a price had come");
}

#[test]
fn a_price_that_came_before_its_level_did_wakes_as_soon_as_that_is_known() {
    let board = board();
    board.rest([(&gold(), between(90, None))]);
    board.record(&gold(), Price(dec!(95)), PriceSource::Live, at(1));
    assert!(!wakes(&board));
    board.rest([(&gold(), between(96, None))]);
    assert!(wakes(&board), "a stop was raised to it meanwhile");
    assert_eq!(board.take_moved().len(), 1);
    let sighted = board.sight(&gold()).unwrap();
    assert!(
        sighted.is_calm && sighted.calm.is_none(),
        "it was calm when it came, and is not its own measure"
    );
    board.rest([(&gold(), between(96, None))]);
    assert!(!wakes(&board), "once: whoever was woken may leave it as it is");
    board.record(&gold(), Price(dec!(96)), PriceSource::Live, at(2));
    let sighted = board.sight(&gold()).unwrap();
    assert_eq!((sighted.is_calm, sighted.calm.map(|calm| calm.price)), (false, Some(Price(dec!(95)))));
}

#[test]
fn of_what_has_no_levels_every_price_wakes() {
    let board = board();
    board.rest([(&gold(), None)]);
    board.record(&gold(), Price(dec!(95)), PriceSource::Live, at(1));
    assert!(wakes(&board));
    board.rest([]);
    assert!(!wakes(&board));
    board.record(&gold(), Price(dec!(95)), PriceSource::Live, at(2));
    assert!(!wakes(&board), "nobody is concerned");
}
