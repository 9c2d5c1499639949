//! The Merkle tree of the audit log (RFC 9162 section 2.1, the same hashes as RFC 6962).
//!
//! Subtrees are named by level and place: level 0 are the leaves, and the subtree at (level, place) stands over the leaves
//! from place · 2^level on. Only complete subtrees have a name; they never change again. Refuses to know where hashes are
//! kept.

use std::collections::BTreeMap;

use crate::domain::key::Digest;

/// A tree has fewer than 2^62 leaves: what is asked of it can be counted in 64 bits without care.
pub const LARGEST_TREE: u64 = 1 << 62;
/// A proof has at most this many hashes: one for each level on either side of a split.
pub const LONGEST_PROOF: usize = 63;

/// Size and root of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeHead {
    /// Number of leaves.
    pub size: u64,
    /// The hash over all of them.
    pub root: Digest,
}

/// Why a proof or a frontier does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The number of hashes does not fit the sizes.
    #[error("the proof has {found} hashes where {expected} are needed")]
    Length {
        /// How many there are.
        found: usize,
        /// How many there must be.
        expected: usize,
    },
    /// Sizes or index that no tree has.
    #[error("the sizes are impossible: {0}")]
    Sizes(&'static str),
    /// The hashes lead to another root.
    #[error("the proof leads to another root than the checkpoint's")]
    Root,
}

/// The hash of a tree without leaves.
#[must_use]
pub fn empty_root() -> Digest {
    Digest::of(b"")
}

/// The hash of two subtrees side by side.
#[must_use]
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    Digest::of_parts(&[&[1], &left.0, &right.0])
}

/// A complete subtree over 2^level leaves from `place` · 2^level on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subtree {
    /// Its height.
    pub level: u8,
    /// Which of its level, from 0.
    pub place: u64,
}

/// The complete subtrees at the right edge of a growing tree, the largest first: all that is needed to append.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Digest>,
}

impl Frontier {
    /// From the hashes of [`peaks`].
    ///
    /// # Errors
    /// [`TreeError`] if they are not as many as the size says.
    pub fn new(size: u64, hashes: Vec<Digest>) -> Result<Self, TreeError> {
        let expected = peaks(size)?.len();
        if hashes.len() == expected {
            Ok(Self { size, peaks: hashes })
        } else {
            Err(TreeError::Length { found: hashes.len(), expected })
        }
    }

    /// Number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The hashes of [`peaks`], the largest subtree first.
    #[must_use]
    pub fn hashes(&self) -> &[Digest] {
        &self.peaks
    }

    /// Appends a leaf; `complete` hears of every subtree of level 1 and above that it completes, the smallest first.
    pub fn push(&mut self, leaf: Digest, mut complete: impl FnMut(Subtree, &Digest)) {
        let mut hash = leaf;
        let (mut level, mut place) = (0_u8, self.size);
        while place & 1 == 1 {
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(&left, &hash);
            level = level.saturating_add(1);
            place >>= 1;
            complete(Subtree { level, place }, &hash);
        }
        self.peaks.push(hash);
        self.size = self.size.saturating_add(1);
    }

    /// The hash over all leaves.
    #[must_use]
    pub fn root(&self) -> Digest {
        fold_right(&self.peaks).unwrap_or_else(empty_root)
    }

    /// Size and root.
    #[must_use]
    pub fn head(&self) -> TreeHead {
        TreeHead { size: self.size, root: self.root() }
    }
}

/// A tree that grew by some leaves, of which each can be proved without reading what was there before.
///
/// The subtree beside a new leaf's way is either one that the growth completed, or lies wholly before it; and then it is
/// one of the old peaks, since it was complete and what stands above it was not.
#[derive(Clone, Debug)]
pub struct Growth {
    size: u64,
    known: BTreeMap<Subtree, Digest>,
}

impl Growth {
    /// From the tree before it, and the leaves that were appended.
    ///
    /// # Errors
    /// [`TreeError`] if the tree is beyond [`LARGEST_TREE`].
    pub fn new(before: &Frontier, leaves: &[Digest]) -> Result<Self, TreeError> {
        let mut known: BTreeMap<Subtree, Digest> = peaks(before.size)?.into_iter().zip(before.peaks.clone()).collect();
        let mut tree = before.clone();
        for leaf in leaves {
            known.insert(Subtree { level: 0, place: tree.size }, *leaf);
            tree.push(*leaf, |subtree, hash| {
                known.insert(subtree, *hash);
            });
        }
        Ok(Self { size: tree.size, known })
    }

    /// As [`prove_inclusion`], for one of the leaves that were appended.
    ///
    /// # Errors
    /// [`TreeError::Sizes`] if it is none of them.
    pub fn prove(&self, index: u64) -> Result<Vec<Digest>, TreeError> {
        let unknown = || TreeError::Sizes("the leaf was there before");
        prove_inclusion(index, self.size, |subtree| self.known.get(&subtree).copied().ok_or_else(unknown))
    }
}

fn fold_right(hashes: &[Digest]) -> Option<Digest> {
    let (last, rest) = hashes.split_last()?;
    Some(rest.iter().rev().fold(*last, |right, left| node_hash(left, &right)))
}

/// The complete subtrees that a tree of this size is made of, the largest first.
///
/// # Errors
/// [`TreeError::Sizes`] beyond [`LARGEST_TREE`].
pub fn peaks(size: u64) -> Result<Vec<Subtree>, TreeError> {
    range(0, size)
}

/// The complete subtrees over the leaves `from..to`, where `from` is a multiple of the largest power of two that fits.
fn range(from: u64, to: u64) -> Result<Vec<Subtree>, TreeError> {
    if to > LARGEST_TREE || from > to {
        return Err(TreeError::Sizes("more leaves than a tree can have"));
    }
    let (mut at, mut out) = (from, Vec::new());
    while at < to {
        // The largest power of two in what is left; `at` is aligned to it.
        let level = to.saturating_sub(at).ilog2();
        out.push(Subtree { level: u8::try_from(level).unwrap_or(63), place: at >> level });
        at = at.saturating_add(1 << level);
    }
    Ok(out)
}

/// What proves that the leaf at `index` is in the tree of `size` leaves, nearest to the leaf first
/// (RFC 9162 section 2.1.3.1). `read` gives the hash of a complete subtree.
///
/// # Errors
/// [`TreeError::Sizes`] if there is no such leaf, and what `read` gives.
pub fn prove_inclusion<E: From<TreeError>>(
    index: u64,
    size: u64,
    mut read: impl FnMut(Subtree) -> Result<Digest, E>,
) -> Result<Vec<Digest>, E> {
    if index >= size {
        return Err(TreeError::Sizes("the tree has no such leaf").into());
    }
    prove(index, size, None, &mut read)
}

/// What proves that the tree of `old` leaves is the beginning of that of `new` leaves (RFC 9162 section 2.1.4.1); empty if
/// they are equal or `old` is 0.
///
/// # Errors
/// [`TreeError::Sizes`] if `old` is larger, and what `read` gives.
pub fn prove_consistency<E: From<TreeError>>(
    old: u64,
    new: u64,
    mut read: impl FnMut(Subtree) -> Result<Digest, E>,
) -> Result<Vec<Digest>, E> {
    if old > new {
        return Err(TreeError::Sizes("the older tree is the larger one").into());
    }
    if old == 0 || old == new {
        return Ok(Vec::new());
    }
    prove(0, new, Some(old), &mut read)
}

/// Walks from the root down to the leaf at `index`, or to the end of the first `old` leaves, and gives what stands beside
/// the way, the lowest first.
fn prove<E: From<TreeError>>(
    index: u64,
    size: u64,
    old: Option<u64>,
    read: &mut impl FnMut(Subtree) -> Result<Digest, E>,
) -> Result<Vec<Digest>, E> {
    let mut beside = Vec::new();
    let (mut from, mut to) = (0_u64, size);
    // Whether the part that is looked at is one that the old tree has as such.
    let mut known = true;
    while old.map_or(to.saturating_sub(from) > 1, |old| old < to) {
        let split = from.saturating_add(1 << to.saturating_sub(from).saturating_sub(1).ilog2());
        let left = old.map_or(index < split, |old| old <= split);
        if left {
            beside.push((split, to));
            to = split;
        } else {
            beside.push((from, split));
            from = split;
            known = false;
        }
    }
    if old.is_some() && !known {
        beside.push((from, to));
    }
    beside.into_iter().rev().map(|(from, to)| subroot(from, to, read)).collect()
}

/// The hash over the leaves `from..to` of a split.
fn subroot<E: From<TreeError>>(
    from: u64,
    to: u64,
    read: &mut impl FnMut(Subtree) -> Result<Digest, E>,
) -> Result<Digest, E> {
    let hashes: Result<Vec<_>, E> = range(from, to)?.into_iter().map(&mut *read).collect();
    Ok(fold_right(&hashes?).unwrap_or_else(empty_root))
}

/// Checks a proof of [`prove_inclusion`] (RFC 9162 section 2.1.3.2).
///
/// # Errors
/// [`TreeError`] says what does not hold.
pub fn check_inclusion(leaf: &Digest, index: u64, head: &TreeHead, proof: &[Digest]) -> Result<(), TreeError> {
    if index >= head.size || head.size > LARGEST_TREE {
        return Err(TreeError::Sizes("the tree has no such leaf"));
    }
    let (mut at, mut last, mut hash) = (index, head.size.saturating_sub(1), *leaf);
    let expected = inclusion_length(index, head.size);
    if proof.len() != expected {
        return Err(TreeError::Length { found: proof.len(), expected });
    }
    for beside in proof {
        if at & 1 == 1 || at == last {
            hash = node_hash(beside, &hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, beside);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    if last == 0 && hash == head.root { Ok(()) } else { Err(TreeError::Root) }
}

/// How many hashes the proof for a leaf has.
fn inclusion_length(index: u64, size: u64) -> usize {
    // Below the level at which the ways of this leaf and of the last one part, every level has one beside it; above, only
    // those where this way is the right one.
    let inner = 64_u32.saturating_sub((index ^ size.saturating_sub(1)).leading_zeros());
    let border = index.checked_shr(inner).unwrap_or(0).count_ones();
    usize::try_from(inner.saturating_add(border)).unwrap_or(usize::MAX)
}

/// Checks a proof of [`prove_consistency`] (RFC 9162 section 2.1.4.2).
///
/// # Errors
/// [`TreeError`] says what does not hold.
pub fn check_consistency(old: &TreeHead, new: &TreeHead, proof: &[Digest]) -> Result<(), TreeError> {
    if old.size > new.size || new.size > LARGEST_TREE {
        return Err(TreeError::Sizes("the older tree is the larger one"));
    }
    if old.size == new.size || old.size == 0 {
        let empty = old.size != 0 || old.root == empty_root();
        let same = old.size != new.size || old.root == new.root;
        return match proof.len() {
            0 if empty && same => Ok(()),
            0 => Err(TreeError::Root),
            found => Err(TreeError::Length { found, expected: 0 }),
        };
    }
    let mut hashes = proof.iter();
    let first = if old.size.is_power_of_two() { Some(&old.root) } else { hashes.next() };
    let Some(first) = first.filter(|_| !proof.is_empty()) else {
        return Err(TreeError::Length { found: proof.len(), expected: 1 });
    };
    let (mut at, mut last) = (old.size.saturating_sub(1), new.size.saturating_sub(1));
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    let (mut old_hash, mut new_hash) = (*first, *first);
    for (n, beside) in hashes.enumerate() {
        if last == 0 {
            return Err(TreeError::Length { found: proof.len(), expected: n });
        }
        if at & 1 == 1 || at == last {
            old_hash = node_hash(beside, &old_hash);
            new_hash = node_hash(beside, &new_hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            new_hash = node_hash(&new_hash, beside);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    if last == 0 && old_hash == old.root && new_hash == new.root { Ok(()) } else { Err(TreeError::Root) }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Grown {
        leaves: Vec<Digest>,
        nodes: BTreeMap<Subtree, Digest>,
        heads: Vec<TreeHead>,
    }

    fn grown(size: u64) -> Grown {
        let mut frontier = Frontier::default();
        let mut grown = Grown { leaves: Vec::new(), nodes: BTreeMap::new(), heads: vec![Frontier::default().head()] };
        for n in 0..size {
            let leaf = Digest::of_parts(&[&[0], &n.to_be_bytes()]);
            grown.leaves.push(leaf);
            grown.nodes.insert(Subtree { level: 0, place: n }, leaf);
            frontier.push(leaf, |subtree, hash| {
                grown.nodes.insert(subtree, *hash);
            });
            grown.heads.push(frontier.head());
        }
        grown
    }

    impl Grown {
        fn read(&self) -> impl FnMut(Subtree) -> Result<Digest, TreeError> + '_ {
            |subtree| self.nodes.get(&subtree).copied().ok_or(TreeError::Sizes("no such subtree"))
        }
    }

    /// RFC 9162 section 2.1.1 as it is written.
    fn root_by_definition(leaves: &[Digest]) -> Digest {
        match leaves {
            [] => empty_root(),
            [one] => *one,
            many => {
                let split = 1 << (many.len() - 1).ilog2();
                node_hash(&root_by_definition(&many[..split]), &root_by_definition(&many[split..]))
            }
        }
    }

    #[test]
    fn the_growing_root_is_the_root_by_definition() {
        let grown = grown(70);
        for (size, head) in grown.heads.iter().enumerate() {
            assert_eq!(head.root, root_by_definition(&grown.leaves[..size]), "{size}");
            let hashes = peaks(head.size).unwrap().into_iter().map(|s| grown.nodes[&s]).collect();
            assert_eq!(Frontier::new(head.size, hashes).unwrap().root(), head.root, "{size}");
        }
    }

    #[test]
    fn every_leaf_of_every_tree_is_proved_and_nothing_else_is() {
        let grown = grown(40);
        for head in &grown.heads {
            for index in 0..head.size {
                let proof = prove_inclusion(index, head.size, grown.read()).unwrap();
                let leaf = grown.leaves[usize::try_from(index).unwrap()];
                assert_eq!(check_inclusion(&leaf, index, head, &proof), Ok(()), "{index} of {}", head.size);
                assert!(proof.len() <= LONGEST_PROOF);
                for wrong in 0..head.size {
                    let other = check_inclusion(&leaf, wrong, head, &proof).is_ok();
                    assert_eq!(other, wrong == index, "{index} as {wrong} of {}", head.size);
                }
                for n in 0..proof.len() {
                    let mut bent = proof.clone();
                    bent[n].0[7] ^= 1;
                    assert_eq!(check_inclusion(&leaf, index, head, &bent), Err(TreeError::Root));
                    bent.remove(n);
                    assert!(check_inclusion(&leaf, index, head, &bent).is_err());
                }
                let mut long = proof.clone();
                long.push(leaf);
                assert!(check_inclusion(&leaf, index, head, &long).is_err());
            }
        }
        assert!(prove_inclusion(3, 3, grown.read()).is_err());
    }

    #[test]
    fn leaves_that_were_appended_are_proved_without_those_before_them() {
        let grown = grown(40);
        for before in 0..=40_usize {
            let hashes = peaks(grown.heads[before].size).unwrap().into_iter().map(|s| grown.nodes[&s]).collect();
            let frontier = Frontier::new(grown.heads[before].size, hashes).unwrap();
            for after in before..=40 {
                let growth = Growth::new(&frontier, &grown.leaves[before..after]).unwrap();
                for (leaf, index) in grown.leaves[before..after].iter().zip(grown.heads[before].size..) {
                    let proof = growth.prove(index).unwrap();
                    assert_eq!(check_inclusion(leaf, index, &grown.heads[after], &proof), Ok(()), "{index} of {after}");
                }
                assert!(growth.prove(grown.heads[after].size).is_err());
            }
        }
    }

    #[test]
    fn every_tree_is_proved_to_begin_every_later_one_and_a_bent_one_is_not() {
        let grown = grown(40);
        for old in &grown.heads {
            for new in grown.heads.iter().filter(|new| new.size >= old.size) {
                let proof = prove_consistency(old.size, new.size, grown.read()).unwrap();
                assert_eq!(check_consistency(old, new, &proof), Ok(()), "{} in {}", old.size, new.size);
                let mut fork = *old;
                fork.root.0[0] ^= 1;
                assert!(check_consistency(&fork, new, &proof).is_err());
                let mut fork = *new;
                fork.root.0[0] ^= 1;
                assert!(old.size == 0 || check_consistency(old, &fork, &proof).is_err());
                for n in 0..proof.len() {
                    let mut bent = proof.clone();
                    bent[n].0[9] ^= 1;
                    assert!(check_consistency(old, new, &bent).is_err());
                    bent.remove(n);
                    assert!(check_consistency(old, new, &bent).is_err());
                }
                let mut long = proof.clone();
                long.push(new.root);
                assert!(check_consistency(old, new, &long).is_err());
            }
        }
        assert!(prove_consistency(4, 3, grown.read()).is_err());
    }

    #[test]
    fn roots_are_those_of_the_test_vectors_of_certificate_transparency() {
        // The leaves and roots that the reference implementations of RFC 6962 share.
        let inputs: [&[u8]; 8] = [
            b"",
            &[0],
            &[0x10],
            &[0x20, 0x21],
            &[0x30, 0x31],
            &[0x40, 0x41, 0x42, 0x43],
            &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
            &[0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f],
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut frontier = Frontier::default();
        for (input, root) in inputs.iter().zip(roots) {
            frontier.push(Digest::of_parts(&[&[0], input]), |_, _| ());
            assert_eq!(frontier.root().to_string(), root);
        }
    }
}
