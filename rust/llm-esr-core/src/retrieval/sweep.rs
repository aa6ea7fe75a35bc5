//! Rows against columns: the pairs that may be among somebody's best.

use std::ops::Range;

use super::codes::{Codes, ROUNDING, RowOf};
use super::tiles::{COLUMNS, Columns, Group, Hits, Kernel, Products, ROWS};

/// A row and a column of which one may be among the other's best.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    pub(crate) row: u32,
    pub(crate) column: u32,
    pub(crate) estimate: f32,
    /// Whether the column may be among the row's best.
    pub(crate) for_row: bool,
    /// Whether the row may be among the column's best.
    pub(crate) for_column: bool,
}

/// Columns packed as the kernels read them.
#[derive(Debug)]
pub(crate) struct Panels {
    groups: usize,
    codes: Vec<Group>,
    columns: Vec<Columns>,
    numbers: Vec<u32>,
}

impl Panels {
    /// Room for columns of a width, a multiple of 4.
    pub(crate) fn new(width: usize) -> Self {
        Self {
            groups: width / 4,
            codes: Vec::new(),
            columns: Vec::new(),
            numbers: Vec::new(),
        }
    }

    /// Takes rows of `codes` as columns, in place of those before; they are reported by these numbers.
    pub(crate) fn pack(&mut self, codes: &Codes, numbers: impl IntoIterator<Item = u32>) {
        self.numbers.clear();
        self.numbers.extend(numbers);
        let panels = self.numbers.len().div_ceil(COLUMNS);
        // 128 is the code 0: what is left over from earlier columns must not look like one, but need not be one.
        self.codes.resize(panels * self.groups, [128; 4 * COLUMNS]);
        self.columns.clear();
        for (panel, numbers) in self.numbers.chunks(COLUMNS).enumerate() {
            let to = &mut self.codes[panel * self.groups..(panel + 1) * self.groups];
            let mut columns = Columns {
                scale: [0.0; COLUMNS],
                offset: [f32::NEG_INFINITY; COLUMNS],
                error: [0.0; COLUMNS],
                size: [0.0; COLUMNS],
                limit: [f32::INFINITY; COLUMNS],
            };
            for (place, &number) in numbers.iter().enumerate() {
                let row = &codes.rows[number as usize];
                columns.scale[place] = row.scale;
                columns.offset[place] = row.offset;
                columns.error[place] = row.error;
                columns.size[place] = row.size;
                let numbers = codes.row(number as usize).as_chunks::<4>().0;
                for (to, numbers) in to.iter_mut().zip(numbers) {
                    to.as_chunks_mut::<4>().0[place] = numbers.map(|x| x as u8 ^ 0x80);
                }
            }
            self.columns.push(columns);
        }
    }

    /// What an upper bound must exceed to matter to each column; without a call it is infinity.
    pub(crate) fn set_limits(&mut self, mut limit: impl FnMut(u32) -> f32) {
        for (columns, numbers) in self.columns.iter_mut().zip(self.numbers.chunks(COLUMNS)) {
            for (to, &number) in columns.limit.iter_mut().zip(numbers) {
                *to = limit(number) - ROUNDING;
            }
        }
    }

    /// Adds to what is added to every product with each of the columns.
    pub(crate) fn add_offsets(&mut self, more: impl Fn(u32) -> f32) {
        for (columns, numbers) in self.columns.iter_mut().zip(self.numbers.chunks(COLUMNS)) {
            for (to, &number) in columns.offset.iter_mut().zip(numbers) {
                *to += more(number);
            }
        }
    }

    /// Looks at some rows of `codes` against all columns; rows are reported by their numbers.
    ///
    /// `limits` are what an upper bound must exceed to matter to each of the rows; without them none does.
    pub(crate) fn sweep(
        &self,
        kernel: Kernel,
        codes: &Codes,
        rows: Range<usize>,
        limits: Option<&[f32]>,
        found: &mut Vec<Pair>,
    ) {
        let mut products: Products = [[0; COLUMNS]; ROWS];
        let mut hits = Hits {
            estimates: [0.0; COLUMNS],
            for_row: 0,
            for_columns: 0,
        };
        for first in rows.clone().step_by(ROWS) {
            let count = ROWS.min(rows.end - first);
            let tile = std::array::from_fn(|row| codes.row(first + row.min(count - 1)));
            for (panel, columns) in self.columns.iter().enumerate() {
                let packed = &self.codes[panel * self.groups..(panel + 1) * self.groups];
                kernel.products(&tile, packed, &mut products);
                for (place, products) in products[..count].iter().enumerate() {
                    let row = first + place;
                    let limit =
                        limits.map_or(f32::INFINITY, |limits| limits[row - rows.start] - ROUNDING);
                    if kernel.hits(products, (&codes.rows[row], limit), columns, &mut hits) {
                        let numbers = &self.numbers[panel * COLUMNS..];
                        take(&hits, row, numbers, found);
                    }
                }
            }
        }
    }

    /// Estimates of all columns for each of some rows, handed to `with` by the row's number.
    pub(crate) fn estimates(
        &self,
        kernel: Kernel,
        codes: &Codes,
        rows: Range<usize>,
        mut with: impl FnMut(usize, &[f32]),
    ) {
        let mut products: Products = [[0; COLUMNS]; ROWS];
        let wide = self.columns.len() * COLUMNS;
        let mut estimates = vec![0.0; ROWS * wide];
        for first in rows.clone().step_by(ROWS) {
            let count = ROWS.min(rows.end - first);
            let tile = std::array::from_fn(|row| codes.row(first + row.min(count - 1)));
            for (panel, columns) in self.columns.iter().enumerate() {
                let packed = &self.codes[panel * self.groups..(panel + 1) * self.groups];
                kernel.products(&tile, packed, &mut products);
                for (place, products) in products[..count].iter().enumerate() {
                    let to = &mut estimates[place * wide + panel * COLUMNS..][..COLUMNS];
                    plain_estimates(products, &codes.rows[first + place], columns, to);
                }
            }
            for place in 0..count {
                with(
                    first + place,
                    &estimates[place * wide..][..self.numbers.len()],
                );
            }
        }
    }
}

fn plain_estimates(products: &[i32; COLUMNS], row: &RowOf, columns: &Columns, to: &mut [f32]) {
    for (place, to) in to.iter_mut().enumerate() {
        let product = (products[place] - row.correction) as f32 * row.scale;
        *to = product * columns.scale[place] + (columns.offset[place] + row.offset);
    }
}

#[inline]
fn take(hits: &Hits, row: usize, numbers: &[u32], found: &mut Vec<Pair>) {
    let mut bits = hits.for_row | hits.for_columns;
    while bits != 0 {
        let place = bits.trailing_zeros() as usize;
        bits &= bits - 1;
        found.push(Pair {
            row: row as u32,
            column: numbers[place],
            estimate: hits.estimates[place],
            for_row: hits.for_row >> place & 1 == 1,
            for_column: hits.for_columns >> place & 1 == 1,
        });
    }
}
