//! The addresses of a cluster's instances, which may change while they are in use.

use std::sync::Arc;

use arc_swap::ArcSwap;

/// Base URLs of instances. Clones share the list, so that whoever restarts an instance on another port tells every
/// client of it at once.
#[derive(Clone, Debug)]
pub struct Addresses(Arc<ArcSwap<Vec<String>>>);

impl Addresses {
    /// The base URLs, e.g. `http://127.0.0.1:8080`, best first; a slash at the end does not matter.
    pub fn new(addresses: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(tidy(addresses))))
    }

    /// Replaces the list.
    pub fn set(&self, addresses: impl IntoIterator<Item = impl AsRef<str>>) {
        self.0.store(Arc::new(tidy(addresses)));
    }

    /// The list as it is now.
    pub fn list(&self) -> Arc<Vec<String>> {
        self.0.load_full()
    }
}

fn tidy(addresses: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<String> {
    addresses.into_iter().map(|address| address.as_ref().trim().trim_end_matches('/').to_owned()).collect()
}
