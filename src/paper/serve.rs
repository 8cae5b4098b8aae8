//! An HTTP/1 accept loop that can cut a connection instead of answering, and closes idle ones.
//!
//! `axum::serve` can do neither: a handler has no way to end its connection without a byte, which is what a lost
//! acknowledgement looks like from the outside.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

use super::hub::Hub;

/// Put into a response's extensions: the connection ends here, and nothing of the response is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut;

#[derive(Debug, thiserror::Error)]
#[error("the paper bridge cut this connection as a fault asked")]
struct CutByFault;

/// Accepts until the bridge stops. `idle` closes connections that wait that long for a request.
pub(super) async fn serve(hub: Arc<Hub>, listener: TcpListener, router: Router, idle: Duration) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = hub.cancel.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (router, cancel) = (router.clone(), hub.cancel.clone());
                hub.tasks.spawn(async move {
                    tokio::select! {
                        () = converse(stream, peer, router, idle) => (),
                        () = cancel.cancelled() => (),
                    }
                });
            }
            Err(error) => {
                // Out of descriptors: the listener stays; give others a moment to close theirs.
                tracing::warn!(%error, "paper bridge could not accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, peer: SocketAddr, router: Router, idle: Duration) {
    // Small answers must not wait for a full segment.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let router = router.clone();
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            let response: Result<Response, Infallible> = router.oneshot(request).await;
            let Ok(response) = response;
            if response.extensions().get::<Cut>().is_some() { Err(CutByFault) } else { Ok(response) }
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::trace!(%error, %peer, "paper bridge connection ended");
    }
}
