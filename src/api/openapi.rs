//! The interface as an OpenAPI 3.1 document, for people and for the tools that make clients from it.
//!
//! It is kept by hand beside the routes: most answers are made as JSON, of which nothing can be derived.
//! `tests/cluster/openapi.rs` holds it against a real instance: every route with its methods is in it and nothing else, and
//! what is answered has the members, and only those, that it names.

use axum::response::{IntoResponse, Response};
use http::header;

/// The document.
pub const TEXT: &str = include_str!("openapi.json");

/// Answers with it.
pub async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], TEXT).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::api::routes;

    fn parsed() -> Value {
        serde_json::from_str(TEXT).unwrap()
    }

    // R: K2; LESSONS "endpoints documented but absent"
    #[test]
    fn every_route_is_documented_and_nothing_else() {
        let served = routes().paths;
        let document = parsed();
        let documented: BTreeSet<&str> =
            document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(served.iter().copied().collect::<BTreeSet<_>>(), documented);
        assert_eq!(served.len(), documented.len(), "a route is there twice");
    }

    /// Everything that a document refers to.
    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn the_document_is_whole() {
        let document = parsed();
        assert_eq!(document["openapi"], "3.1.0");
        let mut named = BTreeSet::new();
        references(&document, &mut named);
        for name in &named {
            let there = name.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
            assert!(there.is_some(), "{name} is not there");
        }
        for part in ["schemas", "responses", "parameters"] {
            for name in document["components"][part].as_object().unwrap().keys() {
                let name = format!("#/components/{part}/{name}");
                assert!(named.contains(name.as_str()), "{name} is used by nothing");
            }
        }
        for (path, verbs) in document["paths"].as_object().unwrap() {
            for (verb, operation) in verbs.as_object().unwrap() {
                let which = format!("{verb} {path}");
                assert!(operation["summary"].as_str().is_some_and(|text| text.ends_with('.')), "{which}");
                assert_eq!(
                    operation["responses"]["default"]["$ref"], "#/components/responses/Problem",
                    "{which}"
                );
                let in_path = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
                let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
                let told = parameters.iter().filter(|parameter| parameter["in"] == "path");
                let told: Vec<&str> = told.map(|parameter| parameter["name"].as_str().unwrap()).collect();
                assert_eq!(told, in_path.collect::<Vec<_>>(), "{which}");
            }
        }
    }
}
