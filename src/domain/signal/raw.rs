//! The body as a flat list of fields, each still raw JSON text.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use secrecy::SecretString;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Fields by name, and the names that came more than once: which of the two would count is anyone's guess.
pub(super) struct Fields<'a> {
    pub(super) values: BTreeMap<String, &'a RawValue>,
    pub(super) repeated: Vec<String>,
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Fields { values: BTreeMap::new(), repeated: Vec::new() };
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    if fields.values.insert(name.clone(), value).is_some() {
                        fields.repeated.push(name);
                    }
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// The body's `secret`, of senders that cannot set headers. None when there is none or the body is no JSON object.
pub fn secret_in_body(body: &[u8]) -> Option<SecretString> {
    let fields: Fields<'_> = serde_json::from_slice(body).ok()?;
    let secret: String = serde_json::from_str(fields.values.get("secret")?.get()).ok()?;
    Some(SecretString::from(secret))
}

/// The body with the value of every top-level `secret` replaced, fit to be stored; the rest is untouched.
///
/// A body that is no JSON object is returned as it is: it cannot have authenticated by its `secret`.
pub fn redacted(body: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(body);
    let Ok(Occurrences(values)) = serde_json::from_str::<Occurrences<'_>>(body) else {
        return text;
    };
    // Last first, so that the places of the earlier ones stay right.
    for value in values.iter().rev() {
        let start = value.get().as_ptr() as usize - body.as_ptr() as usize;
        text.to_mut().replace_range(start..start + value.get().len(), "\"***\"");
    }
    text
}

/// Every value of a field called `secret`, in order.
struct Occurrences<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Occurrences<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OccurrencesVisitor;
        impl<'de> Visitor<'de> for OccurrencesVisitor {
            type Value = Occurrences<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut values = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    if name == "secret" {
                        values.push(value);
                    }
                }
                Ok(Occurrences(values))
            }
        }
        deserializer.deserialize_map(OccurrencesVisitor)
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn the_secret_is_found_and_taken_out() {
        let body = r#"{"a":{"secret":"inner"}, "secret" : "s\"1" ,"b":[1,2],"secret":7}"#;
        assert_eq!(redacted(body), r#"{"a":{"secret":"inner"}, "secret" : "***" ,"b":[1,2],"secret":"***"}"#);
        let one = br#"{"secret":"s\u0031","x":1}"#;
        assert_eq!(secret_in_body(one).unwrap().expose_secret(), "s1");
        assert!(secret_in_body(b"[]").is_none());
        assert!(secret_in_body(b"{\"secret\":1}").is_none());
        assert_eq!(redacted("not json"), "not json");
    }
}
