//! `baton demo`: a whole cluster on this machine, and its story told.

use std::process::ExitCode;

use anyhow::Context;
use serde::Serialize;

use super::output::{Colour, Output};
use super::signal::Stop;
use crate::demo::{self, LocalCluster, Narrator, Step, Story};

/// Width of the text, in columns.
const WIDTH: usize = 92;
/// Columns before what was seen.
const INDENT: usize = 4;

/// How `baton demo` runs.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Starts private PostgreSQL and Redis, the paper bridge with a moving market and three instances, all as
processes of their own on free loopback ports; nothing real is traded. Then it plays: signals in, positions on, the
leader killed, the leader paused and woken, a clean hand-over, everything closed; and compares the bridge's own
record of orders with the ledger. Exit code 0 only if every promise held.

Examples:
  baton demo
  baton demo --once
  baton demo --once -o json | jq '.steps[] | {name, held, took_ms}'"
)]
pub struct Args {
    /// Exit when the story is told: code 0 only if every promise held. Otherwise it stays up until Ctrl-C.
    #[arg(long)]
    pub once: bool,
}

/// The answer in JSON.
#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    story: &'a Story,
    /// Base URLs of the instances; they answer for as long as the demo stays up.
    addresses: Vec<String>,
    /// Base URL of the bridge's control port.
    control: String,
    /// Where the logs were kept, if something went wrong.
    logs: Option<String>,
    /// While it stays up: its directory, for `baton drill --demo`.
    dir: Option<String>,
}

/// Plays the story, and stays up afterwards unless told otherwise.
///
/// # Errors
/// Signals cannot be heard, stdout cannot be written to, or the cluster does not stop.
pub async fn run(args: Args, output: &Output) -> anyhow::Result<ExitCode> {
    let mut stop = Stop::listen().context("cannot listen for SIGTERM and SIGINT; see the cause")?;
    let mut teller = Teller::new(output);
    teller.line(output.paint(Colour::Bold, "Baton demo: three instances, one baton"));
    let told = tokio::select! {
        told = demo::tell(&mut teller) => told,
        // Whatever runs by now ends with the dropped story.
        signal = stop.heard() => anyhow::bail!("{signal} before the story was told; everything is stopped"),
    };
    let (story, mut cluster) = told;
    if let Some(error) = teller.broken_pipe {
        return Err(error.into());
    }
    let logs = cluster.as_mut().filter(|_| !story.held).map(|cluster| cluster.keep_logs());
    let logs = logs.map(|dir| dir.display().to_string());
    let stays = cluster.as_ref().filter(|_| !args.once);
    stays.map(LocalCluster::invite_drills).transpose()?;
    if output.is_json() {
        let dir = stays.map(|cluster| cluster.dir().display().to_string());
        let list = cluster.as_ref().map(|cluster| cluster.addresses().list());
        let addresses = list.map(|list| list.to_vec()).unwrap_or_default();
        let control = cluster.as_ref().map(LocalCluster::control_url).unwrap_or_default();
        output.json(&Answer { story: &story, addresses, control, logs, dir })?;
    } else {
        verdict(&story, logs.as_deref(), output)?;
    }
    if let Some(cluster) = cluster {
        if !args.once {
            if !output.is_json() {
                invite(&cluster, output)?;
            }
            stop.heard().await;
        }
        tokio::select! {
            stopped = cluster.stop() => stopped?,
            _ = stop.heard() => anyhow::bail!("a second signal; everything was stopped at once"),
        }
    }
    Ok(if story.held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints each step as it is made.
pub(super) struct Teller<'a> {
    output: &'a Output,
    /// Kept until the end: a narrator cannot fail.
    broken_pipe: Option<std::io::Error>,
}

impl<'a> Teller<'a> {
    pub(super) fn new(output: &'a Output) -> Self {
        Self { output, broken_pipe: None }
    }

    fn line(&mut self, text: impl AsRef<str>) {
        if !self.output.is_json()
            && self.broken_pipe.is_none()
            && let Err(error) = self.output.line(text)
        {
            self.broken_pipe = Some(error);
        }
    }
}

impl Narrator for Teller<'_> {
    fn step(&mut self, step: &Step) {
        let took = step.took_ms.map(|took| format!("{took:.0} ms")).unwrap_or_default();
        let room = (WIDTH - INDENT).saturating_sub(step.promise.chars().count() + took.chars().count());
        let (mark, colour) = if step.held { ("✓", Colour::Green) } else { ("✗", Colour::Red) };
        let mark = self.output.paint(colour, mark);
        let promise = self.output.paint(Colour::Bold, &step.promise);
        self.line(format!("  {mark} {promise}{}{took}", " ".repeat(room.max(1))));
        for sentence in &step.seen {
            let colour = if sentence.starts_with("BROKEN") { Colour::Red } else { Colour::Dim };
            for line in wrapped(sentence, WIDTH - INDENT) {
                self.line(format!("{}{}", " ".repeat(INDENT), self.output.paint(colour, line)));
            }
        }
    }
}

fn verdict(story: &Story, logs: Option<&str>, output: &Output) -> std::io::Result<()> {
    let seconds = format!("{}.{} s", story.elapsed_ms / 1000, story.elapsed_ms % 1000 / 100);
    output.line("")?;
    if let Some(error) = &story.error {
        for line in wrapped(&format!("The story broke off: {error}"), WIDTH) {
            output.line(output.paint(Colour::Red, line))?;
        }
    }
    let held = story.steps.iter().filter(|step| step.held).count();
    let sum = format!("{held} of {} promises held, in {seconds}.", story.steps.len());
    let colour = if story.held { Colour::Green } else { Colour::Red };
    output.line(output.paint(colour, sum))?;
    match logs {
        Some(logs) => output.line(format!("The logs of every process are kept in {logs}")),
        None => Ok(()),
    }
}

/// What there is to look at while it stays up.
fn invite(cluster: &LocalCluster, output: &Output) -> std::io::Result<()> {
    output.line("")?;
    output.line(output.paint(Colour::Bold, "The cluster stays up until Ctrl-C:"))?;
    for (name, member) in cluster.members() {
        output.line(format!("  {name}  {}  process {}", member.address(), member.pid()))?;
    }
    output.line(format!("  market and faults of the paper bridge  {}/_ctl/", cluster.control_url()))?;
    output.line(format!("  logs  {}", cluster.dir().display()))?;
    let Some(member) = cluster.members().values().next() else { return Ok(()) };
    let address = member.address();
    output.line("")?;
    output.line("Try (each line by itself; kill a process and ask again):")?;
    output.line(format!("  baton status --address {}", cluster.addresses().list().join(",")))?;
    output.line(format!("  baton drill kill-leader --demo {}", cluster.dir().display()))?;
    output.line(format!("  curl -s '{address}/api/v1/positions?status=closed' | jq"))?;
    output.line(format!("  curl -s {address}/webhook -H 'content-type: application/json' -d \\"))?;
    output.line(
        r#"    "{\"type\":\"BASE_ENTRY\",\"instrument\":\"GOLD_MINI\",\"position\":\"Long_1\",\"price\":143000,"#,
    )?;
    output.line(r#"\"stop\":142650,\"atr\":350,\"er\":0.9,\"timestamp\":\"$(date -u +%FT%TZ)\"}""#)
}

/// A sentence in lines of at most `width` characters.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_wrapped_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("a-word-too-long b", 5), ["a-word-too-long", "b"]);
        assert_eq!(wrapped("", 5), Vec::<String>::new());
    }
}
