//! Everything comes up.

use std::time::Instant;

use crate::demo::cluster::{LocalCluster, Settings};
use crate::demo::error::Error;
use crate::demo::scene::Scene;
use crate::demo::step::Step;

use super::READY_WITHIN;

/// Starts PostgreSQL and Redis.
pub(in crate::demo) async fn stores(settings: Settings) -> Result<(LocalCluster, Step), Error> {
    let begun = Instant::now();
    let cluster = LocalCluster::open(settings).await?;
    let step = Step::new("stores", "Private PostgreSQL and Redis are up").took(begun.elapsed());
    Ok((cluster, step))
}

/// Starts the paper bridge.
pub(in crate::demo) async fn paper(cluster: &mut LocalCluster) -> Result<Step, Error> {
    let begun = Instant::now();
    cluster.start_paper().await?;
    let control = cluster.control_url();
    Ok(Step::new("paper", "The paper bridge is up, and its market moves")
        .took(begun.elapsed())
        .figure("control", control))
}

/// Starts the instances; one must trade, the others must be able to.
pub(in crate::demo) async fn instances(mut cluster: LocalCluster) -> Result<(Scene, Step), Error> {
    let begun = Instant::now();
    cluster.start_members().await?;
    let leader = cluster.all_ready(READY_WITHIN).await?;
    let took = begun.elapsed();
    let scene = Scene::new(cluster, leader).await?;
    let epoch = scene.leader_view().await?.epoch;
    let all = scene.cluster.members().len();
    let warm: Vec<&str> = scene.followers().map(|(name, _)| name).collect();
    let step = Step::new("instances", format!("{all} instances are up; one trades, the others are ready"))
        .took(took)
        .saw(format!("{} leads under epoch {epoch}; {} wait, warm", scene.leader, warm.join(" and ")))
        .figure("leader", scene.leader.as_str())
        .figure("epoch", epoch);
    Ok((scene, step))
}
