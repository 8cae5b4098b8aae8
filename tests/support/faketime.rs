//! Wall clocks that can be stepped, one a member (libfaketime); the monotonic clocks stay true.

use std::path::{Path, PathBuf};

use super::process::Launch;

/// The library, where Debian puts it; `ops/setup --dev` installs it.
pub fn library() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("BATON_FAKETIME_LIBRARY") {
        return Some(named.into());
    }
    let folders = std::fs::read_dir("/usr/lib").ok()?;
    let mut found = folders.flatten().map(|entry| entry.path().join("faketime/libfaketime.so.1"));
    found.find(|path| path.exists())
}

/// Gives a member that is to be started a clock of its own, which is right at first.
pub fn preload(launch: &mut Launch, library: &Path) {
    let member = launch.env["BATON_CLUSTER__MEMBER"].clone();
    step(&launch.folder, &member, 0);
    let set = [
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", file(&launch.folder, &member).display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        // Only the wall clock is a lie.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    launch.env.extend(set.map(|(key, value)| (key.to_owned(), value)));
}

/// Has the clock of a member be so many seconds ahead.
pub fn step(folder: &Path, member: &str, seconds: i64) {
    let path = file(folder, member);
    let new = path.with_extension("new");
    std::fs::write(&new, format!("{seconds:+}\n")).unwrap();
    // Whole or not at all: the member reads it at any moment.
    std::fs::rename(new, path).unwrap();
}

fn file(folder: &Path, member: &str) -> PathBuf {
    folder.join(format!("{member}.clock"))
}
