//! The account the servers run under, and whether it can reach what it needs.
//!
//! PostgreSQL refuses to run as root. When this process is root the servers run as `postgres` or
//! `nobody`; otherwise as the user who started it. Either way the account must be able to pass through
//! every directory above its data and programs, which is checked first, because the servers' own
//! complaint ("could not access directory") names neither the account nor the directory to open.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

/// The uid and gid the servers are started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// True when this process is root and the servers are started under another account.
    pub(crate) dropped: bool,
}

/// A directory the servers' account may not pass through.
#[derive(Debug, thiserror::Error)]
#[error(
    "the servers run as the user `{account}`, who may not enter {}; use another directory or run `chmod o+x {}`",
    directory.display(),
    directory.display()
)]
pub struct Unreachable {
    account: String,
    directory: PathBuf,
}

impl Account {
    /// Chooses the account: `postgres`, else `nobody`, when this process is root; else its own.
    pub(crate) fn for_servers() -> Self {
        let uid = rustix::process::geteuid();
        if !uid.is_root() {
            let gid = rustix::process::getegid().as_raw();
            return Self { name: "this user".into(), uid: uid.as_raw(), gid, dropped: false };
        }
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        ["postgres", "nobody"].iter().find_map(|name| look_up(&passwd, name)).unwrap_or(Self {
            name: "nobody".into(),
            uid: 65534,
            gid: 65534,
            dropped: true,
        })
    }

    /// Gives `path` to the account; does nothing when the servers run as this user.
    pub(crate) fn own(&self, path: &Path) -> io::Result<()> {
        if self.dropped { chown(path, Some(self.uid), Some(self.gid)) } else { Ok(()) }
    }

    /// Checks that the account may enter `directory` and every directory above it.
    pub(crate) fn may_enter(&self, directory: &Path) -> Result<(), Unreachable> {
        if !self.dropped {
            return Ok(());
        }
        let ancestors: Vec<&Path> = directory.ancestors().collect();
        for ancestor in ancestors.into_iter().rev() {
            if std::fs::metadata(ancestor).is_ok_and(|found| !self.may_pass(&found)) {
                return Err(Unreachable { account: self.name.clone(), directory: ancestor.to_owned() });
            }
        }
        Ok(())
    }

    /// Whether the execute bit that applies to this account is set.
    pub(crate) fn may_pass(&self, found: &Metadata) -> bool {
        let bit = if found.uid() == self.uid {
            0o100
        } else if found.gid() == self.gid {
            0o010
        } else {
            0o001
        };
        !self.dropped || found.mode() & bit != 0
    }
}

/// Finds an account other than root in the text of `/etc/passwd`.
fn look_up(passwd: &str, name: &str) -> Option<Account> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    let uid: u32 = fields.next()?.parse().ok()?;
    let gid: u32 = fields.next()?.parse().ok()?;
    (uid != 0).then(|| Account { name: name.into(), uid, gid, dropped: true })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const PASSWD: &str =
        "root:x:0:0::/root:/bin/sh\npostgres:x:101:104::/:/bin/sh\nnobody:x:65534:65533::/:/no\n";

    #[test]
    fn an_account_is_read_from_its_line() {
        let found = look_up(PASSWD, "postgres").unwrap();
        assert_eq!((found.uid, found.gid), (101, 104));
        assert_eq!(look_up(PASSWD, "nobody").unwrap().gid, 65533);
    }

    #[test]
    fn root_and_strangers_are_no_servers_account() {
        assert_eq!(look_up(PASSWD, "root"), None);
        assert_eq!(look_up(PASSWD, "redis"), None);
    }

    #[test]
    fn a_private_directory_above_is_named() {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        std::fs::set_permissions(outer.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let stranger = Account { name: "stranger".into(), uid: 54321, gid: 54321, dropped: true };
        let error = stranger.may_enter(&inner).unwrap_err().to_string();
        assert!(error.contains(&format!("chmod o+x {}", outer.path().display())), "{error}");
        std::fs::set_permissions(outer.path(), PermissionsExt::from_mode(0o711)).unwrap();
        stranger.may_enter(&inner).unwrap();
    }
}
