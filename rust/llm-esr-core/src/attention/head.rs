//! One head of one sequence: its keys and values side by side in the first cache, and the weights of a few queries.

use std::ops::Range;

use ndarray::ArrayView2;
use pulp::Simd;

use super::{Attention, Projected, PseudoKey};
use crate::dropout::Use;
use crate::simd::{ROWS, dot, padded, product, softmax};

/// Working memory. Rows are padded with zeros: W numbers for n keys, P for d channels.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// n.
    pub(super) length: usize,
    /// d.
    pub(super) depth: usize,
    /// W.
    pub(super) width: usize,
    /// P.
    pub(super) padded: usize,
    /// Keys, channel by channel, `[d, W]`.
    pub(super) keys_across: Vec<f32>,
    /// Values, `[n, P]`.
    pub(super) values: Vec<f32>,
    /// Queries, `[ROWS, P]`.
    pub(super) queries: Vec<f32>,
    /// What the scores become, `[ROWS, W]`.
    pub(super) weights: Vec<f32>,
    /// What dropout multiplies the weights with, `[ROWS, W]`.
    pub(super) factors: Vec<f32>,
    /// The pseudo-key's part of this head, `[P]`.
    pub(super) pseudo_key: Vec<f32>,
    /// The pseudo-key's value, `[P]`.
    pub(super) pseudo_value: Vec<f32>,
    /// The pseudo-key's weight for each query, and what dropout leaves of it.
    pub(super) pseudo_weights: [f32; ROWS],
    /// See `pseudo_weights`.
    pub(super) pseudo_shares: [f32; ROWS],
}

/// Some queries that are looked at together.
#[derive(Debug, Clone)]
pub(super) struct Block {
    /// Their places within the sequence.
    pub(super) places: Range<usize>,
    /// Keys that the last of them sees.
    pub(super) seen: usize,
}

impl Head {
    pub(super) fn new(attention: &Attention<'_>, width: usize) -> Self {
        let depth = width / attention.heads;
        let padded = padded(depth);
        Self {
            depth,
            padded,
            queries: vec![0.0; ROWS * padded],
            pseudo_key: vec![0.0; padded],
            pseudo_value: vec![0.0; padded],
            ..Self::default()
        }
    }

    /// A head's channels.
    pub(super) fn channels(&self, head: usize) -> Range<usize> {
        head * self.depth..(head + 1) * self.depth
    }

    /// Takes the keys and values that lie in the rows from `first` on.
    pub(super) fn load(
        &mut self,
        projected: &Projected<'_>,
        first: usize,
        length: usize,
        head: usize,
    ) {
        let channels = self.channels(head);
        self.length = length;
        self.width = padded(length);
        across(
            &projected.keys,
            first..first + length,
            &channels,
            self.width,
            &mut self.keys_across,
        );
        along(
            &projected.values,
            first..first + length,
            &channels,
            self.padded,
            &mut self.values,
        );
        self.weights.clear();
        self.weights.resize(ROWS * self.width, 0.0);
        self.factors.clear();
        self.factors.resize(ROWS * self.width, 0.0);
    }

    pub(super) fn load_pseudo(&mut self, pseudo: &PseudoKey<'_>, head: usize) {
        let channels = self.channels(head);
        self.pseudo_key[..self.depth].copy_from_slice(&pseudo.key[channels.clone()]);
        self.pseudo_value[..self.depth].copy_from_slice(&pseudo.value[channels]);
    }

    /// The sequence's queries, a few at a time.
    pub(super) fn blocks(&self, attention: &Attention<'_>) -> impl Iterator<Item = Block> + use<> {
        let (length, causal) = (self.length, attention.causal);
        let first = if attention.newest_only { length - 1 } else { 0 };
        (first..length).step_by(ROWS).map(move |start| {
            let places = start..(start + ROWS).min(length);
            let seen = if causal { places.end } else { length };
            Block { places, seen }
        })
    }

    /// Takes the queries that lie in the rows from `first` on; what is missing in a block becomes zeros.
    pub(super) fn load_queries(
        &mut self,
        queries: &ArrayView2<'_, f32>,
        first: usize,
        count: usize,
        head: usize,
    ) {
        let (channels, depth) = (self.channels(head), self.depth);
        for (r, to) in self.queries.chunks_exact_mut(self.padded).enumerate() {
            if r < count {
                to[..depth].copy_from_slice(&row(queries, first + r)[channels.clone()]);
            } else {
                to[..depth].fill(0.0);
            }
        }
    }

    /// What the products are multiplied with; after they are summed, as the authors' code does.
    pub(super) fn scale(&self) -> f32 {
        1.0 / (self.depth as f32).sqrt()
    }

    /// Fills `weights`, before dropout, and `factors` where anything is dropped; padding and rows without a query
    /// become 0.
    #[inline(always)]
    pub(super) fn weigh<S: Simd>(
        &mut self,
        simd: S,
        attention: &Attention<'_>,
        owner: u64,
        head: usize,
        block: &Block,
    ) {
        let (width, depth, padded, scale) = (self.width, self.depth, self.padded, self.scale());
        let reach = crate::simd::padded(block.seen);
        product(
            simd,
            (&self.queries, padded, depth),
            (&self.keys_across, width),
            reach,
            (&mut self.weights, width),
        );
        for r in 0..ROWS {
            let weights = &mut self.weights[r * width..r * width + reach];
            let Some(place) = block.places.clone().nth(r) else {
                weights.fill(0.0);
                self.pseudo_weights[r] = 0.0;
                continue;
            };
            let seen = if attention.causal {
                place + 1
            } else {
                self.length
            };
            let padding = attention
                .pseudo
                .map_or(0, |pseudo| pseudo.max_len.saturating_sub(self.length));
            let other = if padding == 0 {
                f32::NEG_INFINITY
            } else {
                // e^(s + ln n) = n e^s: one key with the weight of n.
                let query = &self.queries[r * padded..(r + 1) * padded];
                dot(simd, query, &self.pseudo_key) * scale + (padding as f32).ln()
            };
            self.pseudo_weights[r] = softmax(simd, weights, seen, scale, other);
            if attention.dropout.is_active() {
                let named = (head as u64) << 32 | place as u64;
                let factors = &mut self.factors[r * width..r * width + reach];
                attention
                    .dropout
                    .factors(Use::Weights, owner, named, factors);
                self.pseudo_shares[r] = if padding == 0 {
                    1.0
                } else {
                    attention.dropout.share(owner, named, padding)
                };
            } else {
                self.pseudo_shares[r] = 1.0;
            }
        }
    }
}

impl Head {
    /// Drops weights of the first `seen` keys, where anything is dropped.
    #[inline(always)]
    pub(super) fn drop_weights(&mut self, attention: &Attention<'_>, seen: usize) {
        if !attention.dropout.is_active() {
            return;
        }
        let reach = padded(seen);
        for (weights, factors) in self
            .weights
            .chunks_exact_mut(self.width)
            .zip(self.factors.chunks_exact(self.width))
        {
            weights[..reach]
                .iter_mut()
                .zip(&factors[..reach])
                .for_each(|(weight, factor)| *weight *= factor);
        }
    }
}

/// A row whose numbers lie together.
#[inline]
pub(super) fn row<'a>(rows: &'a ArrayView2<'_, f32>, at: usize) -> &'a [f32] {
    rows.row(at)
        .to_slice()
        .expect("checked: a row lies together")
}

/// Some channels of some rows, row by row, padded to `padded` numbers.
pub(super) fn along(
    from: &ArrayView2<'_, f32>,
    rows: Range<usize>,
    channels: &Range<usize>,
    padded: usize,
    to: &mut Vec<f32>,
) {
    to.clear();
    for at in rows {
        to.extend_from_slice(&row(from, at)[channels.clone()]);
        to.resize(to.len() + padded - channels.len(), 0.0);
    }
}

/// Some channels of some rows, channel by channel, padded to `width` numbers.
pub(super) fn across(
    from: &ArrayView2<'_, f32>,
    rows: Range<usize>,
    channels: &Range<usize>,
    width: usize,
    to: &mut Vec<f32>,
) {
    to.clear();
    to.resize(channels.len() * width, 0.0);
    for (j, at) in rows.enumerate() {
        let numbers = &row(from, at)[channels.clone()];
        for (channel, &number) in to.chunks_exact_mut(width).zip(numbers) {
            channel[j] = number;
        }
    }
}
