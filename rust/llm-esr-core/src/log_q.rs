//! How likely each item is as a negative, for the correction of losses that see a sample of the items only.
//!
//! Bengio and Senecal, "Adaptive importance sampling to accelerate training of a neural probabilistic language model",
//! 2008; for the step's own targets Yi et al., "Sampling-bias-corrected neural modeling" (2019).

use crate::batch_builder::BatchBuilder;
use crate::masking::Masking;
use crate::negative_sampling::NegativeSampling;
use crate::options::Targets;

impl BatchBuilder {
    /// The logarithm of each item's chance in one draw of a negative, before the user's items are left out,
    /// `[n_items + 1]`; index 0 is padding's and 0. None without negatives or without students.
    ///
    /// Where negatives are the step's targets it is an item's share of an epoch's targets, smoothing included, as the
    /// sequences are without augmentation. An item without a chance has the least chance of those that have one, so
    /// that no number is infinite.
    #[must_use]
    pub fn log_q(&self) -> Option<Vec<f32>> {
        let negatives = self.negatives.as_ref()?;
        let chances = if negatives.sampling == NegativeSampling::InBatch {
            let counts = self.target_counts();
            match &self.smoothing {
                None => counts,
                Some(smoothing) => smoothing.spread(&counts),
            }
        } else {
            negatives.catalogue.as_ref()?.chances(self.store.n_items())
        };
        let total: f64 = chances.iter().sum();
        let least = chances
            .iter()
            .copied()
            .filter(|&chance| chance > 0.0)
            .reduce(f64::min)?;
        let mut logs: Vec<f32> = chances
            .iter()
            .map(|chance| (chance.max(least) / total).ln() as f32)
            .collect();
        logs[0] = 0.0;
        Some(logs)
    }

    /// How often each item is a target in an epoch, in the mean over what is masked, before smoothing.
    fn target_counts(&self) -> Vec<f64> {
        let mut counts = vec![0.0; self.store.n_items() + 1];
        let histories = self.store.histories();
        for user in self.students().iter() {
            if let Some(masking) = &self.masking {
                self.count_masked(masking, histories.of(user as usize), &mut counts);
                continue;
            }
            let (span, behind) = (self.span(histories, user as usize), self.behind());
            let next = &histories.items()[span.start..span.start + span.length + behind];
            // The oldest item follows none that is shown, unless padding is.
            let from_padding =
                self.reading.window.padding_tokens && self.reading.targets == Targets::Last;
            let next = if next.len() == 1 && behind == 1 && from_padding {
                next
            } else {
                next.get(1..).unwrap_or_default()
            };
            let aimed = match self.reading.targets {
                Targets::Every => next,
                Targets::Last => &next[next.len().saturating_sub(1)..],
            };
            for &item in aimed {
                counts[item as usize] += 1.0;
            }
        }
        counts
    }

    fn count_masked(&self, masking: &Masking, history: &[i32], counts: &mut [f64]) {
        let window = &history[history.len().saturating_sub(self.reading.window.max_len)..];
        let full =
            self.reading.window.mask_token.is_some() && window.len() == self.reading.window.max_len;
        for &item in &window[usize::from(full)..] {
            counts[item as usize] += masking.probability();
        }
        if let Some(&last) = window.last() {
            counts[last as usize] += 1.0;
        }
    }
}
