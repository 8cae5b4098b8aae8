//! Reads a row cell by cell, so that whatever is stored is either a value or a named fault, never a panic: recovery has
//! to say which column of which row cannot be read, all of them at once.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, WrongType};
use uuid::Uuid;

/// A stored value that this version cannot read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct UnreadableCell {
    /// The table.
    pub table: &'static str,
    /// The row's key.
    pub row: String,
    /// The column.
    pub column: &'static str,
    /// Why it cannot be read.
    pub why: String,
    /// The column is of a type that this version does not read: no row of its can be.
    #[serde(skip)]
    pub is_of_another_type: bool,
}

impl fmt::Display for UnreadableCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, row, column, why, .. } = self;
        write!(f, "{table} {row}: column {column} cannot be read: {why}")
    }
}

/// One row being read; an unreadable cell gives a placeholder and a fault.
pub(super) struct Cells<'a> {
    row: &'a Row,
    table: &'static str,
    /// None: the first column's UUID, which is made a text only for a fault.
    key: Option<String>,
    /// Where the next column probably is: most rows are read in the order of their columns.
    next: usize,
    faults: Vec<UnreadableCell>,
}

impl<'a> Cells<'a> {
    /// Begins a row of `table`; `key` names it in faults.
    pub fn new(row: &'a Row, table: &'static str, key: impl ToString) -> Self {
        Self { row, table, key: Some(key.to_string()), next: 0, faults: Vec::new() }
    }

    /// Begins a row whose first column is its UUID key.
    pub fn keyed(row: &'a Row, table: &'static str) -> Self {
        Self { row, table, key: None, next: 0, faults: Vec::new() }
    }

    /// A cell by its column's name.
    pub fn get<T: FromSql<'a> + Default>(&mut self, column: &'static str) -> T {
        self.get_as(column, column)
    }

    /// A cell that was read by another `name` than its column's.
    pub fn get_as<T: FromSql<'a> + Default>(&mut self, name: &'static str, column: &'static str) -> T {
        let value = match self.index(name) {
            Some(index) => self.row.try_get(index),
            None => self.row.try_get(name),
        };
        match value {
            Ok(value) => value,
            Err(error) => {
                let cause = std::error::Error::source(&error);
                let is_of_another_type = cause.is_some_and(<dyn std::error::Error>::is::<WrongType>);
                let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
                self.note(column, format!("{error}{cause}"), is_of_another_type);
                T::default()
            }
        }
    }

    fn index(&mut self, column: &str) -> Option<usize> {
        let columns = self.row.columns();
        let index = (self.next..columns.len()).chain(0..self.next).find(|i| columns[*i].name() == column)?;
        self.next = index + 1;
        Some(index)
    }

    /// A cell that holds one of the stable names, or `placeholder` with a fault.
    pub fn word<T: FromStr>(&mut self, column: &'static str, placeholder: T) -> T
    where
        T::Err: fmt::Display,
    {
        let before = self.faults.len();
        let text: &str = self.get(column);
        match text.parse() {
            Ok(value) => value,
            Err(error) => {
                if self.faults.len() == before {
                    self.fault(column, error.to_string());
                }
                placeholder
            }
        }
    }

    /// Records that a cell was read but makes no sense.
    pub fn fault(&mut self, column: &'static str, why: String) {
        self.note(column, why, false);
    }

    fn note(&mut self, column: &'static str, why: String, is_of_another_type: bool) {
        let first = || self.row.try_get::<_, Uuid>(0).map_or_else(|_| "?".to_owned(), |id| id.to_string());
        let row = self.key.clone().unwrap_or_else(first);
        self.faults.push(UnreadableCell { table: self.table, row, column, why, is_of_another_type });
    }

    /// The value, if every cell could be read.
    pub fn finish<T>(self, value: T) -> Result<T, Vec<UnreadableCell>> {
        if self.faults.is_empty() { Ok(value) } else { Err(self.faults) }
    }
}
