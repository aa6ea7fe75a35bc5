//! Flat tokens with offsets, and where each stands in the attention's rows.
