//! One TLS configuration for orders and reads, with the crypto provider named: nothing depends on a process-wide
//! default having been installed first.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

/// Builds the configuration. `https` says whether trust anchors are needed; without it none are loaded.
pub(super) fn client_config(https: bool) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    if https {
        let found = rustls_native_certs::load_native_certs();
        let (added, _unreadable) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
            return Err(format!("the system's store holds none that can be read {errors:?}"));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
