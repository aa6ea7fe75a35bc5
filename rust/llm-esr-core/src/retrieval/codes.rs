//! Rows as int8 codes, and a bound on what the codes lose.
//!
//! A row x (at length 1 where cosines are asked for) is moved by the table's mean m, x' = x - m, and coded as
//! s c, with whole numbers c in -127..=127 and s its largest entry / 127. With e = |x' - s c| and n = |s c| + e, the product
//! of two rows differs from that of their codes by no more than n e + e n (Cauchy-Schwarz). Moving by the mean
//! costs two numbers: q x = q' x' + (q' m + m m / 2) + (x' m + m m / 2); texts that are all alike have short x', and
//! short x' lose little.
//!
//! What the codes lose has codes of its own, s / 254 each. Few pairs need them: they correct the product of the codes by
//! two more, and leave a bound some hundred times as tight.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::tiles::Kernel;
use super::vectors::{Measure, Side, Vectors};
use crate::{Result, room};

/// What a fine code counts, in parts of what a code counts.
const FINE: f32 = 254.0;
/// Rows that one thread codes at a time; sums over all rows are added up by these blocks.
const BLOCK: usize = 1024;
/// What rounding may add to or take from an estimate: some ten roundings of numbers up to 4, and then some.
pub(crate) const ROUNDING: f32 = 6e-6;

/// What a row's codes mean.
#[derive(Debug, Clone, Copy, Default)]
pub struct RowOf {
    /// What a code counts.
    pub scale: f32,
    /// What is added to every product with the row; minus infinity where the row is near nothing.
    pub offset: f32,
    /// At least the length of what the codes lose; or so much less of it as is likely.
    pub error: f32,
    /// At least the length of what the codes lose.
    pub lost: f32,
    /// At least the length of what is lost in spite of the fine codes.
    pub fine_error: f32,
    /// At least the length of what the codes stand for, `error` included.
    pub size: f32,
    /// The codes' sum, times 128: what too much there is in a product with codes moved by 128.
    pub correction: i32,
    /// The same of the fine codes.
    pub fine_correction: i32,
}

/// Rows as codes.
#[derive(Debug, Default)]
pub struct Codes {
    /// Numbers of a row; a multiple of 4, filled up with zeros.
    pub(crate) width: usize,
    pub(crate) coarse: Vec<i8>,
    /// Codes of what the codes lose.
    pub(crate) fine: Vec<i8>,
    pub(crate) rows: Vec<RowOf>,
    /// The most that any row loses, in spite of the fine codes too, and the largest size.
    worst: RowOf,
}

/// The mean of a table's rows.
#[derive(Debug, Clone)]
pub struct Centre {
    mean: Vec<f32>,
    measure: Measure,
}

impl Centre {
    /// The mean of rows times their factors.
    pub(crate) fn of(vectors: Vectors<'_>, factors: &[f64], measure: Measure) -> Self {
        let blocks: Vec<Vec<f64>> = factors
            .par_chunks(BLOCK)
            .enumerate()
            .map(|(block, factors)| {
                let mut sums = vec![0.0; vectors.width];
                let mut room = vec![0.0; vectors.width];
                for (place, factor) in factors.iter().enumerate() {
                    let row = vectors.row(block * BLOCK + place, &mut room);
                    for (sum, &x) in sums.iter_mut().zip(row) {
                        *sum += f64::from(x) * factor;
                    }
                }
                sums
            })
            .collect();
        let mut mean = vec![0.0; vectors.width];
        for block in blocks {
            for (sum, x) in mean.iter_mut().zip(block) {
                *sum += x;
            }
        }
        let count = factors.len().max(1) as f64;
        Self {
            mean: mean.into_iter().map(|sum| (sum / count) as f32).collect(),
            measure,
        }
    }

    /// The codes of rows, of which the factors are given.
    pub(crate) fn codes(&self, vectors: Vectors<'_>, factors: &[f64], side: Side) -> Result<Codes> {
        let width = vectors.width.next_multiple_of(4);
        let mut coarse = room(vectors.rows, width, "vectors")?;
        coarse.resize(vectors.rows * width, 0);
        let mut fine = room(vectors.rows, width, "vectors")?;
        fine.resize(vectors.rows * width, 0);
        let mut rows = vec![RowOf::default(); vectors.rows];
        coarse
            .par_chunks_mut((BLOCK * width).max(1))
            .zip(fine.par_chunks_mut((BLOCK * width).max(1)))
            .zip(rows.par_chunks_mut(BLOCK))
            .zip(factors.par_chunks(BLOCK))
            .enumerate()
            .for_each(|(block, (((codes, fine), rows), factors))| {
                let mut room = vec![0.0; vectors.width];
                let mut moved = vec![0.0; vectors.width];
                for (place, (row, &factor)) in rows.iter_mut().zip(factors).enumerate() {
                    let x = vectors.row(block * BLOCK + place, &mut room);
                    let span = place * width..place * width + vectors.width;
                    let to = (&mut codes[span.clone()], &mut fine[span]);
                    let coding = Coding {
                        centre: self,
                        x,
                        factor,
                        side,
                        moved: &mut moved,
                        to,
                    };
                    *row = Arch::new().dispatch(coding);
                }
            });
        let mut worst = RowOf::default();
        for row in &rows {
            worst.lost = worst.lost.max(row.lost);
            worst.fine_error = worst.fine_error.max(row.fine_error);
            worst.size = worst.size.max(row.size);
        }
        Ok(Codes {
            width,
            coarse,
            fine,
            rows,
            worst,
        })
    }

    /// Codes one row; what the codes mean.
    #[inline(always)]
    fn code(
        &self,
        x: &[f32],
        factor: f64,
        side: Side,
        moved: &mut [f64],
        (codes, fine): (&mut [i8], &mut [i8]),
    ) -> RowOf {
        let mean = &self.mean[..];
        let (move_by, gives) = match (self.measure, side) {
            (Measure::Cosine, _) => (1.0, 1.0),
            (Measure::InnerProduct, Side::Table) => (1.0, 0.0),
            (Measure::InnerProduct, Side::Queries) => (0.0, 1.0),
        };
        let mut most = 0.0_f64;
        let (mut with_mean, mut means) = (0.0_f64, 0.0_f64);
        for ((moved, &x), &m) in moved.iter_mut().zip(x).zip(mean) {
            let (x, m) = (f64::from(x) * factor, f64::from(m));
            *moved = x - move_by * m;
            most = most.max(moved.abs());
            with_mean += *moved * m;
            means += m * m;
        }
        let scale = (most / 127.0) as f32;
        let inverse = if scale > 0.0 {
            1.0 / f64::from(scale)
        } else {
            0.0
        };
        let (step, fine_step) = (f64::from(scale), f64::from(scale / FINE));
        let fine_inverse = inverse * f64::from(FINE);
        let (mut lost, mut still_lost, mut stands_for) = (0.0_f64, 0.0_f64, 0.0_f64);
        let (mut sum, mut fine_sum) = (0_i32, 0_i32);
        for ((code, fine), &moved) in codes.iter_mut().zip(fine).zip(&*moved) {
            let whole = (moved * inverse).round_ties_even().clamp(-127.0, 127.0);
            let rest = moved - whole * step;
            let part = (rest * fine_inverse).round_ties_even().clamp(-127.0, 127.0);
            (*code, *fine) = (whole as i8, part as i8);
            sum += i32::from(*code);
            fine_sum += i32::from(*fine);
            let still = rest - part * fine_step;
            lost += rest * rest;
            still_lost += still * still;
            stands_for += whole * step * (whole * step);
        }
        let above = |square: f64| (square.sqrt() * (1.0 + 1e-6)) as f32;
        let lost = above(lost);
        let near_nothing = self.measure == Measure::Cosine && factor == 0.0;
        let offset = gives * (with_mean + 0.5 * move_by * means);
        RowOf {
            scale,
            offset: if near_nothing {
                f32::NEG_INFINITY
            } else {
                offset as f32
            },
            error: lost,
            lost,
            fine_error: above(still_lost),
            size: above(stands_for) + lost,
            correction: 128 * sum,
            fine_correction: 128 * fine_sum,
        }
    }
}

/// One row to be coded, with whatever vectors the processor has.
struct Coding<'a> {
    centre: &'a Centre,
    x: &'a [f32],
    factor: f64,
    side: Side,
    moved: &'a mut [f64],
    to: (&'a mut [i8], &'a mut [i8]),
}

impl WithSimd for Coding<'_> {
    type Output = RowOf;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> RowOf {
        self.centre
            .code(self.x, self.factor, self.side, self.moved, self.to)
    }
}

impl Codes {
    /// The codes of a row.
    #[inline]
    pub(crate) fn row(&self, number: usize) -> &[i8] {
        &self.coarse[number * self.width..(number + 1) * self.width]
    }

    /// The fine codes of a row.
    #[inline]
    fn fine_row(&self, number: usize) -> &[i8] {
        &self.fine[number * self.width..(number + 1) * self.width]
    }

    /// The same rows in another order.
    pub(crate) fn arranged(&self, order: &[u32]) -> Result<Self> {
        let take = |codes: &[i8]| {
            let mut taken = room(order.len(), self.width, "vectors")?;
            for &row in order {
                let start = row as usize * self.width;
                taken.extend_from_slice(&codes[start..start + self.width]);
            }
            Ok::<_, crate::Error>(taken)
        };
        Ok(Self {
            width: self.width,
            coarse: take(&self.coarse)?,
            fine: take(&self.fine)?,
            rows: order.iter().map(|&row| self.rows[row as usize]).collect(),
            worst: self.worst,
        })
    }

    /// How many rows.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Takes what the codes lose for so many times what it is.
    pub(crate) fn scale_errors(&mut self, factor: f32) {
        for row in &mut self.rows {
            row.error *= factor;
        }
    }

    /// What a refined estimate of a product with any of the rows may be wrong by, rounding aside.
    #[inline]
    pub(crate) fn worst_bound(&self, other: &RowOf) -> f32 {
        fine_bound(&self.worst, other)
    }

    /// A closer estimate, by the fine codes of a row and of another table's.
    #[inline]
    pub(crate) fn refine(
        &self,
        kernel: Kernel,
        row: usize,
        (others, other): (&Self, usize),
        estimate: f32,
    ) -> f32 {
        let (a, b) = (&self.rows[row], &others.rows[other]);
        let coarse_fine = kernel.sum(others.fine_row(other), self.row(row)) - b.fine_correction;
        let fine_coarse = kernel.sum(self.fine_row(row), others.row(other)) - a.fine_correction;
        let scale = a.scale * (b.scale / FINE);
        estimate + scale * (coarse_fine as f32 + fine_coarse as f32)
    }
}

/// Whether two numbers are as near as a bound says; a NaN is near nothing.
#[inline(always)]
pub(crate) fn within(a: f32, b: f32, bound: f32) -> bool {
    (a - b).abs() <= bound
}

/// What the product of two rows' codes may differ by from theirs, rounding aside.
#[inline(always)]
pub(crate) fn bound(a: &RowOf, b: &RowOf) -> f32 {
    a.size * b.error + a.error * b.size
}

/// What a refined estimate may differ by, rounding aside; the product of both rows' fine codes is left out of it.
#[inline(always)]
pub(crate) fn fine_bound(a: &RowOf, b: &RowOf) -> f32 {
    a.size * b.fine_error + a.fine_error * b.size + a.lost * b.lost
}
