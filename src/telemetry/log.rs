//! Log lines go to stderr, so that stdout stays free for what a command answers.
//!
//! Text for people or one JSON object a line for collectors; the level comes from the configuration, and `RUST_LOG`
//! overrides it for one run without a change to any file.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `RUST_LOG` or `log.level` is no filter.
    #[error("{name} = {text:?} is no log filter; write a level such as info, or info,baton::broker=debug")]
    Filter {
        /// Which setting it was.
        name: &'static str,
        /// Its text.
        text: String,
        /// The parser's reason.
        source: tracing_subscriber::filter::ParseError,
    },
    /// A subscriber is installed already.
    #[error("logging is set up already; call it once, first in main")]
    Installed,
}

/// Installs the process-wide subscriber.
///
/// # Errors
/// The filter does not parse, or a subscriber is installed already.
pub fn init(log: &Log) -> Result<(), Error> {
    let (name, text) = match std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty()) {
        Some(text) => ("RUST_LOG", text),
        None => ("log.level", log.level.clone()),
    };
    // The migration library tells at info what we say better; a directive of the operator's own comes later and wins.
    let quiet = format!("refinery_core=warn,{text}");
    let filter = EnvFilter::builder().parse(&quiet).map_err(|source| Error::Filter { name, text, source })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = match log.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).try_init(),
    };
    installed.map_err(|_| Error::Installed)
}

/// Says whether `text` is a log filter: a level or a list of directives.
pub fn is_filter(text: &str) -> bool {
    // The parser takes a bare word for a target's name; alone, it is a misspelt level.
    let bare_word = !text.contains(['=', ',']);
    let is_level = text.eq_ignore_ascii_case("off") || text.parse::<tracing::Level>().is_ok();
    !text.trim().is_empty() && (is_level || !bare_word) && EnvFilter::builder().parse(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_level_or_directives_but_no_misspelt_level() {
        for filter in ["info", "WARN", "off", "info,baton::broker=debug", "baton=trace"] {
            assert!(is_filter(filter), "{filter}");
        }
        for other in ["", " ", "inof", "verbose", "baton=loud", "info,baton=loud"] {
            assert!(!is_filter(other), "{other:?}");
        }
    }
}
