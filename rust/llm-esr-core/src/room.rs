//! Memory for arrays whose size comes from outside: asked for, not taken for granted.

use crate::{Error, Result};

/// An empty vector with room for `rows * width` entries.
///
/// # Errors
/// The product does not fit, or the machine has not that much; `argument` is what asked for it.
pub fn room<T>(rows: usize, width: usize, argument: &'static str) -> Result<Vec<T>> {
    let refuse = || {
        let message = format!(
            "{rows} times {width} entries of {} bytes do not fit into memory; ask for fewer",
            size_of::<T>()
        );
        Error::argument(argument, message)
    };
    let mut made = Vec::new();
    let count = rows.checked_mul(width).ok_or_else(refuse)?;
    made.try_reserve_exact(count).map_err(|_| refuse())?;
    Ok(made)
}

/// A vector of `rows * width` times the same value.
///
/// # Errors
/// As of `room`.
pub fn filled<T: Copy>(
    value: T,
    rows: usize,
    width: usize,
    argument: &'static str,
) -> Result<Vec<T>> {
    let mut made = room(rows, width, argument)?;
    made.resize(rows * width, value);
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_an_error() {
        assert_eq!(filled(7_i32, 2, 2, "k").unwrap(), [7; 4]);
        for (rows, width) in [(usize::MAX, 2), (1 << 40, 1 << 20), (usize::MAX, 1)] {
            let error = filled(0_f32, rows, width, "k").unwrap_err().to_string();
            assert!(error.contains("do not fit into memory"), "{error}");
        }
    }
}
