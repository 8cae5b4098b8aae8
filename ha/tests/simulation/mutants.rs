//! The checker can fail: each guard that is removed is noticed, by the property it serves.

use crate::mutant::Mutant;
use crate::schedule::{Theme, run};

/// Runs schedules of a theme until the mutant is caught; it has to be by one of these properties.
fn caught(mutant: Mutant, theme: Theme, by: &[&str]) {
    const MOST: u64 = 20_000;
    for seed in 1..MOST {
        let Some(what) = run(seed, theme, Some(mutant), false).violation else { continue };
        println!("{mutant:?}: caught by seed {seed}: {what}");
        assert!(by.iter().any(|property| what.starts_with(property)), "caught, but not by {by:?}: {what}");
        return;
    }
    panic!("{mutant:?} was not caught in {MOST} schedules");
}

#[test]
fn without_the_row_lock_an_old_epoch_is_authorised() {
    caught(Mutant::NoRowLock, Theme::Anything, &["S3"]);
}

// R: S3: the lock on the row is a guard of its own, not only a second one behind the pin.
#[test]
fn the_row_lock_alone_keeps_old_epochs_out() {
    let mut refused = 0;
    for seed in 1..2_000 {
        let report = run(seed, Theme::Anything, Some(Mutant::LockedJournalOnPool), false);
        // A session of a pool may be slow to come back after an outage; what it must not do is authorise.
        assert!(
            report.violation.as_ref().is_none_or(|what| what.starts_with("L2")),
            "seed {seed}: {:?}",
            report.violation
        );
        refused += report.tally.refused_entries;
    }
    assert!(refused > 0, "no statement ever met another epoch");
    println!("{refused} statements met another epoch and authorised nothing");
}

#[test]
fn without_a_deadline_a_stale_leader_sends() {
    caught(Mutant::NoDeadline, Theme::Anything, &["S4"]);
}

#[test]
fn a_deadline_from_the_answer_is_too_late() {
    caught(Mutant::DeadlineFromAnswer, Theme::Anything, &["S4"]);
}

#[test]
fn a_missing_key_taken_for_evidence_moves_leadership() {
    caught(Mutant::MissingKeyIsEvidence, Theme::Redis, &["S8"]);
}

#[test]
fn a_heartbeat_without_the_engine_keeps_a_hung_leader() {
    caught(Mutant::UngatedHeartbeat, Theme::Hang, &["L5"]);
}

#[test]
fn a_journal_on_a_pool_outlives_the_pin() {
    caught(Mutant::JournalOnPool, Theme::Anything, &["S9"]);
}

#[test]
fn an_epoch_from_redis_falls() {
    caught(Mutant::EpochFromRedis, Theme::Anything, &["S7"]);
}

#[test]
fn ending_the_rows_session_only_leaves_a_pin_held_for_ever() {
    caught(Mutant::EvictsOnlyTheRowsSession, Theme::Anything, &["L2"]);
}

#[test]
fn an_impatient_follower_flaps() {
    caught(Mutant::ImpatientFollower, Theme::Jitter, &["L3"]);
}

#[test]
fn leaving_without_a_sign_of_a_leader_leaves_the_policy_undone() {
    caught(Mutant::LeavesUnassured, Theme::Stopping, &["R20"]);
}
