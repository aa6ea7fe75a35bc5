//! Rows that several sequences share.

use crate::copying::{CHUNK, write_run};

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
    /// First token and length of each sequence, the longest first.
    order: Vec<(i32, u32)>,
    /// Slots left in each row.
    room: Vec<u32>,
}

impl Packer {
    /// Fills the slots of the sequences between `offsets`; returns rows and their width, that of the longest sequence.
    pub(crate) fn pack(&mut self, offsets: &[i64], slots: &mut Vec<i32>) -> (usize, usize) {
        let Self { order, room, .. } = self;
        let width = lengths(offsets).max().unwrap_or(0) as usize;
        sort(offsets, width, &mut self.starts, order);
        room.clear();
        let (mut length, mut row, mut full) = (u32::MAX, 0, 0);
        // Empty sequences, the shortest, have no place.
        for &(first, next) in order.iter().take_while(|&&(_, length)| length > 0) {
            if next != length {
                while room.get(full) == Some(&0) {
                    full += 1;
                }
                (length, row) = (next, full);
            }
            while room.get(row).is_some_and(|&left| left < length) {
                row += 1;
            }
            let end = (row + 1) * width;
            if row == room.len() {
                room.push(width as u32);
                // What the memory held before is overwritten, not cleared first.
                slots.resize(slots.len().max(end), -1);
            }
            let left = room[row] as usize;
            room[row] -= length;
            // A row is filled from left to right: what a chunk writes too far is overwritten.
            write_run_in_chunks(&mut slots[end - left..end], length as usize, first);
        }
        slots.truncate(room.len() * width);
        for (row, &left) in room.iter().enumerate() {
            let end = (row + 1) * width;
            slots[end - left as usize..end].fill(-1);
        }
        (room.len(), width)
    }
}

fn lengths(offsets: &[i64]) -> impl Iterator<Item = u32> {
    offsets.windows(2).map(|pair| (pair[1] - pair[0]) as u32)
}

/// Counting sort by falling length; stable.
fn sort(offsets: &[i64], width: usize, starts: &mut Vec<u32>, order: &mut Vec<(i32, u32)>) {
    starts.clear();
    starts.resize(width + 2, 0);
    // A length's start is the number of longer sequences.
    for length in lengths(offsets) {
        starts[width - length as usize + 1] += 1;
    }
    for rank in 1..starts.len() {
        starts[rank] += starts[rank - 1];
    }
    order.resize(offsets.len() - 1, (0, 0));
    for (&first, length) in offsets.iter().zip(lengths(offsets)) {
        let start = &mut starts[width - length as usize];
        order[*start as usize] = (first as i32, length);
        *start += 1;
    }
}
