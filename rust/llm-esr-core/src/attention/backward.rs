//! The gradients, with the weights made again.

use ndarray::{ArrayView2, ArrayViewMut2};
use pulp::{Simd, WithSimd};

use super::head::{Block, Head, across, along, row};
use super::{Attention, Gradients, Part, Projected, PseudoGradients};
use crate::simd::{ROWS, accumulate, add_scaled, dot, padded, product};

pub(super) struct Backward<'a, 'b, 'c, 'd> {
    pub(super) attention: &'a Attention<'b>,
    pub(super) projected: &'a Projected<'d>,
    pub(super) part: &'a Part,
    pub(super) out: &'a ArrayView2<'d, f32>,
    pub(super) gradients: &'a mut Gradients<'c>,
    pub(super) pseudo: &'a mut PseudoGradients,
}

/// Working memory of one head, beside [`Head`]; named as there.
#[derive(Debug, Default)]
struct Slopes {
    /// Keys, `[n, P]`.
    keys: Vec<f32>,
    /// Values, channel by channel, `[d, W]`.
    values_across: Vec<f32>,
    /// Gradients of the output, `[ROWS, P]`.
    out: Vec<f32>,
    /// Gradients of the weights, then of the scores, `[ROWS, W]`.
    scores: Vec<f32>,
    /// Gradients of the queries, `[ROWS, P]`.
    queries: Vec<f32>,
    /// Gradients of all keys, `[n, P]`.
    of_keys: Vec<f32>,
    /// Gradients of all values, `[n, P]`.
    of_values: Vec<f32>,
    /// Gradient of the pseudo-key and its value, `[P]`.
    of_pseudo: [Vec<f32>; 2],
}

impl WithSimd for Backward<'_, '_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            attention,
            projected,
            part,
            out,
            gradients,
            pseudo,
        } = self;
        let mut head = Head::new(attention, projected.queries.ncols());
        let mut slopes = Slopes::new(head.padded);
        let (mut asks, mut first) = (0, part.memory.start);
        for sequence in part.sequences.clone() {
            let length = attention.tokens(sequence).len();
            let owner = (part.view * attention.sequences() + sequence) as u64;
            if length == 0 {
                if attention.newest_only {
                    gradients.queries.row_mut(asks).fill(0.0);
                    asks += 1;
                }
                continue;
            }
            for number in 0..attention.heads {
                let channels = head.channels(number);
                head.load(projected, first, length, number);
                slopes.load(projected, first, number, &head);
                if let Some(key) = &attention.pseudo {
                    head.load_pseudo(key, number);
                }
                for block in head.blocks(attention) {
                    let at = asks
                        + if attention.newest_only {
                            0
                        } else {
                            block.places.start
                        };
                    let (count, from) = (block.places.len(), part.queries.start + at);
                    head.load_queries(&projected.queries, from, count, number);
                    head.weigh(simd, attention, owner, number, &block);
                    slopes.load_out(out, from, count, number, &head);
                    slopes.block(simd, attention, &mut head, &block);
                    for (r, from) in slopes
                        .queries
                        .chunks_exact(head.padded)
                        .take(count)
                        .enumerate()
                    {
                        write(&mut gradients.queries, at + r, &channels, from);
                    }
                }
                let to = first - part.memory.start;
                for j in 0..length {
                    let of = j * head.padded..(j + 1) * head.padded;
                    write(
                        &mut gradients.keys,
                        to + j,
                        &channels,
                        &slopes.of_keys[of.clone()],
                    );
                    write(
                        &mut gradients.values,
                        to + j,
                        &channels,
                        &slopes.of_values[of],
                    );
                }
                if attention.pseudo.is_some() {
                    let sums = [&mut pseudo.key, &mut pseudo.value];
                    for (sums, more) in sums.into_iter().zip(&slopes.of_pseudo) {
                        let sums = sums[channels.clone()].iter_mut();
                        sums.zip(more).for_each(|(sum, more)| *sum += more);
                    }
                }
            }
            asks += if attention.newest_only { 1 } else { length };
            first += length;
        }
    }
}

impl Slopes {
    fn new(padded: usize) -> Self {
        Self {
            out: vec![0.0; ROWS * padded],
            queries: vec![0.0; ROWS * padded],
            of_pseudo: [vec![0.0; padded], vec![0.0; padded]],
            ..Self::default()
        }
    }

    fn load(&mut self, projected: &Projected<'_>, first: usize, number: usize, head: &Head) {
        let (rows, channels) = (first..first + head.length, head.channels(number));
        along(
            &projected.keys,
            rows.clone(),
            &channels,
            head.padded,
            &mut self.keys,
        );
        across(
            &projected.values,
            rows,
            &channels,
            head.width,
            &mut self.values_across,
        );
        for sums in [&mut self.of_keys, &mut self.of_values] {
            sums.clear();
            sums.resize(head.length * head.padded, 0.0);
        }
        self.scores.clear();
        self.scores.resize(ROWS * head.width, 0.0);
        self.of_pseudo.iter_mut().for_each(|sums| sums.fill(0.0));
    }

    fn load_out(
        &mut self,
        out: &ArrayView2<'_, f32>,
        first: usize,
        count: usize,
        number: usize,
        head: &Head,
    ) {
        let channels = head.channels(number);
        for (r, to) in self.out.chunks_exact_mut(head.padded).enumerate() {
            if r < count {
                to[..head.depth].copy_from_slice(&row(out, first + r)[channels.clone()]);
            } else {
                to.fill(0.0);
            }
        }
    }

    /// Adds what a block of queries gives to the keys and values, and sets the queries' own gradients.
    #[inline(always)]
    fn block<S: Simd>(
        &mut self,
        simd: S,
        attention: &Attention<'_>,
        head: &mut Head,
        block: &Block,
    ) {
        let (width, padded_depth, seen) = (head.width, head.padded, block.seen);
        let (reach, scale) = (padded(seen), head.scale());
        product(
            simd,
            (&self.out, padded_depth, head.depth),
            (&self.values_across, width),
            reach,
            (&mut self.scores, width),
        );
        let (count, mut of_pseudo) = (block.places.len(), [0.0; ROWS]);
        for (r, of_pseudo) in of_pseudo.iter_mut().enumerate().take(count) {
            let row = r * width..r * width + reach;
            let (scores, weights) = (&mut self.scores[row.clone()], &head.weights[row.clone()]);
            if attention.dropout.is_active() {
                scores
                    .iter_mut()
                    .zip(&head.factors[row])
                    .for_each(|(score, factor)| *score *= factor);
            }
            // Of a softmax: w (g - sum of w g). Where the weight is 0, so is the gradient.
            let mut mean = dot(simd, weights, scores);
            let apart = if attention.pseudo.is_some() {
                let out = &self.out[r * padded_depth..(r + 1) * padded_depth];
                dot(simd, out, &head.pseudo_value) * head.pseudo_shares[r]
            } else {
                0.0
            };
            mean += head.pseudo_weights[r] * apart;
            *of_pseudo = head.pseudo_weights[r] * (apart - mean) * scale;
            scores
                .iter_mut()
                .zip(weights)
                .for_each(|(score, weight)| *score = weight * (*score - mean) * scale);
        }
        self.scores[count * width..].fill(0.0);
        product(
            simd,
            (&self.scores, width, seen),
            (&self.keys, padded_depth),
            padded_depth,
            (&mut self.queries, padded_depth),
        );
        accumulate(
            simd,
            (&self.scores, width),
            &head.queries,
            padded_depth,
            &mut self.of_keys,
            seen,
        );
        head.drop_weights(attention, seen);
        accumulate(
            simd,
            (&head.weights, width),
            &self.out,
            padded_depth,
            &mut self.of_values,
            seen,
        );
        if attention.pseudo.is_some() {
            for (r, &of_pseudo) in of_pseudo.iter().enumerate().take(count) {
                let row = r * padded_depth..(r + 1) * padded_depth;
                let queries = &mut self.queries[row.clone()];
                add_scaled(simd, of_pseudo, &head.pseudo_key, queries);
                let [key, value] = &mut self.of_pseudo;
                add_scaled(simd, of_pseudo, &head.queries[row.clone()], key);
                let weight = head.pseudo_weights[r] * head.pseudo_shares[r];
                add_scaled(simd, weight, &self.out[row], value);
            }
        }
    }
}

fn write(
    to: &mut ArrayViewMut2<'_, f32>,
    at: usize,
    channels: &std::ops::Range<usize>,
    from: &[f32],
) {
    let mut to = to.row_mut(at);
    let to = to.as_slice_mut().expect("rows lie together");
    to[channels.clone()].copy_from_slice(&from[..channels.len()]);
}
