//! A data set folder's interactions, opened and checked.
