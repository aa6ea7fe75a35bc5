//! Flat tokens with offsets, and where each stands in the attention's rows.

use std::ops::Range;

use crate::copying::{CHUNK, copy_chunks, copy_whole, write_run};
use crate::packing::Packer;
use crate::window::{Layout, Window};
use crate::{Error, Result};

/// Sequences as flat tokens, oldest first: T tokens in S sequences, R rows of width W.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequences {
    /// Item ids, `[T]`.
    pub items: Vec<i32>,
    /// 1 for the oldest item of the window, 0 for padding, `[T]`.
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

    /// Where a sequence's tokens lie.
    #[must_use]
    #[inline]
    pub fn tokens(&self, sequence: usize) -> Range<usize> {
        self.offsets[sequence] as usize..self.offsets[sequence + 1] as usize
    }

    /// The number of a token's draws: its place in the window, whatever stands around it; 0 for padding.
    #[must_use]
    #[inline]
    pub fn place(&self, token: usize) -> u64 {
        self.positions[token].max(1) as u64 - 1
    }

    /// Takes the sequences that lie at `spans` of `source`: fills all arrays, makes all targets 0.
    ///
    /// Sequences are short, so a call of `memcpy` for each would cost more than the copy: whole chunks are written, and
    /// the next sequence overwrites what was too much.
    pub fn gather(
        &mut self,
        source: &[i32],
        spans: &[Span],
        layout: Layout,
        max_len: usize,
        workspace: &mut Workspace,
    ) {
        let near = size_of_val(source) < FAR;
        if !near {
            // Spread over a large file, the first numbers are cache misses; here nothing waits for one before the next.
            let touched = spans
                .iter()
                .filter_map(|span| source.get(span.start))
                .fold(0, |all, &item| all ^ item);
            std::hint::black_box(touched);
        }

        let (mut tokens, mut longest) = (0, 0);
        for span in spans {
            tokens += span.length;
            longest = longest.max(span.length);
        }
        let room = longest.next_multiple_of(CHUNK);
        let Workspace { counting, packer } = workspace;
        counting.extend(counting.len() as i32 + 1..=room as i32);
        // What the memory held before is overwritten, not cleared first.
        self.items.resize(tokens + CHUNK, 0);
        self.positions.resize(tokens + CHUNK, 0);
        self.offsets.clear();
        self.offsets.push(0);
        if layout == Layout::Padded {
            (self.rows, self.width) = (spans.len(), max_len);
            self.slots.resize(self.rows * self.width, -1);
        }
        let mut at = 0;
        for (row, span) in spans.iter().enumerate() {
            let room = span.length.next_multiple_of(CHUNK);
            match source.get(span.start..span.start + room) {
                Some(found) if near => copy_chunks(found, &mut self.items[at..at + room]),
                _ => copy_whole(
                    &source[span.start..span.start + span.length],
                    &mut self.items[at..],
                ),
            }
            copy_chunks(&counting[..room], &mut self.positions[at..at + room]);
            if layout == Layout::Padded {
                let row = &mut self.slots[row * max_len..(row + 1) * max_len];
                write_padded(row, span.length, at as i32);
            }
            at += span.length;
            self.offsets.push(at as i64);
        }
        self.items.truncate(tokens);
        self.positions.truncate(tokens);
        self.targets.clear();
        self.targets.resize(tokens, 0);
        if layout == Layout::Packed {
            self.pack(packer);
        }
    }

    /// Forgets all sequences, keeps the memory.
    pub fn clear(&mut self) {
        self.items.clear();
        self.positions.clear();
        self.targets.clear();
        self.offsets.clear();
        self.offsets.push(0);
    }

    /// Adds the `window` of a history, without targets; returns where the items that are kept lie among the tokens.
    pub fn push(&mut self, history: &[i32], window: Window) -> Range<usize> {
        let newest = &history[history.len().saturating_sub(window.max_len)..];
        let appended = usize::from(window.mask_token.is_some());
        let dropped = usize::from(appended + newest.len() > window.max_len);
        let kept = &newest[dropped..];
        let length = kept.len() + appended;
        if window.padding_tokens {
            let first = self.items.len() + window.max_len - length;
            self.items.resize(first, 0);
            self.positions.resize(first, 0);
        }
        let start = self.items.len();
        self.items.extend_from_slice(kept);
        self.items.extend(window.mask_token);
        let position = dropped as i32 + 1;
        self.positions.extend(position..position + length as i32);
        self.targets.resize(self.items.len(), 0);
        self.offsets.push(self.items.len() as i64);
        start..start + kept.len()
    }

    /// The `window` of each of some flat histories; no token has a target.
    ///
    /// # Errors
    /// A `max_len` of 0, ids below 1 or from the mask token up, offsets that do not cut `items`, or padding tokens in
    /// packed rows.
    pub fn build(items: &[i32], offsets: &[i64], window: Window, layout: Layout) -> Result<Self> {
        window.check(layout)?;
        check_cut(items.len(), offsets)?;
        if let Some(at) = items.iter().position(|&item| item < 1) {
            let message = format!("entry {at} is {}; item ids start at 1", items[at]);
            return Err(Error::argument("items", message));
        }
        if let Some(token) = window.mask_token
            && let Some(at) = items.iter().position(|&item| item >= token)
        {
            let message = format!(
                "entry {at} is {}; item ids lie below the mask token, {token}",
                items[at]
            );
            return Err(Error::argument("items", message));
        }
        let mut built = Self::default();
        let cuts = offsets
            .windows(2)
            .map(|pair| (pair[0] as usize, pair[1] as usize));
        if window.is_bare() {
            let spans: Vec<Span> = cuts
                .map(|(start, end)| Span::last(start, end, window.max_len))
                .collect();
            let mut workspace = Workspace::default();
            built.gather(items, &spans, layout, window.max_len, &mut workspace);
        } else {
            for (start, end) in cuts {
                built.push(&items[start..end], window);
            }
            built.lay_out(layout, window.max_len, &mut Packer::default());
        }
        Ok(built)
    }

    /// Fills `slots`, `rows` and `width` from the offsets.
    pub fn lay_out(&mut self, layout: Layout, max_len: usize, packer: &mut Packer) {
        match layout {
            Layout::Packed => self.pack(packer),
            Layout::Padded => self.pad(max_len),
        }
    }

    fn pack(&mut self, packer: &mut Packer) {
        (self.rows, self.width) = packer.pack(&self.offsets, &mut self.slots);
    }

    fn pad(&mut self, max_len: usize) {
        self.rows = self.len();
        self.width = max_len;
        self.slots.resize(self.rows * self.width, -1);
        for sequence in 0..self.rows {
            let (first, length) = (self.offsets[sequence] as i32, self.length(sequence));
            let row = &mut self.slots[sequence * max_len..(sequence + 1) * max_len];
            write_padded(row, length, first);
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

/// Working memory of one thread.
#[derive(Debug, Default)]
pub struct Workspace {
    /// 1, 2, ...
    counting: Vec<i32>,
    pub(crate) packer: Packer,
}

/// Bytes from which what is read lies beyond a processor's caches.
pub(crate) const FAR: usize = 1 << 24;

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

/// Writes a row of one sequence, padding on the left.
#[inline]
fn write_padded(row: &mut [i32], length: usize, first: i32) {
    let (padding, run) = row.split_at_mut(row.len() - length);
    padding.fill(-1);
    write_run(run, first);
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
        let built = Sequences::build(&items, &offsets, Window::bare(9), Layout::Packed).unwrap();
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
        let built = Sequences::build(&items, &offsets, Window::bare(3), Layout::Padded).unwrap();
        assert_eq!(built.items, [1, 2, 4, 5, 6]);
        assert_eq!(built.offsets, [0, 2, 2, 5]);
        assert_eq!(built.slots, [-1, 0, 1, -1, -1, -1, 2, 3, 4]);
    }

    #[test]
    fn what_stands_around_the_items_fits_into_the_window() {
        let window = |mask_token, padding_tokens| Window {
            max_len: 3,
            mask_token,
            padding_tokens,
        };
        let mut pushed = Sequences::default();
        assert_eq!(pushed.push(&[4, 5, 6, 7], window(Some(9), true)), 0..2);
        assert_eq!(pushed.push(&[5], window(Some(9), true)), 4..5);
        assert_eq!(pushed.push(&[], window(Some(9), false)), 6..6);
        assert_eq!(pushed.push(&[], window(None, true)), 10..10);
        assert_eq!(pushed.items, [6, 7, 9, 0, 5, 9, 9, 0, 0, 0]);
        assert_eq!(pushed.positions, [2, 3, 4, 0, 1, 2, 1, 0, 0, 0]);
        assert_eq!(pushed.offsets, [0, 3, 6, 7, 10]);
        assert_eq!(pushed.targets, [0; 10]);
        assert_eq!([0, 2, 3, 6].map(|token| pushed.place(token)), [1, 3, 0, 0]);
        pushed.clear();
        assert_eq!(pushed, Sequences::default());
    }

    #[test]
    fn any_length_is_copied_as_a_whole_and_no_further() {
        for length in 0..3 * CHUNK {
            let from: Vec<i32> = (1..=length as i32).collect();
            let mut to = vec![0; length + 1];
            copy_whole(&from, &mut to);
            assert_eq!((&to[..length], to[length]), (&from[..], 0));
        }
    }

    #[test]
    fn nothing_at_all_is_laid_out_too() {
        let built = Sequences::build(&[], &[0], Window::bare(3), Layout::Packed).unwrap();
        assert_eq!((built.len(), built.rows, built.width), (0, 0, 0));
    }

    #[test]
    fn offsets_that_do_not_cut_the_items_are_refused() {
        for offsets in [vec![], vec![0, 2], vec![1, 3], vec![0, 3, 2, 3]] {
            assert!(
                Sequences::build(&[1, 2, 3], &offsets, Window::bare(3), Layout::Packed).is_err()
            );
        }
        assert!(Sequences::build(&[1, 0, 3], &[0, 3], Window::bare(3), Layout::Packed).is_err());
    }

    proptest! {
        #[test]
        fn every_token_has_one_slot_and_a_sequence_stays_together(
            lengths in proptest::collection::vec(0_usize..12, 0..40), max_len in 1_usize..10
        ) {
            let (items, offsets) = of_lengths(&lengths);
            for layout in [Layout::Packed, Layout::Padded] {
                let built = Sequences::build(&items, &offsets, Window::bare(max_len), layout).unwrap();
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
