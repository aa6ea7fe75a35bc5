//! Dropout whose random numbers are named, not consumed: they are made again for the gradient, never kept.
//!
//! The rate is a multiple of 2^-16, and what is kept is scaled by that very rate, so that the expectation is exact. An
//! entry takes as many random bits as the rate has (one for a half, sixteen at most). They depend on the seed and on
//! the entry's place alone.

use std::sync::Mutex;

use pulp::{Arch, Simd, WithSimd};

use crate::rng::philox;
use crate::workers::Workers;
use crate::{Error, Result};

const LEVELS: u32 = 1 << 16;
const LEVEL_BITS: u32 = LEVELS.trailing_zeros();
/// Entries that are decided about together, a bit each.
pub(crate) const GROUP: usize = 64;
/// Entries whose factors are made at once.
pub(crate) const CHUNK: usize = 16;
/// Entries of a task.
const TASK: usize = 1 << 15;

/// What an entry's bits are for.
#[derive(Debug, Clone, Copy)]
#[repr(u64)]
pub(crate) enum Use {
    /// The entries of one array.
    Entries = 0,
    /// The weights of attention.
    Weights = 1,
    /// The weights of a key that stands for many.
    ManyKeys = 2,
}

/// A rate and where its random numbers come from.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    seed: u64,
    dropped: u32,
}

impl Dropout {
    /// Drops entries at `rate`, as `seed` says.
    ///
    /// # Errors
    /// A rate outside `0..1`.
    pub fn new(rate: f64, seed: u64) -> Result<Self> {
        if !(0.0..1.0).contains(&rate) {
            return Err(Error::argument(
                "rate",
                format!("{rate}; expected a number from 0, below 1"),
            ));
        }
        let dropped = (rate * f64::from(LEVELS)).round() as u32;
        Ok(Self {
            seed,
            dropped: dropped.min(LEVELS - 1),
        })
    }

    /// Whether anything is dropped at all.
    #[must_use]
    pub fn is_active(self) -> bool {
        self.dropped > 0
    }

    /// What a kept entry is multiplied with.
    #[must_use]
    pub fn scale(self) -> f32 {
        LEVELS as f32 / (LEVELS - self.dropped) as f32
    }

    /// Which entries of a group are kept, a bit each.
    ///
    /// A word of fair bits for each binary digit of the chance, the last digit first: a digit 1 sets the bits of the
    /// word, a digit 0 clears the others, and each halves what came before, so that the digits add up.
    #[inline(always)]
    pub(crate) fn kept(self, of: Use, [owner, place, group]: [u64; 3]) -> u64 {
        if self.dropped == 0 {
            return u64::MAX;
        }
        let digits = LEVELS - self.dropped;
        let first = digits.trailing_zeros();
        let (mut kept, mut words) = (0, [0; 4]);
        for digit in first..LEVEL_BITS {
            let number = (digit - first) as usize;
            if number.is_multiple_of(4) {
                let block = number as u64 / 4;
                words = philox([self.seed, of as u64], [owner, place, group, block]);
            }
            let word = words[number % 4];
            kept = if digits >> digit & 1 == 1 {
                kept | word
            } else {
                kept & word
            };
        }
        kept
    }

    /// Fills what each of the entries from 0 on is multiplied with.
    #[inline(always)]
    pub(crate) fn factors(self, of: Use, owner: u64, place: u64, factors: &mut [f32]) {
        for (group, factors) in factors.chunks_mut(GROUP).enumerate() {
            let kept = self.kept(of, [owner, place, group as u64]);
            for (number, factors) in factors.as_chunks_mut::<CHUNK>().0.iter_mut().enumerate() {
                *factors = self.factors_of(kept, number);
            }
        }
    }

    /// What the entries of a group's chunk are multiplied with.
    #[inline(always)]
    fn factors_of(self, kept: u64, chunk: usize) -> [f32; CHUNK] {
        let (bits, scale) = ((kept >> (chunk * CHUNK)) as u32, self.scale());
        std::array::from_fn(|k| (bits >> k & 1) as f32 * scale)
    }

    /// How many of `count` entries are kept, as a part of what is kept in the mean.
    pub(crate) fn share(self, owner: u64, place: u64, count: usize) -> f32 {
        let kept: u32 = (0..count.div_ceil(GROUP))
            .map(|group| {
                let kept = self.kept(Use::ManyKeys, [owner, place, group as u64]);
                let here = (count - group * GROUP).min(GROUP) as u32;
                (kept << (u64::BITS - here)).count_ones()
            })
            .sum();
        kept as f32 * self.scale() / count as f32
    }

    /// Writes what is left of `from` into `to`. Of a gradient it gives what belongs to it.
    ///
    /// # Errors
    /// Two lengths.
    pub fn apply(self, from: &[f32], to: &mut [f32], workers: &dyn Workers) -> Result<()> {
        if from.len() != to.len() {
            return Err(Error::argument(
                "to",
                format!("{} numbers; expected {}", to.len(), from.len()),
            ));
        }
        let arch = Arch::new();
        let parts: Vec<_> = from
            .chunks(TASK)
            .zip(to.chunks_mut(TASK))
            .map(Mutex::new)
            .collect();
        workers.run(parts.len(), &|number| {
            let mut part = crate::pool::lock(&parts[number]);
            let (from, to) = &mut *part;
            arch.dispatch(Chunk {
                dropout: self,
                first: number * (TASK / GROUP),
                from,
                to,
            });
        });
        Ok(())
    }
}

/// Entries from the group `first` on.
struct Chunk<'a> {
    dropout: Dropout,
    first: usize,
    from: &'a [f32],
    to: &'a mut [f32],
}

impl WithSimd for Chunk<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Self {
            dropout,
            first,
            from,
            to,
        } = self;
        let groups = from.chunks(GROUP).zip(to.chunks_mut(GROUP));
        for (group, (from, to)) in (first as u64..).zip(groups) {
            let kept = dropout.kept(Use::Entries, [0, 0, group]);
            let chunks = from.chunks(CHUNK).zip(to.chunks_mut(CHUNK));
            for (number, (from, to)) in chunks.enumerate() {
                let factors = dropout.factors_of(kept, number);
                if let (Ok(from), Ok(to)) = (
                    <&[f32; CHUNK]>::try_from(from),
                    <&mut [f32; CHUNK]>::try_from(&mut *to),
                ) {
                    *to = std::array::from_fn(|k| from[k] * factors[k]);
                } else {
                    for ((to, &from), factor) in to.iter_mut().zip(from).zip(factors) {
                        *to = from * factor;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workers::Alone;

    #[test]
    fn an_entry_is_kept_with_the_chance_that_the_rate_leaves() {
        for rate in [0.5, 0.25, 0.1, 0.7, 1.0 / 65536.0, 65535.0 / 65536.0, 1e-9] {
            let dropout = Dropout::new(rate, 11).unwrap();
            let groups = 4000_u64;
            let kept: u32 = (0..groups)
                .map(|group| dropout.kept(Use::Entries, [0, 0, group]).count_ones())
                .sum();
            let n = (groups * GROUP as u64) as f64;
            let expected = (1.0 - rate) * n;
            let deviation = (rate * (1.0 - rate) * n).sqrt();
            assert!(
                (f64::from(kept) - expected).abs() < 5.0 * deviation + 1.0,
                "{rate}: {kept}"
            );
        }
    }

    #[test]
    fn the_kept_entries_are_scaled_to_the_same_sum_in_the_mean() {
        let dropout = Dropout::new(0.3, 5).unwrap();
        let mut left = vec![0.0; 100_003];
        dropout
            .apply(&vec![1.0; 100_003], &mut left, &Alone)
            .unwrap();
        let mean = left.iter().sum::<f32>() / 100_003.0;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        assert!(
            left.iter()
                .all(|&x| x == 0.0 || (x - dropout.scale()).abs() < 1e-6)
        );
    }

    #[test]
    fn the_share_of_many_keys_counts_exactly_so_many_entries() {
        let dropout = Dropout::new(0.5, 9).unwrap();
        for count in [1, 2, 63, 64, 65, 190] {
            let shares: Vec<f32> = (0..2000)
                .map(|place| dropout.share(3, place, count))
                .collect();
            let most = shares.iter().fold(0.0_f32, |most, &share| most.max(share));
            assert!(most <= 2.0);
            let mean = shares.iter().sum::<f32>() / 2000.0;
            assert!(
                (mean - 1.0).abs() < 5.0 / (2000.0 * count as f32).sqrt(),
                "{count}: {mean}"
            );
        }
    }

    #[test]
    fn a_rate_of_one_or_none_is_refused() {
        for rate in [1.0, -0.1, f64::NAN] {
            assert!(Dropout::new(rate, 0).is_err());
        }
        assert!(!Dropout::new(0.0, 0).unwrap().is_active());
    }
}
