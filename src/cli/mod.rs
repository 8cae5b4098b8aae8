//! The command line: one tree of verbs, one file a verb group.
//!
//! A verb answers on stdout, as text for people or, with `-o json`, as JSON for scripts; log lines and errors go to
//! stderr. An error is one sentence with its causes below it and exit code 1; a wrong command line is exit code 2.
//! Verbs that look at a running cluster speak to its HTTP interface and open no store of their own.

pub mod adopt;
mod ask;
pub mod audit;
pub mod backup;
pub mod books;
pub mod call;
pub mod cash;
pub mod close;
pub mod config;
mod day;
pub mod demo;
pub mod doctor;
pub mod drill;
pub mod emergency;
pub mod errors;
pub mod events;
pub mod healthcheck;
pub mod leadership;
pub mod migrate;
pub mod notify;
pub mod orders;
pub mod output;
pub mod pages;
pub mod paper;
pub mod positions;
pub mod reconcile;
pub mod recover;
mod release;
pub mod replay;
pub mod report;
pub mod resolve;
pub mod restore;
pub mod run;
pub mod runbook;
pub mod secrets;
pub mod signal;
pub mod signals;
pub mod states;
pub mod status;
mod strategies;
pub mod switch;
mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::config::Inputs;
use output::{Format, Output};

/// Baton: a highly available trading agent.
///
/// Several instances run; whoever holds the baton trades, the others wait, warm.
#[derive(Debug, Parser)]
#[command(name = "baton", version, max_term_width = 110, arg_required_else_help = true)]
pub struct Cli {
    /// The configuration file; without it baton.toml in the working directory, if there is one.
    #[arg(long, global = true, env = "BATON_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// How to answer.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub output: Format,

    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Tell the cluster that you have looked at something.
    #[command(subcommand)]
    Ack(doctor::Ack),
    /// Verify the record of what was decided.
    #[command(subcommand)]
    Audit(audit::Verb),
    /// Copy one moment of the ledger into a file.
    Backup(backup::Args),
    /// Book money that was paid into the account or taken out of it; list what moved.
    #[command(subcommand)]
    Cash(cash::Verb),
    /// Close the positions of a symbol or an instrument.
    Close(close::Close),
    /// Print completions for a shell.
    Completions(pages::CompletionsArgs),
    /// Check or show the configuration.
    #[command(subcommand)]
    Config(config::Verb),
    /// Play a failover on this machine: stores, bridge and three instances, all private.
    Demo(demo::Args),
    /// Look at everything an instance depends on, now.
    Doctor(doctor::Args),
    /// Bring a fault about in a cluster that `baton demo` keeps up, and see what comes of it.
    Drill(drill::Args),
    /// Sell what the broker holds of a symbol while the database is gone.
    EmergencyClose(emergency::Args),
    /// List what went wrong; sum it up, acknowledge it, end it.
    Errors(errors::Args),
    /// Show what happened, the newest last: switches, strategies, states, leadership, notifications.
    Events(events::Args),
    /// Show the equity curve: what closed positions have realised over time.
    Equity(books::Equity),
    /// Keep a member from leading; if it leads, its epoch ends at once.
    Fence(leadership::Fence),
    /// Close every position.
    Flatten(close::Flatten),
    /// Stop entries and the exits of signals.
    Halt(switch::Halt),
    /// Hand leadership over to another instance; positions and stops stay as they are.
    Handover(leadership::Handover),
    /// Ask the instance on this machine one probe: the health check of a container.
    Healthcheck(healthcheck::Args),
    /// Show who led when, why that began and ended, and how long nobody led.
    History(leadership::History),
    /// List the instances with their roles and states.
    Instances(leadership::Instances),
    /// Print or write manual pages.
    Man(pages::ManArgs),
    /// Bring the database's schema to this binary's version.
    Migrate(migrate::Args),
    /// Test the notification channels.
    #[command(subcommand)]
    Notify(notify::Verb),
    /// List orders, and end those in doubt by your word.
    #[command(subcommand)]
    Orders(orders::Verb),
    /// Run the paper bridge: the OpenAlgo protocol over a simulated market, with faults to inject.
    Paper(paper::Args),
    /// Pause automatic failover.
    Pause(switch::On),
    /// Compare what the ledger holds with what the broker holds; take up what it does not hold.
    #[command(subcommand)]
    Positions(positions::Verb),
    /// Compare the ledger's positions and open orders with the broker's books, now.
    Reconcile(reconcile::Args),
    /// Check stored state, and propose what would mend it.
    Recover(recover::Args),
    /// Stop entries, or let them through again.
    ReduceOnly(switch::ReduceOnly),
    /// Play a TradingView export into a cluster as signals, and report what became of them.
    Replay(replay::Args),
    /// Gather what somebody who helps has to know into a folder, without secrets.
    Report(report::Args),
    /// Make a backup the ledger again, while every instance is stopped.
    Restore(restore::Args),
    /// Resume automatic failover.
    Resume(switch::Off),
    /// Run one instance: take signals, follow or lead, trade while leading.
    Run(run::Args),
    /// Say what to do about an alert or a code.
    Runbook(runbook::Args),
    /// Look after secrets: where each is, and who can read it.
    #[command(subcommand)]
    Secrets(secrets::Verb),
    /// List signals, show what became of one, drop one that waits, put a refused one in again.
    #[command(subcommand)]
    Signals(signals::Verb),
    /// Show how the instances' operational states changed, and why.
    States(states::Args),
    /// Show the cluster: its instances, who leads, whether another could take over.
    Status(status::Args),
    /// Have the leader hand over to whoever is ready; it goes on leading if nobody is.
    StepDown(leadership::StepDown),
    /// List the strategies; enable or disable one.
    #[command(subcommand)]
    Strategies(strategies::Verb),
    /// Show the switches: what is halted, by whom, until when.
    Switches(switch::Show),
    /// List closed positions with their profit.
    Trades(books::Trades),
    /// Let a fenced member lead again.
    Unfence(leadership::Fence),
    /// End the cluster's halt, that of everything too, or that of one instrument.
    Unhalt(switch::Unhalt),
}

impl Verb {
    /// Whether it can answer as CSV.
    fn has_rows(&self) -> bool {
        matches!(
            self,
            Self::Trades(_)
                | Self::Equity(_)
                | Self::Orders(orders::Verb::List(_))
                | Self::Signals(signals::Verb::List(_))
        )
    }
}

/// Runs the verb and turns its outcome into an exit code; errors are told on stderr.
pub fn main(cli: Cli) -> ExitCode {
    let output = Output::stdout(cli.output);
    if output.is_csv() && !cli.verb.has_rows() {
        eprintln!("error: -o csv is for trades, orders list, signals list and equity; use -o json");
        return ExitCode::from(2);
    }
    match run(cli, &output) {
        Ok(code) => code,
        // Whoever read our answer has read enough (`baton config show | head`).
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli, output: &Output) -> anyhow::Result<ExitCode> {
    let inputs = Inputs::of_process(cli.config);
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime; see the cause")?;
    runtime.block_on(async {
        match cli.verb {
            Verb::Ack(ack) => doctor::ack(ack, &inputs, output).await,
            Verb::Audit(verb) => audit::run(verb, &inputs, output).await,
            Verb::Backup(args) => backup::run(args, &inputs, output).await,
            Verb::Cash(verb) => cash::run(verb, &inputs, output).await,
            Verb::Close(close) => close.run(&inputs, output).await,
            Verb::Completions(args) => pages::completions(&args, output),
            Verb::Config(verb) => config::run(&verb, &inputs, output).await,
            Verb::Demo(args) => demo::run(args, output).await,
            Verb::Doctor(args) => doctor::run(args, &inputs, output).await,
            Verb::Drill(args) => drill::run(args, output).await,
            Verb::EmergencyClose(args) => emergency::run(args, &inputs, output).await,
            Verb::Errors(args) => errors::run(args, &inputs, output).await,
            Verb::Events(args) => events::run(args, &inputs, output).await,
            Verb::Equity(args) => books::equity(args, &inputs, output).await,
            Verb::Fence(args) => leadership::fence(args, &inputs, output).await,
            Verb::Flatten(flatten) => flatten.run(&inputs, output).await,
            Verb::Halt(halt) => halt.run(&inputs, output).await,
            Verb::Handover(args) => leadership::hand_over(args, &inputs, output).await,
            Verb::Healthcheck(args) => healthcheck::run(args, &inputs, output).await,
            Verb::History(args) => leadership::history(args, &inputs, output).await,
            Verb::Instances(args) => leadership::instances(args, &inputs, output).await,
            Verb::Man(args) => pages::man(&args, output),
            Verb::Migrate(args) => migrate::run(args, &inputs, output).await,
            Verb::Notify(verb) => notify::run(verb, &inputs, output).await,
            Verb::Orders(verb) => orders::run(verb, &inputs, output).await,
            Verb::Paper(args) => paper::run(args, &inputs, output).await,
            Verb::Positions(verb) => positions::run(verb, &inputs, output).await,
            Verb::Reconcile(args) => reconcile::run(args, &inputs, output).await,
            Verb::Recover(args) => recover::run(args, &inputs, output).await,
            Verb::Pause(on) => on.pause(&inputs, output).await,
            Verb::ReduceOnly(args) => args.run(&inputs, output).await,
            Verb::Replay(args) => replay::run(args, output).await,
            Verb::Report(args) => report::run(args, &inputs, output).await,
            Verb::Restore(args) => restore::run(args, &inputs, output).await,
            Verb::Resume(off) => off.resume(&inputs, output).await,
            Verb::Run(args) => run::run(args, inputs, output).await,
            Verb::Runbook(args) => runbook::run(&args, output),
            Verb::Secrets(verb) => secrets::run(verb, &inputs, output),
            Verb::Signals(verb) => signals::run(verb, &inputs, output).await,
            Verb::States(args) => states::run(args, &inputs, output).await,
            Verb::Status(args) => status::run(args, &inputs, output).await,
            Verb::StepDown(args) => leadership::step_down(args, &inputs, output).await,
            Verb::Strategies(verb) => strategies::run(verb, &inputs, output).await,
            Verb::Switches(show) => show.run(&inputs, output).await,
            Verb::Trades(args) => books::trades(args, &inputs, output).await,
            Verb::Unfence(args) => leadership::unfence(args, &inputs, output).await,
            Verb::Unhalt(unhalt) => unhalt.run(&inputs, output).await,
        }
    })
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_tree_of_verbs_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_and_option_is_explained() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} of {}", argument.get_id(), command.get_name());
            }
            command.get_subcommands().filter(|sub| sub.get_name() != "help").for_each(check);
        }
        check(&Cli::command());
    }
}
