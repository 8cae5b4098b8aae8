//! The positions are closed, and the bridge's record is laid beside the ledger.

use std::time::Instant;

use rust_decimal::{Decimal, dec};

use crate::demo::bridge::{net, orders_by_tag};
use crate::demo::error::Error;
use crate::demo::scene::{PATIENCE, Scene, exit_payload, filled_sentence};
use crate::demo::step::Step;

use super::GOLD;

/// Where gold is sold; silver's stop has sold it.
const SALES: [(&str, &str, Decimal); 1] = [(GOLD.instrument, "demo-gold-exit", dec!(143_000))];

/// Closes everything.
pub(in crate::demo) async fn exit(scene: &Scene) -> Result<Step, Error> {
    let begun = Instant::now();
    let mut step = Step::new("exit", "An EXIT closes every position that is left");
    for (instrument, id, price) in SALES {
        scene.set_price(instrument, price).await?;
        let (_, follower) = scene.follower()?;
        let signal = scene.play(follower, &exit_payload(id, instrument, price)).await?;
        step = step
            .saw(format!("{instrument}: {}", filled_sentence(&signal)))
            .check(signal.status == "executed", || format!("{id} is {}", signal.status));
    }
    let took = begun.elapsed();
    let open = scene.client.positions("open", 100, PATIENCE).await?;
    let closed = scene.client.positions("closed", 100, PATIENCE).await?;
    let realised: Decimal = closed.iter().map(|position| position.realised.0).sum();
    Ok(step
        .took(took)
        .saw(format!("flat; {} positions brought ₹{}", closed.len(), realised.round_dp(2).normalize()))
        .figure("realised", realised.normalize().to_string())
        .figure("closed", closed.len())
        .check(open.is_empty(), || format!("{} positions are still held", open.len()))
        .check(closed.len() == 3, || format!("{} positions were closed, not 3", closed.len()))
        .check(realised > Decimal::ZERO, || "the market rose and nothing was won".to_owned()))
}

/// Lays the bridge's record beside the ledger: every order has its intent, every intent its one order.
pub(in crate::demo) async fn compare(scene: &Scene) -> Result<Step, Error> {
    let begun = Instant::now();
    let intents = scene.audit.intents().await?;
    let (signals, unfinished) = scene.audit.signals().await?;
    let orders = scene.bridge.orders().await?;
    let arrivals = scene.bridge.arrivals().await?;
    let placed = arrivals.iter().filter(|arrival| arrival.verb == "placeorder").count();
    let by_tag = orders_by_tag(&orders);
    let doubled = by_tag.values().filter(|count| **count > 1).count();
    let sent = intents.iter().filter(|intent| intent.was_sent()).count();
    let without_order = intents
        .iter()
        .filter(|intent| intent.was_sent() && !by_tag.contains_key(intent.tag.as_str()))
        .count();
    let without_intent =
        by_tag.keys().filter(|tag| !intents.iter().any(|intent| intent.tag == **tag)).count();
    let epochs: std::collections::BTreeSet<i64> = intents.iter().map(|intent| intent.epoch).collect();
    let held: Vec<_> = net(&orders).into_iter().filter(|(_, units)| *units != 0).collect();
    Ok(Step::new("compare", "The bridge's own record equals the ledger: no order lost, none doubled")
        .took(begun.elapsed())
        .saw(format!(
            "{signals} signals, {sent} intents under {} epochs, {placed} requests and {} orders at the bridge",
            epochs.len(),
            orders.len()
        ))
        .figure("signals", signals)
        .figure("intents", sent)
        .figure("requests", placed)
        .figure("orders", orders.len())
        .figure("doubled", doubled)
        .check(unfinished == 0, || format!("{unfinished} signals are not final"))
        .check(sent == orders.len(), || format!("{sent} intents, {} orders", orders.len()))
        .check(placed == orders.len(), || format!("{placed} requests made {} orders", orders.len()))
        .check(doubled == 0, || format!("{doubled} intents have more than one order"))
        .check(without_order == 0, || format!("{without_order} intents have no order"))
        .check(without_intent == 0, || format!("{without_intent} orders have no intent"))
        .check(held.is_empty(), || format!("the bridge still holds {held:?}")))
}
