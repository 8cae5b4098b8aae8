//! A client of the cluster as a whole: it knows several instances and asks on until one answers.
//!
//! The instance that answered last is asked first. A lost connection, a timeout and every 5xx mean "not this one now":
//! the next is asked, round after round with a growing pause, until the question's deadline. Whatever is sent must
//! therefore be safe to send twice, as signals with a key are.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use rust_decimal::Decimal;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::sleep;

use super::addresses::Addresses;
use super::error::Error;
use crate::causes::with_causes;
use crate::domain::money::{Price, Quantity};
use crate::domain::position::Position;

/// How long one instance may take before the next is asked: a paused process accepts connections and never answers.
const ONE_ANSWER: Duration = Duration::from_secs(2);
/// Pauses between rounds and between two looks at a signal: the first, doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(4);
const LONGEST_PAUSE: Duration = Duration::from_millis(64);
/// A signal is final within some 50 ms as a rule, and a replay waits for each: a longer pause would be felt.
const LONGEST_LOOK: Duration = Duration::from_millis(16);

/// A signal as the webhook took it.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Accepted {
    /// Its id.
    pub id: String,
    /// Its key.
    pub key: String,
    /// `accepted`, or its status now when it had been posted before.
    pub status: String,
}

/// A signal and what became of it, as far as a sender needs it.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct SignalAnswer {
    /// Its id.
    pub id: String,
    /// Its key.
    pub key: String,
    /// Its status.
    pub status: String,
    /// `{code, sentence}` objects.
    #[serde(default)]
    pub reasons: Value,
    /// The member that stored it.
    #[serde(default)]
    pub received_by: String,
    /// Set once the status is final.
    pub finished_at: Option<String>,
    /// Its orders.
    #[serde(default)]
    pub orders: Vec<OrderAnswer>,
}

impl SignalAnswer {
    /// Whether nothing more will come of it.
    pub fn is_final(&self) -> bool {
        self.finished_at.is_some()
    }

    /// The reasons as `CODE: sentence`.
    pub fn sentences(&self) -> Vec<String> {
        let text = |reason: &Value| match (reason["code"].as_str(), reason["sentence"].as_str()) {
            (Some(code), Some(sentence)) => format!("{code}: {sentence}"),
            _ => reason.to_string(),
        };
        self.reasons.as_array().into_iter().flatten().map(text).collect()
    }

    /// Units filled by all its orders, and their average price.
    pub fn filled(&self) -> (Quantity, Option<Price>) {
        let units = Quantity(self.orders.iter().map(|order| order.filled_quantity.0).sum());
        let value = |order: &OrderAnswer| Some(order.filled_quantity.decimal() * order.average_price?.0);
        let value: Decimal = self.orders.iter().filter_map(value).sum();
        let price = (units > Quantity::ZERO).then(|| Price(value / units.decimal()).rounded());
        (units, price)
    }
}

/// An order as far as a sender needs it.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct OrderAnswer {
    /// Its intent's id.
    pub id: String,
    /// Its state.
    pub state: String,
    /// The epoch that it was journaled under.
    pub epoch: i64,
    /// The broker's id for it.
    pub broker_order_id: Option<String>,
    /// Units filled.
    pub filled_quantity: Quantity,
    /// Average price of its fills.
    pub average_price: Option<Price>,
}

/// A position as the ledger has it.
pub type PositionAnswer = Position;

#[derive(Deserialize)]
struct Positions {
    positions: Vec<PositionAnswer>,
}

/// Asks a cluster through any of its instances.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    addresses: Addresses,
    token: Option<SecretString>,
    preferred: AtomicUsize,
}

/// Called with the address that did not do, and why.
type MovesOn<'a> = &'a (dyn Fn(&str, &str) + Sync);

impl Client {
    /// A client of the instances at `addresses`, with the token for signals if the cluster wants one.
    ///
    /// # Errors
    /// No HTTP client can be made.
    pub fn new(addresses: Addresses, token: Option<SecretString>) -> Result<Self, Error> {
        let http = reqwest::Client::builder()
            .timeout(ONE_ANSWER)
            .connect_timeout(ONE_ANSWER)
            .build()
            .map_err(Error::Client)?;
        Ok(Self { http, addresses, token, preferred: AtomicUsize::new(0) })
    }

    /// Posts a signal. `payload` is called anew for each try, so that its timestamp is the time of sending.
    ///
    /// # Errors
    /// [`Error::Refused`] with the faults found (400, 401 …), or [`Error::Unanswered`] after `patience`.
    pub async fn post(
        &self,
        payload: impl Fn() -> Value + Sync,
        patience: Duration,
        moves_on: MovesOn<'_>,
    ) -> Result<Accepted, Error> {
        self.ask(Method::POST, "/webhook", Some(&payload), patience, moves_on).await
    }

    /// Reads a JSON answer of any instance.
    ///
    /// # Errors
    /// As for [`Client::post`]; [`Error::Unreadable`] when it is no `T`.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        patience: Duration,
        moves_on: MovesOn<'_>,
    ) -> Result<T, Error> {
        self.ask(Method::GET, path, None, patience, moves_on).await
    }

    /// Looks at a signal until it is final.
    ///
    /// # Errors
    /// [`Error::Unfinished`] after `patience`; or no instance answers, or it does not know the signal.
    pub async fn finished(
        &self,
        id: &str,
        row: &str,
        patience: Duration,
        moves_on: MovesOn<'_>,
    ) -> Result<SignalAnswer, Error> {
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let left = patience.saturating_sub(begun.elapsed());
            let path = format!("/api/v1/signals/{id}");
            let signal: SignalAnswer = self.get(&path, left, moves_on).await?;
            if signal.is_final() {
                return Ok(signal);
            }
            if begun.elapsed() + pause > patience {
                let (id, row) = (id.to_owned(), row.to_owned());
                return Err(Error::Unfinished { id, row, status: signal.status, waited: begun.elapsed() });
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_LOOK);
        }
    }

    /// Lists positions: `which` is `open` (held, or on their way out) or `closed`, newest first.
    ///
    /// # Errors
    /// As for [`Client::get`].
    pub async fn positions(
        &self,
        which: &str,
        limit: usize,
        patience: Duration,
    ) -> Result<Vec<PositionAnswer>, Error> {
        let path = format!("/api/v1/positions?status={which}&limit={limit}");
        let Positions { positions } = self.get(&path, patience, &|_, _| {}).await?;
        Ok(positions)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        payload: Option<&(dyn Fn() -> Value + Sync)>,
        patience: Duration,
        moves_on: MovesOn<'_>,
    ) -> Result<T, Error> {
        let what = format!("{method} {path}");
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let addresses = self.addresses.list();
            if addresses.is_empty() {
                return Err(Error::NoAddress);
            }
            let first = self.preferred.load(Ordering::Relaxed);
            let mut failed = (String::new(), String::new());
            for turn in 0..addresses.len() {
                let place = (first + turn) % addresses.len();
                let address = &addresses[place];
                let body = payload.map(|payload| payload());
                match self.one(&method, address, path, body).await {
                    Ok((status, text)) if status.is_success() => {
                        self.preferred.store(place, Ordering::Relaxed);
                        let address = address.clone();
                        return serde_json::from_str(&text).map_err(|error| Error::Unreadable {
                            what,
                            address,
                            why: error.to_string(),
                        });
                    }
                    Ok((status, text)) if !is_passing(status) => {
                        let (address, status) = (address.clone(), status.as_u16());
                        return Err(Error::Refused { what, address, status, detail: detail(&text) });
                    }
                    Ok((status, text)) => failed = (address.clone(), format!("{status} {}", detail(&text))),
                    Err(error) => failed = (address.clone(), with_causes(&error)),
                }
                moves_on(&failed.0, &failed.1);
                if begun.elapsed() > patience {
                    break;
                }
            }
            if begun.elapsed() + pause > patience {
                let (address, why) = failed;
                return Err(Error::Unanswered { what, waited: begun.elapsed(), address, why });
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn one(
        &self,
        method: &Method,
        address: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<(StatusCode, String), reqwest::Error> {
        let mut request = self.http.request(method.clone(), format!("{address}{path}"));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose_secret());
        }
        if let Some(body) = &body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        Ok((status, answer.text().await?))
    }
}

/// Whether another instance, or the same one later, may say yes.
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
}

/// What a problem answer says, on one line.
fn detail(text: &str) -> String {
    let problem: Value = serde_json::from_str(text).unwrap_or_default();
    let faults = problem["faults"].as_array().into_iter().flatten();
    let faults: Vec<String> = faults
        .map(|fault| {
            format!(
                "{}: {}",
                fault["field"].as_str().unwrap_or("body"),
                fault["message"].as_str().unwrap_or_default()
            )
        })
        .collect();
    let said = problem["detail"].as_str().or(problem["title"].as_str()).unwrap_or(text).trim();
    let said = if faults.is_empty() { said.to_owned() } else { faults.join("; ") };
    said.chars().take(600).collect()
}
