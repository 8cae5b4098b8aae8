//! Monitoring in the shapes that older agents had: is it healthy, what is held, what do the connections do.
//!
//! The answers rest on what this process knows already; nothing is asked of the bridge for them, so a dashboard may ask
//! every second. Ages are computed at the answer.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use ha::{BootClock, Clock, Moment, Role, Status};
use rust_decimal::prelude::ToPrimitive;
use serde_json::{Map, Value, json};

use super::{Context, Problem};
use crate::broker::session::SessionState;
use crate::domain::position::Position;
use crate::feed::poll::Rung;
use crate::feed::{Feeds, Freshness, Listing, LiveState, Priced};
use crate::health::operational::State as Operation;
use crate::ledger::views::Which;

/// Rows of the status at most.
const MOST_TRADES: i64 = 1000;

/// Whether all that trading needs is there: `healthy`, `degraded` or `unhealthy`, with each part's own word.
pub async fn health(State(context): State<Context>) -> Result<Json<Value>, Problem> {
    let feeds = context.feeds()?;
    let operational = context.operational();
    let database = match context.0.ledger.ping().await {
        Ok(()) => (true, "reachable".to_owned()),
        Err(error) => (false, error.to_string()),
    };
    let stats = context.0.handle.get().map(|handle| handle.stats().borrow().clone());
    let cluster = match &stats {
        None => (false, "not joined yet".to_owned()),
        Some(stats) => (stats.status == Some(Status::Active), format!("{:?}", stats.status).to_lowercase()),
    };
    let degraded = stats.as_ref().is_none_or(|stats| stats.ha_degraded);
    let session = feeds.session.borrow().clone();
    let live = feeds.live.borrow().clone();
    let rung = *feeds.rung.borrow();
    let checks = json!({
        "database": check(database.0, &database.1),
        "redis": check(!degraded, if degraded { "away: only PostgreSQL arbitrates" } else { "reachable" }),
        "cluster": check(cluster.0, cluster.1.trim_start_matches("some(").trim_end_matches(')')),
        "broker_session": check(session.state == SessionState::Valid, &session.reason),
        "websocket": check(matches!(live.state, LiveState::Connected | LiveState::Disabled), &live.reason),
        "prices": check(rung != Rung::Cache, &format!("from {rung}")),
    });
    let broken = operational.state == Operation::Error || !database.0;
    let all_well = checks.as_object().is_some_and(|checks| checks.values().all(|check| check["ok"] == true));
    let status = if broken {
        "unhealthy"
    } else if all_well {
        "healthy"
    } else {
        "degraded"
    };
    Ok(Json(
        json!({ "status": status, "timestamp": Utc::now(), "operational": operational, "checks": checks }),
    ))
}

fn check(ok: bool, detail: &str) -> Value {
    json!({ "ok": ok, "detail": detail })
}

/// What the agent does and holds.
pub async fn status(State(context): State<Context>) -> Result<Json<Value>, Problem> {
    let (handle, feeds) = (context.handle()?, context.feeds()?);
    let positions = context.0.ledger.positions(Which::Unfinished, MOST_TRADES).await?;
    let now = BootClock.now();
    let trades: Vec<Value> = positions.iter().map(|position| trade(position, feeds, now)).collect();
    let leading = matches!(*handle.role().borrow(), Role::Leader(_));
    Ok(Json(json!({
        "status": context.operational().state,
        "mode": context.0.config.broker.mode.as_str(),
        "member": context.0.config.cluster.member,
        "leading": leading,
        "timestamp": Utc::now(),
        "open_trades": trades.len(),
        "trades": trades,
    })))
}

/// An open position with the price it is watched by; only the leader watches prices.
fn trade(position: &Position, feeds: &Feeds, now: Moment) -> Value {
    let listing = Listing::new(&position.exchange, &position.symbol);
    let priced = feeds.prices.get(&listing);
    let points = priced.map(|priced| (priced.price.0 - position.entry_price.0) * position.quantity.decimal());
    let pnl = points.and_then(|points| {
        points.checked_mul(position.point_value.0)?.checked_div(position.lot_size.decimal())
    });
    json!({
        "id": position.id,
        "symbol": position.symbol,
        "exchange": position.exchange,
        "instrument": position.instrument,
        "label": position.label,
        "status": position.status,
        "quantity": position.quantity,
        "entry_price": position.entry_price,
        "stop_loss": position.current_stop,
        "opened_at": position.opened_at,
        "current_price": priced.map(|priced| priced.price),
        "price_source": priced.map(|priced| priced.source.as_str()),
        "price_age_seconds": priced.map(|priced| seconds(now.since(priced.at))),
        "unrealised_pnl": pnl.map(|pnl| pnl.round_dp(2)),
    })
}

/// Every connection to the world outside.
pub async fn connection_health(State(context): State<Context>) -> Result<Json<Value>, Problem> {
    let feeds = context.feeds()?;
    Ok(Json(connections(&context, feeds)))
}

/// The same as a document.
pub(super) fn connections(context: &Context, feeds: &Feeds) -> Value {
    shown(feeds, context.0.config.feed.url.as_deref(), BootClock.now(), Utc::now())
}

fn shown(feeds: &Feeds, url: Option<&str>, now: Moment, wall: DateTime<Utc>) -> Value {
    let live = feeds.live.borrow().clone();
    let session = feeds.session.borrow().clone();
    let prices = feeds.prices.all();
    let newest = prices.iter().map(|(_, priced)| now.since(priced.at)).min();
    let entry = |(listing, priced): &(Listing, Priced)| {
        let age = now.since(priced.at);
        let freshness = feeds.prices.ages().judge(age);
        let entry = json!({
            "symbol": listing.symbol,
            "exchange": listing.exchange,
            // As a number, which older clients expect.
            "price": priced.price.0.to_f64(),
            "source": priced.source.as_str(),
            "age_seconds": seconds(age),
            "is_stale": freshness != Freshness::Live,
            "is_dead": freshness == Freshness::Dead,
        });
        (listing.to_string(), entry)
    };
    let names: Vec<Value> = feeds
        .resolver
        .known()
        .into_iter()
        .map(|name| {
            json!({
                "host": name.host,
                "addresses": name.addresses,
                "resolved_by": name.via,
                "age_seconds": name.age.map(seconds),
                "is_stale": name.stale,
                "last_error": name.failure,
            })
        })
        .collect();
    json!({
        "timestamp": wall,
        "websocket": {
            "connected": live.authenticated,
            "subscribed_symbols": live.subscribed_symbols,
            "reconnect_attempts": live.reconnect_attempts,
            "network_errors": live.network_errors,
            "state": live.state.as_str(),
            "reason": live.reason,
            "generation": live.generation,
            "url": url,
        },
        "price_cache": {
            "cached_symbols": prices.len(),
            "last_update": newest.map(|age| wall - age),
            "source": feeds.rung.borrow().as_str(),
            "cache_entries": prices.iter().map(entry).collect::<Map<_, _>>(),
        },
        "dns": { "names": names },
        "market": { "open": feeds.hours.any_open(&feeds.prices, wall) },
        "broker": {
            "session": session.state.as_str(),
            "reason": session.reason,
            "since": session.since,
            "last_proof": session.proven,
        },
    })
}

fn seconds(age: Duration) -> f64 {
    (age.as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rust_decimal::dec;
    use tokio::sync::watch;

    use super::*;
    use crate::broker::dns::Resolver;
    use crate::broker::session::Session;
    use crate::domain::money::Price;
    use crate::feed::{Hours, LiveStatus, OrderNews, PriceBoard, PriceSource};

    /// The shape that dashboards of older agents read.
    #[tokio::test]
    async fn connection_health_has_the_documented_shape() {
        let wall: DateTime<Utc> = "2026-01-05T09:00:00Z".parse().unwrap();
        let now = Moment::since_boot(Duration::from_secs(1000));
        let prices = PriceBoard::new();
        let gold = Listing::new("MCX", "GOLDM05DEC25FUT");
        prices.want(BTreeSet::from([gold.clone()]));
        prices.record(
            &gold,
            Price(dec!(140000.5)),
            PriceSource::Rest,
            now.minus(Duration::from_millis(31_500)),
        );
        let session = Session {
            state: SessionState::Expired,
            reason: "dead".to_owned(),
            since: wall,
            proven: Some(wall),
        };
        let resolver = Resolver::default();
        resolver.resolve("127.0.0.1").await.unwrap();
        let feeds = Feeds {
            prices,
            news: OrderNews::default(),
            live: watch::Sender::new(LiveStatus { network_errors: 3, ..LiveStatus::default() }).subscribe(),
            rung: watch::Sender::new(Rung::Rest).subscribe(),
            session: watch::Sender::new(session).subscribe(),
            hours: Hours::default(),
            contracts: crate::feed::ContractData::default(),
            resolver,
        };
        let expected = json!({
            "timestamp": "2026-01-05T09:00:00Z",
            "websocket": {
                "connected": false,
                "subscribed_symbols": 0,
                "reconnect_attempts": 0,
                "network_errors": 3,
                "state": "disabled",
                "reason": "feed.enabled is false",
                "generation": 0,
                "url": "ws://127.0.0.1:8765",
            },
            "price_cache": {
                "cached_symbols": 1,
                "last_update": "2026-01-05T08:59:28.500Z",
                "source": "rest",
                "cache_entries": {
                    "MCX:GOLDM05DEC25FUT": {
                        "symbol": "GOLDM05DEC25FUT",
                        "exchange": "MCX",
                        "price": 140000.5,
                        "source": "rest",
                        "age_seconds": 31.5,
                        "is_stale": true,
                        "is_dead": false,
                    },
                },
            },
            "dns": { "names": [] },
            "market": { "open": null },
            "broker": {
                "session": "expired",
                "reason": "dead",
                "since": "2026-01-05T09:00:00Z",
                "last_proof": "2026-01-05T09:00:00Z",
            },
        });
        assert_eq!(shown(&feeds, Some("ws://127.0.0.1:8765"), now, wall), expected);
    }
}
