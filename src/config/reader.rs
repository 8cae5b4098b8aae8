//! Typed reading of the layers, key by key: each read declares its key, default and allowed values in one place,
//! notes the effective value for `config show`, and on a fault notes it and reads on with the default.
//!
//! After the last read, what is left in the layers is unknown: [`Reader::finish`] names the nearest known key.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use rust_decimal::Decimal;
use secrecy::SecretString;
use serde_json::json;
use toml::Value;

use super::fault::{Fault, Faults, Problem, Source};
use super::layers::{ALIASES, Found, Layers, variable};
use super::nearest::nearest;
use super::secrets::Secret;
use super::show::{Entry, HIDDEN};

/// Reads typed values and gathers faults.
pub(super) struct Reader {
    layers: Layers,
    known: BTreeSet<String>,
    faults: Vec<Fault>,
    entries: Vec<Entry>,
    secrets: Vec<Secret>,
}

impl Reader {
    pub fn new(layers: Layers) -> Self {
        let (known, faults, entries, secrets) = (BTreeSet::new(), Vec::new(), Vec::new(), Vec::new());
        Self { layers, known, faults, entries, secrets }
    }

    /// Notes a fault of a key; `found` must not hold a secret's text.
    pub fn invalid(&mut self, key: &str, found: impl Display, allowed: impl Display) {
        let problem = Problem::Invalid { found: found.to_string(), allowed: allowed.to_string() };
        let source = self.layers.values.get(key).map(|found| found.source.clone());
        self.faults.push(Fault { key: key.to_owned(), source, problem });
    }

    /// Notes a fault in the words of the part of the program that the key is for.
    pub fn refused(&mut self, key: &str, message: impl Display) {
        let source = self.layers.values.get(key).map(|found| found.source.clone());
        let problem = Problem::Refused { message: message.to_string() };
        self.faults.push(Fault { key: key.to_owned(), source, problem });
    }

    /// Notes that a required key is set nowhere.
    pub fn missing(&mut self, key: &str, advice: impl Display) {
        let problem = Problem::Missing { advice: advice.to_string() };
        self.faults.push(Fault { key: key.to_owned(), source: None, problem });
    }

    /// Says whether none of these keys has a fault: a relation between broken values says nothing.
    pub fn sound(&self, keys: &[&str]) -> bool {
        !self.faults.iter().any(|fault| keys.contains(&fault.key.as_str()))
    }

    /// Says whether anybody set the key.
    pub fn is_set(&self, key: &str) -> bool {
        self.layers.values.contains_key(key)
    }

    /// Declares a key and takes what was set.
    pub fn take(&mut self, key: &str) -> Option<Found> {
        self.known.insert(key.to_owned());
        self.layers.values.get(key).cloned()
    }

    /// The dotted keys set under a section, without the section's name.
    pub fn set_under(&self, section: &str) -> Vec<String> {
        let prefix = format!("{section}.");
        self.layers.values.keys().filter_map(|key| key.strip_prefix(&prefix)).map(str::to_owned).collect()
    }

    /// Notes an effective value for `config show`.
    pub fn note(&mut self, key: &str, value: serde_json::Value) {
        self.note_from(key, &[key], value);
    }

    /// Notes an effective value that any of `setters` may have set; the highest source set it.
    pub fn note_from(&mut self, key: &str, setters: &[&str], value: serde_json::Value) {
        let set = setters.iter().filter_map(|setter| self.layers.values.get(*setter));
        let source =
            set.max_by_key(|found| found.source.rank()).map_or(Source::Default, |f| f.source.clone());
        self.entries.push(Entry { key: key.to_owned(), value, source, allowed: None });
    }

    /// A text; `allowed` says in words what `accept` accepts.
    pub fn text(
        &mut self,
        key: &str,
        default: Option<&str>,
        allowed: &str,
        accept: impl Fn(&str) -> bool,
    ) -> Option<String> {
        let value = match self.take(key) {
            None => default.map(str::to_owned),
            Some(Found { value: Value::String(text), .. }) if accept(&text) => Some(text),
            Some(found) => {
                self.invalid(key, shown(&found.value), allowed);
                default.map(str::to_owned)
            }
        };
        self.note(key, json!(value));
        value
    }

    /// One of a few names.
    pub fn choice<T: Copy + PartialEq>(&mut self, key: &str, default: T, names: &[(&'static str, T)]) -> T {
        let named = |text: &str| names.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        let value = match self.take(key) {
            None => default,
            Some(found) => match found.value.as_str().and_then(named) {
                Some(value) => value,
                None => {
                    let all: Vec<_> = names.iter().map(|(name, _)| format!("{name:?}")).collect();
                    self.invalid(key, shown(&found.value), all.join(" or "));
                    default
                }
            },
        };
        let name = names.iter().find(|(_, named)| *named == value).map(|(name, _)| *name);
        self.note(key, json!(name));
        value
    }

    /// A whole number; `unit` is said with the range ("ms", "requests a second").
    pub fn whole(&mut self, key: &str, default: u64, range: RangeInclusive<u64>, unit: &str) -> u64 {
        self.optional_whole(key, Some(default), range, unit).unwrap_or(default)
    }

    /// A whole number that may stay unset.
    pub fn optional_whole(
        &mut self,
        key: &str,
        default: Option<u64>,
        range: RangeInclusive<u64>,
        unit: &str,
    ) -> Option<u64> {
        let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
        let span = format!("from {} to {}{unit}", range.start(), range.end());
        let value = match self.take(key) {
            None => default,
            Some(found) => match whole(&found).filter(|number| range.contains(number)) {
                Some(number) => Some(number),
                None => {
                    self.invalid(key, shown(&found.value), format!("a whole number {span}"));
                    default
                }
            },
        };
        self.note(key, json!(value));
        if let Some(entry) = self.entries.last_mut() {
            entry.allowed = Some(span);
        }
        value
    }

    /// A time in whole milliseconds.
    pub fn millis(&mut self, key: &str, default: u64, range: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.whole(key, default, range, "ms"))
    }

    /// A time in whole seconds.
    pub fn seconds(&mut self, key: &str, default: u64, range: RangeInclusive<u64>) -> Duration {
        Duration::from_secs(self.whole(key, default, range, "s"))
    }

    /// True or false.
    pub fn flag(&mut self, key: &str, default: bool) -> bool {
        let value = match self.take(key) {
            None => default,
            Some(found) => match (&found.value, found.value.as_str().filter(|_| found.is_env())) {
                (Value::Boolean(flag), _) => *flag,
                (_, Some("true" | "1" | "yes")) => true,
                (_, Some("false" | "0" | "no")) => false,
                _ => {
                    self.invalid(key, shown(&found.value), "true or false");
                    default
                }
            },
        };
        self.note(key, json!(value));
        value
    }

    /// A required amount of money above zero: a whole number, or text such as "1000000.50". A TOML float is
    /// refused, since it has been rounded to binary before anybody reads it.
    pub fn money(&mut self, key: &str) -> Decimal {
        let allowed = "rupees above zero, as a whole number or as text such as \"1000000.50\"";
        let value = match self.take(key) {
            None => {
                self.missing(key, how_to_set(key));
                Decimal::ZERO
            }
            Some(found) => {
                let amount = match &found.value {
                    Value::Integer(number) => Some(Decimal::from(*number)),
                    Value::String(text) => text.trim().parse().ok(),
                    _ => None,
                };
                amount.filter(|amount| *amount > Decimal::ZERO).unwrap_or_else(|| {
                    self.invalid(key, shown(&found.value), allowed);
                    Decimal::ZERO
                })
            }
        };
        self.note(key, json!(value.to_string()));
        value
    }

    /// A secret, by itself or as `KEY_file`, which names a file that holds it; its text is never noted.
    pub fn secret(&mut self, key: &str) -> Option<SecretString> {
        let file_key = format!("{key}_file");
        let (text, path) = (self.take(key), self.take(&file_key));
        let mut place = Secret::unset(key);
        let highest = [&text, &path].into_iter().flatten().max_by_key(|found| found.source.rank());
        place.source = highest.map_or(Source::Default, |found| found.source.clone());
        place.file = path.as_ref().filter(|path| path.source == place.source).and_then(Secret::file_of);
        let secret = match (text, path) {
            (Some(text), Some(path)) if text.source.rank() == path.source.rank() => {
                let found = format!("both {key} and {file_key}");
                self.invalid(key, found, "one of them; remove the other");
                None
            }
            (text, Some(path)) if text.as_ref().is_none_or(|t| t.source.rank() < path.source.rank()) => {
                self.secret_in_file(&file_key, &path)
            }
            (Some(Found { value: Value::String(text), .. }), _) if !text.trim().is_empty() => Some(text),
            (Some(found), _) => {
                let found = format!("{} (not shown)", found.value.type_str());
                self.invalid(key, found, "a text that is not empty");
                None
            }
            (None, _) => None,
        };
        let value = secret.as_ref().map_or(serde_json::Value::Null, |_| json!(HIDDEN));
        self.note_from(key, &[&file_key, key], value);
        place.text = secret.map(SecretString::from);
        let text = place.text.clone();
        self.secrets.push(place);
        text
    }

    /// A secret that must be there.
    pub fn required_secret(&mut self, key: &str) -> SecretString {
        let secret = self.secret(key);
        if secret.is_none() && self.sound(&[key, &format!("{key}_file")]) {
            self.missing(key, how_to_set_secret(key));
        }
        if let Some(place) = self.secrets.last_mut() {
            place.required = true;
        }
        secret.unwrap_or_default()
    }

    fn secret_in_file(&mut self, file_key: &str, path: &Found) -> Option<String> {
        let allowed = "the path of a readable file that holds the secret";
        let Value::String(name) = &path.value else {
            self.invalid(file_key, shown(&path.value), allowed);
            return None;
        };
        match std::fs::read_to_string(name) {
            Ok(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
            Ok(_) => {
                self.invalid(file_key, format!("{name:?}, which is empty"), allowed);
                None
            }
            Err(error) => {
                self.invalid(file_key, format!("{name:?}, which cannot be read ({error})"), allowed);
                None
            }
        }
    }

    /// What was read, whatever its faults.
    pub fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    /// Every secret that was read or looked for, with the faults of it.
    pub fn into_secrets(self) -> (Vec<Secret>, Vec<Fault>) {
        (self.secrets, self.faults)
    }

    /// The faults of what was read, without a word on what was not.
    pub fn into_faults(self) -> Faults {
        Faults(self.faults)
    }

    /// Calls whatever is left unknown, and gives the effective values or every fault, sorted by key.
    pub fn finish(mut self) -> Result<Vec<Entry>, Faults> {
        for (key, found) in &self.layers.values {
            let is_empty_section = found.value.as_table().is_some_and(toml::Table::is_empty)
                && self.known.iter().any(|known| known.starts_with(&format!("{key}.")));
            if !self.known.contains(key) && !is_empty_section {
                let advice = nearest(key, &self.known);
                self.faults.push(Fault {
                    key: key.clone(),
                    source: Some(found.source.clone()),
                    problem: Problem::Unknown { advice },
                });
            }
        }
        for name in &self.layers.single_underscore {
            let meant =
                self.known.iter().map(|key| variable(key)).find(|meant| meant.replace("__", "_") == *name);
            if let Some(meant) = meant {
                let advice = format!("did you mean {meant} (two underscores after the section)?");
                let problem = Problem::Unknown { advice };
                self.faults.push(Fault { key: name.clone(), source: None, problem });
            }
        }
        if self.faults.is_empty() {
            return Ok(self.entries);
        }
        self.faults.sort_by(|a, b| a.key.cmp(&b.key));
        Err(Faults(self.faults))
    }
}

/// A value as a fault shows it; long ones are cut.
pub(super) fn shown(value: &Value) -> String {
    let text = match value {
        Value::Datetime(datetime) => datetime.to_string(),
        value => serde_json::to_string(value).unwrap_or_else(|_| value.type_str().to_owned()),
    };
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn whole(found: &Found) -> Option<u64> {
    match &found.value {
        Value::Integer(number) => u64::try_from(*number).ok(),
        Value::String(text) if found.is_env() => text.trim().parse().ok(),
        _ => None,
    }
}

fn how_to_set(key: &str) -> String {
    format!("set {key} in the file or {} in the environment", variable(key))
}

fn how_to_set_secret(key: &str) -> String {
    let mut names = vec![variable(key)];
    names.extend(ALIASES.iter().filter(|alias| alias.key == key).map(|alias| alias.name.to_owned()));
    format!("set {} (or the same name with _FILE), or {key} in the file", names.join(" or "))
}
