//! Where the servers' programs are found.
//!
//! The order is fixed and the first hit wins: an explicit setting, then `PATH` and Debian's
//! `/usr/lib/postgresql/*/bin` (newest first), then what `ops/setup` fetched into `.baton/tools`. An
//! explicit setting that is wrong is an error, never a reason to look further: silently using another
//! server than the one named would be worse than stopping.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::account::{Account, Unreachable};

/// Explicit settings; what is `None` is searched for.
#[derive(Debug, Clone, Default)]
pub struct Binaries {
    /// Directory that holds `postgres` and `initdb` (`BATON_POSTGRES_BIN`).
    pub postgres: Option<PathBuf>,
    /// The `redis-server` or `valkey-server` program (`BATON_REDIS_SERVER`).
    pub redis: Option<PathBuf>,
    /// What `ops/setup` fetched (`BATON_TOOLS`); `None` means `.baton/tools` in the working directory or
    /// the nearest one above it.
    pub tools: Option<PathBuf>,
}

/// Why the programs cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No PostgreSQL anywhere.
    #[error(
        "PostgreSQL's programs `postgres` and `initdb` were not found; run `make setup` (or `ops/setup`)"
    )]
    NoPostgres,
    /// No Redis anywhere.
    #[error("neither `redis-server` nor `valkey-server` was found; run `make setup` (or `ops/setup`)")]
    NoRedis,
    /// The explicit PostgreSQL directory holds no server.
    #[error("BATON_POSTGRES_BIN is {}, which does not hold `postgres` and `initdb`; correct or unset it", .0.display())]
    WrongPostgres(PathBuf),
    /// The explicit Redis program does not exist.
    #[error("BATON_REDIS_SERVER is {}, which is no program; correct or unset it", .0.display())]
    WrongRedis(PathBuf),
    /// A client program of PostgreSQL is nowhere.
    #[error(
        "PostgreSQL's client program `{0}` was not found in PATH, in /usr/lib/postgresql or beside the fetched server; \
         install it (Debian: postgresql-client), or set BATON_POSTGRES_BIN to its directory"
    )]
    NoClient(&'static str),
    /// The servers' account may not reach a program that was found.
    #[error("{} cannot be run", program.display())]
    Unreachable {
        /// The program.
        program: PathBuf,
        /// Which directory bars the way, and what to do.
        #[source]
        source: Unreachable,
    },
}

/// Programs that exist and that the servers' account can reach.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) postgres: PathBuf,
    pub(crate) initdb: PathBuf,
    pub(crate) redis: PathBuf,
}

impl Binaries {
    /// Reads `BATON_POSTGRES_BIN`, `BATON_REDIS_SERVER` and `BATON_TOOLS`.
    pub fn from_env() -> Self {
        let setting = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            postgres: setting("BATON_POSTGRES_BIN"),
            redis: setting("BATON_REDIS_SERVER"),
            tools: setting("BATON_TOOLS"),
        }
    }

    /// A client program of PostgreSQL, `pg_dump` say: from the explicit directory alone, if there is one; else searched
    /// for where the server is.
    ///
    /// # Errors
    /// [`Error::NoClient`].
    pub fn client(&self, name: &'static str) -> Result<PathBuf, Error> {
        let tools = self.tools.clone().or_else(nearest_tools);
        let directories: Vec<PathBuf> = match &self.postgres {
            Some(named) => vec![named.clone()],
            None => search_path()
                .into_iter()
                .chain(debian_directories(Path::new("/usr/lib/postgresql")))
                .chain(tools.iter().map(|tools| tools.join("postgresql/bin")))
                .collect(),
        };
        directories.iter().find_map(|directory| program(&directory.join(name))).ok_or(Error::NoClient(name))
    }

    pub(crate) fn locate(&self, account: &Account) -> Result<Programs, Error> {
        let path = search_path();
        let tools = self.tools.clone().or_else(nearest_tools);
        let postgres = match &self.postgres {
            Some(named) => server_directory(named).ok_or_else(|| Error::WrongPostgres(named.clone()))?,
            None => path
                .iter()
                .cloned()
                .chain(debian_directories(Path::new("/usr/lib/postgresql")))
                .chain(tools.iter().map(|tools| tools.join("postgresql/bin")))
                .filter_map(|directory| server_directory(&directory))
                .reduce(|first, next| if reachable(&first, account) { first } else { next })
                .ok_or(Error::NoPostgres)?,
        };
        let redis = match &self.redis {
            Some(named) => program(named).ok_or_else(|| Error::WrongRedis(named.clone()))?,
            None => path
                .iter()
                .cloned()
                .chain([PathBuf::from("/usr/bin"), PathBuf::from("/usr/local/bin")])
                .chain(tools.iter().map(|tools| tools.join("bin")))
                .flat_map(|directory| ["redis-server", "valkey-server"].map(|name| directory.join(name)))
                .filter_map(|candidate| program(&candidate))
                .reduce(|first, next| if reachable(&first, account) { first } else { next })
                .ok_or(Error::NoRedis)?,
        };
        let found = Programs { initdb: postgres.join("initdb"), postgres: postgres.join("postgres"), redis };
        for program in [&found.postgres, &found.redis] {
            account
                .may_enter(program)
                .map_err(|source| Error::Unreachable { program: program.clone(), source })?;
        }
        Ok(found)
    }
}

fn search_path() -> Vec<PathBuf> {
    env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default()
}

fn reachable(path: &Path, account: &Account) -> bool {
    account.may_enter(path).is_ok()
}

/// The file itself, symbolic links resolved: Debian and many images link `postgres` into `PATH` alone,
/// while `initdb` and the shared files sit beside the real one.
fn program(path: &Path) -> Option<PathBuf> {
    let resolved = path.canonicalize().ok()?;
    if !is_executable(&resolved) {
        return None;
    }
    // Debian's redis-server is a link to redis-check-rdb, which acts by the name it is called with.
    let same_folder = path.parent()?.canonicalize().ok()?;
    Some(same_folder.join(path.file_name()?))
}

fn is_executable(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// The directory that really holds `postgres` and `initdb`, when `directory` leads to one.
fn server_directory(directory: &Path) -> Option<PathBuf> {
    let server = directory.join("postgres").canonicalize().ok()?;
    let real = server.parent()?;
    ["postgres", "initdb"].iter().all(|name| is_executable(&real.join(name))).then(|| real.to_owned())
}

/// `<root>/<version>/bin`, newest version first.
fn debian_directories(root: &Path) -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.into_iter().map(|(_, directory)| directory).collect()
}

/// `.baton/tools` in the working directory or the nearest one above it: Cargo runs tests in the folder
/// of their crate, and `ops/setup` fetches into the folder of the workspace.
fn nearest_tools() -> Option<PathBuf> {
    let here = env::current_dir().ok()?;
    here.ancestors().map(|above| above.join(".baton/tools")).find(|tools| tools.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> Account {
        Account { name: "me".into(), uid: 1, gid: 1, dropped: false }
    }

    fn write_program(path: &Path) {
        std::fs::write(path, "").unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_wrong_setting_is_an_error_and_not_a_reason_to_search() {
        let empty = tempfile::tempdir().unwrap();
        let settings = Binaries { postgres: Some(empty.path().into()), ..Binaries::default() };
        assert!(matches!(settings.locate(&me()), Err(Error::WrongPostgres(_))));
    }

    #[test]
    fn a_client_comes_from_the_named_directory_or_from_none() {
        let named = tempfile::tempdir().unwrap();
        let settings = Binaries { postgres: Some(named.path().into()), ..Binaries::default() };
        assert!(matches!(settings.client("pg_dump"), Err(Error::NoClient("pg_dump"))));
        write_program(&named.path().join("pg_dump"));
        let home = named.path().canonicalize().unwrap();
        assert_eq!(settings.client("pg_dump").unwrap(), home.join("pg_dump"));
    }

    #[test]
    fn newest_debian_version_comes_first() {
        let root = tempfile::tempdir().unwrap();
        for version in ["9", "15", "18", "lost+found"] {
            std::fs::create_dir(root.path().join(version)).unwrap();
        }
        let found = debian_directories(root.path());
        let expected = ["18/bin", "15/bin", "9/bin"].map(|version| root.path().join(version));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_lone_link_to_postgres_leads_to_its_home() {
        let root = tempfile::tempdir().unwrap();
        let (home, link) = (root.path().join("home"), root.path().join("link"));
        for directory in [&home, &link] {
            std::fs::create_dir(directory).unwrap();
        }
        for name in ["postgres", "initdb"] {
            write_program(&home.join(name));
        }
        std::os::unix::fs::symlink(home.join("postgres"), link.join("postgres")).unwrap();
        assert_eq!(server_directory(&link), Some(home.canonicalize().unwrap()));
    }

    #[test]
    fn a_file_that_cannot_be_executed_is_no_program() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("redis-server");
        std::fs::write(&file, "").unwrap();
        assert_eq!(program(&file), None);
        write_program(&file);
        assert!(program(&file).is_some());
    }

    #[test]
    fn a_program_keeps_the_name_it_is_called_by() {
        let root = tempfile::tempdir().unwrap();
        write_program(&root.path().join("redis-check-rdb"));
        std::os::unix::fs::symlink("redis-check-rdb", root.path().join("redis-server")).unwrap();
        let found = program(&root.path().join("redis-server")).unwrap();
        assert_eq!(found.file_name().unwrap(), "redis-server");
    }
}
