//! `baton replay`: a TradingView strategy export, posted to a cluster as signals.

use std::fs::File;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rust_decimal::Decimal;
use secrecy::SecretString;

use super::output::{Cell, Colour, Output};
use super::signal::Stop;
use crate::demo::{LocalCluster, Settings};
use crate::domain::export::{self, ExportError, ExportTrade, ReplayDefaults};
use crate::domain::fault::Fault;
use crate::domain::instrument::{Catalog, Instrument};
use crate::replay::{Addresses, Client, Leg, Limits, PriceControl, Progress, Replay, Report};

/// Rows that were not executed and are listed one by one; more are counted.
const LISTED: usize = 12;

/// What `baton replay` plays, and where to.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without --address a private cluster is started for the replay: stores, the paper bridge and three
instances, all on loopback. With --address the signals go to that cluster, and whatever broker it has;
its stops fire before the export's exits unless its trading.stops.watch is off.
Exit code 0 when every row's signal became final, whatever was decided about it.

Examples:
  baton replay export.csv --instrument GOLD_MINI
  baton replay export.csv --instrument GOLD_MINI -o json | jq .realised
  baton replay export.csv --instrument GOLD_MINI --address http://b1:8080,http://b2:8080 --token-file token
  baton replay export.csv --instrument GOLD_MINI --address http://127.0.0.1:8080 --paper-control http://127.0.0.1:5001"
)]
pub struct Args {
    /// The export: TradingView's list of trades as a CSV file.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The instrument that the trades are of.
    #[arg(long, value_name = "NAME")]
    pub instrument: String,
    /// Addresses of a running cluster's instances; default: a private cluster.
    #[arg(long, env = "BATON_ADDRESS", value_name = "URL", value_delimiter = ',')]
    pub address: Vec<String>,
    /// The token that the cluster's webhook wants (signals.token).
    #[arg(
        long,
        env = "BATON_SIGNALS__TOKEN",
        hide_env_values = true,
        value_name = "TOKEN",
        conflicts_with = "token_file"
    )]
    pub token: Option<SecretString>,
    /// A file with that token.
    #[arg(long, env = "BATON_SIGNALS__TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Control port of the paper bridge behind the cluster: its price is set to each row's price first.
    #[arg(long, value_name = "URL", requires = "address")]
    pub paper_control: Option<String>,
    /// The contract whose price is set, for an instrument that is not built in.
    #[arg(long, value_name = "EXCHANGE:SYMBOL", requires = "paper_control")]
    pub contract: Option<String>,
    /// Play only the first rows.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// The longest that one row may need to become final, in seconds.
    #[arg(long, value_name = "S", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    pub patience_s: u64,
    /// Stop of every entry, in percent below its price [default: 1].
    #[arg(long, value_name = "PERCENT")]
    pub stop_percent: Option<Decimal>,
    /// ATR of every entry, in percent of its price [default: 0.5].
    #[arg(long, value_name = "PERCENT")]
    pub atr_percent: Option<Decimal>,
    /// Efficiency ratio of every entry, 0 to 1 [default: 0.8].
    #[arg(long, value_name = "RATIO")]
    pub er: Option<Decimal>,
}

/// Reads the export, plays it, reports.
///
/// # Errors
/// The file has faults (all are listed, by line), the private cluster does not start, or the replay breaks off.
pub async fn run(args: Args, output: &Output) -> anyhow::Result<ExitCode> {
    let mut stop = Stop::listen().context("cannot listen for SIGTERM and SIGINT; see the cause")?;
    let trades = read(&args.file)?;
    anyhow::ensure!(!trades.is_empty(), "{} holds no trades", args.file.display());
    let defaults = defaults(&args)?;
    tokio::select! {
        report = play(&args, &trades, defaults) => told(&report?, output),
        // The private cluster, if there is one, ends with the dropped replay.
        signal = stop.heard() => anyhow::bail!("{signal}: the replay was broken off"),
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<ExportTrade>> {
    let file = path.display();
    let source = File::open(path).with_context(|| format!("cannot open the export {file}"))?;
    export::read(source).map_err(|error| match error {
        ExportError::Faults(faults) => {
            let lines: Vec<String> = faults.iter().map(Fault::to_string).collect();
            anyhow::anyhow!("{}", lines.join("\n")).context(format!("{file} has {} faults", lines.len()))
        }
        error => anyhow::Error::from(error).context(format!("{file} cannot be replayed")),
    })
}

fn defaults(args: &Args) -> anyhow::Result<ReplayDefaults> {
    let unset = ReplayDefaults::default();
    let within = |name: &str, given: Option<Decimal>, unset: Decimal, most: i64| {
        let value = given.unwrap_or(unset);
        anyhow::ensure!(
            value > Decimal::ZERO && value <= Decimal::from(most),
            "--{name} is {value}; give more than 0, at most {most}"
        );
        Ok(value)
    };
    Ok(ReplayDefaults {
        stop_percent: within("stop-percent", args.stop_percent, unset.stop_percent, 99)?,
        atr_percent: within("atr-percent", args.atr_percent, unset.atr_percent, 100)?,
        er: within("er", args.er, unset.er, 1)?,
    })
}

async fn play(args: &Args, trades: &[ExportTrade], defaults: ReplayDefaults) -> anyhow::Result<Report> {
    let catalog = Catalog::default();
    let instrument = catalog.get(&args.instrument);
    let limits = Limits {
        rows: args.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
        patience: Duration::from_secs(args.patience_s),
    };
    let name = args.instrument.clone();
    if !args.address.is_empty() {
        let client = Client::new(Addresses::new(&args.address), token(args)?)?;
        let price = control(args, instrument)?;
        let replay = Replay { client, instrument: name, defaults, price, limits };
        return Ok(replay.run(trades, &Bar::new()).await?);
    }
    let instrument = instrument.with_context(|| {
        let known: Vec<&str> = catalog.iter().map(|instrument| instrument.name.as_str()).collect();
        format!("{name:?} is not built in; a private cluster trades {}", known.join(", "))
    })?;
    // The export has its own exits: a stop that fires before them would be another strategy.
    let env = vec![("BATON_TRADING__STOPS__WATCH".to_owned(), "false".to_owned())];
    let settings = Settings { env, ..Settings::default() };
    let cluster = LocalCluster::start(settings).await.context("no private cluster to replay into")?;
    let price = PriceControl::new(&cluster.control_url(), &instrument.exchange, &instrument.symbol)?;
    let client = Client::new(cluster.addresses(), None)?;
    let replay = Replay { client, instrument: name, defaults, price: Some(price), limits };
    let report = replay.run(trades, &Bar::new()).await;
    match report {
        Ok(report) => {
            cluster.stop().await?;
            Ok(report)
        }
        Err(error) => {
            let mut cluster = cluster;
            let logs = cluster.keep_logs();
            Err(anyhow::Error::from(error).context(format!("the logs are kept in {}", logs.display())))
        }
    }
}

fn token(args: &Args) -> anyhow::Result<Option<SecretString>> {
    match &args.token_file {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the token file {}", path.display()))?;
            Ok(Some(SecretString::from(text.trim().to_owned())))
        }
        None => Ok(args.token.clone()),
    }
}

fn control(args: &Args, instrument: Option<&Instrument>) -> anyhow::Result<Option<PriceControl>> {
    let Some(url) = &args.paper_control else { return Ok(None) };
    let (exchange, symbol) = match (&args.contract, instrument) {
        (Some(contract), _) => contract
            .split_once(':')
            .with_context(|| format!("--contract is {contract:?}; write e.g. MCX:GOLDM05DEC25FUT"))?,
        (None, Some(instrument)) => (instrument.exchange.as_str(), instrument.symbol.as_str()),
        (None, None) => anyhow::bail!(
            "{} is not built in; name the contract whose price is set with --contract EXCHANGE:SYMBOL",
            args.instrument
        ),
    };
    Ok(Some(PriceControl::new(url, exchange, symbol)?))
}

/// A progress bar on stderr, if that is a terminal.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} rows, {eta} left  {msg}");
        let bar = ProgressBar::with_draw_target(None, target);
        Self(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }
}

impl Progress for Bar {
    fn begins(&self, rows: usize) {
        self.0.set_length(u64::try_from(rows).unwrap_or(u64::MAX));
    }

    fn leg(&self, done: usize, leg: &Leg) {
        self.0.set_position(u64::try_from(done).unwrap_or(u64::MAX));
        self.0.set_message(format!("{} {}", leg.row, leg.status));
    }

    fn moves_on(&self, address: &str, _: &str) {
        self.0.set_message(format!("{address} does not do, asking on"));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn told(report: &Report, output: &Output) -> anyhow::Result<ExitCode> {
    if output.is_json() {
        output.json(report)?;
        return Ok(ExitCode::SUCCESS);
    }
    let seconds = format!("{}.{} s", report.elapsed_ms / 1000, report.elapsed_ms % 1000 / 100);
    let heading = format!("{} rows of {} replayed in {seconds}", report.rows, report.instrument);
    output.line(output.paint(Colour::Bold, heading))?;
    output.line(format!("  signals    {}", counts(&report.signals)))?;
    output.line(format!("  orders     {}", counts(&report.orders)))?;
    let held = report.held();
    let closed = report.positions.len() - held;
    output.line(format!("  positions  {closed} closed, {held} held"))?;
    let won = report.positions.iter().filter(|trade| trade.realised.0 > Decimal::ZERO).count();
    let colour = if report.realised < Decimal::ZERO { Colour::Red } else { Colour::Green };
    let realised = output.paint(colour, format!("₹{}", report.realised.round_dp(2).normalize()));
    output.line(format!("  realised   {realised} before fees; {won} of {closed} closed at a profit"))?;
    let others: Vec<&Leg> = report.legs.iter().filter(|leg| leg.status != "executed").collect();
    if others.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    output.line("")?;
    let row = |leg: &&Leg| {
        let why = leg.reasons.first().map(String::as_str).unwrap_or_default();
        let why: String = why.chars().take(64).collect();
        vec![Cell::of(&leg.row), Cell::of(&leg.status).in_colour(Colour::Yellow), Cell::of(why)]
    };
    let rows: Vec<Vec<Cell>> = others.iter().take(LISTED).map(row).collect();
    output.table(&["NOT EXECUTED", "STATUS", "WHY"], &rows)?;
    if others.len() > LISTED {
        output.line(format!("and {} more; -o json lists every row", others.len() - LISTED))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn counts(counts: &std::collections::BTreeMap<String, u64>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    counts.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
}
