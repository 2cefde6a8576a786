//! Saving and restoring a generator, in the layout of PyTorch's `get_rng_state`.

use super::Generator;
use crate::kernels::random::STATE_WORDS;
use crate::{ensure, Result};

/// Bytes of a saved state.
pub const STATE_BYTES: usize = 5056;

// Offsets in bytes. Words are stored as 64-bit integers; all numbers are little-endian.
const SEED: usize = 0;
const LEFT: usize = 8;
const SEEDED: usize = 12;
const NEXT: usize = 16;
const WORDS: usize = 24;
const NORMAL: usize = WORDS + 8 * STATE_WORDS + 8;
const HAS_NORMAL: usize = NORMAL + 16;

impl Generator {
    /// The whole state: 5056 bytes that PyTorch's `set_rng_state` reads, too.
    pub fn state(&self) -> Vec<u8> {
        let mut bytes = vec![0; STATE_BYTES];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        // Calls until the words are replaced, counting the one that does it.
        let left = if self.next == 0 { 1 } else { STATE_WORDS + 1 - self.next };
        put(SEED, &self.seed.to_le_bytes());
        put(LEFT, &(left as u32).to_le_bytes());
        put(SEEDED, &1u32.to_le_bytes());
        put(NEXT, &(self.next as u64).to_le_bytes());
        for (i, &word) in self.words.iter().enumerate() {
            put(WORDS + 8 * i, &u64::from(word).to_le_bytes());
        }
        if let Some(normal) = self.next_normal {
            put(NORMAL, &normal.to_le_bytes());
            put(HAS_NORMAL, &1u32.to_le_bytes());
        }
        bytes
    }

    /// Goes back to a state that [`state`](Self::state) or PyTorch's `get_rng_state` returned.
    pub fn set_state(&mut self, bytes: &[u8]) -> Result<()> {
        let len = bytes.len();
        ensure!(len == STATE_BYTES, Value, "set_state: got {len} bytes; a state has {STATE_BYTES}");
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let (next, left) = (u64_at(NEXT), u64::from(u32_at(LEFT)));
        let words = STATE_WORDS as u64;
        let fits = next <= words && left == if next == 0 { 1 } else { words + 1 - next };
        ensure!(
            fits && u32_at(SEEDED) == 1,
            Value,
            "set_state: position {next} with {left} words left is no state of this generator; \
             pass bytes that get_state returned"
        );
        self.seed = u64_at(SEED);
        self.next = next as usize;
        self.words = std::array::from_fn(|i| u64_at(WORDS + 8 * i) as u32);
        self.next_normal = (u32_at(HAS_NORMAL) != 0).then(|| f64::from_bits(u64_at(NORMAL)));
        Ok(())
    }
}
