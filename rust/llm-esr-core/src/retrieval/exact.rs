//! Exact search: queries against a whole table.

use std::ops::Range;

use super::coded::{Asked, Coded, Neighbours, Options, answers};
use super::survivors::Survivors;
use super::sweep::Panels;
use super::vectors::Vectors;
use crate::workers::Threads;
use crate::{Error, Result};

/// Rows that are columns at once: with 384 numbers each they take a tenth of a mebibyte.
pub(super) const COLUMNS: usize = 256;

/// A table to search in: its codes, while the vectors stay where they are and are handed in at each call.
#[derive(Debug)]
pub struct ExactIndex {
    pub(super) coded: Coded,
    pub(super) threads: Threads,
}

impl ExactIndex {
    /// Codes of a table.
    ///
    /// # Errors
    /// A NaN or infinite entry (its row is named), or threads that cannot start.
    pub fn new(table: Vectors<'_>, options: Options) -> Result<Self> {
        let threads = Threads::new(options.threads)?;
        let coded = threads.pool()?.install(|| Coded::new(table, options))?;
        Ok(Self { coded, threads })
    }

    /// Vectors in the index.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.coded.rows()
    }

    /// Numbers in a vector.
    #[must_use]
    pub fn width(&self) -> usize {
        self.coded.width
    }

    /// Rows that were answered by exact scores alone, so far.
    #[must_use]
    pub fn again(&self) -> usize {
        self.coded.again()
    }

    /// The `k` rows nearest to each of `queries`; nothing is left out.
    ///
    /// # Errors
    /// Another width than the table's, a NaN or infinite entry, or a `k` of 0.
    pub fn search(&self, table: Vectors<'_>, queries: Vectors<'_>, k: usize) -> Result<Neighbours> {
        self.coded.check(table, k)?;
        self.threads.pool()?.install(|| {
            let coded = self.coded.queries(queries)?;
            self.ask(table, &Coded::asked(queries, &coded), 0..queries.rows, k)
        })
    }

    /// The `k` nearest of each of the table's own `rows`, the row itself left out by its number.
    ///
    /// Ties go to the smaller row number. A zero vector has no neighbours and is nobody's neighbour.
    ///
    /// # Errors
    /// `rows` beyond the table, a `k` of 0, or inner products, by which rows are not each other's neighbours.
    pub fn search_rows(
        &self,
        table: Vectors<'_>,
        rows: Range<usize>,
        k: usize,
    ) -> Result<Neighbours> {
        self.coded.check(table, k)?;
        self.coded.check_own()?;
        if rows.start > rows.end || rows.end > self.rows() {
            let message = format!(
                "{}..{} of a table of {} rows",
                rows.start,
                rows.end,
                self.rows()
            );
            return Err(Error::argument("rows", message));
        }
        self.threads
            .pool()?
            .install(|| self.ask(table, &self.coded.own(table), rows, k))
    }

    fn ask(
        &self,
        table: Vectors<'_>,
        asked: &Asked<'_>,
        rows: Range<usize>,
        k: usize,
    ) -> Result<Neighbours> {
        let coded = &self.coded;
        let size = coded.size(k, COLUMNS * rayon::current_num_threads());
        let all = 0..coded.rows();
        answers(rows.len(), k, COLUMNS, |chunk, answer| {
            let start = rows.start + chunk * COLUMNS;
            let columns = start..rows.end.min(start + COLUMNS);
            let mut survivors: Vec<Survivors> =
                columns.clone().map(|_| Survivors::default()).collect();
            let mut limits = vec![f32::NEG_INFINITY; columns.len()];
            let mut panels = Panels::new(coded.codes.width);
            panels.pack(asked.codes, columns.clone().map(|number| number as u32));
            coded.screen(
                asked,
                &mut panels,
                all.clone(),
                (size, &mut survivors, &mut limits),
                |column| column as usize - start,
                &mut Vec::new(),
            );
            for (number, survivors) in columns.zip(survivors) {
                let all = std::slice::from_ref(&all);
                let best = coded.rank(table, asked, number, survivors, size.k, all);
                answer(number - start, best);
            }
        })
    }
}

#[cfg(test)]
#[path = "exact_tests.rs"]
mod tests;
