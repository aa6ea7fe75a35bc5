//! The unique ids of a step, so that each item goes through the model's views once.

use std::cell::RefCell;

thread_local! {
    /// One more than an id's place among the unique ones, 0 for an id that was not met; all 0 between calls.
    static INVERSE: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// Unique ids, and the index of each id among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UniqueItems {
    /// In the order in which they are met first; so a group's new ids lie together.
    pub ids: Vec<i64>,
    /// How many ids each group brought that no group before it had.
    pub new: Vec<usize>,
    /// For each list, its ids' inverse in `ids`.
    pub inverse: Vec<Vec<i64>>,
}

/// Finds the unique ids of groups of lists.
///
/// # Panics
/// A negative id.
#[must_use]
pub fn unique_items(groups: &[Vec<&[i32]>]) -> UniqueItems {
    INVERSE.with_borrow_mut(|known| {
        let greatest = groups.iter().flatten().copied().flatten().max();
        let room = greatest.map_or(0, |&id| id as usize + 1);
        if known.len() < room {
            known.resize(room, 0);
        }
        let mut found = UniqueItems::default();
        for group in groups {
            let before = found.ids.len();
            for list in group {
                let mut inverse = Vec::with_capacity(list.len());
                for &id in *list {
                    let place = &mut known[id as usize];
                    if *place == 0 {
                        found.ids.push(i64::from(id));
                        *place = found.ids.len() as u32;
                    }
                    inverse.push(i64::from(*place) - 1);
                }
                found.inverse.push(inverse);
            }
            found.new.push(found.ids.len() - before);
        }
        for &id in &found.ids {
            known[id as usize] = 0;
        }
        found
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_id_is_found_again_and_none_stands_twice(
            first in proptest::collection::vec(0_i32..50, 0..60),
            second in proptest::collection::vec(0_i32..50, 0..60),
            third in proptest::collection::vec(0_i32..90, 0..60),
        ) {
            let found = unique_items(&[vec![&first, &second], vec![&third]]);
            for (list, inverse) in [&first, &second, &third].into_iter().zip(&found.inverse) {
                let again: Vec<i32> = inverse.iter().map(|&place| found.ids[place as usize] as i32).collect();
                prop_assert_eq!(&again, list);
            }
            let mut sorted = found.ids.clone();
            sorted.sort_unstable();
            sorted.dedup();
            prop_assert_eq!(sorted.len(), found.ids.len());
            prop_assert_eq!(found.new.iter().sum::<usize>(), found.ids.len());
            let own = &found.ids[found.new[0]..];
            prop_assert!(own.iter().all(|id| !first.contains(&(*id as i32)) && !second.contains(&(*id as i32))));
        }
    }
}
