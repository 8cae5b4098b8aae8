//! `GET /api/v1/day`: the account's day, what it began with, what came of it, and which limits were hit.
//!
//! The ledger has all of it but what is held is worth: only the leader watches prices, so another instance asks it, and says
//! `unknown` where it has no answer. Nothing is guessed.

use axum::Json;
use axum::extract::State;
use chrono::Utc;
use ha::{BootClock, Clock, Role};
use http::HeaderMap;
use serde_json::{Value, json};

use super::{Context, Problem};
use crate::domain::money::Rupees;
use crate::domain::portfolio::Portfolio;
use crate::domain::position::Position;
use crate::domain::sessions::{day_start, trading_day};
use crate::ledger::views::Which;

const PATH: &str = "/api/v1/day";
/// Positions that are valued at most; with more of them the sum is unknown.
const MOST: i64 = 10_000;

/// Answers by the leader's prices wherever it is asked.
pub async fn day(State(context): State<Context>, headers: HeaderMap) -> Result<Json<Value>, Problem> {
    match context.leaders_answer(&headers, PATH).await {
        Some(answer) => Ok(Json(answer)),
        None => Ok(Json(known_here(&context).await?)),
    }
}

async fn known_here(context: &Context) -> Result<Value, Problem> {
    let (role, ledger) = (context.handle()?.role().borrow().clone(), &context.0.ledger);
    let date = trading_day(Utc::now());
    let day = ledger.day(date, day_start(date)).await?;
    let latched = ledger.latches(date).await?;
    let closed = ledger.portfolio().await?.map(|portfolio| portfolio.closed_equity);
    let positions = ledger.positions(Which::Unfinished, MOST).await?;
    let unrealised = match role {
        Role::Leader(_) => unrealised(context, positions)?,
        _ => Err("only the leader watches prices, and it gave no answer".to_owned()),
    };
    let equity = unrealised.as_ref().ok().zip(closed).map(|(unrealised, closed)| closed + *unrealised);
    let pnl = equity.zip(day.opening).map(|(equity, opening)| equity - opening);
    Ok(json!({
        "date": date,
        "opening_equity": day.opening,
        "equity": equity,
        "pnl": pnl,
        "realised": day.realised,
        "charges": day.charges,
        "unrealised": unrealised.as_ref().ok(),
        "unknown": unrealised.as_ref().err(),
        "orders": day.orders,
        "stop_outs": day.stop_outs,
        "latched": latched,
    }))
}

/// What the positions have won at the prices of this instance, which leads; or why nobody can say.
fn unrealised(context: &Context, positions: Vec<Position>) -> Result<Result<Rupees, String>, Problem> {
    let prices = &context.feeds()?.prices;
    if i64::try_from(positions.len()).unwrap_or(MOST) >= MOST {
        return Ok(Err(format!("{MOST} positions or more are held")));
    }
    let listings = positions.iter().map(Position::listing);
    let quotes = prices.quotes(listings, prices.ages().worth(), BootClock.now());
    let portfolio = Portfolio { positions, ..Portfolio::default() };
    Ok(portfolio.unrealised(&quotes).map_err(|missing| missing.to_string()))
}
