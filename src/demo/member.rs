//! One instance of the private cluster, and what it says about itself.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::child::Child;
use super::error::Error;

/// How long an instance may take to say how it is: a paused one never answers.
const ANSWER: Duration = Duration::from_millis(500);

/// An instance.
#[derive(Debug)]
pub struct Member {
    pub(super) child: Child,
    address: String,
}

/// How an instance sees itself and the cluster: the part of `GET /api/v1/cluster` that the story needs.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct SelfView {
    /// The highest epoch that it knows.
    #[serde(default)]
    pub(super) epoch: i64,
    pub(super) this: This,
    #[serde(default)]
    instances: Vec<Listed>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct This {
    /// `member/incarnation`.
    pub(super) instance: String,
    pub(super) role: String,
    #[serde(default)]
    operational: Value,
}

#[derive(Clone, Debug, Deserialize)]
struct Listed {
    status: String,
    #[serde(default)]
    alive: bool,
}

impl SelfView {
    /// It holds the baton.
    pub(super) fn leads(&self) -> bool {
        self.this.role == "leader"
    }

    /// It holds the baton, has recovered, and trades.
    pub(super) fn trades(&self) -> bool {
        self.leads() && self.this.operational["state"] == "ACTIVE"
    }

    /// How many instances are alive and could lead.
    pub(super) fn active(&self) -> usize {
        self.instances.iter().filter(|listed| listed.alive && listed.status == "active").count()
    }

    /// The incarnation: which process of the member this is.
    pub(super) fn incarnation(&self) -> &str {
        self.this.instance.rsplit('/').next().unwrap_or_default()
    }
}

impl Member {
    pub(super) async fn start(
        name: &str,
        env: &[(String, String)],
        dir: &std::path::Path,
    ) -> Result<Self, Error> {
        let child = Child::start(name, &["run", "-o", "json"], env, dir).await?;
        let address = child.said("address");
        Ok(Self { child, address })
    }

    /// Its base URL.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// True once a SIGSTOP holds each of its threads: on a busy machine some run on for a moment after the signal.
    pub(super) fn is_stopped(&self) -> bool {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{}/task", self.pid())) else { return false };
        tasks.flatten().all(|task| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        })
    }

    /// Whether its process runs; a paused one does.
    pub fn is_running(&self) -> bool {
        self.child.exit().is_none()
    }

    /// What it says of itself; none while it starts, is paused or is gone.
    pub(super) async fn view(&self, http: &reqwest::Client) -> Option<SelfView> {
        let url = format!("{}/api/v1/cluster", self.address);
        let answer = http.get(url).timeout(ANSWER).send().await.ok()?;
        if answer.status().is_success() { answer.json().await.ok() } else { None }
    }

    /// Whether its probe says that it leads: cheaper than [`Member::view`], for measuring.
    pub(super) async fn leads(&self, http: &reqwest::Client) -> bool {
        let url = format!("{}/leader", self.address);
        let answer = http.get(url).timeout(ANSWER).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// Its operational state and the reason; whatever is away, it answers this.
    pub(super) async fn operational(&self, http: &reqwest::Client) -> Option<(String, String)> {
        let url = format!("{}/healthz", self.address);
        let answer: Value = http.get(url).timeout(ANSWER).send().await.ok()?.json().await.ok()?;
        let text = |name: &str| Some(answer["operational"][name].as_str()?.to_owned());
        Some((text("state")?, text("reason")?))
    }

    /// Whether its readiness probe says yes.
    pub(super) async fn is_ready(&self, http: &reqwest::Client) -> bool {
        let url = format!("{}/readyz", self.address);
        let answer = http.get(url).timeout(ANSWER).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }
}
