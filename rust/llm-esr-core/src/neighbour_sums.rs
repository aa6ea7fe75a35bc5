//! Histories scored by adding a few rows of an item-to-item table: all scores, or the best few from the entries alone.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::histories::check_histories;
use crate::pool::lock;
use crate::workers::Workers;
use crate::{Error, Result};

/// Lists of a task.
const LISTS: usize = 64;

/// What a history's newest items add up to.
#[derive(Debug, Clone, Copy)]
pub struct Sum<'a> {
    /// Ids of the table, `[items, width]`.
    pub ids: &'a [i32],
    /// Its values.
    pub values: &'a [f32],
    /// Entries of a row.
    pub width: usize,
    /// The newest item's row counts `decay` times, the next `decay` squared, and so on.
    pub decay: f32,
    /// How many of the newest items are read.
    pub newest: usize,
}

impl Sum<'_> {
    /// Scores of all items for each history, written to `scores`, `[histories, items]`.
    ///
    /// # Errors
    /// Arrays that do not fit each other, or ids outside the catalogue.
    pub fn scores(
        &self,
        histories: &[i32],
        offsets: &[i64],
        scores: &mut [f32],
        workers: &dyn Workers,
    ) -> Result<()> {
        let items = self.check(histories, offsets)?;
        let rows = offsets.len().saturating_sub(1);
        if scores.len() != rows * items {
            let message = format!("{} scores are not {rows} rows of {items}", scores.len());
            return Err(Error::argument("scores", message));
        }
        let tasks: Vec<_> = scores.chunks_mut(items).map(Mutex::new).collect();
        let wrong = AtomicI32::new(0);
        workers.run(tasks.len(), &|row| {
            let mut scores = lock(&tasks[row]);
            scores.fill(0.0);
            let history = &histories[offsets[row] as usize..offsets[row + 1] as usize];
            let read = self.read(history, items, |id, value| scores[id as usize - 1] += value);
            if let Err(id) = read {
                wrong.store(id, Ordering::Relaxed);
            }
        });
        match wrong.into_inner() {
            0 => Ok(()),
            id => Err(self.no_id(id)),
        }
    }

    /// The `k` items of the largest sums for each history, largest first, equal ones by id: what `scores` would rank,
    /// at the cost of the entries that are read instead of the whole catalogue's. Items that no row names have the sum
    /// 0 and fill up a list by rising id.
    ///
    /// `ids` and `values` are `[histories, k]`; an id of 0 says that the catalogue has no further item.
    ///
    /// # Errors
    /// Arrays that do not fit each other, or ids outside the catalogue.
    pub fn lists(
        &self,
        (histories, offsets): (&[i32], &[i64]),
        leave_out_met: bool,
        k: usize,
        (ids, values): (&mut [i32], &mut [f32]),
        workers: &dyn Workers,
    ) -> Result<()> {
        let items = self.check(histories, offsets)?;
        let rows = offsets.len().saturating_sub(1);
        if k == 0 || Some(ids.len()) != rows.checked_mul(k) || values.len() != ids.len() {
            let message = format!("{} places are not {rows} lists of {k}", ids.len());
            return Err(Error::argument("k", message));
        }
        let tasks: Vec<_> = ids
            .chunks_mut(LISTS * k)
            .zip(values.chunks_mut(LISTS * k))
            .map(Mutex::new)
            .collect();
        let wrong = AtomicI32::new(0);
        workers.run(tasks.len(), &|number| {
            let mut task = lock(&tasks[number]);
            let (ids, values) = &mut *task;
            let mut sparse = SparseRow::new(items);
            for (place, list) in ids.chunks_mut(k).zip(values.chunks_mut(k)).enumerate() {
                let row = number * LISTS + place;
                let history = &histories[offsets[row] as usize..offsets[row + 1] as usize];
                let read = self.read(history, items, |id, value| sparse.add(id, value));
                if let Err(id) = read {
                    wrong.store(id, Ordering::Relaxed);
                    return;
                }
                sparse.best(if leave_out_met { history } else { &[] }, list);
            }
        });
        match wrong.into_inner() {
            0 => Ok(()),
            id => Err(self.no_id(id)),
        }
    }

    /// Gives the entries of a history's rows to `add`, weighted; the id that is none, where one of them holds one: a
    /// whole table is longer than what is read of it, so only that is checked.
    fn read(
        &self,
        history: &[i32],
        items: usize,
        mut add: impl FnMut(i32, f32),
    ) -> std::result::Result<(), i32> {
        let mut weight = 1.0;
        for &item in history.iter().rev().take(self.newest) {
            weight *= self.decay;
            let entries = (item as usize - 1) * self.width..item as usize * self.width;
            for (&id, &value) in self.ids[entries.clone()].iter().zip(&self.values[entries]) {
                if id == 0 {
                    break;
                }
                if id < 0 || id as usize > items {
                    return Err(id);
                }
                add(id, weight * value);
            }
        }
        Ok(())
    }

    /// The items of the catalogue, where the arrays fit each other.
    fn check(&self, histories: &[i32], offsets: &[i64]) -> Result<usize> {
        let items = self.ids.len().checked_div(self.width).unwrap_or(0);
        if items == 0 || self.ids.len() != items * self.width || self.values.len() != self.ids.len()
        {
            let message = format!(
                "{} entries and {} values are no rows of {}",
                self.ids.len(),
                self.values.len(),
                self.width,
            );
            return Err(Error::argument("table", message));
        }
        check_histories(histories, offsets, items)?;
        Ok(items)
    }

    fn no_id(&self, id: i32) -> Error {
        let items = self.ids.len().checked_div(self.width).unwrap_or(0);
        Error::argument("ids", format!("{id} is no id from 0 to {items}"))
    }
}

/// The sums of one history, and which items have one.
struct SparseRow {
    sums: Vec<f32>,
    named: Vec<bool>,
    touched: Vec<i32>,
    pairs: Vec<(f32, i32)>,
}

impl SparseRow {
    fn new(items: usize) -> Self {
        Self {
            sums: vec![0.0; items],
            named: vec![false; items],
            touched: Vec::new(),
            pairs: Vec::new(),
        }
    }

    fn add(&mut self, id: i32, value: f32) {
        let column = id as usize - 1;
        if !self.named[column] {
            self.named[column] = true;
            self.touched.push(id);
        }
        self.sums[column] += value;
    }

    /// Fills a list and forgets the history; items that were met are in no list.
    fn best(&mut self, met: &[i32], (ids, values): (&mut [i32], &mut [f32])) {
        for &id in met {
            self.add(id, 0.0);
            self.sums[id as usize - 1] = f32::NEG_INFINITY;
        }
        let sums = &self.sums;
        self.pairs.clear();
        self.pairs.extend(
            self.touched
                .iter()
                .map(|&id| (sums[id as usize - 1], id))
                .filter(|pair| pair.0 > f32::NEG_INFINITY),
        );
        let k = ids.len();
        let fill = (1..=self.sums.len() as i32).filter(|&id| !self.named[id as usize - 1]);
        self.pairs.extend(fill.take(k).map(|id| (0.0, id)));
        if self.pairs.len() > k {
            self.pairs
                .select_nth_unstable_by(k - 1, |a, b| larger_first(*a, *b));
            self.pairs.truncate(k);
        }
        self.pairs.sort_unstable_by(|a, b| larger_first(*a, *b));
        ids.fill(0);
        values.fill(f32::NEG_INFINITY);
        for (place, &(value, id)) in self.pairs.iter().enumerate() {
            ids[place] = id;
            values[place] = value;
        }
        for id in self.touched.drain(..) {
            self.sums[id as usize - 1] = 0.0;
            self.named[id as usize - 1] = false;
        }
    }
}

fn larger_first(a: (f32, i32), b: (f32, i32)) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::neighbour_tables::{Kind, Table, Training};
    use crate::workers::Alone;

    fn table() -> Table {
        let training = Training {
            items: &[1, 2, 3, 2, 1, 2, 1, 2, 4],
            offsets: &[0, 4, 6, 9],
            lengths: &[4, 2, 2],
            n_items: 4,
        };
        training.table(Kind::Transitions, 2, &Alone).unwrap()
    }

    fn two_newest(table: &Table) -> Sum<'_> {
        Sum {
            ids: &table.ids,
            values: &table.values,
            width: 2,
            decay: 0.5,
            newest: 2,
        }
    }

    #[test]
    fn a_history_is_the_sum_of_its_newest_rows() {
        let table = table();
        let sum = two_newest(&table);
        let mut scores = [9.0; 8];
        sum.scores(&[3, 2, 1], &[0, 3, 3], &mut scores, &Alone)
            .unwrap();
        let (one, two) = (&table.values[..2], &table.values[2..3]);
        let expected = [0.0, 0.5 * one[0], 0.5 * one[1] + 0.25 * two[0], 0.0];
        assert_eq!(scores[..4], expected);
        assert_eq!(scores[4..], [0.0; 4]);
    }

    #[test]
    fn lists_are_what_the_scores_rank() {
        let table = table();
        let sum = two_newest(&table);
        let histories = ([3, 2, 1].as_slice(), [0, 3, 3].as_slice());
        let (mut ids, mut values) = ([9; 10], [9.0; 10]);
        sum.lists(histories, false, 5, (&mut ids, &mut values), &Alone)
            .unwrap();
        assert_eq!(ids, [2, 3, 1, 4, 0, 1, 2, 3, 4, 0]);
        sum.lists(histories, true, 5, (&mut ids, &mut values), &Alone)
            .unwrap();
        assert_eq!(ids, [4, 0, 0, 0, 0, 1, 2, 3, 4, 0]);
        let mut forged = table.ids.clone();
        forged[0] = 7;
        let forged = Sum {
            ids: &forged,
            ..sum
        };
        assert!(
            forged
                .lists(histories, false, 5, (&mut ids, &mut values), &Alone)
                .is_err()
        );
        for id in [7, -1, i32::MIN] {
            let mut ids = forged.ids.to_vec();
            ids[0] = id;
            let forged = Sum { ids: &ids, ..sum };
            let (items, offsets) = histories;
            assert!(
                forged
                    .scores(items, offsets, &mut [0.0; 8], &Alone)
                    .is_err()
            );
        }
    }
}
