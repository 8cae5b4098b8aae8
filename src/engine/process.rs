//! Whether the process that may still write an order lives: seen from beside it, or not known.
//!
//! A session that ended, a lock that was taken over, a liveness counter that stands still: each of them is true of a
//! process that is stopped and will go on. Only the kernel that runs it knows. So a process is called ended when it ran
//! under this very boot and in this process's own pid namespace, and its pid is free or another's by now.

use std::fs;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::ledger::senders::ProcessRow;

/// This process; none where the kernel does not say.
pub(super) fn own() -> Option<ProcessRow> {
    let pid = i32::try_from(std::process::id()).ok()?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
    let pids = fs::read_link("/proc/self/ns/pid").ok()?;
    // Kernels before 5.6 have no time namespaces.
    let time = fs::read_link("/proc/self/ns/time").unwrap_or_default();
    Some(ProcessRow {
        boot,
        space: format!("{} {}", pids.display(), time.display()),
        pid,
        started: started(pid)?,
    })
}

/// True when that process has certainly ended.
pub(super) fn has_ended(process: &ProcessRow, me: &ProcessRow) -> bool {
    if (&process.boot, &process.space) != (&me.boot, &me.space) {
        return false;
    }
    let Some(pid) = Pid::from_raw(process.pid) else { return false };
    match test_kill_process(pid) {
        Err(Errno::SRCH) => true,
        // Alive, or not ours to signal: a pid that was used again has another start.
        _ => started(process.pid).is_some_and(|started| started != process.started),
    }
}

/// A process's start in clock ticks since the boot: the 22nd field, counted from behind its name, which may hold anything.
fn started(pid: i32) -> Option<i64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_has_ended_only_where_it_can_be_seen_and_is_gone() {
        let me = own().unwrap();
        assert!(!has_ended(&me, &me));
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let other = ProcessRow { pid, started: started(pid).unwrap(), ..me.clone() };
        assert!(!has_ended(&other, &me), "it lives");
        rustix::process::kill_process(Pid::from_raw(pid).unwrap(), rustix::process::Signal::STOP).unwrap();
        assert!(!has_ended(&other, &me), "it is stopped, and may go on");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(has_ended(&other, &me));
        assert!(
            !has_ended(&ProcessRow { boot: "another".to_owned(), ..other.clone() }, &me),
            "another machine's pid"
        );
        assert!(
            !has_ended(&ProcessRow { space: "another".to_owned(), ..other.clone() }, &me),
            "a container's pid"
        );
        let before_me = ProcessRow { started: me.started - 1, ..me.clone() };
        assert!(has_ended(&before_me, &me), "its pid is another's by now");
    }
}
