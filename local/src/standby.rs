//! A streaming replica of a private PostgreSQL: what a failover promotes.

use std::fs::File;
use std::path::Path;

use rustix::process::Signal;

use crate::Postgres;
use crate::postgres::{Error, Settings};
use crate::process::{Launch, Process};
use crate::template::tail;

impl Postgres {
    /// Copies the running server into `data`, which must not exist, and starts the copy as a replica that streams from
    /// it, on a port of its own. Kept stores only: temporary ones write no log that could be streamed.
    ///
    /// # Errors
    /// The copy fails, or the replica does not start.
    pub async fn standby(&self, data: &Path, log: &Path) -> Result<Self, Error> {
        let settings = self.settings();
        let account = &settings.account;
        let failed = |tail: String| Error::Copy { tail };
        let io = |error: std::io::Error| failed(error.to_string());
        std::fs::create_dir(data).and_then(|()| account.own(data)).map_err(io)?;
        set_private(data).map_err(io)?;
        let out = File::options().create(true).append(true).open(log).map_err(io)?;
        let launch = Launch {
            program: settings.programs.postgres.with_file_name("pg_basebackup"),
            arguments: ["-D", &data.display().to_string(), "-R", "-X", "stream", "-c", "fast", "-d"]
                .into_iter()
                .map(str::to_owned)
                .chain([self.url("postgres")])
                .collect(),
            log: out,
            last_signal: Signal::KILL,
        };
        let copied = Process::start(launch, account).await?.wait().await;
        if !copied.is_some_and(|status| status.success()) {
            return Err(failed(tail(log, 0)));
        }
        let settings = Settings { data: data.to_owned(), log: log.to_owned(), ..settings.clone() };
        Self::launch(settings, self.ports()).await
    }
}

fn set_private(directory: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))
}
