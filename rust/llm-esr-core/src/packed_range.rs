//! Where a sequence starts and how long it is, in one number: one cache line a user where the files have two or three.

/// Bits of the length; a longer sequence has them all set, and its length is looked up elsewhere.
pub(crate) const LENGTH_BITS: u32 = if cfg!(test) { 4 } else { 24 };
pub(crate) const LONG: i64 = (1 << LENGTH_BITS) - 1;

/// The start of a sequence and its length, packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct PackedRange(i64);

impl PackedRange {
    /// Packs a start and a length, neither below 0.
    #[inline]
    pub(crate) fn new(start: i64, length: i64) -> Self {
        Self(start << LENGTH_BITS | length.min(LONG))
    }

    /// Where the sequence starts.
    #[inline]
    pub(crate) fn start(self) -> usize {
        (self.0 >> LENGTH_BITS) as usize
    }

    /// How long it is; none where it is too long to be packed.
    #[inline]
    pub(crate) fn length(self) -> Option<usize> {
        let length = self.0 & LONG;
        (length != LONG).then_some(length as usize)
    }

    /// The same length from another start.
    #[inline]
    pub(crate) fn moved(self, start: usize) -> Self {
        Self((start as i64) << LENGTH_BITS | self.0 & LONG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_fits_is_packed_and_a_longer_one_is_not() {
        for (start, length) in [(0, 0), (7, 3), (1 << 40, LONG - 1)] {
            let packed = PackedRange::new(start, length);
            assert_eq!(packed.start(), start as usize);
            assert_eq!(packed.length(), Some(length as usize));
            assert_eq!(packed.moved(5).start(), 5);
            assert_eq!(packed.moved(5).length(), Some(length as usize));
        }
        for length in [LONG, LONG + 9] {
            assert_eq!(PackedRange::new(11, length).length(), None);
            assert_eq!(PackedRange::new(11, length).start(), 11);
        }
    }
}
