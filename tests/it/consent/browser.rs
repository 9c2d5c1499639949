//! A real browser with a virtual authenticator registers a credential and asserts a decision with it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyward::codec::consent::webauthn::{Kept, RelyingParty, register, verify};
use keyward::domain::key::KeyAlgorithm;
use serde_json::{Value, json};

use crate::harness::consent::{decision, then};
use crate::harness::lease::until;

/// A browser starts within seconds; on a machine that does much else, within a minute.
const PATIENCE: Duration = Duration::from_secs(90);

/// The DevTools protocol over a pipe: messages with a zero byte after each.
struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    next: u64,
    _profile: tempfile::TempDir,
}

impl Browser {
    fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        // The protocol is spoken over the descriptors 3 and 4.
        let mut child = Command::new("sh")
            .args(["-c", "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", "sh"])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"])
            .args(["--disable-component-update", "--disable-sync", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, from) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(out).split(0) {
                let read = message.ok().and_then(|m| serde_json::from_slice(&m).ok());
                if read.is_none_or(|read: Value| sender.send(read).is_err()) {
                    break;
                }
            }
        });
        Self { child, to, from, next: 0, _profile: profile }
    }

    fn ask(&mut self, session: Option<&str>, method: &str, params: Value) -> Value {
        self.next += 1;
        let mut message = json!({ "id": self.next, "method": method, "params": params });
        if let Some(session) = session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).expect("chromium is missing or ended: run tests/run");
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let answer = self.from.recv_timeout(left).unwrap_or_else(|e| panic!("{method}: no answer ({e})"));
            if answer["id"] == json!(self.next) {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    /// What a script on the page gives, once its promise is kept.
    fn run(&mut self, session: &str, script: &str) -> Value {
        let params = json!({ "expression": script, "awaitPromise": true, "returnByValue": true, "userGesture": true });
        let answer = self.ask(Some(session), "Runtime.evaluate", params);
        assert!(answer["exceptionDetails"].is_null(), "{answer}");
        answer["result"]["value"].clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// An empty page for whoever asks.
fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // The head of the request, up to its empty line.
            BufReader::new(&stream).lines().map_while(Result::ok).find(String::is_empty);
            let body = "<!doctype html><title>consent</title>";
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n", body.len());
            write!(stream, "{head}Connection: close\r\n\r\n{body}").ok();
        }
    });
    address
}

const SHARED: &str = "const enc = a => btoa(String.fromCharCode(...new Uint8Array(a))).replace(/\\+/g, '-')\
    .replace(/\\//g, '_').replace(/=/g, ''); const dec = s => Uint8Array.from(atob(s.replace(/-/g, '+')\
    .replace(/_/g, '/')), c => c.charCodeAt(0));";

fn bytes(answer: &Value, key: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(answer[key].as_str().unwrap_or_else(|| panic!("{answer}"))).unwrap()
}

#[test]
fn a_browser_registers_a_passkey_and_consents_with_it() {
    let (port, mut browser) = (serve().port(), Browser::start());
    let origin = format!("http://localhost:{port}");
    let party = RelyingParty::new("localhost", [&origin[..]]).unwrap();
    let target = browser.ask(None, "Target.createTarget", json!({ "url": format!("{origin}/") }));
    let attach = json!({ "targetId": target["targetId"], "flatten": true });
    let session = browser.ask(None, "Target.attachToTarget", attach)["sessionId"].as_str().unwrap().to_owned();
    let here = "document.readyState === 'complete' && location.origin";
    until("the page", || browser.run(&session, here) == json!(origin));
    browser.ask(Some(&session), "WebAuthn.enable", json!({}));
    let options = json!({ "protocol": "ctap2", "transport": "internal", "hasResidentKey": true,
        "hasUserVerification": true, "isUserVerified": true, "automaticPresenceSimulation": true });
    browser.ask(Some(&session), "WebAuthn.addVirtualAuthenticator", json!({ "options": options }));
    for (algorithm, expected) in [(-7_i32, KeyAlgorithm::P256), (-8, KeyAlgorithm::Ed25519)] {
        let challenge = [u8::try_from(-algorithm).unwrap(); 32];
        let create = format!(
            "(async () => {{ {SHARED} const c = await navigator.credentials.create({{ publicKey: {{ rp: {{ id: \
             'localhost', name: 'Keyward' }}, user: {{ id: dec('AQI'), name: 'alice', displayName: 'alice' }}, \
             challenge: dec('{}'), pubKeyCredParams: [{{ type: 'public-key', alg: {algorithm} }}], attestation: \
             'none', authenticatorSelection: {{ userVerification: 'required' }} }} }}); return {{ id: enc(c.rawId), \
             client: enc(c.response.clientDataJSON), object: enc(c.response.attestationObject) }}; }})()",
            URL_SAFE_NO_PAD.encode(challenge)
        );
        let made = browser.run(&session, &create);
        let registered = register(&bytes(&made, "client"), &bytes(&made, "object"), &challenge, &party).unwrap();
        assert_eq!((registered.key.algorithm(), &registered.id), (expected, &bytes(&made, "id")));
        let get = format!(
            "(async () => {{ {SHARED} const c = await navigator.credentials.get({{ publicKey: {{ rpId: 'localhost', \
             challenge: dec('{}'), userVerification: 'required', allowCredentials: [{{ type: 'public-key', id: \
             dec('{}') }}] }} }}); return {{ client: enc(c.response.clientDataJSON), data: \
             enc(c.response.authenticatorData), signature: enc(c.response.signature) }}; }})()",
            URL_SAFE_NO_PAD.encode(decision().challenge().0),
            URL_SAFE_NO_PAD.encode(&registered.id)
        );
        let answer = browser.run(&session, &get);
        let kept = Kept {
            public_key: registered.key.cose().to_vec(),
            client_data: bytes(&answer, "client"),
            authenticator_data: bytes(&answer, "data"),
            signature: bytes(&answer, "signature"),
        };
        let consent = verify(&kept, &decision(), &registered.key, &party, then()).unwrap();
        assert!(consent.authenticator.is_some_and(|says| says.flags.user_verified()));
        let mut other = decision();
        other.round = 3;
        assert!(verify(&kept, &other, &registered.key, &party, then()).is_err());
    }
}
