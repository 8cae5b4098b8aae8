//! What the runbook says that its commands print, held against what they printed.

use baton::runbook::Section;

use super::{AWAY, blocks, fences, named};

/// True when a line is as a pattern has it: in any spacing, with `…` for anything.
fn is_like(line: &str, pattern: &str) -> bool {
    let spaced = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (line, pattern) = (spaced(line), spaced(pattern));
    let mut pieces = pattern.split('…');
    let Some(mut rest) = line.strip_prefix(pieces.next().unwrap_or_default()) else { return false };
    let mut open = false;
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
        open = piece.is_empty();
    }
    open || rest.is_empty()
}

/// What a section shows as printed, each block of it with the commands that stand above.
fn shows(section: &Section) -> Vec<(String, String)> {
    let mut above = String::new();
    let mut found = Vec::new();
    for (kind, text) in fences(section) {
        if kind == "text" { found.push((above.clone(), text)) } else { above = text }
    }
    found
}

/// Blocks of a section's commands below which nothing shows what they print.
pub fn unshown(section: &Section) -> Vec<String> {
    let shows = shows(section);
    blocks(section).into_iter().filter(|block| shows.iter().all(|(above, _)| above != block)).collect()
}

/// Asserts that a section's commands printed every line that the section shows, what is for PostgreSQL's absence apart.
pub fn shown(section: &str, printed: &str) {
    holds(section, printed, |above| !above.starts_with(AWAY));
}

/// Asserts that one block of a section's commands printed every line that the section shows below it.
pub fn shown_below(section: &str, commands: &str, printed: &str) {
    holds(section, printed, |above| above == commands);
}

fn holds(section: &str, printed: &str, is_meant: impl Fn(&str) -> bool) {
    let mut shows = shows(&named(section));
    shows.retain(|(above, _)| is_meant(above));
    assert!(!shows.is_empty(), "{section} shows what its commands print");
    let missing: Vec<&str> = shows
        .iter()
        .flat_map(|(_, text)| text.lines())
        .filter(|pattern| !printed.lines().any(|line| is_like(line, pattern)))
        .collect();
    assert!(missing.is_empty(), "{section} shows {missing:#?}, but its commands printed:\n{printed}");
}

#[test]
fn a_line_is_compared_in_any_spacing_and_dots_stand_for_anything() {
    for (line, pattern, alike) in [
        ("     2 | b1  |  1234 ", "… | b1 | …", true),
        ("     2 | b1  |  1234 ", "2 | b1 | 1234", true),
        ("     2 | b1  |  1234 ", "2 | b1", false),
        ("baton_leader 1", "baton_leader …", true),
        ("baton_leader 1", "baton_leader 0", false),
        ("baton_leader_epoch 1", "leader_epoch …", false),
        ("a b c", "a … d", false),
    ] {
        assert_eq!(is_like(line, pattern), alike, "{line:?} {pattern:?}");
    }
}
