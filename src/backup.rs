//! The ledger as a file, and back: PostgreSQL's own programs do the copying, the ledger judges what was copied.
//!
//! They are found where the private stores' programs are, and are told in their environment where the database is: a
//! command line can be read by everybody on the machine.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use local::Binaries;
use secrecy::ExposeSecret;
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use crate::config::Postgres;
use crate::ledger::LedgerError;

/// Ledgers that a restore has put aside are no part of a backup.
const PUT_ASIDE: &str = "before_restore_*";
/// Where distributions keep the authorities that they trust.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A program is missing.
    #[error(transparent)]
    Program(#[from] local::binaries::Error),
    /// A file cannot be used.
    #[error("{} cannot be used", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Something is there already.
    #[error("{} is there already: a backup overwrites nothing, give it another name", .0.display())]
    Exists(PathBuf),
    /// A program gave up.
    #[error("`{program}` failed ({status}): {said}")]
    Failed {
        /// Which.
        program: &'static str,
        /// How it ended.
        status: String,
        /// Its last words.
        said: String,
    },
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Copies the moment of the database that `snapshot` names into `file`, whole or not at all, for this user alone; gives
/// its size in bytes.
///
/// # Errors
/// Nothing is at `file` then that was not there before.
pub async fn dump(postgres: &Postgres, snapshot: &str, file: &Path) -> Result<u64, BackupError> {
    let failed = |source| BackupError::File { path: file.to_owned(), source };
    if file.exists() {
        return Err(BackupError::Exists(file.to_owned()));
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let part = NamedTempFile::new_in(folder).map_err(failed)?;
    let link = Link::to(postgres)?;
    let mut command = link.command("pg_dump")?;
    command.args(["--format=custom", "--no-owner", "--no-privileges", "--no-password"]);
    command.args([format!("--snapshot={snapshot}"), format!("--exclude-schema={PUT_ASIDE}")]);
    command.arg("--file").arg(part.path());
    finish("pg_dump", command.spawn().map_err(failed)?).await?;
    // Its table of contents stands at its end, so a copy that lists is a copy that was written to its end.
    let mut list = Command::new(Binaries::from_env().client("pg_restore")?);
    list.arg("--list").arg(part.path());
    finish("pg_restore", quiet(&mut list).spawn().map_err(failed)?).await?;
    let copied = File::open(part.path()).map_err(failed)?;
    copied.sync_all().map_err(failed)?;
    let bytes = copied.metadata().map_err(failed)?.len();
    // Never over what somebody wrote there meanwhile.
    part.persist_noclobber(file).map_err(|error| failed(error.error))?;
    Ok(bytes)
}

/// A backup being read as SQL.
pub struct Script {
    child: Child,
    /// The statements and rows.
    pub text: BufReader<ChildStdout>,
}

impl Script {
    /// Begins to read `file`.
    ///
    /// # Errors
    /// There is no such file, or no program to read it.
    pub fn of(file: &Path) -> Result<Self, BackupError> {
        let failed = |source| BackupError::File { path: file.to_owned(), source };
        File::open(file).map_err(failed)?;
        let mut command = Command::new(Binaries::from_env().client("pg_restore")?);
        command.args(["--no-owner", "--no-privileges", "--file=-"]).arg(file);
        let mut child = quiet(&mut command).stdout(Stdio::piped()).spawn().map_err(failed)?;
        let text = child.stdout.take().expect("its output was piped a line above");
        Ok(Self { child, text: BufReader::new(text) })
    }

    /// Parts the text from what tells how the reading ended.
    pub fn parts(self) -> (BufReader<ChildStdout>, impl AsyncFnOnce() -> Result<(), BackupError>) {
        let Self { child, text } = self;
        (text, async move || finish("pg_restore", child).await)
    }
}

/// How libpq's programs reach a database.
struct Link {
    environment: Vec<(&'static str, OsString)>,
    /// The authorities, for as long as a program may read them.
    _authorities: Option<NamedTempFile>,
}

impl Link {
    fn to(postgres: &Postgres) -> Result<Self, BackupError> {
        let mut environment = parameters(&postgres.session);
        let mode = match postgres.session.get_ssl_mode() {
            SslMode::Disable => "disable",
            SslMode::Require if postgres.url.expose_secret().contains("sslmode=verify-full") => "verify-full",
            SslMode::Require => "require",
            _ => "prefer",
        };
        environment.push(("PGSSLMODE", mode.into()));
        let mut authorities = None;
        if let Some(pem) = &postgres.ca {
            let failed = |source| BackupError::File { path: std::env::temp_dir(), source };
            let file = NamedTempFile::new().map_err(failed)?;
            std::fs::write(file.path(), pem).map_err(failed)?;
            environment.push(("PGSSLROOTCERT", file.path().into()));
            authorities = Some(file);
        } else if mode == "verify-full" {
            environment.push(("PGSSLROOTCERT", AUTHORITIES.into()));
        }
        Ok(Self { environment, _authorities: authorities })
    }

    fn command(&self, program: &'static str) -> Result<Command, BackupError> {
        let mut command = Command::new(Binaries::from_env().client(program)?);
        // The machine's own settings must not lead to another database.
        let own = std::env::vars_os().map(|(name, _)| name);
        own.filter(|name| name.to_string_lossy().starts_with("PG")).for_each(|name| {
            command.env_remove(name);
        });
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        quiet(&mut command);
        Ok(command)
    }
}

fn parameters(config: &Config) -> Vec<(&'static str, OsString)> {
    let listed = |words: Vec<String>| OsString::from(words.join(","));
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(folder) => folder.display().to_string(),
    });
    let addresses = config.get_hostaddrs().iter().map(ToString::to_string);
    let ports = config.get_ports().iter().map(ToString::to_string);
    let text = |value: Option<&str>| value.map(OsString::from);
    let password =
        config.get_password().map(|word| OsString::from(String::from_utf8_lossy(word).into_owned()));
    [
        ("PGHOST", Some(listed(hosts.collect()))),
        ("PGHOSTADDR", Some(listed(addresses.collect()))),
        ("PGPORT", Some(listed(ports.collect()))),
        ("PGUSER", text(config.get_user())),
        ("PGPASSWORD", password),
        ("PGDATABASE", text(config.get_dbname().or(config.get_user()))),
        ("PGOPTIONS", text(config.get_options())),
        ("PGCONNECT_TIMEOUT", text(Some("10"))),
        ("PGAPPNAME", text(Some("baton/backup"))),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value.filter(|value| !value.is_empty())?)))
    .collect()
}

/// A child that ends with this process, and of which only the complaints are heard.
fn quiet(command: &mut Command) -> &mut Command {
    command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped())
}

async fn finish(program: &'static str, mut child: Child) -> Result<(), BackupError> {
    let mut said = Vec::new();
    if let Some(mut stderr) = child.stderr.take() {
        // What cannot be read is not told; the status is.
        let _ = stderr.read_to_end(&mut said).await;
    }
    let failed = |status: String| BackupError::Failed {
        program,
        status,
        said: String::from_utf8_lossy(&said).trim().to_owned(),
    };
    match child.wait().await {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(status.to_string())),
        Err(error) => Err(failed(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(url: &str) -> Vec<(&'static str, String)> {
        let found = parameters(&url.parse().unwrap());
        let kept = found.into_iter().filter(|(name, _)| !["PGCONNECT_TIMEOUT", "PGAPPNAME"].contains(name));
        kept.map(|(name, value)| (name, value.into_string().unwrap())).collect()
    }

    #[test]
    fn a_url_becomes_the_environment_that_libpq_reads() {
        assert_eq!(
            environment("postgres://asha:s%20ecret@db1:5433,db2:5434/ledger?options=-c%20search_path%3Dx"),
            [
                ("PGHOST", "db1,db2"),
                ("PGPORT", "5433,5434"),
                ("PGUSER", "asha"),
                ("PGPASSWORD", "s ecret"),
                ("PGDATABASE", "ledger"),
                ("PGOPTIONS", "-c search_path=x"),
            ]
            .map(|(name, value)| (name, value.to_owned()))
        );
        assert_eq!(
            environment("host=/run/postgresql user=baton"),
            [("PGHOST", "/run/postgresql"), ("PGUSER", "baton"), ("PGDATABASE", "baton")]
                .map(|(name, value)| (name, value.to_owned()))
        );
    }
}
