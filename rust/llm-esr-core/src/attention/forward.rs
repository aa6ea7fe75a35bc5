//! The mixtures of values.

use ndarray::ArrayViewMut2;
use pulp::{Simd, WithSimd};

use super::head::Head;
use super::{Attention, Part, Projected};
use crate::simd::{ROWS, add_scaled, product};

pub(super) struct Forward<'a, 'b, 'c> {
    pub(super) attention: &'a Attention<'b>,
    pub(super) projected: &'a Projected<'c>,
    pub(super) part: &'a Part,
    pub(super) out: ArrayViewMut2<'a, f32>,
}

impl WithSimd for Forward<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            attention,
            projected,
            part,
            mut out,
        } = self;
        let mut head = Head::new(attention, projected.queries.ncols());
        let padded = head.padded;
        let mut mixed = vec![0.0; ROWS * padded];
        let (mut asks, mut first) = (0, part.memory.start);
        for sequence in part.sequences.clone() {
            let length = attention.tokens(sequence).len();
            let owner = (part.view * attention.sequences() + sequence) as u64;
            let asking = if attention.newest_only { 1 } else { length };
            if length == 0 {
                out.slice_mut(ndarray::s![asks..asks + asking, ..])
                    .fill(0.0);
            } else {
                for number in 0..attention.heads {
                    head.load(projected, first, length, number);
                    if let Some(pseudo) = &attention.pseudo {
                        head.load_pseudo(pseudo, number);
                    }
                    for block in head.blocks(attention) {
                        let at = asks
                            + if attention.newest_only {
                                0
                            } else {
                                block.places.start
                            };
                        let count = block.places.len();
                        head.load_queries(
                            &projected.queries,
                            part.queries.start + at,
                            count,
                            number,
                        );
                        head.weigh(simd, attention, owner, number, &block);
                        head.drop_weights(attention, block.seen);
                        product(
                            simd,
                            (&head.weights, head.width, block.seen),
                            (&head.values, padded),
                            padded,
                            (&mut mixed, padded),
                        );
                        for (r, mixed) in mixed.chunks_exact_mut(padded).take(count).enumerate() {
                            if attention.pseudo.is_some() {
                                let weight = head.pseudo_weights[r] * head.pseudo_shares[r];
                                add_scaled(simd, weight, &head.pseudo_value, mixed);
                            }
                            let mut to = out.row_mut(at + r);
                            let to = to.as_slice_mut().expect("rows lie together");
                            to[head.channels(number)].copy_from_slice(&mixed[..head.depth]);
                        }
                    }
                }
            }
            asks += asking;
            first += length;
        }
    }
}
