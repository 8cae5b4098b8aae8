//! The way to the bridge, with the moment at which each order's first byte came by.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::support::cluster::PATIENCE;
use crate::support::process::Launch;

/// A relay before the bridge. Dropping it ends its connections.
pub struct Relay {
    address: SocketAddr,
    server: SocketAddr,
    seen: Arc<Seen>,
    _accepting: AbortOnDropHandle<()>,
}

/// When orders came by, by symbol.
struct Seen {
    moments: Mutex<HashMap<String, Vec<Instant>>>,
    count: watch::Sender<usize>,
}

/// What one connection has sent and is not a whole request yet.
#[derive(Default)]
struct Requests {
    pending: Vec<u8>,
    begun: Option<Instant>,
}

// === impl Relay ===

impl Relay {
    /// Listens before the bridge that a member's launch names.
    pub async fn before(launch: &Launch) -> Self {
        let url = reqwest::Url::parse(&launch.env["BATON_BROKER__URL"]).unwrap();
        let server = SocketAddr::from(([127, 0, 0, 1], url.port().unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen { moments: Mutex::default(), count: watch::Sender::new(0) });
        let accepting = tokio::spawn(accept(listener, server, Arc::clone(&seen)));
        Self { address, server, seen, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// Has a member reach the bridge through it.
    pub fn lead(&self, launch: &mut Launch) {
        let direct = &launch.env["BATON_BROKER__URL"];
        let through = direct.replace(&self.server.to_string(), &self.address.to_string());
        assert_ne!(*direct, through, "the way leads through the relay");
        launch.env.insert("BATON_BROKER__URL".to_owned(), through);
    }

    /// Orders that came by so far.
    pub fn count(&self) -> usize {
        *self.seen.count.borrow()
    }

    /// When the n-th order of a symbol came by, counted from 0, once it has.
    pub async fn passed(&self, symbol: &str, n: usize) -> Instant {
        let mut count = self.seen.count.subscribe();
        let look = async {
            loop {
                let moment =
                    self.seen.moments.lock().unwrap().get(symbol).and_then(|moments| moments.get(n).copied());
                match moment {
                    Some(moment) => return moment,
                    None => count.changed().await.expect("the relay lives"),
                }
            }
        };
        match tokio::time::timeout(PATIENCE, look).await {
            Ok(moment) => moment,
            Err(_) => panic!("order {n} of {symbol} did not come by within {PATIENCE:?}"),
        }
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, seen: Arc<Seen>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            Ok((client, _)) = listener.accept() => drop(connections.spawn(serve(client, server, Arc::clone(&seen)))),
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection, until one of its ends closes it.
async fn serve(client: TcpStream, server: SocketAddr, seen: Arc<Seen>) -> std::io::Result<()> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, mut to_client), (mut from_server, to_server)) =
        (client.into_split(), server.into_split());
    tokio::select! {
        ended = ask(from_client, to_server, &seen) => ended,
        ended = tokio::io::copy(&mut from_server, &mut to_client) => ended.map(|_| ()),
    }
}

/// Passes requests on, and notes the orders among them.
async fn ask(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, seen: &Seen) -> std::io::Result<()> {
    let (mut buffer, mut requests) = (vec![0; 16 * 1024], Requests::default());
    loop {
        let length = from.read(&mut buffer).await?;
        let at = Instant::now();
        if length == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..length]).await?;
        for (moment, symbol) in requests.heard(&buffer[..length], at) {
            seen.moments.lock().unwrap().entry(symbol).or_default().push(moment);
            seen.count.send_modify(|count| *count += 1);
        }
    }
}

// === impl Requests ===

impl Requests {
    /// Takes in what was read at a moment; gives the orders that are whole now, each with the moment of its first byte.
    fn heard(&mut self, bytes: &[u8], at: Instant) -> Vec<(Instant, String)> {
        let mut begun = self.begun.take().filter(|_| !self.pending.is_empty()).unwrap_or(at);
        self.pending.extend_from_slice(bytes);
        let mut orders = Vec::new();
        while let Some(length) = whole(&self.pending) {
            let rest = self.pending.split_off(length);
            let request = std::mem::replace(&mut self.pending, rest);
            orders.extend(ordered(&request).map(|symbol| (begun, symbol)));
            begun = at;
        }
        self.begun = Some(begun);
        orders
    }
}

/// The length of the first request, where all of it is there.
fn whole(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).expect("a head is ASCII").to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let whole = head + length.unwrap_or(0);
    (bytes.len() >= whole).then_some(whole)
}

/// The symbol of an order.
fn ordered(request: &[u8]) -> Option<String> {
    let line = request.split(|byte| *byte == b'\r').next()?;
    let target = line.strip_prefix(b"POST ")?.split(|byte| *byte == b' ').next()?;
    let body = request.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let body: Value =
        target.ends_with(b"/placeorder").then(|| serde_json::from_slice(&request[body..]).ok())??;
    Some(body["symbol"].as_str().expect("an order has a symbol").to_owned())
}
