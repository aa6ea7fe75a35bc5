//! Items a user never met, uniform or by popularity.
