//! What batches are made from, checked once.

use std::sync::Arc;

use crate::augmentation::{Augmentation, Ratios};
use crate::mapped::prefetch;
use crate::masking::Masking;
use crate::negatives::Catalogue;
use crate::rng::{Draws, Stream, permutation};
use crate::seen::Seen;
use crate::sequences::{Frame, Layout, Span};
use crate::smoothing::Smoothing;
use crate::store::{Histories, SimilarUsers, Store};
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
    /// The step's own targets, each as often as it is one, and which of them each user met.
    InBatch,
}

/// What a student shows of its training sequence, and a teacher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// All of it.
    Whole,
    /// All but its last item, which is the last token's target then; where items are masked, this is the teachers'
    /// alone.
    WithoutLast,
}

/// Which tokens predict the next item, where no items are masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Targets {
    /// Every token that has a next item in training.
    Every,
    /// The newest one of them.
    Last,
}

/// What a batch is made from; shared by all threads.
#[derive(Debug)]
pub struct Recipe {
    /// The interactions.
    pub store: Arc<Store>,
    /// Seed of every stream.
    pub seed: u64,
    /// How sequences are shown: students' (the mask token in the first showing alone) and teachers'.
    pub frame: Frame,
    /// How rows are laid out.
    pub layout: Layout,
    /// What is read of a training sequence.
    pub sequence: Shown,
    /// Which tokens have a target.
    pub targets: Targets,
    /// How students' items are masked, if they are.
    pub masking: Option<Masking>,
    /// How students' sequences are changed, if they are.
    pub augmentation: Option<Augmentation>,
    /// Teachers of each student, if any.
    pub similar: Option<SimilarUsers>,
    /// Negatives.
    pub kind: Kind,
    /// What negatives are drawn from; there where they are drawn and somebody trains.
    pub catalogue: Option<Catalogue>,
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

/// The options of a [`Recipe`].
#[derive(Debug, Clone)]
pub struct Options {
    /// Seed of every stream.
    pub seed: u64,
    /// A sequence's last items that are shown.
    pub max_len: usize,
    /// How rows are laid out.
    pub layout: Layout,
    /// What is read of a training sequence.
    pub sequence: Shown,
    /// Which tokens have a target.
    pub targets: Targets,
    /// Fill sequences up to `max_len` with padding tokens.
    pub padding_tokens: bool,
    /// Mask each item with this probability, and show each user twice an epoch.
    pub mask_probability: Option<f64>,
    /// End each sequence that has no masked last item in a mask token.
    pub append_mask: bool,
    /// How students' sequences are changed.
    pub augmentation: Ratios,
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
    /// A `max_len` of 0, padding tokens in packed rows, settings of masking or augmentation that do not fit, an exponent that is no
    /// number from 0 up, or a user who met every item that own negatives are drawn from.
    pub fn new(
        store: Arc<Store>,
        options: Options,
        similar: Option<SimilarUsers>,
        smoothing: Option<Smoothing>,
    ) -> Result<Self> {
        let masking = masking_of(&options, store.n_items())?;
        let augmentation = Augmentation::new(options.augmentation, store.n_items())?;
        if augmentation.is_some() && masking.is_some() {
            return Err(Error::argument(
                "augmentation",
                "it does not fit masked items, which change what is shown themselves; leave one of them out",
            ));
        }
        let frame = Frame {
            max_len: options.max_len,
            mask_token: masking
                .filter(|_| options.append_mask)
                .map(|masking| masking.token()),
            padding_tokens: options.padding_tokens,
        };
        frame.check(options.layout)?;
        if options
            .exponent
            .is_some_and(|power| !(0.0..=100.0).contains(&power))
        {
            let message = format!("{:?}; expected a number from 0 up", options.exponent);
            return Err(Error::argument("exponent", message));
        }
        let one_is_enough =
            similar.is_some() || masking.is_some() || options.sequence == Shown::WithoutLast;
        let shortest = if one_is_enough { 1 } else { 2 };
        let students = Students::of(&store, shortest);
        let drawn = !matches!(options.kind, Kind::None | Kind::InBatch);
        let catalogue = if drawn && students.len() > 0 {
            let alike = !options.only_met && options.exponent.is_none();
            Some(if alike {
                Catalogue::all(store.n_items() as u32)
            } else {
                let counts = store.training_counts();
                Catalogue::new(&counts, options.only_met, options.exponent)?
            })
        } else {
            None
        };
        store.bring_near();
        let recipe = Self {
            store,
            seed: options.seed,
            frame,
            layout: options.layout,
            sequence: options.sequence,
            targets: options.targets,
            masking,
            augmentation,
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
        let (mut seen, histories) = (Seen::new(self.store.n_items()), self.store.histories());
        for user in self.students.iter() {
            let history = histories.of(user as usize);
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

    /// Users that train: two training items, or one where there are teachers, masked items or a target for it.
    #[must_use]
    pub fn students(&self) -> &Students {
        &self.students
    }

    /// Showings of students in an epoch.
    #[must_use]
    pub fn entries(&self) -> u32 {
        self.students.len() * self.showings()
    }

    fn showings(&self) -> u32 {
        self.masking.map_or(1, |_| Masking::SHOWINGS)
    }

    /// The users and showings at places of an epoch that is not shuffled.
    pub(crate) fn entries_at(&self, places: &[u32], users: &mut Vec<i64>, showings: &mut Vec<i8>) {
        let student = |place: u32| i64::from(self.students.at(place));
        if self.masking.is_none() {
            users.extend(places.iter().map(|&place| student(place)));
            showings.resize(places.len(), 0);
        } else {
            let showing = |place: u32| (place % Masking::SHOWINGS) as i8;
            users.extend(
                places
                    .iter()
                    .map(|&place| student(place / Masking::SHOWINGS)),
            );
            showings.extend(places.iter().map(|&place| showing(place)));
        }
    }

    /// The users at places of an epoch that is not shuffled.
    pub(crate) fn students_at(&self, places: &[u32]) -> impl Iterator<Item = u32> {
        let showings = self.showings();
        places
            .iter()
            .map(move |&place| self.students.at(place / showings))
    }

    /// Asks for what `students_at` reads.
    pub(crate) fn prefetch_students(&self, places: &[u32]) {
        if let Students::Some(users) = &self.students {
            for &place in places {
                prefetch(users, (place / self.showings()) as usize);
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
        Span::last(whole.start, whole.end - left_out, self.frame.max_len)
    }

    /// How many items lie behind what is read of a training sequence that has any.
    #[inline]
    pub(crate) fn behind(&self) -> usize {
        usize::from(self.sequence == Shown::WithoutLast)
    }

    pub(crate) fn draws(&self, epoch: u64, stream: Stream, showing: i8, owner: i64) -> Draws {
        Draws::new(self.seed, epoch, stream, showing as u8, owner as u64)
    }
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
