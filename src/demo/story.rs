//! The order of the acts.

use std::time::Instant;

use super::acts;
use super::cluster::{LocalCluster, Settings};
use super::error::Error;
use super::scene::Scene;
use super::step::{Narrator, Step, Story};
use crate::causes::with_causes;

/// Who tells, and what was told.
struct Telling<'a> {
    narrator: &'a mut dyn Narrator,
    story: Story,
}

impl Telling<'_> {
    fn tell(&mut self, step: Step) {
        self.narrator.step(&step);
        self.story.steps.push(step);
    }
}

/// Plays the story over a cluster of its own. Gives the cluster back as the story leaves it, if it came up, for whoever
/// wants to look around; a promise that does not hold is told, and the story goes on if it can.
pub async fn tell(narrator: &mut dyn Narrator) -> (Story, Option<LocalCluster>) {
    let begun = Instant::now();
    let mut telling = Telling { narrator, story: Story::default() };
    let mut stage = None;
    let error = play(&mut telling, &mut stage).await.err();
    let mut story = telling.story;
    story.held = error.is_none() && story.steps.iter().all(|step| step.held);
    story.error = error.map(|error| with_causes(&error));
    story.elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    (story, stage.map(|scene: Scene| scene.cluster))
}

async fn play(telling: &mut Telling<'_>, stage: &mut Option<Scene>) -> Result<(), Error> {
    let (mut cluster, step) = acts::stores(Settings { moving: true, ..Settings::default() }).await?;
    telling.tell(step);
    telling.tell(acts::paper(&mut cluster).await?);
    let (scene, step) = acts::instances(cluster).await?;
    telling.tell(step);
    let scene = stage.insert(scene);

    telling.tell(acts::entry(scene).await?);
    telling.tell(acts::repeat(scene).await?);
    telling.tell(acts::market_up(scene).await?);

    let (killed, step) = acts::kill_leader(scene).await?;
    telling.tell(step);
    telling.tell(acts::pyramid(scene).await?);
    telling.tell(acts::restart(scene, &killed, "restart_killed").await?);

    let (paused, step) = acts::pause_leader(scene).await?;
    telling.tell(step);
    telling.tell(acts::wake(scene, &paused).await?);
    if !scene.cluster.member(&paused.name)?.is_running() {
        telling.tell(acts::restart(scene, &paused.name, "restart_woken").await?);
    }

    let (stopped, step) = acts::terminate_leader(scene).await?;
    telling.tell(step);
    telling.tell(acts::restart(scene, &stopped, "restart_stopped").await?);

    telling.tell(acts::outage(scene).await?);
    telling.tell(acts::corruption(scene).await?);

    telling.tell(acts::stop_hit(scene).await?);
    telling.tell(acts::exit(scene).await?);
    telling.tell(acts::compare(scene).await?);
    Ok(())
}
