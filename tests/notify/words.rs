//! An operator's word on errors and restart storms: audited, of one time that an error lasted, and done whoever is paused.

use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse;
use baton::ledger::Ledger;
use baton::ledger::errors::{Episode, WordError};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_postgres::Client;

use crate::instance::PATIENCE;
use crate::support::cluster::{Cluster, Options};
use crate::support::database::Database;
use crate::support::proxy::{Link, Proxy, Way};
use crate::support::wait;
use crate::throttle::{ASHA, newest, occurrence};

/// The rows that a word left in the audit log.
async fn audited(sql: &Client) -> Vec<(String, Value)> {
    let rows = "SELECT kind, payload FROM audit_log WHERE actor = 'asha' ORDER BY seq";
    let rows = sql.query(rows, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), serde_json::from_str(row.get(1)).unwrap())).collect()
}

/// Waits until a session of this application waits for a lock.
async fn waits_for_a_lock(sql: &Client, application: &str) {
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'";
    wait::until("it waits for the lock", PATIENCE, async || {
        match sql.query_one(waiting, &[&application]).await.unwrap().get::<_, i64>(0) {
            0 => Err(()),
            _ => Ok(()),
        }
    })
    .await;
}

/// The broker's error, which lasts.
async fn broker_error(ledger: &Ledger) -> Episode {
    let errors = ledger.errors(false, 100).await.unwrap();
    let row = errors.iter().find(|row| row.error_type == "BROKER_ERROR" && !row.resolved).expect("it lasts");
    Episode { id: row.id, open_since: row.open_since }
}

/// The error ends, and comes back.
async fn comes_back(ledger: &Ledger, of: Episode) {
    ledger.resolve_error(of, ASHA).await.unwrap();
    ledger.record_occurrences(&[occurrence("BROKER_ERROR", "b1", "away again")]).await.unwrap();
}

// What changes nothing leaves no row; what does says who, what and why.
#[tokio::test]
async fn an_operators_word_on_an_error_and_on_a_restart_storm_is_in_the_audit_log() {
    let database = Database::start().await;
    let (ledger, sql) = (&database.ledger, database.connect().await);
    ledger.record_occurrences(&[occurrence("BROKER_ERROR", "b1", "away")]).await.unwrap();
    let of = newest(ledger).await;
    let unknown = ledger.acknowledge_error(Episode { id: of.id + 1, ..of }, ASHA).await;
    assert!(matches!(unknown, Err(WordError::NotOpen(_))), "{unknown:?}");
    ledger.acknowledge_error(of, ASHA).await.unwrap();
    ledger.resolve_error(of, ASHA).await.unwrap();
    let over = ledger.resolve_error(of, ASHA).await;
    assert!(matches!(over, Err(WordError::NotOpen(_))), "{over:?}");
    assert_eq!(ledger.acknowledge_starts(Some("b2"), ASHA).await.unwrap(), 0);
    for member in ["b1", "b2", "b2"] {
        ledger.process_started(uuid::Uuid::now_v7(), member, 60.0).await.unwrap();
    }
    assert_eq!(ledger.acknowledge_starts(Some("b2"), ASHA).await.unwrap(), 2);
    assert_eq!(ledger.acknowledge_starts(None, ASHA).await.unwrap(), 1);

    let mut rows = audited(&sql).await;
    for (_, payload) in &mut rows[..2] {
        let since: chrono::DateTime<chrono::Utc> =
            payload["open_since"].take().as_str().unwrap().parse().unwrap();
        assert_eq!(since, of.open_since);
    }
    let word = |word: &str| {
        let said = json!({
            "error": of.id, "error_type": "BROKER_ERROR", "scope": "", "open_since": null, "word": word,
            "reason": ASHA.reason,
        });
        ("error".to_owned(), said)
    };
    let storm = |member: Option<&str>, starts: i64| {
        let said = json!({ "member": member, "starts": starts, "reason": ASHA.reason });
        ("restart_storm".to_owned(), said)
    };
    let (none, two, all) = (storm(Some("b2"), 0), storm(Some("b2"), 2), storm(None, 1));
    assert_eq!(rows, [word("acknowledge"), word("resolve"), none, two, all]);
    assert!(ledger.verify_audit().await.unwrap().ok);
}

// A process that is paused, or cut off, after it has sent its word: the word is done, and nobody waits for the audit chain.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_is_done_without_whoever_sent_it_and_holds_no_lock_meanwhile() {
    let database = Database::start().await;
    let (ledger, sql, holder) = (&database.ledger, database.connect().await, database.connect().await);
    ledger.record_occurrences(&[occurrence("BROKER_ERROR", "b1", "away")]).await.unwrap();
    ledger.process_started(uuid::Uuid::now_v7(), "b1", 60.0).await.unwrap();
    let of = newest(ledger).await;
    let url = reqwest::Url::parse(&database.stores.database_url()).unwrap();
    let direct = format!("127.0.0.1:{}", url.port().unwrap());
    let link = Proxy::start(direct.parse().unwrap()).await;
    let through = database.stores.database_url().replace(&direct, &link.address.to_string());
    assert_ne!(through, database.stores.database_url());
    let paused = Ledger::new(&through, 1, "paused").unwrap();

    for (said, word) in ["acknowledge", "resolve", "restart-storm"].into_iter().enumerate() {
        holder.batch_execute("BEGIN; SELECT FROM audit_head FOR UPDATE").await.unwrap();
        let ledger = paused.clone();
        let saying = tokio::spawn(async move {
            match word {
                "acknowledge" => ledger.acknowledge_error(of, ASHA).await.map(drop).unwrap(),
                "resolve" => ledger.resolve_error(of, ASHA).await.map(drop).unwrap(),
                _ => assert_eq!(ledger.acknowledge_starts(None, ASHA).await.unwrap(), 1),
            }
        });
        waits_for_a_lock(&sql, "paused").await;
        link.set(Link::Stall(Way::Both));
        holder.batch_execute("COMMIT").await.unwrap();
        wait::until("the word is committed", PATIENCE, async || match audited(&sql).await {
            rows if rows.len() > said => Ok(()),
            rows => Err(rows),
        })
        .await;
        sql.execute("SELECT FROM audit_head FOR UPDATE NOWAIT", &[]).await.expect("nobody holds the chain");
        let open = "SELECT FROM error_notifications_log, process_start FOR UPDATE NOWAIT";
        sql.execute(open, &[]).await.expect("nor what the word is about");
        assert!(!saying.is_finished(), "{word}: its author has not heard yet");
        link.set(Link::Open);
        saying.await.unwrap();
    }
    let row = &ledger.errors(false, 1).await.unwrap()[0];
    assert!(row.resolved && row.acknowledged_by.as_deref() == Some("asha"), "{row:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_is_of_the_time_that_its_author_saw_and_of_no_later_one() {
    let database = Database::start().await;
    let (ledger, sql, holder) = (&database.ledger, database.connect().await, database.connect().await);
    ledger.record_occurrences(&[occurrence("BROKER_ERROR", "b1", "away")]).await.unwrap();
    let seen = newest(ledger).await;
    comes_back(ledger, seen).await;
    let before = audited(&sql).await;
    let now = newest(ledger).await;
    for said in [ledger.acknowledge_error(seen, ASHA).await, ledger.resolve_error(seen, ASHA).await] {
        match said {
            Err(WordError::CameBack { id, at }) => assert_eq!((id, at), (now.id, now.open_since)),
            other => panic!("{other:?}"),
        }
    }
    // While the word waits for the row another transaction ends the error, and it comes back in it.
    let back = "BEGIN; UPDATE error_notifications_log SET open_since = open_since + interval '1 second'";
    for word in ["acknowledge", "resolve"] {
        let now = newest(ledger).await;
        holder.batch_execute(back).await.unwrap();
        let waiting = Ledger::new(&database.stores.database_url(), 1, "waiting").unwrap();
        let saying = tokio::spawn(async move {
            match word {
                "acknowledge" => waiting.acknowledge_error(now, ASHA).await,
                _ => waiting.resolve_error(now, ASHA).await,
            }
        });
        waits_for_a_lock(&sql, "waiting").await;
        holder.batch_execute("COMMIT").await.unwrap();
        let said = saying.await.unwrap();
        assert!(matches!(said, Err(WordError::CameBack { .. })), "{word}: {said:?}");
    }
    let row = &ledger.errors(false, 1).await.unwrap()[0];
    assert!(!row.resolved && row.acknowledged_by.is_none(), "{row:?}");
    assert_eq!(audited(&sql).await, before, "what changes nothing leaves no row");
}

/// An address at which an instance answers, except that an error ends and comes back before a word on it gets there.
async fn late_for(cluster: &Cluster, ledger: &Ledger) -> String {
    let (instance, client, ledger) =
        (cluster.members[0].address.clone(), cluster.client.clone(), ledger.clone());
    let pass_on = async move |request: Request| {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        if parts.method == "POST" {
            comes_back(&ledger, broker_error(&ledger).await).await;
        }
        let asked = client.request(parts.method, format!("{instance}{}", parts.uri)).headers(parts.headers);
        let answer = asked.body(body).send().await.unwrap();
        (answer.status(), answer.bytes().await.unwrap()).into_response()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(pass_on)).await });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_says_why_and_which_time_it_means_and_comes_too_late_for_what_came_back() {
    let cluster = Cluster::with(Options { members: 1, ..Options::default() }).await;
    let ledger = Ledger::new(&cluster.stores.database_url(), 2, "a test").unwrap();
    ledger.record_occurrences(&[occurrence("BROKER_ERROR", "b9", "away")]).await.unwrap();
    let of = broker_error(&ledger).await;
    let say = async |word: &str, body: Value| {
        let path = format!("/api/v1/errors/{}/{word}", of.id);
        cluster.members[0].command(&path, &body).await.expect("it answers")
    };
    let listed = async || {
        let seen = cluster.members[0].json("/api/v1/errors").await.unwrap();
        let errors = seen["errors"].as_array().unwrap().clone();
        errors.into_iter().find(|error| error["id"] == of.id).expect("it is listed")
    };
    let since = listed().await["open_since"].clone();
    for word in ["acknowledge", "resolve"] {
        for (body, lacks) in [
            (json!({}), "`reason`"),
            (json!({ "open_since": since }), "`reason`"),
            (json!({ "open_since": since, "reason": " \t" }), "`reason`"),
            (json!({ "reason": "known" }), "`open_since`"),
            (json!({ "reason": "known", "open_since": "yesterday" }), "open_since"),
            (json!({ "reason": "known", "open_since": since, "reasons": 1 }), "reasons"),
        ] {
            let (status, problem) = say(word, body).await;
            assert_eq!((status, &problem["code"]), (StatusCode::BAD_REQUEST, &json!("BAD_REQUEST")));
            assert!(problem["detail"].as_str().unwrap().contains(lacks), "{problem}");
        }
    }
    comes_back(&ledger, of).await;
    for word in ["acknowledge", "resolve"] {
        let (status, problem) = say(word, json!({ "reason": "known", "open_since": since })).await;
        assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &json!("CAME_BACK")), "{problem}");
        assert_eq!(problem["type"], "RUNBOOK.md#came_back");
        assert!(problem["detail"].as_str().unwrap().contains("it ended and came back at"), "{problem}");
    }
    // By the command line: what it read is over and back by the time that its word arrives.
    let late = late_for(&cluster, &ledger).await;
    let id = of.id.to_string();
    for word in ["acknowledge", "resolve"] {
        let typed = ["errors", word, &id, "--reason", "known", "--yes", "--address", &late];
        let output = cluster.baton(&typed).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("it ended and came back at") && said.contains("look again"), "{said}");
        let error = listed().await;
        assert_eq!((&error["resolved"], &error["acknowledged_by"]), (&json!(false), &Value::Null));
    }

    let since = listed().await["open_since"].clone();
    let (status, row) = say("acknowledge", json!({ "reason": "known", "open_since": since })).await;
    assert_eq!((status, row["acknowledged_by"].is_string()), (StatusCode::OK, true), "{row}");
    let (status, row) = say("resolve", json!({ "reason": "mended", "open_since": since })).await;
    assert_eq!((status, &row["resolved"]), (StatusCode::OK, &json!(true)), "{row}");
    let (status, problem) = say("resolve", json!({ "reason": "mended", "open_since": since })).await;
    assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &json!("NOT_FOUND")), "{problem}");
    cluster.finish().await;
}
