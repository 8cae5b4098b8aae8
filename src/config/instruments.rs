//! `[instruments.NAME]`: the built-in catalogue with the configured fields laid over it.
//!
//! What may stand there, and what a new instrument needs, is the domain's to say ([`Instrument`],
//! [`InstrumentPatch`]); here each field is tried by itself, so that one bad field is one fault.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json};

use super::overlay::{first_that_fits, leaves};
use super::reader::{Reader, shown};
use crate::domain::instrument::{Catalog, Instrument, InstrumentPatch};

/// Reads the catalogue; on faults the built-in one, which nobody gets to see then.
pub(super) fn read(reader: &mut Reader) -> Catalog {
    let built_in = Catalog::default();
    let any: Option<&Instrument> = built_in.iter().next();
    let template = serde_json::to_value(any).unwrap_or_default();
    let fields: Vec<String> = leaves(&template).into_iter().filter(|field| field != "name").collect();
    let set = reader.set_under("instruments");
    let mut names: BTreeSet<&str> = set.iter().filter_map(|path| path.split('.').next()).collect();
    names.extend(built_in.iter().map(|instrument| instrument.name.as_str()));

    let mut patches = BTreeMap::new();
    for name in names {
        let mut given = Map::new();
        for field in &fields {
            let key = format!("instruments.{name}.{field}");
            let Some(found) = reader.take(&key) else { continue };
            let alone = |value| Json::Object(Map::from_iter([(field.clone(), value)]));
            let fits = |value| serde_json::from_value::<InstrumentPatch>(alone(value)).map(drop);
            let value = first_that_fits(&found, fits).unwrap_or_else(|expected| {
                reader.invalid(&key, shown(&found.value), expected);
                // A sound figure in its place lets the other fields be judged, too.
                template[field].clone()
            });
            given.insert(field.clone(), value);
        }
        if built_in.get(name).is_none() && !is_whole(reader, name, &given, &fields, &built_in) {
            continue;
        }
        match serde_json::from_value::<InstrumentPatch>(Json::Object(given)) {
            Ok(patch) => drop(patches.insert(name.to_owned(), patch)),
            Err(error) => reader.refused(&format!("instruments.{name}"), error),
        }
    }
    let catalog = Catalog::configured(patches).unwrap_or_else(|error| {
        for fault in error.faults {
            reader.refused(&format!("instruments.{}", fault.field), fault.message);
        }
        built_in
    });
    for instrument in catalog.iter() {
        let values = serde_json::to_value(instrument).unwrap_or_default();
        for field in &fields {
            reader.note(&format!("instruments.{}.{field}", instrument.name), values[field].clone());
        }
    }
    catalog
}

/// A name that is not built in is a new instrument, or a slip: one fault says what either would take.
fn is_whole(
    reader: &mut Reader,
    name: &str,
    given: &Map<String, Json>,
    fields: &[String],
    catalog: &Catalog,
) -> bool {
    let optional = ["freeze_quantity", "max_lots", "max_notional", "closing_auction"];
    let absent = |field: &&String| !given.contains_key(*field) && !optional.contains(&field.as_str());
    let absent: Vec<&str> = fields.iter().filter(absent).map(String::as_str).collect();
    if absent.is_empty() {
        return true;
    }
    let built_in: Vec<&str> = catalog.iter().map(|instrument| instrument.name.as_str()).collect();
    let (built_in, absent) = (built_in.join(", "), absent.join(", "));
    reader.refused(
        &format!("instruments.{name}"),
        format!("not built in ({built_in} are), so it also needs {absent}; or correct its name"),
    );
    false
}
