//! The account guard: one cluster per broker account.

use super::{Ledger, LedgerError};

impl Ledger {
    /// Claims `account` for `cluster`, or confirms an earlier claim.
    ///
    /// # Errors
    /// [`LedgerError::AccountTaken`] when another cluster holds it, or any database error.
    pub async fn guard_account(&self, account: &str, cluster: &str) -> Result<(), LedgerError> {
        let row = self
            .client()
            .await?
            .query_one(
                "WITH claimed AS (
                    INSERT INTO account_guard (account, cluster) VALUES ($1, $2)
                    ON CONFLICT (account) DO UPDATE SET account = $1 RETURNING cluster)
                 SELECT cluster FROM claimed",
                &[&account, &cluster],
            )
            .await
            .map_err(LedgerError::during("claim the broker account"))?;
        let owner: String = row.get(0);
        if owner == cluster {
            Ok(())
        } else {
            Err(LedgerError::AccountTaken { account: account.to_owned(), owner })
        }
    }
}
