//! `baton completions` and `baton man`: the tree of verbs as shell completions and manual pages.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::Cli;
use super::output::Output;

/// For which shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  baton completions bash > /etc/bash_completion.d/baton
  source <(baton completions zsh)")]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Shell,
}

/// Where the pages go.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  baton man | man -l -
  baton man /usr/local/share/man/man1")]
pub struct ManArgs {
    /// A folder for one page a verb; without it the page of baton itself is printed.
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Prints the completions.
///
/// # Errors
/// Stdout cannot be written to.
pub fn completions(args: &CompletionsArgs, output: &Output) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "baton", &mut text);
    output.line(String::from_utf8_lossy(&text).trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the page of `baton`, or writes one page a verb.
///
/// # Errors
/// A page, or stdout, cannot be written to.
pub fn man(args: &ManArgs, output: &Output) -> anyhow::Result<ExitCode> {
    let command = Cli::command();
    let Some(dir) = &args.dir else {
        output.line(String::from_utf8_lossy(&page(command)?).trim_end())?;
        return Ok(ExitCode::SUCCESS);
    };
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    clap_mangen::generate_to(command.disable_help_subcommand(true), dir)
        .with_context(|| format!("cannot write into {}", dir.display()))?;
    output.line(format!("wrote the pages into {}", dir.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn page(command: clap::Command) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    Man::new(command).render(&mut text)?;
    Ok(text)
}
