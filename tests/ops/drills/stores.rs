//! Drills about the stores, and about what they hold.

use rust_decimal::dec;

use super::expected::shown_below;
use super::{
    AWAY, Pager, block, blocks, done, equipped, named, prints, shown, status_is, told, typed, with_a_position,
};
use crate::signals::{GOLD, SILVER, SILVER_SYMBOL, base};
use crate::support::cluster::{Cluster, Options, PATIENCE, independent};
use crate::support::wait;

// R: H6
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_db_unavailable() {
    if !equipped() {
        return;
    }
    let cluster = with_a_position(Options::default()).await;
    let pager = Pager::beside(&cluster).await;
    cluster.stores.postgres().stop().await.unwrap();
    // First 60 seconds, and what the section says of it: nobody leads, and the state names the code.
    let asked = typed(&cluster, 0, told("db_unavailable", "psql \"$DATABASE_URL\" -c 'SELECT 1'")).await;
    assert!(!asked.status.success(), "{asked:?}");
    status_is(&cluster, 0, 2).await;
    pager.hears("DatabaseUnavailable").await;
    let state = typed(&cluster, 0, &block("db_unavailable")).await;
    let printed = String::from_utf8_lossy(&state.stdout);
    shown("db_unavailable", &printed);

    // Mitigation: bring it back. Everything else happens by itself.
    cluster.stores.postgres().start().await.unwrap();
    let cluster = cluster.reconnected().await;
    let leader = cluster.leader().await;
    cluster.all_ready().await;
    done(&cluster, leader, &block("db_unavailable")).await;
    prints(&cluster, leader, told("db_unavailable", "curl -s $A/readyz"), "ready").await;
    pager.rests("DatabaseUnavailable").await;
    assert_eq!(cluster.count("SELECT count(*) FROM order_intent WHERE state = 'in_doubt'").await, 0);

    cluster.finish().await;
}

// R: H6, C5
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_emergency_close() {
    if !equipped() {
        return;
    }
    let cluster = with_a_position(Options { env: independent(), ..Options::default() }).await;
    cluster.paper.set_price(SILVER_SYMBOL, "MCX", dec!(150000)).await;
    let view = cluster.play(0, &base("too", SILVER, 150_000)).await;
    assert_eq!(view["status"], "executed", "{view}");
    let blocks = blocks(&named("db_unavailable"));
    let closes: Vec<&String> = blocks.iter().filter(|block| block.starts_with(AWAY)).collect();
    assert!(closes.len() == 2 && closes[0].contains(GOLD) && closes[1].contains("--all"), "{closes:?}");
    // Nobody sits at a terminal here who could type what it asks for.
    let typed_in = |close: &str| format!("{} --yes", close.trim_end());
    let asked = typed(&cluster, 0, &typed_in(closes[0])).await;
    assert!(!asked.status.success(), "refused while PostgreSQL answers: {asked:?}");

    cluster.stores.postgres().stop().await.unwrap();
    for close in closes {
        let sold = wait::until("it sells, once the leader's lease has expired", PATIENCE, async || {
            let output = typed(&cluster, 0, &typed_in(close)).await;
            if output.status.success() { Ok(output.stdout) } else { Err(output) }
        })
        .await;
        shown_below("db_unavailable", close, &String::from_utf8_lossy(&sold));
    }
    // Back again, the instance with that journal books both sales.
    cluster.stores.postgres().start().await.unwrap();
    let cluster = cluster.reconnected().await;
    wait::until("both sales are in the ledger", PATIENCE, async || {
        let held = cluster.count("SELECT count(*) FROM position WHERE status <> 'closed'").await;
        let sold = cluster.count("SELECT count(*) FROM order_intent WHERE custody").await;
        if (held, sold) == (0, 2) { Ok(()) } else { Err((held, sold, cluster.logs())) }
    })
    .await;
    let leader = cluster.leader().await;
    done(&cluster, leader, "baton recover --check && baton positions diff").await;
}

// R: H6
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_redis_away() {
    if !equipped() {
        return;
    }
    let cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    let degraded = "curl -s $A/metrics | grep baton_ha_degraded";
    let shows = async |wanted: &str| {
        wait::until(wanted, PATIENCE, async || {
            let printed = done(&cluster, leader, degraded).await;
            if printed.lines().any(|line| line == wanted) { Ok(()) } else { Err(printed) }
        })
        .await;
    };
    cluster.stores.redis().stop().await.unwrap();
    shows("baton_ha_degraded 1").await;
    let status = typed(&cluster, leader, "baton status").await;
    assert_eq!(status.status.code(), Some(1), "degraded, and not down: {status:?}");
    assert!(String::from_utf8_lossy(&status.stdout).contains("Redis is away"), "{status:?}");
    cluster.stores.redis().start().await.unwrap();
    shows("baton_ha_degraded 0").await;
    assert_eq!(cluster.leader().await, leader, "nothing moved");
    cluster.finish().await;
}

// R: H6
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_db_auth() {
    if !equipped() {
        return;
    }
    let mut cluster = Cluster::start().await;
    let (leader, locked) = (cluster.leader().await, cluster.follower().await);
    // A member is started with credentials that PostgreSQL does not know.
    let right = cluster.members[locked].launch.env["BATON_POSTGRES__URL"].clone();
    let mut wrong = reqwest::Url::parse(&right).unwrap();
    wrong.set_username("nobody_knows").unwrap();
    let wrong = wrong.to_string();
    cluster.members[locked].launch.env.insert("BATON_POSTGRES__URL".to_owned(), wrong.clone());
    cluster.members[locked].process.kill().await;
    cluster.members[locked].restart().await;
    let ask = told("db_auth", "psql \"$DATABASE_URL\" -c 'SELECT current_user'");
    let asked = typed(&cluster, locked, &format!("export DATABASE_URL='{wrong}'; {ask}")).await;
    assert!(!asked.status.success(), "{asked:?}");
    let verify = told("db_auth", "curl -s $A/startupz");
    wait::until("the member says what it lacks", PATIENCE, async || {
        let printed = done(&cluster, locked, verify).await;
        if printed.contains("check the user and password") { Ok(()) } else { Err(printed) }
    })
    .await;
    let printed = done(&cluster, locked, told("db_auth", "baton config show | grep -A2 postgres")).await;
    assert!(printed.contains("url") && !printed.contains("nobody_knows"), "{printed}");

    // Mitigation: the secret is corrected, and the instance restarted.
    cluster.members[locked].launch.env.insert("BATON_POSTGRES__URL".to_owned(), right);
    cluster.members[locked].process.kill().await;
    cluster.members[locked].restart().await;
    cluster.all_ready().await;
    let printed = done(&cluster, locked, verify).await;
    assert!(!printed.contains("check the user and password"), "{printed}");
    assert_eq!(cluster.leader().await, leader);
    cluster.finish().await;
}
