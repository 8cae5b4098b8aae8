//! What a verb that opens the stores itself asks of its operator: who they are, and to type what they mean.

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, bail};

use super::output::{Colour, Output};
use crate::config::Inputs;

/// The operator's name: given, or the user's.
///
/// # Errors
/// Neither is there.
pub(super) fn operator(given: Option<&str>, inputs: &Inputs) -> anyhow::Result<String> {
    let name = given.or_else(|| inputs.env.get("USER").map(String::as_str)).filter(|name| !name.is_empty());
    Ok(name.context("say who you are with --operator NAME: it is kept in the audit log")?.to_owned())
}

/// Says what is about to be done and has `word` typed, unless `yes`.
///
/// # Errors
/// The word was not typed, or there is nobody to ask.
pub(super) fn typed(question: &str, word: &str, yes: bool, output: &Output) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        bail!("{question}: add --yes to do it without being asked");
    }
    let mut stderr = io::stderr().lock();
    write!(stderr, "{}.\nType {word} to do it: ", output.paint(Colour::Bold, question))?;
    stderr.flush()?;
    let mut typed = String::new();
    io::stdin().read_line(&mut typed)?;
    if typed.trim() != word {
        bail!("nothing was done: {:?} is not {word}", typed.trim());
    }
    Ok(())
}
