//! One member of the cluster: its process now, and the means to start another of the same name.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::Value;

use super::cluster::PATIENCE;
use super::process::{Launch, Process};
use super::wait;

/// The bearer token of the senders.
pub const TOKEN: &str = "let-me-in";

/// A member.
pub struct Member {
    pub name: String,
    pub launch: Launch,
    pub process: Process,
    /// Base URL of the process now.
    pub address: String,
    client: Client,
}

impl Member {
    /// Starts it; returns when it listens.
    pub async fn start(name: &str, launch: Launch, client: Client) -> Self {
        let (process, announced) = launch.announced().await;
        assert_eq!(announced["event"], "listening", "{announced}");
        assert_eq!(announced["pid"], process.id(), "{announced}");
        let address = announced["address"].as_str().expect("it says where it listens").to_owned();
        Self { name: name.to_owned(), launch, process, address, client }
    }

    /// Starts another process of the same name; the former one has ended.
    pub async fn restart(&mut self) {
        assert!(self.process.exited().is_some(), "{} still runs", self.name);
        *self = Self::start(&self.name, self.launch.clone(), self.client.clone()).await;
    }

    /// Starts it again if it has ended.
    pub async fn revive(&mut self) -> bool {
        let ended = self.process.exited().is_some();
        if ended {
            self.restart().await;
        }
        ended
    }

    /// What its process has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.process.log).unwrap_or_default()
    }

    /// Waits until its process has logged this.
    pub async fn says(&self, what: &str) {
        wait::until(&format!("{} says {what:?}", self.name), PATIENCE, async || {
            let log = self.log();
            if log.contains(what) { Ok(()) } else { Err(log) }
        })
        .await;
    }

    /// A GET; none when it does not answer in time.
    pub async fn get(&self, path: &str) -> Option<(StatusCode, String)> {
        let url = format!("{}{path}", self.address);
        let answer = self.client.get(url).timeout(Duration::from_secs(3)).send().await.ok()?;
        let status = answer.status();
        Some((status, answer.text().await.ok()?))
    }

    /// A GET of JSON.
    pub async fn json(&self, path: &str) -> Option<Value> {
        let (_, text) = self.get(path).await?;
        serde_json::from_str(&text).ok()
    }

    /// It leads, has recovered, and trades.
    pub async fn trades(&self) -> bool {
        let quick = Duration::from_millis(400);
        let url = format!("{}/healthz", self.address);
        let Ok(answer) = self.client.get(url).timeout(quick).send().await else { return false };
        let Ok(health) = answer.json::<Value>().await else { return false };
        health["operational"]["state"] == "ACTIVE"
    }

    /// It can accept signals and could lead.
    pub async fn is_ready(&self) -> bool {
        matches!(self.get("/readyz").await, Some((StatusCode::OK, _)))
    }

    /// One sample of `/metrics`, by its full name with labels.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics").await?;
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// An operator's POST; none when no answer came.
    pub async fn command(&self, path: &str, body: &Value) -> Option<(StatusCode, Value)> {
        let request = self.client.post(format!("{}{path}", self.address)).json(body);
        let answer = request.timeout(Duration::from_secs(12)).send().await.ok()?;
        Some((answer.status(), answer.json().await.ok()?))
    }

    /// Runs a verb of the command line against this member; gives its exit code and what it said.
    pub fn cli(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let ran = std::process::Command::new(env!("CARGO_BIN_EXE_baton"))
            .args(arguments)
            .args(["--address", &self.address, "-o", "json"])
            .env_clear()
            .env("USER", "asha")
            .current_dir(&self.launch.folder)
            .output()
            .expect("the built binary runs");
        let said = [ran.stdout, ran.stderr].concat();
        (ran.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Delivers a body to its webhook; none when no answer came.
    pub async fn deliver(&self, body: &Value) -> Option<(StatusCode, Value)> {
        let request = self.client.post(format!("{}/webhook", self.address)).bearer_auth(TOKEN).json(body);
        let answer = request.timeout(Duration::from_secs(10)).send().await.ok()?;
        Some((answer.status(), answer.json().await.ok()?))
    }
}
