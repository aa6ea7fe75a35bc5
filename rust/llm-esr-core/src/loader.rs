//! An epoch's batches in order, prepared ahead by background threads.
