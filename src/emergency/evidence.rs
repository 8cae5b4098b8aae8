//! Evidence that nobody trades: what would tell of a leader is looked at for longer than one can be silent.

use std::collections::BTreeSet;
use std::time::Duration;

use ha::{BootClock, Clock as _};
use serde_json::Value;

use super::mark::Marks;
use crate::ledger::Ledger;

/// How long an instance may take to say whether it leads.
const ASKING: Duration = Duration::from_secs(2);

/// Why an emergency close is not for now. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The ledger is there.
    #[error("PostgreSQL answers from here: use `baton close {0}`, which the leader carries out")]
    DatabaseAnswers(String),
    /// It cannot be told from here whether the ledger is there.
    #[error(
        "PostgreSQL is reached from here but refuses: {0}; that is no outage, mend it or use `baton close` at an instance"
    )]
    DatabaseRefuses(String),
    /// Somebody leads.
    #[error(
        "{0} holds the leader's lease, so it reaches PostgreSQL though this host may not: use `baton close` at its address"
    )]
    SomebodyLeads(String),
    /// An instance says that it leads.
    #[error("{member} at {address} says that it leads: use `baton close --address {address}`")]
    SaysItLeads {
        /// The member.
        member: String,
        /// Where.
        address: String,
    },
    /// An instance is registered and does not say whether it leads.
    #[error(
        "{member} is registered at {address} and does not say whether it leads: stop it, make sure of that, and add --stopped {member}"
    )]
    Unknown {
        /// The member.
        member: String,
        /// Where.
        address: String,
    },
    /// Redis is away, and with it the mark.
    #[error(
        "Redis does not answer ({0}): without a mark there nothing keeps a second close away; close by hand at the broker"
    )]
    NoRedis(String),
}

/// What is looked at.
pub struct Evidence<'a> {
    /// The ledger that is to be gone.
    pub ledger: &'a Ledger,
    /// The keys in Redis.
    pub marks: &'a Marks,
    /// What is to be closed, for the sentence.
    pub symbol: &'a str,
    /// Members that the operator has stopped.
    pub stopped: &'a BTreeSet<String>,
    /// Between two looks.
    pub pace: Duration,
}

impl Evidence<'_> {
    /// Looks for `time`, and to its end: one sign of a leader ends it.
    ///
    /// # Errors
    /// The first sign that somebody may trade.
    pub async fn gather(&self, time: Duration) -> Result<(), Refused> {
        let begun = BootClock.now();
        loop {
            self.no_lease().await?;
            self.no_database().await?;
            self.no_leader().await?;
            if BootClock.now().since(begun) >= time {
                return self.no_lease().await;
            }
            tokio::time::sleep(self.pace).await;
        }
    }

    async fn no_lease(&self) -> Result<(), Refused> {
        match self.marks.lease().await {
            Ok(None) => Ok(()),
            Ok(Some(lease)) => {
                let lease: Value = serde_json::from_str(&lease).unwrap_or_default();
                let holder = lease["instance"].as_str().unwrap_or("somebody").to_owned();
                Err(Refused::SomebodyLeads(holder))
            }
            Err(error) => Err(Refused::NoRedis(error.to_string())),
        }
    }

    async fn no_database(&self) -> Result<(), Refused> {
        match self.ledger.ping().await {
            Ok(()) => Err(Refused::DatabaseAnswers(self.symbol.to_owned())),
            Err(error) if error.is_answer() || !error.is_transient() => {
                Err(Refused::DatabaseRefuses(error.to_string()))
            }
            Err(_) => Ok(()),
        }
    }

    async fn no_leader(&self) -> Result<(), Refused> {
        let registered =
            self.marks.registered().await.map_err(|error| Refused::NoRedis(error.to_string()))?;
        let client = reqwest::Client::new();
        for instance in registered {
            let (member, address) = (instance.member, instance.address);
            let asked = client.get(format!("{address}/leader")).timeout(ASKING).send().await;
            let said: Option<Value> = match asked {
                Ok(answer) => answer.json().await.ok(),
                Err(_) => None,
            };
            match said.as_ref().and_then(|said| said["role"].as_str()) {
                Some("leader") => return Err(Refused::SaysItLeads { member, address }),
                Some(_) => {}
                None if self.stopped.contains(&member) => {}
                None => return Err(Refused::Unknown { member, address }),
            }
        }
        Ok(())
    }
}
