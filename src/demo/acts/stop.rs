//! The price falls through a stop while the feed is cut.

use std::time::Instant;

use rust_decimal::{Decimal, dec};
use tokio::time::sleep;

use crate::demo::cluster::LOOK;
use crate::demo::error::Error;
use crate::demo::scene::{PATIENCE, Scene};
use crate::demo::step::{Step, ms};

use super::{SILVER, STOP_WITHIN};

/// Below silver's stop, and not a jump.
const FALLEN: Decimal = dec!(153_900);

/// No tick comes any more, the price falls through the stop, and the leader sells.
pub(in crate::demo) async fn stop_hit(scene: &Scene) -> Result<Step, Error> {
    scene.bridge.cut_feed().await?;
    scene.set_price(SILVER.instrument, FALLEN).await?;
    let begun = Instant::now();
    let took = loop {
        let held = scene.client.positions("open", 100, PATIENCE).await?;
        let symbol = &scene.instrument(SILVER.instrument).symbol;
        if !held.iter().any(|position| position.instrument == SILVER.instrument) {
            break begun.elapsed();
        }
        if begun.elapsed() > PATIENCE {
            let what = format!("the stop of {symbol} sells");
            return Err(Error::Late { what, waited: PATIENCE });
        }
        sleep(LOOK).await;
    };
    scene.bridge.heal().await?;
    let intents = scene.audit.intents().await?;
    let exits: Vec<_> = intents
        .iter()
        .filter(|intent| intent.instrument == SILVER.instrument && intent.class != "entry")
        .collect();
    let by_stop =
        exits.iter().all(|exit| exit.class == "protective" && exit.cause.as_deref() == Some("stop_loss"));
    Ok(Step::new("stop", "With the feed cut a price falls through a stop, and the leader sells")
        .took(took)
        .saw(format!("{} to {FALLEN}, its stop {}: sold by {}", SILVER.instrument, SILVER.stop, scene.leader))
        .figure("sold_ms", ms(took))
        .check(exits.len() == 1 && by_stop, || format!("{} exits, not one by the stop", exits.len()))
        .check(took < STOP_WITHIN, || format!("it took longer than {STOP_WITHIN:?}")))
}
