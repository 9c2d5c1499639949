//! dns-01 by DNS UPDATE against real servers, and against servers that lie.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::slice::from_ref;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hickory_proto::op::{Message, MessageType, ResponseCode};
use keyward::adapters::challenge::dns::{Delegation, Propagation, Provider, Rfc2136, Tsig, TsigAlgorithm};
use keyward::adapters::challenge::{Secret, SolverKind};
use keyward::domain::execution::Fault;
use keyward::ports::{ChallengeKind, ChallengeTask, Solver as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::harness::challenge::{free_port, id, start, task, until};
use crate::harness::knot::{Key, Knot};

fn tsig(key: &Key) -> Tsig {
    let algorithm = match key.algorithm {
        "hmac-sha256" => TsigAlgorithm::HmacSha256,
        "hmac-sha384" => TsigAlgorithm::HmacSha384,
        _ => TsigAlgorithm::HmacSha512,
    };
    Tsig { name: key.name.to_owned(), algorithm, secret: Secret::new(key.secret.clone()) }
}

fn looking_at(servers: &[SocketAddr], deadline: Duration) -> Propagation {
    Propagation {
        servers: Some(servers.to_vec()),
        deadline,
        resolver: servers.first().copied(),
        ..Propagation::default()
    }
}

fn updating(server: SocketAddr, tsig: Option<Tsig>, propagation: Propagation) -> SolverKind {
    let provider = Provider::Rfc2136(Rfc2136 { server, zone: None, tsig, ttl: 60 });
    SolverKind::Dns01 { provider, propagation, delegation: Delegation::Follow }
}

fn dns(name: &str, token: &str) -> ChallengeTask {
    task(ChallengeKind::Dns01, name, token)
}

fn value(task: &ChallengeTask) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, task.key_authorization.as_bytes());
    URL_SAFE_NO_PAD.encode(digest)
}

fn set<const N: usize>(values: [String; N]) -> BTreeSet<String> {
    BTreeSet::from(values)
}

const LIMIT: Duration = Duration::from_secs(15);

#[tokio::test]
async fn values_of_several_orders_stand_beside_each_other_and_go_one_by_one() {
    let key = Key::new("keyward", "hmac-sha256");
    let zone = "_acme-challenge.www TXT \"foreign\"\n";
    let knot = Knot::start(free_port(), &[], from_ref(&key), &[("example.test", zone)]);
    let solvers = start(updating(knot.address, Some(tsig(&key)), looking_at(&[knot.address], LIMIT))).await.unwrap();
    let (base, wildcard) = (dns("www.example.test", "base"), dns("www.example.test", "wildcard"));
    let at = "_acme-challenge.www.example.test";
    let foreign = || "foreign".to_owned();
    for _ in 0..2 {
        solvers.present(&id("s"), &base).await.unwrap();
    }
    assert_eq!(knot.txt(at), set([foreign(), value(&base)]));
    solvers.present(&id("s"), &wildcard).await.unwrap();
    assert_eq!(knot.txt(at), set([foreign(), value(&base), value(&wildcard)]));
    for _ in 0..2 {
        solvers.cleanup(&id("s"), &base).await.unwrap();
        assert_eq!(knot.txt(at), set([foreign(), value(&wildcard)]));
    }
    // A restart in between: what was presented before it is removed all the same.
    let restarted = start(updating(knot.address, Some(tsig(&key)), looking_at(&[knot.address], LIMIT))).await.unwrap();
    restarted.cleanup(&id("s"), &wildcard).await.unwrap();
    assert_eq!(knot.txt(at), set([foreign()]));
}

#[tokio::test]
async fn thirty_orders_at_once_fill_one_set_beyond_a_packet_and_empty_it_again() {
    let key = Key::new("keyward", "hmac-sha256");
    let knot = Knot::start(free_port(), &[], from_ref(&key), &[("example.test", "")]);
    let solvers = start(updating(knot.address, Some(tsig(&key)), looking_at(&[knot.address], LIMIT))).await.unwrap();
    let tasks: Vec<_> = (0..30).map(|i| dns("example.test", &format!("t{i}"))).collect();
    let solver = id("s");
    for done in futures_util::future::join_all(tasks.iter().map(|t| solvers.present(&solver, t))).await {
        done.unwrap();
    }
    // 30 values of 43 bytes do not fit 1,232 bytes: the last looks went over TCP.
    assert_eq!(knot.txt("_acme-challenge.example.test"), tasks.iter().map(value).collect());
    for done in futures_util::future::join_all(tasks.iter().map(|t| solvers.cleanup(&solver, t))).await {
        done.unwrap();
    }
    assert_eq!(knot.txt("_acme-challenge.example.test"), BTreeSet::new());
}

#[tokio::test]
async fn every_algorithm_of_the_settings_is_understood() {
    let keys = [Key::new("k256", "hmac-sha256"), Key::new("k384", "hmac-sha384"), Key::new("k512", "hmac-sha512")];
    let knot = Knot::start(free_port(), &[], &keys, &[("example.test", "")]);
    for key in &keys {
        let kind = updating(knot.address, Some(tsig(key)), looking_at(&[knot.address], LIMIT));
        start(kind).await.unwrap().present(&id("s"), &dns("example.test", key.name)).await.unwrap();
    }
    assert_eq!(knot.txt("_acme-challenge.example.test").len(), 3);
}

#[tokio::test]
async fn a_wrong_secret_an_unknown_key_and_no_key_are_refused_and_told_apart() {
    let key = Key::new("keyward", "hmac-sha256");
    let knot = Knot::start(free_port(), &[], from_ref(&key), &[("example.test", "")]);
    for (tsig, expected) in [
        (Some(tsig(&Key::new("keyward", "hmac-sha256"))), "BADSIG; it has another secret"),
        (Some(tsig(&Key::new("stranger", "hmac-sha256"))), "BADKEY; it does not know this key"),
        (None, "with no key: "),
    ] {
        let solvers = start(updating(knot.address, tsig, looking_at(&[knot.address], LIMIT))).await.unwrap();
        let error = solvers.present(&id("s"), &dns("example.test", "t")).await.unwrap_err();
        assert_eq!(error.fault, Fault::Ours);
        assert!(error.text.contains(expected), "{}", error.text);
        assert!(error.text.contains("_acme-challenge.example.test."), "{}", error.text);
    }
    assert_eq!(knot.txt("_acme-challenge.example.test"), BTreeSet::new());
}

#[tokio::test]
async fn an_alias_into_another_zone_is_followed_unless_told_not_to() {
    let key = Key::new("keyward", "hmac-sha256");
    let zones = [
        (
            "example.test",
            "_acme-challenge.www CNAME hop\nhop CNAME www.acme.other.test.\n\
             _acme-challenge.loop CNAME l2\nl2 CNAME l3\nl3 CNAME l2\n",
        ),
        ("other.test", ""),
    ];
    let mut long = String::from("_acme-challenge.long CNAME c0\n_acme-challenge.eight CNAME c2\n");
    for i in 0..8 {
        long += &format!("c{i} CNAME c{}\n", i + 1);
    }
    let first = format!("{}{long}", zones[0].1);
    let knot = Knot::start(free_port(), &[], from_ref(&key), &[("example.test", &first), zones[1]]);
    let kind = updating(knot.address, Some(tsig(&key)), looking_at(&[knot.address], LIMIT));
    let solvers = start(kind).await.unwrap();
    let www = dns("www.example.test", "t");
    solvers.present(&id("s"), &www).await.unwrap();
    assert_eq!(knot.txt("www.acme.other.test"), set([value(&www)]));
    solvers.cleanup(&id("s"), &www).await.unwrap();
    assert_eq!(knot.txt("www.acme.other.test"), BTreeSet::new());

    let eight = dns("eight.example.test", "t");
    solvers.present(&id("s"), &eight).await.unwrap();
    assert_eq!(knot.txt("c8.example.test"), set([value(&eight)]));
    for (name, expected) in [("loop.example.test", "are a loop"), ("long.example.test", "are more than 8")] {
        let error = solvers.present(&id("s"), &dns(name, "t")).await.unwrap_err();
        assert_eq!(error.fault, Fault::Subject);
        assert!(error.text.contains(expected) && error.text.contains(" → "), "{}", error.text);
    }

    let provider = Provider::Rfc2136(Rfc2136 { server: knot.address, zone: None, tsig: Some(tsig(&key)), ttl: 60 });
    let propagation = looking_at(&[knot.address], LIMIT);
    let kind = SolverKind::Dns01 { provider, propagation, delegation: Delegation::Ignore };
    let plain = dns("plain.example.test", "t");
    start(kind).await.unwrap().present(&id("s"), &plain).await.unwrap();
    assert_eq!(knot.txt("_acme-challenge.plain.example.test"), set([value(&plain)]));
}

#[tokio::test]
async fn a_wildcard_alias_for_visitors_is_told_apart_from_a_delegation() {
    let key = Key::new("keyward", "hmac-sha256");
    let zone =
        "*.shop CNAME visitors.example.test.\nvisitors A 127.0.0.1\nsub NS ns.elsewhere.test.\n*.alias CNAME x.sub\n";
    let knot = Knot::start(free_port(), &[], from_ref(&key), &[("example.test", zone)]);
    let kind = updating(knot.address, Some(tsig(&key)), looking_at(&[knot.address], LIMIT));
    let error =
        start(kind.clone()).await.unwrap().present(&id("s"), &dns("a.alias.example.test", "t")).await.unwrap_err();
    assert!(error.text.contains("turn delegation off") && error.text.contains("x.sub.example.test."), "{}", error.text);
    let SolverKind::Dns01 { provider, propagation, .. } = kind else { panic!("another kind") };
    let kind = SolverKind::Dns01 { provider, propagation, delegation: Delegation::Ignore };
    let task = dns("a.shop.example.test", "t");
    start(kind).await.unwrap().present(&id("s"), &task).await.unwrap();
    assert_eq!(knot.txt("_acme-challenge.a.shop.example.test"), set([value(&task)]));
}

#[tokio::test]
async fn a_configured_zone_must_hold_the_record() {
    let key = Key::new("keyward", "hmac-sha256");
    let knot = Knot::start(free_port(), &[], from_ref(&key), &[("example.test", "")]);
    let kind = |zone: &str| {
        let zone = Some(zone.to_owned());
        let provider = Provider::Rfc2136(Rfc2136 { server: knot.address, zone, tsig: Some(tsig(&key)), ttl: 60 });
        let propagation = looking_at(&[knot.address], LIMIT);
        SolverKind::Dns01 { provider, propagation, delegation: Delegation::Follow }
    };
    start(kind("Example.Test")).await.unwrap().present(&id("s"), &dns("a.example.test", "t")).await.unwrap();
    let other = start(kind("other.test.")).await.unwrap();
    let error = other.present(&id("s"), &dns("a.example.test", "t")).await.unwrap_err();
    assert!(error.text.contains("is not in the configured zone other.test."), "{}", error.text);
    let unknown = start(updating(knot.address, Some(tsig(&key)), looking_at(&[knot.address], LIMIT))).await.unwrap();
    let error = unknown.present(&id("s"), &dns("a.unknown.test", "t")).await.unwrap_err();
    assert!(error.text.contains("_acme-challenge.a.unknown.test."), "{}", error.text);
}

#[tokio::test]
async fn a_lagging_server_is_waited_for_and_named_at_the_deadline() {
    let key = Key::new("keyward", "hmac-sha256");
    let first = Knot::start(free_port(), &[], from_ref(&key), &[("example.test", "")]);
    let zone = "_acme-challenge.a TXT \"old value\"\n";
    let second = Knot::start(free_port(), &[], from_ref(&key), &[("example.test", zone)]);
    let servers = [first.address, second.address];
    let both =
        start(updating(first.address, Some(tsig(&key)), looking_at(&servers, Duration::from_secs(1)))).await.unwrap();
    let began = Instant::now();
    let error = both.present(&id("s"), &dns("a.example.test", "t")).await.unwrap_err();
    assert!((1..5).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert_eq!(error.fault, Fault::Subject);
    let task = dns("a.example.test", "t");
    assert!(error.text.contains(&format!("{} has it", first.address)), "{}", error.text);
    assert!(error.text.contains(&format!("{} has \"old value\"", second.address)), "{}", error.text);
    assert!(error.text.contains(&value(&task)), "{}", error.text);

    let patient = start(updating(first.address, Some(tsig(&key)), looking_at(&servers, LIMIT))).await.unwrap();
    let behind = start(updating(second.address, Some(tsig(&key)), looking_at(&[second.address], LIMIT))).await.unwrap();
    let (solver, slow) = (id("s"), dns("slow.example.test", "t"));
    let began = Instant::now();
    let (presented, late) = tokio::join!(patient.present(&solver, &slow), async {
        until("the value on the first server", LIMIT, || async {
            (!first.txt("_acme-challenge.slow.example.test").is_empty()).then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_millis(600)).await;
        behind.present(&solver, &slow).await
    });
    assert_eq!((presented, late), (Ok(()), Ok(())));
    assert!(began.elapsed() > Duration::from_millis(600), "it did not wait for the second server");

    let dead = free_port();
    let kind = updating(first.address, Some(tsig(&key)), looking_at(&[first.address, dead], Duration::from_secs(1)));
    let error = start(kind).await.unwrap().present(&solver, &dns("b.example.test", "t")).await.unwrap_err();
    assert!(error.text.contains(&format!("{dead} gives connection refused")), "{}", error.text);
}

#[tokio::test]
async fn without_configured_servers_every_name_server_of_the_zone_is_asked() {
    let key = Key::new("keyward", "hmac-sha256");
    let at = free_port();
    let zone = "@ NS ns2\nns2 A 127.0.0.2\n";
    let knot = Knot::start(at, &["127.0.0.2"], from_ref(&key), &[("example.test", zone)]);
    let propagation = |resolver| Propagation {
        resolver: Some(resolver),
        port: at.port(),
        deadline: Duration::from_secs(1),
        ..Propagation::default()
    };
    let solvers = start(updating(knot.address, Some(tsig(&key)), propagation(knot.address))).await.unwrap();
    solvers.present(&id("s"), &dns("a.example.test", "t")).await.unwrap();

    // The same zone, but its second name server is nobody.
    let zone = "@ NS ns2\nns2 A 127.0.0.3\nns2 AAAA ::1\n";
    let half = Knot::start(at_other(at), &[], from_ref(&key), &[("example.test", zone)]);
    let lonely = Propagation { port: half.address.port(), ..propagation(half.address) };
    let solvers = start(updating(half.address, Some(tsig(&key)), lonely)).await.unwrap();
    let error = solvers.present(&id("s"), &dns("a.example.test", "t")).await.unwrap_err();
    let port = half.address.port();
    assert!(error.text.contains(&format!("ns1.example.test. (127.0.0.1:{port}) has it")), "{}", error.text);
    let silent = format!("ns2.example.test. (127.0.0.3:{port}) gives connection refused");
    assert!(error.text.contains(&silent), "{}", error.text);
    assert!(error.text.contains(&format!("ns2.example.test. ([::1]:{port}) gives ")), "{}", error.text);
}

/// A free port that is not `taken`.
fn at_other(taken: SocketAddr) -> SocketAddr {
    loop {
        let port = free_port();
        if port != taken {
            return port;
        }
    }
}

/// What a server makes of a message.
type Lie = fn(Vec<u8>) -> Vec<u8>;

/// Answers each message over TCP with what `lie` makes of it.
async fn liar(lie: Lie) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let length = stream.read_u16().await.unwrap();
            let mut message = vec![0; usize::from(length)];
            stream.read_exact(&mut message).await.unwrap();
            let answer = lie(message);
            stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    });
    address
}

/// The update said yes to, without a signature.
fn unsigned(message: Vec<u8>) -> Vec<u8> {
    let mut answer = Message::from_vec(&message).unwrap();
    answer.metadata.message_type = MessageType::Response;
    answer.metadata.response_code = ResponseCode::NoError;
    answer.signature = None;
    answer.to_vec().unwrap()
}

#[tokio::test]
async fn an_answer_without_the_keys_signature_is_not_believed() {
    let key = Key::new("keyward", "hmac-sha256");
    let lies: [(Lie, &str); 7] = [
        (unsigned, "not in the name of the TSIG key"),
        // Our own signature sent back.
        (
            |mut message| {
                message[2] |= 0x80;
                message
            },
            "not in the name of the TSIG key",
        ),
        // Our signature twice: one where none belongs.
        (
            |message| {
                let signed = Message::from_vec(&message).unwrap();
                let plain = unsigned(message.clone()).len();
                let record = message[plain..].to_vec();
                let mut answer = [unsigned(message), record.clone(), record].concat();
                answer[11] = 2;
                assert!(signed.signature.is_some());
                answer
            },
            "answered an update with something else",
        ),
        // Record counts whose sum overflows 16 bits.
        (
            |message| {
                let mut answer = unsigned(message);
                answer[6..12].copy_from_slice(&[0xff; 6]);
                answer
            },
            "answered an update with something else",
        ),
        (|_| vec![0xff; 65_535], "answered an update with something else"),
        (|_| Vec::new(), "answered an update with something else"),
        // Another message id.
        (
            |message| {
                let mut answer = unsigned(message);
                answer[0] ^= 1;
                answer
            },
            "answered an update with something else",
        ),
    ];
    for (lie, expected) in lies {
        let server = liar(lie).await;
        let provider = Provider::Rfc2136(Rfc2136 {
            server,
            zone: Some("example.test".to_owned()),
            tsig: Some(tsig(&key)),
            ttl: 60,
        });
        let propagation = Propagation { check: false, ..Propagation::default() };
        let kind = SolverKind::Dns01 { provider, propagation, delegation: Delegation::Ignore };
        let error = start(kind).await.unwrap().present(&id("s"), &dns("example.test", "t")).await.unwrap_err();
        assert_eq!(error.fault, Fault::Network);
        assert!(error.text.contains(expected), "{}", error.text);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_the_networks_fault() {
    let dead = free_port();
    let solvers = start(updating(dead, None, looking_at(&[dead], LIMIT))).await.unwrap();
    let error = solvers.present(&id("s"), &dns("example.test", "t")).await.unwrap_err();
    assert_eq!(error.fault, Fault::Network);
    assert!(error.text.contains(&format!("resolver {dead}: connection refused")), "{}", error.text);
}
