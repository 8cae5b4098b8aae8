//! `baton doctor` looks at everything an instance depends on, now; `baton ack` says that an operator has looked.

use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use serde_json::{Value, json};

use super::call::{Caller, Change, Target};
use super::errors::{moment, sentence, unresolved};
use super::output::{Cell, Colour, Output};
use crate::config::Inputs;

/// How `baton doctor` finds an instance.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 all checks pass now, 1 one fails, hangs or could not be asked. What is degraded is to be mended,
but trading goes on without it.

Examples:
  baton doctor
  baton doctor --address http://b2:8080
  baton doctor -o json | jq '.report.checks[] | select(.up == false)'"
)]
pub struct Args {
    #[command(flatten)]
    target: Target,
}

/// Has an instance look, and shows what it found.
///
/// # Errors
/// No instance answers, or it refuses.
pub async fn run(args: Args, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let caller = args.target.caller(inputs)?;
    let answer = caller.post("/api/v1/monitoring/check", &json!({})).await?;
    let checks = answer["report"]["checks"].as_array().cloned().unwrap_or_default();
    // The last round proves nothing of now: a check that hangs is a check that fails.
    let fresh = answer["fresh"] == true;
    let healthy = fresh && !checks.is_empty() && checks.iter().all(|check| check["up"] == true);
    let code = if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if output.is_json() {
        output.json(&answer)?;
        return Ok(code);
    }
    let operational = &answer["operational"];
    output.line(format!(
        "{} is {}: {}",
        answer["member"].as_str().unwrap_or_default(),
        operational["state"].as_str().unwrap_or_default(),
        operational["reason"].as_str().unwrap_or_default()
    ))?;
    if !fresh {
        output.line("The checks did not end in time: something hangs. This is the last round's result.")?;
    }
    let rows: Vec<Vec<Cell>> = checks
        .iter()
        .map(|check| {
            let state = match check["up"].as_bool() {
                Some(false) if check["vital"] == false => Cell::of("degraded").in_colour(Colour::Yellow),
                Some(true) => Cell::of("pass").in_colour(Colour::Green),
                Some(false) => Cell::of("FAIL").in_colour(Colour::Red),
                None => Cell::of("unknown").in_colour(Colour::Yellow),
            };
            vec![
                Cell::of(check["check"].as_str().unwrap_or_default()),
                state,
                Cell::of(check["class"].as_str().unwrap_or("-")),
                Cell::of(format!("{:.1} ms", check["latency_ms"].as_f64().unwrap_or_default())),
                Cell::of(moment(check["checked_at"].as_str().unwrap_or_default())),
                Cell::of(check["detail"].as_str().unwrap_or_default()),
            ]
        })
        .collect();
    output.table(&["CHECK", "RESULT", "WHO CAN MEND IT", "TOOK", "LOOKED AT", "DETAIL"], &rows)?;
    for warning in answer["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        output.line(format!("{}: {warning}", output.paint(Colour::Yellow, "warning")))?;
    }
    Ok(code)
}

/// What an operator has looked at.
#[derive(Debug, Subcommand)]
pub enum Ack {
    /// A restart storm: the members that wait for it go on.
    #[command(after_help = "Examples:
  baton ack restart-storm --reason 'out of memory: the limit is raised'
  baton ack restart-storm --member b2 --reason 'its disk was full'")]
    RestartStorm {
        /// Where the cluster is.
        #[command(flatten)]
        target: Target,
        /// Only this member.
        #[arg(long, value_name = "NAME")]
        member: Option<String>,
        /// Why, and whether to ask.
        #[command(flatten)]
        change: Change,
    },
}

/// Acknowledges.
///
/// # Errors
/// No instance answers, or it refuses.
pub async fn ack(ack: Ack, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let Ack::RestartStorm { target, member, change } = ack;
    let caller = target.caller(inputs)?;
    if !change.yes {
        // A member that waits for this has not joined, and shows nothing; it takes the word all the same.
        let what = preview(&caller, member.as_deref()).await.context(
            "what would be acknowledged cannot be shown: ask a member that does not wait, or add --yes",
        )?;
        caller.confirm(&change, &what, output).await?;
    }
    let body = json!({ "member": member, "reason": change.reason });
    let answer = caller.post("/api/v1/restart-storm/acknowledge", &body).await?;
    if output.is_json() {
        output.json(&answer)?;
    } else {
        output.line(format!("Acknowledged {} starts", answer["acknowledged_starts"]))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The storms that are told of, and what is about to happen.
async fn preview(caller: &Caller, member: Option<&str>) -> anyhow::Result<String> {
    let open = unresolved(caller).await?;
    let storms = open.iter().filter(|error| error["scope"] == "RESTART_STORM").map(sentence);
    let storms: Vec<String> = storms.collect();
    let known = if storms.is_empty() { "No restart storm is told of.".to_owned() } else { storms.join("\n") };
    let whose = member.map_or("every member that waits".to_owned(), |member| format!("member {member}"));
    Ok(format!("{known}\nAcknowledge the starts so far, so that {whose} goes on and may lead,"))
}
