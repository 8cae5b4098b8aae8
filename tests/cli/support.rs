//! Runs the built binary in an empty folder with an environment of our own, and answers as an instance would.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// The least that a valid configuration says.
pub const LEAST: &[(&str, &str)] = &[
    ("BATON_CLUSTER__MEMBER", "b1"),
    ("BATON_POSTGRES__URL", "postgres://baton:s3cret@127.0.0.1:5432/baton"),
    ("BATON_REDIS__URL", "redis://:s3cret@127.0.0.1:6379/0"),
    ("BATON_BROKER__API_KEY", "s3cret-key"),
    ("BATON_TRADING__CAPITAL", "10000000"),
];

/// `baton` in a folder where no baton.toml lies, with nothing of the developer's environment.
pub fn command(folder: &tempfile::TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_baton"));
    command.env_clear().current_dir(folder.path());
    command
}

/// Runs `baton` with these arguments and variables.
pub fn baton(arguments: &[&str], env: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    command(&folder).args(arguments).envs(env.iter().copied()).output().unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stdout(output)))
}

/// A server that ends when this is dropped.
pub struct Server(Arc<AtomicBool>);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// An HTTP server that answers each request by its own URL and the request's path, with the query.
pub fn answer_all(answer: fn(&str, &str) -> (&'static str, String)) -> (String, Server) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let over = Arc::new(AtomicBool::new(false));
    let (own, ends) = (url.clone(), Arc::clone(&over));
    std::thread::spawn(move || {
        for stream in listener.incoming().map(Result::unwrap) {
            if ends.load(Ordering::SeqCst) {
                return;
            }
            let request = answered(stream, |request| {
                let path = request.split(' ').nth(1).unwrap_or_default();
                answer(&own, path)
            });
            assert!(request.is_some(), "a request has a first line");
        }
    });
    (url, Server(over))
}

/// Reads a request and answers it; gives its first line.
fn answered<'a>(mut stream: TcpStream, answer: impl FnOnce(&str) -> (&'a str, String)) -> Option<String> {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    let request = Some(line()).filter(|line| !line.is_empty())?;
    let headers: Vec<String> = std::iter::from_fn(|| Some(line()).filter(|line| !line.is_empty())).collect();
    // What is not read when the connection ends would break it under the answer.
    let length =
        headers.iter().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    reader.read_exact(&mut vec![0; length.unwrap_or(0)]).unwrap();
    let (status, body) = answer(&request);
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    // Whoever asked may be gone by now.
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
    Some(request)
}

/// An HTTP server that gives one answer to one request; joining it gives the request's first line.
pub fn answer_once(status: &str, body: &str) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (status, body) = (status.to_owned(), body.to_owned());
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        answered(stream, |_| (&status, body)).unwrap()
    });
    (url, server)
}
