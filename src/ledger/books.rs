//! History for people and spreadsheets: trades, orders and the equity curve, the newest first, page by page.
//!
//! A page begins below the last row of the one before, by time and id, so that rows which are added meanwhile, all of them
//! newer, neither shift nor repeat what is still to come. A page walks an index from there: `position_closed` or
//! `order_intent_journaled`.
//!
//! **A trade** is a position that is closed, at the time of its close. A fill that comes after the close opens it again:
//! it is no trade until it is closed anew, at a later time.
//!
//! **The equity curve** has a point a trade: `cumulative` is the sum of `realised` of every trade up to it, those before
//! `from` included. It is before charges, and without what is held:
//! neither its unrealised profit nor what a partial exit has realised already.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::Serialize;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::views::{ORDER_SELECT, OrderView, order};
use super::{Ledger, LedgerError};

/// Which rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this instrument.
    pub instrument: Option<String>,
    /// Of this strategy.
    pub strategy: Option<String>,
    /// Not before.
    pub from: Option<DateTime<Utc>>,
    /// Before.
    pub to: Option<DateTime<Utc>>,
    /// Orders or signals in one of these states.
    pub states: Option<Vec<String>>,
}

/// Where a page ends: the next one begins below. Opaque outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub(super) at: DateTime<Utc>,
    pub(super) id: Uuid,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}", self.at.timestamp_micros(), self.id.simple())
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (at, id) = text.split_once('-').ok_or(())?;
        let micros = i64::from_str_radix(at, 16).map_err(|_| ())?;
        let at = DateTime::from_timestamp_micros(micros).ok_or(())?;
        Ok(Self { at, id: Uuid::try_parse(id).map_err(|_| ())? })
    }
}

/// Some rows, and where the next ones are.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The newest first.
    pub rows: Vec<T>,
    /// Where the next page begins; none when this is the last.
    pub next: Option<Place>,
}

impl<T> Page<T> {
    /// Of up to `limit` + 1 rows: one more than asked for shows that there is another page.
    pub(super) fn cut(mut rows: Vec<T>, limit: i64, place: impl Fn(&T) -> Place) -> Self {
        let limit = usize::try_from(limit).unwrap_or_default();
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(place);
        Self { rows, next }
    }
}

/// A position that was opened and closed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trade {
    /// The position's id.
    pub id: Uuid,
    /// The instrument.
    pub instrument: String,
    /// Its label.
    pub label: String,
    /// The strategy.
    pub strategy: String,
    /// The tradable symbol.
    pub symbol: String,
    /// The exchange.
    pub exchange: String,
    /// Units bought in all.
    pub quantity: i64,
    /// Units a lot.
    pub lot_size: i64,
    /// Rupees a point and lot.
    pub point_value: Decimal,
    /// Average price of what was held last.
    pub entry_price: Decimal,
    /// Average price of what was sold; none where the ledger does not have every sale's fill.
    pub exit_price: Option<Decimal>,
    /// Realised profit or loss in rupees, before charges.
    pub realised: Decimal,
    /// What its fills were charged, in rupees, by the terms in force then; none where the last fill of one of its orders was booked
    /// without, or it has no entry's order.
    pub charges: Option<Decimal>,
    /// `realised` less `charges`.
    pub net: Option<Decimal>,
    /// Why it was closed.
    pub exit_cause: Option<String>,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// When it was closed.
    pub closed_at: DateTime<Utc>,
}

/// A point of the equity curve: one trade.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EquityPoint {
    /// When the trade was closed.
    pub at: DateTime<Utc>,
    /// The position's id.
    pub position: Uuid,
    /// The instrument.
    pub instrument: String,
    /// The strategy.
    pub strategy: String,
    /// What it realised, in rupees.
    pub realised: Decimal,
    /// The sum of that over every trade up to this one which the filter by instrument and strategy lets through.
    pub cumulative: Decimal,
    /// Capital as it was then, and `cumulative`; none where instrument or strategy leave trades out.
    pub equity: Option<Decimal>,
}

/// What the account's realised equity is made of: capital + closed + held = closed equity, to the paisa.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Realised {
    /// What was paid in, less what was taken out.
    pub capital: Decimal,
    /// Realised by positions that are closed: the sum of the whole curve.
    pub closed: Decimal,
    /// Realised by partial exits of positions that are still held.
    pub held: Decimal,
    /// As stored with the portfolio, before charges.
    pub closed_equity: Decimal,
    /// What all of them were charged.
    pub charges: Decimal,
}

/// A page of trades: walks the index of closed positions from where the page begins.
pub const TRADES: &str = "
SELECT p.id, p.instrument, p.label, p.strategy, p.symbol, p.exchange, p.entry_quantity, p.lot_size, p.point_value,
    p.entry_price, sold.price, p.realised, p.exit_cause, p.opened_at, p.closed_at,
    CASE WHEN known.charges THEN p.charges END
FROM position p LEFT JOIN LATERAL (
    SELECT CASE WHEN sum(f.quantity) = p.entry_quantity THEN round(sum(f.price * f.quantity) / sum(f.quantity), 8) END AS price
    FROM order_intent o JOIN fill f ON f.intent_id = o.id WHERE o.position_id = p.id AND o.side = 'SELL'
) sold ON true LEFT JOIN LATERAL (
    SELECT bool_or(o.class = 'entry') AND bool_and(newest.charges IS NOT NULL) AS charges FROM order_intent o JOIN LATERAL (
        SELECT f.charges FROM fill f WHERE f.intent_id = o.id ORDER BY f.cumulative DESC LIMIT 1
    ) newest ON true WHERE o.position_id = p.id OR o.id = p.id
) known ON true
WHERE p.status = 'closed' AND ($1::text IS NULL OR p.instrument = $1) AND ($2::text IS NULL OR p.strategy = $2)
    AND ($3::timestamptz IS NULL OR p.closed_at >= $3) AND ($4::timestamptz IS NULL OR p.closed_at < $4)
    AND ($5::timestamptz IS NULL OR (p.closed_at, p.id) < ($5, $6::uuid))
ORDER BY p.closed_at DESC, p.id DESC LIMIT $7";

/// A page of orders: walks the index of journaling times from where the page begins.
pub static ORDERS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{ORDER_SELECT} WHERE ($1::text IS NULL OR o.instrument = $1)
            AND ($2::text IS NULL OR $2 = coalesce(p.strategy, s.strategy))
            AND ($3::timestamptz IS NULL OR o.journaled_at >= $3) AND ($4::timestamptz IS NULL OR o.journaled_at < $4)
            AND ($5::timestamptz IS NULL OR (o.journaled_at, o.id) < ($5, $6::uuid))
            AND ($8::text[] IS NULL OR o.state = ANY ($8))
         ORDER BY o.journaled_at DESC, o.id DESC LIMIT $7"
    )
});

/// In one statement, so that a page's sums and its rows are of one moment.
const EQUITY: &str = "
WITH page AS (
    SELECT id, instrument, strategy, realised, closed_at FROM position
    WHERE status = 'closed' AND ($1::text IS NULL OR instrument = $1) AND ($2::text IS NULL OR strategy = $2)
        AND ($3::timestamptz IS NULL OR closed_at >= $3) AND ($4::timestamptz IS NULL OR closed_at < $4)
        AND ($5::timestamptz IS NULL OR (closed_at, id) < ($5, $6::uuid))
    ORDER BY closed_at DESC, id DESC LIMIT $7
), oldest AS (SELECT closed_at, id FROM page ORDER BY closed_at, id LIMIT 1
), before AS (
    SELECT coalesce(sum(p.realised), 0) AS sum FROM position p, oldest
    WHERE p.status = 'closed' AND ($1::text IS NULL OR p.instrument = $1) AND ($2::text IS NULL OR p.strategy = $2)
        AND (p.closed_at, p.id) < (oldest.closed_at, oldest.id)
)
SELECT page.id, instrument, strategy, realised, page.closed_at,
    before.sum + sum(realised) OVER (ORDER BY page.closed_at, page.id),
    CASE WHEN $1 IS NULL AND $2 IS NULL THEN (SELECT s.capital - coalesce((SELECT sum(m.amount) FROM cash_movement m
        WHERE m.kind <> 'opening' AND m.at > page.closed_at), 0) FROM portfolio_state s) END
FROM page, before ORDER BY page.closed_at DESC, page.id DESC";

const REALISED: &str = "
SELECT s.capital, coalesce(sum(p.realised) FILTER (WHERE p.status = 'closed'), 0),
    coalesce(sum(p.realised) FILTER (WHERE p.status <> 'closed'), 0), s.closed_equity, coalesce(sum(p.charges), 0)
FROM portfolio_state s LEFT JOIN position p ON true GROUP BY s.capital, s.closed_equity";

fn trade(row: &Row) -> Trade {
    let (realised, charges): (Decimal, Option<Decimal>) = (row.get(11), row.get(15));
    Trade {
        id: row.get(0),
        instrument: row.get(1),
        label: row.get(2),
        strategy: row.get(3),
        symbol: row.get(4),
        exchange: row.get(5),
        quantity: row.get(6),
        lot_size: row.get(7),
        point_value: row.get(8),
        entry_price: row.get(9),
        exit_price: row.get(10),
        realised,
        charges,
        net: charges.map(|charges| realised - charges),
        exit_cause: row.get(12),
        opened_at: row.get(13),
        closed_at: row.get(14),
    }
}

fn point(row: &Row) -> EquityPoint {
    let cumulative: Decimal = row.get(5);
    EquityPoint {
        position: row.get(0),
        instrument: row.get(1),
        strategy: row.get(2),
        realised: row.get(3),
        at: row.get(4),
        cumulative,
        equity: row.get::<_, Option<Decimal>>(6).map(|capital| capital + cumulative),
    }
}

impl Ledger {
    /// Lists trades, below `after` if that is given.
    ///
    /// # Errors
    /// Any database error.
    pub async fn trades(
        &self,
        filter: &Filter,
        after: Option<Place>,
        limit: i64,
    ) -> Result<Page<Trade>, LedgerError> {
        let rows = self.page(TRADES, "list trades", filter, after, limit, &[]).await?;
        let place = |trade: &Trade| Place { at: trade.closed_at, id: trade.id };
        Ok(Page::cut(rows.iter().map(trade).collect(), limit, place))
    }

    /// Lists points of the equity curve, below `after` if that is given.
    ///
    /// # Errors
    /// Any database error.
    pub async fn equity(
        &self,
        filter: &Filter,
        after: Option<Place>,
        limit: i64,
    ) -> Result<Page<EquityPoint>, LedgerError> {
        let rows = self.page(EQUITY, "read the equity curve", filter, after, limit, &[]).await?;
        let place = |point: &EquityPoint| Place { at: point.at, id: point.position };
        Ok(Page::cut(rows.iter().map(point).collect(), limit, place))
    }

    /// Lists orders by when they were journaled, below `after` if that is given.
    ///
    /// # Errors
    /// Any database error.
    pub async fn orders(
        &self,
        filter: &Filter,
        after: Option<Place>,
        limit: i64,
    ) -> Result<Page<OrderView>, LedgerError> {
        let rows = self.page(&ORDERS, "list orders", filter, after, limit, &[&filter.states]).await?;
        let place = |order: &OrderView| Place { at: order.journaled_at, id: order.id };
        Ok(Page::cut(rows.iter().map(order).collect(), limit, place))
    }

    /// The newest `limit` orders in these states.
    ///
    /// # Errors
    /// Any database error.
    pub async fn orders_in(&self, states: &[String], limit: i64) -> Result<Vec<OrderView>, LedgerError> {
        let filter = Filter { states: Some(states.to_vec()), ..Filter::default() };
        Ok(self.orders(&filter, None, limit).await?.rows)
    }

    /// What the account's realised equity is made of; none before the first leadership.
    ///
    /// # Errors
    /// Any database error.
    pub async fn realised(&self) -> Result<Option<Realised>, LedgerError> {
        let row = self.client().await?.query_opt(REALISED, &[]).await;
        let row = row.map_err(LedgerError::during("sum what was realised"))?;
        Ok(row.map(|row| Realised {
            capital: row.get(0),
            closed: row.get(1),
            held: row.get(2),
            closed_equity: row.get(3),
            charges: row.get(4),
        }))
    }

    /// Rows of a statement like those above; `more` are its parameters after the limit.
    pub(super) async fn page(
        &self,
        sql: &str,
        what: &'static str,
        filter: &Filter,
        after: Option<Place>,
        limit: i64,
        more: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, LedgerError> {
        let Filter { instrument, strategy, from, to, .. } = filter;
        let (at, id) = (after.map(|place| place.at), after.map(|place| place.id));
        let one_more = limit + 1;
        let parameters: [&(dyn ToSql + Sync); 7] = [instrument, strategy, from, to, &at, &id, &one_more];
        let rows = self.client().await?.query(sql, &[&parameters, more].concat()).await;
        rows.map_err(LedgerError::during(what))
    }
}
