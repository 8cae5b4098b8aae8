//! The verbs about leadership: who is there, who led when, hand over, put a member out.
//!
//! A change is shown before it is made, carries the epoch that was shown, and is refused if leadership has moved since.

use std::process::ExitCode;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::call::{Caller, Change, Target};
use super::output::{Cell, Colour, Output};
use crate::config::Inputs;

/// `baton handover`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The leader finishes what it has sent, then offers leadership to one ready instance at a time. If nobody
takes it, it leads on and this verb says so.

Examples:
  baton handover --to b2 --reason 'maintenance on b1'
  baton handover --reason 'new kernel' --yes"
)]
pub struct Handover {
    /// Where the cluster is found.
    #[command(flatten)]
    pub target: Target,
    /// The member that is to lead; whoever is ready when absent.
    #[arg(long, value_name = "MEMBER")]
    pub to: Option<String>,
    /// What every change needs.
    #[command(flatten)]
    pub change: Change,
}

/// `baton step-down`.
#[derive(Debug, clap::Args)]
pub struct StepDown {
    /// Where the cluster is found.
    #[command(flatten)]
    pub target: Target,
    /// Only if this member leads.
    #[arg(value_name = "MEMBER")]
    pub member: Option<String>,
    /// What every change needs.
    #[command(flatten)]
    pub change: Change,
}

/// `baton fence` and `baton unfence`.
#[derive(Debug, clap::Args)]
pub struct Fence {
    /// Where the cluster is found.
    #[command(flatten)]
    pub target: Target,
    /// The member, or one of its instances as `member/incarnation`.
    #[arg(value_name = "MEMBER")]
    pub member: String,
    /// What every change needs.
    #[command(flatten)]
    pub change: Change,
}

/// `baton instances`.
#[derive(Debug, clap::Args)]
pub struct Instances {
    /// Where the cluster is found.
    #[command(flatten)]
    pub target: Target,
}

/// `baton history`.
#[derive(Debug, clap::Args)]
pub struct History {
    /// Where the cluster is found.
    #[command(flatten)]
    pub target: Target,
    /// How many epochs.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub limit: u16,
    /// Only epochs below this one.
    #[arg(long, value_name = "EPOCH")]
    pub before: Option<i64>,
}

/// What the verbs read off `GET /api/v1/cluster`.
struct Seen(Value);

impl Seen {
    async fn ask(caller: &Caller) -> anyhow::Result<Self> {
        Ok(Self(caller.get("/api/v1/cluster").await?))
    }

    fn epoch(&self) -> &Value {
        &self.0["epoch"]
    }

    fn leader(&self) -> Option<&str> {
        self.0["leader"]["member"].as_str()
    }

    /// Members that could take over at this moment, other than `but`.
    fn ready(&self, but: Option<&str>) -> Vec<&str> {
        let listed = self.0["instances"].as_array().map(Vec::as_slice).unwrap_or_default();
        let ready = listed.iter().filter(|instance| {
            instance["status"] == "active" && instance["fenced"] != true && instance["priority"] != 0
        });
        ready.filter_map(|instance| instance["member"].as_str()).filter(|name| Some(*name) != but).collect()
    }
}

/// Hands leadership over.
///
/// # Errors
/// Nobody answers, the name was not typed, or the leader keeps leading.
pub async fn hand_over(args: Handover, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let caller = args.target.caller(inputs)?;
    pass_on(&caller, args.to.as_deref(), None, &args.change, output).await
}

/// Hands leadership over to whoever is ready.
///
/// # Errors
/// As [`hand_over`]; also if `MEMBER` does not lead.
pub async fn step_down(args: StepDown, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let caller = args.target.caller(inputs)?;
    pass_on(&caller, None, args.member.as_deref(), &args.change, output).await
}

async fn pass_on(
    caller: &Caller,
    to: Option<&str>,
    from: Option<&str>,
    change: &Change,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    let seen = Seen::ask(caller).await?;
    let Some(leader) = seen.leader() else {
        anyhow::bail!(
            "nobody leads at this moment, so there is nothing to hand over; look with `baton status`"
        )
    };
    if let Some(from) = from.filter(|from| *from != leader) {
        anyhow::bail!("{from} does not lead, {leader} does; nothing was done");
    }
    let ready = seen.ready(Some(leader));
    let whom = match to {
        Some(to) => to.to_owned(),
        None if ready.is_empty() => "nobody: no other instance is ready".to_owned(),
        None => format!("one of {}", ready.join(", ")),
    };
    let what = format!("Hand leadership over from {leader} (epoch {}) to {whom}", seen.epoch());
    caller.confirm(change, &what, output).await?;
    let mut body = json!({ "reason": change.reason, "epoch": seen.epoch() });
    if let Some(to) = to {
        body["to"] = json!(to);
    }
    let done = caller.post("/api/v1/cluster/handover", &body).await?;
    if output.is_json() {
        output.json(&done)?;
    } else {
        let name = done["to"].as_str().unwrap_or("?");
        output
            .line(format!("{name} leads, epoch {}; {} ms without a leader", done["epoch"], done["gap_ms"]))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts a member out.
///
/// # Errors
/// Nobody answers, the name was not typed, the member is unknown, or leadership moved meanwhile.
pub async fn fence(args: Fence, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let caller = args.target.caller(inputs)?;
    let seen = Seen::ask(&caller).await?;
    let member = member_of(&args.member);
    let ready = seen.ready(Some(member));
    let after = match ready.as_slice() {
        [] => "NOBODY ELSE IS READY TO LEAD".to_owned(),
        names => format!("ready to lead: {}", names.join(", ")),
    };
    let what = if seen.leader() == Some(member) {
        format!(
            "Fence {member}, WHICH LEADS: epoch {} ends at once, its orders in flight are in doubt until the successor \
             has read the broker's books; {after}",
            seen.epoch()
        )
    } else {
        format!("Fence {member}: it does not lead until the fence is lifted; {after}")
    };
    caller.confirm(&args.change, &what, output).await?;
    let body = json!({ "member": member, "reason": args.change.reason, "epoch": seen.epoch() });
    let done = caller.post("/api/v1/cluster/fence", &body).await?;
    if output.is_json() {
        output.json(&done)?;
        return Ok(ExitCode::SUCCESS);
    }
    output.line(match (done["ended_by"].as_i64(), done["already"] == true) {
        (Some(epoch), _) => {
            format!(
                "{member} is fenced; epoch {epoch} ended its leadership, and another instance may take over"
            )
        }
        (None, true) => format!("{member} was fenced already"),
        (None, false) => format!("{member} is fenced"),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Lifts a fence.
///
/// # Errors
/// As [`fence`].
pub async fn unfence(args: Fence, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let caller = args.target.caller(inputs)?;
    let seen = Seen::ask(&caller).await?;
    let member = member_of(&args.member);
    caller.confirm(&args.change, &format!("Let {member} lead again"), output).await?;
    let body = json!({ "member": member, "reason": args.change.reason, "epoch": seen.epoch() });
    let done = caller.post("/api/v1/cluster/unfence", &body).await?;
    if output.is_json() {
        output.json(&done)?;
    } else if done["lifted"] == true {
        output.line(format!("{member} may lead again"))?;
    } else {
        output.line(format!("{member} was not fenced"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Lists the instances.
///
/// # Errors
/// Nobody answers.
pub async fn instances(args: Instances, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let seen = Seen::ask(&args.target.caller(inputs)?).await?;
    let listed = seen.0["instances"].as_array().cloned().unwrap_or_default();
    if output.is_json() {
        output.json(&listed)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<Cell>> = listed.iter().map(instance).collect();
    let heading =
        ["INSTANCE", "STATUS", "ROLE", "STATE", "EPOCH", "PRIORITY", "BROKER", "VERSION", "ADDRESS"];
    output.table(&heading, &rows)?;
    Ok(ExitCode::SUCCESS)
}

fn instance(shown: &Value) -> Vec<Cell> {
    let text = |key: &str| shown[key].as_str().unwrap_or("-").to_owned();
    let (status, role) = (text("status"), text("role"));
    let fenced = shown["fenced"] == true;
    let colour = if status == "active" && !fenced { Colour::Green } else { Colour::Yellow };
    let reach = match shown["reaches_broker"].as_bool() {
        Some(true) => Cell::of("reached").in_colour(Colour::Green),
        Some(false) => Cell::of("not reached").in_colour(Colour::Red),
        None => Cell::of("-"),
    };
    vec![
        Cell::of(text("instance")),
        Cell::of(if fenced { format!("{status}, fenced") } else { status }).in_colour(colour),
        Cell::of(&role).in_colour(if role == "leader" { Colour::Bold } else { Colour::Dim }),
        Cell::of(shown["operational"]["state"].as_str().unwrap_or("-")),
        Cell::of(number(&shown["epoch"])),
        Cell::of(number(&shown["priority"])),
        reach,
        Cell::of(text("version")),
        Cell::of(text("address")),
    ]
}

/// Shows past epochs.
///
/// # Errors
/// Nobody answers, or PostgreSQL is away.
pub async fn history(args: History, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let caller = args.target.caller(inputs)?;
    let before = args.before.map(|epoch| format!("&before={epoch}")).unwrap_or_default();
    let page = caller.get(&format!("/api/v1/cluster/history?limit={}{before}", args.limit)).await?;
    if output.is_json() {
        output.json(&page)?;
        return Ok(ExitCode::SUCCESS);
    }
    let epochs = page["epochs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<Vec<Cell>> = epochs.iter().map(reign).collect();
    output
        .table(&["EPOCH", "MEMBER", "BEGAN", "REASON", "GAP MS", "ENDED", "ENDED BY", "ASKED BY"], &rows)?;
    if let Some(next) = page["next"].as_i64() {
        output.line(format!("older ones: baton history --before {next}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn reign(epoch: &Value) -> Vec<Cell> {
    let reason = epoch["reason"].as_str().unwrap_or("-");
    let colour = match reason {
        "crash" | "stale" | "fenced" => Colour::Yellow,
        _ => Colour::Green,
    };
    let commands = epoch["commands"].as_array().map(Vec::as_slice).unwrap_or_default();
    let asked: Vec<String> = commands.iter().map(command).collect();
    vec![
        Cell::of(number(&epoch["epoch"])),
        Cell::of(epoch["member"].as_str().unwrap_or("nobody")),
        Cell::of(time(&epoch["started_at"])),
        Cell::of(reason).in_colour(colour),
        Cell::of(number(&epoch["gap_ms"])),
        Cell::of(time(&epoch["ended_at"])),
        Cell::of(epoch["end_reason"].as_str().unwrap_or("-")),
        Cell::of(asked.join("; ")),
    ]
}

fn command(asked: &Value) -> String {
    let text = |key: &str| asked[key].as_str().unwrap_or_default();
    let about = asked["member"].as_str().map(|member| format!(" {member}")).unwrap_or_default();
    let came = asked["outcome"].as_str().unwrap_or("no outcome recorded");
    format!("{}{about} by {} ({}): {came}", text("verb"), text("who"), text("why"))
}

fn number(value: &Value) -> String {
    value.as_i64().map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn time(value: &Value) -> String {
    let parsed = value.as_str().and_then(|text| text.parse::<DateTime<Utc>>().ok());
    parsed.map_or_else(|| "-".to_owned(), |at| at.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// An instance stands for its member: a fence is about the place, not about one process of it.
fn member_of(name: &str) -> &str {
    name.split('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_could_lead_is_called_ready() {
        let instance = |member: &str, status: &str, fenced: bool, priority: u8| json!({ "member": member, "status": status, "fenced": fenced, "priority": priority });
        let seen = Seen(json!({ "instances": [
            instance("b1", "active", false, 1), instance("b2", "active", false, 1), instance("b3", "draining", false, 1),
            instance("b4", "active", true, 1), instance("b5", "active", false, 0),
        ] }));
        assert_eq!(seen.ready(Some("b1")), ["b2"]);
    }

    #[test]
    fn an_instance_stands_for_its_member() {
        assert_eq!(member_of("b1/0190-aa"), "b1");
        assert_eq!(member_of("b1"), "b1");
    }
}
