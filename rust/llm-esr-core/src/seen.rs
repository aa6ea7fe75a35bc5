//! Which items a user met: as a set to ask, and as the shared negatives that do not count.

/// A set of item ids as a bitmap, emptied in as many steps as it was filled.
#[derive(Debug)]
pub struct Seen {
    bits: Vec<u64>,
}

impl Seen {
    /// An empty set of ids up to `n_items`.
    #[must_use]
    pub fn new(n_items: usize) -> Self {
        Self {
            bits: vec![0; n_items / 64 + 1],
        }
    }

    /// Adds items.
    #[inline]
    pub fn mark(&mut self, items: &[i32]) {
        for &item in items {
            self.bits[item as usize / 64] |= 1 << (item % 64);
        }
    }

    /// Adds one item; true if it was not there.
    #[inline]
    pub fn mark_one(&mut self, item: i32) -> bool {
        let word = &mut self.bits[item as usize / 64];
        let before = *word;
        *word |= 1 << (item % 64);
        before != *word
    }

    /// Takes away what was marked, and what shares a machine word with it: the set must hold nothing else.
    #[inline]
    pub fn unmark(&mut self, items: &[i32]) {
        for &item in items {
            self.bits[item as usize / 64] = 0;
        }
    }

    /// Whether an item is in the set.
    #[must_use]
    #[inline]
    pub fn contains(&self, item: i32) -> bool {
        self.bits[item as usize / 64] >> (item % 64) & 1 == 1
    }
}

/// Finds which shared negatives a user met, by the user's items rather than by the negatives.
#[derive(Debug, Default)]
pub struct Collisions {
    /// (item, column), rising.
    columns: Vec<(i32, u32)>,
}

impl Collisions {
    /// Fills `out`, `[users, negatives]`; `seen` is empty before and after.
    pub fn fill<'a>(
        &mut self,
        negatives: &[i32],
        histories: impl ExactSizeIterator<Item = &'a [i32]>,
        seen: &mut Seen,
        out: &mut Vec<bool>,
    ) {
        let n = negatives.len();
        self.columns.clear();
        self.columns.extend(negatives.iter().copied().zip(0..));
        self.columns.sort_unstable();
        seen.mark(negatives);
        out.clear();
        out.resize(histories.len() * n, false);
        for (row, history) in histories.enumerate() {
            for &item in history.iter().filter(|&&item| seen.contains(item)) {
                let from = self.columns.partition_point(|&(other, _)| other < item);
                for &(_, column) in self.columns[from..]
                    .iter()
                    .take_while(|pair| pair.0 == item)
                {
                    out[row * n + column as usize] = true;
                }
            }
        }
        seen.unmark(negatives);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn collisions_are_the_negatives_that_the_user_met(
            negatives in proptest::collection::vec(1_i32..30, 0..40),
            histories in proptest::collection::vec(proptest::collection::vec(1_i32..30, 0..10), 0..5),
        ) {
            let mut seen = Seen::new(30);
            let mut out = Vec::new();
            let rows = histories.iter().map(Vec::as_slice);
            Collisions::default().fill(&negatives, rows, &mut seen, &mut out);
            let expected: Vec<bool> = histories
                .iter()
                .flat_map(|history| negatives.iter().map(|item| history.contains(item)))
                .collect();
            prop_assert_eq!(out, expected);
        }
    }
}
