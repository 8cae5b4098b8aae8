//! What a demo that stays up writes down of its processes, so that drills find them, and find nothing else.
//!
//! A drill kills and freezes processes. It must never reach one that a demo did not start, whatever the sheet says, whoever
//! wrote it and however old it is: a process counts only while it is a child of a process that runs `baton demo`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

/// The sheet's name in the demo's directory.
const FILE: &str = "cluster.json";
/// How the directories of demos begin.
pub(super) const PREFIX: &str = "baton-demo-";

/// The processes of a demo.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sheet {
    /// The demo's own process.
    pub(super) demo: u32,
    /// The instances by name.
    pub(super) members: BTreeMap<String, Instance>,
    /// The paper bridge.
    pub(super) bridge: u32,
    /// PostgreSQL's first process.
    pub(super) postgres: u32,
    /// Redis.
    pub(super) redis: u32,
}

/// An instance of a demo.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Instance {
    pub(super) pid: u32,
    pub(super) address: String,
}

/// Why there is nothing to drill.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The directory has no sheet.
    #[error(
        "{} has no {FILE}: drills are for a cluster that `baton demo` started and keeps up, and for nothing else; give the directory that it names with --demo",
        .dir.display()
    )]
    NoSheet {
        /// The directory.
        dir: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The sheet is none.
    #[error("{FILE} in {} was not written by `baton demo` of this version; nothing was touched", .dir.display())]
    Unreadable {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Its demo is gone.
    #[error("process {pid}, which {} names, is no `baton demo`: it has ended; start one, drills are for nothing else", .dir.display())]
    Over {
        /// The directory.
        dir: PathBuf,
        /// The process.
        pid: u32,
    },
    /// No demo stays up on this machine.
    #[error(
        "no cluster that `baton demo` keeps up is found on this machine, and drills are refused for any other: start one with `baton demo`, or name its directory with --demo"
    )]
    None,
    /// More than one does.
    #[error("several demos run; say which with --demo: {0}")]
    Several(String),
    /// A process of the demo does not run.
    #[error("{name} of this demo does not run any more; start another demo")]
    Gone {
        /// What it is.
        name: String,
    },
    /// Nobody leads.
    #[error("no instance of this demo leads and trades at this moment; look with `baton status`")]
    NoLeader,
    /// Nobody would take over.
    #[error("no other instance of this demo could take over; start another demo")]
    NoSuccessor,
}

impl Sheet {
    /// Writes it into the demo's directory.
    pub(super) fn write(&self, dir: &Path) -> io::Result<()> {
        std::fs::write(dir.join(FILE), serde_json::to_vec(self)?)
    }

    /// Reads the sheet of a demo that runs.
    ///
    /// # Errors
    /// There is none, or its demo does not run.
    pub fn open(dir: &Path) -> Result<Self, Refused> {
        let dir = dir.to_owned();
        let text = match std::fs::read(dir.join(FILE)) {
            Ok(text) => text,
            Err(source) => return Err(Refused::NoSheet { dir, source }),
        };
        let sheet: Self = match serde_json::from_slice(&text) {
            Ok(sheet) => sheet,
            Err(source) => return Err(Refused::Unreadable { dir, source }),
        };
        if is_demo(sheet.demo) { Ok(sheet) } else { Err(Refused::Over { dir, pid: sheet.demo }) }
    }

    /// The sheet of the only demo that runs on this machine.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub fn find() -> Result<Self, Refused> {
        let entries = std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
        let dirs = entries
            .map(|entry| entry.path())
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX)));
        let mut found: Vec<_> = dirs.filter_map(|dir| Some((Self::open(&dir).ok()?, dir))).collect();
        match found.pop() {
            None => Err(Refused::None),
            Some((sheet, _)) if found.is_empty() => Ok(sheet),
            Some((_, last)) => {
                let dirs = found.iter().map(|(_, dir)| dir).chain([&last]);
                Err(Refused::Several(
                    dirs.map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", "),
                ))
            }
        }
    }

    /// The process, if it is a child of the demo at this moment.
    pub(super) fn own(&self, pid: u32) -> Option<Own> {
        let own = is_demo(self.demo) && parent_of(pid) == Some(self.demo) && !has_ended(pid);
        own.then_some(pid).and_then(Own::of)
    }

    /// The instances that run.
    pub(super) fn running(&self) -> impl Iterator<Item = (&str, &Instance)> {
        let members = self.members.iter().filter(|(_, member)| self.own(member.pid).is_some());
        members.map(|(name, member)| (name.as_str(), member))
    }
}

/// A process of a demo.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own(Pid);

impl Own {
    fn of(pid: u32) -> Option<Self> {
        i32::try_from(pid).ok().and_then(Pid::from_raw).map(Self)
    }

    /// Kills it.
    pub(super) fn kill(self) {
        // It may have ended a moment ago; that is what was wanted.
        let _ = rustix::process::kill_process(self.0, Signal::KILL);
    }

    /// Stops it and its children: they answer nobody, and hold what they hold, until the handle is dropped.
    pub(super) fn freeze(self) -> Frozen {
        // The first one first: it starts no more then.
        let mut stopped = vec![self.0];
        let _ = rustix::process::kill_process(self.0, Signal::STOP);
        let children =
            processes().filter(|pid| parent_of(*pid) == Some(self.0.as_raw_nonzero().get().unsigned_abs()));
        for child in children.filter_map(Self::of) {
            let _ = rustix::process::kill_process(child.0, Signal::STOP);
            stopped.push(child.0);
        }
        Frozen(stopped)
    }
}

/// Stopped processes; they run again when this is dropped.
#[derive(Debug)]
pub(super) struct Frozen(Vec<Pid>);

impl Drop for Frozen {
    fn drop(&mut self) {
        for pid in self.0.iter().rev() {
            // Gone, if somebody has killed it meanwhile.
            let _ = rustix::process::kill_process(*pid, Signal::CONT);
        }
    }
}

fn is_demo(pid: u32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut arguments = line.split(|byte| *byte == 0);
    let program = arguments.next().map(String::from_utf8_lossy).unwrap_or_default();
    let is_baton = Path::new(program.as_ref()).file_name().is_some_and(|name| name == "baton");
    is_baton && arguments.any(|argument| argument == b"demo") && !has_ended(pid)
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// What `/proc` says of a process behind its name: state, parent, …
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect())
}

fn parent_of(pid: u32) -> Option<u32> {
    stat(pid)?.get(1)?.parse().ok()
}

fn has_ended(pid: u32) -> bool {
    stat(pid).is_none_or(|fields| fields.first().is_some_and(|state| state == "Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet(demo: u32) -> Sheet {
        let me = std::process::id();
        let instance = Instance { pid: me, address: "http://127.0.0.1:1".to_owned() };
        let members = BTreeMap::from([("b1".to_owned(), instance)]);
        Sheet { demo, members, bridge: me, postgres: me, redis: me }
    }

    #[test]
    fn a_sheet_that_names_other_processes_reaches_none_of_them() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Sheet::open(dir.path()), Err(Refused::NoSheet { .. })));
        std::fs::write(dir.path().join(FILE), "{}").unwrap();
        assert!(matches!(Sheet::open(dir.path()), Err(Refused::Unreadable { .. })));
        // Neither this test nor the system's first process runs `baton demo`.
        for demo in [std::process::id(), 1, u32::MAX] {
            sheet(demo).write(dir.path()).unwrap();
            assert!(matches!(Sheet::open(dir.path()), Err(Refused::Over { pid, .. }) if pid == demo));
            assert!(sheet(demo).own(std::process::id()).is_none());
            assert_eq!(sheet(demo).running().count(), 0);
        }
    }
}
