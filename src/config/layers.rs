//! The two layers over the defaults, file and environment, flattened to one map of dotted keys.
//!
//! `BATON_SECTION__KEY` sets `section.key`; a handful of names that platforms and the predecessors use are
//! accepted as [`ALIASES`]. An empty variable counts as unset, because compose files pass unset ones as empty.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Value;

use super::fault::{Error, Source};

/// The file that is read from the working directory when no other is named, if it is there.
pub const DEFAULT_FILE: &str = "baton.toml";

/// An environment variable accepted beside `BATON_SECTION__KEY`.
#[derive(Clone, Copy, Debug)]
pub struct Alias {
    /// The variable.
    pub name: &'static str,
    /// The key it sets.
    pub key: &'static str,
    /// Secrets are accepted as `NAME_FILE` too: a file that holds the text.
    pub secret: bool,
}

/// The names that platforms and the predecessors use. `PORT` stands apart: it sets the port of `http.listen`.
pub const ALIASES: &[Alias] = &[
    Alias { name: "ALLOW_AFTER_MARKET", key: "trading.allow_after_market", secret: false },
    Alias { name: "DATABASE_URL", key: "postgres.url", secret: true },
    Alias { name: "OPENALGO_API_KEY", key: "broker.api_key", secret: true },
    Alias { name: "OTEL_EXPORTER_OTLP_ENDPOINT", key: "traces.endpoint", secret: false },
    Alias { name: "PORT", key: PORT_KEY, secret: false },
    Alias { name: "REDIS_URL", key: "redis.url", secret: true },
    Alias { name: "TELEGRAM_BOT_TOKEN", key: "notify.telegram_bot_token", secret: true },
    Alias { name: "TELEGRAM_CHAT_ID", key: "notify.telegram_chat_id", secret: false },
];

/// Where the alias `PORT` is kept until `http.listen` is read; no file and no other variable can set it.
pub(super) const PORT_KEY: &str = "http.listen:port";

/// What a configuration is read from; the command line fills it from the process, tests by hand.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The file that was named; without one [`DEFAULT_FILE`] in the working directory, if it exists.
    pub file: Option<PathBuf>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// This machine's name: the default of `cluster.member`.
    pub hostname: String,
}

impl Inputs {
    /// Takes the process's environment and host name; `file` is what `--config` or `BATON_CONFIG` named.
    pub fn of_process(file: Option<PathBuf>) -> Self {
        // A variable whose name or text is not UTF-8 cannot be one of ours.
        let env: BTreeMap<_, _> = std::env::vars_os()
            .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)))
            .collect();
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname")
            .map(|text| text.trim().to_owned())
            .unwrap_or_default();
        Self { file, env, hostname }
    }
}

/// A value that somebody set.
#[derive(Clone)]
pub(super) struct Found {
    pub value: Value,
    pub source: Source,
}

impl Found {
    /// Environment variables are text; their numbers and booleans are read from it.
    pub fn is_env(&self) -> bool {
        matches!(self.source, Source::Env(_))
    }
}

/// Every value that file and environment set, by dotted key.
pub(super) struct Layers {
    pub values: BTreeMap<String, Found>,
    /// `BATON_…` variables without a double underscore: not read, but perhaps a slip for one that is.
    pub single_underscore: Vec<String>,
}

impl Layers {
    /// Nothing is set.
    pub fn none() -> Self {
        Self { values: BTreeMap::new(), single_underscore: Vec::new() }
    }

    /// Reads the file, then lays the environment over it.
    pub fn read(inputs: &Inputs) -> Result<Self, Error> {
        let mut layers = Self { values: BTreeMap::new(), single_underscore: Vec::new() };
        match &inputs.file {
            Some(path) => layers.add_file(path)?,
            None if Path::new(DEFAULT_FILE).exists() => layers.add_file(Path::new(DEFAULT_FILE))?,
            None => {}
        }
        layers.add_env(&inputs.env);
        Ok(layers)
    }

    fn add_file(&mut self, path: &Path) -> Result<(), Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::ReadFile { path: path.to_owned(), source })?;
        let table: toml::Table = toml::from_str(&text)
            .map_err(|source| Error::ParseFile { path: path.to_owned(), source: Box::new(source) })?;
        let source = Source::File(path.to_owned());
        self.flatten("", Value::Table(table), &source);
        Ok(())
    }

    fn flatten(&mut self, prefix: &str, value: Value, source: &Source) {
        match value {
            // An empty table stays as a leaf, so that a misspelt empty section is noticed too.
            Value::Table(table) if !table.is_empty() => {
                for (name, value) in table {
                    let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
                    self.flatten(&key, value, source);
                }
            }
            value => {
                if !prefix.is_empty() {
                    self.values.insert(canonical(prefix), Found { value, source: source.clone() });
                }
            }
        }
    }

    fn add_env(&mut self, env: &BTreeMap<String, String>) {
        for alias in ALIASES {
            self.add_variable(env, alias.name, alias.key);
            if alias.secret {
                self.add_variable(env, &format!("{}_FILE", alias.name), &format!("{}_file", alias.key));
            }
        }
        for name in env.keys() {
            let Some(rest) = name.strip_prefix("BATON_") else { continue };
            if rest.contains("__") {
                self.add_variable(env, name, &canonical(&rest.to_lowercase().replace("__", ".")));
            } else {
                self.single_underscore.push(name.clone());
            }
        }
    }

    fn add_variable(&mut self, env: &BTreeMap<String, String>, name: &str, key: &str) {
        if let Some(text) = env.get(name).filter(|text| !text.is_empty()) {
            let found = Found { value: Value::String(text.clone()), source: Source::Env(name.to_owned()) };
            self.values.insert(key.to_owned(), found);
        }
    }
}

/// Instruments are named in capitals (`GOLD_MINI`) while variables are lowered to keys: one spelling for both.
fn canonical(key: &str) -> String {
    match key.split_once('.') {
        Some(("instruments", rest)) => match rest.split_once('.') {
            Some((name, field)) => format!("instruments.{}.{field}", name.to_uppercase()),
            None => format!("instruments.{}", rest.to_uppercase()),
        },
        _ => key.to_owned(),
    }
}

/// The environment variable that sets a key.
pub(super) fn variable(key: &str) -> String {
    format!("BATON_{}", key.to_uppercase().replace('.', "__"))
}
