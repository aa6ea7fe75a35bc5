//! A data set folder's interactions, opened and checked.

use std::path::Path;

use crate::errors::{Error, Result};
use crate::mapped::MappedArray;

/// Everything users did, in order, laid end to end, and where each user's training ends.
#[derive(Debug)]
pub struct Store {
    offsets: MappedArray<i64>,
    items: MappedArray<i32>,
    splits: MappedArray<i64>,
    n_items: usize,
    training_counts: Vec<u32>,
}

impl Store {
    /// Opens `offsets.npy`, `items.npy` and `splits.npy` of a folder; item ids are 1..=`n_items`.
    ///
    /// # Errors
    /// A missing or damaged file, offsets out of order, splits outside a user, an id outside its range.
    pub fn open(folder: &Path, n_items: usize) -> Result<Self> {
        let offsets = MappedArray::<i64>::open(&folder.join("offsets.npy"), 1)?;
        let items = MappedArray::<i32>::open(&folder.join("items.npy"), 1)?;
        let splits = MappedArray::<i64>::open(&folder.join("splits.npy"), 2)?;
        let bounds = offsets.as_slice();
        if bounds.first() != Some(&0) || bounds.last() != Some(&(items.as_slice().len() as i64)) {
            return Err(Error::format(
                offsets.path(),
                "does not run from 0 to the number of interactions",
            ));
        }
        if let Some(user) = bounds.windows(2).position(|pair| pair[0] > pair[1]) {
            return Err(Error::format(
                offsets.path(),
                format!("user {user} ends before it starts"),
            ));
        }
        if splits.shape() != [bounds.len() - 1, 2] {
            let came = splits.shape();
            let message = format!("has shape {came:?}, expected [{}, 2]", bounds.len() - 1);
            return Err(Error::format(splits.path(), message));
        }
        let mut training_counts = vec![0u32; n_items + 1];
        for (user, pair) in bounds.windows(2).enumerate() {
            let ends = splits.row(user);
            let length = pair[1] - pair[0];
            if ends[0] < 0 || ends[0] > ends[1] || ends[1] > length {
                let message = format!("user {user} has ends {ends:?} within {length} interactions");
                return Err(Error::format(splits.path(), message));
            }
            for (place, &item) in items.as_slice()[pair[0] as usize..pair[1] as usize]
                .iter()
                .enumerate()
            {
                if item < 1 || item as usize > n_items {
                    let message = format!("user {user} has item id {item}, expected 1..={n_items}");
                    return Err(Error::format(items.path(), message));
                }
                training_counts[item as usize] += u32::from((place as i64) < ends[0]);
            }
        }
        Ok(Self {
            offsets,
            items,
            splits,
            n_items,
            training_counts,
        })
    }

    /// U.
    #[must_use]
    pub fn n_users(&self) -> usize {
        self.offsets.as_slice().len() - 1
    }

    /// I.
    #[must_use]
    pub fn n_items(&self) -> usize {
        self.n_items
    }

    /// How often each id was met in training; index 0 is 0.
    #[must_use]
    pub fn training_counts(&self) -> &[u32] {
        &self.training_counts
    }

    /// A user's training sequence, oldest first.
    #[inline]
    #[must_use]
    pub fn training(&self, user: usize) -> &[i32] {
        let start = self.offsets.as_slice()[user] as usize;
        let length = self.splits.as_slice()[2 * user] as usize;
        &self.items.as_slice()[start..start + length]
    }

    /// Everything a user did, oldest first.
    #[must_use]
    pub fn everything(&self, user: usize) -> &[i32] {
        let bounds = self.offsets.as_slice();
        &self.items.as_slice()[bounds[user] as usize..bounds[user + 1] as usize]
    }

    /// A user's ends of train and validation, counted from the user's start.
    #[must_use]
    pub fn ends(&self, user: usize) -> (usize, usize) {
        let ends = self.splits.row(user);
        (ends[0] as usize, ends[1] as usize)
    }
}
