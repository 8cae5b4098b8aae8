//! `baton status`: asks one instance how the cluster is, over its HTTP interface.
//!
//! Any instance can answer, so several addresses may be given; the first that answers is believed. The exit code is
//! the verdict, for scripts: 0 healthy, 1 degraded (something wants a look), 2 down (nobody leads, or the leader stands in
//! ERROR).

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

use super::errors::moment;
use super::output::{Cell, Colour, Output};
use super::verdict::{Cluster, Health, Instance, Operational, judge};
use crate::config::{self, Inputs};

/// How `baton status` finds the cluster.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 healthy, 1 degraded (the leader waits, a switch is on, nobody stands by, Redis is away, …),
2 down (nobody leads, or the leader is in ERROR) or not to be told.

Examples:
  baton status
  baton status --address http://b1:8080,http://b2:8080
  baton status --watch
  baton status -o json | jq .health"
)]
pub struct Args {
    /// Addresses of instances, asked in this order until one answers; default: the configuration's.
    #[arg(long, env = "BATON_ADDRESS", value_name = "URL", value_delimiter = ',')]
    pub address: Vec<String>,
    /// How long one instance may take to answer, in milliseconds.
    #[arg(long, default_value_t = 2000, value_name = "MS")]
    pub timeout_ms: u64,
    /// Look again every so many seconds until interrupted; with -o json, one line a look.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub watch: Option<u64>,
}

/// The answer in JSON: the verdict, its reasons, and what the instance said.
#[derive(Serialize)]
struct Answer {
    health: Health,
    reasons: Vec<String>,
    address: Option<String>,
    cluster: Option<serde_json::Value>,
    /// The account's day; none when it could not be asked.
    day: Option<serde_json::Value>,
}

/// Asks and prints. A question that cannot be put or an answer that cannot be read is told as an error with the exit
/// code of "down": a script must not take it for "degraded", which is what the code 1 of other errors means here.
///
/// # Errors
/// Stdout cannot be written to.
pub async fn run(args: Args, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let Some(seconds) = args.watch else { return once(&args, inputs, output).await };
    loop {
        if !output.is_json() && std::io::stdout().is_terminal() {
            // The screen is cleared and the cursor goes home.
            output.line("\x1b[2J\x1b[H")?;
        }
        once(&args, inputs, output).await?;
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

async fn once(args: &Args, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    match asked(args, inputs, output).await {
        Err(error) if !error.is::<std::io::Error>() => {
            super::output::error(&error);
            Ok(Health::Down.exit_code())
        }
        answered => answered,
    }
}

async fn asked(args: &Args, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let addresses =
        if args.address.is_empty() { vec![config::address(inputs)?] } else { args.address.clone() };
    let client = reqwest::Client::builder()
        .timeout(Duration::from_millis(args.timeout_ms))
        .build()
        .context("cannot make an HTTP client; see the cause")?;
    let mut silent = Vec::new();
    for address in addresses {
        match ask(&client, &address, "/api/v1/cluster").await {
            Ok(body) => {
                let day = ask(&client, &address, "/api/v1/day").await.ok();
                return told(&address, body, day, output);
            }
            Err(error) => silent.push(format!("{address} does not answer: {error:#}")),
        }
    }
    let reasons = silent;
    if output.is_json() {
        output.json(&Answer { health: Health::Down, reasons, address: None, cluster: None, day: None })?;
    } else {
        output.line(output.paint(Colour::Red, "down: no instance answers"))?;
        for reason in reasons {
            output.line(format!("  {reason}"))?;
        }
        output.line("  give another instance's address with --address, or start one with `baton run`")?;
    }
    Ok(Health::Down.exit_code())
}

async fn ask(client: &reqwest::Client, address: &str, path: &str) -> anyhow::Result<serde_json::Value> {
    let url = format!("{}{path}", address.trim_end_matches('/'));
    let response = client.get(&url).send().await?;
    let status = response.status();
    anyhow::ensure!(status.is_success(), "GET {url} answered {status}");
    Ok(response.json().await?)
}

fn told(
    address: &str,
    body: serde_json::Value,
    day: Option<serde_json::Value>,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    let cluster: Cluster = serde_json::from_value(body.clone())
        .with_context(|| format!("{address} answers, but not as a baton instance of this version does"))?;
    let (health, reasons) = judge(&cluster);
    if output.is_json() {
        let address = Some(address.to_owned());
        output.json(&Answer { health, reasons, address, cluster: Some(body), day })?;
        return Ok(health.exit_code());
    }
    let word = match health {
        Health::Healthy => "healthy",
        Health::Degraded => "degraded",
        Health::Down => "down",
    };
    let epoch = cluster.epoch.map_or(String::new(), |epoch| format!(", epoch {epoch}"));
    output.line(format!("{} is {}{epoch}", cluster.cluster, output.paint(health.colour(), word)))?;
    for reason in reasons {
        output.line(format!("  {reason}"))?;
    }
    output.line(super::day::line(day.as_ref(), output))?;
    let rows: Vec<Vec<Cell>> =
        cluster.instances.iter().map(|instance| row(instance, cluster.doing(instance))).collect();
    output.table(&["INSTANCE", "STATUS", "ROLE", "STATE", "SINCE", "EPOCH", "ADDRESS"], &rows)?;
    Ok(health.exit_code())
}

fn row(instance: &Instance, doing: Option<&Operational>) -> Vec<Cell> {
    let state = match doing {
        None => "-".to_owned(),
        Some(Operational { state, code: Some(code), .. }) => format!("{state} {code}"),
        Some(doing) => doing.state.clone(),
    };
    let since = doing.and_then(|doing| doing.entered_at.as_deref()).map_or("-".to_owned(), moment);
    let status = if instance.status == "active" { Colour::Green } else { Colour::Yellow };
    let role = if instance.role == "leader" { Colour::Bold } else { Colour::Dim };
    vec![
        Cell::of(&instance.instance),
        Cell::of(&instance.status).in_colour(status),
        Cell::of(&instance.role).in_colour(role),
        Cell::of(state),
        Cell::of(since),
        Cell::of(instance.epoch.map_or("-".to_owned(), |epoch| epoch.to_string())),
        Cell::of(&instance.address),
    ]
}
