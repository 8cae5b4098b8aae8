//! A whole cluster: private stores, a paper bridge and some members, all real processes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use local::Stores;
use reqwest::StatusCode;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_postgres::Client as Sql;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::checker::{self, Check};
use super::member::{Member, TOKEN};
use super::paper::{self, Paper};
use super::process::{Launch, bare_env};
use super::witness::Witness;
use super::{database, wait};

/// How long anything that should take a second may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(45);

/// How the cluster is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Members `b1`, `b2`, ….
    pub members: usize,
    /// `live`, so that orders are matched by their terms, or `analyze`.
    pub shape: &'static str,
    /// More or other configuration, by environment variable.
    pub env: Vec<(&'static str, String)>,
    /// More instruments, each listed by the bridge at this price.
    pub instruments: Vec<String>,
    /// The bridge looks each order's intent up in PostgreSQL when the order arrives.
    pub witnessed: bool,
    /// Every commit is synced to disk, as where it matters.
    pub synced: bool,
}

impl Default for Options {
    fn default() -> Self {
        let (env, instruments) = (Vec::new(), Vec::new());
        Self { members: 3, shape: "live", env, instruments, witnessed: false, synced: false }
    }
}

/// A running cluster. Dropping it ends every process.
pub struct Cluster {
    pub members: Vec<Member>,
    pub paper: Paper,
    /// What the bridge saw, where it is a witness.
    pub witness: Option<Witness>,
    pub stores: Stores,
    pub sql: Sql,
    pub client: reqwest::Client,
    folder: TempDir,
}

/// A signal as the webhook answered it.
#[derive(Clone, Debug)]
pub struct Accepted {
    pub id: String,
    pub status: StatusCode,
}

impl Cluster {
    /// Three members with the live shape.
    pub async fn start() -> Self {
        Self::with(Options::default()).await
    }

    /// Starts it all; returns when every member is ready and one trades.
    pub async fn with(options: Options) -> Self {
        Self::wired(options, async |_| {}).await
    }

    /// The same, with each member's launch changed first: its way to the stores and the bridge, say.
    pub async fn wired(options: Options, mut wire: impl AsyncFnMut(&mut Launch)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let client = client();
        let stores = match options.synced {
            true => database::synced_stores().await,
            false => database::migrated_stores().await,
        };
        let symbols = write_instruments(folder.path(), &options.instruments);
        let witness = options.witnessed.then(|| Witness::of(stores.database_url()));
        let (shape, symbols) = (options.shape, symbols.as_deref());
        let paper = match &witness {
            Some(witness) => Paper::watched(folder.path(), shape, symbols, client.clone(), witness).await,
            None => Paper::start(folder.path(), shape, symbols, client.clone()).await,
        };
        let mut members = Vec::new();
        for number in 1..=options.members {
            let name = format!("b{number}");
            let mut launch = launch(&name, &stores, &paper, &options, folder.path());
            wire(&mut launch).await;
            members.push(Member::start(&name, launch, client.clone()).await);
        }
        let sql = database::connect(&stores.database_url()).await;
        let cluster = Self { members, paper, witness, stores, sql, client, folder };
        cluster.all_ready().await;
        cluster.leader().await;
        cluster
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The index of the member that leads and trades, once there is one.
    pub async fn leader(&self) -> usize {
        self.leader_within(PATIENCE, |_| true).await
    }

    /// The index of the member that leads and trades and is wanted, once there is one.
    pub async fn leader_within(&self, patience: Duration, wanted: impl Fn(usize) -> bool) -> usize {
        wait::until("a member leads and trades", patience, async || {
            for (index, member) in self.members.iter().enumerate() {
                if wanted(index) && member.trades().await {
                    return Ok(index);
                }
            }
            Err(self.logs())
        })
        .await
    }

    /// The index of some member that runs and does not lead.
    pub async fn follower(&self) -> usize {
        let leader = self.leader().await;
        (leader + 1) % self.members.len()
    }

    /// Waits until every member that runs could lead.
    pub async fn all_ready(&self) {
        for member in &self.members {
            wait::until(&format!("{} is ready", member.name), PATIENCE, async || {
                if member.is_ready().await { Ok(()) } else { Err(member.process.tail()) }
            })
            .await;
        }
    }

    /// Starts the members that have ended; gives how many.
    pub async fn revive(&mut self) -> usize {
        let mut revived = 0;
        for member in &mut self.members {
            revived += usize::from(member.revive().await);
        }
        revived
    }

    /// Kills a member and tells how long it took until another led and traded.
    pub async fn kill_leader(&mut self) -> (usize, usize, Duration) {
        let old = self.leader().await;
        let begun = Instant::now();
        self.members[old].process.signal(Signal::KILL);
        let new = self.leader_within(PATIENCE, |index| index != old).await;
        let took = begun.elapsed();
        self.members[old].process.kill().await;
        (old, new, took)
    }

    /// Delivers a signal to a member first, to the others if that one does not take it, until one did.
    pub async fn post(&self, first: usize, body: &Value) -> Accepted {
        wait::until("a member accepts the signal", PATIENCE, async || {
            let mut seen = Vec::new();
            for offset in 0..self.members.len() {
                let member = &self.members[(first + offset) % self.members.len()];
                match member.deliver(body).await {
                    Some((status, answer)) if status.is_success() => {
                        let id = answer["id"].as_str().expect("an accepted signal has an id").to_owned();
                        return Ok(Accepted { id, status });
                    }
                    Some((status, answer))
                        if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS =>
                    {
                        panic!("{}: {status} {answer} for {body}", member.name)
                    }
                    other => seen.push((member.name.clone(), other)),
                }
            }
            Err(seen)
        })
        .await
    }

    /// Delivers a signal to a member that will not get to answer, and ends with its connection. Post it then: a repeat.
    pub fn send(&self, member: usize, body: &Value) -> AbortOnDropHandle<()> {
        let url = format!("{}/webhook", self.members[member].address);
        let delivery = self.client.post(url).bearer_auth(TOKEN).json(body).send();
        AbortOnDropHandle::new(tokio::spawn(async move { drop(delivery.await) }))
    }

    /// The signal's view, from any member that answers, once it is final.
    pub async fn terminal(&self, id: &str) -> Value {
        wait::until(&format!("signal {id} becomes final"), PATIENCE, async || {
            let mut seen = None;
            for member in &self.members {
                if let Some(view) = member.json(&format!("/api/v1/signals/{id}")).await {
                    if !view["finished_at"].is_null() {
                        return Ok(view);
                    }
                    seen = Some(view);
                }
            }
            Err((seen, self.logs()))
        })
        .await
    }

    /// Posts and waits for the end.
    pub async fn play(&self, first: usize, body: &Value) -> Value {
        let accepted = self.post(first, body).await;
        self.terminal(&accepted.id).await
    }

    /// Arms a fail point: the first member that reaches the place does this (`kill` or `stop`) to itself.
    pub fn arm(&self, place: &str, action: &str) {
        let path = fail_point(self.folder.path());
        let new = path.with_extension("new");
        std::fs::write(&new, format!("{place} {action}\n")).unwrap();
        // Whole or not at all: a member must not read half a line.
        std::fs::rename(new, path).unwrap();
    }

    /// True while the armed place was not reached.
    pub fn is_armed(&self) -> bool {
        fail_point(self.folder.path()).exists()
    }

    /// Takes an armed place back; false when it was reached already.
    pub fn disarm(&self) -> bool {
        std::fs::remove_file(fail_point(self.folder.path())).is_ok()
    }

    /// The epoch in force.
    pub async fn epoch(&self) -> i64 {
        self.sql.query_one("SELECT epoch FROM leadership", &[]).await.unwrap().get(0)
    }

    /// Ids of the intents journaled under an epoch.
    pub async fn intents_of(&self, epoch: i64) -> Vec<Uuid> {
        let rows = self
            .sql
            .query("SELECT id FROM order_intent WHERE epoch = $1 ORDER BY id", &[&epoch])
            .await
            .unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Every leadership so far, a line each: epoch, member, why it began, why it ended.
    pub async fn history(&self) -> Shown {
        let sql = "SELECT string_agg(format('%s %s %s %s', epoch, member, reason, end_reason), E'\\n' ORDER BY epoch)
            FROM leadership_history";
        Shown(self.sql.query_one(sql, &[]).await.unwrap().get(0))
    }

    /// One number of the ledger.
    pub async fn count(&self, sql: &str) -> i64 {
        self.sql.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Waits until nothing is under way, then compares the ledger with the bridge's own books and log.
    pub async fn check(&self) -> Check {
        self.check_within(checker::SETTLE).await
    }

    /// The same, for what may take so long to come to rest.
    pub async fn check_within(&self, patience: Duration) -> Check {
        checker::settled_within(&self.sql, patience).await;
        let check = checker::check(&self.sql, &self.paper).await;
        if let Some(witness) = &self.witness {
            let early = witness.seen().early;
            assert!(early.is_empty(), "S2: orders arrived before their intent was committed: {early:?}");
        }
        for member in &self.members {
            let text = member.log();
            assert!(!text.contains("panicked at"), "{}", member.process.tail());
        }
        check
    }

    /// The same cluster after an outage of its database: the test's own session was lost, too.
    pub async fn reconnected(mut self) -> Self {
        self.sql = database::connect(&self.stores.database_url()).await;
        self
    }

    /// Checks, and ends every process in order.
    pub async fn finish(mut self) -> Check {
        let check = self.check().await;
        for member in &mut self.members {
            member.process.kill().await;
        }
        self.paper.stop().await;
        self.stores.stop().await.unwrap();
        check
    }

    /// Runs `baton` as on a member's machine.
    pub async fn baton(&self, arguments: &[&str]) -> std::process::Output {
        run_as(&self.members[0].launch, arguments).await
    }

    /// Its processes, stores and folder, for a test that goes on without a cluster; its own session ends.
    pub fn into_parts(self) -> (Vec<Member>, Paper, Stores, TempDir) {
        (self.members, self.paper, self.stores, self.folder)
    }

    /// The ends of all logs, read when they are shown: a wait that looks every few milliseconds must not read them
    /// each time.
    pub fn logs(&self) -> Logs<'_> {
        Logs(self)
    }
}

/// The logs of a cluster.
pub struct Logs<'a>(&'a Cluster);

impl std::fmt::Debug for Logs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for member in &self.0.members {
            writeln!(f, "{}", member.process.tail())?;
        }
        f.write_str(&self.0.paper.tail())
    }
}

/// Text that shows itself with its line breaks.
pub struct Shown(String);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Runs `baton` in the folder and the environment of a launch.
pub async fn run_as(launch: &Launch, arguments: &[&str]) -> std::process::Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_baton"));
    command.args(arguments).env_clear().envs(&launch.env).current_dir(&launch.folder).kill_on_drop(true);
    tokio::time::timeout(PATIENCE, command.output()).await.expect("baton ends").unwrap()
}

/// A client for tests.
pub fn client() -> reqwest::Client {
    // Another test of this process may have installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().connect_timeout(Duration::from_secs(1)).build().unwrap()
}

/// Configuration under which entries do not depend on each other, and no limit of the account counts.
pub fn independent() -> Vec<(&'static str, String)> {
    [
        ("BATON_TRADING__SIZING__EQUITY", "fixed"),
        ("BATON_TRADING__GATES__EQUITY", "fixed"),
        ("BATON_TRADING__LIMITS__MAX_DAILY_LOSS_PERCENT", "none"),
        ("BATON_TRADING__LIMITS__MAX_DRAWDOWN_PERCENT", "none"),
        ("BATON_TRADING__LIMITS__MAX_OPEN_POSITIONS", "none"),
        ("BATON_TRADING__LIMITS__MAX_ORDERS_PER_DAY", "none"),
        ("BATON_SIGNALS__QUOTA_PER_MINUTE", "1000000"),
    ]
    .map(|(key, value)| (key, value.to_owned()))
    .to_vec()
}

fn fail_point(folder: &Path) -> PathBuf {
    folder.join("fail_point")
}

/// How a member of this cluster starts: everything short, so that failovers and in-doubt orders take little time.
pub fn launch(name: &str, stores: &Stores, paper: &Paper, options: &Options, folder: &Path) -> Launch {
    let mut env = bare_env();
    let text = |value: &dyn ToString| value.to_string();
    for (key, value) in [
        ("BATON_CLUSTER__NAME", text(&"test")),
        // Half of what a thread has by default: a debug build that gets along with it never overflows.
        ("RUST_MIN_STACK", text(&(1 << 20))),
        ("BATON_CLUSTER__MEMBER", text(&name)),
        ("BATON_HTTP__LISTEN", text(&"127.0.0.1:0")),
        ("BATON_POSTGRES__URL", stores.database_url()),
        ("BATON_REDIS__URL", stores.redis_url()),
        ("BATON_TIMING__LEASE_TTL_MS", text(&1000)),
        // Tests kill leaders by the dozen.
        ("BATON_CLUSTER__FLAP_LIMIT", text(&0)),
        ("BATON_BROKER__URL", paper.http.clone()),
        ("BATON_FEED__URL", paper.ws.clone()),
        ("BATON_BROKER__API_KEY", text(&paper::KEY)),
        ("BATON_BROKER__MODE", text(if options.shape == "live" { &"live" } else { &"paper" })),
        ("BATON_BROKER__ACCOUNT", text(&paper::ACCOUNT)),
        ("BATON_BROKER__USER_TIMEOUT_MS", text(&300)),
        ("BATON_BROKER__ORDER_TIMEOUT_MS", text(&1000)),
        ("BATON_BROKER__SETTLE_MS", text(&2000)),
        // Tests hold fills back for as long as they need to.
        ("BATON_TRADING__ORDERS__ENTRY_PATIENCE_MS", text(&600_000)),
        ("BATON_TRADING__ORDERS__EXIT_PATIENCE_MS", text(&600_000)),
        // The paper bridge closes an idle connection after 1500 ms.
        ("BATON_BROKER__IDLE_CLOSE_MS", text(&1500)),
        ("BATON_BROKER__HIDES_MS", text(&400)),
        ("BATON_BROKER__POLL_MS", text(&50)),
        ("BATON_BROKER__ORDERS_PER_SECOND", text(&1000)),
        ("BATON_BROKER__READS_PER_SECOND", text(&10000)),
        ("BATON_SIGNALS__TOKEN", text(&TOKEN)),
        ("BATON_TRADING__CAPITAL", text(&100_000_000)),
        ("BATON_TRADING__ALLOW_AFTER_MARKET", text(&true)),
        ("BATON_RECOVERY__BACKOFF_MS", text(&50)),
        // Tests kill more often than a storm would.
        ("BATON_HEALTH__MAX_RESTARTS", text(&1_000_000)),
        ("BATON_FAIL_POINT_FILE", fail_point(folder).display().to_string()),
        ("RUST_LOG", std::env::var("BATON_TEST_LOG").unwrap_or_else(|_| "info".to_owned())),
    ] {
        env.insert(key.to_owned(), value);
    }
    for (key, value) in &options.env {
        env.insert((*key).to_owned(), value.clone());
    }
    let arguments = ["run", "-o", "json"].map(str::to_owned).to_vec();
    Launch { arguments, env, folder: folder.to_owned(), log: folder.join(format!("{name}.log")) }
}

/// Writes `baton.toml` for the members and the bridge's list of symbols; none when nothing is added.
pub fn write_instruments(folder: &Path, names: &[String]) -> Option<PathBuf> {
    if names.is_empty() {
        return None;
    }
    let mut config = String::new();
    let mut symbols = Vec::new();
    for name in names {
        config += &format!(
            "[instruments.{name}]\nexchange = \"MCX\"\nsymbol = \"{name}FUT\"\nlot_size = 10\npoint_value = 10\n\
             margin_per_lot = 100\nproduct = \"NRML\"\ntick = 1\natr_initial = 1\natr_trailing = 2\n\
             max_pyramids = 3\nrisk_percent = 0.01\nvolatility_percent = 0.01\n\n"
        );
        symbols.push(json!({
            "symbol": format!("{name}FUT"), "exchange": "MCX", "lot_size": 10, "tick_size": "1", "freeze_qty": 0,
            "expiry": "31-DEC-30", "point_value": "10", "margin_per_lot": "100", "ltp": "1000",
        }));
    }
    std::fs::write(folder.join("baton.toml"), config).unwrap();
    let path = folder.join("symbols.json");
    std::fs::write(&path, Value::from(symbols).to_string()).unwrap();
    Some(path)
}
