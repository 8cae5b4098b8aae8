//! Stored state: the database goes away and comes back; somebody writes to it who should not.

use std::time::Instant;

use tokio::time::sleep;

use crate::demo::audit::{self, Audit};
use crate::demo::cluster::LOOK;
use crate::demo::error::Error;
use crate::demo::scene::{PATIENCE, Scene};
use crate::demo::step::{Step, ms};

use super::{COPPER, OUTAGE_WITHIN, READY_WITHIN, REPAIR_WITHIN};

/// The database is stopped and started again: nobody trades meanwhile, and everybody stays up.
pub(in crate::demo) async fn outage(scene: &mut Scene) -> Result<Step, Error> {
    let held = scene.client.positions("open", 100, PATIENCE).await?.len();
    let stores = |error: local::postgres::Error| Error::Stores(Box::new(error.into()));
    scene.cluster.postgres().stop().await.map_err(stores)?;
    let stopped = Instant::now();
    let said = until(scene, "ACTIVE", false).await?;
    let noticed = stopped.elapsed();
    let begun = Instant::now();
    scene.cluster.postgres().start().await.map_err(stores)?;
    let accepts = begun.elapsed();
    scene.leader = scene.cluster.all_ready(READY_WITHIN).await?;
    let took = begun.elapsed() - accepts;
    scene.audit = Audit::connect(&scene.cluster.database_url()).await?;
    let after = scene.client.positions("open", 100, PATIENCE).await?.len();
    let term = scene.audit.term().await?;
    Ok(Step::new(
        "outage",
        "The database stops: nobody trades, all stay up; it starts, and all goes on by itself",
    )
    .took(took)
    .saw(format!("noticed after {:.0} ms: {said}", ms(noticed)))
    .saw(format!(
        "{} trades {:.0} ms after the database accepts (epoch {}), all are ready, {after} positions are held",
        scene.leader,
        ms(took),
        term.epoch
    ))
    .figure("noticed_ms", ms(noticed))
    .figure("trades_ms", ms(took))
    .check(after == held, || format!("{held} positions became {after}"))
    .check(took < OUTAGE_WITHIN, || format!("it took longer than {OUTAGE_WITHIN:?}")))
}

/// A stored figure is changed by hand: nobody trades into it, until a repair that is shown, proven and audited.
pub(in crate::demo) async fn corruption(scene: &mut Scene) -> Result<Step, Error> {
    let orders = scene.bridge.orders().await?.len();
    audit::tamper(&scene.cluster.database_url()).await?;
    let tampered = Instant::now();
    let said = until(scene, "ERROR", true).await?;
    let found = tampered.elapsed();
    let (_, follower) = scene.follower()?;
    let refused = scene.play(follower, &COPPER.payload("demo-copper-base")).await?;
    let begun = Instant::now();
    let repaired = scene
        .cluster
        .verb(&["recover", "--repair", "--apply", "--reason", "demo", "--operator", "demo", "--yes"])
        .await?;
    until(scene, "ACTIVE", true).await?;
    let took = begun.elapsed();
    scene.leader = scene.cluster.all_ready(READY_WITHIN).await?;
    let after = scene.bridge.orders().await?.len();
    Ok(Step::new("corruption", "A stored figure is changed by hand: nobody trades into it, until a repair")
        .took(took)
        .saw(format!("found after {:.0} ms: {said}", ms(found)))
        .saw(format!("a BASE_ENTRY meanwhile: {} {}", refused.status, refused.sentences().join("; ")))
        .saw(format!("`baton recover --repair --apply`: {}", repaired.lines().next().unwrap_or_default()))
        .figure("found_ms", ms(found))
        .figure("repaired_ms", ms(took))
        .check(said.contains("Risk amount mismatch: DB=999999.99"), || "the mismatch is not named".to_owned())
        .check(refused.status == "refused" && after == orders, || {
            format!("the signal is {}, and {} orders went out", refused.status, after - orders)
        })
        .check(took < REPAIR_WITHIN, || format!("it took longer than {REPAIR_WITHIN:?}")))
}

/// Waits until some instance is in this state, or none is any more; gives what one of them says.
async fn until(scene: &Scene, state: &str, wanted: bool) -> Result<String, Error> {
    let begun = Instant::now();
    loop {
        let said = scene.cluster.operational().await;
        let found = said.iter().find(|(found, _)| found == state);
        match (found, said.first()) {
            (Some((_, reason)), _) if wanted => return Ok(reason.clone()),
            (None, Some((_, reason))) if !wanted => return Ok(reason.clone()),
            _ if begun.elapsed() > PATIENCE => {
                let what = format!("{} instance is {state}", if wanted { "some" } else { "no" });
                return Err(Error::Late { what, waited: PATIENCE });
            }
            _ => sleep(LOOK).await,
        }
    }
}
