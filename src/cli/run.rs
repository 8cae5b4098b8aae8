//! `baton run`: one member of the cluster.

use std::path::PathBuf;

/// How `baton run` starts.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  baton run
  baton --config /etc/baton/baton.toml run
  baton run --local .baton/stores")]
pub struct Args {
    /// Start private PostgreSQL and Redis servers with their data in this folder, instead of the configured ones.
    #[arg(long, value_name = "DIR")]
    pub local: Option<PathBuf>,
}
