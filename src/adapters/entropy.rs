//! Randomness from the operating system.

use core::fmt;

use crate::ports::Entropy;

/// The generator of aws-lc-rs, seeded and reseeded by the operating system.
#[derive(Clone, Copy, Default)]
pub struct OsEntropy;

impl fmt::Debug for OsEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OsEntropy")
    }
}

impl Entropy for OsEntropy {
    /// Stops the process where there is no randomness: an id or a serial that can be guessed is worse than none.
    fn fill(&self, out: &mut [u8]) {
        if aws_lc_rs::rand::fill(out).is_err() {
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ_and_none_is_zero() {
        let (mut a, mut b) = ([0_u8; 32], [0_u8; 32]);
        OsEntropy.fill(&mut a);
        OsEntropy.fill(&mut b);
        assert!(a != b && a != [0; 32] && b != [0; 32]);
    }
}
