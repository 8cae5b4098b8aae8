//! What operators do about leadership, from the command line, while signals flow.

use std::process::Stdio;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use rust_decimal::dec;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::signals::{GOLD, GOLD_SYMBOL, SILVER, base, exit, pyramid};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::proxy::{Link, Proxy};
use crate::support::wait;

/// T of the members: for no longer than this a leader believes in itself.
const T: Duration = Duration::from_secs(1);

/// What a verb answered.
struct Said {
    code: Option<i32>,
    text: String,
    error: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.text, self.error))
    }
}

/// `baton` as an operator at another machine would use it: any member answers.
fn command(cluster: &Cluster, at: usize, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_baton"));
    command
        .env_clear()
        .env("USER", "asha")
        .env("BATON_ADDRESS", &cluster.members[at].address)
        .current_dir(cluster.folder())
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn baton(cluster: &Cluster, at: usize, arguments: &[&str]) -> Said {
    let output = command(cluster, at, arguments).output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), text: text(output.stdout), error: text(output.stderr) }
}

async fn post(cluster: &Cluster, at: usize, path: &str, body: &Value) -> (StatusCode, Value) {
    let url = format!("{}{path}", cluster.members[at].address);
    let answer = cluster.client.post(url).json(body).send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

// R: H5, B6, S11, K7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_hands_over_and_no_process_ends() {
    let cluster = Cluster::start().await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let mut asked = 0;
    for round in 0..6 {
        let leader = cluster.leader().await;
        let (to, third) = ((leader + 1) % 3, (leader + 2) % 3);
        sees_everybody(&cluster, leader).await;
        let body = if round % 2 == 0 {
            base(&format!("in-{round}"), GOLD, 140_000)
        } else {
            exit(&format!("out-{round}"), GOLD, "ALL", 140_000)
        };
        // On its way while leadership moves.
        let posted = cluster.post(third, &body).await;
        let name = cluster.members[to].name.clone();
        let arguments = ["-o", "json", "handover", "--to", &name, "--reason", "drill", "--yes"];
        let said = baton(&cluster, third, &arguments).await;
        assert_eq!(said.code, Some(0), "{}\n{:?}", said.error, cluster.logs());
        asked += 1;
        let done = said.json();
        assert_eq!(done["to"], name.as_str(), "{done}");
        println!("handed over in {} ms", done["gap_ms"]);
        cluster.leader_within(PATIENCE, |index| index == to).await;
        let view = cluster.terminal(&posted.id).await;
        assert_eq!(view["status"], "executed", "no signal is missed: {view}");
    }
    let leader = cluster.leader().await;
    sees_everybody(&cluster, leader).await;
    let name = cluster.members[leader].name.clone();
    let said = baton(&cluster, leader, &["step-down", &name, "--reason", "drill", "--yes"]).await;
    assert_eq!(said.code, Some(0), "{}", said.error);
    assert!(said.text.contains("ms without a leader"), "{}", said.text);
    cluster.leader_within(PATIENCE, |index| index != leader).await;
    let said = baton(&cluster, leader, &["step-down", &name, "--reason", "again", "--yes"]).await;
    assert!(said.code == Some(1) && said.error.contains("does not lead"), "{}", said.error);
    asked += 1;

    let history = baton(&cluster, leader, &["-o", "json", "history", "--limit", "3"]).await.json();
    let epochs = history["epochs"].as_array().unwrap();
    assert_eq!(epochs.len(), 3);
    assert_eq!(epochs[0]["reason"], "handover");
    assert!(epochs[0]["gap_ms"].as_i64().unwrap() < 1000, "{history}");
    let command = &epochs[1]["commands"][0];
    assert_eq!((&command["who"], &command["why"]), (&json!("asha"), &json!("drill")), "{history}");
    assert!(command["outcome"].as_str().unwrap().starts_with("handed over to"), "{history}");
    let older = history["next"].to_string();
    let page = baton(&cluster, leader, &["history", "--before", &older]).await;
    assert!(page.text.contains("first_start") && page.text.contains("drill"), "{}", page.text);

    for member in cluster.members.iter() {
        assert!(member.is_ready().await, "{} is ready to lead again", member.name);
    }
    let check = cluster.finish().await;
    assert_eq!((check.signals, check.orders, check.epochs), (6, 6, asked + 1));
}

// R: B6: what cannot be done is refused, and the leader trades on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handover_that_cannot_be_leaves_the_leader_trading() {
    let cluster = Cluster::start().await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    let path = "/api/v1/cluster/handover";
    for at in [leader, follower] {
        let stale = json!({ "reason": "drill", "epoch": 77 });
        let (status, problem) = post(&cluster, at, path, &stale).await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::CONFLICT, &json!("LEADERSHIP_MOVED")),
            "{problem}"
        );
        let (status, problem) = post(&cluster, at, path, &json!({ "reason": "drill", "to": "b9" })).await;
        assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("NO_SUCCESSOR")), "{problem}");
        let own = json!({ "reason": "drill", "to": cluster.members[leader].name });
        let (status, problem) = post(&cluster, at, path, &own).await;
        assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("NO_SUCCESSOR")), "{problem}");
        let (status, problem) = post(&cluster, at, path, &json!({ "reason": " " })).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
        let (status, problem) = post(&cluster, at, path, &json!({ "why": "drill" })).await;
        assert_eq!((status, &problem["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("INVALID_COMMAND")));
    }
    let said = baton(&cluster, follower, &["handover", "--reason", "drill"]).await;
    assert!(said.code == Some(1) && said.error.contains("--yes"), "{}", said.error);
    let view = cluster.play(follower, &base("in", GOLD, 140_000)).await;
    assert_eq!(view["status"], "executed", "{view}");
    assert_eq!(cluster.leader().await, leader);
    let check = cluster.finish().await;
    assert_eq!((check.epochs, check.orders), (1, 1), "leadership never moved");
}

// R: B1, H1: a fence works against a leader that does nothing any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fenced_leader_is_out_at_once_even_if_it_hangs() {
    let mut cluster = Cluster::start().await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let entered = cluster.play(0, &base("held", GOLD, 140_000)).await;
    assert_eq!(entered["status"], "executed", "{entered}");
    let leader = cluster.leader().await;
    let (name, other) = (cluster.members[leader].name.clone(), (leader + 1) % 3);

    // It hangs right before it journals.
    cluster.arm("before_journal", "stop");
    let begun = Instant::now();
    let late = cluster.post(other, &base("late", SILVER, 155_000)).await;
    wait::until("the leader hangs", PATIENCE, async || {
        let hangs = !cluster.is_armed() && cluster.members[leader].process.is_stopped();
        if hangs { Ok(()) } else { Err(cluster.logs()) }
    })
    .await;
    let said = baton(&cluster, other, &["-o", "json", "fence", &name, "--reason", "it hangs", "--yes"]).await;
    assert_eq!(said.code, Some(0), "{}", said.error);
    assert!(said.json()["ended_by"].is_i64(), "{}", said.text);
    let new = cluster.leader_within(PATIENCE, |index| index != leader).await;
    println!("fence to a follower that leads and trades: {:?}", begun.elapsed());
    let view = cluster.terminal(&late.id).await;
    assert_eq!(view["status"], "executed", "{view}");
    // Its deadline is over by then, whatever it knows of the fence: a time of the protocol, no guess.
    tokio::time::sleep(T.saturating_sub(begun.elapsed())).await;
    cluster.members[leader].process.signal(Signal::CONT);
    for series in ["baton_fenced_writes_total", "baton_leader_losses_total"] {
        wait::until(&format!("{name} counts in {series}"), PATIENCE, async || {
            match cluster.members[leader].metric(series).await {
                Some(1.0) => Ok(()),
                other => Err((other, cluster.members[leader].process.tail())),
            }
        })
        .await;
    }

    // Awake again it recovers and stays out, though an operator asks for it by name.
    wait::until("the fenced member says why it waits", PATIENCE, async || {
        let shown = cluster.members[new].json("/api/v1/cluster").await.unwrap_or_default();
        let listed = shown["instances"].as_array().cloned().unwrap_or_default();
        let own = listed.iter().find(|instance| instance["member"] == name.as_str()).cloned();
        match own {
            Some(own) if own["fenced"] == true && own["status"] == "active" => Ok(()),
            other => Err(other),
        }
    })
    .await;
    let said = baton(&cluster, new, &["handover", "--to", &name, "--reason", "try", "--yes"]).await;
    assert!(said.code == Some(1) && said.error.contains("NO_SUCCESSOR"), "{}", said.error);
    let listed = baton(&cluster, new, &["instances"]).await;
    assert!(listed.text.contains("active, fenced"), "{}", listed.text);

    let said = baton(&cluster, new, &["unfence", &name, "--reason", "mended", "--yes"]).await;
    assert_eq!(said.code, Some(0), "{}", said.error);
    wait::until("the member is taken again", PATIENCE, async || {
        let said = baton(&cluster, new, &["handover", "--to", &name, "--reason", "back", "--yes"]).await;
        if said.code == Some(0) { Ok(()) } else { Err(said.error) }
    })
    .await;
    cluster.leader_within(PATIENCE, |index| index == leader).await;
    let out = cluster.play(other, &exit("out", GOLD, "ALL", 140_000)).await;
    assert_eq!(out["status"], "executed", "{out}");
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (3, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_watches() {
    let cluster = Cluster::start().await;
    let mut child = command(&cluster, 0, &["-o", "json", "status", "--watch", "1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        let line = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await.unwrap();
        let seen: Value = serde_json::from_str(&line.unwrap().unwrap()).unwrap();
        assert_eq!(seen["cluster"]["cluster"], "test", "{seen}");
    }
    child.kill().await.unwrap();
}

// A leader that cannot trade says so where balancers ask.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leaders_probe_says_yes_only_when_it_trades() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let (status, text) = cluster.members[leader].get("/leader").await.unwrap();
    assert_eq!(status, StatusCode::OK, "{text}");
    let (status, text) = cluster.members[(leader + 1) % 3].get("/leader").await.unwrap();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{text}");
    let shown: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(shown["leader"]["member"], cluster.members[leader].name.as_str());

    // The next leader finds the bridge away: it leads and does not trade.
    cluster.paper.fault(json!({ "fault": { "kind": "bad_gateway" } })).await;
    cluster.members[leader].process.kill().await;
    let new = wait::until("another leads and does not trade", PATIENCE, async || {
        for (index, member) in cluster.members.iter().enumerate().filter(|(index, _)| *index != leader) {
            let Some((status, text)) = member.get("/leader").await else { continue };
            let shown: Value = serde_json::from_str(&text).unwrap();
            if shown["role"] == "leader" {
                assert_eq!(
                    (status, &shown["trades"]),
                    (StatusCode::SERVICE_UNAVAILABLE, &json!(false)),
                    "{shown}"
                );
                return Ok(index);
            }
        }
        Err(cluster.logs())
    })
    .await;
    cluster.paper.heal().await;
    wait::until("it trades and says so", PATIENCE, async || {
        match cluster.members[new].get("/leader").await {
            Some((StatusCode::OK, _)) => Ok(()),
            other => Err(other),
        }
    })
    .await;
}

// R: rule 18
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_alone_is_cut_from_the_bridge_hands_over() {
    let mut proxies = Vec::new();
    let cluster = Cluster::wired(Options::default(), async |launch| {
        let bridge = launch.env["BATON_BROKER__URL"].trim_start_matches("http://").parse().unwrap();
        let proxy = Proxy::start(bridge).await;
        launch.env.insert("BATON_BROKER__URL".to_owned(), format!("http://{}", proxy.address));
        proxies.push(proxy);
    })
    .await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let leader = cluster.leader().await;
    wait::until("the others say that they reach the bridge", PATIENCE, async || {
        let shown = cluster.members[leader].json("/api/v1/cluster").await.unwrap_or_default();
        let listed = shown["instances"].as_array().cloned().unwrap_or_default();
        let reach = listed.iter().filter(|instance| instance["reaches_broker"] == true).count();
        if reach == 3 { Ok(()) } else { Err(shown) }
    })
    .await;
    let begun = Instant::now();
    proxies[leader].set(Link::Refuse);
    let new = cluster.leader_within(PATIENCE, |index| index != leader).await;
    println!("cut from the bridge to another that trades: {:?}", begun.elapsed());
    let view = cluster.play(new, &base("in", GOLD, 140_000)).await;
    assert_eq!(view["status"], "executed", "{view}");
    let history = cluster.members[new].json("/api/v1/cluster/history").await.unwrap();
    assert_eq!(history["epochs"][0]["reason"], "handover", "{history}");
    assert_eq!(history["epochs"][1]["commands"][0]["who"], "baton", "{history}");

    // A bridge that nobody reaches moves nothing.
    let epoch = cluster.epoch().await;
    for proxy in &proxies {
        proxy.set(Link::Refuse);
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(cluster.epoch().await, epoch, "unknown and out of everybody's reach mean stay");
    for proxy in &proxies {
        proxy.set(Link::Open);
    }
    let check = cluster.finish().await;
    assert_eq!(check.orders, 1);
}

// R: rule 21
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_that_keeps_being_lost_sets_reduce_only() {
    let env = vec![("BATON_CLUSTER__FLAP_LIMIT", "3".to_owned())];
    let mut cluster = Cluster::with(Options { env, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let entered = cluster.play(0, &base("held", GOLD, 140_000)).await;
    assert_eq!(entered["status"], "executed", "{entered}");
    let reduce_only = async |cluster: &Cluster| -> bool {
        cluster.sql.query_one("SELECT reduce_only FROM leadership", &[]).await.unwrap().get(0)
    };
    for times in 1..=4 {
        if times == 4 {
            // One that would end by itself does not stand in for it.
            let soon = json!({ "switch": "reduce_only", "on": true, "reason": "for a while", "until": "5m" });
            let (status, answer) = cluster.members[0].command("/api/v1/switches", &soon).await.unwrap();
            assert_eq!(status, 200, "{answer}");
        }
        let (old, ..) = cluster.kill_leader().await;
        assert_eq!(reduce_only(&cluster).await, times > 3, "after {times} kills");
        cluster.members[old].restart().await;
        cluster.all_ready().await;
    }
    let lasting = "SELECT count(*) FROM leadership WHERE reduce_only_until IS NULL";
    assert_eq!(cluster.count(lasting).await, 1, "it ends by an operator's word only");
    let by_guard = "SELECT count(*) FROM switch_history WHERE switch = 'reduce_only' AND value AND why LIKE 'leadership was lost%'";
    assert_eq!(cluster.count(by_guard).await, 1);
    wait::until("the operator is told", PATIENCE, async || {
        let told = "SELECT count(*) FROM error_notifications_log WHERE error_type = 'FLAPPING' AND severity = 'critical'";
        if cluster.count(told).await == 1 { Ok(()) } else { Err(cluster.logs()) }
    })
    .await;
    let refused = cluster.play(0, &pyramid("more", GOLD, "Long_2", 140_000)).await;
    assert_eq!(refused["status"], "refused", "{refused}");
    let out = cluster.play(0, &exit("out", GOLD, "ALL", 140_000)).await;
    assert_eq!(out["status"], "executed", "exits act: {out}");

    // What the operator has looked at counts no more.
    let word = "WITH u AS (UPDATE leadership SET reduce_only = false)
        INSERT INTO switch_history (switch, value, who, why) VALUES ('reduce_only', false, 'asha', 'looked')";
    cluster.sql.batch_execute(word).await.unwrap();
    cluster.kill_leader().await;
    assert!(!reduce_only(&cluster).await);
    cluster.finish().await;
}

/// Waits until a member knows that all the others could lead: what it knows of them is as old as its last look.
async fn sees_everybody(cluster: &Cluster, member: usize) {
    wait::until("every member is known to be ready", PATIENCE, async || {
        let seen = cluster.members[member].json("/api/v1/cluster").await;
        let ready = seen
            .as_ref()
            .and_then(|seen| seen["instances"].as_array())
            .map(|instances| instances.iter().filter(|instance| instance["status"] == "active").count());
        if ready == Some(cluster.members.len()) { Ok(()) } else { Err(seen) }
    })
    .await;
}
