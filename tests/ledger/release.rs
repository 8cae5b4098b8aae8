//! A release of a brake is done only if all is as its author saw it; a brake is never refused.

use std::time::Duration;

use baton::ledger::release::{Seen, SetError};
use baton::ledger::strategies::StrategyChange;
use baton::ledger::switching::{Switch, SwitchChange};
use chrono::{DateTime, Utc};
use ha::Epoch;
use tokio_postgres::Client;

use crate::support::database::Database;
use crate::support::wait;

const PATIENCE: Duration = Duration::from_secs(20);
const GOLD: &str = "GOLD_MINI";

/// A brake: of the cluster, of an instrument, of a strategy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Brake {
    Of(Switch),
    OfGold(Switch),
    OfStrategy,
}

const BRAKES: [Brake; 6] = [
    Brake::Of(Switch::Halted),
    Brake::Of(Switch::ReduceOnly),
    Brake::Of(Switch::Paused),
    Brake::OfGold(Switch::Halted),
    Brake::OfGold(Switch::ReduceOnly),
    Brake::OfStrategy,
];

impl Brake {
    /// Sets it, or releases it.
    async fn set(self, database: &Database, on: bool, why: &str, seen: Seen) -> Result<(), SetError> {
        let (who, why, ledger) = ("asha".to_owned(), why.to_owned(), &database.ledger);
        let switch =
            |switch| SwitchChange { switch, on, who: who.clone(), why: why.clone(), until: None, seen };
        match self {
            Self::Of(which) => ledger.set_switch(&switch(which)).await,
            Self::OfGold(which) => ledger.set_instrument_switch(GOLD, &switch(which)).await,
            Self::OfStrategy => {
                let strategy = "default".to_owned();
                ledger.set_strategy(&StrategyChange { strategy, enabled: !on, who, why, seen }).await
            }
        }
    }

    /// Whether it is on, and the number of its newest change, as a reading has them.
    async fn shown(self, database: &Database) -> (bool, i64) {
        let of = |owner: Option<&'static str>, which| async move {
            let views = database.ledger.switch_views().await.unwrap();
            let mut views = views.iter().filter(|view| view.instrument.as_deref() == owner);
            views.find(|view| view.switch == which).map_or((false, 0), |view| (view.on, view.change))
        };
        match self {
            Self::Of(which) => of(None, which).await,
            Self::OfGold(which) => of(Some(GOLD), which).await,
            Self::OfStrategy => {
                let rows = database.ledger.strategy_rows(&[], chrono::Utc::now()).await.unwrap();
                rows.first().map_or((false, 0), |row| (row.said == Some(false), row.change))
            }
        }
    }

    /// Sets it as another session does.
    fn by_another(self) -> String {
        match self {
            Self::Of(which) => format!(
                "UPDATE leadership SET {which} = true;
                 INSERT INTO switch_history (switch, value, who, why) VALUES ('{which}', true, 'ravi', 'anew')"
            ),
            Self::OfGold(which) => format!(
                "UPDATE leadership SET instruments = '{{\"{GOLD}\": {{\"{which}\": \"infinity\"}}}}';
                 INSERT INTO instrument_switch_history (instrument, switch, value, who, why)
                 VALUES ('{GOLD}', '{which}', true, 'ravi', 'anew')"
            ),
            Self::OfStrategy => "UPDATE leadership SET strategies = '{\"default\": false}';
                 INSERT INTO strategy_history (strategy, enabled, who, why) VALUES ('default', false, 'ravi', 'anew')"
                .to_owned(),
        }
    }
}

fn under(epoch: i64) -> Seen {
    Seen { epoch: Some(Epoch::new(epoch)), change: None }
}

fn at(change: i64) -> Seen {
    Seen { epoch: None, change: Some(change) }
}

// R: OPS.md "carries the epoch so that a stale call is refused"
#[tokio::test]
async fn a_release_is_refused_once_leadership_moved_and_a_brake_never_is() {
    let database = Database::start().await;
    let client = database.connect().await;
    client.execute("UPDATE leadership SET epoch = 18", &[]).await.unwrap();
    for brake in BRAKES {
        brake.set(&database, true, "trouble", under(17)).await.unwrap();
        assert!(brake.shown(&database).await.0, "{brake:?} is set whatever its author saw");
        let refused = brake.set(&database, false, "over", under(17)).await.unwrap_err();
        assert!(matches!(refused, SetError::Moved { .. }), "{refused:?}");
        let said = refused.to_string();
        for told in
            ["epoch 18 is in force, not 17", "nobody leads", "set by asha at", "trouble", "look again"]
        {
            assert!(said.contains(told), "{said}");
        }
        assert!(brake.shown(&database).await.0, "{brake:?} stays");
        brake.set(&database, false, "over", under(18)).await.unwrap();
        assert!(!brake.shown(&database).await.0, "{brake:?} is over");
        // Whoever says nothing of what was seen is believed, as before.
        brake.set(&database, true, "again", Seen::default()).await.unwrap();
        brake.set(&database, false, "over", Seen::default()).await.unwrap();
        assert!(!brake.shown(&database).await.0, "{brake:?} is over");
    }
    let refused = "SELECT count(*) FROM audit_log WHERE payload LIKE '%over%'";
    let audited: i64 = client.query_one(refused, &[]).await.unwrap().get(0);
    assert_eq!(audited, 2 * 6, "what is refused leaves no trace of having been done");
}

#[tokio::test]
async fn a_brake_that_was_set_since_is_not_released_unseen() {
    let database = Database::start().await;
    for brake in BRAKES {
        let (on, never) = brake.shown(&database).await;
        assert_eq!((on, never), (false, 0), "{brake:?}");
        brake.set(&database, true, "first", Seen::default()).await.unwrap();
        let (_, first) = brake.shown(&database).await;
        brake.set(&database, true, "second", at(first)).await.unwrap();
        for stale in [never, first] {
            let refused = brake.set(&database, false, "over", at(stale)).await.unwrap_err();
            assert!(matches!(refused, SetError::SetAnew { .. }), "{refused:?}");
            assert!(refused.to_string().contains("was set since you looked, by asha at"), "{refused}");
            assert!(refused.to_string().contains("second"), "{refused}");
        }
        let (on, second) = brake.shown(&database).await;
        assert!(on, "{brake:?} stays");
        brake.set(&database, false, "over", at(second)).await.unwrap();
        // An answer that was lost: what is off already is not refused, whatever was seen.
        brake.set(&database, false, "over", at(first)).await.unwrap();
        assert!(!brake.shown(&database).await.0, "{brake:?} is over");
    }
}

// A halt of everything ends with the halt, and so does its author's reason.
#[tokio::test]
async fn the_end_of_a_halt_is_refused_after_a_halt_of_everything_that_was_not_seen() {
    let database = Database::start().await;
    let (halt, everything) = (Brake::Of(Switch::Halted), Brake::Of(Switch::HaltAll));
    halt.set(&database, true, "news", Seen::default()).await.unwrap();
    let (_, seen) = halt.shown(&database).await;
    everything.set(&database, true, "the broker is ill", Seen::default()).await.unwrap();
    let refused = halt.set(&database, false, "over", at(seen)).await.unwrap_err();
    assert!(refused.to_string().contains("the broker is ill"), "{refused}");
    let (_, both) = halt.shown(&database).await;
    halt.set(&database, false, "over", at(both)).await.unwrap();
    assert!(!database.ledger.switches().await.unwrap().halt_all);
}

/// Commits what a session has begun, once another one waits for a lock; tells when that was.
async fn once_somebody_waits(watching: &Client, holds: &Client) -> DateTime<Utc> {
    wait::until("a statement waits for the row", PATIENCE, async || {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        match watching.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) {
            0 => Err("nobody waits"),
            _ => Ok(()),
        }
    })
    .await;
    let waits = watching.query_one("SELECT clock_timestamp()", &[]).await.unwrap().get(0);
    holds.batch_execute("COMMIT").await.unwrap();
    waits
}

// Whoever looks while a halt waits for the row does not see it: its time is that of its being in force, not of its beginning.
#[tokio::test]
async fn a_halt_has_the_time_at_which_it_came_into_force() {
    let database = Database::start().await;
    let (other, watching) = (database.connect().await, database.connect().await);
    other.batch_execute("BEGIN; SELECT FROM leadership WHERE id = 1 FOR SHARE").await.unwrap();
    let halt = Brake::Of(Switch::Halted).set(&database, true, "late", Seen::default());
    let (set, looked) = tokio::join!(halt, once_somebody_waits(&watching, &other));
    set.unwrap();
    let row = watching.query_one("SELECT at FROM switch_history WHERE why = 'late'", &[]).await.unwrap();
    assert!(row.get::<_, DateTime<Utc>>(0) > looked);
}

// The statement reads the row as it is when it has the lock, and the history as it was before it waited.
#[tokio::test]
async fn a_brake_that_is_set_while_its_release_waits_for_the_lock_stays() {
    let database = Database::start().await;
    let (other, watching) = (database.connect().await, database.connect().await);
    for brake in BRAKES {
        brake.set(&database, true, "first", Seen::default()).await.unwrap();
        let (_, seen) = brake.shown(&database).await;
        other.batch_execute(&format!("BEGIN; {}", brake.by_another())).await.unwrap();
        let release = brake.set(&database, false, "over", at(seen));
        let commits = once_somebody_waits(&watching, &other);
        let (released, _) = tokio::join!(release, commits);
        let refused = released.unwrap_err();
        assert!(matches!(refused, SetError::SetAnew { .. }), "{refused:?}");
        assert!(refused.to_string().contains("by ravi"), "{refused}");
        assert!(brake.shown(&database).await.0, "{brake:?} stays");
        // What else changes the row while it is waited for is no reason to refuse.
        let (_, seen) = brake.shown(&database).await;
        other.batch_execute("BEGIN; UPDATE leadership SET offer = NULL").await.unwrap();
        let release = brake.set(&database, false, "over", at(seen));
        let commits = once_somebody_waits(&watching, &other);
        tokio::join!(release, commits).0.unwrap();
        assert!(!brake.shown(&database).await.0, "{brake:?} is over");
    }
}
