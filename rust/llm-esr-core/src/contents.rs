//! What a data folder's arrays must be before anything is looked up in them; free of files, so that it can be fuzzed.

/// Interactions in CSR form, as they came.
#[derive(Debug, Clone, Copy)]
pub struct Contents<'a> {
    /// Where each user's items start, one more than there are users.
    pub offsets: &'a [i64],
    /// Item ids, user after user.
    pub items: &'a [i32],
    /// The ends of training and validation of each user, counted from the user's start.
    pub splits: &'a [i64],
    /// Ids are `1..=n_items`.
    pub n_items: usize,
}

/// What is wrong with one of the arrays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The file's name in the data folder.
    pub file: &'static str,
    /// What came and what was expected.
    pub message: String,
}

impl Contents<'_> {
    /// Checks that every place which the arrays name lies inside them.
    ///
    /// # Errors
    /// Offsets that do not rise from 0 to the number of items, ids out of range, splits beyond a user's items.
    pub fn check(&self) -> Result<(), Wrong> {
        self.check_offsets().map_err(|message| Wrong {
            file: "offsets.npy",
            message,
        })?;
        check_ids(self.items, 1, self.n_items.min(i32::MAX as usize) as i32).map_err(
            |message| Wrong {
                file: "items.npy",
                message,
            },
        )?;
        self.check_splits().map_err(|message| Wrong {
            file: "splits.npy",
            message,
        })
    }

    fn check_offsets(&self) -> Result<(), String> {
        let (offsets, total) = (self.offsets, self.items.len() as i64);
        let (Some(&first), Some(&last)) = (offsets.first(), offsets.last()) else {
            return Err("it is empty; expected users + 1 offsets".into());
        };
        if first != 0 || last != total {
            return Err(format!(
                "it runs from {first} to {last}, expected 0 to {total} (the length of items.npy)"
            ));
        }
        if let Some(user) = offsets.windows(2).position(|pair| pair[0] > pair[1]) {
            return Err(format!(
                "offsets fall at user {user}: {} then {}; prepare the data again",
                offsets[user],
                offsets[user + 1]
            ));
        }
        let users = offsets.len() - 1;
        if users >= i32::MAX as usize {
            return Err(format!("{users} users; ids are 32-bit"));
        }
        Ok(())
    }

    fn check_splits(&self) -> Result<(), String> {
        let users = self.offsets.len() - 1;
        if self.splits.len() != 2 * users {
            return Err(format!(
                "it holds {} ends, expected the shape [{users}, 2]",
                self.splits.len()
            ));
        }
        let counts = self.offsets.windows(2).map(|pair| pair[1] - pair[0]);
        for (user, (ends, count)) in self.splits.chunks_exact(2).zip(counts).enumerate() {
            if !(0 <= ends[0] && ends[0] <= ends[1] && ends[1] <= count) {
                return Err(format!(
                    "user {user} has {count} items, but training ends at {} and validation at {}; prepare the data again",
                    ends[0], ends[1]
                ));
            }
        }
        Ok(())
    }
}

/// Checks that every id lies in `low..=high`.
///
/// # Errors
/// The first that does not.
pub fn check_ids(ids: &[i32], low: i32, high: i32) -> Result<(), String> {
    // Whole chunks are compared without a branch; only a bad one is searched.
    for (chunk, part) in ids.chunks(4096).enumerate() {
        let bad = part
            .iter()
            .fold(false, |bad, id| bad | !(low..=high).contains(id));
        if bad && let Some(at) = part.iter().position(|id| !(low..=high).contains(id)) {
            return Err(format!(
                "entry {} is id {}, expected {low} to {high}; make the file again",
                chunk * 4096 + at,
                part[at]
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(offsets: &[i64], items: &[i32], splits: &[i64]) -> Option<&'static str> {
        let contents = Contents {
            offsets,
            items,
            splits,
            n_items: 3,
        };
        contents.check().err().map(|wrong| wrong.file)
    }

    #[test]
    fn each_array_is_blamed_for_what_it_holds() {
        assert_eq!(wrong(&[0, 2, 3], &[1, 3, 2], &[1, 2, 0, 1]), None);
        assert_eq!(wrong(&[0], &[], &[]), None);
        for offsets in [
            &[][..],
            &[1, 2, 3],
            &[0, 2, 4],
            &[0, 4, 3],
            &[0, -1, 3],
            &[0, i64::MAX, 3],
            &[0, i64::MIN, 3],
        ] {
            assert_eq!(
                wrong(offsets, &[1, 3, 2], &[1, 2, 0, 1]),
                Some("offsets.npy")
            );
        }
        for items in [[0, 1, 1], [1, 4, 1], [1, 1, i32::MIN]] {
            assert_eq!(wrong(&[0, 2, 3], &items, &[1, 2, 0, 1]), Some("items.npy"));
        }
        for splits in [
            &[1, 2, 0][..],
            &[1, 2, 0, 1, 0, 0],
            &[1, 3, 0, 1],
            &[2, 1, 0, 1],
            &[-1, 2, 0, 1],
            &[1, 2, 0, i64::MAX],
            &[1, 2, i64::MIN, 1],
        ] {
            assert_eq!(wrong(&[0, 2, 3], &[1, 3, 2], splits), Some("splits.npy"));
        }
    }
}
