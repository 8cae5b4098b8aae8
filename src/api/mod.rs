//! The HTTP interface: signals in, state out. Bound before anything else; answers from the first moment.
//!
//! Every instance serves every route. What needs a store that is away answers 503 with a problem document; nothing
//! is null, nothing hangs.

mod admission;
mod books;
mod cash;
mod closing;
mod cluster;
mod connection;
mod credentials;
mod day;
mod debug;
mod drift;
mod dry_run;
mod errors;
mod events;
#[cfg(test)]
mod fixtures;
mod forward;
mod health;
mod leadership;
mod monitoring;
mod openapi;
mod operator;
mod priced;
mod probes;
mod problem;
mod query;
mod reconcile;
mod runbook;
mod signals;
mod stop;
mod strategies;
mod switches;
mod views;
mod webhook;

use std::future::Future;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use ha::Handle;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use crate::config::Config;
use crate::engine::coming::Coming;
use crate::engine::command::Desk;
use crate::engine::recess::Recess;
use crate::engine::runner::Outlooks;
use crate::feed::Feeds;
use crate::health::operational::Operational;
use crate::health::rounds::Rounds;
use crate::ledger::Ledger;
use crate::notify::Notifier;
use crate::recovery::reconcile::Reconciler;
use crate::recovery::{CrashRecoveryManager, Progress};
use crate::strategy::states::StateWatch;
use crate::telemetry::{Metrics, Traces};
use admission::Admission;
pub use forward::Served;
pub use operator::Operator;
pub use problem::Problem;
pub use stop::{Asked, Stop, Stopping};
use switches::{bad, read, reason};

/// No request takes longer than this; a sender then repeats it, which is safe.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// No body is larger than this, whatever the signal policy says.
const BODY_BYTES: usize = 1024 * 1024;

/// What the routes are given at the start of the process.
pub struct Wiring {
    /// The configuration.
    pub config: Arc<Config>,
    /// Connections for requests.
    pub ledger: Ledger,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The steps of each signal.
    pub traces: Traces,
    /// What this instance is doing.
    pub operational: watch::Receiver<Operational>,
    /// Wakes the leader for a new signal.
    pub arrivals: Arc<Notify>,
    /// Where signals are announced that are about to be stored.
    pub coming: Coming,
    /// The stop that has begun.
    pub draining: watch::Receiver<Option<Stopping>>,
    /// Where the engine takes commands from.
    pub desk: Desk,
    /// Where a stop is asked for.
    pub stop: Stop,
    /// What the instance depends on, as last looked at.
    pub rounds: Rounds,
    /// Which strategies may enter.
    pub strategies: StateWatch,
    /// How strategies see the market, where they run.
    pub outlooks: Outlooks,
    /// Where the operator is told of senders that were turned away.
    pub notifier: Notifier,
}

/// What the routes work with.
#[derive(Clone)]
pub struct Context(Arc<Inner>);

struct Inner {
    wiring: Wiring,
    handle: OnceLock<Arc<Handle>>,
    reconciler: OnceLock<Arc<Reconciler>>,
    recovery: OnceLock<CrashRecoveryManager>,
    recess: OnceLock<Recess>,
    feeds: OnceLock<Feeds>,
    /// Speaks to the leader for an operator.
    peers: reqwest::Client,
    admission: Admission,
    begun: Instant,
}

impl Deref for Inner {
    type Target = Wiring;

    fn deref(&self) -> &Wiring {
        &self.wiring
    }
}

impl Context {
    /// A context whose cluster membership is not there yet.
    pub fn new(wiring: Wiring) -> Self {
        let (handle, recess, peers) = (OnceLock::new(), OnceLock::new(), reqwest::Client::new());
        let (reconciler, recovery, feeds) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        let (admission, begun) = (Admission::new(&wiring.config.signals), Instant::now());
        Self(Arc::new(Inner { wiring, handle, reconciler, recovery, recess, feeds, peers, admission, begun }))
    }

    /// The schema is there and the instance has joined its cluster: signals are taken from now on.
    pub fn joined(&self, handle: Arc<Handle>, recess: Recess) {
        // Joined once per process; a second call changes nothing. Whoever finds the handle finds the recess.
        let _ = self.0.recess.set(recess);
        let _ = self.0.handle.set(handle);
    }

    /// Positions can be compared with the broker's from now on.
    pub fn reconciles(&self, reconciler: Arc<Reconciler>) {
        // Once per process, as above.
        let _ = self.0.reconciler.set(reconciler);
    }

    /// How far this instance's recoveries come can be told from now on.
    pub fn recovers(&self, recovery: CrashRecoveryManager) {
        // Once per process, as above.
        let _ = self.0.recovery.set(recovery);
    }

    /// What is known of the world outside is there to be shown from now on.
    pub fn fed(&self, feeds: Feeds) {
        // Once per process; a second call changes nothing.
        let _ = self.0.feeds.set(feeds);
    }

    fn feeds(&self) -> Result<&Feeds, Problem> {
        self.0.feeds.get().ok_or_else(|| Problem::initializing("the feed is being set up"))
    }

    fn handle(&self) -> Result<&Arc<Handle>, Problem> {
        self.0.handle.get().ok_or_else(|| {
            let state = self.0.operational.borrow().clone();
            Problem::initializing(&state.reason)
        })
    }

    fn operational(&self) -> Operational {
        self.0.operational.borrow().clone()
    }

    /// How far the recovery has come that runs now, if one does.
    fn recovery(&self) -> Option<Progress> {
        self.0.recovery.get()?.progress()
    }
}

/// Serves until `stopped` ends, then finishes the requests in hand.
///
/// # Errors
/// The listener failed.
pub async fn serve(
    listener: TcpListener,
    context: Context,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let service = router(context).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(stopped).await
}

/// The routes, and which they are.
#[derive(Default)]
struct Routes {
    router: Router<Context>,
    #[cfg(test)]
    paths: Vec<&'static str>,
}

impl Routes {
    fn route(mut self, path: &'static str, methods: MethodRouter<Context>) -> Self {
        #[cfg(test)]
        self.paths.push(path);
        self.router = self.router.route(path, methods);
        self
    }
}

/// Every route; each has its place in `openapi.json`, too.
fn routes() -> Routes {
    Routes::default()
        .route("/", get(probes::healthz))
        .route("/webhook", post(webhook::receive))
        .route("/api/v1/signals/dry-run", post(dry_run::dry_run))
        .route("/api/v1/signals/list", get(books::signals))
        .route("/api/v1/signals/{id}", get(views::signal))
        .route("/api/v1/signals/{id}/drop", post(signals::drop))
        .route("/api/v1/signals/{id}/replay", post(signals::replay))
        .route("/api/v1/signals", get(views::signal_counts))
        .route("/api/v1/orders", get(books::orders))
        .route("/api/v1/trades", get(books::trades))
        .route("/api/v1/equity", get(books::equity))
        .route("/api/v1/positions", get(views::positions))
        .route("/api/v1/positions/diff", get(drift::positions_diff))
        .route("/api/v1/reconcile", post(reconcile::reconcile))
        .route("/api/v1/positions/close", post(closing::close))
        .route("/api/v1/positions/flatten", post(closing::flatten))
        .route("/api/v1/monitoring/emergency-close-position", post(closing::emergency))
        .route("/api/v1/cash", get(cash::list).post(cash::move_cash))
        .route("/api/v1/switches", get(switches::switches).post(switches::set_switch))
        .route("/api/v1/switches/{instrument}", post(switches::set_instrument_switch))
        .route("/api/v1/strategies", get(strategies::list))
        .route("/api/v1/strategies/{name}", post(strategies::say))
        .route("/api/strategies", get(strategies::list))
        .route("/api/status", get(health::status))
        .route("/api/balance", get(books::balance))
        .route("/api/debug", get(debug::debug))
        .route("/api/positions", get(views::positions))
        .route("/api/history", get(books::trades))
        .route("/api/shutdown", post(stop::shutdown))
        .route("/api/v1/cluster", get(cluster::cluster))
        .route("/api/v1/monitoring/health", get(health::health))
        .route("/api/v1/monitoring/status", get(health::status))
        .route("/api/v1/monitoring/connection-health", get(connection::connection_health))
        .route("/api/v1/day", get(day::day))
        .route("/api/v1/cluster/history", get(leadership::history))
        .route("/api/v1/cluster/handover", post(leadership::hand_over))
        .route("/api/v1/cluster/fence", post(leadership::fence))
        .route("/api/v1/cluster/unfence", post(leadership::unfence))
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/errors", get(errors::list))
        .route("/api/v1/errors/summary", get(errors::summary))
        .route("/api/v1/errors/{id}/acknowledge", post(errors::acknowledge))
        .route("/api/v1/errors/{id}/resolve", post(errors::resolve))
        .route("/api/v1/monitoring/checks", get(monitoring::checks))
        .route("/api/v1/monitoring/check", post(monitoring::check))
        .route("/api/v1/monitoring/states", get(monitoring::states))
        .route("/api/v1/restart-storm/acknowledge", post(monitoring::acknowledge_storm))
        .route("/healthz", get(probes::healthz))
        .route("/livez", get(probes::livez))
        .route("/readyz", get(probes::readyz))
        .route("/startupz", get(probes::startupz))
        .route("/leader", get(cluster::leader))
        .route("/metrics", get(probes::metrics))
        .route("/runbook", get(runbook::whole))
        .route("/runbook/{section}", get(runbook::section))
        .route("/api/v1/openapi.json", get(openapi::document))
}

fn router(context: Context) -> Router {
    let router = routes().router;
    router
        .fallback(not_found)
        .layer(middleware::from_fn_with_state(context.clone(), measure))
        .layer(RequestBodyLimitLayer::new(BODY_BYTES))
        .layer(TimeoutLayer::with_status_code(http::StatusCode::SERVICE_UNAVAILABLE, REQUEST_TIME))
        .layer(CatchPanicLayer::new())
        .with_state(context)
}

async fn not_found() -> Response {
    Problem::not_found("there is no such route; GET /api/v1/openapi.json lists them").into_response()
}

async fn measure(State(context): State<Context>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let begun = Instant::now();
    let response = next.run(request).await;
    if let Some(route) = route {
        let metrics = &context.0.metrics;
        metrics.http_requests.with_label_values(&[&route, response.status().as_str()]).inc();
        metrics.http_request_duration.with_label_values(&[&route]).observe(begun.elapsed().as_secs_f64());
    }
    response
}
