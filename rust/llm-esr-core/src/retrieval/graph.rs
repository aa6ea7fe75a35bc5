//! All rows of a table against each other. A pair serves both sides, so it takes half the products of as many queries.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use rayon::prelude::*;

use super::coded::{Neighbours, Refined, STRIP, answers};
use super::exact::{COLUMNS, ExactIndex};
use super::survivors::{Size, Survivors};
use super::sweep::{Pair, Panels};
use super::vectors::Vectors;
use crate::pool::lock;
use crate::{Error, Result};

/// Rows that one lock guards.
pub(super) const SQUARE: usize = 2048;
/// Rows that one thread ranks at a time.
const RANKED: usize = 64;

/// The search of all rows of a table for their neighbours, in pieces, so that others get their turn in between.
pub struct Graph {
    k: usize,
    size: Size,
    squares: Vec<(usize, usize)>,
    done: usize,
    survivors: Vec<Mutex<Vec<Survivors>>>,
    limits: Vec<AtomicU32>,
}

impl Graph {
    /// The search for the `k` nearest of each row of an index.
    ///
    /// # Errors
    /// A `k` of 0, or inner products.
    pub fn new(index: &ExactIndex, k: usize) -> Result<Self> {
        index.coded.check_own()?;
        if k == 0 {
            return Err(Error::argument("k", "0; at least 1 neighbour is asked for"));
        }
        let rows = index.rows();
        let strips = rows.div_ceil(SQUARE);
        // The diagonal first: from then on every row knows what must be exceeded.
        let squares = (0..strips)
            .flat_map(|apart| (0..strips - apart).map(move |first| (first, first + apart)))
            .collect();
        let survivors = (0..strips)
            .map(|strip| {
                let count = SQUARE.min(rows - strip * SQUARE);
                Mutex::new((0..count).map(|_| Survivors::default()).collect())
            })
            .collect();
        let limit = f32::NEG_INFINITY.to_bits();
        Ok(Self {
            k,
            size: index.coded.size(k, rows),
            squares,
            done: 0,
            survivors,
            limits: (0..rows).map(|_| AtomicU32::new(limit)).collect(),
        })
    }

    /// How many pieces are done, and of how many.
    #[must_use]
    pub fn progress(&self) -> (usize, usize) {
        (self.done, self.squares.len())
    }

    /// Does the next `pieces`.
    ///
    /// # Errors
    /// Threads that cannot start.
    pub fn advance(&mut self, index: &ExactIndex, pieces: usize) -> Result<()> {
        let end = self.squares.len().min(self.done.saturating_add(pieces));
        let squares = &self.squares[self.done..end];
        index.threads.pool()?.install(|| {
            squares
                .par_iter()
                .with_max_len(1)
                .for_each(|&square| self.square(index, square));
        });
        self.done = end;
        Ok(())
    }

    /// Screens a square of pairs.
    fn square(&self, index: &ExactIndex, (first, second): (usize, usize)) {
        let strip = |number: usize| number * SQUARE..index.rows().min((number + 1) * SQUARE);
        let (rows, columns) = (strip(first), strip(second));
        let limit = |row: usize| f32::from_bits(self.limits[row].load(Ordering::Relaxed));
        let mut panels = Panels::new(index.coded.codes.width);
        let mut found: Vec<Pair> = Vec::new();
        for start in columns.clone().step_by(COLUMNS) {
            let end = columns.end.min(start + COLUMNS);
            panels.pack(&index.coded.codes, start as u32..end as u32);
            for start in rows.clone().step_by(STRIP) {
                let rows = start..rows.end.min(start + STRIP);
                let limits: Vec<f32> = rows.clone().map(limit).collect();
                if first != second {
                    panels.set_limits(|number| limit(number as usize));
                }
                panels.sweep(
                    index.coded.kernel,
                    &index.coded.codes,
                    rows,
                    Some(&limits),
                    &mut found,
                );
                let refined: Vec<Refined> = found
                    .iter()
                    .map(|pair| index.coded.refine(&index.coded.codes, pair))
                    .collect();
                let pairs = || found.iter().zip(&refined);
                let for_rows = pairs().filter(|(pair, _)| pair.for_row);
                let for_columns = pairs().filter(|(pair, _)| pair.for_column);
                self.take(
                    index,
                    first,
                    for_rows.map(|(pair, of)| (pair.row, pair.column, of)),
                );
                self.take(
                    index,
                    second,
                    for_columns.map(|(pair, of)| (pair.column, pair.row, of)),
                );
                found.clear();
            }
        }
    }

    /// Keeps what was found for rows of a strip.
    fn take<'a>(
        &self,
        index: &ExactIndex,
        strip: usize,
        found: impl Iterator<Item = (u32, u32, &'a Refined)>,
    ) {
        let mut survivors = lock(&self.survivors[strip]);
        for (row, other, refined) in found {
            let limit = &self.limits[row as usize];
            if row == other || refined.upper <= f32::from_bits(limit.load(Ordering::Relaxed)) {
                continue;
            }
            let kept = &mut survivors[row as usize - strip * SQUARE];
            if refined.broken {
                kept.break_off();
            }
            let entry = (refined.estimate, other);
            let bound = index.coded.codes.worst_bound(index.coded.row_of(row));
            if let Some(new) = kept.take(self.size, entry, bound) {
                limit.store(new.to_bits(), Ordering::Relaxed);
            }
        }
    }

    /// The neighbours of a run of rows; what was kept for them is let go.
    ///
    /// # Errors
    /// Pieces that are left to do, rows beyond the table, or another table than the index was made of.
    pub fn rank(
        &mut self,
        index: &ExactIndex,
        table: Vectors<'_>,
        rows: Range<usize>,
    ) -> Result<Neighbours> {
        index.coded.check(table, self.k)?;
        if self.done < self.squares.len() || rows.start > rows.end || rows.end > index.rows() {
            let message = format!(
                "{}..{} of {} rows, {} of {} pieces done",
                rows.start,
                rows.end,
                index.rows(),
                self.done,
                self.squares.len()
            );
            return Err(Error::argument("rows", message));
        }
        let asked = index.coded.own(table);
        let all = 0..index.rows();
        let all = std::slice::from_ref(&all);
        index.threads.pool()?.install(|| {
            answers(rows.len(), self.k, RANKED, |chunk, answer| {
                let start = rows.start + chunk * RANKED;
                for row in start..rows.end.min(start + RANKED) {
                    let kept =
                        std::mem::take(&mut lock(&self.survivors[row / SQUARE])[row % SQUARE]);
                    answer(
                        row - start,
                        index.coded.rank(table, &asked, row, kept, self.size.k, all),
                    );
                }
            })
        })
    }
}
