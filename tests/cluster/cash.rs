//! Deposits and withdrawals: booked once whoever leads, reckoned with at once, and neither profit nor loss.

use rust_decimal::{Decimal, dec};
use serde_json::{Value, json};

use crate::signals::{GOLD, GOLD_SYMBOL, base};
use crate::support::cluster::{Cluster, Options, PATIENCE, run_as};
use crate::support::member::TOKEN;
use crate::support::wait;

const PATH: &str = "/api/v1/cash";
const ID: &str = "0198f3a0-0000-7000-8000-000000000001";
const OTHER: &str = "0198f3a0-0000-7000-8000-000000000002";

/// What an entry on gold would be sized by: lots by risk, as the member that is asked says.
async fn lots(cluster: &Cluster, member: usize) -> Decimal {
    let url = format!("{}/api/v1/signals/dry-run", cluster.members[member].address);
    let asked = cluster.client.post(url).bearer_auth(TOKEN).json(&base("would", GOLD, 140_000));
    let would: Value = asked.send().await.unwrap().json().await.unwrap();
    let lots = would["decision"]["size"]["l_risk"].as_str();
    lots.unwrap_or_else(|| panic!("{would}")).parse::<Decimal>().unwrap().round_dp(6)
}

fn asked(kind: &str, amount: &str, id: &str) -> Value {
    json!({ "id": id, "kind": kind, "amount": amount, "reason": "a test" })
}

fn said(cluster: &Cluster, member: usize, words: &[&str]) -> (Option<i32>, Value) {
    let (code, said) = cluster.members[member].cli(words);
    (code, serde_json::from_str(&said).unwrap_or(Value::String(said)))
}

async fn amount(cluster: &Cluster, sql: &str) -> Decimal {
    cluster.sql.query_one(sql, &[]).await.unwrap().get(0)
}

// R: B17
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposit_is_booked_once_sizes_the_next_entry_and_outlives_its_leader() {
    let env = [
        ("BATON_TRADING__SIZING__EQUITY", "closed"),
        ("BATON_TRADING__LIMITS__MAX_DAILY_LOSS", "1000000"),
        ("BATON_TRADING__LIMITS__MAX_DRAWDOWN_PERCENT", "5"),
    ];
    let env = env.map(|(key, value)| (key, value.to_owned())).to_vec();
    let cluster = Cluster::with(Options { members: 2, env, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let follower = cluster.follower().await;
    let before = lots(&cluster, follower).await;
    let capital = "SELECT capital FROM portfolio_state";
    let opening = amount(&cluster, capital).await;

    // What makes no sense is refused, and nothing moves.
    let all = (opening + dec!(0.01)).normalize().to_string();
    for (body, status, code) in [
        (asked("withdrawal", &all, ID), 409, "CASH_REFUSED"),
        (asked("deposit", "0", ID), 400, "BAD_REQUEST"),
        (asked("deposit", "-5", ID), 400, "BAD_REQUEST"),
        (asked("deposit", "NaN", ID), 400, "BAD_REQUEST"),
        (asked("opening", "5", ID), 400, "BAD_REQUEST"),
    ] {
        let (found, answer) = cluster.members[follower].command(PATH, &body).await.unwrap();
        assert_eq!((found.as_u16(), answer["code"].as_str()), (status, Some(code)), "{answer}");
    }
    assert_eq!(amount(&cluster, capital).await, opening);

    // As much as the account has, by a follower: the next entry is twice as large.
    let deposit = opening.normalize().to_string();
    let words = ["cash", "deposit", &deposit, "--reason", "a test", "--id", ID, "--yes"];
    let (code, booked) = said(&cluster, follower, &words);
    assert!(code == Some(0) && booked["fresh"] == true, "{booked}");
    let twice = (lots(&cluster, follower).await, before * dec!(2));
    assert!((twice.0 - twice.1).abs() < dec!(0.00001), "{twice:?}");
    let (code, again) = said(&cluster, follower, &words);
    assert!(code == Some(0) && again["fresh"] == false, "{again}");
    assert_eq!(amount(&cluster, capital).await, opening * dec!(2));
    let (found, other) =
        cluster.members[follower].command(PATH, &asked("withdrawal", &deposit, ID)).await.unwrap();
    assert_eq!((found.as_u16(), &other["code"]), (409, &json!("CASH_REFUSED")), "another one's id: {other}");

    // The leader dies between booking and answer: whoever asks again, as the error says, books nothing twice.
    cluster.arm("cash_booked", "kill");
    let words = ["cash", "deposit", &deposit, "--reason", "a test", "--id", OTHER, "--yes"];
    let (code, lost) = said(&cluster, follower, &words);
    assert!(code == Some(1) && lost.to_string().contains(&format!("--id {OTHER}")), "{lost}");
    let leader = cluster.leader().await;
    assert_eq!(leader, follower);
    let (code, again) = said(&cluster, leader, &words);
    assert!(code == Some(0) && again["fresh"] == false, "{again}");
    assert_eq!(amount(&cluster, capital).await, opening * dec!(3));
    let thrice = (lots(&cluster, leader).await, before * dec!(3));
    assert!((thrice.0 - thrice.1).abs() < dec!(0.00001), "{thrice:?}");

    // Taking most of it out is no loss: neither the day's limit nor the drawdown's is hit, and entries go on.
    let out = (opening * dec!(2.5)).normalize().to_string();
    let (code, out) = said(&cluster, leader, &["cash", "withdraw", &out, "--reason", "tax", "--yes"]);
    assert!(code == Some(0) && out["fresh"] == true, "{out}");
    let entered = cluster.play(leader, &base("in", GOLD, 140_000)).await;
    assert_eq!(entered["status"], "executed", "{entered}");
    assert_eq!(cluster.count("SELECT count(*) FROM limit_latch").await, 0);
    let figures = "SELECT count(*) FROM portfolio_state s, cash_movement m WHERE m.kind = 'opening'
        AND s.capital = m.amount / 2 AND s.closed_equity = s.capital AND s.equity_high = s.capital";
    assert_eq!(cluster.count(figures).await, 1);
    let day = "SELECT count(*) FROM trading_day WHERE opening_equity = (SELECT capital FROM portfolio_state)";
    assert_eq!(cluster.count(day).await, 1);

    let (code, list) = said(&cluster, leader, &["cash", "list"]);
    let kinds: Vec<&str> =
        list["movements"].as_array().unwrap().iter().map(|row| row["kind"].as_str().unwrap()).collect();
    assert_eq!((code, kinds), (Some(0), vec!["withdrawal", "deposit", "deposit", "opening"]), "{list}");
    let told = "SELECT count(*) FROM audit_log WHERE kind = 'change' AND payload::jsonb ? 'cash'";
    assert_eq!(cluster.count(told).await, 3);
    cluster.finish().await;
}

// R: B17: asked for again as the error says, it is taken up before the new leader has looked at its day.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withdrawal_right_after_a_takeover_is_no_loss_of_the_day() {
    let mut cluster = Cluster::with(Options { members: 2, ..Options::default() }).await;
    let opened =
        "SELECT count(*) FROM trading_day WHERE opening_equity = (SELECT capital FROM portfolio_state)";
    wait::until("the day is opened", PATIENCE, async || match cluster.count(opened).await {
        1 => Ok(()),
        other => Err((other, cluster.logs())),
    })
    .await;
    let (leader, other) = (cluster.leader().await, cluster.follower().await);
    cluster.members[leader].process.kill().await;
    let body = asked("withdrawal", "1000000", ID);
    wait::until("it is booked", PATIENCE, async || match cluster.members[other].command(PATH, &body).await {
        Some((status, _)) if status.is_success() => Ok(()),
        other => Err(other),
    })
    .await;
    assert_eq!(cluster.count(opened).await, 1, "the opening moved along");
    cluster.finish().await;
}

// R: B17, S6: what an older term still committed while this one read state back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_movement_that_a_term_has_not_seen_is_never_written_over() {
    let mut cluster = Cluster::with(Options { members: 1, ..Options::default() }).await;
    cluster.paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
    let opening = amount(&cluster, "SELECT capital FROM portfolio_state").await;
    let unseen = format!(
        "BEGIN;
         INSERT INTO cash_movement (id, kind, amount, who, why) VALUES ('{ID}', 'deposit', 1000, 'asha', 'a test');
         UPDATE portfolio_state SET capital = capital + 1000, closed_equity = closed_equity + 1000,
            equity_high = equity_high + 1000;
         UPDATE trading_day SET opening_equity = opening_equity + 1000;
         SELECT audit_append('change', 'b1', json_build_object('figures', json_build_object('capital', capital::text,
            'equity_high', equity_high::text))::text) FROM portfolio_state;
         COMMIT"
    );
    cluster.sql.batch_execute(&unseen).await.unwrap();
    let entered = cluster.play(0, &base("in", GOLD, 140_000)).await;
    assert_eq!(entered["status"], "executed", "{entered}");
    let capital = "SELECT capital FROM portfolio_state";
    assert_eq!(amount(&cluster, capital).await, opening + dec!(1000));
    // It reckons with it, too.
    let (code, out) = said(&cluster, 0, &["cash", "withdraw", "1000", "--reason", "back", "--yes"]);
    assert!(code == Some(0) && out["fresh"] == true, "{out}");
    assert_eq!(amount(&cluster, capital).await, opening);

    // A setting that is not read any more is told: to whoever checks it, and at the start.
    let told = "trading.capital is 5, and the account was opened with 100000000";
    cluster.members[0].launch.env.insert("BATON_TRADING__CAPITAL".to_owned(), "5".to_owned());
    let checked = run_as(&cluster.members[0].launch, &["config", "check"]).await;
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(checked.status.success() && said.contains(told), "{said}");
    cluster.members[0].process.kill().await;
    cluster.revive().await;
    cluster.members[0].says(told).await;
    cluster.leader().await;
    assert_eq!(amount(&cluster, capital).await, opening);
    cluster.finish().await;
}
