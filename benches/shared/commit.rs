//! The bare commit of an intent's row: what no order can do without, and so what its way is compared with.

use std::time::{Duration, Instant};

use baton::domain::order::OrderClass;
use baton::ledger::journal::JOURNAL;
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

use crate::rows::{hold, journal, row};
use crate::support::database::Database;

/// The journal's row into the same table, with nothing to stop it.
pub fn bare() -> String {
    let (before, fence) = JOURNAL.split_once("FROM leadership").expect("the fence is where it was");
    let (_, after) = fence.split_once("FOR SHARE").expect("the fence locks its row");
    format!(
        "{before} FROM (SELECT false AS halted, false AS halt_all, false AS reduce_only, NULL::text AS custody,
            '{{}}'::jsonb AS strategies, '{{}}'::jsonb AS instruments WHERE $1::bigint >= 0) f {after}"
    )
}

/// The same with its parameters written out, each run with ids of its own: a script for pgbench.
pub fn script() -> String {
    let rows = "jsonb_build_array(jsonb_build_object('id', gen_random_uuid(), 'leg', 0, 'attempt', 0, 'position_id',
        gen_random_uuid(), 'instrument', 'GOLD_MINI', 'class', 'entry', 'symbol', gen_random_uuid(), 'exchange', 'MCX',
        'side', 'BUY', 'quantity', 1, 'price_type', 'MARKET', 'product', 'NRML', 'price', '0', 'trigger_price', '0',
        'strategy_tag', gen_random_uuid(), 'plan', '{}'::jsonb, 'send_window_ms', 1000, 'order_watermark', 0))";
    let nobody = format!("'{}'::uuid", Uuid::nil());
    // `:30` would be a variable of the script.
    let values = [
        ("$1", "0"),
        ("$2", rows),
        ("$3", nobody.as_str()),
        ("$4", "'{}'::jsonb"),
        ("'05:30'", "'330 minutes'"),
    ];
    let mut script = bare();
    for (parameter, value) in values {
        script = script.replace(parameter, value);
    }
    // A script's statement ends with its line.
    format!("{};\n", script.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// A database of its own, synced as the measured one is, and one session that commits into it.
pub struct Commits {
    pub database: Database,
    session: Client,
    statement: Statement,
}

impl Commits {
    pub async fn start() -> Self {
        let database = Database::synced().await;
        let session = database.connect().await;
        hold(&session).await;
        let statement = session.prepare(&bare()).await.expect("it is a statement");
        Self { database, session, statement }
    }

    /// The time of one commit.
    pub async fn one(&self) -> Duration {
        let rows = vec![row(OrderClass::Entry, Uuid::now_v7(), 1)];
        let begun = Instant::now();
        let done = journal(&self.session, &self.statement, 0, rows).await;
        let took = begun.elapsed();
        assert_eq!(done.map(|ids| ids.len()), Some(1), "one row is committed");
        took
    }
}
