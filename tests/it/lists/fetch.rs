//! The door itself: a real server with every fault, and what is believed of what it says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keyward::adapters::lists::PointLists;
use keyward::codec::crl::LARGEST_FETCHED;
use keyward::codec::network::Network;
use keyward::domain::certificate::Chain;
use keyward::domain::inventory::CrlSeen;
use keyward::domain::key::Digest;
use keyward::domain::time::Timestamp;
use keyward::ports::{Clock as _, Lists};
use rcgen::CrlDistributionPoint;

use crate::crl::{Draft, Pki, TRUE, entry, extension, limited, named, serial, tlv};
use crate::harness::acme::TestClock;
use crate::harness::lists::{ListServer, Reply};
use crate::harness::pki::{Ca, nothing};

/// A CA, its server, and a guardian's door to it, in the middle of June 2030.
struct Room {
    dir: tempfile::TempDir,
    clock: Arc<TestClock>,
    server: ListServer,
    pki: Pki,
    chain: Arc<Chain>,
    /// Where the leaf's list lies.
    url: Arc<str>,
    lists: PointLists,
}

const DEADLINE: Duration = Duration::from_secs(2);

fn door(dir: &Path, allow: &[&str], clock: &Arc<TestClock>) -> PointLists {
    let allow = allow.iter().map(|network| Network::parse(network).unwrap()).collect();
    PointLists::new(dir.join("lists"), allow, DEADLINE, clock.clone())
}

async fn room() -> Room {
    let (dir, clock, server) = (tempfile::tempdir().unwrap(), TestClock::new(), ListServer::start().await);
    let june = Timestamp::parse("2030-06-15T00:00:00Z").unwrap();
    clock.step(june.unix() - clock.now().unix());
    let at = |path: &str| vec![CrlDistributionPoint { uris: vec![server.url(path).to_string()] }];
    let pki =
        Pki::with(|p| p.crl_distribution_points = at("/root.crl"), |p| p.crl_distribution_points = at("/mid.crl"));
    let (chain, url) = (Arc::new(pki.chain.clone()), server.url("/mid.crl"));
    let lists = door(dir.path(), &["127.0.0.0/8"], &clock);
    Room { dir, clock, server, pki, chain, url, lists }
}

/// A list of June with this number, from this day on.
fn june(number: u8, day: &str) -> Draft {
    let times = [&b"\x17\x0d3006"[..], day.as_bytes(), b"000000Z", b"\x18\x0f20300701000000Z"].concat();
    Draft { times, extensions: extension(20, &[], &[2, 1, number]), ..Draft::new() }
}

impl Room {
    fn good(&self, number: u8) -> Vec<u8> {
        june(number, "01").signed_by(&self.pki.mid)
    }

    async fn fetch(&self) -> Result<Digest, String> {
        let chains = [self.chain.clone()];
        self.lists.fetch(&self.url, &chains).await.map(|kept| kept.digest).map_err(|e| e.0)
    }

    async fn serve(&self, reply: Reply) -> Result<Digest, String> {
        self.server.set("/mid.crl", reply);
        self.fetch().await
    }

    async fn says(&self, lists: &PointLists) -> BTreeMap<Arc<str>, CrlSeen> {
        lists.about(&self.chain).await
    }

    async fn revokes(&self, lists: &PointLists) -> bool {
        let all = self.says(lists).await;
        let CrlSeen::Present(facts) = &all[&self.url] else { panic!("{all:?}") };
        assert_eq!(facts.covers, [self.pki.leaf_print()].into());
        !facts.revokes.is_empty()
    }
}

#[tokio::test]
async fn a_list_is_fetched_kept_and_there_after_a_restart_without_a_server() {
    let room = room().await;
    let all = room.says(&room.lists).await;
    assert_eq!(all, [(room.server.url("/root.crl"), CrlSeen::Missing), (room.url.clone(), CrlSeen::Missing)].into());
    let list = room.good(7);
    assert_eq!(room.serve(Reply::List(list.clone())).await, Ok(Digest::of(&list)));
    assert!(!room.revokes(&room.lists).await);
    let kept = room.lists.kept(&room.url).unwrap();
    assert_eq!((kept.entries, kept.digest), (0, Digest::of(&list)));
    assert_eq!(kept.next_update, Timestamp::parse("2030-07-01T00:00:00Z").unwrap());
    let head = room.server.asked().pop().unwrap();
    assert!(head.starts_with("GET /mid.crl HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: {}\r\n", room.server.address)), "{head}");
    // The same again is no news; a newer one takes its place; PEM is as good as DER.
    assert_eq!(room.fetch().await, Ok(Digest::of(&list)));
    let revoking = Draft { entries: entry(&serial(&room.pki.leaf), &[]), ..june(8, "02") }.signed_by(&room.pki.mid);
    let pem = format!("-----BEGIN X509 CRL-----\n{}\n-----END X509 CRL-----\n", base64(&revoking));
    assert_eq!(room.serve(Reply::List(pem.into_bytes())).await, Ok(Digest::of(&revoking)));
    assert!(room.revokes(&room.lists).await);
    let next = door(room.dir.path(), &[], &room.clock);
    assert_eq!(next.kept(&room.url), None, "known once it was asked for");
    assert!(room.revokes(&next).await);
    assert_eq!(next.kept(&room.url).map(|kept| kept.digest), Some(Digest::of(&revoking)));
    // What lies there is believed for its signature, like what comes over the wire.
    let path = std::fs::read_dir(room.dir.path().join("lists")).unwrap().next().unwrap().unwrap().path();
    for (bytes, shown) in [
        (&revoking[..revoking.len() - 1], "well-formed"),
        (&june(9, "02").signed_by(&Ca::root("Mid", nothing)), "was not signed"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let other = door(room.dir.path(), &[], &room.clock);
        let says = room.says(&other).await;
        assert!(matches!(&says[&room.url], CrlSeen::Unusable(why) if why.contains(shown)), "{says:?}");
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.encode(bytes)
}

#[tokio::test]
async fn whatever_else_comes_is_refused_with_its_reason_and_the_list_before_it_stays() {
    let room = room().await;
    let kept = room.serve(Reply::List(june(7, "02").signed_by(&room.pki.mid))).await.unwrap();
    let (good, mid) = (june(8, "03"), &room.pki.mid);
    let list = |draft: Draft| Reply::List(draft.signed_by(mid));
    let der = good.signed_by(mid);
    let with =
        |extensions: Vec<u8>| Draft { extensions: [good.extensions.clone(), extensions].concat(), ..good.clone() };
    let mut flipped = der.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let here = room.server.url("/mid.crl");
    let cases: Vec<(&str, Reply)> = vec![
        ("404", Reply::status(404)),
        ("500", Reply::status(500)),
        ("204", Reply::Raw("HTTP/1.1 204 Nothing\r\n\r\n".into())),
        ("304", Reply::Raw("HTTP/1.1 304 Same\r\n\r\n".into())),
        ("is empty", Reply::List(vec![])),
        ("holds no revocation list", Reply::List(b"<html>hello</html>".to_vec())),
        ("well-formed", Reply::List(room.pki.leaf.to_vec())),
        ("well-formed", Reply::List(der[..der.len() - 1].to_vec())),
        ("well-formed", Reply::List([&der[..], &[0]].concat())),
        ("broke off", Reply::Short(der.clone(), 1)),
        ("broke off", Reply::HangsUp),
        ("broke off", Reply::Raw("SSH-2.0-no\r\n".into())),
        ("was not signed", Reply::List(flipped)),
        ("was not signed", Reply::List(good.signed_by(&Ca::root("Mid", nothing)))),
        ("who issued no certificate of this chain", Reply::List(good.signed_by(&Ca::root("Foreign", nothing)))),
        ("delta list", list(with(extension(27, TRUE, &[2, 1, 7])))),
        ("partial or indirect", list(with(extension(28, TRUE, &tlv(0x30, &[&[0x84, 1, 0xff]]))))),
        ("partial or indirect", list(with(extension(28, TRUE, &tlv(0x30, &[&[0x83, 2, 1, 2]]))))),
        ("only about certificates of CAs", list(limited(&[&named(&[&here]), &[0x82, 1, 0xff]]))),
        ("name its distribution point", list(limited(&[&named(&["http://a.example/other.crl"])]))),
        ("does not say when the next one is due", list(Draft { times: good.times[..15].to_vec(), ..good.clone() })),
        ("expected one of the past", list(june(8, "16"))),
        ("its number is 0x06, and 0x07 was seen", list(june(6, "03"))),
        ("its number is none", list(Draft { extensions: vec![], ..good.clone() })),
        ("it is of 2030-06-01", list(june(9, "01"))),
        (
            "encoding \"gzip\"",
            Reply::Raw("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 1\r\n\r\nx".into()),
        ),
        ("larger than", Reply::Says(LARGEST_FETCHED + 1)),
        ("larger than", Reply::Endless),
        ("within 2 s", Reply::Drips(der.clone())),
        ("within 2 s", Reply::Silent),
        ("redirects more than 3 times", Reply::redirect("/mid.crl")),
        ("plain http", Reply::redirect("https://crl.example.com/1.crl")),
        ("plain http", Reply::redirect("http://user@127.0.0.1/1.crl")),
        ("plain http", Reply::redirect("file:///etc/passwd")),
        ("no public address", Reply::redirect("http://169.254.169.254/latest")),
        ("no public address", Reply::redirect("http://[::ffff:10.0.0.1]/")),
    ];
    for (expected, reply) in cases {
        let began = Instant::now();
        let why = room.serve(reply).await.expect_err(expected);
        assert!(why.contains(expected), "{expected}: {why}");
        assert!(began.elapsed() < Duration::from_secs(20), "{expected} took {:?}", began.elapsed());
        assert_eq!(room.lists.kept(&room.url).map(|kept| kept.digest), Some(kept), "{expected}");
        assert!(!room.revokes(&room.lists).await, "{expected}");
        let next = door(room.dir.path(), &[], &room.clock);
        assert!(!room.revokes(&next).await, "{expected}: after a restart");
    }
    assert_eq!(room.serve(Reply::List(der.clone())).await, Ok(Digest::of(&der)), "and a good one is taken at once");
}

#[tokio::test]
async fn the_only_thing_that_is_known_of_a_list_that_never_came_is_why() {
    let room = room().await;
    assert!(room.serve(Reply::status(503)).await.is_err());
    let says = room.says(&room.lists).await;
    assert!(matches!(&says[&room.url], CrlSeen::Unreadable(why) if why.contains("503")), "{says:?}");
    assert_eq!(says[&room.server.url("/root.crl")], CrlSeen::Missing);
    let gone: SocketAddr = room.server.address;
    room.server.stop().await;
    let chains = [room.chain.clone()];
    let why = room.lists.fetch(&room.url, &chains).await.unwrap_err().0;
    assert!(why.contains(&format!("cannot be reached at {gone}")), "{why}");
}

#[tokio::test]
async fn a_list_that_was_over_when_it_came_is_kept_for_what_it_revokes() {
    let room = room().await;
    room.serve(Reply::List(room.good(7))).await.unwrap();
    let over = Draft {
        times: [&b"\x17\x0d300602000000Z"[..], b"\x17\x0d300614000000Z"].concat(),
        entries: entry(&serial(&room.pki.leaf), &[]),
        ..june(8, "02")
    };
    let why = room.serve(Reply::List(over.signed_by(&room.pki.mid))).await.unwrap_err();
    assert!(why.contains("was over when it came"), "{why}");
    assert!(room.revokes(&room.lists).await);
    // Nobody undoes that with the list before.
    let why = room.serve(Reply::List(room.good(7))).await.unwrap_err();
    assert!(why.contains("0x07, and 0x08 was seen"), "{why}");
    assert!(room.revokes(&door(room.dir.path(), &[], &room.clock)).await);
}

#[tokio::test]
async fn lists_in_parts_count_for_those_who_name_them() {
    let room = room().await;
    let here = room.server.url("/mid.crl").to_string();
    let shard = limited(&[&named(&["http://cdn.example/1.crl", &here]), &[0x81, 1, 0xff]]);
    let shard = Draft { times: june(7, "01").times, ..shard };
    room.serve(Reply::List(shard.signed_by(&room.pki.mid))).await.unwrap();
    assert!(!room.revokes(&room.lists).await);
    // The root's list comes from its own point, in the same chain.
    let url = room.server.url("/root.crl");
    let of_root = Draft { entries: entry(&serial(&room.pki.mid.der), &[]), ..june(1, "01") };
    room.server.set("/root.crl", Reply::List(of_root.signed_by(&room.pki.root)));
    room.lists.fetch(&url, std::slice::from_ref(&room.chain)).await.unwrap();
    let says = room.says(&room.lists).await;
    assert_eq!(says[&url].facts().unwrap().revokes, [room.pki.mid_print()].into());
    // A chain that has no part in a list is told so.
    let stranger = Arc::new(
        Pki::with(nothing, |p| p.crl_distribution_points = vec![CrlDistributionPoint { uris: vec![here.clone()] }])
            .chain,
    );
    let says = room.lists.about(&stranger).await;
    assert!(matches!(&says[&room.url], CrlSeen::Unusable(_)), "{says:?}");
    assert!(room.lists.fetch(&room.url, std::slice::from_ref(&stranger)).await.is_err());
    room.lists.fetch(&room.url, &[stranger, room.chain.clone()]).await.unwrap();
}

#[tokio::test]
async fn nobody_is_made_to_connect_to_this_machine_or_its_neighbours() {
    let room = room().await;
    let port = room.server.address.port();
    let none = door(room.dir.path(), &[], &room.clock);
    let decimal = u32::from(std::net::Ipv4Addr::LOCALHOST);
    for host in [
        "127.0.0.1",
        "localhost",
        "127.1",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "0.0.0.0",
        "[::]",
        "10.0.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "[fe80::1]",
        "[fd00::1]",
        "[64:ff9b::7f00:1]",
        &decimal.to_string(),
    ] {
        let url: Arc<str> = Arc::from(format!("http://{host}:{port}/mid.crl"));
        let why = none.fetch(&url, std::slice::from_ref(&room.chain)).await.unwrap_err().0;
        assert!(why.contains("no public address") && why.contains("crl.allow"), "{host}: {why}");
    }
    for url in ["https://crl.example.com/1", "ftp://127.0.0.1/1", "http://a:b@127.0.0.1/1", "http://", "nonsense"] {
        assert!(none.fetch(&Arc::from(url), std::slice::from_ref(&room.chain)).await.is_err(), "{url}");
    }
    // One allowed network lets nobody into another.
    let other = door(room.dir.path(), &["10.0.0.0/8", "::1"], &room.clock);
    assert!(other.fetch(&room.url, std::slice::from_ref(&room.chain)).await.is_err());
    assert_eq!(room.server.asked().len(), 0, "nothing was ever sent");
    let named = door(room.dir.path(), &["127.0.0.0/8", "::1"], &room.clock);
    room.server.set("/mid.crl", Reply::redirect(&format!("http://localhost:{port}/far.crl")));
    room.server.set("/far.crl", Reply::redirect("elsewhere/2.crl"));
    room.server.set("/elsewhere/2.crl", Reply::List(room.good(7)));
    named.fetch(&room.url, std::slice::from_ref(&room.chain)).await.unwrap();
    assert_eq!(room.server.asked().len(), 3);
}

#[tokio::test]
async fn many_at_once_wait_for_each_other_and_the_newest_stays() {
    let room = room().await;
    room.server.set("/mid.crl", Reply::List(room.good(7)));
    let chains = [room.chain.clone()];
    let all = (0..20).map(|_| room.lists.fetch(&room.url, &chains));
    assert!(futures_util::future::join_all(all).await.iter().all(Result::is_ok));
    room.server.set("/mid.crl", Reply::List(room.good(8)));
    let all = (0..20).map(|n| {
        room.server.set("/mid.crl", Reply::List(room.good(if n % 2 == 0 { 8 } else { 7 })));
        room.lists.fetch(&room.url, &chains)
    });
    drop(futures_util::future::join_all(all).await);
    room.serve(Reply::List(room.good(8))).await.unwrap();
    assert_eq!(
        room.lists.kept(&room.url).map(|kept| kept.digest),
        Some(Digest::of(
            &std::fs::read(std::fs::read_dir(room.dir.path().join("lists")).unwrap().next().unwrap().unwrap().path())
                .unwrap()
        ))
    );
}

/// A CA that has a new key under its old name counts from the start: nobody could tell its lists from the old ones by number.
#[tokio::test]
async fn a_new_key_under_the_same_name_begins_its_own_numbers() {
    let room = room().await;
    room.serve(Reply::List(room.good(9))).await.unwrap();
    let other = Pki::with(nothing, |p| {
        p.crl_distribution_points = vec![CrlDistributionPoint { uris: vec![room.url.to_string()] }]
    });
    let chain = Arc::new(other.chain.clone());
    let list = june(1, "01").signed_by(&other.mid);
    room.server.set("/mid.crl", Reply::List(list.clone()));
    assert!(room.fetch().await.is_err(), "the old chain does not know that key");
    let kept = room.lists.fetch(&room.url, std::slice::from_ref(&chain)).await.unwrap();
    assert_eq!(kept.digest, Digest::of(&list));
    let says = room.lists.about(&chain).await;
    assert_eq!(says[&room.url].facts().unwrap().covers, [other.leaf_print()].into());
    let says = room.says(&room.lists).await;
    assert!(matches!(&says[&room.url], CrlSeen::Unusable(why) if why.contains("was not signed")), "{says:?}");
}
