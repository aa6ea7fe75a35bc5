//! Vectors as they came, and exact scores of two of them.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::mapped::prefetch;
use crate::{Error, Result};

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

/// How near two vectors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// The cosine of the angle between them; a zero vector is near nothing.
    Cosine,
    /// The sum of products.
    InnerProduct,
}

impl<'a> Vectors<'a> {
    /// Numbers and a shape that must fit each other.
    ///
    /// # Errors
    /// They do not, or more rows than an `i32` counts.
    pub fn new(
        argument: &'static str,
        values: Values<'a>,
        rows: usize,
        width: usize,
    ) -> Result<Self> {
        let count = match values {
            Values::Single(values) => values.len(),
            Values::Half(values) => values.len(),
        };
        if rows.checked_mul(width) != Some(count) {
            let message = format!("{count} numbers are not {rows} rows of {width}");
            return Err(Error::argument(argument, message));
        }
        if i32::try_from(rows).is_err() {
            let message = format!("{rows} rows; ids are 32-bit, at most {}", i32::MAX);
            return Err(Error::argument(argument, message));
        }
        Ok(Self {
            values,
            rows,
            width,
        })
    }

    /// A row in single precision; half precision is converted into `room`, which has the row's width.
    #[inline]
    pub(crate) fn row<'b>(&self, number: usize, room: &'b mut [f32]) -> &'b [f32]
    where
        'a: 'b,
    {
        let span = number * self.width..(number + 1) * self.width;
        match self.values {
            Values::Single(values) => &values[span],
            Values::Half(values) => {
                for (to, &from) in room.iter_mut().zip(&values[span]) {
                    *to = single_from_half(from);
                }
                room
            }
        }
    }

    /// Asks for a row's numbers ahead of their use.
    #[inline]
    pub(crate) fn prefetch(&self, number: usize) {
        let start = number * self.width;
        match self.values {
            Values::Single(values) => {
                for at in (start..start + self.width).step_by(16) {
                    prefetch(values, at);
                }
            }
            Values::Half(values) => {
                for at in (start..start + self.width).step_by(32) {
                    prefetch(values, at);
                }
            }
        }
    }

    /// What each row is multiplied by before it is compared, so that no score exceeds 1: 1 / its length for cosines (0
    /// for a row of zeros), else a power of two, which rounds nothing; one for all rows of a table, one for each query.
    ///
    /// # Errors
    /// A row with NaN or infinity, which is named.
    pub(crate) fn factors(
        &self,
        argument: &'static str,
        measure: Measure,
        side: Side,
    ) -> Result<Vec<f64>> {
        let mut factors = vec![0.0; self.rows];
        factors
            .par_chunks_mut(1024)
            .enumerate()
            .for_each(|(chunk, factors)| {
                let mut room = vec![0.0; self.width];
                for (place, factor) in factors.iter_mut().enumerate() {
                    let row = self.row(chunk * 1024 + place, &mut room);
                    // In double precision no finite row overflows or vanishes when it is squared.
                    *factor = sum_of_products(row, row).sqrt();
                }
            });
        if let Some(number) = factors.iter().position(|length| !length.is_finite()) {
            let message = format!("row {number} holds NaN or infinity; expected finite numbers");
            return Err(Error::argument(argument, message));
        }
        match (measure, side) {
            (Measure::Cosine, _) => {
                for factor in &mut factors {
                    *factor = if *factor > 0.0 { 1.0 / *factor } else { 0.0 };
                }
            }
            (Measure::InnerProduct, Side::Queries) => {
                for factor in &mut factors {
                    *factor = power_below(*factor);
                }
            }
            (Measure::InnerProduct, Side::Table) => {
                let factor = power_below(factors.iter().copied().fold(0.0, f64::max));
                factors.fill(factor);
            }
        }
        Ok(factors)
    }
}

/// Which side of a product rows are on. It matters for inner products alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The rows that are searched.
    Table,
    /// The rows that search.
    Queries,
}

/// A power of two that brings a length below 1; 1 for 0.
fn power_below(length: f64) -> f64 {
    if length > 0.0 {
        (-length.log2().floor() - 1.0).exp2()
    } else {
        1.0
    }
}

/// Sums that run beside each other; they do not depend on the processor, and neither does the result.
const SUMS: usize = 32;

/// The sum of products, in double precision (a product of two single-precision numbers is exact there).
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<SUMS>(), b.as_chunks::<SUMS>());
    let mut sums = [0.0_f64; SUMS];
    for (a, b) in a.iter().zip(b) {
        for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            *sum += f64::from(a) * f64::from(b);
        }
    }
    for ((sum, &a), &b) in sums.iter_mut().zip(a_rest).zip(b_rest) {
        *sum += f64::from(a) * f64::from(b);
    }
    let mut width = SUMS / 2;
    while width > 0 {
        for place in 0..width {
            sums[place] += sums[place + width];
        }
        width /= 2;
    }
    sums[0]
}

/// The sum of products, with whatever vectors the processor has.
#[inline]
pub(crate) fn sum_of_products(a: &[f32], b: &[f32]) -> f64 {
    struct Sum<'a>(&'a [f32], &'a [f32]);

    impl WithSimd for Sum<'_> {
        type Output = f64;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _simd: S) -> f64 {
            dot(self.0, self.1)
        }
    }

    Arch::new().dispatch(Sum(a, b))
}

/// What is compared: a sum of products times both rows' factors.
#[inline(always)]
pub(crate) fn comparable(sum: f64, factors: (f64, f64)) -> f32 {
    // Rounding may lift a cosine above 1; there it must tie with 1.
    ((sum * (factors.0 * factors.1)) as f32).clamp(-1.0, 1.0)
}

/// The score that was asked for, from what is compared.
pub(crate) fn score(measure: Measure, comparable: f32, factors: (f64, f64)) -> f32 {
    match measure {
        Measure::Cosine => comparable,
        Measure::InnerProduct => (f64::from(comparable) / (factors.0 * factors.1)) as f32,
    }
}

pub(crate) fn single_from_half(bits: u16) -> f32 {
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
    fn sums_of_any_width_are_the_same_on_every_processor() {
        for width in [1, 7, 31, 32, 33, 100, 384] {
            let a: Vec<f32> = (0..width).map(|k| (k as f32 * 0.37).sin()).collect();
            let b: Vec<f32> = (0..width).map(|k| (k as f32 * 0.11).cos()).collect();
            let plain: f64 = a
                .iter()
                .zip(&b)
                .map(|(&a, &b)| f64::from(a) * f64::from(b))
                .sum();
            let fast = sum_of_products(&a, &b);
            assert_eq!(fast.to_bits(), dot(&a, &b).to_bits());
            assert!((fast - plain).abs() < 1e-12);
        }
    }

    #[test]
    fn shapes_that_do_not_fit_and_rows_that_are_not_finite_are_refused() {
        let error = Vectors::new("vectors", Values::Single(&[1.0; 5]), 2, 3)
            .err()
            .unwrap();
        assert!(error.to_string().contains("5 numbers are not 2 rows of 3"));
        let values = [1.0, 2.0, f32::NAN, 0.0, 1.0, f32::INFINITY];
        let vectors = Vectors::new("vectors", Values::Single(&values), 3, 2).unwrap();
        for measure in [Measure::Cosine, Measure::InnerProduct] {
            let error = vectors
                .factors("vectors", measure, Side::Table)
                .unwrap_err();
            assert!(error.to_string().contains("row 1 holds NaN"), "{error}");
        }
    }
}
