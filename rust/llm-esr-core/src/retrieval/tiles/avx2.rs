//! Tiles by AVX2: bytes become 16-bit numbers, and `vpmaddwd` adds two products of them to each of eight sums.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_loadu_si128, _mm_set1_epi32, _mm256_add_epi32, _mm256_cvtepi8_epi16,
    _mm256_cvtepu8_epi16, _mm256_hadd_epi32, _mm256_madd_epi16, _mm256_permute4x64_epi64,
    _mm256_setzero_si256, _mm256_storeu_si256,
};

use super::{COLUMNS, Columns, Group, Hits, Products, ROWS, Rows, portable};
use crate::retrieval::codes::RowOf;

/// Rows whose sums are held at once.
const HELD: usize = 4;
/// Columns whose codes are held at once, in two vectors.
const WIDE: usize = 8;

/// See `Kernel::products`.
#[target_feature(enable = "avx2,fma")]
pub(super) fn products(rows: &Rows<'_>, panel: &[Group], products: &mut Products) {
    for first in (0..ROWS).step_by(HELD) {
        let rows: [&[[i8; 4]]; HELD] =
            std::array::from_fn(|row| &rows[first + row].as_chunks::<4>().0[..panel.len()]);
        for columns in (0..COLUMNS).step_by(WIDE) {
            // Two sums for each column, of even and odd pairs of numbers.
            let mut sums = [[_mm256_setzero_si256(); 2]; HELD];
            for (at, group) in panel.iter().enumerate() {
                let codes = [wide(group, 4 * columns), wide(group, 4 * columns + 16)];
                for (row, sums) in rows.iter().zip(&mut sums) {
                    let numbers = four(row[at]);
                    for (sum, &codes) in sums.iter_mut().zip(&codes) {
                        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(codes, numbers));
                    }
                }
            }
            for (row, sums) in sums.iter().enumerate() {
                let sum =
                    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(sums[0], sums[1]));
                let to = &mut products[first + row][columns..columns + WIDE];
                // SAFETY: `to` is eight whole numbers.
                unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), sum) };
            }
        }
    }
}

/// See `Kernel::sum`.
#[target_feature(enable = "avx2,fma")]
pub(super) fn sum(codes: &[i8], moved: &[i8]) -> i32 {
    portable::sum(codes, moved)
}

/// See `Kernel::hits`.
#[target_feature(enable = "avx2,fma")]
pub(super) fn hits(
    products: &[i32; COLUMNS],
    row: (&RowOf, f32),
    columns: &Columns,
    hits: &mut Hits,
) -> bool {
    portable::hits(products, row, columns, hits)
}

/// Sixteen bytes as 16-bit numbers.
#[inline]
#[target_feature(enable = "avx2")]
fn wide(group: &Group, at: usize) -> __m256i {
    let bytes: &[u8] = &group[at..at + 16];
    // SAFETY: `bytes` is sixteen bytes.
    let bytes: __m128i = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
    _mm256_cvtepu8_epi16(bytes)
}

/// Four numbers of a row, as 16-bit numbers, four times.
#[inline]
#[target_feature(enable = "avx2")]
fn four(numbers: [i8; 4]) -> __m256i {
    _mm256_cvtepi8_epi16(_mm_set1_epi32(i32::from_le_bytes(numbers.map(|x| x as u8))))
}
