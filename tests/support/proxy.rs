//! A TCP proxy of our own: one link between a member and a server, to be disturbed.
//!
//! What is lost stays lost: after [`Link::Discard`] the connection is reset, as a network that dropped segments for too
//! long ends it. [`Link::Stall`] keeps the bytes and delivers them later, as a network that recovers in time does.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::process::Launch;
use super::seed::Seed;

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    ToServer,
    ToClient,
    Both,
}

/// What a link does with bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// Passes them on.
    Open,
    /// Keeps them, and passes them on when it is open again; new connections wait.
    Stall(Way),
    /// Loses them; connections that lost some are reset when it is open again, and so are those whose requests passed
    /// while answers are lost: an answer that comes only then is lost as well. New connections wait.
    Discard(Way),
    /// Passes each piece on after this time.
    Delay(Duration),
    /// Passes a piece on late with this chance in a hundred, by a time drawn between these two; what follows it waits
    /// as well. The draws of each connection come from the seed.
    Late { percent: u8, least: Duration, most: Duration, seed: u64 },
    /// Passes so many bytes on per connection and direction, then resets the connection.
    CutAfter(usize),
    /// Resets connections and takes no new ones.
    Refuse,
    /// Passes on what is connected, and takes no new connections.
    Full,
}

impl Link {
    /// How late the next piece is.
    fn lateness(self, draws: &mut Option<Seed>, stream: u64) -> Duration {
        match self {
            Self::Delay(time) => time,
            Self::Late { percent, least, most, seed } => {
                let draws = draws.get_or_insert_with(|| Seed::of(seed ^ stream.rotate_left(32)));
                let is_late = draws.below(100) < percent.into();
                if is_late { least + draws.duration(most - least) } else { Duration::ZERO }
            }
            _ => Duration::ZERO,
        }
    }

    fn stalls(self, way: Way) -> bool {
        matches!(self, Self::Stall(stalled) if stalled == way || stalled == Way::Both)
    }

    fn discards(self, way: Way) -> bool {
        matches!(self, Self::Discard(lost) if lost == way || lost == Way::Both)
    }

    /// Whether a connection ends because bytes of it are lost.
    fn resets(self, lost: &AtomicBool) -> bool {
        !matches!(self, Self::Discard(_)) && lost.load(Ordering::Relaxed)
    }
}

/// A link. Dropping it ends its connections.
pub struct Proxy {
    pub address: SocketAddr,
    link: watch::Sender<Link>,
    _accepting: AbortOnDropHandle<()>,
}

impl Proxy {
    /// Listens on a port of its own for connections to `server`.
    pub async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (link, watched) = watch::channel(Link::Open);
        let accepting = tokio::spawn(accept(listener, server, watched));
        Self { address, link, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// Puts one between a member that is to be started and the server that this variable of its environment names.
    pub async fn before(launch: &mut Launch, key: &str) -> Self {
        let url = reqwest::Url::parse(&launch.env[key]).unwrap();
        let direct = format!("127.0.0.1:{}", url.port().unwrap());
        let proxy = Self::start(direct.parse().unwrap()).await;
        let through = launch.env[key].replace(&direct, &proxy.address.to_string());
        assert_ne!(through, launch.env[key], "{key} leads through the proxy");
        launch.env.insert(key.to_owned(), through);
        proxy
    }

    /// Disturbs the link, or heals it.
    pub fn set(&self, link: Link) {
        self.link.send_replace(link);
    }
}

/// Takes connections for as long as the proxy lives; they end with it.
async fn accept(listener: TcpListener, server: SocketAddr, link: watch::Receiver<Link>) {
    let mut connections = tokio::task::JoinSet::new();
    let mut number = 0;
    loop {
        tokio::select! {
            Ok((client, _)) = listener.accept() => {
                connections.spawn(serve(number, client, server, link.clone()));
                number += 1;
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection until one end closes it or the link does; `number` tells the proxy's connections apart.
async fn serve(number: u64, client: TcpStream, server: SocketAddr, mut link: watch::Receiver<Link>) {
    let begun = link.wait_for(|link| !matches!(link, Link::Stall(_) | Link::Discard(_))).await;
    if begun.map_or(true, |link| matches!(*link, Link::Refuse | Link::Full)) {
        return reset(&client);
    }
    let Ok(server) = TcpStream::connect(server).await else { return reset(&client) };
    for stream in [&client, &server] {
        // A proxy that gathers small pieces would add delays that nobody asked for.
        let _ = stream.set_nodelay(true);
    }
    let pumped = link.clone();
    let lost = AtomicBool::new(false);
    let ended = tokio::select! {
        ended = async {
            tokio::try_join!(
                pump(&client, &server, Way::ToServer, 2 * number, pumped.clone(), &lost),
                pump(&server, &client, Way::ToClient, 2 * number + 1, pumped.clone(), &lost),
            )
        } => ended.map(|_| ()),
        _ = link.wait_for(|link| matches!(link, Link::Refuse)) => Err(Lost),
    };
    if ended.is_err() {
        reset(&client);
        reset(&server);
    }
}

/// The connection ends without its last bytes.
struct Lost;

impl From<std::io::Error> for Lost {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

/// Has the kernel reset a connection when it is dropped.
fn reset(stream: &TcpStream) {
    // A socket that cannot be set is closed already.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Passes one direction on, until its source closes it; `stream` tells the directions of all connections apart, and `lost`
/// whether either direction of this one lost bytes.
async fn pump(
    from: &TcpStream,
    to: &TcpStream,
    way: Way,
    stream: u64,
    mut link: watch::Receiver<Link>,
    lost: &AtomicBool,
) -> Result<(), Lost> {
    let mut buffer = vec![0; 16 * 1024];
    let (mut passed, mut draws) = (0, None);
    loop {
        // A stalled link reads nothing: neither bytes nor the news that the other end is gone.
        let now = *link.wait_for(|link| !link.stalls(way)).await.map_err(|_| Lost)?;
        if now.resets(lost) {
            return Err(Lost);
        }
        let count = tokio::select! {
            readable = from.readable() => {
                readable?;
                match from.try_read(&mut buffer) {
                    Ok(count) => count,
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                    Err(_) => return Err(Lost),
                }
            }
            changed = link.changed() => {
                changed.map_err(|_| Lost)?;
                passed = 0;
                continue;
            }
        };
        // It may have changed while this direction waited for bytes.
        let now = *link.wait_for(|link| !link.stalls(way)).await.map_err(|_| Lost)?;
        if now.resets(lost) {
            return Err(Lost);
        }
        let loses = now.discards(way) || (way == Way::ToServer && now.discards(Way::ToClient));
        lost.fetch_or(loses, Ordering::Relaxed);
        if now.discards(way) {
            if count == 0 {
                link.changed().await.map_err(|_| Lost)?;
            }
            continue;
        }
        let lateness = now.lateness(&mut draws, stream);
        if !lateness.is_zero() {
            tokio::time::sleep(lateness).await;
        }
        let limit = match now {
            Link::CutAfter(limit) => count.min(limit.saturating_sub(passed)),
            _ => count,
        };
        write_all(to, &buffer[..limit]).await?;
        passed += limit;
        if limit < count {
            return Err(Lost);
        }
        if count == 0 {
            let _ = SockRef::from(to).shutdown(std::net::Shutdown::Write);
            return Ok(());
        }
    }
}

async fn write_all(to: &TcpStream, mut bytes: &[u8]) -> Result<(), Lost> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(Lost),
        }
    }
    Ok(())
}
