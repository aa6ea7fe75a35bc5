//! One training step's inputs: students, teachers and negatives.

use std::path::Path;
use std::sync::Arc;

use crate::errors::{Error, Result};
use crate::mapped::MappedArray;
use crate::negatives::{Distribution, OwnStream, Sampler, contains, distinct};
use crate::rng::{Key, Stream, permutation};
use crate::sequences::{Layout, Sequences};
use crate::smoothing::Smoothing;
use crate::store::Store;

/// Which items stand against a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Negatives {
    /// None.
    None,
    /// Each target's own, never an item of the user's training sequence.
    Own,
    /// One set a step, with a mask of collisions.
    Shared,
}

/// Everything that decides what the batches hold.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of all randomness.
    pub seed: u64,
    /// Users a step, over all ranks.
    pub batch_size: usize,
    /// The newest items of a user that are read.
    pub max_len: usize,
    /// How sequences stand in rows.
    pub layout: Layout,
    /// K, 0 for no teachers.
    pub similar_users: usize,
    /// Which negatives.
    pub negatives: Negatives,
    /// N.
    pub n_negatives: usize,
    /// How likely each item is to be a negative.
    pub distribution: Distribution,
    /// Whether negatives come from the whole catalogue, or from items met in training.
    pub whole_catalogue: bool,
    /// Probability of semantic smoothing and its temperature.
    pub smoothing: Option<(f32, f32)>,
    /// This rank's number and how many there are.
    pub rank: usize,
    /// How many ranks share a step.
    pub world_size: usize,
    /// Whether an epoch is a permutation; otherwise users come in order.
    pub shuffle: bool,
}

/// The buffers of one batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The epoch.
    pub epoch: u64,
    /// The step within the epoch.
    pub step: u64,
    /// User numbers, [B].
    pub users: Vec<i64>,
    /// Which showing of the user this is, [B].
    pub showings: Vec<i8>,
    /// The users' training sequences.
    pub students: Sequences,
    /// The distinct similar users' training sequences.
    pub teachers: Sequences,
    /// Which teachers teach each student, -1 for none, [B, K].
    pub teacher_index: Vec<i64>,
    /// [M, N] or [N].
    pub negatives: Vec<i32>,
    /// Whether a shared negative is in the user's training sequence, [B, N].
    pub collision: Vec<bool>,
    seen: Vec<i32>,
    distinct_teachers: Vec<i32>,
}

/// Makes any batch of any epoch: a pure function of its settings and the data.
#[derive(Debug)]
pub struct Batcher {
    store: Arc<Store>,
    settings: Settings,
    sampler: Option<Sampler>,
    smoothing: Option<Smoothing>,
    similar_users: Option<MappedArray<i32>>,
    students: Vec<u32>,
}

impl Batcher {
    /// Opens what the settings need from the data folder.
    ///
    /// # Errors
    /// A setting out of range, a missing or misshapen file, no student, a user who met every item.
    pub fn new(store: Arc<Store>, folder: &Path, settings: Settings) -> Result<Self> {
        check(&settings)?;
        let shortest = if settings.similar_users > 0 { 1 } else { 2 };
        let students: Vec<u32> = (0..store.n_users())
            .filter(|&u| store.training(u).len() >= shortest)
            .map(|u| u as u32)
            .collect();
        let sampler = match settings.negatives {
            Negatives::None => None,
            _ => Some(Sampler::new(
                store.training_counts(),
                settings.distribution,
                settings.whole_catalogue,
            )?),
        };
        let similar_users = (settings.similar_users > 0)
            .then(|| open_similar_users(folder, store.n_users(), settings.similar_users))
            .transpose()?;
        let smoothing = settings
            .smoothing
            .map(|(probability, t)| Smoothing::open(folder, store.n_items(), probability, t))
            .transpose()?;
        let batcher = Self {
            store,
            settings,
            sampler,
            smoothing,
            similar_users,
            students,
        };
        batcher.check_that_negatives_are_left()?;
        Ok(batcher)
    }

    /// Users that are trained on.
    #[must_use]
    pub fn n_students(&self) -> usize {
        self.students.len()
    }

    /// Steps an epoch; the last may be short.
    #[must_use]
    pub fn n_steps(&self) -> u64 {
        self.students.len().div_ceil(self.settings.batch_size) as u64
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The students in the order of an epoch.
    #[must_use]
    pub fn order(&self, epoch: u64) -> Vec<u32> {
        if !self.settings.shuffle {
            return self.students.clone();
        }
        let key = Key {
            seed: self.settings.seed,
            epoch,
        };
        permutation(key, self.students.len())
            .into_iter()
            .map(|place| self.students[place as usize])
            .collect()
    }

    /// Fills `batch` with a step of an epoch, given the epoch's order.
    pub fn fill(&self, order: &[u32], epoch: u64, step: u64, batch: &mut Batch) {
        let key = Key {
            seed: self.settings.seed,
            epoch,
        };
        batch.epoch = epoch;
        batch.step = step;
        batch.users.clear();
        batch
            .users
            .extend(self.share(order, step).iter().map(|&user| i64::from(user)));
        batch.showings.clear();
        batch.showings.resize(batch.users.len(), 0);
        self.fill_students(key, batch);
        self.fill_negatives(key, batch);
        self.fill_teachers(batch);
    }

    /// This rank's users of a step: shares that differ by at most one.
    fn share<'a>(&self, order: &'a [u32], step: u64) -> &'a [u32] {
        let Settings {
            batch_size,
            rank,
            world_size,
            ..
        } = self.settings;
        let start = (step as usize * batch_size).min(order.len());
        let whole = &order[start..(start + batch_size).min(order.len())];
        &whole[whole.len() * rank / world_size..whole.len() * (rank + 1) / world_size]
    }

    fn fill_students(&self, key: Key, batch: &mut Batch) {
        let max_len = self.settings.max_len;
        batch.students.clear();
        for &user in &batch.users {
            let history = self.store.training(user as usize);
            batch.students.push_with_targets(history, max_len);
            if let Some(smoothing) = &self.smoothing {
                let mut words = key.words(user as u64, Stream::Smoothing, 0, 0);
                let start = batch.students.offsets[batch.students.len() - 1] as usize;
                for (position, target) in batch.students.targets[start..].iter_mut().enumerate() {
                    if *target > 0 {
                        *target = smoothing.replace(&mut words, position, *target);
                    }
                }
            }
        }
        batch.students.lay_out(self.settings.layout, max_len);
    }

    fn fill_negatives(&self, key: Key, batch: &mut Batch) {
        batch.negatives.clear();
        batch.collision.clear();
        let (Some(sampler), n) = (&self.sampler, self.settings.n_negatives) else {
            return;
        };
        let mut seen = std::mem::take(&mut batch.seen);
        if self.settings.negatives == Negatives::Shared {
            batch.negatives.resize(n, 0);
            sampler.shared(key, batch.step, &mut batch.negatives);
            for &user in &batch.users {
                distinct(self.store.training(user as usize), &mut seen);
                batch
                    .collision
                    .extend(batch.negatives.iter().map(|&id| contains(&seen, id)));
            }
        } else {
            for (place, &user) in batch.users.iter().enumerate() {
                distinct(self.store.training(user as usize), &mut seen);
                let mut stream = OwnStream::new(key, user as u64, 0);
                let (start, end) = (
                    batch.students.offsets[place] as usize,
                    batch.students.offsets[place + 1] as usize,
                );
                for (position, &target) in batch.students.targets[start..end].iter().enumerate() {
                    if target > 0 {
                        let filled = batch.negatives.len();
                        batch.negatives.resize(filled + n, 0);
                        sampler.own(
                            &mut stream,
                            &seen,
                            position,
                            target,
                            &mut batch.negatives[filled..],
                        );
                    }
                }
            }
        }
        batch.seen = seen;
    }

    /// Each distinct similar user with a training item once, by rising user number.
    fn fill_teachers(&self, batch: &mut Batch) {
        batch.teachers.clear();
        batch.teacher_index.clear();
        let (Some(similar), k) = (&self.similar_users, self.settings.similar_users) else {
            return;
        };
        let mut teachers = std::mem::take(&mut batch.distinct_teachers);
        teachers.clear();
        for &user in &batch.users {
            let row = &similar.row(user as usize)[..k];
            teachers.extend(
                row.iter()
                    .copied()
                    .filter(|&u| u >= 0 && !self.store.training(u as usize).is_empty()),
            );
        }
        teachers.sort_unstable();
        teachers.dedup();
        for &teacher in &teachers {
            batch
                .teachers
                .push(self.store.training(teacher as usize), self.settings.max_len);
        }
        for &user in &batch.users {
            let row = &similar.row(user as usize)[..k];
            let index = row
                .iter()
                .map(|u| teachers.binary_search(u).map_or(-1, |place| place as i64));
            batch.teacher_index.extend(index);
        }
        batch.distinct_teachers = teachers;
        batch
            .teachers
            .lay_out(self.settings.layout, self.settings.max_len);
    }

    fn check_that_negatives_are_left(&self) -> Result<()> {
        let (Some(sampler), Negatives::Own) = (&self.sampler, self.settings.negatives) else {
            return Ok(());
        };
        let mut seen = Vec::new();
        for &user in &self.students {
            let history = self.store.training(user as usize);
            if history.len() < sampler.n() {
                continue;
            }
            distinct(history, &mut seen);
            if sampler.exhausted_by(&seen) {
                let message = format!(
                    "user {user} met all {} items that may be drawn, so no negative is left; \
                     use negatives.kind shared, negatives.catalogue all, or leave the user out",
                    sampler.n()
                );
                return Err(Error::argument("negatives", message));
            }
        }
        Ok(())
    }
}

fn check(settings: &Settings) -> Result<()> {
    let positive = [
        ("batch_size", settings.batch_size),
        ("max_len", settings.max_len),
        ("world_size", settings.world_size),
        (
            "n_negatives",
            if settings.negatives == Negatives::None {
                1
            } else {
                settings.n_negatives
            },
        ),
    ];
    for (name, value) in positive {
        if value == 0 {
            return Err(Error::argument(name, "is 0, expected at least 1"));
        }
    }
    if settings.rank >= settings.world_size {
        let message = format!(
            "is {}, expected below world_size {}",
            settings.rank, settings.world_size
        );
        return Err(Error::argument("rank", message));
    }
    if let Some((probability, temperature)) = settings.smoothing {
        if !(0.0..=1.0).contains(&probability) {
            return Err(Error::argument(
                "smoothing",
                format!("is {probability}, expected 0 to 1"),
            ));
        }
        if temperature <= 0.0 || !temperature.is_finite() {
            return Err(Error::argument(
                "smoothing_temperature",
                format!("is {temperature}, expected above 0"),
            ));
        }
    }
    Ok(())
}

fn open_similar_users(folder: &Path, n_users: usize, k: usize) -> Result<MappedArray<i32>> {
    let similar = MappedArray::<i32>::open(&folder.join("similar_users.npy"), 2)?;
    let shape = similar.shape();
    if shape[0] != n_users || shape[1] < k {
        let message = format!(
            "has shape {shape:?}, expected [{n_users}, {k} or more]; run `llm-esr index` again"
        );
        return Err(Error::format(similar.path(), message));
    }
    if let Some(user) = similar
        .as_slice()
        .iter()
        .find(|&&user| user < -1 || user >= n_users as i32)
    {
        return Err(Error::format(
            similar.path(),
            format!("holds user {user}, expected 0..{n_users} or -1"),
        ));
    }
    Ok(similar)
}
