//! What a release of a brake is decided on: read before it is asked for, shown, and sent along, so that an instance refuses it
//! once it is not so any more (ADR 47).

use serde_json::{Value, json};

use super::errors::moment;

/// What an instance showed of the brakes that a release ends.
pub(super) struct Shown<'a> {
    reading: &'a Value,
    brakes: Vec<&'a Value>,
}

impl<'a> Shown<'a> {
    /// Of the rows of an answer, those that the release ends.
    pub(super) fn of(reading: &'a Value, list: &str, ended: impl Fn(&Value) -> bool) -> Self {
        let rows = reading[list].as_array().map(Vec::as_slice).unwrap_or_default();
        Self { reading, brakes: rows.iter().filter(|row| ended(row)).collect() }
    }

    /// Puts it into a request. An instance of a version that numbers no change shows no epoch either, and compares neither.
    pub(super) fn carried_by(&self, request: &mut Value) {
        if self.reading["epoch"].is_i64() {
            let changes = self.brakes.iter().filter_map(|brake| brake["change"].as_i64());
            request["epoch"] = self.reading["epoch"].clone();
            request["change"] = json!(changes.max().unwrap_or(0));
        }
    }

    /// A line for each brake that is on, or that none is; `name` calls one as people do.
    pub(super) fn sentence(&self, is_on: impl Fn(&Value) -> bool, name: impl Fn(&Value) -> String) -> String {
        let on = self.brakes.iter().filter(|brake| is_on(brake)).map(|brake| {
            let text = |member: &str| brake[member].as_str();
            let (Some(who), Some(since)) = (text("who"), text("since")) else {
                return format!("{}: nobody is recorded as having set it", name(brake));
            };
            let until = text("until").map(|until| format!(", until {}", moment(until))).unwrap_or_default();
            let why = text("why").unwrap_or("-");
            format!("{}: set by {who} at {}{until}: {why}", name(brake), moment(since))
        });
        let lines: Vec<String> = on.collect();
        if lines.is_empty() { "Nothing is to be ended: it is off.".to_owned() } else { lines.join("\n") }
    }
}
