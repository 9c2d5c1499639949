//! A log of any size for tests: its checkpoints and proofs.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::checkpoint::Checkpoint;
use super::note::{Note, SignerKey, Signs};
use crate::domain::key::Digest;
use crate::domain::time::Timestamp;
use crate::domain::tree::{Frontier, Subtree, TreeError, TreeHead, prove_consistency};

/// A log with all its past.
pub(crate) struct TestLog {
    pub(crate) key: SignerKey,
    pub(crate) nodes: BTreeMap<Subtree, Digest>,
    pub(crate) heads: Vec<TreeHead>,
}

/// A key of a witness or log.
pub(crate) fn signer(name: &str, signs: Signs, seed: u8) -> SignerKey {
    SignerKey::from_seed(name, signs, Zeroizing::new([seed; 32])).unwrap()
}

impl TestLog {
    /// With `size` entries; from `fork` on they are others than those of every log with another `salt`.
    pub(crate) fn new(origin: &str, size: u64, fork: u64, salt: u8) -> Self {
        let (mut frontier, mut nodes) = (Frontier::default(), BTreeMap::new());
        let mut heads = vec![frontier.head()];
        for n in 0..size {
            let leaf = Digest::of_parts(&[&[0], &n.to_be_bytes(), &[if n < fork { 0 } else { salt }]]);
            nodes.insert(Subtree { level: 0, place: n }, leaf);
            frontier.push(leaf, |subtree, hash| {
                nodes.insert(subtree, *hash);
            });
            heads.push(frontier.head());
        }
        Self { key: signer(origin, Signs::Notes, 1), nodes, heads }
    }

    pub(crate) fn checkpoint(&self, size: u64) -> Checkpoint {
        Checkpoint { origin: self.key.verifier().name().to_owned(), head: self.heads[usize::try_from(size).unwrap()] }
    }

    /// Signed by the log and by `witnesses`.
    pub(crate) fn note(&self, size: u64, witnesses: &[&SignerKey]) -> Note {
        let text = self.checkpoint(size).to_string();
        let at = Timestamp::from_unix(1_790_000_000);
        let signers = core::iter::once(&self.key).chain(witnesses.iter().copied());
        Note { signatures: signers.map(|s| s.sign(&text, at)).collect(), text }
    }

    pub(crate) fn proof(&self, old: u64, new: u64) -> Vec<Digest> {
        prove_consistency(old, new, |at| Ok::<_, TreeError>(self.nodes[&at])).unwrap()
    }
}
