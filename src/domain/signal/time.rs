//! Times of a signal: RFC 3339, or naive and then Indian Standard Time.

use chrono::{DateTime, FixedOffset, NaiveDateTime, Utc};

/// India's offset, the same all year.
const IST_SECONDS: i32 = 5 * 3600 + 30 * 60;

/// Reads a naive date and time as Indian Standard Time.
pub(crate) fn from_ist(naive: NaiveDateTime) -> Option<DateTime<Utc>> {
    let offset = FixedOffset::east_opt(IST_SECONDS)?;
    naive.and_local_timezone(offset).single().map(|time| time.to_utc())
}

/// Reads a time; none when it is neither RFC 3339 nor `YYYY-MM-DD[T ]HH:MM[:SS[.fff]]`.
pub(super) fn time(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    if text.len() > 40 {
        return None;
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.to_utc());
    }
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .and_then(from_ist)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn naive_times_are_indian() {
        let expected = time("2025-11-28T05:00:00Z");
        assert!(expected.is_some());
        for text in [
            "2025-11-28T10:30:00",
            "2025-11-28 10:30:00.000",
            "2025-11-28 10:30",
            "2025-11-28T10:30:00+05:30",
        ] {
            assert_eq!(time(text), expected, "{text}");
        }
        for text in ["", "yesterday", "2025-13-01T00:00:00Z", "2025-02-30 10:00", "1764300000", "10:30"] {
            assert_eq!(time(text), None, "{text}");
        }
    }
}
