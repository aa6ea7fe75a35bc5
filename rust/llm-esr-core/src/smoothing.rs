//! Targets replaced by their nearest items in the embedding space.
