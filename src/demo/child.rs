//! A child process of this same binary, which says in its first line of output where it listens.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use local::process::Process;
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::time::timeout;

use super::error::Error;

/// How long a child may take to say that it listens.
const HELLO: Duration = Duration::from_secs(20);
/// How much of a log an error shows.
const TAIL_BYTES: usize = 600;
/// Passed on to children: what programs are found by, where temporary files go, and what a developer watches with.
const INHERITED: [&str; 6] =
    ["PATH", "HOME", "TMPDIR", "RUST_BACKTRACE", "LLVM_PROFILE_FILE", "BATON_FAIL_POINT_FILE"];

/// A running child. It is killed when this is dropped and when this process dies.
#[derive(Debug)]
pub(super) struct Child {
    name: String,
    process: Process,
    hello: Value,
}

impl Child {
    /// Starts this binary with `arguments` and these variables, in `dir`, its log lines going to `<dir>/<name>.log`;
    /// returns once it listens.
    pub(super) async fn start(
        name: &str,
        arguments: &[&str],
        env: &[(String, String)],
        dir: &Path,
    ) -> Result<Self, Error> {
        let failed = |source| Error::Start { name: name.to_owned(), source };
        let log = dir.join(format!("{name}.log"));
        let log_file = File::options().create(true).append(true).open(&log).map_err(failed)?;
        let (reader, writer) = io::pipe().map_err(failed)?;
        let inherited = INHERITED.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(inherited)
            .envs(env.iter().map(|(name, value)| (name, value)))
            // No baton.toml of the directory that the demo was started in.
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(log_file);
        let process = Process::spawn(command, Signal::KILL)
            .await
            .map_err(|source| Error::Spawn { name: name.to_owned(), source })?;
        let output = pipe::Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(failed)?;
        let mut output = BufReader::new(output);
        let mut line = String::new();
        let said = timeout(HELLO, output.read_line(&mut line)).await;
        let hello = match said {
            Ok(Ok(1..)) => serde_json::from_str(&line).map_err(|_| format!("it said {line:?}")),
            Ok(Ok(_)) => Err("it ended".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("nothing heard for {} s", HELLO.as_secs())),
        };
        match hello {
            Ok(hello) => {
                // Whatever else it prints is read away, so that it never waits for us.
                tokio::spawn(async move { tokio::io::copy(&mut output, &mut tokio::io::sink()).await });
                Ok(Self { name: name.to_owned(), process, hello })
            }
            Err(why) => Err(Error::NotUp { name: name.to_owned(), why, tail: tail(&log), log }),
        }
    }

    /// A text of its first line.
    pub(super) fn said(&self, key: &str) -> String {
        self.hello[key].as_str().unwrap_or_default().to_owned()
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(super) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// How it ended, if it has.
    pub(super) fn exit(&self) -> Option<ExitStatus> {
        self.process.exit()
    }

    /// Waits for its end.
    pub(super) async fn ended(&self, patience: Duration) -> Result<ExitStatus, Error> {
        let late = || Error::Late { what: format!("{} has ended", self.name), waited: patience };
        timeout(patience, self.process.wait()).await.ok().flatten().ok_or_else(late)
    }
}

fn tail(log: &PathBuf) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(TAIL_BYTES)..]).into_owned();
    if text.trim().is_empty() { "(nothing)".to_owned() } else { format!("\n{}", text.trim_end()) }
}
