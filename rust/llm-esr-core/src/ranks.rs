//! Ranks by counting, and the best items of each row, in one reading of the scores.
//!
//! Nothing is sorted to find a rank: it is one more than the number of items with a higher score. Every score is read
//! once, for the rank and for the list alike, so that the reading costs a fraction of the matrix product before it.

use std::sync::Mutex;

use pulp::{Arch, Simd, WithSimd};

use crate::best::Best;
use crate::pool::lock;
use crate::workers::Workers;
use crate::{Error, Result, filled};

/// Scores looked at together before any of them is compared alone.
const SCAN: usize = 64;
/// Bits of the number of scores that are counted before the counts are added up.
const PART_BITS: u32 = if cfg!(test) { 7 } else { 22 };
/// Scores of a task, about.
const TASK: usize = 1 << 17;

/// What is ranked: a row of scores for each history.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// `[rows, items]`; the column of an item is its id - 1.
    pub scores: &'a [f32],
    /// Items.
    pub items: usize,
    /// The item of each row whose rank is asked for, `[rows]`; empty where none is.
    pub targets: &'a [i32],
    /// Earlier items of all rows, one row's after another's, which are no competitors and in no list; empty where they are.
    pub seen: &'a [i32],
    /// Where each row's earlier items start, `[rows + 1]`; empty where there are none.
    pub offsets: &'a [i64],
    /// Length of the lists; 0 for none.
    pub k: usize,
}

/// What was found, a row each.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// Competitors of the target with a higher score.
    pub above: Vec<i64>,
    /// Competitors with the same score.
    pub tied: Vec<i64>,
    /// The best items' ids, best first, equal scores by id, `[rows, k]`; 0 where nothing above minus infinity is left.
    pub ids: Vec<i32>,
    /// Their scores; minus infinity where the id is 0.
    pub values: Vec<f32>,
    /// Whether a row holds a NaN, of which nothing can be said.
    pub unknown: Vec<bool>,
}

impl Question<'_> {
    /// Ranks and lists of all rows.
    ///
    /// # Errors
    /// Arrays that do not fit each other, or ids outside `1..=items`.
    pub fn answer(&self, workers: &dyn Workers) -> Result<Answer> {
        let rows = self.check()?;
        let mut answer = Answer {
            above: vec![0; if self.targets.is_empty() { 0 } else { rows }],
            tied: vec![0; if self.targets.is_empty() { 0 } else { rows }],
            ids: filled(0, rows, self.k, "k")?,
            values: filled(f32::NEG_INFINITY, rows, self.k, "k")?,
            unknown: vec![false; rows],
        };
        let each = (TASK / self.items.max(1)).max(1);
        let mut tasks: Vec<Task<'_>> = (0..rows.div_ceil(each))
            .map(|number| Task {
                first: number * each,
                ..Task::default()
            })
            .collect();
        for (task, part) in tasks.iter_mut().zip(answer.unknown.chunks_mut(each)) {
            task.unknown = part;
        }
        for (task, part) in tasks.iter_mut().zip(answer.above.chunks_mut(each)) {
            task.above = part;
        }
        for (task, part) in tasks.iter_mut().zip(answer.tied.chunks_mut(each)) {
            task.tied = part;
        }
        if self.k > 0 {
            for (task, part) in tasks.iter_mut().zip(answer.ids.chunks_mut(each * self.k)) {
                task.ids = part;
            }
            for (task, part) in tasks
                .iter_mut()
                .zip(answer.values.chunks_mut(each * self.k))
            {
                task.values = part;
            }
        }
        let arch = Arch::new();
        let tasks: Vec<_> = tasks.into_iter().map(Mutex::new).collect();
        workers.run(tasks.len(), &|number| {
            arch.dispatch(Chunk {
                question: self,
                task: &mut lock(&tasks[number]),
            });
        });
        drop(tasks);
        Ok(answer)
    }

    /// The number of rows.
    fn check(&self) -> Result<usize> {
        let rows = self.scores.len().checked_div(self.items).unwrap_or(0);
        if self.scores.len() != rows * self.items {
            let message = format!(
                "{} numbers; expected rows of {}",
                self.scores.len(),
                self.items
            );
            return Err(Error::argument("scores", message));
        }
        if !self.targets.is_empty() && self.targets.len() != rows {
            let message = format!(
                "{} of them; expected one for each of {rows} rows",
                self.targets.len()
            );
            return Err(Error::argument("targets", message));
        }
        let rising = self.offsets.windows(2).all(|pair| pair[0] <= pair[1]);
        let ends = (self.offsets.first(), self.offsets.last());
        let cut = match ends {
            (Some(0), Some(&end)) => {
                self.offsets.len() == rows + 1 && end == self.seen.len() as i64
            }
            (None, None) => self.seen.is_empty(),
            _ => false,
        };
        if !(rising && cut) {
            let message = format!(
                "expected {} rising numbers from 0 to {}",
                rows + 1,
                self.seen.len()
            );
            return Err(Error::argument("offsets", message));
        }
        for (name, ids) in [("targets", self.targets), ("seen", self.seen)] {
            if let Some(id) = ids.iter().find(|&&id| id < 1 || id as usize > self.items) {
                let message = format!("item {id}; expected 1 to {}", self.items);
                return Err(Error::argument(name, message));
            }
        }
        Ok(rows)
    }

    /// A row's earlier items, rising, each once.
    fn seen_by(&self, row: usize, seen: &mut Vec<i32>) {
        seen.clear();
        if !self.offsets.is_empty() {
            let range = self.offsets[row] as usize..self.offsets[row + 1] as usize;
            seen.extend_from_slice(&self.seen[range]);
            seen.sort_unstable();
            seen.dedup();
        }
    }
}

/// Some rows' part of the answer.
#[derive(Debug, Default)]
struct Task<'a> {
    first: usize,
    above: &'a mut [i64],
    tied: &'a mut [i64],
    ids: &'a mut [i32],
    values: &'a mut [f32],
    unknown: &'a mut [bool],
}

struct Chunk<'a, 'b> {
    question: &'a Question<'a>,
    task: &'a mut Task<'b>,
}

impl WithSimd for Chunk<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { question, task } = self;
        let (items, k) = (question.items, question.k);
        let (mut seen, mut best) = (Vec::new(), Best::new(k));
        for (number, unknown) in task.unknown.iter_mut().enumerate() {
            let row = task.first + number;
            let scores = &question.scores[row * items..(row + 1) * items];
            question.seen_by(row, &mut seen);
            // Without a target any mark does: what reaches it and what does not are all scores but NaN.
            let target = question.targets.get(row);
            let mark = target.map_or(0.0, |&id| scores[id as usize - 1]);
            let (above, reach, below) =
                read(simd, scores, mark, &seen, (k > 0).then_some(&mut best));
            *unknown = reach + below < items;
            if let Some(target) = target {
                let competitor = |pass: fn(&f32, &f32) -> bool| {
                    let others = seen.iter().filter(|&id| id != target);
                    others
                        .filter(|&&id| pass(&scores[id as usize - 1], &mark))
                        .count() as i64
                };
                task.above[number] = above as i64 - competitor(f32::gt);
                task.tied[number] = reach as i64 - above as i64 - 1 - competitor(f32::eq);
            }
            if k > 0 {
                for (place, (score, column)) in best.drain().enumerate() {
                    task.ids[number * k + place] = column as i32 + 1;
                    task.values[number * k + place] = score;
                }
            }
        }
    }
}

/// How many scores are above the mark, reach it, and stay below it; what is among the best goes there.
#[inline(always)]
fn read<S: Simd>(
    simd: S,
    scores: &[f32],
    mark: f32,
    seen: &[i32],
    mut best: Option<&mut Best>,
) -> (usize, usize, usize) {
    let (one, none, line) = (
        simd.splat_f32s(1.0),
        simd.splat_f32s(0.0),
        simd.splat_f32s(mark),
    );
    // Counted in single precision, which is exact up to 2^24: a part has 2^22 scores.
    let (mut above, mut reach, mut below) = (0, 0, 0);
    for (part, numbers) in scores.chunks(1 << PART_BITS).enumerate() {
        let mut sums = [none; 3];
        let (blocks, rest) = numbers.as_chunks::<SCAN>();
        for (number, block) in blocks.iter().enumerate() {
            let (vectors, _) = S::as_simd_f32s(block);
            for &score in vectors {
                let passes = [
                    simd.greater_than_f32s(score, line),
                    simd.greater_than_or_equal_f32s(score, line),
                    simd.less_than_f32s(score, line),
                ];
                for (sum, pass) in sums.iter_mut().zip(passes) {
                    *sum = simd.add_f32s(*sum, simd.select_f32s(pass, one, none));
                }
            }
            if let Some(best) = best.as_deref_mut() {
                let threshold = simd.splat_f32s(best.threshold());
                let mut any = simd.greater_than_f32s(vectors[0], threshold);
                for &score in &vectors[1..] {
                    any = simd.or_m32s(any, simd.greater_than_f32s(score, threshold));
                }
                if simd.first_true_m32s(any) < S::F32_LANES {
                    offer(best, block, (part << PART_BITS) + number * SCAN, seen);
                }
            }
        }
        let counts = sums.map(|sum| simd.reduce_sum_f32s(sum) as usize);
        let passing =
            |pass: fn(&f32, &f32) -> bool| rest.iter().filter(|&x| pass(x, &mark)).count();
        above += counts[0] + passing(f32::gt);
        reach += counts[1] + passing(f32::ge);
        below += counts[2] + passing(f32::lt);
        if let Some(best) = best.as_deref_mut() {
            offer(best, rest, (part << PART_BITS) + blocks.len() * SCAN, seen);
        }
    }
    (above, reach, below)
}

fn offer(best: &mut Best, scores: &[f32], first: usize, seen: &[i32]) {
    for (place, &score) in scores.iter().enumerate() {
        let column = first + place;
        if score > best.threshold() && seen.binary_search(&(column as i32 + 1)).is_err() {
            best.take(score, column as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workers::Alone;
    use proptest::prelude::*;

    fn slow(question: &Question<'_>, row: usize) -> (i64, i64, Vec<(i32, f32)>) {
        let scores = &question.scores[row * question.items..(row + 1) * question.items];
        let mut seen = Vec::new();
        question.seen_by(row, &mut seen);
        let target = question.targets[row];
        let mark = scores[target as usize - 1];
        let competitors = (1..=question.items as i32)
            .filter(|id| *id != target && !seen.contains(id))
            .map(|id| scores[id as usize - 1]);
        let above = competitors.clone().filter(|&x| x > mark).count() as i64;
        let tied = competitors.filter(|x| f32::eq(x, &mark)).count() as i64;
        let mut list: Vec<(i32, f32)> = (1..=question.items as i32)
            .filter(|id| !seen.contains(id))
            .map(|id| (id, scores[id as usize - 1]))
            .filter(|pair| pair.1 > f32::NEG_INFINITY)
            .collect();
        list.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        list.resize(question.k, (0, f32::NEG_INFINITY));
        (above, tied, list)
    }

    proptest! {
        #[test]
        fn counting_gives_what_sorting_gives(
            (items, scores, targets, seen) in (1_usize..300, 1_usize..6).prop_flat_map(|(items, rows)| {
                let score = prop_oneof![
                    9 => (-4_i32..4).prop_map(|x| x as f32), 1 => Just(f32::NEG_INFINITY),
                ];
                let id = 1..=items as i32;
                (
                    Just(items),
                    proptest::collection::vec(score, items * rows),
                    proptest::collection::vec(id.clone(), rows),
                    proptest::collection::vec(proptest::collection::vec(id, 0..9), rows),
                )
            }),
            k in 0_usize..12,
        ) {
            let mut offsets = vec![0];
            for row in &seen {
                offsets.push(offsets[offsets.len() - 1] + row.len() as i64);
            }
            let seen = seen.concat();
            let question = Question { scores: &scores, items, targets: &targets, seen: &seen, offsets: &offsets, k };
            let answer = question.answer(&Alone).unwrap();
            for row in 0..targets.len() {
                let (above, tied, list) = slow(&question, row);
                prop_assert_eq!((answer.above[row], answer.tied[row]), (above, tied));
                let ids: Vec<i32> = list.iter().map(|pair| pair.0).collect();
                let values: Vec<f32> = list.iter().map(|pair| pair.1).collect();
                prop_assert_eq!(&answer.ids[row * k..(row + 1) * k], ids);
                prop_assert_eq!(&answer.values[row * k..(row + 1) * k], values);
                prop_assert!(!answer.unknown[row]);
            }
        }
    }

    #[test]
    fn rows_with_a_nan_are_told() {
        let mut scores = vec![1.0; 400];
        (scores[137], scores[399]) = (f32::NAN, f32::NAN);
        for targets in [vec![], vec![5, 5, 38, 5]] {
            let question = Question {
                scores: &scores,
                items: 100,
                targets: &targets,
                seen: &[],
                offsets: &[],
                k: 2,
            };
            let answer = question.answer(&Alone).unwrap();
            assert_eq!(answer.unknown, [false, true, false, true]);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let fitting = Question {
            scores: &[0.0; 6],
            items: 3,
            targets: &[1, 3],
            seen: &[2],
            offsets: &[0, 1, 1],
            k: 1,
        };
        assert!(fitting.answer(&Alone).is_ok());
        for wrong in [
            Question {
                items: 4,
                ..fitting
            },
            Question {
                targets: &[1],
                ..fitting
            },
            Question {
                targets: &[1, 4],
                ..fitting
            },
            Question {
                seen: &[0],
                ..fitting
            },
            Question {
                offsets: &[0, 1],
                ..fitting
            },
            Question {
                offsets: &[0, 2, 1],
                ..fitting
            },
            Question {
                offsets: &[],
                ..fitting
            },
        ] {
            assert!(wrong.answer(&Alone).is_err(), "{wrong:?}");
        }
    }
}
