//! `baton report`: what somebody who helps has to know of a cluster, in one folder, without secrets.

mod gather;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use chrono::Utc;
use serde_json::json;

use super::call::Target;
use super::output::{Colour, Output};
use crate::config::{self, Inputs, Redactor};
use gather::Folder;

/// `baton report`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Asks the cluster and every instance that it names, whatever of it still answers; what does not is noted. Written:
the cluster, health, checks and metrics of each instance, who led when, states, events, errors, switches, strategies,
signals, orders, positions and their drift; the configuration with its fingerprint, every secret as ***; versions of program and
machine; the ends of the log files that --log names. Nothing is sent anywhere. Secrets are taken out of everything, but read
it before you pass it on: it tells what is traded.

Exit codes: 0 written, 1 written but no instance answered, or not written.

Examples:
  baton report
  baton report --address http://b1:8080,http://b2:8080 --log /var/log/baton/b1.log
  baton report --into /tmp/for-support && tar -C /tmp -czf for-support.tar.gz for-support"
)]
pub struct Args {
    /// Where the cluster is found.
    #[command(flatten)]
    target: Target,
    /// The folder to make; by default baton-report-TIME in this one.
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Log files, of which the end is taken.
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    log: Vec<PathBuf>,
    /// How many lines of each.
    #[arg(long, default_value_t = 2000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    lines: u32,
}

/// Writes the folder.
///
/// # Errors
/// The configuration file cannot be read, or the folder cannot be made or written to.
pub async fn run(args: Args, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let now = Utc::now();
    let dir =
        args.into.unwrap_or_else(|| PathBuf::from(format!("baton-report-{}", now.format("%Y%m%dT%H%M%SZ"))));
    // Without them nothing may be written.
    let secrets = config::secrets(inputs).context(
        "the secrets that a report must not show are not known: mend the configuration, or name another file with --config",
    )?;
    let redactor = Redactor::of(secrets.iter().map(|(secret, _)| secret));
    let caller = args.target.caller(inputs)?;
    let mut folder = Folder::make(dir, redactor)?;
    gather::configuration(&mut folder, inputs)?;
    gather::machine(&mut folder)?;
    let answered = gather::cluster(&mut folder, &caller).await?;
    gather::logs(&mut folder, &args.log, usize::try_from(args.lines).unwrap_or(usize::MAX))?;
    let parts = folder.finish(now)?;
    let (dir, missing) = (folder.dir().display().to_string(), parts.iter().filter(|part| !part.ok).count());
    if output.is_json() {
        output.json(&json!({ "dir": dir, "answered": answered, "parts": parts }))?;
    } else {
        output.line(format!("{} parts are in {}", parts.len(), output.paint(Colour::Bold, &dir)))?;
        for part in parts.iter().filter(|part| !part.ok) {
            output.line(format!("  {}: {}", part.name, output.paint(Colour::Yellow, &part.remark)))?;
        }
        if missing == 0 {
            output.line("read it before you pass it on: it tells what is traded")?;
        }
    }
    Ok(if answered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
