//! What a reading of the books proves of several orders, recorded together.

use super::desk::{at, entry};
use crate::domain::ids::IntentId;
use crate::engine::book::Book;
use crate::engine::settling::together;
use crate::engine::term::TOGETHER;

/// Orders on these instruments, in this order.
fn orders(book: &mut Book, instruments: &[&str]) -> Vec<IntentId> {
    let planned = instruments.iter().zip(1..).map(|(instrument, n)| {
        let mut intent = entry(book, n, 1, 10);
        intent.instrument = (*instrument).to_owned();
        let id = intent.id;
        book.plan(intent, at(0));
        id
    });
    planned.collect()
}

#[test]
fn of_each_instrument_one_order_is_settled_at_a_time_and_in_order() {
    let mut book = Book::default();
    let ids = orders(&mut book, &["GOLD", "SILVER", "GOLD", "SILVER", "SILVER"]);
    let groups = together(&book, &ids, |_| false);
    assert_eq!(groups, [vec![ids[0], ids[1]], vec![ids[2], ids[3]], vec![ids[4]]]);
    let groups = together(&book, &ids, |id| id == ids[1]);
    assert_eq!(groups, [vec![ids[0]], vec![ids[1]], vec![ids[2], ids[3]], vec![ids[4]]]);
    assert!(together(&book, &ids, |_| true).iter().all(|group| group.len() == 1));
    assert!(together(&Book::default(), &ids, |_| false).is_empty(), "nobody knows them");
}

#[test]
fn a_change_tells_of_so_many_orders_and_no_more() {
    let mut book = Book::default();
    let names: Vec<String> = (0..=TOGETHER).map(|n| format!("I{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let ids = orders(&mut book, &names);
    let lengths: Vec<usize> = together(&book, &ids, |_| false).iter().map(Vec::len).collect();
    assert_eq!(lengths, [TOGETHER, 1]);
}
