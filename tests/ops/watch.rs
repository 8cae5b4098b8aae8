//! Prometheus and Alertmanager as child processes, with the files that are shipped.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::support::cluster::{Cluster, PATIENCE};
use crate::support::process::{Launch, Process, bare_env};
use crate::support::wait;

/// A running Prometheus that scrapes every member once a second.
pub struct Prometheus {
    process: Process,
    /// Lists whom it scrapes; read again whenever it changes.
    targets: PathBuf,
    url: String,
    client: reqwest::Client,
}

/// The programs, or none, which is said.
pub fn programs() -> Option<(PathBuf, PathBuf)> {
    let found = find("prometheus").zip(find("prometheus-alertmanager").or_else(|| find("alertmanager")));
    if found.is_none() {
        eprintln!(
            "skipped: prometheus or alertmanager is not on this machine; `ops/setup --ops` fetches them"
        );
    }
    found
}

fn find(name: &str) -> Option<PathBuf> {
    let fetched = std::env::var_os("BATON_TOOLS").map_or_else(|| root().join(".baton/tools"), PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(fetched.join("bin")).chain(std::env::split_paths(&path));
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// Has promtool judge names, types and help texts of a scrape.
pub async fn lint(scrape: &str) {
    let promtool = find("promtool").expect("promtool comes with Prometheus");
    let mut command = tokio::process::Command::new(promtool);
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(scrape.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn launch(folder: &Path, name: &str, arguments: Vec<String>) -> Launch {
    Launch { arguments, env: bare_env(), folder: folder.to_owned(), log: folder.join(format!("{name}.log")) }
}

impl Prometheus {
    /// Starts it with the shipped rules, alerting to an Alertmanager if there is one.
    pub async fn start(program: &Path, cluster: &Cluster, alertmanager: Option<&str>) -> Self {
        let folder = cluster.folder().join("prometheus");
        std::fs::create_dir(&folder).unwrap();
        let targets = folder.join("targets.json");
        list(&targets, cluster.members.iter().map(|member| member.address.as_str()));
        let managers = alertmanager.map_or(String::new(), |address| {
            format!("alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{address}']}}]}}]}}\n")
        });
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\n{managers}\
             scrape_configs: [{{job_name: baton, file_sd_configs: [{{files: [targets.json]}}]}}]\n",
            root().join("ops/prometheus/rules.yml").display()
        );
        std::fs::write(folder.join("prometheus.yml"), config).unwrap();
        let address = free_address();
        let arguments = vec![
            "--config.file=prometheus.yml".to_owned(),
            "--storage.tsdb.path=data".to_owned(),
            // What fired before Prometheus knew its Alertmanager is told again after this; a minute unless set.
            "--rules.alert.resend-delay=5s".to_owned(),
            format!("--web.listen-address={address}"),
        ];
        let (process, _) = launch(&folder, "prometheus", arguments).start_program(program);
        let started =
            Self { process, targets, url: format!("http://{address}"), client: reqwest::Client::new() };
        let members = cluster.members.len();
        wait::until("Prometheus scrapes every member", PATIENCE, async || {
            let up = started.query("count(up == 1)").await;
            if up.as_ref().is_some_and(|found| found == &[members as f64]) {
                Ok(())
            } else {
                Err((up, started.process.tail()))
            }
        })
        .await;
        started
    }

    /// Scrapes these addresses from now on, and no others.
    pub fn follow<'a>(&self, addresses: impl IntoIterator<Item = &'a str>) {
        list(&self.targets, addresses);
    }

    /// The samples of an alert whose condition holds, whether it fires yet or not; none when Prometheus does not answer.
    pub async fn alerts(&self, name: &str) -> Option<Vec<f64>> {
        self.query(&format!("ALERTS{{alertname=\"{name}\"}}")).await
    }

    /// The values that a query gives now; none when Prometheus does not answer it.
    pub async fn query(&self, expression: &str) -> Option<Vec<f64>> {
        let request = self.client.get(format!("{}/api/v1/query", self.url)).query(&[("query", expression)]);
        let answer: Value = request.timeout(Duration::from_secs(5)).send().await.ok()?.json().await.ok()?;
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        let result = answer["data"]["result"].as_array()?;
        result.iter().map(|sample| sample["value"][1].as_str()?.parse().ok()).collect()
    }
}

fn list<'a>(file: &Path, addresses: impl IntoIterator<Item = &'a str>) {
    let hosts: Vec<&str> = addresses.into_iter().filter_map(|url| url.strip_prefix("http://")).collect();
    let new = file.with_extension("new");
    std::fs::write(&new, serde_json::json!([{ "targets": hosts }]).to_string()).unwrap();
    // Whole or not at all.
    std::fs::rename(new, file).unwrap();
}

/// Starts Alertmanager with the shipped configuration, its receivers' addresses replaced; gives its address.
pub async fn alertmanager(program: &Path, cluster: &Cluster, receiver: &str) -> (Process, String) {
    let folder = cluster.folder().join("alertmanager");
    std::fs::create_dir(&folder).unwrap();
    let shipped = std::fs::read_to_string(root().join("ops/alertmanager/alertmanager.yml")).unwrap();
    // Alertmanager knows url_file since 0.26; older ones are what distributions ship.
    let config = shipped.replace("url_file: /etc/alertmanager/secrets", &format!("url: {receiver}"));
    assert_eq!(config.matches(receiver).count(), 3, "each receiver's address is replaced");
    std::fs::write(folder.join("alertmanager.yml"), config).unwrap();
    let address = free_address();
    let arguments = vec![
        "--config.file=alertmanager.yml".to_owned(),
        "--storage.path=data".to_owned(),
        "--cluster.listen-address=".to_owned(),
        format!("--web.listen-address={address}"),
    ];
    let (process, _) = launch(&folder, "alertmanager", arguments).start_program(program);
    let client = reqwest::Client::new();
    wait::until("Alertmanager is ready", PATIENCE, async || {
        match client.get(format!("http://{address}/-/ready")).send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            other => Err((other.map(|answer| answer.status()), process.tail())),
        }
    })
    .await;
    (process, address)
}
