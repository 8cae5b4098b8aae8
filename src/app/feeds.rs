//! What is known of the world outside: prices, news of orders, the broker session. Wired here, watched by others.

use std::sync::Arc;

use anyhow::Context as _;
use chrono::Utc;
use ha::BootClock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::broker::dns::{DnsSettings, Resolver};
use crate::broker::session::{Session, SessionState, SessionWatch};
use crate::config::Config;
use crate::feed::poll::{Poll, PollPace};
use crate::feed::{Ages, Endpoint, Feeds, Hours, Live, LiveStatus, OrderNews, PriceBoard};
use crate::telemetry::metrics::Metrics;

/// The resolver that every connection to the bridge shares.
pub(super) fn resolver(config: &Config, metrics: &Metrics) -> Resolver {
    let settings = DnsSettings {
        servers: config.dns.servers.clone(),
        timeout: config.dns.timeout,
        negative_ttl: config.dns.negative_ttl,
        ..DnsSettings::default()
    };
    Resolver::new(settings, Some(metrics.dns_lookups.clone()))
}

/// Starts it all; it ends with `stop`.
///
/// # Errors
/// `feed.url` cannot be one.
pub(super) fn start(
    config: &Config,
    broker: &Arc<dyn Broker>,
    resolver: Resolver,
    metrics: &Arc<Metrics>,
    stop: &CancellationToken,
) -> anyhow::Result<Feeds> {
    let feed = &config.feed;
    let prices = PriceBoard::with_ages(Ages { stale: feed.stale, dead: feed.dead });
    let news = OrderNews::default();
    let clock = Arc::new(BootClock);

    let watch = SessionWatch::new(Arc::clone(broker), Arc::clone(metrics));
    let (session, doubt) = (watch.session(), watch.doubt());

    let pace = PollPace::new(feed.live_max_age, config.broker.read_timeout, config.broker.reads_per_second);
    let poll = Poll::new(prices.clone(), Arc::clone(broker), clock.clone(), Arc::clone(metrics), pace);
    let poll = poll.doubting(doubt);
    let rung = poll.rung();

    let hours = Hours::default();
    let (keeper, board) = (hours.clone(), prices.clone());
    tokio::spawn(keeper.keep(Arc::clone(broker), board, Arc::clone(metrics), stop.clone()));

    let live = match &feed.url {
        Some(url) => {
            let endpoint = Endpoint::new(url, config.broker.api_key.clone(), resolver.clone());
            let endpoint = endpoint.context("the live feed cannot start")?;
            let live =
                Live::new(endpoint, prices.clone(), news.clone(), clock, Arc::clone(metrics), feed.stale);
            let (known, board) = (hours.clone(), prices.clone());
            let live = live.with_hours(Arc::new(move || known.any_open(&board, Utc::now())));
            let status = live.status();
            tokio::spawn(renew(session.clone(), live.kick(), stop.clone()));
            tokio::spawn(live.run(stop.clone()));
            status
        }
        // Its sender is gone, the value stays.
        None => watch::Sender::new(LiveStatus::default()).subscribe(),
    };
    tokio::spawn(watch.run(stop.clone()));
    tokio::spawn(poll.run(stop.clone()));
    Ok(Feeds { prices, news, live, rung, session, hours, resolver })
}

/// A renewed session is heard only by a socket that authenticates after it.
async fn renew(
    mut session: watch::Receiver<Session>,
    kick: Arc<tokio::sync::Notify>,
    stop: CancellationToken,
) {
    let mut before = session.borrow_and_update().state;
    while let Some(Ok(())) = stop.run_until_cancelled(session.changed()).await {
        let now = session.borrow_and_update().state;
        if before == SessionState::Expired && now == SessionState::Valid {
            kick.notify_one();
        }
        before = now;
    }
}
