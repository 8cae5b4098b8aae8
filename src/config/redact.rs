//! What keeps secrets out of what is shown to people: every text of a report, and of `/api/debug`, passes here.
//!
//! Two nets. What the configuration holds is known by its text and is replaced wherever it stands. What a report may hold of
//! secrets that nobody here knows (another member's, a former one's) is told by where it stands: behind a name such as
//! `token`, in a URL's user part, behind `Bearer`, in the path of a bot.

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::{HIDDEN, Secret};

/// Parts of names whose values are secrets, in lower case without `_` and `-`.
const NAMES: [&str; 7] = ["password", "passwd", "secret", "token", "apikey", "authorization", "cookie"];
/// What may stand between a name and its value: `token=x`, `"token": "x"`, `token: x`.
const BETWEEN: [char; 5] = ['"', '\'', ' ', ':', '='];
/// What ends a value that is not in quotes.
const ENDS: [char; 9] = ['"', '\'', ' ', ',', ';', '&', '}', ')', '\\'];

/// Knows secrets, and hides them; the default one knows none and tells them by where they stand.
#[derive(Default)]
pub struct Redactor {
    /// The longest first, so that none is found within another.
    known: Vec<SecretString>,
}

impl Redactor {
    /// Knows these secrets, the passwords within URLs included.
    pub fn of<'a>(secrets: impl Iterator<Item = &'a Secret>) -> Self {
        let mut texts: Vec<String> = Vec::new();
        for secret in secrets.filter_map(|secret| secret.text.as_ref()) {
            let text = secret.expose_secret();
            texts.push(text.to_owned());
            texts.extend(text.split(',').flat_map(|url| passwords(url.trim())));
        }
        texts.retain(|text| !text.is_empty() && text != HIDDEN);
        texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        texts.dedup();
        Self { known: texts.into_iter().map(SecretString::from).collect() }
    }

    /// The text without secrets; a line of JSON is read as JSON.
    pub fn text(&self, text: &str) -> String {
        let mut clean = String::with_capacity(text.len());
        for line in text.split_inclusive('\n') {
            match serde_json::from_str::<Value>(line) {
                Ok(value @ (Value::Object(_) | Value::Array(_))) => {
                    clean.push_str(&self.value(value).to_string());
                    clean.push('\n');
                }
                _ => clean.push_str(&self.line(line)),
            }
        }
        clean
    }

    /// The document without secrets.
    pub fn value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.line(&text)),
            Value::Array(items) => items.into_iter().map(|item| self.value(item)).collect(),
            Value::Object(fields) => {
                let clean = fields.into_iter().map(|(name, value)| {
                    let value = match value {
                        Value::String(_) if is_secret(&name) => Value::from(HIDDEN),
                        value => self.value(value),
                    };
                    (self.known(&name), value)
                });
                Value::Object(clean.collect())
            }
            plain => plain,
        }
    }

    fn line(&self, text: &str) -> String {
        bots(&bearers(&named(&urls(&self.known(text)))))
    }

    fn known(&self, text: &str) -> String {
        self.known.iter().fold(text.to_owned(), |text, secret| text.replace(secret.expose_secret(), HIDDEN))
    }
}

fn is_secret(name: &str) -> bool {
    let plain: String = name.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    let plain = plain.to_ascii_lowercase();
    NAMES.iter().any(|secret| plain.contains(secret))
}

/// The password of a URL as it stands there, or what stands for one without a name; and the same decoded.
fn passwords(url: &str) -> Vec<String> {
    let authority =
        url.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or(rest));
    let Some((user, _)) = authority.rsplit_once('@') else { return Vec::new() };
    let password = user.split_once(':').map_or(user, |(_, password)| password);
    vec![password.to_owned(), decoded(password)]
}

/// `%24` as `$`.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend(before.bytes());
        match after.get(..2).and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(b'%');
                rest = after;
            }
        }
    }
    bytes.extend(rest.bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Hides the passwords of URLs.
fn urls(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        clean.push_str(before);
        clean.push_str("://");
        let end = after.find(|c: char| c.is_whitespace() || "/?#\"'<>".contains(c)).unwrap_or(after.len());
        let (authority, behind) = after.split_at(end);
        match authority.rsplit_once('@') {
            Some((user, host)) => {
                let name = user.split_once(':').map_or("", |(name, _)| name);
                clean.push_str(&format!("{name}:{HIDDEN}@{host}"));
            }
            None => clean.push_str(authority),
        }
        rest = behind;
    }
    clean.push_str(rest);
    clean
}

/// Hides what stands behind a name of secrets and `:` or `=`.
fn named(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(end) = end_of_name(rest) {
        let (name, behind) = rest.split_at(end);
        clean.push_str(name);
        let between = behind.len() - behind.trim_start_matches(BETWEEN).len();
        let (gap, value) = behind.split_at(between);
        clean.push_str(gap);
        rest = value;
        if gap.contains([':', '=']) {
            let length = value.find(|c: char| c.is_control() || ENDS.contains(&c)).unwrap_or(value.len());
            // `Authorization: Bearer x` has its value behind the word.
            let word = &value[..length];
            if length > 0 && !word.eq_ignore_ascii_case("bearer") && !word.eq_ignore_ascii_case("basic") {
                clean.push_str(HIDDEN);
                rest = &value[length..];
            }
        }
    }
    clean.push_str(rest);
    clean
}

/// Where the first word of `text` ends that is a name of secrets.
fn end_of_name(text: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let begin = from + text[from..].find(|c: char| c.is_ascii_alphanumeric())?;
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let end = text[begin..].find(|c| !is_part(c)).map_or(text.len(), |length| begin + length);
        if is_secret(&text[begin..end]) {
            return Some(end);
        }
        from = end;
    }
}

/// Hides what stands behind `Bearer` and `Basic`.
fn bearers(text: &str) -> String {
    let mut words = text.split_inclusive(' ');
    let mut clean = String::with_capacity(text.len());
    while let Some(word) = words.next() {
        clean.push_str(word);
        let plain = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        if word.ends_with(' ')
            && (plain.eq_ignore_ascii_case("bearer") || plain.eq_ignore_ascii_case("basic"))
        {
            let Some(next) = words.next() else { break };
            let length = next.find(|c: char| c.is_whitespace() || "\"',;".contains(c)).unwrap_or(next.len());
            clean.push_str(if length > 0 { HIDDEN } else { "" });
            clean.push_str(&next[length..]);
        }
    }
    clean
}

/// Hides the tokens of Telegram's bots: `123456789:AA…`.
fn bots(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(':') {
        let digits = rest[..at].len() - rest[..at].trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let behind = &rest[at + 1..];
        let length = behind.find(|c| !is_part(c)).unwrap_or(behind.len());
        if digits >= 6 && length >= 30 {
            clean.push_str(&rest[..at - digits]);
            clean.push_str(HIDDEN);
            rest = &behind[length..];
        } else {
            clean.push_str(&rest[..=at]);
            rest = behind;
        }
    }
    clean.push_str(rest);
    clean
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::{Inputs, secrets};

    fn redactor(env: &[(&str, &str)]) -> Redactor {
        let env = env.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let inputs = Inputs { env, ..Inputs::default() };
        Redactor::of(secrets(&inputs).unwrap().iter().map(|(secret, _)| secret))
    }

    #[test]
    fn what_the_configuration_holds_is_hidden_wherever_it_stands() {
        let redactor = redactor(&[
            ("BATON_SIGNALS__TOKEN", "hush-hush"),
            ("DATABASE_URL", "postgres://baton:pa%24s@db:5432/baton"),
            ("BATON_REDIS__SENTINELS", "redis://:one-word@s1:26379, redis://:other@s2:26379"),
        ]);
        for secret in ["hush-hush", "pa%24s", "pa$s", "one-word", "other"] {
            let line = redactor.text(&format!("it said {secret}, twice {secret}\n"));
            assert_eq!(line, "it said ***, twice ***\n");
            let document = redactor.value(json!({ "deep": [{ secret: secret }] }));
            assert_eq!(document, json!({ "deep": [{ "***": "***" }] }));
        }
    }

    #[test]
    fn secrets_that_nobody_here_knows_are_told_by_where_they_stand() {
        let redactor = redactor(&[]);
        for (text, clean) in [
            ("GET http://b1/x?apikey=abc&y=1 200", "GET http://b1/x?apikey=***&y=1 200"),
            ("connect postgres://me:pw@db/baton failed", "connect postgres://me:***@db/baton failed"),
            ("redis://:pw@r:6379, redis://t0ken@r", "redis://:***@r:6379, redis://:***@r"),
            ("Authorization: Bearer abc.def-1 sent", "Authorization: Bearer *** sent"),
            ("with bearer abc, again", "with bearer ***, again"),
            ("BATON_SIGNALS__TOKEN=abc BATON_X=1", "BATON_SIGNALS__TOKEN=*** BATON_X=1"),
            ("password: 'abc' and token = \"def\"", "password: '***' and token = \"***\""),
            (
                "POST https://api.telegram.org/bot123456789:AAabcdefghijklmnopqrstuvwxyz012345/getMe",
                "POST https://api.telegram.org/bot***/getMe",
            ),
        ] {
            assert_eq!(redactor.text(text), clean);
        }
        let line =
            "{\"level\":\"INFO\",\"fields\":{\"api_key\":\"abc\",\"url\":\"http://u:p@h/\"},\"tokens\":3}\n";
        assert_eq!(
            serde_json::from_str::<Value>(&redactor.text(line)).unwrap(),
            json!({ "level": "INFO", "fields": { "api_key": "***", "url": "http://u:***@h/" }, "tokens": 3 })
        );
    }

    #[test]
    fn what_is_no_secret_stays_as_it_is() {
        let redactor = redactor(&[]);
        for text in [
            "2026-08-10T09:15:00Z b1 leads, epoch 17: 212 ms without a leader\n",
            "the token was refused; see RUNBOOK.md#auth",
            "12:30:00 é ✓ http://127.0.0.1:8080/leader answered 503",
            "",
        ] {
            assert_eq!(redactor.text(text), text);
        }
    }
}
