//! Certificates, chains and PKCS#12: bytes made by rcgen and by openssl, good ones and every bad one we could think of.

use std::time::{Duration, Instant};

use keyward::codec::verify::{Roots, chain, to_serve};
use keyward::codec::x509::{Limits, MOST_NAMES, certificates_from, facts, may_serve, other_names};
use keyward::codec::{pem, pkcs12};
use keyward::domain::certificate::Trust;
use keyward::domain::name::NameSet;
use keyward::domain::time::Timestamp;
use rcgen::{
    BasicConstraints, CustomExtension, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose,
    NameConstraints, SanType, date_time_ymd,
};

use crate::harness::pki::{Ca, Der, nothing, now, openssl, roots};

fn why(ders: &[&Der], roots: &Roots) -> String {
    match chain(&ders.iter().map(|d| (*d).clone()).collect::<Vec<_>>(), roots).unwrap().trust {
        Trust::Untrusted(why) => why,
        Trust::Anchored => panic!("the chain is trusted"),
    }
}

fn subjects(ders: &[&Der], roots: &Roots) -> Vec<String> {
    let chain = chain(&ders.iter().map(|d| (*d).clone()).collect::<Vec<_>>(), roots).unwrap();
    assert_eq!(chain.trust, Trust::Anchored);
    chain.above.iter().map(|c| c.subject.clone()).collect()
}

mod parsing {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused_with_its_reason() {
        let (leaf, _) = Ca::root("R", nothing).leaf(&["a.example"], nothing);
        let text = pem::certificates(&[&leaf]);
        let mut tail = leaf.to_vec();
        tail.push(0);
        let torn = &text[..text.len() / 2];
        let damaged = text.replace("MII", "M*I");
        let many = pem::certificates(&vec![&leaf; 65]);
        let huge = vec![b'x'; (1 << 20) + 1];
        for (bytes, reason) in [
            (&b""[..], "empty"),
            (b"hello", "no certificate"),
            (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no certificate"),
            (torn.as_bytes(), "torn"),
            (damaged.as_bytes(), "base64"),
            (b"-----BEGIN CERTIFICATE---\nAAAA\n", "BEGIN line"),
            (&tail, "one whole DER"),
            (&leaf[..leaf.len() - 1], "one whole DER"),
            (many.as_bytes(), "more than 64"),
            (&huge, "larger than"),
        ] {
            let error = certificates_from(bytes, &Limits::CHAIN).expect_err(reason);
            assert!(error.0.contains(reason), "{reason}: {error}");
        }
    }

    #[test]
    fn text_and_keys_around_the_blocks_and_crlf_do_not_matter() {
        let root = Ca::root("R", nothing);
        let (leaf, key) = root.leaf(&["a.example"], nothing);
        let text = format!(
            "\u{feff}# comment\r\n{}subject=x\n{}junk {}",
            key.serialize_pem(),
            pem::certificates(&[&leaf]).replace('\n', "\r\n"),
            "\n".to_owned() + &pem::certificates(&[&root.der])
        );
        assert_eq!(certificates_from(text.as_bytes(), &Limits::CHAIN).unwrap(), [leaf.clone(), root.der]);
        assert_eq!(certificates_from(&leaf, &Limits::CHAIN).unwrap(), [leaf]);
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_refused_or_read_without_a_panic() {
        let (leaf, _) = Ca::root("R", nothing).leaf(&["a.example", "192.0.2.1"], nothing);
        for end in 0..leaf.len() {
            assert!(facts(&leaf[..end]).is_err());
        }
        let mut read = 0;
        for at in 0..leaf.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = leaf.to_vec();
                bytes[at] ^= flip;
                read += usize::from(facts(&bytes).is_ok());
            }
        }
        assert!(read > 0, "a flip in a key or a serial is still a certificate");
    }

    #[test]
    fn openssl_and_rcgen_certificates_have_the_facts_that_openssl_prints() {
        let dir = tempfile::tempdir().unwrap();
        for (i, algorithm) in ["ec:P-256", "ec:P-384", "ed25519", "rsa:2048"].iter().enumerate() {
            let (key, option) = match algorithm.split_once(':') {
                Some(("ec", curve)) => ("EC", format!("ec_paramgen_curve:{curve}")),
                Some((_, bits)) => ("RSA", format!("rsa_keygen_bits:{bits}")),
                None => ("ED25519", String::new()),
            };
            let mut args = vec!["genpkey", "-algorithm", key, "-out", "k.pem"];
            if !option.is_empty() {
                args.extend(["-pkeyopt", &option]);
            }
            openssl(dir.path(), &args);
            let serial = format!("0x{}", ["01", "00ff", "8000", "7f0000000000000000000000000000000000000a"][i]);
            let san = "subjectAltName=DNS:A.Example.com,DNS:*.b.example,IP:192.0.2.7,IP:2001:db8::1,email:x@y.example,DNS:bad_name.example";
            let args = "req -x509 -new -key k.pem -out c.pem -days 3650 -set_serial";
            let mut args: Vec<&str> = args.split(' ').collect();
            args.extend([&serial, "-subj", "/C=DE/O=Müller, Söhne \\+ Co/CN=a\"b", "-utf8", "-addext", san]);
            openssl(dir.path(), &args);
            let bytes = std::fs::read(dir.path().join("c.pem")).unwrap();
            let ders = certificates_from(&bytes, &Limits::CHAIN).unwrap();
            let facts = facts(&ders[0]).unwrap();
            let print = |what: &str| openssl(dir.path(), &["x509", "-in", "c.pem", "-noout", what]).trim().to_owned();
            let number = print("-serial").to_lowercase();
            assert_eq!(&*facts.serial, number.split_once('=').unwrap().1.trim_start_matches('0'));
            let sha = openssl(dir.path(), &["x509", "-in", "c.pem", "-noout", "-fingerprint", "-sha256"]);
            let sha = sha.trim().split_once('=').unwrap().1.replace(':', "").to_lowercase();
            assert_eq!(facts.fingerprint.to_string(), sha);
            assert_eq!(facts.subject, r#"CN=a\"b,O=Müller\, Söhne \+ Co,C=DE"#);
            assert_eq!(facts.names.key().as_ref(), "*.b.example,a.example.com,192.0.2.7,2001:db8::1");
            assert_eq!(other_names(&ders[0]).unwrap(), ["email \"x@y.example\"", "DNS \"bad_name.example\""]);
            assert_eq!(facts.validity.lifetime(), Duration::from_secs(3_650 * 86_400));
            assert!(facts.may_issue, "openssl req -x509 makes CAs");
            let pubkey = openssl(dir.path(), &["x509", "-in", "c.pem", "-noout", "-pubkey"]);
            std::fs::write(dir.path().join("pub.pem"), pubkey).unwrap();
            openssl(dir.path(), &["pkey", "-pubin", "-in", "pub.pem", "-outform", "DER", "-out", "pub.der"]);
            let spki = keyward::domain::key::Digest::of(&std::fs::read(dir.path().join("pub.der")).unwrap());
            assert_eq!(facts.spki, spki);
            // Self-signed and configured: a chain of one.
            let own = roots(&[&ders[0]]);
            assert_eq!(subjects(&[&ders[0]], &own), Vec::<String>::new());
            assert!(why(&[&ders[0]], &Roots::default()).contains("self-signed"));
        }
    }

    #[test]
    fn years_far_out_saturate_instead_of_wrapping() {
        let (leaf, _) = Ca::root("R", nothing).leaf(&["a.example"], |p| {
            (p.not_before, p.not_after) = (date_time_ymd(1950, 1, 1), date_time_ymd(9999, 12, 31));
        });
        let validity = facts(&leaf).unwrap().validity;
        assert_eq!(validity.not_after, Timestamp::MAX);
        assert_eq!(validity.not_before.to_string(), "1950-01-01T00:00:00Z");
    }

    #[test]
    fn the_purpose_of_a_server_is_asked_for_only_where_purposes_are_named() {
        let root = Ca::root("R", nothing);
        for (purposes, may) in [
            (vec![], true),
            (vec![ExtendedKeyUsagePurpose::ServerAuth], true),
            (vec![ExtendedKeyUsagePurpose::Any], true),
            (vec![ExtendedKeyUsagePurpose::ClientAuth], false),
        ] {
            let (leaf, _) = root.leaf(&["a.example"], |p| p.extended_key_usages = purposes);
            assert_eq!(may_serve(&leaf), Ok(may));
        }
    }

    fn peak_memory() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024
    }

    #[test]
    fn parser_bombs_cost_little_time_and_memory() {
        let root = Ca::root("R", nothing);
        let names = |count: usize| -> Vec<SanType> {
            (0..count).map(|i| SanType::DnsName(format!("n{i}.e.example").try_into().unwrap())).collect()
        };
        let (most, _) = root.leaf(&[], |p| p.subject_alt_names = names(MOST_NAMES));
        assert_eq!(facts(&most).unwrap().names.len(), MOST_NAMES);
        let (more, _) = root.leaf(&[], |p| p.subject_alt_names = names(MOST_NAMES + 1));
        assert!(facts(&more).unwrap_err().0.contains("more than 1000 names"));
        let (bomb, _) = root.leaf(&[], |p| p.subject_alt_names = names(10_000));
        let text = pem::certificates(&[&bomb]);
        let killer = "-----BEGIN CERTIFICATE-----\n".repeat((1 << 20) / 28);
        let dashes = "-".repeat(1 << 20);
        let short = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n".repeat((1 << 20) / 60);
        let nested = vec![0x30_u8; 1 << 20];
        let inputs: [&[u8]; 5] = [text.as_bytes(), killer.as_bytes(), dashes.as_bytes(), short.as_bytes(), &nested];
        let before = peak_memory();
        for input in inputs {
            // The best of five: what else this machine does is not measured.
            let cost = (0..5).map(|_| {
                let from = Instant::now();
                let outcome = certificates_from(input, &Limits::CHAIN).and_then(|ders| chain(&ders, &Roots::default()));
                assert!(outcome.is_err());
                from.elapsed()
            });
            let best = cost.min().unwrap();
            assert!(best < Duration::from_millis(50), "{best:?}");
        }
        assert!(peak_memory() - before < 50 << 20);
    }

    #[test]
    fn ten_thousand_chains_take_at_most_two_kibibytes_each() {
        let root = Ca::root("R", nothing);
        let middle = root.below("I", nothing);
        let known = roots(&[&root.der]);
        let (leaf, _) = middle.leaf(&["a.long-ish.name.of.a.service.example.com", "b.example.com"], nothing);
        let ders = [leaf, middle.der.clone()];
        let before = resident();
        let all: Vec<_> = (0..10_000).map(|_| chain(&ders, &known).unwrap()).collect();
        let each = (resident() - before) / 10_000;
        assert!(all.windows(2).all(|w| std::sync::Arc::ptr_eq(&w[0].above[0], &w[1].above[0])), "CAs are shared");
        assert!(each <= 2_048, "{each} bytes for each");
    }

    fn resident() -> u64 {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4_096
    }
}

mod chains {
    use super::*;

    #[test]
    fn the_order_of_the_intermediates_and_unrelated_extras_do_not_matter() {
        let root = Ca::root("R", nothing);
        let one = root.below("I1", nothing);
        let two = one.below("I2", nothing);
        let (leaf, _) = two.leaf(&["a.example"], nothing);
        let stranger = Ca::root("S", nothing);
        let known = roots(&[&root.der, &stranger.der]);
        let expected = ["CN=I2", "CN=I1", "CN=R"];
        assert_eq!(subjects(&[&leaf, &two.der, &one.der], &known), expected);
        assert_eq!(subjects(&[&leaf, &one.der, &two.der], &known), expected);
        assert_eq!(subjects(&[&leaf, &root.der, &one.der, &stranger.der, &two.der], &known), expected);
        let served = to_serve(&[leaf.clone(), root.der.clone(), one.der.clone(), stranger.der, two.der.clone()]);
        assert_eq!(served.unwrap(), [leaf, two.der, one.der]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let root = Ca::root("R", nothing);
        let one = root.below("I1", nothing);
        let (leaf, _) = one.leaf(&["a.example"], nothing);
        let text = why(&[&leaf], &roots(&[&root.der]));
        assert!(text.contains("CN=I1") && text.contains("intermediate certificate is missing"), "{text}");
        let text = why(&[&leaf, &one.der], &Roots::default());
        assert!(text.contains("\"CN=R\"") && text.contains("\"CN=I1\""), "{text}");
        let seen = chain(&[leaf, one.der], &Roots::default()).unwrap();
        assert_eq!(seen.above.len(), 1, "what was found is shown");
    }

    #[test]
    fn an_expired_root_is_anchored_and_out_of_time() {
        let root = Ca::root("R", |p| p.not_after = date_time_ymd(2029, 1, 1));
        let (leaf, _) = root.leaf(&["a.example"], nothing);
        let seen = chain(&[leaf], &roots(&[&root.der])).unwrap();
        assert_eq!(seen.trust, Trust::Anchored);
        assert_eq!(seen.out_of_time(now()).map(|c| c.subject.as_str()), Some("CN=R"));
        assert_eq!(seen.weakest().subject, "CN=R");
    }

    #[test]
    fn every_rule_for_issuers_is_enforced() {
        let unknown = || {
            let mut e = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999], vec![5, 0]);
            e.set_criticality(true);
            e
        };
        let constrained = |permitted: Vec<GeneralSubtree>, excluded: Vec<GeneralSubtree>| {
            Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded })
        };
        let dns = |t: &str| GeneralSubtree::DnsName(t.to_owned());
        type Edit = Box<dyn Fn(&mut rcgen::CertificateParams)>;
        let cases: Vec<(&str, Edit)> = vec![
            ("keyCertSign", Box::new(|p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature])),
            ("do not say CA", Box::new(|p| p.is_ca = IsCa::ExplicitNoCa)),
            ("do not say CA", Box::new(|p| p.is_ca = IsCa::NoCa)),
            ("1.3.6.1.4.1.99999", Box::new(move |p| p.custom_extensions = vec![unknown()])),
            ("\"a.example\"", Box::new(move |p| p.name_constraints = constrained(vec![dns("b.example")], vec![]))),
            ("\"a.example\"", Box::new(move |p| p.name_constraints = constrained(vec![], vec![dns("example")]))),
            ("extended key usage", Box::new(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth])),
        ];
        let root = Ca::root("R", nothing);
        for (reason, edit) in &cases {
            let middle = root.below("I", |p| edit(p));
            let (leaf, _) = middle.leaf(&["a.example"], nothing);
            let text = why(&[&leaf, &middle.der], &roots(&[&root.der]));
            assert!(text.contains(reason), "{reason}: {text}");
            // The same fault in the root itself, purposes aside: those of an anchor do not count.
            if *reason != "extended key usage" {
                let faulty = Ca::root("F", |p| edit(p));
                let (leaf, _) = faulty.leaf(&["a.example"], nothing);
                let text = why(&[&leaf], &roots(&[&faulty.der]));
                assert!(text.contains(reason), "{reason} in the root: {text}");
            }
        }
        let allowed =
            root.below("I", |p| p.name_constraints = constrained(vec![dns("example")], vec![dns("b.example")]));
        let (leaf, _) = allowed.leaf(&["a.example", "*.c.example"], nothing);
        assert_eq!(subjects(&[&leaf, &allowed.der], &roots(&[&root.der])).len(), 2);
        let (bad, _) = allowed.leaf(&["a.example", "x.b.example"], nothing);
        assert!(why(&[&bad, &allowed.der], &roots(&[&root.der])).contains("x.b.example"));
    }

    #[test]
    fn an_unknown_critical_extension_of_the_leaf_untrusts_it_and_an_uncritical_one_does_not() {
        let root = Ca::root("R", nothing);
        for critical in [true, false] {
            let (leaf, _) = root.leaf(&["a.example"], |p| {
                let mut e = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
                e.set_criticality(critical);
                p.custom_extensions = vec![e];
            });
            let trusted = chain(&[leaf], &roots(&[&root.der])).unwrap().trust == Trust::Anchored;
            assert_eq!(trusted, !critical);
        }
    }

    #[test]
    fn path_lengths_count_the_cas_below() {
        let root = Ca::root("R", |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(1)));
        let one = root.below("I1", nothing);
        let two = one.below("I2", nothing);
        let (short, _) = one.leaf(&["a.example"], nothing);
        let (long, _) = two.leaf(&["a.example"], nothing);
        let known = roots(&[&root.der]);
        assert_eq!(subjects(&[&short, &one.der], &known).len(), 2);
        assert!(why(&[&long, &one.der, &two.der], &known).contains("path length"));
    }

    #[test]
    fn a_chain_deeper_than_eight_is_refused_and_one_of_eight_is_not() {
        let root = Ca::root("R", nothing);
        let mut cas = vec![root.below("I0", nothing)];
        for i in 1..8 {
            cas.push(cas[i - 1].below(&format!("I{i}"), nothing));
        }
        let known = roots(&[&root.der]);
        let (eight, _) = cas[6].leaf(&["a.example"], nothing);
        let ders: Vec<&Der> = std::iter::once(&eight).chain(cas.iter().map(|c| &c.der)).collect();
        assert_eq!(subjects(&ders, &known).len(), 8);
        let (nine, _) = cas[7].leaf(&["a.example"], nothing);
        let ders: Vec<&Der> = std::iter::once(&nine).chain(cas.iter().map(|c| &c.der)).collect();
        assert!(why(&ders, &known).contains("deeper"));
    }

    #[test]
    fn a_wrong_signature_is_told_from_a_missing_issuer() {
        let root = Ca::root("R", nothing);
        let impostor = Ca::root("R", nothing);
        let (leaf, _) = impostor.leaf(&["a.example"], nothing);
        let text = why(&[&leaf], &roots(&[&root.der]));
        assert!(text.contains("was not made by \"CN=R\""), "{text}");
        let (good, _) = root.leaf(&["a.example"], nothing);
        let mut bytes = good.to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert!(why(&[&Der::from(bytes)], &roots(&[&root.der])).contains("was not made by"));
    }

    #[test]
    fn of_two_roots_with_one_name_the_one_that_signed_is_found() {
        let old = Ca::root("R", nothing);
        let new = Ca::root("R", nothing);
        let known = roots(&[&old.der, &new.der]);
        for ca in [&old, &new] {
            let (leaf, _) = ca.leaf(&["a.example"], nothing);
            let seen = chain(&[leaf], &known).unwrap();
            assert_eq!(seen.trust, Trust::Anchored);
            assert_eq!(seen.above[0].fingerprint, facts(&ca.der).unwrap().fingerprint);
        }
    }

    #[test]
    fn of_two_good_ways_the_longer_lived_is_taken() {
        let old = Ca::root("Old", |p| p.not_after = date_time_ymd(2029, 1, 1));
        let new = Ca::root("New", nothing);
        let mut cross = new.params.clone();
        cross.not_after = date_time_ymd(2029, 1, 1);
        let cross = old.sign(&cross, &new.key);
        let (leaf, _) = new.leaf(&["a.example"], nothing);
        assert_eq!(subjects(&[&leaf, &cross], &roots(&[&old.der, &new.der])), ["CN=New"]);
        assert_eq!(subjects(&[&leaf, &cross], &roots(&[&old.der])), ["CN=New", "CN=Old"]);
        let served = to_serve(&[leaf.clone(), cross.clone()]).unwrap();
        assert_eq!(served, [leaf, cross], "the cross-signed certificate is for clients that know only the old root");
    }

    #[test]
    fn certificates_that_sign_each_other_in_a_circle_end() {
        let a = Ca::root("A", nothing);
        let b = Ca::root("B", nothing);
        let (ab, ba) = (a.sign(&b.params, &b.key), b.sign(&a.params, &a.key));
        let (leaf, _) = a.leaf(&["a.example"], nothing);
        let known = roots(&[&Ca::root("Z", nothing).der]);
        let from = Instant::now();
        assert!(!why(&[&leaf, &ab, &ba, &a.der, &b.der], &known).is_empty());
        assert!(from.elapsed() < Duration::from_millis(500));
    }

    #[test]
    fn a_crowd_with_one_name_is_given_up_in_bounded_time() {
        let crowd: Vec<Ca> = (0..63).map(|_| Ca::root("X", nothing)).collect();
        let mut ders = vec![crowd[62].leaf(&["a.example"], nothing).0];
        for (i, ca) in crowd.iter().enumerate() {
            ders.push(crowd[(i + 62) % 63].sign(&ca.params, &ca.key));
        }
        let from = Instant::now();
        let seen = chain(&ders, &Roots::default()).unwrap();
        assert!(matches!(seen.trust, Trust::Untrusted(why) if why.contains("gave up")));
        assert!(from.elapsed() < Duration::from_secs(2), "{:?}", from.elapsed());
    }

    #[test]
    fn sha1_and_short_rsa_are_not_accepted_as_signatures() {
        let dir = tempfile::tempdir().unwrap();
        let run = |args: &str| openssl(dir.path(), &args.split(' ').collect::<Vec<_>>());
        for (bits, hash, good) in [("2048", "sha256", true), ("1024", "sha256", false), ("2048", "sha1", false)] {
            run(&format!(
                "req -x509 -newkey rsa:{bits} -nodes -keyout r.key -out r.pem -subj /CN=R -days 3650 -sha256"
            ));
            run("req -new -newkey rsa:2048 -nodes -keyout l.key -out l.csr -subj /CN=L");
            run(&format!("x509 -req -in l.csr -CA r.pem -CAkey r.key -out l.pem -days 100 -{hash}"));
            let read = |f: &str| {
                certificates_from(&std::fs::read(dir.path().join(f)).unwrap(), &Limits::CHAIN).unwrap().remove(0)
            };
            let seen = chain(&[read("l.pem")], &roots(&[&read("r.pem")])).unwrap();
            assert_eq!(seen.trust == Trust::Anchored, good, "{bits} {hash}: {:?}", seen.trust);
        }
    }

    /// Every pair of faults in a chain of four: what we trust, openssl trusts; what it refuses, we refuse.
    #[test]
    fn nothing_is_trusted_that_openssl_refuses() {
        type Edit = fn(&mut rcgen::CertificateParams);
        let limited = |p: &mut rcgen::CertificateParams| {
            let permitted_subtrees = vec![GeneralSubtree::DnsName("b.example".to_owned())];
            p.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: vec![] });
        };
        let critical = |p: &mut rcgen::CertificateParams| {
            let mut e = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
            e.set_criticality(true);
            p.custom_extensions.push(e);
        };
        let faults: [Edit; 9] = [
            |_| {},
            |p| p.is_ca = IsCa::ExplicitNoCa,
            |p| p.is_ca = IsCa::NoCa,
            |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)),
            |p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature],
            |p| p.key_usages = vec![],
            |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
            limited,
            critical,
        ];
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, ders: &[&Der]| std::fs::write(dir.path().join(name), pem::certificates(ders)).unwrap();
        let (mut both, mut ours, mut theirs) = (0, 0, 0);
        for (i, first) in faults.iter().enumerate() {
            for second in &faults[i..] {
                let root = Ca::root("R", nothing);
                let one = root.below("I1", first);
                let two = one.below("I2", second);
                let (leaf, _) = two.leaf(&["a.example"], nothing);
                put("root.pem", &[&root.der]);
                put("mid.pem", &[&one.der, &two.der]);
                put("leaf.pem", &[&leaf]);
                let args = "verify -purpose sslserver -attime 1906502400 -CAfile root.pem -untrusted mid.pem leaf.pem";
                let verdict = std::process::Command::new("openssl")
                    .args(args.split(' '))
                    .current_dir(dir.path())
                    .output()
                    .unwrap();
                let seen = chain(&[leaf, one.der, two.der], &roots(&[&root.der])).unwrap();
                match (seen.trust == Trust::Anchored, verdict.status.success()) {
                    (true, true) => both += 1,
                    (false, false) => {}
                    (false, true) => ours += 1,
                    (true, false) => {
                        theirs += 1;
                        println!("{}", String::from_utf8_lossy(&verdict.stderr));
                    }
                }
            }
        }
        println!("trusted by both {both}, refused only by us {ours}, refused only by openssl {theirs}");
        assert!(both > 0);
        assert_eq!(theirs, 0);
    }

    #[test]
    fn an_empty_or_torn_bundle_of_roots_is_an_error_and_never_trusts_nothing_in_silence() {
        assert!(Roots::from_bundle(b"").is_err());
        assert!(Roots::from_bundle(b"# no roots\n").is_err());
        let text = pem::certificates(&[&Ca::root("R", nothing).der, &Ca::root("S", nothing).der]);
        assert_eq!(Roots::from_bundle(text.as_bytes()).unwrap().len(), 2);
        assert!(Roots::from_bundle(&text.as_bytes()[..text.len() - 30]).is_err());
        let twice = format!("{text}{text}");
        assert_eq!(Roots::from_bundle(twice.as_bytes()).unwrap().len(), 2);
    }

    #[test]
    fn the_system_has_roots_and_all_of_them_parse() {
        let system = keyward::adapters::roots::system();
        assert!(system.len() > 50, "{system:?}: is ca-certificates installed?");
        let ders = rustls_native_certs::load_native_certs().certs;
        assert_eq!(system.len(), ders.len(), "every one parses");
        assert!(ders.iter().all(|der| chain(&[der], &system).unwrap().trust == Trust::Anchored));
        assert!(std::sync::Arc::ptr_eq(&system, &keyward::adapters::roots::system()));
    }
}

mod bundles {
    use super::*;

    #[test]
    fn what_we_write_openssl_opens_and_what_openssl_writes_we_open() {
        let dir = tempfile::tempdir().unwrap();
        let root = Ca::root("R", nothing);
        let middle = root.below("I", nothing);
        for algorithm in keyward::domain::key::KeyAlgorithm::ALL.map(|(a, _)| a) {
            let key = keyward::codec::keys::generate(algorithm).unwrap();
            let pair = KeyPair::try_from(key.to_vec()).unwrap();
            let leaf = middle.sign(&crate::harness::pki::leaf_params(&["a.example"]), &pair);
            let ders = [leaf.clone(), middle.der.clone()];
            let built = pkcs12::build(&key, &ders, "pass wörd", "portal").unwrap();
            assert!(pkcs12::looks_like(&built) && !pkcs12::looks_like(&leaf));
            std::fs::write(dir.path().join("b.p12"), &*built).unwrap();
            let args = ["pkcs12", "-in", "b.p12", "-nodes", "-info", "-passin", "pass:pass wörd"];
            let text = openssl(dir.path(), &args);
            assert!(text.contains("AES-256-CBC") && text.contains("hmacWithSHA256"), "{text}");
            assert!(text.contains("MAC: sha256") && text.contains("friendlyName: portal"), "{text}");
            assert_eq!(text.matches("BEGIN CERTIFICATE").count(), 2);

            let back = pkcs12::parse(&built, "pass wörd").unwrap();
            assert_eq!(back.certificates, ders);
            assert_eq!(back.key.as_deref(), Some(&*key));

            std::fs::write(dir.path().join("all.pem"), &text).unwrap();
            let args = ["pkcs12", "-export", "-in", "all.pem", "-out", "o.p12", "-passout", "pass:x", "-name", "n"];
            openssl(dir.path(), &args);
            let theirs = pkcs12::parse(&std::fs::read(dir.path().join("o.p12")).unwrap(), "x").unwrap();
            assert_eq!(theirs.certificates[0], leaf);
            assert!(theirs.key.is_some());
        }
    }

    #[test]
    fn a_wrong_password_old_ciphers_and_damage_are_refused_without_the_password_in_the_text() {
        let dir = tempfile::tempdir().unwrap();
        let (leaf, key) = Ca::root("R", nothing).leaf(&["a.example"], nothing);
        let built = pkcs12::build(key.serialized_der(), &[&leaf], "right", "a").unwrap();
        let error = pkcs12::parse(&built, "wrong-secret").unwrap_err().0;
        assert!(error.contains("password is wrong") && !error.contains("secret"), "{error}");
        for end in (0..built.len()).step_by(7) {
            assert!(pkcs12::parse(&built[..end], "right").is_err());
        }
        let pem = format!("{}{}", key.serialize_pem(), keyward::codec::pem::certificates(&[&leaf]));
        std::fs::write(dir.path().join("a.pem"), pem).unwrap();
        let args = "pkcs12 -export -in a.pem -out l.p12 -passout pass:x -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES";
        openssl(dir.path(), &args.split(' ').collect::<Vec<_>>());
        let error = pkcs12::parse(&std::fs::read(dir.path().join("l.p12")).unwrap(), "x").unwrap_err().0;
        assert!(error.contains("old or unknown cipher"), "{error}");
        let args = "pkcs12 -export -nokeys -in a.pem -out c.p12 -passout pass:x -iter 1900000";
        openssl(dir.path(), &args.split(' ').collect::<Vec<_>>());
        assert!(pkcs12::parse(&std::fs::read(dir.path().join("c.p12")).unwrap(), "x").is_err());
    }

    #[test]
    fn names_of_a_set_are_compared_as_sets() {
        let (leaf, _) = Ca::root("R", |p| p.distinguished_name.push(DnType::OrganizationName, "O"))
            .leaf(&["b.example", "a.example"], nothing);
        assert_eq!(facts(&leaf).unwrap().names, NameSet::parse_key("a.example,b.example").unwrap());
    }
}
