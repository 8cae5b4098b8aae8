//! `baton healthcheck`: one probe of the instance on this machine, for a container's health check.
//!
//! The image holds nothing but the program, so there is no curl to ask with.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use serde_json::json;

use super::output::Output;
use crate::config::{self, Inputs};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Probe {
    /// The process serves.
    Live,
    /// It has reached its stores and joined its cluster.
    Started,
    /// It could store a signal now, and could lead.
    Ready,
    /// It leads, and trades.
    Leader,
    /// The paper bridge serves (at its control port).
    Paper,
}

impl Probe {
    fn path(self) -> &'static str {
        match self {
            Self::Live => "/livez",
            Self::Started => "/startupz",
            Self::Ready => "/readyz",
            Self::Leader => "/leader",
            Self::Paper => "/_ctl/faults",
        }
    }
}

/// How it is asked.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 yes, 1 no or no answer.

Examples:
  baton healthcheck
  baton healthcheck --probe live --timeout-ms 500
  baton healthcheck --address http://127.0.0.1:9000")]
pub struct Args {
    /// What is asked.
    #[arg(long, value_enum, default_value_t = Probe::Ready, value_name = "PROBE")]
    pub probe: Probe,
    /// The instance; default: where the configuration says that this one listens.
    #[arg(long, value_name = "URL")]
    pub address: Option<String>,
    /// How long it may take to answer, in milliseconds.
    #[arg(long, default_value_t = 2000, value_name = "MS")]
    pub timeout_ms: u64,
}

/// Asks and prints the answer.
///
/// # Errors
/// There is no answer, the configuration says no valid address, or stdout cannot be written to.
pub async fn run(args: Args, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let address = match args.address {
        Some(address) => address,
        None => config::local_address(inputs)?,
    };
    let url = format!("{}{}", address.trim_end_matches('/'), args.probe.path());
    let client = reqwest::Client::builder()
        .timeout(Duration::from_millis(args.timeout_ms))
        // The instance on this machine is never behind a proxy.
        .no_proxy()
        .build()
        .context("cannot make an HTTP client; see the cause")?;
    let answer = client.get(&url).send().await.with_context(|| format!("no answer from {url}"))?;
    let status = answer.status();
    let body = answer.text().await.unwrap_or_default();
    if output.is_json() {
        output
            .json(&json!({ "ok": status.is_success(), "status": status.as_u16(), "answer": body.trim() }))?;
    } else {
        output.line(body.trim())?;
    }
    Ok(if status.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
