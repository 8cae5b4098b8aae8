//! A recovery reads over two sessions: both must see one instant, and no recovery may wait for another's session.

use std::collections::BTreeSet;
use std::sync::Arc;

use baton::ledger::Ledger;
use baton::ledger::snapshot::Depth;
use tokio_util::sync::CancellationToken;

use crate::bench::{manager, seed};
use crate::support::database::Database;

const POSITIONS: i64 = 200;

/// One lot more of every position, with all that must agree with it.
fn a_lot_more() -> String {
    format!(
        "BEGIN;
         UPDATE position SET quantity = quantity + 10, entry_quantity = entry_quantity + 10;
         UPDATE order_intent SET quantity = quantity + 10, filled_quantity = filled_quantity + 10;
         UPDATE fill SET quantity = quantity + 10, cumulative = cumulative + 10;
         UPDATE portfolio_state SET risk_amount = risk_amount + {POSITIONS} * 100,
            volatility_amount = volatility_amount + {POSITIONS} * 50, margin_used = margin_used + {POSITIONS} * 100;
         COMMIT"
    )
}

// R: C1: positions of one instant against fills of another would be corruption that is not there
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_beside_a_writer_sees_one_instant() {
    let database = Database::start().await;
    let sql = database.connect().await;
    seed(&sql, POSITIONS).await;
    let enough = CancellationToken::new();
    let until = enough.clone();
    let writer = tokio::spawn(async move {
        while !until.is_cancelled() {
            sql.batch_execute(&a_lot_more()).await.unwrap();
        }
    });
    let manager = manager(&database, POSITIONS);
    let mut seen = BTreeSet::new();
    while seen.len() < 30 {
        assert!(!writer.is_finished(), "the writer has failed");
        let recovered = manager.recover().await.expect("every instant is whole");
        let quantities: BTreeSet<i64> = recovered.portfolio.positions.iter().map(|p| p.quantity.0).collect();
        assert_eq!(quantities.len(), 1, "{quantities:?}");
        seen.extend(quantities);
    }
    enough.cancel();
    writer.await.unwrap();
    database.stores.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recoveries_need_no_second_session_and_never_wait_for_each_others() {
    let database = Database::start().await;
    seed(&database.connect().await, POSITIONS).await;
    for size in [1, 2] {
        let ledger = Ledger::new(&database.stores.database_url(), size, "baton-test").unwrap();
        let all = (0..8).map(|_| {
            let ledger = ledger.clone();
            tokio::spawn(async move { ledger.snapshot(Depth::Open, &Arc::default()).await })
        });
        for snapshot in futures_util::future::join_all(all).await {
            let snapshot = snapshot.unwrap().unwrap_or_else(|error| panic!("{size} connections: {error}"));
            assert_eq!(snapshot.position_fills.len(), snapshot.positions.len());
        }
    }
    database.stores.stop().await.unwrap();
}
