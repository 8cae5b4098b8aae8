//! Named places in an order's way, and in a recovery's, at which a test makes the process die, stop or
//! hang.
//!
//! Present only in builds with the `fail-points` feature; elsewhere every call is empty. The file named by
//! `BATON_FAIL_POINT_FILE` holds one line, `<place> kill`, `<place> stop` or `<place> hang`, shared by all instances of a
//! cluster: the first process that reaches the place takes the file away and acts on itself.

/// The places, in the order an order passes them.
pub const PLACES: [&str; 7] = [
    "before_journal",
    "after_journal",
    "after_check",
    "after_write",
    "after_reply",
    "before_ack_commit",
    "before_fill_commit",
];

/// Where a signal's row can be seen and the leader that stored it has not handed it over.
pub const STORED: &str = "stored";

/// The places of a recovery and of a takeover, in the order they are passed.
pub const RECOVERY_PLACES: [&str; 4] =
    ["takeover_doubted", "recovery_read", "takeover_recovered", "takeover_books_read"];

#[cfg(feature = "fail-points")]
mod armed {
    use std::sync::OnceLock;
    use std::time::{Duration, Instant};

    use rustix::process::{Signal, getpid, kill_process};

    /// Long enough for the bytes to leave a warm connection, too short for a broker's answer.
    const WRITE_TIME: Duration = Duration::from_millis(2);
    /// By then the whole process is stopped, or gone.
    const EFFECT_TIME: Duration = Duration::from_millis(50);

    /// What befalls whoever comes to the place.
    #[derive(Clone, Copy, Debug)]
    enum Action {
        Signal(Signal),
        /// The thread comes no further; the others go on.
        Hang,
    }

    fn take(place: &str) -> Option<Action> {
        let path = std::env::var_os("BATON_FAIL_POINT_FILE")?;
        let line = std::fs::read_to_string(&path).ok()?;
        let action = line.trim().strip_prefix(place)?.trim();
        let action = match action {
            "kill" => Action::Signal(Signal::KILL),
            "stop" => Action::Signal(Signal::STOP),
            "hang" => Action::Hang,
            _ => return None,
        };
        // Removing is the claim: of two processes at the same place, one succeeds.
        std::fs::remove_file(&path).ok()?;
        Some(action)
    }

    fn act(action: Action) {
        match action {
            Action::Signal(signal) => {
                let _ = kill_process(getpid(), signal);
                // The signal may reach another thread first; this one goes no further before it takes effect.
                spin(EFFECT_TIME);
            }
            Action::Hang => loop {
                std::thread::park();
            },
        }
    }

    /// Dies, stops or hangs here, if this place is armed.
    pub fn hit(place: &str) {
        if let Some(action) = take(place) {
            tracing::warn!(place, "fail point: {action:?}");
            act(action);
        }
    }

    /// Dies or stops shortly after this call, if this place is armed.
    pub fn soon(place: &str) {
        if let Some(action) = take(place) {
            std::thread::spawn(move || {
                spin(WRITE_TIME);
                act(action);
            });
        }
    }

    /// What the file named by `BATON_ERROR_STORM_FILE` says, while it is there; none when no file is named.
    pub fn errors_a_second() -> Option<u32> {
        let path = std::env::var_os("BATON_ERROR_STORM_FILE")?;
        Some(std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0))
    }

    /// Migrations that this process holds beside the program's own, as the next version would: `V<number>__<name>.sql` in
    /// the folder named by `BATON_LATER_MIGRATIONS`.
    pub fn later_migrations() -> Vec<refinery::Migration> {
        let folder = std::env::var_os("BATON_LATER_MIGRATIONS");
        folder.and_then(|folder| refinery::load_sql_migrations(folder).ok()).unwrap_or_default()
    }

    /// The version that this process calls itself, as the next one would: `BATON_LATER_VERSION`, where it is set.
    pub fn version() -> &'static str {
        static VERSION: OnceLock<String> = OnceLock::new();
        let own = || env!("CARGO_PKG_VERSION").to_owned();
        VERSION.get_or_init(|| std::env::var("BATON_LATER_VERSION").unwrap_or_else(|_| own()))
    }

    fn spin(span: Duration) {
        let until = Instant::now() + span;
        while Instant::now() < until {
            std::hint::spin_loop();
        }
    }
}

#[cfg(feature = "fail-points")]
pub use armed::{errors_a_second, hit, later_migrations, soon, version};

/// Errors that this process is to raise a second, for a test of what a storm of them costs: none in this build.
#[cfg(not(feature = "fail-points"))]
#[inline(always)]
pub fn errors_a_second() -> Option<u32> {
    None
}

/// Migrations of a version to come: none in this build.
#[cfg(not(feature = "fail-points"))]
#[inline(always)]
pub fn later_migrations() -> Vec<refinery::Migration> {
    Vec::new()
}

/// The version that this process calls itself.
#[cfg(not(feature = "fail-points"))]
#[inline(always)]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Does nothing in this build.
#[cfg(not(feature = "fail-points"))]
#[inline(always)]
pub fn hit(_place: &str) {}

/// Does nothing in this build.
#[cfg(not(feature = "fail-points"))]
#[inline(always)]
pub fn soon(_place: &str) {}
