//! A child process that cannot outlive its parent.
//!
//! The kernel's `PR_SET_PDEATHSIG` sends the child a signal when the *thread* that created it ends, not
//! the process. A server spawned from a runtime's worker would therefore die whenever that worker does,
//! so one thread that lives as long as the process spawns them all. The child compares its parent once
//! more after asking for the signal, because a parent that died in between would never be announced.
//!
//! Each server gets a process group of its own: Ctrl-C in a terminal reaches Baton alone, which then
//! drains with its stores still up.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::sync::{oneshot, watch};

use crate::account::Account;

/// How long a dropped server may take over its orderly end before it is killed.
const DROP_PATIENCE: Duration = Duration::from_secs(8);

/// Why a process cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("{} cannot be started; check that it is a program for this machine", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The thread that starts processes could not be created or is gone.
    #[error("{} cannot be started: no thread to start it from; is a limit on threads reached?", .0.display())]
    NoSpawner(PathBuf),
}

/// What to start.
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// Receives standard output and error.
    pub(crate) log: File,
    /// Sent when the parent dies, and first when the handle is dropped.
    pub(crate) last_signal: Signal,
}

/// A running or ended child; dropping it ends the process (blocking until it has, for some seconds at most).
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    last_signal: Signal,
    life: Arc<Life>,
    ended: watch::Receiver<Option<ExitStatus>>,
}

#[derive(Debug, Default)]
struct Life {
    /// `Some` once the process is reaped: from then on its pid may belong to a stranger.
    status: Mutex<Option<ExitStatus>>,
    over: Condvar,
}

impl Life {
    fn lock(&self) -> MutexGuard<'_, Option<ExitStatus>> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Job = (Command, Signal, oneshot::Sender<io::Result<Process>>);

impl Process {
    /// Starts any program as a child that cannot outlive this process, in a process group of its own. `last_signal`
    /// is what the kernel sends it when this process dies, and what it is sent first when the handle is dropped.
    ///
    /// # Errors
    /// The system refuses to start it.
    pub async fn spawn(mut command: Command, last_signal: Signal) -> Result<Self, Error> {
        let program = PathBuf::from(command.get_program());
        command.process_group(0);
        die_with_parent(&mut command, last_signal);
        let (reply, answer) = oneshot::channel();
        let no_spawner = || Error::NoSpawner(program.clone());
        spawner().ok_or_else(no_spawner)?.send((command, last_signal, reply)).map_err(|_| no_spawner())?;
        answer.await.map_err(|_| no_spawner())?.map_err(|source| Error::Spawn { program, source })
    }

    /// Starts a server under `account`.
    pub(crate) async fn start(launch: Launch, account: &Account) -> Result<Self, Error> {
        let program = launch.program.clone();
        let mut command = Command::new(&launch.program);
        let log = |file: &File| file.try_clone().map(Stdio::from);
        let spawn_error = |source| Error::Spawn { program: program.clone(), source };
        command
            .args(&launch.arguments)
            .current_dir("/")
            .env_clear()
            // The servers' messages are read by this crate, and a user's PG… settings must not leak in.
            .env("LC_ALL", "C")
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .stdin(Stdio::null())
            .stdout(log(&launch.log).map_err(spawn_error)?)
            .stderr(log(&launch.log).map_err(spawn_error)?);
        if account.dropped {
            command.uid(account.uid).gid(account.gid);
        }
        Self::spawn(command, launch.last_signal).await
    }

    /// The process id; meaningless to others once the process has ended.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// How the process ended, if it has.
    pub fn exit(&self) -> Option<ExitStatus> {
        *self.life.lock()
    }

    /// Waits for the end.
    pub async fn wait(&self) -> Option<ExitStatus> {
        let mut ended = self.ended.clone();
        ended.wait_for(Option::is_some).await.ok().and_then(|status| *status)
    }

    /// Sends a signal, unless the process has ended.
    pub fn signal(&self, signal: Signal) {
        let status = self.life.lock();
        if status.is_none() {
            // The child is not reaped while the lock is held, so the pid is still its own; the only
            // error left is a process that is already a zombie, which needs no signal.
            let _ = rustix::process::kill_process(self.pid, signal);
        }
    }

    /// Takes over a fresh child: a thread waits for its end, reaps it and tells everyone.
    fn adopt(mut child: Child, last_signal: Signal) -> io::Result<Self> {
        let pid = Pid::from_child(&child);
        let life = Arc::new(Life::default());
        let (announce, ended) = watch::channel(None);
        let watched = Arc::clone(&life);
        let process = Self { pid, last_signal, life, ended };
        thread::Builder::new().name(format!("wait-{}", process.pid())).spawn(move || {
            // Wait without reaping, then reap under the lock that guards every signal.
            let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while rustix::process::waitid(WaitId::Pid(pid), ended).is_err_and(|error| error == Errno::INTR) {}
            let mut status = watched.lock();
            *status = child.wait().ok();
            announce.send_replace(*status);
            watched.over.notify_all();
        })?;
        Ok(process)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(self.last_signal);
        // A paused process acts on its signal only once it runs again.
        self.signal(Signal::CONT);
        let waiting = self.life.lock();
        let (status, timeout) = self
            .life
            .over
            .wait_timeout_while(waiting, DROP_PATIENCE, |status| status.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        drop(status);
        if timeout.timed_out() {
            self.signal(Signal::KILL);
        }
    }
}

/// The channel to the one thread that spawns; `None` when that thread could not be created.
fn spawner() -> Option<&'static Sender<Job>> {
    static SPAWNER: OnceLock<Option<Sender<Job>>> = OnceLock::new();
    SPAWNER
        .get_or_init(|| {
            let (jobs, inbox) = channel::<Job>();
            let serve = move || {
                for (mut command, last_signal, reply) in inbox {
                    let started = command.spawn().and_then(|child| Process::adopt(child, last_signal));
                    // A caller who no longer waits drops the process here, which ends it.
                    let _ = reply.send(started);
                }
            };
            thread::Builder::new().name("local-spawner".into()).spawn(serve).ok().map(|_| jobs)
        })
        .as_ref()
}

/// Asks the kernel to send `signal` to the child when the spawning thread ends.
#[allow(unsafe_code)]
fn die_with_parent(command: &mut Command, signal: Signal) {
    let parent = rustix::process::getpid();
    let prepare = move || {
        rustix::process::set_parent_process_death_signal(Some(signal))?;
        if rustix::process::getppid() == Some(parent) { Ok(()) } else { Err(io::Error::from(Errno::SRCH)) }
    };
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe calls are allowed. It
    // makes two bare system calls (prctl, getppid), takes no lock and allocates nothing: both errors
    // carry a plain errno. It runs after the change of uid, which would clear the death signal.
    unsafe {
        command.pre_exec(prepare);
    }
}
