//! How the private cluster's instances are configured: by environment, as in production.

use super::cluster::Settings;

/// The name of the private cluster.
pub(super) const CLUSTER: &str = "demo";
/// The capital that the account starts with, in rupees.
pub(super) const CAPITAL: &str = "10000000";
/// The paper bridge's API key; the bridge listens on loopback and trades nothing real.
pub(super) const API_KEY: &str = "paper";
/// The clean stop's budget: a Ctrl-C ends everything within 10 s.
const SHUTDOWN_MS: &str = "5000";

/// The variables of one instance.
pub(super) fn of_member(
    member: &str,
    settings: &Settings,
    database: &str,
    redis: &str,
    bridge: &str,
    proxy: &str,
) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = [
        ("BATON_CLUSTER__NAME", CLUSTER),
        ("BATON_CLUSTER__MEMBER", member),
        ("BATON_HTTP__LISTEN", "127.0.0.1:0"),
        ("BATON_POSTGRES__URL", database),
        ("BATON_REDIS__URL", redis),
        ("BATON_BROKER__URL", bridge),
        ("BATON_FEED__URL", proxy),
        ("BATON_BROKER__API_KEY", API_KEY),
        ("BATON_BROKER__MODE", "paper"),
        // The bridge closes idle connections after 1.5 s and hides nothing: 2 s is about as short as the in-doubt rule
        // allows.
        ("BATON_BROKER__SETTLE_MS", "2000"),
        ("BATON_BROKER__IDLE_CLOSE_MS", "1500"),
        ("BATON_BROKER__HIDES_MS", "0"),
        // The bridge was told to lift its request limits.
        ("BATON_BROKER__ORDERS_PER_SECOND", "1000"),
        ("BATON_BROKER__READS_PER_SECOND", "10000"),
        ("BATON_TRADING__CAPITAL", CAPITAL),
        // Somebody watches: what is tampered with shows within a second.
        ("BATON_RECOVERY__RECONCILE_MS", "1000"),
        // The paper market is always open.
        ("BATON_TRADING__ALLOW_AFTER_MARKET", "true"),
        // Years of trades within minutes: limits of a day say nothing about them.
        ("BATON_TRADING__LIMITS__MAX_ORDERS_PER_DAY", "none"),
        ("BATON_TRADING__LIMITS__MAX_DAILY_LOSS_PERCENT", "none"),
        ("BATON_TRADING__LIMITS__MAX_DRAWDOWN_PERCENT", "none"),
        ("BATON_SHUTDOWN__BUDGET_MS", SHUTDOWN_MS),
    ]
    .iter()
    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
    .collect();
    env.extend(settings.env.iter().cloned());
    env
}
