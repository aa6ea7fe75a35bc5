//! Tiles by AVX-512: `vpdpbusd` adds four products of bytes to each of sixteen sums.

use std::arch::x86_64::{
    __m512, __m512i, _CMP_GT_OQ, _mm512_add_epi32, _mm512_add_ps, _mm512_cmp_ps_mask,
    _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_mul_ps, _mm512_reduce_add_epi32, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_si512, _mm512_storeu_ps, _mm512_storeu_si512, _mm512_xor_si512,
};

use super::{COLUMNS, Columns, Group, Hits, Products, ROWS, Rows, portable};
use crate::retrieval::codes::RowOf;

/// Numbers of a vector.
const LANES: usize = 16;
/// Vectors of a row of a tile.
const VECTORS: usize = COLUMNS / LANES;

/// See `Kernel::products`.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn products(rows: &Rows<'_>, panel: &[Group], products: &mut Products) {
    let rows = rows.map(|row| &row.as_chunks::<4>().0[..panel.len()]);
    let mut sums = [[_mm512_setzero_si512(); VECTORS]; ROWS];
    for (at, group) in panel.iter().enumerate() {
        let codes = bytes(group);
        for (row, sums) in rows.iter().zip(&mut sums) {
            let numbers = _mm512_set1_epi32(i32::from_le_bytes(row[at].map(|x| x as u8)));
            for (sum, &codes) in sums.iter_mut().zip(&codes) {
                *sum = _mm512_dpbusd_epi32(*sum, codes, numbers);
            }
        }
    }
    for (row, sums) in products.iter_mut().zip(&sums) {
        for (to, &sum) in row.as_chunks_mut::<LANES>().0.iter_mut().zip(sums) {
            // SAFETY: `to` is sixteen whole numbers.
            unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), sum) };
        }
    }
}

/// See `Kernel::sum`.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn sum(codes: &[i8], moved: &[i8]) -> i32 {
    let ((codes, codes_rest), (moved, moved_rest)) =
        (codes.as_chunks::<64>(), moved.as_chunks::<64>());
    let by_128 = _mm512_set1_epi8(i8::MIN);
    let mut sums = [_mm512_setzero_si512(); 2];
    for (at, (codes, moved)) in codes.iter().zip(moved).enumerate() {
        // SAFETY: each is 64 bytes.
        let (codes, moved) = unsafe {
            (
                _mm512_loadu_si512(codes.as_ptr().cast()),
                _mm512_loadu_si512(moved.as_ptr().cast()),
            )
        };
        sums[at % 2] = _mm512_dpbusd_epi32(sums[at % 2], _mm512_xor_si512(moved, by_128), codes);
    }
    _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1]))
        + portable::sum(codes_rest, moved_rest)
}

/// See `Kernel::hits`.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn hits(
    products: &[i32; COLUMNS],
    (row, limit): (&RowOf, f32),
    columns: &Columns,
    hits: &mut Hits,
) -> bool {
    let (mut for_row, mut for_columns) = (0, 0);
    for vector in 0..VECTORS {
        let product = _mm512_add_epi32(whole(products, vector), _mm512_set1_epi32(-row.correction));
        let product = _mm512_mul_ps(_mm512_cvtepi32_ps(product), _mm512_set1_ps(row.scale));
        let offset = _mm512_add_ps(floats(&columns.offset, vector), _mm512_set1_ps(row.offset));
        let estimate = _mm512_fmadd_ps(product, floats(&columns.scale, vector), offset);
        let upper = _mm512_fmadd_ps(
            _mm512_set1_ps(row.size),
            floats(&columns.error, vector),
            estimate,
        );
        let upper = _mm512_fmadd_ps(
            _mm512_set1_ps(row.error),
            floats(&columns.size, vector),
            upper,
        );
        let of_row = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(upper, _mm512_set1_ps(limit));
        let of_columns = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(upper, floats(&columns.limit, vector));
        for_row |= u32::from(of_row) << (vector * LANES);
        for_columns |= u32::from(of_columns) << (vector * LANES);
        let to = &mut hits.estimates.as_chunks_mut::<LANES>().0[vector];
        // SAFETY: `to` is sixteen numbers.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), estimate) };
    }
    (hits.for_row, hits.for_columns) = (for_row, for_columns);
    for_row | for_columns != 0
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn bytes(group: &Group) -> [__m512i; VECTORS] {
    let halves = group.as_chunks::<64>().0;
    // SAFETY: each is 64 bytes.
    [0, 1].map(|half| unsafe { _mm512_loadu_si512(halves[half].as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx512f")]
fn whole(numbers: &[i32; COLUMNS], vector: usize) -> __m512i {
    // SAFETY: a chunk is sixteen whole numbers.
    unsafe { _mm512_loadu_si512(numbers.as_chunks::<LANES>().0[vector].as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn floats(numbers: &[f32; COLUMNS], vector: usize) -> __m512 {
    // SAFETY: a chunk is sixteen numbers.
    unsafe { _mm512_loadu_ps(numbers.as_chunks::<LANES>().0[vector].as_ptr()) }
}
