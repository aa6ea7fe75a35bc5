//! The best few of many scores.

use std::cmp::Ordering;

/// The k best (score, place) pairs seen so far; up to as many again wait to be sifted.
///
/// Places are offered in rising order: a later one that ties with the k-th best so far loses. A score of minus infinity
/// is never among the best.
#[derive(Debug)]
pub(crate) struct Best {
    k: usize,
    kept: Vec<(f32, u32)>,
    threshold: f32,
}

impl Best {
    pub(crate) fn new(k: usize) -> Self {
        Self {
            k,
            kept: Vec::with_capacity(2 * k),
            threshold: f32::NEG_INFINITY,
        }
    }

    /// What a score must exceed to be among the best.
    #[inline]
    pub(crate) fn threshold(&self) -> f32 {
        self.threshold
    }

    /// Takes a pair whose score exceeds the threshold.
    #[inline]
    pub(crate) fn take(&mut self, score: f32, place: u32) {
        self.kept.push((score, place));
        if self.kept.len() == 2 * self.k {
            self.sift();
        }
    }

    fn sift(&mut self) {
        if self.kept.len() > self.k {
            let (_, worst, _) = self
                .kept
                .select_nth_unstable_by(self.k - 1, |a, b| better_first(*a, *b));
            self.threshold = worst.0;
            self.kept.truncate(self.k);
        }
    }

    /// The best, best first; nothing is left for the next time.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (f32, u32)> {
        self.sift();
        self.kept.sort_unstable_by(|a, b| better_first(*a, *b));
        self.threshold = f32::NEG_INFINITY;
        self.kept.drain(..)
    }
}

fn better_first(a: (f32, u32), b: (f32, u32)) -> Ordering {
    // NaN never gets here, and the two zeros are one score.
    b.0.partial_cmp(&a.0)
        .unwrap_or(Ordering::Equal)
        .then(a.1.cmp(&b.1))
}
