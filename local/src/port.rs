//! Free loopback ports that stay free.
//!
//! Binding port 0 and letting go invites a race: the kernel hands out the same range to every outgoing
//! connection and to every other test that asks. These ports lie below that range (Linux starts it at
//! 32768), are drawn at random, and are reserved by a lock file for as long as the holder lives, so that
//! a server stopped by a test finds its port still free when it is started again. A stranger may yet
//! bind one without asking; a server that reports its address in use is then started on another.

use std::fs::{File, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

/// First port of the range.
const FIRST: u16 = 20_000;
/// How many ports the range holds.
const COUNT: u64 = 12_000;
/// Draws before giving up.
const DRAWS: u32 = 500;

/// Why no port could be reserved.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lock file cannot be created or locked.
    #[error("the lock file {} cannot be used; check the permissions of its directory", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Every port drawn was taken.
    #[error("no free loopback port among {DRAWS} tried between 20000 and 31999; stop some servers")]
    Exhausted,
}

/// A loopback port reserved against other users of this crate.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) number: u16,
    _lock: File,
}

impl Port {
    /// Reserves a port; `locks` is the directory of the lock files.
    pub(crate) fn reserve(locks: &Path) -> Result<Self, Error> {
        let random = RandomState::new();
        for draw in 0..DRAWS {
            let offset = u16::try_from(random.hash_one(draw) % COUNT)
                .expect("the remainder is below 12 000, which fits u16");
            let number = FIRST + offset;
            let path = locks.join(number.to_string());
            let failed = |source| Error::Lock { path: path.clone(), source };
            let lock =
                File::options().create(true).write(true).truncate(false).open(&path).map_err(failed)?;
            match lock.try_lock() {
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(source)) => return Err(failed(source)),
                Ok(()) => {}
            }
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self { number, _lock: lock });
            }
        }
        Err(Error::Exhausted)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn reserved_ports_differ_while_held() {
        let locks = tempfile::tempdir().unwrap();
        let held: Vec<Port> = (0..200).map(|_| Port::reserve(locks.path()).unwrap()).collect();
        let distinct: HashSet<u16> = held.iter().map(|port| port.number).collect();
        assert_eq!(distinct.len(), held.len());
        assert!(distinct.iter().all(|port| (FIRST..32_000).contains(port)));
    }
}
