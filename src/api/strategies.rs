//! Strategies: what they are, what they did, who enabled or disabled them; and doing that, on any instance that reaches the
//! database.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use chrono::Utc;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::switches::SeenText;
use super::{Context, Operator, Problem};
use crate::domain::sessions::{day_start, trading_day};
use crate::ledger::strategies::{StrategyChange, StrategyRow};
use crate::strategy::trend::TrendFollower;
use crate::strategy::{Kind, Outlook, Strategy};

/// What to say of a strategy.
#[derive(Debug, Deserialize)]
pub struct Word {
    enabled: bool,
    #[serde(default)]
    reason: String,
    #[serde(flatten)]
    seen: SeenText,
}

/// A strategy as people read it.
#[derive(Serialize)]
struct Shown {
    kind: Kind,
    /// It may enter.
    enabled: bool,
    /// How it sees the market; only the leader's strategies watch it.
    #[serde(skip_serializing_if = "Option::is_none")]
    outlook: Option<Outlook>,
    #[serde(flatten)]
    row: StrategyRow,
}

/// Every strategy that is configured or has something to show, and the epoch in force.
pub async fn list(State(context): State<Context>) -> Result<Json<Value>, Problem> {
    context.handle()?;
    let epoch = context.0.ledger.epoch_in_force().await?;
    Ok(Json(json!({ "epoch": epoch, "strategies": shown(&context).await? })))
}

/// Enables or disables one: it holds for every order that is journaled after the answer.
pub async fn say(
    State(context): State<Context>,
    operator: Operator,
    Path(name): Path<String>,
    body: Result<Json<Word>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let word = super::read(body)?;
    let why = super::reason(&word.reason)?;
    let known: Vec<String> = shown(&context).await?.into_iter().map(|shown| shown.row.name).collect();
    if !known.contains(&name) {
        return Err(Problem::not_found(format!(
            "there is no strategy {name:?}, and no signal of it today; known are {}",
            known.join(", ")
        )));
    }
    let enabled = word.enabled;
    let seen = word.seen.read(enabled)?;
    let change = StrategyChange { strategy: name, enabled, who: operator.name, why, seen };
    context.0.ledger.set_strategy(&change).await?;
    let StrategyChange { strategy, enabled, who, why, .. } = change;
    let state = if enabled { "enabled" } else { "disabled" };
    tracing::warn!(strategy, who, "[STATE] strategy {strategy} is {state}: {why}");
    // The next look would see it, too.
    if let Ok(said) = context.0.ledger.strategies_said().await {
        context.0.strategies.heard(said);
    }
    list(State(context)).await
}

async fn shown(context: &Context) -> Result<Vec<Shown>, Problem> {
    context.handle()?;
    let states = context.0.strategies.load();
    let today = day_start(trading_day(Utc::now()));
    let rows = context.0.ledger.strategy_rows(&states.names(), today).await?;
    let shown = rows.into_iter().map(|row| {
        let (kind, enabled) = (states.kind(&row.name), states.is_on(&row.name, row.said));
        let outlook = match kind {
            Kind::Webhook => Some(TrendFollower.outlook()),
            Kind::SessionVwap => context.0.outlooks.of(&row.name),
        };
        Shown { kind, enabled, outlook, row }
    });
    Ok(shown.collect())
}
