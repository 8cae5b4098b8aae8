//! A raw TCP server in threads of its own: it does to a connection exactly what a test says, at the byte level,
//! and counts every byte that arrives.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::SockRef;

use crate::support::DEADLINE;

/// What to do once a whole request has arrived.
#[derive(Clone)]
pub enum Script {
    /// Answer with these bytes and keep the connection.
    Answer(String),
    /// Answer with these bytes and close.
    AnswerAndClose(String),
    /// Reset the connection.
    Reset,
    /// Say nothing, and watch how the connection ends.
    Hang,
}

impl Script {
    /// A JSON answer.
    pub fn json(status: u16, body: &str) -> Self {
        Self::Answer(answer(status, "application/json", body))
    }
}

/// An HTTP/1.1 answer.
pub fn answer(status: u16, kind: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}")
}

#[derive(Default)]
struct State {
    scripts: VecDeque<Script>,
    /// Whole requests, in order of arrival.
    requests: Vec<String>,
    /// Open connections by the order in which they came.
    connections: BTreeMap<usize, TcpStream>,
    accepted: usize,
    /// Request bytes, complete or not.
    bytes: usize,
    /// Connections the client ended with a reset.
    resets: usize,
    /// While set, arriving bytes stay in the kernel.
    deaf: bool,
    stopping: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// The server; ends when dropped.
pub struct Double {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

// === impl Double ===

impl Double {
    /// Starts it with one script per expected request. Once they are used up it hangs.
    pub fn start(scripts: impl IntoIterator<Item = Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // Small, so that a long request cannot hide in it while the server is deaf.
        SockRef::from(&listener).set_recv_buffer_size(4096).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        shared.state.lock().unwrap().scripts.extend(scripts);
        let acceptor = thread::spawn({
            let shared = shared.clone();
            move || shared.accept(&listener)
        });
        Self { shared, address, acceptor: Some(acceptor) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests that arrived whole.
    pub fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }

    /// Blocks this thread, and with it a single-threaded runtime, until so many whole requests have arrived.
    pub fn block_until_requests(&self, count: usize) {
        let wait = self
            .shared
            .changed
            .wait_timeout_while(self.state(), DEADLINE, |state| state.requests.len() < count);
        assert!(!wait.unwrap().1.timed_out(), "fewer than {count} requests arrived");
    }

    /// Request bytes that arrived at all.
    pub fn bytes(&self) -> usize {
        self.state().bytes
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.state().accepted
    }

    /// Connections that the client ended with a reset.
    pub fn resets(&self) -> usize {
        self.state().resets
    }

    /// Stops or resumes reading.
    pub fn deaf(&self, deaf: bool) {
        self.state().deaf = deaf;
        self.shared.changed.notify_all();
    }

    /// Closes every connection in the ordinary way; returns after the kernel has done so.
    pub fn close_all(&self) {
        for connection in self.state().connections.values() {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Sends bytes that nobody asked for on every connection.
    pub fn babble(&self, bytes: &str) {
        for mut connection in self.state().connections.values() {
            connection.write_all(bytes.as_bytes()).unwrap();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.state().stopping = true;
        self.shared.changed.notify_all();
        self.close_all();
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

// === impl Shared ===

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        let mut servers = Vec::new();
        while let Ok((stream, _)) = listener.accept() {
            let mut state = self.state.lock().unwrap();
            if state.stopping {
                break;
            }
            let id = state.accepted;
            state.accepted += 1;
            state.connections.insert(id, stream.try_clone().unwrap());
            drop(state);
            let shared = self.clone();
            servers.push(thread::spawn(move || {
                shared.serve(stream);
                // Closes the second handle of the socket, and so the connection.
                shared.state.lock().unwrap().connections.remove(&id);
            }));
        }
        for server in servers {
            let _ = server.join();
        }
    }

    /// Waits while deaf; false = stop.
    fn may_read(&self) -> bool {
        let wait = self
            .changed
            .wait_timeout_while(self.state.lock().unwrap(), DEADLINE, |state| state.deaf && !state.stopping);
        !wait.unwrap().0.stopping
    }

    fn serve(&self, mut stream: TcpStream) {
        while let Some(request) = self.read_request(&mut stream) {
            let script = {
                let mut state = self.state.lock().unwrap();
                state.requests.push(request);
                self.changed.notify_all();
                state.scripts.pop_front().unwrap_or(Script::Hang)
            };
            match script {
                Script::Answer(bytes) => {
                    let _ = stream.write_all(bytes.as_bytes());
                }
                Script::AnswerAndClose(bytes) => {
                    let _ = stream.write_all(bytes.as_bytes());
                    let _ = stream.shutdown(Shutdown::Both);
                    return;
                }
                Script::Reset => {
                    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                    return;
                }
                Script::Hang => {
                    self.read_request(&mut stream);
                    return;
                }
            }
        }
    }

    /// One whole request, or `None` when the connection ended before.
    fn read_request(&self, stream: &mut TcpStream) -> Option<String> {
        let mut request = Vec::new();
        let mut chunk = [0; 1024];
        loop {
            // The first byte is waited for without taking it, so that a deaf server takes none.
            let waiting = stream.peek(&mut chunk[..1]);
            if !self.may_read() {
                return None;
            }
            match waiting.and_then(|_| stream.read(&mut chunk)) {
                Ok(0) => return None,
                Ok(length) => {
                    request.extend_from_slice(&chunk[..length]);
                    self.state.lock().unwrap().bytes += length;
                }
                Err(error) => {
                    if error.kind() == ErrorKind::ConnectionReset {
                        self.state.lock().unwrap().resets += 1;
                    }
                    return None;
                }
            }
            if let Some(whole) = whole(&request) {
                return Some(whole);
            }
        }
    }
}

fn whole(request: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(request);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    (body.len() >= length.parse().unwrap()).then(|| text.to_string())
}
