//! Sequences that are changed on the operator to a student: cropped, masked in part, or reordered in part.
//!
//! Xie et al., "Contrastive learning for sequential recommendation" (2022), section 3.2, here for training itself.

use crate::rng::{Bound, Draws};
use crate::{Error, Result};

/// Draws of a masking pass: whether, how, where the part starts, one spare, then one for each place of the window.
const COIN: u64 = 0;
const WHICH: u64 = 1;
const START: u64 = 2;
const PLACES: u64 = 4;

/// The options of an [`Augmentation`]; a ratio of 0 is off.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ratios {
    /// How likely a student is changed in an epoch.
    pub probability: f64,
    /// The share of the window that a crop keeps.
    pub crop: f64,
    /// The share of the shown items that show the mask token.
    pub mask: f64,
    /// The share of the window that is shuffled.
    pub reorder: f64,
}

/// How students are changed.
#[derive(Debug, Clone)]
pub struct Augmentation {
    chance: u64,
    operators: Vec<Operator>,
    which: Bound,
    token: i32,
}

/// One operator to change a window, with its ratio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Operator {
    /// A part that lies together is kept.
    Crop(f64),
    /// Some of the shown items show the mask token; targets stay.
    Mask(f64),
    /// A part that lies together is shuffled.
    Reorder(f64),
}

impl Augmentation {
    /// None where all is off.
    ///
    /// # Errors
    /// A number outside 0 to 1.
    pub fn new(ratios: Ratios, n_items: usize) -> Result<Option<Self>> {
        let named = [
            ("probability", ratios.probability),
            ("crop", ratios.crop),
            ("mask", ratios.mask),
            ("reorder", ratios.reorder),
        ];
        if let Some((name, ratio)) = named.iter().find(|(_, r)| !(0.0..=1.0).contains(r)) {
            let message = format!("{name} is {ratio}; expected a number from 0 to 1");
            return Err(Error::argument("augmentation", message));
        }
        let operators: Vec<Operator> = [
            (ratios.crop, Operator::Crop(ratios.crop)),
            (ratios.mask, Operator::Mask(ratios.mask)),
            (ratios.reorder, Operator::Reorder(ratios.reorder)),
        ]
        .into_iter()
        .filter_map(|(ratio, operator)| (ratio > 0.0).then_some(operator))
        .collect();
        if operators.is_empty() || ratios.probability == 0.0 {
            return Ok(None);
        }
        Ok(Some(Self {
            chance: (ratios.probability * 4_294_967_296.0).round() as u64,
            which: Bound::new(operators.len() as u32),
            operators,
            token: n_items as i32 + 1,
        }))
    }

    /// How a student is changed in this masking pass, if it is: one of the operators that are on, all alike.
    #[must_use]
    pub fn choose(&self, draws: &Draws) -> Option<Operator> {
        (u64::from(draws.word(COIN, 0)) < self.chance)
            .then(|| self.operators[draws.below(WHICH, self.which, 0) as usize])
    }

    /// Crops or reorders a window of items, the last target included; what has fewer than two stays.
    pub fn change(operator: Operator, draws: &Draws, window: &mut Vec<i32>) {
        let n = window.len();
        let (ratio, least) = match operator {
            Operator::Mask(_) => return,
            // An item and its target are left.
            Operator::Crop(ratio) => (ratio, 2),
            Operator::Reorder(ratio) => (ratio, 0),
        };
        let length = share(ratio, n).max(least);
        if n < 2 || length < 2 {
            return;
        }
        let start = draws.below(START, Bound::new((n - length + 1) as u32), 0) as usize;
        let part = start..start + length;
        if let Operator::Crop(_) = operator {
            window.copy_within(part, 0);
            window.truncate(length);
        } else {
            let part = &mut window[part];
            for place in (1..part.len()).rev() {
                let bound = Bound::new(place as u32 + 1);
                part.swap(place, draws.below(PLACES + place as u64, bound, 0) as usize);
            }
        }
    }

    /// Shows the mask token in place of a share of the items, each set of places as likely as another.
    pub fn mask(&self, ratio: f64, draws: &Draws, shown: &mut [i32]) {
        let (n, mut left) = (shown.len(), share(ratio, shown.len()));
        for (place, item) in shown.iter_mut().enumerate() {
            let bound = Bound::new((n - place) as u32);
            if (draws.below(PLACES + place as u64, bound, 0) as usize) < left {
                *item = self.token;
                left -= 1;
            }
        }
    }
}

/// How many of `n` a ratio is, rounded down.
fn share(ratio: f64, n: usize) -> usize {
    (ratio * n as f64) as usize
}
