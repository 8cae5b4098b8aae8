//! `[charges.NAME]`: what trading costs. Whoever says nothing is charged nothing: then every profit is told as if trading were
//! free.

use std::collections::BTreeSet;

use super::overlay;
use super::reader::Reader;
use crate::domain::charges::{Schedule, Terms};
use crate::domain::instrument::plain_name;

/// Reads all terms by name; none on faults, which nobody gets to see then.
pub(super) fn read(reader: &mut Reader) -> Schedule {
    let set = reader.set_under("charges");
    let names: BTreeSet<String> =
        set.iter().filter_map(|path| path.split('.').next()).map(str::to_owned).collect();
    let mut all = Vec::new();
    for name in names {
        let section = format!("charges.{name}");
        if !plain_name(&name) {
            reader.refused(&section, "its name is not one; use letters, digits, '_', '-' or '.', at most 64");
        }
        let terms: Terms = overlay::read(reader, &section);
        all.push((name, terms));
    }
    Schedule::of(all).unwrap_or_else(|faults| {
        for fault in faults {
            reader.refused(&format!("charges.{}", fault.field), fault.message);
        }
        Schedule::default()
    })
}
