//! `baton secrets check`: where each secret is and who can read it, never what it is.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
use serde::Serialize;

use super::output::{Cell, Colour, Output};
use crate::config::{self, Fault, Inputs, Secret, Source};

/// Permission bits of everybody who is neither the owner nor of the file's group.
const OTHERS: u32 = 0o007;

/// What to do with secrets.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Verb {
    /// Look where each secret is set, whether it can be read, and by whom; its text is never shown.
    #[command(
        after_help = "Exit codes: 0 what is needed is there and read by nobody else, 1 something is missing, cannot be read, or
lies in a file that everybody may read.

Examples:
  baton secrets check
  baton secrets check -o json | jq '.[] | select(.ok == false)'"
    )]
    Check,
}

/// What is known of a secret.
#[derive(Serialize)]
struct Known {
    key: String,
    set: bool,
    required: bool,
    /// The variable or the configuration file that sets it, or names its file.
    source: Option<String>,
    /// The file that holds it.
    file: Option<String>,
    /// That file's permissions, as `chmod` takes them.
    mode: Option<String>,
    length: Option<&'static str>,
    ok: bool,
    /// What is wrong, or worth a thought.
    remark: Option<String>,
}

/// Looks at the secrets.
///
/// # Errors
/// The configuration file cannot be read or is no TOML; stdout cannot be written to.
pub fn run(_verb: Verb, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let secrets = config::secrets(inputs)?;
    let known: Vec<Known> = secrets.iter().map(|(secret, fault)| known(secret, fault.as_ref())).collect();
    let code = if known.iter().all(|secret| secret.ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if output.is_json() {
        output.json(&known)?;
        return Ok(code);
    }
    let rows: Vec<Vec<Cell>> = known.iter().map(row).collect();
    output.table(&["SECRET", "STATE", "SET BY", "FILE", "MODE", "LENGTH", "REMARK"], &rows)?;
    Ok(code)
}

fn known(secret: &Secret, fault: Option<&Fault>) -> Known {
    let set = secret.text.is_some();
    let source = Some(&secret.source).filter(|source| **source != Source::Default).map(ToString::to_string);
    // A secret that stands in the configuration file itself lies in that file.
    let holder = secret.file.as_deref().or(match &secret.source {
        Source::File(path) => Some(path.as_path()),
        Source::Default | Source::Env(_) => None,
    });
    let mode = holder.map(mode);
    let open = match &mode {
        Some(Ok(mode)) if set && mode & OTHERS != 0 => Some(format!(
            "everybody on this machine may read it: chmod {:o} {}",
            mode & !OTHERS,
            shown(holder)
        )),
        _ => None,
    };
    let short = secret.length().filter(|length| length.starts_with("short"));
    let short = short.map(|_| "short enough to be guessed, unless it is limited otherwise".to_owned());
    let wrong = fault.map(|fault| fault.problem.to_string()).or(open);
    Known {
        key: secret.key.clone(),
        set,
        required: secret.required,
        source,
        file: holder.map(|path| path.display().to_string()),
        mode: mode.and_then(Result::ok).map(|mode| format!("{mode:03o}")),
        length: secret.length(),
        ok: wrong.is_none(),
        remark: wrong.or(short),
    }
}

fn mode(path: &Path) -> io::Result<u32> {
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o777)
}

fn shown(path: Option<&Path>) -> String {
    path.map(|path| path.display().to_string()).unwrap_or_default()
}

fn row(secret: &Known) -> Vec<Cell> {
    let state = match (secret.ok, secret.set) {
        (true, true) => Cell::of("set").in_colour(Colour::Green),
        (true, false) => Cell::of("not set").in_colour(Colour::Dim),
        (false, true) => Cell::of("WRONG").in_colour(Colour::Red),
        (false, false) => Cell::of("MISSING").in_colour(Colour::Red),
    };
    let text = |text: &Option<String>| Cell::of(text.as_deref().unwrap_or("-"));
    vec![
        Cell::of(&secret.key),
        state,
        text(&secret.source),
        text(&secret.file),
        text(&secret.mode),
        Cell::of(secret.length.unwrap_or("-")),
        Cell::of(secret.remark.as_deref().unwrap_or("")),
    ]
}
