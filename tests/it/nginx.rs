//! Issue, install, serve by a real nginx, reload by a hook, and renew by the CA's word and by the lifetime: over every
//! kind of challenge, for every shape of name. What is served is told by openssl.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyward::domain::execution::{Generation, Trigger};
use keyward::domain::time::HOUR;
use keyward::ports::ChallengeKind;
use keyward::shell::acme_server::{Ari, CaConfig, Dns, Renewal, Validator};

use crate::harness::knot::{Key, Knot};
use crate::harness::life::{Place, certificate, free_port, try_served};
use crate::harness::nginx::Nginx;

/// How a test wants its renewal.
#[derive(Clone, Copy, PartialEq)]
enum By {
    /// At the next question for the window.
    Ari,
    /// At the question that every start asks: where the clock cannot be moved, as TSIG is signed with the time.
    AriAfterRestart,
    Lifetime,
}

/// A CA for either way of renewal. Certificates are dated back so far that those which are renewed after the clock was
/// moved are valid in openssl's eyes too; those that renew by their lifetime live 16 s.
fn ca(by: By) -> impl FnOnce(&mut CaConfig, &mut Validator) {
    move |config, validator| {
        for own in ["127.0.0.1", "::1"] {
            validator.hosts.insert(own.to_owned(), config.listen.ip());
        }
        match by {
            By::Ari | By::AriAfterRestart => config.backdate = HOUR * 12,
            By::Lifetime => {
                config.backdate = Duration::ZERO;
                config.renewal = Renewal::Off;
                let classic = config.profiles.get_mut("classic").unwrap();
                classic.lifetime = Duration::from_secs(16);
            }
        }
    }
}

/// `[certificate.reload]` and `[[certificate.endpoint]]` for a server.
fn served_at(hook: &[String], tls: SocketAddr, sni: Option<&str>) -> String {
    let sni = sni.map_or(String::new(), |s| format!("sni = \"{s}\"\n"));
    format!("\n[certificate.reload]\nexec = {hook:?}\ntries = 1\n[[certificate.endpoint]]\nconnect = \"{tls}\"\n{sni}")
}

/// Waits until openssl sees what is installed, and nothing else for a while. Nginx lets its old workers accept for 100 ms
/// after the new ones have started, so the very next connections may still end at an old one; and once the test has moved
/// the clock by hours, the engine cannot tell such a connection from an answer hours after the reload.
async fn is_served(place: &Place, generation: &Generation, tls: SocketAddr, sni: Option<&str>) {
    let (own, began) = (generation.serial.trim_start_matches('0'), Instant::now());
    let mut since = None;
    loop {
        let seen = try_served(tls, sni, &place.at("root.pem"));
        if seen.as_deref() == Ok(own) {
            if since.get_or_insert_with(Instant::now).elapsed() > Duration::from_millis(250) {
                return;
            }
            continue;
        }
        since = None;
        assert!(began.elapsed() < Duration::from_secs(5), "{tls} serves {seen:?}, installed is {own}");
    }
}

/// Follows `portal` from its first certificate through a renewal; each time nginx must serve what is installed.
async fn lives(place: &Place, toml: &str, by: By, tls: SocketAddr, sni: Option<&str>, kind: ChallengeKind) {
    let mut life = place.start(toml).await;
    let first = life.installed("portal").await;
    is_served(place, &first, tls, sni).await;
    assert_eq!(first.trigger, Trigger::First);
    let now = Ari::RenewNow { explanation: None };
    match by {
        By::Ari => {
            assert!(place.control.set_ari_of(first.cert_id.as_ref().unwrap(), now));
            // The answer to the first question is older; the next is due within six hours.
            place.advance(HOUR * 6 + Duration::from_secs(1));
            life.scan();
        }
        By::AriAfterRestart => {
            assert!(place.control.set_ari_of(first.cert_id.as_ref().unwrap(), now));
            life.stop().await;
            // What replaces a certificate has to end later, if only by a second.
            place.advance(Duration::from_secs(2));
            life = place.start(toml).await;
        }
        By::Lifetime => {}
    }
    let second = life.renewed("portal", &first).await;
    is_served(place, &second, tls, sni).await;
    let wanted = if by == By::Lifetime { Trigger::Lifetime } else { Trigger::Ari };
    assert_eq!(second.trigger, wanted);
    assert_ne!(first.spki, second.spki, "a new key at each renewal");
    let orders = place.control.orders();
    if by != By::Lifetime {
        assert_eq!(orders.len(), 2);
        assert_eq!(orders[1].replaces, first.cert_id, "the CA is told what is replaced inside its window");
    }
    assert!(place.control.validations().iter().all(|v| v.kind == kind && v.failure.is_none()));
    assert_eq!(place.control.violations(), []);
    assert_eq!(life.complaints().await, Vec::<String>::new());
    life.stop().await;
}

fn many() -> Vec<String> {
    (0..20).map(|n| format!("n{n}.example.test")).collect()
}

fn refs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// Nginx over the usual versioned directory, started by the first reload.
fn over_links(place: &Place) -> Nginx {
    let at = |name: &str| place.text(&format!("live/portal/current/{name}"));
    Nginx::new(place, &at("fullchain.pem"), &at("key.pem"), None)
}

async fn by_listener(by: By, names: &[&str], sni: Option<&str>, kind: ChallengeKind) {
    let place = Place::with(ca(by)).await;
    let nginx = over_links(&place);
    let alpn = format!("[[solver]]\nid = \"alpn\"\ntype = \"tls-alpn-01\"\nlisten = [\"{}\"]\n", place.tls);
    let solver = if kind == ChallengeKind::Http01 { "web" } else { "alpn" };
    let more = format!("solvers = [\"{solver}\"]\n{}", served_at(std::slice::from_ref(&nginx.hook), nginx.tls, sni));
    let toml = place.toml(&format!("{alpn}{}", certificate("portal", names, &more)));
    lives(&place, &toml, by, nginx.tls, sni, kind).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_name_over_http_01_renews_by_ari() {
    by_listener(By::Ari, &["portal.example.test"], Some("portal.example.test"), ChallengeKind::Http01).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_names_over_http_01_renew_by_lifetime() {
    by_listener(By::Lifetime, &refs(&many()), Some("n7.example.test"), ChallengeKind::Http01).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_names_over_tls_alpn_01_renew_by_ari() {
    by_listener(By::Ari, &refs(&many()), Some("n19.example.test"), ChallengeKind::TlsAlpn01).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_name_over_tls_alpn_01_renews_by_lifetime() {
    by_listener(By::Lifetime, &["portal.example.test"], Some("portal.example.test"), ChallengeKind::TlsAlpn01).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_over_http_01_renews_by_ari() {
    by_listener(By::Ari, &["127.0.0.1"], None, ChallengeKind::Http01).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_over_tls_alpn_01_renew_by_lifetime() {
    by_listener(By::Lifetime, &["127.0.0.1", "::1"], None, ChallengeKind::TlsAlpn01).await;
}

/// Plain files that nginx serves already, responses below its webroot, and its own reload command.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webroot_of_the_same_nginx_renews_what_it_serves() {
    let place = Place::with(ca(By::Ari)).await;
    let nginx = Nginx::new(&place, &place.text("tls.pem"), &place.text("tls.key"), Some(place.http));
    let old = rcgen::generate_simple_self_signed(["portal.example.test".to_owned()]).unwrap();
    fs::write(place.at("tls.pem"), old.cert.pem()).unwrap();
    fs::write(place.at("tls.key"), old.signing_key.serialize_pem()).unwrap();
    nginx.start();
    let more = format!(
        "solvers = [\"root\"]\n\n[[certificate.install]]\nfiles = {{ fullchain = \"@/tls.pem\", key = \"@/tls.key\" }}\n{}",
        served_at(&nginx.argv(), nginx.tls, Some("portal.example.test"))
    );
    let root = "[[solver]]\nid = \"root\"\ntype = \"http-01\"\nwebroot = \"@/webroot\"\n";
    let toml = place.toml(&format!("{root}{}", certificate("portal", &["portal.example.test"], &more)));
    lives(&place, &toml, By::Ari, nginx.tls, Some("portal.example.test"), ChallengeKind::Http01).await;
    let left: Vec<_> = walk(&place.at("webroot"));
    assert_eq!(left, Vec::<String>::new(), "the responses were taken away");
}

fn walk(dir: &std::path::Path) -> Vec<String> {
    let all = crate::harness::life::snapshot(dir);
    all.into_iter().filter(|(_, what)| what.starts_with("file")).map(|(p, _)| p.display().to_string()).collect()
}

/// A Knot with the zone `example.test`, and a CA that asks it.
async fn with_dns(by: By) -> (Place, Knot, Key) {
    let key = Key::new("keyward", "hmac-sha256");
    let mut knot = None;
    let place = Place::with(|config, validator| {
        ca(by)(config, validator);
        let address = free_port(config.listen.ip());
        knot = Some(Knot::start(address, &[], std::slice::from_ref(&key), &[("example.test", "")]));
        validator.dns = Dns::Server(address);
    })
    .await;
    fs::write(place.at("tsig.key"), STANDARD.encode(&key.secret)).unwrap();
    (place, knot.unwrap(), key)
}

fn rfc2136(knot: &Knot) -> String {
    format!(
        "[[solver]]\nid = \"dns\"\ntype = \"dns-01\"\npropagation = {{ servers = [\"{0}\"], resolver = \"{0}\" }}\n\
         rfc2136 = {{ server = \"{0}\", tsig_name = \"keyward\", tsig_algorithm = \"hmac-sha256\", \
         tsig_secret_file = \"@/tsig.key\" }}\n",
        knot.address
    )
}

fn by_program(place: &Place, knot: &Knot, key: &Key) -> String {
    let (ip, port) = (knot.address.ip(), knot.address.port());
    let secret = STANDARD.encode(&key.secret);
    let program = place.script(
        "dns-hook",
        &format!(
            "case $1 in present) verb=add ;; cleanup) verb=del ;; *) exit 64 ;; esac\n\
             printf 'server {ip} {port}\\nkey hmac-sha256:keyward {secret}\\nzone example.test.\\n%s %s. 60 TXT %s\\nsend\\n' \
             $verb $KEYWARD_CHALLENGE_RECORD $KEYWARD_CHALLENGE_VALUE | exec knsupdate"
        ),
    );
    format!(
        "[[solver]]\nid = \"dns\"\ntype = \"dns-01\"\npropagation = {{ servers = [\"{0}\"], resolver = \"{0}\" }}\n\
         exec = [\"{program}\"]\n",
        knot.address
    )
}

async fn by_dns(by: By, names: &[&str], sni: &str, solver: impl FnOnce(&Place, &Knot, &Key) -> String) {
    let (place, knot, key) = with_dns(by).await;
    let nginx = over_links(&place);
    let server = served_at(std::slice::from_ref(&nginx.hook), nginx.tls, Some(sni));
    let more = format!("solvers = [\"dns\"]\n{server}");
    let solver = solver(&place, &knot, &key);
    let toml = place.toml(&format!("{solver}{}", certificate("portal", names, &more)));
    lives(&place, &toml, by, nginx.tls, Some(sni), ChallengeKind::Dns01).await;
    if by != By::Lifetime {
        let left: Vec<String> =
            names.iter().flat_map(|n| knot.txt(&format!("_acme-challenge.{}", n.trim_start_matches("*.")))).collect();
        assert_eq!(left, Vec::<String>::new(), "the records were taken away");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wildcard_over_rfc_2136_renews_by_ari() {
    by_dns(By::AriAfterRestart, &["*.example.test", "example.test"], "any.example.test", |_, k, _| rfc2136(k)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_names_over_rfc_2136_renew_by_ari() {
    by_dns(By::AriAfterRestart, &refs(&many()), "n3.example.test", |_, k, _| rfc2136(k)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_name_over_rfc_2136_renews_by_lifetime() {
    by_dns(By::Lifetime, &["portal.example.test"], "portal.example.test", |_, k, _| rfc2136(k)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wildcard_over_a_program_renews_by_ari() {
    by_dns(By::Ari, &["*.example.test"], "other.example.test", by_program).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_names_over_a_program_renew_by_ari() {
    by_dns(By::Ari, &refs(&many()), "n11.example.test", by_program).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_name_over_a_program_renews_by_lifetime() {
    by_dns(By::Lifetime, &["portal.example.test"], "portal.example.test", by_program).await;
}
