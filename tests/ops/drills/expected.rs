//! What the runbook says that its commands print, held against what they printed.

use super::{fenced, named};

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

/// Asserts that a section's commands printed every line that the section shows, in its own blocks of text.
pub fn shown(section: &str, printed: &str) {
    let blocks = fenced(&named(section), "text");
    assert!(!blocks.is_empty(), "{section} shows what its commands print");
    let missing: Vec<&str> = blocks
        .iter()
        .flat_map(|block| block.lines())
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
