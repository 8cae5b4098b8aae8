//! A short name for "these settings", so that members which run with different ones are noticed.

use sha2::{Digest, Sha256};

use super::Config;

/// What each member may have for itself.
const OWN: [&str; 4] = ["cluster.member", "cluster.address", "cluster.priority", "http.listen"];

impl Config {
    /// Equal for members that were told the same. Secrets count as set or unset only: what is published must not help
    /// anybody to guess one.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for entry in self.entries.iter().filter(|entry| !OWN.contains(&entry.key.as_str())) {
            hash.update(format!("{}={}\n", entry.key, entry.value));
        }
        hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }
}
