//! CSV and TSV rows with their physical line numbers.
