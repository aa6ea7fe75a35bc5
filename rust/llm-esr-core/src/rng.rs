//! Counter-based random numbers (Philox4x64-10, Salmon et al., 2011): a pure function of their key.
//!
//! Key (seed, epoch), counter (user or step, d div 8, stream + showing, attempt); d mod 8 picks a 32-bit word of the
//! block, where d = position x N + draw. So a draw does not depend on threads, ranks or where a run was resumed.

const MULTIPLIER_0: u64 = 0xD2E7_470E_E14C_6C93;
const MULTIPLIER_1: u64 = 0xCA5A_8263_9512_1157;
const WEYL_0: u64 = 0x9E37_79B9_7F4A_7C15;
const WEYL_1: u64 = 0xBB67_AE85_84CA_A73B;
const ROUNDS: usize = 10;

/// What a stream of numbers is for; streams never share a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Stream {
    /// The order of the students in an epoch.
    Order = 0,
    /// A user's own negatives.
    OwnNegatives = 1 << 8,
    /// Negatives shared by a step.
    SharedNegatives = 2 << 8,
    /// Whether a target is replaced, and by which neighbour.
    Smoothing = 3 << 8,
    /// Candidates of a sampled evaluation; the split stands in place of the epoch.
    Candidates = 4 << 8,
}

/// The key of all numbers of one epoch.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The training's seed.
    pub seed: u64,
    /// The epoch.
    pub epoch: u64,
}

impl Key {
    /// The numbers of one user (or step) in one stream; `attempt` counts rejected draws.
    #[must_use]
    pub fn words(self, index: u64, stream: Stream, showing: u8, attempt: u64) -> Words {
        Words {
            key: [self.seed, self.epoch],
            index,
            stream: stream as u64 + u64::from(showing),
            attempt,
            block_number: u64::MAX,
            block: [0; 4],
        }
    }
}

/// 32-bit words addressed by position; the last block is kept, so that reading in order costs one block in eight.
#[derive(Clone, Debug)]
pub struct Words {
    key: [u64; 2],
    index: u64,
    stream: u64,
    attempt: u64,
    block_number: u64,
    block: [u64; 4],
}

impl Words {
    /// Word number `d`.
    #[inline]
    pub fn word(&mut self, d: u64) -> u32 {
        let number = d >> 3;
        if number != self.block_number {
            self.block = philox4x64([self.index, number, self.stream, self.attempt], self.key);
            self.block_number = number;
        }
        let within = (d & 7) as usize;
        (self.block[within >> 1] >> ((within & 1) * 32)) as u32
    }

    /// Word number `d` as an integer below `bound` (multiply-shift; its bias is below bound / 2^32).
    #[inline]
    pub fn below(&mut self, d: u64, bound: u32) -> u32 {
        scale(self.word(d), bound)
    }

    /// Word number `d` as a float in [0, 1).
    #[inline]
    pub fn unit(&mut self, d: u64) -> f32 {
        (self.word(d) >> 8) as f32 * (1.0 / 16_777_216.0)
    }
}

/// A 32-bit word as an integer below `bound`.
#[inline]
#[must_use]
pub fn scale(word: u32, bound: u32) -> u32 {
    ((u64::from(word) * u64::from(bound)) >> 32) as u32
}

/// One block: four 64-bit words from a counter and a key.
#[inline]
#[must_use]
pub fn philox4x64(mut counter: [u64; 4], mut key: [u64; 2]) -> [u64; 4] {
    for round in 0..ROUNDS {
        if round > 0 {
            key = [key[0].wrapping_add(WEYL_0), key[1].wrapping_add(WEYL_1)];
        }
        let product_0 = u128::from(MULTIPLIER_0) * u128::from(counter[0]);
        let product_1 = u128::from(MULTIPLIER_1) * u128::from(counter[2]);
        counter = [
            (product_1 >> 64) as u64 ^ counter[1] ^ key[0],
            product_1 as u64,
            (product_0 >> 64) as u64 ^ counter[3] ^ key[1],
            product_0 as u64,
        ];
    }
    counter
}

/// A permutation of 0..n (Fisher and Yates), a pure function of the key.
#[must_use]
pub fn permutation(key: Key, n: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    let mut words = key.words(0, Stream::Order, 0, 0);
    for last in (1..n).rev() {
        let other = words.below(last as u64, last as u32 + 1);
        order.swap(last, other as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_of_the_authors() {
        // Random123's kat_vectors for philox4x64-10: all zeros and all ones.
        assert_eq!(
            philox4x64([0; 4], [0; 2]),
            [
                0x1655_4d9e_ca36_314c,
                0xdb20_fe9d_672d_0fdc,
                0xd7e7_72ce_e186_176b,
                0x7e68_b68a_ec7b_a23b
            ]
        );
        assert_eq!(
            philox4x64([u64::MAX; 4], [u64::MAX; 2]),
            [
                0x87b0_92c3_013f_e90b,
                0x438c_3c67_be8d_0224,
                0x9cc7_d7c6_9cd7_77b6,
                0xa09c_aebf_594f_0ba0
            ]
        );
    }

    #[test]
    fn a_permutation_holds_each_number_once() {
        let mut order = permutation(Key { seed: 3, epoch: 1 }, 1000);
        assert_ne!(order, (0..1000).collect::<Vec<u32>>());
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<u32>>());
    }
}
