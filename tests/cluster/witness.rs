//! The intent is committed before the first byte: the bridge itself looks each order up in PostgreSQL on arrival.

use std::sync::{Arc, Mutex, OnceLock};

use baton::paper::{self, ArrivalHook, BridgeMode, FillModel, RateLimits};
use tokio_postgres::Client;

use crate::signals::{GOLD, base, exit};
use crate::support::cluster::{Cluster, Options};
use crate::support::database;

/// What the bridge saw: orders whose intent was committed when they arrived, and orders whose intent was not.
#[derive(Default)]
struct Seen {
    committed: usize,
    early: Vec<String>,
}

// R: S2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_intent_is_committed_before_its_order_arrives() {
    let ledger: Arc<OnceLock<Client>> = Arc::default();
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let hook = {
        let (ledger, seen) = (Arc::clone(&ledger), Arc::clone(&seen));
        ArrivalHook(Arc::new(move |arrival| {
            let (ledger, seen) = (Arc::clone(&ledger), Arc::clone(&seen));
            Box::pin(async move {
                let tag = arrival.body["strategy"].as_str().unwrap_or_default().to_owned();
                let sql = "SELECT 1 FROM order_intent WHERE strategy_tag = $1 AND state = 'journaled'";
                let row = ledger.get().unwrap().query_opt(sql, &[&tag]).await.unwrap();
                let mut seen = seen.lock().unwrap();
                match row {
                    Some(_) => seen.committed += 1,
                    None => seen.early.push(tag),
                }
            })
        }))
    };
    let bridge = paper::Paper::start(paper::Options {
        mode: BridgeMode::Live,
        limits: RateLimits { orders_per_second: None, api_per_second: None },
        fill: FillModel { spread_ticks: 0, ..FillModel::default() },
        on_arrival: Some(hook),
        ..paper::Options::default()
    })
    .await
    .unwrap();
    let env = vec![("BATON_BROKER__URL", bridge.http_url())];
    let mut cluster = Cluster::with(Options { env, ..Options::default() }).await;
    assert!(ledger.set(database::connect(&cluster.stores.database_url()).await).is_ok());

    let price = 140_000;
    for round in 0..10 {
        if round % 4 == 3 {
            cluster.kill_leader().await;
            cluster.revive().await;
        }
        let entered = cluster.play(round % 3, &base(&format!("in-{round}"), GOLD, price)).await;
        assert_eq!(entered["status"], "executed", "{entered}");
        let left = cluster.play(round % 3, &exit(&format!("out-{round}"), GOLD, "ALL", price)).await;
        assert_eq!(left["status"], "executed", "{left}");
    }
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    assert_eq!(seen.early, Vec::<String>::new(), "orders that arrived before their intent was committed");
    assert_eq!(seen.committed, 20);
    drop(cluster);
    bridge.stop().await;
}
