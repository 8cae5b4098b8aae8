//! `baton signals drop` and `replay`: an operator's word on a signal.

use std::process::ExitCode;

use serde_json::json;
use uuid::Uuid;

use super::{dry_run, print, signal, text};
use crate::cli::call::{Change, Target};
use crate::cli::output::Output;
use crate::config::Inputs;

/// Ends a signal that waits.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "The leader refuses it in your name, with your reason; what has an order out or in doubt cannot be dropped.

Examples:
  baton signals list --status pending
  baton signals drop 0199a1b2-0000-7000-8000-000000000001 --reason \"sent by mistake\""
)]
pub struct Drop {
    /// The signal's id.
    id: Uuid,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    target: Target,
}

/// Puts a refused signal in again.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "It gets a key of its own, and is decided like any other: an entry that is too old is refused again. Asked twice it
is stored once; to try a third time, replay the second one. Exit code of --dry-run: as of `baton signals dry-run`.

Examples:
  baton signals replay 0199a1b2-0000-7000-8000-000000000001 --dry-run
  baton signals replay 0199a1b2-0000-7000-8000-000000000001 --reason \"halted by mistake\""
)]
pub struct Replay {
    /// The signal's id.
    id: Uuid,
    /// Only say what would become of it now; nothing is stored or sent.
    #[arg(long, conflicts_with_all = ["reason", "yes"])]
    dry_run: bool,
    /// Why; kept in the audit log.
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    reason: Option<String>,
    /// Do it without asking for the cluster's name.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    target: Target,
}

impl Drop {
    /// Runs the verb.
    ///
    /// # Errors
    /// Not confirmed; no leader took it; the signal does not wait.
    pub(super) async fn run(self, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
        let Self { id, change, target } = self;
        let caller = target.caller(inputs)?;
        caller.confirm(&change, &format!("Drop signal {id}"), output).await?;
        let body = json!({ "reason": change.reason });
        print(&caller.post(&format!("/api/v1/signals/{id}/drop"), &body).await?, signal, output)
    }
}

impl Replay {
    /// Runs the verb.
    ///
    /// # Errors
    /// Not confirmed; no instance answers; the signal was not refused.
    pub(super) async fn run(self, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
        let Self { id, dry_run, reason, yes, target } = self;
        let (caller, path) = (target.caller(inputs)?, format!("/api/v1/signals/{id}/replay"));
        let Some(reason) = reason.filter(|_| !dry_run) else {
            let asked = json!({ "reason": "dry run", "dry_run": true }).to_string();
            return dry_run::tell(&caller.ask(&path, &asked).await?, output);
        };
        let change = Change { reason, yes };
        caller.confirm(&change, &format!("Put signal {id} in again"), output).await?;
        let receipt = caller.post(&path, &json!({ "reason": change.reason })).await?;
        if output.is_json() {
            output.json(&receipt)?;
        } else {
            let (again, status) = (text(&receipt, "id"), text(&receipt, "status"));
            output.line(format!(
                "signal {again} is {status}; `baton signals show {again}` says what becomes of it"
            ))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
