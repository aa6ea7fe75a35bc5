//! A copy of the training sequences, aligned to cache lines, that is read fast in any order.

use std::io;

use crate::histories::Histories;
use crate::mapped::Paged;
use crate::packed_range::PackedRange;

/// Numbers in a cache line.
const LINE: usize = 16;

/// Training sequences in large pages, none across more cache lines than it needs.
#[derive(Debug)]
pub(crate) struct AlignedCopy {
    pub(crate) items: Paged<i32>,
    pub(crate) ranges: Paged<PackedRange>,
}

impl AlignedCopy {
    /// Copies the training sequences of so many users.
    ///
    /// # Errors
    /// No memory.
    pub(crate) fn copy(histories: Histories<'_>, n_users: usize) -> io::Result<Self> {
        let mut shelf = Shelf::default();
        for user in 0..n_users {
            shelf.place(histories.range(user).len());
        }
        let mut copy = Self {
            items: Paged::zeros(shelf.end)?,
            ranges: Paged::zeros(n_users)?,
        };
        shelf = Shelf::default();
        let (items, ranges) = (copy.items.as_mut_slice(), copy.ranges.as_mut_slice());
        for (user, range) in ranges.iter_mut().enumerate() {
            let history = histories.of(user);
            let start = shelf.place(history.len());
            items[start..start + history.len()].copy_from_slice(history);
            *range = histories.moved(user, start);
        }
        Ok(copy)
    }
}

/// Where sequences go, one after another: into the shortest free end of a line that takes the whole of it, else to
/// the start of a new line.
#[derive(Debug, Default)]
struct Shelf {
    /// Where the free ends of so many numbers start; none of 0.
    free: [Vec<usize>; LINE],
    /// Numbers in all lines.
    end: usize,
}

impl Shelf {
    fn place(&mut self, length: usize) -> usize {
        let taken = (length..LINE).find_map(|room| Some((room, self.free[room].pop()?)));
        let (room, start) = taken.unwrap_or_else(|| {
            let (room, start) = (length.next_multiple_of(LINE), self.end);
            self.end += room;
            (room, start)
        });
        if room > length {
            self.free[room - length].push(start + length);
        }
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sequences_lie_apart_and_in_no_line_too_many(lengths in proptest::collection::vec(0_usize..50, 0..200)) {
            let mut shelf = Shelf::default();
            let starts: Vec<usize> = lengths.iter().map(|&length| shelf.place(length)).collect();
            let mut taken = vec![false; shelf.end];
            for (&start, &length) in starts.iter().zip(&lengths) {
                for place in &mut taken[start..start + length] {
                    prop_assert!(!std::mem::replace(place, true));
                }
                let lines = (start + length).div_ceil(LINE) - start / LINE;
                prop_assert!(length == 0 || lines == length.div_ceil(LINE));
            }
        }
    }

    #[test]
    fn what_is_free_is_filled() {
        let mut shelf = Shelf::default();
        let starts = [10, 10, 6, 20, 5, 12, 1].map(|length| shelf.place(length));
        assert_eq!(starts, [0, 16, 26, 32, 10, 52, 15]);
        assert_eq!(shelf.end, 64);
    }
}
