//! Counter-based random numbers (Philox4x64-10): a pure function of their key.
