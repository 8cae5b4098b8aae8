//! How the stores' connections are protected: authorities from files, `sslmode` from the database's URL.
//!
//! `require` encrypts and believes whoever answers, as PostgreSQL's own clients do: it keeps listeners out, not
//! impostors. `verify-full` also wants a certificate for the host's name, signed by an authority that is trusted.

use std::path::PathBuf;
use std::sync::Arc;

use ha::PgTls;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use toml::Value;

use super::reader::{Reader, shown};

/// What is in a file of certificates in PEM, an optional path under `key`.
pub(super) fn authority(reader: &mut Reader, key: &str) -> Option<Vec<u8>> {
    authority_file(reader, key).map(|(_, pem)| pem)
}

/// A file of certificates in PEM, as an optional path under `key`, and what is in it: at least one.
pub(super) fn authority_file(reader: &mut Reader, key: &str) -> Option<(PathBuf, Vec<u8>)> {
    let allowed = "the path of a readable file of certificates in PEM";
    let found = reader.take(key);
    let path = match &found {
        Some(found) => match &found.value {
            Value::String(path) => Some(path.clone()),
            other => {
                reader.invalid(key, shown(other), allowed);
                None
            }
        },
        None => None,
    };
    reader.note(key, serde_json::json!(path));
    let path = path?;
    match std::fs::read(&path) {
        Ok(pem) if anchors(&pem).is_ok_and(|roots| !roots.is_empty()) => Some((path.into(), pem)),
        Ok(_) => {
            reader.invalid(key, format!("{path:?}, which holds no usable certificate"), allowed);
            None
        }
        Err(error) => {
            reader.invalid(key, format!("{path:?}, which cannot be read ({error})"), allowed);
            None
        }
    }
}

/// Reads a database URL, with the `sslmode` that PostgreSQL's own clients know.
pub(super) fn postgres(url: &str, ca: Option<&[u8]>) -> Result<(tokio_postgres::Config, PgTls), String> {
    let mode = sslmode(url);
    let plain = match mode {
        Some("verify-full") => url.replacen("sslmode=verify-full", "sslmode=require", 1),
        Some("verify-ca") => {
            return Err(
                "sslmode=verify-ca is not supported: say verify-full, and connect by the name in the \
                        certificate"
                    .to_owned(),
            );
        }
        _ => url.to_owned(),
    };
    // The parser's own message may quote a password.
    let parsed = plain.parse::<tokio_postgres::Config>().ok();
    let config = parsed.filter(|config| !config.get_hosts().is_empty() || !config.get_hostaddrs().is_empty());
    let config = config.ok_or_else(|| "postgres://user:password@host:port/database".to_owned())?;
    let tls = match (mode, ca) {
        (Some("verify-full"), ca) => rustls(Some(roots(ca)?))?,
        (_, Some(_)) => {
            return Err("postgres.ca_file is set, so the URL must end with ?sslmode=verify-full".to_owned());
        }
        (Some("require"), None) => rustls(None)?,
        _ => PgTls::None,
    };
    Ok((config, tls))
}

/// The value of `sslmode` in a URL or in `key=value` parameters.
fn sslmode(url: &str) -> Option<&str> {
    let is_boundary = |before: &str| before.is_empty() || before.ends_with(['?', '&', ' ']);
    let (at, _) = url.match_indices("sslmode=").find(|(at, _)| is_boundary(&url[..*at]))?;
    url[at + "sslmode=".len()..].split(['&', ' ']).next()
}

fn anchors(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}

/// The authorities of the file alone, else the system's.
fn roots(ca: Option<&[u8]>) -> Result<RootCertStore, String> {
    if let Some(pem) = ca {
        return anchors(pem);
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    match roots.is_empty() {
        true => {
            Err("this system has no trusted certificates: install ca-certificates or set postgres.ca_file"
                .to_owned())
        }
        false => Ok(roots),
    }
}

fn rustls(roots: Option<RootCertStore>) -> Result<PgTls, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let config = match roots {
        Some(roots) => builder.with_root_certificates(roots).with_no_client_auth(),
        None => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            .with_no_client_auth(),
    };
    Ok(PgTls::Rustls(tokio_postgres_rustls::MakeRustlsConnect::new(config)))
}

/// Believes any certificate, but only from whoever holds its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CA: &[u8] = include_bytes!("../../tests/broker/certs/localhost.crt");

    #[test]
    fn the_mode_is_found_in_urls_and_in_parameters() {
        assert_eq!(sslmode("postgres://u:p@h/d?sslmode=verify-full"), Some("verify-full"));
        assert_eq!(sslmode("postgres://u:p@h/d?connect_timeout=3&sslmode=require&x=1"), Some("require"));
        assert_eq!(sslmode("host=h sslmode=disable user=u"), Some("disable"));
        assert_eq!(sslmode("postgres://u:xsslmode=require@h/d"), None);
        assert_eq!(sslmode("postgres://u:p@h/d"), None);
    }

    #[test]
    fn each_mode_protects_as_it_says() {
        let tls = |url: &str, ca| postgres(url, ca).map(|(_, tls)| format!("{tls:?}"));
        for plain in
            ["postgres://u@h/d", "postgres://u@h/d?sslmode=disable", "postgres://u@h/d?sslmode=prefer"]
        {
            assert_eq!(tls(plain, None).unwrap(), "None", "{plain}");
        }
        assert_eq!(tls("postgres://u@h/d?sslmode=require", None).unwrap(), "Rustls");
        assert_eq!(tls("postgres://u@h/d?sslmode=verify-full", Some(CA)).unwrap(), "Rustls");
        assert!(tls("postgres://u@h/d?sslmode=verify-ca", Some(CA)).unwrap_err().contains("verify-full"));
        assert!(tls("postgres://u@h/d", Some(CA)).unwrap_err().contains("verify-full"));
        assert!(tls("postgres://u@h/d?sslmode=sometimes", None).is_err());
    }
}
