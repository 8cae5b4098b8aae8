//! `baton paper`: the paper bridge as a process of its own, for trying things out, for the demo and for tests.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use rust_decimal::Decimal;
use serde::Serialize;

use super::output::{Colour, Output};
use super::signal::Stop;
use crate::config::{self, Inputs};
use crate::domain::money::Rupees;
use crate::paper::calendar::Calendar;
use crate::paper::ticks::{self, Tick};
use crate::paper::{BridgeMode, FillModel, Options, Paper, RateLimits, SymbolSpec};
use crate::telemetry;

/// How the paper bridge starts.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  baton paper --moving
  baton paper --http 127.0.0.1:0 --ws 127.0.0.1:0 --control 127.0.0.1:0 -o json | jq -r .http
  baton paper --mode live --seed 7 --log orders.jsonl
  baton paper --symbols symbols.json
  baton paper --ticks monday.csv --speed 10

A symbols file is a JSON list, one object a contract:
  [{\"symbol\": \"GOLDM05DEC25FUT\", \"exchange\": \"MCX\", \"lot_size\": 100, \"tick_size\": \"1\", \"freeze_qty\": 10000,
    \"expiry\": \"05-DEC-25\", \"point_value\": \"10\", \"margin_per_lot\": \"105000\", \"ltp\": \"140000\"}]

A ticks file is a recorded market, CSV with a header, in the order of time:
  ms,exchange,symbol,ltp
  0,MCX,GOLDM05DEC25FUT,140000
  250,MCX,GOLDM05DEC25FUT,139985")]
pub struct Args {
    /// Where the REST interface listens; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:5000", value_name = "ADDR")]
    pub http: SocketAddr,
    /// Where the WebSocket listens.
    #[arg(long, default_value = "127.0.0.1:8765", value_name = "ADDR")]
    pub ws: SocketAddr,
    /// Where prices and faults are set and orders looked up; no authentication, so keep it on loopback.
    #[arg(long, default_value = "127.0.0.1:5001", value_name = "ADDR")]
    pub control: SocketAddr,
    /// The only API key that is let in.
    #[arg(
        long,
        default_value = "paper",
        env = "OPENALGO_API_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub api_key: String,
    /// Shape of the answers: the bridge's sandbox (analyze), or a real broker behind it (live).
    #[arg(long, default_value = "analyze", value_name = "MODE")]
    pub mode: BridgeMode,
    /// Seeds prices, order ids and fault draws: the same seed, the same market.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Let prices walk at random; otherwise they stand still until the control port moves them.
    #[arg(long)]
    pub moving: bool,
    /// Play a recorded market.
    #[arg(long, value_name = "FILE", conflicts_with = "moving")]
    pub ticks: Option<PathBuf>,
    /// How many times as fast as it was recorded.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub speed: u32,
    /// Keep the exchanges' usual hours, closed at weekends; otherwise all are open all day.
    #[arg(long)]
    pub market_hours: bool,
    /// Between two steps of the market, in milliseconds.
    #[arg(long, default_value_t = 500, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    pub tick_ms: u64,
    /// From an order's arrival to its first fill, in milliseconds.
    #[arg(long, default_value_t = 0, value_name = "MS")]
    pub fill_latency_ms: u64,
    /// In how many parts an order fills.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub fill_slices: u32,
    /// Cash at the start, in rupees.
    #[arg(long, default_value = "10000000", value_name = "RUPEES")]
    pub capital: Decimal,
    /// Lift the request limits of the real bridge (10 orders and 50 other requests a second).
    #[arg(long)]
    pub unlimited: bool,
    /// Append a JSON line for every order request and what was done with it.
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// List these contracts instead of the built-in ones.
    #[arg(long, value_name = "FILE")]
    pub symbols: Option<PathBuf>,
}

/// Where the bridge is reached, as `-o json` prints it once it listens.
#[derive(Serialize)]
struct Addresses {
    http: String,
    ws: String,
    control: String,
    mode: BridgeMode,
    pid: u32,
}

/// Runs the bridge until SIGTERM or SIGINT; a second signal ends it at once with exit code 1.
///
/// # Errors
/// `[log]` or the symbols file cannot be used, an address cannot be listened on, or stdout cannot be written to.
pub async fn run(args: Args, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    telemetry::log::init(&config::log(inputs)?)?;
    let mut stop = Stop::listen().context("cannot listen for SIGTERM and SIGINT; see the cause")?;
    let mode = args.mode;
    let paper = Paper::start(options(args)?).await?;
    let addresses = Addresses {
        http: paper.http_url(),
        ws: paper.ws_url(),
        control: paper.control_url(),
        mode,
        pid: std::process::id(),
    };
    tell(&addresses, output)?;
    let signal = stop.heard().await;
    tracing::info!("[SHUTDOWN] {signal}: the paper bridge stops; a second signal ends it at once");
    tokio::select! {
        () = paper.stop() => Ok(ExitCode::SUCCESS),
        _ = stop.heard() => Ok(ExitCode::FAILURE),
    }
}

fn tell(addresses: &Addresses, output: &Output) -> std::io::Result<()> {
    if output.is_json() {
        return output.json(addresses);
    }
    output.line(output.paint(Colour::Bold, format!("Paper bridge, mode {}", addresses.mode)))?;
    output.line(format!("  REST       {}", addresses.http))?;
    output.line(format!("  WebSocket  {}", addresses.ws))?;
    output.line(format!("  control    {}", addresses.control))?;
    output.line("Ctrl-C stops it.")
}

fn options(args: Args) -> anyhow::Result<Options> {
    let symbols = match &args.symbols {
        Some(path) => read_symbols(path)?,
        None => SymbolSpec::defaults(),
    };
    let ticks = args.ticks.as_deref().map(read_ticks).transpose()?.unwrap_or_default();
    anyhow::ensure!(
        args.capital >= Decimal::ZERO,
        "--capital is {}; give rupees, zero or more",
        args.capital
    );
    let unlimited = RateLimits { orders_per_second: None, api_per_second: None };
    Ok(Options {
        http: args.http,
        ws: args.ws,
        control: args.control,
        api_key: args.api_key,
        mode: args.mode,
        seed: args.seed,
        symbols,
        moving: args.moving,
        ticks,
        tick_speed: args.speed,
        calendar: if args.market_hours { Calendar::Exchange(Vec::new()) } else { Calendar::AlwaysOpen },
        tick_interval: Duration::from_millis(args.tick_ms),
        fill: FillModel {
            latency_ms: args.fill_latency_ms,
            slices: args.fill_slices,
            ..FillModel::default()
        },
        limits: if args.unlimited { unlimited } else { RateLimits::default() },
        capital: Rupees(args.capital),
        log: args.log,
        ..Options::default()
    })
}

fn read_ticks(path: &Path) -> anyhow::Result<Vec<Tick>> {
    let file = path.display();
    let csv = std::fs::File::open(path).with_context(|| format!("cannot read the ticks file {file}"))?;
    ticks::read(csv).with_context(|| format!("{file} cannot be played"))
}

fn read_symbols(path: &Path) -> anyhow::Result<Vec<SymbolSpec>> {
    let file = path.display();
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read the symbols file {file}"))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{file} is no list of symbols; `baton paper --help` shows the form"))
}
