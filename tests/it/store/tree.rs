//! The Merkle tree: the store's agrees with the bodies whatever was refused, and ours agrees with Go's as ported.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use keyward::adapters::store::SqliteStore;
use keyward::codec::note::{Note, SignerKey, Signs};
use keyward::domain::audit::{Draft, Facts, Outcome, Phase, leaf_hash, marks};
use keyward::domain::id::EntryId;
use keyward::domain::key::Digest;
use keyward::domain::tree::{self, Frontier, Subtree, TreeError, TreeHead, check_consistency, check_inclusion};
use keyward::ports::{Batch, Inclusion, LARGEST_BATCH, Log, Store};
use proptest::collection::vec;
use proptest::prelude::*;
use rusqlite::Connection;
use signed_note::{Note as TheirNote, StandardVerifier, VerifierList};
use tempfile::TempDir;
use tlog_tiles::{Hash, HashReader, check_record, check_tree, prove_record, prove_tree, stored_hash_index, tree_hash};

use super::samples::{at, draft, entries, said, sound_log, ulid};
use crate::harness::store::{block_on, open, refusal};

/// The head that a note states, signed or not.
pub fn head_of(note: &str) -> TreeHead {
    let lines: Vec<&str> = note.lines().collect();
    let root = STANDARD.decode(lines[2]).unwrap();
    TreeHead { size: lines[1].parse().unwrap(), root: Digest(root.try_into().unwrap()) }
}

/// The heads of the tree over the first 0, 1, 2, … leaves.
pub fn heads(leaves: &[Digest]) -> Vec<TreeHead> {
    let mut tree = Frontier::default();
    let mut heads = vec![tree.head()];
    for leaf in leaves {
        tree.push(*leaf, |_, _| {});
        heads.push(tree.head());
    }
    heads
}

/// Checks every proof that the store gives over its log of these leaves.
pub async fn proofs_hold(store: &dyn Store, leaves: &[Digest], every: usize) {
    let heads = heads(leaves);
    let newest = heads.last().unwrap();
    let size = leaves.len() as u64;
    assert_eq!(head_of(&store.checkpoint().await.unwrap().unwrap()), *newest);
    for n in (0..leaves.len()).step_by(every) {
        let given = store.inclusion(n as u64).await.unwrap().unwrap();
        assert_eq!((given.entry.sequence, given.entry.leaf), (n as u64, leaves[n]));
        assert_eq!(head_of(&given.note), *newest);
        assert_eq!(check_inclusion(&leaves[n], n as u64, newest, &given.proof), Ok(()));
    }
    for old in (0..=leaves.len()).step_by(every) {
        let given = store.consistency(old as u64).await.unwrap().unwrap();
        assert_eq!(head_of(&given.note), *newest);
        assert_eq!(check_consistency(&heads[old], newest, &given.proof), Ok(()), "{old} of {size}");
    }
    assert_eq!(store.inclusion(size).await, Ok(None));
    assert_eq!(store.inclusion(u64::MAX).await, Ok(None));
    assert_eq!(store.consistency(size + 1).await, Ok(None));
}

/// That what was given with a commit proves the entry with this id under its own checkpoint.
pub fn is_proved(given: &Inclusion, id: EntryId) {
    assert_eq!(said(&given.entry).id, id.to_string());
    assert_eq!(leaf_hash(&given.entry.bytes), given.entry.leaf);
    let head = head_of(&given.note);
    assert_eq!(check_inclusion(&given.entry.leaf, given.entry.sequence, &head, &given.proof), Ok(()));
}

/// The derived tables, as the bodies say they must be.
fn derived_tables_hold(connection: &Connection, drafts: &[Draft], leaves: &[Digest]) {
    let mut subtrees = BTreeMap::new();
    let mut tree = Frontier::default();
    for leaf in leaves {
        tree.push(*leaf, |subtree, hash| {
            if subtree.level % 8 == 0 {
                subtrees.insert(subtree, *hash);
            }
        });
    }
    let mut statement = connection.prepare("SELECT level, place, hash FROM subtree").unwrap();
    let stored = statement.query_map([], |row| {
        Ok((Subtree { level: row.get(0)?, place: row.get::<_, i64>(1)? as u64 }, Digest(row.get(2)?)))
    });
    assert_eq!(stored.unwrap().map(Result::unwrap).collect::<BTreeMap<_, _>>(), subtrees);
    let sql = "SELECT text, sequence FROM mark JOIN word ON word.id = mark.word ORDER BY sequence, text";
    let mut statement = connection.prepare(sql).unwrap();
    let stored = statement.query_map([], |row| Ok((row.get::<_, i64>(1)?, row.get::<_, String>(0)?)));
    let stored: Vec<_> = stored.unwrap().map(Result::unwrap).collect();
    let mut wanted: Vec<_> = (0..)
        .zip(drafts)
        .flat_map(|(n, draft)| marks(draft, Facts::Whole).into_iter().map(move |word| (n, word)))
        .collect();
    wanted.sort();
    assert_eq!(stored, wanted);
}

/// A batch of these entries: whether it must be refused, and how many about which targets and phases.
#[derive(Clone, Debug)]
struct Plan {
    refused: bool,
    entries: Vec<u8>,
}

fn plan() -> impl Strategy<Value = Plan> {
    (prop::bool::weighted(0.3), vec(0_u8..9, 0..7)).prop_map(|(refused, entries)| Plan { refused, entries })
}

/// The batch with ids from `first` on.
fn batch_of(plan: &Plan, first: u64) -> Batch {
    let entry = |(n, kind): (u64, &u8)| {
        let mut entry = draft(n, ["a", "b", "c"][usize::from(kind % 3)]);
        match kind / 3 {
            0 => {}
            1 => entry.phase = Phase::Intent,
            _ => {
                (entry.phase, entry.outcome) = (Phase::Outcome, Some(Outcome::Success));
                entry.intent = Some(EntryId(ulid(n.saturating_sub(1))));
            }
        }
        entry
    };
    let mut list: Vec<Draft> = (first..).zip(&plan.entries).map(entry).collect();
    if plan.refused {
        // The first entry of the log again, after all that was fine.
        list.push(draft(0, "a"));
    }
    entries(list)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_tree_is_that_of_the_bodies_after_any_groups_with_refused_batches_among_them(
        groups in vec(vec(plan(), 1..12), 1..6),
        restarts in any::<u8>(),
    ) {
        let dir = TempDir::new().unwrap();
        block_on(async {
            let mut store = open(dir.path()).unwrap();
            store.commit(entries(vec![draft(0, "a")])).await.unwrap();
            let (mut kept, mut next) = (vec![draft(0, "a")], 1_u64);
            for (n, group) in groups.iter().enumerate() {
                let mut batches = Vec::new();
                for plan in group {
                    batches.push((plan.refused, batch_of(plan, next)));
                    next += plan.entries.len() as u64;
                }
                // Every other one wants its proof at once.
                let commits = batches.iter().enumerate().map(|(n, (_, batch))| {
                    let (store, batch) = (&store, batch.clone());
                    async move {
                        if n % 2 == 0 || batch.entries.is_empty() {
                            return store.commit(batch).await;
                        }
                        let first = batch.entries[0].id;
                        store.commit_proved(batch).await.map(|given| is_proved(&given.unwrap(), first))
                    }
                });
                let verdicts = join_all(commits).await;
                for ((refused, batch), verdict) in batches.into_iter().zip(verdicts) {
                    assert_eq!(verdict.is_err(), refused, "{verdict:?}");
                    if !refused {
                        kept.extend(batch.entries);
                    }
                }
                if restarts >> n & 1 == 1 {
                    drop(store);
                    store = open(dir.path()).unwrap();
                }
            }
            let log = sound_log(&store).await;
            let leaves: Vec<Digest> = log.iter().map(|entry| leaf_hash(&entry.bytes)).collect();
            // Batches that come together may be taken in any order: the drafts in that of the log.
            let by_id: BTreeMap<String, Draft> = kept.into_iter().map(|draft| (draft.id.to_string(), draft)).collect();
            let drafts: Vec<Draft> = log.iter().map(|entry| by_id[&said(entry).id].clone()).collect();
            assert_eq!(drafts.len(), by_id.len());
            proofs_hold(&store, &leaves, 1).await;
            let mut open_intents: Vec<EntryId> = Vec::new();
            for draft in &drafts {
                match draft.phase {
                    Phase::Intent => open_intents.push(draft.id),
                    Phase::Outcome => open_intents.retain(|id| Some(*id) != draft.intent),
                    Phase::Event => {}
                }
            }
            let given = store.open_intents(usize::MAX).await.unwrap();
            let given: Vec<String> = given.iter().map(|entry| said(entry).id).collect();
            assert_eq!(given, open_intents.iter().map(ToString::to_string).collect::<Vec<_>>());
            drop(store);
            derived_tables_hold(&Connection::open(dir.path().join("keyward.db")).unwrap(), &drafts, &leaves);
        });
    }

    #[test]
    fn roots_and_proofs_are_those_of_the_ported_go_package(
        size in 1_u64..700,
        picks in vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..20),
        seed in any::<u64>(),
    ) {
        let leaves: Vec<Digest> = (0..size).map(|n| leaf_hash(&(seed ^ n).to_be_bytes())).collect();
        let (mut ours, mut theirs) = (BTreeMap::new(), Theirs::default());
        let mut frontier = Frontier::default();
        for (n, leaf) in (0..).zip(&leaves) {
            let record = tlog_tiles::record_hash(&(seed ^ n).to_be_bytes());
            assert_eq!(record.0, leaf.0);
            let stored = tlog_tiles::stored_hashes_for_record_hash(n, record, &theirs).unwrap();
            theirs.0.extend(stored);
            ours.insert(Subtree { level: 0, place: n }, *leaf);
            frontier.push(*leaf, |subtree, hash| {
                ours.insert(subtree, *hash);
            });
        }
        for (subtree, hash) in &ours {
            let index = usize::try_from(stored_hash_index(subtree.level, subtree.place)).unwrap();
            assert_eq!(theirs.0[index].0, hash.0);
        }
        let read = |subtree: Subtree| Ok::<_, TreeError>(ours[&subtree]);
        let heads = heads(&leaves);
        for (one, other) in picks {
            let (a, b) = (one.index(size as usize) as u64 + 1, other.index(size as usize) as u64 + 1);
            let (old, new) = (a.min(b), a.max(b));
            let (old_head, new_head) = (&heads[old as usize], &heads[new as usize]);
            let root = tree_hash(new, &theirs).unwrap();
            assert_eq!(root.0, new_head.root.0);
            let index = old - 1;
            let inclusion = tree::prove_inclusion(index, new, read).unwrap();
            assert_eq!(bytes(&inclusion), prove_record(new, index, &theirs).unwrap().iter().map(|h| h.0).collect::<Vec<_>>());
            check_record(&hashes(&inclusion), new, root, index, Hash(leaves[index as usize].0)).unwrap();
            let consistency = tree::prove_consistency(old, new, read).unwrap();
            assert_eq!(bytes(&consistency), prove_tree(new, old, &theirs).unwrap().iter().map(|h| h.0).collect::<Vec<_>>());
            check_tree(&hashes(&consistency), new, root, old, Hash(old_head.root.0)).unwrap();
            // And both refuse the same proof with one bit changed.
            if let Some(bent) = consistency.first() {
                let mut proof = consistency.clone();
                proof[0] = Digest(bent.0.map(|byte| byte ^ 4));
                assert!(check_consistency(old_head, new_head, &proof).is_err());
                assert!(check_tree(&hashes(&proof), new, root, old, Hash(old_head.root.0)).is_err());
            }
        }
    }

    #[test]
    fn notes_are_those_of_the_ported_go_package(seed in any::<[u8; 32]>(), size in any::<u32>(), flip in any::<prop::sample::Index>()) {
        let key = SignerKey::from_seed("example.com/log", Signs::Notes, seed.into()).unwrap();
        let text = format!("example.com/log\n{size}\n{}\n", STANDARD.encode(seed));
        let note = Note { signatures: vec![key.sign(&text, at(0))], text }.to_string();
        assert!(their_verdict(&note, &key.verifier().to_string()));
        let theirs = signed_note::StandardSigner::new(&key.to_secret_text()).unwrap();
        let mut again = TheirNote::new(note.split("\n\n").next().map(|t| format!("{t}\n")).unwrap().as_bytes(), &[]).unwrap();
        again.add_sigs(&[&theirs]).unwrap();
        assert_eq!(again.to_bytes(), note.as_bytes(), "Ed25519 signs the same text the same way");
        let mut bent = note.clone().into_bytes();
        let place = flip.index(bent.len());
        bent[place] ^= 1;
        if let Ok(bent) = String::from_utf8(bent) {
            let ours = bent.parse::<Note>().is_ok_and(|note| key.verifier().verify(&note).is_ok());
            assert!(!ours && !their_verdict(&bent, &key.verifier().to_string()));
        }
    }
}

#[derive(Default)]
struct Theirs(Vec<Hash>);

impl HashReader for Theirs {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
        Ok(indexes.iter().map(|n| self.0[usize::try_from(*n).unwrap()]).collect())
    }
}

fn hashes(list: &[Digest]) -> Vec<Hash> {
    list.iter().map(|digest| Hash(digest.0)).collect()
}

fn bytes(list: &[Digest]) -> Vec<[u8; 32]> {
    list.iter().map(|digest| digest.0).collect()
}

/// Whether the ported package takes a note for signed by this key.
fn their_verdict(note: &str, key: &str) -> bool {
    let known = VerifierList::new(vec![Box::new(StandardVerifier::new(key).unwrap())]);
    TheirNote::from_bytes(note.as_bytes()).is_ok_and(|note| note.verify(&known).is_ok())
}

/// The public key of the log in a directory.
pub fn public_key(dir: &std::path::Path) -> String {
    let secret = std::fs::read_to_string(dir.join("log.key")).unwrap();
    SignerKey::parse(&secret).unwrap().verifier().to_string()
}

#[test]
fn a_checkpoint_of_the_store_reads_as_a_note_and_a_checkpoint_elsewhere() {
    let dir = TempDir::new().unwrap();
    let note = block_on(async {
        let store = open(dir.path()).unwrap();
        store.commit(entries((0..9).map(|n| draft(n, "a")).collect())).await.unwrap();
        store.checkpoint().await.unwrap().unwrap()
    });
    assert!(their_verdict(&note, &public_key(dir.path())));
    let text = note.split_inclusive('\n').take(3).collect::<String>();
    let theirs = tlog_tiles::Checkpoint::from_bytes(text.as_bytes()).unwrap();
    let origin = theirs.origin().strip_prefix("keyward/").unwrap();
    assert!(origin.len() == 16 && origin.bytes().all(|b| b.is_ascii_hexdigit()), "{origin}");
    assert_eq!((theirs.size(), theirs.hash().0), (9, head_of(&note).root.0));
}

/// 66,000 entries: a subtree of level 16 and a rest.
#[test]
fn a_log_with_subtrees_of_two_stored_levels_proves_and_starts() {
    let dir = TempDir::new().unwrap();
    block_on(async {
        let store = open(dir.path()).unwrap();
        let parts = (0..66_000).collect::<Vec<u64>>();
        for part in parts.chunks(LARGEST_BATCH / 4) {
            store.commit(entries(part.iter().map(|n| draft(*n, "a")).collect())).await.unwrap();
        }
        let leaves = leaves(dir.path());
        assert_eq!(leaves.len(), 66_000);
        proofs_hold(&store, &leaves, 1_171).await;
        refusal(store.commit(entries(vec![draft(70_000, "a"), draft(7, "a")])).await);
        drop(store);
        let began = std::time::Instant::now();
        let store: SqliteStore = open(dir.path()).unwrap();
        println!("opened after {:?}", began.elapsed());
        store.commit(entries(vec![draft(70_000, "b")])).await.unwrap();
        assert_eq!(head_of(&store.checkpoint().await.unwrap().unwrap()).size, 66_001);
    });
}

fn leaves(dir: &std::path::Path) -> Vec<Digest> {
    let connection = Connection::open(dir.join("keyward.db")).unwrap();
    let mut statement = connection.prepare("SELECT leaf FROM entry ORDER BY sequence").unwrap();
    let rows = statement.query_map([], |row| row.get(0).map(Digest)).unwrap();
    rows.map(Result::unwrap).collect()
}
