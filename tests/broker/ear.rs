//! The product's ear and memory in a test: its live feed at the paper bridge, and what its evidence makes of the books.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use baton::broker::Broker;
use baton::broker::dns::Resolver;
use baton::domain::charges::Schedule;
use baton::domain::ids::{IntentId, PositionId, SignalId};
use baton::domain::instrument::Catalog;
use baton::domain::intent::{EntryPlan, OrderIntent};
use baton::domain::label::Label;
use baton::domain::money::{Price, Quantity};
use baton::domain::order::{IntentState, OrderClass, OrderSpec};
use baton::domain::policy::TradingPolicy;
use baton::domain::sessions::trading_day;
use baton::domain::signal::SignalType;
use baton::engine::book::Book;
use baton::engine::decide::Rules;
use baton::engine::draft::Draft;
use baton::engine::evidence::{AbsenceRule, Evidence, Reading, Suspects};
use baton::feed::{Endpoint, Listing, Live, LiveStatus, OrderNews, PriceBoard, PriceSource};
use baton::ledger::Change;
use baton::paper::Paper;
use baton::telemetry::Metrics;
use chrono::Utc;
use futures_util::FutureExt;
use ha::{BootClock, Clock};
use rust_decimal::dec;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::bench::GOLD;
use crate::support::until;

/// Between two readings that nothing asks for, while something is awaited.
const POLL: Duration = Duration::from_millis(50);
const RULE: AbsenceRule = AbsenceRule {
    user_timeout: Duration::from_secs(2),
    settle: Duration::from_secs(10),
    idle_close_known: true,
};
/// Where the stop of what is bought lies: just below the market.
pub const STOP: Price = Price(dec!(139900));

/// A live feed at work; it ends with this.
pub struct Ear {
    pub board: PriceBoard,
    pub news: OrderNews,
    pub metrics: Arc<Metrics>,
    pub status: watch::Receiver<LiveStatus>,
    _stop: DropGuard,
}

pub fn gold() -> Listing {
    Listing::new("MCX", GOLD)
}

impl Ear {
    /// A feed that takes silence for `patience` in good part.
    pub fn at(paper: &Paper, patience: Duration) -> Self {
        let (board, news, metrics) = (PriceBoard::new(), OrderNews::default(), Arc::new(Metrics::new()));
        let key = "paper".to_owned().into();
        let endpoint = Endpoint::new(&paper.ws_url(), key, Resolver::default(), None).unwrap();
        let (clock, stop) = (Arc::new(BootClock), CancellationToken::new());
        let live = Live::new(endpoint, board.clone(), news.clone(), clock, Arc::clone(&metrics), patience);
        let status = live.status();
        tokio::spawn(live.run(stop.clone()));
        Self { board, news, metrics, status, _stop: stop.drop_guard() }
    }

    /// Wants these, and waits until the first has a live price: what was subscribed before it is heard by then, orders above all.
    pub async fn listen(&self, listings: &[Listing]) {
        self.board.want(listings.iter().cloned().collect::<BTreeSet<_>>());
        self.hears(&listings[0]).await;
    }

    /// Waits for a live price.
    pub async fn hears(&self, listing: &Listing) {
        until("a live price", || self.has_live(listing)).await;
    }

    pub fn has_live(&self, listing: &Listing) -> bool {
        self.board.get(listing).is_some_and(|priced| priced.source == PriceSource::Live)
    }

    /// Updates of orders that were heard.
    pub fn updates(&self) -> u64 {
        self.metrics.feed_order_updates.get()
    }
}

/// A leader's memory without a ledger: what is concluded is installed at once.
pub struct Memory {
    pub book: Book,
    rules: Rules,
    suspects: Suspects,
    states: HashMap<IntentId, IntentState>,
    /// Units of all fills that were booked.
    pub booked: i64,
    /// Readings that the order stream asked for.
    pub by_news: u32,
}

impl Default for Memory {
    fn default() -> Self {
        let rules = Rules {
            policy: TradingPolicy::default(),
            catalog: Catalog::default(),
            charges: Schedule::default(),
            allow_after_market: true,
            simulated: true,
            send_window_ms: 5000,
        };
        Self {
            book: Book::default(),
            rules,
            suspects: Suspects::default(),
            states: HashMap::new(),
            booked: 0,
            by_news: 0,
        }
    }
}

impl Memory {
    /// An entry on its way.
    pub fn journal(&mut self, order: &OrderSpec) -> OrderIntent {
        let instrument = self.rules.catalog.get("GOLD_MINI").unwrap();
        let plan = EntryPlan {
            label: Label::BASE,
            strategy: "default".to_owned(),
            lot_size: instrument.lot_size,
            point_value: instrument.point_value,
            margin_per_lot: instrument.margin_per_lot,
            atr: Price(dec!(100)),
            stop: STOP,
            take_profit: None,
            planned_price: Price(dec!(140000)),
            signal_seq: 1,
            bar_time: Utc::now(),
            bidding: None,
        };
        let intent = OrderIntent {
            id: IntentId::new(),
            signal: Some(SignalId::new()),
            leg: 0,
            attempt: 0,
            position: PositionId::new(),
            instrument: instrument.name.clone(),
            class: OrderClass::Entry,
            cause: None,
            order: order.clone(),
            plan: Some(plan),
            custody: false,
            unwind: false,
            state: IntentState::Journaled,
            reason: None,
            broker_order_id: None,
            filled: Quantity::ZERO,
            send_window_ms: 1000,
            watermark: 0,
            epoch: 1,
            incarnation: None,
            day: Some(trading_day(Utc::now())),
        };
        let sent_by = BootClock.now().plus(Duration::from_secs(1));
        self.book.journaled(intent.clone(), Some(SignalType::BaseEntry), sent_by);
        intent
    }

    /// The broker gave it this order id.
    pub fn acknowledged(&mut self, id: IntentId, order_id: &str) {
        let mut draft = Draft::new(&self.book, &self.rules, Utc::now());
        draft.intent(&self.book.intents[&id], IntentState::Acknowledged, None, Some(order_id.to_owned()));
        let change = draft.finish();
        self.install(&change);
    }

    /// Where an intent is by what was concluded last.
    pub fn state(&self, id: IntentId) -> Option<IntentState> {
        self.states.get(&id).copied()
    }

    /// Units that are held by what was concluded.
    pub fn held(&self) -> i64 {
        self.book.portfolio.held().map(|position| position.quantity.0).sum()
    }

    /// Reads the books as a leader does, when the stream has news and else now and then, until an intent has come to `end`.
    pub async fn follow(&mut self, broker: &dyn Broker, ear: &Ear, id: IntentId, end: IntentState) {
        while self.state(id) != Some(end) {
            tokio::select! {
                biased;
                () = ear.news.arrived() => self.by_news += 1,
                () = tokio::time::sleep(POLL) => {}
            }
            self.read(broker).await;
        }
    }

    /// Reads the books if the stream has news that no reading has begun after.
    pub async fn hear(&mut self, broker: &dyn Broker, ear: &Ear) {
        if ear.news.arrived().now_or_never().is_some() {
            self.by_news += 1;
            self.read(broker).await;
        }
    }

    /// Reads the books once and settles what they tell.
    pub async fn read(&mut self, broker: &dyn Broker) {
        let (begun, day) = (BootClock.now(), Some(trading_day(Utc::now())));
        let reading = Reading { books: broker.books().await.unwrap(), begun, day, verified: true };
        let confirmed = self.suspects.clone();
        let evidence = Evidence::gather(&self.book, &reading, RULE);
        let findings = evidence.findings(&self.book, &mut self.suspects);
        assert!(findings.ambiguous.is_empty(), "{:?}", findings.ambiguous);
        let (rules, ids) = (&self.rules, &findings.intents);
        let change = evidence.settle(&self.book, rules, ids, &confirmed, Utc::now()).unwrap();
        self.install(&change);
    }

    fn install(&mut self, change: &Change) {
        self.states.extend(change.intents.iter().map(|update| (update.id, update.state)));
        self.booked += change.fills.iter().map(|fill| fill.quantity.0).sum::<i64>();
        self.book.install(change, BootClock.now());
    }
}
