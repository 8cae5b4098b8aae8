//! One connection to the bridge for one order request at a time.
//!
//! The HTTP connection is driven by the sending task itself, not by a task of its own: `may_send`, the encoding
//! and the first `write` happen in one poll, with no scheduling in between. A request that hyper gives back is
//! proof that nothing was written: `TrySendError` carries the message only while it still lies in the queue
//! before the encoder, which takes it apart on receipt (hyper 1.12, `client/dispatch.rs` and
//! `proto/h1/dispatch.rs::Client::poll_msg`). Every other error after that point proves nothing.
//!
//! The socket's linger time is zero from the start, so however the connection ends (timeout, dropped future,
//! killed process) the kernel discards what the bridge has not received instead of delivering it later; bytes
//! in flight die with `TCP_USER_TIMEOUT`.

use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, Socket};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::dns::Resolver;
use super::outcome::{Answer, Fault};
use crate::causes::with_causes;

/// An order answer is a few hundred bytes; more is no answer.
const ANSWER_LIMIT_BYTES: usize = 256 * 1024;

/// Where and how to connect.
pub(super) struct Target {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Finds the host's address.
    pub resolver: Resolver,
    /// The `host` header.
    pub authority: HeaderValue,
    /// Set for https.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// `TCP_USER_TIMEOUT`.
    pub user_timeout: Duration,
    /// Limit for name resolution, TCP and TLS together.
    pub connect_timeout: Duration,
}

/// A serialised order request.
pub(super) struct Written {
    /// The path with its prefix.
    pub path: Uri,
    /// The JSON body.
    pub body: Bytes,
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

type Stream = TokioIo<Box<dyn Io>>;

/// An open connection, idle or carrying one request.
pub(super) struct Wire {
    sender: SendRequest<Full<Bytes>>,
    connection: Connection<Stream, Full<Bytes>>,
    /// The connection future has finished and must not be polled again.
    ended: bool,
    /// The same socket, for asking the kernel directly whether the bridge has closed it.
    socket: Socket,
    tls: bool,
    authority: HeaderValue,
    idle_since: Instant,
}

// === impl Wire ===

impl Wire {
    /// Connects. Every error here is from before the first byte of a request.
    pub async fn open(target: &Target) -> Result<Self, Fault> {
        match tokio::time::timeout(target.connect_timeout, Self::connect(target)).await {
            Ok(Ok(wire)) => Ok(wire),
            Ok(Err(error)) => Err(Fault::Connect(error.to_string())),
            Err(_) => Err(Fault::Connect(format!("none within {} ms", target.connect_timeout.as_millis()))),
        }
    }

    async fn connect(target: &Target) -> io::Result<Self> {
        let tcp = target.resolver.connect(&target.host, target.port).await?;
        let socket = SockRef::from(&tcp);
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_user_timeout(Some(target.user_timeout))?;
        socket.set_linger(Some(Duration::ZERO))?;
        let socket = socket.try_clone()?;
        let stream: Box<dyn Io> = match &target.tls {
            None => Box::new(tcp),
            Some((config, name)) => {
                Box::new(TlsConnector::from(config.clone()).connect(name.clone(), tcp).await?)
            }
        };
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let authority = target.authority.clone();
        Ok(Self {
            sender,
            connection,
            ended: false,
            socket,
            tls: target.tls.is_some(),
            authority,
            idle_since: Instant::now(),
        })
    }

    /// How long nothing has been sent on it.
    pub fn idle_for(&self) -> Duration {
        self.idle_since.elapsed()
    }

    /// Says whether a request may be started on it: still open as far as this side can know, nothing unread,
    /// the previous answer fully received. Asks the kernel too, whose news may not have reached the runtime.
    pub fn is_ready(&mut self) -> bool {
        self.poll_connection(&mut Context::from_waker(Waker::noop()));
        if self.ended || !self.sender.is_ready() {
            return false;
        }
        let mut byte = [MaybeUninit::uninit()];
        match self.socket.peek(&mut byte) {
            // Unread bytes: under TLS session tickets, in the open an answer that nobody asked for.
            Ok(length) => length > 0 && self.tls,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    /// Writes the request if `may_send` says yes, and reads the whole answer.
    ///
    /// The caller bounds the time and drops the connection after any error.
    pub async fn exchange(
        &mut self,
        written: Written,
        may_send: &(dyn Fn() -> bool + Send + Sync),
    ) -> Result<Answer, Fault> {
        let mut request = Request::new(Full::new(written.body));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = written.path;
        request.headers_mut().insert(HOST, self.authority.clone());
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));

        // From here to the first poll of `drive` nothing awaits. `unconstrained`: the runtime's fairness budget
        // must not come between the check and the write either.
        if !may_send() {
            return Err(Fault::Withheld);
        }
        let response = self.sender.try_send_request(request);
        let connection = &mut self.connection;
        let ended = &mut self.ended;
        let result = tokio::task::coop::unconstrained(async {
            let response = match drive(connection, ended, response).await {
                Some(Ok(response)) => response,
                Some(Err(mut error)) => {
                    let unwritten = error.take_message().is_some();
                    let text = with_causes(&error.into_error());
                    return Err(if unwritten { Fault::HandedBack(text) } else { Fault::Broken(text) });
                }
                None => return Err(Fault::Broken("the connection ended".to_owned())),
            };
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_LIMIT_BYTES).collect();
            match drive(connection, ended, body).await {
                Some(Ok(body)) => Ok((head, body.to_bytes())),
                Some(Err(error)) => Err(Fault::Broken(with_causes(error.as_ref()))),
                None => Err(Fault::Broken("the connection ended within the answer".to_owned())),
            }
        })
        .await;
        self.idle_since = Instant::now();
        let (head, body) = result?;
        let content_type = head.headers.get(CONTENT_TYPE);
        Ok(Answer {
            status: head.status.as_u16(),
            content_type: content_type.map(|kind| String::from_utf8_lossy(kind.as_bytes()).into_owned()),
            body: body.to_vec(),
        })
    }

    fn poll_connection(&mut self, cx: &mut Context<'_>) {
        poll_once(&mut self.connection, &mut self.ended, cx);
    }
}

/// Runs `work` to its end while driving the connection that feeds it; `None` if the connection ended first.
async fn drive<F: Future>(
    connection: &mut Connection<Stream, Full<Bytes>>,
    ended: &mut bool,
    work: F,
) -> Option<F::Output> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        poll_once(connection, ended, cx);
        match work.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if *ended => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Polls the connection unless it has ended. Its own error says nothing more than the request's does.
fn poll_once(connection: &mut Connection<Stream, Full<Bytes>>, ended: &mut bool, cx: &mut Context<'_>) {
    if !*ended && Pin::new(connection).poll(cx).is_ready() {
        *ended = true;
    }
}

#[cfg(test)]
mod tests;
