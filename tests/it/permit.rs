//! Permits: only while the path is open, recorded first, and spent once in the decision's own transaction.

mod postgres;

use std::collections::BTreeSet;
use std::sync::Arc;

use keyward::domain::key::Digest;
use keyward::engine::Wanted;
use keyward::permit::{Keys, Memory, VolatileEpochs, verify};
use serde_json::json;

use crate::harness::estate::pid;
use crate::harness::http::{Reply, Server, Still};
use crate::harness::lease::{audience, decision};
use crate::http::LONG;
use crate::lease::http::{expected, keys, leased, moment};

fn ask(server: &Server, body: &str) -> Reply {
    let request = format!(
        "POST /v1/permits HTTP/1.1\r\nHost: portal\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    server.unix(&server.gate, request.as_bytes())
}

fn wish(path: &str, audience: &str) -> String {
    json!({ "path": path, "audience": audience, "digest": decision().to_string() }).to_string()
}

#[test]
fn a_permit_is_for_one_decision_and_its_entry_is_in_the_log_before_it() {
    let still = Still::new(leased());
    let server = still.serve();
    let keys: Keys = keys(&server);
    let reply = ask(&server, &wish("approve", "portal"));
    assert_eq!((reply.status, reply.header("cache-control")), (200, "no-store"), "{reply:?}");
    let mut memory = Memory::new(VolatileEpochs::default());
    let permit = verify(reply.body.as_bytes(), &keys, &expected(), &decision(), moment(&still), &mut memory).unwrap();
    assert_eq!(Some(permit.grant.epoch), still.engine.epoch());
    let entries = server.get("/v1/audit/entries?limit=1").body;
    for part in ["gate.permit", "KW4201", &decision().to_string(), "\"portal\""] {
        assert!(entries.contains(part), "{part}: {entries}");
    }
    let again = ask(&server, &wish("approve", "portal"));
    let other = verify(again.body.as_bytes(), &keys, &expected(), &decision(), moment(&still), &mut memory).unwrap();
    assert!(other.grant.sequence > permit.grant.sequence, "each has a name of its own");
}

#[test]
fn no_permit_while_the_path_is_closed_or_the_wish_is_none() {
    let still = Still::new(leased());
    let server = still.serve();
    let codes = |reply: Reply| {
        assert_eq!((reply.status, reply.header("cache-control")), (403, "no-store"), "{reply:?}");
        reply.header("keyward-reasons").to_owned()
    };
    assert_eq!(codes(ask(&server, &wish("broken", "portal"))), "KW4002");
    assert_eq!(codes(ask(&server, &wish("approve", "other"))), "KW4101");
    assert_eq!(codes(ask(&server, &wish("unknown", "portal"))), "KW4010");
    let long = wish("approve", &"a".repeat(5_000));
    for bad in ["", "{}", "[]", "[\"approve\",\"portal\",\"00\"]", "null", "{\"path\":\"approve\"}", &long] {
        assert_eq!(codes(ask(&server, bad)), "KW4105", "{bad}");
    }
    let short = wish("approve", "portal").replace(&decision().to_string(), "abc");
    assert_eq!(codes(ask(&server, &short)), "KW4105");
    let more = wish("approve", "portal").replace('{', "{\"x\":1,");
    assert_eq!(codes(ask(&server, &more)), "KW4105");
    let tcp =
        server.tcp("POST /v1/permits HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert_eq!(codes(tcp), "KW4105");
    assert_eq!(codes(server.get("/v1/permits")), "KW4105");
    still.world.store.fail_next(1);
    assert_eq!(codes(ask(&server, &wish("approve", "portal"))), "KW4203");
    let still = Still::new(leased());
    let server = still.serve();
    still.world.clock.pass(LONG);
    assert_eq!(codes(ask(&server, &wish("approve", "portal"))), "KW4008");
}

#[test]
fn permits_of_many_askers_have_distinct_names() {
    let still = Still::new(leased());
    let wanted = Wanted { path: pid("approve"), audience: audience("portal"), decision: Digest::of(b"d") };
    let engine = Arc::clone(&still.engine);
    let names: BTreeSet<(u64, u64)> = std::thread::scope(|scope| {
        let one = || {
            let permit = |_| {
                let permit = futures_util::FutureExt::now_or_never(engine.permit(&wanted)).unwrap().unwrap();
                (permit.claims.grant.epoch, permit.claims.grant.sequence)
            };
            (0..50).map(permit).collect::<Vec<_>>()
        };
        let running: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
        running.into_iter().flat_map(|r| r.join().unwrap()).collect()
    });
    assert_eq!(names.len(), 200);
}
