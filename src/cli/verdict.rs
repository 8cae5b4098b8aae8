//! The verdict of `baton status`, from what one instance says of the cluster: pure.

use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use super::output::Colour;

/// What `GET /api/v1/cluster` answers, as far as `status` needs it.
#[derive(Debug, Deserialize)]
pub(super) struct Cluster {
    /// The cluster's name.
    #[serde(default)]
    pub cluster: String,
    /// The highest epoch known.
    pub epoch: Option<i64>,
    /// Redis is away.
    #[serde(default)]
    pub ha_degraded: bool,
    /// The operator's switches; none when the database is away.
    #[serde(default)]
    switches: Option<Vec<Switch>>,
    /// The instance that answers, which knows itself best.
    this: Option<This>,
    pub instances: Vec<Instance>,
}

#[derive(Debug, Deserialize)]
struct Switch {
    switch: String,
    /// The instrument that it is of; none for the cluster's.
    #[serde(default)]
    instrument: Option<String>,
    on: bool,
    who: Option<String>,
    why: Option<String>,
}

#[derive(Debug, Deserialize)]
struct This {
    instance: String,
    operational: Operational,
    recovery: Option<Recovery>,
}

/// A recovery that runs now.
#[derive(Debug, Deserialize)]
struct Recovery {
    /// How far it has come.
    sentence: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Operational {
    /// `ACTIVE`, `WAITING`, `ERROR`, …
    pub state: String,
    pub code: Option<String>,
    #[serde(default)]
    reason: String,
    /// Since when.
    pub entered_at: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Instance {
    /// `member/incarnation`.
    pub instance: String,
    /// `recovering`, `active` or `draining`.
    pub status: String,
    /// `leader`, `candidate`, `follower`, …
    pub role: String,
    pub epoch: Option<i64>,
    #[serde(default)]
    pub address: String,
    /// What it is doing, as the database has it; none when that is not known.
    operational: Option<Operational>,
}

/// The verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Health {
    Healthy,
    Degraded,
    Down,
}

impl Health {
    pub fn exit_code(self) -> ExitCode {
        ExitCode::from(self as u8)
    }

    pub fn colour(self) -> Colour {
        match self {
            Self::Healthy => Colour::Green,
            Self::Degraded => Colour::Yellow,
            Self::Down => Colour::Red,
        }
    }
}

/// Down without a leader that could trade; degraded when nobody could take over, or when something is not as it should
/// be.
pub(super) fn judge(cluster: &Cluster) -> (Health, Vec<String>) {
    let leaders = cluster.instances.iter().filter(|instance| instance.role == "leader").count();
    let standbys =
        cluster.instances.iter().filter(|instance| instance.role != "leader" && instance.status == "active");
    let mut verdict = Health::Healthy;
    let mut reasons = Vec::new();
    let mut note = |health: Health, reason: String| {
        verdict = verdict.max(health);
        reasons.push(reason);
    };
    match leaders {
        0 => note(Health::Down, "no instance leads, so nothing trades".to_owned()),
        1 => {}
        // Registries lag behind a takeover; the fence lets only the highest epoch act.
        _ => note(
            Health::Degraded,
            format!("{leaders} instances say that they lead; only the highest epoch acts"),
        ),
    }
    for leader in cluster.instances.iter().filter(|instance| instance.role == "leader") {
        if let Some((health, reason)) = leading(leader, cluster.doing(leader)) {
            note(health, reason);
        }
    }
    if leaders > 0 && standbys.count() == 0 {
        note(Health::Degraded, "no other instance is ready to take over".to_owned());
    }
    if cluster.ha_degraded {
        note(Health::Degraded, "Redis is away; PostgreSQL alone arbitrates".to_owned());
    }
    for instance in cluster.instances.iter().filter(|instance| instance.status != "active") {
        note(Health::Degraded, format!("{} is {}", instance.instance, instance.status));
    }
    if let Some(This { instance, recovery: Some(recovery), .. }) = &cluster.this {
        note(Health::Degraded, format!("{instance} recovers: {}", recovery.sentence));
    }
    for switch in cluster.switches.iter().flatten().filter(|switch| switch.on) {
        let by = switch.who.as_deref().unwrap_or("nobody known");
        let why = switch.why.as_deref().unwrap_or("no reason is kept");
        let of = switch.instrument.as_ref().map(|instrument| format!(" of {instrument}")).unwrap_or_default();
        note(Health::Degraded, format!("{}{of} is on, by {by}: {why}", switch.switch));
    }
    (verdict, reasons)
}

/// What is wrong with a leader; nothing while it trades.
fn leading(leader: &Instance, doing: Option<&Operational>) -> Option<(Health, String)> {
    let name = &leader.instance;
    let Some(Operational { state, code, reason, .. }) = doing else {
        return Some((Health::Degraded, format!("{name} leads; whether it trades is not known")));
    };
    match state.as_str() {
        "ACTIVE" => None,
        "ERROR" => {
            let code = code.as_deref().unwrap_or("without a code");
            Some((Health::Down, format!("{name} leads in ERROR {code}: {reason}")))
        }
        _ => Some((Health::Degraded, format!("{name} leads, but is {state}: {reason}"))),
    }
}

impl Cluster {
    /// What an instance is doing: by its own word if it is the one that answers, else as the database has it.
    pub fn doing<'a>(&'a self, instance: &'a Instance) -> Option<&'a Operational> {
        let own = self.this.as_ref().filter(|this| this.instance == instance.instance);
        own.map(|this| &this.operational).or(instance.operational.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doing(state: &str, code: Option<&str>) -> Operational {
        let (state, code) = (state.to_owned(), code.map(str::to_owned));
        Operational { state, code, reason: "so".to_owned(), entered_at: None }
    }

    fn cluster(instances: &[(&str, &str)]) -> Cluster {
        let instances = instances.iter().enumerate().map(|(n, (status, role))| Instance {
            instance: format!("b{n}/0190"),
            status: (*status).to_owned(),
            role: (*role).to_owned(),
            epoch: Some(7),
            address: String::new(),
            operational: Some(doing("ACTIVE", None)),
        });
        Cluster {
            cluster: "baton".into(),
            epoch: Some(7),
            ha_degraded: false,
            switches: None,
            this: None,
            instances: instances.collect(),
        }
    }

    #[test]
    fn a_leader_and_a_ready_follower_are_healthy() {
        assert_eq!(
            judge(&cluster(&[("active", "leader"), ("active", "follower")])),
            (Health::Healthy, vec![])
        );
    }

    #[test]
    fn nobody_leading_is_down_whatever_else_holds() {
        let mut cluster = cluster(&[("active", "follower"), ("draining", "follower")]);
        cluster.ha_degraded = true;
        assert_eq!(judge(&cluster).0, Health::Down);
        assert_eq!(judge(&super::tests::cluster(&[])).0, Health::Down);
    }

    #[test]
    fn what_wants_a_look_is_degraded_and_named() {
        let alone = judge(&cluster(&[("active", "leader"), ("recovering", "follower")]));
        assert_eq!(alone.0, Health::Degraded);
        assert_eq!(alone.1, ["no other instance is ready to take over", "b1/0190 is recovering"]);
        let mut no_redis = cluster(&[("active", "leader"), ("active", "follower")]);
        no_redis.ha_degraded = true;
        assert_eq!(judge(&no_redis).0, Health::Degraded);
        assert_eq!(judge(&cluster(&[("active", "leader"), ("active", "leader")])).0, Health::Degraded);
    }

    // R: N4: the answering instance knows itself before the database does.
    #[test]
    fn a_leader_is_as_well_as_it_says_itself() {
        let mut cluster = cluster(&[("active", "leader"), ("active", "follower")]);
        cluster.instances[0].operational = Some(doing("ERROR", Some("DATA_CORRUPT")));
        assert_eq!(
            judge(&cluster),
            (Health::Down, vec!["b0/0190 leads in ERROR DATA_CORRUPT: so".to_owned()])
        );
        let this = |state: &str| {
            Some(This { instance: "b0/0190".into(), operational: doing(state, None), recovery: None })
        };
        cluster.this = this("ACTIVE");
        assert_eq!(judge(&cluster).0, Health::Healthy);
        cluster.this = this("WAITING");
        assert_eq!(judge(&cluster), (Health::Degraded, vec!["b0/0190 leads, but is WAITING: so".to_owned()]));
        cluster.this = this("ACTIVE");
        let sentence = "reading stored state: 3 of 16 reads done".to_owned();
        cluster.this.as_mut().unwrap().recovery = Some(Recovery { sentence });
        let told = "b0/0190 recovers: reading stored state: 3 of 16 reads done".to_owned();
        assert_eq!(judge(&cluster), (Health::Degraded, vec![told]));
    }
}
