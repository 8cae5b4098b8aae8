//! L2: from every reachable state some instance can lead again by itself.

use ha_model::{Cluster, Config, Mutant, scenario};

fn somebody_can_always_lead(config: Config) {
    let stuck = Cluster::new(config).stuck();
    if let Some(stuck) = stuck {
        panic!("nobody can lead any more in {} states; the nearest after {:#?}", stuck.states, stuck.steps);
    }
}

fn nobody_can_lead_any_more(config: Config) {
    let name = format!("{} without {:?}", config.name, config.mutant);
    let stuck = Cluster::new(config)
        .stuck()
        .unwrap_or_else(|| panic!("{name}: no counterexample; the model is too coarse"));
    println!("{name}: stuck after {} steps: {:?}", stuck.steps.len(), stuck.steps);
}

#[test]
fn l2_after_crashes_in_an_election() {
    somebody_can_always_lead(scenario::elections());
}

#[test]
fn l2_whatever_redis_does() {
    somebody_can_always_lead(scenario::redis());
}

#[test]
fn l2_after_outages_and_lost_sessions() {
    somebody_can_always_lead(scenario::suspension());
}

#[test]
fn l2_after_a_disturbed_handover() {
    somebody_can_always_lead(scenario::handover_disturbed());
}

#[test]
fn l2_with_hold_down() {
    somebody_can_always_lead(scenario::hold_down());
}

#[test]
fn l2_when_the_broker_is_cut_from_the_leader_only() {
    somebody_can_always_lead(scenario::cut_off_only());
}

#[test]
fn mutant_evicting_only_the_named_session_leaves_nobody() {
    nobody_can_lead_any_more(scenario::suspension().without(Mutant::EvictsOnlyTheNamed));
}

#[test]
fn mutant_a_suspended_leader_that_never_gives_up_leaves_nobody() {
    nobody_can_lead_any_more(scenario::suspension().without(Mutant::NeverGivesUp));
}

#[test]
fn mutant_a_leader_that_is_cut_off_and_stays_leaves_nobody_who_reaches_the_broker() {
    nobody_can_lead_any_more(scenario::cut_off_only().without(Mutant::StaysCutOff));
}
