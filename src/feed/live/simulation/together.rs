//! Several members on one bridge whose link to its broker has stalled: the link is made anew only after all have left.

use super::*;

/// Until the second sockets are known to be mute too, the next common moment has come, and ticks are there.
const LEFT_TOGETHER: Duration = Duration::from_secs(140);

/// Three members, come at their own times, with wishes of their own, on a link that stalls again and again.
async fn stalls(world: &World, seen: &[Watched], draws: &mut Draws) {
    let time = &world.time;
    let all_well = || seen.iter().all(|seen| is_well(world, seen));
    time.sleep(OPENS + SECOND * 300).await;
    let mut worst = Duration::ZERO;
    for stall in 0..6 {
        while !all_well() {
            time.sleep(SECOND).await;
        }
        time.sleep(draws.seconds(1, 200)).await;
        seen.iter().for_each(|seen| seen.board.want(some_of_eight(draws)));
        if stall % 3 == 2 {
            // One of them connects anew at an odd moment, as after a restart.
            seen[0].kick.notify_one();
        }
        world.state().stalled = true;
        let begun = time.elapsed();
        time.sleep(TICK * 2).await;
        while !all_well() {
            let (waited, stalled) = (time.elapsed() - begun, world.state().stalled);
            let states: Vec<_> = seen.iter().map(|seen| seen.status.borrow().reason.clone()).collect();
            assert!(waited < LEFT_TOGETHER, "not well after {waited:?}, stalled: {stalled}: {states:?}");
            time.sleep(SECOND).await;
        }
        worst = worst.max(time.elapsed() - begun);
        assert!(world.state().faults.is_empty(), "{:?}", world.state().faults);
    }
    println!("healed within {worst:?}");
}

#[test]
fn members_that_hear_nothing_on_new_sockets_either_leave_all_at_once() {
    for seed in 1..=4 {
        println!("seed {seed}");
        let (time, mut draws) = (Virtual::default(), Draws(seed * 2 + 1));
        let world = Arc::new(World::new(time.clone()));
        let (accepted, incoming) = mpsc::unbounded_channel();
        let mut members = Vec::new();
        let mut tasks = vec![world.accept(incoming).boxed()];
        for _ in 0..3 {
            let (live, seen) = member(&world, accepted.clone());
            let (clock, later) = (time.clone(), OPENS + draws.seconds(0, 120));
            tasks.push(
                async move {
                    clock.sleep(later).await;
                    live.run(CancellationToken::new()).await;
                }
                .boxed(),
            );
            members.push(seen);
        }
        tasks.push(stalls(&world, &members, &mut draws).boxed());
        play(&time, tasks);
    }
}
