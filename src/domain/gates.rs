//! Gates: whether the portfolio may take an entry, with the size it would really have.
//!
//! All gates are evaluated and all that fail are reported: one answer shows everything that stands in the way.
//! What is not known (a missing quote) refuses. Entries on their way count as if they were filled.

use rust_decimal::{Decimal, dec};
use serde::Serialize;

use super::instrument::Instrument;
use super::label::Label;
use super::money::{Lots, Price, Rupees};
use super::policy::TradingPolicy;
use super::portfolio::{Portfolio, Quotes};
use super::position::PositionStatus;
use super::pyramiding::PyramidingState;
use super::refusal::Refusal;

/// An entry with its size.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Candidate<'a> {
    /// The instrument bought.
    pub instrument: &'a Instrument,
    /// The label it takes.
    pub label: Label,
    /// The size it would have.
    pub lots: Lots,
    /// Entry price.
    pub price: Price,
    /// The stop it would have.
    pub stop: Price,
    /// Average true range in points.
    pub atr: Price,
}

impl Candidate<'_> {
    /// What it adds to the portfolio's risk.
    pub fn risk(&self) -> Rupees {
        Rupees(
            (self.price - self.stop).0.max(Decimal::ZERO)
                * self.lots.decimal()
                * self.instrument.point_value.0,
        )
    }

    /// What it adds to the portfolio's volatility.
    pub fn volatility(&self) -> Rupees {
        Rupees(self.atr.0 * self.lots.decimal() * self.instrument.point_value.0)
    }

    /// What it adds to the margin used.
    pub fn margin(&self) -> Rupees {
        Rupees(self.lots.decimal() * self.instrument.margin_per_lot.0)
    }
}

/// The portfolio as it would be with an allowed entry.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Projection {
    /// Equity that the percentages are of.
    pub equity: Rupees,
    /// Risk with the entry.
    pub risk: Rupees,
    /// Risk in percent of equity.
    pub risk_percent: Decimal,
    /// Volatility with the entry.
    pub volatility: Rupees,
    /// Volatility in percent of equity.
    pub volatility_percent: Decimal,
}

/// Judges a base entry: risk, volatility, and no base open or on its way on its instrument.
///
/// # Errors
/// Every gate that failed: `ZERO_LOTS`, `BASE_ALREADY_OPEN`, `ENTRY_IN_FLIGHT`, `QUOTE_MISSING`,
/// `EQUITY_NOT_POSITIVE`, `RISK_LIMIT`, `VOLATILITY_LIMIT`.
pub fn judge_base(
    policy: &TradingPolicy,
    portfolio: &Portfolio,
    quotes: &Quotes,
    candidate: &Candidate<'_>,
) -> Result<Projection, Vec<Refusal>> {
    let name = &candidate.instrument.name;
    let mut refusals = Vec::new();
    if let Some(open) = portfolio.find(name, &Label::BASE.to_string()) {
        refusals.push(Refusal::new(
            "BASE_ALREADY_OPEN",
            format!("{name} holds {} units as {} already ({})", open.quantity, open.label, open.status),
        ));
    }
    in_flight(portfolio, name, &mut refusals);
    let limits = (policy.gates.base_risk_percent, policy.gates.base_volatility_percent);
    let projection = project(policy, portfolio, quotes, candidate, limits, &mut refusals);
    verdict(projection, refusals)
}

/// Judges a pyramid: the base is ahead by more than its risk, the price moved on since the last pyramid, the
/// instrument earns, the number and the label are free, risk and volatility hold.
///
/// # Errors
/// Every gate that failed; besides those of [`judge_base`]: `NO_BASE`, `BASE_CLOSING`, `LABEL_TAKEN`,
/// `MAX_PYRAMIDS`, `ONE_R_NOT_REACHED`, `ATR_STEP_NOT_REACHED`, `NO_ATR`, `INSTRUMENT_NOT_IN_PROFIT`.
pub fn judge_pyramid(
    policy: &TradingPolicy,
    portfolio: &Portfolio,
    quotes: &Quotes,
    candidate: &Candidate<'_>,
) -> Result<Projection, Vec<Refusal>> {
    let name = &candidate.instrument.name;
    let mut refusals = Vec::new();
    if candidate.label.is_base() || portfolio.find(name, &candidate.label.to_string()).is_some() {
        refusals.push(Refusal::new("LABEL_TAKEN", format!("{} of {name} is not free", candidate.label)));
    }
    in_flight(portfolio, name, &mut refusals);
    advance(policy, portfolio, candidate, &mut refusals);
    match portfolio.unrealised_on(name, quotes) {
        Ok(profit) if profit > Rupees::ZERO => {}
        Ok(profit) => refusals.push(Refusal::new(
            "INSTRUMENT_NOT_IN_PROFIT",
            format!("{name} stands at ₹{:.2}; a pyramid needs a profit", profit.0.round_dp(2)),
        )),
        Err(missing) => refusals.push(Refusal::new("QUOTE_MISSING", missing.to_string())),
    }
    let limits = (policy.gates.pyramid_risk_percent, policy.gates.pyramid_volatility_percent);
    let projection = project(policy, portfolio, quotes, candidate, limits, &mut refusals);
    verdict(projection, refusals)
}

fn verdict(projection: Option<Projection>, mut refusals: Vec<Refusal>) -> Result<Projection, Vec<Refusal>> {
    let mut seen = Vec::new();
    refusals.retain(|refusal| {
        let first = !seen.contains(refusal);
        seen.push(refusal.clone());
        first
    });
    match projection {
        Some(projection) if refusals.is_empty() => Ok(projection),
        _ => Err(refusals),
    }
}

fn in_flight(portfolio: &Portfolio, instrument: &str, refusals: &mut Vec<Refusal>) {
    if let Some(entry) = portfolio.pending.iter().find(|entry| entry.instrument == instrument) {
        refusals.push(Refusal::new(
            "ENTRY_IN_FLIGHT",
            format!("{} of {instrument} is still on its way to the broker", entry.label),
        ));
    }
}

/// The gates on how far the price has come.
fn advance(
    policy: &TradingPolicy,
    portfolio: &Portfolio,
    candidate: &Candidate<'_>,
    refusals: &mut Vec<Refusal>,
) {
    let name = &candidate.instrument.name;
    let mut refuse = |code, sentence| refusals.push(Refusal::new(code, sentence));
    let price = candidate.price;
    let state = PyramidingState::derive(name, &portfolio.positions);
    let base = portfolio.find(name, &Label::BASE.to_string());
    let (Some(state), Some(base)) = (state, base) else {
        refuse("NO_BASE", format!("{name} has no open base to build on"));
        return;
    };
    if base.status == PositionStatus::Closing {
        refuse("BASE_CLOSING", format!("the base of {name} is being closed"));
    }
    if state.count >= candidate.instrument.max_pyramids {
        refuse(
            "MAX_PYRAMIDS",
            format!("{name} has {} pyramids of at most {}", state.count, candidate.instrument.max_pyramids),
        );
    }
    let r = (base.entry_price - base.initial_stop).0;
    let gained = (price - base.entry_price).0;
    let wanted = policy.gates.pyramid_min_r * r;
    if r <= Decimal::ZERO || gained <= wanted {
        refuse(
            "ONE_R_NOT_REACHED",
            format!("the price is {gained} points over the base's entry; it must be more than {wanted}"),
        );
    }
    let atr = candidate.atr.0;
    if atr <= Decimal::ZERO {
        refuse("NO_ATR", format!("the ATR is {atr}; the step since the last pyramid cannot be measured"));
        return;
    }
    let step = (price - state.last_pyramid_price).0 / atr;
    if step < policy.gates.pyramid_min_atr_step {
        refuse(
            "ATR_STEP_NOT_REACHED",
            format!(
                "the price is {} ATR over the last entry at {}; it must be at least {}",
                step.trunc_with_scale(2),
                state.last_pyramid_price,
                policy.gates.pyramid_min_atr_step
            ),
        );
    }
}

/// The portfolio with the candidate, and the gates on its risk and volatility.
fn project(
    policy: &TradingPolicy,
    portfolio: &Portfolio,
    quotes: &Quotes,
    candidate: &Candidate<'_>,
    (risk_limit, volatility_limit): (Decimal, Decimal),
    refusals: &mut Vec<Refusal>,
) -> Option<Projection> {
    if candidate.lots <= Lots::ZERO {
        refusals.push(Refusal::new("ZERO_LOTS", "the entry has no lots"));
    }
    let equity = match portfolio.gate_equity(policy, quotes) {
        Ok(equity) => equity,
        Err(missing) => {
            refusals.push(Refusal::new("QUOTE_MISSING", missing.to_string()));
            return None;
        }
    };
    if equity <= Rupees::ZERO {
        refusals.push(Refusal::new(
            "EQUITY_NOT_POSITIVE",
            format!("equity is ₹{:.2}; nothing may be risked", equity.0.round_dp(2)),
        ));
        return None;
    }
    let committed = portfolio.committed();
    let risk = committed.risk + candidate.risk();
    let volatility = committed.volatility + candidate.volatility();
    let percent = |amount: Rupees| amount.0 / equity.0 * dec!(100);
    let mut gate = |code, what, amount: Rupees, limit: Decimal| {
        // By product, not by the divided percentage: exact at the limit.
        if amount.0 * dec!(100) > limit * equity.0 {
            let percent =
                percent(amount).round_dp_with_strategy(2, rust_decimal::RoundingStrategy::AwayFromZero);
            refusals.push(Refusal::new(
                code,
                format!(
                    "portfolio {what} would be ₹{:.2}, {percent:.2} % of equity, over {limit} %",
                    amount.0.round_dp(2)
                ),
            ));
        }
    };
    gate("RISK_LIMIT", "risk", risk, risk_limit);
    gate("VOLATILITY_LIMIT", "volatility", volatility, volatility_limit);
    Some(Projection {
        equity,
        risk,
        risk_percent: percent(risk),
        volatility,
        volatility_percent: percent(volatility),
    })
}
