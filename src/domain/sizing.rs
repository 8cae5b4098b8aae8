//! Sizing: how many lots an entry gets. Every limit is computed and kept, the smallest binds, and the result is
//! rounded down to whole lots.
//!
//! The formulas are the predecessor's, with its fault mended: it computed the volatility limit and forgot to
//! apply it. What is missing or senseless gives no lots and the reason, never a guess.

use rust_decimal::prelude::ToPrimitive;
use rust_decimal::{Decimal, dec};
use serde::Serialize;

use super::instrument::Instrument;
use super::label::Label;
use super::money::{Lots, Price, Quantity, Rupees};
use super::policy::SizingPolicy;
use super::position::MOST_UNITS;
use super::room::{Limit, room};

/// The limit that decided a base entry's size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// Equity risked to the stop.
    Risk,
    /// Equity that one ATR moves.
    Volatility,
    /// Margin left.
    Margin,
    /// What the exchange takes in one order.
    Freeze,
    /// The instrument's `max_lots`.
    MaxLots,
    /// The instrument's `max_notional`.
    MaxNotional,
}

/// What sizes a base entry. What is not known is none, and gives no lots.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct BaseInputs<'a> {
    /// The instrument bought.
    pub instrument: &'a Instrument,
    /// Entry price.
    pub price: Option<Price>,
    /// Its stop.
    pub stop: Option<Price>,
    /// Average true range in points.
    pub atr: Option<Price>,
    /// Efficiency ratio, 0 to 1: scales the risk.
    pub er: Option<Decimal>,
    /// Equity on the policy's basis.
    pub equity: Option<Rupees>,
    /// Margin held, entries on their way included.
    pub margin_used: Option<Rupees>,
    /// Most units of one order; none where there is no limit.
    pub freeze: Option<Quantity>,
    /// Lots of the instrument that are held, entries on their way included; its own limits count them.
    pub held_lots: Decimal,
}

/// A base entry's size and the limits it came from, in lots before rounding down.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct BaseSize {
    /// Whole lots, at least 1.
    pub lots: Lots,
    /// The smallest limit.
    pub binding: Constraint,
    /// By risk.
    pub l_risk: Decimal,
    /// By volatility; none when the policy does not use it.
    pub l_volatility: Option<Decimal>,
    /// By margin; negative when more is used than allowed.
    pub l_margin: Decimal,
    /// By what one order may have; none where there is no limit.
    pub l_freeze: Option<Decimal>,
    /// By the instrument's own limits, less what is held; none without such a limit.
    pub l_instrument: Option<Decimal>,
}

/// The limit that decided a pyramid's size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PyramidConstraint {
    /// Margin left.
    Margin,
    /// The base's lots, less with each pyramid.
    Base,
    /// The profit beyond the base's risk.
    Profit,
    /// What the exchange takes in one order.
    Freeze,
    /// The instrument's `max_lots`.
    MaxLots,
    /// The instrument's `max_notional`.
    MaxNotional,
}

/// What sizes a pyramid.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PyramidInputs<'a> {
    /// The instrument bought.
    pub instrument: &'a Instrument,
    /// The pyramid's label, `Long_2` to `Long_6`.
    pub label: Label,
    /// Entry price.
    pub price: Option<Price>,
    /// Its stop.
    pub stop: Option<Price>,
    /// Lots that the base holds.
    pub base_lots: Option<Decimal>,
    /// The base's risk to its stop now.
    pub base_risk: Option<Rupees>,
    /// Unrealised profit on the instrument.
    pub unrealised: Option<Rupees>,
    /// Equity on the policy's basis.
    pub equity: Option<Rupees>,
    /// Margin held, entries on their way included.
    pub margin_used: Option<Rupees>,
    /// Most units of one order; none where there is no limit.
    pub freeze: Option<Quantity>,
    /// Lots of the instrument that are held, entries on their way included; its own limits count them.
    pub held_lots: Decimal,
}

/// A pyramid's size and the limits it came from, each in whole lots.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct PyramidSize {
    /// Whole lots, at least 1.
    pub lots: Lots,
    /// The smallest limit.
    pub binding: PyramidConstraint,
    /// By margin.
    pub by_margin: Decimal,
    /// By the base's lots.
    pub by_base: Decimal,
    /// By profit.
    pub by_profit: Decimal,
    /// By what one order may have; none where there is no limit.
    pub by_freeze: Option<Decimal>,
    /// By the instrument's own limits, less what is held; none without such a limit.
    pub by_instrument: Option<Decimal>,
}

/// Why an entry gets no lots.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum ZeroLots {
    /// A figure is not known.
    #[error("{0} is not known, so nothing is sized")]
    Missing(&'static str),
    /// The stop is not below the price.
    #[error("stop {stop} is not below the price {price}")]
    StopNotBelowPrice {
        /// Entry price.
        price: Price,
        /// Its stop.
        stop: Price,
    },
    /// A figure that makes no sense.
    #[error("{figure} is {value}, which no size can be made from")]
    Senseless {
        /// Which figure.
        figure: &'static str,
        /// Its value.
        value: Decimal,
    },
    /// The base's limits allow less than a lot.
    #[error("the {constraint} limit allows {allowed} lots, less than one")]
    BelowOneLot {
        /// The limit: risk, volatility, margin, base, profit, freeze, max_lots or max_notional.
        constraint: &'static str,
        /// Lots it allows, rounded for people.
        allowed: Decimal,
    },
    /// A base label on a pyramid.
    #[error("{0} is no pyramid's label")]
    NotAPyramid(Label),
    /// The figures leave the range of the numbers.
    #[error("the figures are out of range; check the signal and the instrument's configuration")]
    OutOfRange,
}

impl ZeroLots {
    /// The stable code: `ZERO_LOTS_` and the reason, or the name of the instrument's own limit.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing(_) => "ZERO_LOTS_MISSING_INPUT",
            Self::StopNotBelowPrice { .. } => "ZERO_LOTS_STOP_NOT_BELOW_PRICE",
            Self::Senseless { .. } => "ZERO_LOTS_SENSELESS_INPUT",
            Self::BelowOneLot { constraint: "max_lots", .. } => "MAX_LOTS",
            Self::BelowOneLot { constraint: "max_notional", .. } => "MAX_NOTIONAL",
            Self::BelowOneLot { .. } => "ZERO_LOTS_BELOW_ONE",
            Self::NotAPyramid(_) => "ZERO_LOTS_NOT_A_PYRAMID",
            Self::OutOfRange => "ZERO_LOTS_OUT_OF_RANGE",
        }
    }
}

/// Sizes a base entry: floor(min(L_risk, L_volatility, L_margin, L_freeze)), where
/// L_risk = equity·risk% / ((price − stop)·pv) · er, L_volatility = equity·volatility% / (atr·pv) and
/// L_margin = (margin_limit·equity − margin used) / margin per lot and L_freeze = freeze quantity / lot size; never more than the
/// instrument's own limits leave.
///
/// # Errors
/// Why there are no lots.
pub fn base_size(policy: &SizingPolicy, inputs: &BaseInputs<'_>) -> Result<BaseSize, ZeroLots> {
    let instrument = inputs.instrument;
    let (price, points) = price_and_points(inputs.price, inputs.stop)?;
    let er = inputs.er.ok_or(ZeroLots::Missing("er"))?;
    let equity = positive("equity", inputs.equity.map(|equity| equity.0))?;
    let margin_used = inputs.margin_used.ok_or(ZeroLots::Missing("margin used"))?.0;
    if er <= Decimal::ZERO || er > Decimal::ONE {
        return Err(ZeroLots::Senseless { figure: "er", value: er });
    }
    positive("price", Some(price.0))?;
    let point_value = positive("point value", Some(instrument.point_value.0))?;
    let percent_of_equity =
        |percent: Decimal| equity.checked_mul(percent / dec!(100)).ok_or(ZeroLots::OutOfRange);
    let per_lot = |amount: Decimal, points: Decimal| {
        points.checked_mul(point_value).and_then(|risk| amount.checked_div(risk)).ok_or(ZeroLots::OutOfRange)
    };
    // Divides last: a quotient without an end, times a ratio, falls short of a whole lot.
    let l_risk = per_lot(percent_of_equity(instrument.risk_percent)? * er, points)?;
    let l_volatility = if policy.use_volatility_limit {
        let atr = positive("atr", inputs.atr.map(|atr| atr.0))?;
        Some(per_lot(percent_of_equity(instrument.volatility_percent)?, atr)?)
    } else {
        None
    };
    let l_margin = margin_lots(policy, instrument, equity, margin_used)?;
    let mut binding = (Constraint::Risk, "risk", l_risk);
    if let Some(l_volatility) = l_volatility
        && l_volatility < binding.2
    {
        binding = (Constraint::Volatility, "volatility", l_volatility);
    }
    if l_margin < binding.2 {
        binding = (Constraint::Margin, "margin", l_margin);
    }
    let l_freeze = freeze_lots(instrument, inputs.freeze);
    if let Some(l_freeze) = l_freeze
        && l_freeze < binding.2
    {
        binding = (Constraint::Freeze, "freeze", l_freeze);
    }
    let own = room(instrument, price, inputs.held_lots);
    if let Some((limit, left)) = own
        && left < binding.2
    {
        let constraint = match limit {
            Limit::Lots => Constraint::MaxLots,
            Limit::Notional => Constraint::MaxNotional,
        };
        binding = (constraint, limit.as_str(), left);
    }
    let (binding, name, allowed) = binding;
    let lots = whole_lots(instrument, name, allowed)?;
    let l_instrument = own.map(|(_, left)| left);
    Ok(BaseSize { lots, binding, l_risk, l_volatility, l_margin, l_freeze, l_instrument })
}

/// Sizes a pyramid: min(floor(available / margin per lot), floor(base lots · decay^(k+1)) with k = n − 2,
/// floor(share · max(0, unrealised − base risk) / risk per lot), floor(freeze quantity / lot size)); never more than the instrument's own limits leave.
///
/// # Errors
/// Why there are no lots.
pub fn pyramid_size(policy: &SizingPolicy, inputs: &PyramidInputs<'_>) -> Result<PyramidSize, ZeroLots> {
    let instrument = inputs.instrument;
    let index = inputs.label.pyramid_index().ok_or(ZeroLots::NotAPyramid(inputs.label))?;
    let (price, points) = price_and_points(inputs.price, inputs.stop)?;
    positive("price", Some(price.0))?;
    let equity = positive("equity", inputs.equity.map(|equity| equity.0))?;
    let margin_used = inputs.margin_used.ok_or(ZeroLots::Missing("margin used"))?.0;
    let base_lots = positive("base lots", inputs.base_lots)?;
    let base_risk = inputs.base_risk.ok_or(ZeroLots::Missing("base risk"))?;
    let unrealised = inputs.unrealised.ok_or(ZeroLots::Missing("unrealised profit"))?;
    let point_value = positive("point value", Some(instrument.point_value.0))?;

    let by_margin = margin_lots(policy, instrument, equity, margin_used)?.floor();
    let decay = (0..=index).fold(Decimal::ONE, |factor, _| factor * policy.pyramid_decay);
    let by_base = base_lots.checked_mul(decay).ok_or(ZeroLots::OutOfRange)?.floor();
    let risk_per_lot = points.checked_mul(point_value).ok_or(ZeroLots::OutOfRange)?;
    let beyond = unrealised.0.checked_sub(base_risk.0).ok_or(ZeroLots::OutOfRange)?.max(Decimal::ZERO);
    let by_profit =
        (beyond * policy.pyramid_profit_share).checked_div(risk_per_lot).ok_or(ZeroLots::OutOfRange)?.floor();

    let mut binding = (PyramidConstraint::Margin, "margin", by_margin);
    if by_base < binding.2 {
        binding = (PyramidConstraint::Base, "base", by_base);
    }
    if by_profit < binding.2 {
        binding = (PyramidConstraint::Profit, "profit", by_profit);
    }
    let by_freeze = freeze_lots(instrument, inputs.freeze).map(|lots| lots.floor());
    if let Some(by_freeze) = by_freeze
        && by_freeze < binding.2
    {
        binding = (PyramidConstraint::Freeze, "freeze", by_freeze);
    }
    let own = room(instrument, price, inputs.held_lots).map(|(limit, left)| (limit, left.floor()));
    if let Some((limit, left)) = own
        && left < binding.2
    {
        let constraint = match limit {
            Limit::Lots => PyramidConstraint::MaxLots,
            Limit::Notional => PyramidConstraint::MaxNotional,
        };
        binding = (constraint, limit.as_str(), left);
    }
    let (binding, name, allowed) = binding;
    let lots = whole_lots(instrument, name, allowed)?;
    let by_instrument = own.map(|(_, left)| left);
    Ok(PyramidSize { lots, binding, by_margin, by_base, by_profit, by_freeze, by_instrument })
}

fn price_and_points(price: Option<Price>, stop: Option<Price>) -> Result<(Price, Decimal), ZeroLots> {
    let price = price.ok_or(ZeroLots::Missing("price"))?;
    let stop = stop.ok_or(ZeroLots::Missing("stop"))?;
    if stop >= price {
        return Err(ZeroLots::StopNotBelowPrice { price, stop });
    }
    let points = price.0.checked_sub(stop.0).ok_or(ZeroLots::OutOfRange)?;
    Ok((price, points))
}

fn positive(figure: &'static str, value: Option<Decimal>) -> Result<Decimal, ZeroLots> {
    match value {
        None => Err(ZeroLots::Missing(figure)),
        Some(value) if value <= Decimal::ZERO => Err(ZeroLots::Senseless { figure, value }),
        Some(value) => Ok(value),
    }
}

fn margin_lots(
    policy: &SizingPolicy,
    instrument: &Instrument,
    equity: Decimal,
    margin_used: Decimal,
) -> Result<Decimal, ZeroLots> {
    let per_lot = positive("margin per lot", Some(instrument.margin_per_lot.0))?;
    equity
        .checked_mul(policy.margin_limit)
        .and_then(|allowed| allowed.checked_sub(margin_used))
        .and_then(|available| available.checked_div(per_lot))
        .ok_or(ZeroLots::OutOfRange)
}

fn freeze_lots(instrument: &Instrument, freeze: Option<Quantity>) -> Option<Decimal> {
    freeze.map(|freeze| freeze.in_lots(instrument.lot_size))
}

fn whole_lots(instrument: &Instrument, constraint: &'static str, allowed: Decimal) -> Result<Lots, ZeroLots> {
    if allowed < Decimal::ONE {
        // Towards zero: 0.999 must not read as 1.
        return Err(ZeroLots::BelowOneLot { constraint, allowed: allowed.trunc_with_scale(2) });
    }
    let lots = allowed.floor().to_i64().ok_or(ZeroLots::OutOfRange)?;
    let units = lots.checked_mul(instrument.lot_size.0).ok_or(ZeroLots::OutOfRange)?;
    if units > MOST_UNITS.0 { Err(ZeroLots::OutOfRange) } else { Ok(Lots(lots)) }
}
