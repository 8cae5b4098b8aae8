//! No page without a drill: whoever is woken does what somebody has done before.

use baton::runbook::{Section, section, sections};

use super::blocks;
use super::expected::unshown;
use crate::watch::root;

/// Where the drills are.
const SOURCES: [&str; 16] = [
    include_str!("absent.rs"),
    include_str!("bridge.rs"),
    include_str!("commands.rs"),
    include_str!("entries.rs"),
    include_str!("installed.rs"),
    include_str!("links.rs"),
    include_str!("lost.rs"),
    include_str!("machines.rs"),
    include_str!("market.rs"),
    include_str!("members.rs"),
    include_str!("orders.rs"),
    include_str!("refusals.rs"),
    include_str!("restored.rs"),
    include_str!("state.rs"),
    include_str!("stores.rs"),
    include_str!("versions.rs"),
];

/// The alerts that wake somebody.
fn pages() -> Vec<String> {
    let rules = std::fs::read_to_string(root().join("ops/prometheus/rules.yml")).unwrap();
    let rules: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    let pages = rules.iter().filter(|rule| rule.contains("severity: page"));
    pages.filter_map(|rule| rule.lines().next()).map(|name| name.trim().to_owned()).collect()
}

/// The drills that a section names.
fn drills(section: &Section) -> Vec<&'static str> {
    let drilled = section.text.split("**Last drilled**").nth(1).unwrap_or_default();
    let names = drilled.split('`').skip(1).step_by(2);
    names.filter(|name| name.starts_with("drill_")).collect()
}

// R: H6
#[test]
fn every_alert_that_pages_has_a_drill_that_hears_it() {
    let pages = pages();
    assert!(pages.len() >= 13, "{pages:?}");
    for alert in pages {
        let section = section(&alert).unwrap_or_else(|| panic!("{alert} has a section"));
        let named = drills(&section);
        let compared = format!("shown(\"{}\"", section.name);
        assert!(
            SOURCES.iter().any(|text| text.contains(&compared)),
            "{alert} pages, but no drill holds what {} says is printed against what is",
            section.name
        );
        let source = SOURCES.iter().flat_map(|text| text.split("#[ignore").skip(1)).find(|test| {
            named.iter().any(|name| test.contains(&format!("async fn {name}()")))
                && test.contains(&format!("pager.hears(\"{alert}\")"))
        });
        assert!(
            source.is_some(),
            "{alert} pages, but no drill that its section ({}) names hears it: {named:?}",
            section.name
        );
    }
}

// R: H6, B12
#[test]
fn what_a_block_of_commands_prints_stands_below_it_and_is_compared() {
    for section in sections().filter(|section| !blocks(section).is_empty()) {
        let name = section.name;
        assert_eq!(unshown(&section), Vec::<String>::new(), "{name} does not show what these print");
        let compared = format!("shown(\"{name}\"");
        assert!(
            SOURCES.iter().any(|text| text.contains(&compared)),
            "no drill holds what {name} shows against it"
        );
    }
}
