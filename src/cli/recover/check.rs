//! `baton recover --check`.

use std::process::ExitCode;

use super::{ledger, manager, same_schema};
use crate::cli::output::{Colour, Output};
use crate::config::Config;
use crate::ledger::snapshot::Depth;
use crate::recovery::{Report, Severity};

pub(super) async fn run(config: &Config, output: &Output) -> anyhow::Result<ExitCode> {
    let ledger = ledger(config)?;
    same_schema(&ledger).await?;
    let report = manager(config, ledger).examine(Depth::Whole).await;
    if output.is_json() {
        output.json(&report)?;
    } else {
        told(&report, output)?;
    }
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The verdict, then a line a finding.
pub(super) fn told(report: &Report, output: &Output) -> anyhow::Result<()> {
    match (report.code, &report.error) {
        (Some(code), Some(error)) => {
            output.line(format!("{}: {error}", output.paint(Colour::Red, code)))?;
        }
        (Some(code), None) => {
            let verdict = output.paint(Colour::Red, format!("Stored state is not whole ({code})"));
            output.line(format!("{verdict}: RUNBOOK.md#{}", code.to_lowercase()))?;
        }
        (None, _) => {
            let verdict = output.paint(Colour::Green, "Stored state is whole");
            output.line(format!(
                "{verdict}: {} open positions, {} open orders, {} in doubt; {} ms",
                report.positions, report.open_intents, report.in_doubt, report.took_ms
            ))?;
        }
    }
    for finding in &report.findings {
        let colour = match finding.severity {
            Severity::Critical => Colour::Red,
            Severity::Warning => Colour::Yellow,
        };
        let place = format!("({} {}, {})", finding.table, finding.row, finding.field);
        let severity = output.paint(colour, format!("{:<8}", finding.severity));
        output.line(format!("  {severity}  {finding}  {}", output.paint(Colour::Dim, place)))?;
    }
    Ok(())
}
