//! ext_authz over gRPC, asked with frames that are written here by hand.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use keyward::codec::ext_authz::CHECK;
use tokio::net::{TcpStream, UnixStream};

use crate::harness::http::{Server, Still};
use crate::http::kinds::guarded;
use crate::http::{LONG, staging, two_paths};

/// A field of bytes, its length as a varint.
pub fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend(bytes);
    out
}

pub fn framed(message: &[u8]) -> Vec<u8> {
    [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

/// A `CheckRequest`.
pub fn question(path: Option<&str>, method: &str, target: &str, more: usize) -> Vec<u8> {
    let entry = |key: &str, value: &str| [field(1, key.as_bytes()), field(2, value.as_bytes())].concat();
    let filler = field(3, &entry("cookie", &"c".repeat(more)));
    let http = [field(2, method.as_bytes()), filler, field(4, target.as_bytes())].concat();
    let mut attributes = field(4, &field(2, &http));
    if let Some(path) = path {
        attributes.extend(field(10, &entry("keyward-path", path)));
    }
    framed(&field(1, &attributes))
}

/// What came back.
#[derive(Debug)]
struct Answer {
    http: u16,
    grpc: String,
    body: Bytes,
}

impl Answer {
    /// `status { code }` is the first field; without it the code is 0.
    fn is_ok(&self) -> bool {
        self.http == 200 && self.grpc == "0" && self.body.get(5..7) == Some(&[0x0a, 0])
    }

    fn is_denied(&self, code: &str) -> bool {
        let says = |text: &str| String::from_utf8_lossy(&self.body).contains(text);
        let denied = self.body.get(5..9) == Some(&[0x0a, 2, 8, 7]);
        // denied_response { status { code: 403 } }
        let forbidden = self.body.windows(5).any(|w| w == [0x0a, 3, 8, 0x93, 3]);
        self.http == 200 && self.grpc == "0" && denied && forbidden && says("keyward-reasons") && says(code)
    }
}

async fn send(
    sender: &mut http2::SendRequest<Full<Bytes>>,
    url: &str,
    kind: Option<&str>,
    method: &str,
    body: Vec<u8>,
) -> Answer {
    let mut request =
        hyper::Request::builder().method(method).uri(format!("http://keyward{url}")).header("te", "trailers");
    if let Some(kind) = kind {
        request = request.header("content-type", kind);
    }
    sender.ready().await.unwrap();
    let response = sender.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap();
    let http = response.status().as_u16();
    let collected = response.into_body().collect().await.unwrap();
    let grpc =
        collected.trailers().and_then(|t| t.get("grpc-status")).map_or("none", |v| v.to_str().unwrap()).to_owned();
    Answer { http, grpc, body: collected.to_bytes() }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), work).await.expect("an answer in time") })
}

async fn over_unix(server: &Server) -> http2::SendRequest<Full<Bytes>> {
    let stream = UnixStream::connect(&server.gate).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn over_tcp(server: &Server) -> http2::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(server.http).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

const GRPC: Option<&str> = Some("application/grpc");

#[test]
fn an_open_path_is_ok_and_a_closed_one_is_denied_over_socket_and_loopback() {
    let still = Still::new(two_paths());
    let server = still.serve();
    run(async {
        for mut sender in [over_unix(&server).await, over_tcp(&server).await] {
            for _ in 0..3 {
                let open = send(&mut sender, CHECK, GRPC, "POST", question(Some("approve"), "GET", "/", 0)).await;
                assert!(open.is_ok(), "{open:?}");
                let closed = send(&mut sender, CHECK, GRPC, "POST", question(Some("broken"), "GET", "/", 9_000)).await;
                assert!(closed.is_denied("KW4002"), "{closed:?}");
            }
            let unknown = send(&mut sender, CHECK, GRPC, "POST", question(Some("nobody"), "GET", "/", 0)).await;
            assert!(unknown.is_denied("KW4010"), "{unknown:?}");
            let closed = send(&mut sender, CHECK, GRPC, "POST", question(Some("broken"), "GET", "/", 0)).await;
            assert!(!String::from_utf8_lossy(&closed.body).contains("peer"), "Envoy hands it on: {closed:?}");
        }
        still.world.clock.pass(LONG);
        let stale =
            send(&mut over_unix(&server).await, CHECK, GRPC, "POST", question(Some("approve"), "GET", "/", 0)).await;
        assert!(stale.is_denied("KW4008"), "{stale:?}");
    });
}

#[test]
fn the_attributes_tell_the_request() {
    let server = Still::new(guarded()).serve();
    run(async {
        let mut sender = over_unix(&server).await;
        for (method, target, through) in [
            ("GET", "/", true),
            ("POST", "/reject/1?x=y", true),
            ("POST", "/approve/1", false),
            ("POST", "/reject/../approve/1", false),
            ("", "", false),
            ("GET", "", false),
            ("", "/", false),
        ] {
            let answer = send(&mut sender, CHECK, GRPC, "POST", question(Some("broken"), method, target, 0)).await;
            assert_eq!(answer.is_ok(), through, "{method} {target}: {answer:?}");
            assert_eq!(answer.is_denied("KW4002"), !through, "{method} {target}: {answer:?}");
        }
    });
}

#[test]
fn whatever_cannot_be_read_is_denied_and_never_an_error_of_the_protocol() {
    let server = Still::new(two_paths()).serve();
    let good = question(Some("approve"), "GET", "/", 0);
    run(async {
        let mut sender = over_unix(&server).await;
        let compressed = [&[1], &good[1..]].concat();
        let bodies: [(&str, Vec<u8>); 9] = [
            ("nothing", Vec::new()),
            ("cut", good[..good.len() - 1].to_vec()),
            ("two messages", [&good[..], &good[..]].concat()),
            ("compressed", compressed),
            ("an empty message", framed(b"")),
            ("no path", question(None, "GET", "/", 0)),
            ("no protobuf", framed(b"GET / HTTP/1.1\r\n\r\n")),
            ("a length that lies", [&[0, 0xff, 0xff, 0xff, 0xff][..], &good[5..]].concat()),
            ("too long", question(Some("approve"), "GET", "/", 200_000)),
        ];
        for (what, body) in bodies {
            let answer = send(&mut sender, CHECK, GRPC, "POST", body).await;
            assert!(answer.is_denied("KW4503"), "{what}: {answer:?}");
        }
        for (url, kind, method) in [
            (CHECK, None, "POST"),
            (CHECK, Some("application/json"), "POST"),
            (CHECK, Some("application/grpc+json"), "POST"),
            (CHECK, GRPC, "GET"),
            ("/envoy.service.auth.v2.Authorization/Check", GRPC, "POST"),
            ("/envoy.service.auth.v3.Authorization/Other", GRPC, "POST"),
        ] {
            let answer = send(&mut sender, url, kind, method, good.clone()).await;
            assert!(answer.is_denied("KW4503"), "{method} {url} {kind:?}: {answer:?}");
        }
        let names = ["", "APPROVE", "approve/x", "é", "a b", "approve\u{0}"];
        for name in names {
            let answer = send(&mut sender, CHECK, GRPC, "POST", question(Some(name), "GET", "/", 0)).await;
            assert!(answer.is_denied("KW4010"), "{name:?}: {answer:?}");
        }
        let good = send(&mut sender, CHECK, GRPC, "POST", good).await;
        assert!(good.is_ok(), "the connection still works: {good:?}");
    });
}

#[test]
fn the_gate_over_http_2_is_200_or_403_too_and_the_gates_socket_has_nothing_else() {
    let server = Still::new(two_paths()).serve();
    run(async {
        let mut sender = over_unix(&server).await;
        for (url, method, status) in [
            ("/v1/gate/approve", "GET", 200),
            ("/v1/gate/approve/x", "POST", 200),
            ("/v1/gate/broken", "GET", 403),
            ("/v1/gate/approve", "POST", 403),
            ("/v1/status", "GET", 403),
            ("/grpc.health.v1.Health/Check", "POST", 403),
        ] {
            assert_eq!(send(&mut sender, url, GRPC, method, Vec::new()).await.http, status, "{method} {url}");
        }
        let page = send(&mut over_tcp(&server).await, "/", None, "GET", Vec::new()).await;
        assert_eq!(page.http, 403, "no Host of ours");
    });
}

#[test]
fn over_http_1_the_service_is_not_there() {
    let server = Still::new(two_paths()).serve();
    let body = question(Some("approve"), "GET", "/", 0);
    let head = format!(
        "POST {CHECK} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/grpc\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let request = [head.as_bytes(), &body].concat();
    assert_eq!(server.unix(&server.gate, &request).status, 403);
    assert_eq!(server.tcp_bytes(&request).status, 403);
}

#[test]
fn a_denial_of_a_dry_run_says_so() {
    let server = Still::new(staging(two_paths())).serve();
    run(async {
        let mut sender = over_unix(&server).await;
        let answer = send(&mut sender, CHECK, GRPC, "POST", question(Some("broken"), "GET", "/", 0)).await;
        assert!(answer.is_denied("keyward-environment") && answer.is_denied("staging"), "{answer:?}");
    });
}

#[test]
fn a_hundred_questions_at_once_on_one_connection_are_all_answered() {
    let server = Still::new(two_paths()).serve();
    run(async {
        let sender = over_unix(&server).await;
        let asking = (0..100).map(|n| {
            let mut sender = sender.clone();
            async move {
                let path = if n % 2 == 0 { "approve" } else { "broken" };
                let answer = send(&mut sender, CHECK, GRPC, "POST", question(Some(path), "GET", "/", 0)).await;
                assert_eq!(answer.is_ok(), n % 2 == 0, "{answer:?}");
            }
        });
        futures_util::future::join_all(asking).await;
    });
}

/// Whether a new connection gets this denial.
pub fn is_denied_once(server: &Server, code: &str) -> bool {
    run(async {
        let mut sender = over_unix(server).await;
        send(&mut sender, CHECK, GRPC, "POST", question(Some("approve"), "GET", "/", 0)).await.is_denied(code)
    })
}

#[test]
fn a_question_that_never_ends_is_denied_and_holds_up_nobody() {
    let server = Still::new(two_paths()).serve();
    run(async {
        let stream = UnixStream::connect(&server.gate).await.unwrap();
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let good = question(Some("approve"), "GET", "/", 0);
        let first =
            futures_util::stream::iter([Ok::<_, std::io::Error>(hyper::body::Frame::data(Bytes::from(good.clone())))]);
        let rest = futures_util::stream::pending();
        let endless = http_body_util::StreamBody::new(futures_util::StreamExt::chain(first, rest));
        let body = http_body_util::combinators::BoxBody::new(endless);
        let request = |body| {
            let head =
                hyper::Request::post(format!("http://keyward{CHECK}")).header("content-type", "application/grpc");
            head.body(body).unwrap()
        };
        let slow = tokio::spawn(sender.send_request(request(body)));
        let began = std::time::Instant::now();
        let whole = http_body_util::combinators::BoxBody::new(Full::new(Bytes::from(good)).map_err(|e| match e {}));
        let quick = sender.send_request(request(whole)).await.unwrap();
        assert!(quick.into_body().collect().await.unwrap().to_bytes().starts_with(&[0, 0, 0, 0]));
        assert!(began.elapsed() < Duration::from_secs(2), "the next question is answered at once");
        let denied = slow.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&denied).contains("KW4503"), "{denied:?}");
        assert!(began.elapsed() > Duration::from_secs(4), "it had its time");
    });
}

#[test]
fn a_stop_waits_neither_for_an_idle_connection_nor_for_half_a_preface() {
    let server = Still::new(two_paths()).serve();
    let gate = server.gate.clone();
    run(async {
        let mut idle = over_unix(&server).await;
        assert!(send(&mut idle, CHECK, GRPC, "POST", question(Some("approve"), "GET", "/", 0)).await.is_ok());
        let mut half = UnixStream::connect(&gate).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut half, b"PRI * HTTP/2.0").await.unwrap();
        let began = std::time::Instant::now();
        let stopping = tokio::task::spawn_blocking(move || drop(server));
        stopping.await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    });
}

#[test]
fn frames_that_are_none_end_the_connection_and_nothing_else() {
    use std::io::{Read as _, Write as _};
    let server = Still::new(two_paths()).serve();
    for frames in [&[0xff; 64][..], b"GET /v1/gate/approve HTTP/1.1\r\n\r\n", &[0; 9]] {
        let mut stream = std::os::unix::net::UnixStream::connect(&server.gate).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", frames].concat()).unwrap();
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        assert!(!answer.windows(8).any(|w| w == b"HTTP/1.1"), "{answer:?}");
    }
    assert_eq!(server.get("/v1/gate/approve").status, 200);
}
