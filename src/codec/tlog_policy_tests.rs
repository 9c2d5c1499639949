//! What a policy file may say, and when a checkpoint satisfies it.

use zeroize::Zeroizing;

use super::*;
use crate::codec::note::SignerKey;
use crate::domain::key::Digest;
use crate::domain::tree::TreeHead;

fn signer(name: &str, signs: Signs, seed: u8) -> SignerKey {
    SignerKey::from_seed(name, signs, Zeroizing::new([seed; 32])).unwrap()
}

fn log() -> SignerKey {
    signer("log.example/a", Signs::Notes, 1)
}

fn witness(n: u8) -> SignerKey {
    signer(&format!("w{n}.example"), Signs::Sightings, 10 + n)
}

/// `log`, then `witness W1 …` to `witness W6 …`, then `rest`.
fn file(rest: &str) -> String {
    let mut text = format!("log {}\n", log().verifier());
    (1..=6).for_each(|n| text.push_str(&format!("witness W{n} {}\n", witness(n).verifier())));
    text + rest
}

fn parse(text: &str) -> Result<Policy, String> {
    Policy::parse(text.as_bytes(), Unsaid::Refused).map_err(|e| e.to_string())
}

fn note(signers: &[&SignerKey]) -> Note {
    let head = TreeHead { size: 3, root: Digest([5; 32]) };
    let text = Checkpoint { origin: "log.example/a".into(), head }.to_string();
    let at = Timestamp::from_unix(1_790_000_000);
    Note { signatures: signers.iter().map(|s| s.sign(&text, at)).collect(), text }
}

fn seen_by(witnesses: &[u8]) -> Note {
    let signers: Vec<SignerKey> = witnesses.iter().map(|n| witness(*n)).collect();
    let own = log();
    note(&[&own].into_iter().chain(&signers).collect::<Vec<_>>())
}

#[test]
fn the_example_of_the_specification_asks_for_two_of_x_and_one_of_y() {
    let policy = parse(&file(
        "# two operators\n\ngroup X 2 W1 W2 W3\n \t# and\ngroup Y any W4 W5 W6\ngroup both all X Y\nquorum both\n",
    ))
    .unwrap();
    for a in 0_u8..64 {
        let by: Vec<u8> = (1..=6).filter(|n| a >> (n - 1) & 1 == 1).collect();
        let (x, y) = (by.iter().filter(|n| **n <= 3).count(), by.iter().filter(|n| **n > 3).count());
        let got = policy.satisfied(&seen_by(&by));
        assert_eq!(got.is_ok(), x >= 2 && y >= 1, "{by:?}: {got:?}");
    }
    let lacking = policy.satisfied(&seen_by(&[1, 4])).unwrap_err().to_string();
    for word in ["1 of 2 in group both", "1 of 3 in group X", "2 are needed", "witness W2 has not cosigned it"] {
        assert!(lacking.contains(word), "{lacking}");
    }
}

#[test]
fn a_quorum_is_a_witness_a_group_or_none_said_explicitly() {
    let one = parse(&file("quorum W2\n")).unwrap();
    assert!(one.satisfied(&seen_by(&[2])).is_ok() && one.satisfied(&seen_by(&[1, 3])).is_err());
    let none = parse(&file("quorum none\n")).unwrap();
    assert!(none.satisfied(&seen_by(&[])).is_ok() && none.needs_no_witness());
    assert!(parse(&file("")).unwrap_err().contains("has no quorum line"));
    let lax = |text: &str| Policy::parse(text.as_bytes(), Unsaid::AnyWitness);
    let any = lax(&file("")).unwrap();
    assert!(any.satisfied(&seen_by(&[6])).is_ok() && any.satisfied(&seen_by(&[])).is_err());
    assert!(lax("").unwrap_err().to_string().contains("quorum none"));
    assert!(lax("quorum none\n").unwrap().needs_no_witness());
}

#[test]
fn only_a_listed_log_with_that_origin_counts_and_a_wrong_signature_spoils_the_note() {
    let policy = parse(&file("quorum none\n")).unwrap();
    let stranger = signer("log.example/a", Signs::Notes, 99);
    assert!(matches!(policy.satisfied(&note(&[&stranger])), Err(Unsatisfied::Unsigned(_))));
    assert!(policy.satisfied(&note(&[&stranger, &log()])).is_ok());
    let mut other = seen_by(&[]);
    other.text = other.text.replace("log.example/a", "log.example/b");
    assert!(matches!(policy.satisfied(&other), Err(Unsatisfied::UnknownLog(_))));
    let mut bent = seen_by(&[1, 2]);
    bent.signatures[2].bytes[20] ^= 1;
    assert!(matches!(policy.satisfied(&bent), Err(Unsatisfied::Wrong(_))));
    bent.text = "no checkpoint\n".into();
    assert!(matches!(policy.satisfied(&bent), Err(Unsatisfied::Checkpoint(_))));
    // The name of another log with the right key is another log.
    let twin = signer("log.example/b", Signs::Notes, 1);
    let policy = parse(&format!("log {}\nquorum none\n", twin.verifier())).unwrap();
    assert!(matches!(policy.satisfied(&note(&[&twin])), Err(Unsatisfied::UnknownLog(_))));
    // A key that is being rotated: either counts.
    let policy = policy.for_logs(&[log().verifier().clone(), stranger.verifier().clone()]);
    assert!(policy.satisfied(&note(&[&stranger])).is_ok() && policy.satisfied(&note(&[&log()])).is_ok());
}

#[test]
fn every_rule_of_the_file_is_held() {
    let (own, w1) = (log().verifier().to_string(), witness(1).verifier().to_string());
    let renamed = signer("other", Signs::Notes, 1).verifier().to_string();
    let renamed_witness = signer("other", Signs::Sightings, 11).verifier().to_string();
    let table: Vec<(String, &str)> = vec![
        ("quorum none".into(), "cut short"),
        ("quorum none\r\n".into(), "octet 0x0d"),
        ("# a\u{b}b\nquorum none\n".into(), "octet 0x0b"),
        ("\u{7f}\nquorum none\n".into(), "octet 0x7f"),
        ("quorum none\nquorum none\n".into(), "second quorum"),
        ("quorum W1\n".into(), "no line before it defines"),
        (format!("quorum W1\nwitness W1 {w1}\n"), "no line before it defines"),
        (format!("log {own}\nlog {own}\nquorum none\n"), "public key of log log.example/a once more"),
        (format!("log {own}\nlog {renamed}\nquorum none\n"), "once more"),
        (format!("witness A {w1}\nwitness B {w1}\nquorum none\n"), "public key of witness A once more"),
        (format!("witness A {w1}\nwitness B {renamed_witness}\nquorum none\n"), "once more"),
        (format!("witness A {w1}\nwitness A {}\nquorum A\n", witness(2).verifier()), "a second time"),
        (format!("witness A {w1}\ngroup A any A\nquorum A\n"), "a second time"),
        (format!("witness none {w1}\nquorum none\n"), "defines the name none"),
        (format!("witness A {w1}\ngroup none any A\nquorum A\n"), "defines the name none"),
        (format!("witness A {own}\nquorum A\n"), "key of a log"),
        (format!("log {w1}\nquorum none\n"), "key of a witness"),
        ("log x+00000000+AQ==\nquorum none\n".into(), "has the key"),
        ("log\nquorum none\n".into(), "the form `log VKEY"),
        (format!("log {own} u v\nquorum none\n"), "the form `log VKEY"),
        ("witness A\nquorum none\n".into(), "the form `witness NAME"),
        ("group A any\nquorum A\n".into(), "the form `group NAME"),
        ("quorum\n".into(), "the form `quorum NAME`"),
        ("quorum none x\n".into(), "the form `quorum NAME`"),
        ("Quorum none\n".into(), "begins with Quorum"),
        ("quorum\u{a0}none\n".into(), "begins with"),
        (file("group A any none\nquorum A\n"), "names none, which"),
        (file("group A any A\nquorum A\n"), "names A, which"),
        (file("group A any W1 W1\nquorum A\n"), "a member already"),
        (file("group A any W1\ngroup B any W2 W1\nquorum B\n"), "a member already"),
        (file("group A 0 W1\nquorum A\n"), "asks for 0 of 1"),
        (file("group A 2 W1\nquorum A\n"), "asks for 2 of 1"),
        (file("group A 01 W1\nquorum A\n"), "asks for 01 members"),
        (file("group A +1 W1\nquorum A\n"), "asks for +1 members"),
        (file("group A most W1\nquorum A\n"), "asks for most members"),
        (String::new(), "no quorum line"),
    ];
    for (text, word) in table {
        let error = parse(&text).expect_err(&text);
        assert!(error.contains(word), "{text:?}: {error}");
    }
}

#[test]
fn whitespace_comments_and_names_of_any_octets_are_fine() {
    let mut octets = file("").into_bytes();
    octets.extend_from_slice(b"\t group \t caf\xe9 all  W1 W2 \n#\xff\n  \n quorum\tcaf\xe9 ");
    assert!(Policy::parse(&octets, Unsaid::Refused).is_err());
    octets.push(b'\n');
    let policy = Policy::parse(&octets, Unsaid::Refused).unwrap();
    assert!(policy.satisfied(&seen_by(&[1, 2])).is_ok());
    assert!(policy.satisfied(&seen_by(&[1])).unwrap_err().to_string().contains("group caf\\xe9"));
    let url = parse(&format!("witness A {} https://w.example/x\nquorum A\n", witness(1).verifier())).unwrap();
    assert_eq!(url.witnesses()[0].url.as_deref(), Some("https://w.example/x"));
}

#[test]
fn thirty_two_of_each_are_taken_and_one_more_is_refused() {
    let mut text = String::new();
    for n in 0..32_u8 {
        text.push_str(&format!("log {}\n", signer(&format!("l{n}"), Signs::Notes, n).verifier()));
        text.push_str(&format!("witness w{n} {}\n", signer(&format!("w{n}"), Signs::Sightings, n).verifier()));
    }
    for n in 0..32 {
        let member = if n == 0 { "w0".to_owned() } else { format!("g{} w{n}", n - 1) };
        text.push_str(&format!("group g{n} all {member}\n"));
    }
    let policy = parse(&(text.clone() + "quorum g31\n")).unwrap();
    assert_eq!((policy.logs().len(), policy.witnesses().len()), (32, 32));
    // All of them on one note, with two keys of the log.
    let head = TreeHead { size: 3, root: Digest([5; 32]) };
    let body = Checkpoint { origin: "l0".into(), head }.to_string();
    let at = Timestamp::from_unix(1);
    let mut signatures =
        vec![signer("l0", Signs::Notes, 0).sign(&body, at), signer("l0", Signs::Notes, 77).sign(&body, at)];
    signatures.extend((0..32_u8).map(|n| signer(&format!("w{n}"), Signs::Sightings, n).sign(&body, at)));
    let whole: Note = Note { text: body, signatures }.to_string().parse().unwrap();
    assert_eq!(policy.satisfied(&whole).unwrap().cosigned.len(), 32);
    for more in [
        format!("log {}\n", signer("l", Signs::Notes, 200).verifier()),
        format!("witness w {}\n", signer("w", Signs::Sightings, 200).verifier()),
        "group g any g31\n".to_owned(),
    ] {
        assert!(parse(&(text.clone() + &more + "quorum none\n")).unwrap_err().contains("one too many"));
    }
}
