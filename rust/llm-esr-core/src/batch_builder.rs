//! What batches are made from, opened and checked once.

use std::path::Path;
use std::sync::Arc;

use crate::augmentation::Augmentation;
use crate::histories::Histories;
use crate::mapped::prefetch;
use crate::masking::Masking;
use crate::negative_sampling::{Distribution, Drawable, NegativeSampling};
use crate::negatives::{Catalogue, Negatives};
use crate::options::{Options, Targets, TrainingPart};
use crate::rng::{Draws, Stream, permutation};
use crate::seen::Seen;
use crate::sequences::Span;
use crate::smoothing::Smoothing;
use crate::store::{SimilarUsers, Store};
use crate::window::{Layout, Window};
use crate::{Error, Result};

/// What is read of a training sequence, and how it is laid out.
#[derive(Debug)]
pub struct Reading {
    /// The window: students' (the mask token in the first masking pass alone) and teachers'.
    pub window: Window,
    /// How rows are laid out.
    pub layout: Layout,
    /// Which part of the sequence.
    pub part: TrainingPart,
    /// Which tokens have a target.
    pub targets: Targets,
}

/// What a batch is made from; shared by all threads.
#[derive(Debug)]
pub struct BatchBuilder {
    /// The interactions.
    pub store: Arc<Store>,
    /// Seed of every stream.
    pub seed: u64,
    /// What is read.
    pub reading: Reading,
    /// How students' items are masked, if they are.
    pub masking: Option<Masking>,
    /// How students' sequences are changed, if they are.
    pub augmentation: Option<Augmentation>,
    /// Teachers of each student, if any.
    pub similar: Option<SimilarUsers>,
    /// Negatives, if any.
    pub negatives: Option<Negatives>,
    /// Semantic smoothing, if any.
    pub smoothing: Option<Smoothing>,
    students: Students,
}

/// The users that train, by rising number.
#[derive(Debug)]
pub enum Students {
    /// All of so many: a list of ten million would lie far from the processor.
    All(u32),
    /// These.
    Some(Vec<u32>),
}

impl Students {
    /// Those with a training sequence of `shortest` items or more.
    fn of(store: &Store, shortest: usize) -> Self {
        let n_users = store.n_users() as u32;
        let histories = store.histories();
        let trains = |&user: &u32| histories.range(user as usize).len() >= shortest;
        if (0..n_users).all(|user| trains(&user)) {
            Self::All(n_users)
        } else {
            Self::Some((0..n_users).filter(trains).collect())
        }
    }

    /// How many there are.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u32 {
        match self {
            Self::All(n_users) => *n_users,
            Self::Some(users) => users.len() as u32,
        }
    }

    /// One of them.
    #[must_use]
    #[inline]
    pub fn at(&self, number: u32) -> u32 {
        match self {
            Self::All(_) => number,
            Self::Some(users) => users[number as usize],
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        (0..self.len()).map(|number| self.at(number))
    }
}

impl BatchBuilder {
    /// Opens what batches are made from in a data folder, and checks that every batch can be made.
    ///
    /// # Errors
    /// A missing or damaged file, a `max_len` of 0, padding tokens in packed rows, settings of masking or augmentation
    /// that do not fit, an exponent that is no number from 0 up, or a user who met every item that own negatives are
    /// drawn from.
    pub fn open(store: Arc<Store>, folder: &Path, options: &Options) -> Result<Self> {
        let similar = (options.similar_users > 0)
            .then(|| SimilarUsers::open(folder, store.n_users(), options.similar_users))
            .transpose()?;
        // Not `> 0.0`: an argument that is no probability must reach its check.
        let smoothing = (options.smoothing != 0.0)
            .then(|| {
                let (probability, temperature) = (options.smoothing, options.smoothing_temperature);
                Smoothing::open(folder, store.n_items(), probability, temperature)
            })
            .transpose()?;
        let masking = masking_of(options, store.n_items())?;
        let augmentation = Augmentation::new(options.augmentation, store.n_items())?;
        if augmentation.is_some() && masking.is_some() {
            return Err(Error::argument(
                "augmentation",
                "it does not fit masked items, which change what is shown themselves; leave one of them out",
            ));
        }
        let reading = Reading::new(options, masking.as_ref())?;
        let one_is_enough =
            similar.is_some() || masking.is_some() || options.sequence == TrainingPart::WithoutLast;
        let students = Students::of(
            &store,
            options.least_items.max(if one_is_enough { 1 } else { 2 }),
        );
        let negatives = options
            .negatives
            .map(|sampling| negatives_of(options, sampling, &store, &students))
            .transpose()?;
        store.align_training_in_background();
        let builder = Self {
            store,
            seed: options.seed,
            reading,
            masking,
            augmentation,
            similar,
            negatives,
            smoothing,
            students,
        };
        builder.check_complements()?;
        Ok(builder)
    }

    /// Own negatives need an item that the user did not meet, and one more where smoothing may make it the target.
    fn check_complements(&self) -> Result<()> {
        let Some(Negatives {
            sampling: NegativeSampling::Own,
            catalogue: Some(catalogue),
            ..
        }) = &self.negatives
        else {
            return Ok(());
        };
        let needed = 1 + usize::from(self.smoothing.is_some());
        let (mut seen, histories) = (Seen::new(self.store.n_items()), self.store.histories());
        for user in self.students.iter() {
            let history = histories.of(user as usize);
            if history.len() + needed <= catalogue.len() {
                continue;
            }
            let unseen = catalogue.count_unseen(history, &mut seen);
            if unseen < needed {
                let message = format!(
                    "user {user} (their row in users.parquet) met all but {unseen} of the {} items that own negatives \
                     are drawn from, and needs {needed}; use shared negatives (negatives.kind=shared) or leave the user out",
                    catalogue.len()
                );
                return Err(Error::argument("negatives", message));
            }
        }
        Ok(())
    }

    /// Users that train: two training items, or one where there are teachers, masked items or a target for it.
    #[must_use]
    pub fn students(&self) -> &Students {
        &self.students
    }

    /// Masking passes of students in an epoch.
    #[must_use]
    pub fn entries(&self) -> u32 {
        self.students.len() * self.masking_passes()
    }

    fn masking_passes(&self) -> u32 {
        self.masking.map_or(1, |_| Masking::PASSES)
    }

    /// The users and masking passes at places of an epoch that is not shuffled.
    pub(crate) fn entries_at(
        &self,
        places: &[u32],
        users: &mut Vec<i64>,
        masking_passes: &mut Vec<i8>,
    ) {
        let student = |place: u32| i64::from(self.students.at(place));
        if self.masking.is_none() {
            users.extend(places.iter().map(|&place| student(place)));
            masking_passes.resize(places.len(), 0);
        } else {
            let masking_pass = |place: u32| (place % Masking::PASSES) as i8;
            users.extend(places.iter().map(|&place| student(place / Masking::PASSES)));
            masking_passes.extend(places.iter().map(|&place| masking_pass(place)));
        }
    }

    /// The users at places of an epoch that is not shuffled.
    pub(crate) fn students_at(&self, places: &[u32]) -> impl Iterator<Item = u32> {
        let masking_passes = self.masking_passes();
        places
            .iter()
            .map(move |&place| self.students.at(place / masking_passes))
    }

    /// Asks for what `students_at` reads.
    pub(crate) fn prefetch_students(&self, places: &[u32]) {
        if let Students::Some(users) = &self.students {
            for &place in places {
                prefetch(users, (place / self.masking_passes()) as usize);
            }
        }
    }

    /// An epoch's order: places of entries.
    #[must_use]
    pub fn order(&self, epoch: u64) -> Vec<u32> {
        permutation(self.seed, epoch, self.entries())
    }

    /// Where the newest items of what is read of a user's training sequence lie.
    #[inline]
    pub(crate) fn span(&self, histories: Histories<'_>, user: usize) -> Span {
        let whole = histories.range(user);
        let left_out = whole.len().min(self.behind());
        Span::last(
            whole.start,
            whole.end - left_out,
            self.reading.window.max_len,
        )
    }

    /// How many items lie behind what is read of a training sequence that has any.
    #[inline]
    pub(crate) fn behind(&self) -> usize {
        usize::from(self.reading.part == TrainingPart::WithoutLast)
    }

    pub(crate) fn draws(&self, epoch: u64, stream: Stream, masking_pass: i8, owner: i64) -> Draws {
        Draws::new(self.seed, epoch, stream, masking_pass as u8, owner as u64)
    }
}

impl Reading {
    fn new(options: &Options, masking: Option<&Masking>) -> Result<Self> {
        let window = Window {
            max_len: options.max_len,
            mask_token: masking.filter(|_| options.append_mask).map(Masking::token),
            padding_tokens: options.padding_tokens,
        };
        window.check(options.layout)?;
        Ok(Self {
            window,
            layout: options.layout,
            part: options.sequence,
            targets: options.targets,
        })
    }
}

fn negatives_of(
    options: &Options,
    sampling: NegativeSampling,
    store: &Store,
    students: &Students,
) -> Result<Negatives> {
    let count = options.n_negatives;
    let mut negatives = Negatives {
        sampling,
        count,
        catalogue: None,
    };
    if sampling == NegativeSampling::InBatch {
        return Ok(negatives);
    }
    if count == 0 {
        return Err(Error::argument(
            "n_negatives",
            "0; expected at least 1, or negatives=None",
        ));
    }
    let (drawable, distribution) = (options.catalogue, options.distribution);
    distribution.check(options.exponent)?;
    if students.len() > 0 {
        let alike = drawable == Drawable::All && distribution == Distribution::Uniform;
        negatives.catalogue = Some(if alike {
            Catalogue::all(store.n_items() as u32)
        } else {
            let counts = store.training_counts();
            Catalogue::new(&counts, drawable, distribution, options.exponent)?
        });
    }
    Ok(negatives)
}

fn masking_of(options: &Options, n_items: usize) -> Result<Option<Masking>> {
    let Some(probability) = options.mask_probability else {
        if options.append_mask {
            return Err(Error::argument(
                "append_mask",
                "there are no mask tokens without masked items; give mask_probability too",
            ));
        }
        return Ok(None);
    };
    if options.targets == Targets::Last {
        return Err(Error::argument(
            "targets",
            "'last' does not fit masked items, which are the targets; use 'every' or no mask_probability",
        ));
    }
    Masking::new(probability, n_items).map(Some)
}
