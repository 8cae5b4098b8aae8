//! Commands by Telegram to three instances of the built binary: who may, once only, and the truth whatever dies.

use chrono::{SecondsFormat, Utc};
use rust_decimal::dec;
use rustix::process::Signal;
use serde_json::json;

use crate::double::{CHAT, PollScript, Script, Telegram};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::wait;

/// Where commands come from; notifications go elsewhere.
const DESK: i64 = -2002;
/// Another allowed chat.
const OTHER: i64 = -3003;
/// Who may command.
const ASHA: i64 = 42;

async fn cluster(telegram: &Telegram) -> Cluster {
    let mut env = telegram.env();
    env.extend(
        [
            ("BATON_NOTIFY__NOTIFICATION_START_STOP", "false"),
            ("BATON_NOTIFY__NOTIFICATION_TIMEOUT", "1"),
            ("BATON_NOTIFY__TELEGRAM_COMMAND_CHATS", "-2002, -3003"),
            ("BATON_NOTIFY__TELEGRAM_COMMAND_USERS", "42"),
            ("BATON_NOTIFY__TELEGRAM_COMMANDS_PER_MINUTE", "100"),
            ("BATON_NOTIFY__TELEGRAM_POLL", "2"),
        ]
        .map(|(key, value)| (key, value.to_owned())),
    );
    Cluster::with(Options { env, ..Options::default() }).await
}

/// The replies in the desk's chat, once there are so many.
async fn replies(cluster: &Cluster, telegram: &Telegram, count: usize) -> Vec<String> {
    wait::until(&format!("{count} replies"), PATIENCE, async || {
        let found = telegram.replies(DESK);
        if found.len() >= count { Ok(found) } else { Err((found, cluster.logs())) }
    })
    .await
}

/// Says something to the bot and gives its answer.
async fn say(cluster: &Cluster, telegram: &Telegram, text: &str) -> String {
    let before = telegram.replies(DESK).len();
    telegram.write(DESK, ASHA, text, 0);
    replies(cluster, telegram, before + 1).await.swap_remove(before)
}

/// The command that confirms, out of an answer that asks.
fn confirmation(answer: &str) -> String {
    let line = answer.lines().find(|line| line.starts_with("/confirm ")).expect(answer);
    line.to_owned()
}

async fn halted(cluster: &Cluster) -> bool {
    cluster.sql.query_one("SELECT halted FROM leadership", &[]).await.unwrap().get(0)
}

/// Every command has its end, and the chain of the audit is whole.
async fn settled(cluster: &Cluster, telegram: &Telegram) {
    let open = "SELECT count(*) FROM telegram_command WHERE state IN ('taken', 'done')";
    wait::until("every command is answered", PATIENCE, async || {
        let left = (cluster.count(open).await, telegram.untaken());
        if left == (0, 0) { Ok(()) } else { Err(left) }
    })
    .await;
    let ran = cluster.baton(&["audit", "verify", "-o", "json"]).await;
    let verified = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && verified.contains("true"), "{ran:?}");
}

// R: N15: who may, what asks first, what is kept; strangers get no answer
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_come_from_allowed_chats_alone_and_dangerous_ones_ask_first() {
    let telegram = Telegram::start().await;
    let cluster = cluster(&telegram).await;
    let leader = cluster.leader().await;

    // A stranger's chat, a stranger in an allowed chat, talk that is no command.
    telegram.write(-666, ASHA, "/halt", 0);
    telegram.write(DESK, 43, "/halt", 0);
    telegram.write(DESK, ASHA, "good morning", 0);
    wait::until("the leader sees all three", PATIENCE, async || {
        let seen = cluster.members[leader].json("/api/v1/cluster").await.unwrap_or_default();
        if seen["instances"].as_array().is_some_and(|alive| alive.len() == 3) { Ok(()) } else { Err(seen) }
    })
    .await;
    let status = say(&cluster, &telegram, "/status@baton_bot").await;
    let name = &cluster.members[leader].name;
    let epoch = cluster.epoch().await;
    assert!(status.contains("test (live): ACTIVE"), "{status}");
    assert!(status.contains(&format!("{name} leads under epoch {epoch}")), "{status}");
    assert!(status.contains("Alive: ") && status.contains("b1") && status.contains("b3"), "{status}");
    assert!(status.contains("No switch is on\n0 positions open"), "{status}");
    assert!(!halted(&cluster).await);
    assert_eq!(telegram.chats(), [DESK], "a stranger gets no answer");
    let strangers =
        cluster.members[leader].metric("baton_telegram_commands_total{outcome=\"stranger\"}").await;
    assert_eq!(strangers, Some(2.0));

    for (text, part) in [
        ("/help", "/flatten: closes every position. Asks first"),
        ("/positions", "No position is held."),
        ("/errors", "Nothing is wrong."),
        ("/sell", "There is no /sell."),
    ] {
        let answer = say(&cluster, &telegram, text).await;
        assert!(answer.contains(part), "{text}: {answer}");
    }

    // A halt acts at once, by the same switch as everywhere.
    let answer = say(&cluster, &telegram, "/halt exchange trouble").await;
    assert!(answer.starts_with("Halted: no entries") && answer.contains("telegram:asha"), "{answer}");
    let switches = cluster.members[(leader + 1) % 3].json("/api/v1/switches").await.unwrap();
    let shown =
        switches["switches"].as_array().unwrap().iter().find(|s| s["switch"] == "halted").unwrap().clone();
    assert_eq!(
        (&shown["on"], &shown["who"], &shown["why"]),
        (&json!(true), &json!("telegram:asha"), &json!("exchange trouble"))
    );
    assert!(
        say(&cluster, &telegram, "/status").await.contains("ON: halted, by telegram:asha: exchange trouble")
    );

    // Its end asks first. Another code, another chat and a newer offer do not confirm it.
    let first = confirmation(&say(&cluster, &telegram, "/unhalt").await);
    assert!(say(&cluster, &telegram, "/confirm 1234567").await.contains("Nothing was done"));
    let second = confirmation(&say(&cluster, &telegram, "/unhalt over").await);
    assert!(
        say(&cluster, &telegram, &first).await.contains("Nothing was done"),
        "a newer offer took its place"
    );
    telegram.write(OTHER, ASHA, &second, 0);
    wait::until("the other chat is answered", PATIENCE, async || {
        let found = telegram.replies(OTHER);
        if found.iter().any(|text| text.contains("Nothing was done")) { Ok(()) } else { Err(found) }
    })
    .await;
    assert!(halted(&cluster).await);
    assert!(say(&cluster, &telegram, &second).await.contains("The halt is over"));
    assert!(!halted(&cluster).await);
    assert!(say(&cluster, &telegram, "/halt").await.contains("Halted"));
    assert!(say(&cluster, &telegram, &second).await.contains("Nothing was done"), "a code holds once");
    assert!(halted(&cluster).await);

    let pause = confirmation(&say(&cluster, &telegram, "/pause upgrade").await);
    assert!(say(&cluster, &telegram, &pause).await.contains("Paused"));
    assert_eq!(cluster.count("SELECT count(*) FROM leadership WHERE paused").await, 1);
    assert!(say(&cluster, &telegram, "/resume").await.contains("Automatic failover works again"));
    assert_eq!(cluster.count("SELECT count(*) FROM leadership WHERE paused").await, 0);

    settled(&cluster, &telegram).await;
    let audited = "SELECT count(*) FROM audit_log WHERE kind = 'telegram' AND actor = 'telegram:asha'
        AND payload LIKE '%/unhalt over%'";
    assert_eq!(cluster.count(audited).await, 1);
    assert_eq!(telegram.most_polling(), 1, "nobody but the leader listens");
    cluster.finish().await;
}

// R: N15: a halt is ended as it was shown, under the leader that showed it
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_halt_ends_what_it_named_and_nothing_set_since_nor_under_another_leader() {
    let telegram = Telegram::start().await;
    let mut cluster = cluster(&telegram).await;
    assert!(say(&cluster, &telegram, "/halt news").await.contains("Halted"));
    let offered = say(&cluster, &telegram, "/unhalt").await;
    assert!(offered.contains("ON: halted, by telegram:asha: news"), "{offered}");
    assert!(say(&cluster, &telegram, "/halt the exchange again").await.contains("Halted"));
    let refused = say(&cluster, &telegram, &confirmation(&offered)).await;
    assert!(refused.contains("/unhalt was NOT done") && refused.contains("the exchange again"), "{refused}");

    let offered = say(&cluster, &telegram, "/unhalt").await;
    cluster.kill_leader().await;
    let refused = say(&cluster, &telegram, &confirmation(&offered)).await;
    assert!(refused.contains("/unhalt was NOT done") && refused.contains("leadership moved"), "{refused}");
    assert!(halted(&cluster).await);
    let fresh = say(&cluster, &telegram, "/unhalt").await;
    assert!(say(&cluster, &telegram, &confirmation(&fresh)).await.contains("The halt is over"));
    settled(&cluster, &telegram).await;
    cluster.revive().await;
    cluster.finish().await;
}

// R: N15: an old command is refused, but a halt acts however late; a flood is passed over
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_command_is_refused_and_a_flood_passed_over_but_for_a_halt() {
    let telegram = Telegram::start().await;
    let cluster = cluster(&telegram).await;
    let leader = cluster.leader().await;
    telegram.write(DESK, ASHA, "/flatten", 3600);
    let refused = replies(&cluster, &telegram, 1).await.swap_remove(0);
    assert!(refused.contains("Nothing was done: /flatten is 1 h 0 min old"), "{refused}");
    for number in 0..130 {
        telegram.write(DESK, ASHA, "/help", 0);
        if number == 120 {
            telegram.write(DESK, ASHA, "/halt now", 3600);
        }
    }
    wait::until("the halt is on", PATIENCE, async || {
        if halted(&cluster).await { Ok(()) } else { Err(cluster.logs()) }
    })
    .await;
    wait::until("everything is taken", PATIENCE, async || {
        let flooded =
            cluster.members[leader].metric("baton_telegram_commands_total{outcome=\"flooded\"}").await;
        // 101 were answered with the old one: the last of them with the word that it was too much.
        if flooded == Some(30.0) { Ok(()) } else { Err((flooded, cluster.logs())) }
    })
    .await;
    let full = "SELECT count(*) FROM telegram_command WHERE outcome LIKE '%more than 100 commands%'";
    let late = "SELECT count(*) FROM telegram_command WHERE outcome LIKE 'Halted%It was sent 1 h 0 min ago.'";
    assert_eq!((cluster.count(full).await, cluster.count(late).await), (1, 1));
    settled(&cluster, &telegram).await;
    cluster.finish().await;
}

// R: N15: a flatten by Telegram is the flatten of the API: confirmed once, one exit, the books' word
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flatten_asks_shows_what_is_held_and_closes_it_once() {
    let telegram = Telegram::start().await;
    let cluster = cluster(&telegram).await;
    cluster.paper.set_price("GOLDM05DEC25FUT", "MCX", dec!(140000)).await;
    let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
    let entry = json!({ "id": "held", "type": "BASE_ENTRY", "instrument": "GOLD_MINI", "position": "Long_1",
        "price": 140_000, "stop": 138_600, "atr": 700, "er": 0.8, "lots": 1, "timestamp": now });
    let entered = cluster.play(0, &entry).await;
    assert_eq!(entered["status"], "executed", "{entered}");
    assert!(say(&cluster, &telegram, "/positions").await.contains("GOLDM05DEC25FUT Long_1"));
    let asked = say(&cluster, &telegram, "/flatten end of the day").await;
    assert!(asked.contains("1 position held") && asked.contains("GOLDM05DEC25FUT"), "{asked}");
    let exits = "SELECT count(*) FROM order_intent WHERE class = 'operator'";
    assert_eq!(cluster.count(exits).await, 0, "asking sends nothing");
    let confirm = confirmation(&asked);
    // Said twice at once: the code holds once.
    let before = telegram.replies(DESK).len();
    telegram.write(DESK, ASHA, &confirm, 0);
    telegram.write(DESK, ASHA, &confirm, 0);
    let answers = replies(&cluster, &telegram, before + 2).await.split_off(before);
    assert!(answers.iter().any(|answer| answer.starts_with("1 position closed.")), "{answers:?}");
    assert!(answers.iter().any(|answer| answer.starts_with("Nothing was done")), "{answers:?}");
    assert_eq!(cluster.count(exits).await, 1);
    settled(&cluster, &telegram).await;
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (2, 0));
}

// R: N15: the leader dies between taking and acting, and between acting and answering: at most once, and the truth
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_dies_on_a_command_leaves_the_truth_to_its_successor() {
    let telegram = Telegram::start().await;
    let mut cluster = cluster(&telegram).await;
    for (place, acted) in [("after_command_taken", false), ("after_command_acted", true)] {
        let offered = say(&cluster, &telegram, "/pause upgrade").await;
        cluster.arm(place, "kill");
        telegram.write(DESK, ASHA, "/halt news", 0);
        wait::until("the leader dies on it", PATIENCE, async || {
            if cluster.is_armed() { Err(cluster.logs()) } else { Ok(()) }
        })
        .await;
        cluster.leader().await;
        let answer = wait::until("the successor answers", PATIENCE, async || {
            let found = telegram.replies(DESK);
            let last = found.last().cloned().unwrap_or_default();
            if last.contains("alt") { Ok(last) } else { Err((found, cluster.logs())) }
        })
        .await;
        assert_eq!(halted(&cluster).await, acted, "{answer}");
        let truth = if acted { "Halted: no entries" } else { "/halt news was NOT done and will not be" };
        assert!(answer.contains(truth), "{place}: {answer}");
        // A code that was offered before the failover holds after it, once.
        let paused = say(&cluster, &telegram, &confirmation(&offered)).await;
        assert!(paused.contains("Paused"), "{paused}");
        assert!(say(&cluster, &telegram, &confirmation(&offered)).await.contains("Nothing was done"));
        assert!(say(&cluster, &telegram, "/resume").await.contains("works again"));
        cluster.revive().await;
        cluster.all_ready().await;
    }
    let halts = "SELECT count(*) FROM switch_history WHERE switch = 'halted'";
    assert_eq!(cluster.count(halts).await, 1, "it acted once");
    settled(&cluster, &telegram).await;
    cluster.finish().await;
}

// R: N15, LESSONS "paused leader still believed it led": it wakes with a command in hand that its successor has dropped
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_paused_on_a_command_does_not_act_when_it_wakes() {
    let telegram = Telegram::start().await;
    let mut cluster = cluster(&telegram).await;
    assert!(say(&cluster, &telegram, "/halt news").await.contains("Halted"));
    let confirm = confirmation(&say(&cluster, &telegram, "/unhalt").await);
    let old = cluster.leader().await;
    cluster.arm("after_command_taken", "stop");
    let before = telegram.replies(DESK).len();
    telegram.write(DESK, ASHA, &confirm, 0);
    wait::until("the leader stops on it", PATIENCE, async || {
        if cluster.members[old].process.is_stopped() { Ok(()) } else { Err(cluster.logs()) }
    })
    .await;
    cluster.leader_within(PATIENCE, |index| index != old).await;
    let dropped = replies(&cluster, &telegram, before + 1).await.swap_remove(before);
    assert!(dropped.contains("/unhalt was NOT done and will not be"), "{dropped}");
    cluster.members[old].process.signal(Signal::CONT);
    wait::until("it follows", PATIENCE, async || {
        let role = cluster.members[old].json("/leader").await.unwrap_or_default()["role"].clone();
        if role == "follower" && cluster.members[old].is_ready().await {
            Ok(())
        } else {
            Err((role, cluster.logs()))
        }
    })
    .await;
    assert!(halted(&cluster).await, "the halt holds");
    settled(&cluster, &telegram).await;
    cluster.finish().await;
}

// R: N11, N15: every fault of the Bot API in both directions; a command acts once
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_of_the_bot_api_leaves_a_command_acted_on_once() {
    let telegram = Telegram::start().await;
    let cluster = cluster(&telegram).await;
    for poll in [PollScript::TooMany(1), PollScript::Fail, PollScript::LoseAnswer, PollScript::Hang] {
        telegram.script_polls(&[poll]);
        let answer = say(&cluster, &telegram, &format!("/halt {poll:?}")).await;
        assert!(answer.contains("Halted") && telegram.scripted_polls() == 0, "{poll:?}: {answer}");
    }
    telegram.script(&[Script::TooMany(1)]);
    assert!(say(&cluster, &telegram, "/halt busy").await.starts_with("Halted"));
    let before = telegram.replies(DESK).len();
    telegram.script(&[Script::LoseAnswer]);
    telegram.write(DESK, ASHA, "/halt twice", 0);
    let twice = replies(&cluster, &telegram, before + 2).await.split_off(before);
    assert!(twice[1].starts_with("(possible repeat) Halted"), "{twice:?}");
    let halts = "SELECT count(*) FROM switch_history WHERE switch = 'halted'";
    assert_eq!(cluster.count(halts).await, 6);
    settled(&cluster, &telegram).await;
    assert_eq!(telegram.replies(CHAT), [""; 0], "no notification came of it");
    cluster.finish().await;
}
