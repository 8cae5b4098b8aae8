//! Is it healthy, and what is held: the monitoring that older agents had, in its shapes.
//!
//! The answers rest on what this process knows already; nothing is asked of the bridge for them, so a dashboard may ask
//! every second.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use ha::{Role, Status};
use serde_json::{Value, json};

use super::priced::Prices;
use super::{Context, Problem};
use crate::broker::session::SessionState;
use crate::domain::position::Position;
use crate::feed::poll::Rung;
use crate::feed::{Feeds, LiveState};
use crate::health::checks::Check;
use crate::health::operational::{Operational, State as Operation};
use crate::health::rounds::Report;
use crate::ledger::views::Which;

/// Rows of the status at most.
const MOST_TRADES: i64 = 1000;

/// How the instance stands to its cluster.
struct Membership {
    status: Option<Status>,
    /// Redis is away.
    degraded: bool,
}

/// Whether all that trading needs is there: `healthy`, `degraded` or `unhealthy`, with each part's own word.
pub async fn health(State(context): State<Context>) -> Result<Json<Value>, Problem> {
    let feeds = context.feeds()?;
    let database = context.0.ledger.ping().await.map_err(|error| error.to_string());
    let membership = context.0.handle.get().map(|handle| {
        let stats = handle.stats().borrow().clone();
        Membership { status: stats.status, degraded: stats.ha_degraded }
    });
    let report = context.0.rounds.watch().borrow().clone();
    let mut said = judged(&context.operational(), &database, membership.as_ref(), feeds, Utc::now());
    add_rounds(&mut said, report.as_ref());
    Ok(Json(said))
}

fn judged(
    operational: &Operational,
    database: &Result<(), String>,
    membership: Option<&Membership>,
    feeds: &Feeds,
    wall: DateTime<Utc>,
) -> Value {
    let status = membership.and_then(|membership| membership.status);
    let cluster = match (membership, status) {
        (None, _) => "not joined yet",
        (_, None) => "none",
        (_, Some(Status::Recovering)) => "recovering",
        (_, Some(Status::Active)) => "active",
        (_, Some(Status::Draining)) => "draining",
    };
    let redis = membership.is_some_and(|membership| !membership.degraded);
    let session = feeds.session.borrow();
    let live = feeds.live.borrow();
    let rung = *feeds.rung.borrow();
    let checks = json!({
        "database": check(database.is_ok(), database.as_ref().err().map_or("reachable", String::as_str)),
        "redis": check(redis, if redis { "reachable" } else { "away: only PostgreSQL arbitrates" }),
        "cluster": check(status == Some(Status::Active), cluster),
        "broker_session": check(session.state == SessionState::Valid, &session.reason),
        "websocket": check(matches!(live.state, LiveState::Connected | LiveState::Disabled), &live.reason),
        "prices": check(rung != Rung::Cache, &format!("from {rung}")),
    });
    let broken = operational.state == Operation::Error || database.is_err();
    let all_well = checks.as_object().is_some_and(|checks| checks.values().all(|check| check["ok"] == true));
    let status = match (broken, all_well) {
        (true, _) => "unhealthy",
        (false, true) => "healthy",
        (false, false) => "degraded",
    };
    json!({ "status": status, "timestamp": wall, "operational": operational, "checks": checks })
}

/// Adds what the last round of checks found of the bridge, with how long each took and when. What is not known, because the
/// first round is under way or the bridge does not answer, is null, and makes nothing worse than it is.
fn add_rounds(said: &mut Value, report: Option<&Report>) {
    for which in [Check::Bridge, Check::BridgeAuth, Check::AnalyzerMode] {
        let found = report.and_then(|report| report.checks.iter().find(|outcome| outcome.check == which));
        let up = found.and_then(|outcome| outcome.up);
        said["checks"][which.as_str()] = json!({
            "ok": up,
            "detail": found.map_or("not looked at yet", |outcome| outcome.detail.as_str()),
            "latency_ms": found.map(|outcome| outcome.latency_ms),
            "checked_at": found.map(|outcome| outcome.checked_at),
        });
        if up == Some(false) && said["status"] == "healthy" {
            said["status"] = json!("degraded");
        }
    }
}

fn check(ok: bool, detail: &str) -> Value {
    json!({ "ok": ok, "detail": detail })
}

/// What the agent does and holds.
pub async fn status(State(context): State<Context>) -> Result<Json<Value>, Problem> {
    let handle = context.handle()?;
    context.feeds()?;
    let positions = context.0.ledger.positions(Which::Unfinished, MOST_TRADES).await?;
    let config = &context.0.config;
    let who = json!({
        "status": context.operational().state,
        "mode": config.broker.mode.as_str(),
        "member": config.cluster.member,
        "leading": matches!(*handle.role().borrow(), Role::Leader(_)),
        "timestamp": Utc::now(),
    });
    Ok(Json(holding(who, &positions, &Prices::of(&context))))
}

/// Adds the open positions, each with the price that it is watched by.
fn holding(mut document: Value, positions: &[Position], prices: &Prices<'_>) -> Value {
    let trade = |position: &Position| {
        let mut trade = json!({
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
        });
        prices.add_to(&mut trade, position);
        trade
    };
    document["open_trades"] = json!(positions.len());
    document["prices"] = json!(prices.word());
    document["trades"] = positions.iter().map(trade).collect();
    document
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ha::Moment;
    use rust_decimal::dec;

    use super::*;
    use crate::api::fixtures::{WALL, feeds, now};
    use crate::domain::fixtures::{at, position};
    use crate::domain::money::Price;
    use crate::feed::PriceSource;
    use crate::health::checks::Outcome;
    use crate::health::rounds::Phase;

    fn operational(state: Operation, code: Option<&'static str>) -> Operational {
        Operational { state, code, reason: "leads and trades".to_owned(), entered_at: wall() }
    }

    fn wall() -> DateTime<Utc> {
        WALL.parse().unwrap()
    }

    fn member(status: Option<Status>) -> Membership {
        Membership { status, degraded: false }
    }

    // R: D5
    #[tokio::test]
    async fn health_has_the_documented_shape() {
        let feeds = feeds(SessionState::Valid, Rung::Live).await;
        let trades = operational(Operation::Active, None);
        let said = judged(&trades, &Ok(()), Some(&member(Some(Status::Active))), &feeds, wall());
        let expected = json!({
            "status": "healthy",
            "timestamp": "2026-01-05T09:00:00Z",
            "operational": {
                "state": "ACTIVE",
                "code": null,
                "reason": "leads and trades",
                "entered_at": "2026-01-05T09:00:00Z",
            },
            "checks": {
                "database": { "ok": true, "detail": "reachable" },
                "redis": { "ok": true, "detail": "reachable" },
                "cluster": { "ok": true, "detail": "active" },
                "broker_session": { "ok": true, "detail": "as the test has it" },
                "websocket": { "ok": true, "detail": "feed.enabled is false" },
                "prices": { "ok": true, "detail": "from live" },
            },
        });
        assert_eq!(said, expected);
    }

    #[tokio::test]
    async fn one_part_that_is_not_well_degrades_and_an_error_or_a_database_away_is_worse() {
        let well = feeds(SessionState::Valid, Rung::Live).await;
        let (trades, active) = (operational(Operation::Active, None), member(Some(Status::Active)));
        let said = |operational: &Operational,
                    database: Result<(), String>,
                    membership: Option<&Membership>,
                    feeds: &Feeds| {
            let said = judged(operational, &database, membership, feeds, wall());
            let bad = said["checks"].as_object().unwrap().iter().filter(|(_, check)| check["ok"] == false);
            let bad: Vec<String> = bad.map(|(name, check)| format!("{name}: {}", check["detail"])).collect();
            (said["status"].as_str().unwrap().to_owned(), bad.join("; "))
        };
        let degraded = |why: &str| ("degraded".to_owned(), why.to_owned());
        let expired = feeds(SessionState::Expired, Rung::Live).await;
        assert_eq!(
            said(&trades, Ok(()), Some(&active), &expired),
            degraded(r#"broker_session: "as the test has it""#)
        );
        let cached = feeds(SessionState::Valid, Rung::Cache).await;
        assert_eq!(said(&trades, Ok(()), Some(&active), &cached), degraded(r#"prices: "from cache""#));
        let alone = Membership { degraded: true, ..active };
        let away = r#"redis: "away: only PostgreSQL arbitrates""#;
        assert_eq!(said(&trades, Ok(()), Some(&alone), &well), degraded(away));
        for (status, word) in [(Status::Recovering, "recovering"), (Status::Draining, "draining")] {
            let cluster = format!("cluster: {word:?}");
            assert_eq!(said(&trades, Ok(()), Some(&member(Some(status))), &well), degraded(&cluster));
        }
        let outside = format!(r#"cluster: "not joined yet"; {away}"#);
        assert_eq!(said(&trades, Ok(()), None, &well), degraded(&outside));
        let dead = said(&trades, Err("it is away".to_owned()), Some(&active), &well);
        assert_eq!(dead, ("unhealthy".to_owned(), r#"database: "it is away""#.to_owned()));
        let error = operational(Operation::Error, Some("DATA_CORRUPT"));
        assert_eq!(said(&error, Ok(()), Some(&active), &well).0, "unhealthy");
    }

    // R: N1, D5: what the rounds found of the bridge, with the times
    #[test]
    fn health_has_the_bridges_checks_with_their_times_and_is_degraded_by_one_that_fails() {
        let outcome = |check: Check, up: Option<bool>| Outcome {
            check,
            vital: true,
            up,
            class: None,
            detail: "as the test has it".to_owned(),
            latency_ms: 1.5,
            checked_at: wall(),
            since: wall(),
            failures: 0,
        };
        let said = |key: Option<bool>, mode: Option<bool>| {
            let checks = [(Check::Bridge, Some(true)), (Check::BridgeAuth, key), (Check::AnalyzerMode, mode)];
            let checks = checks.map(|(check, up)| outcome(check, up)).to_vec();
            let (phase, next_at) = (Phase::Passing, wall());
            let report = Report { phase, round: 1, started: true, startup_retries: 0, next_at, checks };
            let mut said = json!({ "status": "healthy", "checks": {} });
            add_rounds(&mut said, Some(&report));
            said
        };
        let well = said(Some(true), None);
        let timed = |ok: Value| json!({ "ok": ok, "detail": "as the test has it", "latency_ms": 1.5, "checked_at": WALL });
        let (passed, unknown) = (timed(json!(true)), timed(Value::Null));
        let checks = json!({ "bridge": passed, "bridge_auth": passed, "analyzer_mode": unknown });
        assert_eq!(well, json!({ "status": "healthy", "checks": checks }));
        assert_eq!(said(Some(false), None)["status"], "degraded");
        assert_eq!(said(Some(true), Some(false))["status"], "degraded");
        let mut first = json!({ "status": "unhealthy", "checks": {} });
        add_rounds(&mut first, None);
        let unknown =
            json!({ "ok": null, "detail": "not looked at yet", "latency_ms": null, "checked_at": null });
        assert_eq!((&first["status"], &first["checks"]["bridge"]), (&json!("unhealthy"), &unknown));
    }

    fn who() -> Value {
        json!({ "status": "ACTIVE", "mode": "live", "member": "b1", "leading": true, "timestamp": WALL })
    }

    // R: D5
    #[tokio::test]
    async fn status_has_the_documented_shape() {
        let feeds = feeds(SessionState::Valid, Rung::Live).await;
        let gold = position("GOLD_MINI", 1, 9, dec!(140_000), dec!(139_000), 1);
        let copper = position("COPPER", 1, 1, dec!(800), dec!(790), 2);
        let seen: Moment = now().minus(Duration::from_millis(1_250));
        feeds.prices.want([gold.listing(), copper.listing()].into());
        feeds.prices.record(&gold.listing(), Price(dec!(140_100.5)), PriceSource::Live, seen);
        let said = holding(who(), &[gold.clone(), copper], &Prices::watched(&feeds, now()));
        let expected = json!({
            "status": "ACTIVE",
            "mode": "live",
            "member": "b1",
            "leading": true,
            "timestamp": "2026-01-05T09:00:00Z",
            "open_trades": 2,
            "prices": "watched",
            "trades": [
                {
                    "id": "00000000-0000-0000-0000-000000000001",
                    "symbol": "GOLDM05DEC25FUT",
                    "exchange": "MCX",
                    "instrument": "GOLD_MINI",
                    "label": "Long_1",
                    "status": "open",
                    "quantity": 900,
                    "entry_price": "140000",
                    "stop_loss": "139000",
                    "opened_at": at(1),
                    "current_price": "140100.5",
                    "price_source": "live",
                    "price_age_seconds": 1.25,
                    // 100.5 points on 9 lots at ₹10.
                    "unrealised_pnl": "9045.00",
                },
                {
                    "id": "00000000-0000-0000-0000-000000000002",
                    "symbol": "COPPER31DEC25FUT",
                    "exchange": "MCX",
                    "instrument": "COPPER",
                    "label": "Long_1",
                    "status": "open",
                    "quantity": 2500,
                    "entry_price": "800",
                    "stop_loss": "790",
                    "opened_at": at(2),
                    "current_price": null,
                    "price_source": null,
                    "price_age_seconds": null,
                    "unrealised_pnl": null,
                },
            ],
        });
        assert_eq!(figures(said), figures(expected));
        let elsewhere = holding(who(), &[gold], &Prices::unknown(now()));
        assert_eq!(elsewhere["prices"], "unknown here");
        assert_eq!(elsewhere["trades"][0]["current_price"], Value::Null, "{elsewhere}");
    }

    /// Amounts without the zeros at their end, which say nothing.
    fn figures(mut document: Value) -> Value {
        for trade in document["trades"].as_array_mut().unwrap() {
            for name in ["entry_price", "stop_loss", "current_price", "unrealised_pnl"] {
                if let Some(text) = trade[name].as_str() {
                    let amount: rust_decimal::Decimal = text.parse().unwrap();
                    trade[name] = json!(amount.normalize().to_string());
                }
            }
        }
        document
    }
}
