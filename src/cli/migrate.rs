//! `baton migrate`: brings the database's schema to this version's.

/// How `baton migrate` runs.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(after_help = "Examples:
  baton migrate
  DATABASE_URL_FILE=/run/secrets/database-url baton migrate")]
pub struct Args {}
