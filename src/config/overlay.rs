//! Sections whose types belong to the domain: read key by key through serde, without repeating their fields here.
//!
//! The type's own default, serialised, says which keys there are and what they are worth unset. Each key that was
//! set is put into that tree by itself and the tree is read back: what fails is that key's fault alone, so serde,
//! which stops at its first error, still gives the whole list.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::layers::Found;
use super::reader::{Reader, shown};

/// Reads `section` as a `T`; what nobody set keeps `T`'s default, and a key that is optional is lifted by "none".
pub(super) fn read<T: Serialize + DeserializeOwned + Default>(reader: &mut Reader, section: &str) -> T {
    let default = serde_json::to_value(T::default()).unwrap_or_default();
    let mut tree = default.clone();
    for path in leaves(&default) {
        let key = format!("{section}.{path}");
        if let Some(found) = reader.take(&key) {
            let fits = |value: Json| {
                let mut alone = default.clone();
                put(&mut alone, &path, value);
                serde_json::from_value::<T>(alone).map(drop)
            };
            match first_that_fits(&found, fits) {
                Ok(value) => put(&mut tree, &path, value),
                Err(expected) => reader.invalid(&key, shown(&found.value), expected),
            }
        }
        let value = at(&tree, &path).cloned().unwrap_or_default();
        reader.note(&key, value);
    }
    serde_json::from_value(tree).unwrap_or_else(|error| {
        // Each value fits by itself, so this type ties one to another; silence would mean trading on defaults.
        reader.refused(section, format!("its settings do not fit together ({error}); change one back"));
        T::default()
    })
}

/// The first way to read a value that `fits`, or what was expected. Environment variables are text, so theirs may
/// also be a number, a boolean or nothing.
pub(super) fn first_that_fits(
    found: &Found,
    fits: impl Fn(Json) -> Result<(), serde_json::Error>,
) -> Result<Json, String> {
    let value = serde_json::to_value(&found.value).unwrap_or_default();
    let mut candidates = vec![value.clone()];
    if let toml::Value::Datetime(time) = &found.value {
        candidates.push(Json::String(time.to_string()));
    }
    if let Json::String(text) = &value {
        if text == "none" {
            candidates.push(Json::Null);
        }
        if let Some(scalar) = serde_json::from_str(text).ok().filter(|_| found.is_env()) {
            candidates.push(scalar);
        }
    }
    let mut expected = None;
    for candidate in candidates {
        match fits(candidate.clone()) {
            Ok(()) => return Ok(candidate),
            Err(error) => expected = expected.or(Some(expectation(&error))),
        }
    }
    Err(expected.unwrap_or_default())
}

/// What serde expected, in an operator's words.
fn expectation(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let expected = message.rsplit_once("expected ").map_or(message.as_str(), |(_, expected)| expected);
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "i64" => "a whole number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        // What chrono says of a day.
        text if ["date string", "input contains", "end of input", "input is out of range"]
            .iter()
            .any(|words| text.contains(words)) =>
        {
            "a day such as 2026-04-01".to_owned()
        }
        text if text.contains("Decimal") => "a number such as 0.5, or the same as text".to_owned(),
        text => text.replace('`', "\""),
    }
}

/// The dotted paths of a tree's values: its own first, then those of its branches, as TOML wants them written.
pub(super) fn leaves(tree: &Json) -> Vec<String> {
    let Json::Object(fields) = tree else { return Vec::new() };
    let own = fields.iter().filter(|(_, value)| !value.is_object()).map(|(name, _)| name.clone());
    let branches = fields.iter().filter(|(_, value)| value.is_object());
    let deeper = branches
        .flat_map(|(name, branch)| leaves(branch).into_iter().map(move |path| format!("{name}.{path}")));
    own.chain(deeper).collect()
}

fn at<'a>(tree: &'a Json, path: &str) -> Option<&'a Json> {
    path.split('.').try_fold(tree, |tree, name| tree.get(name))
}

fn put(tree: &mut Json, path: &str, value: Json) {
    let target = path.split('.').try_fold(tree, |tree, name| tree.get_mut(name));
    if let Some(target) = target {
        *target = value;
    }
}
