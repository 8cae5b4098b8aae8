//! The protocol holds: every reachable state of every configuration has every property.

use ha_model::{Cluster, scenario};

macro_rules! holds {
    ($($(#[$note:meta])* $name:ident: $scenario:ident;)*) => {
        $(
            $(#[$note])*
            #[test]
            fn $name() {
                Cluster::new(scenario::$scenario()).holds();
            }
        )*
    };
}

holds! {
    first_start_and_crashes_at_every_step_of_an_election: elections;
    three_instances_and_a_crash: three;
    s8_losing_redis_never_moves_leadership: redis;
    lost_sessions_outages_and_a_candidate_that_dies: suspension;
    handovers_whose_parties_die: handover_disturbed;
    r20_the_last_one_out_acts_by_the_exit_policy: handover;
    s7_a_lost_epoch_is_not_given_out_again_beside_redis: failover_epoch;
    s1_s16_an_entry_through_pauses_and_lost_answers: entry;
    s1_s16_an_entry_and_a_crash: entry_crash;
    s6_an_entry_that_the_bridge_hides: entry_hidden;
    s16_an_entry_that_is_written_late_and_hidden_for_long: entry_late;
    s9_an_entry_while_postgresql_goes_away: entry_outage;
    s14_an_entry_whose_term_fails: entry_hang;
    s11_an_entry_while_leadership_is_handed_over: entry_handover;
    s15_an_entry_and_the_exit_of_what_it_fills: round_trip;
    s13_switches_while_an_entry_is_journaled: switches;
    s13_a_halt_while_an_exit_is_journaled: halted_exit;
    r14_damaged_state_is_not_traded_into: corrupt;
    r17_a_lost_tail_doubles_no_entry: failover;
    r21_flapping_reduces: flapping;

    #[ignore = "slow: about a million states"]
    s15_two_exits_of_one_position: two_exits;
    #[ignore = "slow: most of a million states"]
    r18_a_broker_that_is_cut_off: cut_off;
    #[ignore = "slow: over a million states"]
    two_signals_on_one_instrument: two_entries;
    #[ignore = "slow: over a million states"]
    s15_partial_fills_ends_and_repeated_exits: exits;
}
