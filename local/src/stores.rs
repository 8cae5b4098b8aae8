//! PostgreSQL and Redis together: temporary for a test, kept for a demo or a small installation.
//!
//! A kept directory:
//! ```text
//! <dir>/lock          held by the process that runs the stores; its pid for the message
//! <dir>/password      random, mode 0600; PostgreSQL's (SCRAM) and Redis's
//! <dir>/postgres/     the database cluster
//! <dir>/redis/        append-only file and configuration
//! <dir>/*.log         what the servers said
//! ```
//! The cluster is initialised beside its place and renamed into it, so that a first start cut short is
//! simply repeated by the next.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::account::{Account, Unreachable};
use crate::binaries::{self, Binaries, Programs};
use crate::scratch::{self, Root, Scratch};
use crate::template;
use crate::{Postgres, Redis, postgres, redis};

/// The database every cluster is born with.
const FIRST_DATABASE: &str = "postgres";

/// How to start the stores.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the data stay; created when missing.
    pub dir: PathBuf,
    /// Sync every commit to disk and keep Redis's data. Without it a crash of the *machine* may cost
    /// the data; a crash of the servers does not cost PostgreSQL's.
    pub durable: bool,
    /// Explicit programs.
    pub binaries: Binaries,
}

/// Why the stores do not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program is missing.
    #[error("the stores' programs cannot be used")]
    Binaries(#[from] binaries::Error),
    /// No temporary directory.
    #[error("the stores have no temporary directory")]
    Scratch(#[from] scratch::Error),
    /// The servers' account may not enter the directory.
    #[error("the stores' directory cannot be used")]
    Unreachable(#[from] Unreachable),
    /// Another live process runs stores in this directory.
    #[error("{} is in use by process {holder}; stop that process or choose another directory", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The pid of the holder, or `unknown`.
        holder: String,
    },
    /// There is a database cluster, but the file with its password is gone.
    #[error("{} is missing, and the data beside it cannot be opened without it; restore the file", .0.display())]
    PasswordLost(PathBuf),
    /// A file of the directory cannot be read or written.
    #[error("{} cannot be read or written; check the permissions and the free space there", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The database cluster could not be made.
    #[error("there is no database cluster")]
    Cluster(#[from] template::Error),
    /// PostgreSQL does not start.
    #[error("PostgreSQL does not run")]
    Postgres(#[from] postgres::Error),
    /// Redis does not start.
    #[error("Redis does not run")]
    Redis(#[from] redis::Error),
    /// What a database was to be filled with did not get into it.
    #[error("the database cannot be filled")]
    Fill(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A database could not be created.
    #[error("the database `{name}` cannot be created; is PostgreSQL running, and the name new?")]
    CreateDatabase {
        /// The database.
        name: String,
        /// PostgreSQL's reason.
        #[source]
        source: tokio_postgres::Error,
    },
}

/// A running pair of servers; dropping it stops both (blocking for some milliseconds) and removes
/// temporary data.
#[derive(Debug)]
pub struct Stores {
    // In this order: servers end before their directories go.
    postgres: Postgres,
    redis: Redis,
    _scratch: Scratch,
    _lock: Option<File>,
}

impl Stores {
    /// Starts the stores in a directory that is kept. Data from an earlier start are used again.
    ///
    /// # Errors
    /// When programs are missing, another live process holds the directory, or a server does not start;
    /// the message carries the end of its log.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let account = Account::for_servers();
        let programs = options.binaries.locate(&account)?;
        let root = Root::open(&account)?;
        let dir = std::path::absolute(&options.dir).map_err(file_error(&options.dir))?;
        DirBuilder::new().recursive(true).mode(0o711).create(&dir).map_err(file_error(&dir))?;
        account.may_enter(&dir)?;
        let lock = hold(&dir)?;
        let password_file = dir.join("password");
        let cluster = dir.join("postgres");
        if cluster.is_dir() && !password_file.exists() {
            return Err(Error::PasswordLost(password_file));
        }
        let password = password(&password_file, &account)?;
        if !cluster.is_dir() {
            let half_made = dir.join("postgres.new");
            match std::fs::remove_dir_all(&half_made) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(file_error(&half_made)(error));
                }
                _ => {}
            }
            template::initialise(&programs, &account, &half_made, Some(&password_file)).await?;
            std::fs::rename(&half_made, &cluster).map_err(file_error(&cluster))?;
        }
        let scratch = root.scratch(&account)?;
        let place = Place { dir: &dir, durable: options.durable, password: Some(password) };
        let (postgres, redis) = launch(programs, account, &root, &scratch, place, async { Ok(()) }).await?;
        tracing::info!(dir = %dir.display(), "private PostgreSQL and Redis are up");
        Ok(Self { postgres, redis, _scratch: scratch, _lock: Some(lock) })
    }

    /// Starts stores that live as long as this handle: no sync to disk, no passwords, loopback only.
    /// Programs are found as [`Binaries::from_env`] says.
    ///
    /// # Errors
    /// When programs are missing or a server does not start; the message carries the end of its log.
    pub async fn temporary() -> Result<Self, Error> {
        Self::fleeting(false).await
    }

    /// The same, but on a disk, with every commit synced to it: for figures of what a commit costs.
    ///
    /// # Errors
    /// As for [`Self::temporary`], and when all places for temporary files are in memory.
    pub async fn temporary_and_synced() -> Result<Self, Error> {
        Self::fleeting(true).await
    }

    async fn fleeting(durable: bool) -> Result<Self, Error> {
        let account = Account::for_servers();
        let programs = Binaries::from_env().locate(&account)?;
        let root = Root::open(&account)?;
        // A sync to memory would cost nothing.
        let scratch =
            if durable { Root::on_disk(&account)?.scratch(&account)? } else { root.scratch(&account)? };
        let place = Place { dir: &scratch.path, durable, password: None };
        let (cluster, templates) = (scratch.path.join("postgres"), root.templates());
        let (copying, owner) = (programs.clone(), account.clone());
        let prepare = async move { Ok(template::copy(&copying, &owner, &templates, &cluster).await?) };
        let (postgres, redis) = launch(programs, account, &root, &scratch, place, prepare).await?;
        Ok(Self { postgres, redis, _scratch: scratch, _lock: None })
    }

    /// As [`Self::temporary`], with what `fill` does to the first database, whose URL it is given. That happens once: the
    /// stopped cluster is kept under `name`, and copied from then on.
    ///
    /// # Errors
    /// As [`Self::temporary`], and when `fill` fails.
    pub async fn temporary_filled<E: std::error::Error + Send + Sync + 'static>(
        name: &str,
        fill: impl AsyncFnOnce(String) -> Result<(), E>,
    ) -> Result<Self, Error> {
        let account = Account::for_servers();
        let programs = Binaries::from_env().locate(&account)?;
        let root = Root::open(&account)?;
        let template = template::filled(&programs, &account, &root.templates(), name)?;
        let scratch = root.scratch(&account)?;
        if !template::copy_of(&template, &account, &scratch.path.join("postgres")).await? {
            let stores = Self::temporary().await?;
            fill(stores.database_url()).await.map_err(|error| Error::Fill(Box::new(error)))?;
            stores.postgres.stop().await?;
            template::keep(&stores.postgres.settings().data, &account, &template).await?;
            stores.postgres.start().await?;
            return Ok(stores);
        }
        let place = Place { dir: &scratch.path, durable: false, password: None };
        let (postgres, redis) = launch(programs, account, &root, &scratch, place, async { Ok(()) }).await?;
        Ok(Self { postgres, redis, _scratch: scratch, _lock: None })
    }

    /// URL of the first database, over TCP on 127.0.0.1; the user is a superuser.
    pub fn database_url(&self) -> String {
        self.postgres.url(FIRST_DATABASE)
    }

    /// URL of Redis, over TCP on 127.0.0.1.
    pub fn redis_url(&self) -> String {
        self.redis.url()
    }

    /// Creates an empty database and returns its URL.
    ///
    /// # Errors
    /// When PostgreSQL is down or the name is taken.
    pub async fn create_database(&self, name: &str) -> Result<String, Error> {
        self.create(name, "template1").await
    }

    /// Creates a copy of the database `template`, which nobody may be connected to; returns its URL.
    ///
    /// # Errors
    /// When PostgreSQL is down, the name is taken, or the template is missing or in use.
    pub async fn clone_database(&self, name: &str, template: &str) -> Result<String, Error> {
        self.create(name, template).await
    }

    /// The PostgreSQL server, to stop, kill and restart it.
    pub fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    /// The Redis server, to stop, kill, pause and restart it.
    pub fn redis(&self) -> &Redis {
        &self.redis
    }

    /// Stops both servers in order and, if temporary, removes their data.
    ///
    /// # Errors
    /// When a server survives SIGKILL.
    pub async fn stop(self) -> Result<(), Error> {
        let (postgres, redis) = tokio::join!(self.postgres.stop(), self.redis.stop());
        postgres.map_err(Error::from).and(redis.map_err(Error::from))
    }

    async fn create(&self, name: &str, template: &str) -> Result<String, Error> {
        let failed = |source| Error::CreateDatabase { name: name.to_owned(), source };
        let (client, connection) =
            tokio_postgres::connect(&self.database_url(), tokio_postgres::NoTls).await.map_err(failed)?;
        let sql = format!("CREATE DATABASE {} TEMPLATE {}", quoted(name), quoted(template));
        let serve = tokio::spawn(connection);
        let created = client.batch_execute(&sql).await.map_err(failed);
        drop(client);
        // The connection ends with its client; its own outcome adds nothing to the statement's.
        let _ = serve.await;
        created.map(|()| self.postgres.url(name))
    }
}

/// Where a pair of servers lives.
struct Place<'a> {
    dir: &'a Path,
    durable: bool,
    password: Option<String>,
}

/// Starts both servers at once; PostgreSQL waits until `prepare` has provided its cluster.
async fn launch(
    programs: Programs,
    account: Account,
    root: &Root,
    scratch: &Scratch,
    place: Place<'_>,
    prepare: impl Future<Output = Result<(), Error>>,
) -> Result<(Postgres, Redis), Error> {
    let Place { dir, durable, password } = place;
    let sockets = scratch.path.join("run");
    let redis_data = dir.join("redis");
    for owned in [&sockets, &redis_data] {
        scratch::make_directory(owned, 0o700)?;
        account.own(owned).map_err(file_error(owned))?;
    }
    let redis = redis::Settings {
        program: programs.redis.clone(),
        account: account.clone(),
        data: redis_data,
        log: dir.join("redis.log"),
        durable,
        password: password.clone(),
    };
    let data = dir.join("postgres");
    let log = dir.join("postgres.log");
    let postgres = postgres::Settings { programs, account, data, sockets, log, durable, password };
    let ports = root.ports();
    tokio::try_join!(
        async {
            prepare.await?;
            Ok::<_, Error>(Postgres::launch(postgres, &ports).await?)
        },
        async { Ok(Redis::launch(redis, &ports).await?) },
    )
}

/// Takes the directory's lock, which the system frees when this process ends in whatever way.
fn hold(dir: &Path) -> Result<File, Error> {
    let path = dir.join("lock");
    let mut lock = File::options()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .map_err(file_error(&path))?;
    match lock.try_lock() {
        Ok(()) => {
            let pid = std::process::id().to_string();
            lock.set_len(0).and_then(|()| lock.write_all(pid.as_bytes())).map_err(file_error(&path))?;
            Ok(lock)
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let known = lock.read_to_string(&mut holder).is_ok() && !holder.is_empty();
            let holder = if known { holder } else { "unknown".into() };
            Err(Error::InUse { dir: dir.to_owned(), holder })
        }
        Err(TryLockError::Error(source)) => Err(file_error(&path)(source)),
    }
}

/// Reads the directory's password, inventing it at the first start. The file belongs to the servers'
/// account, because `initdb` reads it.
fn password(path: &Path, account: &Account) -> Result<String, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file_error(path)(error)),
        _ => {}
    }
    let mut random = [0_u8; 24];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut random))
        .map_err(file_error(path))?;
    let password: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(password.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| account.own(path))
        .map_err(file_error(path))?;
    Ok(password)
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { path, source }
}

/// An SQL identifier that means exactly `name`.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
