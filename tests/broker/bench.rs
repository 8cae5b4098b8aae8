//! A client of the bridge and the paper bridge that it speaks to.

use std::sync::Arc;

use baton::broker::{BridgeMode, Broker, NotSentCause, OpenAlgo, Settings, Submission, Ticket};
use baton::domain::money::{Price, Quantity};
use baton::domain::order::{OrderClass, OrderSpec, PriceType, Product, Side};
use baton::paper::{self, Options, Paper};
use rust_decimal::dec;
use rustls::crypto::ring;
use serde_json::{Value, json};

pub const GOLD: &str = "GOLDM05DEC25FUT";

/// A paper bridge, a client of it, and the hand on its control port.
pub struct Bench {
    pub paper: Paper,
    pub broker: Arc<OpenAlgo>,
    control: reqwest::Client,
}

impl Bench {
    pub async fn start(mode: BridgeMode) -> Self {
        Self::with(mode, |_| {}).await
    }

    pub async fn with(mode: BridgeMode, change: impl FnOnce(&mut Settings)) -> Self {
        Self::build(mode, |_| {}, change).await
    }

    pub async fn start_with(mode: BridgeMode, change: impl FnOnce(&mut Options)) -> Self {
        Self::build(mode, change, |_| {}).await
    }

    pub async fn build(
        mode: BridgeMode,
        bridge: impl FnOnce(&mut Options),
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let shape =
            if mode == BridgeMode::Live { paper::BridgeMode::Live } else { paper::BridgeMode::Analyze };
        let mut options = Options { mode: shape, ..Options::default() };
        bridge(&mut options);
        let paper = Paper::start(options).await.unwrap();
        let mut settings = Settings::new(paper.http_url(), "paper");
        settings.mode = mode;
        settings.orders_per_second = None;
        change(&mut settings);
        let broker = Arc::new(OpenAlgo::new(settings).unwrap());
        // The binary does this first thing in main; a second time is refused, which is as good.
        let _ = ring::default_provider().install_default();
        let control = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { paper, broker, control }
    }

    pub async fn control(&self, path: &str, body: Value) {
        let url = format!("{}/_ctl/{path}", self.paper.control_url());
        let answer = self.control.post(url).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }

    pub async fn fault(&self, fault: Value, verb: &str) {
        self.control("faults", json!({"fault": fault, "verb": verb, "count": 1})).await;
    }

    /// Takes all faults away.
    pub async fn heal(&self) {
        let url = format!("{}/_ctl/faults", self.paper.control_url());
        assert!(self.control.delete(url).send().await.unwrap().status().is_success());
    }

    pub async fn state(&self, path: &str) -> Value {
        let url = format!("{}/_ctl/{path}", self.paper.control_url());
        self.control.get(url).send().await.unwrap().json().await.unwrap()
    }

    /// How many order requests reached the bridge, and how many orders it really has.
    pub async fn reached(&self) -> (usize, usize) {
        let arrivals = self.state("arrivals").await["arrivals"].as_array().unwrap().len();
        (arrivals, self.state("orders").await["orders"].as_array().unwrap().len())
    }

    pub async fn place(&self, order: &OrderSpec, strategy: &str) -> Submission {
        self.broker.place(order, named(strategy)).await
    }
}

pub fn named(strategy: &str) -> Ticket<'_> {
    Ticket { class: OrderClass::Entry, ahead: None, strategy, within: None, may_send: &|| true }
}

pub fn gold(kind: PriceType, price: Price) -> OrderSpec {
    OrderSpec {
        symbol: GOLD.to_owned(),
        exchange: "MCX".to_owned(),
        side: Side::Buy,
        quantity: Quantity(100),
        price_type: kind,
        product: Product::Nrml,
        price,
        trigger_price: Price::ZERO,
    }
}

pub fn market() -> OrderSpec {
    gold(PriceType::Market, Price::ZERO)
}

/// Far below the market: rests.
pub fn resting() -> OrderSpec {
    gold(PriceType::Limit, Price(dec!(100000.00)))
}

#[track_caller]
pub fn acknowledged(submission: Submission) -> String {
    match submission {
        Submission::Acknowledged { order_id } => order_id,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub fn assert_not_sent(submission: &Submission, expected: NotSentCause) {
    assert!(
        matches!(submission, Submission::NotSent { cause, .. } if *cause == expected),
        "{submission:?}, expected {expected}"
    );
}
