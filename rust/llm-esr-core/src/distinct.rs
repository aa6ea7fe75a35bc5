//! The distinct ids of a step, so that each item goes through the model's views once.

use std::cell::RefCell;

thread_local! {
    /// One more than an id's place among the distinct ones, 0 for an id that was not met; all 0 between calls.
    static PLACES: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// Distinct ids, and where each id stands among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distinct {
    /// In the order in which they are met first; so a group's new ids lie together.
    pub ids: Vec<i64>,
    /// How many ids each group brought that no group before it had.
    pub new: Vec<usize>,
    /// For each list, its ids' places in `ids`.
    pub places: Vec<Vec<i64>>,
}

/// Finds the distinct ids of groups of lists.
///
/// # Panics
/// A negative id.
#[must_use]
pub fn distinct(groups: &[Vec<&[i32]>]) -> Distinct {
    PLACES.with_borrow_mut(|known| {
        let greatest = groups.iter().flatten().copied().flatten().max();
        let room = greatest.map_or(0, |&id| id as usize + 1);
        if known.len() < room {
            known.resize(room, 0);
        }
        let mut found = Distinct::default();
        for group in groups {
            let before = found.ids.len();
            for list in group {
                let mut places = Vec::with_capacity(list.len());
                for &id in *list {
                    let place = &mut known[id as usize];
                    if *place == 0 {
                        found.ids.push(i64::from(id));
                        *place = found.ids.len() as u32;
                    }
                    places.push(i64::from(*place) - 1);
                }
                found.places.push(places);
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
            let found = distinct(&[vec![&first, &second], vec![&third]]);
            for (list, places) in [&first, &second, &third].into_iter().zip(&found.places) {
                let again: Vec<i32> = places.iter().map(|&place| found.ids[place as usize] as i32).collect();
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
