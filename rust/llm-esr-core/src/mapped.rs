//! Memory-mapped `.npy` files; the crate's only `unsafe`.
