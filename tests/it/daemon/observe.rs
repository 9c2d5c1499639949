//! Observing what somebody else renews, and the gate over all of it: each reason to be closed once.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use keyward::domain::gate::Verdict;
use keyward::domain::time::{DAY, HOUR, MINUTE};
use keyward::engine::Command;
use keyward::ports::Clock as _;
use rcgen::{CertificateParams, DnType, KeyPair};

use crate::harness::estate::{cid, pid};
use crate::harness::life::{Life, Place, certificate};
use crate::harness::nginx::Nginx;
use crate::harness::pki::openssl;
use crate::harness::store::SmallDisk;

/// A CA for the observed part whose dates follow the real clock.
struct Pki {
    root: rcgen::CertifiedIssuer<'static, KeyPair>,
}

/// Valid since yesterday, until so many seconds from now.
fn dated(params: &mut CertificateParams, place: &Place, ends: i64) {
    let at = |from_now: i64| {
        let unix = u64::try_from(place.clock.now().unix() + from_now).unwrap();
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(unix)
    };
    (params.not_before, params.not_after) = (at(-86_400), at(ends));
}

fn ca_params(place: &Place, name: &str, ends: i64) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, name);
    dated(&mut params, place, ends);
    params
}

impl Pki {
    fn new(place: &Place, ends: i64) -> Self {
        Self::named(place, "Observed Root", ends)
    }

    fn named(place: &Place, name: &str, ends: i64) -> Self {
        let params = ca_params(place, name, ends);
        Self { root: rcgen::CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    /// Leaf and key in PEM.
    fn leaf(&self, place: &Place, name: &str, ends: i64) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        dated(&mut params, place, ends);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.root).unwrap().pem(), key.serialize_pem())
    }

    fn pem(&self) -> String {
        self.root.as_ref().pem()
    }
}

/// The configuration with another root for whatever is only looked at: an issuer that nobody orders from.
fn toml(place: &Place, pki: &Pki, rest: &str) -> String {
    fs::write(place.at("observed-root.pem"), pki.pem()).unwrap();
    let other = "[[issuer]]\nid = \"other\"\ndirectory = \"https://127.0.0.1:1/directory\"\nterms_agreed = true\n\
                 root_files = [\"@/observed-root.pem\"]\n";
    place.toml(&format!("{other}{rest}"))
}

async fn reason(life: &Life, path: &str, code: &str) -> Verdict {
    let what = format!("the gate {path} is closed by {code}");
    life.wait(&what, |l| {
        let verdict = l.engine.gate(&pid(path));
        verdict.reasons.iter().any(|r| r.code == code).then_some(verdict)
    })
    .await
}

async fn open(life: &Life, path: &str) {
    let what = format!("the gate {path} is open");
    life.wait(&what, |l| l.engine.gate(&pid(path)).is_open().then_some(())).await;
}

fn look(life: &Life, id: &str) {
    life.engine.command(Command::Look(cid(id))).unwrap();
}

const YEAR: i64 = 365 * 86_400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_appear_and_vanish_under_a_pattern_are_followed() {
    let place = Place::new().await;
    let pki = Pki::new(&place, YEAR * 5);
    fs::create_dir(place.at("peers")).unwrap();
    let rest = "[[observe]]\nid = \"peers\"\nglob = \"@/peers/*.pem\"\nowner = \"security\"\n\
                [[path]]\nid = \"approve\"\nneeds = [\"peers\"]\nmargin = \"2h\"\n";
    let life = place.start(&toml(&place, &pki, rest)).await;
    reason(&life, "approve", "KW4002").await;
    assert!(life.engine.empty_watches().iter().any(|(id, f)| *id == cid("peers") && f[0].code == "KW1001"));
    fs::write(place.at("peers/a.pem"), pki.leaf(&place, "a.example.test", YEAR).0).unwrap();
    life.scan();
    open(&life, "approve").await;
    assert_eq!(life.view("peers.a.pem").credential.owner.as_deref(), Some("security"));
    // One bad file among good ones closes the path that stands on all of them.
    fs::write(place.at("peers/b.pem"), "garbage").unwrap();
    life.scan();
    reason(&life, "approve", "KW4003").await;
    life.wait("the bad file is a finding", |l| {
        l.engine.credential(&cid("peers.b.pem")).filter(|v| v.findings.iter().any(|f| f.code == "KW1003"))
    })
    .await;
    fs::remove_file(place.at("peers/b.pem")).unwrap();
    life.scan();
    open(&life, "approve").await;
    assert!(life.engine.credential(&cid("peers.b.pem")).is_none(), "what vanished is not watched any more");
    fs::remove_file(place.at("peers/a.pem")).unwrap();
    life.scan();
    reason(&life, "approve", "KW4002").await;
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_unreadable_and_unparseable_files_are_findings() {
    let place = Place::new().await;
    let pki = Pki::new(&place, YEAR * 5);
    let (leaf, key) = pki.leaf(&place, "a.example.test", YEAR);
    fs::create_dir(place.at("directory")).unwrap();
    fs::write(place.at("garbage"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    fs::write(place.at("huge"), vec![b'x'; 64 << 20]).unwrap();
    symlink("/dev/zero", place.at("endless")).unwrap();
    fs::write(place.at("leaf.pem"), &leaf).unwrap();
    fs::write(place.at("leaf.key"), &key).unwrap();
    fs::write(place.at("pass"), "secret\n").unwrap();
    openssl(
        place.dir.path(),
        &["pkcs12", "-export", "-in", "leaf.pem", "-inkey", "leaf.key", "-out", "good.p12", "-passout", "file:pass"],
    );
    fs::write(place.at("wrong"), "guessed\n").unwrap();
    let all = ["missing", "directory", "garbage", "huge", "endless", "good.p12", "locked.p12"];
    fs::copy(place.at("good.p12"), place.at("locked.p12")).unwrap();
    let rest: String = all
        .iter()
        .map(|id| {
            let password = match *id {
                "good.p12" => "password_file = \"@/pass\"\n",
                "locked.p12" => "password_file = \"@/wrong\"\n",
                _ => "",
            };
            format!(
                "[[observe]]\nid = \"{id}\"\nfile = \"@/{id}\"\n{password}[[path]]\nid = \"{id}\"\nneeds = [\"{id}\"]\n"
            )
        })
        .collect();
    let life = place.start(&toml(&place, &pki, &rest)).await;
    for (id, finding, gate) in [
        ("missing", "KW1001", "KW4002"),
        ("directory", "KW1002", "KW4003"),
        ("garbage", "KW1003", "KW4003"),
        ("huge", "KW1002", "KW4003"),
        ("endless", "KW1002", "KW4003"),
        ("locked.p12", "KW1002", "KW4003"),
    ] {
        let found = life
            .wait(&format!("{id} is a finding"), |l| {
                let found = l.findings(id);
                found.iter().any(|c| c.starts_with("KW100")).then_some(found)
            })
            .await;
        assert!(found == [finding] || (finding == "KW1002" && found == ["KW1003"]), "{id}: {found:?}");
        reason(&life, id, gate).await;
        life.wait("somebody is told", |l| l.notices().iter().any(|n| n.about == id).then_some(())).await;
    }
    open(&life, "good.p12").await;
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_root_or_leaf_closes_and_a_near_end_is_inside_the_margin() {
    let place = Place::new().await;
    let pki = Pki::new(&place, 90 * 86_400);
    let write = |name: &str, ends| {
        let (leaf, key) = pki.leaf(&place, "a.example.test", ends);
        fs::write(place.at(name), format!("{leaf}{key}")).unwrap();
    };
    write("long", YEAR);
    write("short", 3 * 3_600);
    write("gone", -60);
    let rest: String = ["long", "short", "gone"]
        .iter()
        .map(|id| {
            format!("[[observe]]\nid = \"{id}\"\nfile = \"@/{id}\"\n[[path]]\nid = \"{id}\"\nneeds = [\"{id}\"]\nmargin = \"2h\"\n")
        })
        .collect();
    let life = place.start(&toml(&place, &pki, &rest)).await;
    open(&life, "long").await;
    open(&life, "short").await;
    reason(&life, "gone", "KW4004").await;
    assert_eq!(life.findings("long"), ["KW1013"], "the root ends before the leaf");
    place.advance(HOUR + Duration::from_secs(30));
    // Without any evaluation in between.
    assert!(!life.engine.gate(&pid("short")).is_open());
    life.scan();
    reason(&life, "short", "KW4005").await;
    place.advance(DAY * 90);
    life.scan();
    let verdict = reason(&life, "long", "KW4004").await;
    assert!(verdict.reasons.iter().any(|r| r.text.contains("Observed Root")), "{verdict:?}");
    life.wait("the finding", |l| l.findings("long").contains(&"KW1004").then_some(())).await;
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observed_server_that_serves_another_certificate_than_stored_closes_the_gate() {
    let place = Place::new().await;
    let pki = Pki::new(&place, YEAR * 5);
    let write = || {
        let (leaf, key) = pki.leaf(&place, "a.example.test", YEAR);
        fs::write(place.at("tls.pem"), leaf).unwrap();
        fs::write(place.at("tls.key"), key).unwrap();
    };
    write();
    let nginx = Nginx::new(&place, &place.text("tls.pem"), &place.text("tls.key"), None);
    nginx.start();
    let rest = format!(
        "[[observe]]\nid = \"peer\"\nfile = \"@/tls.pem\"\n[[observe.endpoint]]\nconnect = \"{}\"\nsni = \"a.example.test\"\n\
         [[path]]\nid = \"approve\"\nneeds = [\"peer\"]\n",
        nginx.tls
    );
    let life = place.start(&toml(&place, &pki, &rest)).await;
    open(&life, "approve").await;
    write();
    look(&life, "peer");
    reason(&life, "approve", "KW4007").await;
    life.finding("peer", "KW1008").await;
    nginx.start();
    life.wait("served and stored are one again", |l| {
        look(l, "peer");
        l.engine.gate(&pid("approve")).is_open().then_some(())
    })
    .await;
    drop(nginx);
    look(&life, "peer");
    reason(&life, "approve", "KW4007").await;
    life.finding("peer", "KW1009").await;
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_chain_leads_to_a_foreign_ca_closes_the_gate() {
    let place = Place::new().await;
    let (pki, foreign) = (Pki::new(&place, YEAR * 5), Pki::named(&place, "Foreign Root", YEAR * 5));
    // The foreign root comes along, as a server that wants to be believed would send it.
    let write = |pki: &Pki| {
        let (leaf, key) = pki.leaf(&place, "a.example.test", YEAR);
        fs::write(place.at("tls.pem"), format!("{leaf}{}", pki.pem())).unwrap();
        fs::write(place.at("tls.key"), key).unwrap();
    };
    write(&foreign);
    let nginx = Nginx::new(&place, &place.text("tls.pem"), &place.text("tls.key"), None);
    nginx.start();
    let rest = format!(
        "[[observe]]\nid = \"peer\"\n[[observe.endpoint]]\nconnect = \"{}\"\nsni = \"a.example.test\"\n\
         [[path]]\nid = \"approve\"\nneeds = [\"peer\"]\n",
        nginx.tls
    );
    let life = place.start(&toml(&place, &pki, &rest)).await;
    let verdict = reason(&life, "approve", "KW4006").await;
    let codes: Vec<&str> = verdict.reasons.iter().map(|r| r.code).collect();
    assert_eq!(codes, ["KW4006"], "nothing else is wrong with it: {verdict:?}");
    life.finding("peer", "KW1005").await;
    assert!(verdict.reasons[0].text.contains("Foreign Root"), "{verdict:?}");
    write(&pki);
    nginx.start();
    life.wait("a chain to a known root opens it", |l| {
        look(l, "peer");
        l.engine.gate(&pid("approve")).is_open().then_some(())
    })
    .await;
    assert!(life.findings("peer").is_empty(), "{:?}", life.findings("peer"));
    // While it is open: another key under the known root's own name.
    write(&Pki::new(&place, YEAR * 5));
    nginx.start();
    let verdict = life
        .wait("it closes again", |l| {
            look(l, "peer");
            // Until its old workers are gone, nginx may show the chain of before.
            Some(l.engine.gate(&pid("approve"))).filter(|v| v.reasons.iter().any(|r| r.text.contains("signature")))
        })
        .await;
    assert_eq!(verdict.reasons[0].code, "KW4006", "{verdict:?}");
    life.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_managed_path_closes_for_each_reason_and_opens_again() {
    let place = Place::new().await;
    let portal = certificate("portal", &["portal.example.test"], "");
    let rest = format!("{portal}[[path]]\nid = \"approve\"\nneeds = [\"portal\"]\nmargin = \"2h\"\n");
    let mut life = place.start(&place.toml(&rest)).await;
    let first = life.installed("portal").await;
    open(&life, "approve").await;
    assert_eq!(life.engine.gate(&pid("nonesuch")).reasons[0].code, "KW4010");
    // Another's certificate, trusted and with other names, in the place of ours.
    let other = place.at("live/portal/current/fullchain.pem");
    let good = fs::read(&other).unwrap();
    let pki = Pki::new(&place, YEAR);
    let (leaf, _) = pki.leaf(&place, "evil.example.test", YEAR);
    let closed = life.count("KW2302").await;
    fs::write(&other, leaf).unwrap();
    look(&life, "portal");
    // The repair may open it again at once, so the record is asked and not the moment.
    let entry = life.entry_after("approve", "KW2302", closed).await;
    assert!(entry["data"]["facts"]["reasons"].to_string().contains("KW4003"), "{entry}");
    open(&life, "approve").await;
    assert_eq!(fs::read(&other).unwrap(), good, "what was issued is installed again");
    // The wall clock jumps while boot time goes on.
    place.clock.step(3_600);
    reason(&life, "approve", "KW4009").await;
    life.scan();
    life.wait("somebody is told of the clock", |l| l.told("KW1015").then_some(())).await;
    place.clock.step(-3_600);
    life.scan();
    life.wait("the clocks agree", |l| l.engine.overview().clock_fault.is_none().then_some(())).await;
    assert!(!life.engine.gate(&pid("approve")).is_open(), "it waits for a person");
    life.engine.command(Command::Reopen { path: pid("approve"), by: "uid:0".into(), why: "seen to".into() }).unwrap();
    open(&life, "approve").await;
    assert_eq!(place.control.orders().len(), 1, "a jump renews nothing");
    // Nobody evaluates any more.
    life.freeze().await;
    place.advance(Duration::from_secs(20));
    assert_eq!(life.engine.gate(&pid("approve")).reasons[0].code, "KW4008");
    assert_eq!(life.view("portal").current().unwrap().serial, first.serial);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_names_and_an_unwritable_state_close_the_gate() {
    let place = Place::new().await;
    let disk = SmallDisk::new("32m");
    let rest = |names: &[&str]| {
        let portal = certificate("portal", names, "");
        let text = format!("{portal}[[path]]\nid = \"approve\"\nneeds = [\"portal\"]\nmargin = \"2h\"\n");
        let state = format!("state_dir = \"{}/state\"", disk.path().display());
        let toml = place.toml(&text);
        toml.replace(&format!("state_dir = \"{}\"", place.text("state")), &state)
    };
    let life = place.start(&rest(&["portal.example.test"])).await;
    life.installed("portal").await;
    open(&life, "approve").await;
    life.stop().await;
    // The CA refuses the second name, so the old certificate stays and does not cover it.
    place.control.pause();
    let life = place.start(&rest(&["portal.example.test", "www.example.test"])).await;
    reason(&life, "approve", "KW4012").await;
    life.finding("portal", "KW1006").await;
    place.control.resume();
    life.renew("portal");
    open(&life, "approve").await;
    let fill = disk.path().join("fill");
    drop(fs::write(&fill, vec![0_u8; 16 << 20]));
    life.renew("portal");
    reason(&life, "approve", "KW4011").await;
    let written = place.control.orders().len();
    life.renew("portal");
    tokio::time::timeout(Duration::from_millis(300), std::future::pending::<()>()).await.ok();
    assert_eq!(place.control.orders().len(), written, "what cannot be recorded does not happen");
    fs::remove_file(&fill).unwrap();
    life.kill().await;
    place.advance(Duration::from_secs(2));
    let life = place.start(&rest(&["portal.example.test", "www.example.test"])).await;
    open(&life, "approve").await;
    life.stop().await;
}

/// A gate over a certificate that is renewed again and again never closes in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_that_succeeds_never_closes_the_gate() {
    let place = Place::new().await;
    let live = |name: &str| place.text(&format!("live/portal/current/{name}"));
    let nginx = Nginx::new(&place, &live("fullchain.pem"), &live("key.pem"), None);
    // Slow, so that looks fall between the swap of the files and the reload.
    let hook = place.script("slow", &format!("sleep 0.3; exec {}", nginx.hook));
    let more = format!(
        "\n[certificate.reload]\nexec = [{hook:?}]\n[[certificate.endpoint]]\nconnect = \"{}\"\nsni = \"portal.example.test\"\n",
        nginx.tls
    );
    let portal = certificate("portal", &["portal.example.test"], &more);
    let rest = format!("{portal}[[path]]\nid = \"approve\"\nneeds = [\"portal\"]\nmargin = \"2h\"\n");
    let life = place.start(&place.toml(&rest)).await;
    let mut last = life.installed("portal").await;
    open(&life, "approve").await;
    for _ in 0..4 {
        life.renew("portal");
        let renewed = life.wait("the renewal", |l| {
            look(l, "portal");
            let verdict = l.engine.gate(&pid("approve"));
            assert!(verdict.is_open(), "{verdict:?}");
            l.view("portal").record.current.filter(|g| g.fingerprint != last.fingerprint)
        });
        last = renewed.await;
        life.installed("portal").await;
    }
    look(&life, "portal");
    assert!(!life.notices().iter().any(|n| n.code == "KW1007"), "our own certificate is no stranger's");
    assert_eq!(life.count("KW2302").await, 1, "closed once, before the first certificate");
    life.stop().await;
}

/// A list of `ca`, made an hour ago and due again in so many seconds.
fn list(place: &Place, ca: &rcgen::CertifiedIssuer<'static, KeyPair>, due: i64, revoked: &[u64]) -> String {
    let at = |from_now: i64| {
        let unix = u64::try_from(place.clock.now().unix() + from_now).unwrap();
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(unix)
    };
    let revoked = revoked.iter().map(|serial| rcgen::RevokedCertParams {
        serial_number: (*serial).into(),
        revocation_time: at(-3_600),
        reason_code: None,
        invalidity_date: None,
    });
    let params = rcgen::CertificateRevocationListParams {
        this_update: at(-3_600),
        next_update: at(due),
        crl_number: 1.into(),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    params.signed_by(ca).unwrap().pem().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_certificate_or_a_list_that_cannot_tell_closes_the_gate() {
    let place = Place::new().await;
    let pki = Pki::new(&place, YEAR * 5);
    let numbered = |mut params: CertificateParams, serial: u64| {
        params.serial_number = Some(serial.into());
        params
    };
    let params = numbered(ca_params(&place, "Observed Intermediate", YEAR * 5), 71);
    let between = rcgen::CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &pki.root).unwrap();
    let issue = |serial: u64| {
        let mut params = numbered(CertificateParams::new(vec!["a.example.test".to_owned()]).unwrap(), serial);
        dated(&mut params, &place, YEAR);
        let leaf = params.signed_by(&KeyPair::generate().unwrap(), &between).unwrap().pem();
        // Written beside and renamed, so that no look meets half a file.
        fs::write(place.at("new"), format!("{leaf}{}", between.pem())).unwrap();
        fs::rename(place.at("new"), place.at("peer.pem")).unwrap();
    };
    let put = |name: &str, text: &str| {
        fs::write(place.at("new"), text).unwrap();
        fs::rename(place.at("new"), place.at(name)).unwrap();
    };
    fs::create_dir(place.at("lists")).unwrap();
    let of_root = |due, revoked: &[u64]| put("lists/root.crl", &list(&place, &pki.root, due, revoked));
    let of_between = |due, revoked: &[u64]| put("lists/between.crl", &list(&place, &between, due, revoked));
    issue(81);
    of_root(30 * 86_400, &[]);
    of_between(30 * 86_400, &[1, 80]);
    let rest = "[[observe]]\nid = \"peer\"\nfile = \"@/peer.pem\"\ncrls = [\"@/lists/root.crl\", \"@/lists/between.crl\"]\n\
                [[path]]\nid = \"approve\"\nneeds = [\"peer\"]\n";
    let life = place.start(&toml(&place, &pki, rest)).await;
    open(&life, "approve").await;
    let closes = async |code: &str, text: &str| {
        // A path that closes three times in ten minutes would stay closed until a person opens it.
        place.advance(MINUTE * 11);
        look(&life, "peer");
        let what = format!("the gate is closed by {code}: {text}");
        life.wait(&what, |l| {
            let verdict = l.engine.gate(&pid("approve"));
            verdict.reasons.iter().any(|r| r.code == code && r.text.contains(text)).then_some(verdict)
        })
        .await
    };
    let opens = async || {
        look(&life, "peer");
        open(&life, "approve").await;
    };
    of_between(30 * 86_400, &[1, 80, 81]);
    let verdict = closes("KW4018", "a.example.test (serial 51) is revoked").await;
    assert_eq!(verdict.reasons.len(), 1, "{verdict:?}");
    // Another certificate is good again, under the same list.
    issue(82);
    opens().await;
    of_root(30 * 86_400, &[71]);
    closes("KW4018", "Observed Intermediate (serial 47) is revoked").await;
    of_root(30 * 86_400, &[]);
    opens().await;
    for (broken, text) in [
        (list(&place, &between, -60, &[]), "is for"),
        (String::new(), "is empty"),
        ("garbage".to_owned(), "holds no revocation list"),
        (list(&place, &Pki::named(&place, "Observed Intermediate", YEAR).root, 86_400, &[]), "was not signed"),
        (list(&place, &pki.root, 86_400, &[]), "no fresh revocation list covers a.example.test"),
    ] {
        put("lists/between.crl", &broken);
        closes("KW4019", text).await;
        of_between(30 * 86_400, &[]);
        opens().await;
    }
    fs::remove_file(place.at("lists/between.crl")).unwrap();
    closes("KW4019", "between.crl is missing").await;
    fs::create_dir(place.at("lists/between.crl")).unwrap();
    closes("KW4019", "cannot be read: it is a directory").await;
    fs::remove_dir(place.at("lists/between.crl")).unwrap();
    of_between(7_200, &[]);
    opens().await;
    // It becomes stale where it stands, without any look or evaluation in between.
    place.advance(HOUR * 3);
    assert!(!life.engine.gate(&pid("approve")).is_open());
    closes("KW4019", "between.crl is for").await;
    of_between(30 * 86_400, &[]);
    opens().await;
    life.stop().await;
}

#[test]
fn a_kubernetes_volume_is_followed_through_its_links() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let place = Place::new().await;
        let pki = Pki::new(&place, YEAR * 5);
        let volume = place.at("volume");
        let publish = |n: u32| {
            let dir = volume.join(format!("..{n}"));
            fs::create_dir_all(&dir).unwrap();
            let (leaf, key) = pki.leaf(&place, "a.example.test", YEAR);
            fs::write(dir.join("tls.crt"), leaf).unwrap();
            fs::write(dir.join("tls.key"), key).unwrap();
            swap(&volume.join("..data"), Path::new(&format!("..{n}")));
        };
        publish(1);
        symlink("..data/tls.crt", volume.join("tls.crt")).unwrap();
        symlink("..data/tls.key", volume.join("tls.key")).unwrap();
        let rest =
            "[[observe]]\nid = \"pod\"\nfile = \"@/volume/tls.crt\"\n[[path]]\nid = \"approve\"\nneeds = [\"pod\"]\n";
        let life = place.start(&toml(&place, &pki, rest)).await;
        open(&life, "approve").await;
        let serial = |l: &Life| l.view("pod").chain().map(|c| c.leaf.serial.clone());
        let first = serial(&life);
        publish(2);
        life.wait("the new certificate is seen", |l| {
            look(l, "pod");
            (serial(l) != first).then_some(())
        })
        .await;
        open(&life, "approve").await;
        life.stop().await;
    });
}

/// As the kubelet does: a new link beside the old one, renamed over it.
fn swap(link: &Path, to: &Path) {
    let new = link.with_file_name("..data_tmp");
    symlink(to, &new).unwrap();
    fs::rename(&new, link).unwrap();
}
