//! What recovery found: every mismatch with its row, its field, what is stored and what it should be.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::causes::with_causes;
use crate::domain::fault::Fault;
use crate::domain::portfolio::Mismatch;
use crate::ledger::LedgerError;
use crate::ledger::cells::UnreadableCell;

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth a look; it can be traded on.
    Warning,
    /// Nobody trades into it.
    Critical,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        })
    }
}

/// One thing that does not add up.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// The table.
    pub table: &'static str,
    /// The row's key; `(all)` for a sum, `-` for the whole table.
    pub row: String,
    /// The column, or the property.
    pub field: String,
    /// What the database holds.
    pub stored: String,
    /// What the rest of the ledger gives, or the rule that is broken.
    pub calculated: String,
    /// How bad it is.
    pub severity: Severity,
    /// One sentence, as it is logged.
    pub sentence: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl Finding {
    /// A stored value that is not the calculated one; critical.
    pub fn mismatch(
        table: &'static str,
        row: impl ToString,
        field: impl Into<String>,
        stored: impl ToString,
        calculated: impl ToString,
    ) -> Self {
        let (row, field) = (row.to_string(), field.into());
        let (stored, calculated) = (stored.to_string(), calculated.to_string());
        let sentence = format!("{table} {row}: {field} mismatch: DB={stored}, Calculated={calculated}");
        Self { table, row, field, stored, calculated, severity: Severity::Critical, sentence }
    }

    /// The same finding, said otherwise.
    pub fn said(self, sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), ..self }
    }

    /// The same finding, as something to look at that does not stop trading.
    pub fn as_warning(self) -> Self {
        Self { severity: Severity::Warning, ..self }
    }

    /// Nobody trades into it.
    pub fn is_critical(&self) -> bool {
        self.severity == Severity::Critical
    }

    /// An aggregate of the portfolio, in the words that operators grep for.
    pub(super) fn figure(mismatch: &Mismatch) -> Self {
        let column = match mismatch.figure {
            "Closed equity" => "closed_equity",
            "Risk amount" => "risk_amount",
            "Volatility amount" => "volatility_amount",
            "Charges" => "charges",
            _ => "margin_used",
        };
        let (stored, calculated) = (mismatch.stored.0.round_dp(2), mismatch.calculated.0.round_dp(2));
        Self::mismatch("portfolio_state", 1, column, format!("{stored:.2}"), format!("{calculated:.2}"))
            .said(mismatch.to_string())
    }

    /// A fault that the domain found in a row; `stored` is the row, `derived` what it should be if that is known.
    pub(super) fn fault(
        table: &'static str,
        row: impl ToString,
        fault: &Fault,
        stored: &Value,
        derived: Option<&Value>,
    ) -> Self {
        let field = fault.field.rsplit('.').next().unwrap_or(&fault.field).to_owned();
        let shown = |value: &Value| match &value[&field] {
            Value::Null => "none".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let calculated = derived.map_or_else(|| fault.message.clone(), shown);
        let stored = shown(stored);
        Self::mismatch(table, row, field, stored, calculated)
            .said(format!("{} {}", fault.field, fault.message))
    }

    fn cell(cell: &UnreadableCell) -> Self {
        Self::mismatch(cell.table, &cell.row, cell.column, "unreadable", "-").said(cell.to_string())
    }

    /// What a ledger that answers, but not with something that can be read, says.
    pub(super) fn unreadable(error: &LedgerError) -> Vec<Self> {
        if let LedgerError::Unreadable(cells) = error {
            return cells.iter().map(Self::cell).collect();
        }
        let sentence = with_causes(error);
        vec![Self::mismatch("database", "-", "-", "unreadable", "-").said(sentence)]
    }
}

/// Why state could not be recovered; each has a section in the RUNBOOK.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The database was not reached in any attempt.
    #[error(
        "the database could not be read in {attempts} attempts; check that PostgreSQL runs and that postgres.url is right"
    )]
    DbUnavailable {
        /// How many attempts were made.
        attempts: u32,
        /// The last failure.
        #[source]
        source: LedgerError,
    },
    /// A row, a column or a table cannot be understood.
    #[error("stored state cannot be read: {}", sentences(.0))]
    DataCorrupt(Vec<Finding>),
    /// Stored figures contradict each other.
    #[error("stored state contradicts itself: {}", sentences(.0))]
    ValidationFailed(Vec<Finding>),
}

impl RecoveryError {
    /// The stable code: metric label, problem type and RUNBOOK anchor.
    pub fn code(&self) -> &'static str {
        match self {
            Self::DbUnavailable { .. } => "DB_UNAVAILABLE",
            Self::DataCorrupt(_) => "DATA_CORRUPT",
            Self::ValidationFailed(_) => "VALIDATION_FAILED",
        }
    }

    /// What was found; nothing when the database was not reached.
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::DbUnavailable { .. } => &[],
            Self::DataCorrupt(findings) | Self::ValidationFailed(findings) => findings,
        }
    }
}

fn sentences(findings: &[Finding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The outcome of a check, for people and scripts.
#[derive(Debug, Serialize)]
pub struct Report {
    /// True when it can be traded on.
    pub ok: bool,
    /// `DB_UNAVAILABLE`, `DATA_CORRUPT` or `VALIDATION_FAILED`.
    pub code: Option<&'static str>,
    /// Why nothing could be judged, when the database was not reached.
    pub error: Option<String>,
    /// Open positions that were read.
    pub positions: usize,
    /// Order intents that may still change.
    pub open_intents: usize,
    /// Those of them whose outcome is not known.
    pub in_doubt: usize,
    /// Everything that does not add up, the critical ones first.
    pub findings: Vec<Finding>,
    /// From the first statement to the verdict.
    pub took_ms: u128,
}

impl Report {
    pub(super) fn failed(error: &RecoveryError, took_ms: u128) -> Self {
        let unreached = matches!(error, RecoveryError::DbUnavailable { .. });
        Self {
            ok: false,
            code: Some(error.code()),
            error: unreached.then(|| with_causes(error)),
            positions: 0,
            open_intents: 0,
            in_doubt: 0,
            findings: sorted(error.findings().to_vec()),
            took_ms,
        }
    }
}

pub(super) fn sorted(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}
