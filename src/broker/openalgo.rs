//! The [`Broker`] that speaks to an OpenAlgo bridge.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::NaiveDate;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Uri};
use rustls::pki_types::ServerName;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::budget::{Ahead, Budget};
use super::json::Object;
use super::outcome::{self, Fault, Verb};
use super::plugin::Plugin;
use super::reads::Reads;
use super::settings::{Settings, SettingsError};
use super::types::{
    Books, BridgeMode, BrokerError, BrokerOrder, BrokerPosition, BrokerTrade, ForeignRow, Funds,
    NotSentCause, Quote, Quoted, Submission, Ticket,
};
use super::unchanged::Unchanged;
use super::warm::Warm;
use super::wire::{Target, Written};
use super::{Broker, books, tls};
use crate::domain::contract::Contract;
use crate::domain::listing::Listing;
use crate::domain::market::Candle;
use crate::domain::order::{OrderClass, OrderSpec};
use crate::domain::sessions::{Holiday, Session};

/// The bridge's column for `strategy`.
const STRATEGY_LIMIT_CHARS: usize = 100;

/// A client of one OpenAlgo bridge.
pub struct OpenAlgo {
    reads: Reads,
    warm: Warm,
    budget: Budget,
    api_key: SecretString,
    armed: BridgeMode,
    plugin: Plugin,
    order_timeout: Duration,
    paths: Paths,
    order_book: Unchanged<OrderBook>,
    trade_book: Unchanged<Vec<BrokerTrade>>,
}

/// The orders that could be read, and the rows that this agent never makes.
type OrderBook = (Vec<BrokerOrder>, Vec<ForeignRow>);

/// Where the order verbs live.
struct Paths {
    place: Uri,
    modify: Uri,
    cancel: Uri,
}

// === impl OpenAlgo ===

impl OpenAlgo {
    /// Builds the client and starts warming its order connections; must be called on a tokio runtime. The bridge
    /// need not be there yet.
    ///
    /// # Errors
    /// Settings that cannot work; see [`SettingsError`].
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        let limits = [
            ("order_timeout", settings.order_timeout),
            ("user_timeout", settings.user_timeout),
            ("read_timeout", settings.read_timeout),
            ("idle_limit", settings.idle_limit),
        ];
        if let Some((name, _)) = limits.into_iter().find(|(_, limit)| limit.is_zero()) {
            return Err(SettingsError::Zero { name });
        }
        let bad =
            |problem: &str| SettingsError::Url { url: settings.url.clone(), problem: problem.to_owned() };
        let url = reqwest::Url::parse(&settings.url).map_err(|error| bad(&error.to_string()))?;
        let https = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(bad("neither http nor https")),
        };
        let host = url.host_str().ok_or_else(|| bad("no host"))?;
        let port = url.port_or_known_default().ok_or_else(|| bad("no port"))?;
        let authority = url.port().map_or(host.to_owned(), |port| format!("{host}:{port}"));
        let config = tls::client_config(https, settings.ca_file.as_deref())
            .map_err(|problem| SettingsError::Certificates { url: settings.url.clone(), problem })?;
        // The literal form of an IPv6 address is for URLs and headers only.
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let server = ServerName::try_from(name.clone()).map_err(|error| bad(&error.to_string()))?;
        let prefix = format!("{}/api/v1/", url.path().trim_end_matches('/'));
        let path = |verb| Uri::try_from(format!("{prefix}{verb}")).map_err(|error| bad(&error.to_string()));
        let paths =
            Paths { place: path("placeorder")?, modify: path("modifyorder")?, cancel: path("cancelorder")? };
        let reads = Reads::new(&settings, format!("{}://{authority}{prefix}", url.scheme()), config.clone())?;
        let target = Target {
            host: name,
            resolver: settings.resolver.clone(),
            port,
            authority: HeaderValue::try_from(authority).map_err(|error| bad(&error.to_string()))?,
            tls: https.then(|| (Arc::new(config), server)),
            user_timeout: settings.user_timeout,
            connect_timeout: settings.order_timeout.min(settings.user_timeout),
        };
        let budget = Budget::new(&settings)?;
        Ok(Self {
            reads,
            warm: Warm::start(target, settings.warm_connections, settings.idle_limit),
            budget,
            api_key: settings.api_key,
            armed: settings.mode,
            plugin: settings.plugin,
            order_timeout: settings.order_timeout,
            paths,
            order_book: Unchanged::default(),
            trade_book: Unchanged::default(),
        })
    }

    /// Order connections that are open and idle now.
    pub fn warm_connections(&self) -> usize {
        self.warm.count()
    }

    async fn submit(&self, verb: Verb, mut fields: Object, ticket: Ticket<'_>) -> Submission {
        if ticket.strategy.is_empty() || ticket.strategy.chars().count() > STRATEGY_LIMIT_CHARS {
            let reason = format!("strategy name {:?} must have 1 to 100 characters", ticket.strategy);
            return Submission::NotSent { reason, cause: NotSentCause::Validation };
        }
        fields.insert("apikey".to_owned(), json!(self.api_key.expose_secret()));
        // The sandbox gives the name back, and is asked for it by that.
        let strategy = match self.armed {
            BridgeMode::Live => self.plugin.strategy(ticket.strategy, STRATEGY_LIMIT_CHARS),
            BridgeMode::Analyze => ticket.strategy.to_owned(),
        };
        fields.insert("strategy".to_owned(), json!(strategy));
        let path = match verb {
            Verb::Place => &self.paths.place,
            Verb::Modify => &self.paths.modify,
            Verb::Cancel => &self.paths.cancel,
        };
        let written = Written { path: path.clone(), body: Bytes::from(Value::Object(fields).to_string()) };
        match self.send(written, ticket).await {
            Ok(answer) => self.scrubbed(outcome::of_answer(verb, self.armed, &self.plugin, &answer)),
            Err(fault) => outcome::of_fault(&fault),
        }
    }

    /// Budget, connection, check, write, answer: each at most once.
    async fn send(&self, written: Written, mut ticket: Ticket<'_>) -> Result<outcome::Answer, Fault> {
        let limit = ticket.within.map_or(self.order_timeout, |within| within.min(self.order_timeout));
        let deadline = Instant::now() + limit;
        let place = self.budget.take_or_use(ticket.class, ticket.ahead.take());
        let Ok(()) = timeout_at(deadline, place).await else {
            return Err(Fault::Budget(limit.as_millis()));
        };
        let Ok(lent) = timeout_at(deadline, self.warm.take()).await else {
            return Err(Fault::Connect(format!("none within {} ms", limit.as_millis())));
        };
        let mut lent = lent?;
        let may_send = || Instant::now() < deadline && (ticket.may_send)();
        match timeout_at(deadline, lent.wire().exchange(written, &may_send)).await {
            Ok(Ok(answer)) => {
                lent.give_back();
                Ok(answer)
            }
            Ok(Err(Fault::Withheld)) => {
                lent.give_back();
                Err(Fault::Withheld)
            }
            // The connection is dropped, that is reset, here: what it has not delivered is gone.
            Ok(Err(fault)) => Err(fault),
            Err(_) => Err(Fault::TimedOut(limit.as_millis())),
        }
    }

    /// Takes the API key out of what the bridge said, should it ever quote the request.
    fn scrubbed(&self, mut submission: Submission) -> Submission {
        let key = self.api_key.expose_secret();
        if let Submission::Rejected { reason, .. }
        | Submission::NotSent { reason, .. }
        | Submission::InDoubt { reason, .. } = &mut submission
            && !key.is_empty()
            && reason.contains(key)
        {
            *reason = reason.replace(key, "***");
        }
        submission
    }

    async fn order_book(&self) -> Result<OrderBook, BrokerError> {
        let parse = |data: &Value| books::orders(&self.plugin, data);
        self.reads.account_anew("orderbook", &self.order_book, parse).await
    }

    async fn trade_book(&self) -> Result<Vec<BrokerTrade>, BrokerError> {
        let parse = |data: &Value| books::trades(&self.plugin, data);
        self.reads.account_anew("tradebook", &self.trade_book, parse).await
    }

    async fn position_book(&self) -> Result<Vec<BrokerPosition>, BrokerError> {
        self.reads.account("positionbook", |data| books::positions(&self.plugin, data)).await
    }

    /// What `read` reads; without a row it is believed only of a session that is alive before it and after it. A bridge whose session is
    /// dead may answer empty books, and a login between such a book and the proof would vouch for it.
    async fn believed<T, F>(
        &self,
        read: impl Fn() -> F,
        is_empty: impl Fn(&T) -> bool,
    ) -> Result<T, BrokerError>
    where
        F: Future<Output = Result<T, BrokerError>>,
    {
        let book = read().await?;
        if !is_empty(&book) {
            return Ok(book);
        }
        self.is_alive().await?;
        let book = read().await?;
        if is_empty(&book) {
            self.is_alive().await?;
        }
        Ok(book)
    }

    /// Funds without data give a dead session away. Where they cannot be read, a position proves a living one as well.
    async fn is_alive(&self) -> Result<(), BrokerError> {
        match self.funds().await {
            Ok(_) => Ok(()),
            Err(dead @ BrokerError::SessionExpired { .. }) => Err(dead),
            Err(error) => match self.position_book().await {
                Ok(held) if !held.is_empty() => Ok(()),
                _ => Err(error),
            },
        }
    }

    async fn read<T>(
        &self,
        route: &'static str,
        fields: Value,
        parse: impl Fn(&Value) -> Result<T, String>,
    ) -> Result<T, BrokerError> {
        let data = self.reads.data(route, object(fields)).await?;
        parse(&data).map_err(|problem| BrokerError::Malformed { route, problem })
    }
}

impl Broker for OpenAlgo {
    fn ahead(&self, class: OrderClass) -> Option<Ahead> {
        self.budget.ahead(class)
    }

    fn place<'a>(&'a self, order: &'a OrderSpec, ticket: Ticket<'a>) -> BoxFuture<'a, Submission> {
        self.submit(Verb::Place, object(order_fields(order)), ticket).boxed()
    }

    fn modify<'a>(
        &'a self,
        order_id: &'a str,
        order: &'a OrderSpec,
        ticket: Ticket<'a>,
    ) -> BoxFuture<'a, Submission> {
        let mut fields = object(order_fields(order));
        fields.insert("orderid".to_owned(), json!(order_id));
        self.submit(Verb::Modify, fields, ticket).boxed()
    }

    fn cancel<'a>(&'a self, order_id: &'a str, ticket: Ticket<'a>) -> BoxFuture<'a, Submission> {
        self.submit(Verb::Cancel, object(json!({ "orderid": order_id })), ticket).boxed()
    }

    fn books(&self) -> BoxFuture<'_, Result<Books, BrokerError>> {
        async {
            let read = || async {
                let (orders, foreign) = self.order_book().await?;
                let trades = self.trade_book().await?;
                Ok(Books { orders, trades, foreign })
            };
            let is_empty = |books: &Books| {
                books.orders.is_empty() && books.trades.is_empty() && books.foreign.is_empty()
            };
            self.believed(read, is_empty).await
        }
        .boxed()
    }

    fn orders(&self) -> BoxFuture<'_, Result<Vec<BrokerOrder>, BrokerError>> {
        async {
            let is_empty = |(orders, foreign): &OrderBook| orders.is_empty() && foreign.is_empty();
            let (orders, _) = self.believed(|| self.order_book(), is_empty).await?;
            Ok(orders)
        }
        .boxed()
    }

    fn trades(&self) -> BoxFuture<'_, Result<Vec<BrokerTrade>, BrokerError>> {
        self.believed(|| self.trade_book(), Vec::is_empty).boxed()
    }

    fn positions(&self) -> BoxFuture<'_, Result<Vec<BrokerPosition>, BrokerError>> {
        self.believed(|| self.position_book(), Vec::is_empty).boxed()
    }

    fn quote<'a>(&'a self, symbol: &'a str, exchange: &'a str) -> BoxFuture<'a, Result<Quote, BrokerError>> {
        self.read("quotes", json!({ "symbol": symbol, "exchange": exchange }), books::quote).boxed()
    }

    fn quotes<'a>(&'a self, listings: &'a [Listing]) -> BoxFuture<'a, Result<Vec<Quoted>, BrokerError>> {
        let route = "multiquotes";
        async move {
            let results = self.reads.once(route, "results", object(json!({ "symbols": listings }))).await?;
            books::quotes(&results).map_err(|problem| BrokerError::Malformed { route, problem })
        }
        .boxed()
    }

    fn history<'a>(
        &'a self,
        listing: &'a Listing,
        day: NaiveDate,
    ) -> BoxFuture<'a, Result<Vec<Candle>, BrokerError>> {
        let fields = json!({
            "symbol": listing.symbol,
            "exchange": listing.exchange,
            "interval": "1m",
            "start_date": day.to_string(),
            "end_date": day.to_string(),
        });
        self.read("history", fields, books::candles).boxed()
    }

    fn funds(&self) -> BoxFuture<'_, Result<Funds, BrokerError>> {
        async {
            let funds = self.reads.account("funds", books::funds).await?;
            funds.ok_or_else(|| BrokerError::SessionExpired { said: "funds without data".to_owned() })
        }
        .boxed()
    }

    fn mode(&self) -> BoxFuture<'_, Result<BridgeMode, BrokerError>> {
        self.reads.mode().boxed()
    }

    fn symbol<'a>(
        &'a self,
        symbol: &'a str,
        exchange: &'a str,
    ) -> BoxFuture<'a, Result<Contract, BrokerError>> {
        self.read("symbol", json!({ "symbol": symbol, "exchange": exchange }), books::contract).boxed()
    }

    fn timings(&self, day: NaiveDate) -> BoxFuture<'_, Result<Vec<Session>, BrokerError>> {
        self.read("market/timings", json!({ "date": day.to_string() }), books::sessions).boxed()
    }

    fn holidays(&self, year: i32) -> BoxFuture<'_, Result<Vec<Holiday>, BrokerError>> {
        self.read("market/holidays", json!({ "year": year }), books::holidays).boxed()
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), BrokerError>> {
        self.read("ping", json!({}), |_| Ok(())).boxed()
    }
}

/// An order in the bridge's words. Numbers travel as text: the bridge takes both, and text keeps every digit.
fn order_fields(order: &OrderSpec) -> Value {
    json!({
        "symbol": order.symbol,
        "exchange": order.exchange,
        "action": order.side.as_str(),
        "quantity": order.quantity.to_string(),
        "pricetype": order.price_type.as_str(),
        "product": order.product.as_str(),
        "price": order.price.0.normalize().to_string(),
        "trigger_price": order.trigger_price.0.normalize().to_string(),
        "disclosed_quantity": "0",
    })
}

fn object(value: Value) -> Object {
    match value {
        Value::Object(fields) => fields,
        _ => Object::new(),
    }
}
