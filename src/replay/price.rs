//! Drives the paper bridge's price to a row's price before its signal is posted.

use std::time::Duration;

use serde_json::json;

use super::error::Error;
use crate::domain::money::Price;

/// How long one setting of a price may take: the port is on loopback.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A contract at a paper bridge, reached by its control port.
#[derive(Clone, Debug)]
pub struct PriceControl {
    http: reqwest::Client,
    url: String,
    exchange: String,
    symbol: String,
}

impl PriceControl {
    /// The contract `symbol` on `exchange` of the bridge whose control port is `url`.
    ///
    /// # Errors
    /// No HTTP client can be made.
    pub fn new(url: &str, exchange: &str, symbol: &str) -> Result<Self, Error> {
        let http = reqwest::Client::builder().timeout(TIMEOUT).build().map_err(Error::Client)?;
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { http, url, exchange: exchange.to_owned(), symbol: symbol.to_owned() })
    }

    /// Sets the last traded price; without a spread bid and ask are the same.
    ///
    /// # Errors
    /// [`Error::Price`] when the bridge does not answer or does not list the contract.
    pub async fn set(&self, price: Price, spread_ticks: u32) -> Result<(), Error> {
        let failed = |why: String| Error::Price { symbol: self.symbol.clone(), url: self.url.clone(), why };
        let body = json!({
            "symbol": self.symbol, "exchange": self.exchange, "ltp": price, "spread_ticks": spread_ticks,
        });
        let url = format!("{}/_ctl/price", self.url);
        let answer =
            self.http.post(url).json(&body).send().await.map_err(|error| failed(error.to_string()))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        Err(failed(format!("{status}: {}", answer.text().await.unwrap_or_default())))
    }
}
