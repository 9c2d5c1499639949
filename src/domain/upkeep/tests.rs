use std::collections::BTreeSet;

use super::*;
use crate::domain::id::Ulid;
use crate::domain::key::Digest;
use crate::domain::time::DAY;
use crate::domain::tracked::CLASSES;

fn at(days: u32) -> Timestamp {
    Timestamp::from_unix(1_800_000_000).plus(DAY * days)
}

fn done(days: u32) -> Done {
    Done { at: at(days), reason: Arc::from("why"), by: Some(Arc::from("who")), suspected: None }
}

fn version(state: KeyState) -> KeyVersion {
    KeyVersion { state, ..KeyVersion::active(1, at(0), at(0), "made") }
}

fn look(n: u8) -> KeyLook {
    KeyLook { print: Print::Mac(Digest([n; 32])), made: None, wrapped: None, weak: None }
}

fn known(n: u8) -> KeyRecord {
    let news = KeyRecord::default().seen(&look(n), KeyClass::Authorization, Some(at(0)), at(1));
    let News::First(record) = news else { panic!("{news:?}") };
    record
}

/// Written out once more, as the standard's figure has it.
#[test]
fn every_transition_of_every_class_is_allowed_or_refused_as_the_standard_says() {
    use Act::{Activate, Compromise, Deactivate, Destroy, Resume, Suspend};
    use KeyState::{Active, Compromised, Deactivated, Destroyed, PreActivation, Suspended};
    let row = |state| -> [(Act, Option<KeyState>); 6] {
        let [activate, suspend, resume, deactivate, compromise, destroy] = match state {
            PreActivation => [Some(Active), None, None, None, Some(Compromised), Some(Destroyed)],
            Active => [None, Some(Suspended), None, Some(Deactivated), Some(Compromised), Some(Destroyed)],
            Suspended => [None, None, Some(Active), Some(Deactivated), Some(Compromised), Some(Destroyed)],
            Deactivated => [None, None, None, None, Some(Compromised), Some(Destroyed)],
            Compromised => [None, None, None, None, None, Some(Destroyed)],
            Destroyed => [None, None, None, None, Some(Destroyed), None],
        };
        [
            (Activate, activate),
            (Suspend, suspend),
            (Resume, resume),
            (Deactivate, deactivate),
            (Compromise, compromise),
            (Destroy, destroy),
        ]
    };
    let mut seen = BTreeSet::new();
    for facts in CLASSES {
        for (state, _) in KeyState::ALL {
            for (act, expected) in row(state) {
                let after = version(state).after(act, facts.class, &done(5));
                let must_go = act == Deactivate && facts.at_end == Destroyed;
                match expected.filter(|_| !must_go) {
                    Some(new) => {
                        let after = after.unwrap_or_else(|e| panic!("{state:?} {act:?}: {e}"));
                        assert_eq!(after.state, new);
                        assert_eq!((&*after.reason, after.by.as_deref()), ("why", Some("who")));
                        assert_eq!(after.since, if new == state { at(0) } else { at(5) });
                        assert_eq!(after.compromised.is_some(), act == Compromise);
                        seen.insert((state, act));
                    }
                    None if must_go => assert_eq!(after, Err(NotMoved::MustGo(facts.class))),
                    None => assert_eq!(after, Err(NotMoved::NoWay(state, act))),
                }
            }
        }
    }
    assert_eq!(seen.len(), TRANSITIONS.len());
}

#[test]
fn a_suspicion_is_of_the_past_and_the_earliest_counts() {
    let class = KeyClass::Authorization;
    let since = |days: u32, suspected: u32| Done { suspected: Some(at(suspected)), ..done(days) };
    let future = version(KeyState::Active).after(Act::Compromise, class, &since(5, 6));
    assert_eq!(future, Err(NotMoved::Future(at(6))));
    let bad = version(KeyState::Active).after(Act::Compromise, class, &since(5, 3)).unwrap();
    assert_eq!(bad.compromised, Some(at(3)));
    let gone = bad.after(Act::Destroy, class, &done(6)).unwrap();
    let known = gone.after(Act::Compromise, class, &since(7, 1)).unwrap();
    assert_eq!((known.state, known.compromised), (KeyState::Destroyed, Some(at(1))));
    assert_eq!(known.public_half(), KeyState::Compromised);
    assert_eq!(version(KeyState::Destroyed).public_half(), KeyState::Deactivated);
}

#[test]
fn another_key_is_young_the_same_is_not_and_the_one_before_is_as_old_as_it_was() {
    let class = KeyClass::SymmetricEncryption;
    let record = known(1);
    assert_eq!(record.current.as_ref().unwrap().created, at(0));
    assert_eq!(record.seen(&look(1), class, Some(at(9)), at(10)), News::None, "what is said counts once");
    let News::Rekeyed(second) = record.seen(&look(2), class, None, at(10)) else { panic!() };
    let (new, old) = (second.current.clone().unwrap(), second.previous.clone().unwrap());
    assert_eq!((new.number, new.created, new.state), (2, at(10), KeyState::Active));
    assert_eq!((old.number, old.state, old.created), (1, KeyState::Deactivated, at(0)));
    let News::Returned(back) = second.seen(&look(1), class, None, at(11)) else { panic!() };
    let again = back.current.unwrap();
    assert_eq!((again.number, again.created, again.state), (1, at(0), KeyState::Deactivated));
    // What a file says of its age is believed only between the version before it and now.
    for (made, created) in [(at(9), at(9)), (at(0), at(10)), (at(12), at(10))] {
        let look = KeyLook { made: Some(made), ..look(2) };
        let News::Rekeyed(record) = record.seen(&look, class, None, at(10)) else { panic!() };
        assert_eq!(record.current.unwrap().created, created);
    }
}

#[test]
fn a_certificate_is_renewed_or_reissued_and_neither_makes_its_key_younger() {
    let class = KeyClass::PrivateSignature;
    let spki = |n: u8, certificate: u8, ends: u32| KeyLook {
        print: Print::Spki(Digest([n; 32])),
        wrapped: Some(Wrapped { fingerprint: Digest([certificate; 32]), ends: at(ends) }),
        ..look(n)
    };
    let News::First(record) = KeyRecord::default().seen(&spki(1, 1, 90), class, Some(at(0)), at(1)) else { panic!() };
    let News::Renewed(renewed) = record.seen(&spki(1, 2, 180), class, None, at(60)) else { panic!() };
    assert_eq!(renewed.current.as_ref().unwrap().created, at(0));
    let News::Reissued(again) = renewed.seen(&spki(1, 3, 180), class, None, at(70)) else { panic!() };
    assert_eq!(again.current.as_ref().unwrap().created, at(0));
    let News::Rekeyed(other) = again.seen(&spki(2, 4, 270), class, None, at(80)) else { panic!() };
    assert_eq!(other.previous.unwrap().state, KeyState::Destroyed, "a signature key is destroyed at its end");
}

#[test]
fn labels_move_with_finish_and_nothing_else() {
    let (class, overlap) = (KeyClass::SymmetricAuthentication, DAY);
    let mut record = known(1).begun(AttemptId(Ulid::from_bytes([1; 16])), &done(2));
    let labels = |record: &KeyRecord| -> Vec<(&str, u32)> { record.versions().map(|(l, v)| (l, v.number)).collect() };
    assert_eq!(labels(&record), [("CURRENT", 1), ("PENDING", 2)]);
    let print = Some(Print::Mac(Digest([2; 32])));
    for step in [Step::Create, Step::Set, Step::Test] {
        assert_eq!(record.rotation.as_ref().unwrap().step, step);
        // Its print may be seen early; until `finish` that changes nothing.
        record = record.stepped(class, overlap, print, at(3));
        assert_eq!(labels(&record), [("CURRENT", 1), ("PENDING", 2)]);
        assert_eq!(record.seen(&look(2), class, None, at(3)), News::None);
    }
    let failed = record.failed(at(3));
    assert_eq!((labels(&failed), failed.rotation.as_ref().unwrap().failures), (labels(&record), 1));
    assert!(failed.rotation.unwrap().not_before.is_some_and(|t| t > at(3)));
    assert_eq!(record.abandoned(), known(1), "given up, all is as before");
    let both = record.stepped(class, overlap, print, at(4));
    assert_eq!(labels(&both), [("CURRENT", 2), ("PREVIOUS", 1)]);
    let old = both.previous.as_ref().unwrap();
    assert_eq!((old.state, old.until), (KeyState::Active, Some(at(5))), "dual-active");
    assert_eq!(both.rotation.as_ref().unwrap().not_before, Some(at(5)));
    let over = both.stepped(class, overlap, None, at(5));
    assert_eq!(over.rotation, None);
    assert_eq!(over.previous.as_ref().unwrap().state, KeyState::Deactivated);
    assert_eq!(over.current.as_ref().unwrap().print, print);
    assert_eq!(over.next_number(), 3, "numbers are never given twice");
}

#[test]
fn a_compromised_key_has_no_time_together_with_its_successor() {
    let class = KeyClass::SymmetricAuthentication;
    let mut record = known(1).begun(AttemptId(Ulid::from_bytes([1; 16])), &done(2));
    record.current = Some(record.current.unwrap().after(Act::Compromise, class, &done(2)).unwrap());
    for _ in [Step::Create, Step::Set, Step::Test, Step::Finish] {
        record = record.stepped(class, DAY, None, at(3));
    }
    assert_eq!(record.current.as_ref().unwrap().state, KeyState::Active);
    assert_eq!(record.previous.as_ref().unwrap().until, Some(at(3)));
    assert_eq!(record.rotation.as_ref().unwrap().not_before, Some(at(3)), "it is retired at once");
    let over = record.stepped(class, DAY, None, at(3)).previous.unwrap();
    assert_eq!((over.state, over.until), (KeyState::Compromised, None));
}

#[test]
fn pauses_grow_to_an_hour_and_no_further() {
    let pauses: Vec<u64> = [1, 2, 3, 4, 5, 6, 7, 8, u32::MAX].map(|n| pause(n).as_secs() / 60).to_vec();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
}

/// At the step `retire`, on day 3, with an overlap of one day.
fn retiring() -> KeyRecord {
    let mut record = known(1).begun(AttemptId(Ulid::from_bytes([1; 16])), &done(2));
    for _ in [Step::Create, Step::Set, Step::Test, Step::Finish] {
        record = record.stepped(KeyClass::SymmetricEncryption, DAY, Some(look(2).print), at(3));
    }
    assert!(record.retires());
    record
}

#[test]
fn an_old_key_is_accepted_until_its_retirement_is_done_and_not_only_until_it_was_due() {
    let record = retiring();
    let accepted = |record: &KeyRecord, days| record.accepted(at(days)).map(|v| v.number).collect::<Vec<u32>>();
    assert_eq!(accepted(&record, 3), [2, 1]);
    assert_eq!(accepted(&record.failed(at(4)), 400), [2, 1], "it was due on day 4, and nobody has done it");
    let over = record.stepped(KeyClass::SymmetricEncryption, DAY, None, at(5));
    assert_eq!(accepted(&over, 5), [2]);
    let late = KeyRecord { rotation: None, ..record };
    assert_eq!((accepted(&late, 3), accepted(&late, 4)), (vec![2, 1], vec![2]), "its time alone counts then");
}

#[test]
fn a_compromised_old_key_is_retired_now() {
    let record = retiring().failed(at(3)).hastened(at(3));
    assert_eq!(record.rotation.unwrap().not_before, Some(at(3)));
    assert_eq!(record.previous.unwrap().until, Some(at(3)));
    let begun = known(1).begun(AttemptId(Ulid::from_bytes([1; 16])), &done(2));
    assert_eq!(begun.clone().hastened(at(3)), begun, "before `finish` there is nothing to retire");
}

#[test]
fn a_rotation_stops_before_it_retires_what_is_in_use_again() {
    let class = KeyClass::SymmetricEncryption;
    let News::Returned(back) = retiring().seen(&look(1), class, None, at(3)) else { panic!() };
    assert_eq!((&back.rotation, back.accepted(at(3)).count()), (&None, 1));
    let current = back.current.unwrap();
    assert_eq!((current.number, current.until, current.state), (1, None, KeyState::Active));
    assert_eq!(back.previous.unwrap().state, KeyState::Deactivated);
}

#[test]
fn a_stranger_stops_a_retirement_and_the_old_key_stays_accepted_until_a_person_says_otherwise() {
    let class = KeyClass::SymmetricEncryption;
    let News::Rekeyed(other) = retiring().seen(&look(3), class, None, at(3)) else { panic!() };
    let News::Rekeyed(more) = other.seen(&look(4), class, None, at(5)) else { panic!() };
    for (record, number) in [(&other, 3), (&more, 4)] {
        assert_eq!(record.rotation, None);
        assert_eq!(record.accepted(at(400)).map(|v| v.number).collect::<Vec<u32>>(), [number, 1]);
        assert_eq!(record.unretired(at(400)).map(|v| v.number), Some(1));
    }
    let gone = more.previous.as_ref().unwrap().after(Act::Destroy, class, &done(6)).unwrap();
    let after = KeyRecord { previous: Some(gone), ..more };
    assert_eq!((after.unretired(at(6)), after.accepted(at(6)).count()), (None, 1));
}

#[test]
fn a_rotation_whose_new_key_nobody_has_seen_hides_no_other_key() {
    let class = KeyClass::SymmetricEncryption;
    let News::Rekeyed(second) = known(1).seen(&look(2), class, None, at(1)) else { panic!() };
    let mut record = second.begun(AttemptId(Ulid::from_bytes([1; 16])), &done(2));
    for step in [Step::Create, Step::Set, Step::Test, Step::Finish] {
        assert_eq!(record.rotation.as_ref().map(|r| r.step), Some(step));
        let News::Returned(back) = record.seen(&look(1), class, None, at(3)) else { panic!("{step:?}") };
        assert_eq!((back.current.unwrap().number, back.rotation), (1, record.rotation.clone()), "it goes on");
        let stranger = record.seen(&look(3), class, None, at(3));
        assert_eq!(matches!(stranger, News::Rekeyed(_)), step != Step::Finish, "{step:?}: {stranger:?}");
        record = record.stepped(class, DAY, None, at(3));
    }
}
