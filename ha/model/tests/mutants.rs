//! Each guard taken away breaks a property: the model can fail.

use ha_model::{
    ABANDONED_IS_ABSENT, COMMITTED_FIRST, Cluster, Config, DAMAGE_STOPS_TRADING, EPOCH_RISES,
    FLAPPING_REDUCES, Mutant, NEVER_FLIPS, NO_FALSE_END, NO_LIVE_LEADER_DEPOSED, NO_STALE_INTENT,
    NOBODY_FORGETS, ONE_ORDER, PIN_OR_NOTHING, SOMEBODY_ACTS, SUCCEEDED_BEFORE_GONE, SWITCHES_HOLD, Timing,
    scenario,
};

fn breaks(config: Config, mutant: Mutant, property: &'static str) {
    let trace = Cluster::new(config.without(mutant)).breaks(property);
    assert!(trace.is_some(), "without {mutant:?} no counterexample to {property}: the model is too coarse");
}

macro_rules! breaks {
    ($($(#[$note:meta])* $name:ident: $scenario:ident, $mutant:ident => $property:ident;)*) => {
        $(
            $(#[$note])*
            #[test]
            fn $name() {
                breaks(scenario::$scenario(), Mutant::$mutant, $property);
            }
        )*
    };
}

breaks! {
    no_row_lock_with_the_journal_on_a_pool_connection: entry, PoolWithoutRowLock => NO_STALE_INTENT;
    a_journal_on_a_pool_connection_outlives_the_pin: entry, PoolWithoutRowLock => PIN_OR_NOTHING;
    no_row_lock_with_a_halt: switches, NoRowLock => SWITCHES_HOLD;
    no_deadline_guard: entry, NoDeadline => ABANDONED_IS_ABSENT;
    an_unbounded_network: entry, UnboundedNetwork => ABANDONED_IS_ABSENT;
    resend_on_not_found: entry, ResendsAbsent => ONE_ORDER;
    redis_alone: redis_entry, RedisAlone => NO_STALE_INTENT;
    raw_set_of_the_epoch_key: failover_epoch, RawEpochKey => EPOCH_RISES;
    an_equal_epoch_taken_for_ones_own: failover_epoch, AnnouncesLoosely => EPOCH_RISES;
    leaving_before_a_heartbeat_was_seen: handover, LeavesUnassured => SOMEBODY_ACTS;
    no_bound_on_idle_connections: entry, NoIdleClose => ABANDONED_IS_ABSENT;
    leaving_before_a_higher_epoch_is_seen: handover_disturbed, LeavesBeforeSuccessor => SUCCEEDED_BEFORE_GONE;
    sending_before_the_commit: entry, SendsFirst => COMMITTED_FIRST;
    silence_taken_for_not_sent: entry, BelievesSilence => NO_FALSE_END;
    an_inherited_order_without_its_send_window: entry, InheritsNoTime => ABANDONED_IS_ABSENT;
    exits_not_counted_against_what_is_held: two_exits, Oversells => NEVER_FLIPS;
    doubting_beside_the_pinned_session: entry_hang, DoubtsBesideThePin => NOBODY_FORGETS;
    an_eviction_that_does_not_compare: elections, EvictsUnseen => NO_LIVE_LEADER_DEPOSED;
    trading_on_after_a_failover: failover, TradesAfterFailover => ONE_ORDER;
    lifting_reduce_only_too_early: failover, LiftsReduceOnlyEarly => ONE_ORDER;
    trading_on_damaged_state: corrupt, TradesOnCorrupt => DAMAGE_STOPS_TRADING;
    flapping_without_consequence: flapping, FlapsOn => FLAPPING_REDUCES;

    #[ignore = "slow: half a million states before the trace"]
    a_fence_that_compares_the_number_alone: failover, FencesByNumber => ABANDONED_IS_ABSENT;
}

/// B > K alone is not enough for a bridge that hides an accepted order for D: B has to exceed K + D (rule 10).
#[test]
fn a_settle_time_above_idle_close_alone() {
    let late = scenario::entry_late();
    let timing = Timing { settle: late.timing.hides, ..late.timing };
    assert!(timing.settle > timing.idle_close && timing.settle < timing.idle_close + timing.hides);
    let trace = Cluster::new(Config { timing, ..late }).breaks(ABANDONED_IS_ABSENT);
    assert!(trace.is_some(), "no counterexample: the model is too coarse");
}
