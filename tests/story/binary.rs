//! The built binary, which starts whole clusters of itself.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::family::{family, over};

/// Longest wait for anything that ends by itself.
const PATIENCE: Duration = Duration::from_secs(90);

fn baton(folder: &tempfile::TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_baton"));
    command.args(arguments).current_dir(folder.path());
    // The developer's own settings must not reach what is tested.
    let own = std::env::vars_os().map(|(name, _)| name);
    for name in own.filter(|name| name.to_string_lossy().starts_with("BATON_")) {
        if !name.to_string_lossy().contains("BIN") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    let mut look = tokio::time::interval(Duration::from_millis(10));
    while !condition() {
        assert!(Instant::now() < deadline, "still not so after {PATIENCE:?}: {what}");
        look.tick().await;
    }
}

/// A demo that was started; killed with the test.
struct Demo(Child);

impl Demo {
    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Already gone, when the test went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_demo_keeps_every_promise() {
    let folder = tempfile::tempdir().unwrap();
    let output = baton(&folder, &["demo", "--once", "-o", "json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["held"], &told["error"]), (&Value::Bool(true), &Value::Null), "{told:#}");
    let steps = told["steps"].as_array().unwrap();
    let names: Vec<&str> = steps.iter().map(|step| step["name"].as_str().unwrap()).collect();
    // A woken leader may follow, or end itself and be started again.
    let names: Vec<&str> = names.into_iter().filter(|name| *name != "restart_woken").collect();
    let all = [
        "stores",
        "paper",
        "instances",
        "entry",
        "repeat",
        "market",
        "kill",
        "pyramid",
        "restart_killed",
        "pause",
        "wake",
        "handover",
        "restart_stopped",
        "outage",
        "corruption",
        "stop",
        "exit",
        "compare",
    ];
    assert_eq!(names, all);
    let figures = |name: &str| &steps.iter().find(|step| step["name"] == name).unwrap()["figures"];
    assert_eq!(figures("compare")["doubled"], 0);
    assert_eq!(figures("compare")["orders"], 6, "two base entries, a pyramid, three exits");
    assert_eq!(figures("wake")["requests_from_it"], 0);
    assert_eq!(figures("handover")["reason"], "handover");
    assert!(figures("kill")["epoch"].as_i64() < figures("pause")["epoch"].as_i64());
}

/// The promises of these drills hold in the demo that has this directory.
fn drilled(folder: &tempfile::TempDir, dir: &str, drills: &[&str]) {
    for drill in drills {
        let output = baton(folder, &["drill", drill, "--demo", dir, "-o", "json"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{drill}: {}", text(&output));
        let step: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&step["name"], &step["held"]), (&(*drill).into(), &Value::Bool(true)), "{step:#}");
        let figures = &step["figures"];
        println!("{drill}: {} ms, {figures}", step["took_ms"]);
        if drill.ends_with("leader") {
            assert!(figures["from"] != figures["to"] && figures["to"] != "", "{step:#}");
        }
    }
}

#[tokio::test]
async fn the_demo_stays_up_until_it_is_interrupted_and_then_stops_everything() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Demo(baton(&folder, &["demo", "-o", "json"]).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(demo.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let told: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let addresses = told["addresses"].as_array().unwrap();
    assert_eq!(addresses.len(), 3, "{told:#}");
    let listens =
        |url: &Value| TcpStream::connect(url.as_str().unwrap().strip_prefix("http://").unwrap()).is_ok();
    assert!(addresses.iter().all(listens));
    let dir = told["dir"].as_str().unwrap();
    drilled(&folder, dir, &["redis-down", "postgres-down", "pause-leader", "kill-leader"]);
    let family = family(demo.0.id());
    assert!(family.len() >= 6, "bridge, instances and stores: {family:?}");

    let begun = Instant::now();
    demo.signal(rustix::process::Signal::INT);
    until("the demo has ended", || demo.0.try_wait().unwrap().is_some()).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let mut said = String::new();
    demo.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(demo.0.wait().unwrap().code(), Some(0), "{told:#}{said}");
    assert!(family.iter().all(|pid| over(*pid)), "nothing of it is left");
    assert!(!addresses.iter().any(listens));
}

#[ignore = "slow: a bridge that hangs is waited for through three time-outs"]
#[test]
fn without_its_bridge_a_demo_waits_and_then_trades_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Demo(baton(&folder, &["demo", "-o", "json"]).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(demo.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let told: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    drilled(&folder, told["dir"].as_str().unwrap(), &["broker-down"]);
    demo.signal(rustix::process::Signal::INT);
    assert_eq!(demo.0.wait().unwrap().code(), Some(0));
}

#[tokio::test]
async fn killing_the_demo_leaves_no_process_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Demo(baton(&folder, &["demo"]).spawn().unwrap());
    let lines = BufReader::new(demo.0.stdout.take().unwrap()).lines();
    let instances = lines.map_while(Result::ok).find(|line| line.contains("3 instances are up"));
    assert!(instances.is_some());
    let family = family(demo.0.id());
    assert!(family.len() >= 6, "bridge, instances and stores: {family:?}");
    // Nobody is left to remove its logs: the instances' working directory.
    let directory = |pid: &u32| std::fs::read_link(format!("/proc/{pid}/cwd")).ok();
    let is_logs =
        |dir: &PathBuf| dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with("baton-demo-"));
    let logs = family.iter().filter_map(directory).find(is_logs).unwrap();
    demo.signal(rustix::process::Signal::KILL);
    until("every process of it has ended", || family.iter().all(|pid| over(*pid))).await;
    std::fs::remove_dir_all(logs).unwrap();
}

/// Trades far enough apart that none refuses another: each is sold before the next is bought.
const EXPORT: &str = "\u{feff}Trade #,Type,Date/Time,Signal,Price INR,Position size (qty)\n\
    1,Exit long,2020-04-15 12:00,Stop,46200,37\n1,Entry long,2020-04-03 09:00,ENTRY-37L,45600,37\n\
    2,Exit long,2020-05-15 12:00,Stop,44900,18\n2,Entry long,2020-05-07 09:00,ENTRY-18L,45000,18\n\
    3,Exit long,,Open,,\n3,Entry long,2020-06-07 09:00,ENTRY-18L,45500,18\n";

#[test]
fn an_export_is_replayed_into_a_private_cluster() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("export.csv"), EXPORT).unwrap();
    let arguments = ["replay", "export.csv", "--instrument", "GOLD_MINI", "-o", "json"];
    let output = baton(&folder, &arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["rows"], &report["signals"]["executed"]), (&5.into(), &5.into()), "{report:#}");
    assert_eq!(report["orders"]["filled"], 5);
    let positions = report["positions"].as_array().unwrap();
    let closed = positions.iter().filter(|trade| trade["status"] == "closed").count();
    assert_eq!((positions.len(), closed), (3, 2), "{report:#}");
    assert_eq!(positions[0]["row"], "tv-1-entry");
    let decimal = |value: &Value| value.as_str().unwrap().parse::<rust_decimal::Decimal>().unwrap();
    // The bridge's price was the row's: what was bought at 45 600 was sold at 46 200, ₹10 a point and lot of 100 g.
    assert_eq!(decimal(&positions[0]["entry_price"]), 45600.into());
    assert_eq!(decimal(&positions[0]["exit_price"]), 46200.into());
    let lots = |trade: &Value| trade["quantity"].as_i64().unwrap() / 100;
    let expected = 600 * 10 * lots(&positions[0]) - 100 * 10 * lots(&positions[1]);
    assert!(lots(&positions[0]) > 0 && lots(&positions[1]) > 0, "{report:#}");
    assert_eq!(decimal(&report["realised"]), expected.into());
}

#[test]
fn a_faulty_export_is_told_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let rows = "Trade #,Type,Date/Time,Signal,Price INR,Position size (qty)\n\
        1,Exit long,2020-04-15,Stop,46189,37\n1,Entry long,2020-04-03 09:00,E,-5,1\n";
    std::fs::write(folder.path().join("export.csv"), rows).unwrap();
    let output = baton(&folder, &["replay", "export.csv", "--instrument", "GOLD_MINI"]).output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("error: export.csv has 2 faults\n"), "{said}");
    assert!(said.contains("line 2: time \"2020-04-15\"; expected YYYY-MM-DD HH:MM\n"), "{said}");
    assert!(said.contains("line 3: price \"-5\" is no positive number\n"), "{said}");

    let output = baton(&folder, &["replay", "none.csv", "--instrument", "GOLD_MINI"]).output().unwrap();
    assert!(text(&output).starts_with("error: cannot open the export none.csv\n"), "{}", text(&output));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn an_unknown_instrument_is_answered_with_the_known_ones() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("export.csv"), EXPORT).unwrap();
    let output = baton(&folder, &["replay", "export.csv", "--instrument", "TIN"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output).contains("a private cluster trades BANK_NIFTY, COPPER, GOLD_MINI"),
        "{}",
        text(&output)
    );
}
