//! Items that a target is ranked against in a sampled evaluation.

use crate::negatives::{ATTEMPTS, Catalogue};
use crate::rng::{Draws, Stream};
use crate::seen::Seen;
use crate::store::Store;
use crate::{Error, Result, room};

/// The part whose targets are ranked; its number stands in place of the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Training and validation items are left out; the test item may be out.
    Validation = 1,
    /// Everything that the user met is left out.
    Test = 2,
}

/// For each user `n` distinct items that the user never met, uniform, `[users, n]`.
///
/// # Errors
/// A user outside the data, or one who leaves fewer than `n` items unseen.
pub fn sample(store: &Store, users: &[i64], part: Part, n: usize, seed: u64) -> Result<Vec<i32>> {
    if users.is_empty() {
        return Ok(Vec::new());
    }
    if store.n_items() == 0 {
        return Err(Error::argument(
            "data",
            "it has no items, so there is nothing to draw",
        ));
    }
    if n > store.n_items() {
        let message = format!(
            "{n} candidates are more than the {} items of the catalogue; ask for fewer",
            store.n_items()
        );
        return Err(Error::argument("candidates", message));
    }
    let mut out = room(users.len(), n, "candidates")?;
    let catalogue = Catalogue::all(store.n_items() as u32);
    let mut met = Seen::new(store.n_items());
    for &user in users {
        if user < 0 || user >= store.n_users() as i64 {
            return Err(Error::IdOutOfRange {
                argument: "users",
                id: user,
                low: 0,
                high: store.n_users() as i64 - 1,
            });
        }
        let history = match part {
            Part::Validation => store.until_validation_ends(user as usize),
            Part::Test => store.sequence(user as usize),
        };
        let unseen = catalogue.count_unseen(history, &mut met);
        if unseen < n {
            let message = format!(
                "user {user} (their row in users.parquet) leaves {unseen} of {} items unseen, fewer than the {n} asked \
                 for; ask for fewer",
                store.n_items()
            );
            return Err(Error::argument("candidates", message));
        }
        let draws = Draws::new(seed, part as u64, Stream::Candidates, 0, user as u64);
        draw_distinct(&catalogue, &draws, n, history, &mut met, &mut out);
    }
    Ok(out)
}

/// Appends `n` distinct items that are none of `history`; `met` is empty before and after.
fn draw_distinct(
    catalogue: &Catalogue,
    draws: &Draws,
    n: usize,
    history: &[i32],
    met: &mut Seen,
    out: &mut Vec<i32>,
) {
    let first = out.len();
    met.mark(history);
    for draw in 0..n as u64 {
        let fits = |&item: &i32| !met.contains(item);
        let item = (0..ATTEMPTS)
            .find_map(|attempt| catalogue.pick(draws.word(draw, attempt)).filter(fits))
            .unwrap_or_else(|| {
                let gone = [history, &out[first..]].concat();
                catalogue.draw_unseen(draws, draw, &catalogue.ranks(&gone), 0)
            });
        met.mark_one(item);
        out.push(item);
    }
    met.unmark(history);
    met.unmark(&out[first..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn candidates_are_distinct_and_unseen(
            history in proptest::collection::vec(1_i32..=60, 0..50), n in 0_usize..40
        ) {
            let catalogue = Catalogue::all(60);
            let mut met = Seen::new(60);
            let n = n.min(catalogue.count_unseen(&history, &mut met));
            let draws = Draws::new(1, 2, Stream::Candidates, 0, 9);
            let mut out = Vec::new();
            draw_distinct(&catalogue, &draws, n, &history, &mut met, &mut out);
            let mut sorted = out.clone();
            sorted.sort_unstable();
            sorted.dedup();
            prop_assert_eq!(sorted.len(), n);
            prop_assert!(out.iter().all(|item| !history.contains(item)));
            prop_assert!((1..=60).all(|item| !met.contains(item)));
        }
    }
}
