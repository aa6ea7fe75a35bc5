//! The options of a loader, read once from their dataclass in Python.

use llm_esr_core::Result;
use llm_esr_core::augmentation::Ratios;
use llm_esr_core::choice::Choice;
use llm_esr_core::negative_sampling::NegativeSampling;
use llm_esr_core::options::Options;
use pyo3::prelude::*;

/// `llm_esr.loading.LoaderOptions`; see there and [`Options`].
#[derive(FromPyObject)]
pub struct LoaderOptions {
    seed: u64,
    batch_size: usize,
    max_len: usize,
    layout: String,
    sequence: String,
    targets: String,
    padding_tokens: bool,
    mask_probability: Option<f64>,
    append_mask: bool,
    augmentation: Augmentation,
    similar_users: usize,
    negatives: Option<String>,
    n_negatives: usize,
    distribution: String,
    exponent: f64,
    catalogue: String,
    smoothing: f64,
    smoothing_temperature: f64,
    least_items: usize,
    shuffle: bool,
}

/// `llm_esr.loading.Augmentation`.
#[derive(FromPyObject)]
struct Augmentation {
    probability: f64,
    crop: f64,
    mask: f64,
    reorder: f64,
}

impl LoaderOptions {
    /// The core's options.
    ///
    /// # Errors
    /// A name that is none of an option's.
    pub fn read(self) -> Result<Options> {
        let Augmentation {
            probability,
            crop,
            mask,
            reorder,
        } = self.augmentation;
        Ok(Options {
            seed: self.seed,
            batch_size: self.batch_size,
            max_len: self.max_len,
            layout: Choice::named(&self.layout)?,
            sequence: Choice::named(&self.sequence)?,
            targets: Choice::named(&self.targets)?,
            padding_tokens: self.padding_tokens,
            mask_probability: self.mask_probability,
            append_mask: self.append_mask,
            augmentation: Ratios {
                probability,
                crop,
                mask,
                reorder,
            },
            similar_users: self.similar_users,
            negatives: self
                .negatives
                .as_deref()
                .map(NegativeSampling::named)
                .transpose()?,
            n_negatives: self.n_negatives,
            distribution: Choice::named(&self.distribution)?,
            exponent: self.exponent,
            catalogue: Choice::named(&self.catalogue)?,
            smoothing: self.smoothing,
            smoothing_temperature: self.smoothing_temperature,
            least_items: self.least_items,
            shuffle: self.shuffle,
        })
    }
}
