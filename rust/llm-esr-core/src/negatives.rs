//! Items a user never met, uniform or by popularity.

use crate::errors::{Error, Result};
use crate::rng::{Key, Stream, Words, scale};

/// Rejected draws of one negative before it is drawn from the complement itself.
const ATTEMPTS: u64 = 16;

/// How likely each item is to be drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// All alike.
    Uniform,
    /// In proportion to (training count) ^ exponent.
    Popularity {
        /// The exponent; 0 is uniform over items that were met.
        exponent: f64,
    },
}

/// The items that negatives come from, and how likely each is.
#[derive(Clone, Debug)]
pub struct Sampler {
    /// Ids that may be drawn, rising; None where these are 1..=`n_items`.
    ids: Option<Vec<i32>>,
    n: u32,
    alias: Option<Alias>,
    weights: Vec<f64>,
}

/// Walker's alias table (Vose's construction): a draw costs one word, its upper part the column, its lower the coin.
#[derive(Clone, Debug)]
struct Alias {
    threshold: Vec<u32>,
    other: Vec<u32>,
}

impl Alias {
    fn new(weights: &[f64]) -> Self {
        let n = weights.len();
        let total: f64 = weights.iter().sum();
        let mut scaled: Vec<f64> = weights.iter().map(|w| w / total * n as f64).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..n).partition(|&i| scaled[i] < 1.0);
        let mut alias = Self {
            threshold: vec![u32::MAX; n],
            other: (0..n as u32).collect(),
        };
        while let (Some(&low), Some(&high)) = (small.last(), large.last()) {
            small.pop();
            alias.threshold[low] = (scaled[low] * f64::from(u32::MAX)) as u32;
            alias.other[low] = high as u32;
            scaled[high] -= 1.0 - scaled[low];
            if scaled[high] < 1.0 {
                large.pop();
                small.push(high);
            }
        }
        alias
    }

    /// The low half of the product is uniform below 2^32 given the column, to within n / 2^32.
    #[inline]
    fn draw(&self, word: u32) -> u32 {
        let product = u64::from(word) * self.threshold.len() as u64;
        let column = (product >> 32) as u32;
        if product as u32 <= self.threshold[column as usize] {
            column
        } else {
            self.other[column as usize]
        }
    }
}

impl Sampler {
    /// A sampler over the items met in training, or over the whole catalogue.
    ///
    /// # Errors
    /// No item can be drawn.
    pub fn new(
        training_counts: &[u32],
        distribution: Distribution,
        whole_catalogue: bool,
    ) -> Result<Self> {
        let all = 1..training_counts.len() as i32;
        let by_count =
            matches!(distribution, Distribution::Popularity { exponent } if exponent > 0.0);
        let ids: Vec<i32> = all
            .filter(|&i| (whole_catalogue && !by_count) || training_counts[i as usize] > 0)
            .collect();
        if ids.is_empty() {
            return Err(Error::argument(
                "negatives",
                "no item was met in training, so there is none to draw",
            ));
        }
        let weights: Vec<f64> = match distribution {
            Distribution::Uniform => Vec::new(),
            Distribution::Popularity { exponent } => ids
                .iter()
                .map(|&i| f64::from(training_counts[i as usize]).powf(exponent))
                .collect(),
        };
        let alias = by_count.then(|| Alias::new(&weights));
        let n = ids.len() as u32;
        let ids = (n as usize != training_counts.len() - 1).then_some(ids);
        Ok(Self {
            ids,
            n,
            alias,
            weights: if by_count { weights } else { Vec::new() },
        })
    }

    /// How many items may be drawn.
    #[must_use]
    pub fn n(&self) -> usize {
        self.n as usize
    }

    #[inline]
    fn id(&self, index: u32) -> i32 {
        self.ids
            .as_ref()
            .map_or(index as i32 + 1, |ids| ids[index as usize])
    }

    fn holds(&self, id: i32) -> bool {
        self.ids
            .as_ref()
            .map_or(id >= 1 && id as u32 <= self.n, |ids| {
                ids.binary_search(&id).is_ok()
            })
    }

    #[inline]
    fn draw(&self, word: u32) -> i32 {
        match &self.alias {
            Some(alias) => self.id(alias.draw(word)),
            None => self.id(scale(word, self.n)),
        }
    }

    /// Whether every item that may be drawn is in `seen` (rising, no repeats).
    #[must_use]
    pub fn exhausted_by(&self, seen: &[i32]) -> bool {
        seen.len() >= self.n() && seen.iter().filter(|&&id| self.holds(id)).count() >= self.n()
    }

    /// Fills `out` with the negatives of the user's position number `position`; none is in `seen` or equals `target`.
    ///
    /// A draw is tried a bounded number of times and then taken exactly from the complement.
    pub fn own(
        &self,
        stream: &mut OwnStream,
        seen: &[i32],
        position: usize,
        target: i32,
        out: &mut [i32],
    ) {
        let first = (position * out.len()) as u64;
        for (draw, slot) in out.iter_mut().enumerate() {
            let d = first + draw as u64;
            let id = self.draw(stream.first.word(d));
            *slot = if id != target && !contains(seen, id) {
                id
            } else {
                self.retry(stream, seen, target, d)
            };
        }
    }

    #[cold]
    fn retry(&self, stream: &OwnStream, seen: &[i32], target: i32, d: u64) -> i32 {
        for attempt in 1..ATTEMPTS {
            let id = self.draw(stream.words(attempt).word(d));
            if id != target && !contains(seen, id) {
                return id;
            }
        }
        self.draw_from_complement(stream.words(ATTEMPTS).unit(d), seen, target)
    }

    /// The exact draw: walk the items that are left. Where only the target is left, the target's ban gives way last.
    fn draw_from_complement(&self, unit: f32, seen: &[i32], target: i32) -> i32 {
        let weight = |index: u32| self.weights.get(index as usize).copied().unwrap_or(1.0);
        let allowed = |id: i32, ban: i32| id != ban && !contains(seen, id);
        let ban = if (0..self.n).any(|index| allowed(self.id(index), target)) {
            target
        } else {
            0
        };
        let total: f64 = (0..self.n)
            .filter(|&i| allowed(self.id(i), ban))
            .map(weight)
            .sum();
        let mut left = f64::from(unit) * total;
        let mut last = 0;
        for index in (0..self.n).filter(|&index| allowed(self.id(index), ban)) {
            last = self.id(index);
            left -= weight(index);
            if left < 0.0 {
                break;
            }
        }
        last
    }

    /// Fills `out` with a step's shared negatives, drawn without exclusion.
    pub fn shared(&self, key: Key, step: u64, out: &mut [i32]) {
        let mut words = key.words(step, Stream::SharedNegatives, 0, 0);
        for (d, slot) in out.iter_mut().enumerate() {
            *slot = self.draw(words.word(d as u64));
        }
    }
}

/// The stream of one user's own negatives.
#[derive(Debug)]
pub struct OwnStream {
    key: Key,
    user: u64,
    showing: u8,
    first: Words,
}

impl OwnStream {
    /// The stream of `user` (in a given showing) in one epoch.
    #[must_use]
    pub fn new(key: Key, user: u64, showing: u8) -> Self {
        Self {
            key,
            user,
            showing,
            first: key.words(user, Stream::OwnNegatives, showing, 0),
        }
    }

    fn words(&self, attempt: u64) -> Words {
        self.key
            .words(self.user, Stream::OwnNegatives, self.showing, attempt)
    }
}

/// Membership in a rising slice: a scan of few ids, without branches, costs less than a search.
#[inline]
#[must_use]
#[allow(clippy::needless_bitwise_bool)] // `||` would bring the branch back
pub fn contains(rising: &[i32], id: i32) -> bool {
    if rising.len() > 16 {
        return rising.binary_search(&id).is_ok();
    }
    rising.iter().fold(false, |found, &x| found | (x == id))
}

/// Writes the rising distinct ids of `items` into `out`.
pub fn distinct(items: &[i32], out: &mut Vec<i32>) {
    out.clear();
    out.extend_from_slice(items);
    out.sort_unstable();
    out.dedup();
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key { seed: 7, epoch: 2 };

    #[test]
    fn a_seen_item_or_the_target_is_never_drawn_even_when_one_item_is_left() {
        let counts: Vec<u32> = (0..=50).collect();
        for distribution in [
            Distribution::Uniform,
            Distribution::Popularity { exponent: 0.75 },
        ] {
            let sampler = Sampler::new(&counts, distribution, false).unwrap();
            let seen: Vec<i32> = (1..=48).collect();
            for user in 0..200 {
                let mut out = [0; 4];
                sampler.own(&mut OwnStream::new(KEY, user, 0), &seen, 3, 49, &mut out);
                assert_eq!(out, [50; 4]);
            }
        }
    }

    #[test]
    fn popularity_follows_the_counts() {
        let counts = [0, 1, 2, 0, 5];
        let sampler =
            Sampler::new(&counts, Distribution::Popularity { exponent: 1.0 }, true).unwrap();
        let mut out = vec![0; 80_000];
        sampler.shared(KEY, 0, &mut out);
        for (id, share) in [(1, 0.125), (2, 0.25), (3, 0.0), (4, 0.625)] {
            let came = out.iter().filter(|&&x| x == id).count() as f64 / 80_000.0;
            assert!(
                (came - share).abs() < 0.01,
                "{id}: {came} instead of {share}"
            );
        }
    }

    #[test]
    fn items_never_met_in_training_are_drawn_only_from_the_whole_catalogue() {
        let counts = [0, 1, 0, 1];
        for (whole, n) in [(false, 2), (true, 3)] {
            assert_eq!(
                Sampler::new(&counts, Distribution::Uniform, whole)
                    .unwrap()
                    .n(),
                n
            );
        }
    }
}
