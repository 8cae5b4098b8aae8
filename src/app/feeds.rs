//! What is known of the world outside: prices, news of orders, the broker session. Wired here, watched by others.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chrono::Utc;
use ha::BootClock;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::broker::dns::{DnsSettings, Resolver};
use crate::broker::session::{Session, SessionState, SessionWatch};
use crate::config::{Config, Strategy};
use crate::feed::poll::{Poll, PollPace, Rung};
use crate::feed::{
    Ages, ContractData, Endpoint, Feeds, Hours, Listing, Live, LiveState, LiveStatus, OrderNews, PriceBoard,
};
use crate::ledger::Ledger;
use crate::notify::{Event, Key, Kind, Notifier};
use crate::telemetry::metrics::Metrics;

/// The code of [`Kind::OperationalError`] for prices that come from nowhere.
const NO_PRICES: &str = "NO_PRICES";
/// For how long no price may come from anywhere before the operator is told.
const PRICELESS_FOR: Duration = Duration::from_secs(2);
/// A live feed that is down for so long, while it is needed, is told.
const DOWN_FOR_LONG: Duration = Duration::from_secs(60);
/// How often that is looked at when nothing changes.
const TELL_LOOK: Duration = Duration::from_secs(1);

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
    ledger: &Ledger,
    resolver: Resolver,
    metrics: &Arc<Metrics>,
    stop: &CancellationToken,
) -> anyhow::Result<Feeds> {
    let feed = &config.feed;
    let watched = config.strategies.values().filter_map(|strategy| match strategy {
        Strategy::SessionVwap { instrument, .. } => {
            Some(Listing::new(&instrument.exchange, &instrument.symbol))
        }
        Strategy::Webhook => None,
    });
    let prices = PriceBoard::taping(Ages { stale: feed.stale, dead: feed.dead }, watched.collect());
    let news = OrderNews::default();
    let clock = Arc::new(BootClock);

    let watch = SessionWatch::new(Arc::clone(broker), Arc::clone(metrics));
    let (session, doubt) = (watch.session(), watch.doubt());

    let pace = PollPace::new(feed.live_max_age, config.broker.read_timeout, config.broker.reads_per_second);
    let poll = Poll::new(prices.clone(), Arc::clone(broker), clock.clone(), Arc::clone(metrics), pace);
    let poll = poll.doubting(doubt);
    let rung = poll.rung();

    let hours = Hours::default();
    let instruments = || config.instruments.iter();
    let exchanges = instruments().map(|instrument| instrument.exchange.clone()).collect();
    let keeping =
        hours.clone().keep(Arc::clone(broker), ledger.clone(), exchanges, Arc::clone(metrics), stop.clone());
    tokio::spawn(keeping);
    let contracts = ContractData::default();
    let listings = instruments().map(|instrument| Listing::new(&instrument.exchange, &instrument.symbol));
    tokio::spawn(contracts.clone().keep(
        Arc::clone(broker),
        ledger.clone(),
        listings.collect(),
        stop.clone(),
    ));
    let refilled = contracts.clone();
    tokio::spawn(at_each_login(session.clone(), move || refilled.logged_in(Utc::now()), stop.clone()));

    let live = match &feed.url {
        Some(url) => {
            let endpoint = Endpoint::new(
                url,
                config.broker.api_key.clone(),
                resolver.clone(),
                config.broker.ca_file.as_deref(),
            );
            let endpoint = endpoint.context("the live feed cannot start")?;
            let live =
                Live::new(endpoint, prices.clone(), news.clone(), clock, Arc::clone(metrics), feed.stale);
            let (known, board) = (hours.clone(), prices.clone());
            let live = live.with_hours(Arc::new(move || known.any_open(&board, Utc::now())));
            let status = live.status();
            // A renewed session is heard only by a socket that authenticates after it.
            let kick = live.kick();
            tokio::spawn(at_each_login(session.clone(), move || kick.notify_one(), stop.clone()));
            tokio::spawn(live.run(stop.clone()));
            status
        }
        // Its sender is gone, the value stays.
        None => watch::Sender::new(LiveStatus::default()).subscribe(),
    };
    tokio::spawn(watch.run(stop.clone()));
    tokio::spawn(poll.run(stop.clone()));
    Ok(Feeds { prices, news, live, rung, session, hours, contracts, resolver })
}

/// Tells of prices that come from nowhere, after two seconds: one failed quote before the first tick is no news; and of a
/// live feed that stays away in market hours. Ends are told at the first look that finds all well, too: an earlier process of
/// this member may have told of trouble and died.
pub(super) async fn tell(feeds: Feeds, notifier: Notifier, stop: CancellationToken) {
    let notifier = notifier.from("feed");
    let (mut rung, mut live) = (feeds.rung.clone(), feeds.live.clone());
    let begun = Instant::now();
    // None before anything is known.
    let (mut priceless, mut priceless_since) = (None, None);
    let (mut told, mut down_since) = (None, None);
    loop {
        let needed = !feeds.prices.wanted().borrow().is_empty();
        // A moment after its start an instance wants no price, whatever it is about to lead.
        let known = needed || begun.elapsed() >= DOWN_FOR_LONG;
        let cached = *rung.borrow_and_update() == Rung::Cache;
        let is_night = feeds.hours.any_open(&feeds.prices, Utc::now()) == Some(false);
        priceless_since = (cached && !is_night).then(|| priceless_since.unwrap_or_else(Instant::now));
        match priceless_since {
            Some(since) if priceless != Some(true) && since.elapsed() >= PRICELESS_FOR => {
                priceless = Some(true);
                notifier.raise(Event::about(
                    Kind::OperationalError,
                    NO_PRICES,
                    "no price comes for what is held, neither live nor over REST: its stops are judged by old prices; see \
                     RUNBOOK.md#no_prices",
                ));
            }
            None if !cached && (priceless == Some(true) || (priceless.is_none() && known)) => {
                priceless = Some(false);
                notifier.resolve(Key::new(Kind::OperationalError, NO_PRICES));
            }
            _ => {}
        }
        let status = live.borrow_and_update().clone();
        let is_up = matches!(status.state, LiveState::Connected | LiveState::Disabled);
        let is_logged_out = feeds.session.borrow().state == SessionState::Expired;
        let excused = is_up || !needed || is_night || is_logged_out;
        down_since = if excused { None } else { down_since.or_else(|| Some(Instant::now())) };
        match down_since {
            Some(since) if told != Some(true) && since.elapsed() >= DOWN_FOR_LONG => {
                told = Some(true);
                notifier.raise(Event::new(
                    Kind::WebsocketError,
                    format!(
                        "the live feed is {}: {}; prices come over REST; see RUNBOOK.md#feed-down",
                        status.state, status.reason
                    ),
                ));
            }
            None if told != Some(false) && is_up => {
                told = Some(false);
                notifier.resolve(Key::new(Kind::WebsocketError, ""));
            }
            _ => {}
        }
        tokio::select! {
            Ok(()) = rung.changed() => {}
            Ok(()) = live.changed() => {}
            () = tokio::time::sleep(TELL_LOOK) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn at_each_login(mut session: watch::Receiver<Session>, act: impl Fn(), stop: CancellationToken) {
    let mut before = session.borrow_and_update().state;
    while let Some(Ok(())) = stop.run_until_cancelled(session.changed()).await {
        let now = session.borrow_and_update().state;
        if before == SessionState::Expired && now == SessionState::Valid {
            act();
        }
        before = now;
    }
}
