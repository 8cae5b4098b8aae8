//! `[strategies.NAME]`: strategies beside `default`, each of a kind. What is configured here does not trade by itself: an
//! operator enables a session VWAP strategy at run time, and may disable any.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::TimeDelta;
use rust_decimal::{Decimal, dec};
use serde_json::json;

use super::overlay::first_that_fits;
use super::reader::{Reader, shown};
use crate::domain::instrument::{Catalog, Instrument, plain_name};
use crate::strategy::Kind;
use crate::strategy::breakout::Thresholds;
use crate::strategy::states::DEFAULT;

/// What a session VWAP strategy has beside its kind.
const FIELDS: [&str; 6] =
    ["instrument", "bar_s", "band_percent", "stop_percent", "atr_bars", "flat_before_close_s"];

/// A configured strategy.
#[derive(Clone, Debug, PartialEq)]
pub enum Strategy {
    /// Its signals come over the webhook.
    Webhook,
    /// It watches an instrument itself.
    SessionVwap {
        /// Which.
        instrument: Box<Instrument>,
        /// How.
        thresholds: Thresholds,
    },
}

impl Strategy {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Webhook => Kind::Webhook,
            Self::SessionVwap { .. } => Kind::SessionVwap,
        }
    }
}

/// Reads the strategies by name. A price that is older than `stale` makes no entry.
pub(super) fn read(reader: &mut Reader, catalog: &Catalog, stale: Duration) -> BTreeMap<String, Strategy> {
    let set = reader.set_under("strategies");
    let names: BTreeSet<String> =
        set.iter().filter_map(|path| path.split('.').next()).map(str::to_owned).collect();
    let mut strategies = BTreeMap::new();
    for name in names {
        let section = format!("strategies.{name}");
        let kinds = [("webhook", Kind::Webhook), ("session_vwap", Kind::SessionVwap)];
        if !reader.is_set(&format!("{section}.kind")) {
            reader.missing(&format!("{section}.kind"), "say \"webhook\" or \"session_vwap\"");
        }
        let kind = reader.choice(&format!("{section}.kind"), Kind::Webhook, &kinds);
        if !plain_name(&name) {
            reader.refused(&section, "its name is not one; use letters, digits, '_', '-' or '.', at most 64");
        }
        if name == DEFAULT && kind != Kind::Webhook {
            reader.refused(&section, "is of the signals that name no strategy; choose another name");
        }
        let strategy = match kind {
            Kind::SessionVwap => session_vwap(reader, &section, catalog, stale),
            Kind::Webhook => {
                if !reader.sound(&[&format!("{section}.kind")]) {
                    // Nobody knows what it was to be, so nothing of it is called unknown.
                    FIELDS.iter().for_each(|field| drop(reader.take(&format!("{section}.{field}"))));
                }
                Some(Strategy::Webhook)
            }
        };
        strategies.extend(strategy.map(|strategy| (name, strategy)));
    }
    strategies
}

fn session_vwap(reader: &mut Reader, section: &str, catalog: &Catalog, stale: Duration) -> Option<Strategy> {
    let key = |field: &str| format!("{section}.{field}");
    let known: Vec<&str> = catalog.iter().map(|instrument| instrument.name.as_str()).collect();
    let allowed = format!("the name of an instrument: {}", known.join(", "));
    let is_set = reader.is_set(&key("instrument"));
    let name = reader.text(&key("instrument"), None, &allowed, |name| catalog.get(name).is_some());
    if !is_set {
        reader.missing(&key("instrument"), &allowed);
    }
    let bar = reader.seconds(&key("bar_s"), 300, 1..=3600);
    let band_percent = percent(reader, &key("band_percent"), dec!(0.1), Decimal::ZERO);
    let stop_percent = percent(reader, &key("stop_percent"), dec!(0.5), dec!(0.01));
    let atr_bars = reader.whole(&key("atr_bars"), 14, 1..=500, "bars");
    let flat = reader.seconds(&key("flat_before_close_s"), 900, 1..=21_600);
    if reader.sound(&[&key("bar_s"), &key("flat_before_close_s")]) && flat < bar {
        let allowed = format!(
            "at least {} s: flat_before_close_s ≥ bar_s, so that a bar ends in time to close the position",
            bar.as_secs()
        );
        reader.invalid(&key("flat_before_close_s"), format!("{} s", flat.as_secs()), allowed);
    }
    let instrument = Box::new(catalog.get(&name?)?.clone());
    let delta = |time: Duration| TimeDelta::from_std(time).unwrap_or(TimeDelta::MAX);
    let thresholds = Thresholds {
        bar: delta(bar),
        band_percent,
        stop_percent,
        atr_bars: usize::try_from(atr_bars).unwrap_or(usize::MAX),
        flat_before_close: delta(flat),
        stale: delta(stale),
    };
    Some(Strategy::SessionVwap { instrument, thresholds })
}

/// A percentage from `least` to 50.
fn percent(reader: &mut Reader, key: &str, default: Decimal, least: Decimal) -> Decimal {
    const MOST: Decimal = dec!(50);
    let mut value = default;
    if let Some(found) = reader.take(key) {
        let fits = |json| serde_json::from_value::<Decimal>(json).map(drop);
        let read = first_that_fits(&found, fits).ok().and_then(|json| serde_json::from_value(json).ok());
        match read.filter(|percent| (least..=MOST).contains(percent)) {
            Some(percent) => value = percent,
            None => {
                reader.invalid(key, shown(&found.value), format!("a number from {least} to {MOST} percent"))
            }
        }
    }
    reader.note(key, json!(value));
    value
}
