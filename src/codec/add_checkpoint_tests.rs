//! Every rule of `add-checkpoint`, one after the other.

use super::*;
use crate::codec::note::{SignerKey, Signs};
use crate::codec::test_log::{TestLog, signer};

const ORIGIN: &str = "log.example/a";

fn log() -> TestLog {
    TestLog::new(ORIGIN, 40, 20, 0)
}

fn logs(keys: &[&SignerKey]) -> Logs {
    Logs::new(keys.iter().map(|k| (ORIGIN.to_owned(), k.verifier().clone())))
}

fn request(log: &TestLog, old: u64, new: u64) -> Request {
    Request { old, proof: if old <= new { log.proof(old, new) } else { Vec::new() }, note: log.note(new, &[]) }
}

/// What a witness that saw `last` says.
fn judge(last: Option<TreeHead>, request: &Request) -> Result<(), Refusal> {
    let own = log();
    let (request, checkpoint) = Request::trusted(request.to_string().as_bytes(), &logs(&[&own.key]))?;
    consider(last.as_ref(), &request, &checkpoint)
}

#[test]
fn the_example_of_the_specification_reads_back() {
    let text = "old 20852014\nPlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\njrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\
        5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\n\
        example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
        \u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
        \u{2014} example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=\n";
    let request: Request = text.parse().unwrap();
    assert_eq!((request.old, request.proof.len(), request.note.signatures.len()), (20_852_014, 4, 2));
    assert_eq!(request.to_string(), text);
}

#[test]
fn what_is_no_request_is_malformed() {
    let own = log();
    let whole = request(&own, 3, 20).to_string();
    let hash = format!("{}\n", STANDARD.encode([7; 32]));
    for bad in [
        String::new(),
        "old 3\n".into(),
        whole.replace("old 3\n", ""),
        whole.replace("old 3\n", "old 03\n"),
        whole.replace("old 3\n", "old +3\n"),
        whole.replace("old 3\n", "old  3\n"),
        whole.replace("old 3\n", "old -3\n"),
        whole.replace("old 3\n", "Old 3\n"),
        whole.replace("old 3\n", "old 3 \n"),
        whole.replace("old 3\n", "old 3\r\n"),
        whole.replace("old 3\n", "old 18446744073709551616\n"),
        whole.replace("old 3\n", "old 3\nAAAA\n"),
        whole.replace("old 3\n", "old 3\n!\n"),
        whole.replace("old 3\n", &format!("old 3\n{}", hash.repeat(64))),
        whole.replace("\n\nlog.example", "\nlog.example"),
        whole.replace("\n20\n", "\n020\n"),
        whole.trim_end().to_owned(),
        format!("{whole}x"),
        whole.replace("\u{2014} ", "- "),
    ] {
        assert!(matches!(Request::trusted(bad.as_bytes(), &logs(&[&own.key])), Err(Refusal::Malformed(_))), "{bad:?}");
    }
    assert!(matches!(Request::trusted(b"old 0\n\n\xff\n", &Logs::default()), Err(Refusal::Malformed(_))));
    let long = vec![b'a'; LONGEST_REQUEST + 1];
    assert!(matches!(Request::trusted(&long, &Logs::default()), Err(Refusal::Malformed(_))));
    // 63 hashes are still a request, if one with a wrong proof.
    let most = whole.replace("old 3\n", &format!("old 3\n{}", hash.repeat(63 - own.proof(3, 20).len())));
    assert!(Request::trusted(most.as_bytes(), &logs(&[&own.key])).is_ok());
}

#[test]
fn unknown_origins_and_keys_are_told_apart_and_signatures_of_strangers_do_not_matter() {
    let own = log();
    let stranger = signer(ORIGIN, Signs::Notes, 9);
    let body = request(&own, 0, 20).to_string();
    let of = |logs: &Logs, body: &str| Request::trusted(body.as_bytes(), logs).map(|_| ());
    assert_eq!(of(&Logs::default(), &body), Err(Refusal::UnknownOrigin(ORIGIN.into())));
    assert_eq!(of(&logs(&[&stranger]), &body), Err(Refusal::Unsigned(ORIGIN.into())));
    assert_eq!(of(&logs(&[&stranger, &own.key]), &body), Ok(()), "a log whose key is being rotated has two");
    let mut with_strangers = request(&own, 0, 20);
    let more = own.note(20, &[&stranger, &signer("w", Signs::Sightings, 3)]).signatures;
    with_strangers.note.signatures = more.into_iter().rev().collect();
    assert_eq!(of(&logs(&[&own.key]), &with_strangers.to_string()), Ok(()));
    let mut bent = request(&own, 0, 20);
    bent.note.text = bent.note.text.replace("\n20\n", "\n21\n");
    assert_eq!(of(&logs(&[&own.key]), &bent.to_string()), Err(Refusal::Unsigned(ORIGIN.into())));
    bent.note.signatures.truncate(0);
    assert!(matches!(of(&logs(&[&own.key]), &bent.to_string()), Err(Refusal::Malformed(_))));
}

#[test]
fn every_pair_of_sizes_is_judged_as_the_specification_says() {
    let own = log();
    for last in 0..=40_u64 {
        let seen = (last > 0).then(|| own.checkpoint(last).head);
        for old in 0..=40_u64 {
            for new in 0..=40_u64 {
                let got = judge(seen, &request(&own, old, new));
                let expected = if old > new {
                    Err(Refusal::OldAboveNew { old, new })
                } else if old != last {
                    Err(Refusal::Stale { recorded: last })
                } else {
                    Ok(())
                };
                assert_eq!(got, expected, "saw {last}, old {old}, new {new}");
            }
        }
    }
}

#[test]
fn a_fork_is_seen_at_the_same_size_and_at_every_larger_one() {
    let (own, other) = (log(), TestLog::new(ORIGIN, 40, 20, 1));
    let seen = Some(own.checkpoint(30).head);
    assert!(matches!(judge(seen, &request(&other, 30, 30)), Err(Refusal::Forked { size: 30, .. })));
    for new in 31..=40 {
        assert!(matches!(judge(seen, &request(&other, 30, new)), Err(Refusal::Inconsistent { old: 30, .. })), "{new}");
    }
    // Before the fork both are one log.
    for new in 20..=40 {
        assert_eq!(judge(Some(own.checkpoint(20).head), &request(&other, 20, new)), Ok(()), "{new}");
    }
}

#[test]
fn every_wrong_proof_is_refused() {
    let own = log();
    for (old, new) in [(0, 0), (0, 7), (1, 2), (3, 20), (8, 16), (13, 40), (20, 20)] {
        let good = request(&own, old, new);
        let seen = (old > 0).then(|| own.checkpoint(old).head);
        let mut wrong = Vec::new();
        for n in 0..good.proof.len() {
            let mut bent = good.clone();
            bent.proof[n].0[0] ^= 1;
            wrong.push(bent);
            let mut short = good.clone();
            short.proof.remove(n);
            wrong.push(short);
        }
        let mut long = good.clone();
        long.proof.push(Digest([1; 32]));
        wrong.push(long);
        for request in wrong {
            assert!(matches!(judge(seen, &request), Err(Refusal::Inconsistent { .. })), "{old} {new}");
        }
        assert_eq!(judge(seen, &good), Ok(()));
    }
}

#[test]
fn an_empty_tree_with_a_root_is_a_fork_of_nothing() {
    let own = log();
    let mut lying = own.checkpoint(0);
    lying.head.root = Digest([1; 32]);
    let text = lying.to_string();
    let signature = own.key.sign(&text, crate::domain::time::Timestamp::from_unix(0));
    let request = Request { old: 0, proof: Vec::new(), note: Note { text, signatures: vec![signature] } };
    assert!(matches!(judge(None, &request), Err(Refusal::Forked { size: 0, .. })));
}

#[test]
fn a_recorded_size_is_digits_and_a_newline() {
    assert_eq!((recorded_size("0\n"), recorded_size("20852014\n")), (Some(0), Some(20_852_014)));
    for bad in ["", "1", "01\n", "+1\n", "1\n\n", " 1\n", "x\n", "18446744073709551615\n"] {
        assert_eq!(recorded_size(bad), None, "{bad:?}");
    }
}
