//! Where each secret of a configuration is, for those who look after them: never what it is.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

use super::fault::Source;
use super::layers::Found;

/// A secret, or the lack of one.
#[derive(Clone, Debug)]
pub struct Secret {
    /// The dotted key.
    pub key: String,
    /// Who set it, or named its file.
    pub source: Source,
    /// The file that holds it, where one does.
    pub file: Option<PathBuf>,
    /// It has to be there.
    pub required: bool,
    /// What it is; none when it is not set or cannot be read.
    pub text: Option<SecretString>,
}

impl Secret {
    pub(super) fn unset(key: &str) -> Self {
        Self { key: key.to_owned(), source: Source::Default, file: None, required: false, text: None }
    }

    pub(super) fn file_of(found: &Found) -> Option<PathBuf> {
        found.value.as_str().map(PathBuf::from)
    }

    /// How long it is, so roughly that it helps nobody to guess it.
    pub fn length(&self) -> Option<&'static str> {
        let text = self.text.as_ref()?.expose_secret();
        Some(match text.len() {
            _ if text.contains("://") => "a URL",
            0..16 => "short: under 16 characters",
            16..32 => "16 to 31 characters",
            _ => "32 characters or more",
        })
    }
}
