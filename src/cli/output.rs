//! What a verb prints: text for people, JSON for scripts; colour only on a terminal that wants it.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;

/// How a verb answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON document, for scripts.
    Json,
    /// Rows for a spreadsheet: trades, orders list, signals list and equity.
    Csv,
}

/// The colours used; each means one thing everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// As it should be.
    Green,
    /// Worth a look.
    Yellow,
    /// Needs somebody now.
    Red,
    /// Beside the point.
    Dim,
    /// A heading.
    Bold,
}

impl Colour {
    fn code(self) -> &'static str {
        match self {
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Red => "31",
            Self::Dim => "2",
            Self::Bold => "1",
        }
    }
}

/// Prints a verb's answer on stdout.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    format: Format,
    colour: bool,
}

impl Output {
    /// Answers on stdout, in colour if that is a terminal and `NO_COLOR` is unset.
    pub fn stdout(format: Format) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|text| !text.is_empty());
        Self { format, colour: io::stdout().is_terminal() && !plain }
    }

    /// Whether scripts read the answer.
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether a spreadsheet reads the answer.
    pub fn is_csv(&self) -> bool {
        self.format == Format::Csv
    }

    /// Prints bytes as they are.
    ///
    /// # Errors
    /// Stdout cannot be written to.
    pub fn text(&self, text: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text)?;
        stdout.flush()
    }

    /// Prints one line of text.
    ///
    /// # Errors
    /// Stdout cannot be written to, e.g. because its reader has gone.
    pub fn line(&self, text: impl AsRef<str>) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{}", text.as_ref())?;
        stdout.flush()
    }

    /// Prints a value as one line of JSON.
    ///
    /// # Errors
    /// Stdout cannot be written to.
    pub fn json(&self, value: &impl Serialize) -> io::Result<()> {
        self.line(serde_json::to_string(value)?)
    }

    /// The text in a colour, or as it is where colours are not wanted.
    pub fn paint(&self, colour: Colour, text: impl AsRef<str>) -> String {
        let text = text.as_ref();
        if self.colour { format!("\x1b[{}m{text}\x1b[0m", colour.code()) } else { text.to_owned() }
    }

    /// Prints rows in aligned columns under a heading; a cell's colour does not count for its width.
    ///
    /// # Errors
    /// Stdout cannot be written to.
    pub fn table(&self, heading: &[&str], rows: &[Vec<Cell>]) -> io::Result<()> {
        let heading: Vec<Cell> = heading.iter().map(|text| Cell::of(text).in_colour(Colour::Bold)).collect();
        let width = |column: usize| {
            let cells = rows.iter().chain([&heading]).filter_map(|row| row.get(column));
            cells.map(|cell| cell.text.chars().count()).max().unwrap_or(0)
        };
        for row in [&heading].into_iter().chain(rows) {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let is_last = column + 1 == row.len();
                let padding = if is_last { 0 } else { width(column) - cell.text.chars().count() + 2 };
                match cell.colour {
                    Some(colour) => line.push_str(&self.paint(colour, &cell.text)),
                    None => line.push_str(&cell.text),
                }
                line.extend(std::iter::repeat_n(' ', padding));
            }
            self.line(line)?;
        }
        Ok(())
    }
}

/// One cell of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    text: String,
    colour: Option<Colour>,
}

impl Cell {
    /// A plain cell.
    pub fn of(text: impl ToString) -> Self {
        Self { text: text.to_string(), colour: None }
    }

    /// The same cell in a colour.
    pub fn in_colour(self, colour: Colour) -> Self {
        Self { colour: Some(colour), ..self }
    }
}

/// Tells an error on stderr: one sentence, its causes below it.
pub fn error(error: &anyhow::Error) {
    let mut text = format!("error: {error}");
    for cause in error.chain().skip(1) {
        text.push_str(&format!("\n  caused by: {}", cause.to_string().trim_end().replace('\n', "\n    ")));
    }
    // With stderr gone there is nobody left to tell; the exit code still says it.
    let _ = writeln!(io::stderr().lock(), "{text}");
}
