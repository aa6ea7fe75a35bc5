//! What a model reads of a history, and how sequences are laid out.

use crate::choice::Choice;
use crate::{Error, Result};

/// How sequences are laid out in the rows that attention works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Several sequences share a row as wide as the longest of them (first-fit-decreasing).
    Packed,
    /// One row a sequence, `max_len` wide, padding on the left.
    Padded,
}

impl Choice for Layout {
    const OPTION: &'static str = "layout";
    const NAMES: &'static [(&'static str, Self)] =
        &[("packed", Self::Packed), ("padded", Self::Padded)];
}

/// The window of a history that a model reads: its newest items, and the tokens around them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The most tokens there are.
    pub max_len: usize,
    /// A token behind the newest item. Where the window is full the oldest item makes room for it; positions stay
    /// what they were, so that its own is up to `max_len + 1`.
    pub mask_token: Option<i32>,
    /// Padding (item 0, position 0) before the oldest item, up to `max_len` tokens.
    pub padding_tokens: bool,
}

impl Window {
    /// The newest `max_len` items and nothing else.
    #[must_use]
    pub fn bare(max_len: usize) -> Self {
        Self {
            max_len,
            mask_token: None,
            padding_tokens: false,
        }
    }

    /// Whether it holds items alone.
    #[must_use]
    pub fn is_bare(self) -> bool {
        self.mask_token.is_none() && !self.padding_tokens
    }

    /// Checks what the window asks of the rows.
    ///
    /// # Errors
    /// A `max_len` of 0, or padding tokens in packed rows.
    pub fn check(self, layout: Layout) -> Result<()> {
        if self.max_len == 0 {
            return Err(Error::argument(
                "max_len",
                "0; a sequence holds at least 1 item",
            ));
        }
        if self.padding_tokens && layout == Layout::Packed {
            return Err(Error::argument(
                "padding_tokens",
                "sequences filled up to max_len cannot share rows; use layout 'padded' (train.layout=padded)",
            ));
        }
        Ok(())
    }
}
