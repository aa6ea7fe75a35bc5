//! Histories scored by whole rows of a matrix of all items by all items, such as the cosines of their texts.

use std::sync::Mutex;

use crate::histories::check_histories;
use crate::pool::lock;
use crate::workers::Workers;
use crate::{Error, Result};

/// Columns that are made at once: they stay in the nearest cache while row after row is read.
const COLUMNS: usize = 2048;

/// How the rows of a history's newest items become its scores.
#[derive(Debug, Clone, Copy)]
pub enum Combine {
    /// Their sum; the newest counts `decay` times, the next `decay` squared, and so on.
    Sum {
        /// What each place further back multiplies.
        decay: f32,
    },
    /// The largest of them; `none` where a history is empty.
    Largest {
        /// The score without any.
        none: f32,
    },
}

/// Rows of a square matrix, read by items from 1.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    matrix: &'a [f32],
    items: usize,
}

impl<'a> Rows<'a> {
    /// A matrix `[items, items]`.
    ///
    /// # Errors
    /// Another number of entries.
    pub fn new(matrix: &'a [f32], items: usize) -> Result<Self> {
        if items == 0 || Some(matrix.len()) != items.checked_mul(items) {
            let message = format!("{} entries are not {items} rows of {items}", matrix.len());
            return Err(Error::argument("matrix", message));
        }
        Ok(Self { matrix, items })
    }

    /// Scores of all items for each history, written to `scores`, `[histories, items]`, from its `newest` items.
    ///
    /// # Errors
    /// Arrays that do not fit each other, or ids outside the catalogue.
    pub fn scores(
        &self,
        (histories, offsets): (&[i32], &[i64]),
        newest: usize,
        combine: Combine,
        scores: &mut [f32],
        workers: &dyn Workers,
    ) -> Result<()> {
        let items = self.items;
        let rows = offsets.len().saturating_sub(1);
        check_histories(histories, offsets, items)?;
        if Some(scores.len()) != rows.checked_mul(items) {
            let message = format!("{} scores are not {rows} rows of {items}", scores.len());
            return Err(Error::argument("scores", message));
        }
        let tasks: Vec<_> = scores.chunks_mut(items).map(Mutex::new).collect();
        workers.run(tasks.len(), &|row| {
            let history = &histories[offsets[row] as usize..offsets[row + 1] as usize];
            let mut scores = lock(&tasks[row]);
            for (number, block) in scores.chunks_mut(COLUMNS).enumerate() {
                let (start, width) = (number * COLUMNS, block.len());
                let newest = history.iter().rev().take(newest).map(|&item| {
                    let row = (item as usize - 1) * items + start;
                    &self.matrix[row..row + width]
                });
                match combine {
                    Combine::Sum { decay } => add(newest, decay, block),
                    Combine::Largest { none } => largest(newest, none, block),
                }
            }
        });
        Ok(())
    }
}

fn add<'a>(rows: impl Iterator<Item = &'a [f32]>, decay: f32, sums: &mut [f32]) {
    sums.fill(0.0);
    let mut weight = 1.0;
    for row in rows {
        weight *= decay;
        for (sum, &value) in sums.iter_mut().zip(row) {
            *sum += weight * value;
        }
    }
}

fn largest<'a>(mut rows: impl Iterator<Item = &'a [f32]>, none: f32, found: &mut [f32]) {
    match rows.next() {
        Some(row) => found.copy_from_slice(row),
        None => found.fill(none),
    }
    for row in rows {
        for (most, &value) in found.iter_mut().zip(row) {
            *most = if value > *most { value } else { *most };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workers::Alone;

    const MATRIX: [f32; 9] = [1.0, 0.5, -0.25, 0.5, 1.0, 0.75, -0.25, 0.75, 1.0];

    fn scores(combine: Combine, histories: &[i32], offsets: &[i64]) -> Result<Vec<f32>> {
        let mut scores = vec![9.0; 3 * offsets.len().saturating_sub(1)];
        let rows = Rows::new(&MATRIX, 3)?;
        rows.scores((histories, offsets), 2, combine, &mut scores, &Alone)?;
        Ok(scores)
    }

    #[test]
    fn the_newest_rows_are_added_or_compared() {
        let (histories, offsets) = ([2, 3, 1].as_slice(), [0, 3, 3].as_slice());
        let sums = scores(Combine::Sum { decay: 0.5 }, histories, offsets).unwrap();
        assert_eq!(
            sums,
            [0.5 - 0.0625, 0.25 + 0.1875, -0.125 + 0.25, 0.0, 0.0, 0.0]
        );
        let most = scores(Combine::Largest { none: -1.0 }, histories, offsets).unwrap();
        assert_eq!(most, [1.0, 0.75, 1.0, -1.0, -1.0, -1.0]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let sum = Combine::Sum { decay: 0.5 };
        for (histories, offsets) in [
            ([0].as_slice(), [0, 1].as_slice()),
            (&[4], &[0, 1]),
            (&[1], &[0, 2]),
            (&[1, 2], &[0, 2, 1]),
            (&[1], &[1, 1]),
        ] {
            assert!(scores(sum, histories, offsets).is_err(), "{histories:?}");
        }
        assert!(Rows::new(&MATRIX, 2).is_err() && Rows::new(&[], 0).is_err());
    }
}
