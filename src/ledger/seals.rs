//! Seals of the audit chain: up to which row it was walked and found whole.
//!
//! The leader seals what it has walked, about once a minute, and logs the hash. A recovery walks from the last seal on, so
//! that it takes no longer the older a ledger is; where that is far, the newest rows. `baton audit verify` walks it all.
//!
//! The row that is sealed says how everything stands that the chain alone proves ([`super::recorded`]).

use deadpool_postgres::{Object, Transaction};
use tokio_postgres::IsolationLevel;

use super::audit::{self, LINK, Link, Walk};
use super::cells::Cells;
use super::recorded::HELD;
use super::snapshot::{Faults, each};
use super::{Ledger, LedgerError};

/// A recovery walks no more rows than these, however far back the last seal is.
const FARTHEST: i64 = 10_000;

/// A seal that was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// The last row that it covers.
    pub seq: i64,
    /// That row's hash, in hexadecimal digits.
    pub hash: String,
}

/// What became of an attempt to seal the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sealing {
    /// It is whole, and sealed.
    Sealed(Seal),
    /// Nothing came since the last seal.
    Unchanged,
    /// It is not whole since the last seal, however far back that is: what does not fit. Nothing is sealed over that.
    Broken(Vec<String>),
}

/// One link beside what it is held against.
#[derive(Default)]
struct Read {
    head: (i64, Vec<u8>),
    base: i64,
    sealed: Option<Vec<u8>>,
    link: Option<Link>,
}

/// Walks the newest part of the chain; gives what does not fit, and what it says of stored state.
pub(super) async fn newest(tx: &Transaction<'_>, faults: &Faults) -> Result<Walk, LedgerError> {
    // The row of the seal itself is looked at, too, by the one before it: it may have been changed, or taken out, since.
    let sql = format!(
        "SELECT h.seq AS head_seq, h.hash AS head_hash, b.seq AS base, b.hash AS sealed, a.*
         FROM audit_head h
         CROSS JOIN LATERAL (
            (SELECT s.seq, s.hash FROM audit_seal s WHERE s.seq > h.seq - {FARTHEST} ORDER BY s.seq DESC LIMIT 1)
            UNION ALL SELECT greatest(h.seq - {FARTHEST}, 0), NULL
            ORDER BY 1 DESC, 2 LIMIT 1
         ) b
         LEFT JOIN LATERAL (SELECT {LINK} FROM audit_log WHERE seq >= b.seq - 1) a ON true ORDER BY a.seq"
    );
    let rows = each(tx, &sql, "walk the audit chain from its last seal", faults, |row| {
        let mut cells = Cells::new(row, "audit_log", row.try_get::<_, i64>("seq").unwrap_or_default());
        let seq: Option<i64> = cells.get("seq");
        let link = seq.map(|seq| Link {
            seq,
            at_us: cells.get("at_us"),
            kind: cells.get("kind"),
            actor: cells.get("actor"),
            payload: cells.get("payload"),
            hash: cells.get("hash"),
        });
        let head = (cells.get("head_seq"), cells.get("head_hash"));
        let read = Read { head, base: cells.get("base"), sealed: cells.get("sealed"), link };
        cells.finish(read)
    })
    .await?;
    Ok(walked(&rows))
}

fn walked(rows: &[Read]) -> Walk {
    let Some(Read { head, base, sealed, .. }) = rows.first() else {
        let headless = Walk::from_the_first();
        return Walk { faults: vec!["the chain has no head".to_owned()], ..headless };
    };
    let mut links = rows.iter().filter_map(|read| read.link.as_ref()).peekable();
    let before = links.next_if(|link| link.seq < *base);
    let first = links.peek().filter(|link| link.seq == *base);
    let mut walk = match (base, sealed, first) {
        (0, ..) => Walk::from_the_first(),
        (_, _, Some(link)) => from(before, link, sealed.as_ref()),
        (_, Some(sealed), None) => {
            let mut walk = Walk::after(*base, sealed.clone());
            walk.faults.push(format!("row {base}, which was sealed, is missing"));
            walk
        }
        (_, None, None) => {
            let mut walk = Walk::from_the_first();
            walk.faults.push(format!("row {base} is missing"));
            walk
        }
    };
    let behind = walk.seq;
    links.filter(|link| link.seq > behind).for_each(|link| walk.step(link));
    walk.end(head.0, &head.1);
    walk
}

/// Begins with a link that was sealed, or is the farthest that is looked at; `before` is the one that it covers.
fn from(before: Option<&Link>, link: &Link, sealed: Option<&Vec<u8>>) -> Walk {
    let mut walk = match before {
        Some(before) => Walk::after(before.seq, before.hash.clone()),
        None if link.seq == 1 => Walk::from_the_first(),
        None => {
            let mut walk = Walk::after(link.seq, link.hash.clone());
            walk.faults.push(format!("row {} is missing", link.seq - 1));
            return walk;
        }
    };
    walk.step(link);
    if sealed.is_some_and(|sealed| *sealed != link.hash) {
        walk.faults.push(format!("row {} is not what was sealed", link.seq));
    }
    walk
}

impl Ledger {
    /// Walks all that came since the last seal and seals it, under a row that tells how things stand.
    ///
    /// # Errors
    /// Any database error.
    pub async fn seal_audit(&self, by: &str) -> Result<Sealing, LedgerError> {
        let failed = LedgerError::during("seal the audit chain");
        let mut client = self.client().await?;
        let begin =
            client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
        let tx = begin.start().await.map_err(&failed)?;
        Self::unhurried(&tx).await?;
        let last =
            "SELECT s.seq FROM audit_seal s JOIN audit_log a USING (seq, hash) ORDER BY s.seq DESC LIMIT 1";
        let last = tx.query_opt(last, &[]).await.map_err(&failed)?;
        let sealed: i64 = last.map_or(0, |row| row.get(0));
        let links =
            format!("SELECT {LINK} FROM audit_log WHERE seq BETWEEN $1::bigint - 1 AND $1 ORDER BY seq");
        let links = tx.query(&links, &[&sealed]).await.map_err(&failed)?;
        let links = links.iter().map(audit::link).collect::<Result<Vec<Link>, _>>().map_err(&failed)?;
        let begun = match links.last() {
            Some(link) if link.kind == HELD => {
                from(links.first().filter(|first| first.seq < sealed), link, None)
            }
            // A version that does not tell how things stand has sealed it: once more from the first row on.
            _ => Walk::from_the_first(),
        };
        let walked = audit::walk(&tx, begun).await?;
        tx.commit().await.map_err(&failed)?;
        if !walked.faults.is_empty() {
            return Ok(Sealing::Broken(walked.faults));
        }
        if walked.seq == sealed {
            return Ok(Sealing::Unchanged);
        }
        seal(&mut client, walked, by).await
    }
}

/// Seals behind what was walked and what has come meanwhile, of which nothing is added until it is committed.
async fn seal(client: &mut Object, walked: Walk, by: &str) -> Result<Sealing, LedgerError> {
    let failed = LedgerError::during("seal the audit chain");
    let tx = client.transaction().await.map_err(&failed)?;
    tx.batch_execute("SELECT FROM audit_head FOR UPDATE").await.map_err(&failed)?;
    let walked = audit::walk(&tx, walked).await?;
    if !walked.faults.is_empty() {
        return Ok(Sealing::Broken(walked.faults));
    }
    let told = walked.recorded.told().to_string();
    let row = tx.query_one("SELECT audit_append($1, $2, $3)", &[&HELD, &by, &told]).await.map_err(&failed)?;
    let seq: i64 = row.get(0);
    let set =
        "INSERT INTO audit_seal (seq, hash, sealed_by) SELECT seq, hash, $2 FROM audit_log WHERE seq = $1
        RETURNING hash";
    let row = tx.query_one(set, &[&seq, &by]).await.map_err(&failed)?;
    tx.commit().await.map_err(&failed)?;
    Ok(Sealing::Sealed(Seal { seq, hash: audit::hex(row.get(0)) }))
}
