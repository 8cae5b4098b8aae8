//! What an entry's order, and the plan in it, say of the position that it made.
//!
//! Compared here and not in the database: it would take twice as long to take the plans apart as to hand them over.

use std::collections::HashMap;
use std::fmt::Display;

use chrono::TimeDelta;
use rust_decimal::{Decimal, dec};
use tokio_postgres::types::Json;

use crate::domain::ids::PositionId;
use crate::domain::intent::EntryPlan;
use crate::domain::label::Label;
use crate::domain::money::Price;
use crate::domain::position::Position;
use crate::ledger::cells::Cells;

/// Numbers of a plan were rounded to the stored scale on their way into the position.
const HALF_A_UNIT: Decimal = dec!(0.000000005);
/// And times to microseconds.
const MOMENT: TimeDelta = TimeDelta::milliseconds(1);

/// Stands in [`Strayed`] for a column that is empty, or is to be.
pub const NOTHING: &str = "nothing";

/// A column of a position that is not what its orders say: its entry's plan, what asked for its exit, what its fills earned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Strayed {
    /// The position.
    pub position: PositionId,
    /// The column.
    pub column: String,
    /// What is stored.
    pub stored: String,
    /// What the orders say.
    pub planned: String,
}

/// What an entry's order and its plan say of its position.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    position: PositionId,
    /// The order's own [`COLUMNS`], if any of them is not the position's; nearly always all are, and nothing is sent.
    unlike: Option<Vec<Option<String>>>,
    plan: EntryPlan,
}

/// What an order says of its position in columns of its own, by the position's names.
const COLUMNS: [&str; 5] = ["instrument", "symbol", "exchange", "product", "entry_signal"];

/// What [`Entry::read`] reads of an order `o` and its position `p`.
pub(super) const ENTRY_COLUMNS: &str = "o.plan,
    CASE WHEN (o.instrument, o.symbol, o.exchange, o.product, o.signal_id)
        IS DISTINCT FROM (p.instrument, p.symbol, p.exchange, p.product, p.entry_signal)
    THEN ARRAY[o.instrument, o.symbol, o.exchange, o.product, o.signal_id::text] END AS unlike";

impl Entry {
    /// The entry of `position`; none of an order without a plan.
    pub fn read(cells: &mut Cells<'_>, position: PositionId) -> Option<Self> {
        let plan: Option<Json<EntryPlan>> = cells.get("plan");
        let unlike = cells.get("unlike");
        plan.map(|Json(plan)| Self { position, unlike, plan })
    }

    /// Where the position is something else.
    fn strayed(&self, held: &Position) -> Vec<Strayed> {
        let plan = &self.plan;
        let mut strayed = Vec::new();
        let mut differs = |column: &str, stored: &dyn Display, planned: &dyn Display| {
            let (stored, planned) = (stored.to_string(), planned.to_string());
            strayed.push(Strayed { position: held.id, column: column.to_owned(), stored, planned });
        };
        if let Some(unlike) = &self.unlike {
            let signal = held.entry_signal.to_string();
            let own = [&held.instrument, &held.symbol, &held.exchange, held.product.as_str(), &signal];
            for ((column, stored), planned) in COLUMNS.into_iter().zip(own).zip(unlike) {
                let planned = planned.as_deref().unwrap_or(NOTHING);
                if stored != planned {
                    differs(column, &stored, &planned);
                }
            }
        }
        if held.strategy != plan.strategy {
            differs("strategy", &held.strategy, &plan.strategy);
        }
        if held.label.parse::<Label>().ok() != Some(plan.label) {
            differs("label", &held.label, &plan.label);
        }
        if held.lot_size != plan.lot_size {
            differs("lot_size", &held.lot_size, &plan.lot_size);
        }
        if held.entry_signal_seq != plan.signal_seq {
            differs("entry_signal_seq", &held.entry_signal_seq, &plan.signal_seq);
        }
        for (column, stored, planned) in [
            ("point_value", held.point_value.0, plan.point_value.0),
            ("margin_per_lot", held.margin_per_lot.0, plan.margin_per_lot.0),
            ("atr", held.atr.0, plan.atr.0),
            ("initial_stop", held.initial_stop.0, plan.stop.0),
        ] {
            if stored != planned && !is_rounded(stored, planned) {
                differs(column, &stored.normalize(), &planned.normalize());
            }
        }
        let same = match (held.take_profit, plan.take_profit) {
            (Some(stored), Some(planned)) => stored == planned || is_rounded(stored.0, planned.0),
            (stored, planned) => stored == planned,
        };
        if !same {
            let shown = |price: Option<Price>| {
                price.map_or_else(|| NOTHING.to_owned(), |price| price.0.normalize().to_string())
            };
            differs("take_profit", &shown(held.take_profit), &shown(plan.take_profit));
        }
        if (held.entry_bar_time - plan.bar_time).abs() > MOMENT {
            differs("entry_bar_time", &held.entry_bar_time, &plan.bar_time);
        }
        strayed
    }
}

/// Figures that are too far apart to be subtracted are not the same.
fn is_rounded(stored: Decimal, planned: Decimal) -> bool {
    stored.checked_sub(planned).is_some_and(|apart| apart.abs() <= HALF_A_UNIT)
}

/// Where positions are not what their entries say, by position and column.
pub(super) fn strayed(positions: &[Position], entries: &[Entry]) -> Vec<Strayed> {
    let by_id: HashMap<PositionId, &Position> =
        positions.iter().map(|position| (position.id, position)).collect();
    let pairs = entries.iter().filter_map(|entry| Some((entry, by_id.get(&entry.position)?)));
    let mut strayed: Vec<Strayed> = pairs.flat_map(|(entry, held)| entry.strayed(held)).collect();
    strayed.sort();
    // An order is read once for each of its fills.
    strayed.dedup();
    strayed
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::fixtures;
    use crate::domain::ids::SignalId;
    use crate::domain::money::{Quantity, Rupees};
    use crate::domain::order::Product;

    fn held() -> Position {
        fixtures::position("GOLD_MINI", 1, 3, dec!(78000), dec!(77000), 1)
    }

    /// The entry that makes exactly this position, and says so in its order's columns, too.
    fn entry_of(position: &Position) -> Entry {
        let signal = position.entry_signal.to_string();
        let own =
            [&position.instrument, &position.symbol, &position.exchange, position.product.as_str(), &signal];
        Entry {
            position: position.id,
            unlike: Some(own.map(|text: &str| Some(text.to_owned())).to_vec()),
            plan: EntryPlan {
                label: position.label.parse().unwrap(),
                strategy: position.strategy.clone(),
                lot_size: position.lot_size,
                point_value: position.point_value,
                margin_per_lot: position.margin_per_lot,
                atr: position.atr,
                stop: position.initial_stop,
                take_profit: None,
                planned_price: position.entry_price,
                signal_seq: position.entry_signal_seq,
                bar_time: position.entry_bar_time,
            },
        }
    }

    fn columns(position: Position) -> Vec<String> {
        let entries = [entry_of(&held())];
        strayed(&[position], &entries).into_iter().map(|strayed| strayed.column).collect()
    }

    #[test]
    fn each_column_that_is_not_what_the_entry_says_is_named_alone() {
        assert_eq!(columns(held()), Vec::<String>::new());
        type Damage = fn(&mut Position);
        let changes: [(&str, Damage); 15] = [
            ("instrument", |p| p.instrument.push('X')),
            ("symbol", |p| p.symbol.push('X')),
            ("exchange", |p| p.exchange.push('X')),
            ("strategy", |p| p.strategy.push('X')),
            ("product", |p| p.product = Product::Mis),
            ("entry_signal", |p| p.entry_signal = SignalId(Uuid::from_u128(99))),
            ("label", |p| p.label = "Long_2".to_owned()),
            ("lot_size", |p| p.lot_size = p.lot_size + Quantity(1)),
            ("entry_signal_seq", |p| p.entry_signal_seq += 1),
            ("point_value", |p| p.point_value += Rupees(dec!(0.00000001))),
            ("margin_per_lot", |p| p.margin_per_lot += Rupees(dec!(0.00000001))),
            ("atr", |p| p.atr += Price(dec!(0.00000001))),
            ("initial_stop", |p| p.initial_stop += Price(dec!(0.00000001))),
            ("take_profit", |p| p.take_profit = Some(Price(dec!(1)))),
            ("entry_bar_time", |p| p.entry_bar_time += MOMENT + TimeDelta::microseconds(1)),
        ];
        for (column, change) in changes {
            let mut position = held();
            change(&mut position);
            assert_eq!(columns(position), [column]);
        }
        let mut position = held();
        position.label = "Long_9".to_owned();
        assert_eq!(columns(position), ["label"], "what is no label at all");
        position = held();
        position.atr = Price(Decimal::MIN);
        assert_eq!(columns(position), ["atr"], "a figure out of all bounds");
    }

    #[test]
    fn a_plan_is_held_at_the_stored_scale_and_a_time_to_the_millisecond() {
        let mut position = held();
        let mut entry = entry_of(&position);
        entry.plan.atr = Price(dec!(12.123456785));
        entry.plan.bar_time += TimeDelta::nanoseconds(999);
        for stored in [dec!(12.12345678), dec!(12.12345679)] {
            position.atr = Price(stored);
            assert_eq!(strayed(std::slice::from_ref(&position), std::slice::from_ref(&entry)), []);
        }
        position.atr = Price(dec!(12.12345677));
        let [strayed] = &strayed(&[position], &[entry])[..] else { panic!("one column") };
        assert_eq!((&*strayed.stored, &*strayed.planned), ("12.12345677", "12.123456785"));
    }

    #[test]
    fn an_entry_that_filled_in_parts_is_told_once_and_one_without_a_signal_is_told() {
        let position = held();
        let mut entry = entry_of(&position);
        entry.unlike.as_mut().unwrap()[4] = None;
        let id = position.id;
        let told = strayed(&[position], &[entry.clone(), entry]);
        let [one] = &told[..] else { panic!("{told:?}") };
        assert_eq!((one.position, &*one.column, &*one.planned), (id, "entry_signal", "nothing"));
    }
}
