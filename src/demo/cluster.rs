//! The private cluster: stores, paper bridge and instances, each a process that ends with this one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::sleep;

use super::child::Child;
use super::environment;
use super::error::Error;
use super::member::{Member, SelfView};
use super::sheet::{Instance, Sheet};
use crate::replay::Addresses;

/// Between two looks at something that is waited for.
pub(super) const LOOK: Duration = Duration::from_millis(4);
/// How long a clean stop of an instance may take before it is killed.
const STOP: Duration = Duration::from_secs(6);
/// How long the whole cluster may take to come up.
const UP: Duration = Duration::from_secs(30);

/// How the private cluster is made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many instances; they are called `b1`, `b2` …
    pub members: usize,
    /// Whether the market walks at random; otherwise prices stand until they are set.
    pub moving: bool,
    /// Further variables for the instances, over the cluster's own.
    pub env: Vec<(String, String)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { members: 3, moving: false, env: Vec::new() }
    }
}

/// A cluster on this machine. Dropping it ends every process at once; [`LocalCluster::stop`] does it in order.
#[derive(Debug)]
pub struct LocalCluster {
    // In this order: whoever uses a thing ends before it.
    members: BTreeMap<String, Member>,
    paper: Option<Child>,
    stores: local::Stores,
    dir: TempDir,
    settings: Settings,
    addresses: Addresses,
    http: reqwest::Client,
}

impl LocalCluster {
    /// Starts everything and waits until one instance trades and the others could.
    ///
    /// # Errors
    /// Whatever does not start, with the end of its log.
    pub async fn start(settings: Settings) -> Result<Self, Error> {
        let mut cluster = Self::open(settings).await?;
        cluster.start_paper().await?;
        cluster.start_members().await?;
        cluster.all_ready(UP).await?;
        Ok(cluster)
    }

    /// Starts the stores only.
    ///
    /// # Errors
    /// They do not start, or there is no place for logs.
    pub async fn open(settings: Settings) -> Result<Self, Error> {
        let dir = tempfile::Builder::new()
            .prefix(super::sheet::PREFIX)
            .tempdir()
            .map_err(|source| Error::Directory { dir: std::env::temp_dir(), source })?;
        let stores = local::Stores::temporary().await.map_err(|error| Error::Stores(Box::new(error)))?;
        let http = reqwest::Client::builder().build().map_err(Error::Client)?;
        let addresses = Addresses::new(Vec::<String>::new());
        Ok(Self { members: BTreeMap::new(), paper: None, stores, dir, settings, addresses, http })
    }

    /// Starts the paper bridge.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start_paper(&mut self) -> Result<(), Error> {
        let any = "127.0.0.1:0";
        let mut arguments = vec!["paper", "-o", "json", "--unlimited", "--http", any, "--ws", any];
        arguments.extend(["--control", any, "--log", "orders.jsonl"]);
        if self.settings.moving {
            arguments.push("--moving");
        }
        self.paper = Some(Child::start("paper", &arguments, &[], self.dir.path()).await?);
        Ok(())
    }

    /// Starts all instances at once.
    ///
    /// # Errors
    /// One does not start.
    pub async fn start_members(&mut self) -> Result<(), Error> {
        let names: Vec<String> = (1..=self.settings.members).map(|number| format!("b{number}")).collect();
        let started = join_all(names.iter().map(|name| self.launch(name))).await;
        for (name, member) in names.into_iter().zip(started) {
            self.members.insert(name, member?);
        }
        self.publish();
        Ok(())
    }

    /// Starts an instance, again or for the first time; it gets a new port.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start_member(&mut self, name: &str) -> Result<(), Error> {
        let member = self.launch(name).await?;
        self.members.insert(name.to_owned(), member);
        self.publish();
        Ok(())
    }

    async fn launch(&self, name: &str) -> Result<Member, Error> {
        Member::start(name, &self.environment(name)?, self.dir.path()).await
    }

    fn environment(&self, name: &str) -> Result<Vec<(String, String)>, Error> {
        let paper = self.paper.as_ref().ok_or_else(|| Error::NotRunning("the paper bridge".to_owned()))?;
        let (database, redis) = (self.stores.database_url(), self.stores.redis_url());
        let (bridge, proxy) = (paper.said("http"), paper.said("ws"));
        Ok(environment::of_member(name, &self.settings, &database, &redis, &bridge, &proxy))
    }

    /// Tells everyone who holds [`LocalCluster::addresses`] where the running instances are.
    fn publish(&self) {
        let running = self.members.values().filter(|member| member.is_running());
        self.addresses.set(running.map(Member::address));
    }

    /// The addresses of the instances, kept up to date over restarts.
    pub fn addresses(&self) -> Addresses {
        self.addresses.clone()
    }

    /// The instances by name.
    pub fn members(&self) -> &BTreeMap<String, Member> {
        &self.members
    }

    /// The instance called `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn member(&self, name: &str) -> Result<&Member, Error> {
        self.members.get(name).ok_or_else(|| Error::NotRunning(name.to_owned()))
    }

    /// Base URL of the paper bridge's control port; empty before it is started.
    pub fn control_url(&self) -> String {
        self.paper.as_ref().map(|paper| paper.said("control")).unwrap_or_default()
    }

    /// URL of the database; its user may do anything.
    pub fn database_url(&self) -> String {
        self.stores.database_url()
    }

    /// Where logs and the bridge's record of orders are; removed when the cluster ends.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Keeps the directory of logs after the end, and names it.
    pub fn keep_logs(&mut self) -> PathBuf {
        self.dir.disable_cleanup(true);
        self.dir.path().to_owned()
    }

    /// Writes down what drills may disturb from now on.
    ///
    /// # Errors
    /// The directory cannot be written to, or a process does not run.
    pub fn invite_drills(&self) -> Result<(), Error> {
        let gone = |name: &str| Error::NotRunning(name.to_owned());
        let running = self.members.iter().filter(|(_, member)| member.is_running());
        let members = running.map(|(name, member)| {
            let instance = Instance { pid: member.pid(), address: member.address().to_owned() };
            (name.clone(), instance)
        });
        let sheet = Sheet {
            demo: std::process::id(),
            members: members.collect(),
            bridge: self.paper.as_ref().ok_or_else(|| gone("the paper bridge"))?.pid(),
            postgres: self.stores.postgres().pid().ok_or_else(|| gone("PostgreSQL"))?,
            redis: self.stores.redis().pid().ok_or_else(|| gone("Redis"))?,
        };
        sheet.write(self.dir()).map_err(|source| Error::Directory { dir: self.dir().to_owned(), source })
    }

    /// Sends a signal to an instance's process.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&self, name: &str, signal: Signal) -> Result<(), Error> {
        let member = self.member(name)?;
        if !member.is_running() {
            return Err(Error::NotRunning(name.to_owned()));
        }
        member.child.signal(signal);
        Ok(())
    }

    /// Waits for the end of an instance's process, and takes its address off the list.
    ///
    /// # Errors
    /// It is still running after `patience`.
    pub async fn ended(&self, name: &str, patience: Duration) -> Result<ExitStatus, Error> {
        let status = self.member(name)?.child.ended(patience).await?;
        self.publish();
        Ok(status)
    }

    /// Waits until every running instance is ready and one of them trades; gives its name.
    ///
    /// # Errors
    /// It is not so after `patience`.
    pub async fn all_ready(&self, patience: Duration) -> Result<String, Error> {
        let begun = Instant::now();
        loop {
            let running = self.members.values().filter(|member| member.is_running());
            let ready = join_all(running.map(|member| member.is_ready(&self.http))).await;
            if ready.iter().all(|ready| *ready)
                && let Some((name, view)) = self.trader().await
                && view.active() == ready.len()
            {
                return Ok(name);
            }
            if begun.elapsed() > patience {
                let what = "every instance is ready and one trades".to_owned();
                return Err(Error::Late { what, waited: patience });
            }
            sleep(LOOK).await;
        }
    }

    /// The instance that trades now, if any.
    pub(super) async fn trader(&self) -> Option<(String, SelfView)> {
        let views = join_all(
            self.members
                .iter()
                .filter(|(_, member)| member.is_running())
                .map(|(name, member)| async move { Some((name.clone(), member.view(&self.http).await?)) }),
        );
        views.await.into_iter().flatten().find(|(_, view)| view.trades())
    }

    /// What each running instance says that it is doing, and why.
    pub(super) async fn operational(&self) -> Vec<(String, String)> {
        let running = self.members.values().filter(|member| member.is_running());
        let said = join_all(running.map(|member| member.operational(&self.http))).await;
        said.into_iter().flatten().collect()
    }

    /// The private database's server.
    pub(super) fn postgres(&self) -> &local::Postgres {
        self.stores.postgres()
    }

    /// Runs a verb of this binary with an instance's settings, as an operator would; gives what it prints.
    ///
    /// # Errors
    /// It cannot be run, or fails.
    pub(super) async fn verb(&self, arguments: &[&str]) -> Result<String, Error> {
        let name = format!("baton {}", arguments.join(" "));
        let failed = |source| Error::Start { name: name.clone(), source };
        let env = self.environment("operator")?;
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = tokio::process::Command::new(program);
        command.args(arguments).envs(env).current_dir(self.dir.path()).kill_on_drop(true);
        let output = command.output().await.map_err(failed)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if !output.status.success() {
            return Err(failed(std::io::Error::other(text(&output.stderr))));
        }
        Ok(text(&output.stdout))
    }

    pub(super) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Stops the instances (each drains; the last has no successor), then the bridge and the stores.
    ///
    /// # Errors
    /// A process survives SIGKILL.
    pub async fn stop(self) -> Result<(), Error> {
        let Self { members, paper, stores, .. } = self;
        let running: Vec<&Member> = members.values().filter(|member| member.is_running()).collect();
        for member in &running {
            member.child.signal(Signal::TERM);
            // A paused one hears it only when it runs.
            member.child.signal(Signal::CONT);
        }
        join_all(running.iter().map(|member| member.child.ended(STOP))).await;
        drop(members);
        drop(paper);
        stores.stop().await.map_err(|error| Error::Stores(Box::new(error)))
    }
}
