//! One training step's inputs: students, teachers and negatives.
