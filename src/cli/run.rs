//! `baton run`: one member of the cluster.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use super::output::Output;
use crate::config::{self, Inputs};
use crate::{app, telemetry};

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
    /// End with exit code 1 when stored state is corrupt, instead of staying up in ERROR.
    #[arg(long)]
    pub exit_on_corrupt: bool,
}

/// Runs one instance until it is told to stop.
///
/// # Errors
/// The configuration has faults, the private stores do not start, or the instance cannot run.
pub async fn run(args: Args, inputs: Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    telemetry::log::init(&config::log(&inputs)?)?;
    let mut inputs = inputs;
    let stores = match args.local {
        Some(dir) => Some(start_stores(dir, &mut inputs).await?),
        None => None,
    };
    let ran = match config::load(&inputs) {
        Ok(config) => Box::pin(app::run(config, output, args.exit_on_corrupt)).await,
        Err(faults) => Err(faults.into()),
    };
    if let Some(stores) = stores {
        stores.stop().await.context("the private stores did not stop cleanly; their data is safe")?;
    }
    ran.map(|()| ExitCode::SUCCESS)
}

/// Starts the private stores and points the configuration at them.
async fn start_stores(dir: PathBuf, inputs: &mut Inputs) -> anyhow::Result<local::Stores> {
    tracing::info!(dir = %dir.display(), "starting private PostgreSQL and Redis");
    let binaries = local::Binaries::from_env();
    let stores = local::Stores::start(local::Options { dir, durable: true, binaries }).await?;
    inputs.env.retain(|name, _| !matches!(name.as_str(), "DATABASE_URL" | "REDIS_URL"));
    inputs.env.insert("BATON_POSTGRES__URL".to_owned(), stores.database_url());
    inputs.env.insert("BATON_REDIS__URL".to_owned(), stores.redis_url());
    Ok(stores)
}
