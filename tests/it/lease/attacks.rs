//! Whoever has no key, an old lease or the wrong one opens nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use keyward::codec::checkpoint::Checkpoint;
use keyward::codec::note::{Note, SignerKey, Signs};
use keyward::codec::statement::sign;
use keyward::domain::statement::Context;
use keyward::domain::time::Timestamp;
use keyward::domain::tree::TreeHead;
use keyward::lease::{
    Epochs, Holder, KeptEpochs, Keys, Machine, Memory, Moment, Rejected, SeenFiles, VolatileEpochs, agrees, verify,
};
use keyward::witness::{Follower, Keep, Policy, Unsaid};
use zeroize::Zeroizing;

use crate::harness::lease::{
    ISSUER, MADE, after, audience, boot, decision, grant, here, key, lease, path, permit, pinned, signed, signed_permit,
};

fn holder() -> Holder<VolatileEpochs> {
    Holder::new(pinned(), here(), VolatileEpochs::default())
}

fn refused(text: &[u8]) -> String {
    let holder = holder();
    let why = holder.take(text, after(1_000)).unwrap_err().to_string();
    assert!(!holder.is_open(after(1_000)));
    why
}

#[test]
fn a_good_lease_opens_until_its_end_on_either_clock() {
    let holder = holder();
    assert!(!holder.is_open(after(0)), "nothing is held yet");
    holder.take(signed(&lease()).as_bytes(), after(1_000)).unwrap();
    assert!(holder.is_open(after(1_000)) && holder.is_open(after(14_999)) && !holder.is_open(after(15_000)));
    let (early, late) = (after(1_000), after(15_000));
    assert!(!holder.is_open(Moment { wall: late.wall, boot: early.boot }), "the wall clock alone ends it");
    assert!(!holder.is_open(Moment { wall: early.wall, boot: late.boot }), "the other clock alone ends it");
    // A wall clock that is set far back does not make it live again.
    assert!(!holder.is_open(Moment { wall: Timestamp::from_unix(MADE - 3_600), boot: early.boot }));
}

#[test]
fn every_changed_byte_is_refused() {
    let text = signed(&lease()).into_bytes();
    for at in 0..text.len() {
        let mut bent = text.clone();
        bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
        refused(&bent);
    }
}

#[test]
fn every_truncated_or_lengthened_lease_is_refused() {
    let text = signed(&lease());
    for end in 0..text.len() {
        refused(&text.as_bytes()[..end]);
    }
    for more in ["\n\n", "A", ".", " ", "\0"] {
        refused(format!("{text}{more}").as_bytes());
    }
    refused(&vec![b'a'; 5_000]);
    refused(&[0xff, 0xfe]);
}

#[test]
fn a_forged_lease_is_refused_whatever_it_says() {
    let forger = key(2);
    let payload = lease().json().canonical();
    let own = sign(&forger, Context::Lease, &payload).unwrap();
    assert!(refused(own.as_bytes()).contains("not pinned"));
    // Under the id of the pinned key.
    let (_, rest) = own.split_at("keyward-lease-v1.00000000".len());
    let named = format!("keyward-lease-v1.{:08x}{rest}", key(1).verifier().id());
    assert!(refused(named.as_bytes()).contains("forged or damaged"));
}

#[test]
fn a_key_speaks_for_its_own_guardian_only() {
    let other = SignerKey::from_seed("keyward/other/lease", Signs::Notes, Zeroizing::new([1; 32])).unwrap();
    let keys = Keys::new(vec![key(1).verifier().clone(), other.verifier().clone()]).unwrap();
    let text = sign(&other, Context::Lease, &lease().json().canonical()).unwrap();
    let mut memory = Memory::new(VolatileEpochs::default());
    let why = verify(text.as_bytes(), &keys, &here(), after(0), &mut memory).unwrap_err();
    assert_eq!(why, Rejected::Claims("names another issuer than the one whose key signed it"));
}

#[test]
fn a_statement_of_another_kind_is_no_lease() {
    assert!(
        refused(signed_permit(&permit()).as_bytes()).contains("is a keyward-permit-v1, expected a keyward-lease-v1")
    );
    for context in [Context::Permit, Context::Check, Context::Explanation] {
        let payload = lease().json().canonical();
        let text = sign(&key(1), context, &payload).unwrap();
        refused(text.as_bytes());
        // With the other name on it, the signature is for other bytes.
        refused(text.replacen(context.as_str(), "keyward-lease-v1", 1).as_bytes());
    }
    // What is signed without any context is nothing either.
    let bare = key(1).sign_bytes(&lease().json().canonical()).unwrap();
    let text =
        keyward::domain::statement::text(Context::Lease, key(1).verifier().id(), &lease().json().canonical(), &bare);
    assert!(refused(text.as_bytes()).contains("forged"));
}

#[test]
fn a_lease_for_somebody_else_or_about_something_else_is_refused() {
    let edits: [fn(&mut keyward::domain::lease::Grant); 6] = [
        |g| g.audience = audience("other"),
        |g| g.path = path("other"),
        |g| g.environment = keyward::domain::inventory::Environment::Staging,
        |g| g.boot_id = "another-boot".into(),
        |g| g.boot_expires = boot(9_999_999),
        |g| g.expires = Timestamp::from_unix(MADE + 9_999),
    ];
    for edit in edits {
        let mut lease = lease();
        edit(&mut lease.grant);
        refused(signed(&lease).as_bytes());
    }
}

#[test]
fn what_is_signed_but_not_canonical_or_of_another_version_is_refused() {
    let payload = String::from_utf8(lease().json().canonical()).unwrap();
    for bent in [
        payload.replace(":", ": "),
        payload.replace("\"version\":1", "\"version\":2"),
        payload.replace("\"epoch\":41", "\"epoch\":\"41\""),
        payload.replace("\"epoch\":41", "\"epoch\":-41"),
        payload.replace("\"epoch\":41,", ""),
        payload.replace("portal", "Portal"),
        payload.replacen('{', "{\"a\":1,\"a\":2,", 1),
        "[]".to_owned(),
        String::new(),
    ] {
        assert_ne!(bent, payload);
        let text = sign(&key(1), Context::Lease, bent.as_bytes()).unwrap();
        assert!(refused(text.as_bytes()).starts_with("what is signed"), "{bent}");
    }
}

#[test]
fn a_replayed_lease_of_an_earlier_run_or_an_earlier_moment_is_refused() {
    let holder = holder();
    let with = |epoch, sequence| {
        let mut lease = lease();
        (lease.grant.epoch, lease.grant.sequence) = (epoch, sequence);
        signed(&lease)
    };
    holder.take(with(41, 7).as_bytes(), after(0)).unwrap();
    holder.take(with(41, 7).as_bytes(), after(0)).unwrap();
    let why = holder.take(with(41, 6).as_bytes(), after(0)).unwrap_err().to_string();
    assert!(why.contains("sequence is 6") && holder.is_open(after(0)), "{why}");
    holder.take(with(50, 1).as_bytes(), after(0)).unwrap();
    for old in [with(41, 9_999), with(49, 1)] {
        assert!(holder.take(old.as_bytes(), after(0)).unwrap_err().to_string().contains("earlier run"));
    }
}

#[test]
fn a_path_that_was_closed_does_not_open_by_the_lease_that_was_held() {
    let holder = holder();
    let text = signed(&lease());
    holder.take(text.as_bytes(), after(0)).unwrap();
    holder.close();
    assert!(!holder.is_open(after(0)));
    assert!(holder.take(text.as_bytes(), after(0)).is_err());
    let mut next = lease();
    next.grant.sequence = 8;
    holder.take(signed(&next).as_bytes(), after(0)).unwrap();
    assert!(holder.is_open(after(0)));
}

#[test]
fn epochs_outlast_the_consumer_and_a_damaged_memory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = || KeptEpochs(SeenFiles::open(dir.path()).unwrap());
    let take = |epoch| {
        let mut lease = lease();
        lease.grant.epoch = epoch;
        Holder::new(pinned(), here(), open()).take(signed(&lease).as_bytes(), after(0))
    };
    take(41).unwrap();
    assert_eq!(open().highest(ISSUER), Ok(Some(41)));
    assert!(take(40).unwrap_err().to_string().contains("41 was seen before"));
    take(45).unwrap();
    assert!(take(44).is_err());
    let file = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path());
    let file = file.into_iter().find(|p| p.file_name().unwrap().len() == 64).unwrap();
    let kept = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, kept.replace("epoch 45", "epoch 1")).unwrap();
    assert!(matches!(take(45), Err(Rejected::Memory(_))), "a flipped digit is seen");
}

/// A disk that is full.
struct Full;

impl Epochs for Full {
    fn highest(&self, _: &str) -> Result<Option<u64>, String> {
        Ok(None)
    }

    fn keep(&mut self, _: &str, _: u64) -> Result<(), String> {
        Err("no space left on device".into())
    }
}

#[test]
fn a_lease_whose_epoch_cannot_be_kept_opens_nothing() {
    let holder = Holder::new(pinned(), here(), Full);
    assert!(matches!(holder.take(signed(&lease()).as_bytes(), after(0)), Err(Rejected::Memory(_))));
    assert!(!holder.is_open(after(0)));
}

#[test]
fn another_machine_needs_its_nonce_and_counts_by_its_own_clock() {
    let holder = holder();
    let mut answer = lease();
    answer.nonce = Some("fresh".into());
    answer.grant.boot_id = "the-guardians-boot".into();
    let text = signed(&answer);
    let own = |millis| Moment { wall: after(0).wall, boot: boot(millis) };
    assert!(holder.take(text.as_bytes(), own(100)).is_err(), "it did not say that it is another machine");
    assert!(holder.take_answer(text.as_bytes(), "stale", boot(90), own(100)).is_err());
    holder.take_answer(text.as_bytes(), "fresh", boot(90), own(100)).unwrap();
    assert!(holder.is_open(own(15_089)) && !holder.is_open(own(15_090)));
    assert!(!holder.is_open(Moment { wall: after(15_000).wall, boot: boot(100) }));
}

#[test]
fn only_lease_keys_are_pinned_and_not_too_many() {
    let log = SignerKey::from_seed(ISSUER, Signs::Notes, Zeroizing::new([9; 32])).unwrap();
    let witness = SignerKey::from_seed("w/lease", Signs::Sightings, Zeroizing::new([9; 32])).unwrap();
    for key in [log, witness] {
        assert!(Keys::parse(&key.verifier().to_string()).unwrap_err().to_string().contains("no lease key"));
    }
    let own = key(1).verifier().to_string();
    assert!(Keys::parse("# nothing\n\n").is_err() && Keys::parse(&format!("{own}\n").repeat(17)).is_err());
    assert_eq!(Keys::parse(&format!("# the portal's\n{own}\n\n")), Ok(pinned()));
    assert!(Keys::parse(&own.replace('+', "-")).is_err());
}

#[test]
fn a_next_key_is_believed_beside_the_one_in_use_and_the_old_one_no_more_after_it_is_dropped() {
    let both = Keys::new(vec![key(1).verifier().clone(), key(2).verifier().clone()]).unwrap();
    let next = Keys::new(vec![key(2).verifier().clone()]).unwrap();
    let by = |k: u8| sign(&key(k), Context::Lease, &lease().json().canonical()).unwrap();
    let takes = |keys: &Keys, text: String| {
        verify(text.as_bytes(), keys, &here(), after(0), &mut Memory::new(VolatileEpochs::default())).is_ok()
    };
    assert!(takes(&both, by(1)) && takes(&both, by(2)) && takes(&next, by(2)) && !takes(&next, by(1)));
}

#[test]
fn a_permit_is_checked_by_the_same_rules_and_for_its_decision() {
    let good = signed_permit(&permit());
    let check = |text: &str, decision, now| {
        let mut memory = Memory::new(VolatileEpochs::default());
        keyward::permit::verify(text.as_bytes(), &pinned(), &here(), &decision, now, &mut memory)
    };
    assert_eq!(check(&good, decision(), after(0)).unwrap(), permit());
    let other = keyward::domain::key::Digest::of(b"approve request 7F3K-9Q2N");
    assert!(check(&good, other, after(0)).unwrap_err().to_string().contains("it permits the decision"));
    assert!(check(&good, decision(), after(15_000)).is_err());
    assert!(check(&signed(&lease()), decision(), after(0)).is_err(), "a lease is no permit");
    let mut foreign = permit();
    foreign.grant.audience = audience("other");
    assert!(check(&signed_permit(&foreign), decision(), after(0)).is_err());
    assert_eq!(foreign.grant.place(), grant().place());
}

/// Keeps in memory.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<BTreeMap<String, String>>>);

impl Keep for Shelf {
    fn load(&self, origin: &str) -> Result<Option<String>, String> {
        Ok(self.0.lock().unwrap().get(origin).cloned())
    }

    fn store(&mut self, origin: &str, note: &str) -> Result<(), String> {
        self.0.lock().unwrap().insert(origin.to_owned(), note.to_owned());
        Ok(())
    }
}

#[test]
fn a_lease_over_another_log_than_the_one_that_was_followed_is_refused() {
    use base64::Engine as _;
    let log = SignerKey::from_seed(ISSUER, Signs::Notes, Zeroizing::new([3; 32])).unwrap();
    let policy = Policy::parse(format!("log {}\nquorum none\n", log.verifier()).as_bytes(), Unsaid::Refused).unwrap();
    let mut follower = Follower::new(policy, Shelf::default());
    let root = keyward::domain::key::Digest([7; 32]);
    let checkpoint = Checkpoint { origin: ISSUER.into(), head: TreeHead { size: 44, root } }.to_string();
    let signature = log.sign(&checkpoint, Timestamp::from_unix(MADE));
    let note = Note { text: checkpoint, signatures: vec![signature] };
    let no_proof = |_: u64, _: u64| Err("nobody asks".to_owned());
    let naming = |size, root: [u8; 32]| {
        let mut lease = lease();
        lease.log = Some((size, base64::engine::general_purpose::STANDARD.encode(root)));
        lease
    };
    assert!(agrees(&naming(44, [7; 32]), &follower, no_proof).is_err(), "nothing was followed yet");
    follower.advance(&note, no_proof).unwrap();
    assert_eq!(agrees(&naming(44, [7; 32]), &follower, no_proof), Ok(()));
    assert!(agrees(&naming(44, [8; 32]), &follower, no_proof).is_err(), "it has forked");
    assert!(agrees(&naming(45, [7; 32]), &follower, no_proof).unwrap_err().to_string().contains("nobody asks"));
    let wrong = |_: u64, _: u64| Ok(vec![keyward::domain::key::Digest([1; 32])]);
    assert!(agrees(&naming(45, [7; 32]), &follower, wrong).is_err(), "a proof that proves nothing");
    let mut silent = lease();
    silent.log = None;
    assert!(agrees(&silent, &follower, no_proof).is_err());
}

#[test]
fn machine_is_said_and_never_guessed() {
    // A boot id that is empty on both sides would make every machine the same.
    let mut nowhere = here();
    nowhere.machine = Machine::Same { boot_id: String::new() };
    let mut lease = lease();
    lease.grant.boot_id = String::new();
    let mut memory = Memory::new(VolatileEpochs::default());
    assert!(verify(signed(&lease).as_bytes(), &pinned(), &nowhere, after(0), &mut memory).is_err());
}
