//! An upgrade that brings a migration: the version before trades on beside it, is restarted, leads, and is replaced.

use baton::ledger::migrate::known_version;

use crate::load::{self, Load};
use crate::rolling::restart;
use crate::support::cluster::{Cluster, Options, PATIENCE, run_as};
use crate::support::process::Launch;
use crate::support::wait;

/// What the next version adds, to every table of an order's way.
const LATER: &str = "
ALTER TABLE leadership ADD COLUMN later bigint NOT NULL DEFAULT 0;
ALTER TABLE signal ADD COLUMN later text;
ALTER TABLE order_intent ADD COLUMN later text NOT NULL DEFAULT 'later';
ALTER TABLE fill ADD COLUMN later text;
ALTER TABLE position ADD COLUMN later numeric NOT NULL DEFAULT 1;
CREATE TABLE later (id bigint PRIMARY KEY, signal_id uuid REFERENCES signal (id));
CREATE INDEX signal_later ON signal (later);";

/// Waits until some more signals were delivered.
async fn flow(load: &Load) {
    let before = load.delivered();
    wait::until("signals are delivered", PATIENCE, async || {
        if load.delivered() >= before + 5 { Ok(()) } else { Err(load.delivered()) }
    })
    .await;
}

// R: H5, K7, S1, S2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_with_a_migration_beside_the_version_before_loses_and_doubles_nothing() {
    let mut cluster = Cluster::with(Options { witnessed: true, ..load::options() }).await;
    let load = Load::start(&cluster);
    let folder = cluster.folder().join("later");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join(format!("V{}__later.sql", known_version() + 1)), LATER).unwrap();
    let become_next = |launch: &mut Launch| {
        launch.env.insert("BATON_LATER_MIGRATIONS".to_owned(), folder.display().to_string());
    };

    // The new version migrates while the old one trades.
    flow(&load).await;
    let epoch = cluster.epoch().await;
    let mut next = cluster.members[0].launch.clone();
    become_next(&mut next);
    let migrated = run_as(&next, &["migrate"]).await;
    assert!(migrated.status.success(), "{migrated:?}");
    let said = String::from_utf8_lossy(&migrated.stdout).into_owned();
    assert!(said.contains("__later"), "{said}");
    flow(&load).await;
    assert_eq!(cluster.epoch().await, epoch, "a migration moves nothing: {:?}", cluster.history().await);

    // One of the old ones dies and comes back; then an old one takes over what the schema has become.
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    cluster.members[follower].process.kill().await;
    cluster.members[follower].restart().await;
    load.publish(&cluster.members);
    cluster.members[follower].says("until it is replaced").await;
    cluster.all_ready().await;
    restart(&mut cluster, &load, leader).await;
    flow(&load).await;

    // Replaced one by one, the leader last.
    let leader = cluster.leader().await;
    let members = cluster.members.len();
    for index in (1..=members).map(|step| (leader + step) % members) {
        become_next(&mut cluster.members[index].launch);
        restart(&mut cluster, &load, index).await;
    }
    assert_eq!(cluster.epoch().await, epoch + 2, "two planned moves: {:?}", cluster.history().await);
    flow(&load).await;

    let sent = load.stop().await;
    let seen = cluster.witness.as_ref().expect("the bridge is a witness").seen();
    assert!(seen.committed > 0 && seen.early.is_empty(), "{seen:?}");
    sent.was_executed(cluster).await;
}
