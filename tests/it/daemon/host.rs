//! Honest about the host: hooks that fail, servers that do not listen, disks that are full, files that vanish. What was
//! issued is never issued again for any of it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command as Program;
use std::time::Duration;

use keyward::domain::key::KeyAlgorithm;
use keyward::domain::plan::HeldReason;
use keyward::domain::time::HOUR;
use keyward::engine::Command;

use crate::harness::deploy::{belong_together, ders};
use crate::harness::estate::cid;
use crate::harness::life::{Life, Place, certificate, served, snapshot};
use crate::harness::nginx::Nginx;
use crate::harness::pki::openssl;
use crate::harness::store::SmallDisk;

const NAME: &[&str] = &["portal.example.test"];

fn reload(argv: &str) -> String {
    format!("\n[certificate.reload]\nexec = [{argv}]\ntries = 1\n")
}

fn read(place: &Place, name: &str) -> String {
    fs::read_to_string(place.at("live/portal/current").join(name)).unwrap()
}

/// Without serials and inodes: what a server reads.
fn pair(place: &Place) -> (String, String) {
    (read(place, "fullchain.pem"), read(place, "key.pem"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_hook_puts_the_old_set_back_and_issues_nothing_more() {
    let place = Place::new().await;
    let hook = place.script("hook", "[ ! -e @/broken ] || { echo the server says no; exit 3; }");
    let life = place.start(&place.toml(&certificate("portal", NAME, &reload(&format!("{hook:?}"))))).await;
    let first = life.installed("portal").await;
    let old = pair(&place);
    fs::write(place.at("broken"), "").unwrap();
    place.advance(Duration::from_secs(2));
    life.renew("portal");
    let entry = life.entry("portal", "KW2204").await;
    assert!(entry.to_string().contains("the server says no"), "{entry}");
    life.wait("somebody is told", |l| l.told("KW2204").then_some(())).await;
    life.finding("portal", "KW1012").await;
    assert_eq!(pair(&place), old, "the old set is back");
    assert_eq!(life.view("portal").current().unwrap().fingerprint, first.fingerprint);
    // Again, and again: the same certificate from the same order.
    for _ in 0..2 {
        let failed = life.view("portal").record.failures;
        life.renew("portal");
        life.wait("another try", |l| (l.view("portal").record.failures > failed).then_some(())).await;
        assert_eq!(pair(&place), old);
    }
    assert_eq!((place.control.orders().len(), place.control.certificates().len()), (2, 2));
    fs::remove_file(place.at("broken")).unwrap();
    life.renew("portal");
    let second = life.renewed("portal", &first).await;
    assert_eq!(&*second.serial, place.control.certificates()[1].serial);
    assert_eq!(place.control.orders().len(), 2, "a failed hook never issues again");
    assert_eq!(life.findings("portal"), Vec::<&str>::new());
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_for_a_hook_until_it_expired_is_never_installed() {
    let place = Place::new().await;
    let hook = place.script("hook", "[ ! -e @/broken ] || exit 3");
    let more = format!("profile = \"shortlived\"\n{}", reload(&format!("{hook:?}")));
    let life = place.start(&place.toml(&certificate("portal", NAME, &more))).await;
    let first = life.installed("portal").await;
    fs::write(place.at("broken"), "").unwrap();
    place.advance(Duration::from_secs(2));
    life.renew("portal");
    life.entry("portal", "KW2204").await;
    life.wait("it rests", |l| l.view("portal").attempt.filter(|a| a.not_before.is_some()).map(|_| ())).await;
    fs::remove_file(place.at("broken")).unwrap();
    place.advance(HOUR * 170);
    life.scan();
    life.entry("portal", "KW2207").await;
    place.advance(HOUR * 2);
    life.scan();
    let second = life.renewed("portal", &first).await;
    assert!(second.validity.contains(life.now()));
    assert_eq!(&*second.serial, place.control.certificates()[2].serial, "another was ordered");
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_jump_of_the_clock_renewals_go_on_at_once() {
    let place = Place::new().await;
    // Nothing else wakes the planner within the test.
    let toml = place.toml(&certificate("portal", NAME, ""));
    let toml = toml.replace("probe_every = \"10s\"", "probe_every = \"6h\"").replace("\"1m\"", "\"24h\"");
    let life = place.start(&toml).await;
    let first = life.installed("portal").await;
    place.clock.step(3_600);
    life.renew("portal");
    life.wait("it is held", |l| {
        l.view("portal").held.filter(|h| matches!(h.reason, HeldReason::Stopped(_))).map(|_| ())
    })
    .await;
    assert_eq!(place.control.orders().len(), 1);
    place.clock.step(-3_600);
    place.advance(Duration::from_secs(2));
    // Whatever wakes the loop: here a look at another thing.
    life.engine.command(Command::Look(cid("nonesuch"))).unwrap();
    life.renewed("portal", &first).await;
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_ca_issues_while_the_first_is_down() {
    let place = Place::new().await;
    let (http, tls) = (place.http.port(), place.tls.port());
    let second = Place::with(|_, v| (v.http_port, v.tls_port) = (http, tls)).await;
    fs::copy(second.at("root.pem"), place.at("second.pem")).unwrap();
    let other = format!(
        "[[issuer]]\nid = \"second\"\ndirectory = \"{}\"\nroot_files = [\"@/second.pem\"]\nterms_agreed = true\n",
        second.ca.directory_url()
    );
    let portal = certificate("portal", NAME, "").replace("issuers = [\"ca\"]", "issuers = [\"ca\", \"second\"]");
    let toml = place.toml(&format!("{other}{portal}"));
    place.control.pause();
    let life = place.start(&toml).await;
    let began = std::time::Instant::now();
    while life.view("portal").current().is_none() {
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", life.notices());
        // Each time the first one has failed, its backoff passes.
        let failures = life.view("portal").record.failures;
        life.wait("a try", |l| {
            let view = l.view("portal");
            (view.record.failures > failures || view.current().is_some()).then_some(())
        })
        .await;
        place.advance(HOUR);
        life.scan();
    }
    let first = life.installed("portal").await;
    assert_eq!(first.issuer, crate::harness::estate::iid("second"));
    assert_eq!((place.control.orders().len(), second.control.orders().len()), (0, 1));
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ignores_the_reload_is_found_out() {
    let place = Place::new().await;
    let at = |name: &str| place.text(&format!("live/portal/current/{name}"));
    let nginx = Nginx::new(&place, &at("fullchain.pem"), &at("key.pem"), None);
    // The first call starts it; later ones do nothing and say that all is well.
    let hook = place
        .script("hook", &format!("[ -e @/nginx/nginx.pid ] || exec {}; [ ! -e @/mended ] || exec {0}", nginx.hook));
    let endpoint = format!("[[certificate.endpoint]]\nconnect = \"{}\"\nsni = \"{}\"\n", nginx.tls, NAME[0]);
    let more = format!("{}{endpoint}", reload(&format!("{hook:?}")));
    let life = place.start(&place.toml(&certificate("portal", NAME, &more))).await;
    let first = life.installed("portal").await;
    let old = pair(&place);
    place.advance(Duration::from_secs(2));
    life.renew("portal");
    let entry = life.entry("portal", "KW2206").await;
    assert!(entry.to_string().contains("not served"), "{entry}");
    life.wait("the finding", |l| l.findings("portal").contains(&"KW1012").then_some(())).await;
    life.wait("somebody is told", |l| l.told("KW2206").then_some(())).await;
    assert_eq!(pair(&place), old, "the old set is back");
    let root = place.at("root.pem");
    assert_eq!(served(nginx.tls, Some(NAME[0]), &root), first.serial.trim_start_matches('0'));
    fs::write(place.at("mended"), "").unwrap();
    life.renew("portal");
    let second = life.renewed("portal", &first).await;
    assert_eq!(place.control.orders().len(), 2, "the same certificate goes in at last");
    life.wait("it is served", |_| {
        (served(nginx.tls, Some(NAME[0]), &root) == second.serial.trim_start_matches('0')).then_some(())
    })
    .await;
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_or_read_only_disk_leaves_the_installation_alone() {
    let place = Place::new().await;
    let disk = SmallDisk::new("64k");
    let more = format!("\n[[certificate.install]]\ndir = \"{}/portal\"\n", disk.path().display());
    let life = place.start(&place.toml(&certificate("portal", NAME, &more))).await;
    let mut last = life.installed("portal").await;
    for way in ["full", "read-only"] {
        let fill = disk.path().join("fill");
        let spoil = |on: bool| match (way, on) {
            ("full", true) => drop(fs::write(&fill, vec![0_u8; 200 << 10])),
            ("full", false) => fs::remove_file(&fill).unwrap(),
            (_, true) => disk.remount("ro"),
            (_, false) => disk.remount("rw,size=64k"),
        };
        spoil(true);
        let before = snapshot(&disk.path().join("portal"));
        place.advance(Duration::from_secs(2));
        let seen = life.count("KW2203").await;
        life.renew("portal");
        life.entry_after("portal", "KW2203", seen).await;
        life.wait("somebody is told", |l| l.told("KW2203").then_some(())).await;
        // Told of the time before, perhaps: while it runs, to ask for it changes nothing.
        life.wait("it rests", |l| l.view("portal").attempt?.not_before.map(|_| ())).await;
        let contents = |all: std::collections::BTreeMap<std::path::PathBuf, String>| -> Vec<String> {
            let facts = all.into_iter().filter(|(_, f)| !f.starts_with("directory"));
            facts.map(|(p, f)| format!("{} {f}", p.display())).collect()
        };
        assert_eq!(contents(snapshot(&disk.path().join("portal"))), contents(before), "{way}: untouched");
        spoil(false);
        life.renew("portal");
        last = life.renewed("portal", &last).await;
    }
    assert_eq!(place.control.orders().len(), 3, "one for each certificate");
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_window_holds_the_installation_and_never_the_renewal() {
    let place = Place::new().await;
    // A window of an hour that opens in two hours.
    let minute = |from_now: u64| {
        let at = keyward::ports::Clock::now(&*place.clock).plus(Duration::from_secs(from_now));
        let text = at.to_string();
        text[11..16].to_owned()
    };
    let window = format!("\n[[certificate.window]]\nfrom = \"{}\"\nuntil = \"{}\"\n", minute(7_200), minute(10_800));
    let life = place.start(&place.toml(&certificate("portal", NAME, &window))).await;
    // With nothing in place there is nothing that a window could protect.
    let first = life.installed("portal").await;
    let old = pair(&place);
    place.advance(Duration::from_secs(2));
    life.renew("portal");
    life.entry("portal", "KW2205").await;
    life.wait("it is held by the window", |l| {
        l.view("portal").held.filter(|h| matches!(h.reason, HeldReason::Window | HeldReason::Backoff)).map(|_| ())
    })
    .await;
    assert_eq!(place.control.certificates().len(), 2, "issued");
    assert_eq!(pair(&place), old, "and not installed");
    place.advance(HOUR * 2 + Duration::from_secs(60));
    life.scan();
    let second = life.renewed("portal", &first).await;
    assert_eq!(place.control.orders().len(), 2);
    assert!(belong_together(&read(&place, "fullchain.pem"), &read(&place, "key.pem")));
    assert_eq!(&*second.serial, place.control.certificates()[1].serial);
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_and_damaged_files_come_back_without_an_order() {
    let place = Place::new().await;
    let life = place.start(&place.toml(&certificate("portal", NAME, ""))).await;
    let first = life.installed("portal").await;
    let old = pair(&place);
    let spoils: [&dyn Fn(); 4] = [
        // In one step: a look under way may begin to mend what is half gone.
        &|| fs::rename(place.at("live/portal"), place.at("gone")).unwrap(),
        &|| fs::remove_file(place.at("live/portal/current")).unwrap(),
        &|| fs::remove_file(place.at("live/portal/current/fullchain.pem")).unwrap(),
        &|| fs::write(place.at("live/portal/current/fullchain.pem"), "garbage").unwrap(),
    ];
    for (n, spoil) in spoils.into_iter().enumerate() {
        // A repair rests five minutes before the next one.
        place.advance(Duration::from_secs(301));
        spoil();
        life.engine.command(Command::Look(cid("portal"))).unwrap();
        let back = || fs::read_to_string(place.at("live/portal/current/fullchain.pem")).ok() == Some(old.0.clone());
        life.wait(&format!("the files are back ({n})"), |l| {
            (back() && l.view("portal").attempt.is_none() && l.findings("portal").is_empty()).then_some(())
        })
        .await;
        assert_eq!(pair(&place), old, "{n}");
    }
    assert_eq!(place.control.orders().len(), 1);
    assert_eq!(life.view("portal").current().unwrap().serial, first.serial);
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_vanished_or_was_swapped_is_found_and_mended() {
    let place = Place::new().await;
    let life = place.start(&place.toml(&certificate("portal", NAME, ""))).await;
    life.installed("portal").await;
    let old = pair(&place);
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let key = place.at("live/portal/current/key.pem");
    let spoils: [&dyn Fn(); 2] = [&|| fs::remove_file(&key).unwrap(), &|| fs::write(&key, &other).unwrap()];
    for (n, spoil) in spoils.into_iter().enumerate() {
        // A repair rests five minutes before the next one.
        place.advance(Duration::from_secs(301));
        spoil();
        life.engine.command(Command::Look(cid("portal"))).unwrap();
        life.wait(&format!("the key is back ({n})"), |l| {
            let back = fs::read_to_string(&key).ok() == Some(old.1.clone());
            (back && l.view("portal").attempt.is_none()).then_some(())
        })
        .await;
    }
    assert_eq!(place.control.orders().len(), 1);
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_kept_over_renewals_where_that_is_asked_for() {
    let place = Place::new().await;
    let life = place.start(&place.toml(&certificate("portal", NAME, "key_reuse = true\n"))).await;
    let first = life.installed("portal").await;
    place.advance(Duration::from_secs(2));
    life.renew("portal");
    let second = life.renewed("portal", &first).await;
    assert_eq!(first.spki, second.spki);
    assert_ne!(first.serial, second.serial);
    assert!(belong_together(&read(&place, "fullchain.pem"), &read(&place, "key.pem")));
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_profile_reaches_the_ca_and_an_unknown_one_is_refused_with_its_word() {
    let place = Place::new().await;
    let good = certificate("portal", NAME, "profile = \"shortlived\"\n");
    let bad = certificate("other", &["other.example.test"], "profile = \"nonesuch\"\n");
    let life = place.start(&place.toml(&format!("{good}{bad}"))).await;
    let first = life.installed("portal").await;
    assert_eq!(place.control.orders()[0].profile.as_deref(), Some("shortlived"));
    assert!(first.validity.lifetime() < HOUR * 170);
    let entry = life.entry("other", "KW3007").await;
    assert!(entry.to_string().contains("nonesuch"), "{entry}");
    life.wait("somebody is told", |l| l.told("KW3007").then_some(())).await;
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_of_key_is_made_issued_and_installed() {
    let place = Place::new().await;
    let words: Vec<&str> = KeyAlgorithm::ALL.iter().map(|(_, w)| *w).collect();
    let all: String =
        words.iter().map(|w| certificate(w, &[&format!("{w}.example.test")], &format!("key = \"{w}\"\n"))).collect();
    let life = place.start(&place.toml(&all)).await;
    for word in &words {
        life.installed(word).await;
        let at = |name: &str| place.text(&format!("live/{word}/current/{name}"));
        let text = openssl(place.dir.path(), &["x509", "-in", &at("fullchain.pem"), "-noout", "-text"]);
        let wanted = match *word {
            "p256" => "prime256v1",
            "p384" => "secp384r1",
            "ed25519" => "ED25519",
            "rsa2048" => "2048 bit",
            "rsa3072" => "3072 bit",
            "rsa4096" => "4096 bit",
            other => panic!("a new type of key {other}: add it here"),
        };
        assert!(text.contains(wanted), "{word}: {text}");
        let public = |args: &[&str]| openssl(place.dir.path(), args);
        let of_key = public(&["pkey", "-in", &at("key.pem"), "-pubout"]);
        let of_certificate = public(&["x509", "-in", &at("fullchain.pem"), "-noout", "-pubkey"]);
        assert_eq!(of_key, of_certificate, "{word}");
    }
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_formats_in_both_layouts_are_what_openssl_expects() {
    let place = Place::new().await;
    fs::write(place.at("p12.pass"), "correct horse\n").unwrap();
    fs::set_permissions(place.at("p12.pass"), fs::Permissions::from_mode(0o600)).unwrap();
    let all = ["cert", "chain", "fullchain", "key", "combined", "pkcs12"];
    let files: Vec<String> = all.iter().map(|f| format!("{f} = \"@/live/plain.{f}\"")).collect();
    let more = format!(
        "\n[[certificate.install]]\ndir = \"@/live/portal\"\nformats = {all:?}\npkcs12_password_file = \"@/p12.pass\"\n\
         key_mode = \"0640\"\ncert_mode = \"0444\"\ngroup = \"daemon\"\n\
         [[certificate.install]]\nfiles = {{ {} }}\npkcs12_password_file = \"@/p12.pass\"\n",
        files.join(", ")
    );
    let before = rustix::process::umask(rustix::fs::Mode::empty());
    let life = place.start(&place.toml(&certificate("portal", NAME, &more))).await;
    let mut last = life.installed("portal").await;
    for _ in 0..2 {
        for (dir, ending) in [("live/portal/current", true), ("live", false)] {
            let path = |format: &str| match (ending, format) {
                (true, "pkcs12") => place.text(&format!("{dir}/bundle.p12")),
                (true, format) => place.text(&format!("{dir}/{format}.pem")),
                (false, format) => place.text(&format!("{dir}/plain.{format}")),
            };
            check_formats(&place, &path);
            for format in all {
                let meta = fs::metadata(path(format)).unwrap();
                let secret = ["key", "combined", "pkcs12"].contains(&format);
                let mode = match (ending, secret) {
                    (true, true) => 0o640,
                    (true, false) => 0o444,
                    (false, true) => 0o600,
                    (false, false) => 0o644,
                };
                assert_eq!(meta.mode() & 0o7777, mode, "{} under umask 0", path(format));
                assert_eq!(meta.gid(), if ending { 1 } else { 0 }, "{}", path(format));
            }
        }
        place.advance(Duration::from_secs(2));
        life.renew("portal");
        last = life.renewed("portal", &last).await;
    }
    rustix::process::umask(before);
    life.stop().await;
}

fn check_formats(place: &Place, path: &dyn Fn(&str) -> String) {
    let read = |format: &str| fs::read_to_string(path(format)).unwrap();
    let (cert, chain, fullchain) = (read("cert"), read("chain"), read("fullchain"));
    assert_eq!((ders(&cert).len(), ders(&chain).len(), ders(&fullchain).len()), (1, 1, 2));
    assert_eq!([ders(&cert), ders(&chain)].concat(), ders(&fullchain));
    assert!(belong_together(&fullchain, &read("key")));
    assert!(belong_together(&read("combined"), &read("combined")));
    let dir = Path::new(place.dir.path());
    let out = openssl(dir, &["pkcs12", "-in", &path("pkcs12"), "-passin", "file:p12.pass", "-nodes", "-info"]);
    assert_eq!(ders(&out).len(), 2, "{out}");
    assert!(out.contains("AES-256-CBC") && out.contains("PBKDF2"), "modern ciphers: {out}");
    assert!(belong_together(&out, &out));
    let wrong = Program::new("openssl")
        .args(["pkcs12", "-in", &path("pkcs12"), "-passin", "pass:wrong", "-nodes"])
        .output()
        .unwrap();
    assert!(!wrong.status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_set_of_names_is_issued_anew() {
    let place = Place::new().await;
    let toml = |names: &[&str]| place.toml(&certificate("portal", names, ""));
    let life = place.start(&toml(NAME)).await;
    let first = life.installed("portal").await;
    life.stop().await;
    place.advance(Duration::from_secs(2));
    let life: Life = place.start(&toml(&["portal.example.test", "www.example.test"])).await;
    let second = life.renewed("portal", &first).await;
    assert_eq!(second.names.to_string().matches("example.test").count(), 2);
    assert_eq!(place.control.orders().len(), 2);
    life.stop().await;
}
