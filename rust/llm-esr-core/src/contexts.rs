//! The contexts of items: for each time that a user met an item in training, what was met until then, and what was met
//! from then on, read backwards.
//!
//! A context ends with the item, or next to it. Contexts of an item are numbered user by user, place by place, what came
//! before it first; all contexts together are numbered item by item.

use std::collections::HashSet;
use std::sync::Arc;

use crate::rng::{Bound, Draws, Stream};
use crate::store::Store;
use crate::{Error, Result, filled, room};

/// What counts as a context, and how much of it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The nearest items that are read.
    pub max_len: usize,
    /// Whether what was met from the item on, read backwards, is a context too.
    pub reversed: bool,
    /// Whether a context ends with the item itself.
    pub holds_item: bool,
}

/// One context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Context {
    user: u32,
    position: u32,
    reversed: bool,
}

impl Cut {
    /// Items of a context of the item at `position` of `n`, before it is cut to `max_len`; 0: there is none.
    fn length(self, n: usize, position: usize, reversed: bool) -> usize {
        match (reversed, n) {
            (false, _) => position + usize::from(self.holds_item),
            (true, 0..=1) => 0,
            (true, _) => n - position - usize::from(!self.holds_item),
        }
    }

    fn directions(self) -> &'static [bool] {
        if self.reversed {
            &[false, true]
        } else {
            &[false]
        }
    }

    /// Calls `found` with each context of a history of `n` items: its place and its direction.
    fn each(self, n: usize, mut found: impl FnMut(usize, bool)) {
        for position in 0..n {
            for &reversed in self.directions() {
                if self.length(n, position, reversed) > 0 {
                    found(position, reversed);
                }
            }
        }
    }

    /// Appends the nearest items of a context, the nearest last.
    fn read(self, history: &[i32], position: usize, reversed: bool, out: &mut Vec<i32>) {
        let length = self.length(history.len(), position, reversed);
        let kept = length.min(self.max_len);
        if reversed {
            let start = history.len() - length;
            out.extend(history[start..start + kept].iter().rev());
        } else {
            out.extend_from_slice(&history[length - kept..length]);
        }
    }
}

/// The contexts of all items of a store.
#[derive(Debug)]
pub struct Contexts {
    store: Arc<Store>,
    cut: Cut,
    /// Where each item's contexts start, `[I + 2]`; item i's are `offsets[i]..offsets[i + 1]`.
    offsets: Vec<i64>,
    listed: Vec<Context>,
}

/// Sequences to encode, and which contexts their tokens stand for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// The sequences, one after another.
    pub items: Vec<i32>,
    /// Where each starts, and the end.
    pub offsets: Vec<i64>,
    /// For each context the token whose state is the context's.
    pub tokens: Vec<i64>,
    /// For each context its item.
    pub owners: Vec<i64>,
}

impl Contexts {
    /// The contexts of a store's training sequences.
    ///
    /// # Errors
    /// A `max_len` of 0, sequences too many or too long for 32 bits, or contexts that do not fit into memory.
    pub fn new(store: Arc<Store>, cut: Cut) -> Result<Self> {
        if cut.max_len == 0 {
            return Err(Error::argument("max_len", "0; expected 1 or more"));
        }
        let n_users = store.n_users();
        let longest = (0..n_users).map(|user| store.histories().of(user).len());
        if u32::try_from(longest.max().unwrap_or(0).max(n_users)).is_err() {
            let message = "more users, or a longer sequence, than 32 bits can number";
            return Err(Error::argument("data", message));
        }
        let histories = store.histories();
        let mut offsets = filled(0_i64, store.n_items() + 2, 1, "n_items")?;
        for user in 0..n_users {
            let history = histories.of(user);
            cut.each(history.len(), |position, _| {
                offsets[history[position] as usize + 1] += 1;
            });
        }
        for item in 1..offsets.len() {
            offsets[item] += offsets[item - 1];
        }
        let nothing = Context {
            user: 0,
            position: 0,
            reversed: false,
        };
        let total = offsets[offsets.len() - 1] as usize;
        let mut listed = filled(nothing, total, 1, "contexts")?;
        let mut next = offsets.clone();
        for user in 0..n_users {
            let history = histories.of(user);
            cut.each(history.len(), |position, reversed| {
                let place = &mut next[history[position] as usize];
                listed[*place as usize] = Context {
                    user: user as u32,
                    position: position as u32,
                    reversed,
                };
                *place += 1;
            });
        }
        Ok(Self {
            store,
            cut,
            offsets,
            listed,
        })
    }

    /// Where each item's contexts start, `[I + 2]`.
    #[must_use]
    pub fn offsets(&self) -> &[i64] {
        &self.offsets
    }

    /// The items of some contexts, by their numbers: flat, and where each context starts.
    ///
    /// # Errors
    /// A number that no context has.
    pub fn read(&self, numbers: &[i64]) -> Result<(Vec<i32>, Vec<i64>)> {
        let mut items = Vec::new();
        let mut offsets = room(numbers.len().saturating_add(1), 1, "numbers")?;
        offsets.push(0);
        let histories = self.store.histories();
        for &number in numbers {
            let found = usize::try_from(number)
                .ok()
                .and_then(|n| self.listed.get(n));
            let context = found.ok_or(Error::IdOutOfRange {
                argument: "numbers",
                id: number,
                low: 0,
                high: self.listed.len() as i64 - 1,
            })?;
            let history = histories.of(context.user as usize);
            let position = context.position as usize;
            self.cut
                .read(history, position, context.reversed, &mut items);
            offsets.push(items.len() as i64);
        }
        Ok((items, offsets))
    }

    /// For each item `1..=most` of its contexts, at most all of them: how many, and their numbers, one item's after
    /// another's. How many is uniform, and so is every choice of so many; an item without contexts gets 0.
    ///
    /// # Errors
    /// An item outside `1..=n_items`, or a `most` of 0.
    pub fn draw(
        &self,
        items: &[i64],
        most: u32,
        seed: u64,
        epoch: u64,
    ) -> Result<(Vec<i64>, Vec<i64>)> {
        if most == 0 {
            return Err(Error::argument("most", "0; expected 1 or more"));
        }
        let mut counts = room(items.len(), 1, "items")?;
        let mut numbers = Vec::new();
        let mut chosen = HashSet::new();
        for &item in items {
            self.check_item("items", item)?;
            let (start, end) = (self.offsets[item as usize], self.offsets[item as usize + 1]);
            let n = (end - start).min(i64::from(u32::MAX)) as u32;
            if n == 0 {
                counts.push(0);
                continue;
            }
            let draws = Draws::new(seed, epoch, Stream::Contexts, 0, item as u64);
            let k = 1 + draws.below(0, Bound::new(n.min(most)), 0);
            // Floyd's sample: every subset of k has the same chance.
            chosen.clear();
            for (draw, last) in (1..).zip(n - k..n) {
                let taken = draws.below(draw, Bound::new(last + 1), 0);
                let taken = if chosen.insert(taken) { taken } else { last };
                chosen.insert(taken);
                numbers.push(start + i64::from(taken));
            }
            counts.push(i64::from(k));
        }
        Ok((counts, numbers))
    }

    /// The contexts of the wanted items in the training sequences of `first..last`, as the tokens of few sequences: the
    /// sequence itself, which holds what was met until each place, and its reverse. Contexts beyond `max_len` are
    /// sequences of their own. Meant for encoders in which a token sees earlier ones alone, and the same whatever
    /// follows; then it is the same as encoding each context.
    ///
    /// # Errors
    /// Users outside the data, or `wanted` without an entry for each id, `[I + 1]`.
    pub fn pass(&self, first: usize, last: usize, wanted: &[bool]) -> Result<Pass> {
        if first > last || last > self.store.n_users() {
            let message = format!("{first}..{last}; there are {}", self.store.n_users());
            return Err(Error::argument("users", message));
        }
        if wanted.len() != self.store.n_items() + 1 {
            let (got, expected) = (wanted.len(), self.store.n_items() + 1);
            let message = format!("{got} entries; expected one for each id, {expected}");
            return Err(Error::argument("wanted", message));
        }
        let mut pass = Pass {
            offsets: vec![0],
            ..Pass::default()
        };
        let histories = self.store.histories();
        for user in first..last {
            for &reversed in self.cut.directions() {
                self.pass_over(histories.of(user), reversed, wanted, &mut pass);
            }
        }
        Ok(pass)
    }

    /// One direction of one history.
    fn pass_over(&self, history: &[i32], reversed: bool, wanted: &[bool], pass: &mut Pass) {
        let (n, max_len) = (history.len(), self.cut.max_len);
        let (start, mut shared) = (pass.items.len(), 0);
        let lengths = || {
            (0..n)
                .filter(|&at| wanted[history[at] as usize])
                .map(|at| (at, self.cut.length(n, at, reversed)))
                .filter(|&(_, length)| length > 0)
        };
        for (at, length) in lengths().filter(|&(_, length)| length <= max_len) {
            pass.tokens.push((start + length - 1) as i64);
            pass.owners.push(i64::from(history[at]));
            shared = shared.max(length);
        }
        if shared > 0 {
            if reversed {
                pass.items.extend(history[n - shared..].iter().rev());
            } else {
                pass.items.extend_from_slice(&history[..shared]);
            }
            pass.offsets.push(pass.items.len() as i64);
        }
        for (at, _) in lengths().filter(|&(_, length)| length > max_len) {
            self.cut.read(history, at, reversed, &mut pass.items);
            pass.offsets.push(pass.items.len() as i64);
            pass.tokens.push(pass.items.len() as i64 - 1);
            pass.owners.push(i64::from(history[at]));
        }
    }

    fn check_item(&self, argument: &'static str, item: i64) -> Result<()> {
        if (1..=self.store.n_items() as i64).contains(&item) {
            return Ok(());
        }
        Err(Error::IdOutOfRange {
            argument,
            id: item,
            low: 1,
            high: self.store.n_items() as i64,
        })
    }
}

/// How many of its newest items each user shows, uniform in `1..=most`, `[users]`.
///
/// # Errors
/// A negative user, or a `most` of 0.
pub fn recent_cuts(users: &[i64], most: u32, seed: u64, epoch: u64) -> Result<Vec<i64>> {
    if most == 0 {
        return Err(Error::argument("most", "0; expected 1 or more"));
    }
    let bound = Bound::new(most);
    users
        .iter()
        .map(|&user| {
            let owner = u64::try_from(user).map_err(|_| {
                Error::argument("users", format!("{user}; expected numbers from 0 up"))
            })?;
            let draws = Draws::new(seed, epoch, Stream::RecentCuts, 0, owner);
            Ok(1 + i64::from(draws.below(0, bound, 0)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Cut = Cut {
        max_len: 3,
        reversed: true,
        holds_item: true,
    };

    fn read(cut: Cut, history: &[i32]) -> Vec<Vec<i32>> {
        let mut found = Vec::new();
        cut.each(history.len(), |position, reversed| {
            let mut out = Vec::new();
            cut.read(history, position, reversed, &mut out);
            found.push(out);
        });
        found
    }

    #[test]
    fn a_context_is_what_was_met_until_then_or_from_then_on_reversed() {
        assert_eq!(
            read(ALL, &[5, 6, 7, 8]),
            [
                vec![5],
                vec![7, 6, 5],
                vec![5, 6],
                vec![8, 7, 6],
                vec![5, 6, 7],
                vec![8, 7],
                vec![6, 7, 8],
                vec![8]
            ]
        );
        assert_eq!(read(ALL, &[5]), [[5]]);
    }

    #[test]
    fn without_the_item_the_ends_have_one_context_less() {
        let cut = Cut {
            holds_item: false,
            ..ALL
        };
        assert_eq!(
            read(cut, &[5, 6, 7]),
            [vec![7, 6], vec![5], vec![7], vec![5, 6]]
        );
        let cut = Cut {
            reversed: false,
            ..cut
        };
        assert_eq!(read(cut, &[5, 6, 7]), [vec![5], vec![5, 6]]);
        assert!(read(cut, &[5]).is_empty());
    }

    #[test]
    fn cuts_lie_in_their_range_and_hang_on_the_user_alone() {
        let users: Vec<i64> = (0..400).collect();
        let cuts = recent_cuts(&users, 5, 3, 1).unwrap();
        assert!((1..=5).all(|cut| cuts.contains(&cut)) && cuts.iter().all(|c| (1..=5).contains(c)));
        assert_eq!(recent_cuts(&[7], 5, 3, 1).unwrap(), [cuts[7]]);
        assert_ne!(cuts, recent_cuts(&users, 5, 3, 2).unwrap());
        assert!(recent_cuts(&[-1], 5, 3, 1).is_err() && recent_cuts(&[1], 0, 3, 1).is_err());
    }
}
