//! Halt and reduce-only hold in the journal statement itself, class by class.

use baton::domain::order::OrderClass;
use baton::ledger::switches::Switches;

use crate::rows::{journal, position, row, statement};
use crate::support::database::Database;

// R: B4, S13
#[tokio::test]
async fn s13_each_switch_blocks_its_classes_and_no_other() {
    let database = Database::start().await;
    let client = database.connect().await;
    let statement = statement(&client).await;
    let held = position(&client, "Long_1", 1000).await;
    for bits in 0..8u8 {
        let switches =
            Switches { halted: bits & 1 != 0, halt_all: bits & 2 != 0, reduce_only: bits & 4 != 0 };
        if switches.halt_all && !switches.halted {
            continue;
        }
        client
            .execute(
                "UPDATE leadership SET halted = $1, halt_all = $2, reduce_only = $3",
                &[&switches.halted, &switches.halt_all, &switches.reduce_only],
            )
            .await
            .unwrap();
        assert_eq!(database.ledger.switches().await.unwrap(), switches);
        for &class in OrderClass::ALL {
            let committed = journal(&client, &statement, 0, vec![row(class, held, 1)]).await.unwrap();
            assert_eq!(committed.len() == 1, switches.allow(class), "{class} under {switches:?}");
        }
    }
    // All at once in one statement: each for itself.
    client
        .execute("UPDATE leadership SET halted = true, halt_all = false, reduce_only = false", &[])
        .await
        .unwrap();
    let rows = OrderClass::ALL.iter().map(|class| row(*class, held, 1)).collect();
    let committed = journal(&client, &statement, 0, rows).await.unwrap();
    assert_eq!(committed.len(), 2, "protective and operator pass a halt, entry and exit do not");
}

#[tokio::test]
async fn halt_all_without_halt_cannot_be_stored() {
    let database = Database::start().await;
    let client = database.connect().await;
    assert!(client.execute("UPDATE leadership SET halt_all = true", &[]).await.is_err());
}
