//! What is damaged is proposed, mended, proven and audited; what is in doubt ends by the operator's word.

use rust_decimal::dec;
use serde_json::{Value, json};

use crate::drift::{by_hand, gauge, held};
use crate::seeded::{Seeded, answer};
use crate::signals::{GOLD, GOLD_SYMBOL, base, exit};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::wait;

pub const APPLY: [&str; 10] =
    ["recover", "--repair", "--apply", "--reason", "drill", "--operator", "asha", "--yes", "-o", "json"];

// R: C11, B9
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_is_shown_first_then_made_proven_and_audited() {
    let seeded = Seeded::start().await;
    for (name, damage) in [
        ("risk", "UPDATE portfolio_state SET risk_amount = 999999.99"),
        (
            "sums",
            "DELETE FROM pyramiding_state; UPDATE portfolio_state SET margin_used = 0, closed_equity = 1",
        ),
        ("pyramid", "UPDATE pyramiding_state SET pyramid_count = 4, last_pyramid_price = 1"),
        (
            "reopened",
            "UPDATE position SET status = 'open', quantity = entry_quantity, closed_at = NULL WHERE status = 'closed'",
        ),
        (
            "quantity",
            "UPDATE position SET quantity = quantity - 10 WHERE status = 'open' AND label = 'Long_1'",
        ),
    ] {
        let copy = seeded.copy(name).await;
        copy.damage(damage).await;
        let shown = copy.baton(&["recover", "--repair", "-o", "json"]).await;
        let proposal = answer(&shown);
        assert_eq!(shown.status.code(), Some(1), "{name}: {proposal}");
        assert!(proposal["applied"] == false && proposal["unsolved"] == json!([]), "{name}: {proposal}");
        assert!(!proposal["proposals"].as_array().unwrap().is_empty(), "{name}: {proposal}");
        let still = copy.baton(&["recover", "--check"]).await;
        assert_eq!(still.status.code(), Some(1), "{name}: showing it changed something");

        let made = copy.baton(&APPLY).await;
        let text = String::from_utf8_lossy(&made.stderr).into_owned();
        assert!(made.status.success(), "{name}: {text}");
        assert_eq!(answer(&made)["proposals"], proposal["proposals"], "{name}");
        let whole = copy.baton(&["recover", "--check"]).await;
        assert!(whole.status.success(), "{name}: {}", String::from_utf8_lossy(&whole.stdout));
        let audit = answer(&copy.baton(&["audit", "verify", "-o", "json"]).await);
        assert_eq!(audit["ok"], true, "{audit}");
        let row =
            copy.row("SELECT actor, payload::jsonb ->> 'reason' FROM audit_log WHERE kind = 'repair'").await;
        assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("asha", "drill"));
        // Nothing is left to do, and doing it again is refused.
        let again = copy.baton(&["recover", "--repair"]).await;
        assert!(again.status.success(), "{name}: {}", String::from_utf8_lossy(&again.stdout));
        assert_eq!(copy.baton(&APPLY).await.status.code(), Some(1), "{name}");
    }
}

// R: B9
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tampered_audit_log_is_found() {
    let seeded = Seeded::start().await;
    let rows = answer(&seeded.copy("whole").await.baton(&["audit", "verify", "-o", "json"]).await);
    assert!(rows["ok"] == true && rows["rows"].as_i64().unwrap() > 8, "{rows}");
    let free = "ALTER TABLE audit_log DISABLE TRIGGER USER;";
    for (name, damage, told) in [
        ("changed", "UPDATE audit_log SET payload = payload || ' ' WHERE seq = 3", "row 3 "),
        ("who", "UPDATE audit_log SET actor = 'somebody' WHERE seq = 2", "row 2 "),
        ("when", "UPDATE audit_log SET at_us = at_us + 1 WHERE seq = 5", "row 5 "),
        ("taken", "DELETE FROM audit_log WHERE seq = 4", "rows 4 to 4 are missing"),
        (
            "tail",
            "DELETE FROM audit_log WHERE seq = (SELECT max(seq) FROM audit_log)",
            "the chain ends at row",
        ),
        ("all", "DELETE FROM audit_log", "the chain ends at row 0"),
    ] {
        let copy = seeded.copy(name).await;
        copy.damage(&format!("{free} {damage}")).await;
        let output = copy.baton(&["audit", "verify"]).await;
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.code() == Some(1) && text.contains(told), "{name}: {text}");
    }
    // Without a superuser's tricks it cannot even be tried.
    let client = crate::support::database::connect(&seeded.copy("guarded").await.url).await;
    for sql in ["UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log", "TRUNCATE audit_log"] {
        client.batch_execute(sql).await.unwrap_err();
    }
}

// R: C11
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_closed_by_hand_is_booked_by_a_repair_and_the_cluster_goes_on() {
    let cluster = crate::drift::started().await;
    let units = held(&cluster).await;
    by_hand(&cluster, "SELL", units).await;
    gauge(&cluster, 1.0).await;
    let out = cluster.post(0, &exit("out", GOLD, "ALL", 140_000)).await;

    let output = cluster.baton(&APPLY).await;
    let made = answer(&output);
    assert!(output.status.success(), "{made} {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(held(&cluster).await, 0);
    // The EXIT that waited finds nothing to do, and says so.
    let view = cluster.terminal(&out.id).await;
    assert!(view["status"] == "refused" && view["reasons"].to_string().contains("NO_POSITION"), "{view}");
    gauge(&cluster, 0.0).await;
    let again = cluster.play(0, &base("again", GOLD, 140_000)).await;
    assert_eq!(again["status"], "executed", "{again}");
    let realised = cluster.count("SELECT count(*) FROM fill f JOIN order_intent o ON o.id = f.intent_id WHERE o.class = 'operator' AND f.price = 140000").await;
    assert_eq!(realised, 1, "at the price that the trade book shows");
    let check = cluster.baton(&["recover", "--check"]).await;
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}

// R: S15: what was sold by hand and booked is not found again as the order of an exit that was given up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sale_that_a_repair_booked_is_no_given_up_exits_order() {
    let env = crate::drift::QUICK.map(|(key, value)| (key, value.to_owned())).to_vec();
    let mut cluster = Cluster::with(Options { members: 1, env, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let view = cluster.play(0, &base("in", GOLD, 140_000)).await;
    assert_eq!(view["status"], "executed", "{view}");
    let units = held(&cluster).await;
    let lost = json!({ "fault": { "kind": "lost_ack_before" }, "verb": "placeorder", "count": 1 });
    cluster.paper.fault(lost).await;
    cluster.post(0, &exit("out", GOLD, "ALL", 140_000)).await;
    let exits =
        |state: &str| format!("SELECT count(*) FROM order_intent WHERE class = 'exit' AND state = '{state}'");
    wait::until("the exit's outcome is not known", PATIENCE, async || {
        if cluster.count(&exits("in_doubt")).await == 1 { Ok(()) } else { Err(cluster.logs()) }
    })
    .await;
    // No second try, until it is sold by hand.
    let halt = json!({ "switch": "halted", "on": true, "reason": "by hand" });
    let (status, answer) = cluster.members[0].command("/api/v1/switches", &halt).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    wait::until("it is given up", PATIENCE, async || {
        if cluster.count(&exits("abandoned")).await == 1 { Ok(()) } else { Err(cluster.logs()) }
    })
    .await;
    cluster.members[0].process.kill().await;
    by_hand(&cluster, "SELL", units).await;
    let output = cluster.baton(&APPLY).await;
    let made = crate::seeded::answer(&output);
    assert!(output.status.success(), "{made} {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(held(&cluster).await, 0);

    cluster.members[0].restart().await;
    cluster.leader().await;
    let over = json!({ "switch": "halted", "on": false, "reason": "sold" });
    let (status, answer) = cluster.members[0].command("/api/v1/switches", &over).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    let again = cluster.play(0, &base("again", GOLD, 140_000)).await;
    assert_eq!(again["status"], "executed", "{again}");
    assert_eq!(cluster.count(&exits("abandoned")).await, 1, "{:?}", cluster.logs());
    let log = cluster.members[0].log();
    assert!(!log.contains("contradict the ledger"), "{log}");
    assert_eq!(cluster.count("SELECT count(*) FROM broker_order_seen WHERE booked_at IS NULL").await, 0);
}

// A repair that cannot have the leader read state back is none: a leader that goes on remembering would write over it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_is_committed_only_with_the_end_of_the_leaders_session() {
    let seeded = Seeded::start().await;
    let copy = seeded.copy("leaderless").await;
    copy.damage("UPDATE portfolio_state SET risk_amount = 999999.99").await;
    // The session that stands for the leader's, and a server that does not end it.
    let leader = crate::support::database::connect(&copy.url).await;
    let named = "UPDATE leadership SET backend_pid = a.pid, backend_start = a.backend_start
        FROM pg_stat_activity a WHERE a.pid = pg_backend_pid()";
    leader.batch_execute(named).await.unwrap();
    copy.damage(
        "ALTER DATABASE leaderless SET search_path = public, pg_catalog;
         CREATE FUNCTION public.pg_terminate_backend(integer) RETURNS boolean LANGUAGE plpgsql
            AS $$ BEGIN RAISE EXCEPTION 'the command dies here'; END $$",
    )
    .await;
    let damaged = "SELECT count(*) FROM portfolio_state WHERE risk_amount = 999999.99";
    let failed = copy.baton(&APPLY).await;
    assert!(!failed.status.success());
    assert_eq!(copy.row(damaged).await.get::<_, i64>(0), 1, "it was made without that");

    copy.damage("DROP FUNCTION public.pg_terminate_backend(integer)").await;
    let made = copy.baton(&APPLY).await;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert_eq!(copy.row(damaged).await.get::<_, i64>(0), 0);
    leader.batch_execute("SELECT 1").await.unwrap_err();
}

// A change of the leader's that waited for a repair's lock comes from a memory that is older than what was repaired.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_waited_for_a_repair_is_refused() {
    let cluster = crate::drift::started().await;
    let leader = cluster.leader().await;
    // The row as a repair leaves it, before the leader has found its session ended.
    cluster
        .sql
        .batch_execute("UPDATE leadership SET backend_pid = NULL, backend_start = NULL")
        .await
        .unwrap();
    let body = json!({ "reason": "drill" });
    let (status, answer) = cluster.members[leader].command("/api/v1/positions/flatten", &body).await.unwrap();
    assert_eq!((status.as_u16(), answer["code"].as_str()), (503, Some("CLOSE_UNKNOWN")), "{answer}");
    assert_eq!(cluster.count("SELECT count(*) FROM position WHERE close_at IS NOT NULL").await, 0);
    assert!(held(&cluster).await > 0);
}

// R: B3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_in_doubt_ends_by_the_operators_word() {
    let env = vec![("BATON_BROKER__SETTLE_MS", "600000".to_owned())];
    let cluster = Cluster::with(Options { members: 1, env, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    cluster
        .paper
        .fault(json!({ "fault": { "kind": "lost_ack_before" }, "verb": "placeorder", "count": 1 }))
        .await;
    let lost = cluster.post(0, &base("lost", GOLD, 140_000)).await;
    let doubtful = wait::until("the order is in doubt", PATIENCE, async || {
        let output = cluster
            .baton(&["orders", "list", "--in-doubt", "-o", "json", "--address", &cluster.members[0].address])
            .await;
        let orders: Value = answer(&output);
        match orders["orders"][0]["id"].as_str() {
            Some(id) => Ok(id.to_owned()),
            None => Err(orders),
        }
    })
    .await;
    let unexplained = cluster.baton(&["orders", "resolve", &doubtful, "--as", "abandoned"]).await;
    assert_eq!(unexplained.status.code(), Some(2), "a word needs its evidence");
    let word = [
        "orders",
        "resolve",
        &doubtful,
        "--as",
        "abandoned",
        "--evidence",
        "not in the terminal",
        "--operator",
        "asha",
        "--yes",
    ];
    let asked = cluster.baton(&word[..word.len() - 1]).await;
    let said = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(
        asked.status.code() == Some(1) && said.contains("the broker's order book has no order like it"),
        "{said}"
    );
    assert!(said.contains("add --yes") && said.contains(GOLD_SYMBOL), "{said}");
    let output = cluster.baton(&word).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let view = cluster.terminal(&lost.id).await;
    assert!(
        view["status"] == "abandoned" && view["reasons"].to_string().contains("not in the terminal"),
        "{view}"
    );
    let twice = cluster.baton(&word).await;
    assert_eq!(twice.status.code(), Some(1), "it is known already");
    // The symbol is free again.
    let next = cluster.play(0, &base("next", GOLD, 140_000)).await;
    assert_eq!(next["status"], "executed", "{next}");
    let audit = answer(&cluster.baton(&["audit", "verify", "-o", "json"]).await);
    assert_eq!(audit["ok"], true, "{audit}");
}

// R: B17
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_bought_by_hand_is_taken_up_once_by_the_operators_word_and_its_stop_sells_it() {
    let cluster = crate::drift::started().await;
    let units = held(&cluster).await;
    let adopt = |lots: &str, more: &[&str]| {
        let words = [
            "positions",
            "adopt",
            GOLD,
            "--lots",
            lots,
            "--price",
            "140000",
            "--stop",
            "139000",
            "-o",
            "json",
        ];
        [&words[..], more].concat().into_iter().map(str::to_owned).collect::<Vec<String>>()
    };
    let run = async |arguments: Vec<String>| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        cluster.baton(&arguments).await
    };
    let apply = ["--apply", "--reason", "bought on Monday", "--operator", "asha", "--yes"];
    let refused = run(adopt("2", &apply)).await;
    assert_eq!(refused.status.code(), Some(1), "nothing is there beyond the ledger");

    let lot = cluster.count("SELECT lot_size FROM position LIMIT 1").await;
    by_hand(&cluster, "BUY", 2 * lot).await;
    gauge(&cluster, 1.0).await;
    let shown = run(adopt("2", &[])).await;
    let proposal = answer(&shown);
    assert!(shown.status.success() && proposal["applied"] == false, "{proposal}");
    assert_eq!(held(&cluster).await, units, "showing it changed something");
    let much = run(adopt("3", &apply)).await;
    assert!(String::from_utf8_lossy(&much.stderr).contains("more cannot be taken up"), "{much:?}");

    let made = run(adopt("2", &apply)).await;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert_eq!(held(&cluster).await, units + 2 * lot);
    let twice = run(adopt("2", &apply)).await;
    assert_eq!(twice.status.code(), Some(1), "it would be held twice");
    gauge(&cluster, 0.0).await;
    for check in [&["recover", "--check"][..], &["audit", "verify"]] {
        let checked = cluster.baton(check).await;
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    }
    let row = "SELECT actor, payload::jsonb ->> 'reason' FROM audit_log WHERE kind = 'adopt'";
    let row = cluster.sql.query_one(row, &[]).await.unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("asha", "bought on Monday"));
    assert_eq!(cluster.count("SELECT count(*) FROM broker_order_seen WHERE booked_at IS NULL").await, 0);

    // It is Baton's: its stop is watched, whoever leads.
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(138900)).await;
    wait::until("both stops have sold", PATIENCE, async || match held(&cluster).await {
        0 => Ok(()),
        held => Err((held, cluster.logs())),
    })
    .await;
    let net: i64 = cluster
        .paper
        .orders()
        .await
        .iter()
        .map(|order| match order.side.as_str() {
            "BUY" => order.filled_quantity,
            _ => -order.filled_quantity,
        })
        .sum();
    assert_eq!(net, 0, "exactly what was held was sold");
}

/// A position whose exit was acknowledged and is in no book since: hidden, with everything it might do.
async fn exit_out_of_sight(settle_ms: u64) -> (Cluster, Value, String) {
    let env = vec![("BATON_BROKER__SETTLE_MS", settle_ms.to_string())];
    let cluster = Cluster::with(Options { members: 1, env, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let held = cluster.play(0, &base("in", GOLD, 140_000)).await;
    assert_eq!(held["status"], "executed", "{held}");
    let hidden = json!({ "kind": "hidden", "ms": 3_600_000 });
    cluster.paper.fault(json!({ "fault": hidden, "verb": "placeorder", "count": 1 })).await;
    let out = cluster.post(0, &exit("out", GOLD, "ALL", 140_000)).await;
    let order = wait::until("its exit is acknowledged", PATIENCE, async || {
        let sql = "SELECT id::text FROM order_intent WHERE class = 'exit' AND state = 'acknowledged'";
        match cluster.sql.query_opt(sql, &[]).await.unwrap() {
            Some(row) => Ok(row.get(0)),
            None => Err(cluster.logs()),
        }
    })
    .await;
    (cluster, json!(out.id), order)
}

async fn flat(cluster: &Cluster, signal: &Value) {
    let view = cluster.terminal(signal.as_str().unwrap()).await;
    assert_eq!(view["status"], "executed", "{view}");
    assert_eq!(cluster.count("SELECT count(*) FROM position WHERE status <> 'closed'").await, 0);
}

// An exit that rested when its session ended, and a book that turned over before anybody looked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_whose_end_nobody_saw_lets_its_position_be_sold() {
    let (mut cluster, signal, order) = exit_out_of_sight(2000).await;
    cluster.members[0].process.kill().await;
    let aged = "UPDATE order_intent SET trading_day = trading_day - 1 WHERE class = 'exit'";
    assert_eq!(cluster.sql.execute(aged, &[]).await.unwrap(), 1);
    cluster.members[0].restart().await;
    flat(&cluster, &signal).await;
    let sql = "SELECT state, reason FROM order_intent WHERE id = $1::text::uuid";
    let row = cluster.sql.query_one(sql, &[&order]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "cancelled");
    assert!(row.get::<_, &str>(1).contains("nobody saw its end"), "{row:?}");
    let told = "SELECT count(*) FROM error_notifications_log WHERE error_type = 'ORDER_END_UNSEEN'";
    wait::until("somebody is told", PATIENCE, async || {
        if cluster.count(told).await == 1 { Ok(()) } else { Err(cluster.logs()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_order_that_left_the_books_ends_by_the_operators_word() {
    let (cluster, signal, order) = exit_out_of_sight(600_000).await;
    let word = |state| {
        ["orders", "resolve", &order, "--as", state, "--evidence", "expired", "--operator", "asha", "--yes"]
    };
    let wrong = cluster.baton(&word("abandoned")).await;
    assert_eq!(wrong.status.code(), Some(1), "the broker had it");
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("only cancelled or rejected"), "{wrong:?}");
    let output = cluster.baton(&word("cancelled")).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    flat(&cluster, &signal).await;
}
