//! RUNBOOK.md, carried by the program itself: what to do is told by the version that is in trouble, without a network.
//!
//! `baton runbook NAME` prints a section, and every instance serves it at `/runbook/NAME`, which is where alerts point.

/// The whole text.
pub const TEXT: &str = include_str!("../RUNBOOK.md");

/// What stands before a section's name.
const HEADING: &str = "\n### ";
/// What begins the line that names a section's alerts.
const ALERTS: &str = "Alert: ";
/// What begins the line that names kinds of notifications which have no section of their own.
const NOTIFICATIONS: &str = "Notification: ";

/// One section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its anchor: a code in lower case, or the name of a situation.
    pub name: &'static str,
    /// Its text, the heading included.
    pub text: &'static str,
}

impl Section {
    /// The alerts that point here.
    pub fn alerts(&self) -> impl Iterator<Item = &'static str> {
        self.listed(ALERTS)
    }

    /// What a line of this beginning names.
    fn listed(&self, beginning: &str) -> impl Iterator<Item = &'static str> + use<> {
        let line = self.text.lines().find_map(|line| line.strip_prefix(beginning)).unwrap_or_default();
        // `NoLeader` (page), `Other` (ticket): every second piece stands in backticks.
        line.split('`').skip(1).step_by(2)
    }

    fn answers_to(&self, name: &str) -> bool {
        let plain = |text: &str| text.replace('_', "-").to_lowercase();
        plain(self.name) == plain(name)
            || self.alerts().any(|alert| alert.eq_ignore_ascii_case(name))
            || self.listed(NOTIFICATIONS).any(|kind| plain(kind) == plain(name))
    }
}

/// Every section, in the text's order.
pub fn sections() -> impl Iterator<Item = Section> {
    TEXT.match_indices(HEADING).map(|(at, _)| {
        let text = &TEXT[at + 1..];
        let end = ["\n### ", "\n## "].iter().filter_map(|next| text.find(next)).min().unwrap_or(text.len());
        let text = text[..end].trim_end();
        let name = text.lines().next().and_then(|line| line.strip_prefix("### ")).unwrap_or_default();
        Section { name: name.trim(), text }
    })
}

/// The section of an alert, a code, a kind of notification or a situation, by any way of writing it: `NoLeader`, `no-leader`,
/// `DATA_CORRUPT`.
///
/// Exactly that name comes first: there is a situation `no-leader` and a code `NO_LEADER`.
pub fn section(name: &str) -> Option<Section> {
    let exact = sections().find(|section| section.name == name || section.name == name.to_lowercase());
    exact.or_else(|| sections().find(|section| section.answers_to(name)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::domain::cash::REFUSED;
    use crate::health::warmth::Stale;
    use crate::notify::event::Kind;

    #[test]
    fn a_section_is_found_by_alert_code_and_anchor() {
        for (name, anchor) in [
            ("NoLeader", "no-leader"),
            ("noleader", "no-leader"),
            ("no-leader", "no-leader"),
            ("NO_LEADER", "no_leader"),
            ("DATA_CORRUPT", "data_corrupt"),
            ("data-corrupt", "data_corrupt"),
            ("ValidationFailed", "validation_failed"),
            ("STOP_NOT_WATCHED", "validation_failed"),
            ("stopped", "handover"),
        ] {
            assert_eq!(section(name).map(|section| section.name), Some(anchor), "{name}");
        }
        assert_eq!(section("no such thing"), None);
    }

    #[test]
    fn every_kind_of_notification_has_a_section() {
        for kind in Kind::ALL {
            assert!(section(kind.as_str()).is_some(), "baton runbook {kind}");
        }
    }

    /// Codes of problems as they stand in the source: what is written like one in `src/api`, and what others refuse with.
    fn codes() -> BTreeSet<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let sources = std::fs::read_dir(root.join("api")).unwrap().map(|entry| entry.unwrap().path());
        let mut found =
            BTreeSet::from([REFUSED, Stale::Redis.code(), Stale::Bridge.code()].map(str::to_owned));
        for source in sources.filter(|path| path.extension().is_some_and(|end| end == "rs")) {
            let text = std::fs::read_to_string(source).unwrap();
            let program = text.split("#[cfg(test)]").next().unwrap_or_default();
            let coded =
                |word: &&str| word.len() > 3 && word.chars().all(|c| c == '_' || c.is_ascii_uppercase());
            found.extend(program.split('"').filter(coded).map(str::to_owned));
        }
        let refusals = std::fs::read_to_string(root.join("ledger/signals.rs")).unwrap();
        let refused = refusals.split("Refusal::new(\"").skip(1).filter_map(|text| text.split('"').next());
        found.extend(refused.map(str::to_owned));
        // A setting of cargo's, and a sender that is not told apart.
        found.into_iter().filter(|word| word != "CARGO_PKG_VERSION" && word != "OTHER").collect()
    }

    #[test]
    fn every_problem_leads_to_a_section() {
        let (codes, names) = (codes(), sections().map(|section| section.name).collect::<Vec<_>>());
        assert!(codes.len() > 30, "{codes:?}");
        for code in codes {
            assert!(
                names.contains(&code.to_lowercase().as_str()),
                "RUNBOOK.md#{} is a dead link",
                code.to_lowercase()
            );
        }
    }

    #[test]
    fn a_section_ends_where_the_next_heading_begins() {
        let found: Vec<_> = sections().collect();
        assert!(found.len() > 30, "{}", found.len());
        let names: std::collections::BTreeSet<_> = found.iter().map(|section| section.name).collect();
        assert_eq!(names.len(), found.len(), "no two sections have one name");
        for section in found {
            assert!(section.text.starts_with(&format!("### {}", section.name)));
            assert_eq!(section.text.matches("\n## ").count(), 0, "{}", section.name);
            assert_eq!(section.text.matches("\n### ").count(), 0, "{}", section.name);
        }
    }

    #[test]
    fn every_section_has_what_an_operator_looks_for() {
        let parts = [
            "**Meaning**",
            "**Is money at risk now?**",
            "**First 60 seconds**",
            "**Diagnosis**",
            "**Mitigation**",
            "**What this will not do**",
            "**Verify**",
            "**Undo**",
            "**Last drilled**",
        ];
        for section in sections() {
            // A section may stand on another one's shoulders, and then says so.
            let text = section.text.split_whitespace().collect::<Vec<_>>().join(" ");
            if text.contains("Otherwise as [") {
                continue;
            }
            for part in parts {
                assert!(text.contains(part), "{} lacks {part}", section.name);
            }
        }
    }

    #[test]
    fn every_link_leads_to_a_section() {
        let names: Vec<&str> = sections().map(|section| section.name).collect();
        for (at, _) in TEXT.match_indices("](#") {
            let link = TEXT[at + 3..].split(')').next().unwrap_or_default();
            assert!(names.contains(&link), "there is no section {link}");
        }
    }
}
