//! Every help text, and what every verb that asks a cluster prints, against files in `snapshots`.
//!
//! A change that is meant is written with `INSTA_UPDATE=always cargo nextest run --test cli golden`; the difference is the
//! review. A verb that comes or goes without its file fails.

use baton::cli::Cli;
use clap::CommandFactory;

use crate::desk;
use crate::reviewed;
use crate::support::{answer_all, baton, command, stderr, stdout};

/// The verbs of a tree, each as the words that are typed.
fn verbs(command: &clap::Command, words: &[String], found: &mut Vec<Vec<String>>) {
    found.push(words.to_owned());
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        verbs(verb, &[words, &[verb.get_name().to_owned()]].concat(), found);
    }
}

/// Compares with the files of a folder, and the folder with the names.
fn compare(folder: &str, texts: Vec<(String, String)>) {
    reviewed::compare(&format!("cli/snapshots/{folder}"), texts);
}

#[test]
fn each_help_text_is_as_it_was_reviewed() {
    let mut found = Vec::new();
    verbs(&Cli::command(), &[], &mut found);
    assert!(found.len() > 50, "{found:?}");
    let texts = found.iter().map(|words| {
        let arguments: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
        let output = baton(&arguments, &[]);
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{words:?}");
        let text = stdout(&output);
        assert!(!text.contains('\x1b'), "no colours off a terminal: {words:?}");
        let too_long = text.lines().find(|line| line.chars().count() > 132);
        assert_eq!(too_long, None, "{words:?}");
        (["baton"].into_iter().chain(words.iter().map(String::as_str)).collect::<Vec<_>>().join("-"), text)
    });
    compare("help", texts.collect());
}

/// What is asked of the desk, each with the exit code that it ends with.
const ASKED: [(&[&str], i32); 41] = [
    (&["ack", "restart-storm", "--reason", "its disk was full", "--yes"], 0),
    (
        &[
            "cash",
            "deposit",
            "500000",
            "--reason",
            "transfer",
            "--id",
            "0199a1b2-0000-7000-8000-000000000004",
            "--yes",
        ],
        0,
    ),
    (&["cash", "list"], 0),
    (
        &[
            "cash",
            "withdraw",
            "125000.50",
            "--reason",
            "tax",
            "--id",
            "0199a1b2-0000-7000-8000-000000000004",
            "--yes",
        ],
        0,
    ),
    (&["close", "GOLD_MINI", "--reason", "news", "--yes"], 1),
    (&["doctor"], 1),
    (&["equity"], 0),
    (&["errors"], 0),
    (&["errors", "acknowledge", "17", "--reason", "known", "--yes"], 0),
    (&["errors", "resolve", "17", "--reason", "mended", "--yes"], 0),
    (&["errors", "summary"], 0),
    (&["events"], 0),
    (&["fence", "b1", "--reason", "its disk fails", "--yes"], 0),
    (&["flatten", "--reason", "the end", "--yes"], 1),
    (&["halt", "--reason", "news", "--yes"], 0),
    (&["handover", "--reason", "new kernel", "--yes"], 0),
    (&["healthcheck"], 0),
    (&["history"], 0),
    (&["instances"], 0),
    (&["orders", "list"], 0),
    (&["pause", "--reason", "work", "--yes"], 0),
    (&["positions", "diff"], 1),
    (&["positions", "list"], 0),
    (&["reconcile"], 1),
    (&["reduce-only", "off", "--reason", "over", "--yes"], 0),
    (&["reduce-only", "on", "--reason", "news", "--yes"], 0),
    (&["resume", "--reason", "done", "--yes"], 0),
    (&["signals", "count"], 0),
    (&["signals", "drop", "0199a1b2-0000-7000-8000-000000000002", "--reason", "a mistake", "--yes"], 0),
    (&["signals", "list"], 0),
    (
        &[
            "signals",
            "replay",
            "0199a1b2-0000-7000-8000-000000000002",
            "--reason",
            "halted by mistake",
            "--yes",
        ],
        0,
    ),
    (&["signals", "show", "0199a1b2-0000-7000-8000-000000000002"], 0),
    (&["states"], 0),
    (&["status"], 0),
    (&["step-down", "--reason", "new kernel", "--yes"], 0),
    (&["strategies", "disable", "vwap", "--reason", "odd", "--yes"], 0),
    (&["strategies", "enable", "vwap", "--reason", "mended", "--yes"], 0),
    (&["strategies", "list"], 0),
    (&["switches"], 0),
    (&["trades"], 0),
    (&["unfence", "b3", "--reason", "mended", "--yes"], 0),
];

#[test]
fn each_verb_answers_people_and_scripts_as_it_was_reviewed() {
    let (url, _server) = answer_all(desk::answer);
    let mut texts = Vec::new();
    for (words, code) in ASKED {
        let mut both = String::new();
        for format in ["text", "json"] {
            let output = baton(&[words, &["--address", &url, "-o", format]].concat(), &[]);
            assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(code), ""), "{words:?}");
            let text = stdout(&output).replace(&url, "http://ADDRESS");
            assert!(!text.contains('\x1b'), "no colours off a terminal: {words:?}");
            if format == "json" {
                for line in text.lines() {
                    let parsed = serde_json::from_str::<serde_json::Value>(line);
                    assert!(parsed.is_ok(), "{words:?}: a line is a document: {line}");
                }
            }
            both += &format!("$ baton {} -o {format}\n{text}", words.join(" "));
        }
        let name: Vec<&str> = words.iter().copied().take_while(|word| !word.starts_with('-')).collect();
        texts.push((name.join("-"), both));
    }
    compare("answers", texts);
}

// A change is shown before it is made; a release with what it would end.
#[test]
fn what_a_change_is_about_to_do_is_shown_as_it_was_reviewed() {
    let (url, _server) = answer_all(desk::answer);
    let shown = [
        ("ack-restart-storm", &["ack", "restart-storm"][..]),
        ("ack-restart-storm-of-b2", &["ack", "restart-storm", "--member", "b2"]),
        ("errors-acknowledge-17", &["errors", "acknowledge", "17"]),
        ("errors-acknowledge-18", &["errors", "acknowledge", "18"]),
        ("errors-resolve-17", &["errors", "resolve", "17"]),
        ("halt", &["halt"]),
        ("unhalt", &["unhalt"]),
        ("reduce-only-off-of-gold", &["reduce-only", "off", "--instrument", "GOLD_MINI"]),
        ("resume", &["resume"]),
        ("strategies-disable-vwap", &["strategies", "disable", "vwap"]),
        ("strategies-enable-vwap", &["strategies", "enable", "vwap"]),
    ];
    let texts = shown.map(|(name, words)| {
        let output = baton(&[words, &["--reason", "it is time", "--address", &url]].concat(), &[]);
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""), "{name}");
        (name.to_owned(), stderr(&output))
    });
    compare("previews", texts.into());
}

#[test]
fn what_asks_nobody_is_as_it_was_reviewed() {
    let least = crate::support::LEAST;
    let texts = [
        ("config-show", baton(&["config", "show"], least)),
        ("secrets-check", baton(&["secrets", "check"], least)),
        ("runbook-Watchdog", baton(&["runbook", "Watchdog"], &[])),
    ];
    let texts = texts.map(|(name, output)| {
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{name}");
        (name.to_owned(), stdout(&output))
    });
    compare("alone", texts.into());
}

/// A desk whose cluster names no instances, so that nobody but the desk itself is asked of itself.
fn alone_at_the_desk(url: &str, path: &str) -> (&'static str, String) {
    match path {
        "/api/v1/cluster" | "/hook" => ("200 OK", "{}".to_owned()),
        _ => desk::answer(url, path),
    }
}

#[test]
fn what_reads_or_writes_files_sends_messages_or_warns_is_as_it_was_reviewed() {
    let (url, _server) = answer_all(alone_at_the_desk);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("alert.json"), "{}").unwrap();
    let mut texts = Vec::new();
    for (name, words, code) in [
        ("signals-dry-run", &["signals", "dry-run", "alert.json", "--address", &url][..], 1),
        ("report", &["report", "--into", "for-support", "--address", &url], 0),
        ("notify-test", &["notify", "test"], 0),
        ("config-check", &["config", "check"], 0),
        ("unhalt", &["unhalt", "--reason", "the news is old", "--yes", "--address", &url], 0),
    ] {
        let hook = format!("{url}/hook");
        let least = crate::support::LEAST.iter().copied();
        let env = least.chain([("BATON_NOTIFY__WEBHOOK_URL", hook.as_str())]);
        let output = command(&folder).args(words).envs(env).output().unwrap();
        let text = stdout(&output) + &stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{name}: {text}");
        let text = text.replace(&url, "http://ADDRESS");
        texts.push((name.to_owned(), text.lines().map(uncounted).collect::<Vec<_>>().join("\n")));
    }
    compare("beside", texts);
}

/// A line in which every number of milliseconds or settings is N, and columns are one space apart.
fn uncounted(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let followed = |at: usize| matches!(words.get(at + 1), Some(&"ms" | &"settings"));
    let shown = words.iter().enumerate().map(|(at, word)| if followed(at) { "N" } else { word });
    shown.collect::<Vec<_>>().join(" ")
}

/// A verb without a reviewed answer: why, and the test that types it.
struct Excuse {
    verb: &'static str,
    why: &'static str,
    /// The file below `tests`, and the test in it.
    test: (&'static str, &'static str),
}

const UNREVIEWED: [Excuse; 12] = [
    Excuse { verb: "completions", why: "what clap writes", test: PAGES },
    Excuse {
        verb: "demo",
        why: "its lines are times and addresses of the machine that it plays on",
        test: ("story/binary.rs", "the_demo_keeps_every_promise"),
    },
    Excuse {
        verb: "drill-broker-down",
        why: DRILL,
        test: ("story/binary.rs", "without_its_bridge_a_demo_waits_and_then_trades_again"),
    },
    Excuse { verb: "drill-kill-leader", why: DRILL, test: DRILLED },
    Excuse { verb: "drill-pause-leader", why: DRILL, test: DRILLED },
    Excuse { verb: "drill-postgres-down", why: DRILL, test: DRILLED },
    Excuse { verb: "drill-redis-down", why: DRILL, test: DRILLED },
    Excuse { verb: "man", why: "what clap writes", test: PAGES },
    Excuse {
        verb: "migrate",
        why: "its line names the version of the schema",
        test: (
            "cluster/upgrade.rs",
            "an_upgrade_with_a_migration_beside_the_version_before_loses_and_doubles_nothing",
        ),
    },
    Excuse {
        verb: "paper",
        why: "it serves until it is stopped",
        test: ("cli/paper.rs", "it_tells_people_in_words_and_obeys_its_options"),
    },
    Excuse {
        verb: "replay",
        why: "it reports what was made of an export, with the times that it took",
        test: ("story/binary.rs", "an_export_is_replayed_into_a_private_cluster"),
    },
    Excuse {
        verb: "run",
        why: "it runs until it is stopped",
        test: (
            "cluster/debugging.rs",
            "the_debug_document_is_for_operators_and_holds_no_secret_even_while_nothing_answers",
        ),
    },
];
const DRILL: &str = "it measures a cluster that `baton demo` keeps up";
const DRILLED: (&str, &str) =
    ("story/binary.rs", "the_demo_stays_up_until_it_is_interrupted_and_then_stops_everything");
const PAGES: (&str, &str) = ("cli/pages.rs", "completions_and_manual_pages_name_every_verb");

impl Excuse {
    /// What is wrong with it, given the file that its test is in.
    fn fault(&self, source: &str) -> Option<String> {
        let Self { verb, test: (file, name), .. } = self;
        let Some((before, after)) = source.split_once(&format!("fn {name}(")) else {
            return Some(format!("{verb}: there is no {name} in {file}"));
        };
        // The attributes of a function stand between it and what ended before it.
        let attributes = before.rsplit("\n\n").next().unwrap_or_default();
        if !attributes.contains("#[test]") && !attributes.contains("#[tokio::test") {
            return Some(format!("{verb}: {name} in {file} is no test"));
        }
        let body = after.split("\n}").next().unwrap_or_default();
        let typed = verb.strip_prefix("drill-").unwrap_or(verb);
        (!body.contains(&format!("\"{typed}\""))).then(|| format!("{verb}: {name} does not type {typed}"))
    }
}

#[test]
fn an_excuse_names_a_test_that_is_there_and_types_the_verb() {
    let fault = |verb, name| {
        let source = "fn other() {}\n\n// Why.\n#[tokio::test(flavor = \"multi_thread\")]\nasync fn it_runs() {\n    \
                      typed(\"run\");\n}\n\nfn typed(word: &str) {\n    baton(&[word, \"demo\"]);\n}\n";
        Excuse { verb, why: "it is slow", test: ("some.rs", name) }.fault(source)
    };
    assert_eq!(fault("run", "it_runs"), None);
    assert_eq!(fault("drill-run", "it_runs"), None);
    assert!(fault("run", "it_ran").is_some_and(|said| said.contains("there is no it_ran")));
    assert!(fault("demo", "typed").is_some_and(|said| said.contains("is no test")));
    assert!(fault("demo", "it_runs").is_some_and(|said| said.contains("does not type demo")));
}

// The lists above are written by hand: a verb that is in none of them has to say why.
#[test]
fn each_verb_has_a_reviewed_answer_or_a_reason_to_have_none() {
    let mut found = Vec::new();
    verbs(&Cli::command(), &[], &mut found);
    let leads_on =
        |words: &[String]| found.iter().any(|more| more.len() > words.len() && more.starts_with(words));
    let leaves: Vec<String> =
        found.iter().filter(|words| !leads_on(words)).map(|words| words.join("-")).collect();
    let tests = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let folders = ["cli/snapshots/answers", "cli/snapshots/alone", "cli/snapshots/beside"].into_iter();
    let folders = folders.chain(["recovery/snapshots/broker", "recovery/snapshots/state"]);
    let files = folders.flat_map(|folder| std::fs::read_dir(tests.join(folder)).unwrap());
    let reviewed: Vec<String> =
        files.map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect();
    let is_reviewed = |leaf: &str| {
        reviewed
            .iter()
            .any(|name| name.strip_prefix(leaf).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')))
    };
    let excused = |leaf: &str| UNREVIEWED.iter().any(|excuse| excuse.verb == leaf);
    let lacking: Vec<_> = leaves.iter().filter(|leaf| !is_reviewed(leaf) && !excused(leaf)).collect();
    assert!(lacking.is_empty(), "no reviewed answer, and no reason in UNREVIEWED: {lacking:?}");
    for excuse in UNREVIEWED {
        let Excuse { verb, why, test: (file, _) } = excuse;
        assert!(leaves.iter().any(|leaf| leaf == verb), "{verb} is no verb any more ({why})");
        assert!(!is_reviewed(verb), "{verb} is reviewed by now: it needs no excuse ({why})");
        let source = std::fs::read_to_string(tests.join(file)).unwrap_or_default();
        assert_eq!(excuse.fault(&source), None, "{verb} has no reviewed answer ({why})");
    }
}

// A question that cannot be put is an error in one form everywhere: nothing on stdout, a sentence on stderr.
#[test]
fn each_verb_fails_in_one_form_when_nobody_answers() {
    for (words, _) in ASKED {
        let silent = ["--address", "http://127.0.0.1:1", "-o", "json"];
        let output = baton(&[words, &silent[..]].concat(), &[]);
        if words[0] == "status" {
            // Its exit code is a verdict, and its answer says so.
            assert_eq!(output.status.code(), Some(2));
            continue;
        }
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""), "{words:?}");
        assert!(stderr(&output).starts_with("error: no "), "{words:?}: {}", stderr(&output));
    }
}
