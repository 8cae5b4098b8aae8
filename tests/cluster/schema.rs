//! Answers held against the schemas of the interface's document, more strictly than a client would: an answer has no
//! member that its schema does not name.

use chrono::DateTime;
use rust_decimal::Decimal;
use serde_json::{Map, Value};
use uuid::Uuid;

/// What of JSON Schema the document uses; another word would go unchecked.
const KNOWN: [&str; 10] = [
    "$ref",
    "type",
    "enum",
    "format",
    "required",
    "properties",
    "additionalProperties",
    "items",
    "oneOf",
    "description",
];

/// What of `value` does not fit `schema`, each with its place.
pub fn faults(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    check(document, schema, value, "", &mut faults);
    faults
}

fn check(document: &Value, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
    let schema = resolved(document, schema);
    let words = schema.as_object().expect("a schema is an object");
    let strange = words.keys().find(|word| !KNOWN.contains(&word.as_str()));
    assert_eq!(strange, None, "the test does not know this word: {schema}");
    if let Some(kinds) = words.get("type").filter(|kinds| !is_of(kinds, value)) {
        return faults.push(format!("{at} is {value}, not {kinds}"));
    }
    if let Some(allowed) =
        words.get("enum").and_then(Value::as_array).filter(|allowed| !allowed.contains(value))
    {
        faults.push(format!("{at} is {value}, none of {allowed:?}"));
    }
    if let (Some(format), Some(text)) = (words.get("format"), value.as_str())
        && !has_format(format.as_str().expect("a format's name"), text)
    {
        faults.push(format!("{at} is {text:?}, no {format}"));
    }
    if let Some(ways) = words.get("oneOf").and_then(Value::as_array) {
        let misfits: Vec<_> = ways.iter().map(|way| self::faults(document, way, value)).collect();
        if misfits.iter().filter(|misfit| misfit.is_empty()).count() != 1 {
            faults.push(format!("{at} fits not exactly one of the ways: {misfits:?}"));
        }
    }
    match value {
        Value::Object(members) => check_members(document, words, members, at, faults),
        Value::Array(items) => {
            let Some(of) = words.get("items") else { return };
            for (index, item) in items.iter().enumerate() {
                check(document, of, item, &format!("{at}/{index}"), faults);
            }
        }
        _ => {}
    }
}

fn check_members(
    document: &Value,
    words: &Map<String, Value>,
    members: &Map<String, Value>,
    at: &str,
    faults: &mut Vec<String>,
) {
    if !words.contains_key("type") {
        // Its ways have said it.
        return;
    }
    let required = words.get("required").and_then(Value::as_array).into_iter().flatten();
    for name in required.filter_map(Value::as_str).filter(|name| !members.contains_key(*name)) {
        faults.push(format!("{at}/{name} is missing"));
    }
    for (name, member) in members {
        let at = format!("{at}/{name}");
        let named = words.get("properties").and_then(|properties| properties.get(name));
        match (named, words.get("additionalProperties")) {
            (Some(schema), _) => check(document, schema, member, &at, faults),
            (None, Some(Value::Bool(true))) => {}
            (None, Some(of @ Value::Object(_))) => check(document, of, member, &at, faults),
            (None, _) => faults.push(format!("{at} is not documented: {member}")),
        }
    }
}

/// What a reference refers to.
pub fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let Some(name) = value.get("$ref") else { return value };
    let pointer = name.as_str().and_then(|name| name.strip_prefix('#')).expect("a place in the document");
    document.pointer(pointer).unwrap_or_else(|| panic!("{name} is not there"))
}

fn is_of(kinds: &Value, value: &Value) -> bool {
    let is = |kind: &Value| match kind.as_str().expect("a kind's name") {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no kind: {other}"),
    };
    kinds.as_array().map_or_else(|| is(kinds), |kinds| kinds.iter().any(is))
}

fn has_format(format: &str, text: &str) -> bool {
    match format {
        "date-time" => DateTime::parse_from_rfc3339(text).is_ok(),
        "date" => text.parse::<chrono::NaiveDate>().is_ok(),
        "uuid" => Uuid::try_parse(text).is_ok(),
        "decimal" => text.parse::<Decimal>().is_ok(),
        other => panic!("the test does not know the format {other}"),
    }
}

#[test]
fn a_misfit_is_found() {
    use serde_json::json;

    let document = json!({ "components": { "schemas": { "Row": {
        "type": "object",
        "required": ["id", "at"],
        "properties": {
            "id": { "type": "integer" },
            "at": { "type": ["string", "null"], "format": "date-time" },
            "kind": { "type": "string", "enum": ["a", "b"] },
            "more": { "oneOf": [{ "$ref": "#/components/schemas/Row" }, { "type": "null" }] },
            "map": { "type": "object", "additionalProperties": { "type": "number" } },
        },
    } } } });
    let rows = json!({ "type": "array", "items": { "$ref": "#/components/schemas/Row" } });
    let misfits = |row: Value| faults(&document, &rows, &json!([row])).len();
    let good = json!({ "id": 1, "at": null, "kind": "a", "more": null, "map": { "x": 1.5 } });
    assert_eq!(misfits(good.clone()), 0);
    for (name, wrong) in [
        ("id", json!("1")),
        ("id", json!(1.5)),
        ("at", json!("noon")),
        ("kind", json!("c")),
        ("more", json!({ "id": 1 })),
        ("map", json!({ "x": "1.5" })),
        ("new", json!(1)),
    ] {
        let mut row = good.clone();
        row[name] = wrong;
        assert_eq!(misfits(row), 1, "{name}");
    }
    assert_eq!(misfits(json!({ "id": 1 })), 1);
    assert_eq!(faults(&document, &rows, &json!({})).len(), 1);
}
