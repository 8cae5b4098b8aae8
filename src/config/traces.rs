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
        let allowed =
            "the http:// or https:// URL of a collector that takes OTLP over HTTP, or empty for none";
        let endpoint =
            reader.text("traces.endpoint", Some(""), allowed, |text| text.is_empty() || is_http_url(text));
        let endpoint =
            endpoint.map(|url| url.trim_end_matches('/').trim_end_matches("/v1/traces").to_owned());
        let sample_percent = reader.whole("traces.sample_percent", 100, 0..=100, "percent") as u8;
        Self { endpoint: endpoint.filter(|url| !url.is_empty()), sample_percent }
    }
}
