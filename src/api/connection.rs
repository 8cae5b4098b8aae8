//! What the connections do, in the shape that older agents had.
//!
//! The answer rests on what this process knows already; nothing is asked of the bridge for it, so a dashboard may ask
//! every second. Ages are computed at the answer.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use ha::{BootClock, Clock, Moment};
use rust_decimal::prelude::ToPrimitive;
use serde_json::{Map, Value, json};

use super::priced::seconds;
use super::{Context, Problem};
use crate::feed::{Feeds, Freshness, Listing, Priced};

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use rust_decimal::dec;

    use super::*;
    use crate::api::fixtures::{WALL, feeds, now};
    use crate::broker::session::SessionState;
    use crate::domain::money::Price;
    use crate::feed::PriceSource;
    use crate::feed::poll::Rung;

    /// The shape that dashboards of older agents read.
    #[tokio::test]
    async fn connection_health_has_the_documented_shape() {
        let wall: DateTime<Utc> = WALL.parse().unwrap();
        let feeds = feeds(SessionState::Expired, Rung::Rest).await;
        let gold = Listing::new("MCX", "GOLDM05DEC25FUT");
        feeds.prices.want(BTreeSet::from([gold.clone()]));
        let seen = now().minus(Duration::from_millis(31_500));
        feeds.prices.record(&gold, Price(dec!(140000.5)), PriceSource::Rest, seen);
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
                "reason": "as the test has it",
                "since": "2026-01-05T09:00:00Z",
                "last_proof": "2026-01-05T09:00:00Z",
            },
        });
        assert_eq!(shown(&feeds, Some("ws://127.0.0.1:8765"), now(), wall), expected);
    }
}
