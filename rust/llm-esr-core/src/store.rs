//! A data folder's interactions, users' training sequences, and neighbours: checked when opened, then shared.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread;

use crate::aligned_copy::AlignedCopy;
use crate::contents::{Contents, Wrong, check_ids};
use crate::histories::Histories;
use crate::mapped::{Mapped, Paged, prefetch};
use crate::packed_range::PackedRange;
use crate::sequences::FAR;
use crate::{Error, Result};

/// Interactions in CSR form: user u's items are `items[offsets[u]..offsets[u + 1]]`, oldest first.
#[derive(Debug)]
pub struct Store {
    offsets: Mapped<i64>,
    items: Mapped<i32>,
    splits: Mapped<i64>,
    /// Where each user's training sequence lies among the items.
    training: Paged<PackedRange>,
    /// The training sequences once more, where that is worth its memory.
    aligned: OnceLock<AlignedCopy>,
    n_items: usize,
}

/// Bytes of items from which a walk of page tables costs more than reading them, up to what a copy may take.
const WORTH_A_COPY: Range<usize> = FAR..1 << 29;
impl Store {
    /// Opens `offsets.npy`, `items.npy` and `splits.npy` of a data folder.
    ///
    /// # Errors
    /// A missing or damaged file, offsets that fall, ids outside `1..=n_items`, or splits beyond a user's items.
    pub fn open(folder: &Path, n_items: usize) -> Result<Self> {
        let offsets = Mapped::open(&folder.join("offsets.npy"), 1)?;
        let n_users = offsets.as_slice().len().saturating_sub(1);
        let training = Paged::zeros(n_users).map_err(|e| Error::io(offsets.path(), e))?;
        let mut store = Self {
            offsets,
            items: Mapped::open(&folder.join("items.npy"), 1)?,
            splits: Mapped::open(&folder.join("splits.npy"), 2)?,
            training,
            aligned: OnceLock::new(),
            n_items,
        };
        if n_items >= i32::MAX as usize {
            let message = format!("{n_items}; ids are 32-bit, at most {}", i32::MAX - 1);
            return Err(Error::argument("n_items", message));
        }
        store.check()?;
        store.pack_training();
        Ok(store)
    }

    fn pack_training(&mut self) {
        let (offsets, splits) = (self.offsets.as_slice(), self.splits.as_slice());
        let users = offsets.iter().zip(splits.chunks_exact(2));
        for (range, (&start, ends)) in self.training.as_mut_slice().iter_mut().zip(users) {
            *range = PackedRange::new(start, ends[0]);
        }
    }

    fn check(&self) -> Result<()> {
        let contents = Contents {
            offsets: self.offsets.as_slice(),
            items: self.items.as_slice(),
            splits: self.splits.as_slice(),
            n_items: self.n_items,
        };
        contents.check().map_err(|Wrong { file, message }| {
            Error::format(&self.offsets.path().with_file_name(file), message)
        })?;
        let (shape, users) = (self.splits.shape(), self.n_users());
        if shape == [users, 2] {
            return Ok(());
        }
        let message = format!("its shape is {shape:?}, expected [{users}, 2]");
        Err(Error::format(self.splits.path(), message))
    }

    /// Users.
    #[must_use]
    pub fn n_users(&self) -> usize {
        self.offsets.as_slice().len() - 1
    }

    /// Items; ids are `1..=n_items`.
    #[must_use]
    pub fn n_items(&self) -> usize {
        self.n_items
    }

    /// Copies training sequences of middling size to where reading them in any order is faster, in the background;
    /// until then they are read where they are.
    pub fn align_training_in_background(self: &Arc<Self>) {
        let bytes = size_of_val(self.items.as_slice());
        if WORTH_A_COPY.contains(&bytes) && self.aligned.get().is_none() {
            let store = Arc::clone(self);
            thread::spawn(move || store.copy_training());
        }
    }

    fn copy_training(&self) {
        // Without memory for it there is no copy, and nothing else changes.
        if let Ok(aligned) = AlignedCopy::copy(self.histories(), self.n_users()) {
            let _ = self.aligned.set(aligned);
        }
    }

    /// The training sequences, where they are read fastest now: places in them are those of this call's answer alone.
    #[must_use]
    #[inline]
    pub fn histories(&self) -> Histories<'_> {
        let (items, ranges) = match self.aligned.get() {
            Some(aligned) => (aligned.items.as_slice(), aligned.ranges.as_slice()),
            None => (self.items.as_slice(), self.training.as_slice()),
        };
        Histories::new(items, ranges, self.splits.as_slice())
    }

    /// Everything a user met, oldest first.
    #[must_use]
    #[inline]
    pub fn sequence(&self, user: usize) -> &[i32] {
        let offsets = self.offsets.as_slice();
        &self.items.as_slice()[offsets[user] as usize..offsets[user + 1] as usize]
    }

    /// What a user met before the end of validation, oldest first.
    #[must_use]
    pub fn until_validation_ends(&self, user: usize) -> &[i32] {
        &self.sequence(user)[..self.splits.as_slice()[2 * user + 1] as usize]
    }

    /// How often each item occurs in training sequences; index 0 is padding's and stays 0.
    #[must_use]
    pub fn training_counts(&self) -> Vec<u64> {
        let (mut counts, histories) = (vec![0; self.n_items + 1], self.histories());
        for user in 0..self.n_users() {
            for &item in histories.of(user) {
                counts[item as usize] += 1;
            }
        }
        counts
    }

    /// The mapped `offsets.npy`, `[U + 1]`.
    #[must_use]
    pub fn offsets(&self) -> &Mapped<i64> {
        &self.offsets
    }

    /// The mapped `items.npy`.
    #[must_use]
    pub fn items(&self) -> &Mapped<i32> {
        &self.items
    }

    /// The mapped `splits.npy`, `[U, 2]`: the ends of training and validation, counted from the user's start.
    #[must_use]
    pub fn splits(&self) -> &Mapped<i64> {
        &self.splits
    }
}

/// `similar_users.npy`, `[U, columns]`: the nearest users of each, best first, -1 fills.
#[derive(Debug)]
pub struct SimilarUsers {
    users: Mapped<i32>,
    columns: usize,
    k: usize,
}

impl SimilarUsers {
    /// Opens the file for the `k` nearest users of each.
    ///
    /// # Errors
    /// A missing or damaged file, another number of users, fewer than `k` columns, or users outside `0..n_users`.
    pub fn open(folder: &Path, n_users: usize, k: usize) -> Result<Self> {
        let users = open_neighbours(&folder.join("similar_users.npy"), "similar users")?;
        let (rows, columns) = (users.shape()[0], users.shape()[1]);
        if rows != n_users {
            let message =
                format!("it has {rows} rows, the data has {n_users} users; run `index` again");
            return Err(Error::format(users.path(), message));
        }
        if columns < k {
            let message = format!(
                "it holds {columns} similar users a user, {k} are asked for; run `index` with k={k}"
            );
            return Err(Error::format(users.path(), message));
        }
        check_file(&users, -1, n_users as i32 - 1)?;
        Ok(Self { users, columns, k })
    }

    /// Similar users a user.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// Asks for the nearest users of one, ahead of their use.
    #[inline]
    pub(crate) fn prefetch(&self, user: usize) {
        let start = user * self.columns;
        prefetch(self.users.as_slice(), start);
        prefetch(self.users.as_slice(), start + self.k - 1);
    }

    /// The `k` nearest users of one, best first, -1 fills.
    #[must_use]
    #[inline]
    pub fn of(&self, user: usize) -> &[i32] {
        let start = user * self.columns;
        &self.users.as_slice()[start..start + self.k]
    }
}

/// Opens an int32 matrix written by `index`.
pub(crate) fn open_neighbours(path: &Path, what: &str) -> Result<Mapped<i32>> {
    Mapped::open(path, 2).map_err(|error| with_remedy(error, what))
}

/// Says how a missing neighbour file comes to be.
pub(crate) fn with_remedy(error: Error, what: &str) -> Error {
    match error {
        Error::FileMissing { path, .. } => Error::FileMissing {
            path,
            remedy: format!("it holds the {what}; make it with `llm-esr index`"),
        },
        other => other,
    }
}

/// Checks that every id of a file lies in `low..=high`.
pub(crate) fn check_file(ids: &Mapped<i32>, low: i32, high: i32) -> Result<()> {
    check_ids(ids.as_slice(), low, high).map_err(|message| Error::format(ids.path(), message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packed_range::LONG;
    use std::fs;

    fn npy(descr: &str, shape: &str, body: impl Iterator<Item = u8>) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
        bytes.extend(format!("{header:<117}\n").bytes());
        bytes.extend(body);
        bytes
    }

    fn store(lengths: &[i64]) -> Store {
        let folder = tempfile::tempdir().unwrap();
        let mut offsets = vec![0_i64];
        for length in lengths {
            offsets.push(offsets[offsets.len() - 1] + length);
        }
        let (users, total) = (lengths.len(), offsets[lengths.len()]);
        let le = |numbers: Vec<i64>| numbers.into_iter().flat_map(i64::to_le_bytes);
        let splits = lengths.iter().flat_map(|&n| [n - n.min(1), n]).collect();
        let items = (0..total).flat_map(|n| ((n % 50) as i32 + 1).to_le_bytes());
        for (name, bytes) in [
            (
                "offsets",
                npy("<i8", &format!("({},)", users + 1), le(offsets)),
            ),
            ("splits", npy("<i8", &format!("({users}, 2)"), le(splits))),
            ("items", npy("<i4", &format!("({total},)"), items)),
        ] {
            fs::write(folder.path().join(format!("{name}.npy")), bytes).unwrap();
        }
        Store::open(folder.path(), 50).unwrap()
    }

    #[test]
    fn a_training_sequence_that_is_too_long_to_be_packed_is_looked_up() {
        let long = LONG as usize;
        let store = store(&[3, LONG + 3, 0, LONG, 2]);
        let ranges: Vec<Range<usize>> = (0..5).map(|user| store.histories().range(user)).collect();
        let starts = [0, 3, long + 6, long + 6, 2 * long + 6];
        let expected: Vec<Range<usize>> = starts
            .into_iter()
            .zip([2, long + 2, 0, long - 1, 1])
            .map(|(start, length)| start..start + length)
            .collect();
        assert_eq!(ranges, expected);
    }

    #[test]
    fn the_copy_holds_what_was_copied() {
        let store = store(&[40, 0, 30, 5, 1, LONG + 9]);
        let before: Vec<&[i32]> = (0..6).map(|user| store.histories().of(user)).collect();
        store.copy_training();
        assert!(store.aligned.get().is_some());
        let after: Vec<&[i32]> = (0..6).map(|user| store.histories().of(user)).collect();
        assert_eq!(after, before);
        let lengths: Vec<usize> = after.iter().map(|history| history.len()).collect();
        assert_eq!(lengths, [39, 0, 29, 4, 0, LONG as usize + 8]);
    }
}
