//! Every fault of the paper bridge that shows in an answer or a book × every read, in both modes, met once and met always: the client
//! gives the right answer or an error. A book that came out empty, or flat, or without one of its rows, would have orders
//! doubled and stops taken away.

use std::fmt;

use baton::broker::{BridgeMode, Broker, BrokerError, BrokerOrder, BrokerTrade, OrderStatus};
use baton::domain::listing::Listing;
use baton::domain::money::{Price, Quantity, Rupees};
use baton::domain::order::Product;
use baton::paper::RateLimits;
use baton::paper::faults::Fault;
use chrono::{FixedOffset, NaiveDate, Utc};
use serde_json::json;

use crate::bench::{Bench, GOLD, acknowledged, market, resting};
use crate::matrix::{Concern, PATIENCE, faults_of, is_state};
use crate::support::DEADLINE;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Read {
    Orders,
    Trades,
    Positions,
    Funds,
    Quote,
    Quotes,
    Symbol,
    History,
    Timings,
    Holidays,
    Mode,
    Ping,
}

/// How many there are.
const READS: usize = Read::ALL.len();

/// What a read says, without what moves with the market.
#[derive(Clone, PartialEq, Debug)]
enum Seen {
    Orders(Vec<BrokerOrder>),
    Trades(Vec<BrokerTrade>),
    Positions(Vec<(String, Option<Product>, Quantity, Price)>),
    Funds {
        utilised: Rupees,
        has_cash: bool,
    },
    /// What has no part that moves here: nothing trades meanwhile.
    Data(String),
}

/// One read under faults.
#[derive(Clone, Copy)]
struct Cell<'a> {
    mode: BridgeMode,
    faults: &'a [Fault],
    read: Read,
    /// How many requests meet them; none: all.
    count: Option<u32>,
}

impl fmt::Display for Cell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mode, faults, read, count } = self;
        write!(f, "{read:?} under {faults:?} (count {count:?}) in {mode} mode")
    }
}

impl Read {
    const ALL: [Self; 12] = [
        Self::Orders,
        Self::Trades,
        Self::Positions,
        Self::Funds,
        Self::Quote,
        Self::Quotes,
        Self::Symbol,
        Self::History,
        Self::Timings,
        Self::Holidays,
        Self::Mode,
        Self::Ping,
    ];

    fn route(self) -> &'static str {
        match self {
            Self::Orders => "orderbook",
            Self::Trades => "tradebook",
            Self::Positions => "positionbook",
            Self::Funds => "funds",
            Self::Quote => "quotes",
            Self::Quotes => "multiquotes",
            Self::Symbol => "symbol",
            Self::History => "history",
            Self::Timings => "market/timings",
            Self::Holidays => "market/holidays",
            Self::Mode => "analyzer",
            Self::Ping => "ping",
        }
    }

    /// The fault is a session's end that this read has to tell. The bridge answers some by itself, and those about the market for
    /// any key.
    fn dies_of(self, fault: &Fault) -> bool {
        let (dead, revoked) = (*fault == Fault::SessionExpired, *fault == Fault::SessionRevoked);
        match self {
            Self::Orders | Self::Trades | Self::Positions | Self::Funds => {
                dead || revoked || *fault == Fault::EmptyBooks
            }
            Self::Quote | Self::Quotes | Self::History => dead || revoked,
            Self::Symbol | Self::Mode | Self::Ping => revoked,
            Self::Timings | Self::Holidays => false,
        }
    }

    async fn ask(self, bench: &Bench) -> Result<Seen, BrokerError> {
        let broker = &bench.broker;
        let (listing, ist) = (Listing::new("MCX", GOLD), FixedOffset::east_opt(19_800).unwrap());
        Ok(match self {
            Self::Orders => Seen::Orders(broker.orders().await?),
            Self::Trades => Seen::Trades(broker.trades().await?),
            Self::Positions => {
                let rows = broker.positions().await?.into_iter();
                Seen::Positions(
                    rows.map(|row| (row.symbol, row.product, row.quantity, row.average_price)).collect(),
                )
            }
            Self::Funds => {
                let funds = broker.funds().await?;
                Seen::Funds { utilised: funds.utilised, has_cash: funds.available_cash > Rupees::ZERO }
            }
            Self::Quote => data(broker.quote(GOLD, "MCX").await?),
            Self::Quotes => {
                let quoted = broker.quotes(std::slice::from_ref(&listing)).await?;
                let rows = quoted.into_iter().map(|quoted| {
                    let refused = |said| BrokerError::Refused { route: self.route(), status: 200, said };
                    Ok((quoted.listing, quoted.quote.map_err(refused)?))
                });
                data(rows.collect::<Result<Vec<_>, BrokerError>>()?)
            }
            Self::Symbol => data(broker.symbol(GOLD, "MCX").await?),
            Self::History => {
                data(broker.history(&listing, Utc::now().with_timezone(&ist).date_naive()).await?)
            }
            Self::Timings => data(broker.timings(NaiveDate::from_ymd_opt(2026, 1, 5).unwrap()).await?),
            Self::Holidays => data(broker.holidays(2026).await?),
            Self::Mode => data(broker.mode().await?),
            Self::Ping => data(broker.ping().await?),
        })
    }
}

impl Cell<'_> {
    async fn meet(self, bench: &Bench) -> Result<Seen, BrokerError> {
        for fault in self.faults {
            let rule = match is_state(fault) {
                true => json!({ "fault": fault }),
                false => json!({ "fault": fault, "verb": self.read.route(), "count": self.count }),
            };
            bench.control("faults", rule).await;
        }
        let seen = self.read.ask(bench).await;
        bench.heal().await;
        seen
    }

    /// True for the right answer, false for an error.
    fn judge(self, said: &Result<Seen, BrokerError>, truth: &Seen) -> bool {
        let dead = self.mode == BridgeMode::Live && self.faults.iter().any(|fault| self.read.dies_of(fault));
        match said {
            Err(error) => {
                // Many at once are answered one by one, each with its own error.
                let is_told =
                    matches!(error, BrokerError::SessionExpired { .. }) || self.read == Read::Quotes;
                assert!(!dead || is_told, "{self}: {error}");
                false
            }
            Ok(seen) => {
                assert!(!dead, "{self}: an answer under a dead session: {seen:?}");
                assert_eq!(&self.without_lies(seen, truth), truth, "{self}");
                true
            }
        }
    }

    /// Two plug-in bugs show live orders in another state. One cannot be told from the row, so nobody ends an order by that word
    /// alone; the other is marked.
    fn without_lies(self, seen: &Seen, truth: &Seen) -> Seen {
        // Here the other mode is the answer, and whoever asks compares.
        if self.read == Read::Mode && self.faults.contains(&Fault::WrongMode) {
            return truth.clone();
        }
        let (Seen::Orders(rows), Seen::Orders(real)) = (seen, truth) else { return seen.clone() };
        let mut rows = rows.clone();
        for (row, real) in rows.iter_mut().zip(real) {
            let stale = self.faults.contains(&Fault::StaleStatus) && row.status == OrderStatus::Complete;
            let inherited = self.faults.contains(&Fault::InheritedStatus) && row.may_inherit;
            if stale || inherited {
                row.status = real.status.clone();
                row.may_inherit = real.may_inherit;
            }
        }
        Seen::Orders(rows)
    }
}

fn data(said: impl fmt::Debug) -> Seen {
    Seen::Data(format!("{said:?}"))
}

/// A bridge with an order that is filled, one that rests, and what was bought.
async fn traded(mode: BridgeMode) -> Bench {
    let bench = Bench::build(
        mode,
        |options| options.limits = RateLimits { orders_per_second: None, api_per_second: None },
        |settings| settings.read_timeout = PATIENCE,
    )
    .await;
    acknowledged(bench.place(&market(), "filled").await);
    acknowledged(bench.place(&resting(), "rests").await);
    let filled = async {
        loop {
            let books = bench.broker.books().await.unwrap();
            let complete = books.orders.iter().any(|order| order.status == OrderStatus::Complete);
            let bought: i64 = books.trades.iter().map(|trade| trade.quantity.0).sum();
            if complete && bought == market().quantity.0 {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, filled).await.expect("the market order is filled");
    bench
}

/// All reads under one set of faults: right answers and errors, by read.
async fn played(mode: BridgeMode, faults: &[Fault]) -> [[u32; 2]; READS] {
    let bench = traded(mode).await;
    let mut counts = [[0; 2]; READS];
    for (read, counts) in Read::ALL.into_iter().zip(&mut counts) {
        let truth = read.ask(&bench).await.unwrap();
        for count in [Some(1), None] {
            let cell = Cell { mode, faults, read, count };
            let said = cell.meet(&bench).await;
            counts[usize::from(!cell.judge(&said, &truth))] += 1;
            let after = read.ask(&bench).await;
            assert_eq!(after.as_ref(), Ok(&truth), "{cell}: not healed");
        }
    }
    counts
}

// R: B10; LESSONS "failed position query taken as flat"
#[tokio::test]
async fn whatever_goes_wrong_a_read_is_right_or_an_error_and_never_empty() {
    let faults = faults_of(Concern::Requests);
    let mut counts = [[0; 2]; READS];
    for mode in [BridgeMode::Live, BridgeMode::Analyze] {
        // Most of a cell is waiting.
        let all = futures_util::future::join_all(faults.iter().map(|faults| played(mode, faults))).await;
        for counted in all {
            for (sum, cell) in counts.iter_mut().zip(counted) {
                sum[0] += cell[0];
                sum[1] += cell[1];
            }
        }
    }
    for (read, [right, errors]) in Read::ALL.iter().zip(counts) {
        println!("{read:?}: {right} right, {errors} errors, 0 wrong");
        assert!(right > 0 && errors > 0, "{read:?}: {right} right, {errors} errors");
    }
}
