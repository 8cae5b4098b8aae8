//! What the model found open, each with the shortest trace. A test here fails when its gap is gone: then move it to the
//! properties that hold.

use ha_model::{Cluster, Config, EPOCH_RISES, ONE_ORDER, scenario};

fn is_open(config: Config, property: &'static str) {
    let name = config.name;
    let trace = Cluster::new(config).breaks(property);
    let trace = trace.unwrap_or_else(|| panic!("{name}: {property} holds now: the gap is closed"));
    println!("{:?}", trace.steps);
}

/// Rules 2 and 17. Without Redis a lost tail takes the memory of the epoch with it, and the number is given out again.
/// Harmless, as fenced statements compare the holder's incarnation too: `a_fence_that_compares_the_number_alone` shows
/// what would come of it without.
#[test]
fn finding_a_lost_epoch_is_given_out_again_without_redis() {
    is_open(Config { excepted: &[], slots: &[], ..scenario::failover() }, EPOCH_RISES);
}

/// Rule 17. Reduce-only lets exits through: one whose intent was lost with the tail is sent a second time.
#[test]
fn finding_a_lost_tail_doubles_an_exit() {
    is_open(scenario::failover_exit(), ONE_ORDER);
}
