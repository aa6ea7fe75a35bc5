//! Approximate search: rows lie in lists about centres, and a query looks into the nearest lists alone, exactly there.
//!
//! What is lost is what lies in other lists. How many lists it takes for a recall is measured on a sample
//! ([`ListIndex::recalls`]): a neighbour is found as soon as its list is looked into, so one exact search tells the
//! recall of every number of lists.

use std::ops::Range;

use super::coded::{Asked, Coded, Neighbours, Options, answers};
use super::partition::{Partition, code_centres};
use super::survivors::Survivors;
use super::sweep::{Pair, Panels};
use super::vectors::{Side, Vectors};
use crate::workers::Threads;
use crate::{Error, Result};

/// Rows that search together.
pub const BLOCK: usize = 1024;
/// Rows of a sample that lie together.
const RUN: usize = 4;

/// A table in lists; its vectors stay where they are and are handed in at each call.
#[derive(Debug)]
pub struct ListIndex {
    coded: Coded,
    partition: Partition,
    /// The centres, packed to be compared with what searches.
    centres: Panels,
    threads: Threads,
}

/// What an index is made of, beside the vectors: all that is kept of it.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// `[lists, width]`.
    pub centres: &'a [f32],
    /// Where each list begins among the members, and where the last ends.
    pub offsets: &'a [i64],
    /// Row numbers, list by list.
    pub members: &'a [i32],
}

/// How much of the exact neighbours is found, by the number of lists that are looked into, 1 and more.
#[derive(Debug, Clone, PartialEq)]
pub struct Recalls {
    /// Means over the sample.
    pub mean: Vec<f64>,
    /// Standard errors of these means.
    pub error: Vec<f64>,
}

/// Whose neighbours a sample asks for.
#[derive(Clone, Copy)]
pub enum Sample<'a> {
    /// So many of the table's own rows, beginning with this one in the order of lists.
    Own(usize, usize),
    /// These queries.
    Queries(Vectors<'a>),
}

impl ListIndex {
    /// Lists of a table; 0 lists: four times the square root of the rows.
    ///
    /// # Errors
    /// A NaN or infinite entry (its row is named), or threads that cannot start.
    pub fn new(table: Vectors<'_>, options: Options, lists: usize, seed: u64) -> Result<Self> {
        let threads = Threads::new(options.threads)?;
        let pool = threads.pool()?;
        let lists = match lists {
            0 => (4.0 * (table.rows as f64).sqrt()).round() as usize,
            lists => lists,
        };
        let (coded, partition) = pool.install(|| {
            let coded = Coded::new(table, options)?;
            let partition = Partition::new(table, &coded, lists, seed)?;
            Ok::<_, Error>((coded, partition))
        })?;
        pool.install(|| Self::of(coded, partition, threads))
    }

    /// An index that was made before, of the same vectors, or of fewer: rows that came at the end join the lists.
    ///
    /// # Errors
    /// As of [`ListIndex::new`], or parts that do not fit each other or the vectors.
    pub fn open(table: Vectors<'_>, options: Options, parts: Parts<'_>) -> Result<Self> {
        let threads = Threads::new(options.threads)?;
        let pool = threads.pool()?;
        let Parts {
            centres,
            offsets,
            members,
        } = parts;
        if members.len() > table.rows {
            let message = format!(
                "{} rows are in its lists, and the vectors have {}",
                members.len(),
                table.rows
            );
            return Err(Error::argument("index", message));
        }
        let mut partition =
            Partition::checked(table.width, members.len(), (centres, offsets, members))?;
        let coded = pool.install(|| Coded::new(table, options))?;
        if members.len() < table.rows {
            partition = pool.install(|| partition.grown(table, &coded))?;
        }
        pool.install(|| Self::of(coded, partition, threads))
    }

    fn of(coded: Coded, partition: Partition, threads: Threads) -> Result<Self> {
        let packed = code_centres(coded.width, &coded, &partition.centres, Side::Queries)?;
        let mut centres = Panels::new(packed.width);
        centres.pack(&packed, 0..packed.len() as u32);
        Ok(Self {
            coded: coded.arranged(partition.members.clone())?,
            partition,
            centres,
            threads,
        })
    }

    /// Vectors in the index.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.coded.rows()
    }

    /// Numbers in a vector.
    #[must_use]
    pub fn width(&self) -> usize {
        self.coded.width
    }

    /// Lists.
    #[must_use]
    pub fn lists(&self) -> usize {
        self.partition.offsets.len() - 1
    }

    /// The centres, `[lists, width]`.
    #[must_use]
    pub fn centres(&self) -> &[f32] {
        &self.partition.centres
    }

    /// Where each list begins among the members, and where the last ends.
    #[must_use]
    pub fn offsets(&self) -> Vec<i64> {
        let offsets = self.partition.offsets.iter();
        offsets.map(|&offset| offset as i64).collect()
    }

    /// Row numbers, list by list.
    #[must_use]
    pub fn members(&self) -> Vec<i32> {
        let members = self.partition.members.iter();
        members.map(|&row| row as i32).collect()
    }

    /// Pieces of the search of all rows for their neighbours.
    #[must_use]
    pub fn pieces(&self) -> usize {
        self.rows().div_ceil(BLOCK)
    }

    /// The `k` nearest rows of each of `queries` among those of the `probes` nearest lists.
    ///
    /// # Errors
    /// Another width than the table's, a NaN or infinite entry, or a `k` or `probes` of 0.
    pub fn search(
        &self,
        table: Vectors<'_>,
        queries: Vectors<'_>,
        k: usize,
        probes: usize,
    ) -> Result<Neighbours> {
        self.check(table, k, probes)?;
        self.threads.pool()?.install(|| {
            let coded = self.coded.queries(queries)?;
            let asked = Coded::asked(queries, &coded);
            // Fewer at once where that gives every thread something to do.
            let threads = rayon::current_num_threads();
            let block = queries.rows.div_ceil(threads).clamp(1, BLOCK);
            self.look(table, &asked, 0..queries.rows, (k, probes, block))
        })
    }

    /// The `k` nearest of the table's own rows of some pieces, each row left out of its own list; the rows' numbers
    /// first.
    ///
    /// # Errors
    /// Pieces beyond the last, a `k` or `probes` of 0, or inner products.
    pub fn search_pieces(
        &self,
        table: Vectors<'_>,
        pieces: Range<usize>,
        k: usize,
        probes: usize,
    ) -> Result<(Vec<i32>, Neighbours)> {
        self.check(table, k, probes)?;
        self.coded.check_own()?;
        if pieces.start > pieces.end || pieces.end > self.pieces() {
            let message = format!("{pieces:?} of {}", self.pieces());
            return Err(Error::argument("pieces", message));
        }
        let places = pieces.start * BLOCK..self.rows().min(pieces.end * BLOCK);
        let asked = self.coded.own(table);
        let found = self
            .threads
            .pool()?
            .install(|| self.look(table, &asked, places.clone(), (k, probes, BLOCK)))?;
        let rows = places.map(|place| self.coded.row_at(place as u32) as i32);
        Ok((rows.collect(), found))
    }

    /// How much of the `k` nearest would be found with 1, 2, ... lists, measured on a sample.
    ///
    /// # Errors
    /// A `k` of 0, queries that do not fit, an empty sample, or inner products and a sample of the table's own rows.
    pub fn recalls(&self, table: Vectors<'_>, sample: Sample<'_>, k: usize) -> Result<Recalls> {
        self.check(table, k, 1)?;
        self.threads.pool()?.install(|| match sample {
            Sample::Own(count, first) => {
                self.coded.check_own()?;
                let runs = self.runs(count, first);
                let asked = self.coded.own(table);
                self.recalls_of(table, &asked, &runs, k)
            }
            Sample::Queries(queries) => {
                let coded = self.coded.queries(queries)?;
                let asked = Coded::asked(queries, &coded);
                self.recalls_of(table, &asked, std::slice::from_ref(&(0..queries.rows)), k)
            }
        })
    }

    /// Short runs of places all over the table.
    fn runs(&self, count: usize, first: usize) -> Vec<Range<usize>> {
        let rows = self.rows();
        let runs = count.div_ceil(RUN).min(rows.div_ceil(RUN)).max(1);
        (0..runs)
            .map(|run| {
                let start = (run * rows / runs)
                    .saturating_add(first)
                    .min(rows.saturating_sub(RUN));
                start..rows.min(start + RUN)
            })
            .collect()
    }

    fn recalls_of(
        &self,
        table: Vectors<'_>,
        asked: &Asked<'_>,
        runs: &[Range<usize>],
        k: usize,
    ) -> Result<Recalls> {
        let lists = self.lists();
        let mut list_of_row = vec![0_u32; self.rows()];
        for (list, bounds) in self.partition.offsets.windows(2).enumerate() {
            for place in bounds[0]..bounds[1] {
                list_of_row[self.coded.row_at(place as u32) as usize] = list as u32;
            }
        }
        let (mut sums, mut squares, mut asked_rows) = (vec![0.0; lists], vec![0.0; lists], 0_usize);
        for run in runs {
            let exact = self.look(table, asked, run.clone(), (k, lists, BLOCK))?;
            let order = self.nearest_lists(asked, run.clone(), lists);
            for (slot, ids) in exact.ids.chunks(k).enumerate() {
                let mut rank = vec![0; lists];
                for (place, &list) in order[slot * lists..(slot + 1) * lists].iter().enumerate() {
                    rank[list as usize] = place;
                }
                let mut found = vec![0_u32; lists];
                let neighbours = ids.iter().filter(|&&id| id >= 0);
                for &id in neighbours.clone() {
                    found[rank[list_of_row[id as usize] as usize]] += 1;
                }
                let all = neighbours.count();
                if all == 0 {
                    continue;
                }
                asked_rows += 1;
                let mut so_far = 0;
                for (place, found) in found.into_iter().enumerate() {
                    so_far += found;
                    let recall = f64::from(so_far) / all as f64;
                    sums[place] += recall;
                    squares[place] += recall * recall;
                }
            }
        }
        if asked_rows == 0 {
            return Err(Error::argument("sample", "no row of it has neighbours"));
        }
        let count = asked_rows as f64;
        let mean: Vec<f64> = sums.iter().map(|sum| sum / count).collect();
        let error = mean
            .iter()
            .zip(squares)
            .map(|(mean, square)| ((square / count - mean * mean).max(0.0) / count).sqrt())
            .collect();
        Ok(Recalls { mean, error })
    }

    fn check(&self, table: Vectors<'_>, k: usize, probes: usize) -> Result<()> {
        self.coded.check(table, k)?;
        if probes == 0 {
            return Err(Error::argument(
                "probes",
                "0; at least 1 list is looked into",
            ));
        }
        Ok(())
    }

    /// The nearest lists of each of some asked rows, nearest first, `[rows, probes]`.
    fn nearest_lists(&self, asked: &Asked<'_>, rows: Range<usize>, probes: usize) -> Vec<u32> {
        let mut nearest = Vec::with_capacity(rows.len() * probes);
        let mut order: Vec<(f32, u32)> = Vec::new();
        let kernel = self.coded.kernel;
        self.centres
            .estimates(kernel, asked.codes, rows, |_, estimates| {
                order.clear();
                order.extend(estimates.iter().copied().zip(0..));
                let by_estimate =
                    |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
                if probes < order.len() {
                    order.select_nth_unstable_by(probes - 1, by_estimate);
                    order.truncate(probes);
                }
                order.sort_unstable_by(by_estimate);
                nearest.extend(order.iter().map(|&(_, list)| list));
            });
        nearest
    }

    fn look(
        &self,
        table: Vectors<'_>,
        asked: &Asked<'_>,
        rows: Range<usize>,
        (k, probes, block): (usize, usize, usize),
    ) -> Result<Neighbours> {
        let probes = probes.min(self.lists());
        let size = self.coded.size(k, block * rayon::current_num_threads());
        answers(rows.len(), k, block, |chunk, answer| {
            let start = rows.start + chunk * block;
            let rows = start..rows.end.min(start + block);
            let lists = self.nearest_lists(asked, rows.clone(), probes);
            let mut survivors: Vec<Survivors> =
                rows.clone().map(|_| Survivors::default()).collect();
            let mut limits = vec![f32::NEG_INFINITY; rows.len()];
            // The nearest list of each first: from then on much is too far.
            let mut visits: Vec<(bool, u32, u32)> = lists
                .iter()
                .enumerate()
                .map(|(at, &list)| (at % probes > 0, list, (start + at / probes) as u32))
                .collect();
            visits.sort_unstable();
            let mut panels = Panels::new(self.coded.codes.width);
            let mut found: Vec<Pair> = Vec::new();
            for visit in visits.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
                panels.pack(asked.codes, visit.iter().map(|&(_, _, row)| row));
                let kept = (size, &mut survivors[..], &mut limits[..]);
                let places = self.places(visit[0].1);
                let slot = |row: u32| row as usize - start;
                self.coded
                    .screen(asked, &mut panels, places, kept, slot, &mut found);
            }
            for ((row, survivors), lists) in rows.zip(survivors).zip(lists.chunks(probes)) {
                let places: Vec<_> = lists.iter().map(|&list| self.places(list)).collect();
                let best = self
                    .coded
                    .rank(table, asked, row, survivors, size.k, &places);
                answer(row - start, best);
            }
        })
    }

    fn places(&self, list: u32) -> Range<usize> {
        let offsets = &self.partition.offsets[list as usize..];
        offsets[0]..offsets[1]
    }
}

#[cfg(test)]
#[path = "lists_tests.rs"]
mod tests;
