//! Who may change things: an operator, proven by `operator.token`.
//!
//! A handler that changes anything takes an [`Operator`]; without one axum does not call it. With a token configured
//! the request must carry it. Without one, only an instance that listens on loopback lets operators in, and only
//! under a loopback name: a web page that resolves its own name to 127.0.0.1 stays outside.

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};

use super::credentials::{bearer, matches};
use super::{Context, Problem};
use crate::config::OPERATOR_HEADER;

/// The longest name that is kept.
const NAME_CHARS: usize = 60;

/// Somebody who may change things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Who: what the caller says, `api` if it says nothing. Kept in histories; it decides nothing.
    pub name: String,
}

impl FromRequestParts<Context> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, Problem> {
        let config = &context.0.config;
        let token = config.operator.token.as_ref();
        let allowed = match token {
            Some(_) => matches(token, bearer(&parts.headers).as_ref()),
            None if config.http.listen.ip().is_loopback() => names_loopback(&parts.headers),
            None => {
                return Err(Problem::new(
                    StatusCode::FORBIDDEN,
                    "OPERATOR_DISABLED",
                    "this instance can be reached from other machines and has no operator.token, so it takes no \
                     commands; set BATON_OPERATOR__TOKEN (or …_FILE) on every instance",
                ));
            }
        };
        if !allowed {
            return Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "UNAUTHORIZED",
                "send `Authorization: Bearer <operator.token>`",
            ));
        }
        Ok(Self { name: name(&parts.headers) })
    }
}

/// The request was addressed to this machine's loopback by name or number.
fn names_loopback(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn name(headers: &HeaderMap) -> String {
    let said = headers.get(OPERATOR_HEADER).and_then(|name| name.to_str().ok()).unwrap_or_default();
    let name: String = said.trim().chars().take(NAME_CHARS).collect();
    if name.is_empty() { "api".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
    }

    #[test]
    fn only_loopback_names_count_as_loopback() {
        for host in ["127.0.0.1:8080", "localhost", "LOCALHOST:1", "[::1]:8080", "127.8.9.1"] {
            assert!(names_loopback(&headers("host", host)), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example:80", "10.0.0.1:8080", "", "[::2]"] {
            assert!(!names_loopback(&headers("host", host)), "{host}");
        }
        assert!(!names_loopback(&HeaderMap::new()));
    }

    #[test]
    fn an_operator_has_a_short_name() {
        assert_eq!(name(&HeaderMap::new()), "api");
        assert_eq!(name(&headers(OPERATOR_HEADER, "  asha ")), "asha");
        let long = "x".repeat(500);
        let headers = HeaderMap::from_iter([(OPERATOR_HEADER.parse().unwrap(), long.parse().unwrap())]);
        assert_eq!(name(&headers).len(), NAME_CHARS);
    }
}
