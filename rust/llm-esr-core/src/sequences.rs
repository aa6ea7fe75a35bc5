//! Flat tokens with offsets, and where each stands in the attention's rows.

use crate::{Error, Result};

/// How sequences are laid out in the rows that attention works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Several sequences share a row as wide as the longest of them (first-fit-decreasing).
    Packed,
    /// One row a sequence, `max_len` wide, padding on the left.
    Padded,
}

/// Sequences as flat tokens, oldest first: T tokens in S sequences, R rows of width W.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequences {
    /// Item ids, `[T]`.
    pub items: Vec<i32>,
    /// 1 for a sequence's oldest token, `[T]`.
    pub positions: Vec<i32>,
    /// The item to predict at each token, 0 for none, `[T]`.
    pub targets: Vec<i32>,
    /// Where each sequence starts among the tokens, `[S + 1]`.
    pub offsets: Vec<i64>,
    /// The token in each slot of the rows, -1 for none, `[R, W]`.
    pub slots: Vec<i32>,
    /// Rows R.
    pub rows: usize,
    /// Row width W.
    pub width: usize,
}

impl Default for Sequences {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            positions: Vec::new(),
            targets: Vec::new(),
            offsets: vec![0],
            slots: Vec::new(),
            rows: 0,
            width: 0,
        }
    }
}

impl Sequences {
    /// Sequences S.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is no sequence.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The length of one sequence.
    #[must_use]
    #[inline]
    pub fn length(&self, sequence: usize) -> usize {
        (self.offsets[sequence + 1] - self.offsets[sequence]) as usize
    }

    /// Takes the sequences that lie at `spans` of `source`: fills items, positions and offsets, makes all targets 0.
    ///
    /// Sequences are short, so a call of `memcpy` for each would cost more than the copy: whole chunks are copied, and
    /// the next sequence overwrites what was too much.
    pub fn gather(&mut self, source: &[i32], spans: &[Span], counting: &mut Vec<i32>) {
        // Spread over a large file, the first numbers are cache misses; here nothing waits for one before the next.
        let touched = spans
            .iter()
            .filter_map(|span| source.get(span.start))
            .fold(0, |all, &item| all ^ item);
        std::hint::black_box(touched);

        let (mut tokens, mut longest) = (0, 0);
        for span in spans {
            tokens += span.length;
            longest = longest.max(span.length);
        }
        let room = longest.next_multiple_of(CHUNK);
        counting.extend(counting.len() as i32 + 1..=room as i32);
        // What the memory held before is overwritten, not cleared first.
        self.items.resize(tokens + CHUNK, 0);
        self.positions.resize(tokens + CHUNK, 0);
        self.offsets.clear();
        self.offsets.push(0);
        let mut at = 0;
        for span in spans {
            let room = span.length.next_multiple_of(CHUNK);
            match source.get(span.start..span.start + room) {
                Some(found) => copy_chunks(found, &mut self.items[at..at + room]),
                None => self.items[at..at + span.length]
                    .copy_from_slice(&source[span.start..span.start + span.length]),
            }
            copy_chunks(&counting[..room], &mut self.positions[at..at + room]);
            at += span.length;
            self.offsets.push(at as i64);
        }
        self.items.truncate(tokens);
        self.positions.truncate(tokens);
        self.targets.clear();
        self.targets.resize(tokens, 0);
    }

    /// Cuts flat histories to their last `max_len` items; no token has a target.
    ///
    /// # Errors
    /// A `max_len` of 0, ids below 1, or offsets that do not cut `items`.
    pub fn build(items: &[i32], offsets: &[i64], max_len: usize, layout: Layout) -> Result<Self> {
        if max_len == 0 {
            return Err(Error::argument(
                "max_len",
                "0; a sequence holds at least 1 item",
            ));
        }
        check_cut(items.len(), offsets)?;
        if let Some(at) = items.iter().position(|&item| item < 1) {
            let message = format!("entry {at} is {}; item ids start at 1", items[at]);
            return Err(Error::argument("items", message));
        }
        let spans: Vec<Span> = offsets
            .windows(2)
            .map(|pair| Span::last(pair[0] as usize, pair[1] as usize, max_len))
            .collect();
        let mut built = Self::default();
        built.gather(items, &spans, &mut Vec::new());
        built.lay_out(layout, max_len, &mut Packer::default());
        Ok(built)
    }

    /// Fills `slots`, `rows` and `width` from the offsets.
    pub fn lay_out(&mut self, layout: Layout, max_len: usize, packer: &mut Packer) {
        match layout {
            Layout::Packed => packer.pack(self),
            Layout::Padded => self.pad(max_len),
        }
    }

    fn pad(&mut self, max_len: usize) {
        self.rows = self.len();
        self.width = max_len;
        self.slots.clear();
        self.slots.resize(self.rows * self.width, -1);
        for sequence in 0..self.rows {
            let start = self.offsets[sequence];
            let end = self.offsets[sequence + 1];
            let row = &mut self.slots[sequence * max_len..(sequence + 1) * max_len];
            let padding = max_len - (end - start) as usize;
            write_run(&mut row[padding..], start as i32);
        }
    }
}

/// Where a sequence lies among many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its oldest item.
    pub start: usize,
    /// Its items.
    pub length: usize,
}

impl Span {
    /// The last `max_len` of the items `start..end`.
    #[must_use]
    #[inline]
    pub fn last(start: usize, end: usize, max_len: usize) -> Self {
        let length = (end - start).min(max_len);
        Self {
            start: end - length,
            length,
        }
    }
}

/// Numbers copied at once.
const CHUNK: usize = 16;

/// Copies whole chunks; both are equally long.
#[inline]
fn copy_chunks(from: &[i32], to: &mut [i32]) {
    let (to, from) = (to.as_chunks_mut::<CHUNK>().0, from.as_chunks::<CHUNK>().0);
    // Most sequences are one chunk: a copy of known size is a few moves, and the compiler calls nothing.
    if let (Some((to, more)), Some((from, rest))) = (to.split_first_mut(), from.split_first()) {
        *to = *from;
        if !rest.is_empty() {
            more.copy_from_slice(rest);
        }
    }
}

fn check_cut(n_items: usize, offsets: &[i64]) -> Result<()> {
    let good = offsets.first() == Some(&0)
        && offsets.last() == Some(&(n_items as i64))
        && offsets.windows(2).all(|pair| pair[0] <= pair[1]);
    if good {
        return Ok(());
    }
    let message = format!("expected rising numbers from 0 to the {n_items} items, got {offsets:?}");
    Err(Error::argument(
        "offsets",
        message.chars().take(300).collect::<String>(),
    ))
}

/// Writes `first`, `first + 1`, ... into all slots.
#[inline]
fn write_run(slots: &mut [i32], first: i32) {
    for (slot, token) in slots.iter_mut().zip(first..) {
        *slot = token;
    }
}

/// As `write_run`, for `length` slots; whole chunks of `row` are written where they fit.
#[inline]
fn write_run_in_chunks(row: &mut [i32], length: usize, mut first: i32) {
    let room = length.next_multiple_of(CHUNK);
    let Some(chunks) = row.get_mut(..room) else {
        write_run(&mut row[..length], first);
        return;
    };
    for chunk in chunks.as_chunks_mut::<CHUNK>().0 {
        *chunk = std::array::from_fn(|k| first + k as i32);
        first += CHUNK as i32;
    }
}

/// First-fit-decreasing, with its working memory.
///
/// Sequences are placed longest first, ties in their order, each into the first row with room for it. Among sequences
/// of one length that row never goes back (a row without room for one has none for the next), so a length costs one
/// walk over the rows.
#[derive(Debug, Default)]
pub struct Packer {
    /// Sequences of each length, then where each length starts in `order`.
    starts: Vec<u32>,
    order: Vec<u32>,
    /// Slots left in each row.
    room: Vec<u32>,
    /// Row and first slot of each sequence of `order`.
    place: Vec<(u32, u32)>,
}

impl Packer {
    fn pack(&mut self, sequences: &mut Sequences) {
        let count = sequences.len();
        let width = (0..count).map(|s| sequences.length(s)).max().unwrap_or(0);
        self.sort(sequences, width);
        self.room.clear();
        self.place.clear();
        let (mut length, mut row) = (usize::MAX, 0);
        for &sequence in &self.order {
            let next = sequences.length(sequence as usize);
            if next == 0 {
                break; // The longest come first: only empty ones are left.
            }
            if next != length {
                (length, row) = (next, 0);
            }
            while row < self.room.len() && (self.room[row] as usize) < length {
                row += 1;
            }
            if row == self.room.len() {
                self.room.push(width as u32);
            }
            let filled = width as u32 - self.room[row];
            self.place.push((row as u32, filled));
            self.room[row] -= length as u32;
        }
        sequences.rows = self.room.len();
        sequences.width = width;
        self.write(sequences);
    }

    /// Writes the slots: a row from left to right, so that what a chunk writes too far is overwritten.
    fn write(&self, sequences: &mut Sequences) {
        let width = sequences.width;
        sequences.slots.resize(sequences.rows * width, -1);
        for (&sequence, &(row, filled)) in self.order.iter().zip(&self.place) {
            let (row, sequence) = (row as usize * width, sequence as usize);
            let (first, length) = (
                sequences.offsets[sequence] as i32,
                sequences.length(sequence),
            );
            let right = &mut sequences.slots[row + filled as usize..row + width];
            write_run_in_chunks(right, length, first);
        }
        for (row, &room) in self.room.iter().enumerate() {
            let end = (row + 1) * width;
            sequences.slots[end - room as usize..end].fill(-1);
        }
    }

    /// Counting sort by falling length; stable.
    fn sort(&mut self, sequences: &Sequences, width: usize) {
        let count = sequences.len();
        self.starts.clear();
        self.starts.resize(width + 2, 0);
        // A length's start is the number of longer sequences.
        for sequence in 0..count {
            self.starts[width - sequences.length(sequence) + 1] += 1;
        }
        for rank in 1..self.starts.len() {
            self.starts[rank] += self.starts[rank - 1];
        }
        self.order.clear();
        self.order.resize(count, 0);
        for sequence in 0..count {
            let start = &mut self.starts[width - sequences.length(sequence)];
            self.order[*start as usize] = sequence as u32;
            *start += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of_lengths(lengths: &[usize]) -> (Vec<i32>, Vec<i64>) {
        let mut offsets = vec![0_i64];
        for &length in lengths {
            offsets.push(offsets[offsets.len() - 1] + length as i64);
        }
        ((1..=offsets[lengths.len()] as i32).collect(), offsets)
    }

    #[test]
    fn the_longest_sequences_come_first_into_the_first_row_with_room() {
        let (items, offsets) = of_lengths(&[2, 5, 3, 1]);
        let built = Sequences::build(&items, &offsets, 9, Layout::Packed).unwrap();
        assert_eq!((built.rows, built.width), (3, 5));
        assert_eq!(
            built.slots,
            [2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 10, -1, -1, -1, -1]
        );
        assert_eq!(built.positions, [1, 2, 1, 2, 3, 4, 5, 1, 2, 3, 1]);
    }

    #[test]
    fn padded_rows_end_with_the_newest_item() {
        let (items, offsets) = of_lengths(&[2, 0, 4]);
        let built = Sequences::build(&items, &offsets, 3, Layout::Padded).unwrap();
        assert_eq!(built.items, [1, 2, 4, 5, 6]);
        assert_eq!(built.offsets, [0, 2, 2, 5]);
        assert_eq!(built.slots, [-1, 0, 1, -1, -1, -1, 2, 3, 4]);
    }

    #[test]
    fn nothing_at_all_is_laid_out_too() {
        let built = Sequences::build(&[], &[0], 3, Layout::Packed).unwrap();
        assert_eq!((built.len(), built.rows, built.width), (0, 0, 0));
    }

    #[test]
    fn offsets_that_do_not_cut_the_items_are_refused() {
        for offsets in [vec![], vec![0, 2], vec![1, 3], vec![0, 3, 2, 3]] {
            assert!(Sequences::build(&[1, 2, 3], &offsets, 3, Layout::Packed).is_err());
        }
        assert!(Sequences::build(&[1, 0, 3], &[0, 3], 3, Layout::Packed).is_err());
    }

    proptest! {
        #[test]
        fn every_token_has_one_slot_and_a_sequence_stays_together(
            lengths in proptest::collection::vec(0_usize..12, 0..40), max_len in 1_usize..10
        ) {
            let (items, offsets) = of_lengths(&lengths);
            for layout in [Layout::Packed, Layout::Padded] {
                let built = Sequences::build(&items, &offsets, max_len, layout).unwrap();
                let mut tokens: Vec<i32> = built.slots.iter().copied().filter(|&t| t >= 0).collect();
                tokens.sort_unstable();
                prop_assert_eq!(tokens, (0..built.items.len() as i32).collect::<Vec<_>>());
                for sequence in (0..built.len()).filter(|&s| built.length(s) > 0) {
                    let first = built.offsets[sequence] as i32;
                    let at = built.slots.iter().position(|&t| t == first).unwrap();
                    let length = built.length(sequence);
                    prop_assert!(at % built.width + length <= built.width);
                    let run: Vec<i32> = (first..first + length as i32).collect();
                    prop_assert_eq!(&built.slots[at..at + length], &run[..]);
                }
            }
        }
    }
}
