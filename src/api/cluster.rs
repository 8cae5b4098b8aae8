//! Who is in the cluster, who leads, and what this instance is doing.

use axum::Json;
use axum::extract;
use axum::response::{IntoResponse, Response};
use ha::{Leader, Role};
use http::StatusCode;
use serde_json::{Value, json};

use super::{Context, Problem};
use crate::health::operational::State;

/// The instances, the leader and this instance's own state.
pub async fn cluster(extract::State(context): extract::State<Context>) -> Result<Json<Value>, Problem> {
    let handle = context.handle()?;
    let (role, stats) = (handle.role().borrow().clone(), handle.stats().borrow().clone());
    let leader = known_leader(&context, &role);
    let listed = handle.instances().await.map_err(|error| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "REGISTRY_UNAVAILABLE", error.to_string())
    })?;
    let incarnations: Vec<uuid::Uuid> =
        listed.iter().map(|info| info.instance.incarnation.as_uuid()).collect();
    let ledger = &context.0.ledger;
    let (states, switches) = tokio::join!(ledger.operational_states(&incarnations), ledger.switch_views());
    // Away with the database: not known, which is not the same as off.
    let (states, switches) = (states.unwrap_or_default(), switches.ok());
    let instances: Vec<Value> = listed
        .iter()
        .filter(|info| info.alive)
        .map(|info| {
            let leads = leader.as_ref().is_some_and(|leader| leader.instance == info.instance);
            let incarnation = info.instance.incarnation.as_uuid();
            let operational = states.iter().find(|row| row.incarnation == incarnation);
            json!({
                "instance": info.instance.to_string(),
                "member": info.instance.member,
                "incarnation": info.instance.incarnation,
                "status": info.status,
                "role": if leads { "leader" } else { "follower" },
                "epoch": leader.as_ref().filter(|_| leads).map(|leader| leader.epoch),
                "address": info.address,
                "version": info.version,
                "priority": info.priority,
                "alive": info.alive,
                "fenced": info.fenced,
                "reaches_broker": info.reach,
                "reaches_redis": info.redis,
                "operational": operational,
            })
        })
        .collect();
    Ok(Json(json!({
        "cluster": context.0.config.cluster.name,
        "mode": context.0.config.broker.mode.as_str(),
        "epoch": stats.epoch,
        "ha_degraded": stats.ha_degraded,
        "paused": stats.paused,
        "switches": switches,
        "leader": leader.as_ref().map(shown),
        "this": {
            "instance": handle.instance().to_string(),
            "role": role.name(),
            "operational": context.operational(),
            "recovery": context.recovery(),
        },
        "instances": instances,
    })))
}

/// 200 on the leader once it trades; 503 everywhere else, with the leader's address. A leader that still reconciles, or
/// that found something wrong, answers 503 with the role `leader`: whoever is sent here by a 200 finds orders acted on.
pub async fn leader(extract::State(context): extract::State<Context>) -> Response {
    let role = match context.handle() {
        Ok(handle) => handle.role().borrow().clone(),
        Err(problem) => return problem.into_response(),
    };
    let leader = known_leader(&context, &role);
    let operational = context.operational();
    let trades = matches!(role, Role::Leader(_)) && operational.state == State::Active;
    let body = json!({
        "role": role.name(), "trades": trades, "leader": leader.as_ref().map(shown), "operational": operational,
    });
    let status = if trades { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

pub(super) fn known_leader(context: &Context, role: &Role) -> Option<Leader> {
    match role {
        Role::Leader(fence) => Some(Leader {
            instance: fence.instance().clone(),
            epoch: fence.epoch(),
            address: context.0.config.cluster.address.clone(),
        }),
        Role::Follower { leader } => leader.clone(),
        Role::Candidate | Role::Suspended { .. } | Role::Stopped { .. } => None,
    }
}

fn shown(leader: &Leader) -> Value {
    json!({ "instance": leader.instance.to_string(), "member": leader.instance.member, "epoch": leader.epoch, "address": leader.address })
}
