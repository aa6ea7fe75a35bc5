//! One training step's inputs: students, teachers and negatives.

use std::sync::Arc;

use crate::negatives::Catalogue;
use crate::rng::{Draws, Stream, permutation};
use crate::seen::{Collisions, Seen};
use crate::sequences::{Layout, Packer, Sequences, Span};
use crate::smoothing::Smoothing;
use crate::store::{SimilarUsers, Store};
use crate::{Error, Result};

/// Which negatives a batch carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// None.
    None,
    /// N for the whole step, and which of them each user met.
    Shared(usize),
    /// N for each target, never an item that the user met.
    Own(usize),
}

/// What a batch is made from; shared by all threads.
#[derive(Debug)]
pub struct Recipe {
    /// The interactions.
    pub store: Arc<Store>,
    /// Seed of every stream.
    pub seed: u64,
    /// A sequence's last items that are shown.
    pub max_len: usize,
    /// How rows are laid out.
    pub layout: Layout,
    /// Teachers of each student, if any.
    pub similar: Option<SimilarUsers>,
    /// Negatives.
    pub kind: Kind,
    /// What negatives are drawn from; there unless the kind is `None` or nobody trains.
    pub catalogue: Option<Catalogue>,
    /// Semantic smoothing, if any.
    pub smoothing: Option<Smoothing>,
    students: Vec<u32>,
}

/// The options of a [`Recipe`].
#[derive(Debug, Clone)]
pub struct Options {
    /// Seed of every stream.
    pub seed: u64,
    /// A sequence's last items that are shown.
    pub max_len: usize,
    /// How rows are laid out.
    pub layout: Layout,
    /// Negatives.
    pub kind: Kind,
    /// Draw negatives by training count to this power; none: uniformly.
    pub exponent: Option<f64>,
    /// Draw only items that training met.
    pub only_met: bool,
}

impl Recipe {
    /// Checks that every batch can be made.
    ///
    /// # Errors
    /// A `max_len` of 0, an exponent that is no number from 0 up, or a user who met every item that own negatives
    /// are drawn from.
    pub fn new(
        store: Arc<Store>,
        options: Options,
        similar: Option<SimilarUsers>,
        smoothing: Option<Smoothing>,
    ) -> Result<Self> {
        if options.max_len == 0 {
            return Err(Error::argument(
                "max_len",
                "0; a sequence holds at least 1 item",
            ));
        }
        if options
            .exponent
            .is_some_and(|power| !(0.0..=100.0).contains(&power))
        {
            let message = format!("{:?}; expected a number from 0 up", options.exponent);
            return Err(Error::argument("exponent", message));
        }
        let shortest = if similar.is_some() { 1 } else { 2 };
        let students: Vec<u32> = (0..store.n_users() as u32)
            .filter(|&user| store.training(user as usize).len() >= shortest)
            .collect();
        let catalogue = if options.kind == Kind::None || students.is_empty() {
            None
        } else {
            let counts = store.training_counts();
            Some(Catalogue::new(&counts, options.only_met, options.exponent)?)
        };
        let recipe = Self {
            store,
            seed: options.seed,
            max_len: options.max_len,
            layout: options.layout,
            similar,
            kind: options.kind,
            catalogue,
            smoothing,
            students,
        };
        recipe.check_complements()?;
        Ok(recipe)
    }

    /// Own negatives need an item that the user did not meet, and one more where smoothing may make it the target.
    fn check_complements(&self) -> Result<()> {
        let (Kind::Own(_), Some(catalogue)) = (self.kind, &self.catalogue) else {
            return Ok(());
        };
        let needed = 1 + usize::from(self.smoothing.is_some());
        let mut seen = Seen::new(self.store.n_items());
        for &user in &self.students {
            let history = self.store.training(user as usize);
            if history.len() + needed <= catalogue.len() {
                continue;
            }
            let unmet = catalogue.count_unmet(history, &mut seen);
            if unmet < needed {
                let message = format!(
                    "user {user} met all but {unmet} of the {} items that own negatives are drawn from, and needs \
                     {needed}; use shared negatives (negatives.kind=shared) or leave the user out",
                    catalogue.len()
                );
                return Err(Error::argument("negatives", message));
            }
        }
        Ok(())
    }

    /// Users that train: two training items, or one where there are teachers.
    #[must_use]
    pub fn students(&self) -> &[u32] {
        &self.students
    }

    /// An epoch's order: places in `students`.
    #[must_use]
    pub fn order(&self, epoch: u64) -> Vec<u32> {
        permutation(self.seed, epoch, self.students.len() as u32)
    }

    /// Makes one step's batch of the students at `places`, in `batch`'s memory.
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
        batch.users.extend(
            places
                .iter()
                .map(|&place| i64::from(self.students[place as usize])),
        );
        batch.showings.resize(places.len(), 0);
        self.fill_students(batch, scratch);
        match self.kind {
            Kind::None => {}
            Kind::Own(n) => self.fill_own(n, batch, scratch),
            Kind::Shared(n) => self.fill_shared(n, batch, scratch),
        }
        if let Some(similar) = &self.similar {
            self.fill_teachers(similar, batch, scratch);
        }
    }

    /// The whole training sequence, its last `max_len` items; each token's target is the next one.
    fn fill_students(&self, batch: &mut Batch, scratch: &mut Scratch) {
        let Scratch {
            spans,
            counting,
            packer,
            ..
        } = scratch;
        spans.clear();
        spans.extend(batch.users.iter().map(|&user| self.span(user as usize)));
        let students = &mut batch.students;
        students.gather(self.store.items().as_slice(), spans, counting);
        for (row, &user) in batch.users.iter().enumerate() {
            let (start, end) = (
                students.offsets[row] as usize,
                students.offsets[row + 1] as usize,
            );
            let next = &students.items[start + 1..end];
            let targets = &mut students.targets[start..end - 1];
            match &self.smoothing {
                None => targets.copy_from_slice(next),
                Some(smoothing) => {
                    let draws = self.draws(batch.epoch, Stream::Smoothing, user as u64);
                    smoothing.smooth(&draws, next, targets);
                }
            }
        }
        students.lay_out(self.layout, self.max_len, packer);
    }

    fn span(&self, user: usize) -> Span {
        self.store.training_span(user, self.max_len)
    }

    fn fill_own(&self, n: usize, batch: &mut Batch, scratch: &mut Scratch) {
        batch.negatives_width = n;
        let Some(catalogue) = &self.catalogue else {
            return;
        };
        let students = &batch.students;
        for (row, &user) in batch.users.iter().enumerate() {
            let history = self.store.training(user as usize);
            let draws = self.draws(batch.epoch, Stream::OwnNegatives, user as u64);
            let tokens = students.offsets[row] as usize..students.offsets[row + 1] as usize;
            let rows = (0..)
                .zip(students.targets[tokens].iter().copied())
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

    fn fill_shared(&self, n: usize, batch: &mut Batch, scratch: &mut Scratch) {
        (batch.negatives_width, batch.shared) = (n, true);
        let Some(catalogue) = &self.catalogue else {
            return;
        };
        let draws = self.draws(batch.epoch, Stream::SharedNegatives, batch.step);
        catalogue.draw_shared(&draws, n, &mut batch.negatives);
        let histories = batch
            .users
            .iter()
            .map(|&user| self.store.training(user as usize));
        scratch.collisions.fill(
            &batch.negatives,
            histories,
            &mut scratch.seen,
            &mut batch.collision,
        );
    }

    /// Each distinct similar user once, by rising number; a user without a training item teaches nobody.
    fn fill_teachers(&self, similar: &SimilarUsers, batch: &mut Batch, scratch: &mut Scratch) {
        let Scratch {
            wanted,
            sorting,
            spans,
            counting,
            packer,
            ..
        } = scratch;
        wanted.clear();
        for &user in &batch.users {
            for &other in similar.of(user as usize) {
                let place = batch.teacher_index.len() as u64;
                batch.teacher_index.push(-1);
                if other >= 0 {
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
                let span = self.span(user as usize);
                index = -1;
                if span.length > 0 {
                    index = spans.len() as i64;
                    spans.push(span);
                }
            }
            batch.teacher_index[place] = index;
        }
        let teachers = &mut batch.teachers;
        teachers.gather(self.store.items().as_slice(), spans, counting);
        teachers.lay_out(self.layout, self.max_len, packer);
    }

    fn draws(&self, epoch: u64, stream: Stream, owner: u64) -> Draws {
        Draws::new(self.seed, epoch, stream, 0, owner)
    }
}

/// Sorts (user, place) pairs, made with rising places, by user: from the lowest digit of the user to the highest.
fn sort_by_user(pairs: &mut Vec<u64>, other: &mut Vec<u64>) {
    const BITS: u32 = 10;
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
    packer: Packer,
    collisions: Collisions,
    counting: Vec<i32>,
    wanted: Vec<u64>,
    sorting: Vec<u64>,
    spans: Vec<Span>,
}

impl Scratch {
    /// Working memory for a catalogue of `n_items`.
    #[must_use]
    pub fn new(n_items: usize) -> Self {
        Self {
            seen: Seen::new(n_items),
            packer: Packer::default(),
            collisions: Collisions::default(),
            counting: Vec::new(),
            wanted: Vec::new(),
            sorting: Vec::new(),
            spans: Vec::new(),
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
    /// Which showing of the user this is, `[B]`; 0 where users are shown once an epoch.
    pub showings: Vec<i8>,
    /// The students' sequences, in the order of `users`.
    pub students: Sequences,
    /// The distinct similar users' sequences, by rising user number.
    pub teachers: Sequences,
    /// Places in `teachers`, -1 for none, `[B, K]`.
    pub teacher_index: Vec<i64>,
    /// K, 0 without teachers.
    pub similar_users: usize,
    /// Own negatives `[M, N]` or shared ones `[N]`.
    pub negatives: Vec<i32>,
    /// N, 0 without negatives.
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
        self.showings.clear();
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
