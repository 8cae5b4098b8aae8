//! `baton demo`: a whole cluster on this machine, and its story told.

/// How `baton demo` runs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  baton demo
  baton demo --once")]
pub struct Args {
    /// Exit when the story is told: code 0 only if every promise held. Otherwise it stays up until Ctrl-C.
    #[arg(long)]
    pub once: bool,
}
