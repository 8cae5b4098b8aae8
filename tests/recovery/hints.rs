//! Where a repair that was not made points to: a database that is away is no damaged one.

use std::process::Output;

use crate::repairs::APPLY;
use crate::seeded::Seeded;
use crate::support::proxy::{Link, Proxy};

const LOOK: [&str; 2] = ["recover", "--repair"];

fn points_to(output: &Output, section: &str, which: &str) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]), "{which}: {said}");
    let pointers: Vec<&str> = said.match_indices("RUNBOOK.md#").map(|(at, _)| &said[at..]).collect();
    let pointed = pointers.iter().all(|pointer| pointer.starts_with(&format!("RUNBOOK.md#{section}")));
    assert!(pointed && !pointers.is_empty(), "{which} points to {section}: {said}");
}

// R: C11, C3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_that_loses_its_database_points_there_and_not_to_its_rows() {
    let seeded = Seeded::start().await;
    let cut = seeded.copy("cut").await;
    cut.damage("UPDATE portfolio_state SET risk_amount = 999999.99").await;
    let url = reqwest::Url::parse(&cut.url).unwrap();
    let direct = format!("127.0.0.1:{}", url.port().unwrap());
    let link = Proxy::start(direct.parse().unwrap()).await;
    let through = seeded.at(cut.url.replace(&direct, &link.address.to_string()));
    assert_ne!(through.url, cut.url);

    // The connection breaks between any two steps: the look, the proposal, the same again in the transaction, the proof.
    let (mut bytes, mut lost) = (250, 0);
    let made = loop {
        link.set(Link::CutAfter(bytes));
        let output = through.baton(&APPLY).await;
        if output.status.success() {
            break output;
        }
        // Its commit arrived, and the answer to it did not.
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if said.contains("there is nothing to mend") {
            break output;
        }
        points_to(&output, "db_unavailable", &format!("cut after {bytes} bytes"));
        (bytes, lost) = (bytes * 2, lost + 1);
        assert!(bytes < 1 << 30, "it is never long enough: {said}");
    };
    assert!(lost >= 3, "it was cut in its midst, too: {lost}, then {made:?}");
    link.set(Link::Open);
    let whole = through.baton(&["recover", "--check"]).await;
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stdout));

    // Somebody whom the server does not know, and what cannot be read, are told as that.
    let mut unknown = url.clone();
    unknown.set_username("nobody").unwrap();
    points_to(&seeded.at(unknown.to_string()).baton(&LOOK).await, "db_auth", "nobody knows the role");
    let damaged = seeded.copy("damaged").await;
    damaged.damage("ALTER TABLE pyramiding_state RENAME TO moved_away").await;
    points_to(&damaged.baton(&LOOK).await, "data_corrupt", "a table is missing");

    // PostgreSQL is down.
    seeded.stores.postgres().stop().await.unwrap();
    for words in [&LOOK[..], &APPLY] {
        points_to(&cut.baton(words).await, "db_unavailable", "PostgreSQL is down");
    }
}
