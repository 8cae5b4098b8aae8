//! The nearest known key to one that is not known, so that a typo's cure stands beside it.

use std::collections::BTreeSet;

/// Says what was probably meant by `key`: a known key few edits away, one of the same name in another section,
/// or else the keys of its section, or else the sections.
pub(super) fn nearest(key: &str, known: &BTreeSet<String>) -> String {
    // A key with a colon is an alias's seat, which nobody writes.
    let known = || known.iter().filter(|candidate| !candidate.contains(':'));
    let close = known()
        .map(|candidate| (distance(key, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= 2.max(candidate.len() / 4))
        .min();
    if let Some((_, candidate)) = close {
        return format!("did you mean {candidate}?");
    }
    let last = key.rsplit('.').next().unwrap_or(key);
    if let Some(candidate) = known().find(|candidate| candidate.rsplit('.').next() == Some(last)) {
        return format!("did you mean {candidate}?");
    }
    let section = key.split('.').next().unwrap_or(key);
    let siblings: Vec<&str> =
        known().filter_map(|candidate| candidate.strip_prefix(section)?.strip_prefix('.')).collect();
    if siblings.is_empty() {
        let sections: BTreeSet<&str> = known().filter_map(|key| key.split('.').next()).collect();
        let sections: Vec<&str> = sections.into_iter().collect();
        format!("the sections are {}", sections.join(", "))
    } else {
        format!("the keys of [{section}] are {}", siblings.join(", "))
    }
}

/// Levenshtein's distance: single-character insertions, deletions and replacements.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> BTreeSet<String> {
        ["postgres.url", "postgres.pool_size", "redis.url", "http.listen"].map(str::to_owned).into()
    }

    #[test]
    fn a_typo_names_the_key_that_was_meant() {
        assert_eq!(nearest("postgres.ulr", &known()), "did you mean postgres.url?");
        assert_eq!(nearest("postgre.pool_size", &known()), "did you mean postgres.pool_size?");
    }

    #[test]
    fn a_key_in_the_wrong_section_names_the_right_one() {
        assert_eq!(nearest("server.listen", &known()), "did you mean http.listen?");
    }

    #[test]
    fn a_key_like_no_other_names_what_there_is() {
        assert_eq!(nearest("postgres.password", &known()), "the keys of [postgres] are pool_size, url");
        assert_eq!(nearest("whatever.it_is", &known()), "the sections are http, postgres, redis");
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
