//! `baton replay`: a TradingView strategy export, posted to a cluster as signals.

use std::path::PathBuf;

/// What `baton replay` plays, and where to.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  baton replay export.csv --instrument GOLD_MINI
  baton replay export.csv --instrument GOLD_MINI -o json | jq .profit")]
pub struct Args {
    /// The export, a CSV file with a list of trades.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The instrument that the trades are of.
    #[arg(long, value_name = "NAME")]
    pub instrument: String,
}
