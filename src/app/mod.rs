//! One running instance: the HTTP port first, then the stores, then the cluster, then the engine.
//!
//! The process stays up whatever is away: it says what it waits for, answers probes and metrics, and goes on by
//! itself when the fault is gone. It ends for three reasons: asked to, no port, or another live process of the same
//! member.

mod away;
mod boot;
mod ended;
mod feeds;
mod night;
mod notices;
mod observe;
mod parting;
mod reach;
mod recheck;
mod shutdown;
mod standstill;
mod strategies;
mod successor;
mod switches;
mod telling;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ha::BootClock;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::ended::{Ended, asked_to_stop, corrupted, stopped_role, stopping};
use crate::api;
use crate::broker::dns::Resolver;
use crate::broker::{BridgeMode, Broker, OpenAlgo, Settings, SharedBudget};
use crate::cli::output::Output;
use crate::cli::signal::Stop;
use crate::config::{self, Config, Mode};
use crate::emergency::import::Importer;
use crate::emergency::mark::Marks;
use crate::engine::coming::Coming;
use crate::engine::decide::Rules;
use crate::engine::evidence::AbsenceRule;
use crate::engine::recess::Recess;
use crate::engine::refusals::Refusals;
use crate::engine::runner::Outlooks;
use crate::engine::senders::Sending;
use crate::engine::wholeness::Wholeness;
use crate::engine::{Engine, Pace, command};
use crate::health::operational::{OperationalState, store_changes};
use crate::ledger::Ledger;
use crate::ledger::flapping::FlapLimit;
use crate::recovery::CrashRecoveryManager;
use crate::recovery::reconcile::Reconciler;
use crate::strategy::states::StateWatch;
use crate::telemetry::traces::resource;
use crate::telemetry::{Metrics, Traces};

/// Connections that the engine, recovery and the operational state share; they use one or two at a time.
const ENGINE_POOL: usize = 3;
/// How long an EXIT waits for an entry that may fill any moment.
const EXIT_PATIENCE: Duration = Duration::from_secs(2);
/// The longest queue of entries before the rate budget.
const ENTRY_QUEUE_AT_MOST: Duration = Duration::from_millis(500);

/// What a stop waits for the collector of traces.
const LAST_TRACES: Duration = Duration::from_millis(500);

/// Runs one instance until it is told to stop, or, if `exit_on_corrupt`, until stored state proves corrupt.
///
/// # Errors
/// The port cannot be bound, a setting cannot work, another live process is this member, or stored state is corrupt.
pub async fn run(config: Config, output: &Output, exit_on_corrupt: bool) -> anyhow::Result<()> {
    let mut stop = Stop::listen().context("cannot listen for SIGTERM and SIGINT")?;
    let listen = config.http.listen;
    let listener = TcpListener::bind(listen).await.with_context(|| {
        format!("cannot listen on {listen}: set http.listen (BATON_HTTP__LISTEN) to a free address, or stop what uses it")
    })?;
    let address = config.address(listener.local_addr().context("the listener has no address")?);
    let config = Arc::new(config);
    let metrics = Arc::new(Metrics::new());
    metrics.config_info.with_label_values(&[&config.fingerprint()]).set(1);
    let traces = Traces::start(&config.traces, resource(&config.cluster), Arc::clone(&metrics));
    let (operational, changes) = OperationalState::new(Arc::clone(&metrics));
    let application = format!("baton/{}", config.cluster.member);
    let pool =
        |size| Ledger::open(config.postgres.session.clone(), config.postgres.tls.clone(), size, &application);
    let ledger = pool(ENGINE_POOL)?;
    // Connections of its own: a flood of requests must not keep the engine from recording what became of an order.
    let requests = pool(config.postgres.pool_size)?;
    let resolver = feeds::resolver(&config, &metrics);
    let broker: Arc<dyn Broker> = Arc::new(OpenAlgo::new(broker_settings(&config, &resolver))?);
    let stopped = CancellationToken::new();
    let feeds = feeds::start(&config, &broker, &requests, resolver, &metrics, &stopped)?;
    let telling = telling::Telling::start(
        &config,
        &application,
        Arc::clone(&broker),
        &feeds,
        operational.watch(),
        Arc::clone(&metrics),
    )?;
    let (arrivals, coming) = (Arc::new(Notify::new()), Coming::default());
    let kinds = config.strategies.iter().map(|(name, strategy)| (name.clone(), strategy.kind()));
    let (strategies, outlooks) = (StateWatch::of(kinds.collect()), Outlooks::default());
    let (draining, is_draining) = watch::channel(None);
    let (desk, commands) = command::desk();
    let (stop_asked, mut asked) = mpsc::channel(1);
    let switch_ledger = requests.clone();
    let context = api::Context::new(api::Wiring {
        config: Arc::clone(&config),
        ledger: requests,
        metrics: Arc::clone(&metrics),
        traces: traces.clone(),
        operational: operational.watch(),
        arrivals: Arc::clone(&arrivals),
        coming: coming.clone(),
        draining: is_draining,
        desk: desk.clone(),
        stop: stop_asked,
        rounds: telling.rounds.clone(),
        strategies: strategies.clone(),
        outlooks: outlooks.clone(),
        notifier: telling.notifier.from("webhook"),
    });
    context.fed(feeds.clone());
    let server = tokio::spawn(api::serve(listener, context.clone(), stopped.clone().cancelled_owned()));
    announce(output, &address, &config);
    for warning in config.warnings() {
        tracing::warn!("[STATE] {warning}");
    }

    let start = Uuid::now_v7();
    let handle = tokio::select! {
        handle = boot::join(&config, &address, &ledger, &operational, &metrics, start) => Arc::new(handle?),
        asked = asked_to_stop(&mut stop, &mut asked) => {
            tracing::info!("[SHUTDOWN] {} before the start was done", asked.why);
            draining.send_replace(Some(stopping(asked, &config)));
            telling.end(start, config.shutdown.notify).await;
            return Ok(());
        }
    };
    let recess = Recess::default();
    context.joined(Arc::clone(&handle), recess.clone());
    let stores = tokio::spawn(store_changes(
        ledger.clone(),
        handle.instance().clone(),
        changes,
        telling.rounds.watch(),
    ));
    let recovery = CrashRecoveryManager::new(
        ledger.clone(),
        Arc::new(config.instruments.clone()),
        config.trading.capital,
        config.recovery.attempts,
        config.recovery.backoff,
        Arc::clone(&metrics),
    );
    context.recovers(recovery.clone());
    let reconciler = Arc::new(Reconciler::new(
        ledger.clone(),
        Arc::clone(&broker),
        Arc::clone(&metrics),
        config.recovery.drift_settle,
    ));
    context.reconciles(Arc::clone(&reconciler));
    let marks = Arc::new(Marks::glancing(&config.redis.access(), &config.cluster.name)?);
    let importer = Importer {
        path: config.emergency.journal.clone(),
        ledger: ledger.clone(),
        broker: Arc::clone(&broker),
        reconciler: Arc::clone(&reconciler),
        marks: Arc::clone(&marks),
        catalog: Arc::new(config.instruments.clone()),
        capital: config.trading.capital,
        absent_after: config.broker.order_timeout + config.broker.user_timeout + config.broker.settle,
    };
    let importing = tokio::spawn(importer.run());
    let drain = CancellationToken::new();
    let wholeness = Wholeness::default();
    let engine = Engine {
        ledger: ledger.clone(),
        broker: Arc::clone(&broker),
        rules: Arc::new(rules(&config)),
        pace: pace(&config),
        recovery: recovery.clone(),
        reconciler: Arc::clone(&reconciler),
        pulse: handle.pulse(),
        prices: feeds.prices.clone(),
        news: feeds.news.clone(),
        session: feeds.session.clone(),
        hours: feeds.hours.clone(),
        contracts: feeds.contracts.clone(),
        commands,
        arrivals,
        coming,
        operational: operational.clone(),
        notifier: telling.notifier.from("engine"),
        metrics: Arc::clone(&metrics),
        traces: traces.clone(),
        sending: Sending::default(),
        refusals: Refusals::default(),
        recess: recess.clone(),
        wholeness: wholeness.clone(),
        marks,
        strategies: strategies.clone(),
    };
    let trading = {
        let (role, drain, engine) = (handle.role(), drain.clone(), engine.clone());
        tokio::spawn(async move { engine.run(role, drain).await })
    };
    standstill::watch(handle.pulse(), stopped.clone(), config.timing.lease_ttl)
        .context("cannot start a thread; check the limits of this process")?;
    let running = tokio::spawn(strategies::runner(&config, engine.clone(), outlooks).run(handle.role()));
    let reaching = tokio::spawn(reach::watch(
        Arc::clone(&handle),
        broker,
        recess,
        telling.rounds.clone(),
        Arc::new(BootClock),
        config.timing.lease_ttl,
    ));
    let comparing = tokio::spawn(reconciler.run(handle.role(), config.recovery.reconcile, drain.clone()));
    let recheck = recheck::Recheck {
        ledger: ledger.clone(),
        recovery: recovery.clone(),
        operational: operational.clone(),
        wholeness,
        metrics: Arc::clone(&metrics),
        notifier: telling.notifier.from("recheck"),
        every: config.recovery.reconcile,
    };
    let rechecking = tokio::spawn(recheck.run(handle.role()));
    let instruments = config.instruments.iter().map(|instrument| instrument.name.clone()).collect();
    let switching =
        tokio::spawn(switches::watch(switch_ledger, strategies, instruments, Arc::clone(&metrics)));
    let observing = tokio::spawn(observe::observe(Arc::clone(&handle), Arc::clone(&metrics)));
    telling.joined(&config, &handle);
    telling.listen(&config, &handle, desk, operational.watch(), Arc::clone(&metrics))?;
    tokio::spawn(feeds::tell(feeds.clone(), telling.notifier.clone(), stopped.clone()));
    let readiness = tokio::spawn(boot::stay_recovered(
        Arc::clone(&handle),
        ledger.clone(),
        recovery,
        operational.clone(),
        config.recovery.reconcile,
        drain.clone(),
    ));

    let mut role = handle.role();
    let ended = tokio::select! {
        asked = asked_to_stop(&mut stop, &mut asked) => Ended::Asked(asked),
        why = stopped_role(&mut role) => Ended::Refused(why),
        why = corrupted(operational.watch()), if exit_on_corrupt => Ended::Corrupt(why),
    };
    let (asked, corrupt) = match ended {
        Ended::Refused(why) => {
            telling.end(start, config.shutdown.notify).await;
            anyhow::bail!("{why}");
        }
        Ended::Asked(asked) => (asked, None),
        // Whatever the policy says: nothing is closed by figures that do not add up.
        Ended::Corrupt(why) => {
            let exit_policy = Some(config::ExitPolicy::Hold);
            (api::Asked { why: "corrupt state".to_owned(), exit_policy }, Some(why))
        }
    };
    let begun = Instant::now();
    let stopping = stopping(asked, &config);
    draining.send_replace(Some(stopping.clone()));
    let plan = config::Shutdown { exit_policy: stopping.exit_policy, ..config.shutdown };
    let leaving = shutdown::Leaving {
        handle: &handle,
        engine: &engine,
        trading,
        drain: &drain,
        plan,
        lease_ttl: config.timing.lease_ttl,
        begun,
    };
    let parting = shutdown::shutdown(&stopping.why, leaving, &operational, &mut stop).await;
    telling.stopped(&config, &stopping.why, &parting);
    let last_state = async {
        drop(engine);
        for task in [running, importing, reaching, readiness, observing, switching, comparing, rechecking] {
            task.abort();
            // Aborted: what it held is let go of, the operational state above all.
            let _ = task.await;
        }
        drop(operational);
        stopped.cancel();
        shutdown::within("save", plan.save, "the last state is stored", stores).await;
        shutdown::within("disconnect", plan.disconnect, "open requests are answered", server).await;
    };
    // The budget is what all of it may take: words, state and traces are seen to side by side.
    let last = async {
        tokio::join!(
            telling.end(start, config.shutdown.notify),
            last_state,
            traces.end(plan.disconnect.min(LAST_TRACES))
        )
    };
    tokio::select! {
        _ = last => {}
        never = shutdown::beating(&handle) => match never {},
        () = tokio::time::sleep_until(begun + plan.budget) => {
            tracing::warn!("[SHUTDOWN] the budget of {} ms is used up", plan.budget.as_millis());
        }
    }
    match corrupt {
        Some(why) => anyhow::bail!("{why}"),
        None => Ok(()),
    }
}

/// Says on stdout where it listens. That nobody can read stdout is no reason not to trade: then the log says so.
fn announce(output: &Output, address: &str, config: &Config) {
    let mode = config.broker.mode.as_str();
    let sentence = format!("baton {} ({mode}) listens on {address}", config.cluster.member);
    let announced = if output.is_json() {
        output.json(&json!({
            "event": "listening",
            "address": address,
            "member": config.cluster.member,
            "pid": std::process::id(),
        }))
    } else {
        output.line(&sentence)
    };
    if let Err(error) = announced {
        tracing::warn!("{sentence}; stdout cannot be written to: {error}");
    }
}

/// The bridge, for a verb that speaks to it itself.
///
/// # Errors
/// A setting cannot work.
pub(crate) fn bridge(config: &Config, metrics: &Arc<Metrics>) -> anyhow::Result<Arc<dyn Broker>> {
    Ok(Arc::new(OpenAlgo::new(broker_settings(config, &feeds::resolver(config, metrics)))?))
}

fn broker_settings(config: &Config, resolver: &Resolver) -> Settings {
    let broker = &config.broker;
    let mut settings = Settings::new(broker.url.clone(), broker.api_key.clone());
    settings.ca_file.clone_from(&broker.ca_file);
    settings.mode = armed(config);
    settings.plugin = broker.plugin;
    settings.resolver = resolver.clone();
    settings.order_timeout = broker.order_timeout;
    settings.user_timeout = broker.user_timeout;
    settings.read_timeout = broker.read_timeout;
    settings.warm_connections = broker.warm_connections;
    settings.orders_per_second = std::num::NonZeroU32::new(broker.orders_per_second);
    settings.exit_reserve_per_second = exit_reserve(broker);
    settings.shared_budget =
        Some(SharedBudget { redis: config.redis.access(), cluster: config.cluster.name.clone() });
    if let Some(idle_close) = broker.idle_close {
        settings.idle_limit = settings.idle_limit.min(idle_close / 2);
    }
    settings
}

/// The mode that the configuration arms.
pub(crate) fn armed(config: &Config) -> BridgeMode {
    match config.broker.mode {
        Mode::Paper => BridgeMode::Analyze,
        Mode::Live => BridgeMode::Live,
    }
}

/// Orders a second that entries may never use: a third.
fn exit_reserve(broker: &config::Broker) -> u32 {
    (broker.orders_per_second / 3).clamp(1, broker.orders_per_second.max(2) - 1)
}

/// The longest that a journaled entry may wait for the rate budget: at most a third of a leader's time between two
/// heartbeats and its deadline. An entry that waits past the deadline is not sent, and decided anew.
fn entry_queue(timing: &config::Timing) -> Duration {
    (timing.lease_ttl.saturating_sub(timing.margin) / 3).min(ENTRY_QUEUE_AT_MOST)
}

/// What the rate budget lets through in the time of the queue.
fn entries_in_flight(config: &Config) -> usize {
    let per_second = config.broker.orders_per_second.saturating_sub(exit_reserve(&config.broker));
    let queue = entry_queue(&config.timing).as_secs_f64();
    ((f64::from(per_second) * queue) as usize).max(1)
}

fn rules(config: &Config) -> Rules {
    Rules {
        policy: config.trading.policy.clone(),
        catalog: config.instruments.clone(),
        charges: config.charges.clone(),
        allow_after_market: config.trading.allow_after_market,
        simulated: config.broker.mode == Mode::Paper,
        send_window_ms: i32::try_from(config.broker.order_timeout.as_millis()).unwrap_or(i32::MAX),
    }
}

fn pace(config: &Config) -> Pace {
    Pace {
        send_window: config.broker.order_timeout,
        reading: config.broker.read_timeout,
        absence: AbsenceRule {
            user_timeout: config.broker.user_timeout,
            settle: config.broker.settle,
            idle_close_known: config.broker.idle_close.is_some(),
        },
        poll: config.broker.poll,
        exit_patience: EXIT_PATIENCE,
        entry_queue: entry_queue(&config.timing),
        entries_in_flight: entries_in_flight(config),
        armed: armed(config),
        flapping: config.cluster.flapping.map(|limit| FlapLimit { most: limit.most, within: limit.within }),
    }
}
