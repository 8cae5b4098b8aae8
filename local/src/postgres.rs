//! A private PostgreSQL server that can be stopped, killed and started again.
//!
//! A server counts as started when `postmaster.pid`, written by the server itself, carries the pid of
//! our child and says `ready`: no connection is tried too early, none reaches a stranger on the same
//! port, and the log stays clean. After a `kill` the old server's backends take a moment to notice; the
//! next start waits for them instead of failing on their shared memory.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::account::Account;
use crate::binaries::Programs;
use crate::port::{self, Port};
use crate::process::{self, Launch, Process};
use crate::slot::{Slot, Unending};
use crate::template::{SUPERUSER, tail};

/// Longest wait for a start, crash recovery included.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a starting server.
const LOOK_INTERVAL: Duration = Duration::from_millis(4);
/// Ports tried when others take them in the instant between reservation and use.
const PORTS_TRIED: u32 = 5;
/// Longest path of a Unix socket (`sun_path` less its final zero).
const SOCKET_PATH_BYTES: usize = 107;

/// Why PostgreSQL does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No port could be reserved.
    #[error("no port for PostgreSQL")]
    Port(#[from] port::Error),
    /// The process could not be created.
    #[error("PostgreSQL cannot be started")]
    Start(#[from] process::Error),
    /// The server cannot be stopped.
    #[error("PostgreSQL cannot be stopped")]
    Stop(#[from] Unending),
    /// The log file cannot be opened.
    #[error("PostgreSQL's log {} cannot be opened; check the permissions there", path.display())]
    Log {
        /// The log file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Another process listens on the port.
    #[error("port {0} was taken by another process; start again, or stop that process")]
    AddressInUse(u16),
    /// A former server still holds the data directory.
    #[error("a former PostgreSQL still holds the data directory; end it, then start again. It said:\n{tail}")]
    Held {
        /// The end of the log.
        tail: String,
    },
    /// The server ended while starting.
    #[error("PostgreSQL ended while starting ({status}); its last words in {}:\n{tail}", log.display())]
    Failed {
        /// How it ended.
        status: String,
        /// The log file.
        log: PathBuf,
        /// The end of the log.
        tail: String,
    },
    /// A replica could not be copied.
    #[error("the running PostgreSQL could not be copied with pg_basebackup; it said:\n{tail}")]
    Copy {
        /// The end of its log.
        tail: String,
    },
    /// The server is not ready in time.
    #[error("PostgreSQL was not ready within {} s; its last words in {}:\n{tail}", START_PATIENCE.as_secs(), log.display())]
    Slow {
        /// The log file.
        log: PathBuf,
        /// The end of the log.
        tail: String,
    },
}

/// What a server is started with, the same at every start.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) programs: Programs,
    pub(crate) account: Account,
    /// An initialised cluster.
    pub(crate) data: PathBuf,
    /// Where its Unix socket goes.
    pub(crate) sockets: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) durable: bool,
    pub(crate) password: Option<String>,
}

/// A private PostgreSQL server; dropping it stops it.
#[derive(Debug)]
pub struct Postgres {
    settings: Settings,
    ports: PathBuf,
    port: Port,
    slot: Slot,
}

impl Postgres {
    /// Starts a server on a free port of its own.
    pub(crate) async fn launch(settings: Settings, ports: &Path) -> Result<Self, Error> {
        let mut tries = 0;
        loop {
            let port = Port::reserve(ports)?;
            let ports = ports.to_owned();
            let server = Self { settings: settings.clone(), ports, port, slot: Slot::default() };
            tries += 1;
            match server.start().await {
                Err(Error::AddressInUse(_)) if tries < PORTS_TRIED => {}
                outcome => return outcome.map(|()| server),
            }
        }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn ports(&self) -> &Path {
        &self.ports
    }

    /// The server's process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.slot.running().map(|process| process.pid())
    }

    /// The TCP port on 127.0.0.1, the same across restarts.
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// The server's log file.
    pub fn log(&self) -> &Path {
        &self.settings.log
    }

    /// The URL of `database`, over TCP.
    pub fn url(&self, database: &str) -> String {
        let password = self.settings.password.iter().map(|password| format!(":{password}"));
        let credentials: String = std::iter::once(SUPERUSER.to_owned()).chain(password).collect();
        format!("postgresql://{credentials}@127.0.0.1:{}/{database}", self.port.number)
    }

    /// Connection parameters (`key=value …`) of `database` over the Unix socket; `None` when the path of
    /// the temporary directory is too long for one.
    pub fn socket_url(&self, database: &str) -> Option<String> {
        let password = self.settings.password.iter().map(|password| format!(" password={password}"));
        let directory = self.socket_directory()?.display();
        let head = format!("host='{directory}' port={} user={SUPERUSER} dbname={database}", self.port.number);
        Some(std::iter::once(head).chain(password).collect())
    }

    /// Starts the server again after [`Self::stop`] or [`Self::kill`], on the same port and data; returns
    /// once it accepts connections, at once when it already runs.
    ///
    /// # Errors
    /// When the server ends, is not ready within 60 s, or another process took its port meanwhile.
    pub async fn start(&self) -> Result<(), Error> {
        let Some(vacancy) = self.slot.vacancy().await else { return Ok(()) };
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            match self.attempt(deadline).await {
                Err(Error::Held { .. }) if Instant::now() < deadline => {
                    tokio::time::sleep(10 * LOOK_INTERVAL).await;
                }
                outcome => return outcome.map(|process| vacancy.fill(process)),
            }
        }
    }

    /// Stops the server in order: connections are ended, everything is written.
    ///
    /// # Errors
    /// When it survives SIGKILL.
    pub async fn stop(&self) -> Result<(), Error> {
        let steps = [(Signal::INT, 10), (Signal::QUIT, 6), (Signal::KILL, 10)];
        self.slot.end(&steps.map(|(signal, seconds)| (signal, Duration::from_secs(seconds)))).await?;
        Ok(())
    }

    /// Kills the server as a power cut would (SIGKILL); its next start recovers from the log.
    ///
    /// # Errors
    /// When it survives.
    pub async fn kill(&self) -> Result<(), Error> {
        self.slot.end(&[(Signal::KILL, Duration::from_secs(10))]).await?;
        Ok(())
    }

    async fn attempt(&self, deadline: Instant) -> Result<Process, Error> {
        let log_path = &self.settings.log;
        let log_error = |source| Error::Log { path: log_path.clone(), source };
        let log = File::options().create(true).append(true).open(log_path).map_err(log_error)?;
        let log_start = log.metadata().map_err(log_error)?.len();
        let launch = Launch {
            program: self.settings.programs.postgres.clone(),
            arguments: self.arguments(),
            log,
            // Both end the backends first; INT also writes a checkpoint, which only kept data deserve.
            last_signal: if self.settings.durable { Signal::INT } else { Signal::QUIT },
        };
        let process = Process::start(launch, &self.settings.account).await?;
        loop {
            if let Some(status) = process.exit() {
                return Err(self.failure(status.to_string(), tail(log_path, log_start)));
            }
            if self.ready(process.pid()) {
                return Ok(process);
            }
            if Instant::now() > deadline {
                return Err(Error::Slow { log: log_path.clone(), tail: tail(log_path, log_start) });
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Whether the server with this pid accepts connections: line 1 of `postmaster.pid` is the pid, line
    /// 8 the status.
    fn ready(&self, pid: u32) -> bool {
        let Ok(text) = std::fs::read_to_string(self.settings.data.join("postmaster.pid")) else {
            return false;
        };
        let mut lines = text.lines();
        lines.next().and_then(|line| line.trim().parse().ok()) == Some(pid)
            && lines.nth(6).is_some_and(|status| status.trim() == "ready")
    }

    fn failure(&self, status: String, tail: String) -> Error {
        let said = |words: &str| tail.contains(words);
        if said("Address already in use") {
            Error::AddressInUse(self.port.number)
        } else if said("pre-existing shared memory block") || said("lock file") && said("already exists") {
            Error::Held { tail }
        } else {
            Error::Failed { status, log: self.settings.log.clone(), tail }
        }
    }

    fn socket_directory(&self) -> Option<&Path> {
        let file = self.settings.sockets.join(format!(".s.PGSQL.{}.lock", self.port.number));
        (file.as_os_str().len() <= SOCKET_PATH_BYTES).then_some(self.settings.sockets.as_path())
    }

    fn arguments(&self) -> Vec<String> {
        let sockets = self.socket_directory().map(|path| path.display().to_string()).unwrap_or_default();
        let mut settings = vec![
            format!("port={}", self.port.number),
            "listen_addresses=127.0.0.1".into(),
            format!("unix_socket_directories={sockets}"),
            "max_connections=200".into(),
            "shared_buffers=32MB".into(),
            // Files in the data directory instead of /dev/shm, which is tiny in containers and is not
            // cleaned up after a kill.
            "dynamic_shared_memory_type=mmap".into(),
            "huge_pages=off".into(),
            "timezone=UTC".into(),
            "log_timezone=UTC".into(),
            "jit=off".into(),
        ];
        if !self.settings.durable {
            settings.extend(
                ["fsync=off", "full_page_writes=off", "wal_level=minimal", "max_wal_senders=0"]
                    .map(Into::into),
            );
        }
        let mut arguments = vec!["-D".to_owned(), self.settings.data.display().to_string()];
        arguments.extend(settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]));
        arguments
    }
}

impl Drop for Postgres {
    /// Removes the System V segment of a temporary server that was killed and never started again: its
    /// next start would have done so. The kernel keeps such segments until reboot and has 4096 in all.
    fn drop(&mut self) {
        if self.settings.durable || self.slot.running().is_some() {
            return;
        }
        // Line 7 of the file a killed server leaves behind: the segment's key and id.
        let text = std::fs::read_to_string(self.settings.data.join("postmaster.pid")).unwrap_or_default();
        let id = text.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)?.parse::<u32>().ok());
        if let Some(id) = id {
            // Without util-linux the segment of 56 bytes stays, which is no reason to fail.
            let _ = std::process::Command::new("ipcrm").arg("-m").arg(id.to_string()).output();
        }
    }
}
