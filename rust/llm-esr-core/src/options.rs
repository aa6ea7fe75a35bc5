//! The options of a loader.

use crate::augmentation::Ratios;
use crate::choice::Choice;
use crate::negative_sampling::{Distribution, Drawable, NegativeSampling};
use crate::window::Layout;

/// What is read of a student's training sequence, and of a teacher's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrainingPart {
    /// All of it.
    Whole,
    /// All but its last item, which is the last token's target then; where items are masked, this is the teachers'
    /// alone.
    WithoutLast,
}

impl Choice for TrainingPart {
    const OPTION: &'static str = "sequence";
    const NAMES: &'static [(&'static str, Self)] =
        &[("whole", Self::Whole), ("without-last", Self::WithoutLast)];
}

/// Which tokens predict the next item, where no items are masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Targets {
    /// Every token that has a next item in training.
    Every,
    /// The newest one of them.
    Last,
}

impl Choice for Targets {
    const OPTION: &'static str = "targets";
    const NAMES: &'static [(&'static str, Self)] = &[("every", Self::Every), ("last", Self::Last)];
}

/// What the batches of a loader depend on, beside the data. `LoaderOptions` is the same in Python, field by field.
#[derive(Debug, Clone)]
pub struct Options {
    /// Seed of every stream.
    pub seed: u64,
    /// Entries of an epoch's order in a step, over all ranks.
    pub batch_size: usize,
    /// A sequence's last items that are read.
    pub max_len: usize,
    /// How rows are laid out.
    pub layout: Layout,
    /// What is read of a training sequence.
    pub sequence: TrainingPart,
    /// Which tokens have a target.
    pub targets: Targets,
    /// Fill sequences up to `max_len` with padding tokens.
    pub padding_tokens: bool,
    /// Mask each item with this probability, and pass over each user twice an epoch.
    pub mask_probability: Option<f64>,
    /// End each sequence that has no masked last item in a mask token.
    pub append_mask: bool,
    /// How students' sequences are changed.
    pub augmentation: Ratios,
    /// Teachers of a student; 0: none.
    pub similar_users: usize,
    /// Which negatives a batch carries, if any.
    pub negatives: Option<NegativeSampling>,
    /// How many they are, where they are drawn.
    pub n_negatives: usize,
    /// How they are drawn.
    pub distribution: Distribution,
    /// Power of the training count, for the distributions that have one.
    pub exponent: f64,
    /// What they are drawn from.
    pub catalogue: Drawable,
    /// How likely a target is replaced by one of its nearest items; 0: never.
    pub smoothing: f64,
    /// Nearest items are drawn by softmax(score / temperature).
    pub smoothing_temperature: f64,
    /// Training items that a student has at least.
    pub least_items: usize,
    /// A new order each epoch; else by rising user number.
    pub shuffle: bool,
}
