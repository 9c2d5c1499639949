//! Leases over the doors: 200 or 403, never kept by a cache, and streams that end when the path closes.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use keyward::codec::lease::read;
use keyward::codec::statement::{Keys, LONGEST_STATEMENT, open};
use keyward::domain::inventory::{Estate, LeaseFile, Leases};
use keyward::domain::lease::{Expected, Moment};
use keyward::domain::statement::Context;
use keyward::lease::{Memory, VolatileEpochs, verify};
use keyward::ports::Clock as _;

use crate::harness::estate::pid;
use crate::harness::http::{Reply, Server, Still};
use crate::harness::lease::audience;
use crate::http::{LONG, two_paths};

/// The portal may rely on both paths.
pub fn leased() -> Estate {
    let mut estate = two_paths();
    for id in ["approve", "broken"] {
        let mut path = (*estate.paths[&pid(id)]).clone();
        let file: Option<LeaseFile> = None;
        path.leases = Leases { audiences: BTreeSet::from([audience("portal")]), file };
        estate.paths.insert(pid(id), Arc::new(path));
    }
    estate
}

pub fn keys(server: &Server) -> Keys {
    let keys = server.get("/v1/keys").json();
    let lines: Vec<&str> = keys.as_array().unwrap().iter().map(|k| k["key"].as_str().unwrap()).collect();
    Keys::parse(&lines.join("\n")).unwrap()
}

pub fn moment(still: &Still) -> Moment {
    Moment { wall: still.world.clock.now(), boot: still.world.clock.boottime() }
}

pub fn expected() -> Expected {
    Expected::here(audience("portal"), pid("approve"), "boot-0")
}

fn codes(reply: &Reply) -> &str {
    assert_eq!((reply.status, reply.header("cache-control")), (403, "no-store"), "{reply:?}");
    reply.header("keyward-reasons")
}

#[test]
fn a_lease_is_one_line_that_verifies_and_is_never_kept() {
    let still = Still::new(leased());
    let server = still.serve();
    let reply = server.get("/v1/lease/approve?audience=portal&nonce=Zm9v-_1");
    assert_eq!((reply.status, reply.header("cache-control")), (200, "no-store"), "{reply:?}");
    assert!(reply.body.ends_with('\n') && reply.body.lines().count() == 1);
    let mut memory = Memory::new(VolatileEpochs::default());
    let lease = verify(reply.body.as_bytes(), &keys(&server), &expected(), moment(&still), &mut memory).unwrap();
    assert_eq!(lease.nonce.as_deref(), Some("Zm9v-_1"));
    assert_eq!(lease.grant.life(), Duration::from_secs(15));
    assert_eq!((Some(lease.grant.epoch), lease.grant.sequence), (still.engine.epoch(), 1));
    assert!(lease.log.is_some_and(|(size, _)| size >= lease.grant.epoch));
    let next = server.get("/v1/lease/approve?audience=portal");
    let next = read(next.body.as_bytes(), &keys(&server)).unwrap();
    assert_eq!((next.grant.sequence, next.nonce), (2, None));
}

#[test]
fn no_lease_without_an_open_path_a_listed_audience_and_a_sound_question() {
    let still = Still::new(leased());
    let server = still.serve();
    let ask = |path: &str| server.get(&format!("/v1/lease/{path}"));
    assert_eq!(codes(&ask("broken?audience=portal")), "KW4002");
    assert_eq!(codes(&ask("approve?audience=other")), "KW4101");
    assert_eq!(codes(&ask("broken?audience=other")), "KW4002,KW4101");
    assert_eq!(codes(&ask("unknown?audience=portal")), "KW4010");
    assert_eq!(codes(&ask("approve")), "KW4105");
    assert_eq!(codes(&ask("approve?audience=Portal!")), "KW4105");
    assert_eq!(codes(&ask("approve?audience=portal&nonce=a%20b")), "KW4105");
    for path in ["", "/", "//", "/approve/x", "/..", "/approve/stream/stream", "/%00"] {
        assert!(
            ["KW4010", "KW4105"].contains(&codes(&server.get(&format!("/v1/lease{path}?audience=portal")))),
            "{path}"
        );
    }
    for method in ["HEAD", "POST", "PUT", "DELETE", "OPTIONS"] {
        let request = format!(
            "{method} /v1/lease/approve?audience=portal HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(server.tcp(&request).status, 403, "{method}");
        assert_eq!(server.unix(&server.gate, request.as_bytes()).status, 403, "{method}");
    }
    let request = b"GET /v1/lease/approve?audience=portal HTTP/1.1\r\nHost: portal\r\nConnection: close\r\n\r\n";
    assert_eq!(server.unix(&server.gate, request).status, 200, "the gate's socket gives leases");
    // By default nobody is listed.
    let server = Still::new(two_paths()).serve();
    assert_eq!(codes(&server.get("/v1/lease/approve?audience=portal")), "KW4101");
}

#[test]
fn an_engine_that_stands_still_gives_no_lease_and_a_clock_that_was_set_neither() {
    let still = Still::new(leased());
    let server = still.serve();
    let ask = || server.get("/v1/lease/approve?audience=portal");
    assert_eq!(ask().status, 200);
    still.world.clock.step(-30);
    assert_eq!(codes(&ask()), "KW4009");
    still.world.clock.step(30);
    assert_eq!(ask().status, 200);
    still.world.clock.pass(LONG);
    assert_eq!(codes(&ask()), "KW4008");
}

#[test]
fn a_nonce_at_the_gate_is_answered_by_a_proof() {
    let still = Still::new(leased());
    let server = still.serve();
    let keys = keys(&server);
    for (path, open_, reasons) in [("approve", true, "[]"), ("broken", false, "[\"KW4002\"]")] {
        let reply = server.get(&format!("/v1/gate/{path}?nonce=abc123"));
        let proof = open(reply.header("keyward-proof").as_bytes(), Context::Check, &keys, LONGEST_STATEMENT).unwrap();
        let said: serde_json::Value = serde_json::from_slice(&proof.payload).unwrap();
        assert_eq!((said["nonce"].as_str(), said["path"].as_str()), (Some("abc123"), Some(path)));
        assert_eq!((said["open"].as_bool(), said["reasons"].to_string().as_str()), (Some(open_), reasons));
        assert_eq!(said["at"].as_i64(), Some(still.world.clock.now().unix()));
        assert!(open(reply.header("keyward-proof").as_bytes(), Context::Lease, &keys, LONGEST_STATEMENT).is_err());
    }
    for silent in ["approve", "approve?nonce=a%20b"] {
        assert_eq!(server.get(&format!("/v1/gate/{silent}")).header("keyward-proof"), "");
    }
}

/// A stream of events as they come.
struct Events(BufReader<TcpStream>);

impl Events {
    fn open(server: &Server) -> Self {
        let mut stream = TcpStream::connect(server.http).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET /v1/lease/approve/stream?audience=portal HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        Self(BufReader::new(stream))
    }

    /// Status line and headers.
    fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.0.read_line(&mut head).unwrap() > 0, "{head}");
        }
        head
    }

    /// The next event with its data.
    fn next(&mut self) -> (String, String) {
        let mut event = String::new();
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the stream ended after {event:?}");
            if let Some(name) = line.trim_end().strip_prefix("event: ") {
                event = name.to_owned();
            } else if let Some(data) = line.trim_end().strip_prefix("data: ") {
                return (event, data.to_owned());
            }
        }
    }
}

#[test]
fn a_stream_gives_a_lease_every_five_seconds_and_ends_with_the_reason() {
    let still = Still::new(leased());
    let server = still.serve();
    let keys = keys(&server);
    let mut events = Events::open(&server);
    let head = events.head();
    assert!(
        head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream") && head.contains("no-store"),
        "{head}"
    );
    let (event, data) = events.next();
    assert_eq!((event.as_str(), read(data.as_bytes(), &keys).unwrap().grant.sequence), ("lease", 1));
    still.go_on(Duration::from_secs(5));
    let (event, data) = events.next();
    assert_eq!((event.as_str(), read(data.as_bytes(), &keys).unwrap().grant.sequence), ("lease", 2));
    still.world.clock.pass(LONG);
    let (event, data) = events.next();
    let said: serde_json::Value = serde_json::from_str(&data).unwrap();
    assert_eq!((event.as_str(), said["open"].as_bool()), ("closed", Some(false)));
    assert_eq!(said["reasons"][0]["code"], "KW4008");
    assert_eq!(server.get("/v1/lease/approve/stream?audience=portal").status, 403, "a closed path has no stream");
}

#[test]
fn streams_are_bounded_and_do_not_hold_up_the_end() {
    let still = Still::new(leased());
    let server = still.serve();
    let mut open: Vec<Events> = (0..64).map(|_| Events::open(&server)).collect();
    for events in &mut open {
        assert!(events.head().starts_with("HTTP/1.1 200"));
        events.next();
    }
    assert_eq!(codes(&server.get("/v1/lease/approve/stream?audience=portal")), "KW4104");
    assert_eq!(server.get("/v1/lease/approve?audience=portal").status, 200, "others are answered");
    drop(open.pop());
    crate::harness::lease::until("a place is given back", || Events::open(&server).head().starts_with("HTTP/1.1 200"));
    let began = std::time::Instant::now();
    drop(server);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let (event, _) = open[0].next();
    assert_eq!(event, "end");
}

#[test]
fn keys_are_changed_through_the_admin_socket_in_two_steps() {
    let still = Still::new(leased());
    let server = still.serve();
    let first = keys(&server);
    let tcp = server.tcp("POST /v1/keys/announce HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(tcp.status, 403);
    let early = server.admin("POST", "/v1/keys/advance", "");
    assert_eq!((early.status, early.json()["code"].as_str()), (409, Some("KW4106")), "{early:?}");
    let announced = server.admin("POST", "/v1/keys/announce", "").json();
    assert_eq!(announced["standing"], "announced");
    let both = keys(&server);
    let ask = || server.get("/v1/lease/approve?audience=portal").body;
    assert!(read(ask().as_bytes(), &first).is_ok(), "the old key signs until the end");
    let used = server.admin("POST", "/v1/keys/advance", "").json();
    assert_eq!((used["key"].as_str(), used["standing"].as_str()), (announced["key"].as_str(), Some("in use")));
    assert!(read(ask().as_bytes(), &first).is_err() && read(ask().as_bytes(), &both).is_ok());
    assert!(read(ask().as_bytes(), &keys(&server)).is_ok());
    let entries = server.get("/v1/audit/entries?limit=10").body;
    for code in ["KW4111", "KW4112", announced["key"].as_str().unwrap()] {
        assert!(entries.contains(code), "{code}: {entries}");
    }
}
