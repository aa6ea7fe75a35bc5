//! Sparse item-to-item tables counted from training sequences.
//!
//! One reading of the sequences sorts every occurrence by its item; then each item's row is counted alone, in a dense
//! row of its own thread, and its largest entries are kept. Items are shared out among threads and no sum crosses them,
//! so the tables do not depend on how many there are. Memory: eight bytes an occurrence, and a dense row a thread.

use std::sync::Mutex;

use crate::best::Best;
use crate::pool::lock;
use crate::workers::Workers;
use crate::{Error, Result, filled};

/// Items of a task.
const TASK: usize = 256;
/// What one, two and three places behind an item weigh.
const STEPS: [f32; 3] = [1.0, 0.5, 0.25];
/// What stands beside the sum of a row of transitions: rows of few observations stay small.
const PRIOR: f32 = 5.0;

/// Training sequences.
#[derive(Debug, Clone, Copy)]
pub struct Training<'a> {
    /// Item ids from 1, user after user, oldest first.
    pub items: &'a [i32],
    /// Where each user starts, one more than there are users.
    pub offsets: &'a [i64],
    /// How many of a user's first items are training.
    pub lengths: &'a [i64],
    /// Items of the catalogue.
    pub n_items: usize,
}

/// Which table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What follows an item within three places, over what follows it at all.
    Transitions,
    /// The cosine between two items' columns of the matrix of users and items.
    CoOccurrence,
}

/// The largest entries of each row, largest first, equal ones by id.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// Ids, `[items, width]`; 0 where a row has fewer.
    pub ids: Vec<i32>,
    /// Their values; 0 where the id is 0.
    pub values: Vec<f32>,
}

/// A user and the place of an item in the sequence.
type Occurrence = (u32, u32);

struct ByItem {
    starts: Vec<usize>,
    occurrences: Vec<Occurrence>,
}

impl Training<'_> {
    /// The table of a kind, `width` entries a row at most.
    ///
    /// # Errors
    /// Arrays that do not fit each other, or ids outside `1..=n_items`.
    pub fn table(&self, kind: Kind, width: usize, workers: &dyn Workers) -> Result<Table> {
        self.check()?;
        if width == 0 || width > self.n_items {
            let message = format!(
                "{width}; from 1 to {} entries of a row, one for each item, are kept",
                self.n_items
            );
            return Err(Error::argument("width", message));
        }
        let by_item = self.by_item()?;
        let users: Vec<f32> = match kind {
            Kind::Transitions => Vec::new(),
            Kind::CoOccurrence => (0..self.n_items)
                .map(|item| distinct_users(by_item.of(item)) as f32)
                .collect(),
        };
        let mut table = Table {
            ids: filled(0, self.n_items, width, "width")?,
            values: filled(0.0, self.n_items, width, "width")?,
        };
        let tasks: Vec<_> = table
            .ids
            .chunks_mut(TASK * width)
            .zip(table.values.chunks_mut(TASK * width))
            .map(Mutex::new)
            .collect();
        workers.run(tasks.len(), &|number| {
            let mut task = lock(&tasks[number]);
            let (ids, values) = &mut *task;
            let mut row = Row::new(self.n_items, width);
            for (place, (ids, values)) in ids
                .chunks_mut(width)
                .zip(values.chunks_mut(width))
                .enumerate()
            {
                let item = number * TASK + place;
                match kind {
                    Kind::Transitions => self.follow(item, &by_item, &mut row),
                    Kind::CoOccurrence => self.meet(item, &by_item, &users, &mut row),
                }
                row.keep(ids, values);
            }
        });
        drop(tasks);
        Ok(table)
    }

    fn check(&self) -> Result<()> {
        let users = self.lengths.len();
        let fit = self.offsets.len() == users + 1
            && self.offsets.first().is_some_and(|&first| first == 0)
            && self
                .offsets
                .windows(2)
                .zip(self.lengths)
                .all(|(pair, &length)| {
                    // From 0 on and rising, so that no difference overflows.
                    length >= 0 && pair[0] <= pair[1] && pair[1] - pair[0] >= length
                })
            && self
                .offsets
                .last()
                .is_some_and(|&last| usize::try_from(last) == Ok(self.items.len()));
        if !fit || u32::try_from(users).is_err() || self.n_items >= i32::MAX as usize {
            let message = format!(
                "{} items, {} offsets and {users} lengths do not fit each other",
                self.items.len(),
                self.offsets.len()
            );
            return Err(Error::argument("offsets", message));
        }
        match self
            .items
            .iter()
            .find(|&&item| item < 1 || item as usize > self.n_items)
        {
            Some(item) => Err(Error::argument(
                "items",
                format!("{item} is no id from 1 to {}", self.n_items),
            )),
            None => Ok(()),
        }
    }

    /// The training items of a user.
    fn of(&self, user: usize) -> &[i32] {
        let start = self.offsets[user] as usize;
        &self.items[start..start + self.lengths[user] as usize]
    }

    fn by_item(&self) -> Result<ByItem> {
        let mut starts = filled(0_usize, self.n_items + 1, 1, "n_items")?;
        for user in 0..self.lengths.len() {
            for &item in self.of(user) {
                starts[item as usize] += 1;
            }
        }
        for item in 0..self.n_items {
            starts[item + 1] += starts[item];
        }
        let mut next = starts.clone();
        let mut occurrences = filled((0, 0), starts[self.n_items], 1, "items")?;
        for user in 0..self.lengths.len() {
            for (place, &item) in self.of(user).iter().enumerate() {
                let slot = &mut next[item as usize - 1];
                occurrences[*slot] = (user as u32, place as u32);
                *slot += 1;
            }
        }
        Ok(ByItem {
            starts,
            occurrences,
        })
    }

    fn follow(&self, item: usize, by_item: &ByItem, row: &mut Row) {
        let mut sum = 0.0;
        for &(user, place) in by_item.of(item) {
            let after = &self.of(user as usize)[place as usize + 1..];
            for (&next, weight) in after.iter().zip(STEPS) {
                row.add(next, weight);
                sum += weight;
            }
        }
        row.drop(item);
        row.scale(|_| 1.0 / (sum + PRIOR));
    }

    fn meet(&self, item: usize, by_item: &ByItem, users: &[f32], row: &mut Row) {
        let mut before = None;
        for &(user, _) in by_item.of(item) {
            if before == Some(user) {
                continue;
            }
            before = Some(user);
            row.next_user();
            for &other in self.of(user as usize) {
                row.add_once(other);
            }
        }
        row.drop(item);
        row.scale(|other| 1.0 / (users[item] * users[other]).sqrt());
    }
}

impl ByItem {
    fn of(&self, item: usize) -> &[Occurrence] {
        &self.occurrences[self.starts[item]..self.starts[item + 1]]
    }
}

fn distinct_users(occurrences: &[Occurrence]) -> usize {
    let further = occurrences
        .windows(2)
        .filter(|pair| pair[0].0 != pair[1].0)
        .count();
    further + usize::from(!occurrences.is_empty())
}

/// A dense row that is counted in, and which of its entries are not zero.
struct Row {
    sums: Vec<f32>,
    touched: Vec<u32>,
    user: u32,
    counted: Vec<u32>,
    best: Best,
}

impl Row {
    fn new(n_items: usize, width: usize) -> Self {
        Self {
            sums: vec![0.0; n_items],
            touched: Vec::new(),
            user: 0,
            counted: vec![0; n_items],
            best: Best::new(width),
        }
    }

    fn add(&mut self, id: i32, weight: f32) {
        let column = id as usize - 1;
        if self.sums[column] == 0.0 {
            self.touched.push(column as u32);
        }
        self.sums[column] += weight;
    }

    fn next_user(&mut self) {
        self.user += 1;
    }

    fn add_once(&mut self, id: i32) {
        let column = id as usize - 1;
        if self.counted[column] != self.user {
            self.counted[column] = self.user;
            self.add(id, 1.0);
        }
    }

    fn drop(&mut self, column: usize) {
        self.sums[column] = 0.0;
    }

    fn scale(&mut self, factor: impl Fn(usize) -> f32) {
        for &column in &self.touched {
            self.sums[column as usize] *= factor(column as usize);
        }
    }

    fn keep(&mut self, ids: &mut [i32], values: &mut [f32]) {
        self.touched.sort_unstable();
        for &column in &self.touched {
            let value = std::mem::take(&mut self.sums[column as usize]);
            if value > self.best.threshold() && value > 0.0 {
                self.best.take(value, column);
            }
        }
        self.touched.clear();
        for ((value, column), (id, kept)) in
            self.best.drain().zip(ids.iter_mut().zip(values.iter_mut()))
        {
            *id = column as i32 + 1;
            *kept = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workers::Alone;

    const ITEMS: [i32; 9] = [1, 2, 3, 2, 1, 2, 1, 2, 4];

    fn training() -> Training<'static> {
        // The last item of the third user is no training.
        Training {
            items: &ITEMS,
            offsets: &[0, 4, 6, 9],
            lengths: &[4, 2, 2],
            n_items: 4,
        }
    }

    #[test]
    fn transitions_are_counted_within_three_places() {
        let table = training().table(Kind::Transitions, 2, &Alone).unwrap();
        // 1: 2 (1 + .25 + 1 + 1), 3 (.5); all add up to 3.75.
        assert_eq!(table.ids, [2, 3, 3, 0, 2, 0, 0, 0]);
        assert_eq!(table.values[..3], [3.25 / 8.75, 0.5 / 8.75, 1.0 / 6.5]);
    }

    #[test]
    fn an_item_counts_once_a_user() {
        let table = training().table(Kind::CoOccurrence, 1, &Alone).unwrap();
        assert_eq!(table.ids, [2, 1, 1, 0]);
        assert_eq!(table.values, [1.0, 1.0, 1.0_f32 / 3.0_f32.sqrt(), 0.0]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut broken = training();
        broken.lengths = &[4, 3, 2];
        assert!(broken.table(Kind::Transitions, 2, &Alone).is_err());
        let mut broken = training();
        broken.n_items = 3;
        assert!(broken.table(Kind::Transitions, 2, &Alone).is_err());
        assert!(training().table(Kind::Transitions, 0, &Alone).is_err());
    }
}
