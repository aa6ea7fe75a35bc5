//! Items a user never met, uniform or by popularity.
//!
//! Own negatives are rejected while the user met them, a bounded number of times, and then drawn exactly from what is
//! left: they are *never* a seen item, however much a user saw.

use crate::negative_sampling::{Distribution, Drawable, NegativeSampling};
use crate::rng::{Bound, Draws, WORDS, Words};
use crate::seen::Seen;
use crate::{Error, Result};

/// Tries before a draw is made from the complement itself.
pub const ATTEMPTS: u64 = 16;

/// Total of the integer weights: exact sums in 64 bits, and finer than any count.
const WEIGHT_SCALE: f64 = (1_u64 << 48) as f64;

/// The negatives of a batch.
#[derive(Debug)]
pub struct Negatives {
    /// Which they are.
    pub sampling: NegativeSampling,
    /// How many, where they are drawn.
    pub count: usize,
    /// What they are drawn from; there where they are drawn and somebody trains.
    pub catalogue: Option<Catalogue>,
}

/// Which items are drawn, and how often.
#[derive(Debug)]
pub struct Catalogue {
    /// The items that can be drawn, rising; none where they are all of `1..=n_items`.
    items: Option<Vec<i32>>,
    bound: Bound,
    len: u32,
    popularity: Option<Popularity>,
}

/// Weights of the catalogue's items, as an alias table (Walker 1977, Vose 1991) and as sums.
#[derive(Debug)]
struct Popularity {
    /// The coin below which a cell stands for itself, else the other item.
    cells: Vec<(u32, u32)>,
    /// Weights before each item, and all of them at the end.
    cumulative: Vec<u64>,
}

impl Catalogue {
    /// Items to draw from; `counts[id]` is how often training met an item (index 0 is padding's).
    ///
    /// An item without weight is never drawn.
    ///
    /// # Errors
    /// No item is left.
    pub fn new(
        counts: &[u64],
        drawable: Drawable,
        distribution: Distribution,
        exponent: f64,
    ) -> Result<Self> {
        let weight = |id: usize| distribution.weight(counts[id], exponent);
        let all = drawable == Drawable::All;
        let drawable = |&id: &usize| (counts[id] > 0 || all) && weight(id) > 0.0;
        let items: Vec<i32> = (1..counts.len())
            .filter(drawable)
            .map(|id| id as i32)
            .collect();
        if items.is_empty() {
            return Err(Error::argument(
                "negatives",
                "there is no item to draw: nobody met any in training",
            ));
        }
        let len = items.len() as u32;
        let popularity = (distribution != Distribution::Uniform).then(|| {
            let weights: Vec<f64> = items.iter().map(|&id| weight(id as usize)).collect();
            Popularity::new(&weights)
        });
        let all = items.len() == counts.len() - 1;
        Ok(Self {
            items: (!all).then_some(items),
            bound: Bound::new(len),
            len,
            popularity,
        })
    }

    /// Every item of `1..=n_items`, all alike.
    #[must_use]
    pub fn all(n_items: u32) -> Self {
        Self {
            items: None,
            bound: Bound::new(n_items),
            len: n_items,
            popularity: None,
        }
    }

    /// Items that can be drawn.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Never: a catalogue without items cannot be made.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The chance of each item of `0..=n_items` in one draw, 0 for those that are never drawn.
    #[must_use]
    pub fn chances(&self, n_items: usize) -> Vec<f64> {
        let mut chances = vec![0.0; n_items + 1];
        for rank in 0..self.len {
            chances[self.item(rank) as usize] = match &self.popularity {
                None => 1.0 / f64::from(self.len),
                Some(popularity) => popularity.chance(rank),
            };
        }
        chances
    }

    /// The item that a word stands for; none where the word would favour some items.
    #[inline]
    pub(crate) fn pick(&self, word: u32) -> Option<i32> {
        let rank = match &self.popularity {
            None => self.bound.accept(word)?,
            Some(popularity) => popularity.pick(word),
        };
        Some(self.item(rank))
    }

    #[inline]
    fn item(&self, rank: u32) -> i32 {
        match &self.items {
            None => rank as i32 + 1,
            Some(items) => items[rank as usize],
        }
    }

    fn rank(&self, item: i32) -> Option<u32> {
        match &self.items {
            None => Some(item as u32 - 1),
            Some(items) => items.binary_search(&item).ok().map(|rank| rank as u32),
        }
    }

    /// How many of the catalogue's items are none of `history`.
    pub fn count_unseen(&self, history: &[i32], seen: &mut Seen) -> usize {
        let met = history
            .iter()
            .filter(|&&item| seen.mark_one(item) && self.rank(item).is_some())
            .count();
        seen.unmark(history);
        self.len() - met
    }

    /// Appends `n` items for a whole step, drawn without exclusion.
    pub fn draw_shared(&self, draws: &Draws, n: usize, out: &mut Vec<i32>) {
        for group in 0..(n as u64).div_ceil(WORDS) {
            let words = draws.block(group, 0);
            let left = (n as u64 - group * WORDS).min(WORDS);
            for (draw, &word) in (group * WORDS..).zip(&words[..left as usize]) {
                let (mut picked, mut attempt) = (self.pick(word), 0);
                while picked.is_none() {
                    attempt += 1;
                    picked = self.pick(draws.word(draw, attempt));
                }
                out.extend(picked);
            }
        }
    }

    /// Appends `n` items for each of a user's rows; `draw = position x n + k` names a row's k-th.
    ///
    /// `seen` holds the user's `history` and nothing else; a row's target is avoided too. At least one item of the
    /// catalogue must be neither (see [`Catalogue::count_unseen`]).
    pub fn draw_own(
        &self,
        draws: &Draws,
        n: usize,
        rows: impl Iterator<Item = (u64, i32)>,
        history: &[i32],
        seen: &Seen,
        out: &mut Vec<i32>,
    ) {
        let mut met: Option<Vec<u32>> = None;
        let mut words = Words::new(*draws);
        for (position, target) in rows {
            let first = position * n as u64;
            for draw in first..first + n as u64 {
                let fits = |&item: &i32| item != target && !seen.contains(item);
                let item = self
                    .pick(words.word(draw, 0))
                    .filter(fits)
                    .or_else(|| {
                        (1..ATTEMPTS)
                            .find_map(|attempt| self.pick(words.word(draw, attempt)).filter(fits))
                    })
                    .unwrap_or_else(|| {
                        let met = met.get_or_insert_with(|| self.ranks(history));
                        self.draw_unseen(draws, draw, met, target)
                    });
                out.push(item);
            }
        }
    }

    /// The ranks of a history's items, rising and distinct.
    pub(crate) fn ranks(&self, history: &[i32]) -> Vec<u32> {
        let mut ranks: Vec<u32> = history.iter().filter_map(|&item| self.rank(item)).collect();
        ranks.sort_unstable();
        ranks.dedup();
        ranks
    }

    /// One draw from the catalogue without the ranks `met` and without `target`, by weight.
    #[cold]
    pub(crate) fn draw_unseen(&self, draws: &Draws, draw: u64, met: &[u32], target: i32) -> i32 {
        let mut without = met.to_vec();
        if let Some(rank) = (target > 0).then(|| self.rank(target)).flatten()
            && let Err(at) = without.binary_search(&rank)
        {
            without.insert(at, rank);
        }
        let rank = match &self.popularity {
            None => {
                let left = self.len - without.len() as u32;
                let mut rank = draws.below(draw, Bound::new(left), ATTEMPTS);
                for &gone in &without {
                    if rank < gone {
                        break;
                    }
                    rank += 1;
                }
                rank
            }
            Some(popularity) => {
                let high = u64::from(draws.word(draw, ATTEMPTS));
                let low = u64::from(draws.word(draw, ATTEMPTS + 1));
                popularity.pick_without(&without, high << 32 | low)
            }
        };
        self.item(rank)
    }
}

impl Popularity {
    fn new(weights: &[f64]) -> Self {
        let total: f64 = weights.iter().sum();
        let mut cumulative = vec![0_u64];
        for weight in weights {
            // An item that can be drawn keeps a chance, however small.
            let share = ((weight / total * WEIGHT_SCALE).round() as u64).max(1);
            cumulative.push(cumulative[cumulative.len() - 1] + share);
        }
        Self {
            cells: alias_cells(&cumulative),
            cumulative,
        }
    }

    fn chance(&self, rank: u32) -> f64 {
        let [before, after] = [rank, rank + 1].map(|at| self.cumulative[at as usize]);
        (after - before) as f64 / self.cumulative[self.cumulative.len() - 1] as f64
    }

    #[inline]
    fn pick(&self, word: u32) -> u32 {
        let product = u64::from(word) * self.cells.len() as u64;
        let cell = (product >> 32) as u32;
        let (limit, other) = self.cells[cell as usize];
        if (product as u32) < limit {
            cell
        } else {
            other
        }
    }

    /// Integer sums: the number can fall on no item that is left out.
    fn pick_without(&self, without: &[u32], word: u64) -> u32 {
        let weight =
            |rank: u32| self.cumulative[rank as usize + 1] - self.cumulative[rank as usize];
        let gone: u64 = without.iter().map(|&rank| weight(rank)).sum();
        let left = self.cumulative[self.cumulative.len() - 1] - gone;
        let mut at = ((u128::from(word) * u128::from(left)) >> 64) as u64;
        for &rank in without {
            if at < self.cumulative[rank as usize] {
                break;
            }
            at += weight(rank);
        }
        (self.cumulative.partition_point(|&before| before <= at) - 1) as u32
    }
}

fn alias_cells(cumulative: &[u64]) -> Vec<(u32, u32)> {
    let n = cumulative.len() - 1;
    let total = cumulative[n] as f64;
    let mut shares: Vec<f64> = cumulative
        .windows(2)
        .map(|pair| (pair[1] - pair[0]) as f64 * n as f64 / total)
        .collect();
    let mut cells: Vec<(u32, u32)> = (0..n as u32).map(|own| (u32::MAX, own)).collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..n).partition(|&i| shares[i] < 1.0);
    while let (Some(&under), Some(&over)) = (small.last(), large.last()) {
        small.pop();
        cells[under] = ((shares[under] * 4_294_967_296.0) as u32, over as u32);
        shares[over] -= 1.0 - shares[under];
        if shares[over] < 1.0 {
            large.pop();
            small.push(over);
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_power(counts: &[u64], drawable: Drawable, power: Option<f64>) -> Result<Catalogue> {
        match power {
            None => Catalogue::new(counts, drawable, Distribution::Uniform, 1.0),
            Some(power) => Catalogue::new(counts, drawable, Distribution::Popularity, power),
        }
    }

    use crate::rng::Stream;
    use proptest::prelude::*;

    fn draws(owner: u64) -> Draws {
        Draws::new(1, 2, Stream::OwnNegatives, 0, owner)
    }

    fn own(catalogue: &Catalogue, history: &[i32], targets: &[i32], n: usize) -> Vec<i32> {
        let mut seen = Seen::new(5000);
        seen.mark(history);
        let mut out = Vec::new();
        let rows = (0..).zip(targets.iter().copied());
        catalogue.draw_own(&draws(3), n, rows, history, &seen, &mut out);
        out
    }

    #[test]
    fn a_user_who_met_all_but_one_item_gets_that_one() {
        let history: Vec<i32> = (1..=4000).filter(|&item| item != 1234).collect();
        let counts: Vec<u64> = (0..=4000).collect();
        for exponent in [None, Some(1.0), Some(0.5)] {
            let catalogue = by_power(&counts, Drawable::All, exponent).unwrap();
            assert_eq!(own(&catalogue, &history, &[5, 6], 3), [1234; 6]);
        }
    }

    #[test]
    fn items_without_a_training_count_are_not_drawn_unless_the_whole_catalogue_is_asked_for() {
        let counts = [0, 5, 0, 1, 0, 0, 9];
        let met = by_power(&counts, Drawable::Training, None).unwrap();
        assert!(
            own(&met, &[1], &[1; 40], 5)
                .iter()
                .all(|item| [3, 6].contains(item))
        );
        let all = own(
            &by_power(&counts, Drawable::All, None).unwrap(),
            &[1],
            &[1; 40],
            5,
        );
        assert!((2..=6).all(|item| all.contains(&item)));
    }

    #[test]
    fn popular_items_are_drawn_in_proportion_to_their_weight() {
        let counts = [0, 1, 4, 16, 0, 25, 100];
        let catalogue = by_power(&counts, Drawable::Training, Some(0.5)).unwrap();
        let mut out = Vec::new();
        catalogue.draw_shared(&draws(0), 200_000, &mut out);
        let total: f64 = counts.iter().map(|&c| (c as f64).sqrt()).sum();
        for (item, &count) in counts.iter().enumerate() {
            let share = out.iter().filter(|&&i| i as usize == item).count() as f64 / 200_000.0;
            let expected = (count as f64).sqrt() / total;
            assert!(
                (share - expected).abs() < 0.005,
                "{item}: {share} {expected}"
            );
        }
    }

    #[test]
    fn the_exact_draw_keeps_the_weights_of_what_is_left() {
        let weights = Popularity::new(&[1.0, 2.0, 3.0, 4.0]);
        let mut counts = [0; 4];
        for step in 0..10_000_u64 {
            counts[weights.pick_without(&[0, 2], step * (u64::MAX / 10_000)) as usize] += 1;
        }
        assert_eq!((counts[0], counts[2]), (0, 0));
        assert!(
            (f64::from(counts[1]) / 10_000.0 - 1.0 / 3.0).abs() < 0.001,
            "{counts:?}"
        );
    }

    #[test]
    fn a_catalogue_without_items_is_refused() {
        assert!(by_power(&[0, 0, 0], Drawable::Training, None).is_err());
        assert!(by_power(&[0, 0, 0], Drawable::All, Some(1.0)).is_err());
    }

    proptest! {
        #[test]
        fn own_negatives_are_never_seen_items_nor_the_target(
            n_items in 3_u32..200,
            history in proptest::collection::vec(1_i32..200, 0..300),
            targets in proptest::collection::vec(1_i32..200, 1..5),
            exponent in proptest::option::of(0.0..2.0_f64),
        ) {
            let within = |item: &i32| (*item as u32 - 1) % n_items;
            let history: Vec<i32> = history.iter().map(|item| within(item) as i32 + 1).collect();
            let targets: Vec<i32> = targets.iter().map(|item| within(item) as i32 + 1).collect();
            let counts: Vec<u64> = (0..=u64::from(n_items)).map(|id| id % 7 + 1).collect();
            let catalogue = by_power(&counts, Drawable::Training, exponent).unwrap();
            let mut seen = Seen::new(5000);
            prop_assume!(catalogue.count_unseen(&history, &mut seen) > 1);
            let out = own(&catalogue, &history, &targets, 9);
            prop_assert_eq!(out.len(), targets.len() * 9);
            for (row, &target) in out.chunks(9).zip(&targets) {
                prop_assert!(row.iter().all(|item| !history.contains(item) && *item != target));
                prop_assert!(row.iter().all(|item| (1..=n_items as i32).contains(item)));
            }
        }
    }
}
