//! Drills about signals that are not taken, or are taken and not acted on.

use rust_decimal::dec;

use super::{Pager, block, done, equipped, prints, shown, status_is, told, typed, with_a_position};
use crate::signals::{GOLD, SILVER, SILVER_SYMBOL, base, exit};
use crate::support::cluster::{Options, PATIENCE};
use crate::support::wait;

// R: H6, S1, B9
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_signal_loss() {
    if !equipped() {
        return;
    }
    let mut cluster = with_a_position(Options::default()).await;
    cluster.paper.set_price(SILVER_SYMBOL, "MCX", dec!(150000)).await;
    let pager = Pager::beside(&cluster).await;
    let old = cluster.leader().await;
    let other = (old + 1) % 3;
    // Nobody leads, and what comes waits: an EXIT that was sent by mistake, and an entry.
    done(&cluster, old, "baton pause --reason drill --yes").await;
    cluster.members[old].process.kill().await;
    let mistake = cluster.post(other, &exit("mistake", GOLD, "ALL", 140_000)).await;
    let wanted = cluster.post(other, &base("wanted", SILVER, 150_000)).await;
    // And then nothing is taken any more.
    cluster.stores.postgres().stop().await.unwrap();
    let body = exit("turned-away", GOLD, "ALL", 140_000);
    let (status, answer) = cluster.members[other].deliver(&body).await.expect("it answers");
    assert_eq!(status, 503, "{answer}");
    pager.hears("SignalLoss").await;
    // First 60 seconds: there is no leader.
    told("signal-loss", "baton status");
    status_is(&cluster, other, 2).await;
    let turned_away = typed(&cluster, other, &block("signal-loss")).await;
    let turned_away = String::from_utf8_lossy(&turned_away.stdout).into_owned();

    // Mitigation: PostgreSQL is back, and shows what waits.
    cluster.stores.postgres().start().await.unwrap();
    let mut cluster = cluster.reconnected().await;
    prints(&cluster, other, "curl -s $A/readyz", "ready").await;
    let waits = done(&cluster, other, &block("signal-loss")).await;
    shown("signal-loss", &format!("{turned_away}{waits}"));
    assert!(waits.contains(&mistake.id) && waits.contains(&wanted.id), "{waits}");
    // What must not act any more is dropped by whoever leads next, who is halted until then.
    told("signal-loss", "baton halt");
    done(&cluster, other, "baton halt --reason drill --yes && baton resume --reason drilled --yes").await;
    let leader = cluster.leader_within(PATIENCE, |index| index != old).await;
    assert_eq!(cluster.terminal(&wanted.id).await["status"], "refused", "an entry does not wait for a halt");
    let drop = told("signal-loss", "baton signals drop ID").replace("ID", &mistake.id);
    done(&cluster, leader, &format!("{drop} --reason drill --yes")).await;
    assert_eq!(cluster.terminal(&mistake.id).await["status"], "refused");
    told("signal-loss", "baton unhalt");
    done(&cluster, leader, "baton unhalt --reason drilled --yes").await;
    assert_eq!(cluster.count("SELECT count(*) FROM position WHERE status = 'open'").await, 1, "it is held");
    // The sender repeats what was turned away, and it is taken.
    let repeated = cluster.play(leader, &body).await;
    assert_eq!(repeated["status"], "executed", "{repeated}");
    // What was refused for a reason that is gone is put in again.
    prints(&cluster, leader, told("signal-loss", "baton signals list --status refused"), &wanted.id).await;
    let replay = told("signal-loss", "baton signals replay ID").replace("ID", &wanted.id);
    done(&cluster, leader, &format!("{replay} --dry-run")).await;
    done(&cluster, leader, &format!("{replay} --reason drill --yes")).await;
    let bought = "SELECT count(*) FROM position WHERE instrument = 'SILVER_MINI' AND status = 'open'";
    wait::until("it is bought, once", PATIENCE, async || match cluster.count(bought).await {
        1 => Ok(()),
        other => Err((other, cluster.logs())),
    })
    .await;

    // Verify: nothing waits.
    prints(&cluster, leader, &block("signal-loss"), "(0 rows)").await;
    cluster.members[old].restart().await;
    cluster.all_ready().await;
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (3, 1), "{check:?}");
}
