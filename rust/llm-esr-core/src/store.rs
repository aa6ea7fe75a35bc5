//! A data folder's interactions, users' training sequences, and neighbours: checked when opened, then shared.

use std::ops::Range;
use std::path::Path;

use crate::mapped::Mapped;
use crate::{Error, Result};

/// Interactions in CSR form: user u's items are `items[offsets[u]..offsets[u + 1]]`, oldest first.
#[derive(Debug)]
pub struct Store {
    offsets: Mapped<i64>,
    items: Mapped<i32>,
    splits: Mapped<i64>,
    n_items: usize,
}

impl Store {
    /// Opens `offsets.npy`, `items.npy` and `splits.npy` of a data folder.
    ///
    /// # Errors
    /// A missing or damaged file, offsets that fall, ids outside `1..=n_items`, or splits beyond a user's items.
    pub fn open(folder: &Path, n_items: usize) -> Result<Self> {
        let store = Self {
            offsets: Mapped::open(&folder.join("offsets.npy"), 1)?,
            items: Mapped::open(&folder.join("items.npy"), 1)?,
            splits: Mapped::open(&folder.join("splits.npy"), 2)?,
            n_items,
        };
        if n_items >= i32::MAX as usize {
            let message = format!("{n_items}; ids are 32-bit, at most {}", i32::MAX - 1);
            return Err(Error::argument("n_items", message));
        }
        store.check_offsets()?;
        check_ids(&store.items, 1, n_items as i32)?;
        store.check_splits()?;
        Ok(store)
    }

    fn check_offsets(&self) -> Result<()> {
        let offsets = self.offsets.as_slice();
        let total = self.items.as_slice().len() as i64;
        let (Some(&first), Some(&last)) = (offsets.first(), offsets.last()) else {
            return Err(Error::format(
                self.offsets.path(),
                "it is empty; expected users + 1 offsets",
            ));
        };
        if first != 0 || last != total {
            let message = format!(
                "it runs from {first} to {last}, expected 0 to {total} (the length of items.npy)"
            );
            return Err(Error::format(self.offsets.path(), message));
        }
        if let Some(user) = offsets.windows(2).position(|pair| pair[0] > pair[1]) {
            let message = format!(
                "offsets fall at user {user}: {} then {}; prepare the data again",
                offsets[user],
                offsets[user + 1]
            );
            return Err(Error::format(self.offsets.path(), message));
        }
        if self.n_users() >= i32::MAX as usize {
            let message = format!("{} users; ids are 32-bit", self.n_users());
            return Err(Error::format(self.offsets.path(), message));
        }
        Ok(())
    }

    fn check_splits(&self) -> Result<()> {
        let shape = self.splits.shape();
        if shape != [self.n_users(), 2] {
            let message = format!("its shape is {shape:?}, expected [{}, 2]", self.n_users());
            return Err(Error::format(self.splits.path(), message));
        }
        let offsets = self.offsets.as_slice();
        for (user, ends) in self.splits.as_slice().chunks_exact(2).enumerate() {
            let count = offsets[user + 1] - offsets[user];
            if !(0 <= ends[0] && ends[0] <= ends[1] && ends[1] <= count) {
                let message = format!(
                    "user {user} has {count} items, but training ends at {} and validation at {}; prepare the data again",
                    ends[0], ends[1]
                );
                return Err(Error::format(self.splits.path(), message));
            }
        }
        Ok(())
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

    /// Everything a user met, oldest first.
    #[must_use]
    #[inline]
    pub fn sequence(&self, user: usize) -> &[i32] {
        let offsets = self.offsets.as_slice();
        &self.items.as_slice()[offsets[user] as usize..offsets[user + 1] as usize]
    }

    /// What a user met before the end of training, oldest first.
    #[must_use]
    #[inline]
    pub fn training(&self, user: usize) -> &[i32] {
        &self.items.as_slice()[self.training_range(user)]
    }

    /// Where a training sequence lies in `items`.
    #[must_use]
    #[inline]
    pub fn training_range(&self, user: usize) -> Range<usize> {
        let start = self.offsets.as_slice()[user] as usize;
        start..start + self.splits.as_slice()[2 * user] as usize
    }

    /// What a user met before the end of validation, oldest first.
    #[must_use]
    pub fn until_validation_ends(&self, user: usize) -> &[i32] {
        &self.sequence(user)[..self.splits.as_slice()[2 * user + 1] as usize]
    }

    /// How often each item occurs in training sequences; index 0 is padding's and stays 0.
    #[must_use]
    pub fn training_counts(&self) -> Vec<u64> {
        let mut counts = vec![0; self.n_items + 1];
        for user in 0..self.n_users() {
            for &item in self.training(user) {
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
        check_ids(&users, -1, n_users as i32 - 1)?;
        Ok(Self { users, columns, k })
    }

    /// Similar users a user.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
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

/// Checks that every id lies in `low..=high`.
pub(crate) fn check_ids(ids: &Mapped<i32>, low: i32, high: i32) -> Result<()> {
    // Whole chunks are compared without a branch; only a bad one is searched.
    for (chunk, part) in ids.as_slice().chunks(4096).enumerate() {
        let bad = part
            .iter()
            .fold(false, |bad, id| bad | !(low..=high).contains(id));
        if bad && let Some(at) = part.iter().position(|id| !(low..=high).contains(id)) {
            let message = format!(
                "entry {} is id {}, expected {low} to {high}; make the file again",
                chunk * 4096 + at,
                part[at]
            );
            return Err(Error::format(ids.path(), message));
        }
    }
    Ok(())
}
