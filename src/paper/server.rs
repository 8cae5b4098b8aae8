//! Starting and stopping a paper bridge.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::DropGuard;

use super::hub::Hub;
use super::options::Options;
use super::witness::Witness;
use super::{control, http, serve, ticks, ws};

/// Idle time of control connections: tests may keep theirs for long.
const CONTROL_IDLE: Duration = Duration::from_secs(300);

/// Why a paper bridge did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listener could not be bound.
    #[error(
        "cannot listen on {address} for the paper bridge's {what}: choose a free port, or port 0 for any"
    )]
    Bind {
        /// Which listener.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The log file could not be opened.
    #[error("cannot append to the paper bridge's log {}: check the folder and its permissions", path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An option makes no sense.
    #[error("paper bridge option {option}: {problem}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What to change.
        problem: String,
    },
}

/// A running paper bridge. Dropping it stops it too, without waiting.
#[derive(Debug)]
pub struct Paper {
    hub: Arc<Hub>,
    http: SocketAddr,
    ws: SocketAddr,
    control: SocketAddr,
    _stop: DropGuard,
}

impl Paper {
    /// Binds the three listeners and starts the market. When it returns, all of them accept.
    pub async fn start(options: Options) -> Result<Self, Error> {
        check(&options)?;
        let witness = Witness::open(options.log.as_deref(), options.max_orders.saturating_mul(2))
            .map_err(|source| Error::Log { path: options.log.clone().unwrap_or_default(), source })?;
        let (http_listener, http) = bind("REST API", options.http).await?;
        let (ws_listener, ws) = bind("WebSocket proxy", options.ws).await?;
        let (control_listener, control) = bind("control port", options.control).await?;
        let idle = options.keep_alive_idle;
        let hub = Arc::new(Hub::new(options, witness));
        hub.tasks.spawn(Arc::clone(&hub).run_clock());
        if !hub.options.ticks.is_empty() {
            let (ticks, speed) = (hub.options.ticks.clone(), hub.options.tick_speed);
            hub.tasks.spawn(ticks::play(Arc::clone(&hub), ticks, speed));
        }
        let rest = http::router(Arc::clone(&hub));
        hub.tasks.spawn(serve::serve(Arc::clone(&hub), http_listener, rest, idle));
        let routes = control::router(Arc::clone(&hub));
        hub.tasks.spawn(serve::serve(Arc::clone(&hub), control_listener, routes, CONTROL_IDLE));
        hub.tasks.spawn(ws::serve(Arc::clone(&hub), ws_listener));
        tracing::info!(%http, %ws, %control, mode = %hub.options.mode, "paper bridge listens");
        Ok(Self { _stop: hub.cancel.clone().drop_guard(), hub, http, ws, control })
    }

    /// Base of the REST API, without `/api/v1`.
    pub fn http_url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// URL of the WebSocket proxy.
    pub fn ws_url(&self) -> String {
        format!("ws://{}", self.ws)
    }

    /// Base of the control routes, without `/_ctl`.
    pub fn control_url(&self) -> String {
        format!("http://{}", self.control)
    }

    /// Closes all listeners and connections and waits until every task has ended.
    pub async fn stop(self) {
        self.hub.cancel.cancel();
        self.hub.tasks.close();
        self.hub.tasks.wait().await;
    }
}

async fn bind(what: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Bind { what, address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

fn check(options: &Options) -> Result<(), Error> {
    let fault = |option, problem: String| Err(Error::Option { option, problem });
    if options.tick_interval < Duration::from_millis(1) {
        return fault("tick_interval", "must be at least 1 ms".to_owned());
    }
    if options.symbols.is_empty() {
        return fault("symbols", "list at least one contract".to_owned());
    }
    for spec in &options.symbols {
        if spec.lot_size.0 < 1 || spec.tick_size.0 <= rust_decimal::Decimal::ZERO || spec.ltp < spec.tick_size
        {
            return fault("symbols", format!("{}: lot size, tick size and price must be positive", spec.key));
        }
    }
    if let Some(tick) =
        options.ticks.iter().find(|tick| options.symbols.iter().all(|spec| spec.key != tick.key))
    {
        return fault("ticks", format!("{} is not among the symbols", tick.key));
    }
    Ok(())
}
