//! Schedules over the follower's machine: what moves leadership, and what must not.

use chrono::DateTime;

use super::*;
use crate::ids::Member;

const T: Duration = Duration::from_secs(3);

struct Bench {
    watcher: Watcher,
    me: Instance,
    leader: Instance,
    session: u64,
    now: u64,
    row: Row,
    standing: Standing,
    commits: bool,
}

fn at(ms: u64) -> Moment {
    Moment::since_boot(Duration::from_millis(1_000_000 + ms))
}

fn backend(pid: i32) -> Backend {
    Backend { pid, start: DateTime::UNIX_EPOCH }
}

impl Bench {
    /// A follower beside a leader of epoch 4 that holds the pin.
    fn new() -> Self {
        let me = Instance::new(Member::new("b2").unwrap());
        let leader = Instance::new(Member::new("b1").unwrap());
        let row = Row {
            epoch: Epoch::new(4),
            holder: Some(leader.clone()),
            holder_address: None,
            counter: 100,
            pin: Some(backend(7)),
            offer: None,
            paused: false,
            cluster: None,
        };
        let standing = Standing {
            status: Some(Status::Active),
            last_commit: Some(at(0)),
            rival: true,
            newer_rival: false,
            fenced: false,
            engine_lives: true,
        };
        let watcher = Watcher::new(me.clone(), 1, Timing::for_ttl(T), 42);
        Self { watcher, me, leader, session: 1, now: 0, row, standing, commits: true }
    }

    fn look(&mut self) -> Decision {
        if self.commits {
            self.standing.last_commit = Some(at(self.now));
        }
        let look = Look {
            session: self.session,
            started: at(self.now),
            finished: at(self.now + 1),
            row: self.row.clone(),
        };
        self.watcher.observe(&look, &self.standing)
    }

    /// Looks every 50 ms until it stands, for at most `ms`; `each` may change the world before a look.
    fn stands_within(&mut self, ms: u64, mut each: impl FnMut(&mut Self)) -> Option<(u64, Ballot)> {
        let end = self.now + ms;
        while self.now < end {
            self.now += 50;
            each(self);
            if let Decision::Stand(ballot) = self.look() {
                return Some((self.now, ballot));
            }
        }
        None
    }
}

#[test]
fn a_beating_leader_is_left_alone() {
    let mut bench = Bench::new();
    let stood = bench.stands_within(60_000, |bench| {
        if bench.now.is_multiple_of(500) {
            bench.row.counter += 1;
        }
    });
    assert_eq!(stood, None);
}

#[test]
fn a_free_pin_is_taken_within_the_candidates_delay() {
    let mut bench = Bench::new();
    bench.stands_within(1_000, |bench| bench.row.counter += 1);
    bench.row.pin = None;
    let from = bench.now;
    let (when, ballot) = bench.stands_within(5_000, |_| {}).unwrap();
    assert!(when - from <= 150, "stood after {} ms", when - from);
    assert_eq!(ballot.reason, Reason::Crash);
    assert_eq!(ballot.previous, Some(bench.leader.clone()));
    assert_eq!(ballot.evict, None);
    assert_eq!(ballot.last_sign, Some(at(from)), "the gap counts from the last look at a held pin");
}

#[test]
fn a_leader_without_heartbeat_is_stale_after_t_and_not_before() {
    let mut bench = Bench::new();
    bench.look();
    let (when, ballot) = bench.stands_within(10_000, |_| {}).unwrap();
    assert!((3_000..=3_200).contains(&when), "stood after {when} ms");
    assert_eq!(ballot.reason, Reason::Stale);
    assert_eq!((ballot.evict, ballot.counter), (Some(backend(7)), 100));
    assert_eq!(ballot.last_sign, Some(at(1)));
}

#[test]
fn any_change_starts_the_count_anew() {
    type Change = fn(&mut Bench);
    let changes: [Change; 3] = [
        |bench| bench.row.counter += 1,
        |bench| bench.row.epoch = Epoch::new(5),
        |bench| bench.row.pin = Some(backend(8)),
    ];
    for change in changes {
        let mut bench = Bench::new();
        bench.look();
        assert_eq!(bench.stands_within(2_900, |_| {}), None);
        change(&mut bench);
        assert_eq!(bench.stands_within(2_950, |_| {}), None);
        assert!(bench.stands_within(300, |_| {}).is_some());
    }
}

#[test]
fn few_looks_condemn_nobody() {
    let mut bench = Bench::new();
    for now in [0, 4_000, 8_000, 12_000] {
        bench.now = now;
        assert!(matches!(bench.look(), Decision::Wait { .. }));
    }
}

#[test]
fn a_postgresql_that_commits_nothing_deposes_nobody() {
    let mut bench = Bench::new();
    bench.look();
    bench.commits = false;
    assert_eq!(bench.stands_within(20_000, |_| {}), None);
    // Commits are back: the leader gets a whole T to show itself.
    bench.commits = true;
    assert_eq!(bench.stands_within(2_950, |_| {}), None);
    assert!(bench.stands_within(300, |_| {}).is_some());
}

#[test]
fn after_an_outage_the_incumbent_may_come_back_first() {
    let mut bench = Bench::new();
    bench.look();
    bench.session = 2;
    bench.row.pin = None;
    let from = bench.now;
    let (when, _) = bench.stands_within(10_000, |_| {}).unwrap();
    assert!((3_000..=3_200).contains(&(when - from)), "stood after {} ms", when - from);
}

#[test]
fn the_first_connection_follows_no_outage() {
    let mut bench = Bench::new();
    bench.row.pin = None;
    assert!(bench.stands_within(200, |_| {}).is_some());
}

#[test]
fn only_an_active_member_with_a_priority_stands() {
    let not_able: [fn(&mut Bench); 5] = [
        |bench| bench.standing.status = Some(Status::Recovering),
        |bench| bench.standing.status = Some(Status::Draining),
        |bench| bench.standing.status = None,
        |bench| {
            bench.commits = false;
            bench.standing.last_commit = None;
        },
        |bench| bench.watcher = Watcher::new(bench.me.clone(), 0, Timing::for_ttl(T), 42),
    ];
    for disable in not_able {
        let mut bench = Bench::new();
        disable(&mut bench);
        bench.row.pin = None;
        assert_eq!(bench.stands_within(20_000, |_| {}), None);
        bench.row.offer = Some(Offer { id: Uuid::nil(), to: bench.me.clone(), acknowledged: true });
        assert!(matches!(bench.look(), Decision::Wait { .. }), "not even when it is named");
    }
}

#[test]
fn an_offer_is_acknowledged_and_then_taken_at_once() {
    let mut bench = Bench::new();
    let id = Uuid::now_v7();
    bench.row.offer = Some(Offer { id, to: bench.me.clone(), acknowledged: false });
    assert_eq!(bench.look(), Decision::Acknowledge(id));
    bench.row.offer = Some(Offer { id, to: bench.me.clone(), acknowledged: true });
    assert!(matches!(bench.look(), Decision::Wait { .. }), "the leader still holds the pin");
    bench.row.pin = None;
    let Decision::Stand(ballot) = bench.look() else { panic!("did not stand at once") };
    assert_eq!(ballot.reason, Reason::Handover);
}

#[test]
fn a_follower_whose_engine_is_silent_stands_for_nothing_and_accepts_nothing() {
    let mut bench = Bench::new();
    bench.standing.engine_lives = false;
    bench.row.offer = Some(Offer { id: Uuid::now_v7(), to: bench.me.clone(), acknowledged: false });
    assert!(matches!(bench.look(), Decision::Wait { .. }));
    (bench.row.offer, bench.row.pin) = (None, None);
    assert_eq!(bench.stands_within(5_000, |_| {}), None);
    bench.standing.engine_lives = true;
    assert!(bench.stands_within(500, |_| {}).is_some());
}

#[test]
fn a_pause_stops_everything_but_a_handover() {
    let mut bench = Bench::new();
    bench.row.paused = true;
    bench.row.pin = None;
    assert_eq!(bench.stands_within(20_000, |_| {}), None);
    bench.row.offer = Some(Offer { id: Uuid::nil(), to: bench.me.clone(), acknowledged: true });
    assert!(matches!(bench.look(), Decision::Stand(_)));
}

#[test]
fn an_offer_to_another_holds_off_for_half_a_second() {
    let mut bench = Bench::new();
    let other = Instance::new(Member::new("b3").unwrap());
    bench.row.offer = Some(Offer { id: Uuid::nil(), to: other, acknowledged: true });
    bench.look();
    bench.row.pin = None;
    let from = bench.now;
    let (when, ballot) = bench.stands_within(5_000, |_| {}).unwrap();
    assert!((500..=700).contains(&(when - from)), "stood after {} ms", when - from);
    assert_eq!(ballot.patience, Patience::PastReservation);
}

#[test]
fn a_loss_holds_down_while_a_rival_is_ready_and_longer_each_time() {
    let mut bench = Bench::new();
    bench.row.pin = None;
    bench.watcher.lost(at(0));
    let (when, _) = bench.stands_within(10_000, |_| {}).unwrap();
    assert!((3_000..=3_200).contains(&when), "stood after {when} ms");

    bench.watcher.reset();
    let again = bench.now;
    bench.watcher.lost(at(again));
    let (when, _) = bench.stands_within(20_000, |_| {}).unwrap();
    assert!((6_000..=6_200).contains(&(when - again)), "stood after {} ms", when - again);

    bench.watcher.reset();
    bench.watcher.lost(at(bench.now));
    bench.standing.rival = false;
    assert!(bench.stands_within(200, |_| {}).is_some(), "alone it waits for nobody");
}

#[test]
fn a_less_preferred_candidate_waits_longer() {
    let stood_after = |priority: u8, newer_rival: bool| {
        let mut bench = Bench::new();
        bench.watcher = Watcher::new(bench.me.clone(), priority, Timing::for_ttl(T), 7);
        bench.standing.newer_rival = newer_rival;
        bench.row.pin = None;
        let Decision::Wait { look_at: Some(at), .. } = bench.look() else { panic!("did not wait") };
        at
    };
    assert!(stood_after(1, false) < stood_after(3, false));
    assert!(stood_after(1, false) < stood_after(1, true));
}

#[test]
fn the_first_start_needs_the_lease_or_two_ttls() {
    let mut bench = Bench::new();
    bench.row.pin = None;
    bench.row.holder = None;
    bench.row.epoch = Epoch::ZERO;
    let from = at(bench.now + 51);
    let (_, ballot) = bench.stands_within(1_000, |_| {}).unwrap();
    assert_eq!(ballot.reason, Reason::FirstStart);
    assert_eq!(ballot.without_lease_from, Some(from.plus(T * 2)));
}

#[test]
fn after_a_defeat_it_pauses_and_a_stale_leader_gets_another_t() {
    let mut bench = Bench::new();
    bench.look();
    bench.stands_within(10_000, |_| {}).unwrap();
    bench.watcher.defeated(at(bench.now));
    let from = bench.now;
    let (when, _) = bench.stands_within(10_000, |_| {}).unwrap();
    assert!(when - from >= 3_000);
}

#[test]
fn a_lease_in_the_way_is_not_respected_for_ever() {
    let mut bench = Bench::new();
    bench.row.pin = None;
    let (_, first) = bench.stands_within(1_000, |_| {}).unwrap();
    assert_eq!(first.patience, Patience::RespectAll);
    let mut last = first;
    while bench.now < 7_000 {
        bench.watcher.defeated(at(bench.now));
        last = bench.stands_within(1_000, |_| {}).unwrap().1;
    }
    assert_eq!(last.patience, Patience::Exhausted);
}

// R: R20
#[test]
fn one_that_was_told_to_stop_may_leave_on_a_heartbeat_and_on_nothing_else() {
    type Change = fn(&mut Bench);
    let no_heartbeat: [(&str, Change); 4] = [
        ("nothing", |_| {}),
        ("a promotion that may have come too late", |bench| {
            (bench.row.epoch, bench.row.counter) = (Epoch::new(5), bench.row.counter + 1);
        }),
        ("a resumption that may have come too late", |bench| {
            (bench.row.pin, bench.row.counter) = (Some(backend(9)), bench.row.counter + 1);
        }),
        ("a free pin", |bench| (bench.row.pin, bench.row.counter) = (None, bench.row.counter + 1)),
    ];
    for (what, change) in no_heartbeat {
        let mut bench = Bench::new();
        bench.look();
        assert!(bench.watcher.retire(at(bench.now)), "it is news");
        assert!(!bench.watcher.may_leave(), "what was seen before is no sign");
        for _ in 0..2 {
            bench.now += 50;
            bench.look();
        }
        change(&mut bench);
        bench.now += 50;
        bench.look();
        assert!(!bench.watcher.may_leave(), "{what}");
        bench.row.pin.get_or_insert(backend(9));
        bench.now += 50;
        bench.look();
        assert!(!bench.watcher.may_leave(), "{what}, and a look at what it left");
        bench.row.counter += 1;
        bench.now += 50;
        bench.look();
        assert!(bench.watcher.may_leave(), "a heartbeat after {what}");
    }
}

// R: R20
#[test]
fn a_look_that_began_before_the_word_to_stop_is_no_sign() {
    let mut bench = Bench::new();
    bench.watcher.retire(at(100));
    bench.look();
    bench.now = 100;
    bench.row.counter += 1;
    bench.look();
    assert!(!bench.watcher.may_leave(), "the counter may have moved before");
    bench.now = 150;
    bench.row.counter += 1;
    bench.look();
    assert!(bench.watcher.may_leave());
}

// R: R20
#[test]
fn one_that_was_told_to_stop_and_sees_nobody_in_office_stands_whatever_its_status() {
    for status in [Status::Draining, Status::Recovering] {
        let mut bench = Bench::new();
        bench.standing = Standing { status: Some(status), rival: false, ..bench.standing };
        bench.row.pin = None;
        assert_eq!(bench.stands_within(5_000, |_| {}), None, "{status} does not lead");
        bench.watcher.retire(at(bench.now));
        let (_, ballot) = bench.stands_within(1_000, |_| {}).unwrap();
        assert_eq!(ballot.reason, Reason::Crash);
        // Having stood, it needs a new sign.
        bench.row.pin = Some(backend(8));
        bench.stands_within(100, |_| {});
        assert!(!bench.watcher.may_leave());
        bench.row.counter += 1;
        bench.stands_within(100, |_| {});
        assert!(bench.watcher.may_leave());
    }
}

// R: R20
#[test]
fn one_that_was_told_to_stop_accepts_no_offer() {
    let mut bench = Bench::new();
    bench.watcher.retire(at(0));
    bench.row.offer = Some(Offer { id: Uuid::now_v7(), to: bench.me.clone(), acknowledged: false });
    assert!(matches!(bench.look(), Decision::Wait { .. }));
}

#[test]
fn before_the_first_promotion_of_all_there_is_nothing_to_stay_for() {
    let mut bench = Bench::new();
    (bench.row.epoch, bench.row.holder, bench.row.pin) = (Epoch::ZERO, None, None);
    bench.watcher.retire(at(0));
    bench.now = 50;
    bench.look();
    assert!(bench.watcher.may_leave());
}

// R: R20: the simulation's seed 513 of `r20_whatever_moves_leadership_while_all_are_told_to_stop_the_last_one_acts`.
#[test]
fn a_late_heartbeat_of_its_own_is_no_sign_of_another_leader() {
    let mut bench = Bench::new();
    bench.row.holder = Some(bench.me.clone());
    bench.watcher.retire(at(0));
    for _ in 0..3 {
        bench.now += 50;
        bench.row.counter += 1;
        bench.look();
    }
    assert!(!bench.watcher.may_leave());
}
