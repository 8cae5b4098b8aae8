//! Watches leadership over a session of its own, as `ha/src/observer.rs` does.

use std::rc::Rc;
use std::time::Duration;

use ha::election::Look;

use super::{Process, Sight};
use crate::postgres::{Ask, Said};
use crate::session::ClientEnd;
use crate::world::MILLI;

pub async fn watch_for_ever(me: Rc<Process>) {
    let patience = me.timing.idle_in_transaction();
    let mut serial = 0;
    let mut pause = me.timing.watch;
    loop {
        if let Ok(session) = ClientEnd::open(&me, patience).await {
            serial += 1;
            *me.observer.borrow_mut() = Some(session.clone());
            look_while_it_lasts(&me, &session, serial, patience).await;
            session.close();
            me.observer.take();
            if matches!(*me.sight.borrow(), Sight::Seen(_)) {
                pause = me.timing.watch;
            }
        }
        me.show_sight(Sight::Blind);
        me.sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(250));
    }
}

async fn look_while_it_lasts(me: &Rc<Process>, session: &Rc<ClientEnd>, serial: u64, patience: Duration) {
    let mut spread = 0;
    loop {
        let started = me.now();
        let Some(Ok(Said::Look(row))) = me.within(patience, session.ask(Ask::Look)).await else { return };
        me.show_sight(Sight::Seen(Rc::new(Look { session: serial, started, finished: me.now(), row: *row })));
        spread = (spread + 7) % 10;
        let until = me.world().now() + super::nanos(me.pace.get()) + spread * MILLI;
        me.until_or(until, || me.bell.get() || session.is_over()).await;
        me.bell.set(false);
        if session.is_over() {
            return;
        }
    }
}
