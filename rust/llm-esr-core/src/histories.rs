//! Users' training sequences, wherever their items lie.

use std::ops::Range;

use crate::mapped::prefetch;
use crate::packed_range::PackedRange;
use crate::{Error, Result};

/// Refuses histories that their offsets do not cut, and items that are none of the catalogue.
pub(crate) fn check_histories(histories: &[i32], offsets: &[i64], items: usize) -> Result<()> {
    let rising = offsets.first().is_some_and(|&first| first == 0)
        && offsets.windows(2).all(|pair| pair[0] <= pair[1])
        && offsets
            .last()
            .is_some_and(|&last| usize::try_from(last) == Ok(histories.len()));
    if !rising {
        let message = format!(
            "{} offsets and {} items do not fit each other; expected rising numbers from 0 to {}",
            offsets.len(),
            histories.len(),
            histories.len(),
        );
        return Err(Error::argument("histories", message));
    }
    match histories.iter().find(|&&id| id < 1 || id as usize > items) {
        Some(id) => Err(Error::argument(
            "histories",
            format!("{id} is no id from 1 to {items}"),
        )),
        None => Ok(()),
    }
}

/// Training sequences: what each user met before the end of training, oldest first.
#[derive(Debug, Clone, Copy)]
pub struct Histories<'a> {
    items: &'a [i32],
    ranges: &'a [PackedRange],
    splits: &'a [i64],
}

impl<'a> Histories<'a> {
    /// Training sequences in `items` at `ranges`; `splits` has the lengths of those that are too long to be packed.
    #[inline]
    pub(crate) fn new(items: &'a [i32], ranges: &'a [PackedRange], splits: &'a [i64]) -> Self {
        Self {
            items,
            ranges,
            splits,
        }
    }

    /// Numbers that hold all sequences, in some order.
    #[must_use]
    #[inline]
    pub fn items(self) -> &'a [i32] {
        self.items
    }

    /// Where a user's lies in `items`.
    #[must_use]
    #[inline]
    pub fn range(self, user: usize) -> Range<usize> {
        let packed = self.ranges[user];
        let start = packed.start();
        let length = packed.length();
        // A long sequence's length is looked up in the files.
        start..start + length.unwrap_or_else(|| self.splits[2 * user] as usize)
    }

    /// A user's.
    #[must_use]
    #[inline]
    pub fn of(self, user: usize) -> &'a [i32] {
        &self.items[self.range(user)]
    }

    /// A user's packed range, were the sequence to start elsewhere.
    pub(crate) fn moved(self, user: usize, start: usize) -> PackedRange {
        self.ranges[user].moved(start)
    }

    /// Asks for what `range` reads, ahead of it.
    #[inline]
    pub(crate) fn prefetch_range(self, user: usize) {
        prefetch(self.ranges, user);
    }

    /// Asks for both ends of a stretch of the items; what lies between in a long one comes along.
    #[inline]
    pub(crate) fn prefetch_items(self, start: usize, length: usize) {
        prefetch(self.items, start);
        prefetch(self.items, start + length.saturating_sub(1));
    }
}
