//! Real proxies, configured by `keyward snippet`, in front of a portal: what passes, and what does not.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use keyward::shell::config::{self, Overrides, Settings};
use keyward::shell::http::bind;
use keyward::shell::snippet::{Proxy, Wanted, render};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};

use crate::harness::http::ask;
use crate::harness::proxies::{Guarded, Imposter, Pose, Running, Seen};

const PROXIES: [Proxy; 6] =
    [Proxy::Nginx, Proxy::Caddy, Proxy::Traefik, Proxy::Envoy, Proxy::EnvoyHttp, Proxy::Haproxy];
/// Traefik waits for a gate that says nothing for 30 s, and does not let one set that.
const TRAEFIK_WAITS: Duration = Duration::from_secs(33);
const PATIENCE: Duration = Duration::from_secs(20);
/// HAProxy's snippet says 0.7 s; the rest is for a busy machine and for asking.
const HAPROXY_CLOSES: Duration = Duration::from_millis(1_500);

/// A guardian with one watched certificate, under the path `approve`.
struct Place {
    dir: tempfile::TempDir,
    config: PathBuf,
    settings: Settings,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root = rcgen::CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let leaf = CertificateParams::new(vec!["peer.example".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &root).unwrap();
        fs::write(dir.path().join("root.pem"), root.as_ref().pem()).unwrap();
        fs::write(dir.path().join("peer.pem"), leaf.pem()).unwrap();
        let http = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let toml = format!(
            "state_dir = \"{}\"\n[listen]\nhttp = \"{http}\"\ngate_socket = \"{}\"\ngate_socket_mode = \"0666\"\n\
             [[issuer]]\nid = \"other\"\ndirectory = \"https://127.0.0.1:1/directory\"\nterms_agreed = true\n\
             root_files = [\"{}\"]\n[[observe]]\nid = \"peer\"\nfile = \"{}\"\n\
             [[path]]\nid = \"approve\"\nneeds = [\"peer\"]\nguards = [\"approve\"]\n\
             [[path.kind]]\nid = \"approve\"\nmethods = [\"POST\"]\nprefixes = [\"/approve\"]\n\
             [[path.kind]]\nid = \"read\"\nmethods = [\"GET\", \"HEAD\"]\n\
             [[path.kind]]\nid = \"reject\"\nmethods = [\"POST\"]\nprefixes = [\"/reject\"]\n",
            at("state"),
            at("gate.sock"),
            at("root.pem"),
            at("peer.pem"),
        );
        let config = dir.path().join("keyward.toml");
        fs::write(&config, &toml).unwrap();
        let settings = config::load(&config, Overrides::default()).unwrap_or_else(|e| panic!("{e}"));
        Self { dir, config, settings }
    }

    fn socket(&self) -> &Path {
        &self.settings.listen.gate_socket.as_ref().unwrap().path
    }

    /// Waits until the gate itself is closed for this reason.
    fn closes(&self, code: &str) {
        let began = Instant::now();
        loop {
            let mut stream = UnixStream::connect(self.socket()).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let question = b"GET /v1/gate/approve HTTP/1.1\r\nHost: keyward\r\nConnection: close\r\n\r\n";
            let reply = ask(&mut stream, question);
            if reply.status == 403 && reply.header("keyward-reasons").contains(code) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{reply:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn daemon(&self) -> Guarded {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
        Guarded::start(command.args(["run", "-c"]).arg(&self.config), &self.dir.path().join("daemon.log"))
    }
}

/// Does the same to all proxies at once.
fn each<T: Send>(proxies: &[Running], work: impl Fn(&Running) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let at_once: Vec<_> = proxies.iter().map(|proxy| scope.spawn(|| work(proxy))).collect();
        at_once.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

/// What the proxies make of one state of the gate.
fn asked(proxies: &[Running]) -> Vec<Seen> {
    each(proxies, |proxy| {
        if proxy.proxy == Proxy::Haproxy {
            let (seen, took) = proxy.until("closes", |seen| !seen.passed);
            assert!(took < HAPROXY_CLOSES, "closed after {took:?}");
            return seen;
        }
        let seen = proxy.ask("POST", "/approve/4711", "");
        let most = if proxy.proxy == Proxy::Traefik { TRAEFIK_WAITS } else { Duration::from_secs(3) };
        assert!(seen.took < most, "{:?} held the request: {seen:?}", proxy.proxy);
        seen
    })
}

fn all_open(proxies: &[Running]) {
    each(proxies, |proxy| proxy.until("opens", |seen| seen.passed));
}

/// What stays reachable while the path is closed, and what nobody talks his way into.
fn kinds(proxies: &[Running]) {
    let forged = "X-Original-Method: GET\r\nX-Original-URI: /\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Uri: /\r\n\
                  X-HTTP-Method-Override: GET\r\nKeyward-Path: approve\r\n";
    each(proxies, |proxy| {
        let passes = |method: &str, target: &str, headers: &str| proxy.ask(method, target, headers).passed;
        let knows_kinds = proxy.proxy != Proxy::Haproxy;
        for (method, target) in [("GET", "/"), ("GET", "/approve/4711?x=y"), ("POST", "/reject/4711")] {
            assert_eq!(passes(method, target, ""), knows_kinds, "{:?}: {method} {target}", proxy.proxy);
        }
        for (method, target) in [
            ("POST", "/approve/4711"),
            ("POST", "/"),
            ("DELETE", "/reject/4711"),
            ("POST", "/reject/../approve/4711"),
            ("POST", "/reject/%2e%2e/approve/4711"),
            ("POST", "/reject/..%2fapprove/4711"),
            ("POST", "/reject/..//approve"),
            ("POST", "/reject;/../approve"),
            ("POST", "/approve/4711?told=original&told=forwarded"),
        ] {
            for headers in ["", forged] {
                assert!(!passes(method, target, headers), "{:?}: {method} {target} {headers}", proxy.proxy);
            }
        }
    });
}

/// A cell of the table: what the client gets, or that it passes.
fn cell(seen: &Seen) -> String {
    match (seen.passed, seen.status) {
        (true, _) => "**passes**".to_owned(),
        (false, 0) => "connection closed".to_owned(),
        (false, status) => status.to_string(),
    }
}

#[test]
fn only_an_open_gate_or_a_forged_yes_opens_a_proxy() {
    let place = Place::new();
    let daemon = place.daemon();
    let began = Instant::now();
    while !place.socket().exists() {
        assert!(began.elapsed() < PATIENCE, "{}", fs::read_to_string(place.dir.path().join("daemon.log")).unwrap());
        std::thread::sleep(Duration::from_millis(20));
    }
    // By this thread: Envoy ends with the thread that started it.
    let proxies: Vec<Running> =
        PROXIES.into_iter().map(|proxy| Running::start(proxy, &place.settings, place.dir.path())).collect();
    let mut rows: Vec<(&str, Vec<Seen>)> = Vec::new();

    all_open(&proxies);
    rows.push(("open", each(&proxies, |proxy| proxy.ask("POST", "/approve/4711", ""))));
    daemon.stop();
    rows.push(("stopped (SIGSTOP)", asked(&proxies)));
    daemon.signal("CONT");
    fs::remove_file(place.dir.path().join("peer.pem")).unwrap();
    place.closes("KW4002");
    rows.push(("closed", asked(&proxies)));
    kinds(&proxies);
    drop(daemon);
    assert!(place.socket().exists(), "a killed daemon leaves its socket");

    let imposter = Imposter::at(place.socket(), place.settings.listen.http);
    for (name, pose) in [
        ("answers 204", Pose::NoContent),
        ("answers 302", Pose::Redirect),
        ("answers 503", Pose::Unavailable),
        ("answers garbage", Pose::Garbage),
        ("answers 200 too late", Pose::Late),
    ] {
        imposter.pose(Pose::Yes);
        all_open(&proxies);
        imposter.pose(pose);
        let seen = each(&proxies, |proxy| match (proxy.proxy, pose) {
            (Proxy::Nginx, Pose::NoContent) => proxy.ask("POST", "/approve/4711", ""),
            _ => asked(std::slice::from_ref(proxy)).remove(0),
        });
        rows.push((name, seen));
    }
    for (name, pose) in [("answers 200", Pose::Yes), ("answers 200 without a word", Pose::Empty)] {
        imposter.pose(pose);
        all_open(&proxies);
        rows.push((name, each(&proxies, |proxy| proxy.ask("POST", "/approve/4711", ""))));
    }
    drop(imposter);
    rows.push(("killed", asked(&proxies)));
    let imposter = Imposter::at(place.socket(), place.settings.listen.http);
    all_open(&proxies);
    fs::remove_file(place.socket()).unwrap();
    drop(imposter);
    rows.push(("its socket is gone", asked(&proxies)));

    for (name, seen) in &rows {
        for (proxy, seen) in PROXIES.iter().zip(seen) {
            let traefik = *proxy == Proxy::Traefik;
            let forged = name.starts_with("answers 200") && (traefik || !name.ends_with("late"));
            let expected = *name == "open" || forged || (traefik && *name == "answers 204");
            assert_eq!(seen.passed, expected, "{proxy:?}, {name}: {seen:?}");
        }
    }
    published(&table(&rows));
}

fn table(rows: &[(&str, Vec<Seen>)]) -> String {
    let order = [
        "open",
        "closed",
        "killed",
        "its socket is gone",
        "stopped (SIGSTOP)",
        "answers 200 too late",
        "answers garbage",
        "answers 503",
        "answers 302",
        "answers 204",
        "answers 200",
        "answers 200 without a word",
    ];
    let mut out = String::from(
        "| the gate, or what took its place | nginx | Caddy | Traefik | Envoy, gRPC | Envoy, HTTP | HAProxy |\n|---|---|---|---|---|---|---|\n",
    );
    for name in order {
        let (_, seen) = rows.iter().find(|(other, _)| *other == name).unwrap();
        let cells: Vec<String> = seen.iter().map(cell).collect();
        writeln!(out, "| {name} | {} |", cells.join(" | ")).unwrap();
    }
    out
}

/// The table stands in the documentation as it was seen here.
fn published(table: &str) {
    const MARKS: (&str, &str) = ("<!-- proxies: begin -->\n", "<!-- proxies: end -->\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/gate.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(MARKS.0).unwrap();
    let (old, after) = rest.split_once(MARKS.1).unwrap();
    if old != table {
        let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gate.md");
        fs::write(&fresh, format!("{before}{}{table}{}{after}", MARKS.0, MARKS.1)).unwrap();
        panic!("docs/gate.md is out of date: cp {} {}\n{table}", fresh.display(), path.display());
    }
}

/// A start is a moment of its own: HAProxy takes a server for healthy until it was asked.
#[test]
fn proxies_that_start_without_a_gate_let_nobody_through() {
    let place = Place::new();
    for proxy in PROXIES {
        let running = Running::start(proxy, &place.settings, place.dir.path());
        let began = Instant::now();
        let mut asked = 0;
        while began.elapsed() < Duration::from_millis(600) {
            let seen = running.ask("POST", "/approve/4711", "");
            assert!(!seen.passed, "{proxy:?} after {:?} and {asked} questions: {seen:?}", began.elapsed());
            asked += 1;
        }
        assert!(asked > 10, "{proxy:?}");
    }
}

#[test]
fn another_user_cannot_take_the_gates_place() {
    assert!(rustix::process::getuid().is_root(), "this test acts as two users; tests/run runs it as root");
    let dir = tempfile::tempdir().unwrap();
    let open_to_all = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    open_to_all(dir.path());
    let socket = dir.path().join("run/gate.sock");
    let mut listen = Place::new().settings.listen;
    listen.http = "127.0.0.1:0".parse().unwrap();
    listen.admin_socket = dir.path().join("state/admin.sock");
    let gate = listen.gate_socket.as_mut().unwrap();
    (gate.path, gate.mode) = (socket.clone(), 0o660);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listeners = runtime.block_on(bind(&listen)).unwrap();
    let at = socket.display();
    let nobody = |script: &str| {
        let mut python = Command::new("/usr/bin/python3");
        python.args(["-c", script]).uid(65_534).gid(65_534);
        let output = python.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let attempts = [
        format!("import socket; socket.socket(socket.AF_UNIX).connect('{at}')"),
        format!("import os; os.unlink('{at}')"),
        format!("import os; os.rename('{at}', '{at}.old')"),
        format!("import os; os.chmod('{at}', 0o666)"),
        format!("import socket; socket.socket(socket.AF_UNIX).bind('{at}')"),
    ];
    for script in &attempts {
        let (done, said) = nobody(script);
        assert!(
            !done && (said.contains("PermissionError") || said.contains("Address already in use")),
            "{script}: {said}"
        );
    }
    drop(listeners);
    assert!(!socket.exists());
    for script in &attempts[4..] {
        let (done, said) = nobody(script);
        assert!(!done && said.contains("PermissionError"), "while the guardian is down: {script}: {said}");
    }
    // The counter-check: in a directory of anybody it would work.
    fs::set_permissions(dir.path().join("run"), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(nobody(&attempts[4]).0);
}

#[test]
fn the_published_snippets_are_those_of_the_sample_configuration() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let settings = config::load(&root.join("config/keyward.toml"), Overrides::default()).unwrap();
    let mut wrong = Vec::new();
    for (proxy, file) in Proxy::ALL {
        let wanted = Wanted {
            proxy,
            path: None,
            listen: "127.0.0.1:8000".parse().unwrap(),
            portal: "127.0.0.1:8080".parse().unwrap(),
        };
        let text = render(&settings, &wanted).unwrap();
        let published = root.join("config/integrations").join(file);
        if fs::read_to_string(&published).unwrap_or_default() != text {
            let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
            fs::write(&fresh, text).unwrap();
            wrong.push(format!("cp {} {}", fresh.display(), published.display()));
        }
    }
    assert!(wrong.is_empty(), "out of date:\n{}", wrong.join("\n"));
}
