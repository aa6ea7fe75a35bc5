//! A table as codes, beside which its vectors lie: what may be among the best, and its exact ranking.
//!
//! A row is dropped only where an upper bound of its score lies below k lower bounds; so nothing is lost. The bounds
//! are checked: each score that is looked at more closely must lie within them, and a row of which one does not, or of
//! which too many rows survive, is answered by exact scores alone ([`Coded::again`] counts them).

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::codes::{Centre, Codes, ROUNDING, RowOf, bound, fine_bound, within};
use super::survivors::{Exactly, Ranked, Size, Survivors};
use super::sweep::{Pair, Panels};
use super::tiles::Kernel;
use super::vectors::{Measure, Side, Vectors, comparable, score, sum_of_products};
use crate::{Error, Result, filled};

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

/// A table's codes, in an order of their own; places are counted in it.
#[derive(Debug)]
pub(super) struct Coded {
    pub(super) kernel: Kernel,
    pub(super) codes: Codes,
    pub(super) width: usize,
    options: Options,
    centre: Centre,
    factors: Vec<f64>,
    /// The row that is coded at each place; empty where that is the place's number.
    order: Vec<u32>,
    again: AtomicUsize,
}

/// Rows that search.
pub(super) struct Asked<'a> {
    vectors: Vectors<'a>,
    factors: &'a [f64],
    pub(super) codes: &'a Codes,
    /// Where they are the table's own, each to be left out of its own list: the row coded at each place.
    own: Option<&'a [u32]>,
}

/// Queries as codes.
pub(super) struct Queries {
    codes: Codes,
    factors: Vec<f64>,
}

/// What fine codes say of a pair.
pub(super) struct Refined {
    pub(super) estimate: f32,
    pub(super) upper: f32,
    /// Whether the estimate before was beyond its bound.
    pub(super) broken: bool,
}

impl Coded {
    /// Codes of a table, in the order of its rows.
    ///
    /// # Errors
    /// A NaN or infinite entry (its row is named).
    pub(super) fn new(table: Vectors<'_>, options: Options) -> Result<Self> {
        let factors = table.factors("vectors", options.measure, Side::Table)?;
        let centre = Centre::of(table, &factors, options.measure);
        let codes = centre.codes(table, &factors, Side::Table)?;
        let mut made = Self {
            kernel: options.kernel.unwrap_or(Kernel::available()[0]),
            codes,
            width: table.width,
            options,
            centre,
            factors,
            order: Vec::new(),
            again: AtomicUsize::new(0),
        };
        made.codes.scale_errors(made.shrink());
        Ok(made)
    }

    /// The same with the rows in another order, all of them once.
    ///
    /// # Errors
    /// No memory.
    pub(super) fn arranged(self, order: Vec<u32>) -> Result<Self> {
        Ok(Self {
            codes: self.codes.arranged(&order)?,
            order,
            ..self
        })
    }

    pub(super) fn rows(&self) -> usize {
        self.codes.len()
    }

    pub(super) fn measure(&self) -> Measure {
        self.options.measure
    }

    pub(super) fn centre(&self) -> &Centre {
        &self.centre
    }

    pub(super) fn factors(&self) -> &[f64] {
        &self.factors
    }

    /// Rows that were answered by exact scores alone, so far.
    pub(super) fn again(&self) -> usize {
        self.again.load(Ordering::Relaxed)
    }

    /// The row that is coded at a place.
    #[inline]
    pub(super) fn row_at(&self, place: u32) -> u32 {
        row_at(&self.order, place)
    }

    /// What the codes' errors are multiplied by: 1, or what a random direction leaves of a length, seven times over.
    fn shrink(&self) -> f32 {
        match self.options.certainty {
            Certainty::Certified => 1.0,
            Certainty::Likely => (7.0 / (self.width.max(1) as f32).sqrt()).min(1.0),
        }
    }

    /// That these are the vectors which are coded, and that there is something to look for.
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

    /// That the table's rows can be each other's neighbours.
    pub(super) fn check_own(&self) -> Result<()> {
        match self.options.measure {
            Measure::Cosine => Ok(()),
            Measure::InnerProduct => Err(Error::argument(
                "measure",
                "inner products compare queries with a table, not its own rows; use cosines",
            )),
        }
    }

    /// How much is kept for each of so many rows at once.
    pub(super) fn size(&self, k: usize, rows: usize) -> Size {
        let k = k.min(self.rows());
        let fair = SURVIVORS / 8 / rows.max(1);
        Size {
            k,
            most: fair.min(16 * k + 4096).max(2 * k + 256),
        }
    }

    /// Queries as codes.
    ///
    /// # Errors
    /// Another width than the table's, or a NaN or infinite entry.
    pub(super) fn queries(&self, queries: Vectors<'_>) -> Result<Queries> {
        if queries.width != self.width {
            let message = format!(
                "{} numbers a row; the table's vectors have {}",
                queries.width, self.width
            );
            return Err(Error::argument("queries", message));
        }
        let factors = queries.factors("queries", self.options.measure, Side::Queries)?;
        let mut codes = self.centre.codes(queries, &factors, Side::Queries)?;
        codes.scale_errors(self.shrink());
        Ok(Queries { codes, factors })
    }

    /// Queries that search.
    pub(super) fn asked<'a>(vectors: Vectors<'a>, queries: &'a Queries) -> Asked<'a> {
        Asked {
            vectors,
            factors: &queries.factors,
            codes: &queries.codes,
            own: None,
        }
    }

    /// The table's own rows, by their places.
    pub(super) fn own<'a>(&'a self, table: Vectors<'a>) -> Asked<'a> {
        Asked {
            vectors: table,
            factors: &self.factors,
            codes: &self.codes,
            own: Some(&self.order),
        }
    }

    pub(super) fn row_of(&self, place: u32) -> &RowOf {
        &self.codes.rows[place as usize]
    }

    /// A closer look at a pair of a place of the table and a column of `columns`.
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

    /// Looks at some places for what may be among the best of packed columns, whose survivors and limits are given.
    pub(super) fn screen(
        &self,
        asked: &Asked<'_>,
        panels: &mut Panels,
        places: Range<usize>,
        (size, survivors, limits): (Size, &mut [Survivors], &mut [f32]),
        slot: impl Fn(u32) -> usize,
        found: &mut Vec<Pair>,
    ) {
        let mut start = places.start;
        while start < places.end {
            // Short strips at first, while everything is still among the best.
            let end = places.end.min(start + STRIP.min(start - places.start + 60));
            panels.set_limits(|column| limits[slot(column)]);
            found.clear();
            panels.sweep(self.kernel, &self.codes, start..end, None, found);
            for pair in &*found {
                if asked.own.is_some() && pair.row == pair.column {
                    continue;
                }
                let slot = slot(pair.column);
                let kept = &mut survivors[slot];
                let refined = self.refine(asked.codes, pair);
                if refined.broken {
                    kept.break_off();
                }
                if refined.upper <= limits[slot] {
                    continue;
                }
                let of = &asked.codes.rows[pair.column as usize];
                let entry = (refined.estimate, pair.row);
                if let Some(limit) = kept.take(size, entry, self.codes.worst_bound(of)) {
                    limits[slot] = limit;
                }
            }
            start = end;
        }
    }

    /// The best of an asked row by exact scores, from what survived of `places`.
    pub(super) fn rank(
        &self,
        table: Vectors<'_>,
        asked: &Asked<'_>,
        number: usize,
        survivors: Survivors,
        k: usize,
        places: &[Range<usize>],
    ) -> Vec<(f32, u32)> {
        let own_row = asked.own.map(|order| row_at(order, number as u32));
        let row = own_row.map_or(number, |row| row as usize);
        let mut room = vec![0.0; self.width];
        let vector = asked.vectors.row(row, &mut room);
        let factor = asked.factors[row];
        let mut other = vec![0.0; self.width];
        let mut exact = |place: u32| {
            let row = self.row_at(place) as usize;
            let sum = sum_of_products(vector, table.row(row, &mut other));
            (comparable(sum, (factor, self.factors[row])), row as u32)
        };
        let ahead = |place| table.prefetch(self.row_at(place) as usize);
        let of = &asked.codes.rows[number];
        let own = asked.own.map(|_| number as u32);
        let mut best = match survivors.rank(k, self.codes.worst_bound(of), &mut exact, ahead) {
            Ranked::Best(best) => best,
            Ranked::TooMany => self.rank_as_found(asked.codes, number, own, k, places, &mut exact),
            Ranked::BeyondBound => self.rank_all(own, k, places, &mut exact),
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
        own: Option<u32>,
        k: usize,
        places: &[Range<usize>],
        exact: &mut dyn FnMut(u32) -> (f32, u32),
    ) -> Vec<(f32, u32)> {
        self.again.fetch_add(1, Ordering::Relaxed);
        let mut panels = Panels::new(self.codes.width);
        panels.pack(asked, [number as u32]);
        let mut best = Exactly::new(k);
        let mut found: Vec<Pair> = Vec::new();
        for places in places {
            for start in places.clone().step_by(STRIP) {
                panels.set_limits(|_| best.limit());
                let strip = start..places.end.min(start + STRIP);
                panels.sweep(self.kernel, &self.codes, strip, None, &mut found);
                for pair in found.drain(..) {
                    let upper = self.refine(asked, &pair).upper;
                    if own != Some(pair.row) && upper > best.limit() - ROUNDING {
                        best.take(exact(pair.row));
                    }
                }
            }
        }
        best.into_sorted()
    }

    /// The best of a row by exact scores of all rows.
    fn rank_all(
        &self,
        own: Option<u32>,
        k: usize,
        places: &[Range<usize>],
        exact: &mut dyn FnMut(u32) -> (f32, u32),
    ) -> Vec<(f32, u32)> {
        self.again.fetch_add(1, Ordering::Relaxed);
        let mut best = Exactly::new(k);
        for place in places.iter().cloned().flatten().map(|place| place as u32) {
            if own != Some(place) && self.row_of(place).offset > f32::NEG_INFINITY {
                best.take(exact(place));
            }
        }
        best.into_sorted()
    }
}

fn row_at(order: &[u32], place: u32) -> u32 {
    order.get(place as usize).copied().unwrap_or(place)
}

/// Takes one answer: its slot, and scores and rows, best first.
pub(super) type Answer<'a> = dyn FnMut(usize, Vec<(f32, u32)>) + 'a;

/// Answers of `count` rows, made in chunks by `work`, which is given the chunk's number and where answers go.
pub(super) fn answers(
    count: usize,
    k: usize,
    chunk: usize,
    work: impl Fn(usize, &mut Answer<'_>) + Sync,
) -> Result<Neighbours> {
    let mut ids = filled(-1_i32, count, k, "k")?;
    let mut scores = filled(0_f32, count, k, "k")?;
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
