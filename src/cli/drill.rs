//! `baton drill`: a fault in a demo's cluster, on purpose.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Subcommand;

use super::demo::Teller;
use super::output::Output;
use super::signal::Stop;
use crate::demo::{Drill, Narrator, Sheet};

/// Which fault.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Drills are for a cluster that `baton demo` started on this machine and keeps up; any other is refused, for a drill
kills and stops processes. What does not answer is stopped, not ended: it keeps its connections, and runs again when the
drill ends or is interrupted. (Should `baton drill` itself be killed: kill -CONT the process.)

Exit codes: 0 what is promised held, 1 it did not, or there is nothing to drill.

Examples:
  baton demo                                       # in another terminal; it stays up
  baton drill kill-leader
  baton drill postgres-down -o json | jq .figures.healed_ms
  baton drill redis-down --demo /tmp/baton-demo-XXXXXX"
)]
pub struct Args {
    /// The demo's directory, which it names; not needed while only one runs.
    #[arg(long, global = true, value_name = "DIR")]
    demo: Option<PathBuf>,
    #[command(subcommand)]
    fault: Fault,
}

/// Which fault.
#[derive(Clone, Copy, Debug, Subcommand)]
enum Fault {
    /// Kill the leader: another instance leads and trades.
    KillLeader,
    /// Stop the leader until another leads, and wake it up: it knows that it leads no more.
    PauseLeader,
    /// Redis does not answer: the leader trades on.
    RedisDown,
    /// PostgreSQL does not answer: nobody trades, until it is back.
    PostgresDown,
    /// The bridge does not answer: the leader waits, until it is back.
    BrokerDown,
}

impl From<Fault> for Drill {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::KillLeader => Self::KillLeader,
            Fault::PauseLeader => Self::PauseLeader,
            Fault::RedisDown => Self::RedisDown,
            Fault::PostgresDown => Self::PostgresDown,
            Fault::BrokerDown => Self::BrokerDown,
        }
    }
}

/// Brings the fault about and tells what came of it.
///
/// # Errors
/// There is no demo to drill; stdout cannot be written to.
pub async fn run(args: Args, output: &Output) -> anyhow::Result<ExitCode> {
    let mut stop = Stop::listen().context("cannot listen for SIGTERM and SIGINT; see the cause")?;
    let sheet = match &args.demo {
        Some(dir) => Sheet::open(dir),
        None => Sheet::find(),
    }?;
    let step = tokio::select! {
        step = Drill::from(args.fault).run(&sheet) => step?,
        signal = stop.heard() => bail!("{signal} before the drill was over; what was stopped runs again"),
    };
    if output.is_json() {
        output.json(&step)?;
    } else {
        Teller::new(output).step(&step);
    }
    Ok(if step.held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
