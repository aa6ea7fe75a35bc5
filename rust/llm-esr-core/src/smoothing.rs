//! Targets replaced by their nearest items in the embedding space.

use std::path::Path;

use crate::errors::{Error, Result};
use crate::mapped::MappedArray;
use crate::rng::Words;

/// Semantic smoothing: with some probability a target becomes one of its neighbours, drawn by softmax(score / t).
#[derive(Debug)]
pub struct Smoothing {
    probability: f32,
    neighbours: MappedArray<i32>,
    /// Running sums of the softmax weights, [I, n]; the last of a row that has neighbours is 1.
    cumulative: Vec<f32>,
}

impl Smoothing {
    /// Opens `similar_items.npy` (item ids, -1 fills) and `similar_items_scores.npy`, both [I, n].
    ///
    /// # Errors
    /// A missing or damaged file, another shape, an id outside 1..=`n_items`.
    pub fn open(folder: &Path, n_items: usize, probability: f32, temperature: f32) -> Result<Self> {
        let neighbours = MappedArray::<i32>::open(&folder.join("similar_items.npy"), 2)?;
        let scores = MappedArray::<f32>::open(&folder.join("similar_items_scores.npy"), 2)?;
        if neighbours.shape() != scores.shape() || neighbours.shape()[0] != n_items {
            let (came, with) = (neighbours.shape(), scores.shape());
            let message = format!(
                "has shape {came:?} and its scores {with:?}; expected [{n_items}, n] for both"
            );
            return Err(Error::format(neighbours.path(), message));
        }
        if let Some(id) = neighbours
            .as_slice()
            .iter()
            .find(|&&id| id != -1 && (id < 1 || id as usize > n_items))
        {
            return Err(Error::format(
                neighbours.path(),
                format!("holds item id {id}, expected 1..={n_items} or -1"),
            ));
        }
        let mut cumulative = Vec::with_capacity(scores.as_slice().len());
        for item in 0..n_items {
            cumulative_softmax(
                neighbours.row(item),
                scores.row(item),
                temperature,
                &mut cumulative,
            );
        }
        Ok(Self {
            probability,
            neighbours,
            cumulative,
        })
    }

    /// The target to train at `position`: `target` itself or one of its neighbours.
    #[must_use]
    pub fn replace(&self, words: &mut Words, position: usize, target: i32) -> i32 {
        let d = 2 * position as u64;
        if words.unit(d) >= self.probability {
            return target;
        }
        let unit = words.unit(d + 1);
        let width = self.neighbours.shape()[1];
        let row = (target - 1) as usize;
        let sums = &self.cumulative[row * width..(row + 1) * width];
        let ids = self.neighbours.row(row);
        (0..width)
            .find(|&n| unit < sums[n] && ids[n] > 0)
            .map_or(target, |n| ids[n])
    }
}

fn cumulative_softmax(ids: &[i32], scores: &[f32], temperature: f32, out: &mut Vec<f32>) {
    let known = |n: usize| ids[n] > 0;
    let top = (0..ids.len())
        .filter(|&n| known(n))
        .map(|n| scores[n])
        .fold(f32::NEG_INFINITY, f32::max);
    let weight = |n: usize| {
        if known(n) {
            ((scores[n] - top) / temperature).exp()
        } else {
            0.0
        }
    };
    let total: f32 = (0..ids.len()).map(weight).sum();
    let last = (0..ids.len()).rev().find(|&n| known(n));
    let mut sum = 0.0;
    for n in 0..ids.len() {
        sum += weight(n);
        out.push(if Some(n) == last {
            1.0
        } else {
            sum / total.max(f32::MIN_POSITIVE)
        });
    }
}
