//! Exact nearest neighbours by cosine: blocks of a matrix product, and the best k of each row.
//!
//! The products are `ndarray`'s (its kernels choose their instruction set at run time, so nothing here is unsafe).
//! An element of a product is summed over the width in one fixed order, whatever the block it falls into: equal
//! vectors get equal scores, and the result does not depend on the number of threads.

use std::ops::Range;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, s};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::best::Best;
use crate::workers::check_threads;
use crate::{Error, Result, filled};

/// Rows of queries that one task holds; with `TABLE_BLOCK` a task's scores take 1 MiB.
const QUERY_BLOCK: usize = 256;
const TABLE_BLOCK: usize = 1024;
/// Scores looked at together before any of them is compared alone.
const SCAN: usize = 16;

/// A matrix of numbers, row after row.
#[derive(Clone, Copy)]
pub enum Values<'a> {
    /// Single precision.
    Single(&'a [f32]),
    /// The bits of IEEE half precision.
    Half(&'a [u16]),
}

/// Borrowed vectors `[rows, width]`.
#[derive(Clone, Copy)]
pub struct Vectors<'a> {
    /// The numbers, `rows * width` of them.
    pub values: Values<'a>,
    /// How many vectors.
    pub rows: usize,
    /// Numbers in a vector.
    pub width: usize,
}

/// The neighbours of a run of queries, best first.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbours {
    /// Row numbers `[queries, k]`, 0-based; -1 where there are fewer than k.
    pub ids: Vec<i32>,
    /// Cosines `[queries, k]`; 0 where the id is -1.
    pub scores: Vec<f32>,
}

/// Unit vectors to search in; immutable, so any number of threads may ask at once.
pub struct ExactIndex {
    unit: Array2<f32>,
    has_direction: Vec<bool>,
    pool: ThreadPool,
}

impl ExactIndex {
    /// Takes a copy of `table` with every row scaled to length 1.
    ///
    /// # Errors
    /// A NaN or infinite entry (its row is named), more rows than an `i32` counts, or threads that cannot start.
    pub fn new(table: Vectors<'_>, threads: usize) -> Result<Self> {
        if i32::try_from(table.rows).is_err() {
            return Err(Error::argument(
                "vectors",
                format!("{} rows; ids are 32-bit, at most {}", table.rows, i32::MAX),
            ));
        }
        check_threads(threads)?;
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .map_err(|error| Error::argument("threads", format!("{threads}: {error}")))?;
        let (unit, has_direction) = unit_rows("vectors", table)?;
        Ok(Self {
            unit,
            has_direction,
            pool,
        })
    }

    /// Vectors in the index.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.unit.nrows()
    }

    /// Numbers in a vector.
    #[must_use]
    pub fn width(&self) -> usize {
        self.unit.ncols()
    }

    /// The `k` nearest of each of the index's own `rows`, the row itself left out by its number.
    ///
    /// Ties go to the smaller row number. A zero vector has no neighbours and is nobody's neighbour.
    ///
    /// # Errors
    /// `rows` beyond the table, or a `k` of 0.
    pub fn search_rows(&self, rows: Range<usize>, k: usize) -> Result<Neighbours> {
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
        self.search_unit(
            self.unit.slice(s![rows.clone(), ..]),
            &self.has_direction[rows.clone()],
            Some(rows.start),
            k,
        )
    }

    /// The `k` rows nearest to each of `queries`; nothing is left out.
    ///
    /// # Errors
    /// Another width than the table's, a NaN or infinite entry, or a `k` of 0.
    pub fn search(&self, queries: Vectors<'_>, k: usize) -> Result<Neighbours> {
        if queries.width != self.width() {
            return Err(Error::argument(
                "queries",
                format!(
                    "{} numbers a row; the table's vectors have {}",
                    queries.width,
                    self.width()
                ),
            ));
        }
        let (unit, has_direction) = unit_rows("queries", queries)?;
        self.search_unit(unit.view(), &has_direction, None, k)
    }

    fn search_unit(
        &self,
        queries: ArrayView2<'_, f32>,
        has_direction: &[bool],
        first_row: Option<usize>,
        k: usize,
    ) -> Result<Neighbours> {
        if k == 0 {
            return Err(Error::argument("k", "0; at least 1 neighbour is asked for"));
        }
        let count = queries.nrows();
        let mut ids = filled(-1_i32, count, k, "k")?;
        let mut scores = filled(0_f32, count, k, "k")?;
        self.pool.install(|| {
            ids.par_chunks_mut(QUERY_BLOCK * k)
                .zip(scores.par_chunks_mut(QUERY_BLOCK * k))
                .enumerate()
                .for_each(|(block, (ids, scores))| {
                    let start = block * QUERY_BLOCK;
                    let end = count.min(start + QUERY_BLOCK);
                    let own = first_row.map(|row| row + start);
                    let best = self.search_block(queries.slice(s![start..end, ..]), own, k);
                    for (slot, mut best) in best.into_iter().enumerate() {
                        if has_direction[start + slot] {
                            for (place, (score, row)) in best.drain().enumerate() {
                                ids[slot * k + place] = row as i32;
                                scores[slot * k + place] = score;
                            }
                        }
                    }
                });
        });
        Ok(Neighbours { ids, scores })
    }

    fn search_block(
        &self,
        queries: ArrayView2<'_, f32>,
        own: Option<usize>,
        k: usize,
    ) -> Vec<Best> {
        let mut best: Vec<Best> = (0..queries.nrows())
            .map(|_| Best::new(k.min(self.rows())))
            .collect();
        let mut products = Array2::<f32>::zeros((queries.nrows(), TABLE_BLOCK.min(self.rows())));
        for start in (0..self.rows()).step_by(TABLE_BLOCK) {
            let end = self.rows().min(start + TABLE_BLOCK);
            let mut products = products.slice_mut(s![.., ..end - start]);
            let table = self.unit.slice(s![start..end, ..]);
            general_mat_mul(1.0, &queries, &table.t(), 0.0, &mut products);
            for (slot, best) in best.iter_mut().enumerate() {
                let row = products.row(slot);
                let Some(row) = row.as_slice() else {
                    unreachable!("a row of a row-major product is contiguous")
                };
                offer(
                    best,
                    row,
                    start,
                    own.map(|own| own + slot),
                    &self.has_direction,
                );
            }
        }
        best
    }
}

/// Offers the scores of the rows `start..` to the best of a query.
fn offer(
    best: &mut Best,
    scores: &[f32],
    start: usize,
    own: Option<usize>,
    has_direction: &[bool],
) {
    for (chunk, scores) in scores.chunks(SCAN).enumerate() {
        let threshold = best.threshold();
        // Counted rather than searched: a sum without an early exit is compiled to vector instructions.
        let above: u32 = scores.iter().map(|&x| u32::from(x > threshold)).sum();
        if above == 0 {
            continue;
        }
        for (place, &score) in scores.iter().enumerate() {
            let row = start + chunk * SCAN + place;
            // Rounding may lift a product of unit vectors above 1; there it must tie with 1.
            let score = score.clamp(-1.0, 1.0);
            if score > best.threshold() && has_direction[row] && own != Some(row) {
                best.take(score, row as u32);
            }
        }
    }
}

/// Every row at length 1 (a zero row stays zero), and which rows have a direction at all.
fn unit_rows(argument: &'static str, vectors: Vectors<'_>) -> Result<(Array2<f32>, Vec<bool>)> {
    let Vectors {
        values,
        rows,
        width,
    } = vectors;
    let mut unit = Array2::<f32>::zeros((rows, width));
    let mut has_direction = vec![false; rows];
    for (number, mut row) in unit.outer_iter_mut().enumerate() {
        let span = number * width..(number + 1) * width;
        match values {
            Values::Single(values) => {
                for (to, &from) in row.iter_mut().zip(&values[span]) {
                    *to = from;
                }
            }
            Values::Half(values) => {
                for (to, &from) in row.iter_mut().zip(&values[span]) {
                    *to = single_from_half(from);
                }
            }
        }
        // In double precision, so that no finite row overflows or vanishes when it is squared.
        let squares: f64 = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        if !squares.is_finite() {
            return Err(Error::argument(
                argument,
                format!("row {number} holds NaN or infinity; expected finite numbers"),
            ));
        }
        if squares > 0.0 {
            let norm = squares.sqrt();
            row.mapv_inplace(|x| (f64::from(x) / norm) as f32);
            has_direction[number] = true;
        }
    }
    Ok((unit, has_direction))
}

fn single_from_half(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7fff);
    if magnitude >= 0x7c00 {
        return f32::from_bits(sign | 0x7f80_0000 | (magnitude & 0x3ff) << 13);
    }
    // The exponent's bias differs by 112; the product also brings subnormal numbers to their value.
    let scale = f32::from_bits((127 + 112) << 23);
    f32::from_bits(sign | magnitude << 13) * scale
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(values: &[f32], width: usize, threads: usize) -> ExactIndex {
        ExactIndex::new(vectors(values, width), threads).unwrap()
    }

    fn vectors(values: &[f32], width: usize) -> Vectors<'_> {
        Vectors {
            values: Values::Single(values),
            rows: values.len() / width,
            width,
        }
    }

    /// Numbers without a pattern that a block size could hide behind.
    fn scattered(count: usize) -> Vec<f32> {
        let mut state = 1_u64;
        (0..count)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / 8_388_608.0 - 1.0
            })
            .collect()
    }

    #[test]
    fn a_row_is_left_out_by_its_number_and_its_twin_stays() {
        let found = index(&[1.0, 0.0, 2.0, 0.0, 0.0, 1.0], 2, 1)
            .search_rows(0..3, 1)
            .unwrap();
        assert_eq!(found.ids, [1, 0, 0]);
        assert!((found.scores[0] - 1.0).abs() < 1e-6);
    }

    #[test]
    fn ties_go_to_the_smaller_row_in_every_block() {
        let rows = TABLE_BLOCK + 7;
        let found = index(&[0.3, 0.4, 0.5].repeat(rows), 3, 2)
            .search_rows(0..rows, 3)
            .unwrap();
        assert_eq!(found.ids[..6], [1, 2, 3, 0, 2, 3]);
        assert_eq!(found.ids[(rows - 1) * 3..], [0, 1, 2]);
    }

    #[test]
    fn a_zero_vector_has_no_neighbours_and_is_none() {
        let found = index(&[0.0, 0.0, 1.0, 0.0, -1.0, 0.0], 2, 1)
            .search_rows(0..3, 2)
            .unwrap();
        assert_eq!(found.ids, [-1, -1, 2, -1, 1, -1]);
    }

    #[test]
    fn threads_and_runs_of_queries_do_not_change_the_result() {
        let values = scattered(1500 * 19);
        let one = index(&values, 19, 1).search_rows(0..1500, 10).unwrap();
        let four = index(&values, 19, 4);
        assert_eq!(one, four.search_rows(0..1500, 10).unwrap());
        let part = four.search_rows(600..901, 10).unwrap();
        assert_eq!(one.ids[6000..9010], part.ids);
        assert_eq!(one.scores[6000..9010], part.scores);
    }

    #[test]
    fn nan_is_refused_with_its_row() {
        let error = ExactIndex::new(vectors(&[1.0, 2.0, f32::NAN, 0.0], 2), 1)
            .err()
            .unwrap();
        assert!(error.to_string().contains("row 1 holds NaN"), "{error}");
    }

    #[test]
    fn half_precision_is_read_exactly() {
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x0001, 2_f32.powi(-24)),
            (0x7bff, 65504.0),
            (0x3555, 0.333_251_95),
        ] {
            assert_eq!(single_from_half(bits).to_bits(), f32::to_bits(value));
        }
        assert!(single_from_half(0x7e00).is_nan());
        assert!(single_from_half(0xfc00).is_infinite());
    }

    #[test]
    fn more_neighbours_than_rows_leave_empty_slots() {
        let found = index(&[1.0, 0.0, 1.0, 1.0], 2, 1)
            .search(vectors(&[0.0, 1.0], 2), 4)
            .unwrap();
        assert_eq!(found.ids, [1, 0, -1, -1]);
    }
}
