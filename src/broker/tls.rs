//! One TLS configuration for orders and reads, with the crypto provider named: nothing depends on a process-wide
//! default having been installed first.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Builds the configuration. `https` says whether trust anchors are needed; without it none are loaded.
/// `ca_file` names further ones.
pub(crate) fn client_config(https: bool, ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let roots = if https { roots(ca_file)? } else { RootCertStore::empty() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca_file {
        let problem = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| problem(&error))? {
            let certificate = certificate.map_err(|error| problem(&error))?;
            roots.add(certificate).map_err(|error| problem(&error))?;
        }
    }
    let found = rustls_native_certs::load_native_certs();
    // Systems carry certificates that cannot be parsed; one usable anchor is what matters.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        return Err(format!("the system's store holds none that can be read {errors:?}"));
    }
    Ok(roots)
}
