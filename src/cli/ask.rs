//! What a verb asks of its operator: who they are, and to type what they mean.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Context, bail};

use super::output::{Colour, Output};
use crate::config::{Config, Inputs};

/// The operator's name: given, or the user's.
///
/// # Errors
/// Neither is there.
pub(super) fn operator(given: Option<&str>, inputs: &Inputs) -> anyhow::Result<String> {
    let name = given.or_else(|| inputs.env.get("USER").map(String::as_str)).filter(|name| !name.is_empty());
    Ok(name.context("say who you are with --operator NAME: it is kept in the audit log")?.to_owned())
}

/// Says what is about to be done on a cluster and has its name typed, unless `yes`; `mode` says whether its orders are real.
///
/// # Errors
/// The name was not typed, or there is nobody to ask.
pub(super) fn cluster(what: &str, name: &str, mode: &str, yes: bool, output: &Output) -> anyhow::Result<()> {
    put(&format!("{what} on cluster {name} ({mode})"), "the cluster's name", name, yes, output)
}

/// The same for a verb that opens the stores itself, of the cluster that it is configured for.
///
/// # Errors
/// As [`cluster`].
pub(super) fn configured(what: &str, config: &Config, yes: bool, output: &Output) -> anyhow::Result<()> {
    cluster(what, &config.cluster.name, config.broker.mode.as_str(), yes, output)
}

/// Says what is about to be done and has `word` typed, unless `yes`.
///
/// # Errors
/// The word was not typed, or there is nobody to ask.
pub(super) fn typed(question: &str, word: &str, yes: bool, output: &Output) -> anyhow::Result<()> {
    put(question, word, word, yes, output)
}

fn put(question: &str, called: &str, word: &str, yes: bool, output: &Output) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        bail!("{question}: add --yes to do it without being asked");
    }
    let question = output.paint(Colour::Bold, question);
    answered(&question, called, word, &mut io::stdin().lock(), &mut io::stderr().lock())
}

fn answered(
    question: &str,
    called: &str,
    word: &str,
    answer: &mut impl BufRead,
    shown: &mut impl Write,
) -> anyhow::Result<()> {
    write!(shown, "{question}.\nType {called} to do it: ")?;
    shown.flush()?;
    let mut typed = String::new();
    answer.read_line(&mut typed)?;
    if typed.trim() != word {
        bail!("nothing was done: {:?} is not {called}", typed.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_done_once_the_name_is_typed_and_not_by_anything_else() {
        let ask = |typed: &str| {
            let mut shown = Vec::new();
            let (what, called) = ("Set 2 values on cluster desk (live)", "the cluster's name");
            let answer = answered(what, called, "desk", &mut typed.as_bytes(), &mut shown);
            let question = "Set 2 values on cluster desk (live).\nType the cluster's name to do it: ";
            assert_eq!(String::from_utf8(shown).unwrap(), question);
            answer.map_err(|error| error.to_string())
        };
        assert_eq!(ask("desk\n"), Ok(()));
        assert_eq!(ask("  desk \n"), Ok(()));
        for other in ["", "\n", "yes\n", "repair\n", "Desk\n", "desk2\n"] {
            let refused = format!("nothing was done: {:?} is not the cluster's name", other.trim());
            assert_eq!(ask(other), Err(refused));
        }
    }
}
