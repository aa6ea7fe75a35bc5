//! Masked items: which tokens a bidirectional model has to tell, and what replaces them.

use crate::rng::{Bound, Draws, Words};
use crate::{Error, Result};

/// Draws a token has: the coin, the kind of its replacement, the random item; one is spare, so that a token's draws
/// lie in one block.
const DRAWS: u64 = 4;
/// Below it, 80 % of the words, the mask token is shown.
const MASKED: u32 = ((8 << 32) / 10_u64) as u32;
/// Below it, another 10 %, a random item is shown; from it up the item itself.
const RANDOM: u32 = ((9 << 32) / 10_u64) as u32;

/// How a user's items are masked.
#[derive(Debug, Clone, Copy)]
pub struct Masking {
    chance: u64,
    token: i32,
    items: Bound,
}

impl Masking {
    /// Masking passes of a user in an epoch: one masked at random, one with the last item masked.
    pub const PASSES: u32 = 2;

    /// Each token is masked with `probability`; the mask token is `n_items + 1`.
    ///
    /// # Errors
    /// A probability that is not above 0 and at most 1.
    pub fn new(probability: f64, n_items: usize) -> Result<Self> {
        if !(probability > 0.0 && probability <= 1.0) {
            let message = format!("{probability}; expected a probability above 0, at most 1");
            return Err(Error::argument("mask_probability", message));
        }
        Ok(Self {
            chance: (probability * 4_294_967_296.0).round() as u64,
            token: n_items as i32 + 1,
            items: Bound::new((n_items as u32).max(1)),
        })
    }

    /// How likely a token is masked in the random masking pass.
    #[must_use]
    pub fn probability(&self) -> f64 {
        self.chance as f64 / 4_294_967_296.0
    }

    /// The item id that stands for a masked item.
    #[must_use]
    pub fn token(&self) -> i32 {
        self.token
    }

    /// What is shown for `item`, the one at `place` of the window, if it is masked.
    #[must_use]
    pub fn show(&self, draws: &Draws, words: &mut Words, place: u64, item: i32) -> Option<i32> {
        let first = place * DRAWS;
        if u64::from(words.word(first, 0)) >= self.chance {
            return None;
        }
        let kind = words.word(first + 1, 0);
        Some(if kind < MASKED {
            self.token
        } else if kind < RANDOM {
            let chosen = self
                .items
                .accept(words.word(first + 2, 0))
                .unwrap_or_else(|| draws.below(first + 2, self.items, 1));
            chosen as i32 + 1
        } else {
            item
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    fn shown(probability: f64, n_items: usize, item: i32, n: u64) -> Vec<Option<i32>> {
        let masking = Masking::new(probability, n_items).unwrap();
        let draws = Draws::new(5, 0, Stream::Masking, 0, 1);
        let mut words = Words::new(draws);
        (0..n)
            .map(|place| masking.show(&draws, &mut words, place, item))
            .collect()
    }

    #[test]
    fn masked_tokens_are_eight_times_the_mask_once_a_random_item_and_once_themselves() {
        let n = 200_000;
        let all = shown(0.6, 1000, 7, n);
        let masked: Vec<i32> = all.iter().copied().flatten().collect();
        let share = |count: usize| count as f64 / masked.len() as f64;
        assert!((masked.len() as f64 / n as f64 - 0.6).abs() < 0.005);
        let tokens = masked.iter().filter(|&&item| item == 1001).count();
        let kept = masked.iter().filter(|&&item| item == 7).count();
        assert!((share(tokens) - 0.8).abs() < 0.005);
        assert!((share(kept) - 0.1).abs() < 0.005);
        assert!(masked.iter().all(|item| (1..=1001).contains(item)));
    }

    #[test]
    fn with_certainty_every_token_is_masked() {
        assert!(shown(1.0, 3, 2, 1000).iter().all(Option::is_some));
    }

    #[test]
    fn what_is_no_probability_is_refused() {
        for probability in [0.0, -0.1, 1.1, f64::NAN] {
            assert!(Masking::new(probability, 5).is_err());
        }
    }
}
