//! What can be wrong with a configuration: one [`Fault`] a key, all of them told at once.
//!
//! Whoever mends a configuration wants one list, not one restart per typo; so reading goes on after a fault and
//! [`Faults`] carries everything that was found.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// Where a value came from; later ones win: default, file, environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// An environment variable, by name.
    Env(String),
}

impl Source {
    /// The higher rank wins when a key is set in several places.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File(_) => 1,
            Self::Env(_) => 2,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.pad("default"),
            Self::File(path) => f.pad(&path.display().to_string()),
            Self::Env(name) => f.pad(name),
        }
    }
}

/// One thing that is wrong: the key, where it was set, what was found and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The dotted key, e.g. `timing.renew_ms`.
    pub key: String,
    /// Where the value was set; `None` when it was set nowhere.
    pub source: Option<Source>,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// No such key; the nearest known one, or the keys of its section.
    Unknown {
        /// What to write instead.
        advice: String,
    },
    /// A required key that nobody set.
    Missing {
        /// Every way to set it.
        advice: String,
    },
    /// A value of the wrong type, out of range, or at odds with another key.
    Invalid {
        /// What was found; never a secret's text.
        found: String,
        /// What would be accepted.
        allowed: String,
    },
    /// A value that the part of the program it is for refused, in that part's words.
    Refused {
        /// What is wrong and what to set instead.
        message: String,
    },
}

impl Problem {
    /// The stable name of the kind of fault: `unknown`, `missing` or `invalid`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "unknown",
            Self::Missing { .. } => "missing",
            Self::Invalid { .. } | Self::Refused { .. } => "invalid",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { advice } => write!(f, "unknown key; {advice}"),
            Self::Missing { advice } => write!(f, "missing; {advice}"),
            Self::Invalid { found, allowed } => write!(f, "found {found}; allowed: {allowed}"),
            Self::Refused { message } => f.write_str(message),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(source) = &self.source {
            write!(f, " (from {source})")?;
        }
        write!(f, ": {}", self.problem)
    }
}

/// A fault as `config check -o json` prints it.
#[derive(Serialize)]
struct FaultJson<'a> {
    key: &'a str,
    source: Option<String>,
    kind: &'static str,
    message: String,
}

impl Serialize for Fault {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        FaultJson {
            key: &self.key,
            source: self.source.as_ref().map(ToString::to_string),
            kind: self.problem.kind(),
            message: self.problem.to_string(),
        }
        .serialize(serializer)
    }
}

/// Every fault of a configuration, sorted by key; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "the configuration has {count} fault{}", if count == 1 { "" } else { "s" })?;
        for fault in &self.0 {
            write!(f, "\n  {fault}")?;
        }
        Ok(())
    }
}

/// Why a configuration could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file that was asked for cannot be read.
    #[error("cannot read the configuration file {}; give its path with --config or BATON_CONFIG", path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML, so nothing in it can be judged.
    #[error("{} is not valid TOML; mend the place named below, then run `baton config check`", path.display())]
    ParseFile {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// It was read, and these keys are wrong.
    #[error("{0}")]
    Faults(Faults),
}
