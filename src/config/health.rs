//! `[health]`: how often everything is looked at, how long a start may fail, and when restarts are a storm.
//!
//! The limits carry the names under which operators of the predecessor know them; times are in seconds.

use std::path::PathBuf;
use std::time::Duration;

use super::reader::Reader;

/// Limits of the checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Retries of the checks at the start, before the instance waits.
    pub max_startup_retries: u32,
    /// The wait before the first of them; doubled each time.
    pub startup_retry_delay_base: Duration,
    /// Between two rounds of checks while all pass, or after one failed for the first time.
    pub check_interval: Duration,
    /// Between two rounds while the instance waits.
    pub waiting_mode_check_interval: Duration,
    /// Tell again and again that the instance still waits.
    pub waiting_mode_send_hourly_status: bool,
    /// How often.
    pub waiting_mode_status_interval: Duration,
    /// How long one check may take.
    pub check_timeout: Duration,
    /// How far this machine's clock may be from the database's.
    pub max_clock_skew: Duration,
    /// The folder whose disk is looked at; the working directory unless set.
    pub disk_path: PathBuf,
    /// Free space below this is an error, in MB.
    pub min_disk_free_mb: u64,
    /// More starts than this within the window, none ended cleanly, are a restart storm.
    pub max_restarts: u32,
    /// That window.
    pub restart_window: Duration,
}

impl Health {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let retries = reader.whole("health.max_startup_retries", 3, 0..=100, "retries");
        let path = reader.text("health.disk_path", Some("."), "a folder", |text| !text.is_empty());
        let restarts = reader.whole("health.max_restarts", 10, 1..=1_000_000, "starts");
        Self {
            max_startup_retries: u32::try_from(retries).unwrap_or(u32::MAX),
            startup_retry_delay_base: reader.seconds("health.startup_retry_delay_base", 30, 1..=3600),
            check_interval: reader.seconds("health.check_interval", 30, 1..=3600),
            waiting_mode_check_interval: reader.seconds(
                "health.waiting_mode_check_interval",
                300,
                1..=86_400,
            ),
            waiting_mode_send_hourly_status: reader.flag("health.waiting_mode_send_hourly_status", true),
            waiting_mode_status_interval: reader.seconds(
                "health.waiting_mode_status_interval",
                3600,
                1..=86_400,
            ),
            check_timeout: reader.seconds("health.check_timeout", 10, 1..=120),
            max_clock_skew: Duration::from_millis(reader.whole(
                "health.max_clock_skew_ms",
                1000,
                10..=600_000,
                "ms",
            )),
            disk_path: PathBuf::from(path.unwrap_or_default()),
            min_disk_free_mb: reader.whole("health.min_disk_free_mb", 200, 0..=10_000_000, "MB"),
            max_restarts: u32::try_from(restarts).unwrap_or(u32::MAX),
            restart_window: reader.seconds("health.restart_window", 600, 1..=86_400),
        }
    }
}
