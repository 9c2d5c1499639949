//! SIGKILL of the real binary at random moments of issuances: always resumed, one order for each attempt, key and
//! certificate always a pair, and in the end everything is in place.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keyward::adapters::store::{LogOptions, SqliteStore};
use keyward::ports::Store as _;
use keyward::shell::acme_server::Renewal;
use keyward::shell::wire;
use serde_json::Value;

use crate::harness::deploy::{belong_together, ders};
use crate::harness::life::{PATIENCE, Place, certificate, x509_serial};
use crate::harness::nginx::Nginx;

/// How many certificates are renewed all the time, so that a random moment mostly hits a step of one of them. Each may
/// be issued twice in half of its lifetime without a person.
const CERTIFICATES: usize = 12;
/// They live this long, so that none expires on a busy machine, and renew after a tenth of it.
const LIFETIME: Duration = Duration::from_secs(30);

struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // SIGKILL, in the middle of whatever it does.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn run(config: &Path) -> Guard {
    let log = fs::OpenOptions::new().create(true).append(true).open(config.with_extension("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    command.args(["run", "-c"]).arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Guard(command.spawn().unwrap())
}

/// Where each certificate is installed.
fn live(place: &Place, n: usize) -> PathBuf {
    place.at(&format!("live/c{n}/current"))
}

/// What a server would read at this moment: nothing, or a pair.
fn pair(dir: &Path) -> Option<String> {
    // The link is followed once, as a server does that opens both files.
    let dir = fs::canonicalize(dir).ok()?;
    let fullchain = fs::read_to_string(dir.join("fullchain.pem")).unwrap();
    let key = fs::read_to_string(dir.join("key.pem")).unwrap();
    assert!(belong_together(&fullchain, &key), "{}", dir.display());
    Some(fullchain)
}

/// A number that looks random, from a seed; its sequence is the same at each run.
fn draw(state: &mut u64, most: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % most
}

async fn entries(place: &Place) -> Vec<Value> {
    let began = Instant::now();
    let store = loop {
        match SqliteStore::open(&place.at("state"), &LogOptions::new(wire::clock().now(), wire::entropy())) {
            Ok(store) => break store,
            Err(e) => assert!(began.elapsed() < PATIENCE, "{e}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let all = store.entries(None, 1_000_000).await.unwrap();
    all.iter().rev().map(|e| serde_json::from_slice(&e.bytes).unwrap()).collect()
}

/// Kills the guardian `kills` times. Challenge responses stand below the webroot of an nginx that stays alive, so that
/// the CA always finds them: a validation that fails because nobody answers would rightly kill its order.
async fn is_killed(seed: u64, kills: u32) {
    let place = Place::with(|config, _| {
        (config.backdate, config.renewal) = (Duration::ZERO, Renewal::Off);
        config.profiles.get_mut("classic").unwrap().lifetime = LIFETIME;
        config.issue_delay = Duration::from_millis(3);
    })
    .await;
    let nginx = Nginx::new(&place, &place.text("tls.pem"), &place.text("tls.key"), Some(place.http));
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(place.at("tls.pem"), own.cert.pem()).unwrap();
    fs::write(place.at("tls.key"), own.signing_key.serialize_pem()).unwrap();
    nginx.start();
    let all: String = (0..CERTIFICATES)
        .map(|n| {
            certificate(
                &format!("c{n}"),
                &[&format!("c{n}.example.test")],
                "solvers = [\"root\"]\nrenew_at = \"10%\"\n",
            )
        })
        .collect();
    let root = "[[solver]]\nid = \"root\"\ntype = \"http-01\"\nwebroot = \"@/webroot\"\n";
    let port = crate::harness::life::free_port(place.ip).port();
    let toml = place.toml(&format!("{root}{all}")).replace("127.0.0.1:9180", &format!("{}:{port}", place.ip));
    let config = place.at("keyward.toml");
    fs::write(&config, toml).unwrap();

    let mut state = seed;
    for _ in 0..kills {
        let daemon = run(&config);
        let moment = Duration::from_millis(40 + draw(&mut state, 460));
        tokio::time::sleep(moment).await;
        drop(daemon);
        (0..CERTIFICATES).for_each(|n| drop(pair(&live(&place, n))));
    }
    let daemon = run(&config);
    let began = Instant::now();
    while !at_rest(&place) {
        let log = || fs::read_to_string(config.with_extension("log")).unwrap();
        assert!(began.elapsed() < PATIENCE, "it does not come to rest: {}", log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(daemon);

    let all = entries(&place).await;
    let count = |code: &str, phase: &str| {
        all.iter().filter(|e| e["data"]["code"] == code && e["data"]["phase"] == phase).count()
    };
    let (orders, issued) = (place.control.orders().len(), place.control.certificates().len());
    let (begun, outcomes) = (count("KW2001", "intent"), count("KW2003", "outcome"));
    let failed: Vec<&Value> = all.iter().filter(|e| e["data"]["outcome"] == "failure").collect();
    assert_eq!(failed, Vec::<&Value>::new(), "a crash is no failure of anybody");
    assert!(orders <= begun && begun - orders <= CERTIFICATES, "{begun} attempts made {orders} orders");
    assert!(issued <= orders && orders - issued <= CERTIFICATES, "{orders} orders gave {issued} certificates");
    assert!(
        outcomes <= issued && issued - outcomes <= CERTIFICATES,
        "{outcomes} of {issued} certificates are recorded"
    );
    assert!(outcomes > CERTIFICATES, "only {outcomes} certificates over {kills} kills: the test tests nothing");
    let resumed = all.iter().filter(|e| e["data"]["code"] == "KW2005").count();
    assert!(resumed > 3, "only {resumed} attempts were resumed");
    assert_eq!(place.control.account_keys().len(), 1, "one account");
    let left = challenge_files(&place.at("webroot"));
    assert!(left.len() <= CERTIFICATES, "responses of earlier lives are taken away: {} are left", left.len());
}

/// Nothing is in flight: every order is a certificate, and the last one for each name is what is installed.
fn at_rest(place: &Place) -> bool {
    let issued = place.control.certificates();
    if issued.len() != place.control.orders().len() {
        return false;
    }
    (0..CERTIFICATES).all(|n| {
        let name = format!("c{n}.example.test");
        let last = issued.iter().rev().find(|c| c.names.to_string().contains(&name));
        let installed = pair(&live(place, n)).map(|pem| x509_serial(&ders(&pem)[0]));
        installed.is_some() && installed.as_deref() == last.map(|c| c.serial.trim_start_matches('0'))
    })
}

fn challenge_files(webroot: &Path) -> Vec<PathBuf> {
    let all = crate::harness::life::snapshot(webroot);
    all.into_iter().filter(|(_, what)| what.starts_with("file")).map(|(path, _)| path).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_kills_leave_one_order_for_each_attempt_and_pairs_on_the_disk() {
    is_killed(1, 50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_more_kills_do_too() {
    is_killed(2, 50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_fifty_more() {
    is_killed(3, 50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_fifty_to_make_two_hundred() {
    is_killed(4, 50).await;
}
