//! Semantic smoothing: a target is now and then replaced by one of its nearest items.

use std::path::Path;

use crate::mapped::Mapped;
use crate::rng::{Draws, WORDS};
use crate::store::{check_file, open_neighbours, with_remedy};
use crate::{Error, Result};

/// Neighbours of each item, and the chance of each.
#[derive(Debug)]
pub struct Smoothing {
    neighbours: Mapped<i32>,
    columns: usize,
    /// The greatest word that still stands for each neighbour.
    limits: Vec<u32>,
    chance: u64,
}

impl Smoothing {
    /// Opens `similar_items.npy` (item ids, -1 fills) and `similar_items_scores.npy`.
    ///
    /// With `probability` a target is replaced by a neighbour, drawn by softmax(score / `temperature`).
    ///
    /// # Errors
    /// A missing or damaged file, another number of items, ids or scores out of range, or arguments out of range.
    pub fn open(folder: &Path, n_items: usize, probability: f64, temperature: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&probability) {
            let message = format!("{probability}; expected a probability, 0 to 1");
            return Err(Error::argument("smoothing", message));
        }
        if temperature.is_nan() || temperature <= 0.0 {
            let message = format!("{temperature}; expected a number above 0");
            return Err(Error::argument("smoothing_temperature", message));
        }
        let neighbours = open_neighbours(&folder.join("similar_items.npy"), "similar items")?;
        let scores = Mapped::<f32>::open(&folder.join("similar_items_scores.npy"), 2)
            .map_err(|error| with_remedy(error, "scores of the similar items"))?;
        let shape = neighbours.shape();
        if shape[0] != n_items || shape[1] == 0 {
            let message =
                format!("its shape is {shape:?}, the data has {n_items} items; run `index` again");
            return Err(Error::format(neighbours.path(), message));
        }
        if scores.shape() != shape {
            let message = format!(
                "its shape is {:?}, that of similar_items.npy {shape:?}",
                scores.shape()
            );
            return Err(Error::format(scores.path(), message));
        }
        check_file(&neighbours, -1, n_items as i32)?;
        let columns = shape[1];
        let limits = limits(
            neighbours.as_slice(),
            scores.as_slice(),
            columns,
            temperature,
        )
        .map_err(|message| Error::format(scores.path(), message))?;
        Ok(Self {
            neighbours,
            columns,
            limits,
            chance: (probability * 4_294_967_296.0).round() as u64,
        })
    }

    /// The targets to train at the positions 0, 1, ...: each is itself or one of its neighbours. Draw 2 x position is
    /// the coin, the next one chooses.
    pub fn smooth(&self, draws: &Draws, targets: &[i32], out: &mut [i32]) {
        let per_block = WORDS as usize / 2;
        let blocks = targets.chunks(per_block).zip(out.chunks_mut(per_block));
        for (group, (targets, out)) in (0..).zip(blocks) {
            let words = draws.block(group, 0);
            for ((pair, &target), out) in words.chunks_exact(2).zip(targets).zip(out) {
                *out = self.choose(pair[0], pair[1], target);
            }
        }
    }

    /// As `smooth`, for the target at one position.
    #[must_use]
    pub fn smooth_one(&self, draws: &Draws, position: u64, target: i32) -> i32 {
        let words = draws.block(2 * position / WORDS, 0);
        let coin = (2 * position % WORDS) as usize;
        self.choose(words[coin], words[coin + 1], target)
    }

    /// How often each item is a target once `counts` are smoothed, in the mean; index = id.
    #[must_use]
    pub fn spread(&self, counts: &[f64]) -> Vec<f64> {
        let chance = self.chance as f64 / 4_294_967_296.0;
        let mut spread: Vec<f64> = counts.iter().map(|count| count * (1.0 - chance)).collect();
        for (item, &count) in counts.iter().enumerate().skip(1) {
            let row = (item - 1) * self.columns;
            let mut below = 0;
            for (&neighbour, &limit) in self.neighbours.as_slice()[row..row + self.columns]
                .iter()
                .zip(&self.limits[row..row + self.columns])
            {
                let words = (u64::from(limit) + 1).saturating_sub(below);
                below += words;
                let chosen = if neighbour > 0 {
                    neighbour as usize
                } else {
                    item
                };
                spread[chosen] += count * chance * (words as f64 / 4_294_967_296.0);
            }
        }
        spread
    }

    #[inline]
    fn choose(&self, coin: u32, word: u32, target: i32) -> i32 {
        if u64::from(coin) < self.chance {
            self.neighbour(target, word)
        } else {
            target
        }
    }

    /// The neighbour that a word chooses; the item itself where it has none.
    fn neighbour(&self, item: i32, word: u32) -> i32 {
        let row = (item as usize - 1) * self.columns;
        let limits = &self.limits[row..row + self.columns];
        let chosen = limits.iter().filter(|&&limit| word > limit).count();
        let neighbour = self.neighbours.as_slice()[row + chosen];
        if neighbour > 0 { neighbour } else { item }
    }
}

/// The greatest random word that still stands for each neighbour, `[rows, columns]`: softmax(score / `temperature`) over
/// a row's ids above 0. From a row's last such id on it is the greatest word of all, so that a word never chooses what
/// lies behind.
///
/// # Errors
/// A score that is not finite.
pub fn limits(
    ids: &[i32],
    scores: &[f32],
    columns: usize,
    temperature: f64,
) -> std::result::Result<Vec<u32>, String> {
    let mut limits = Vec::with_capacity(ids.len());
    let rows = ids.chunks_exact(columns).zip(scores.chunks_exact(columns));
    for (row, (ids, scores_of)) in rows.enumerate() {
        let real = |at: usize| ids[at] > 0;
        if let Some(at) = (0..columns).find(|&at| real(at) && !scores_of[at].is_finite()) {
            return Err(format!(
                "the score of neighbour {at} of item {} is {}",
                row + 1,
                scores_of[at]
            ));
        }
        let scaled = |at: usize| f64::from(scores_of[at]) / temperature;
        let best = (0..columns)
            .filter(|&at| real(at))
            .map(scaled)
            .fold(f64::NEG_INFINITY, f64::max);
        let weight = |at: usize| {
            if !real(at) {
                0.0
            } else if scaled(at) >= best {
                1.0 // also where a temperature next to 0 has made both infinite
            } else {
                (scaled(at) - best).exp()
            }
        };
        let total: f64 = (0..columns).map(weight).sum();
        let last = (0..columns).rfind(|&at| real(at));
        let mut below = 0.0;
        for at in 0..columns {
            below += weight(at);
            limits.push(match last {
                // The last neighbour takes what rounding left; behind it nothing is chosen.
                Some(last) if at < last => {
                    ((below / total * 4_294_967_296.0) as u32).saturating_sub(1)
                }
                _ => u32::MAX,
            });
        }
    }
    Ok(limits)
}
