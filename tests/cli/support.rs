//! Runs the built binary in an empty folder with an environment of our own, and answers as an instance would.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Output};
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

/// An HTTP server that gives one answer to one request; joining it gives the request's first line.
pub fn answer_once(status: &str, body: &str) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
        let request = lines.next().unwrap();
        lines.find(String::is_empty);
        stream.write_all(answer.as_bytes()).unwrap();
        request
    });
    (url, server)
}
