//! The table of properties in ARCHITECTURE.md names tests that exist, and each property has one that bears its name.

use std::collections::BTreeSet;
use std::path::Path;

/// The properties of the protocol, safety and liveness.
fn properties() -> impl Iterator<Item = String> {
    (1..=16).map(|number| format!("S{number}")).chain((1..=5).map(|number| format!("L{number}")))
}

/// The names of all functions in the repository's Rust files.
fn functions() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for folder in ["src", "tests", "ha", "benches"] {
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found);
    }
    found
}

fn collect(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            found.extend(text.split("fn ").skip(1).map(|rest| word(rest).to_owned()));
            // The model's tests are made by macros: `name: scenario;`.
            let listed = text.lines().filter_map(|line| line.trim().split_once(':'));
            found.extend(listed.map(|(name, _)| name).filter(|name| word(name) == *name).map(str::to_owned));
        }
    }
}

/// The identifier at the beginning.
fn word(text: &str) -> &str {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// The rows of the table, by property: the names in code style.
fn rows(text: &str) -> Vec<(String, Vec<String>)> {
    let known: BTreeSet<String> = properties().collect();
    let table = text.split("## Properties, each with its tests").nth(1).expect("the section is there");
    let table = table.split("\n## ").next().unwrap_or_default();
    let cells = table.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    cells
        .filter(|(property, _)| known.contains(*property))
        .map(|(property, rest)| {
            let names = rest.split('`').skip(1).step_by(2).map(str::to_owned);
            (property.to_owned(), names.collect())
        })
        .collect()
}

// R: S1, S16, L1, L5
#[test]
fn each_property_has_a_test_that_bears_its_name_and_every_test_it_names_exists() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/ARCHITECTURE.md")).unwrap();
    let (rows, functions) = (rows(&text), functions());
    let listed: Vec<&String> = rows.iter().map(|(property, _)| property).collect();
    assert_eq!(listed, properties().collect::<Vec<_>>().iter().collect::<Vec<_>>(), "one row each, in order");
    for (property, names) in &rows {
        let prefix = format!("{}_", property.to_lowercase());
        assert!(
            names.iter().any(|name| name.starts_with(&prefix)),
            "{property}: none of {names:?} is {prefix}…"
        );
        for name in names.iter().filter(|name| !name.contains(' ')) {
            assert!(functions.contains(name), "{property}: there is no test {name}");
        }
    }
}
