//! When positions of an intraday product have to be gone: a while before the broker closes them itself, for a fee.
//!
//! Brokers say it by the clock, an exchange moves its close (a season, a special session), and both matter only together. So
//! every time here is so many minutes before the last close of the exchange's day, by the day's calendar; for a day that nobody
//! knows, by the usual hours. Defaults are those that brokers published by [`usual::AS_OF`], the earliest of each segment.

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::{Decimal, dec};
use serde::{Deserialize, Serialize};

use super::fault::{Bound, Checker, Fault};
use super::instrument::Instrument;
use super::order::Product;
use super::position::Position;
use super::refusal::Refusal;
use super::sessions::{Calendar, clock, trading_day};
use super::usual;

/// Square-off of positions of product MIS, by segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SquareOffPolicy {
    /// Off leaves it to the broker.
    pub enabled: bool,
    /// Shares: NSE, BSE.
    pub equity: SquareOffTimes,
    /// NFO, BFO.
    pub derivatives: SquareOffTimes,
    /// CDS, BCD.
    pub currency: SquareOffTimes,
    /// MCX, and every other exchange.
    pub commodity: SquareOffTimes,
}

/// Times of one segment, each in minutes before the exchange's last close of the day.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SquareOffTimes {
    /// From here on there are no entries.
    pub entries_min: u32,
    /// From here on positions are closed.
    pub exit_min: u32,
    /// From here on the broker closes them.
    pub broker_min: u32,
}

impl Default for SquareOffPolicy {
    fn default() -> Self {
        let before = |broker_min| SquareOffTimes {
            entries_min: broker_min + 30,
            exit_min: broker_min + 10,
            broker_min,
        };
        Self {
            enabled: true,
            // 15:15 of 15:30.
            equity: before(15),
            // 15:15 of 15:40, which derivatives trade to since August 2026.
            derivatives: before(25),
            currency: before(25),
            commodity: before(25),
        }
    }
}

impl SquareOffPolicy {
    /// Every fault, each under its path in `square_off`.
    pub(super) fn faults(&self) -> Vec<Fault> {
        let segments = [
            ("equity", self.equity, dec!(375)),
            ("derivatives", self.derivatives, dec!(375)),
            ("currency", self.currency, dec!(480)),
            ("commodity", self.commodity, dec!(870)),
        ];
        let mut faults = Vec::new();
        for (segment, SquareOffTimes { entries_min, exit_min, broker_min }, session) in segments {
            let mut checker = Checker::new(format!("square_off.{segment}"));
            checker.range("broker_min", broker_min.into(), Bound::From(Decimal::ZERO), session);
            checker.check(
                exit_min > broker_min,
                "exit_min",
                format!("is {exit_min}; set it above broker_min ({broker_min}): before the broker's own square-off"),
            );
            checker.check(
                entries_min >= exit_min,
                "entries_min",
                format!("is {entries_min}; set it to exit_min ({exit_min}) or more"),
            );
            checker.check(
                Decimal::from(entries_min) < session,
                "entries_min",
                format!(
                    "is {entries_min}; set it below the session's {session} minutes, or there are no entries"
                ),
            );
            faults.extend(checker.done());
        }
        faults
    }

    fn times(&self, exchange: &str) -> SquareOffTimes {
        match exchange {
            exchange if usual::EQUITY.contains(&exchange) => self.equity,
            exchange if usual::DERIVATIVES.contains(&exchange) => self.derivatives,
            exchange if usual::CURRENCY.contains(&exchange) => self.currency,
            _ => self.commodity,
        }
    }
}

/// The moments of an exchange's day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Moments {
    opens: DateTime<Utc>,
    entries_end: DateTime<Utc>,
    exit: DateTime<Utc>,
    /// Half-way from there to the broker's: what is held then is told.
    late: DateTime<Utc>,
    broker: DateTime<Utc>,
}

/// Those of the day that `at` is in; none on a day without a session. A day that is not known goes by the usual hours.
fn moments(
    policy: &SquareOffPolicy,
    calendar: Option<&Calendar>,
    exchange: &str,
    at: DateTime<Utc>,
) -> Option<Moments> {
    let known = calendar.filter(|calendar| calendar.day() == trading_day(at));
    match known {
        Some(calendar) => Some(moments_of(policy, exchange, calendar.span(exchange)?)),
        None => usual_moments(policy, exchange, at),
    }
}

/// Those by the usual hours.
fn usual_moments(policy: &SquareOffPolicy, exchange: &str, at: DateTime<Utc>) -> Option<Moments> {
    let usual = usual::calendar(trading_day(at), &[]);
    usual.span(exchange).map(|span| moments_of(policy, exchange, span))
}

fn moments_of(
    policy: &SquareOffPolicy,
    exchange: &str,
    (opens, closes): (DateTime<Utc>, DateTime<Utc>),
) -> Moments {
    let SquareOffTimes { entries_min, exit_min, broker_min } = policy.times(exchange);
    // A session that is shorter than that is one without entries.
    let before = |minutes: u32| (closes - TimeDelta::minutes(minutes.into())).max(opens);
    let (entries_end, exit, broker) = (before(entries_min), before(exit_min), before(broker_min));
    Moments { opens, entries_end, exit, late: exit + (broker - exit) / 2, broker }
}

/// Says whether an entry may still be made, for the day's square-off.
///
/// # Errors
/// `INTRADAY_ENTRIES_OVER`: what it buys would have to go at once.
pub fn judge_entry(
    policy: &SquareOffPolicy,
    calendar: Option<&Calendar>,
    instrument: &Instrument,
    at: DateTime<Utc>,
) -> Result<(), Refusal> {
    let Instrument { exchange, product, .. } = instrument;
    let moments =
        (policy.enabled && *product == Product::Mis).then(|| moments(policy, calendar, exchange, at));
    match moments.flatten().filter(|moments| at >= moments.entries_end) {
        None => Ok(()),
        Some(Moments { entries_end, exit, broker, .. }) => Err(Refusal::new(
            "INTRADAY_ENTRIES_OVER",
            format!(
                "no entries of product {product} on {exchange} from {} IST on: its positions are closed from {}, before the \
                 broker does it at {}",
                clock(entries_end),
                clock(exit),
                clock(broker)
            ),
        )),
    }
}

/// What is to be done about a held position, for the day's square-off.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// It is to be closed now; why.
    pub due: Option<String>,
    /// It should be gone, and the broker is about to close it, or should have done so; a sentence.
    pub late: Option<String>,
}

/// Judges a held position. One of an earlier day is closed from the exchange's opening on.
pub fn judge_held(
    policy: &SquareOffPolicy,
    calendar: Option<&Calendar>,
    position: &Position,
    at: DateTime<Utc>,
) -> Standing {
    if !is_intraday(policy, position) {
        return Standing::default();
    }
    let today = moments(policy, calendar, &position.exchange, at);
    let what = format!("{} of {}", position.quantity, position.symbol);
    if trading_day(position.opened_at) < trading_day(at) {
        let since = trading_day(position.opened_at);
        let opened = today.is_some_and(|moments| at >= moments.opens);
        return Standing {
            due: opened.then(|| format!("intraday, and held since {since}")),
            late: Some(format!(
                "{what}, intraday, is held since {since}: the broker should have closed it then"
            )),
        };
    }
    // It was bought today, so its exchange had a session, whatever the bridge's calendar leaves out.
    let today = today.or_else(|| usual_moments(policy, &position.exchange, at));
    let Some(Moments { exit, late, broker, .. }) = today else {
        let exchange = &position.exchange;
        return Standing {
            due: None,
            late: Some(format!("{what}, intraday, is not squared off: nobody knows the hours of {exchange}")),
        };
    };
    let due = || {
        let (exit, broker) = (clock(exit), clock(broker));
        format!("intraday: squared off from {exit} IST on, before the broker does it at {broker}")
    };
    let told = || {
        let broker = clock(broker);
        format!("{what}, intraday, is not sold yet: the broker closes it itself from {broker} IST on")
    };
    Standing { due: (at >= exit).then(due), late: (at >= late).then(told) }
}

/// True for a position that is squared off within its day.
pub fn is_intraday(policy: &SquareOffPolicy, position: &Position) -> bool {
    policy.enabled && position.product == Product::Mis
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures;
    use crate::domain::sessions::Session;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(&format!("{text}:00+05:30")).unwrap().to_utc()
    }

    fn calendar(exchange: &str, opens: &str, closes: &str) -> Calendar {
        let (opens, closes) = (at(opens), at(closes));
        Calendar::new(trading_day(opens), vec![Session { exchange: exchange.to_owned(), opens, closes }])
    }

    /// A share bought within the day.
    fn share(product: Product) -> (Instrument, Position) {
        let instrument =
            Instrument { exchange: "NSE".to_owned(), product, ..fixtures::instrument("GOLD_MINI") };
        let position = Position {
            exchange: "NSE".to_owned(),
            product,
            opened_at: at("2026-08-05T10:00"),
            ..fixtures::position("GOLD_MINI", 1, 1, dec!(1000), dec!(900), 1)
        };
        (instrument, position)
    }

    #[test]
    fn entries_end_first_then_positions_go_then_it_is_late_and_then_the_broker_would_come() {
        let (policy, day) =
            (SquareOffPolicy::default(), calendar("NSE", "2026-08-05T09:15", "2026-08-05T15:30"));
        let (instrument, position) = share(Product::Mis);
        for (time, enters, due, late) in [
            ("14:44", true, false, false),
            ("14:45", false, false, false),
            ("15:04", false, false, false),
            ("15:05", false, true, false),
            ("15:09", false, true, false),
            ("15:10", false, true, true),
            ("15:15", false, true, true),
            ("23:00", false, true, true),
        ] {
            let now = at(&format!("2026-08-05T{time}"));
            let entry = judge_entry(&policy, Some(&day), &instrument, now);
            assert_eq!(entry.is_ok(), enters, "{time}");
            let standing = judge_held(&policy, Some(&day), &position, now);
            assert_eq!((standing.due.is_some(), standing.late.is_some()), (due, late), "{time}");
        }
        let refusal = judge_entry(&policy, Some(&day), &instrument, at("2026-08-05T15:00")).unwrap_err();
        assert_eq!(refusal.code, "INTRADAY_ENTRIES_OVER");
        for time in ["14:45", "15:05", "15:15"] {
            assert!(refusal.sentence.contains(time), "{refusal}");
        }
    }

    #[test]
    fn other_products_and_a_policy_that_is_off_know_no_square_off() {
        let day = calendar("NSE", "2026-08-05T09:15", "2026-08-05T15:30");
        let now = at("2026-08-05T15:20");
        let off = SquareOffPolicy { enabled: false, ..SquareOffPolicy::default() };
        for (policy, product) in [
            (SquareOffPolicy::default(), Product::Cnc),
            (SquareOffPolicy::default(), Product::Nrml),
            (off, Product::Mis),
        ] {
            let (instrument, position) = share(product);
            assert!(judge_entry(&policy, Some(&day), &instrument, now).is_ok());
            assert_eq!(judge_held(&policy, Some(&day), &position, now), Standing::default());
        }
    }

    #[test]
    fn a_special_session_and_a_later_close_move_every_time() {
        let policy = SquareOffPolicy::default();
        let (instrument, mut position) = share(Product::Mis);
        position.opened_at = at("2026-11-08T18:05");
        let evening = calendar("NSE", "2026-11-08T18:00", "2026-11-08T19:00");
        let due = |time: &str| judge_held(&policy, Some(&evening), &position, at(time)).due.is_some();
        assert!(!due("2026-11-08T18:34") && due("2026-11-08T18:35"));
        let short = calendar("NSE", "2026-11-08T18:00", "2026-11-08T18:20");
        assert!(judge_entry(&policy, Some(&short), &instrument, at("2026-11-08T18:01")).is_err());
        let early = judge_held(&policy, Some(&short), &position, at("2026-11-08T17:59"));
        assert_eq!(early, Standing::default(), "nothing before a session opens");
    }

    #[test]
    fn a_day_that_nobody_knows_goes_by_the_usual_hours_and_yesterdays_calendar_says_nothing() {
        let policy = SquareOffPolicy::default();
        let (instrument, position) = share(Product::Mis);
        let yesterday = calendar("NSE", "2026-08-04T09:15", "2026-08-04T12:00");
        for known in [None, Some(&yesterday)] {
            let due = |time: &str| judge_held(&policy, known, &position, at(time)).due.is_some();
            assert!(!due("2026-08-05T15:04") && due("2026-08-05T15:05"));
            assert!(judge_entry(&policy, known, &instrument, at("2026-08-05T14:50")).is_err());
        }
    }

    #[test]
    fn what_was_bought_today_where_the_calendar_has_no_session_goes_by_the_usual_hours_or_is_told() {
        let policy = SquareOffPolicy::default();
        let (_, position) = share(Product::Mis);
        let elsewhere = calendar("MCX", "2026-08-05T09:00", "2026-08-05T23:30");
        let standing =
            |position: &Position, time: &str| judge_held(&policy, Some(&elsewhere), position, at(time));
        assert_eq!(standing(&position, "2026-08-05T15:04"), Standing::default());
        assert!(standing(&position, "2026-08-05T15:05").due.is_some());
        let unheard_of = Position { exchange: "NCDEX".to_owned(), ..position };
        let told = standing(&unheard_of, "2026-08-05T11:00");
        assert!(told.due.is_none() && told.late.unwrap().contains("the hours of NCDEX"));
    }

    #[test]
    fn what_is_held_overnight_is_late_at_once_and_goes_when_the_exchange_opens() {
        let policy = SquareOffPolicy::default();
        let (_, position) = share(Product::Mis);
        let next = calendar("NSE", "2026-08-06T09:15", "2026-08-06T15:30");
        let standing = |time: &str| judge_held(&policy, Some(&next), &position, at(time));
        let night = standing("2026-08-06T03:00");
        assert!(night.due.is_none() && night.late.unwrap().contains("2026-08-05"));
        assert!(standing("2026-08-06T09:15").due.is_some());
        let holiday = Calendar::new(trading_day(at("2026-08-06T09:15")), Vec::new());
        let closed = judge_held(&policy, Some(&holiday), &position, at("2026-08-06T12:00"));
        assert!(closed.due.is_none() && closed.late.is_some());
    }

    #[test]
    fn the_defaults_are_sound_and_every_fault_is_named() {
        assert_eq!(SquareOffPolicy::default().faults(), vec![]);
        let policy = SquareOffPolicy {
            equity: SquareOffTimes { entries_min: 400, exit_min: 15, broker_min: 15 },
            commodity: SquareOffTimes { entries_min: 20, exit_min: 30, broker_min: 1000 },
            ..SquareOffPolicy::default()
        };
        let fields: Vec<String> = policy.faults().into_iter().map(|fault| fault.field).collect();
        assert_eq!(
            fields,
            [
                "square_off.equity.exit_min",
                "square_off.equity.entries_min",
                "square_off.commodity.broker_min",
                "square_off.commodity.exit_min",
                "square_off.commodity.entries_min"
            ]
        );
    }
}
