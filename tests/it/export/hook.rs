//! A webhook and its receiver.

use std::collections::VecDeque;
use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{fill, filled};
use crate::harness::ledger::{Written, keyward};

/// `whsec_` and the base64 of 32 times "k".
const SECRET: &str = "whsec_a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=";

/// One request.
#[derive(Clone, Debug)]
struct Request {
    head: String,
    body: Vec<u8>,
    at: Instant,
}

impl Request {
    fn field(&self, name: &str) -> &str {
        let of = |line: &&str| line.to_ascii_lowercase().starts_with(&format!("{name}:"));
        self.head.lines().find(of).unwrap().split_once(':').unwrap().1.trim()
    }

    fn id(&self) -> &str {
        self.field("webhook-id")
    }

    fn events(&self) -> Vec<serde_json::Value> {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Answers what it is told to, then 204 always; an empty answer is none at all.
struct Hook {
    url: String,
    seen: Receiver<Request>,
    answers: Arc<Mutex<VecDeque<&'static str>>>,
}

impl Hook {
    fn new(answers: &[&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/in?token=hidden", listener.local_addr().unwrap());
        let answers = Arc::new(Mutex::new(answers.iter().copied().collect::<VecDeque<_>>()));
        let (tell, seen) = channel();
        let told = answers.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, tell, told) = (stream.unwrap(), tell.clone(), told.clone());
                std::thread::spawn(move || serve(stream, &tell, &told));
            }
        });
        Self { url, seen, answers }
    }

    fn all(&self) -> Vec<Request> {
        self.seen.try_iter().collect()
    }
}

fn serve(mut stream: std::net::TcpStream, tell: &Sender<Request>, answers: &Mutex<VecDeque<&'static str>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut head = String::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line == "\r\n" {
                break;
            }
            head.push_str(&line);
        }
        let mut request = Request { head, body: Vec::new(), at: Instant::now() };
        let length: usize = request.field("content-length").parse().unwrap();
        request.body.resize(length, 0);
        reader.read_exact(&mut request.body).unwrap();
        if tell.send(request).is_err() {
            return;
        }
        let answer = answers.lock().unwrap().pop_front().unwrap_or("204 No Content");
        if answer.is_empty() {
            // Until the other side goes away.
            reader.read_to_end(&mut Vec::new()).ok();
            return;
        }
        let body = if answer.starts_with("204") { "" } else { "content-length: 4\r\n" };
        let text = if body.is_empty() { "" } else { "why?" };
        if stream.write_all(format!("HTTP/1.1 {answer}\r\n{body}\r\n{text}").as_bytes()).is_err() {
            return;
        }
    }
}

struct Sending {
    log: Written,
    dir: tempfile::TempDir,
}

impl Sending {
    fn new(entries: u64) -> Self {
        let sending = Self { log: filled(entries), dir: tempfile::TempDir::new().unwrap() };
        fs::write(sending.secret(), SECRET).unwrap();
        fs::set_permissions(sending.secret(), Permissions::from_mode(0o600)).unwrap();
        sending
    }

    fn secret(&self) -> std::path::PathBuf {
        self.dir.path().join("secret")
    }

    fn cursor(&self) -> std::path::PathBuf {
        self.dir.path().join("cursor.json")
    }

    fn arguments(&self, format: &str, url: &str) -> Vec<String> {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let pairs = [
            ("--format", format.to_owned()),
            ("--webhook", url.to_owned()),
            ("--database", text(self.log.path())),
            ("--secret-file", text(&self.secret())),
            ("--cursor", text(&self.cursor())),
        ];
        let mut all = vec!["audit".to_owned(), "export".to_owned()];
        all.extend(pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]));
        all
    }

    fn send(&self, format: &str, url: &str) -> (i32, String) {
        keyward(&self.arguments(format, url).iter().map(String::as_str).collect::<Vec<_>>())
    }
}

/// What the signature must be, by Python's own HMAC.
fn signed(request: &Request) -> bool {
    const CHECK: &str = "import base64,hashlib,hmac,sys\n\
        secret,head,seen=sys.argv[1:]\n\
        body=head.encode()+sys.stdin.buffer.read()\n\
        made=hmac.new(base64.b64decode(secret[6:]),body,hashlib.sha256).digest()\n\
        sys.exit(0 if 'v1,'+base64.b64encode(made).decode()==seen else 1)";
    let head = format!("{}.{}.", request.id(), request.field("webhook-timestamp"));
    let mut child = Command::new("/usr/bin/python3")
        .args(["-c", CHECK, SECRET, &head, request.field("webhook-signature")])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&request.body).unwrap();
    child.wait().unwrap().success()
}

#[test]
fn every_entry_arrives_once_and_in_order_in_signed_batches() {
    for (format, media) in [("cloudevents", "application/cloudevents-batch+json"), ("ocsf", "application/json")] {
        let (sending, hook) = (Sending::new(1_234), Hook::new(&[]));
        let (code, text) = sending.send(format, &hook.url);
        assert!(code == 0 && text.contains("wrote entries 0–1233"), "{format}: {code} {text}");
        let mut requests = hook.all();
        assert_eq!(sending.send(format, &hook.url).0, 0);
        assert!(hook.all().is_empty(), "nothing is sent twice");
        fill(sending.log.path(), 1_234, 1_300, "");
        assert_eq!(sending.send(format, &hook.url).0, 0);
        requests.extend(hook.all());
        let sizes: Vec<usize> = requests.iter().map(|request| request.events().len()).collect();
        assert_eq!(sizes.iter().sum::<usize>(), 1_300, "{sizes:?}");
        assert!(sizes.len() >= 4 && sizes.iter().all(|size| (1..=500).contains(size)), "{sizes:?}");
        let mut ids: Vec<&str> = requests.iter().map(Request::id).collect();
        ids.dedup();
        assert_eq!(ids.len(), requests.len());
        for request in &requests {
            assert!(signed(request), "{request:?}");
            assert_eq!(request.field("content-type"), media);
            assert!(request.body.len() <= 1_024 * 1_024 + 2, "{}", request.body.len());
        }
        let events = requests.iter().flat_map(Request::events);
        for (row, event) in sending.log.rows().iter().zip(events) {
            let body: serde_json::Value = serde_json::from_slice(&row.body).unwrap();
            if format == "ocsf" {
                assert_eq!(event["raw_data"].as_str().unwrap().as_bytes(), row.body);
            } else {
                assert_eq!(event, body);
            }
        }
    }
}

#[test]
fn what_was_not_taken_is_sent_again_with_the_same_id() {
    let sending = Sending::new(700);
    let hook = Hook::new(&["503 Service Unavailable", "429 Too Many Requests\r\nretry-after: 3", "200 OK"]);
    let (code, text) = sending.send("cloudevents", &hook.url);
    assert_eq!(code, 0, "{text}");
    let requests = hook.all();
    assert_eq!(requests.len(), 4);
    let same = |a: usize, b: usize| (requests[a].id(), &requests[a].body) == (requests[b].id(), &requests[b].body);
    assert!(same(0, 1) && same(1, 2) && !same(2, 3));
    let waited = |n: usize| requests[n + 1].at - requests[n].at;
    assert!(waited(0) >= Duration::from_millis(900), "{:?}", waited(0));
    assert!(waited(1) >= Duration::from_millis(2_900), "{:?}", waited(1));
}

#[test]
fn a_receiver_that_refuses_ends_the_run_and_the_next_goes_on_there() {
    let sending = Sending::new(1_200);
    for refusal in ["400 Bad Request", "410 Gone", "307 Temporary Redirect\r\nlocation: /elsewhere"] {
        let hook = Hook::new(&["200 OK", refusal]);
        fs::remove_file(sending.cursor()).ok();
        let (code, text) = sending.send("cloudevents", &hook.url);
        assert!(code == 1 && text.contains("KW6508") && text.contains("\"why?\""), "{refusal}: {code} {text}");
        assert!(!text.contains("hidden"), "the URL's secret is not shown: {text}");
        let first = hook.all();
        assert_eq!(first.len(), 2, "{refusal}");
        // The batch stays what it was, though there is more now.
        assert_eq!(sending.send("cloudevents", &hook.url).0, 0);
        let then = hook.all();
        assert_eq!((then[0].id(), &then[0].body), (first[1].id(), &first[1].body));
        assert_eq!(first[0].events().len() + then.iter().map(|r| r.events().len()).sum::<usize>(), 1_200);
    }
    let hook = Hook::new(&["503 Service Unavailable\r\nretry-after: 100000"]);
    fs::remove_file(sending.cursor()).unwrap();
    let (code, text) = sending.send("cloudevents", &hook.url);
    assert!(code == 1 && text.contains("KW6509") && text.contains("wait 100000 s"), "{code} {text}");
}

#[test]
fn a_batch_that_was_under_way_when_the_run_was_killed_is_the_same_when_it_is_sent_again() {
    let sending = Sending::new(520);
    let hook = Hook::new(&["200 OK", ""]);
    let arguments = sending.arguments("ocsf", &hook.url);
    let mut child = Command::new(env!("CARGO_BIN_EXE_keyward"))
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let first: Vec<Request> = (0..2).map(|_| hook.seen.recv_timeout(Duration::from_secs(30)).unwrap()).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(hook.answers.lock().unwrap().is_empty());
    fill(sending.log.path(), 520, 600, "");
    assert_eq!(sending.send("ocsf", &hook.url).0, 0);
    let then = hook.all();
    assert_eq!((then[0].id(), &then[0].body), (first[1].id(), &first[1].body));
    assert_eq!(then.len(), 2);
    assert_eq!(first[0].events().len() + then[0].events().len() + then[1].events().len(), 600);
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_sent() {
    let sending = Sending::new(20);
    let hook = Hook::new(&[]);
    let refused = |format: &str, url: &str, word: &str| {
        let (code, text) = sending.send(format, url);
        assert!(code == 1 && text.contains(word), "{format} {url}: {code} {text}");
    };
    refused("cloudevents", "http://siem.example/in", "KW6510");
    refused("cloudevents", "ftp://127.0.0.1/in", "KW6510");
    refused("csv", &hook.url, "KW6510");
    refused("tlog-tiles", &hook.url, "KW6510");
    fs::set_permissions(sending.secret(), Permissions::from_mode(0o640)).unwrap();
    refused("cloudevents", &hook.url, "chmod 0600");
    fs::set_permissions(sending.secret(), Permissions::from_mode(0o600)).unwrap();
    fs::write(sending.secret(), "hunter2").unwrap();
    refused("cloudevents", &hook.url, "whsec_");
    fs::write(sending.secret(), SECRET).unwrap();
    let fork = sending.log.copy();
    assert_eq!(sending.send("cloudevents", &hook.url).0, 0);
    assert_eq!(hook.all().len(), 1);
    // The cursor is of this receiver, this format and this log.
    let other = Hook::new(&[]);
    refused("cloudevents", &other.url, "KW6501");
    refused("ocsf", &hook.url, "KW6501");
    fill(sending.log.path(), 20, 30, "one");
    assert_eq!(sending.send("cloudevents", &hook.url).0, 0);
    fill(fork.path(), 20, 40, "other");
    let forked = Sending { log: fork, dir: tempfile::TempDir::new().unwrap() };
    for file in ["secret", "cursor.json"] {
        fs::copy(sending.dir.path().join(file), forked.dir.path().join(file)).unwrap();
    }
    let (code, text) = forked.send("cloudevents", &hook.url);
    assert!(code == 2 && text.contains("KW6503"), "{code} {text}");
    assert_eq!(hook.all().len(), 1);
}
