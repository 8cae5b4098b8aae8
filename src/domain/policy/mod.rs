//! The trading policy: every threshold of the domain, with its documented default.
//!
//! Each group is a table of the configuration; what is not given keeps its default. Percentages are in percent
//! (15 means 15 %), fractions are named so, times end in their unit.

mod check;

use rust_decimal::{Decimal, dec};
use serde::{Deserialize, Serialize};

use super::expiry::RolloverPolicy;
use super::money::Rupees;
use super::square_off::SquareOffPolicy;

/// All thresholds of the trading domain.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TradingPolicy {
    /// The fraction of the unrealised profit that blended equity counts.
    pub unrealised_share: Decimal,
    /// Which webhook bodies are accepted.
    pub signals: SignalPolicy,
    /// How old an entry may be.
    pub age: AgePolicy,
    /// How far the live price may be from an entry's, and a bar's close from the market.
    pub divergence: DivergencePolicy,
    /// How many lots an entry gets.
    pub sizing: SizingPolicy,
    /// What the portfolio must look like for an entry.
    pub gates: GatePolicy,
    /// Limits of the account, latched for the day.
    pub limits: AccountLimits,
    /// Where the first stop is put.
    pub initial_stop: InitialStop,
    /// How stops are watched, and whether they rest at the broker.
    pub stops: StopPolicy,
    /// How long orders may take to fill.
    pub orders: OrderPolicy,
    /// When intraday positions have to be gone.
    pub square_off: SquareOffPolicy,
    /// What is done when a contract nears its end.
    pub rollover: RolloverPolicy,
}

impl Default for TradingPolicy {
    fn default() -> Self {
        Self {
            unrealised_share: dec!(0.5),
            signals: SignalPolicy::default(),
            age: AgePolicy::default(),
            divergence: DivergencePolicy::default(),
            sizing: SizingPolicy::default(),
            gates: GatePolicy::default(),
            limits: AccountLimits::default(),
            initial_stop: InitialStop::default(),
            stops: StopPolicy::default(),
            orders: OrderPolicy::default(),
            square_off: SquareOffPolicy::default(),
            rollover: RolloverPolicy::default(),
        }
    }
}

/// Bounds of a webhook body.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignalPolicy {
    /// Longest body in bytes.
    pub max_body_bytes: usize,
    /// How far in the future a time may lie, in seconds.
    pub max_future_s: u32,
}

impl Default for SignalPolicy {
    fn default() -> Self {
        Self { max_body_bytes: 10 * 1024, max_future_s: 60 }
    }
}

/// Ages, in seconds, up to which an entry is fresh, is warned about, is warned about loudly; then it is dropped.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgePolicy {
    /// Fresh up to here.
    pub normal_s: u32,
    /// A warning up to here, a loud one beyond.
    pub warn_s: u32,
    /// Dropped beyond this.
    pub reject_s: u32,
}

impl Default for AgePolicy {
    fn default() -> Self {
        Self { normal_s: 10, warn_s: 30, reject_s: 60 }
    }
}

/// How far the live price may be from the signal's, in percent of the signal's for entries, of the market's for bars.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DivergencePolicy {
    /// A base entry is refused beyond this.
    pub base_percent: Decimal,
    /// A pyramid is refused beyond this.
    pub pyramid_percent: Decimal,
    /// A warning beyond this.
    pub warn_percent: Decimal,
    /// A base entry is refused when its risk a lot grows by more than this at the live price.
    pub base_risk_increase_percent: Decimal,
    /// The same for a pyramid.
    pub pyramid_risk_increase_percent: Decimal,
    /// A MARKET_DATA bar that closed further than this from the market moves no stop.
    pub bar_percent: Decimal,
}

impl Default for DivergencePolicy {
    fn default() -> Self {
        Self {
            base_percent: dec!(2),
            pyramid_percent: dec!(1),
            warn_percent: dec!(0.5),
            base_risk_increase_percent: dec!(50),
            pyramid_risk_increase_percent: dec!(20),
            bar_percent: dec!(2),
        }
    }
}

/// Which equity a figure is taken of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EquityBasis {
    /// The high-water mark of closed equity.
    #[default]
    High,
    /// Cash and realised profit.
    Closed,
    /// Closed equity and a fraction of the unrealised profit.
    Blended,
    /// The configured capital, whatever was won or lost since.
    Fixed,
}

/// How many lots an entry gets.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SizingPolicy {
    /// Which equity is risked.
    pub equity: EquityBasis,
    /// Whether volatility limits a base entry.
    pub use_volatility_limit: bool,
    /// The fraction of equity that may be held as margin.
    pub margin_limit: Decimal,
    /// Each pyramid's lots as a fraction of the one before; the first is this fraction of the base.
    pub pyramid_decay: Decimal,
    /// The fraction of the profit beyond the base's risk that a pyramid may risk.
    pub pyramid_profit_share: Decimal,
}

impl Default for SizingPolicy {
    fn default() -> Self {
        Self {
            equity: EquityBasis::High,
            use_volatility_limit: true,
            margin_limit: dec!(0.6),
            pyramid_decay: dec!(0.5),
            pyramid_profit_share: dec!(0.5),
        }
    }
}

/// What the portfolio must look like for an entry.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatePolicy {
    /// Which equity the percentages are of.
    pub equity: EquityBasis,
    /// Most portfolio risk with a base entry added.
    pub base_risk_percent: Decimal,
    /// Most portfolio volatility with a base entry added.
    pub base_volatility_percent: Decimal,
    /// Most portfolio risk with a pyramid added.
    pub pyramid_risk_percent: Decimal,
    /// Most portfolio volatility with a pyramid added.
    pub pyramid_volatility_percent: Decimal,
    /// The base must be ahead by more than this many times its initial risk.
    pub pyramid_min_r: Decimal,
    /// ATRs that the price must have moved since the last pyramid, or the base.
    pub pyramid_min_atr_step: Decimal,
}

impl Default for GatePolicy {
    fn default() -> Self {
        Self {
            equity: EquityBasis::Blended,
            base_risk_percent: dec!(15),
            base_volatility_percent: dec!(5),
            pyramid_risk_percent: dec!(12),
            pyramid_volatility_percent: dec!(4),
            pyramid_min_r: dec!(1),
            pyramid_min_atr_step: dec!(0.5),
        }
    }
}

/// Limits of the account. Once one is hit, entries stay refused for the day: the ledger latches it. None = no limit.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccountLimits {
    /// Most loss a day, in rupees.
    pub max_daily_loss: Option<Rupees>,
    /// Most loss a day, in percent of the day's opening equity.
    pub max_daily_loss_percent: Option<Decimal>,
    /// Most fall of the equity below its high-water mark, in percent.
    pub max_drawdown_percent: Option<Decimal>,
    /// Most positions held at a time.
    pub max_open_positions: Option<u32>,
    /// Most orders a day.
    pub max_orders_per_day: Option<u32>,
    /// Most stop-outs in a row.
    pub max_consecutive_stop_outs: Option<u32>,
}

impl Default for AccountLimits {
    fn default() -> Self {
        Self {
            max_daily_loss: None,
            max_daily_loss_percent: Some(dec!(5)),
            max_drawdown_percent: Some(dec!(25)),
            max_open_positions: Some(24),
            max_orders_per_day: Some(500),
            max_consecutive_stop_outs: None,
        }
    }
}

/// How stops are watched, and whether they rest at the broker.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StopPolicy {
    /// Whether a price at the stop or the take-profit closes the position. Off only for replays, of which the export
    /// has the exits: every position then counts as unarmed.
    pub watch: bool,
    /// A price that is this much, in percent, away from the one before is confirmed by a second quote before it sells.
    pub confirm_percent: Decimal,
    /// Whether each open position has a stop that rests at the broker, beside the one that is watched.
    pub resting: RestingStops,
    /// The limit of such a stop lies this much, in percent, below its trigger.
    pub limit_percent: Decimal,
    /// How long the broker may take to sell by such a stop, in milliseconds, before it is cancelled and the leader sells.
    pub patience_ms: u32,
}

impl Default for StopPolicy {
    fn default() -> Self {
        Self {
            watch: true,
            confirm_percent: dec!(3),
            resting: RestingStops::Off,
            limit_percent: dec!(2),
            patience_ms: 2_000,
        }
    }
}

/// How long an order that the broker took may stand there without a fill before it is cancelled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OrderPolicy {
    /// An entry, in milliseconds; it is not sent again.
    pub entry_patience_ms: u32,
    /// An exit, in milliseconds; it is sent anew, at the price of then.
    pub exit_patience_ms: u32,
}

impl Default for OrderPolicy {
    fn default() -> Self {
        Self { entry_patience_ms: 30_000, exit_patience_ms: 5_000 }
    }
}

/// Whether stops rest at the broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestingStops {
    /// The leader watches stops, and nobody else.
    #[default]
    Off,
    /// A stop order rests at the broker, too.
    On,
}

/// Where an entry's first stop is put.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InitialStop {
    /// The higher of the other two: the less to lose.
    #[default]
    Tighter,
    /// The signal's stop.
    Signal,
    /// Entry price − ATR multiple · ATR.
    Atr,
}
