//! The whole guardian before a real web server: revocation is seen, and what is kept serves while nobody answers.

use std::fs;
use std::time::Duration;

use keyward::domain::gate::Verdict;
use keyward::domain::time::{DAY, HOUR};
use keyward::engine::Command;
use keyward::ports::Clock as _;
use rcgen::{CertificateParams, CertifiedIssuer, CrlDistributionPoint, DnType, KeyPair};

use crate::harness::estate::{cid, pid};
use crate::harness::life::{Life, Place};
use crate::harness::lists::{ListServer, Reply};

/// A root, and the leaf's file beside it.
struct Peer<'a> {
    place: &'a Place,
    root: CertifiedIssuer<'static, KeyPair>,
}

const YEAR: i64 = 365 * 86_400;

/// So many seconds from now, as rcgen counts them.
macro_rules! moment {
    ($place:expr, $from_now:expr) => {{
        let unix = u64::try_from($place.clock.now().unix() + $from_now).unwrap();
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(unix)
    }};
}

impl<'a> Peer<'a> {
    fn new(place: &'a Place) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "Listed Root");
        (params.not_before, params.not_after) = (moment!(place, -86_400), moment!(place, YEAR * 5));
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(place.at("observed-root.pem"), root.as_ref().pem()).unwrap();
        Self { place, root }
    }

    /// Puts a leaf in place that names a list.
    fn issue(&self, serial: u64, url: &str) {
        let mut params = CertificateParams::new(vec!["a.example.test".to_owned()]).unwrap();
        params.serial_number = Some(serial.into());
        (params.not_before, params.not_after) = (moment!(self.place, -86_400), moment!(self.place, YEAR));
        params.crl_distribution_points = vec![CrlDistributionPoint { uris: vec![url.to_owned()] }];
        let leaf = params.signed_by(&KeyPair::generate().unwrap(), &self.root).unwrap().pem();
        fs::write(self.place.at("new"), leaf).unwrap();
        fs::rename(self.place.at("new"), self.place.at("peer.pem")).unwrap();
    }

    /// A list with this number for the leaves that name this URL, made now and due again in so many seconds.
    fn list(&self, number: u64, url: &str, due: i64, revoked: &[u64]) -> Reply {
        let revoked = revoked.iter().map(|serial| rcgen::RevokedCertParams {
            serial_number: (*serial).into(),
            revocation_time: moment!(self.place, -60),
            reason_code: None,
            invalidity_date: None,
        });
        let params = rcgen::CertificateRevocationListParams {
            this_update: moment!(self.place, -1),
            next_update: moment!(self.place, due),
            crl_number: number.into(),
            issuing_distribution_point: Some(rcgen::CrlIssuingDistributionPoint {
                distribution_point: CrlDistributionPoint { uris: vec![url.to_owned()] },
                scope: Some(rcgen::CrlScope::UserCertsOnly),
            }),
            revoked_certs: revoked.collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        Reply::List(params.signed_by(&self.root).unwrap().der().to_vec())
    }
}

fn toml(place: &Place) -> String {
    place.toml(
        "[crl]\nrefresh = \"10s\"\nallow = [\"127.0.0.0/8\"]\n\
         [[issuer]]\nid = \"other\"\ndirectory = \"https://127.0.0.1:1/directory\"\nterms_agreed = true\n\
         root_files = [\"@/observed-root.pem\"]\n\
         [[observe]]\nid = \"peer\"\nfile = \"@/peer.pem\"\nowner = \"security\"\ncrls = [\"distribution-point\"]\n\
         [[path]]\nid = \"approve\"\nneeds = [\"peer\"]\n",
    )
}

async fn open(life: &Life) {
    life.wait("the gate is open", |l| l.engine.gate(&pid("approve")).is_open().then_some(())).await;
}

async fn closed(life: &Life, code: &str) -> Verdict {
    life.wait(&format!("the gate is closed by {code}"), |l| {
        let verdict = l.engine.gate(&pid("approve"));
        verdict.reasons.iter().any(|r| r.code == code).then_some(verdict)
    })
    .await
}

/// Time passes faster than it does until this is seen.
async fn soon<T>(life: &Life, place: &Place, what: &str, mut look: impl FnMut(&Life) -> Option<T>) -> T {
    for _ in 0..400 {
        if let Some(found) = look(life) {
            return found;
        }
        // Well below what makes a verdict stale.
        place.advance(Duration::from_secs(4));
        life.scan();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    life.wait(what, |_| None).await
}

async fn finding(life: &Life, place: &Place) -> String {
    let found = |l: &Life| l.view("peer").findings.iter().find(|f| f.code.starts_with("KW406")).map(|f| f.text.clone());
    soon(life, place, "the owner is told", found).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_certificate_closes_the_path_with_the_next_list_and_a_dead_server_when_the_last_one_is_over() {
    let place = Place::new().await;
    let peer = Peer::new(&place);
    let server = ListServer::start().await;
    let (first, second) = (server.url("/1.crl"), server.url("/2.crl"));
    server.set("/1.crl", peer.list(1, &first, 86_400 * 2, &[7]));
    server.set("/2.crl", peer.list(1, &second, 86_400 * 2, &[7]));
    peer.issue(81, &first);
    let life = place.start(&toml(&place)).await;
    open(&life).await;
    assert!(server.asked().iter().all(|head| head.contains("/1.crl")));
    // Nobody tells the guardian: the next list does.
    server.set("/1.crl", peer.list(2, &first, 86_400 * 2, &[7, 81]));
    let verdict = closed(&life, "KW4018").await;
    assert!(verdict.reasons[0].text.contains("a.example.test (serial 51) is revoked"), "{verdict:?}");
    // An attacker between brings back the list before: nothing opens, and the owner hears of it.
    server.set("/1.crl", peer.list(1, &first, 86_400 * 2, &[7]));
    let text = finding(&life, &place).await;
    assert!(text.contains(&*first) && text.contains("its number is 0x01, and 0x02 was seen"), "{text}");
    assert!(!life.engine.gate(&pid("approve")).is_open());
    // Another certificate with another list.
    peer.issue(82, &second);
    life.engine.command(Command::Look(cid("peer"))).unwrap();
    open(&life).await;
    soon(&life, &place, "nothing is wrong", |l| l.findings("peer").is_empty().then_some(())).await;
    // The server dies; its last list serves on, also through a restart.
    let address = server.address;
    server.stop().await;
    let text = finding(&life, &place).await;
    assert!(text.contains("cannot be reached"), "{text}");
    assert!(life.engine.gate(&pid("approve")).is_open());
    life.kill().await;
    place.advance(DAY);
    let life = place.start(&toml(&place)).await;
    open(&life).await;
    place.advance(DAY + HOUR);
    assert!(!life.engine.gate(&pid("approve")).is_open(), "it is over, whether or not anything was looked at");
    life.scan();
    let verdict = closed(&life, "KW4019").await;
    assert!(verdict.reasons[0].text.contains(&*second), "{verdict:?}");
    let server = ListServer::at(address).await;
    server.set("/2.crl", peer.list(2, &second, 86_400 * 2, &[7]));
    soon(&life, &place, "it opens again", |l| l.engine.gate(&pid("approve")).is_open().then_some(())).await;
    // A list that comes is another one only if it says so: what is revoked now closes once more.
    server.set("/2.crl", peer.list(3, &second, 86_400 * 2, &[82]));
    closed(&life, "KW4018").await;
    life.stop().await;
}
