//! Signals come in and become positions.

use std::time::Instant;

use reqwest::StatusCode;

use crate::demo::error::Error;
use crate::demo::scene::{PATIENCE, Scene, filled_sentence};
use crate::demo::step::{Step, ms};

use super::{GOLD, GOLD_PYRAMID};

/// The id of the first entry's signal; its repeat carries the same.
const ENTRY_ID: &str = "demo-gold-base";

/// A follower takes a signal, the leader trades on it.
pub(in crate::demo) async fn entry(scene: &Scene) -> Result<Step, Error> {
    scene.set_price(GOLD.instrument, GOLD.price).await?;
    let (name, follower) = scene.follower()?;
    let begun = Instant::now();
    let (status, accepted) = scene.post(follower, &GOLD.payload(ENTRY_ID)).await?;
    let durable = begun.elapsed();
    let signal = scene.finished(&accepted).await?;
    let filled = begun.elapsed();
    let held = scene.client.positions("open", 100, PATIENCE).await?;
    let position = held.iter().find(|position| position.entry_signal.to_string() == signal.id);
    let step = Step::new("entry", "A BASE_ENTRY that a follower accepts becomes a position")
        .took(filled)
        .saw(format!("{name} answered {} after {:.1} ms: durable", status.as_u16(), ms(durable)))
        .saw(format!("{} sent it: {}", scene.leader, filled_sentence(&signal)))
        .figure("accepted_by", name)
        .figure("durable_ms", ms(durable))
        .figure("filled_ms", ms(filled))
        .check(status == StatusCode::ACCEPTED, || format!("the webhook answered {status}, not 202"))
        .check(signal.status == "executed", || format!("the signal is {}", signal.status))
        .check(position.is_some(), || "no position came of it".to_owned());
    Ok(match position {
        Some(held) => step.saw(format!(
            "{} {}: {} lots from {}, stop {}",
            held.instrument,
            held.label,
            held.lots().normalize(),
            held.entry_price.0.normalize(),
            held.current_stop.0.normalize()
        )),
        None => step,
    })
}

/// The same signal again, at another instance.
pub(in crate::demo) async fn repeat(scene: &Scene) -> Result<Step, Error> {
    let before = scene.bridge.orders().await?.len();
    let leader = scene.cluster.member(&scene.leader)?;
    let begun = Instant::now();
    let (status, again) = scene.post(leader, &GOLD.payload(ENTRY_ID)).await?;
    let took = begun.elapsed();
    let (signals, unfinished) = scene.audit.signals().await?;
    let after = scene.bridge.orders().await?.len();
    Ok(Step::new("repeat", "The same signal sent again, to another instance, is the same signal")
        .took(took)
        .saw(format!(
            "{} answered {} with the first one's id and status, {}",
            scene.leader,
            status.as_u16(),
            again.status
        ))
        .figure("signals", signals)
        .figure("orders", after)
        .check(status == StatusCode::OK, || format!("the webhook answered {status}, not 200"))
        .check(again.status == "executed", || format!("its status is {}", again.status))
        .check((signals, unfinished) == (1, 0), || format!("the inbox holds {signals} signals"))
        .check(before == after, || format!("the bridge had {before} orders and has {after}")))
}

/// The market rises by six ATRs.
pub(in crate::demo) async fn market_up(scene: &Scene) -> Result<Step, Error> {
    let begun = Instant::now();
    scene.set_price(GOLD.instrument, GOLD_PYRAMID.price).await?;
    let rise = GOLD_PYRAMID.price - GOLD.price;
    Ok(Step::new("market", "The market goes up").took(begun.elapsed()).saw(format!(
        "GOLD_MINI {} to {}: {} ATR",
        GOLD.price,
        GOLD_PYRAMID.price,
        rise / GOLD.atr
    )))
}

/// The new leader knows the position and adds to it.
pub(in crate::demo) async fn pyramid(scene: &Scene) -> Result<Step, Error> {
    let (_, follower) = scene.follower()?;
    // The market has moved a little on from there meanwhile.
    scene.set_price(GOLD.instrument, GOLD_PYRAMID.price).await?;
    let begun = Instant::now();
    let signal = scene.play(follower, &GOLD_PYRAMID.payload("demo-gold-pyramid")).await?;
    let took = begun.elapsed();
    let epoch = scene.leader_view().await?.epoch;
    let orders = signal.orders.len();
    Ok(Step::new("pyramid", "The new leader knows the position: a PYRAMID after the crash executes")
        .took(took)
        .saw(format!("{} sent it: {}", scene.leader, filled_sentence(&signal)))
        .figure("filled_ms", ms(took))
        .check(signal.status == "executed", || {
            format!("the signal is {}: {}", signal.status, signal.sentences().join("; "))
        })
        .check(signal.orders.iter().all(|order| order.epoch == epoch) && orders == 1, || {
            format!("{orders} orders, not all of epoch {epoch}")
        }))
}
