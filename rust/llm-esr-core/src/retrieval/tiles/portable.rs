//! Tiles in plain loops: the oracle of the other kernels, and what runs where there are none.

use super::{COLUMNS, Columns, Group, Hits, Products, Rows};
use crate::retrieval::codes::RowOf;

/// See `Kernel::products`.
pub(super) fn products(rows: &Rows<'_>, panel: &[Group], products: &mut Products) {
    for (row, sums) in rows.iter().zip(products) {
        *sums = [0; COLUMNS];
        for (numbers, group) in row.as_chunks::<4>().0[..panel.len()].iter().zip(panel) {
            let numbers = numbers.map(i32::from);
            for (sum, codes) in sums.iter_mut().zip(group.as_chunks::<4>().0) {
                let codes = codes.map(i32::from);
                *sum += numbers[0] * codes[0]
                    + numbers[1] * codes[1]
                    + numbers[2] * codes[2]
                    + numbers[3] * codes[3];
            }
        }
    }
}

/// See `Kernel::sum`.
#[inline(always)]
pub(super) fn sum(codes: &[i8], moved: &[i8]) -> i32 {
    let products = codes.iter().zip(moved);
    products
        .map(|(&a, &b)| i32::from(i16::from(a)) * i32::from(i16::from(b) + 128))
        .sum()
}

/// See `Kernel::hits`.
#[inline(always)]
pub(super) fn hits(
    products: &[i32; COLUMNS],
    (row, limit): (&RowOf, f32),
    columns: &Columns,
    hits: &mut Hits,
) -> bool {
    let mut uppers = [0.0; COLUMNS];
    let mut beyond = f32::NEG_INFINITY;
    for place in 0..COLUMNS {
        let product = (products[place] - row.correction) as f32 * row.scale;
        let estimate = product * columns.scale[place] + (columns.offset[place] + row.offset);
        let bound = row.size * columns.error[place] + row.error * columns.size[place];
        hits.estimates[place] = estimate;
        uppers[place] = estimate + bound;
        beyond = beyond.max(uppers[place] - limit.min(columns.limit[place]));
    }
    (hits.for_row, hits.for_columns) = (0, 0);
    // Minus infinity without a limit is a NaN, which `max` passes over: what is near nothing never counts.
    if beyond > 0.0 {
        for (place, &upper) in uppers.iter().enumerate() {
            hits.for_row |= u32::from(upper > limit) << place;
            hits.for_columns |= u32::from(upper > columns.limit[place]) << place;
        }
    }
    hits.for_row | hits.for_columns != 0
}
