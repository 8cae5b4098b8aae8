//! The interface's document against a real instance: the methods of every route, and the shape of every answer.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use rust_decimal::dec;
use serde_json::{Value, json};

use crate::schema::{faults, resolved};
use crate::signals::{GOLD, GOLD_SYMBOL, base, exit};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::member::TOKEN;
use crate::support::wait;

/// The document and the instance that it is of.
struct Interface<'a> {
    cluster: &'a Cluster,
    document: Value,
}

impl<'a> Interface<'a> {
    async fn of(cluster: &'a Cluster) -> Self {
        let document = cluster.members[0].json("/api/v1/openapi.json").await.unwrap();
        Self { cluster, document }
    }

    fn paths(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.document["paths"].as_object().unwrap().iter()
    }

    /// Each route answers to the methods that are documented, and to no other.
    async fn has_no_other_methods(&self) {
        for (path, verbs) in self.paths() {
            let url = format!("{}{}", self.cluster.members[0].address, path.replace(['{', '}'], ""));
            let answer = self.cluster.client.request(Method::PATCH, url).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
            let allowed = answer.headers()["allow"].to_str().unwrap().to_lowercase();
            let allowed: BTreeSet<&str> =
                allowed.split(',').map(str::trim).filter(|verb| *verb != "head").collect();
            let documented: BTreeSet<&str> = verbs.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(allowed, documented, "{path}");
        }
        let nowhere = self.cluster.members[0].get("/api/v1/nothing").await.unwrap();
        assert_eq!(nowhere.0, StatusCode::NOT_FOUND);
    }

    /// Asks and holds the answer against what is documented of it.
    async fn asked(
        &self,
        method: Method,
        route: &str,
        path: &str,
        body: Option<&Value>,
    ) -> (StatusCode, Value) {
        let url = format!("{}{path}", self.cluster.members[0].address);
        let request = self.cluster.client.request(method.clone(), url).bearer_auth(TOKEN);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let kind = answer.headers()["content-type"].to_str().unwrap().split(';').next().unwrap().to_owned();
        let text = answer.text().await.unwrap();
        let which = format!("{method} {path} answers {status}, {kind}: {text}");
        let verb = method.as_str().to_lowercase();
        let responses = &self.document["paths"][route][&verb]["responses"];
        let documented = responses.get(status.as_str()).unwrap_or(&responses["default"]);
        let content = &resolved(&self.document, documented)["content"];
        let schema = content.get(&kind).unwrap_or_else(|| panic!("not documented: {which}"));
        let document = serde_json::from_str(&text).unwrap_or(Value::String(text));
        let misfits = faults(&self.document, &schema["schema"], &document);
        assert!(misfits.is_empty(), "{misfits:#?}\n{which}");
        (status, document)
    }

    /// Everything that can be read without naming one thing.
    async fn reads_as_documented(&self, well: bool) {
        for (path, verbs) in self.paths().filter(|(path, _)| !path.contains('{')) {
            if verbs.get("get").is_some() {
                let (status, answer) = self.asked(Method::GET, path, path, None).await;
                assert!(status == StatusCode::OK || !well, "{path}: {answer}");
            }
        }
    }

    /// An operator's or a sender's word, with the status that it has to have.
    async fn says(&self, status: u16, route: &str, path: &str, body: Value) -> Value {
        let (found, answer) = self.asked(Method::POST, route, path, Some(&body)).await;
        assert_eq!(found.as_u16(), status, "{path}: {answer}");
        answer
    }
}

async fn first_of(cluster: &Cluster, path: &str, list: &str) -> Value {
    wait::until(&format!("{path} has one"), PATIENCE, async || {
        let seen = cluster.members[0].json(path).await.unwrap_or_default();
        if seen[list][0].is_null() { Err(seen) } else { Ok(seen[list][0].clone()) }
    })
    .await
}

// R: K2; LESSONS "endpoints documented but absent"
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_instance_answers_as_the_document_says() {
    let cluster = Cluster::with(Options { members: 1, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let interface = Interface::of(&cluster).await;
    interface.has_no_other_methods().await;

    // Senders.
    let dry = "/api/v1/signals/dry-run";
    interface.says(200, dry, dry, base("in", GOLD, 140_000)).await;
    interface.says(422, "/webhook", "/webhook", json!({ "type": "EXIT" })).await;
    let entry = base("in", GOLD, 140_000);
    let taken = interface.says(202, "/webhook", "/webhook", entry.clone()).await;
    let id = taken["id"].as_str().unwrap();
    let view = cluster.terminal(id).await;
    assert_eq!(view["status"], "executed", "{view}");
    interface.says(200, "/webhook", "/webhook", entry).await;
    interface.says(200, dry, dry, exit("would", GOLD, "ALL", 140_000)).await;
    let bar = json!({ "type": "MARKET_DATA", "instrument": GOLD, "price": 150_000, "atr": 100, "supertrend": 1,
        "timestamp": chrono::Utc::now() + chrono::TimeDelta::seconds(30) });
    interface.says(200, dry, dry, bar).await;

    // What is held is watched and worth something.
    let held = wait::until("the position has its price", PATIENCE, async || {
        let seen = cluster.members[0].json("/api/v1/positions").await.unwrap_or_default();
        if seen["positions"][0]["unrealised_pnl"].is_string() { Ok(seen) } else { Err(seen) }
    })
    .await;
    assert_eq!(held["prices"], "watched", "{held}");
    interface.reads_as_documented(true).await;
    interface.asked(Method::GET, "/api/v1/signals/{id}", &format!("/api/v1/signals/{id}"), None).await;
    interface.asked(Method::GET, "/api/v1/signals/{id}", "/api/v1/signals/none", None).await;
    interface.asked(Method::GET, "/runbook/{section}", "/runbook/halted", None).await;
    interface.asked(Method::GET, "/api/v1/trades", "/api/v1/trades?format=csv", None).await;
    interface.asked(Method::GET, "/api/v1/orders", "/api/v1/orders?state=lost", None).await;

    // Operators.
    let why = |mut body: Value| {
        body["reason"] = json!("a test");
        body
    };
    for path in ["drop", "replay"] {
        let route = format!("/api/v1/signals/{{id}}/{path}");
        interface.says(409, &route, &format!("/api/v1/signals/{id}/{path}"), why(json!({}))).await;
    }
    let same = async |status, path: &str, body: Value| interface.says(status, path, path, why(body)).await;
    same(200, "/api/v1/switches", json!({ "switch": "halted", "on": true, "until": "1h" })).await;
    let refused = base("halted", GOLD, 140_000);
    let refused = interface.says(202, "/webhook", "/webhook", refused).await["id"].clone();
    let refused = cluster.terminal(refused.as_str().unwrap()).await;
    same(200, "/api/v1/switches", json!({ "switch": "halted", "on": false })).await;
    let (route, own) = ("/api/v1/switches/{instrument}", format!("/api/v1/switches/{GOLD}"));
    for on in [true, false] {
        interface.says(200, route, &own, why(json!({ "switch": "reduce_only", "on": on }))).await;
    }
    let replay = format!("/api/v1/signals/{}/replay", refused["id"].as_str().unwrap());
    let body = why(json!({ "dry_run": true }));
    interface.says(200, "/api/v1/signals/{id}/replay", &replay, body).await;
    let again = interface.says(202, "/api/v1/signals/{id}/replay", &replay, why(json!({}))).await;
    cluster.terminal(again["id"].as_str().unwrap()).await;
    let route = "/api/v1/strategies/{name}";
    interface.says(200, route, "/api/v1/strategies/default", why(json!({ "enabled": true }))).await;
    let moved = json!({ "id": "0198f3a0-0000-7000-8000-000000000001", "kind": "deposit", "amount": "10.50" });
    same(200, "/api/v1/cash", moved.clone()).await;
    same(400, "/api/v1/cash", json!({ "id": moved["id"], "kind": "deposit", "amount": "0" })).await;
    same(200, "/api/v1/reconcile", json!({})).await;
    same(200, "/api/v1/monitoring/check", json!({})).await;
    same(409, "/api/v1/cluster/handover", json!({})).await;
    same(404, "/api/v1/cluster/fence", json!({ "member": "b9" })).await;
    let storm = "/api/v1/restart-storm/acknowledge";
    interface.says(400, storm, storm, json!({})).await;
    same(200, storm, json!({})).await;
    same(404, "/api/v1/monitoring/emergency-close-position", json!({ "symbol": "NOTHING" })).await;
    same(400, "/api/v1/positions/close", json!({})).await;
    wait::until("everything is sold", PATIENCE, async || {
        let path = "/api/v1/positions/flatten";
        let (_, answer) = interface.asked(Method::POST, path, path, Some(&why(json!({})))).await;
        if answer["status"] == "flat" { Ok(()) } else { Err(answer) }
    })
    .await;
    first_of(&cluster, "/api/v1/trades", "trades").await;

    // Something is wrong.
    cluster.paper.fault(json!({ "fault": { "kind": "session_expired" } })).await;
    let error = first_of(&cluster, "/api/v1/errors", "errors").await;
    interface.reads_as_documented(false).await;
    cluster.paper.heal().await;
    for word in ["acknowledge", "resolve"] {
        let route = format!("/api/v1/errors/{{id}}/{word}");
        let path = format!("/api/v1/errors/{}/{word}", error["id"]);
        interface.says(400, &route, &path, json!({})).await;
        // It may be over by itself by now.
        let body = why(json!({ "open_since": error["open_since"] }));
        let (status, answer) = interface.asked(Method::POST, &route, &path, Some(&body)).await;
        assert!([StatusCode::OK, StatusCode::NOT_FOUND].contains(&status), "{answer}");
    }
    for word in ["fence", "unfence"] {
        same(200, &format!("/api/v1/cluster/{word}"), json!({ "member": "b1" })).await;
    }
    same(202, "/api/shutdown", json!({})).await;
    cluster.finish().await;
}
