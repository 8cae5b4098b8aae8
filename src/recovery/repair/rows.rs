//! Columns go back to what proves them: the plan of the entry, or the audit log.

use chrono::{DateTime, Utc};

use super::{AUDIT, Plan};
use crate::domain::ids::SignalId;
use crate::domain::instrument::Catalog;
use crate::domain::money::{Price, Quantity, Rupees};
use crate::domain::position::{Position, PositionStatus};
use crate::ledger::repair::{ClosedMend, WishWrite};
use crate::ledger::snapshot::{NOTHING, Snapshot, Strayed};
use crate::ledger::wishes::Wish;
use crate::recovery::reconcile::DiffRow;
use crate::recovery::validate;

/// M1. What strayed goes back, unless a third witness agrees with the row and not with its orders: the stored aggregates,
/// or the broker's book.
pub(super) fn follow_plans(
    plan: &mut Plan,
    after: &mut Snapshot,
    diff: &[DiffRow],
    capital: Rupees,
    catalog: &Catalog,
) {
    let mut left = Vec::new();
    for strayed in std::mem::take(&mut after.strayed) {
        let Some(index) = after.positions.iter().position(|p| p.id == strayed.position) else {
            if !follow_closed(plan, after, &strayed) {
                left.push(strayed);
            }
            continue;
        };
        let before = after.positions[index].clone();
        let off = |after: &Snapshot| validate::figures_off(after, capital, catalog).map(|off| off.len());
        let off_before = off(after);
        let Some(column) = put_back(&mut after.positions[index], &strayed) else {
            left.push(strayed);
            continue;
        };
        let fits_worse = off_before.zip(off(after)).is_some_and(|(before, now)| now > before);
        let is_held = is_of_contract(column) && broker_agrees(&before, diff);
        if fits_worse || is_held {
            let witness = if fits_worse { "the stored aggregates" } else { "the broker's verified book" };
            plan.unsolved.push(format!(
                "position {}: {column} is {}, its orders say {}, and {witness} agrees with the row: either may be wrong",
                strayed.position, strayed.stored, strayed.planned
            ));
            after.positions[index] = before;
            left.push(strayed);
            continue;
        }
        plan.propose(
            strayed.position,
            column,
            &strayed.stored,
            &strayed.planned,
            "its orders and their plan say so",
        );
    }
    after.strayed = left;
}

fn is_of_contract(column: &str) -> bool {
    ["symbol", "exchange", "product"].contains(&column)
}

fn broker_agrees(position: &Position, diff: &[DiffRow]) -> bool {
    let key = position.holding_key();
    diff.iter().any(|row| {
        row.key().as_ref() == Some(&key) && !row.verdict.is_drift() && row.broker >= position.quantity
    })
}

/// Of a closed position what it realised, why it was closed and when are compared.
fn follow_closed(plan: &mut Plan, after: &mut Snapshot, strayed: &Strayed) -> bool {
    let Strayed { position, column, stored, planned } = strayed;
    let (column, mend, because) = match column.as_str() {
        "realised" => {
            let (Ok(before), Ok(earned)) = (stored.parse().map(Rupees), planned.parse().map(Rupees)) else {
                return false;
            };
            after.realised += earned - before;
            let because = "its fills' proceeds, less what they cost, give it";
            ("realised", ClosedMend::Realised(earned), because)
        }
        "exit_cause" => {
            let known = Some(planned.as_str()).filter(|planned| *planned != NOTHING);
            let Ok(cause) = known.map(str::parse).transpose() else { return false };
            ("exit_cause", ClosedMend::ExitCause(cause), "what was sent to close it says so")
        }
        "closed_at" => {
            let Some(at) = time(planned) else { return false };
            ("closed_at", ClosedMend::ClosedAt(at), "its last sale was recorded then")
        }
        _ => return false,
    };
    plan.propose(*position, column, stored, planned, because);
    plan.mending.closed.push((*position, mend));
    true
}

/// Sets a column to what its orders say; gives its name, or nothing if that cannot be.
fn put_back(position: &mut Position, strayed: &Strayed) -> Option<&'static str> {
    let some = Some(strayed.planned.as_str()).filter(|planned| *planned != NOTHING);
    macro_rules! set {
        ($($column:ident: $parse:expr),+ $(,)?) => {
            match strayed.column.as_str() {
                $(stringify!($column) => {
                    position.$column = $parse;
                    Some(stringify!($column))
                })+
                _ => None,
            }
        };
    }
    set! {
        instrument: some?.to_owned(),
        symbol: some?.to_owned(),
        exchange: some?.to_owned(),
        label: some?.to_owned(),
        strategy: some?.to_owned(),
        product: some?.parse().ok()?,
        entry_signal: SignalId(some?.parse().ok()?),
        entry_signal_seq: some?.parse().ok()?,
        entry_bar_time: time(some?)?,
        lot_size: Quantity(some?.parse().ok()?),
        point_value: Rupees(some?.parse().ok()?).rounded(),
        margin_per_lot: Rupees(some?.parse().ok()?).rounded(),
        atr: Price(some?.parse().ok()?).rounded(),
        initial_stop: Price(some?.parse().ok()?).rounded(),
        take_profit: some.map(str::parse).transpose().ok()?.map(Price).map(Price::rounded),
        exit_cause: some.map(str::parse).transpose().ok()?,
        status: PositionStatus::Open,
    }
}

/// As PostgreSQL prints it, or as this program does.
fn time(text: &str) -> Option<DateTime<Utc>> {
    let ours = text.replace(" UTC", "+00");
    let time = DateTime::parse_from_str(&ours, "%Y-%m-%d %H:%M:%S%.f%#z").ok()?;
    Some(time.with_timezone(&Utc))
}

/// M1. Stops, highest closes and wishes go back to where the audit log has them.
pub(super) fn follow_records(plan: &mut Plan, after: &mut Snapshot) {
    let because = AUDIT;
    for position in &mut after.positions {
        let Some(at) = after.recorded.positions.get(&position.id) else { continue };
        if at.stop != position.current_stop {
            plan.propose(position.id, "current_stop", position.current_stop, at.stop, because);
            position.current_stop = at.stop;
        }
        if let Some(highest) = at.highest_close.filter(|highest| *highest != position.highest_close) {
            plan.propose(position.id, "highest_close", position.highest_close, highest, because);
            position.highest_close = highest;
        }
    }
    if !after.recorded.complete {
        return;
    }
    for position in after.positions.iter().filter(|position| position.is_held()) {
        let stored = after.wishes.iter().position(|wish| wish.position == position.id);
        let asked = after.recorded.wishes.get(&position.id).map(|wanted| Wish {
            position: position.id,
            by: wanted.by.clone(),
            why: wanted.why.clone(),
        });
        let before = stored.map(|index| after.wishes[index].clone());
        if before == asked {
            continue;
        }
        let shown = |wish: Option<&Wish>| {
            wish.map_or_else(|| NOTHING.to_owned(), |wish| format!("{}: {}", wish.by, wish.why))
        };
        plan.propose(position.id, "close_at", shown(before.as_ref()), shown(asked.as_ref()), because);
        if let Some(index) = stored {
            after.wishes.remove(index);
        }
        after.wishes.extend(asked.clone());
        plan.mending.wishes.push(asked.map_or(WishWrite::Forget(position.id), WishWrite::Keep));
    }
}

#[cfg(test)]
mod tests {
    use rust_decimal::dec;

    use super::*;
    use crate::domain::fixtures;

    #[test]
    fn a_column_goes_back_however_its_value_is_spelled() {
        let mut position = fixtures::position("GOLD_MINI", 1, 3, dec!(78000), dec!(77000), 1);
        let id = position.id;
        let mut put = |column: &str, planned: &str| {
            let (column, planned) = (column.to_owned(), planned.to_owned());
            let strayed = Strayed { position: id, column, stored: "x".to_owned(), planned };
            let set = put_back(&mut position, &strayed).is_some();
            (set, position.clone())
        };
        assert_eq!(put("atr", "12.123456785").1.atr, Price(dec!(12.12345678)));
        assert_eq!(put("take_profit", "79000.5").1.take_profit, Some(Price(dec!(79000.5))));
        assert_eq!(put("take_profit", NOTHING).1.take_profit, None);
        assert_eq!(put("exit_cause", NOTHING).1.exit_cause, None);
        for spelled in
            ["2026-01-05 10:00:00.5+00", "2026-01-05 15:30:00.5+05:30", "2026-01-05 10:00:00.500 UTC"]
        {
            let time = put("entry_bar_time", spelled).1.entry_bar_time;
            assert_eq!(time.to_rfc3339(), "2026-01-05T10:00:00.500+00:00", "{spelled}");
        }
        let before = put("symbol", "GOLDM05DEC25FUT").1;
        for (column, planned) in [("lot_size", "many"), ("symbol", NOTHING), ("no_such", "1")] {
            let (set, after) = put(column, planned);
            assert!(!set && after == before, "{column}");
        }
    }
}
