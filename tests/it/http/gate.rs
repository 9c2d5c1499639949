//! The gate answers exactly 200 or 403.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keyward::shell::http::Web;

use crate::harness::estate::pid;
use crate::harness::http::{Server, Still, ask, time};
use crate::http::{LONG, staging, two_paths};

fn gate(server: &Server, path: &str) -> crate::harness::http::Reply {
    server.get(&format!("/v1/gate/{path}"))
}

#[test]
fn an_open_path_is_200_and_says_until_when_and_by_what() {
    let still = Still::new(two_paths());
    let server = still.serve();
    let reply = gate(&server, "approve?nonce=Zm9v-_1");
    assert_eq!((reply.status, reply.header("cache-control")), (200, "no-store"), "{reply:?}");
    assert_eq!(reply.headers.get("keyward-reasons"), None);
    let json = reply.json();
    assert_eq!((json["open"].as_bool(), json["nonce"].as_str()), (Some(true), Some("Zm9v-_1")));
    assert_eq!(json["weakest"], "portal: review.example.com");
    assert_eq!((json["environment"].as_str(), json["path"].as_str()), (Some("production"), Some("approve")));
    assert!(time(&json["until"]) > time(&json["evaluated_at"]) && time(&json["since"]) <= time(&json["evaluated_at"]));
}

#[test]
fn a_closed_path_is_403_with_its_reasons_in_header_and_body() {
    let server = Still::new(two_paths()).serve();
    let reply = gate(&server, "broken");
    assert_eq!((reply.status, reply.header("keyward-reasons")), (403, "KW4002"), "{reply:?}");
    let json = reply.json();
    let reason = &json["reasons"][0];
    assert_eq!((reason["code"].as_str(), reason["credential"].as_str()), (Some("KW4002"), Some("peer")));
    assert!(reason["text"].as_str().unwrap().contains("has no certificate"));
    assert!(reason["reopens"].is_string() && json["until"].is_null());
}

#[test]
fn an_engine_that_stands_still_closes_its_gates() {
    let still = Still::new(two_paths());
    let server = still.serve();
    assert_eq!(gate(&server, "approve").status, 200);
    still.world.clock.pass(LONG);
    let reply = gate(&server, "approve");
    assert_eq!((reply.status, reply.header("keyward-reasons")), (403, "KW4008"), "{reply:?}");
    still.world.clock.step(-30);
    assert_eq!(gate(&server, "approve").header("keyward-reasons"), "KW4008,KW4009");
}

#[test]
fn an_answer_that_was_given_on_a_connection_is_not_given_again_when_it_has_ended() {
    let still = Still::new(two_paths());
    let server = still.serve();
    let mut stream = UnixStream::connect(&server.gate).unwrap();
    let mut asked = |path: &str| {
        let reply = ask(&mut stream, format!("GET /v1/gate/{path} HTTP/1.1\r\nHost: keyward\r\n\r\n").as_bytes());
        (reply.status, reply.header("keyward-reasons").to_owned(), reply.body)
    };
    let first = asked("approve");
    assert_eq!((first.0, asked("broken").0), (200, 403));
    assert_eq!(asked("approve"), first, "the same while nothing changes");
    still.engine.hold(&pid("approve"), Duration::from_secs(60), "ops").unwrap();
    assert_eq!(asked("approve").1, "KW4401", "at once");
    still.go_on(Duration::from_secs(61));
    let again = asked("approve");
    assert_eq!(again.0, 200);
    assert_ne!(again.2, first.2, "it was evaluated again since");
    still.world.clock.pass(LONG);
    assert_eq!(asked("approve").1, "KW4008", "nobody has looked since");
    assert_eq!(asked("broken").1, "KW4002,KW4008");
}

#[test]
fn what_keeps_the_guardian_busy_holds_up_no_gate() {
    let still = Still::new(two_paths());
    let (lock, busy) = (Arc::new(Mutex::new(())), Arc::new(AtomicUsize::new(0)));
    let (waits, entered) = (lock.clone(), busy.clone());
    let notices = Arc::new(move || {
        entered.fetch_add(1, Ordering::SeqCst);
        drop(waits.lock());
        Vec::new()
    });
    let server = Server::new(Web { notices, ..still.web() });
    let held = lock.lock().unwrap();
    // As many as the guardian has threads.
    let mut pages = [(); 2].map(|()| TcpStream::connect(server.http).unwrap());
    for page in &mut pages {
        page.write_all(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    }
    let began = Instant::now();
    while busy.load(Ordering::SeqCst) < 2 {
        assert!(began.elapsed() < Duration::from_secs(10), "the pages are not asked for");
        std::thread::yield_now();
    }
    let question = b"GET /v1/gate/approve HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!((server.tcp_bytes(question).status, server.unix(&server.gate, question).status), (200, 200));
    drop(held);
    for mut page in pages {
        let mut answer = String::new();
        page.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[test]
fn whatever_is_asked_below_the_gates_url_is_answered_by_200_or_403() {
    let server = Still::new(two_paths()).serve();
    let long = "a".repeat(20_000);
    let paths = [
        "",
        "/",
        "//",
        "/unknown/approve",
        "//approve/x",
        "/APPROVE/x",
        "/approve%2fx",
        "/unknown",
        "/APPROVE",
        "/approv%65",
        "/..",
        "/../../metrics",
        "/%00",
        "/%2e%2e",
        "/approve;x=1",
        "/approve%20",
        "%2fapprove",
        "s/",
        "/é",
        &format!("/{}", "a".repeat(64)),
        &format!("/{}", "a".repeat(4_000)),
        &format!("/{long}"),
        "/approve\tx",
        "/approve\u{0}",
    ];
    let methods =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "CONNECT", "BREW", "get", "G{}T"];
    let mut answers = 0;
    for method in methods {
        for path in paths {
            for version in ["HTTP/1.1", "HTTP/1.0", "HTTP/1.9", "HTTP/9", ""] {
                let request =
                    format!("{method} /v1/gate{path} {version}\r\nHost: localhost\r\nConnection: close\r\n\r\n");
                for reply in [server.tcp(&request), server.unix(&server.gate, request.as_bytes())] {
                    assert_eq!((reply.status, reply.header("cache-control")), (403, "no-store"), "{request:?}");
                    answers += 1;
                }
            }
        }
        let request = format!("{method} /v1/gate/approve HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let expected = if method == "GET" { 200 } else { 403 };
        for socket in [&server.gate, &server.admin] {
            assert_eq!(server.unix(socket, request.as_bytes()).status, expected, "{method}");
        }
        assert_eq!(server.tcp(&request).status, expected, "{method}");
    }
    assert!(answers > 2_000);
}

#[test]
fn broken_heads_and_bodies_are_403_as_well() {
    let server = Still::new(two_paths()).serve();
    let many: String = (0..200).map(|n| format!("X-{n}: y\r\n")).collect();
    for rest in [
        " HTTP/1.1\r\nHost: localhost\r\nbroken header\r\n\r\n".to_owned(),
        " HTTP/1.1\r\nHost: localhost\r\nX: \u{1}\r\n\r\n".to_owned(),
        format!(" HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "y".repeat(40_000)),
        format!(" HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"),
        " HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n".to_owned(),
        " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(),
        " HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n".to_owned(),
        " x HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
    ] {
        let request = format!("GET /v1/gate/approve{rest}");
        for reply in [server.tcp(&request), server.unix(&server.gate, request.as_bytes())] {
            let shown = &request[..request.len().min(120)];
            assert_eq!((reply.status, reply.header("cache-control")), (403, "no-store"), "{shown:?}: {reply:?}");
        }
    }
    // A body is nobody's business: it is not read.
    let request =
        "GET /v1/gate/approve HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\nExpect: 100-continue\r\n\r\n";
    assert_eq!(server.tcp(request).status, 200);
}

#[test]
fn a_second_malformed_request_on_a_connection_is_403_too() {
    let server = Still::new(two_paths()).serve();
    let mut stream = TcpStream::connect(server.http).unwrap();
    let good = b"GET /v1/gate/approve HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(ask(&mut stream, good).status, 200);
    assert_eq!(ask(&mut stream, good).status, 200);
    assert_eq!(ask(&mut stream, b"GET /v1/gate/approve HTTP/1.1\r\n\x01: x\r\n\r\n").status, 403);
    // And so is one that came along with a good one.
    let mut stream = TcpStream::connect(server.http).unwrap();
    stream.write_all(&[&good[..], b"GET /v1/gate/a b HTTP/1.1\r\nHost: localhost\r\n\r\n"].concat()).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    let statuses: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).map(|a| &a[..3]).collect();
    assert_eq!(statuses, ["200", "403"], "{answers}");
}

#[test]
fn two_thousand_checks_go_over_one_connection() {
    let server = Still::new(two_paths()).serve();
    let mut tcp = TcpStream::connect(server.http).unwrap();
    tcp.set_nodelay(true).unwrap();
    let mut unix = UnixStream::connect(&server.gate).unwrap();
    for n in 0..2_000 {
        let path = if n % 2 == 0 { "approve" } else { "broken" };
        let request = format!("GET /v1/gate/{path}?nonce={n} HTTP/1.1\r\nHost: keyward\r\n\r\n");
        let expected = if n % 2 == 0 { 200 } else { 403 };
        for reply in [ask(&mut tcp, request.as_bytes()), ask(&mut unix, request.as_bytes())] {
            assert_eq!((reply.status, reply.json()["nonce"].as_str().unwrap()), (expected, &*n.to_string()));
        }
    }
}

#[test]
fn a_bad_nonce_is_not_echoed() {
    let server = Still::new(two_paths()).serve();
    for bad in ["nonce=%22", "nonce=", "nonce=a+b", &format!("nonce={}", "a".repeat(65))] {
        let reply = gate(&server, &format!("approve?{bad}"));
        assert_eq!((reply.status, reply.json().get("nonce").cloned()), (200, None), "{bad}");
    }
}

#[test]
fn in_staging_the_answer_says_so_in_header_and_body() {
    let server = Still::new(staging(two_paths())).serve();
    for path in ["approve", "broken", "unknown", "NO"] {
        let reply = gate(&server, path);
        assert_eq!(reply.header("keyward-environment"), "staging", "{path}");
        assert_eq!(reply.json()["environment"], "staging");
    }
    let production = Still::new(two_paths()).serve();
    assert_eq!(gate(&production, "approve").headers.get("keyward-environment"), None);
}

#[test]
fn a_foreign_host_decides_nothing_and_learns_codes_only() {
    let server = Still::new(two_paths()).serve();
    let ask = |path: &str| {
        server.tcp(&format!("GET /v1/gate/{path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"))
    };
    let (open, closed) = (ask("approve"), ask("broken"));
    assert_eq!((open.status, closed.status, closed.header("keyward-reasons")), (200, 403, "KW4002"));
    assert!(open.json()["weakest"].is_null() && !closed.body.contains("peer"), "{} {}", open.body, closed.body);
}

#[test]
fn the_gates_socket_answers_nothing_else() {
    let server = Still::new(two_paths()).serve();
    for path in ["/", "/metrics", "/v1/status", "/v1/gates", "/healthz", "/v1/credentials"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        assert_eq!(server.unix(&server.gate, request.as_bytes()).status, 403, "{path}");
    }
}
