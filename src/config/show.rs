//! The effective configuration for people and scripts: every key, its value, and who set it.

use serde::{Serialize, Serializer};

use super::fault::Source;

/// What stands in place of a secret that is set.
pub const HIDDEN: &str = "***";

/// One effective value. Secrets show as [`HIDDEN`]; a key that is optional and unset is null.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// The dotted key.
    pub key: String,
    /// The value in force.
    pub value: serde_json::Value,
    /// Who set it.
    #[serde(serialize_with = "as_text")]
    pub source: Source,
    /// The range of a number, with its unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed: Option<String>,
}

fn as_text<S: Serializer>(source: &Source, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(source)
}
