//! Database clusters: initialised once, copied for every temporary store.
//!
//! `initdb` takes over half a second of processor time; a copy of its result takes a tenth of that. The
//! cache holds one cluster per PostgreSQL program (path, size and time of change). It is built under a
//! lock, so that many test processes starting at once run `initdb` once, and appears by a rename, so that
//! none ever sees half of it. Its manifest counts the files, because cleaners of temporary directories
//! delete old files one by one: a copy that comes out short makes the cache be built anew.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::account::Account;
use crate::binaries::Programs;
use crate::process::{self, Launch, Process};

/// The superuser of every cluster.
pub(crate) const SUPERUSER: &str = "baton";
/// Changes whenever the options of `initdb` below change.
const REVISION: u32 = 1;
/// Marks what was filled by others: what it was filled with changes, and is then of no use to anybody.
const FILLED: &str = "filled";
/// A filled cluster goes when another one is kept and it is older than this.
const FILLED_FOR: Duration = Duration::from_secs(24 * 3600);
/// Bytes of a log shown in an error.
const TAIL_BYTES: usize = 2_000;

/// Why there is no database cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `initdb` could not be started.
    #[error("the database cluster cannot be initialised")]
    Start(#[source] process::Error),
    /// `initdb` ended with an error.
    #[error("initdb failed ({status}); its last words:\n{tail}")]
    Initdb {
        /// How it ended.
        status: String,
        /// The end of its log.
        tail: String,
    },
    /// A file or directory could not be written.
    #[error("{} cannot be written; check the permissions and the free space there", path.display())]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The cached cluster keeps losing files.
    #[error("the cached cluster {} is incomplete even after being rebuilt; delete it", .0.display())]
    Incomplete(PathBuf),
}

fn write_error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Write { path, source }
}

/// Runs `initdb` into `cluster`, which must not exist yet.
///
/// With a password file the cluster demands that password (SCRAM) and is synced to disk; without one it
/// trusts every local connection and is not.
pub(crate) async fn initialise(
    programs: &Programs,
    account: &Account,
    cluster: &Path,
    password_file: Option<&Path>,
) -> Result<(), Error> {
    std::fs::create_dir(cluster).map_err(write_error(cluster))?;
    account.own(cluster).map_err(write_error(cluster))?;
    let log_path = cluster.with_extension("initdb.log");
    let log = File::create(&log_path).map_err(write_error(&log_path))?;
    let mut arguments: Vec<String> =
        ["--encoding=UTF8", "--locale=C", "--username", SUPERUSER, "-D"].map(Into::into).into();
    arguments.push(cluster.display().to_string());
    match password_file {
        Some(file) => {
            arguments.push("--auth=scram-sha-256".into());
            arguments.push(format!("--pwfile={}", file.display()));
            arguments.push("--data-checksums".into());
        }
        None => arguments.extend(["--auth=trust", "--no-sync", "--wal-segsize=1"].map(Into::into)),
    }
    let launch = Launch { program: programs.initdb.clone(), arguments, log, last_signal: Signal::KILL };
    let initdb = Process::start(launch, account).await.map_err(Error::Start)?;
    let status = initdb.wait().await;
    if !status.is_some_and(|status| status.success()) {
        let status = status.map_or_else(|| "status unknown".to_owned(), |status| status.to_string());
        return Err(Error::Initdb { status, tail: tail(&log_path, 0) });
    }
    std::fs::remove_file(&log_path).map_err(write_error(&log_path))
}

/// Copies the cached cluster to `destination`, building the cache first when it is missing.
pub(crate) async fn copy(
    programs: &Programs,
    account: &Account,
    templates: &Path,
    destination: &Path,
) -> Result<(), Error> {
    let template = templates.join(key(programs, account, None)?);
    for _attempt in 0..2 {
        if !template.is_dir() {
            build(programs, account, &template).await?;
        }
        if copy_of(&template, account, destination).await? {
            return Ok(());
        }
    }
    Err(Error::Incomplete(template))
}

/// Where the cluster is kept that somebody has filled, under the name of what it was filled with.
pub(crate) fn filled(
    programs: &Programs,
    account: &Account,
    templates: &Path,
    name: &str,
) -> Result<PathBuf, Error> {
    Ok(templates.join(key(programs, account, Some(name))?).with_extension(FILLED))
}

/// Copies a kept cluster to `destination`; false, with both gone, when it is missing or has lost files.
pub(crate) async fn copy_of(template: &Path, account: &Account, destination: &Path) -> Result<bool, Error> {
    if !template.is_dir() {
        return Ok(false);
    }
    let (from, to, owner) = (template.to_owned(), destination.to_owned(), account.clone());
    let copied = tokio::task::spawn_blocking(move || copy_whole(&from, &to, &owner))
        .await
        .unwrap_or_else(|panic| Err(write_error(destination)(io::Error::other(panic))))?;
    if !copied {
        for stale in [template, destination] {
            std::fs::remove_dir_all(stale).map_err(write_error(stale))?;
        }
    }
    Ok(copied)
}

/// Keeps a cluster that no server runs on as a template; it appears whole or not at all. Whoever is first keeps its own.
pub(crate) async fn keep(cluster: &Path, account: &Account, template: &Path) -> Result<(), Error> {
    let (from, to, owner) = (cluster.to_owned(), template.to_owned(), account.clone());
    let kept = tokio::task::spawn_blocking(move || {
        static KEPT: AtomicU32 = AtomicU32::new(0);
        let number = KEPT.fetch_add(1, Ordering::Relaxed);
        let half_made = to.with_extension(format!("keeping-{}-{number}", std::process::id()));
        std::fs::create_dir(&half_made).map_err(write_error(&half_made))?;
        owner.own(&half_made).map_err(write_error(&half_made))?;
        let count = copy_tree(&from, &half_made.join("cluster"), &owner)?;
        let manifest = half_made.join("files");
        std::fs::write(&manifest, count.to_string()).map_err(write_error(&manifest))?;
        sweep(&to);
        match std::fs::rename(&half_made, &to) {
            Err(_) if to.is_dir() => std::fs::remove_dir_all(&half_made).map_err(write_error(&half_made)),
            renamed => renamed.map_err(write_error(&to)),
        }
    });
    kept.await.unwrap_or_else(|panic| Err(write_error(template)(io::Error::other(panic))))
}

/// Removes what was filled long ago, beside `kept`.
fn sweep(kept: &Path) {
    let is_old = |path: &Path| {
        let made = path.metadata().and_then(|found| found.modified());
        made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > FILLED_FOR))
    };
    let beside =
        kept.parent().and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    for path in beside.map(|entry| entry.path()) {
        if path.extension().is_some_and(|extension| extension == FILLED) && is_old(&path) {
            // Somebody else may be at it; what stays goes the next time.
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// Names the cache after the program that made it, and after what it was filled with.
fn key(programs: &Programs, account: &Account, name: Option<&str>) -> Result<String, Error> {
    let found = std::fs::metadata(&programs.postgres).map_err(write_error(&programs.postgres))?;
    let mut hasher = DefaultHasher::new();
    (REVISION, &programs.postgres, found.size(), found.mtime(), account.uid, name).hash(&mut hasher);
    Ok(format!("{:016x}", hasher.finish()))
}

async fn build(programs: &Programs, account: &Account, template: &Path) -> Result<(), Error> {
    let lock_path = template.with_extension("lock");
    let lock = File::create(&lock_path).map_err(write_error(&lock_path))?;
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock))
        .await
        .unwrap_or_else(|panic| Err(io::Error::other(panic)))
        .map_err(write_error(&lock_path))?;
    if template.is_dir() {
        return Ok(());
    }
    let half_built = template.with_extension("building");
    match std::fs::remove_dir_all(&half_built) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(write_error(&half_built)(error)),
        _ => {}
    }
    std::fs::create_dir(&half_built).map_err(write_error(&half_built))?;
    account.own(&half_built).map_err(write_error(&half_built))?;
    initialise(programs, account, &half_built.join("cluster"), None).await?;
    let count = count_files(&half_built.join("cluster")).map_err(write_error(&half_built))?;
    let manifest = half_built.join("files");
    std::fs::write(&manifest, count.to_string()).map_err(write_error(&manifest))?;
    std::fs::rename(&half_built, template).map_err(write_error(template))?;
    drop(lock);
    Ok(())
}

/// Copies the template's cluster; false when it has fewer files than it was built with.
fn copy_whole(template: &Path, destination: &Path, account: &Account) -> Result<bool, Error> {
    let expected = std::fs::read_to_string(template.join("files")).unwrap_or_default();
    let copied = copy_tree(&template.join("cluster"), destination, account)?;
    Ok(expected.parse() == Ok(copied))
}

/// Copies a tree of directories and files, keeping modes; returns the number of files.
fn copy_tree(from: &Path, to: &Path, account: &Account) -> Result<u64, Error> {
    std::fs::create_dir(to).map_err(write_error(to))?;
    let mut count = 0;
    for entry in std::fs::read_dir(from).map_err(write_error(from))? {
        let entry = entry.map_err(write_error(from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().map_err(write_error(&source))?.is_dir() {
            count += copy_tree(&source, &target, account)?;
        } else {
            std::fs::copy(&source, &target).map_err(write_error(&target))?;
            account.own(&target).map_err(write_error(&target))?;
            count += 1;
        }
    }
    let mode = std::fs::metadata(from).map_err(write_error(from))?.permissions();
    std::fs::set_permissions(to, mode).map_err(write_error(to))?;
    account.own(to).map_err(write_error(to))?;
    Ok(count)
}

fn count_files(directory: &Path) -> io::Result<u64> {
    let mut count = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        count += if entry.file_type()?.is_dir() { count_files(&entry.path())? } else { 1 };
    }
    Ok(count)
}

/// The end of a log from byte `from` on, for an error message.
pub(crate) fn tail(log: &Path, from: u64) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let start = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
    let start = start.max(bytes.len().saturating_sub(TAIL_BYTES));
    let text = String::from_utf8_lossy(&bytes[start..]).trim().to_owned();
    if text.is_empty() { "(it said nothing)".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_that_lost_a_file_is_noticed() {
        let place = tempfile::tempdir().unwrap();
        let (template, cluster) = (place.path().join("t"), place.path().join("t/cluster/base"));
        std::fs::create_dir_all(&cluster).unwrap();
        std::fs::write(cluster.join("1"), "a").unwrap();
        std::fs::write(cluster.join("2"), "b").unwrap();
        std::fs::write(template.join("files"), "2").unwrap();
        let me = Account { name: "me".into(), uid: 1, gid: 1, dropped: false };
        assert!(copy_whole(&template, &place.path().join("whole"), &me).unwrap());
        assert_eq!(std::fs::read_to_string(place.path().join("whole/base/2")).unwrap(), "b");
        std::fs::remove_file(cluster.join("1")).unwrap();
        assert!(!copy_whole(&template, &place.path().join("short"), &me).unwrap());
    }

    #[test]
    fn the_tail_starts_at_this_attempt() {
        let place = tempfile::tempdir().unwrap();
        let log = place.path().join("log");
        std::fs::write(&log, "old words\nnew words\n").unwrap();
        assert_eq!(tail(&log, 10), "new words");
        assert_eq!(tail(&log, 99), "(it said nothing)");
    }
}
