//! A table's rows in lists about centres (k-means), the same for a seed on any number of threads.
//!
//! Cosines: a row belongs to the centre of the largest cosine, and a centre is the mean of its rows at length 1.
//! Inner products: to the nearest centre, and a centre is the mean of its rows. Products are those of the codes: a row
//! between two centres may fall to either, which a search that looks into several lists does not notice.

use rayon::prelude::*;

use super::coded::Coded;
use super::codes::Codes;
use super::sweep::Panels;
use super::vectors::{Measure, Side, Values, Vectors};
use crate::rng::permutation;
use crate::{Error, Result};

/// Rounds of moving the centres.
const ROUNDS: usize = 8;
/// Rows for each centre that the rounds look at.
const SAMPLED: usize = 64;
/// Rows that one thread looks at.
const CHUNK: usize = 1020;

/// Centres, and which row belongs to which.
#[derive(Debug)]
pub(super) struct Partition {
    /// `[lists, width]`.
    pub(super) centres: Vec<f32>,
    /// Where each list begins in `members`, and where the last ends.
    pub(super) offsets: Vec<usize>,
    /// Rows, list by list, each list by rising number.
    pub(super) members: Vec<u32>,
}

impl Partition {
    /// Lists of a table whose codes are in the order of its rows.
    pub(super) fn new(table: Vectors<'_>, coded: &Coded, lists: usize, seed: u64) -> Result<Self> {
        let rows = table.rows;
        let lists = lists.clamp(1, rows.max(1));
        let count = rows.min(lists.saturating_mul(SAMPLED));
        let sample: Vec<u32> = (0..count).map(|at| (at * rows / count) as u32).collect();
        let mut centres = vec![0.0; lists * table.width];
        let first = permutation(seed, 0, count as u32);
        for (centre, at) in first.into_iter().take(lists).enumerate() {
            let row = sample[at as usize];
            move_centre(
                table,
                coded,
                &[row],
                row_of(&mut centres, centre, table.width),
            );
        }
        let sampled = coded.codes.arranged(&sample)?;
        for _ in 0..ROUNDS {
            let nearest = assign(table.width, coded, &sampled, &centres)?;
            let (offsets, members) = by_list(&nearest, lists);
            centres
                .par_chunks_mut(table.width.max(1))
                .enumerate()
                .for_each(|(list, centre)| {
                    let rows: Vec<u32> = members[offsets[list]..offsets[list + 1]]
                        .iter()
                        .map(|&at| sample[at as usize])
                        .collect();
                    move_centre(table, coded, &rows, centre);
                });
        }
        let nearest = assign(table.width, coded, &coded.codes, &centres)?;
        let (offsets, members) = by_list(&nearest, lists);
        Ok(Self {
            centres,
            offsets,
            members,
        })
    }

    /// The same centres with all rows of a table that has grown at its end.
    pub(super) fn grown(self, table: Vectors<'_>, coded: &Coded) -> Result<Self> {
        let lists = self.offsets.len() - 1;
        let mut nearest = assign(table.width, coded, &coded.codes, &self.centres)?;
        for (list, bounds) in self.offsets.windows(2).enumerate() {
            for &row in &self.members[bounds[0]..bounds[1]] {
                nearest[row as usize] = list as u32;
            }
        }
        let (offsets, members) = by_list(&nearest, lists);
        Ok(Self {
            offsets,
            members,
            ..self
        })
    }

    /// A partition that comes from outside.
    ///
    /// # Errors
    /// Offsets that do not rise from 0 to the number of members, members that are not every row once, centres of
    /// another width, or a centre that holds NaN or infinity.
    pub(super) fn checked(
        width: usize,
        rows: usize,
        (centres, offsets, members): (&[f32], &[i64], &[i32]),
    ) -> Result<Self> {
        let refuse = |message: String| Err(Error::argument("index", message));
        let lists = offsets.len().saturating_sub(1);
        if lists == 0 || lists.checked_mul(width) != Some(centres.len()) {
            return refuse(format!(
                "{} numbers are not the centres of {lists} lists of {width} numbers",
                centres.len()
            ));
        }
        if centres.iter().any(|x| !x.is_finite()) {
            return refuse("a centre holds NaN or infinity".into());
        }
        let rising = offsets.windows(2).all(|pair| pair[0] <= pair[1]);
        if offsets[0] != 0 || !rising || usize::try_from(offsets[lists]) != Ok(members.len()) {
            return refuse(format!(
                "the lists' offsets do not rise from 0 to {} members",
                members.len()
            ));
        }
        let mut met = vec![false; rows];
        for &row in members {
            match usize::try_from(row).ok().and_then(|row| met.get_mut(row)) {
                Some(met) if !*met => *met = true,
                _ => {
                    return refuse(format!(
                        "row {row} is in the lists twice or beyond {rows} rows"
                    ));
                }
            }
        }
        Ok(Self {
            centres: centres.to_vec(),
            offsets: offsets.iter().map(|&offset| offset as usize).collect(),
            members: members.iter().map(|&row| row as u32).collect(),
        })
    }
}

/// Centres as codes.
///
/// `side` is that on which the rows or queries are that they are compared with.
pub(super) fn code_centres(
    width: usize,
    coded: &Coded,
    centres: &[f32],
    side: Side,
) -> Result<Codes> {
    let rows = centres.len().checked_div(width).unwrap_or(1);
    let vectors = Vectors::new("centres", Values::Single(centres), rows, width)?;
    match coded.measure() {
        Measure::Cosine => {
            let factors = vectors.factors("centres", Measure::Cosine, Side::Table)?;
            coded.centre().codes(vectors, &factors, Side::Table)
        }
        Measure::InnerProduct => {
            let factor = coded.factors().first().copied().unwrap_or(1.0);
            let other = match side {
                Side::Table => Side::Queries,
                Side::Queries => Side::Table,
            };
            coded.centre().codes(vectors, &vec![factor; rows], other)
        }
    }
}

/// The list of each of `rows`, which are on the table's side.
fn assign(width: usize, coded: &Coded, rows: &Codes, centres: &[f32]) -> Result<Vec<u32>> {
    let centre_codes = code_centres(width, coded, centres, Side::Table)?;
    let mut panels = Panels::new(rows.width);
    panels.pack(&centre_codes, 0..centre_codes.len() as u32);
    if coded.measure() == Measure::InnerProduct {
        // The nearest centre is that of the largest x c - c c / 2.
        let factor = coded.factors().first().copied().unwrap_or(1.0);
        panels.add_offsets(|list| {
            let centre = &centres[list as usize * width..(list as usize + 1) * width];
            let square: f64 = centre.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            (-0.5 * square * factor * factor) as f32
        });
    }
    let mut nearest = vec![0; rows.len()];
    nearest
        .par_chunks_mut(CHUNK)
        .enumerate()
        .for_each(|(chunk, nearest)| {
            let start = chunk * CHUNK;
            let strip = start..start + nearest.len();
            panels.estimates(coded.kernel, rows, strip, |row, estimates| {
                let mut best = (f32::NEG_INFINITY, 0);
                for (list, &estimate) in estimates.iter().enumerate() {
                    if estimate > best.0 {
                        best = (estimate, list as u32);
                    }
                }
                nearest[row - start] = best.1;
            });
        });
    Ok(nearest)
}

/// The numbers of rows, list by list.
fn by_list(nearest: &[u32], lists: usize) -> (Vec<usize>, Vec<u32>) {
    let mut offsets = vec![0; lists + 1];
    for &list in nearest {
        offsets[list as usize + 1] += 1;
    }
    for list in 0..lists {
        offsets[list + 1] += offsets[list];
    }
    let mut next = offsets.clone();
    let mut members = vec![0; nearest.len()];
    for (row, &list) in nearest.iter().enumerate() {
        members[next[list as usize]] = row as u32;
        next[list as usize] += 1;
    }
    (offsets, members)
}

/// Moves a centre to the mean of rows; without any it stays.
fn move_centre(table: Vectors<'_>, coded: &Coded, rows: &[u32], centre: &mut [f32]) {
    if rows.is_empty() {
        return;
    }
    let mut sums = vec![0.0_f64; table.width];
    let mut room = vec![0.0; table.width];
    for &row in rows {
        let factor = match coded.measure() {
            Measure::Cosine => coded.factors()[row as usize],
            Measure::InnerProduct => 1.0,
        };
        for (sum, &x) in sums.iter_mut().zip(table.row(row as usize, &mut room)) {
            *sum += f64::from(x) * factor;
        }
    }
    for (to, sum) in centre.iter_mut().zip(sums) {
        *to = (sum / rows.len() as f64) as f32;
    }
}

fn row_of(rows: &mut [f32], number: usize, width: usize) -> &mut [f32] {
    &mut rows[number * width..(number + 1) * width]
}
