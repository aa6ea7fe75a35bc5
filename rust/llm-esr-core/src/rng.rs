//! Counter-based random numbers (Philox4x64-10): a pure function of their key.
//!
//! A draw is named, not consumed: the key is (seed, epoch), the counter (user or step, d div 8, stream + masking pass,
//! attempt), and d mod 8 picks one of the block's eight 32-bit words, the low half of each 64-bit word first. So
//! nothing depends on threads, ranks or on where a run resumed.
//!
//! Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

const MULTIPLIERS: [u64; 2] = [0xD2E7_470E_E14C_6C93, 0xCA5A_8263_9512_1157];
const WEYL: [u64; 2] = [0x9E37_79B9_7F4A_7C15, 0xBB67_AE85_84CA_A73B];
const ROUNDS: usize = 10;

/// 32-bit words in one block.
pub const WORDS: u64 = 8;

/// What a stream's numbers are for. The lowest eight bits of the counter's third word hold the masking pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Stream {
    /// The order of an epoch.
    Order = 0,
    /// Negatives of one target.
    OwnNegatives = 1,
    /// Negatives of a whole step.
    SharedNegatives = 2,
    /// Semantic smoothing of targets.
    Smoothing = 3,
    /// Evaluation candidates; the split stands in place of the epoch.
    Candidates = 4,
    /// Which tokens are masked, and what is shown in their place.
    Masking = 5,
    /// Whether and how a student's sequence is changed.
    Augmentation = 6,
    /// How many of a user's newest items stand for a short history.
    RecentCuts = 7,
    /// Which contexts of an item are read.
    Contexts = 8,
}

/// One block of Philox4x64-10.
#[must_use]
#[inline]
pub fn philox(key: [u64; 2], counter: [u64; 4]) -> [u64; 4] {
    let [mut k0, mut k1] = key;
    let [mut c0, mut c1, mut c2, mut c3] = counter;
    for round in 0..ROUNDS {
        if round > 0 {
            k0 = k0.wrapping_add(WEYL[0]);
            k1 = k1.wrapping_add(WEYL[1]);
        }
        let p0 = u128::from(MULTIPLIERS[0]) * u128::from(c0);
        let p1 = u128::from(MULTIPLIERS[1]) * u128::from(c2);
        (c0, c1, c2, c3) = (
            (p1 >> 64) as u64 ^ c1 ^ k0,
            p1 as u64,
            (p0 >> 64) as u64 ^ c3 ^ k1,
            p0 as u64,
        );
    }
    [c0, c1, c2, c3]
}

/// The numbered draws of one user or step in one stream.
#[derive(Debug, Clone, Copy)]
pub struct Draws {
    key: [u64; 2],
    owner: u64,
    stream: u64,
}

impl Draws {
    /// Draws of `owner`, a user or a step.
    #[must_use]
    pub fn new(seed: u64, epoch: u64, stream: Stream, masking_pass: u8, owner: u64) -> Self {
        Self {
            key: [seed, epoch],
            owner,
            stream: (stream as u64) << 8 | u64::from(masking_pass),
        }
    }

    /// The words of the draws `8 * group..8 * group + 8`.
    #[must_use]
    #[inline]
    pub fn block(&self, group: u64, attempt: u64) -> [u32; WORDS as usize] {
        let [a, b, c, d] = philox(self.key, [self.owner, group, self.stream, attempt]);
        [
            a as u32,
            (a >> 32) as u32,
            b as u32,
            (b >> 32) as u32,
            c as u32,
            (c >> 32) as u32,
            d as u32,
            (d >> 32) as u32,
        ]
    }

    /// The word of one draw.
    #[must_use]
    #[inline]
    pub fn word(&self, draw: u64, attempt: u64) -> u32 {
        self.block(draw / WORDS, attempt)[(draw % WORDS) as usize]
    }

    /// A number below `bound` for one draw, exactly uniform: attempts go up from `attempt` until one is accepted.
    #[must_use]
    pub fn below(&self, draw: u64, bound: Bound, mut attempt: u64) -> u32 {
        loop {
            if let Some(value) = bound.accept(self.word(draw, attempt)) {
                return value;
            }
            attempt += 1;
        }
    }
}

/// Words of draws that come about in order: the last block of each of the first attempts is kept.
#[derive(Debug)]
pub struct Words {
    draws: Draws,
    groups: [u64; KEPT],
    blocks: [[u32; WORDS as usize]; KEPT],
}

/// Attempts whose last block is kept; the later ones are rare.
const KEPT: usize = 4;

impl Words {
    /// The words of `draws`.
    #[must_use]
    pub fn new(draws: Draws) -> Self {
        Self {
            draws,
            groups: [u64::MAX; KEPT],
            blocks: [[0; WORDS as usize]; KEPT],
        }
    }

    /// The word of one draw.
    #[inline]
    pub fn word(&mut self, draw: u64, attempt: u64) -> u32 {
        let (group, within) = (draw / WORDS, (draw % WORDS) as usize);
        let Some(kept) = self.groups.get_mut(attempt as usize) else {
            return self.draws.word(draw, attempt);
        };
        let block = &mut self.blocks[attempt as usize];
        if *kept != group {
            *kept = group;
            *block = self.draws.block(group, attempt);
        }
        block[within]
    }
}

/// Maps 32-bit words to `0..n` without bias (Lemire, "Fast random integer generation in an interval", 2019).
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    n: u32,
    threshold: u32,
}

impl Bound {
    /// Numbers below `n`.
    ///
    /// # Panics
    /// For 0.
    #[must_use]
    pub fn new(n: u32) -> Self {
        assert!(n > 0, "nothing lies below 0");
        Self {
            n,
            threshold: n.wrapping_neg() % n,
        }
    }

    /// The number that `word` stands for; none where taking it would favour some numbers.
    #[must_use]
    #[inline]
    pub fn accept(self, word: u32) -> Option<u32> {
        let product = u64::from(word) * u64::from(self.n);
        ((product as u32) >= self.threshold).then_some((product >> 32) as u32)
    }
}

/// A permutation of `0..n`: Fisher-Yates from the back, the swap of place i being draw i.
#[must_use]
pub fn permutation(seed: u64, epoch: u64, n: u32) -> Vec<u32> {
    permutation_of(seed, epoch, 0, n)
}

/// As `permutation`, one for each `owner`; 0 is the order of the students.
#[must_use]
pub fn permutation_of(seed: u64, epoch: u64, owner: u64, n: u32) -> Vec<u32> {
    let draws = Draws::new(seed, epoch, Stream::Order, 0, owner);
    let mut words = Words::new(draws);
    let mut order: Vec<u32> = (0..n).collect();
    for place in (1..n).rev() {
        let bound = Bound::new(place + 1);
        let other = bound
            .accept(words.word(u64::from(place), 0))
            .unwrap_or_else(|| draws.below(u64::from(place), bound, 1));
        order.swap(place as usize, other as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_equal_the_known_answers_of_random123() {
        assert_eq!(
            philox([0, 0], [0; 4]),
            [
                0x1655_4D9E_CA36_314C,
                0xDB20_FE9D_672D_0FDC,
                0xD7E7_72CE_E186_176B,
                0x7E68_B68A_EC7B_A23B
            ]
        );
        assert_eq!(
            philox([u64::MAX; 2], [u64::MAX; 4]),
            [
                0x87B0_92C3_013F_E90B,
                0x438C_3C67_BE8D_0224,
                0x9CC7_D7C6_9CD7_77B6,
                0xA09C_AEBF_594F_0BA0
            ]
        );
    }

    #[test]
    fn a_word_is_half_of_a_block_low_half_first() {
        let draws = Draws::new(7, 3, Stream::OwnNegatives, 1, 11);
        let block = philox([7, 3], [11, 2, 257, 5]);
        assert_eq!(draws.word(16, 5), block[0] as u32);
        assert_eq!(draws.word(17, 5), (block[0] >> 32) as u32);
        assert_eq!(draws.word(23, 5), (block[3] >> 32) as u32);
    }

    #[test]
    fn every_number_below_the_bound_has_the_same_number_of_words() {
        // The same argument holds at 32 bits as at 8, where all words can be listed.
        for n in 1_u32..=255 {
            let threshold = (256 - n) % n;
            let mut counts = vec![0; n as usize];
            for word in 0_u32..256 {
                let product = word * n;
                if product & 255 >= threshold {
                    counts[(product >> 8) as usize] += 1;
                }
            }
            assert!(counts.iter().all(|&c| c == counts[0] && c > 0), "n = {n}");
        }
    }

    #[test]
    fn a_permutation_holds_everyone_once_and_changes_with_the_epoch() {
        for n in [0, 1, 2, 7, 8, 9, 1000] {
            let mut order = permutation(42, 5, n);
            order.sort_unstable();
            assert_eq!(order, (0..n).collect::<Vec<_>>());
        }
        assert_ne!(permutation(42, 0, 1000), permutation(42, 1, 1000));
    }
}
