//! Standing for election: lease, pin, epoch, in this order; whoever fails a step gives back the earlier ones.

use std::sync::Arc;
use std::time::Duration;

use super::lead::Seat;
use super::{Agent, Next, keeper};
use crate::config::Timing;
use crate::election::Ballot;
use crate::fence::Fence;
use crate::ids::Epoch;
use crate::lease::{Attempt, Renewal};
use crate::observer::ObserverError;
use crate::office::Promotion;
use crate::pin::{self, PinError};
use crate::role::Role;
use crate::session::Session;
use crate::tenure::{Silence, Tenure};

/// Why an election was not won.
#[derive(Debug, thiserror::Error)]
enum Defeat {
    #[error("the lease belongs to {0}")]
    Lease(String),
    #[error("without Redis nobody leads for the first time before the pin was free for 2 T: {0}")]
    TooEarly(String),
    #[error("the stale leader gave a sign of life, or its session had ended already")]
    Alive,
    #[error(transparent)]
    Observer(#[from] ObserverError),
    #[error(transparent)]
    Pin(#[from] PinError),
    #[error(
        "another instance announced epoch {0} before PostgreSQL lost its promotion: a higher one is needed"
    )]
    Twin(Epoch),
    #[error("the promotion took too long: its deadline has passed already")]
    Late,
}

impl Agent {
    pub(super) async fn stand(&mut self, ballot: Ballot) -> Next {
        self.role.send_replace(Role::Candidate);
        match self.candidacy(&ballot).await {
            Ok(seat) => Next::Lead(Box::new(seat)),
            Err(defeat) => {
                self.watcher.defeated(self.clock.now());
                self.warm.refill();
                match defeat {
                    Defeat::Lease(_) | Defeat::TooEarly(_) | Defeat::Alive => {
                        tracing::debug!(member = %self.me.member, "[HA] not elected: {defeat}");
                    }
                    _ => self.say_once(&format!("not elected ({}): {defeat}", ballot.reason)),
                }
                Next::Follow
            }
        }
    }

    async fn candidacy(&mut self, ballot: &Ballot) -> Result<Seat, Defeat> {
        let leased = match self.lease.win(&self.me, ballot.epoch, ballot.patience).await {
            Ok(Attempt::Won { highest }) => {
                self.watcher.saw(highest);
                true
            }
            Ok(Attempt::Refused { by }) => return Err(Defeat::Lease(by)),
            Err(error) => {
                let now = self.clock.now();
                if !ballot.may_do_without_lease(now) {
                    return Err(Defeat::TooEarly(error.to_string()));
                }
                false
            }
        };
        let elected = self.take_office(ballot, leased).await;
        if leased
            && elected.is_err()
            && let Err(error) = self.lease.give_back(&self.me).await
        {
            tracing::debug!("[HA] the lease was not given back, it expires within a second: {error}");
        }
        elected
    }

    async fn take_office(&mut self, ballot: &Ballot, leased: bool) -> Result<Seat, Defeat> {
        let timing = self.config.timing;
        if let Some(stale) = ballot.evict {
            let ended =
                self.observer.evict(stale, ballot.epoch, ballot.counter, timing.lock_timeout()).await?;
            if !ended {
                return Err(Defeat::Alive);
            }
        }
        let session = self.warm.session(self.connect_patience()).await?;
        pin::take(&session, Timing::PIN_PATIENCE).await?;
        let started = self.clock.now();
        let gap = ballot.last_sign.map(|sign| started.since(sign));
        let promoting = pin::promote(
            &session,
            &self.config,
            &self.me,
            ballot,
            self.watcher.highest(),
            gap,
            timing.validity(),
        );
        let promotion = self.against_blockers(session.backend.pid, promoting).await?;
        self.watcher.saw(promotion.epoch);
        // Without Redis the keeper does this when Redis is back; one that hangs must not delay the takeover.
        if leased
            && let Ok(Renewal::Outbid { highest }) =
                self.lease.announce(&self.me, promotion.epoch, timing.ttl).await
        {
            self.watcher.saw(highest);
            return Err(match highest == promotion.epoch {
                true => Defeat::Twin(highest),
                false => PinError::Outbid { mine: promotion.epoch, highest }.into(),
            });
        }
        // The promotion's commit moved the counter: it is the first confirmed heartbeat.
        let now = self.clock.now();
        let deadline = Tenure::deadline_from(&timing, started);
        if now >= deadline {
            return Err(Defeat::Late);
        }
        self.tell_promotion(ballot, &promotion);
        let tenure = Tenure::new(timing, now, deadline, Silence::new(now, self.pulse.read()));
        Ok(self.seat(Arc::new(session), promotion.epoch, tenure))
    }

    /// Makes the fence and starts keeping the lease.
    pub(super) fn seat(&self, session: Arc<Session>, epoch: Epoch, tenure: Tenure) -> Seat {
        let fence = Fence::new(epoch, self.me.clone(), session, self.clock.clone(), tenure.deadline());
        let keeper = keeper::start(
            self.lease.clone(),
            fence.clone(),
            self.pulse.clone(),
            self.clock.clone(),
            self.config.timing,
        );
        Seat { fence, tenure, handover: None, keeper }
    }

    fn tell_promotion(&self, ballot: &Ballot, promotion: &Promotion) {
        let gap: Option<Duration> = ballot.last_sign.map(|sign| self.clock.now().since(sign));
        self.stats.send_modify(|stats| {
            *stats.transitions.entry(ballot.reason).or_default() += 1;
            stats.last_failover_gap = gap;
            // Whoever is woken by the transition tells which epoch it was.
            stats.epoch = promotion.epoch;
        });
        let after = match (&ballot.previous, gap) {
            (Some(previous), Some(gap)) => {
                format!(" after {previous}, {} ms without a leader", gap.as_millis())
            }
            (Some(previous), None) => format!(" after {previous}"),
            (None, _) => String::new(),
        };
        let reduced = if promotion.failed_over {
            "; PostgreSQL failed over, so reduce-only is set: what was committed last may be missing"
        } else {
            ""
        };
        self.say(&format!("leads under epoch {} ({}){after}{reduced}", promotion.epoch, ballot.reason));
    }
}
