//! Secrets in requests: read from the `Authorization` header, compared without telling anything by the time it takes.

use http::{HeaderMap, header};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The token of `Authorization: Bearer …`, if there is one.
pub(super) fn bearer(headers: &HeaderMap) -> Option<SecretString> {
    let said = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let token = said.strip_prefix("Bearer ").or_else(|| said.strip_prefix("bearer "))?;
    Some(SecretString::from(token.trim().to_owned()))
}

/// Compares digests, so that neither content nor length shows in the time it takes.
pub(super) fn matches(expected: Option<&SecretString>, given: Option<&SecretString>) -> bool {
    let (Some(expected), Some(given)) = (expected, given) else { return false };
    let digest = |secret: &SecretString| Sha256::digest(secret.expose_secret().as_bytes());
    digest(expected).as_slice().ct_eq(digest(given).as_slice()).into()
}
