//! A private Redis (or Valkey) server that can be stopped, killed, paused and started again.
//!
//! A server counts as started when it answers `PING` (it does not while it loads its data) and `INFO`
//! names the pid of our child, so that a stranger on the same port is never taken for it. Kept stores
//! write an append-only file, synced every second: the lease is allowed to lose a second, because the
//! ledger's epoch decides what counts.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::account::Account;
use crate::port::{self, Port};
use crate::process::{self, Launch, Process};
use crate::slot::{Slot, Unending};
use crate::template::tail;

/// Longest wait for a start, loading included.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a starting server.
const LOOK_INTERVAL: Duration = Duration::from_millis(4);
/// Ports tried when others take them in the instant between reservation and use.
const PORTS_TRIED: u32 = 5;

/// Why Redis does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No port could be reserved.
    #[error("no port for Redis")]
    Port(#[from] port::Error),
    /// The process could not be created.
    #[error("Redis cannot be started")]
    Start(#[from] process::Error),
    /// The server cannot be stopped.
    #[error("Redis cannot be stopped")]
    Stop(#[from] Unending),
    /// The configuration or the log cannot be written.
    #[error("Redis's file {} cannot be written; check the permissions and the free space there", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Another process listens on the port.
    #[error("port {0} was taken by another process; start again, or stop that process")]
    AddressInUse(u16),
    /// The server ended while starting.
    #[error("Redis ended while starting ({status}); its last words in {}:\n{tail}", log.display())]
    Failed {
        /// How it ended.
        status: String,
        /// The log file.
        log: PathBuf,
        /// The end of the log.
        tail: String,
    },
    /// The server is not ready in time.
    #[error("Redis was not ready within {} s; its last words in {}:\n{tail}", START_PATIENCE.as_secs(), log.display())]
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
    pub(crate) program: PathBuf,
    pub(crate) account: Account,
    /// Directory of its data and configuration, owned by the account.
    pub(crate) data: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) durable: bool,
    pub(crate) password: Option<String>,
}

/// A private Redis server; dropping it stops it.
#[derive(Debug)]
pub struct Redis {
    settings: Settings,
    port: Port,
    slot: Slot,
}

impl Redis {
    /// Starts a server on a free port of its own.
    pub(crate) async fn launch(settings: Settings, ports: &Path) -> Result<Self, Error> {
        let mut tries = 0;
        loop {
            let port = Port::reserve(ports)?;
            let server = Self { settings: settings.clone(), port, slot: Slot::default() };
            tries += 1;
            match server.start().await {
                Err(Error::AddressInUse(_)) if tries < PORTS_TRIED => {}
                outcome => return outcome.map(|()| server),
            }
        }
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

    /// The program it is: also the one to run as a sentinel.
    pub fn program(&self) -> &Path {
        &self.settings.program
    }

    /// The server's URL.
    pub fn url(&self) -> String {
        let password = self.settings.password.iter().map(|password| format!(":{password}@"));
        let credentials: String = password.collect();
        format!("redis://{credentials}127.0.0.1:{}/", self.port.number)
    }

    /// Starts the server again after [`Self::stop`] or [`Self::kill`], on the same port and data; returns
    /// once it answers, at once when it already runs. Temporary stores come back empty.
    ///
    /// # Errors
    /// When the server ends, is not ready within 30 s, or another process took its port meanwhile.
    pub async fn start(&self) -> Result<(), Error> {
        let Some(vacancy) = self.slot.vacancy().await else { return Ok(()) };
        let configuration = self.configure()?;
        let log_path = &self.settings.log;
        let log_error = |source| Error::Write { path: log_path.clone(), source };
        let log = File::options().create(true).append(true).open(log_path).map_err(log_error)?;
        let log_start = log.metadata().map_err(log_error)?.len();
        let launch = Launch {
            program: self.settings.program.clone(),
            arguments: vec![configuration.display().to_string()],
            log,
            last_signal: Signal::KILL,
        };
        let process = Process::start(launch, &self.settings.account).await?;
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            if let Some(status) = process.exit() {
                return Err(self.failure(status.to_string(), tail(log_path, log_start)));
            }
            if self.ready(process.pid()).await {
                vacancy.fill(process);
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::Slow { log: log_path.clone(), tail: tail(log_path, log_start) });
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Stops the server in order; kept data are written.
    ///
    /// # Errors
    /// When it survives SIGKILL.
    pub async fn stop(&self) -> Result<(), Error> {
        let steps = [(Signal::TERM, 10), (Signal::KILL, 10)];
        self.slot.end(&steps.map(|(signal, seconds)| (signal, Duration::from_secs(seconds)))).await?;
        Ok(())
    }

    /// Kills the server (SIGKILL).
    ///
    /// # Errors
    /// When it survives.
    pub async fn kill(&self) -> Result<(), Error> {
        self.slot.end(&[(Signal::KILL, Duration::from_secs(10))]).await?;
        Ok(())
    }

    /// Freezes the server (SIGSTOP): connections stay open and nothing is answered.
    pub fn pause(&self) {
        if let Some(process) = self.slot.running() {
            process.signal(Signal::STOP);
        }
    }

    /// Lets a paused server go on (SIGCONT).
    pub fn resume(&self) {
        if let Some(process) = self.slot.running() {
            process.signal(Signal::CONT);
        }
    }

    /// Whether the server with this pid answers, data loaded.
    async fn ready(&self, pid: u32) -> bool {
        let Ok(client) = redis::Client::open(self.url()) else { return false };
        let Ok(mut connection) = client.get_multiplexed_async_connection().await else { return false };
        let pong: redis::RedisResult<String> = redis::cmd("PING").query_async(&mut connection).await;
        let info: redis::RedisResult<String> =
            redis::cmd("INFO").arg("server").query_async(&mut connection).await;
        let named = format!("process_id:{pid}");
        pong.is_ok() && info.is_ok_and(|info| info.lines().any(|line| line.trim() == named))
    }

    fn failure(&self, status: String, tail: String) -> Error {
        if tail.contains("Address already in use") {
            Error::AddressInUse(self.port.number)
        } else {
            Error::Failed { status, log: self.settings.log.clone(), tail }
        }
    }

    /// Writes the configuration file, which alone holds the password: arguments are public.
    fn configure(&self) -> Result<PathBuf, Error> {
        let path = self.settings.data.join("redis.conf");
        let password = self.settings.password.iter().map(|password| format!("requirepass {password}\n"));
        let text = format!(
            "bind 127.0.0.1\nprotected-mode yes\nport {}\ndaemonize no\ndatabases 16\nsave \"\"\ndir \"{}\"\n\
             appendonly {}\nappendfsync everysec\n{}",
            self.port.number,
            self.settings.data.display(),
            if self.settings.durable { "yes" } else { "no" },
            password.collect::<String>(),
        );
        File::options()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| self.settings.account.own(&path))
            .map_err(|source| Error::Write { path: path.clone(), source })?;
        Ok(path)
    }
}
