//! The driver's promises: every row once and in order, whichever instances fail meanwhile, and an end when none is left.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use baton::domain::export::{ExportTrade, read};
use baton::replay::{Addresses, Client, Error, Leg, Limits, PriceControl, Progress, Replay, Report};
use rust_decimal::dec;

use super::double::{Inbox, Instance, Mood};

const EXPORT: &str = "Trade #,Type,Date/Time,Signal,Price INR,Position size (qty)\n\
    1,Exit long,2020-04-15 12:00,Stop,46200,37\n1,Entry long,2020-04-03 09:00,ENTRY-37L,43600,37\n\
    2,Exit long,2020-05-15 12:00,Stop,46100,18\n2,Entry long,2020-05-07 09:00,ENTRY-18L,45000,18\n";

const ROWS: [&str; 4] = ["tv-1-entry", "tv-1-exit", "tv-2-entry", "tv-2-exit"];

fn trades() -> Vec<ExportTrade> {
    read(EXPORT.as_bytes()).unwrap()
}

fn replay(addresses: Addresses, patience: Duration) -> Replay {
    // Another test of this process may have installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Replay {
        client: Client::new(addresses, Some("t0ken".into())).unwrap(),
        instrument: "GOLD_MINI".to_owned(),
        defaults: Default::default(),
        price: None,
        limits: Limits { rows: None, patience },
    }
}

async fn cluster(moods: [Mood; 3]) -> (Arc<Mutex<Inbox>>, Vec<Instance>) {
    let inbox = Arc::new(Mutex::new(Inbox { looks_until_final: 2, ..Inbox::default() }));
    let mut instances = Vec::new();
    for mood in moods {
        instances.push(Instance::start(&inbox, mood).await);
    }
    (inbox, instances)
}

fn addresses(instances: &[Instance]) -> Addresses {
    Addresses::new(instances.iter().map(|instance| format!("{}/", instance.address)))
}

fn all_executed(report: &Report) {
    assert_eq!(report.signals, [("executed".to_owned(), 4)].into(), "{report:?}");
    assert_eq!(report.orders, [("filled".to_owned(), 4)].into());
    assert_eq!(report.legs.iter().map(|leg| leg.row.as_str()).collect::<Vec<_>>(), ROWS);
}

#[tokio::test]
async fn rows_are_played_in_order_each_when_the_former_is_final() {
    let (inbox, instances) = cluster([Mood::Well; 3]).await;
    let mut replay = replay(addresses(&instances), Duration::from_secs(20));
    replay.price = Some(PriceControl::new(&instances[0].address, "MCX", "GOLDM05DEC25FUT").unwrap());
    // In a task of its own: whoever kills instances meanwhile needs the replay's future to be Send.
    let report = tokio::spawn(async move { replay.run(&trades(), &()).await }).await.unwrap().unwrap();
    all_executed(&report);
    let leg = &report.legs[0];
    assert_eq!((leg.quantity.0, leg.price.unwrap().0, leg.trade), (200, dec!(43600), 1));

    let inbox = inbox.lock().unwrap();
    assert_eq!(inbox.order, ROWS);
    assert_eq!(inbox.prices, ["43600", "46200", "45000", "46100"]);
    assert!(inbox.tokens.iter().all(|token| token == "Bearer t0ken"));
    for (key, stored) in &inbox.signals {
        assert_eq!((stored.posted, stored.looks), (1, 3), "{key}");
    }
    assert_eq!(inbox.signals["tv-1-exit"].body["reason"], "Stop");
}

#[tokio::test]
async fn instances_that_are_gone_or_unavailable_are_passed_over() {
    let (inbox, mut instances) = cluster([Mood::Well, Mood::Unavailable, Mood::Well]).await;
    let list = addresses(&instances);
    // Nobody listens at the first address any more.
    instances.remove(0).kill().await;
    let report = replay(list, Duration::from_secs(20)).run(&trades(), &()).await.unwrap();
    all_executed(&report);
    assert!(inbox.lock().unwrap().signals.values().all(|stored| stored.posted == 1));
}

/// Makes one instance fail after the first row, and counts how often another address had to be tried.
struct Trouble<'a> {
    instance: &'a Instance,
    mood: Mood,
    moved_on: Mutex<Vec<String>>,
}

impl Progress for Trouble<'_> {
    fn leg(&self, done: usize, _: &Leg) {
        if done == 1 {
            self.instance.feel(self.mood);
        }
    }

    fn moves_on(&self, address: &str, _: &str) {
        self.moved_on.lock().unwrap().push(address.to_owned());
    }
}

#[tokio::test]
async fn a_paused_instance_costs_one_timeout_and_is_not_asked_again() {
    let (inbox, instances) = cluster([Mood::Well; 3]).await;
    let trouble = Trouble { instance: &instances[0], mood: Mood::Silent, moved_on: Mutex::default() };
    let replay = replay(addresses(&instances), Duration::from_secs(20));
    all_executed(&replay.run(&trades(), &trouble).await.unwrap());
    assert_eq!(*trouble.moved_on.lock().unwrap(), [instances[0].address.clone()]);
    assert_eq!(inbox.lock().unwrap().order, ROWS);
}

#[tokio::test]
async fn a_signal_whose_answer_was_lost_is_posted_again_and_stays_one_signal() {
    let (inbox, instances) = cluster([Mood::Well; 3]).await;
    let trouble =
        Trouble { instance: &instances[0], mood: Mood::HangsUpAfterStoring, moved_on: Mutex::default() };
    let replay = replay(addresses(&instances), Duration::from_secs(20));
    all_executed(&replay.run(&trades(), &trouble).await.unwrap());
    let inbox = inbox.lock().unwrap();
    assert_eq!(inbox.order, ROWS);
    assert_eq!(inbox.signals["tv-1-exit"].posted, 2);
    assert_eq!(inbox.signals.len(), 4);
}

#[tokio::test]
async fn addresses_may_change_while_it_runs() {
    struct Moves(Addresses, String);
    impl Progress for Moves {
        fn leg(&self, done: usize, _: &Leg) {
            if done == 2 {
                self.0.set([&self.1]);
            }
        }
    }
    let (inbox, instances) = cluster([Mood::Well; 3]).await;
    let list = Addresses::new([&instances[0].address]);
    let moves = Moves(list.clone(), instances[2].address.clone());
    all_executed(&replay(list, Duration::from_secs(20)).run(&trades(), &moves).await.unwrap());
    assert_eq!(inbox.lock().unwrap().order, ROWS);
}

#[tokio::test]
async fn it_gives_up_when_no_instance_answers_before_the_deadline() {
    let (_, instances) = cluster([Mood::Unavailable; 3]).await;
    let replay = replay(addresses(&instances), Duration::from_millis(300));
    let error = replay.run(&trades(), &()).await.unwrap_err();
    assert!(matches!(&error, Error::Unanswered { why, .. } if why.contains("503")), "{error}");
}

#[tokio::test]
async fn it_gives_up_on_a_signal_that_never_becomes_final() {
    let (inbox, instances) = cluster([Mood::Well; 3]).await;
    inbox.lock().unwrap().looks_until_final = usize::MAX;
    let replay = replay(addresses(&instances), Duration::from_millis(300));
    let error = replay.run(&trades(), &()).await.unwrap_err();
    assert!(
        matches!(&error, Error::Unfinished { row, status, .. } if row == "tv-1-entry" && status == "working"),
        "{error}"
    );
}

#[tokio::test]
async fn a_row_that_is_refused_is_reported_and_the_others_go_on() {
    let (inbox, instances) = cluster([Mood::Well; 3]).await;
    inbox.lock().unwrap().ends.insert("tv-2-entry".to_owned(), "refused".to_owned());
    let report = replay(addresses(&instances), Duration::from_secs(20)).run(&trades(), &()).await.unwrap();
    assert_eq!(report.signals, [("executed".to_owned(), 3), ("refused".to_owned(), 1)].into());
    assert_eq!(report.legs[2].reasons, ["RISK: too much"]);
    assert_eq!((report.legs[2].quantity.0, report.legs[2].price), (0, None));

    let (_, instances) = cluster([Mood::Refuses(400); 3]).await;
    let report = replay(addresses(&instances), Duration::from_secs(20)).run(&trades(), &()).await.unwrap();
    assert_eq!(report.signals, [("invalid".to_owned(), 4)].into());
    assert_eq!(report.legs[0].reasons, ["stop: is above the price"]);
}

#[tokio::test]
async fn a_wrong_token_ends_it_with_advice() {
    let (_, instances) = cluster([Mood::Refuses(401); 3]).await;
    let replay = replay(addresses(&instances), Duration::from_secs(20));
    let error = replay.run(&trades(), &()).await.unwrap_err();
    assert!(matches!(error, Error::Refused { status: 401, .. }));
    assert!(error.to_string().contains("signals.token"), "{error}");
}

#[tokio::test]
async fn given_up_signals_are_read_again_at_the_end() {
    struct FillsLate(Arc<Mutex<Inbox>>);
    impl Progress for FillsLate {
        fn leg(&self, done: usize, leg: &Leg) {
            if done == 4 {
                assert_eq!(leg.status, "executed");
                self.0.lock().unwrap().ends.clear();
            }
        }
    }
    let (inbox, instances) = cluster([Mood::Well; 3]).await;
    inbox.lock().unwrap().ends.insert("tv-1-entry".to_owned(), "abandoned".to_owned());
    let replay = replay(addresses(&instances), Duration::from_secs(20));
    let report = replay.run(&trades(), &FillsLate(Arc::clone(&inbox))).await.unwrap();
    all_executed(&report);
}
