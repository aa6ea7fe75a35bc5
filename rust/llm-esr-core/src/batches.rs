//! One training step's inputs: students, teachers and negatives.

use crate::batch_builder::BatchBuilder;
use crate::histories::Histories;
use crate::negative_sampling::NegativeSampling;
use crate::negatives::Negatives;
use crate::rng::Stream;
use crate::seen::{Collisions, Seen};
use crate::sequences::{Sequences, Span, Workspace};
use crate::store::SimilarUsers;

impl BatchBuilder {
    /// Makes one step's batch of the entries at `places`, in `batch`'s memory.
    pub fn fill(
        &self,
        epoch: u64,
        step: u64,
        places: &[u32],
        scratch: &mut Scratch,
        batch: &mut Batch,
    ) {
        batch.clear();
        (batch.epoch, batch.step) = (epoch, step);
        self.entries_at(places, &mut batch.users, &mut batch.masking_passes);
        // Users lie anywhere in the files. What is read next is asked for here, and comes while other work is done.
        let histories = self.store.histories();
        for &user in &batch.users {
            let span = self.span(histories, user as usize);
            histories.prefetch_items(span.start, span.length + 1);
        }
        if let Some(similar) = &self.similar {
            self.find_teachers(histories, similar, batch, scratch);
        }
        self.fill_students(histories, batch, scratch);
        if let Some(negatives) = &self.negatives {
            match negatives.sampling {
                NegativeSampling::Own => self.fill_own(negatives, histories, batch, scratch),
                NegativeSampling::Shared => self.fill_shared(negatives, histories, batch, scratch),
                NegativeSampling::InBatch => fill_in_batch(histories, batch, scratch),
            }
        }
        if self.similar.is_some() {
            self.fill_teachers(histories, batch, scratch);
        }
    }

    /// Asks for what the batch at `places` reads first.
    pub(crate) fn prefetch(&self, places: &[u32]) {
        let histories = self.store.histories();
        for user in self.students_at(places) {
            histories.prefetch_range(user as usize);
            if let Some(similar) = &self.similar {
                similar.prefetch(user as usize);
            }
        }
    }

    fn fill_own(
        &self,
        negatives: &Negatives,
        histories: Histories<'_>,
        batch: &mut Batch,
        scratch: &mut Scratch,
    ) {
        let n = negatives.count;
        batch.negatives_width = n;
        let Some(catalogue) = &negatives.catalogue else {
            return;
        };
        let students = &batch.students;
        for (row, (&user, &masking_pass)) in
            batch.users.iter().zip(&batch.masking_passes).enumerate()
        {
            let history = histories.of(user as usize);
            let draws = self.draws(batch.epoch, Stream::OwnNegatives, masking_pass, user);
            let rows = students
                .tokens(row)
                .map(|token| (students.place(token), students.targets[token]))
                .filter(|&(_, target)| target > 0);
            scratch.seen.mark(history);
            catalogue.draw_own(
                &draws,
                n,
                rows,
                history,
                &scratch.seen,
                &mut batch.negatives,
            );
            scratch.seen.unmark(history);
        }
    }

    fn fill_shared(
        &self,
        negatives: &Negatives,
        histories: Histories<'_>,
        batch: &mut Batch,
        scratch: &mut Scratch,
    ) {
        let n = negatives.count;
        (batch.negatives_width, batch.shared) = (n, true);
        let Some(catalogue) = &negatives.catalogue else {
            return;
        };
        let draws = self.draws(batch.epoch, Stream::SharedNegatives, 0, batch.step as i64);
        catalogue.draw_shared(&draws, n, &mut batch.negatives);
        fill_collision(histories, batch, scratch);
    }

    /// Each unique similar user once, by rising number; a user without a training item teaches nobody.
    fn find_teachers(
        &self,
        histories: Histories<'_>,
        similar: &SimilarUsers,
        batch: &mut Batch,
        scratch: &mut Scratch,
    ) {
        let Scratch {
            wanted,
            sorting,
            teachers: spans,
            ..
        } = scratch;
        wanted.clear();
        for &user in &batch.users {
            for &other in similar.of(user as usize) {
                let place = batch.teacher_index.len() as u64;
                batch.teacher_index.push(-1);
                if other >= 0 {
                    histories.prefetch_range(other as usize);
                    wanted.push((other as u64) << 32 | place);
                }
            }
        }
        batch.similar_users = similar.k();
        sort_by_user(wanted, sorting);
        spans.clear();
        let (mut before, mut index) = (u64::MAX, -1_i64);
        for &pair in &*wanted {
            let (user, place) = (pair >> 32, pair as u32 as usize);
            if user != before {
                before = user;
                index = -1;
                if !histories.range(user as usize).is_empty() {
                    index = spans.len() as i64;
                    let span = self.span(histories, user as usize);
                    histories.prefetch_items(span.start, span.length);
                    spans.push(span);
                }
            }
            batch.teacher_index[place] = index;
        }
    }

    fn fill_teachers(&self, histories: Histories<'_>, batch: &mut Batch, scratch: &mut Scratch) {
        let Scratch {
            teachers: spans,
            workspace,
            ..
        } = scratch;
        let teachers = &mut batch.teachers;
        let items = histories.items();
        if self.reading.window.is_bare() {
            teachers.gather(
                items,
                spans,
                self.reading.layout,
                self.reading.window.max_len,
                workspace,
            );
        } else {
            teachers.clear();
            for span in &*spans {
                teachers.push(
                    &items[span.start..span.start + span.length],
                    self.reading.window,
                );
            }
            teachers.lay_out(
                self.reading.layout,
                self.reading.window.max_len,
                &mut workspace.packer,
            );
        }
    }
}

/// Takes each target as negative, as often as it is one: an item comes up as often as training goes by it.
fn fill_in_batch(histories: Histories<'_>, batch: &mut Batch, scratch: &mut Scratch) {
    let targets = batch.students.targets.iter().copied();
    batch.negatives.extend(targets.filter(|&item| item > 0));
    (batch.negatives_width, batch.shared) = (batch.negatives.len(), true);
    fill_collision(histories, batch, scratch);
}

/// Says which shared negatives each student met.
fn fill_collision(histories: Histories<'_>, batch: &mut Batch, scratch: &mut Scratch) {
    let met = batch.users.iter().map(|&user| histories.of(user as usize));
    scratch.collisions.fill(
        &batch.negatives,
        met,
        &mut scratch.seen,
        &mut batch.collision,
    );
}

/// Sorts (user, place) pairs, made with rising places, by user: from the lowest digit of the user to the highest.
fn sort_by_user(pairs: &mut Vec<u64>, other: &mut Vec<u64>) {
    const BITS: u32 = 8;
    let greatest = pairs.iter().copied().max().unwrap_or(0) >> 32;
    other.clear();
    other.resize(pairs.len(), 0);
    let mut shift = 32;
    while greatest >> (shift - 32) > 0 {
        let digit = |pair: u64| (pair >> shift) as usize % (1 << BITS);
        let mut starts = [0_u32; (1 << BITS) + 1];
        for &pair in &*pairs {
            starts[digit(pair) + 1] += 1;
        }
        for k in 0..1 << BITS {
            starts[k + 1] += starts[k];
        }
        for &pair in &*pairs {
            let start = &mut starts[digit(pair)];
            other[*start as usize] = pair;
            *start += 1;
        }
        std::mem::swap(pairs, other);
        shift += BITS;
    }
}

/// One thread's working memory.
#[derive(Debug)]
pub struct Scratch {
    seen: Seen,
    pub(crate) workspace: Workspace,
    collisions: Collisions,
    wanted: Vec<u64>,
    sorting: Vec<u64>,
    pub(crate) spans: Vec<Span>,
    pub(crate) window: Vec<i32>,
    teachers: Vec<Span>,
}

impl Scratch {
    /// Working memory for a catalogue of `n_items`.
    #[must_use]
    pub fn new(n_items: usize) -> Self {
        Self {
            seen: Seen::new(n_items),
            workspace: Workspace::default(),
            collisions: Collisions::default(),
            wanted: Vec::new(),
            sorting: Vec::new(),
            spans: Vec::new(),
            window: Vec::new(),
            teachers: Vec::new(),
        }
    }
}

/// One step: B students with M targets, their K teachers, N negatives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// The epoch it belongs to.
    pub epoch: u64,
    /// The step within the epoch.
    pub step: u64,
    /// The students' user numbers, `[B]`.
    pub users: Vec<i64>,
    /// Which masking pass of the user this is, `[B]`; 0 where users are shown once an epoch.
    pub masking_passes: Vec<i8>,
    /// The students' sequences, in the order of `users`.
    pub students: Sequences,
    /// The unique similar users' sequences, by rising user number.
    pub teachers: Sequences,
    /// Places in `teachers`, -1 for none, `[B, K]`.
    pub teacher_index: Vec<i64>,
    /// K, 0 without teachers.
    pub similar_users: usize,
    /// Own negatives `[M, N]`, or the step's `[N]`: shared ones, or its targets.
    pub negatives: Vec<i32>,
    /// N, 0 without negatives (and where a step without targets takes them from its targets).
    pub negatives_width: usize,
    /// Whether the negatives are the whole step's.
    pub shared: bool,
    /// Which shared negative each user met, `[B, N]`.
    pub collision: Vec<bool>,
}

impl Batch {
    /// Forgets the step, keeps the memory; sequences are overwritten as a whole.
    fn clear(&mut self) {
        self.users.clear();
        self.masking_passes.clear();
        self.teacher_index.clear();
        self.similar_users = 0;
        self.negatives.clear();
        self.negatives_width = 0;
        self.shared = false;
        self.collision.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pairs_are_sorted_by_user_then_place(users in proptest::collection::vec(0_u64..1 << 31, 0..200)) {
            let mut pairs: Vec<u64> = (0..).zip(&users).map(|(place, user)| user << 32 | place).collect();
            let mut expected = pairs.clone();
            expected.sort_unstable();
            sort_by_user(&mut pairs, &mut Vec::new());
            prop_assert_eq!(pairs, expected);
        }
    }
}
