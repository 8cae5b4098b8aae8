//! `[traces]`: where the traces of signals go.

use super::cluster::is_http_url;
use super::reader::Reader;

/// Traces by OTLP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces {
    /// The collector's base URL (`/v1/traces` is appended); none = no traces.
    pub endpoint: Option<String>,
    /// Of a hundred signals, how many are traced.
    pub sample_percent: u8,
}

impl Traces {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let allowed = "the http:// or https:// URL of a collector that takes OTLP over HTTP, without a user or password in it, or empty for none";
        let endpoint =
            reader.text("traces.endpoint", Some(""), allowed, |text| text.is_empty() || is_collector(text));
        let endpoint =
            endpoint.map(|url| url.trim_end_matches('/').trim_end_matches("/v1/traces").to_owned());
        let sample_percent = reader.whole("traces.sample_percent", 100, 0..=100, "percent") as u8;
        Self { endpoint: endpoint.filter(|url| !url.is_empty()), sample_percent }
    }
}

/// What authorises is no part of it: endpoints are shown, the headers of `OTEL_EXPORTER_OTLP_HEADERS` are not.
fn is_collector(text: &str) -> bool {
    let is_open = |url: reqwest::Url| url.username().is_empty() && url.password().is_none();
    is_http_url(text) && reqwest::Url::parse(text).is_ok_and(is_open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_an_http_url_without_credentials() {
        for url in ["http://collector:4318", "https://otlp.example/tenant/", "http://[::1]:4318/v1/traces"] {
            assert!(is_collector(url), "{url}");
        }
        for other in ["collector:4318", "grpc://collector:4317", "http://user:secret@collector", "http://"] {
            assert!(!is_collector(other), "{other}");
        }
    }
}
