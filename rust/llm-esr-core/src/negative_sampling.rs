//! Which negatives there are, what they are drawn from, and how.

use crate::choice::Choice;
use crate::{Error, Result};

/// Which negatives a batch carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NegativeSampling {
    /// N for the whole step, and which of them each user met.
    Shared,
    /// N for each target, never an item that the user met.
    Own,
    /// The step's own targets, each as often as it is one, and which of them each user met.
    InBatch,
}

impl Choice for NegativeSampling {
    const OPTION: &'static str = "negatives";
    const NAMES: &'static [(&'static str, Self)] = &[
        ("shared", Self::Shared),
        ("own", Self::Own),
        ("in-batch", Self::InBatch),
    ];
    const OPTIONAL: bool = true;
}

/// How negatives are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// All items alike.
    Uniform,
    /// By the training count to the power of the exponent.
    Popularity,
}

impl Choice for Distribution {
    const OPTION: &'static str = "distribution";
    const NAMES: &'static [(&'static str, Self)] =
        &[("uniform", Self::Uniform), ("popularity", Self::Popularity)];
}

impl Distribution {
    /// The weight of an item that training met `count` times.
    pub(crate) fn weight(self, count: u64, exponent: f64) -> f64 {
        match self {
            Self::Uniform => 1.0,
            Self::Popularity => (count as f64).powf(exponent),
        }
    }

    /// Checks the exponent, where there is one.
    ///
    /// # Errors
    /// No number from 0 up.
    pub fn check(self, exponent: f64) -> Result<()> {
        if self == Self::Popularity && !(0.0..=100.0).contains(&exponent) {
            let message = format!("{exponent:?}; expected a number from 0 up");
            return Err(Error::argument("exponent", message));
        }
        Ok(())
    }
}

/// What negatives are drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drawable {
    /// The items that training met.
    Training,
    /// All items.
    All,
}

impl Choice for Drawable {
    const OPTION: &'static str = "catalogue";
    const NAMES: &'static [(&'static str, Self)] =
        &[("training", Self::Training), ("all", Self::All)];
}
