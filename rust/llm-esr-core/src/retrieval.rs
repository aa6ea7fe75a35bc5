//! Nearest neighbours: vectors as int8 codes are screened, and what may be among the best is ranked by exact scores.
//!
//! - [`vectors`]: what is searched, and exact scores.
//! - [`codes`]: rows as int8 codes, each with a bound on what the codes lose.
//! - [`tiles`]: products of codes by whatever instructions the processor has.
//! - [`sweep`]: rows against columns: the pairs that may be among somebody's best.
//! - [`survivors`]: what may be among one row's best, and its exact ranking.
//! - [`coded`]: a table's codes beside its vectors, and what both sides of a search share.
//! - [`exact`]: queries against a table. [`graph`]: all rows of a table against each other.
//! - [`partition`]: rows in lists about centres. [`lists`]: the search that looks into the nearest lists alone.

pub mod coded;
pub mod codes;
pub mod exact;
pub mod graph;
pub mod lists;
mod partition;
mod survivors;
mod sweep;
pub mod tiles;
pub mod vectors;
