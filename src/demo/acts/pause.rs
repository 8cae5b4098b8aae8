//! The leader hangs, is replaced, and wakes up as if nothing had happened: the case that a lock alone gets wrong.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::time::sleep;

use crate::demo::cluster::LOOK;
use crate::demo::error::Error;
use crate::demo::scene::{Scene, filled_sentence};
use crate::demo::step::{Step, ms};

use super::failover::{judged, told};
use super::{HANG_WITHIN, SILVER};

/// How long a woken leader may take to notice that it is none.
const NOTICE: Duration = Duration::from_secs(15);

/// The leader that was paused, and what the bridge had seen by then.
#[derive(Debug)]
pub(in crate::demo) struct Paused {
    pub(in crate::demo) name: String,
    incarnation: String,
    arrivals: usize,
}

/// Pauses the leader's process; a signal that comes in meanwhile waits for the next leader.
pub(in crate::demo) async fn pause_leader(scene: &mut Scene) -> Result<(Paused, Step), Error> {
    scene.set_price(SILVER.instrument, SILVER.price).await?;
    let (name, view) = (scene.leader.clone(), scene.leader_view().await?);
    let arrivals = scene.bridge.arrivals().await?.len();
    let paused = Paused { name, incarnation: view.incarnation().to_owned(), arrivals };
    let begun = Instant::now();
    scene.cluster.signal(&paused.name, Signal::STOP)?;
    while !scene.cluster.member(&paused.name)?.is_stopped() && begun.elapsed() < HANG_WITHIN {
        sleep(LOOK).await;
    }
    let (taker, accepted) = {
        let (taker, follower) = scene.follower()?;
        (taker.to_owned(), scene.post(follower, &SILVER.payload("demo-silver-base")).await?.1)
    };
    let takeover = scene.takeover(view.epoch, begun).await?;
    let signal = scene.finished(&accepted).await?;
    let filled = begun.elapsed();
    let term = scene.audit.term().await?;
    let step = Step::new("pause", "The leader is paused (SIGSTOP) and replaced; no signal is lost meanwhile")
        .saw(format!("{} hangs; {}", paused.name, told(&takeover, &term)))
        .saw(format!("a BASE_ENTRY sent to {taker} meanwhile: {}", filled_sentence(&signal)))
        .figure("paused", paused.name.as_str())
        .figure("filled_ms", ms(filled))
        .check(signal.status == "executed", || format!("the signal is {}", signal.status));
    let step = judged(step, &takeover, &term, view.epoch, HANG_WITHIN);
    Ok((paused, step))
}

/// Wakes it: it must notice, and must not have sent anything.
pub(in crate::demo) async fn wake(scene: &Scene, paused: &Paused) -> Result<Step, Error> {
    let begun = Instant::now();
    scene.cluster.signal(&paused.name, Signal::CONT)?;
    let member = scene.cluster.member(&paused.name)?;
    let epoch = scene.leader_view().await?.epoch;
    let noticed = loop {
        if !member.is_running() {
            break "ended itself";
        }
        let view = member.view(scene.cluster.http()).await;
        if view.is_some_and(|view| !view.leads() && view.epoch >= epoch) {
            break "follows";
        }
        if begun.elapsed() > NOTICE {
            break "still believes that it leads";
        }
        sleep(LOOK).await;
    };
    let took = begun.elapsed();
    let intents = scene.audit.intents().await?;
    let own: HashSet<&str> = intents
        .iter()
        .filter(|intent| intent.incarnation.to_string() == paused.incarnation)
        .map(|intent| intent.tag.as_str())
        .collect();
    let arrivals = scene.bridge.arrivals().await?;
    let since = arrivals.get(paused.arrivals..).unwrap_or_default();
    let from_it = since.iter().filter(|arrival| own.contains(arrival.tag())).count();
    let unknown = since.iter().filter(|arrival| !intents.iter().any(|intent| intent.tag == arrival.tag()));
    let unknown = unknown.count();
    Ok(Step::new("wake", "The paused leader wakes up, finds itself replaced, and sends nothing")
        .took(took)
        .saw(format!("{} {noticed} after {:.0} ms", paused.name, ms(took)))
        .saw(format!(
            "order requests at the bridge since the pause: {} in all, {from_it} from it",
            since.len()
        ))
        .figure("requests_since", since.len())
        .figure("requests_from_it", from_it)
        .check(noticed != "still believes that it leads", || format!("it {noticed}"))
        .check(from_it == 0, || format!("it sent {from_it} order requests"))
        .check(unknown == 0, || format!("{unknown} order requests have no intent"))
        .check(!since.is_empty(), || "the new leader sent nothing either".to_owned()))
}
