//! The paper bridge as a witness: what reached it, by its own record, and the handle on its market.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use rust_decimal::Decimal;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::error::Error;
use crate::domain::instrument::Instrument;

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// The control port of a paper bridge.
#[derive(Clone, Debug)]
pub(super) struct Bridge {
    http: reqwest::Client,
    url: String,
}

/// An order request as it arrived.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Arrival {
    pub(super) verb: String,
    pub(super) body: Value,
}

impl Arrival {
    /// The `strategy` sent with an order: it names the intent.
    pub(super) fn tag(&self) -> &str {
        self.body["strategy"].as_str().unwrap_or_default()
    }
}

/// An order as the bridge's core has it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct BridgeOrder {
    pub(super) strategy: String,
    pub(super) symbol: String,
    pub(super) side: String,
    pub(super) filled_quantity: i64,
}

#[derive(Deserialize)]
struct Arrivals {
    arrivals: Vec<Arrival>,
}

#[derive(Deserialize)]
struct Orders {
    orders: Vec<BridgeOrder>,
}

impl Bridge {
    pub(super) fn new(http: reqwest::Client, url: String) -> Self {
        Self { http, url }
    }

    /// Sets an instrument's price; the market walks on from there if it moves.
    pub(super) async fn set_price(&self, instrument: &Instrument, price: Decimal) -> Result<(), Error> {
        let body = json!({ "symbol": instrument.symbol, "exchange": instrument.exchange, "ltp": price });
        let answer = self.http.post(format!("{}/_ctl/price", self.url)).json(&body).timeout(ANSWER).send();
        let answer = answer.await.map_err(|error| Error::Bridge(error.to_string()))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let said = answer.text().await.unwrap_or_default();
        Err(Error::Bridge(format!("the price of {} was refused: {status} {said}", instrument.symbol)))
    }

    /// Sends no ticks from now on, of anything; sockets stay open.
    pub(super) async fn cut_feed(&self) -> Result<(), Error> {
        let rule = json!({ "fault": { "kind": "tick_silence" } });
        let failed = |error: reqwest::Error| Error::Bridge(error.to_string());
        let url = format!("{}/_ctl/faults", self.url);
        let answer = self.http.post(url).json(&rule).timeout(ANSWER).send().await.map_err(failed)?;
        answer.error_for_status().map_err(failed)?;
        Ok(())
    }

    /// Takes every fault back.
    pub(super) async fn heal(&self) -> Result<(), Error> {
        let failed = |error: reqwest::Error| Error::Bridge(error.to_string());
        let url = format!("{}/_ctl/faults", self.url);
        let answer = self.http.delete(url).timeout(ANSWER).send().await.map_err(failed)?;
        answer.error_for_status().map_err(failed)?;
        Ok(())
    }

    /// Every order request that arrived, carried out or not.
    pub(super) async fn arrivals(&self) -> Result<Vec<Arrival>, Error> {
        let Arrivals { arrivals } = self.get("arrivals").await?;
        Ok(arrivals)
    }

    /// Every order that there is.
    pub(super) async fn orders(&self) -> Result<Vec<BridgeOrder>, Error> {
        let Orders { orders } = self.get("orders").await?;
        Ok(orders)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let failed = |error: reqwest::Error| Error::Bridge(error.to_string());
        let url = format!("{}/_ctl/{path}", self.url);
        self.http.get(url).timeout(ANSWER).send().await.map_err(failed)?.json().await.map_err(failed)
    }
}

/// How many orders the bridge has for each tag.
pub(super) fn orders_by_tag(orders: &[BridgeOrder]) -> HashMap<&str, usize> {
    let mut count = HashMap::new();
    for order in orders {
        *count.entry(order.strategy.as_str()).or_default() += 1;
    }
    count
}

/// Units held per symbol by what the bridge filled: bought less sold.
pub(super) fn net(orders: &[BridgeOrder]) -> BTreeMap<&str, i64> {
    let mut net = BTreeMap::new();
    for order in orders {
        let sign = if order.side == "BUY" { 1 } else { -1 };
        *net.entry(order.symbol.as_str()).or_default() += sign * order.filled_quantity;
    }
    net
}
