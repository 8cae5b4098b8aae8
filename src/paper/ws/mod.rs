//! The WebSocket proxy: its own listener, JSON text frames, ticks and the order stream.
//!
//! As on the real one nothing is replayed: who was not subscribed when something happened does not hear of it, and
//! nothing tells that the broker's session is dead; the ticks just stop.

mod messages;
mod session;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use super::faults::Fault;
use super::hub::Hub;

/// Accepts sockets until the bridge stops.
pub(super) async fn serve(hub: Arc<Hub>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = hub.cancel.cancelled() => return,
        };
        match accepted {
            Ok(_) if hub.lock().faults.holds(&Fault::StreamDown, None) => {
                hub.lock().streamed.refused_sockets += 1;
            }
            Ok((stream, peer)) => {
                let (session, cancel) = (session::run(Arc::clone(&hub), stream), hub.cancel.clone());
                hub.tasks.spawn(async move {
                    tokio::select! {
                        ended = session => {
                            if let Err(error) = ended {
                                tracing::trace!(%error, %peer, "paper bridge socket ended");
                            }
                        }
                        () = cancel.cancelled() => (),
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "paper bridge could not accept a WebSocket");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
