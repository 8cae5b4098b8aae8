use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};

use super::support::{baton, command, stderr};

const ON_FREE_PORTS: [&str; 7] =
    ["paper", "--http", "127.0.0.1:0", "--ws", "127.0.0.1:0", "--control", "127.0.0.1:0"];

/// A running `baton paper`, ended with the test.
struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone, when the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(url: &str, path: &str) -> String {
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn it_tells_scripts_where_it_listens_and_stops_at_either_signal() {
    for signal in ["TERM", "INT"] {
        let folder = tempfile::tempdir().unwrap();
        let mut running = Running::start(command(&folder).args(ON_FREE_PORTS).args(["-o", "json"]));
        let told: serde_json::Value = serde_json::from_str(&running.line()).unwrap();
        assert_eq!(told["mode"], "analyze");
        assert_eq!(told["pid"], running.child.id());
        assert!(told["ws"].as_str().unwrap().starts_with("ws://127.0.0.1:"), "{told}");
        // The REST interface hangs below /api/v1 but for its health.
        let health = get(told["http"].as_str().unwrap(), "/health/status");
        assert!(health.starts_with("HTTP/1.1 200") && health.contains("pass"), "{health}");
        let orders = get(told["control"].as_str().unwrap(), "/_ctl/orders");
        assert!(orders.starts_with("HTTP/1.1 200"), "{orders}");

        running.signal(signal);
        assert_eq!(running.child.wait().unwrap().code(), Some(0), "SIG{signal}");
        let mut told = String::new();
        running.child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        assert!(told.contains(&format!("[SHUTDOWN] SIG{signal}")), "{told}");
    }
}

#[test]
fn it_tells_people_in_words_and_obeys_its_options() {
    let folder = tempfile::tempdir().unwrap();
    let symbols = r#"[{"symbol": "TESTFUT", "exchange": "NFO", "lot_size": 5, "tick_size": "0.5", "freeze_qty": 0,
        "expiry": "30-DEC-25", "point_value": "5", "margin_per_lot": "1000", "ltp": "100"}]"#;
    std::fs::write(folder.path().join("symbols.json"), symbols).unwrap();
    let options = ["--mode", "live", "--symbols", "symbols.json", "--log", "orders.jsonl", "--unlimited"];
    let mut running = Running::start(command(&folder).args(ON_FREE_PORTS).args(options));
    assert_eq!(running.line(), "Paper bridge, mode live\n");
    let rest = running.line();
    let url = rest.trim().strip_prefix("REST").unwrap().trim().to_owned();
    let quote =
        post(&url, "/api/v1/quotes", r#"{"apikey": "paper", "symbol": "TESTFUT", "exchange": "NFO"}"#);
    assert!(quote.contains(r#""status":"success""#), "{quote}");
    let order = r#"{"apikey": "paper", "strategy": "t", "symbol": "TESTFUT", "exchange": "NFO", "action": "BUY",
        "quantity": 5}"#;
    assert!(post(&url, "/api/v1/placeorder", order).starts_with("HTTP/1.1 200"));
    let log = std::fs::read_to_string(folder.path().join("orders.jsonl")).unwrap();
    assert!(log.contains("TESTFUT"), "{log}");
}

fn post(url: &str, path: &str, body: &str) -> String {
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_taken_port_is_one_sentence_with_its_cause() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output =
        baton(&["paper", "--http", &address, "--ws", "127.0.0.1:0", "--control", "127.0.0.1:0"], &[]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(
        text.starts_with(&format!("error: cannot listen on {address} for the paper bridge's REST API")),
        "{text}"
    );
    assert!(text.contains("\n  caused by: Address already in use"), "{text}");
}

#[test]
fn log_lines_follow_configuration_and_rust_log() {
    let lines = |env: &[(&str, &str)]| {
        let folder = tempfile::tempdir().unwrap();
        let mut running = Running::start(command(&folder).args(ON_FREE_PORTS).envs(env.iter().copied()));
        running.line();
        running.signal("TERM");
        let mut told = String::new();
        running.child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        told
    };
    let json = lines(&[("BATON_LOG__FORMAT", "json")]);
    let shutdown = json.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let shutdown: Vec<_> =
        shutdown.filter(|line| line["message"].to_string().contains("[SHUTDOWN]")).collect();
    assert_eq!(shutdown.len(), 1, "{json}");
    assert_eq!(shutdown[0]["level"], "INFO");
    assert_eq!(lines(&[("BATON_LOG__LEVEL", "error")]), "");
    assert!(lines(&[("BATON_LOG__LEVEL", "error"), ("RUST_LOG", "info")]).contains("[SHUTDOWN] SIGTERM"));

    let output = baton(&ON_FREE_PORTS, &[("RUST_LOG", "baton=loud")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).starts_with("error: RUST_LOG = \"baton=loud\" is no log filter"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_symbols_file_of_another_form_says_where_the_form_is() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("symbols.json"), "{}").unwrap();
    let output = command(&folder).args(ON_FREE_PORTS).args(["--symbols", "symbols.json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.starts_with("error: symbols.json is no list of symbols; `baton paper --help`"), "{text}");
    assert!(text.contains("\n  caused by: invalid type: map"), "{text}");
}
