//! One member as a process, for tests that kill and stop processes and for trying the crate by hand.
//!
//! Usage: `member NAME DATABASE_URL REDIS_URL TTL_MS [BUILD]`. It prints one line per event,
//! `<nanoseconds since boot> <event> …`:
//! ```text
//! status active
//! role leader 3          a new fence, and its epoch
//! role follower | candidate | suspended 3 | stopped <why>
//! refused 3 <why>        a check of the fence of that epoch let nothing through (said once per fence)
//! outcome <handover's>   after SIGTERM
//! ```
//! While it has ever led it also journals every few milliseconds, under each fence it was ever given and
//! *without* checking it first: what a process does that does not know yet that it is out. The table
//! `journal (id bigserial, epoch bigint, member text)` shows what got through.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use ha::{BootClock, Clock, Config, Fence, Handle, Member, OnHang, PgTls, Role, Status, Timing};
use tokio::signal::unix::{SignalKind, signal};

const JOURNAL: &str = "WITH l AS (SELECT epoch FROM leadership WHERE epoch = $1 AND NOT halted FOR SHARE) \
     INSERT INTO journal (epoch, member) SELECT epoch, $2 FROM l";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, database, redis, ttl_ms, rest @ ..] = args.as_slice() else {
        return Err("usage: member NAME DATABASE_URL REDIS_URL TTL_MS [BUILD]".into());
    };
    let config = Config {
        cluster: "test".to_owned(),
        member: Member::new(name)?,
        version: "example".to_owned(),
        build: rest.first().map_or(Ok(0), |build| build.parse())?,
        address: format!("http://{name}.test"),
        priority: 1,
        timing: Timing::for_ttl(Duration::from_millis(ttl_ms.parse()?)),
        postgres: database.parse()?,
        tls: PgTls::None,
        redis: ha::Redis::at(redis),
        on_hang: OnHang::Abort,
    };
    let handle = Handle::join(config, Arc::new(BootClock)).await?;
    handle.set_status(Status::Active).await;
    tell("status active");
    let mut terminate = signal(SignalKind::terminate())?;
    let mut role = handle.role();
    let pulse = handle.pulse();
    let mut fences: Vec<(Fence, bool)> = Vec::new();
    let mut turn = tokio::time::interval(Duration::from_millis(5));
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    role.mark_changed();
    loop {
        pulse.beat();
        tokio::select! {
            Ok(()) = role.changed() => {
                let role = role.borrow_and_update().clone();
                tell(&format!("role {}", show(&role)));
                match role {
                    Role::Leader(fence) => fences.push((fence, false)),
                    // A demoted instance has nothing to recover here: it is ready again at once.
                    Role::Follower { .. } if handle.stats().borrow().involuntary_losses > 0 => {
                        handle.set_status(Status::Active).await;
                    }
                    Role::Stopped { .. } => return Ok(()),
                    _ => {}
                }
            }
            _ = turn.tick() => journal(&mut fences, name).await,
            _ = terminate.recv() => break,
        }
    }
    handle.set_status(Status::Draining).await;
    let outcome = handle.hand_over(None).await;
    tell(&format!("outcome {outcome:?}"));
    handle.leave().await;
    tell("left");
    Ok(())
}

/// Journals under every fence there ever was, checked or not.
async fn journal(fences: &mut [(Fence, bool)], name: &str) {
    for (fence, told) in fences {
        if let Err(why) = fence.check()
            && !*told
        {
            *told = true;
            tell(&format!("refused {} {why}", fence.epoch()));
        }
        let epoch = fence.epoch().get();
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&epoch, &name];
        let writing = fence.session().execute(JOURNAL, &params);
        if let Ok(Ok(0)) = tokio::time::timeout(Duration::from_secs(1), writing).await {
            fence.report_fenced("a journal statement found another epoch");
        }
    }
}

fn show(role: &Role) -> String {
    match role {
        Role::Leader(fence) => format!("leader {}", fence.epoch()),
        Role::Suspended { epoch, .. } => format!("suspended {epoch}"),
        Role::Stopped { why } => format!("stopped {why}"),
        other => other.name().to_owned(),
    }
}

fn tell(event: &str) {
    println!("{} {event}", BootClock.now().elapsed_since_boot().as_nanos());
}
