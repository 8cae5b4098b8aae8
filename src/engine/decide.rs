//! From a signal to what is done about it: pure over the book, the policy and the quotes handed in.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::book::{Book, Queued};
use super::intents::{entry_order, exit_order};
use super::projection::projected;
use super::trailing;
use crate::domain::cause::ExitCause;
use crate::domain::charges::Schedule;
use crate::domain::divergence::EntryKind;
use crate::domain::execution::Bidding;
use crate::domain::exit::{ExitPlan, ExitRequest, Skipped};
use crate::domain::freeze::freeze;
use crate::domain::gates::{Candidate, judge_base, judge_pyramid};
use crate::domain::instrument::{Catalog, Instrument};
use crate::domain::intent::{EntryPlan, OrderIntent};
use crate::domain::label::Label;
use crate::domain::listing::Listing;
use crate::domain::money::{Lots, Price, Quantity};
use crate::domain::policy::{EquityBasis, TradingPolicy};
use crate::domain::portfolio::{Portfolio, Quotes};
use crate::domain::position::Position;
use crate::domain::refusal::Refusal;
use crate::domain::signal::{Action, Entry, Exit, Signal};
use crate::domain::sizing::{BaseInputs, PyramidInputs, base_size, pyramid_size};
use crate::domain::{age, auction, contract, divergence, exit, expiry, sessions, square_off, stops};

/// What decisions are made by.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Thresholds.
    pub policy: TradingPolicy,
    /// Instruments.
    pub catalog: Catalog,
    /// What trading costs.
    pub charges: Schedule,
    /// Entries are made whatever the calendar says, and of contracts that have expired or of which nothing is known; for
    /// paper trading.
    pub allow_after_market: bool,
    /// The bridge only simulates: contracts trade on past their expiry.
    pub simulated: bool,
    /// How long after its journaling an order's bytes may be written, in milliseconds.
    pub send_window_ms: i32,
}

/// What is to be done about a signal.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Nothing, and why.
    Refuse(Vec<Refusal>, Option<Value>),
    /// Send these orders.
    Order(Vec<OrderIntent>, Value),
    /// Move stops: the positions that changed, and why others were left as they were.
    Trail(Vec<Position>, Vec<Refusal>),
    /// Kept for strategies that read it; there is nothing to order.
    Note(Refusal),
}

/// The (exchange, symbol) pairs whose live price a decision needs, the signal's own first.
pub fn quotes_needed(rules: &Rules, book: &Book, signal: &Signal) -> Vec<(String, String)> {
    match signal.entry() {
        Some(_) => contracts_needed(rules, book, &signal.instrument),
        None => Vec::new(),
    }
}

/// The same of any entry on an instrument.
pub(super) fn contracts_needed(rules: &Rules, book: &Book, name: &str) -> Vec<(String, String)> {
    let Some(instrument) = rules.catalog.get(name) else { return Vec::new() };
    let mut needed = vec![(instrument.exchange.clone(), instrument.symbol.clone())];
    let by_quotes = [rules.policy.gates.equity, rules.policy.sizing.equity].contains(&EquityBasis::Blended);
    for position in book.portfolio.held() {
        let pair = (position.exchange.clone(), position.symbol.clone());
        if (by_quotes || position.instrument == name) && !needed.contains(&pair) {
            needed.push(pair);
        }
    }
    needed
}

/// Decides a signal at the wall-clock time `now`, which only its age depends on. The quotes of a bar are the fresh prices of what
/// is held of its instrument: nobody waits for one.
pub fn decide(rules: &Rules, book: &Book, queued: &Queued, quotes: &Quotes, now: DateTime<Utc>) -> Decision {
    match &queued.signal.action {
        Action::BaseEntry(entry) | Action::Pyramid(entry) => {
            decide_entry(rules, book, queued, entry, quotes, now)
        }
        Action::Exit(exit) => decide_exit(rules, book, queued, exit),
        Action::MarketData(bar) => trailing::decide(rules, book, queued, bar, quotes),
        Action::EodMonitor(_) => Decision::Note(Refusal::new(
            "RECORDED",
            "recorded; no strategy that acts on end-of-day indicators is enabled",
        )),
    }
}

fn decide_entry(
    rules: &Rules,
    book: &Book,
    queued: &Queued,
    entry: &Entry,
    quotes: &Quotes,
    now: DateTime<Utc>,
) -> Decision {
    let signal = &queued.signal;
    let Some(instrument) = rules.catalog.get(&signal.instrument) else {
        return Decision::Refuse(vec![unknown_instrument(&signal.instrument)], None);
    };
    let mut refusals = Vec::from_iter(book.strategies.refusal(&signal.strategy));
    let freshness = age::judge(&rules.policy.age, signal.kind(), signal.sent_at, now);
    let freshness = freshness.map_err(|refusal| refusals.push(refusal)).ok();
    if !rules.allow_after_market
        && let Err(refusal) = sessions::judge(book.calendar.as_deref(), &instrument.exchange, now)
    {
        refusals.push(refusal);
    }
    let square_off = &rules.policy.square_off;
    refusals.extend(square_off::judge_entry(square_off, book.calendar.as_deref(), instrument, now).err());
    if !rules.allow_after_market
        && let Err(refusal) = auction::judge_entry(book.calendar.as_deref(), instrument, now)
    {
        refusals.push(refusal);
    }
    let today = sessions::trading_day(now);
    let goes_on = rules.simulated || rules.allow_after_market;
    if !goes_on {
        let listing = Listing::new(&instrument.exchange, &instrument.symbol);
        let (rollover, contracts) = (&rules.policy.rollover, book.contracts.as_deref());
        let expiry = expiry::judge_entry(rollover, contracts, &listing, &book.holidays, today);
        refusals.extend(expiry.err());
    }
    let contract = contract::judge(book.contracts.as_deref(), instrument, today, goes_on);
    let contract = contract.map_err(|refusal| refusals.push(refusal)).ok();
    if !rules.allow_after_market && contract == Some(contract::Known::Unknown) {
        refusals.push(contract::unknown(instrument, today));
    }
    let kind = if entry.label.is_base() { EntryKind::Base } else { EntryKind::Pyramid };
    let live = quotes.get(&instrument.exchange, &instrument.symbol);
    let divergence = divergence::judge(&rules.policy.divergence, kind, entry.price, entry.stop, live);
    let divergence = divergence.map_err(|failed| refusals.extend(failed)).ok();

    let stop = stops::initial_stop(rules.policy.initial_stop, instrument, entry.price, entry.stop, entry.atr);
    let portfolio = projected(book);
    if let Some(day) = &book.day {
        let open = portfolio.held().count() + portfolio.pending.len();
        refusals.extend(day.refusals(&rules.policy.limits, u32::try_from(open).unwrap_or(u32::MAX)));
    }
    let mut decision =
        json!({ "freshness": freshness, "divergence": divergence, "stop": stop, "live_price": live });
    let listing = Listing::new(&instrument.exchange, &instrument.symbol);
    let freeze = freeze(Some(instrument), book.contracts.as_deref(), &listing);
    let lots = match size(rules, &portfolio, instrument, entry, stop, freeze, quotes) {
        Ok((lots, size)) => {
            decision["size"] = size;
            lots
        }
        Err(refusal) => {
            refusals.push(refusal);
            return Decision::Refuse(refusals, Some(decision));
        }
    };
    let quantity = lots.quantity(instrument.lot_size);
    let candidate =
        Candidate { instrument, label: entry.label, lots, price: entry.price, stop, atr: entry.atr };
    let judge = if entry.label.is_base() { judge_base } else { judge_pyramid };
    match judge(&rules.policy, &portfolio, quotes, &candidate) {
        Ok(projection) => decision["projection"] = json!(projection),
        Err(failed) => refusals.extend(failed),
    }
    if !refusals.is_empty() {
        return Decision::Refuse(refusals, Some(decision));
    }
    let bidding = live.and_then(|live| Bidding::of(&rules.policy.execution, instrument, live, quantity, now));
    if let Some(bidding) = &bidding {
        decision["bidding"] = json!(bidding);
    }
    let mut intent = entry_order(rules, book, instrument, quantity, bidding.as_ref());
    let plan = EntryPlan {
        label: entry.label,
        strategy: signal.strategy.clone(),
        lot_size: instrument.lot_size,
        point_value: instrument.point_value,
        margin_per_lot: instrument.margin_per_lot,
        atr: entry.atr,
        stop,
        take_profit: entry.take_profit,
        planned_price: entry.price,
        signal_seq: queued.seq,
        bar_time: signal.bar_time,
        bidding,
    };
    intent.signal = Some(queued.id);
    intent.attempt = queued.attempt;
    intent.plan = Some(plan);
    Decision::Order(vec![intent], decision)
}

/// Lots of an entry, and how they came about.
fn size(
    rules: &Rules,
    portfolio: &Portfolio,
    instrument: &Instrument,
    entry: &Entry,
    stop: Price,
    freeze: Option<Quantity>,
    quotes: &Quotes,
) -> Result<(Lots, Value), Refusal> {
    let equity = portfolio
        .sizing_equity(&rules.policy, quotes)
        .map_err(|missing| Refusal::new("QUOTE_MISSING", missing.to_string()))?;
    let (margin_used, held_lots) = (portfolio.committed().margin_used, portfolio.lots_of(instrument));
    let policy = &rules.policy.sizing;
    let (price, stop) = (Some(entry.price), Some(stop));
    if entry.label.is_base() {
        let inputs = BaseInputs {
            instrument,
            price,
            stop,
            atr: Some(entry.atr),
            er: entry.er,
            equity: Some(equity),
            margin_used: Some(margin_used),
            freeze,
            held_lots,
        };
        let size = base_size(policy, &inputs).map_err(|zero| Refusal::new(zero.code(), zero.to_string()))?;
        return Ok((size.lots, json!(size)));
    }
    let base = portfolio.find(&instrument.name, &Label::BASE.to_string());
    let unrealised = portfolio
        .unrealised_on(&instrument.name, quotes)
        .map_err(|missing| Refusal::new("QUOTE_MISSING", missing.to_string()))?;
    let inputs = PyramidInputs {
        instrument,
        label: entry.label,
        price,
        stop,
        base_lots: base.map(Position::lots),
        base_risk: base.map(Position::risk),
        unrealised: Some(unrealised),
        equity: Some(equity),
        margin_used: Some(margin_used),
        freeze,
        held_lots,
    };
    let size = pyramid_size(policy, &inputs).map_err(|zero| Refusal::new(zero.code(), zero.to_string()))?;
    Ok((size.lots, json!(size)))
}

/// An EXIT as the domain asks for it.
pub fn exit_request<'a>(queued: &'a Queued, wanted: &Exit) -> ExitRequest<'a> {
    ExitRequest {
        instrument: &queued.signal.instrument,
        strategy: Some(&queued.signal.strategy),
        target: wanted.target,
        bar_time: queued.signal.bar_time,
        seq: queued.seq,
    }
}

/// What an EXIT has to close. A position that is on its way out already needs no second exit, even between two
/// tries of the first.
pub fn exit_plan(book: &Book, request: &ExitRequest<'_>) -> ExitPlan {
    let closing = book.closing.keys().filter_map(|id| book.position(*id));
    let outstanding = closing.map(|position| (position.id, position.quantity)).collect();
    exit::plan(request, &book.portfolio.positions, &outstanding)
}

fn decide_exit(rules: &Rules, book: &Book, queued: &Queued, wanted: &Exit) -> Decision {
    let signal = &queued.signal;
    let plan = exit_plan(book, &exit_request(queued, wanted));
    if plan.orders.is_empty() {
        return Decision::Refuse(nothing_to_exit(&signal.instrument, &plan.skipped), None);
    }
    let intents = plan.orders.iter().enumerate().filter_map(|(leg, order)| {
        let position = book.position(order.position)?;
        let mut intent = exit_order(rules, book, position, order.quantity, ExitCause::Signal);
        intent.signal = Some(queued.id);
        intent.leg = i32::try_from(leg).unwrap_or(i32::MAX);
        Some(intent)
    });
    Decision::Order(
        intents.collect(),
        json!({ "reason": wanted.reason, "exits": plan.orders, "skipped": plan.skipped }),
    )
}

/// Most units of one order of a position's contract; none where there is no limit.
pub fn freeze_of(rules: &Rules, book: &Book, position: &Position) -> Option<Quantity> {
    let instrument = rules.catalog.get(&position.instrument);
    freeze(instrument, book.contracts.as_deref(), &position.listing())
}

fn nothing_to_exit(instrument: &str, skipped: &[Skipped]) -> Vec<Refusal> {
    if skipped.is_empty() {
        return vec![Refusal::new(
            "NO_POSITION",
            format!("nothing that the EXIT names is held on {instrument}"),
        )];
    }
    skipped
        .iter()
        .map(|skipped| {
            let (code, why) = match skipped.why {
                exit::Untouched::EnteredLater => {
                    ("ENTERED_LATER", "was entered by a later signal than this EXIT")
                }
                exit::Untouched::AlreadyExiting => ("ALREADY_EXITING", "is on its way out already"),
                exit::Untouched::OtherStrategy => ("OTHER_STRATEGY", "belongs to another strategy"),
            };
            Refusal::new(code, format!("position {} {why}", skipped.position))
        })
        .collect()
}

pub(super) fn unknown_instrument(name: &str) -> Refusal {
    Refusal::new("UNKNOWN_INSTRUMENT", format!("instrument {name} is not configured any more"))
}
