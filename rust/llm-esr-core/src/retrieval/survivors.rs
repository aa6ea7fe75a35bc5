//! What may be among one row's best: kept while rows are screened, then ranked by exact scores.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::codes::{ROUNDING, within};

/// Entries beside the k best before they are sifted for the first time.
const FIRST: usize = 128;

/// Vectors that are asked for ahead of the one that is scored.
const AHEAD: usize = 3;

/// How much is kept for each row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// How many are looked for.
    pub(crate) k: usize,
    /// The most entries of a row.
    pub(crate) most: usize,
}

/// What may be among one row's best.
#[derive(Debug, Default)]
pub(crate) struct Survivors {
    /// Refined estimates and numbers.
    entries: Vec<(f32, u32)>,
    /// At how many entries they are sifted.
    full: usize,
    overflowed: bool,
    broken: bool,
}

/// A row's best by exact scores, best first, or why they are not known.
#[derive(Debug, PartialEq)]
pub(crate) enum Ranked {
    /// Scores and numbers.
    Best(Vec<(f32, u32)>),
    /// There were too many to keep.
    TooMany,
    /// An exact score lies outside what the codes promise.
    BeyondBound,
}

impl Survivors {
    /// Takes an entry, of which the estimate is wrong by no more than `bound`; where that made the row sift its
    /// entries, what an upper bound must exceed from now on.
    #[inline]
    pub(crate) fn take(&mut self, size: Size, entry: (f32, u32), bound: f32) -> Option<f32> {
        if self.overflowed {
            return None;
        }
        self.entries.push(entry);
        if self.entries.len() < self.full.max(size.k + FIRST).min(size.most) {
            return None;
        }
        let limit = self.sift(size.k, bound);
        if self.entries.len() * 4 > size.most * 3 {
            self.entries = Vec::new();
            self.overflowed = true;
            return Some(f32::INFINITY);
        }
        self.full = 2 * self.entries.len();
        Some(limit)
    }

    /// Notes that an estimate was beyond its bound: what was dropped may have been wrong to drop.
    pub(crate) fn break_off(&mut self) {
        self.broken = true;
    }

    /// Drops whatever surely is not among the k best; what an upper bound must exceed to be among them.
    fn sift(&mut self, k: usize, bound: f32) -> f32 {
        if self.entries.len() <= k {
            return f32::NEG_INFINITY;
        }
        let (_, kth, _) = self
            .entries
            .select_nth_unstable_by(k - 1, |a, b| b.0.total_cmp(&a.0));
        let limit = kth.0 - bound - ROUNDING;
        self.entries
            .retain(|&(estimate, _)| estimate + bound > limit - ROUNDING);
        limit
    }

    /// The k best by exact scores, with the rows that these belong to; ties go to the smaller row. `ahead` hears of rows that will be scored soon.
    pub(crate) fn rank(
        mut self,
        k: usize,
        bound: f32,
        mut exact: impl FnMut(u32) -> (f32, u32),
        ahead: impl Fn(u32),
    ) -> Ranked {
        if self.broken {
            return Ranked::BeyondBound;
        }
        if self.overflowed {
            return Ranked::TooMany;
        }
        self.sift(k, bound);
        let bound = bound + ROUNDING;
        self.entries
            .sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut best = Exactly::new(k);
        for (place, &(estimate, number)) in self.entries.iter().enumerate() {
            if let Some(&(_, next)) = self.entries.get(place + AHEAD) {
                ahead(next);
            }
            if estimate + bound < best.limit() {
                continue;
            }
            let (score, row) = exact(number);
            if !within(score, estimate, bound) {
                return Ranked::BeyondBound;
            }
            best.take((score, row));
        }
        Ranked::Best(best.into_sorted())
    }
}

/// The k best of exact scores offered in any order; ties go to the smaller number.
#[derive(Debug)]
pub(crate) struct Exactly {
    k: usize,
    heap: BinaryHeap<Entry>,
}

/// The worst is the greatest.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Entry(f32, u32);

impl Eq for Entry {}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        // The two zeros are one score; NaN never gets here.
        other
            .0
            .partial_cmp(&self.0)
            .unwrap_or(Ordering::Equal)
            .then(self.1.cmp(&other.1))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Exactly {
    pub(crate) fn new(k: usize) -> Self {
        Self {
            k,
            heap: BinaryHeap::with_capacity(k + 1),
        }
    }

    /// What a score must reach to be among the best.
    #[inline]
    pub(crate) fn limit(&self) -> f32 {
        match self.heap.peek() {
            Some(worst) if self.heap.len() == self.k => worst.0,
            _ => f32::NEG_INFINITY,
        }
    }

    #[inline]
    pub(crate) fn take(&mut self, (score, number): (f32, u32)) {
        self.heap.push(Entry(score, number));
        if self.heap.len() > self.k {
            self.heap.pop();
        }
    }

    pub(crate) fn into_sorted(self) -> Vec<(f32, u32)> {
        let sorted = self.heap.into_sorted_vec();
        sorted
            .into_iter()
            .map(|Entry(score, number)| (score, number))
            .collect()
    }
}
