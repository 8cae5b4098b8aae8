//! What the acts of the story share: the cluster, its witnesses, and how signals are sent.

use std::time::{Duration, Instant};

use chrono::{SecondsFormat, Utc};
use futures_util::future::join_all;
use reqwest::StatusCode;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::audit::Audit;
use super::bridge::Bridge;
use super::cluster::{LOOK, LocalCluster};
use super::error::Error;
use super::member::{Member, SelfView};
use crate::domain::instrument::{Catalog, Instrument};
use crate::replay::{Accepted, Client, SignalAnswer};

/// How long a signal may take to be final, a failover of a paused leader included.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster that trades, and who watches it.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) cluster: LocalCluster,
    pub(super) bridge: Bridge,
    pub(super) audit: Audit,
    pub(super) client: Client,
    catalog: Catalog,
    /// The instance that trades, as far as the story knows.
    pub(super) leader: String,
}

/// A new leader, and how long after the old one's end.
#[derive(Debug)]
pub(super) struct Takeover {
    pub(super) name: String,
    pub(super) view: SelfView,
    /// Until it held the baton.
    pub(super) leads: Duration,
    /// Until it had recovered and traded.
    pub(super) trades: Duration,
}

/// An entry's figures.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub(super) instrument: &'static str,
    pub(super) position: &'static str,
    pub(super) price: Decimal,
    pub(super) stop: Decimal,
    pub(super) atr: Decimal,
}

impl Scene {
    pub(super) async fn new(cluster: LocalCluster, leader: String) -> Result<Self, Error> {
        let bridge = Bridge::new(cluster.http().clone(), cluster.control_url());
        let audit = Audit::connect(&cluster.database_url()).await?;
        let client = Client::new(cluster.addresses(), None)?;
        Ok(Self { cluster, bridge, audit, client, catalog: Catalog::default(), leader })
    }

    /// An instrument that is built in.
    pub(super) fn instrument(&self, name: &str) -> &Instrument {
        self.catalog.get(name).expect("the story's instruments are built in, and a test tells it")
    }

    /// Sets an instrument's price at the bridge.
    pub(super) async fn set_price(&self, instrument: &str, price: Decimal) -> Result<(), Error> {
        self.bridge.set_price(self.instrument(instrument), price).await
    }

    /// An instance that follows.
    pub(super) fn follower(&self) -> Result<(&str, &Member), Error> {
        self.followers().next().ok_or_else(|| Error::NotRunning("a follower".to_owned()))
    }

    /// The instances that run and do not trade.
    pub(super) fn followers(&self) -> impl Iterator<Item = (&str, &Member)> {
        let running = self.cluster.members().iter().filter(|(_, member)| member.is_running());
        running.filter(|(name, _)| **name != self.leader).map(|(name, member)| (name.as_str(), member))
    }

    /// What the leader says of itself.
    pub(super) async fn leader_view(&self) -> Result<SelfView, Error> {
        let view = self.cluster.member(&self.leader)?.view(self.cluster.http()).await;
        view.ok_or_else(|| Error::NotRunning(format!("the leader {}", self.leader)))
    }

    /// Posts a signal to one instance; gives the HTTP status beside the answer.
    pub(super) async fn post(
        &self,
        member: &Member,
        payload: &Value,
    ) -> Result<(StatusCode, Accepted), Error> {
        let url = format!("{}/webhook", member.address());
        let failed = |why: String| Error::from(refused(member.address(), &why));
        let answer = self.cluster.http().post(url).json(payload).timeout(PATIENCE).send().await;
        let answer = answer.map_err(|error| failed(error.to_string()))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| failed(error.to_string()))?;
        let accepted = serde_json::from_str(&text).map_err(|_| failed(format!("{status} {text}")))?;
        Ok((status, accepted))
    }

    /// Posts a signal to one instance and waits until it is final, on any.
    pub(super) async fn play(&self, member: &Member, payload: &Value) -> Result<SignalAnswer, Error> {
        let (_, accepted) = self.post(member, payload).await?;
        self.finished(&accepted).await
    }

    /// Waits until a signal is final.
    pub(super) async fn finished(&self, accepted: &Accepted) -> Result<SignalAnswer, Error> {
        Ok(self.client.finished(&accepted.id, &accepted.key, PATIENCE, &|_, _| {}).await?)
    }

    /// Waits until an instance other than the former leader trades under a higher epoch than `epoch`; that is the
    /// leader from then on. Times count from `since`.
    ///
    /// # Errors
    /// None does within [`PATIENCE`].
    pub(super) async fn takeover(&mut self, epoch: i64, since: Instant) -> Result<Takeover, Error> {
        let former = self.leader.clone();
        let http = self.cluster.http();
        let others: Vec<(&String, &Member)> =
            self.cluster.members().iter().filter(|(name, _)| **name != former).collect();
        let mut leads = None;
        let found = loop {
            if leads.is_none() {
                let led = join_all(others.iter().map(|(_, member)| member.leads(http))).await;
                leads = led.contains(&true).then(|| since.elapsed());
            } else {
                let views = join_all(others.iter().map(|(_, member)| member.view(http))).await;
                let trader = others.iter().zip(views).find_map(|((name, _), view)| {
                    let view = view.filter(|view| view.trades() && view.epoch > epoch)?;
                    Some(((*name).clone(), view))
                });
                if let Some(trader) = trader {
                    break trader;
                }
            }
            if since.elapsed() > PATIENCE {
                let what = format!("another instance than {former} trades");
                return Err(Error::Late { what, waited: PATIENCE });
            }
            sleep(LOOK).await;
        };
        let trades = since.elapsed();
        let (name, view) = found;
        self.leader.clone_from(&name);
        Ok(Takeover { name, view, leads: leads.unwrap_or(trades), trades })
    }
}

impl Wish {
    /// The webhook payload, sent now; the base opens a position, any other label adds to it.
    pub(super) fn payload(&self, id: &str) -> Value {
        let kind = if self.position == "Long_1" { "BASE_ENTRY" } else { "PYRAMID" };
        json!({
            "id": id, "type": kind, "instrument": self.instrument, "position": self.position, "price": self.price,
            "stop": self.stop, "atr": self.atr, "er": "0.9", "timestamp": now(),
        })
    }
}

/// The payload that closes all of an instrument.
pub(super) fn exit_payload(id: &str, instrument: &str, price: Decimal) -> Value {
    json!({
        "id": id, "type": "EXIT", "instrument": instrument, "position": "ALL", "price": price,
        "reason": "the story ends", "timestamp": now(),
    })
}

fn now() -> String {
    Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn refused(address: &str, why: &str) -> crate::replay::Error {
    let (what, address) = ("POST /webhook".to_owned(), address.to_owned());
    crate::replay::Error::Unanswered { what, waited: Duration::ZERO, address, why: why.to_owned() }
}

/// How an answer's orders went, in one sentence.
pub(super) fn filled_sentence(signal: &SignalAnswer) -> String {
    match signal.filled() {
        (units, Some(price)) => {
            format!("filled {} units at {}", units.0, price.0.round_dp(2).normalize())
        }
        (_, None) => format!("{} {}", signal.status, signal.sentences().join("; ")),
    }
}
