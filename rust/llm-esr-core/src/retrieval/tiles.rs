//! Products of codes, a tile of rows and columns at a time, by whatever instructions the processor has.
//!
//! Columns come as a panel: for every four numbers of the width the codes of 32 columns, moved by 128 to be without sign.
//! Every kernel gives the same whole numbers, so a result does not depend on the processor. The kernels and the entry to
//! them are this module's `unsafe`.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use super::codes::RowOf;

/// Rows of a tile.
pub(crate) const ROWS: usize = 12;
/// Columns of a tile.
pub(crate) const COLUMNS: usize = 32;

/// The codes of [`COLUMNS`] columns for four numbers of the width.
pub(crate) type Group = [u8; 4 * COLUMNS];
/// The rows of a tile; where there are fewer, some are repeated.
pub(crate) type Rows<'a> = [&'a [i8]; ROWS];
/// Products: whole numbers, of codes moved by 128.
pub(crate) type Products = [[i32; COLUMNS]; ROWS];

/// What the columns of a tile mean.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    pub(crate) scale: [f32; COLUMNS],
    pub(crate) offset: [f32; COLUMNS],
    pub(crate) error: [f32; COLUMNS],
    pub(crate) size: [f32; COLUMNS],
    /// What an upper bound must exceed to matter to the column.
    pub(crate) limit: [f32; COLUMNS],
}

/// Pairs of a row and columns that matter.
#[derive(Debug, Clone)]
pub(crate) struct Hits {
    /// What the products are about, without what the codes may have lost.
    pub(crate) estimates: [f32; COLUMNS],
    /// A bit for each column that may be among the row's best.
    pub(crate) for_row: u32,
    /// A bit for each column among whose best the row may be.
    pub(crate) for_columns: u32,
}

/// A way to compute tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// AVX-512 with products of bytes (VNNI).
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// What the compiler makes of plain loops; on ARM it makes NEON instructions.
    Portable,
}

impl Kernel {
    /// The kernels that this processor has, the fastest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vnni")
            {
                found.push(Self::Avx512);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                found.push(Self::Avx2);
            }
        }
        found.push(Self::Portable);
        found
    }

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "AVX-512 VNNI",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "AVX2",
            Self::Portable => "portable",
        }
    }

    /// The products of a tile.
    ///
    /// # Panics
    /// A row that is shorter than the panel.
    #[inline]
    pub(crate) fn products(self, rows: &Rows<'_>, panel: &[Group], products: &mut Products) {
        match self {
            // SAFETY: `available` found the instructions, and nothing else makes these variants.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512::products(rows, panel, products) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2::products(rows, panel, products) },
            Self::Portable => portable::products(rows, panel, products),
        }
    }

    /// The sum of products of two rows of codes, of which those of `moved` are moved by 128 first.
    #[inline]
    pub(crate) fn sum(self, codes: &[i8], moved: &[i8]) -> i32 {
        match self {
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512::sum(codes, moved) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2::sum(codes, moved) },
            Self::Portable => portable::sum(codes, moved),
        }
    }

    /// Which of a row's products matter, to the row (beyond `limit`) or to a column; false where none does.
    #[inline]
    pub(crate) fn hits(
        self,
        products: &[i32; COLUMNS],
        (row, limit): (&RowOf, f32),
        columns: &Columns,
        hits: &mut Hits,
    ) -> bool {
        match self {
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512::hits(products, (row, limit), columns, hits) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2::hits(products, (row, limit), columns, hits) },
            Self::Portable => portable::hits(products, (row, limit), columns, hits),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbers(seed: u64) -> impl FnMut() -> u64 {
        let mut state = seed;
        move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        }
    }

    proptest! {
        #[test]
        fn every_kernel_gives_the_sums_of_products(seed in 0_u64..1000, groups in 1_usize..60, worst in any::<bool>()) {
            let mut next = numbers(seed);
            let mut code = || if worst { if next().is_multiple_of(2) { -127 } else { 127 } } else { (next() % 255) as i32 - 127 };
            let rows: Vec<Vec<i8>> = (0..ROWS).map(|_| (0..4 * groups).map(|_| code() as i8).collect()).collect();
            let columns: Vec<Vec<i8>> = (0..COLUMNS).map(|_| (0..4 * groups).map(|_| code() as i8).collect()).collect();
            let mut panel = vec![[0; 4 * COLUMNS]; groups];
            for (group, to) in panel.iter_mut().enumerate() {
                for (at, to) in to.iter_mut().enumerate() {
                    *to = columns[at / 4][4 * group + at % 4] as u8 ^ 0x80;
                }
            }
            let given: Rows<'_> = std::array::from_fn(|row| &rows[row][..]);
            for kernel in Kernel::available() {
                let mut products = [[0; COLUMNS]; ROWS];
                kernel.products(&given, &panel, &mut products);
                for (row, products) in rows.iter().zip(&products) {
                    for (column, &found) in columns.iter().zip(products) {
                        let expected: i32 = row.iter().zip(column).map(|(&a, &b)| i32::from(a) * (i32::from(b) + 128)).sum();
                        assert_eq!(found, expected, "{kernel:?}");
                        assert_eq!(kernel.sum(row, column), expected, "{kernel:?}");
                    }
                }
            }
        }

        #[test]
        fn every_kernel_finds_the_hits_of_the_plain_one(seed in 0_u64..1000) {
            let mut next = numbers(seed);
            let mut part = |most: f32| (next() % 1001) as f32 / 1000.0 * most;
            let mut products = [0; COLUMNS];
            for product in &mut products {
                *product = (part(2e6) - 1e6) as i32;
            }
            let row = RowOf { scale: 1e-3, offset: part(0.2), error: part(0.02), size: 1.0, correction: 700, ..RowOf::default() };
            let mut columns = Columns { scale: [0.0; COLUMNS], offset: [0.0; COLUMNS], error: [0.0; COLUMNS],
                                        size: [0.0; COLUMNS], limit: [0.0; COLUMNS] };
            for place in 0..COLUMNS {
                columns.scale[place] = part(2e-3);
                columns.offset[place] = if place == 3 { f32::NEG_INFINITY } else { part(0.1) };
                columns.error[place] = part(0.02);
                columns.size[place] = part(1.0);
                columns.limit[place] = if place == 5 { f32::NEG_INFINITY } else { part(2.0) - 1.0 };
            }
            let none = Hits { estimates: [0.0; COLUMNS], for_row: 0, for_columns: 0 };
            let mut plain = none.clone();
            portable::hits(&products, (&row, 0.1), &columns, &mut plain);
            for kernel in Kernel::available() {
                let mut found = none.clone();
                assert_eq!(kernel.hits(&products, (&row, 0.1), &columns, &mut found), found.for_row | found.for_columns != 0);
                for place in 0..COLUMNS {
                    let (mine, theirs) = (found.estimates[place], plain.estimates[place]);
                    assert!(mine.is_infinite() && theirs.is_infinite() || (mine - theirs).abs() < 1e-5 * (1.0 + theirs.abs()), "{kernel:?}");
                    let upper = theirs + row.size * columns.error[place] + row.error * columns.size[place];
                    for (bits, limit) in [(found.for_row, 0.1), (found.for_columns, columns.limit[place])] {
                        let hit = bits >> place & 1 == 1;
                        // What lies on the limit may round to either side.
                        if (upper - limit).abs() > 1e-5 * (1.0 + upper.abs()) || upper.is_infinite() {
                            assert_eq!(hit, upper > limit, "{kernel:?} {place}");
                        }
                    }
                }
            }
        }
    }
}
