//! Items that a target is ranked against in a sampled evaluation.

use rayon::prelude::*;

use crate::errors::{Error, Result};
use crate::negatives::{contains, distinct};
use crate::rng::{Key, Stream};
use crate::store::Store;

/// Number of the validation part in a stream's key.
pub const VALIDATION: u64 = 1;
/// Number of the test part in a stream's key.
pub const TEST: u64 = 2;

/// `n` distinct uniform items for each user, [users, n], from a stream of its own.
///
/// Validation leaves out training and the validation target (the test item may be drawn); test leaves out all.
///
/// # Errors
/// A user or split outside its range; a user who met so many items that fewer than `n` are left.
pub fn sample(store: &Store, users: &[i64], split: u64, n: usize, seed: u64) -> Result<Vec<i32>> {
    if split != VALIDATION && split != TEST {
        return Err(Error::argument(
            "split",
            format!("is {split}, expected 1 (validation) or 2 (test)"),
        ));
    }
    let mut drawn = vec![0; users.len() * n];
    drawn
        .par_chunks_mut(n.max(1))
        .zip(users)
        .try_for_each_init(Vec::new, |met, (row, &user)| {
            if user < 0 || user >= store.n_users() as i64 {
                let high = store.n_users() as i64 - 1;
                return Err(Error::IdOutOfRange {
                    argument: "users",
                    id: user,
                    low: 0,
                    high,
                });
            }
            let everything = store.everything(user as usize);
            let end = if split == TEST {
                everything.len()
            } else {
                (store.ends(user as usize).0 + 1).min(everything.len())
            };
            distinct(&everything[..end], met);
            if store.n_items() - met.len() < n {
                let (left, all) = (store.n_items() - met.len(), store.n_items());
                let message = format!(
                    "user {user} leaves {left} of {all} items unmet, fewer than the {n} asked for"
                );
                return Err(Error::argument("candidates", message));
            }
            fill(
                Key { seed, epoch: split },
                user as u64,
                store.n_items() as u32,
                met,
                row,
            );
            Ok(())
        })?;
    Ok(drawn)
}

/// Draws until the row is full; what was drawn joins what was met, so nothing comes twice.
fn fill(key: Key, user: u64, n_items: u32, met: &mut Vec<i32>, row: &mut [i32]) {
    let mut words = key.words(user, Stream::Candidates, 0, 0);
    let mut filled = 0;
    let mut d = 0;
    while filled < row.len() {
        let id = words.below(d, n_items) as i32 + 1;
        d += 1;
        if !contains(met, id) {
            let place = met.partition_point(|&other| other < id);
            met.insert(place, id);
            row[filled] = id;
            filled += 1;
        }
    }
}
