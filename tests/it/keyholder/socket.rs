//! Who may ask, how much, and how slowly.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use keyward::codec::holder::{Answer, LARGEST_REQUEST, Request};
use keyward::ports::{HolderError, KeyHolder};

use crate::harness::keyholder::{GuardianLog, Holder, USER};
use crate::harness::life::PATIENCE;

fn answer(bytes: &[u8]) -> Answer {
    Answer::decode(&bytes[4..]).unwrap()
}

/// Asks for the status as another user, with a program that knows nothing of us.
fn ask_as(user: &str, holder: &Holder) -> Vec<u8> {
    // It may be refused, and the connection closed, before it has asked.
    let program = format!(
        "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect({:?})\n\
         try: s.sendall(bytes([0,0,0,2,1,1]))\nexcept BrokenPipeError: pass\n\
         sys.stdout.buffer.write(s.recv(65536))",
        holder.socket().display().to_string()
    );
    let out = Command::new("setpriv")
        .args(["--reuid", user, "--clear-groups", "--", "/usr/bin/python3", "-c", &program])
        .output();
    let out = out.unwrap();
    // What a test did not expect is seen with its output.
    eprintln!("{user}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

#[tokio::test]
async fn only_the_users_that_were_named_may_ask() {
    let log = GuardianLog::new(1);
    let mut holder = Holder::start(&log);
    let mode = std::fs::metadata(holder.socket()).unwrap().mode() & 0o7777;
    assert_eq!(mode, 0o600);
    assert!(matches!(answer(&holder.raw(&Request::Status.encode())), Answer::Status(_)));
    // The socket is its own, so that it may connect; but only root was named.
    let said = answer(&ask_as(USER, &holder));
    assert!(matches!(&said, Answer::Refused(why) if why.contains("may not ask this key holder")), "{said:?}");
    assert_eq!(ask_as("daemon", &holder), b"", "others cannot even connect");
    holder.say_instead(&["--peer", "daemon", "--group", "daemon"], None);
    holder.restart();
    assert_eq!(std::fs::metadata(holder.socket()).unwrap().mode() & 0o7777, 0o660);
    std::fs::set_permissions(holder.socket(), std::fs::Permissions::from_mode(0o666)).unwrap();
    assert!(matches!(answer(&ask_as("daemon", &holder)), Answer::Status(_)));
    let said = answer(&ask_as("mail", &holder));
    assert!(matches!(said, Answer::Refused(_)), "the mode is not what keeps them out: {said:?}");
}

#[tokio::test]
async fn a_socket_of_another_user_is_not_believed() {
    let log = GuardianLog::new(1);
    let holder = Holder::start(&log);
    let error =
        keyward::adapters::holder::SocketHolder::new(&holder.socket(), Some(12_345)).status().await.unwrap_err();
    assert!(error.to_string().contains("listens there, expected user 12345"), "{error}");
    let nobody = keyward::adapters::holder::SocketHolder::new(&holder.path("nothing"), None).status().await;
    assert!(matches!(nobody, Err(HolderError::Unavailable(why)) if why.contains("connecting")));
}

#[test]
fn garbage_huge_and_torn_frames_are_refused_and_harm_no_other() {
    let log = GuardianLog::new(1);
    let holder = Holder::start(&log);
    let mut random = vec![0_u8; 3_000];
    aws_lc_rs::rand::fill(&mut random).unwrap();
    let truncated = Request::Records(1).encode();
    for (what, frame) in [
        ("random bytes", &random[..]),
        ("nothing", b""),
        ("another version", &[9, 1]),
        ("an unknown kind", &[1, 99]),
        ("a part of a request", &truncated[..5]),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n"),
    ] {
        let said = answer(&holder.raw(frame));
        assert!(matches!(said, Answer::Refused(_)), "{what}: {said:?}");
    }
    // A length beyond the limit is refused before anything of it is read.
    for length in [u32::MAX, u32::try_from(LARGEST_REQUEST).unwrap() + 1] {
        let mut stream = UnixStream::connect(holder.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&length.to_be_bytes()).unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).unwrap();
        assert!(matches!(answer(&said), Answer::Refused(why) if why.contains("at most")));
    }
    // One large request at a time.
    let large = (u32::try_from(LARGEST_REQUEST).unwrap()).to_be_bytes();
    let mut first = UnixStream::connect(holder.socket()).unwrap();
    first.write_all(&large).unwrap();
    let began = Instant::now();
    let said = loop {
        let mut second = UnixStream::connect(holder.socket()).unwrap();
        second.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        second.write_all(&large).unwrap();
        let mut said = Vec::new();
        // The one that has the turn waits for its bytes; the other is told.
        if second.read_to_end(&mut said).is_ok() {
            break said;
        }
        assert!(began.elapsed() < PATIENCE);
    };
    assert!(matches!(answer(&said), Answer::Failed(why) if why.contains("another large request")));
    assert!(matches!(answer(&holder.raw(&Request::Status.encode())), Answer::Status(_)));
}

#[test]
fn a_slow_peer_is_cut_and_a_thousand_connections_leave_room_for_the_next() {
    let log = GuardianLog::new(1);
    let holder = Holder::start(&log);
    let frame = [&2_u32.to_be_bytes()[..], &Request::Status.encode()].concat();
    let mut slow = UnixStream::connect(holder.socket()).unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let began = Instant::now();
    slow.write_all(&frame[..3]).unwrap();
    let mut streams = Vec::new();
    for _ in 0..1_000 {
        // The queue of the socket may be full for a moment.
        if let Ok(stream) = UnixStream::connect(holder.socket()) {
            streams.push(stream);
        }
    }
    assert!(streams.len() > 900, "{}", streams.len());
    let threads = std::fs::read_dir(format!("/proc/{}/task", holder.process().as_raw_nonzero())).unwrap().count();
    assert!(threads <= 64 + 3, "{threads} threads");
    drop(streams);
    let answered = || {
        let said = holder.raw(&Request::Status.encode());
        (said.len() > 4).then(|| answer(&said))
    };
    let asked = Instant::now();
    while answered().is_none() {
        assert!(asked.elapsed() < PATIENCE, "it does not answer any more");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut said = Vec::new();
    slow.read_to_end(&mut said).unwrap();
    assert_eq!(said, b"", "a request that does not arrive is not answered");
    let waited = began.elapsed();
    assert!((Duration::from_secs(9)..Duration::from_secs(20)).contains(&waited), "cut after {waited:?}");
}

#[test]
fn a_second_holder_of_one_directory_or_socket_does_not_start() {
    let log = GuardianLog::new(1);
    let holder = Holder::start(&log);
    let socket = holder.path("run/other").display().to_string();
    let said = holder.second(&["--socket", &socket]);
    assert!(said.contains("another key holder runs in"), "{said}");
    let mut third = Holder::prepared(&log, &[]);
    std::fs::remove_dir_all(third.path("run")).unwrap();
    std::os::unix::fs::symlink(holder.path("run"), third.path("run")).unwrap();
    let said = third.refuses();
    assert!(said.contains("is in use by a running process"), "{said}");
    // It is still the first that answers.
    assert!(matches!(answer(&holder.raw(&Request::Status.encode())), Answer::Status(_)));
}
