//! The directory temporary stores live in, swept of what killed processes left behind.
//!
//! ```text
//! <place>/baton-local-<uid>/
//!     ports/<number>         lock files of reserved ports
//!     templates/<key>/       initialised database clusters to copy; `.filled` with something in them
//!     stores/<name>.lock     held by the process that uses <name>
//!     stores/<name>/         one temporary store
//! ```
//! A store's directory goes when its handle is dropped. A process that was killed cannot do that; its
//! lock is gone with it, though, so the next process to make a store removes what nobody holds. The name
//! of the root is predictable, therefore a root that belongs to somebody else is refused.
//!
//! The place is `TMPDIR` when that is set. Otherwise it is `/dev/shm` if it has room: a store is nearly a
//! thousand small files, and ext4 looks past every inode freed in the last minutes before it gives out a
//! new one, so that stores made and removed in turn cost 0.5 to 1 s each there, against 0.07 s in memory.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::account::{Account, Unreachable};

/// Why no temporary directory can be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No temporary directory can be entered by the servers' account.
    #[error("no temporary directory will do; set TMPDIR to one that every user may enter")]
    Unreachable(#[source] Unreachable),
    /// The root exists and is not ours.
    #[error("{} belongs to another user or is no directory; remove it or set TMPDIR to another place", .0.display())]
    Foreign(PathBuf),
    /// A directory or lock file cannot be made.
    #[error("{} cannot be created; check the permissions and the free space there", path.display())]
    Create {
        /// What was to be made.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A disk is wanted.
    #[error("every place for temporary files is in memory; set TMPDIR to one on a disk")]
    NoDisk,
}

/// Free memory that must be left in `/dev/shm` for it to be used: enough for a dozen stores. Containers
/// often have 64 MB in all.
const SHARED_MEMORY_BYTES: u64 = 1 << 30;

/// The per-user root of all temporary stores.
#[derive(Debug, Clone)]
pub(crate) struct Root(PathBuf);

impl Root {
    /// Opens the root, creating it when it is missing.
    pub(crate) fn open(account: &Account) -> Result<Self, Error> {
        Self::among(candidates(), account)
    }

    /// Opens the root in a place where a synced write is one to a disk.
    pub(crate) fn on_disk(account: &Account) -> Result<Self, Error> {
        let mut places = candidates();
        places.retain(|place| !in_memory(place));
        if places.is_empty() { Err(Error::NoDisk) } else { Self::among(places, account) }
    }

    fn among(places: Vec<PathBuf>, account: &Account) -> Result<Self, Error> {
        let own = rustix::process::geteuid().as_raw();
        let usable = |place: &PathBuf| place.is_dir() && account.may_enter(place).is_ok();
        let Some(place) = places.iter().find(|place| usable(place)) else {
            return match account.may_enter(&places[0]) {
                Err(barred) => Err(Error::Unreachable(barred)),
                Ok(()) => Err(Error::Foreign(places[0].clone())),
            };
        };
        let root = place.join(format!("baton-local-{own}"));
        // The servers' account passes through, others have no business inside.
        let mode = if account.dropped { 0o711 } else { 0o700 };
        make_directory(&root, mode)?;
        let found = std::fs::symlink_metadata(&root)
            .map_err(|source| Error::Create { path: root.clone(), source })?;
        if !found.is_dir() || found.uid() != own {
            return Err(Error::Foreign(root));
        }
        for inner in ["ports", "templates", "stores"] {
            make_directory(&root.join(inner), mode)?;
        }
        Ok(Self(root))
    }

    pub(crate) fn ports(&self) -> PathBuf {
        self.0.join("ports")
    }

    pub(crate) fn templates(&self) -> PathBuf {
        self.0.join("templates")
    }

    /// Makes an empty directory for one temporary store.
    pub(crate) fn scratch(&self, account: &Account) -> Result<Scratch, Error> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let stores = self.0.join("stores");
        sweep(&stores);
        loop {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{number}-{}", std::process::id(), now.as_micros());
            let (path, lock_path) = (stores.join(&name), stores.join(format!("{name}.lock")));
            let failed = |source| Error::Create { path: lock_path.clone(), source };
            let lock = File::create_new(&lock_path).map_err(failed)?;
            // A sweeper may take the file between its creation and its lock: then draw another name.
            if lock.try_lock().is_err() || lock.metadata().map_err(failed)?.nlink() == 0 {
                continue;
            }
            make_directory(&path, if account.dropped { 0o711 } else { 0o700 })?;
            return Ok(Scratch { path, lock_path, _lock: lock });
        }
    }
}

/// A directory removed when dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) path: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        discard(&self.path, &self.lock_path);
    }
}

/// Where the root may be, best first; never empty.
fn candidates() -> Vec<PathBuf> {
    let mut places = Vec::new();
    let memory = Path::new("/dev/shm");
    let named = std::env::var_os("TMPDIR").is_some_and(|value| !value.is_empty());
    if !named && is_roomy_memory(memory) {
        places.push(memory.to_owned());
    }
    places.extend([std::env::temp_dir(), "/tmp".into(), "/var/tmp".into()]);
    places
}

const TMPFS_MAGIC: u64 = 0x0102_1994;

/// Whether the directory is in a file system in memory.
fn in_memory(directory: &Path) -> bool {
    rustix::fs::statfs(directory).is_ok_and(|found| found.f_type.unsigned_abs() == TMPFS_MAGIC)
}

/// Whether the directory is a file system in memory with room to spare.
fn is_roomy_memory(directory: &Path) -> bool {
    rustix::fs::statfs(directory).is_ok_and(|found| {
        let free = found.f_bavail.saturating_mul(found.f_bsize.unsigned_abs());
        found.f_type.unsigned_abs() == TMPFS_MAGIC && free >= SHARED_MEMORY_BYTES
    })
}

/// Creates a directory unless it exists.
pub(crate) fn make_directory(path: &Path, mode: u32) -> Result<(), Error> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::Create { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Removes the stores nobody holds; what cannot be removed now is left to the next sweep.
fn sweep(stores: &Path) {
    for entry in std::fs::read_dir(stores).into_iter().flatten().flatten() {
        let lock_path = entry.path();
        if lock_path.extension().is_none_or(|extension| extension != "lock") {
            continue;
        }
        if let Ok(lock) = File::open(&lock_path)
            && lock.try_lock().is_ok()
        {
            discard(&lock_path.with_extension(""), &lock_path);
        }
    }
}

/// Removes a store, then its lock file: in this order a failure half-way is found by the next sweep.
fn discard(path: &Path, lock_path: &Path) {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::debug!(path = %path.display(), %error, "a temporary store is left to the next sweep");
        }
        _ => {
            let _ = std::fs::remove_file(lock_path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> Account {
        Account { name: "me".into(), uid: 1, gid: 1, dropped: false }
    }

    #[test]
    fn a_store_nobody_holds_is_swept_and_a_held_one_stays() {
        let place = tempfile::tempdir().unwrap();
        let root = Root(place.path().to_owned());
        std::fs::create_dir(place.path().join("stores")).unwrap();
        let held = root.scratch(&me()).unwrap();
        let orphan = place.path().join("stores/1-0-0");
        std::fs::create_dir(&orphan).unwrap();
        std::fs::write(orphan.join("data"), "x").unwrap();
        std::fs::write(orphan.with_extension("lock"), "").unwrap();

        let next = root.scratch(&me()).unwrap();
        assert!(!orphan.exists() && !orphan.with_extension("lock").exists());
        assert!(held.path.is_dir() && next.path.is_dir());

        let path = held.path.clone();
        drop(held);
        assert!(!path.exists());
    }
}
