//! Sequences, batches, negatives, similar users and table reading for `llm-esr`; knows nothing of Python.

pub mod batches;
pub mod candidates;
pub mod errors;
pub mod loader;
pub mod mapped;
pub mod negatives;
pub mod pool;
pub mod rng;
pub mod seen;
pub mod sequences;
pub mod similar;
pub mod smoothing;
pub mod store;
pub mod tables;

pub use errors::{Error, Result};
