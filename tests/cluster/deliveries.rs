//! Many senders at once, on every instance: a signal is one row and at most one order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chrono::{SecondsFormat, TimeDelta, Utc};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::load::usual_times;
use crate::signals::{base, exit, pyramid};
use crate::support::cluster::{Cluster, Options, independent};
use crate::support::member::TOKEN;
use crate::support::seed::Seed;
use crate::support::wait;

/// Signals that must trade, each on an instrument of its own.
const TRADED: usize = 600;
/// Signals that must be refused, four kinds.
const REFUSED: usize = 400;
/// Instruments of the refused ones.
const QUIET: usize = 40;
/// Deliveries of each signal.
const REPEATS: usize = 10;
/// Open requests at a time.
const AT_ONCE: usize = 200;

fn refused(number: usize) -> Value {
    let (id, instrument) = (format!("refused-{number}"), format!("QUIET{}", number % QUIET));
    match number % 4 {
        0 => {
            let mut stale = base(&id, &instrument, 1000);
            let sent = Utc::now() - TimeDelta::hours(1);
            stale["timestamp"] = sent.to_rfc3339_opts(SecondsFormat::Millis, true).into();
            stale
        }
        1 => pyramid(&id, &instrument, "Long_2", 1000),
        2 => exit(&id, &instrument, "ALL", 1000),
        _ => base(&id, &instrument, 2000),
    }
}

/// Delivers until an instance takes it; counts the first deliveries and the tries that were turned away.
async fn deliver(
    client: reqwest::Client,
    addresses: Arc<Vec<String>>,
    first: usize,
    body: Value,
    fresh: Arc<AtomicUsize>,
    turned_away: Arc<AtomicUsize>,
) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    for turn in first.. {
        let url = format!("{}/webhook", addresses[turn % addresses.len()]);
        let answer = client.post(url).bearer_auth(TOKEN).json(&body).send().await;
        if let Ok(answer) = answer {
            let status = answer.status();
            match status {
                StatusCode::ACCEPTED | StatusCode::OK => {
                    fresh.fetch_add(usize::from(status == StatusCode::ACCEPTED), Ordering::Relaxed);
                    let answer: Value = answer.json().await.unwrap();
                    return answer["id"].as_str().unwrap().to_owned();
                }
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {}
                other => panic!("{other} for {body}: {}", answer.text().await.unwrap()),
            }
        }
        turned_away.fetch_add(1, Ordering::Relaxed);
        assert!(Instant::now() < deadline, "nobody takes {body}");
    }
    unreachable!("the turns do not end")
}

/// How many signals ended in which way, and why.
async fn ends(cluster: &Cluster) -> String {
    let rows = cluster
        .sql
        .query(
            "SELECT s.status, coalesce(s.reasons -> 0 ->> 'code', '-'), coalesce(max(o.state), '-'),
                left(max(o.reason), 200), count(*)
             FROM signal s LEFT JOIN order_intent o ON o.signal_id = s.id GROUP BY 1, 2 ORDER BY 1, 2",
            &[],
        )
        .await
        .unwrap();
    let line = |row: &tokio_postgres::Row| {
        let text = |place: usize| row.get::<_, Option<String>>(place).unwrap_or_default();
        format!("{} × {} {} {} {}", row.get::<_, i64>(4), text(0), text(1), text(2), text(3))
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

// R: B2, B7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_deliveries_are_a_thousand_signals() {
    let traded = (0..TRADED).map(|number| format!("TRADED{number}"));
    let quiet = (0..QUIET).map(|number| format!("QUIET{number}"));
    let mut env = usual_times();
    env.push(("BATON_BROKER__ORDERS_PER_SECOND", "100".to_owned()));
    let options = Options { instruments: traded.chain(quiet).collect(), env, ..Options::default() };
    let cluster = Cluster::with(options).await;

    let mut seed = Seed::drawn("deliveries");
    let mut bodies: Vec<Value> = (0..TRADED)
        .map(|number| base(&format!("traded-{number}"), &format!("TRADED{number}"), 1000))
        .chain((0..REFUSED).map(refused))
        .flat_map(|body| std::iter::repeat_n(body, REPEATS))
        .collect();
    seed.shuffle(&mut bodies);
    let addresses = Arc::new(cluster.members.iter().map(|member| member.address.clone()).collect::<Vec<_>>());
    let (fresh, turned_away) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    let begun = Instant::now();
    let deliveries: Vec<_> = bodies
        .into_iter()
        .map(|body| {
            let first = seed.below(addresses.len());
            let (client, at_once) = (cluster.client.clone(), Arc::clone(&at_once));
            let delivery = deliver(
                client,
                Arc::clone(&addresses),
                first,
                body,
                Arc::clone(&fresh),
                Arc::clone(&turned_away),
            );
            tokio::spawn(async move {
                let _permit = at_once.acquire_owned().await.unwrap();
                delivery.await
            })
        })
        .collect();
    let mut ids = std::collections::HashSet::new();
    let total = deliveries.len();
    for delivery in deliveries {
        ids.insert(delivery.await.unwrap());
    }
    println!("{total} deliveries in {:?}, {turned_away:?} tries turned away", begun.elapsed());
    assert_eq!((total, ids.len()), ((TRADED + REFUSED) * REPEATS, TRADED + REFUSED));
    // With no answer lost, the first delivery of each signal and no other was told that it is the first.
    if turned_away.load(Ordering::Relaxed) == 0 {
        assert_eq!(fresh.load(Ordering::Relaxed), TRADED + REFUSED);
    }

    let open = "SELECT count(*) FROM signal WHERE status IN ('pending', 'working')";
    wait::until("every signal has its end", Duration::from_secs(90), async || {
        match cluster.count(open).await {
            0 => Ok(()),
            left => Err((left, cluster.logs())),
        }
    })
    .await;
    println!("every signal had its end after {:?}", begun.elapsed());
    println!("{}", ends(&cluster).await);
    let check = cluster.finish().await;
    println!("{check:?}");
    assert_eq!((check.signals, check.orders, check.arrivals), (1000, TRADED, TRADED));
    // On a busy machine an order may miss its time to be sent: it provably never left, and its signal is decided anew.
    let withheld = check.states.get("not_sent").copied().unwrap_or(0);
    assert_eq!(check.intents, TRADED + withheld, "{check:?}");
    assert_eq!((check.open_positions, check.states.get("filled")), (TRADED, Some(&TRADED)), "{check:?}");
    assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", begun.elapsed());
}

// The refused ones say why, and each kind for its own reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_name_their_reason() {
    let quiet = (0..QUIET).map(|number| format!("QUIET{number}")).collect();
    let cluster =
        Cluster::with(Options { instruments: quiet, env: independent(), ..Options::default() }).await;
    for (number, code) in
        ["SIGNAL_TOO_OLD", "ZERO_LOTS_MISSING_INPUT", "NO_POSITION", "PRICE_DIVERGENCE"].iter().enumerate()
    {
        let view = cluster.play(number, &refused(number)).await;
        assert_eq!(view["status"], "refused", "{view}");
        let codes: Vec<&str> = view["reasons"]
            .as_array()
            .unwrap()
            .iter()
            .map(|reason| reason["code"].as_str().unwrap())
            .collect();
        assert!(codes.contains(code), "{code}: {view}");
    }
    let views = json!(cluster.members[0].json("/api/v1/signals").await.unwrap()["counts"]);
    assert_eq!(views.as_array().unwrap().len(), 3, "{views}");
    let check = cluster.finish().await;
    assert_eq!((check.signals, check.orders), (4, 0));
}
