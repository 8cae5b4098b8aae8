//! What only the inside shows: the socket's options, and the proof of an unwritten request.

use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use super::*;

async fn open(user_timeout: Duration) -> (TcpListener, Wire) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target {
        host: "127.0.0.1".to_owned(),
        port: listener.local_addr().unwrap().port(),
        resolver: Resolver::default(),
        authority: HeaderValue::from_static("bridge"),
        tls: None,
        user_timeout,
        connect_timeout: Duration::from_secs(5),
    };
    let wire = Wire::open(&target).await.unwrap();
    (listener, wire)
}

fn written() -> Written {
    Written { path: Uri::from_static("/api/v1/placeorder"), body: Bytes::from_static(b"{}") }
}

#[tokio::test]
async fn the_kernel_is_told_to_forget_unreceived_bytes() {
    let user_timeout = Duration::from_millis(1234);
    let (_listener, wire) = open(user_timeout).await;
    assert_eq!(wire.socket.tcp_user_timeout().unwrap(), Some(user_timeout));
    assert_eq!(wire.socket.linger().unwrap(), Some(Duration::ZERO));
    assert!(wire.socket.tcp_nodelay().unwrap());
}

#[tokio::test]
async fn a_request_that_is_handed_back_was_not_written() {
    let (listener, mut wire) = open(Duration::from_secs(2)).await;
    let (mut server, _) = listener.accept().await.unwrap();
    assert!(wire.is_ready());
    // Half closed: the server would still receive whatever is written.
    SockRef::from(&server).shutdown(std::net::Shutdown::Write).unwrap();
    let closed = async {
        while wire.is_ready() || !wire.ended {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), closed).await.unwrap();

    let fault = wire.exchange(written(), &|| true).await.unwrap_err();
    assert!(matches!(fault, Fault::HandedBack(_)), "{fault:?}");
    drop(wire);
    let mut received = Vec::new();
    let _ = server.read_to_end(&mut received).await;
    assert!(received.is_empty(), "{received:?}");
}
