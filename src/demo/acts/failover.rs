//! The baton changes hands: by a crash, and by a clean stop.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::demo::audit::Term;
use crate::demo::error::Error;
use crate::demo::scene::{Scene, Takeover};
use crate::demo::step::{Step, ms};

use super::{CRASH_WITHIN, HANDOVER_WITHIN, READY_WITHIN};

/// How long a clean stop may take.
const CLEAN_STOP: Duration = Duration::from_secs(10);

/// Kills the leader's process; gives its name, too.
pub(in crate::demo) async fn kill_leader(scene: &mut Scene) -> Result<(String, Step), Error> {
    let (old, view) = (scene.leader.clone(), scene.leader_view().await?);
    let pid = scene.cluster.member(&old)?.pid();
    let begun = Instant::now();
    scene.cluster.signal(&old, Signal::KILL)?;
    let takeover = scene.takeover(view.epoch, begun).await?;
    scene.cluster.ended(&old, CLEAN_STOP).await?;
    let term = scene.audit.term().await?;
    let step = Step::new("kill", "The leader is killed with kill -9; another takes over")
        .saw(format!("{old} (process {pid}) is gone; {}", told(&takeover, &term)));
    Ok((old, judged(step, &takeover, &term, view.epoch, CRASH_WITHIN)))
}

/// Stops the leader as a deployment does; gives its name, too.
pub(in crate::demo) async fn terminate_leader(scene: &mut Scene) -> Result<(String, Step), Error> {
    let (old, view) = (scene.leader.clone(), scene.leader_view().await?);
    let begun = Instant::now();
    scene.cluster.signal(&old, Signal::TERM)?;
    let takeover = scene.takeover(view.epoch, begun).await?;
    let status = scene.cluster.ended(&old, CLEAN_STOP).await?;
    let stopped = begun.elapsed();
    let term = scene.audit.term().await?;
    let step = Step::new("handover", "The leader is stopped with SIGTERM; it hands over and leaves")
        .saw(told(&takeover, &term))
        .saw(format!("{old} ended after {:.0} ms: {status}", ms(stopped)))
        .figure("stopped_ms", ms(stopped))
        .check(status.success(), || format!("{old} ended with {status}"))
        .check(term.reason == "handover", || format!("the history calls it {}", term.reason));
    Ok((old, judged(step, &takeover, &term, view.epoch, HANDOVER_WITHIN)))
}

/// Starts a member again.
pub(in crate::demo) async fn restart(
    scene: &mut Scene,
    name: &str,
    step_name: &'static str,
) -> Result<Step, Error> {
    let begun = Instant::now();
    scene.cluster.start_member(name).await?;
    let leader = scene.cluster.all_ready(READY_WITHIN).await?;
    let took = begun.elapsed();
    Ok(Step::new(step_name, format!("{name} is started again and is ready to lead"))
        .took(took)
        .figure("member", name)
        .check(leader == scene.leader, || {
            format!("leadership moved from {} to {leader} without need", scene.leader)
        }))
}

/// Who took over, in one sentence.
pub(super) fn told(takeover: &Takeover, term: &Term) -> String {
    let gap = term.gap_ms.map_or_else(|| "unknown".to_owned(), |gap| format!("{gap} ms"));
    format!(
        "{} leads after {:.0} ms and trades after {:.0} ms (epoch {}, {}; gap in the history {gap})",
        takeover.name,
        ms(takeover.leads),
        ms(takeover.trades),
        term.epoch,
        term.reason,
    )
}

/// The checks and figures of every change of leadership.
pub(super) fn judged(step: Step, takeover: &Takeover, term: &Term, epoch: i64, within: Duration) -> Step {
    step.took(takeover.trades)
        .figure("new_leader", takeover.name.as_str())
        .figure("epoch", term.epoch)
        .figure("reason", term.reason.as_str())
        .figure("leads_ms", ms(takeover.leads))
        .figure("trades_ms", ms(takeover.trades))
        .figure("history_gap_ms", term.gap_ms)
        .check(term.epoch > epoch && term.epoch == takeover.view.epoch, || {
            format!("the epoch went from {epoch} to {}", term.epoch)
        })
        .check(term.member == takeover.name, || format!("the history says that {} leads", term.member))
        .check(takeover.trades <= within, || format!("it took more than {} ms", within.as_millis()))
}
