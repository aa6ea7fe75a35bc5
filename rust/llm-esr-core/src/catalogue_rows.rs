//! From scores of the whole catalogue to losses and to the scores' gradients, in place, a row at a time.
//!
//! A row is read three times while it lies in the cache: for its largest score, for the exponentials and their sum, and
//! to be divided by it. What a user met does not count, but the target always does.

use std::sync::Mutex;

use pulp::{Arch, Simd, WithSimd};

use crate::pool::lock;
use crate::simd::exp;
use crate::workers::Workers;
use crate::{Error, Result};

/// The score of what does not count. Finite, so that zero times it is zero and only a NaN makes a NaN.
const NEVER: f32 = -1e30;
/// Vectors whose exponentials are added up before the sum goes on in double precision.
const BLOCK: usize = 256;
/// Scores of a task, about.
const TASK: usize = 1 << 16;

/// What belongs to each row of scores.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Items.
    pub items: usize,
    /// The column of each row's target.
    pub targets: &'a [i64],
    /// Where in `met` what each row's user met begins.
    pub starts: &'a [i64],
    /// How many they are.
    pub counts: &'a [i64],
    /// Columns of what users met.
    pub met: &'a [i64],
    /// What each row's loss weighs: its gradient is multiplied by it.
    pub share: f32,
}

impl Rows<'_> {
    /// Writes the gradient of each row's loss over its scores, and returns the losses.
    ///
    /// # Errors
    /// Arrays that do not fit each other, or columns beyond the row.
    pub fn losses(&self, scores: &mut [f32], workers: &dyn Workers) -> Result<Vec<f32>> {
        self.check(scores.len())?;
        let mut losses = vec![0.0; self.targets.len()];
        let each = (TASK / self.items.max(1)).max(1);
        let tasks: Vec<_> = scores
            .chunks_mut(each * self.items.max(1))
            .zip(losses.chunks_mut(each))
            .map(Mutex::new)
            .collect();
        let arch = Arch::new();
        workers.run(tasks.len(), &|number| {
            let mut task = lock(&tasks[number]);
            let (scores, losses) = &mut *task;
            arch.dispatch(Part {
                rows: self,
                first: number * each,
                scores,
                losses,
            });
        });
        drop(tasks);
        Ok(losses)
    }

    fn check(&self, scores: usize) -> Result<()> {
        let rows = self.targets.len();
        let inside = |column: &i64| usize::try_from(*column).is_ok_and(|c| c < self.items);
        let fit = scores == rows * self.items
            && self.starts.len() == rows
            && self.counts.len() == rows
            && self.starts.iter().zip(self.counts).all(|(&start, &count)| {
                start >= 0
                    && count >= 0
                    && usize::try_from(start.saturating_add(count))
                        .is_ok_and(|end| end <= self.met.len())
            });
        if !fit {
            let message = format!(
                "{scores} scores, {rows} targets, {} starts and {} counts into {} met items do not fit each other",
                self.starts.len(),
                self.counts.len(),
                self.met.len()
            );
            return Err(Error::argument("scores", message));
        }
        match self
            .targets
            .iter()
            .chain(self.met)
            .find(|column| !inside(column))
        {
            Some(column) => Err(Error::argument(
                "targets",
                format!("column {column} of {} items", self.items),
            )),
            None => Ok(()),
        }
    }
}

/// Some of the rows.
struct Part<'a, 'b> {
    rows: &'a Rows<'b>,
    first: usize,
    scores: &'a mut [f32],
    losses: &'a mut [f32],
}

impl WithSimd for Part<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let rows = self.rows;
        for (place, (row, loss)) in self
            .scores
            .chunks_mut(rows.items)
            .zip(self.losses.iter_mut())
            .enumerate()
        {
            let number = self.first + place;
            let target = rows.targets[number] as usize;
            let wanted = row[target];
            let start = rows.starts[number] as usize;
            for &column in &rows.met[start..start + rows.counts[number] as usize] {
                row[column as usize] = NEVER;
            }
            row[target] = wanted;
            *loss = softmax(simd, row, rows.share) - wanted;
            row[target] -= rows.share;
        }
    }
}

/// Makes scores shares of `share` in place; returns the logarithm of the sum of their exponentials, NaN where a score
/// is none or infinite.
#[inline(always)]
fn softmax<S: Simd>(simd: S, row: &mut [f32], share: f32) -> f32 {
    let zero = simd.splat_f32s(0.0);
    let (mut most, mut strange) = (simd.splat_f32s(NEVER), zero);
    let (vectors, rest) = S::as_mut_simd_f32s(row);
    for &mut score in &mut *vectors {
        most = simd.max_f32s(most, score);
        strange = simd.mul_add_e_f32s(score, zero, strange);
    }
    let mut most = simd.reduce_max_f32s(most);
    let mut strange = simd.reduce_sum_f32s(strange);
    for &mut score in &mut *rest {
        most = most.max(score);
        strange += score * 0.0;
    }
    let top = simd.splat_f32s(most);
    let mut total = 0.0_f64;
    for block in vectors.chunks_mut(BLOCK) {
        let mut sum = zero;
        for score in block {
            *score = exp(simd, simd.sub_f32s(*score, top));
            sum = simd.add_f32s(sum, *score);
        }
        total += f64::from(simd.reduce_sum_f32s(sum));
    }
    for score in &mut *rest {
        *score = (*score - most).exp();
        total += f64::from(*score);
    }
    let factor = share / total as f32;
    let all = simd.splat_f32s(factor);
    for score in vectors {
        *score = simd.mul_f32s(*score, all);
    }
    for score in rest {
        *score *= factor;
    }
    total.ln() as f32 + most + strange
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workers::Alone;
    use proptest::prelude::*;

    fn expected(rows: &Rows<'_>, scores: &[f32]) -> (Vec<f64>, Vec<f64>) {
        let (mut losses, mut gradients) = (Vec::new(), Vec::new());
        for (number, row) in scores.chunks(rows.items).enumerate() {
            let target = rows.targets[number] as usize;
            let start = rows.starts[number] as usize;
            let met = &rows.met[start..start + rows.counts[number] as usize];
            let counts = |column: usize| column == target || !met.contains(&(column as i64));
            let weights: Vec<f64> = row
                .iter()
                .enumerate()
                .map(|(column, &score)| {
                    if counts(column) {
                        f64::from(score).exp()
                    } else {
                        0.0
                    }
                })
                .collect();
            let sum: f64 = weights.iter().sum();
            losses.push(sum.ln() - f64::from(row[target]));
            gradients.extend(weights.iter().enumerate().map(|(column, weight)| {
                f64::from(rows.share) * (weight / sum - f64::from(u8::from(column == target)))
            }));
        }
        (losses, gradients)
    }

    proptest! {
        #[test]
        fn losses_and_gradients_are_the_formula(
            items in 1_usize..90,
            count in 0_usize..7,
            draws in proptest::collection::vec(-20.0_f32..20.0, 7 * 90),
            picks in proptest::collection::vec(0_usize..1000, 60),
        ) {
            let scores = &draws[..count * items];
            let column = |k: usize| (picks[k] % items) as i64;
            let targets: Vec<i64> = (0..count).map(column).collect();
            let met: Vec<i64> = (7..47).map(column).collect();
            let starts: Vec<i64> = (0..count).map(|k| (picks[47 + k] % 30) as i64).collect();
            let counts: Vec<i64> = (0..count).map(|k| (picks[54 + k % 6] % 10) as i64).collect();
            let rows = Rows { items, targets: &targets, starts: &starts, counts: &counts, met: &met, share: 0.25 };
            let (losses, gradients) = expected(&rows, scores);
            let mut found = scores.to_vec();
            let given = rows.losses(&mut found, &Alone).unwrap();
            for (one, other) in given.iter().zip(&losses) {
                prop_assert!((f64::from(*one) - other).abs() < 1e-4, "{one} {other}");
            }
            for (one, other) in found.iter().zip(&gradients) {
                prop_assert!((f64::from(*one) - other).abs() < 1e-6, "{one} {other}");
            }
        }
    }

    #[test]
    fn a_nan_or_an_infinite_score_makes_the_loss_nan() {
        for strange in [f32::NAN, f32::INFINITY] {
            for place in 0..37 {
                let mut scores = vec![0.5; 37];
                scores[place] = strange;
                let rows = Rows {
                    items: 37,
                    targets: &[3],
                    starts: &[0],
                    counts: &[0],
                    met: &[],
                    share: 1.0,
                };
                let losses = rows.losses(&mut scores, &Alone).unwrap();
                assert!(losses[0].is_nan(), "{strange} at {place}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let good = Rows {
            items: 3,
            targets: &[2],
            starts: &[0],
            counts: &[1],
            met: &[1],
            share: 1.0,
        };
        assert!(good.losses(&mut [0.0; 3], &Alone).is_ok());
        assert!(good.losses(&mut [0.0; 4], &Alone).is_err());
        for broken in [
            Rows {
                targets: &[3],
                ..good
            },
            Rows { met: &[-1], ..good },
            Rows {
                counts: &[2],
                ..good
            },
            Rows {
                starts: &[i64::MAX],
                ..good
            },
        ] {
            assert!(broken.losses(&mut [0.0; 3], &Alone).is_err());
        }
    }
}
