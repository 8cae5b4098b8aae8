//! What is known of a day's market: by the bridge, by the ledger while the bridge is away, by the usual hours, or by nobody.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use baton::broker::{OpenAlgo, Settings};
use baton::domain::listing::Listing;
use baton::domain::sessions::trading_day;
use baton::feed::hours::Told;
use baton::feed::{ContractData, Hours, PriceBoard};
use baton::paper::calendar::{Calendar, Holiday};
use baton::paper::{Options, Paper};
use baton::telemetry::Metrics;
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::support::database::Database;
use crate::support::wait;

const PATIENCE: Duration = Duration::from_secs(20);

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn board() -> PriceBoard {
    let board = PriceBoard::new();
    board.want(BTreeSet::from([Listing::new("NFO", "X")]));
    board
}

async fn bridge() -> (Paper, OpenAlgo) {
    let holiday = |text| Holiday { date: trading_day(at(text)), description: "Holiday".to_owned() };
    let days = vec![holiday("2026-08-11T10:00:00+05:30"), holiday("2026-08-13T10:00:00+05:30")];
    let paper =
        Paper::start(Options { calendar: Calendar::Exchange(days), ..Options::default() }).await.unwrap();
    let mut settings = Settings::new(paper.http_url(), "paper");
    settings.read_attempts = 1;
    let broker = OpenAlgo::new(settings).unwrap();
    (paper, broker)
}

#[tokio::test]
async fn a_day_is_known_by_the_bridge_then_by_the_ledger_then_by_the_usual_hours_or_not_at_all() {
    let database = Database::start().await;
    let (ledger, board) = (&database.ledger, board());
    let (paper, broker) = bridge().await;
    let monday = at("2026-08-10T10:00:00+05:30");
    let hours = Hours::default();
    assert_eq!((hours.any_open(&board, monday), hours.told(monday)), (None, None));
    hours.read(&broker, ledger, monday).await;
    assert_eq!((hours.any_open(&board, monday), hours.told(monday)), (Some(true), Some(Told::Bridge)));
    assert_eq!(hours.any_open(&board, at("2026-08-10T20:00:00+05:30")), Some(false));
    let tuesday = at("2026-08-11T10:00:00+05:30");
    assert_eq!(hours.any_open(&board, tuesday), None, "another day");
    let holidays: Vec<String> = hours.holidays().iter().map(|holiday| holiday.day.to_string()).collect();
    assert_eq!(holidays, ["2026-08-11", "2026-08-13"]);

    paper.stop().await;
    hours.read(&broker, ledger, monday).await;
    assert_eq!(hours.told(monday), Some(Told::Bridge), "what it said of the day holds");
    // Another process, or the next morning: today's and tomorrow's hours are kept, later ones follow from the holidays.
    for (text, told, open) in [
        ("2026-08-10T10:00:00+05:30", Told::Ledger, true),
        ("2026-08-11T10:00:00+05:30", Told::Ledger, false),
        ("2026-08-12T10:00:00+05:30", Told::Usual, true),
        ("2026-08-12T15:45:00+05:30", Told::Usual, false),
        ("2026-08-13T10:00:00+05:30", Told::Usual, false),
        ("2026-08-15T10:00:00+05:30", Told::Usual, false),
    ] {
        let hours = Hours::default();
        hours.read(&broker, ledger, at(text)).await;
        assert_eq!(
            (hours.told(at(text)), hours.any_open(&board, at(text))),
            (Some(told), Some(open)),
            "{text}"
        );
        assert_eq!(hours.holidays().len(), 2, "{text}");
    }
    let hours = Hours::default();
    let next_year = at("2027-08-12T10:00:00+05:30");
    hours.read(&broker, ledger, next_year).await;
    assert_eq!(hours.told(next_year), None, "no list of that year's holidays");
    assert_eq!(hours.any_open(&board, next_year), None);
}

#[tokio::test]
async fn contracts_are_known_for_their_day_only_and_outlive_the_bridge_in_the_ledger() {
    let database = Database::start().await;
    let ledger = &database.ledger;
    let (paper, broker) = bridge().await;
    let gold = Listing::new("MCX", "GOLDM05DEC25FUT");
    let listings = [gold.clone(), Listing::new("MCX", "NO_SUCH")];
    let (today, tomorrow) = (at("2026-08-10T10:00:00+05:30"), at("2026-08-11T10:00:00+05:30"));
    let data = ContractData::default();
    data.read(&broker, ledger, &listings, today).await;
    let known = data.known().unwrap();
    assert_eq!(known.get(&gold).unwrap().lot_size.0, 100);
    assert_eq!(known.get(&listings[1]), None, "one unknown contract does not take the others'");

    // Asking for what is missing, again and again, writes nothing anew.
    let client = database.connect().await;
    let stored = async || -> String {
        client.query_one("SELECT string_agg(xmin::text, ',') FROM contract_day", &[]).await.unwrap().get(0)
    };
    let before = stored().await;
    data.read(&broker, ledger, &listings, today).await;
    assert_eq!(stored().await, before);

    paper.stop().await;
    let data = ContractData::default();
    data.read(&broker, ledger, &listings, today).await;
    assert_eq!(data.known().unwrap().get(&gold), known.get(&gold));
    data.read(&broker, ledger, &listings, tomorrow).await;
    let next = data.known().unwrap();
    assert_eq!((next.day(), next.get(&gold)), (trading_day(tomorrow), None), "yesterday's word says nothing");
}

#[tokio::test]
async fn a_days_contracts_are_asked_for_again_when_the_lists_are_out_and_after_a_login() {
    let database = Database::start().await;
    let ledger = &database.ledger;
    let (paper, broker) = bridge().await;
    let gold = [Listing::new("MCX", "GOLDM05DEC25FUT")];
    // Another test of this process may have installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let asked = async || {
        let url = format!("{}/_ctl/requests", paper.control_url());
        let seen: serde_json::Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        seen["requests"]["symbol"].as_u64().unwrap_or_default()
    };
    let data = ContractData::default();
    for (moment, count) in [
        ("00:05", 1),
        ("08:29", 1),
        // Between the two a lot or a freeze quantity may have changed.
        ("08:30", 2),
        ("08:31", 2),
        ("10:00", 2),
    ] {
        data.read(&broker, ledger, &gold, at(&format!("2026-08-10T{moment}:00+05:30"))).await;
        assert_eq!(asked().await, count, "{moment}");
    }
    data.logged_in(at("2026-08-10T10:30:00+05:30"));
    for moment in ["10:31", "10:32"] {
        data.read(&broker, ledger, &gold, at(&format!("2026-08-10T{moment}:00+05:30"))).await;
        assert_eq!(asked().await, 3, "{moment}");
    }
    data.read(&broker, ledger, &gold, at("2026-08-11T00:05:00+05:30")).await;
    assert_eq!(asked().await, 4, "the next day");
}

#[tokio::test]
async fn hours_that_nobody_knows_are_no_closed_market() {
    let database = Database::start().await;
    let (paper, broker) = bridge().await;
    paper.stop().await;
    let (metrics, stop) = (Arc::new(Metrics::new()), CancellationToken::new());
    let keeping = Hours::default().keep(
        Arc::new(broker),
        database.ledger.clone(),
        BTreeSet::from(["NFO".to_owned()]),
        Arc::clone(&metrics),
        stop.clone(),
    );
    let keeping = tokio::spawn(keeping);
    wait::until("it is told as unknown", PATIENCE, async || match metrics.market_open.get() {
        -1 => Ok(()),
        other => Err(other),
    })
    .await;
    stop.cancel();
    keeping.await.unwrap();
}
