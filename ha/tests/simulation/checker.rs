//! What must hold at every step, whatever the schedule did. It sees the whole world, true time included.

use std::collections::BTreeMap;

use ha::{Epoch, Reason};

use crate::world::{MILLI, World};

/// An authorisation as it was committed.
pub struct Entry {
    pub process: usize,
    pub epoch: Epoch,
    /// The epoch in force at that moment.
    pub in_force: Epoch,
}

struct Promoted {
    at: u64,
    epoch: Epoch,
    reason: Reason,
}

/// What a schedule did, for the report and for the judgement at its end.
#[derive(Clone, Default, Debug)]
pub struct Tally {
    pub promotions: BTreeMap<&'static str, u64>,
    pub suspensions: u64,
    pub resumptions: u64,
    pub fenced: u64,
    pub demotions: u64,
    pub refused_entries: u64,
    pub journaled: u64,
    pub sent: u64,
    pub held_back: u64,
    pub aborts: u64,
    pub handed_over: u64,
    pub evicted_members: u64,
    pub duplicates: u64,
    pub failovers: u64,
    pub wound_down: u64,
}

#[derive(Default)]
pub struct Checker {
    pub violation: Option<String>,
    pub tally: Tally,
    promotions: Vec<Promoted>,
    highest_authorised: Epoch,
    highest: Epoch,
    last_journal: Option<(u64, Epoch)>,
}

impl Checker {
    fn violated(&mut self, world: &World, what: String) {
        world.tell(|| format!("VIOLATED {what}"));
        self.violation.get_or_insert(what);
    }

    /// A promotion was committed.
    pub fn promoted(&mut self, world: &World, process: usize, epoch: Epoch, reason: Reason) {
        *self.tally.promotions.entry(reason.name()).or_default() += 1;
        if epoch <= self.highest.max(self.highest_authorised) {
            let highest = self.highest.max(self.highest_authorised);
            self.violated(
                world,
                format!("S7: p{process} is promoted to epoch {epoch} after epoch {highest}"),
            );
        }
        self.highest = self.highest.max(epoch);
        self.promotions.push(Promoted { at: world.now(), epoch, reason });
    }

    /// The database lost its tail: a promotion that nothing was authorised under may be among it.
    pub fn failed_over(&mut self) {
        self.tally.failovers += 1;
        self.highest = self.highest_authorised;
    }

    /// An authorisation was committed.
    pub fn journaled(&mut self, world: &World, entry: &Entry, pinned: bool) {
        self.tally.journaled += 1;
        let Entry { process, epoch, in_force } = entry;
        if epoch != in_force {
            let what = format!("S3: p{process} authorises under epoch {epoch} while {in_force} is in force");
            self.violated(world, what);
        }
        if !pinned {
            let what = format!("S9: p{process} authorises under epoch {epoch} without holding the pin");
            self.violated(world, what);
        }
        self.highest_authorised = self.highest_authorised.max(*epoch);
        self.last_journal = Some((world.now(), *epoch));
    }

    /// A process found that it may send.
    pub fn passed(&mut self, world: &World, process: usize, epoch: Epoch) {
        let next = self.promotions.iter().find(|promoted| promoted.epoch > epoch);
        // A leader whose session ended may be replaced while its deadline is to come; it can journal nothing.
        // One that was found stale has been past its deadline for the margin.
        if let Some(next) = next.filter(|next| next.reason == Reason::Stale) {
            let since = (world.now() - next.at) as f64 / MILLI as f64;
            let what = format!(
                "S4: p{process} may send under epoch {epoch}, {since:.1} ms after it was replaced as stale by epoch {}",
                next.epoch
            );
            self.violated(world, what);
        }
    }

    /// Somebody authorised something after this moment.
    pub fn authorised_since(&self, moment: u64) -> bool {
        self.last_journal.is_some_and(|(at, epoch)| at >= moment && epoch == self.highest)
    }

    pub fn judge(&mut self, world: &World, what: String) {
        self.violated(world, what);
    }
}
