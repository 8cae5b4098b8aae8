//! What goes into a report, part by part; what cannot be had is noted and holds nothing up.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::call::Caller;
use crate::config::{self, Inputs, Redactor};

/// Parts of the whole cluster, from whichever instance answers: name of the file, and the route.
const CLUSTER: [(&str, &str); 13] = [
    ("cluster.json", "/api/v1/cluster"),
    ("history.json", "/api/v1/cluster/history?limit=200"),
    ("states.json", "/api/v1/monitoring/states?limit=500"),
    ("events.json", "/api/v1/events?limit=1000"),
    ("errors.json", "/api/v1/errors?all=true&limit=500"),
    ("errors-summary.json", "/api/v1/errors/summary"),
    ("switches.json", "/api/v1/switches"),
    ("strategies.json", "/api/v1/strategies"),
    ("signals.json", "/api/v1/signals"),
    ("orders.json", "/api/v1/orders?limit=200"),
    ("orders-in-doubt.json", "/api/v1/orders?state=in_doubt&limit=200"),
    ("positions.json", "/api/v1/positions"),
    ("positions-diff.json", "/api/v1/positions/diff"),
];
/// Parts of each instance.
const INSTANCE: [(&str, &str); 5] = [
    ("healthz.json", "/healthz"),
    ("readyz.txt", "/readyz"),
    ("checks.json", "/api/v1/monitoring/checks"),
    ("connections.json", "/api/v1/monitoring/connection-health"),
    ("metrics.txt", "/metrics"),
];

/// One part of a report.
#[derive(Serialize)]
pub(super) struct Part {
    /// Its file in the folder, or what it would have been called.
    pub name: String,
    pub ok: bool,
    /// Where it is from, or why it is not there.
    pub remark: String,
}

/// The folder of a report; everything that is written passes the redactor.
pub(super) struct Folder {
    dir: PathBuf,
    redactor: Redactor,
    parts: Vec<Part>,
}

impl Folder {
    /// Makes it, for its owner's eyes only.
    pub fn make(dir: PathBuf, redactor: Redactor) -> anyhow::Result<Self> {
        DirBuilder::new().mode(0o700).create(&dir).with_context(|| {
            format!("cannot make the folder {}; choose one that is not there yet with --into", dir.display())
        })?;
        Ok(Self { dir, redactor, parts: Vec::new() })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes a part that came from `from`, or notes why it is not there.
    fn add(&mut self, name: String, from: &str, had: anyhow::Result<String>) -> anyhow::Result<()> {
        let (ok, remark) = match &had {
            Ok(text) => {
                self.write(&name, text)?;
                (true, from.to_owned())
            }
            Err(error) => (false, format!("{error:#}")),
        };
        self.parts.push(Part { name, ok, remark: self.redactor.text(&remark) });
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.dir.join(name);
        let failed = || format!("cannot write {}; check the free space there", path.display());
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).with_context(failed)?;
        file.write_all(self.redactor.text(text).as_bytes()).with_context(failed)
    }

    /// Writes the list of parts; gives it.
    pub fn finish(&mut self, made_at: DateTime<Utc>) -> anyhow::Result<Vec<Part>> {
        let parts = std::mem::take(&mut self.parts);
        let list = json!({ "made_at": made_at, "version": env!("CARGO_PKG_VERSION"), "parts": parts });
        self.write("report.json", &list.to_string())?;
        Ok(parts)
    }
}

/// The configuration that this verb was given: every setting with its source, or what is wrong with it.
pub(super) fn configuration(folder: &mut Folder, inputs: &Inputs) -> anyhow::Result<()> {
    let shown = match config::load(inputs) {
        Ok(config) => json!({ "fingerprint": config.fingerprint(), "entries": config.entries }),
        Err(config::Error::Faults(faults)) => json!({ "fingerprint": null, "faults": faults }),
        // Its cause shows the line that is no TOML, and that may be anything.
        Err(error) => json!({ "fingerprint": null, "error": error.to_string() }),
    };
    folder.add("config.json".to_owned(), "the configuration of this machine", Ok(shown.to_string()))
}

/// What runs here, on what.
pub(super) fn machine(folder: &mut Folder) -> anyhow::Result<()> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let line = |text: &str, name: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(name));
        found.map(|rest| rest.trim_matches(['=', ':', ' ', '"']).to_owned())
    };
    let cpus = std::thread::available_parallelism().map(usize::from).ok();
    let shown = json!({
        "baton": env!("CARGO_PKG_VERSION"),
        "debug_build": cfg!(debug_assertions),
        "os": line(&read("/etc/os-release"), "PRETTY_NAME"),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "memory": line(&read("/proc/meminfo"), "MemTotal"),
        "cpus": cpus,
        "load": read("/proc/loadavg").trim(),
        "clock": Utc::now(),
    });
    folder.add("machine.json".to_owned(), "this machine", Ok(shown.to_string()))
}

/// What the cluster and its instances say; true when one of them says anything.
pub(super) async fn cluster(folder: &mut Folder, caller: &Caller) -> anyhow::Result<bool> {
    let mut instances: Vec<(String, String)> = Vec::new();
    let mut answered = false;
    for (name, route) in CLUSTER {
        let had = caller.get(route).await;
        answered |= had.is_ok();
        if let (Ok(cluster), "cluster.json") = (&had, name) {
            let listed = cluster["instances"].as_array().map(Vec::as_slice).unwrap_or_default();
            instances = listed.iter().filter_map(place).collect();
        }
        folder.add(name.to_owned(), route, had.map(|document| document.to_string()))?;
    }
    if instances.is_empty() {
        // Whoever does not know the others may still tell of itself.
        let known = caller.addresses().iter().enumerate();
        instances = known.map(|(at, address)| (format!("instance-{}", at + 1), address.clone())).collect();
    }
    for (member, address) in instances {
        for (name, route) in INSTANCE {
            let had = caller.text(&format!("{address}{route}")).await;
            answered |= had.is_ok();
            folder.add(format!("{member}-{name}"), &format!("{address}{route}"), had)?;
        }
    }
    Ok(answered)
}

/// An instance's name, fit to be a part of a file's, and its address.
fn place(instance: &Value) -> Option<(String, String)> {
    let member = instance["member"].as_str()?;
    let plain = member.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    Some((plain, instance["address"].as_str()?.trim_end_matches('/').to_owned()))
}

/// The ends of log files.
pub(super) fn logs(folder: &mut Folder, files: &[PathBuf], lines: usize) -> anyhow::Result<()> {
    for (at, path) in files.iter().enumerate() {
        let had = tail(path, lines).with_context(|| format!("cannot read the log {}", path.display()));
        folder.add(format!("log-{}.txt", at + 1), &path.display().to_string(), had)?;
    }
    Ok(())
}

fn tail(path: &Path, lines: usize) -> anyhow::Result<String> {
    let mut last = std::collections::VecDeque::with_capacity(lines.min(4096));
    for line in BufReader::new(File::open(path)?).split(b'\n') {
        if last.len() == lines {
            last.pop_front();
        }
        last.push_back(String::from_utf8_lossy(&line?).into_owned() + "\n");
    }
    Ok(last.into_iter().collect())
}
