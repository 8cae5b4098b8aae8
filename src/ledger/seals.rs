//! Seals of the audit chain: up to which row it was walked and found whole.
//!
//! The leader seals what it has walked, about once a minute, and logs the hash. A recovery walks from the last seal on, so
//! that it takes no longer the older a ledger is; where that is far, the newest rows. `baton audit verify` walks it all.

use deadpool_postgres::Transaction;
use tokio_postgres::IsolationLevel;

use super::audit::{self, LINK, Link, Walk};
use super::cells::Cells;
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

/// One link beside what it is held against.
#[derive(Default)]
struct Read {
    head: (i64, Vec<u8>),
    base: i64,
    sealed: Option<Vec<u8>>,
    link: Option<Link>,
}

/// Walks the newest part of the chain; gives what does not fit.
pub(super) async fn newest(tx: &Transaction<'_>, faults: &Faults) -> Result<Vec<String>, LedgerError> {
    // The row of the seal itself comes first: it may have been changed, or taken out, since.
    let sql = format!(
        "SELECT h.seq AS head_seq, h.hash AS head_hash, b.seq AS base, b.hash AS sealed, a.*
         FROM audit_head h
         CROSS JOIN LATERAL (
            (SELECT s.seq, s.hash FROM audit_seal s WHERE s.seq > h.seq - {FARTHEST} ORDER BY s.seq DESC LIMIT 1)
            UNION ALL SELECT greatest(h.seq - {FARTHEST}, 0), NULL
            ORDER BY 1 DESC, 2 LIMIT 1
         ) b
         LEFT JOIN LATERAL (SELECT {LINK} FROM audit_log WHERE seq >= b.seq) a ON true ORDER BY a.seq"
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

fn walked(rows: &[Read]) -> Vec<String> {
    let Some(Read { head, base, sealed, link: first }) = rows.first() else {
        return vec!["the chain has no head".to_owned()];
    };
    let links = rows.iter().filter_map(|read| read.link.as_ref());
    let first = first.as_ref().filter(|link| link.seq == *base);
    let mut walk = match (base, sealed, first) {
        (0, ..) => Walk::from_the_first(),
        (_, Some(sealed), Some(link)) if *sealed != link.hash => {
            let mut walk = Walk::after(*base, link.hash.clone());
            walk.faults.push(format!("row {base} is not what was sealed"));
            walk
        }
        (_, _, Some(link)) => Walk::after(*base, link.hash.clone()),
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
    walk.faults
}

impl Ledger {
    /// Walks what came since the last seal and seals it; none if nothing came, or if it is not whole.
    ///
    /// # Errors
    /// Any database error.
    pub async fn seal_audit(&self, by: &str) -> Result<Option<Seal>, LedgerError> {
        let failed = LedgerError::during("seal the audit chain");
        let mut client = self.client().await?;
        let begin = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead);
        let tx = begin.start().await.map_err(&failed)?;
        Self::unhurried(&tx).await?;
        let last =
            "SELECT s.seq, a.hash FROM audit_seal s JOIN audit_log a ON (a.seq, a.hash) = (s.seq, s.hash)
            ORDER BY s.seq DESC LIMIT 1";
        let last = tx.query_opt(last, &[]).await.map_err(&failed)?;
        let begun = last.map_or_else(Walk::from_the_first, |row| Walk::after(row.get(0), row.get(1)));
        let sealed = begun.seq;
        let Walk { seq, hash, faults } = audit::walk(&tx, begun).await?;
        if !faults.is_empty() || seq == sealed {
            return Ok(None);
        }
        // Two at once may have walked the same rows: one seal is enough.
        let set = "INSERT INTO audit_seal (seq, hash, sealed_by) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        let set = tx.execute(set, &[&seq, &hash, &by]).await.map_err(&failed)?;
        tx.commit().await.map_err(&failed)?;
        Ok((set == 1).then(|| Seal { seq, hash: audit::hex(&hash) }))
    }
}
