//! Arithmetic on rows of numbers with whatever vectors the processor has, chosen at run time.
//!
//! Rows are padded to a multiple of [`LANES`], so that there is no remainder to see to.

use pulp::Simd;

/// The most numbers in a vector of any processor; every vector's length divides it.
pub(crate) const LANES: usize = 16;
/// Rows that `product` makes at once: as many sums that do not wait for each other.
pub(crate) const ROWS: usize = 4;

/// The next length without a remainder.
pub(crate) fn padded(length: usize) -> usize {
    length.next_multiple_of(LANES)
}

/// e^x for x <= 0 to about two units in the last place; 0 below -87.
///
/// Range reduction to |r| <= ln(2) / 2 and a polynomial of degree 6 (its coefficients are Taylor's: at this width the
/// remainder is below 2e-7 of the value), then the exponent is put together from its bits.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts, the first with few bits: n times it is exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    // Adding it rounds to a whole number, which stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const TAYLOR: [f32; 7] = [
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ];
    let low = simd.less_than_f32s(x, simd.splat_f32s(-87.0));
    let rounded = simd.mul_add_e_f32s(x, simd.splat_f32s(LOG2_E), simd.splat_f32s(ROUND));
    let n = simd.sub_f32s(rounded, simd.splat_f32s(ROUND));
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-LN_2[0]), x);
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-LN_2[1]), r);
    let mut sum = simd.splat_f32s(TAYLOR[0]);
    for &coefficient in &TAYLOR[1..] {
        sum = simd.mul_add_e_f32s(sum, r, simd.splat_f32s(coefficient));
    }
    let exponent =
        simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(rounded), simd.splat_u32s(23));
    let scaled = simd.add_u32s(simd.transmute_u32s_f32s(sum), exponent);
    simd.select_f32s(low, simd.splat_f32s(0.0), simd.transmute_f32s_u32s(scaled))
}

/// `out[r][j] = sum over c of rows[r][c] * columns[c][j]` for [`ROWS`] rows.
///
/// `rows` has `depth` numbers of every `row_stride`; `columns` is `[depth, stride]`; `out` is `[ROWS, out_stride]`, of
/// which the first `width` columns are written. `width` is a multiple of [`LANES`].
#[inline(always)]
pub(crate) fn product<S: Simd>(
    simd: S,
    (rows, row_stride, depth): (&[f32], usize, usize),
    (columns, stride): (&[f32], usize),
    width: usize,
    (out, out_stride): (&mut [f32], usize),
) {
    let mut at = 0;
    while at + 2 * S::F32_LANES <= width {
        tile::<S, 2>(
            simd,
            (rows, row_stride, depth),
            (columns, stride),
            at,
            (out, out_stride),
        );
        at += 2 * S::F32_LANES;
    }
    while at < width {
        tile::<S, 1>(
            simd,
            (rows, row_stride, depth),
            (columns, stride),
            at,
            (out, out_stride),
        );
        at += S::F32_LANES;
    }
}

#[inline(always)]
fn tile<S: Simd, const N: usize>(
    simd: S,
    (rows, row_stride, depth): (&[f32], usize, usize),
    (columns, stride): (&[f32], usize),
    at: usize,
    (out, out_stride): (&mut [f32], usize),
) {
    let row = |r: usize| &rows[r * row_stride..r * row_stride + depth];
    let [r0, r1, r2, r3] = [row(0), row(1), row(2), row(3)];
    let mut sums = [[simd.splat_f32s(0.0); N]; ROWS];
    for ((((column, &a), &b), &c), &d) in
        columns.chunks_exact(stride).zip(r0).zip(r1).zip(r2).zip(r3)
    {
        let (column, _) = S::as_simd_f32s(&column[at..at + N * S::F32_LANES]);
        for (sums, factor) in sums.iter_mut().zip([a, b, c, d]) {
            let factor = simd.splat_f32s(factor);
            for (sum, &number) in sums.iter_mut().zip(column) {
                *sum = simd.mul_add_e_f32s(factor, number, *sum);
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        let start = r * out_stride + at;
        let (to, _) = S::as_mut_simd_f32s(&mut out[start..start + N * S::F32_LANES]);
        to.copy_from_slice(sums);
    }
}

/// `out[j] += sum over r of weights[r][j] * rows[r]` for the first `count` rows of `out`.
///
/// `weights` is `[ROWS, weight_stride]`, `rows` `[ROWS, width]`, `out` `[count, width]`; `width` is a multiple of
/// [`LANES`].
#[inline(always)]
pub(crate) fn accumulate<S: Simd>(
    simd: S,
    (weights, weight_stride): (&[f32], usize),
    rows: &[f32],
    width: usize,
    out: &mut [f32],
    count: usize,
) {
    let weight = |r: usize| &weights[r * weight_stride..r * weight_stride + count];
    let [w0, w1, w2, w3] = [weight(0), weight(1), weight(2), weight(3)];
    for at in (0..width).step_by(S::F32_LANES) {
        let row =
            |r: usize| S::as_simd_f32s(&rows[r * width + at..r * width + at + S::F32_LANES]).0[0];
        let rows = [row(0), row(1), row(2), row(3)];
        for ((((to, &a), &b), &c), &d) in
            out.chunks_exact_mut(width).zip(w0).zip(w1).zip(w2).zip(w3)
        {
            let (to, _) = S::as_mut_simd_f32s(&mut to[at..at + S::F32_LANES]);
            for (&number, factor) in rows.iter().zip([a, b, c, d]) {
                to[0] = simd.mul_add_e_f32s(simd.splat_f32s(factor), number, to[0]);
            }
        }
    }
}

/// The sum of products of two rows of the same padded length.
#[inline(always)]
pub(crate) fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let mut sum = simd.splat_f32s(0.0);
    for (&a, &b) in S::as_simd_f32s(a).0.iter().zip(S::as_simd_f32s(b).0) {
        sum = simd.mul_add_e_f32s(a, b, sum);
    }
    simd.reduce_sum_f32s(sum)
}

/// `to += factor * from`, of the same padded length.
#[inline(always)]
pub(crate) fn add_scaled<S: Simd>(simd: S, factor: f32, from: &[f32], to: &mut [f32]) {
    let factor = simd.splat_f32s(factor);
    for (to, &from) in S::as_mut_simd_f32s(to)
        .0
        .iter_mut()
        .zip(S::as_simd_f32s(from).0)
    {
        *to = simd.mul_add_e_f32s(factor, from, *to);
    }
}

/// Makes scores, times `scale`, weights that sum to 1, in place, together with `other`, a score that stands apart;
/// returns its weight.
///
/// Beyond `count` the row is padding and becomes 0; `other` may be minus infinity.
#[inline(always)]
pub(crate) fn softmax<S: Simd>(
    simd: S,
    scores: &mut [f32],
    count: usize,
    scale: f32,
    other: f32,
) -> f32 {
    scores[count..].fill(f32::NEG_INFINITY);
    let (mut most, scale) = (simd.splat_f32s(other), simd.splat_f32s(scale));
    for score in S::as_mut_simd_f32s(scores).0 {
        *score = simd.mul_f32s(*score, scale);
        most = simd.max_f32s(most, *score);
    }
    let most = simd.reduce_max_f32s(most);
    let top = simd.splat_f32s(most);
    let mut sum = simd.splat_f32s(0.0);
    for score in S::as_mut_simd_f32s(scores).0 {
        *score = exp(simd, simd.sub_f32s(*score, top));
        sum = simd.add_f32s(sum, *score);
    }
    let apart = (other - most).exp();
    let scale = 1.0 / (simd.reduce_sum_f32s(sum) + apart);
    let all = simd.splat_f32s(scale);
    for score in S::as_mut_simd_f32s(scores).0 {
        *score = simd.mul_f32s(*score, all);
    }
    apart * scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use pulp::{Arch, Scalar, WithSimd};

    /// Runs a check with the processor's vectors and with none.
    fn everywhere<W: WithSimd<Output = ()> + Clone>(check: &W) {
        Arch::new().dispatch(check.clone());
        check.clone().with_simd(Scalar::new());
    }

    #[derive(Clone)]
    struct Exponential(Vec<f32>);

    impl WithSimd for Exponential {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let mut found = self.0.clone();
            for x in S::as_mut_simd_f32s(&mut found).0 {
                *x = exp(simd, *x);
            }
            for (&x, &found) in self.0.iter().zip(&found) {
                let expected = f64::from(x).exp();
                if x < -87.0 {
                    assert!(found == 0.0, "{x}");
                } else {
                    let error = (f64::from(found) - expected).abs() / expected;
                    assert!(error < 3e-7, "{x}: {found}, {expected}");
                }
            }
        }
    }

    #[test]
    fn exp_is_exact_to_a_few_units_in_the_last_place() {
        let mut numbers: Vec<f32> = (0..LANES * 4000).map(|k| k as f32 * -1.4e-3).collect();
        numbers.extend([
            0.0,
            -0.0,
            -87.0,
            -87.1,
            -1e9,
            f32::NEG_INFINITY,
            -1e-30,
            -0.346,
        ]);
        numbers.resize(numbers.len().next_multiple_of(LANES), -1.0);
        everywhere(&Exponential(numbers));
    }

    #[derive(Clone)]
    struct Products {
        rows: Vec<f32>,
        columns: Vec<f32>,
        depth: usize,
        width: usize,
    }

    impl WithSimd for Products {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self {
                rows,
                columns,
                depth,
                width,
            } = self;
            let mut out = vec![0.0; ROWS * width];
            product(
                simd,
                (&rows, depth, depth),
                (&columns, width),
                width,
                (&mut out, width),
            );
            for (at, &found) in out.iter().enumerate() {
                let (r, j) = (at / width, at % width);
                let expected: f32 = (0..depth)
                    .map(|c| rows[r * depth + c] * columns[c * width + j])
                    .sum();
                assert!((found - expected).abs() < 1e-4, "{found} {expected}");
            }
            // The other way round: the columns' gradient, given that of the products.
            let mut sums = vec![1.0; depth * width];
            accumulate(simd, (&rows, depth), &out, width, &mut sums, depth);
            for (at, &found) in sums.iter().enumerate() {
                let (c, j) = (at / width, at % width);
                let expected: f32 = 1.0
                    + (0..ROWS)
                        .map(|r| rows[r * depth + c] * out[r * width + j])
                        .sum::<f32>();
                assert!(
                    (found - expected).abs() < 1e-3 * expected.abs().max(1.0),
                    "{found} {expected}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn products_are_sums_over_the_depth(depth in 1_usize..40, chunks in 1_usize..6, seed in 0_u32..1000) {
            let width = chunks * LANES;
            let number = |k: usize| ((k as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 20) as f32 / 2048.0 - 1.0;
            let rows = (0..ROWS * depth).map(number).collect();
            let columns = (0..depth * width).map(|k| number(k + 77)).collect();
            everywhere(&Products { rows, columns, depth, width });
        }
    }
}
