//! The stop monitor: every held position's stop and take-profit against the price board, those that a price concerns on
//! each price, all of them at least four times a second, whatever the feed does.
//!
//! A price at the level closes the position by a protective order, through the same journal as every other. A price
//! that is a jump away from the one before is a gap or a bad tick, and nobody can tell which from the tick alone: it
//! is confirmed first. A second quote is asked for at once; one that agrees sells, and so does one that does not come
//! within [`CONFIRM`]: a filter may delay an exit by that much, never prevent it. A quote that disagrees holds the sale
//! back until the next price says the same again. (See docs/adr/0016.)
//!
//! A price that arrived before its position was booked says nothing about it: the market may have moved to the entry
//! since. The next price, a second later at most, is the first that counts.
//!
//! A position whose price is dead, or that has no stop, is *unarmed*: counted, and told once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use ha::Moment;

use super::book::Book;
use crate::domain::ids::PositionId;
use crate::domain::listing::Listing;
use crate::domain::money::Price;
use crate::domain::order::OrderClass;
use crate::domain::policy::StopPolicy;
use crate::domain::position::Position;
use crate::domain::stops::{Calm, Trigger, is_jump};
use crate::feed::{Ages, Freshness, PriceSource, Priced, Sighted};

/// How long a price that is a jump away waits for the second quote.
pub const CONFIRM: Duration = Duration::from_millis(800);
/// For how long a quote that contradicted a jump is remembered: a second such price within it sells.
const MEMORY: Duration = Duration::from_secs(10);
/// How long a position may be unarmed before it is told: a new one has no price for a moment.
const GRACE: Duration = Duration::from_secs(3);

/// A level that was reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hit {
    /// Whose.
    pub position: PositionId,
    /// Which level.
    pub trigger: Trigger,
    /// By which price.
    pub price: Price,
    /// Where that came from.
    pub source: PriceSource,
}

/// Why a position is not watched.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Unarmed {
    /// No price, or one that is too old to say anything.
    NoPrice,
    /// Its stop is at zero.
    NoStop,
    /// The configuration says so.
    Off,
}

impl Unarmed {
    /// Why, in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoPrice => "it has no price, or a dead one",
            Self::NoStop => "it has no stop",
            Self::Off => "trading.stops.watch is off",
        }
    }
}

/// What one look found.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Look {
    /// Levels that were reached.
    pub hits: Vec<Hit>,
    /// Listings of which a second quote is needed at once.
    pub ask: Vec<Listing>,
    /// Positions that are not watched.
    pub unarmed: usize,
    /// Those of them to be told now.
    pub told: Vec<(PositionId, Unarmed)>,
    /// Positions that were told of and are watched again.
    pub armed: Vec<PositionId>,
}

/// A jump that waits to be confirmed.
#[derive(Clone, Debug)]
struct Doubt {
    listing: Listing,
    /// When the price came.
    at: Moment,
    /// When it was looked at first.
    since: Moment,
    answer: Answer,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    Awaited,
    Agreed,
    Contradicted(Moment),
}

/// What the monitor remembers between two looks. It dies with the term: the next leader begins with the first price.
#[derive(Debug, Default)]
pub struct StopMonitor {
    /// Every held position.
    watched: HashMap<PositionId, Watched>,
    /// Whom a price concerns.
    concerned: HashMap<Listing, Vec<PositionId>>,
    /// How often that has changed.
    layout: u64,
    begun: bool,
    jumps: Jumps,
    unarmed: HashMap<PositionId, Moment>,
    told: HashSet<PositionId>,
}

/// A position as a look meets it: looks are many, and make no names anew.
#[derive(Debug)]
struct Watched {
    listing: Listing,
    /// Since when; none for those that were held when the term began.
    since: Option<Moment>,
    /// Where it is among the book's positions.
    place: usize,
}

/// What a look goes by.
#[derive(Clone, Copy)]
pub struct Sight<'a> {
    /// Whether stops are watched, and what is a jump.
    pub policy: &'a StopPolicy,
    /// What is held, and what is on its way out.
    pub book: &'a Book,
    /// From what age on a price says nothing.
    pub ages: Ages,
    /// The time of the look.
    pub now: Moment,
}

/// Tells what is a move from what is a jump.
#[derive(Debug, Default)]
struct Jumps {
    /// What looks have met and that set nothing off, where the board does not know it as a calm one.
    seen: HashMap<Listing, Seen>,
    doubts: BTreeMap<PositionId, Doubt>,
}

/// The last price of a listing that a look has met, and the one before it: no price is its own measure, though it set nothing off
/// for another position, or before a stop was raised.
#[derive(Clone, Copy, Debug)]
struct Seen {
    latest: Priced,
    before: Option<Priced>,
}

// === impl StopMonitor ===

impl StopMonitor {
    /// Looks at every held position that is not on its way out by a protective or operator's order.
    pub fn look(&mut self, sight: Sight<'_>, price_of: impl Fn(&Listing) -> Option<Sighted>) -> Look {
        let mut look = Look::default();
        let mut unarmed = Vec::new();
        let fresh = std::mem::replace(&mut self.begun, true).then_some(sight.now);
        let (mut held, mut moved) = (0, false);
        for (place, position) in sight.book.portfolio.positions.iter().enumerate() {
            if !position.is_held() {
                continue;
            }
            held += 1;
            let watch = || Watched { listing: position.listing(), since: fresh, place: usize::MAX };
            let watched = self.watched.entry(position.id).or_insert_with(watch);
            moved |= std::mem::replace(&mut watched.place, place) != place;
            if let Some(why) = sight.judge(position, watched, &price_of, &mut self.jumps, &mut look) {
                unarmed.push((position.id, why));
            }
        }
        if self.watched.len() > held {
            let held: HashSet<PositionId> = sight.book.portfolio.held().map(|position| position.id).collect();
            self.watched.retain(|id, _| held.contains(id));
            self.jumps.doubts.retain(|id, _| held.contains(id));
            moved = true;
        }
        if moved {
            self.note_places();
        }
        self.note(unarmed, sight.now, &mut look);
        look
    }

    /// Looks only at what these listings concern, of which each has a new price: as many positions may be held as there
    /// are, a tick costs what it concerns. Who is unarmed it does not say. None where the book does not hold what it held at
    /// the last look at everything: then everything has to be looked at.
    pub fn glance(
        &mut self,
        moved: &[Arc<Listing>],
        sight: Sight<'_>,
        price_of: impl Fn(&Listing) -> Option<Sighted>,
    ) -> Option<Look> {
        if !self.holds_as_many_as(sight.book) {
            return None;
        }
        let positions = &sight.book.portfolio.positions;
        let concerned = moved.iter().filter_map(|listing| self.concerned.get(&**listing)).flatten();
        let found = concerned.map(|id| {
            let watched = self.watched.get(id)?;
            let position = positions.get(watched.place)?;
            (position.id == *id && position.is_held()).then_some((position, watched))
        });
        // First all, so that a look that is not to be leaves no trace.
        let found: Vec<(&Position, &Watched)> = found.collect::<Option<_>>()?;
        let mut look = Look::default();
        for (position, watched) in found {
            sight.judge(position, watched, &price_of, &mut self.jumps, &mut look);
        }
        Some(look)
    }

    /// By which prices a look has something to do, listing by listing, as [`PriceBoard::rest`](crate::feed::PriceBoard::rest)
    /// takes it: beyond which levels, or by every one while a jump waits for its second quote. None as for [`Self::glance`].
    pub fn calm(&self, policy: &StopPolicy, book: &Book) -> Option<Vec<(&Listing, Option<Calm>)>> {
        if !self.holds_as_many_as(book) {
            return None;
        }
        let of_position = |id: &PositionId| {
            let position = book.portfolio.positions.get(self.watched.get(id)?.place)?;
            let is_known = position.id == *id && position.is_held();
            let counts = policy.watch && !is_left_alone(book, *id);
            is_known.then(|| if counts { position.calm() } else { Calm::ANY })
        };
        let mut levels = Vec::with_capacity(self.concerned.len());
        for (listing, ids) in &self.concerned {
            let calm = ids.iter().try_fold(Calm::ANY, |calm, id| Some(calm.and(of_position(id)?)))?;
            levels.push((listing, (!self.jumps.doubts_of(listing)).then_some(calm)));
        }
        Some(levels)
    }

    fn holds_as_many_as(&self, book: &Book) -> bool {
        self.begun && book.portfolio.held().count() == self.watched.len()
    }

    /// Another number whenever what is held has changed, as of the last look.
    pub fn layout(&self) -> u64 {
        self.layout
    }

    fn note_places(&mut self) {
        self.layout += 1;
        self.concerned.clear();
        for (id, watched) in &self.watched {
            self.concerned.entry(watched.listing.clone()).or_default().push(*id);
        }
        for ids in self.concerned.values_mut() {
            ids.sort_by_key(|id| self.watched[id].place);
        }
        // What comes back is measured by its level at first, not by a price of hours ago.
        self.jumps.seen.retain(|listing, _| self.concerned.contains_key(listing));
    }

    /// Of what is held as of the last look; one that several positions have comes as often.
    pub fn listings(&self) -> impl Iterator<Item = &Listing> {
        self.watched.values().map(|watched| &watched.listing)
    }

    /// Takes the second quote of a listing, `asked` for then; none when it could not be had. It says nothing of a doubt that is younger
    /// than the question: that one has a question of its own.
    pub fn answered(
        &mut self,
        book: &Book,
        listing: &Listing,
        quote: Option<Price>,
        asked: Moment,
        now: Moment,
    ) {
        let meant = |doubt: &Doubt| doubt.listing == *listing && doubt.since <= asked;
        for (id, doubt) in self.jumps.doubts.iter_mut().filter(|(_, doubt)| meant(doubt)) {
            let agrees = |price| book.position(*id).is_some_and(|position| position.trigger(price).is_some());
            if doubt.answer == Answer::Awaited {
                doubt.answer = match quote {
                    Some(price) if !agrees(price) => Answer::Contradicted(now),
                    _ => Answer::Agreed,
                };
            }
        }
    }

    /// True while a jump waits for its second quote.
    pub fn is_waiting(&self) -> bool {
        self.jumps.doubts.values().any(|doubt| doubt.answer == Answer::Awaited)
    }

    fn note(&mut self, unarmed: Vec<(PositionId, Unarmed)>, now: Moment, look: &mut Look) {
        look.unarmed = unarmed.len();
        let ids: HashSet<PositionId> = unarmed.iter().map(|(id, _)| *id).collect();
        self.unarmed.retain(|id, _| ids.contains(id));
        for (id, why) in unarmed {
            let since = *self.unarmed.entry(id).or_insert(now);
            if (why != Unarmed::NoPrice || now.since(since) >= GRACE) && self.told.insert(id) {
                look.told.push((id, why));
            }
        }
        look.armed = self.told.extract_if(|id| !ids.contains(id)).collect();
    }
}

// === impl Sight ===

impl Sight<'_> {
    /// Judges one held position by its price; says why it is not watched, if it is not.
    fn judge(
        &self,
        position: &Position,
        watched: &Watched,
        price_of: impl Fn(&Listing) -> Option<Sighted>,
        jumps: &mut Jumps,
        look: &mut Look,
    ) -> Option<Unarmed> {
        if is_left_alone(self.book, position.id) {
            jumps.doubts.remove(&position.id);
            return None;
        }
        if !self.policy.watch {
            return Some(Unarmed::Off);
        }
        let tells = |Sighted { priced, .. }: &Sighted| {
            watched.since.is_none_or(|since| priced.at >= since)
                && self.ages.judge(self.now.since(priced.at)) != Freshness::Dead
        };
        let Some(sighted) = price_of(&watched.listing).filter(tells) else { return Some(Unarmed::NoPrice) };
        jumps.judge(self.policy, position, &watched.listing, sighted, self.now, look);
        (position.current_stop == Price::ZERO).then_some(Unarmed::NoStop)
    }
}

/// True of a position that is on its way out by an order which no stop is stronger than.
fn is_left_alone(book: &Book, id: PositionId) -> bool {
    book.closing.get(&id).is_some_and(|closing| closing.cause.class() != OrderClass::Exit)
}

// === impl Jumps ===

impl Jumps {
    fn judge(
        &mut self,
        policy: &StopPolicy,
        position: &Position,
        listing: &Listing,
        Sighted { priced, is_calm, calm }: Sighted,
        now: Moment,
        look: &mut Look,
    ) {
        let Priced { price, source, at } = priced;
        let Some(trigger) = position.trigger(price) else {
            // Otherwise the board knows it; and what another position doubts is nobody's measure.
            if !is_calm && !self.is_doubted(listing, priced) {
                self.saw(listing, priced);
            }
            // Only a contradiction is worth remembering: the next jump then has two prices for it.
            let over = |doubt: &Doubt| match doubt.answer {
                Answer::Awaited => false,
                Answer::Agreed => true,
                Answer::Contradicted(_) => now.since(doubt.since) > MEMORY,
            };
            if self.doubts.get(&position.id).is_some_and(over) {
                self.doubts.remove(&position.id);
            }
            return;
        };
        let hit = Hit { position: position.id, trigger, price, source };
        let before = self.before(listing, at).into_iter().chain(calm).max_by_key(|priced| priced.at);
        let reference = before.map_or(trigger.level(), |priced| priced.price);
        if !is_jump(reference, price, policy.confirm_percent) {
            self.doubts.remove(&position.id);
            self.saw(listing, priced);
            look.hits.push(hit);
            return;
        }
        let Some(doubt) = self.doubts.get(&position.id) else {
            if !look.ask.contains(listing) {
                look.ask.push(listing.clone());
            }
            let doubt = Doubt { listing: listing.clone(), at, since: now, answer: Answer::Awaited };
            self.doubts.insert(position.id, doubt);
            self.unsee(listing, at);
            return;
        };
        let sells = match doubt.answer {
            Answer::Agreed => true,
            Answer::Contradicted(when) => at > when,
            Answer::Awaited => {
                let second_source = source == PriceSource::Rest && at > doubt.at;
                second_source || now.since(doubt.since) >= CONFIRM
            }
        };
        if sells {
            self.doubts.remove(&position.id);
            self.saw(listing, priced);
            look.hits.push(hit);
        }
    }

    fn saw(&mut self, listing: &Listing, priced: Priced) {
        match self.seen.get_mut(listing) {
            Some(seen) if seen.latest.at >= priced.at => {}
            Some(seen) => *seen = Seen { latest: priced, before: Some(seen.latest) },
            None => _ = self.seen.insert(listing.clone(), Seen { latest: priced, before: None }),
        }
    }

    /// The last price that a look has met and that came before `at`.
    fn before(&self, listing: &Listing, at: Moment) -> Option<Priced> {
        let Seen { latest, before } = *self.seen.get(listing)?;
        [Some(latest), before].into_iter().flatten().find(|seen| seen.at < at)
    }

    /// The price of `at` may be a bad one: the one before it is the measure again.
    fn unsee(&mut self, listing: &Listing, at: Moment) {
        let Some(seen) = self.seen.get_mut(listing).filter(|seen| seen.latest.at >= at) else { return };
        match seen.before {
            Some(before) => *seen = Seen { latest: before, before: None },
            None => _ = self.seen.remove(listing),
        }
    }

    /// A position awaits a second quote for it, or such a quote has contradicted what came before.
    fn is_doubted(&self, listing: &Listing, Priced { source, at, .. }: Priced) -> bool {
        let doubts = |doubt: &Doubt| match doubt.answer {
            Answer::Awaited => true,
            Answer::Agreed => false,
            Answer::Contradicted(when) => at <= when && source != PriceSource::Rest,
        };
        self.doubts.values().any(|doubt| doubt.listing == *listing && doubts(doubt))
    }

    fn doubts_of(&self, listing: &Listing) -> bool {
        self.doubts.values().any(|doubt| doubt.listing == *listing)
    }
}
