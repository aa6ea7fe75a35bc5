//! Sequences, batches, negatives, similar users and table reading for `llm-esr`; knows nothing of Python.

pub mod attention;
pub mod augmentation;
pub mod batches;
mod best;
pub mod candidates;
pub mod distinct;
pub mod dropout;
pub mod errors;
pub mod loader;
mod log_q;
pub mod mapped;
pub mod masking;
mod near;
pub mod negatives;
pub mod packing;
pub mod pool;
pub mod ranks;
pub mod recipe;
pub mod rng;
pub mod seen;
pub mod sequences;
mod simd;
pub mod similar;
pub mod smoothing;
pub mod store;
mod students;
pub mod tables;
pub mod workers;

pub use errors::{Error, Result};
