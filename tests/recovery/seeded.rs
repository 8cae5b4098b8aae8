//! A database as a day of trading leaves it, to be copied and damaged: an open base with a pyramid, both with a stop that
//! has trailed, the base's above its entry; a closed position; an order that rests at the broker.

use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use baton::domain::instrument::Catalog;
use baton::domain::money::Rupees;
use baton::ledger::Ledger;
use baton::ledger::snapshot::Depth;
use baton::recovery::{CrashRecoveryManager, Report};
use baton::telemetry::metrics::Metrics;
use local::Stores;
use rust_decimal::dec;
use serde_json::{Value, json};
use tokio_postgres::{Client, Row};

use crate::signals::{GOLD, GOLD_SYMBOL, SILVER, SILVER_SYMBOL, bar, base, exit, pyramid};
use crate::support::cluster::{Cluster, Options, PATIENCE, run_as};
use crate::support::paper::Paper;
use crate::support::process::Launch;
use crate::support::{charges, database, wait};

/// The stores with the seeded database; nobody is connected to it.
pub struct Seeded {
    pub stores: Stores,
    /// The bridge, which keeps the resting order.
    pub paper: Paper,
    launch: Launch,
    database: String,
    _folder: tempfile::TempDir,
}

/// A copy of it.
pub struct Copy {
    pub url: String,
    launch: Launch,
}

impl Seeded {
    pub async fn start() -> Self {
        let mut env = charges::metals();
        env.push(("BATON_TRADING__INITIAL_STOP", "signal".to_owned()));
        let cluster = Cluster::with(Options { members: 1, env, ..Options::default() }).await;
        let paper = &cluster.paper;
        paper.set_price(GOLD_SYMBOL, "MCX", dec!(140000)).await;
        for (name, symbol) in [("COPPER", "COPPER31DEC25FUT"), (SILVER, SILVER_SYMBOL)] {
            paper.set_price(symbol, "MCX", if name == "COPPER" { dec!(1000) } else { dec!(150000) }).await;
        }
        // Its stop lies below every price of the story: one that was read before the last move sells nothing.
        let mut add = pyramid("pyramid", GOLD, "Long_2", 143_000);
        add["stop"] = json!(139_000);
        for (price, body) in [
            (dec!(140000), base("base", GOLD, 140_000)),
            (dec!(143000), add),
            (dec!(143000), base("copper", "COPPER", 1000)),
            (dec!(143000), exit("copper-out", "COPPER", "ALL", 1000)),
            (dec!(143000), bar("bar", GOLD, 143_000, 500)),
        ] {
            paper.set_price(GOLD_SYMBOL, "MCX", price).await;
            let view = cluster.play(0, &body).await;
            assert_eq!(view["status"], "executed", "{view}");
        }
        paper.post("fills", json!({ "hold": true })).await;
        cluster.post(0, &base("silver", SILVER, 150_000)).await;
        let open = "SELECT count(*) FROM order_intent WHERE state = 'acknowledged'";
        wait::until("an order rests at the broker", PATIENCE, async || {
            if cluster.count(open).await == 1 { Ok(()) } else { Err(cluster.logs()) }
        })
        .await;
        cluster.into_seeded().await
    }

    /// A copy of the database, to be damaged.
    pub async fn copy(&self, name: &str) -> Copy {
        let url = wait::until("the seeded database is free", PATIENCE, async || {
            self.stores.clone_database(name, &self.database).await.map_err(|error| error.to_string())
        })
        .await;
        Copy { url, launch: self.launch.clone() }
    }
}

impl Seeded {
    /// Another database on the same stores.
    pub fn at(&self, url: String) -> Copy {
        Copy { url, launch: self.launch.clone() }
    }
}

impl Copy {
    /// Damages it.
    pub async fn damage(&self, sql: &str) {
        let client: Client = database::connect(&self.url).await;
        client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// What `baton recover --check` would say of it, without a process for each question.
    pub async fn examined(&self) -> Report {
        self.proven(Depth::Whole).await
    }

    /// What a recovery finds; a start, a takeover and the leader's look once a minute prove [`Depth::Open`].
    pub async fn proven(&self, depth: Depth) -> Report {
        let capital = self.launch.env["BATON_TRADING__CAPITAL"].parse().unwrap();
        let manager = CrashRecoveryManager::new(
            Ledger::new(&self.url, 2, "baton-test").unwrap(),
            Arc::new(Catalog::default()),
            Rupees(capital),
            1,
            Duration::from_millis(1),
            Arc::new(Metrics::new()),
        );
        manager.examine(depth).await
    }

    /// Runs `baton` on it.
    pub async fn baton(&self, arguments: &[&str]) -> Output {
        run_as(&self.launch("cli", &[]), arguments).await
    }

    /// Arms a fail point for whatever runs on it.
    pub fn arm(&self, place: &str, action: &str) {
        std::fs::write(&self.launch.env["BATON_FAIL_POINT_FILE"], format!("{place} {action}\n")).unwrap();
    }

    /// One row of it.
    pub async fn row(&self, sql: &str) -> Row {
        database::connect(&self.url).await.query_one(sql, &[]).await.unwrap()
    }

    /// How a member starts on it.
    pub fn launch(&self, name: &str, more: &[&str]) -> Launch {
        let mut launch = self.launch.clone();
        launch.env.insert("BATON_POSTGRES__URL".to_owned(), self.url.clone());
        launch.env.insert("BATON_CLUSTER__MEMBER".to_owned(), name.to_owned());
        launch.arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        launch.log = launch.folder.join(format!("{name}.log"));
        launch
    }
}

/// The JSON that `-o json` printed.
pub fn answer(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "{error}: {}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

impl Cluster {
    /// Ends the processes and the session of the test, so that the database can be copied.
    async fn into_seeded(self) -> Seeded {
        let (mut members, paper, stores, folder) = self.into_parts();
        let launch = members[0].launch.clone();
        members[0].process.kill().await;
        let url = stores.database_url();
        let database = url.rsplit('/').next().unwrap().to_owned();
        Seeded { stores, paper, launch, database, _folder: folder }
    }
}
