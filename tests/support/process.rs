//! A child process of the built binary: started, signalled and reaped by pid, and never left behind.
//!
//! `setpriv` sets the parent-death signal before it becomes the program, so that even `kill -9` of the test leaves
//! no orphan. That signal is tied to the thread that spawns, hence one thread that lives as long as the test.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::wait;

/// How long a program may take from its start to its first line, on a busy machine; one with stores of its own makes them first.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// What to start.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Arguments of `baton`.
    pub arguments: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Where it runs.
    pub folder: PathBuf,
    /// Where its log lines go; appended to.
    pub log: PathBuf,
}

/// A running or ended child.
pub struct Process {
    child: Child,
    pub log: PathBuf,
    ended: Option<ExitStatus>,
}

type Job = (Command, Sender<std::io::Result<Child>>);

fn spawn(command: Command) -> std::io::Result<Child> {
    static SPAWNER: OnceLock<Sender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, queue) = channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, answer) in queue {
                // The asker is gone only when its test has failed already.
                let _ = answer.send(command.spawn());
            }
        });
        jobs
    });
    let (answer, spawned) = channel();
    spawner.send((command, answer)).expect("the spawner lives as long as the test");
    spawned.recv().expect("the spawner answers every job")
}

/// The least environment that a program of ours needs.
pub fn bare_env() -> BTreeMap<String, String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut env = BTreeMap::from([("PATH".to_owned(), path), ("RUST_BACKTRACE".to_owned(), "1".to_owned())]);
    // Where an instrumented build counts what it reached: `ops/coverage`.
    if let Ok(counters) = std::env::var("LLVM_PROFILE_FILE") {
        env.insert("LLVM_PROFILE_FILE".to_owned(), counters);
    }
    env
}

impl Launch {
    /// Starts it without waiting for anything it says.
    pub fn start(&self) -> (Process, std::process::ChildStdout) {
        self.start_program(Path::new(env!("CARGO_BIN_EXE_baton")))
    }

    /// Starts another program in the same way.
    pub fn start_program(&self, program: &Path) -> (Process, std::process::ChildStdout) {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program);
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        command
            .args(&self.arguments)
            .env_clear()
            .envs(&self.env)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        let mut child = spawn(command).expect("`setpriv` (util-linux) starts the program");
        let stdout = child.stdout.take().expect("stdout is piped");
        (Process { child, log: self.log.clone(), ended: None }, stdout)
    }

    /// Starts it and reads the JSON object that it prints first.
    pub async fn announced(&self) -> (Process, Value) {
        let (process, stdout) = self.start();
        let first = tokio::task::spawn_blocking(move || {
            let mut reader = BufReader::new(stdout);
            let mut line = String::new();
            reader.read_line(&mut line).map(|_| (line, reader))
        });
        let first = tokio::time::timeout(START_PATIENCE, first).await;
        let Ok(Ok(Ok((line, mut reader)))) = first else { panic!("no first line: {}", process.tail()) };
        let Ok(announced) = serde_json::from_str(&line) else {
            panic!("the first line is no JSON: {line:?}\n{}", process.tail())
        };
        // Whatever else it prints is read away, so that it never blocks on a full pipe.
        std::thread::spawn(move || reader.read_to_end(&mut Vec::new()));
        (process, announced)
    }
}

impl Process {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Memory that it has resident now, in KiB.
    pub fn memory_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    /// The most memory that it ever had resident, in KiB.
    pub fn most_memory_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    fn status_kib(&self, name: &str) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("a child has a status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("it has memory");
        line.trim().trim_end_matches(" kB").parse().expect("it is a number")
    }

    /// Sends a signal, unless it is reaped: its pid may be a stranger's then.
    pub fn signal(&mut self, signal: Signal) {
        if self.exited().is_none() {
            let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
            kill_process(pid, signal).expect("a child that is not reaped can be signalled");
        }
    }

    /// Kills it and waits until it is gone.
    pub async fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::KILL);
        self.exit(Duration::from_secs(10)).await
    }

    /// Its exit status, once it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child can be waited for");
        }
        self.ended
    }

    /// Waits for its end.
    pub async fn exit(&mut self, patience: Duration) -> ExitStatus {
        let pid = self.child.id();
        wait::until(&format!("process {pid} ends"), patience, async || self.exited().ok_or(())).await
    }

    /// True when a SIGSTOP holds it.
    pub fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(60)..];
        format!("--- {} ---\n{}", self.log.display(), tail.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exited().is_none() {
            self.signal(Signal::KILL);
            // A killed child ends at once; an error leaves it to the parent-death signal.
            let _ = self.child.wait();
        }
    }
}

/// True for a death by this signal.
pub fn died_of(status: ExitStatus, signal: Signal) -> bool {
    status.signal() == Some(signal.as_raw())
}
