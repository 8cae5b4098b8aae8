//! `baton signals list`: what is in the inbox.

use std::process::ExitCode;

use super::{colour, text, time};
use crate::cli::books::{Part, listed, more};
use crate::cli::output::{Cell, Output};
use crate::config::Inputs;
use crate::domain::table;

/// Which signals.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Statuses: pending, working, executed, refused, rejected, not_sent, abandoned.

Examples:
  baton signals list
  baton signals list --status pending,working
  baton signals list --status refused --from 2026-08-10 -o json | jq '.signals[] | {id, reasons}'
  baton signals list --instrument GOLD_MINI -o csv > signals.csv")]
pub struct List {
    /// Only of these statuses.
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    status: Vec<String>,
    #[command(flatten)]
    part: Part,
}

/// Runs the verb.
///
/// # Errors
/// No instance answers, or it refuses the question; stdout cannot be written to.
pub(super) async fn run(list: List, inputs: &Inputs, output: &Output) -> anyhow::Result<ExitCode> {
    let beside = match list.status.is_empty() {
        true => String::new(),
        false => format!("&state={}", list.status.join(",")),
    };
    let (route, columns) = ("/api/v1/signals/list", table::SIGNALS);
    let Some(page) = list.part.read(route, &beside, "signals", columns, inputs, output).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let rows: Vec<Vec<Cell>> = listed(&page, "signals")
        .iter()
        .map(|signal| {
            let status = text(signal, "status");
            let colour = colour(&status);
            let codes: Vec<String> =
                listed(signal, "reasons").iter().map(|reason| text(reason, "code")).collect();
            vec![
                Cell::of(text(signal, "id")),
                Cell::of(time(signal, "received_at")),
                Cell::of(text(signal, "type")),
                Cell::of(text(signal, "instrument")),
                Cell::of(text(signal, "strategy")),
                Cell::of(status).in_colour(colour),
                Cell::of(codes.join(", ")),
            ]
        })
        .collect();
    if rows.is_empty() {
        output.line("no signals")?;
        return Ok(ExitCode::SUCCESS);
    }
    output.table(&["ID", "STORED", "TYPE", "INSTRUMENT", "STRATEGY", "STATUS", "WHY"], &rows)?;
    more(&page, output)
}
