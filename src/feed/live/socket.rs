//! Connecting: the shared resolver finds the address, then TCP, TLS where the URL says so, and the handshake.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use rustls::ClientConfig;
use secrecy::SecretString;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use super::time::{Time, within};
use crate::broker::dns::Resolver;
use crate::broker::tls_config;

/// The longest that all of connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// Unacknowledged bytes end the connection after this.
const USER_TIMEOUT: Duration = Duration::from_secs(10);
/// A frame of the proxy is a few hundred bytes; a subscription's answer some more.
const FRAME_LIMIT_BYTES: usize = 1024 * 1024;

/// What bytes go over: TCP, or memory in simulated time.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// An open socket.
pub(super) type Socket = WebSocketStream<MaybeTlsStream<Box<dyn Wire>>>;

/// Makes a connection, before TLS and handshake.
pub(super) type Dial = dyn Fn() -> BoxFuture<'static, io::Result<Box<dyn Wire>>> + Send + Sync;

/// Where the proxy is.
#[derive(Clone)]
pub struct Endpoint {
    url: String,
    dial: Arc<Dial>,
    tls: Option<Arc<ClientConfig>>,
    /// The bridge's API key.
    pub(super) api_key: SecretString,
}

/// A URL that is none of a WebSocket.
#[derive(Debug, thiserror::Error)]
#[error("feed.url {url:?} is no WebSocket address ({problem}); use for example ws://127.0.0.1:8765")]
pub struct BadEndpoint {
    url: String,
    problem: String,
}

/// Why no socket is there.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("no connection to {0}: {1}")]
    Tcp(String, #[source] std::io::Error),
    #[error("the handshake with {0} failed: {1}")]
    Handshake(String, #[source] Box<tokio_tungstenite::tungstenite::Error>),
    #[error("no connection to {url} within {} s", CONNECT.as_secs())]
    TimedOut { url: String },
}

impl Endpoint {
    /// The proxy at `url` (`ws://` or `wss://`), reached by `resolver`; `ca_file` names authorities beside the system's.
    ///
    /// # Errors
    /// The URL cannot be one, or no trust anchors were found for `wss://`.
    pub fn new(
        url: &str,
        api_key: SecretString,
        resolver: Resolver,
        ca_file: Option<&Path>,
    ) -> Result<Self, BadEndpoint> {
        let bad = |problem: &str| BadEndpoint { url: url.to_owned(), problem: problem.to_owned() };
        let parsed = reqwest::Url::parse(url).map_err(|error| bad(&error.to_string()))?;
        let secure = match parsed.scheme() {
            "ws" => false,
            "wss" => true,
            _ => return Err(bad("neither ws nor wss")),
        };
        let host = parsed.host_str().ok_or_else(|| bad("no host"))?;
        let port = parsed.port_or_known_default().ok_or_else(|| bad("no port"))?;
        let tls = match secure {
            true => Some(Arc::new(tls_config(true, ca_file).map_err(|problem| bad(&problem))?)),
            false => None,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let dial = Arc::new(move || tcp(resolver.clone(), host.clone(), port).boxed());
        Ok(Self { url: url.to_owned(), dial, tls, api_key })
    }

    /// The same, reached in another way.
    #[cfg(test)]
    pub(super) fn dialled(self, dial: Arc<Dial>) -> Self {
        Self { dial, ..self }
    }

    /// The URL, for display.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub(super) async fn connect(&self, time: &dyn Time) -> Result<Socket, ConnectError> {
        let connected = within(time, CONNECT, Box::pin(self.open())).await;
        connected.unwrap_or_else(|| Err(ConnectError::TimedOut { url: self.url.clone() }))
    }

    async fn open(&self) -> Result<Socket, ConnectError> {
        let wire = (self.dial)().await.map_err(|error| ConnectError::Tcp(self.url.clone(), error))?;
        let connector = match &self.tls {
            Some(config) => Connector::Rustls(Arc::clone(config)),
            None => Connector::Plain,
        };
        let limits = WebSocketConfig::default()
            .max_message_size(Some(FRAME_LIMIT_BYTES))
            .max_frame_size(Some(FRAME_LIMIT_BYTES));
        let (socket, _) = client_async_tls_with_config(&self.url, wire, Some(limits), Some(connector))
            .await
            .map_err(|error| ConnectError::Handshake(self.url.clone(), Box::new(error)))?;
        Ok(socket)
    }
}

async fn tcp(resolver: Resolver, host: String, port: u16) -> io::Result<Box<dyn Wire>> {
    let tcp = resolver.connect(&host, port).await?;
    tcp.set_nodelay(true)?;
    SockRef::from(&tcp).set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(Box::new(tcp))
}
