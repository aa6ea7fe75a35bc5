//! Flat tokens with offsets, and where each stands in the attention's rows.

/// How sequences stand in rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Several sequences a row, first-fit-decreasing into rows as wide as the longest.
    Packed,
    /// One sequence a row of `max_len`, on the right.
    Padded,
}

/// S sequences laid end to end, oldest token first; the buffers are reused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequences {
    /// Item ids, [T].
    pub items: Vec<i32>,
    /// 1 for a sequence's oldest token, [T].
    pub positions: Vec<i32>,
    /// What each token predicts, 0 for nothing, [T].
    pub targets: Vec<i32>,
    /// Where each sequence starts, [S + 1].
    pub offsets: Vec<i64>,
    /// The token in each slot, -1 for none, [R x W].
    pub slots: Vec<i32>,
    /// W.
    pub row_width: usize,
    by_length: Vec<u32>,
    free: Vec<u32>,
}

impl Sequences {
    /// Empties every buffer and keeps its memory.
    pub fn clear(&mut self) {
        self.items.clear();
        self.positions.clear();
        self.targets.clear();
        self.offsets.clear();
        self.offsets.push(0);
        self.slots.clear();
        self.row_width = 0;
    }

    /// S.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Whether there is no sequence.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the last `max_len` items of a history without targets.
    pub fn push(&mut self, history: &[i32], max_len: usize) {
        let cut = &history[history.len().saturating_sub(max_len)..];
        self.items.extend_from_slice(cut);
        self.positions.extend(1..=cut.len() as i32);
        self.targets.resize(self.items.len(), 0);
        self.offsets.push(self.items.len() as i64);
    }

    /// Appends the last `max_len` items of a history; each predicts the next one, the last nothing.
    pub fn push_with_targets(&mut self, history: &[i32], max_len: usize) {
        self.push(history, max_len);
        let n = self.offsets.len();
        let (start, end) = (self.offsets[n - 2] as usize, self.offsets[n - 1] as usize);
        if start < end {
            self.targets[start..end - 1].copy_from_slice(&self.items[start + 1..end]);
        }
    }

    /// Puts every token into its slot.
    pub fn lay_out(&mut self, layout: Layout, max_len: usize) {
        match layout {
            Layout::Packed => self.pack(),
            Layout::Padded => self.pad(max_len),
        }
    }

    fn length(&self, sequence: usize) -> usize {
        (self.offsets[sequence + 1] - self.offsets[sequence]) as usize
    }

    fn pad(&mut self, width: usize) {
        self.row_width = width;
        self.slots.clear();
        self.slots.resize(self.len() * width, -1);
        for sequence in 0..self.len() {
            let (first, length) = (self.offsets[sequence] as i32, self.length(sequence));
            let end = (sequence + 1) * width;
            for (slot, token) in self.slots[end - length..end].iter_mut().zip(first..) {
                *slot = token;
            }
        }
    }

    /// First-fit-decreasing: by falling length, ties by sequence, each into the first row with room.
    fn pack(&mut self) {
        let width = (0..self.len()).map(|s| self.length(s)).max().unwrap_or(0);
        self.row_width = width;
        let mut by_length = std::mem::take(&mut self.by_length);
        by_length.clear();
        by_length.extend(0..self.len() as u32);
        by_length.sort_by_key(|&s| std::cmp::Reverse(self.length(s as usize)));
        self.free.clear();
        self.slots.clear();
        // Rows before `open` are full; with falling lengths they never take anything again.
        let mut open = 0;
        for &sequence in &by_length {
            let (first, length) = (
                self.offsets[sequence as usize] as i32,
                self.length(sequence as usize),
            );
            while open < self.free.len() && self.free[open] == 0 {
                open += 1;
            }
            let row = (open..self.free.len())
                .find(|&row| self.free[row] as usize >= length)
                .unwrap_or_else(|| {
                    self.free.push(width as u32);
                    self.slots.resize(self.free.len() * width, -1);
                    self.free.len() - 1
                });
            let start = row * width + (width - self.free[row] as usize);
            for (slot, token) in self.slots[start..start + length].iter_mut().zip(first..) {
                *slot = token;
            }
            self.free[row] -= length as u32;
        }
        self.by_length = by_length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequences(lengths: &[usize]) -> Sequences {
        let mut s = Sequences::default();
        s.clear();
        for &n in lengths {
            s.push_with_targets(&(1..=n as i32).collect::<Vec<_>>(), 6);
        }
        s
    }

    #[test]
    fn a_long_history_keeps_its_newest_items() {
        let s = sequences(&[8]);
        assert_eq!(s.items, [3, 4, 5, 6, 7, 8]);
        assert_eq!(s.positions, [1, 2, 3, 4, 5, 6]);
        assert_eq!(s.targets, [4, 5, 6, 7, 8, 0]);
    }

    #[test]
    fn every_token_has_one_slot_in_both_layouts() {
        for layout in [Layout::Packed, Layout::Padded] {
            let mut s = sequences(&[1, 4, 2, 6, 3, 3]);
            s.lay_out(layout, 6);
            let mut seen: Vec<i32> = s.slots.iter().copied().filter(|&t| t >= 0).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..19).collect::<Vec<i32>>());
        }
    }

    #[test]
    fn first_fit_decreasing_fills_rows() {
        let mut s = sequences(&[1, 4, 2, 6, 3, 3]);
        s.lay_out(Layout::Packed, 6);
        assert_eq!(s.row_width, 6);
        assert_eq!(s.slots.len(), 4 * 6);
        assert_eq!(&s.slots[6..12], &[1, 2, 3, 4, 5, 6]);
    }
}
