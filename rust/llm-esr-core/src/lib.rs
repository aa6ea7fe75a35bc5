//! Sequences, batches, negatives, similar users and table reading for `llm-esr`; knows nothing of Python.
//!
//! `unsafe` is denied but in `mapped.rs` (memory maps, large pages, prefetching) and `retrieval/tiles.rs` (kernels
//! for instructions that the processor may not have). The bindings have it in `arrays.rs`
//! (NumPy arrays over memory of ours) and `threads.rs` (torch's thread pool).

mod aligned_copy;
pub mod attention;
pub mod augmentation;
pub mod batch_builder;
pub mod batches;
mod best;
pub mod candidates;
pub mod catalogue_rows;
pub mod choice;
pub mod contents;
pub mod contexts;
mod copying;
pub mod dense_rows;
pub mod dropout;
pub mod errors;
pub mod histories;
pub mod loader;
mod log_q;
pub mod mapped;
pub mod masking;
pub mod negative_sampling;
pub mod negatives;
pub mod neighbour_sums;
pub mod neighbour_tables;
pub mod npy;
pub mod options;
mod packed_range;
pub mod packing;
pub mod pool;
pub mod ranks;
pub mod retrieval;
pub mod rng;
mod room;
pub mod seen;
pub mod sequences;
mod simd;
pub mod smoothing;
pub mod store;
mod students;
pub mod tables;
pub mod unique_items;
pub mod window;
pub mod workers;

pub use errors::{Error, Result};
pub(crate) use room::{filled, room};
