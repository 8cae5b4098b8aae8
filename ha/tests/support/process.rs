//! Members as processes of their own: the `member` example.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use ha::{BootClock, Clock, Moment};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::{World, wait};

/// A line it printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub at: Moment,
    pub text: String,
}

pub struct Process {
    pub name: String,
    child: Child,
    events: watch::Receiver<Vec<Event>>,
    reader: tokio::task::JoinHandle<()>,
}

impl World {
    /// Starts a member as a process, ready to lead.
    pub async fn process(&self, name: &str) -> Process {
        let process = self.spawn(name);
        process.says("status active").await;
        process
    }

    /// Starts a member as a process and waits for nothing.
    pub fn spawn(&self, name: &str) -> Process {
        let mut command = Command::new(example("member"));
        command
            .args([name, &self.stores.database_url(), &self.stores.redis_url()])
            .arg(super::T.as_millis().to_string())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().expect("the member starts");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (tell, events) = watch::channel(Vec::new());
        let reader = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let (nanos, text) = line.split_once(' ').unwrap_or(("0", &line));
                let at = Moment::since_boot(Duration::from_nanos(nanos.parse().unwrap_or(0)));
                tell.send_modify(|events: &mut Vec<Event>| events.push(Event { at, text: text.to_owned() }));
            }
        });
        Process { name: name.to_owned(), child, events, reader }
    }
}

impl Process {
    /// Sends a signal and returns when it was sent.
    pub fn signal(&self, signal: Signal) -> Moment {
        let pid = i32::try_from(self.child.id().expect("it runs")).unwrap();
        let now = BootClock.now();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
        now
    }

    /// Kills it and waits until it is gone.
    pub async fn kill(mut self) -> Moment {
        let now = self.signal(Signal::KILL);
        self.child.wait().await.unwrap();
        now
    }

    /// Waits for its exit and returns what it said.
    pub async fn exits(mut self) -> Vec<Event> {
        tokio::time::timeout(super::PATIENCE, self.child.wait()).await.expect("it exits").unwrap();
        // Its last words may still be in the pipe.
        tokio::time::timeout(super::PATIENCE, &mut self.reader).await.expect("its pipe ends").unwrap();
        self.events()
    }

    pub fn events(&self) -> Vec<Event> {
        self.events.borrow().clone()
    }

    /// Waits for an event that starts like this.
    pub async fn says(&self, start: &str) -> Event {
        self.says_after(start, Moment::default()).await
    }

    /// Waits for an event after a moment that starts like this.
    pub async fn says_after(&self, start: &str, after: Moment) -> Event {
        let fits = |event: &&Event| event.at >= after && event.text.starts_with(start);
        let what = format!("{} says {start:?}", self.name);
        let events = wait(&self.events, &what, |events| events.iter().any(|event| fits(&event))).await;
        events.iter().find(fits).unwrap().clone()
    }

    /// The epoch it leads under, if its last word on its role is that it leads.
    pub fn leads(&self) -> Option<i64> {
        let events = self.events();
        let last = events.iter().rev().find(|event| event.text.starts_with("role "))?;
        last.text.strip_prefix("role leader ")?.parse().ok()
    }
}

/// An example's path. `cargo test --test …` builds no examples, and a stale one would test old code: they are
/// brought up to date here, once; as part of the workspace, whose features the dependencies were built with.
pub fn example(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let mut cargo = std::process::Command::new(env!("CARGO"));
        // What cargo tells this test of its own package; a build script that watches it would build ring anew.
        let told = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        for (name, _) in std::env::vars().filter(|(name, _)| told(name)) {
            cargo.env_remove(name);
        }
        let build = cargo
            .args([
                "build",
                "--quiet",
                "--offline",
                "--workspace",
                "--example",
                "elect",
                "--example",
                "member",
            ])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("cargo runs");
        assert!(build.success(), "the examples do not build");
        let mut path = std::env::current_exe().unwrap();
        path.pop();
        path.pop();
        path.push("examples");
        path
    });
    folder.join(name)
}
