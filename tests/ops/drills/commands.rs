//! Drills about commands that nobody carries out.

use serde_json::json;

use super::{done, equipped, prints, told, typed, with_a_position};
use crate::support::cluster::{Cluster, Options, PATIENCE};
use crate::support::proxy::{Link, Proxy};
use crate::support::wait;

/// What a command is refused with.
async fn is_refused(cluster: &Cluster, member: usize, command: &str, code: &str) -> String {
    wait::until(&format!("{command} is refused with {code}"), PATIENCE, async || {
        let output = typed(cluster, member, &format!("export BATON_ADDRESS=$A\n{command}")).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() && said.contains(code) { Ok(said) } else { Err(output) }
    })
    .await
}

const CLOSE: &str = "baton close GOLD_MINI --reason drill --yes";

// R: H6, H3
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_refused_commands() {
    if !equipped() {
        return;
    }
    // Reached from anywhere, each under an address that leads through a link of its own.
    let (mut links, mut direct) = (Vec::new(), Vec::new());
    let mut cluster = Cluster::wired(Options { members: 2, ..Options::default() }, async |launch| {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let link = Proxy::start(free).await;
        launch.env.insert("BATON_HTTP__LISTEN".to_owned(), format!("0.0.0.0:{}", free.port()));
        launch.env.insert("BATON_CLUSTER__ADDRESS".to_owned(), format!("http://{}", link.address));
        links.push(link);
        direct.push(format!("http://{free}"));
    })
    .await;
    let leader = cluster.leader().await;

    // operator_disabled: nobody has a token, so nobody commands.
    is_refused(&cluster, leader, "baton halt --reason drill --yes", "OPERATOR_DISABLED").await;
    let look = told("operator_disabled", "baton config show | grep -A2 '\\[operator\\]'");
    let printed = done(&cluster, leader, look).await;
    assert!(printed.contains("token"), "{printed}");
    told("operator_disabled", "BATON_OPERATOR__TOKEN");
    for index in [(leader + 1) % 2, leader] {
        let token = ("BATON_OPERATOR__TOKEN".to_owned(), "a-token-of-the-operators".to_owned());
        cluster.members[index].launch.env.extend([token]);
        cluster.members[index].process.kill().await;
        cluster.members[index].restart().await;
        cluster.all_ready().await;
    }
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 2;
    done(&cluster, leader, "baton halt --reason drill --yes").await;
    done(&cluster, leader, "baton unhalt --reason drilled --yes").await;

    // leader_unreachable: the address that the leader gives leads nowhere.
    let address = cluster.members[leader].address.clone();
    links[leader].set(Link::Refuse);
    let said = is_refused(&cluster, follower, CLOSE, "LEADER_UNREACHABLE").await;
    assert!(said.contains(&address), "it says whom it asked: {said}");
    prints(&cluster, follower, told("leader_unreachable", "curl -s $A/leader"), &address).await;
    // Mitigation: commanded directly, it answers; here that nothing of the name is held.
    told("leader_unreachable", "--address");
    let said = typed(&cluster, follower, &format!("{CLOSE} --address {}", direct[leader])).await;
    assert!(String::from_utf8_lossy(&said.stderr).contains("NOT_FOUND"), "{said:?}");
    links[leader].set(Link::Open);
    is_refused(&cluster, follower, CLOSE, "NOT_FOUND").await;
    cluster.finish().await;
}

// R: H6, D4
#[ignore = "slow: a drill"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drill_not_taken() {
    if !equipped() {
        return;
    }
    let mut cluster = with_a_position(Options { members: 2, ..Options::default() }).await;
    let old = cluster.leader().await;
    let new = (old + 1) % 2;
    // A leader that takes over and cannot read the books.
    cluster.paper.fault(json!({ "fault": { "kind": "bad_gateway" }, "verb": "any" })).await;
    cluster.members[old].process.kill().await;
    wait::until("the other one leads", PATIENCE, async || {
        let seen = cluster.members[new].json("/leader").await.unwrap_or_default();
        if seen["role"] == "leader" { Ok(()) } else { Err(cluster.logs()) }
    })
    .await;
    is_refused(&cluster, new, CLOSE, "NOT_TAKEN").await;
    told("not_taken", "baton status");
    prints(&cluster, new, "baton status", "not usable").await;
    assert_eq!(cluster.count("SELECT count(*) FROM order_intent WHERE class = 'operator'").await, 0);

    // Mitigation: the bridge answers; what was thrown away does not act later, and asked again it is done.
    cluster.paper.heal().await;
    cluster.leader().await;
    assert_eq!(cluster.count("SELECT count(*) FROM position WHERE status = 'open'").await, 1);
    done(&cluster, new, CLOSE).await;
    cluster.members[old].restart().await;
    cluster.all_ready().await;
    let check = cluster.finish().await;
    assert_eq!((check.orders, check.open_positions), (2, 0), "{check:?}");
}
