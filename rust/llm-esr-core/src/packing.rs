//! Rows that several sequences share.

use crate::sequences::{CHUNK, Sequences, write_run};

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
    /// Fills `slots`, `rows` and `width`: rows are as wide as the longest sequence.
    pub(crate) fn pack(&mut self, sequences: &mut Sequences) {
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
