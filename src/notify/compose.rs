//! Items to one message, for people on a phone: what, how often, since when, who saw it; times in IST.

use chrono::{DateTime, FixedOffset, TimeDelta, Utc};

use super::event::Severity;
use crate::ledger::outbox::{Composed, Item};

/// The longest text of one item; the log and the API have it whole.
const TEXT_CHARS: usize = 400;
/// Items that are shown one by one.
const SHOWN: usize = 20;

fn ist(time: DateTime<Utc>) -> DateTime<FixedOffset> {
    let offset = FixedOffset::east_opt(5 * 3600 + 1800).expect("5 h 30 min is within a day");
    time.with_timezone(&offset)
}

/// A time as operators in India read it.
pub fn moment(time: DateTime<Utc>) -> String {
    ist(time).format("%d %b %Y %H:%M:%S IST").to_string()
}

fn clock(time: DateTime<Utc>) -> String {
    ist(time).format("%H:%M:%S").to_string()
}

/// A time span as people say it.
pub fn span(time: TimeDelta) -> String {
    let seconds = time.num_seconds().max(0);
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

fn clipped(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn name(item: &Item) -> String {
    match item.scope.as_str() {
        "" => item.error_type.clone(),
        scope => format!("{} {scope}", item.error_type),
    }
}

fn times(item: &Item) -> String {
    if item.occurrences > 1 { format!(" ×{}", item.occurrences) } else { String::new() }
}

/// `b1/check,b1/state,b2/check` as `b1, b2`.
fn members(seen_by: &str) -> String {
    let mut members: Vec<&str> =
        seen_by.split(',').map(|by| by.split('/').next().unwrap_or(by)).filter(|by| !by.is_empty()).collect();
    members.dedup();
    members.join(", ")
}

fn severity(item: &Item) -> Severity {
    item.severity.parse().unwrap_or(Severity::Info)
}

fn worst(items: &[Item]) -> Severity {
    items.iter().filter(|item| !item.recovered).map(severity).max().unwrap_or(Severity::Info)
}

/// Makes one message of all items.
pub fn compose(cluster: &str, items: &[Item], now: DateTime<Utc>) -> Composed {
    let severity = worst(items);
    let mut types: Vec<String> = items.iter().map(|item| item.error_type.clone()).collect();
    types.sort();
    types.dedup();
    let (subject, body) = match items {
        [item] => alone(cluster, item),
        items => together(cluster, items, now),
    };
    Composed { subject, body, severity: severity.as_str().to_owned(), types }
}

fn alone(cluster: &str, item: &Item) -> (String, String) {
    let by = members(&item.seen_by);
    if item.recovered {
        let subject = format!("[{cluster}] RECOVERED {}", name(item));
        let body = format!(
            "{subject}\nIt is over after {}{}. It was: {}\n{}, seen by {by}",
            span(item.at - item.since),
            occurred(item),
            clipped(&item.message, TEXT_CHARS),
            moment(item.at),
        );
        return (subject, body);
    }
    let subject = format!("[{cluster}] {} {}{}", item.severity.to_uppercase(), name(item), times(item));
    let since = if item.occurrences > 1 { format!(", since {}", clock(item.since)) } else { String::new() };
    let body = format!(
        "{subject}\n{}\n{}{since}, seen by {by}",
        clipped(&item.message, TEXT_CHARS),
        moment(item.at)
    );
    (subject, body)
}

fn occurred(item: &Item) -> String {
    match item.occurrences {
        1 => String::new(),
        n => format!(" and {n} occurrences"),
    }
}

fn together(cluster: &str, items: &[Item], now: DateTime<Utc>) -> (String, String) {
    let (over, mut current): (Vec<&Item>, Vec<&Item>) = items.iter().partition(|item| item.recovered);
    // What somebody has to act on comes first, and is never what there is no room for.
    current.sort_by_key(|item| std::cmp::Reverse(severity(item)));
    let count = match (current.len(), over.len()) {
        (n, 0) => format!("{n} notices"),
        (0, n) => format!("{n} recovered"),
        (n, m) => format!("{n} notices, {m} recovered"),
    };
    let subject = format!("[{cluster}] {} {count}", worst(items).as_str().to_uppercase());
    let mut body = format!("{subject}\n{}", moment(now));
    for item in current.iter().take(SHOWN) {
        let text = clipped(&item.message, TEXT_CHARS / 2);
        body += &format!(
            "\n- {}{}: {text} ({}, {})",
            name(item),
            times(item),
            clock(item.since),
            members(&item.seen_by)
        );
    }
    if current.len() > SHOWN {
        body += &format!("\n- and {} more: baton errors", current.len() - SHOWN);
    }
    for item in over.iter().take(SHOWN) {
        body += &format!(
            "\n- RECOVERED {} after {} ({})",
            name(item),
            span(item.at - item.since),
            members(&item.seen_by)
        );
    }
    if over.len() > SHOWN {
        body += &format!("\n- and {} more recovered", over.len() - SHOWN);
    }
    (subject, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        // 25 Nov 2026 08:42:00 UTC
        DateTime::from_timestamp(1_795_596_120 + second, 0).unwrap()
    }

    fn item(kind: &str, severity: &str, occurrences: i64, message: &str) -> Item {
        Item {
            error_type: kind.to_owned(),
            scope: String::new(),
            severity: severity.to_owned(),
            message: message.to_owned(),
            occurrences,
            since: at(0),
            at: at(75),
            seen_by: "b1/check,b2/check".to_owned(),
            recovered: false,
        }
    }

    // R: N9
    #[test]
    fn a_lone_error_says_what_when_and_who() {
        let composed = compose("baton", &[item("BROKER_ERROR", "error", 1, "the bridge is away")], at(80));
        let golden =
            "[baton] ERROR BROKER_ERROR\nthe bridge is away\n25 Nov 2026 14:13:15 IST, seen by b1, b2";
        assert_eq!(composed.body, golden);
        assert_eq!((composed.severity.as_str(), composed.types), ("error", vec!["BROKER_ERROR".to_owned()]));
        let many = compose("baton", &[item("BROKER_ERROR", "error", 100, "the bridge is away")], at(80));
        let golden = "[baton] ERROR BROKER_ERROR ×100\nthe bridge is away\n25 Nov 2026 14:13:15 IST, since 14:12:00, seen by b1, b2";
        assert_eq!(many.body, golden);
    }

    // R: N5, N10
    #[test]
    fn a_recovery_says_how_long_it_was() {
        let mut item = item("BROKER_ERROR", "error", 7, "the bridge is away");
        item.recovered = true;
        let golden = "[baton] RECOVERED BROKER_ERROR\nIt is over after 1 min 15 s and 7 occurrences. It was: the bridge is away\n\
             25 Nov 2026 14:13:15 IST, seen by b1, b2";
        let composed = compose("baton", &[item], at(80));
        assert_eq!((composed.body.as_str(), composed.severity.as_str()), (golden, "info"));
    }

    // R: N9
    #[test]
    fn different_errors_become_one_message_that_lists_type_and_count() {
        let mut state = item("OPERATIONAL_ERROR", "critical", 3, "stored state contradicts itself");
        state.scope = "VALIDATION_FAILED".to_owned();
        let mut over = item("DATABASE_ERROR", "error", 2, "PostgreSQL is away");
        over.recovered = true;
        let items = [item("BROKER_ERROR", "error", 12, "the bridge is away"), state, over];
        let golden = "[baton] CRITICAL 2 notices, 1 recovered\n25 Nov 2026 14:13:20 IST\n\
            - OPERATIONAL_ERROR VALIDATION_FAILED ×3: stored state contradicts itself (14:12:00, b1, b2)\n\
            - BROKER_ERROR ×12: the bridge is away (14:12:00, b1, b2)\n\
            - RECOVERED DATABASE_ERROR after 1 min 15 s (b1, b2)";
        assert_eq!(compose("baton", &items, at(80)).body, golden);
    }

    #[test]
    fn a_flood_of_items_stays_readable_and_hides_nothing_that_is_worse_than_what_it_shows() {
        let mut items: Vec<Item> = (0..200)
            .map(|number| {
                let mut item = item("FOREIGN_ORDER", "warning", 1, &"x".repeat(5000));
                item.scope = number.to_string();
                item
            })
            .collect();
        items.push(item("ORDER_IN_DOUBT", "error", 1, "whether the broker has it is not known"));
        items.push(item("FLAPPING", "critical", 1, "leadership was lost too often"));
        let composed = compose("baton", &items, at(80));
        let body = composed.body;
        assert_eq!(composed.severity, "critical");
        let shown: Vec<&str> = body.lines().skip(2).take(3).collect();
        let expected = ["- FLAPPING:", "- ORDER_IN_DOUBT:", "- FOREIGN_ORDER 0:"];
        assert!(shown.iter().zip(expected).all(|(line, begin)| line.starts_with(begin)), "{shown:?}");
        assert!(body.ends_with("- and 182 more: baton errors"), "{body}");
        assert!(body.chars().count() < 8000);
    }
}
