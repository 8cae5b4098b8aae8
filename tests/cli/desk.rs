//! An instance that answers every route with one fixed state, for the golden outputs.

use serde_json::{Value, json};

/// What it answers to a path.
pub fn answer(_: &str, path: &str) -> (&'static str, String) {
    let route = path.split('?').next().unwrap_or_default();
    let document = match route {
        "/readyz" => return ("200 OK", "ready\n".to_owned()),
        "/api/v1/cluster" => cluster(),
        "/api/v1/day" => json!({
            "date": "2026-08-10", "opening_equity": "5000000", "equity": "4989400.005", "pnl": "-10599.995",
            "realised": "-12000", "charges": "575.76", "unrealised": "1400.005", "unknown": null, "orders": 3, "stop_outs": 1,
            "latched": [{ "code": "MAX_DAILY_LOSS", "at": "2026-08-10T04:30:00Z",
                "sentence": "the day's loss of ₹10600.00 reached ₹10000" }],
        }),
        "/api/v1/cluster/history" => history(),
        "/api/v1/cluster/handover" => json!({ "to": "b2", "epoch": 18, "gap_ms": 41 }),
        "/api/v1/cluster/fence" => json!({ "ended_by": 18, "already": false }),
        "/api/v1/cluster/unfence" => json!({ "lifted": true }),
        "/api/v1/monitoring/states" => states(),
        "/api/v1/monitoring/check" => checks(),
        "/api/v1/events" => events(),
        "/api/v1/errors" => json!({ "errors": [error()] }),
        "/api/v1/errors/17/acknowledge" | "/api/v1/errors/17/resolve" => error(),
        "/api/v1/errors/summary" => summary(),
        "/api/v1/switches" => switches(),
        "/api/v1/restart-storm/acknowledge" => json!({ "acknowledged_starts": 7, "member": null }),
        "/api/v1/positions/close" | "/api/v1/positions/flatten" => closed(),
        "/api/v1/positions/diff" => diff(),
        "/api/v1/positions" => positions(),
        "/api/v1/signals" => json!({ "counts": [
            { "type": "BASE_ENTRY", "status": "executed", "count": 12 }, { "type": "EXIT", "status": "refused", "count": 1 },
        ] }),
        "/api/v1/signals/list" => json!({ "signals": [signal()], "next": "64f-0199" }),
        "/api/v1/signals/0199a1b2-0000-7000-8000-000000000002"
        | "/api/v1/signals/0199a1b2-0000-7000-8000-000000000002/drop" => signal(),
        "/api/v1/signals/0199a1b2-0000-7000-8000-000000000002/replay" => json!({
            "id": "0199a1b2-0000-7000-8000-000000000009", "key": "replay:0199a1b2-0000-7000-8000-000000000002", "status": "accepted",
        }),
        "/api/v1/cash" => cash(),
        "/api/v1/signals/dry-run" => json!({
            "key": "gold-7", "type": "BASE_ENTRY", "instrument": "GOLD_MINI", "strategy": "default", "repeat_of": null,
            "held_by_switch": "entries are refused: the cluster is reduce-only", "would": "order",
            "orders": [{ "side": "BUY", "quantity": 300, "symbol": "GOLDM05DEC25FUT", "exchange": "MCX",
                "price_type": "LIMIT", "product": "NRML" }],
            "waits_for": [{ "code": "IN_DOUBT", "sentence": "an order of GOLDM05DEC25FUT is in doubt" }],
            "decision": { "lots": 3, "equity": "5000000", "margin": null },
        }),
        "/api/v1/reconcile" => reconciled(),
        "/api/v1/strategies" | "/api/v1/strategies/vwap" => strategies(),
        "/api/v1/trades" => json!({ "trades": [trade()], "next": "64f-0199" }),
        "/api/v1/equity" => equity(),
        "/api/v1/orders" => json!({ "orders": [order()], "next": null }),
        _ => return ("404 Not Found", json!({ "code": "NOT_FOUND", "detail": path }).to_string()),
    };
    ("200 OK", document.to_string())
}

fn cash() -> Value {
    let row = |id: u8, kind: &str, amount: &str, who: &str, why: &str| {
        json!({ "id": format!("0199a1b2-0000-7000-8000-00000000000{id}"), "kind": kind, "amount": amount, "who": who,
            "why": why, "at": "2026-08-10T03:45:00Z" })
    };
    json!({
        "opening": "1000000.00000000", "capital": "1374999.50000000", "closed_equity": "1380000.00000000",
        "warning": "trading.capital is 2000000, and the account was opened with 1000000",
        "movements": [
            row(3, "withdrawal", "-125000.50000000", "asha", "tax"), row(2, "deposit", "500000.00000000", "asha", "transfer"),
            row(1, "opening", "1000000.00000000", "baton", "what the account was opened with"),
        ],
        "fresh": true, "booked": "0199a1b2-0000-7000-8000-000000000004",
    })
}

fn cluster() -> Value {
    let instance = |member: &str, role: &str, state: &str, fenced: bool| {
        let leads = role == "leader";
        json!({
            "instance": format!("{member}/0190a"), "member": member, "status": "active", "role": role,
            "epoch": leads.then_some(17), "address": format!("http://{member}:8080"), "version": "0.1.0", "priority": 1,
            "alive": true, "fenced": fenced, "reaches_broker": true, "reaches_redis": true,
            "operational": {
                "state": state, "code": null, "reason": "recovered", "entered_at": "2026-08-10T03:45:00Z",
                "checked_at": "2026-08-10T04:00:00Z"
            },
        })
    };
    json!({
        "cluster": "desk", "mode": "paper", "epoch": 17, "ha_degraded": false, "paused": false, "switches": [],
        "leader": { "instance": "b1/0190a", "member": "b1", "epoch": 17, "address": "http://b1:8080" },
        "this": { "instance": "b1/0190a", "role": "leader", "recovery": null,
            "operational": { "state": "ACTIVE", "code": null, "reason": "recovered" } },
        "instances": [
            instance("b1", "leader", "ACTIVE", false), instance("b2", "follower", "WAITING", false),
            instance("b3", "follower", "WAITING", true),
        ],
    })
}

fn history() -> Value {
    json!({ "epochs": [
        { "epoch": 17, "member": "b1", "reason": "handover", "gap_ms": 41, "started_at": "2026-08-10T03:45:00.5Z",
          "ended_at": null, "end_reason": null, "commands": [
            { "verb": "handover", "member": "b1", "who": "asha", "why": "new kernel", "outcome": "b1 leads" }] },
        { "epoch": 16, "member": "b2", "reason": "crash", "gap_ms": 87, "started_at": "2026-08-09T03:45:00Z",
          "ended_at": "2026-08-10T03:45:00Z", "end_reason": "handover", "commands": [] },
    ], "next": 16 })
}

fn reconciled() -> Value {
    let order = |id: &str, state: &str, at_broker: Value, verdict: &str| {
        json!({ "id": id, "symbol": "GOLDM05DEC25FUT", "side": "BUY", "quantity": 100, "state": state,
            "broker_order_id": null, "broker_status": at_broker, "verdict": verdict })
    };
    json!({ "by": "b1", "positions": diff(), "foreign": ["251125000000017"], "orders": [
        order("0199a1b2-0000-7000-8000-00000000000a", "acknowledged", json!("open"), "agrees"),
        order("0199a1b2-0000-7000-8000-00000000000b", "in_doubt", Value::Null, "in_doubt"),
    ] })
}

fn states() -> Value {
    json!({ "changes": [
        { "id": 2, "at": "2026-08-10T03:45:00Z", "member": "b1", "from": "WAITING", "to": "ACTIVE", "code": null,
          "reason": "leads and has recovered" },
        { "id": 1, "at": "2026-08-10T03:44:00Z", "member": "b2", "from": "WAITING", "to": "ERROR",
          "code": "VALIDATION_FAILED", "reason": "stored state is damaged" },
    ], "next": 1 })
}

fn checks() -> Value {
    let check = |name: &str, vital: bool, up: Value, class: Value, detail: &str| {
        json!({ "check": name, "vital": vital, "up": up, "class": class, "latency_ms": 1.25, "detail": detail,
            "checked_at": "2026-08-10T04:00:00Z" })
    };
    json!({
        "member": "b1", "fresh": true, "healthy": false, "warnings": ["orders are real"],
        "operational": { "state": "ACTIVE", "code": null, "reason": "recovered" },
        "report": { "round": 9, "checks": [
            check("postgres", true, json!(true), Value::Null, "answers"),
            check("websocket", false, json!(false), json!("TRANSIENT"), "connecting"),
            check("bridge_auth", true, json!(false), json!("PERMANENT"), "the key is refused"),
            check("disk", true, Value::Null, Value::Null, "cannot be asked"),
        ] },
    })
}

fn events() -> Value {
    let event = |id: &str, minute: u8, kind: &str, sentence: &str, detail: Value| {
        json!({ "id": id, "at": format!("2026-08-10T03:{minute}:00Z"), "kind": kind, "member": null,
            "sentence": sentence, "detail": detail })
    };
    json!({ "events": [
        event("leadership-17-began", 45, "leadership", "b1 leads under epoch 17: handover, 41 ms without a leader", json!({})),
        event("switch-3", 46, "switch", "halted is on, by asha: exchange trouble", json!({ "on": true })),
        event("notification-1-sent", 47, "notification", "sent by telegram: [desk] INFO LEADER_CHANGED", json!({})),
    ], "next": "64f-x" })
}

fn error() -> Value {
    json!({ "id": 17, "error_type": "BROKER_ERROR", "scope": "", "severity": "error", "resolved": false,
        "acknowledged_by": null, "occurrence_count": 12, "open_since": "2026-08-10T03:45:00Z",
        "last_occurrence": "2026-08-10T03:50:00Z", "error_message": "the bridge does not answer" })
}

fn summary() -> Value {
    json!({ "unresolved": 1, "unacknowledged": 1, "occurrences": 12, "notified": 1, "throttled": 11, "undelivered": 0,
        "types": [{ "error_type": "BROKER_ERROR", "unresolved": 1, "occurrences": 12, "notified": 1, "throttled": 11,
            "last_occurrence": "2026-08-10T03:50:00Z" }] })
}

fn switches() -> Value {
    let row = |switch: &str, on: bool, until: Value, why: Option<&str>, change: u8| {
        json!({ "switch": switch, "on": on, "until": until, "who": why.map(|_| "asha"), "why": why,
            "since": why.map(|_| "2026-08-10T03:46:00Z"), "change": change })
    };
    let mut thin = row("reduce_only", true, Value::Null, Some("thin"), 1);
    thin["instrument"] = json!("GOLD_MINI");
    json!({ "epoch": 17, "switches": [
        row("halted", true, json!("2026-08-10T10:00:00Z"), Some("exchange trouble"), 3),
        row("halt_all", false, Value::Null, None, 0),
        row("reduce_only", false, Value::Null, Some("over"), 2),
        row("paused", false, Value::Null, None, 0),
        thin,
    ] })
}

fn closed() -> Value {
    json!({ "status": "submitted", "entries_closed_when_filled": 1, "positions": [
        { "symbol": "GOLDM05DEC25FUT", "label": "Long_1", "outcome": "filled", "sold": 100, "held": 0,
          "average_price": "140000.00", "reason": null },
        { "symbol": "GOLDM05DEC25FUT", "label": "Long_2", "outcome": "refused", "sold": 0, "held": 100,
          "average_price": null, "reason": "RMS: margin" },
    ], "not_sold": [
        { "contract": "COPPER28NOV25FUT MCX NRML", "held": 5000, "sold_by_this": 2500, "why": "the rest is not ours" },
    ] })
}

fn diff() -> Value {
    json!({ "drift": 1, "rows": [
        { "symbol": "GOLDM05DEC25FUT", "exchange": "MCX", "product": "NRML", "ledger": 100, "broker": 100, "verdict": "agrees" },
        { "symbol": "COPPER28NOV25FUT", "exchange": "MCX", "product": "NRML", "ledger": 2500, "broker": 0, "verdict": "missing" },
    ] })
}

fn trade() -> Value {
    json!({ "id": "t1", "instrument": "GOLD_MINI", "label": "Long_1", "strategy": "trend", "symbol": "GOLDM05DEC25FUT",
        "exchange": "MCX", "quantity": 100, "lot_size": 100, "point_value": "10", "entry_price": "140000", "exit_price": "141250.5",
        "realised": "12505", "charges": "288.13", "net": "12216.87", "exit_cause": "signal", "opened_at": "2026-08-10T04:00:00Z", "closed_at": "2026-08-10T05:00:00Z" })
}

fn equity() -> Value {
    json!({
        "points": [{ "at": "2026-08-10T05:00:00Z", "position": "p", "instrument": "GOLD_MINI", "strategy": "trend",
            "realised": "12505", "cumulative": "12505", "equity": "5012505" }],
        "now": { "capital": "5000000", "closed": "12505", "held": "0", "closed_equity": "5012505", "charges": "288.13" }, "next": null,
    })
}

fn order() -> Value {
    json!({ "id": "0199a1b2-0000-7000-8000-000000000001", "class": "entry", "side": "BUY", "quantity": 100,
        "symbol": "GOLDM05DEC25FUT", "state": "in_doubt", "reason": "no answer within 1000 ms",
        "journaled_at": "2026-08-10T04:00:00.123456Z" })
}

fn positions() -> Value {
    json!({ "portfolio": { "capital": "5000000" }, "prices": "watched", "positions": [
        { "symbol": "GOLDM05DEC25FUT", "label": "Long_1", "strategy": "trend", "status": "open", "quantity": 100,
          "entry_price": "140000", "current_stop": "139300", "realised": "0", "charges": "87.94", "opened_at": "2026-08-10T04:00:00Z",
          "current_price": "139875.5", "price_source": "live", "price_age_seconds": 0.312, "unrealised_pnl": "-1245.00" },
        { "symbol": "GOLDM05DEC25FUT", "label": "Long_2", "strategy": "trend", "status": "closing", "quantity": 100,
          "entry_price": "141000.125", "current_stop": "140300", "realised": "-12.5", "charges": "287.88", "opened_at": "2026-08-10T05:00:00Z",
          "current_price": null, "price_source": null, "price_age_seconds": null, "unrealised_pnl": null },
    ] })
}

fn signal() -> Value {
    let mut order = order();
    order["filled_quantity"] = json!(0);
    json!({ "id": "0199a1b2-0000-7000-8000-000000000002", "type": "BASE_ENTRY", "strategy": "trend",
        "instrument": "GOLD_MINI", "status": "refused", "received_at": "2026-08-10T04:00:00Z", "received_by": "b2",
        "finished_at": "2026-08-10T04:00:01Z", "orders": [order],
        "reasons": [{ "code": "HALTED", "sentence": "trading is halted" }] })
}

fn strategies() -> Value {
    let strategy = |name: &str, kind: &str, enabled: bool, last: Value, who: Value| {
        json!({ "name": name, "kind": kind, "enabled": enabled, "signals_today": 3, "open_positions": 1,
            "last_signal": last, "who": who, "why": who.as_str().map(|_| "the charts are wrong"),
            "since": who.as_str().map(|_| "2026-08-10T03:46:00Z"), "change": i32::from(who.is_string()) })
    };
    let last = json!({ "type": "BASE_ENTRY", "instrument": "GOLD_MINI", "status": "executed" });
    json!({ "epoch": 17, "strategies": [
        strategy("default", "webhook", true, last, Value::Null),
        strategy("vwap", "session_vwap", false, Value::Null, json!("asha")),
    ] })
}
