//! `[cluster]` and `[http]`: who this member is and where it listens.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::json;

use super::layers::PORT_KEY;
use super::reader::{Reader, shown};

/// Who this member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The cluster's name: part of its Redis keys, and what an operator types to confirm a change.
    pub name: String,
    /// This member's stable name, unique in the cluster; the host name unless set.
    pub member: String,
    /// Candidates wait priority · 25 ms; 0 never leads.
    pub priority: u8,
    /// The advertised base URL, if set; see [`super::Config::address`].
    pub address: Option<String>,
    /// When leadership that keeps moving against anybody's will sets reduce-only; none = never.
    pub flapping: Option<Flapping>,
}

/// How many involuntary takeovers within which time are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flapping {
    /// So many are still taken as they come.
    pub most: u32,
    /// Within this time.
    pub within: Duration,
}

/// The HTTP interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
}

const NAME: &str = "1 to 40 letters, digits, '-', '_' or '.', starting with a letter or digit";

/// 40, because the names are part of PostgreSQL's `application_name`, which it cuts at 63 bytes.
fn is_name(text: &str) -> bool {
    text.len() <= 40
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

pub(super) fn is_http_url(text: &str) -> bool {
    reqwest::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

pub(super) fn derived_address(member: &str, bound: SocketAddr) -> String {
    if bound.ip().is_unspecified() {
        format!("http://{member}:{}", bound.port())
    } else {
        format!("http://{bound}")
    }
}

impl Cluster {
    pub(super) fn read(reader: &mut Reader, hostname: &str, listen: SocketAddr) -> Self {
        let name = reader.text("cluster.name", Some("baton"), NAME, is_name).unwrap_or_default();
        let hostname = Some(hostname).filter(|name| !name.is_empty());
        let member = reader.text("cluster.member", hostname, NAME, is_name);
        if member.as_deref().is_none_or(|member| !is_name(member)) && reader.sound(&["cluster.member"]) {
            let advice = "this machine's host name will not do; set cluster.member in the file or BATON_CLUSTER__MEMBER";
            reader.missing("cluster.member", advice);
        }
        let member = member.unwrap_or_default();
        let priority = reader.whole("cluster.priority", 1, 0..=100, "(0 = never leads)");
        let priority = u8::try_from(priority).unwrap_or(u8::MAX);
        let derived = derived_address(&member, listen);
        let text = reader.text("cluster.address", Some(&derived), "an http:// or https:// URL", is_http_url);
        let address = text.filter(|_| reader.is_set("cluster.address"));
        let address = address.map(|url| url.trim_end_matches('/').to_owned());
        let most =
            reader.whole("cluster.flap_limit", 3, 0..=1_000_000, "involuntary takeovers (0 = no guard)");
        let within = Duration::from_secs(reader.whole("cluster.flap_window_s", 300, 1..=86_400, "s"));
        let flapping = (most > 0).then(|| Flapping { most: u32::try_from(most).unwrap_or(u32::MAX), within });
        Self { name, member, priority, address, flapping }
    }
}

impl Http {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let default = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
        let found = reader.take("http.listen");
        let mut listen = default;
        if let Some(found) = &found {
            match found.value.as_str().and_then(|text| text.parse().ok()) {
                Some(address) => listen = address,
                None => reader.invalid(
                    "http.listen",
                    shown(&found.value),
                    "an IP address with a port, e.g. \"127.0.0.1:8080\" or \"0.0.0.0:8080\"",
                ),
            }
        }
        if let Some(port) = reader.take(PORT_KEY) {
            match port.value.as_str().and_then(|text| text.trim().parse::<u16>().ok()) {
                // BATON_HTTP__LISTEN says more than PORT, so it wins.
                Some(_) if found.as_ref().is_some_and(|found| found.is_env()) => {}
                // Platforms that hand out a PORT reach it from outside, so loopback alone would not do.
                Some(port) if found.is_none() => listen = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), port).into(),
                Some(port) => listen.set_port(port),
                None => reader.invalid(PORT_KEY, shown(&port.value), "a port from 0 to 65535"),
            }
        }
        // On a tie the last setter is named, and BATON_HTTP__LISTEN beats PORT.
        reader.note_from("http.listen", &[PORT_KEY, "http.listen"], json!(listen.to_string()));
        Self { listen }
    }
}
