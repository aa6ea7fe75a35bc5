//! Exact search: int8 codes say which rows may be among the best, exact scores say which are.
//!
//! A row is dropped only where an upper bound of its score lies below k lower bounds; so nothing is lost. The bounds
//! are checked: each exact score must lie within them, and a row of which one does not, or of which too many rows
//! survive, is answered by exact scores alone ([`ExactIndex::again`] counts them).

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use pulp::Arch;
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::codes::{Centre, Codes, ROUNDING, RowOf, bound, fine_bound, within};
use super::survivors::{Exactly, Ranked, Size, Survivors};
use super::sweep::{Pair, Panels};
use super::tiles::Kernel;
use super::vectors::{Measure, Side, Vectors, comparable, dot, score};
use crate::workers::check_threads;
use crate::{Error, Result, filled};

/// Rows that are columns at once: with 384 numbers each they take a tenth of a mebibyte.
pub(super) const COLUMNS: usize = 256;
/// Rows between two looks at what was found.
pub(super) const STRIP: usize = 252;
/// Bytes that all rows' survivors together may take, about.
const SURVIVORS: usize = 1 << 29;

/// How sure it is that nothing is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certainty {
    /// Nothing is: the bound is that of Cauchy and Schwarz.
    Certified,
    /// What codes lose is taken to point anywhere: seven standard deviations of its product with the other row.
    Likely,
}

/// How to search.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// What is compared.
    pub measure: Measure,
    /// How sure it is that nothing is lost.
    pub certainty: Certainty,
    /// 0 for all cores; the result does not depend on it.
    pub threads: usize,
    /// None: the fastest that the processor has. The result does not depend on it.
    pub kernel: Option<Kernel>,
}

/// The neighbours of a run of queries, best first.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbours {
    /// Row numbers `[queries, k]`, 0-based; -1 where there are fewer than k.
    pub ids: Vec<i32>,
    /// Scores `[queries, k]`; 0 where the id is -1.
    pub scores: Vec<f32>,
}

/// A table to search in: its codes, while the vectors stay where they are and are handed in at each call.
#[derive(Debug)]
pub struct ExactIndex {
    options: Options,
    pub(super) kernel: Kernel,
    centre: Centre,
    pub(super) codes: Codes,
    factors: Vec<f64>,
    width: usize,
    pub(super) pool: ThreadPool,
    again: AtomicUsize,
}

impl ExactIndex {
    /// Codes of a table.
    ///
    /// # Errors
    /// A NaN or infinite entry (its row is named), or threads that cannot start.
    pub fn new(table: Vectors<'_>, options: Options) -> Result<Self> {
        check_threads(options.threads)?;
        let pool = ThreadPoolBuilder::new()
            .num_threads(options.threads)
            .build()
            .map_err(|error| Error::argument("threads", format!("{}: {error}", options.threads)))?;
        let (factors, centre, codes) = pool.install(|| {
            let factors = table.factors("vectors", options.measure, Side::Table)?;
            let centre = Centre::of(table, &factors, options.measure);
            let codes = centre.codes(table, &factors, Side::Table)?;
            Ok::<_, Error>((factors, centre, codes))
        })?;
        let mut index = Self {
            options,
            kernel: options.kernel.unwrap_or(Kernel::available()[0]),
            centre,
            codes,
            factors,
            width: table.width,
            pool,
            again: AtomicUsize::new(0),
        };
        index.codes.scale_errors(index.shrink());
        Ok(index)
    }

    /// Vectors in the index.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.codes.len()
    }

    /// Numbers in a vector.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows that were answered by exact scores alone, so far.
    #[must_use]
    pub fn again(&self) -> usize {
        self.again.load(Ordering::Relaxed)
    }

    /// What the codes' errors are multiplied by: 1, or what a random direction leaves of a length, seven times over.
    fn shrink(&self) -> f32 {
        match self.options.certainty {
            Certainty::Certified => 1.0,
            Certainty::Likely => (7.0 / (self.width.max(1) as f32).sqrt()).min(1.0),
        }
    }

    pub(super) fn check(&self, table: Vectors<'_>, k: usize) -> Result<()> {
        if k == 0 {
            return Err(Error::argument("k", "0; at least 1 neighbour is asked for"));
        }
        if (table.rows, table.width) != (self.rows(), self.width) {
            let message = format!(
                "{} rows of {}; the index was made of {} rows of {}",
                table.rows,
                table.width,
                self.rows(),
                self.width
            );
            return Err(Error::argument("vectors", message));
        }
        Ok(())
    }

    pub(super) fn size(&self, k: usize, rows: usize) -> Size {
        let k = k.min(self.rows());
        let fair = SURVIVORS / 8 / rows.max(1);
        Size {
            k,
            most: fair.min(16 * k + 4096).max(2 * k + 256),
        }
    }

    /// The `k` rows nearest to each of `queries`; nothing is left out.
    ///
    /// # Errors
    /// Another width than the table's, a NaN or infinite entry, or a `k` of 0.
    pub fn search(&self, table: Vectors<'_>, queries: Vectors<'_>, k: usize) -> Result<Neighbours> {
        self.check(table, k)?;
        if queries.width != self.width {
            return Err(Error::argument(
                "queries",
                format!(
                    "{} numbers a row; the table's vectors have {}",
                    queries.width, self.width
                ),
            ));
        }
        self.pool.install(|| {
            let factors = queries.factors("queries", self.options.measure, Side::Queries)?;
            let mut codes = self.centre.codes(queries, &factors, Side::Queries)?;
            codes.scale_errors(self.shrink());
            let asked = Asked {
                vectors: queries,
                codes: &codes,
                factors: &factors,
                own: false,
            };
            self.ask(table, &asked, 0..queries.rows, k)
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
        self.check(table, k)?;
        self.check_own()?;
        if rows.start > rows.end || rows.end > self.rows() {
            return Err(Error::argument(
                "rows",
                format!(
                    "{}..{} of a table of {} rows",
                    rows.start,
                    rows.end,
                    self.rows()
                ),
            ));
        }
        self.pool
            .install(|| self.ask(table, &self.own(table), rows, k))
    }

    pub(super) fn check_own(&self) -> Result<()> {
        match self.options.measure {
            Measure::Cosine => Ok(()),
            Measure::InnerProduct => Err(Error::argument(
                "measure",
                "inner products compare queries with a table, not its own rows; use cosines",
            )),
        }
    }

    pub(super) fn own<'a>(&'a self, table: Vectors<'a>) -> Asked<'a> {
        Asked {
            vectors: table,
            codes: &self.codes,
            factors: &self.factors,
            own: true,
        }
    }

    fn ask(
        &self,
        table: Vectors<'_>,
        asked: &Asked<'_>,
        rows: Range<usize>,
        k: usize,
    ) -> Result<Neighbours> {
        let size = self.size(k, COLUMNS * self.pool.current_num_threads());
        let starts: Vec<usize> = rows.clone().step_by(COLUMNS).collect();
        Self::fill(rows.clone(), k, COLUMNS, |chunk, answer| {
            let start = starts[chunk];
            let numbers = start..rows.end.min(start + COLUMNS);
            let survivors = self.screen(asked, numbers.clone(), size);
            for (number, survivors) in numbers.zip(survivors) {
                answer(
                    number - start,
                    self.rank(table, asked, number, survivors, size.k),
                );
            }
        })
    }

    /// Answers of `rows`, made in chunks by `work`, which is given the chunk's number and where answers go.
    pub(super) fn fill(
        rows: Range<usize>,
        k: usize,
        chunk: usize,
        work: impl Fn(usize, &mut dyn FnMut(usize, Vec<(f32, u32)>)) + Sync,
    ) -> Result<Neighbours> {
        let mut ids = filled(-1_i32, rows.len(), k, "k")?;
        let mut scores = filled(0_f32, rows.len(), k, "k")?;
        ids.par_chunks_mut(chunk * k)
            .zip(scores.par_chunks_mut(chunk * k))
            .enumerate()
            .for_each(|(number, (ids, scores))| {
                work(number, &mut |slot, best| {
                    for (place, (score, row)) in best.into_iter().enumerate() {
                        ids[slot * k + place] = row as i32;
                        scores[slot * k + place] = score;
                    }
                });
            });
        Ok(Neighbours { ids, scores })
    }

    /// What may be among the best of some of the asked rows.
    fn screen(&self, asked: &Asked<'_>, numbers: Range<usize>, size: Size) -> Vec<Survivors> {
        let first = numbers.start;
        let mut survivors: Vec<Survivors> = numbers.clone().map(|_| Survivors::default()).collect();
        let mut limits = vec![f32::NEG_INFINITY; numbers.len()];
        let mut panels = Panels::new(self.codes.width);
        panels.pack(asked.codes, numbers.map(|number| number as u32));
        let mut found: Vec<Pair> = Vec::new();
        let mut start = 0;
        while start < self.rows() {
            // Short strips at first, while everything is still among the best.
            let end = self.rows().min(start + STRIP.min(start + 60));
            panels.set_limits(|number| limits[number as usize - first]);
            panels.sweep(self.kernel, &self.codes, start..end, None, &mut found);
            for pair in &found {
                if asked.own && pair.row == pair.column {
                    continue;
                }
                let slot = pair.column as usize - first;
                let kept = &mut survivors[slot];
                let of = &asked.codes.rows[pair.column as usize];
                let refined = self.refine(asked.codes, pair);
                if refined.broken {
                    kept.break_off();
                }
                if refined.upper <= limits[slot] {
                    continue;
                }
                let entry = (refined.estimate, pair.row);
                if let Some(limit) = kept.take(size, entry, of, |row| self.row(row)) {
                    limits[slot] = limit;
                }
            }
            found.clear();
            start = end;
        }
        survivors
    }

    /// A closer look at a pair of a row of the table and a column of `columns`.
    #[inline]
    pub(super) fn refine(&self, columns: &Codes, pair: &Pair) -> Refined {
        let (row, column) = (pair.row as usize, pair.column as usize);
        let estimate = self
            .codes
            .refine(self.kernel, row, (columns, column), pair.estimate);
        let (row, column) = (&self.codes.rows[row], &columns.rows[column]);
        let fine = fine_bound(row, column) + ROUNDING;
        Refined {
            estimate,
            upper: estimate + fine,
            broken: !within(estimate, pair.estimate, bound(row, column) + fine),
        }
    }

    pub(super) fn row(&self, number: u32) -> &RowOf {
        &self.codes.rows[number as usize]
    }

    /// The best of an asked row by exact scores.
    pub(super) fn rank(
        &self,
        table: Vectors<'_>,
        asked: &Asked<'_>,
        number: usize,
        survivors: Survivors,
        k: usize,
    ) -> Vec<(f32, u32)> {
        let mut room = vec![0.0; self.width];
        let vector = asked.vectors.row(number, &mut room);
        let factor = asked.factors[number];
        let mut other = vec![0.0; self.width];
        let mut exact = |row: u32| {
            let row = row as usize;
            let sum = Arch::new().dispatch(|| dot(vector, table.row(row, &mut other)));
            comparable(sum, (factor, self.factors[row]))
        };
        let own = asked.own.then_some(number);
        let of = &asked.codes.rows[number];
        let mut best = match survivors.rank(
            k,
            of,
            |row| self.row(row),
            &mut exact,
            |row| table.prefetch(row as usize),
        ) {
            Ranked::Best(best) => best,
            Ranked::TooMany => self.rank_as_found(asked.codes, number, own, k, &mut exact),
            Ranked::BeyondBound => self.rank_all(own, k, &mut exact),
        };
        for (value, row) in &mut best {
            let factors = (factor, self.factors[*row as usize]);
            *value = score(self.options.measure, *value, factors);
        }
        best
    }

    /// The best of a row whose survivors are too many to be kept: each is ranked as soon as it is found.
    fn rank_as_found(
        &self,
        asked: &Codes,
        number: usize,
        own: Option<usize>,
        k: usize,
        exact: &mut dyn FnMut(u32) -> f32,
    ) -> Vec<(f32, u32)> {
        self.again.fetch_add(1, Ordering::Relaxed);
        let mut panels = Panels::new(self.codes.width);
        panels.pack(asked, [number as u32]);
        let mut best = Exactly::new(k);
        let mut found: Vec<Pair> = Vec::new();
        for start in (0..self.rows()).step_by(STRIP) {
            panels.set_limits(|_| best.limit());
            let end = self.rows().min(start + STRIP);
            panels.sweep(self.kernel, &self.codes, start..end, None, &mut found);
            for pair in &found {
                if own != Some(pair.row as usize)
                    && self.refine(asked, pair).upper > best.limit() - ROUNDING
                {
                    best.take(exact(pair.row), pair.row);
                }
            }
            found.clear();
        }
        best.into_sorted()
    }

    /// The best of a row by exact scores of all rows.
    fn rank_all(
        &self,
        own: Option<usize>,
        k: usize,
        exact: &mut dyn FnMut(u32) -> f32,
    ) -> Vec<(f32, u32)> {
        self.again.fetch_add(1, Ordering::Relaxed);
        let mut best = Exactly::new(k);
        for row in (0..self.rows()).filter(|&row| own != Some(row)) {
            if self.codes.rows[row].offset > f32::NEG_INFINITY {
                best.take(exact(row as u32), row as u32);
            }
        }
        best.into_sorted()
    }
}

/// What fine codes say of a pair.
pub(super) struct Refined {
    pub(super) estimate: f32,
    pub(super) upper: f32,
    /// Whether the estimate before was beyond its bound.
    pub(super) broken: bool,
}

/// Rows that search.
pub(super) struct Asked<'a> {
    vectors: Vectors<'a>,
    codes: &'a Codes,
    factors: &'a [f64],
    /// Whether they are the table's own, each to be left out of its own list.
    own: bool,
}

#[cfg(test)]
#[path = "exact_tests.rs"]
mod tests;
