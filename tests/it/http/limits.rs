//! Every listener has its bounds, and says so by closing gates, not by hanging.

use std::io::Read as _;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::harness::http::{Still, ask};
use crate::http::{grpc, two_paths};

const GATE: &[u8] = b"GET /v1/gate/approve HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn beyond_a_thousand_connections_a_gate_is_closed_and_opens_again() {
    // Both ends of each connection live in this process.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let wanted = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, wanted).unwrap();
    let server = Still::new(two_paths()).serve();
    let mut idle = Vec::new();
    for n in 0..1_024 {
        let mut stream = UnixStream::connect(&server.gate).unwrap_or_else(|e| panic!("{n}: {e}"));
        assert_eq!(ask(&mut stream, GATE).status, 200, "{n}");
        idle.push(stream);
    }
    let mut late = UnixStream::connect(&server.gate).unwrap();
    let reply = ask(&mut late, GATE);
    assert_eq!((reply.status, reply.header("keyward-reasons"), reply.header("connection")), (403, "KW4008", "close"));
    assert!(grpc::is_denied_once(&server, "KW4008"), "over gRPC too");
    assert_eq!(server.get("/v1/gate/approve").status, 200, "each listener has its own bound");
    assert_eq!(ask(&mut idle[0], GATE).status, 200, "who was there first is not sent away");
    idle.truncate(10);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let mut stream = UnixStream::connect(&server.gate).unwrap();
        match ask(&mut stream, GATE).status {
            200 => break,
            _ => assert!(Instant::now() < deadline, "never opened again"),
        }
    }
}

#[test]
fn a_long_head_and_a_long_body_end_the_exchange() {
    let server = Still::new(two_paths()).serve();
    let head = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "y".repeat(40_000));
    assert_eq!(server.tcp(&head).status, 403);
    let url = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "y".repeat(40_000));
    assert_eq!(server.tcp(&url).status, 403);
    let chunked = format!(
        "POST /v1/credentials/portal/renew HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n20000\r\n{}\r\n0\r\n\r\n",
        " ".repeat(0x20000)
    );
    assert_eq!(server.unix(&server.admin, chunked.as_bytes()).status, 413);
}

#[test]
fn a_stop_closes_idle_connections_and_removes_the_sockets() {
    let server = Still::new(two_paths()).serve();
    let mut tcp = TcpStream::connect(server.http).unwrap();
    assert_eq!(ask(&mut tcp, GATE).status, 200);
    let (gate, admin) = (server.gate.clone(), server.admin.clone());
    assert!(gate.exists() && admin.exists());
    let before = Instant::now();
    drop(server);
    assert!(before.elapsed() < Duration::from_secs(4), "an idle connection holds nobody up: {:?}", before.elapsed());
    assert_eq!(tcp.read(&mut [0]).unwrap_or(0), 0, "closed");
    assert!(!gate.exists() && !admin.exists());
}

#[test]
fn a_stop_does_not_wait_for_one_who_never_ends_his_question() {
    use std::io::Write as _;
    let server = Still::new(two_paths()).serve();
    let mut slow = TcpStream::connect(server.http).unwrap();
    slow.write_all(b"GET /v1/gate/approve HTTP/1.1\r\nHost:").unwrap();
    assert_eq!(server.get("/healthz").status, 200);
    let before = Instant::now();
    drop(server);
    assert!(before.elapsed() < Duration::from_secs(8), "{:?}", before.elapsed());
}

#[test]
fn readers_that_stall_do_not_take_the_gate_away() {
    use std::io::Write as _;
    let (estate, script) = crate::http::metrics::crowd(10_000);
    let server = Still::scripted(estate, script).serve();
    // Ten ask for four megabytes each and read nothing: more than the turns there are.
    let stalled: Vec<TcpStream> = (0..10)
        .map(|_| {
            let mut stream = TcpStream::connect(server.http).unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            stream
        })
        .collect();
    let mut gate = TcpStream::connect(server.http).unwrap();
    for _ in 0..100 {
        assert_eq!(ask(&mut gate, GATE).status, 200);
    }
    assert_eq!(server.get("/healthz").status, 200);
    drop(stalled);
    assert_eq!(server.get("/metrics").status, 200, "turns come back when the readers go");
}
