//! The real binary: lease files over kills, restarts, the end of a certificate, a disk that refuses and an orderly stop.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use keyward::domain::time::Timestamp;
use keyward::lease::{Keys, LeaseHolder, SeenFiles, now, read};
use rcgen::{CertificateParams, CertifiedIssuer, DnType, KeyPair};

use crate::harness::fault::{Daemon, Under};
use crate::harness::lease::until;
use crate::harness::life::{free_port, own_address};

struct Scene {
    dir: tempfile::TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
    config: PathBuf,
    http: std::net::SocketAddr,
}

fn at(moment: Timestamp) -> rcgen::CertificateParams {
    let mut params = CertificateParams::new(vec!["peer.example.com".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(moment.unix()).unwrap());
    params
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "Lease Root");
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(dir.path().join("root.pem"), ca.pem()).unwrap();
        fs::create_dir(dir.path().join("run")).unwrap();
        let http = free_port(own_address());
        let config = dir.path().join("keyward.toml");
        let text = format!(
            "state_dir = \"@/state\"\n[listen]\nhttp = \"{http}\"\nallow_remote = true\nadmin_socket = \"@/admin.sock\"\n\
             [timing]\nprobe_every = \"10s\"\n\
             [[issuer]]\nid = \"ca\"\ndirectory = \"https://127.0.0.1:1/d\"\nroot_files = [\"@/root.pem\"]\n\
             contacts = [\"mailto:ops@example.com\"]\nterms_agreed = true\n\
             [[observe]]\nid = \"peer\"\nfile = \"@/peer.pem\"\n\
             [[path]]\nid = \"approve\"\nneeds = [\"peer\"]\nmargin = \"0s\"\naudiences = [\"portal\"]\n\
             lease_file = {{ path = \"@/run/approve.lease\", audience = \"portal\", mode = \"0644\" }}\n"
        );
        fs::write(&config, text.replace("@/", &format!("{}/", dir.path().display()))).unwrap();
        Self { dir, ca, config, http }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A certificate that ends so soon; swapped in whole.
    fn issue(&self, life: Duration) -> Timestamp {
        let end = now().wall.plus(life);
        let pem = at(end).signed_by(&KeyPair::generate().unwrap(), &self.ca).unwrap().pem();
        fs::write(self.at("peer.new"), pem).unwrap();
        fs::rename(self.at("peer.new"), self.at("peer.pem")).unwrap();
        end
    }

    fn start(&self) -> Daemon {
        Daemon::start(&self.config, self.http, &Under::Nothing)
    }

    fn file(&self) -> PathBuf {
        self.at("run/approve.lease")
    }

    fn lease(&self) -> Option<String> {
        fs::read_to_string(self.file()).ok()
    }
}

fn script(scene: &Scene, keys: &Path) -> (bool, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/lease.py");
    let run = Command::new("python3")
        .arg("-B")
        .arg(script)
        .args(["--audience", "portal", "--path", "approve", "--keys"])
        .args([keys, &scene.file()])
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("python3: {e}: start the tests with tests/run"));
    let said = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    (run.status.success(), said)
}

#[test]
fn a_lease_file_follows_the_gate_over_kills_restarts_and_the_end_of_a_certificate() {
    let scene = Scene::new();
    let end = scene.issue(Duration::from_secs(40));
    let daemon = scene.start();
    until("the lease", || scene.lease().is_some());
    let printed = daemon.cli(&["gate", "keys", "-o", "name"]);
    let keys_file = scene.at("keyward.keys");
    fs::write(&keys_file, &printed.stdout).unwrap();
    let keys = Keys::parse(&String::from_utf8(printed.stdout).unwrap()).unwrap();
    let holder = || {
        let seen = SeenFiles::open(&scene.at("seen")).unwrap();
        LeaseHolder::here(keys.clone(), "portal", "approve", seen).unwrap()
    };
    let portal = holder();
    let first = scene.lease().unwrap();
    portal.take(first.as_bytes()).unwrap();
    assert!(portal.is_open());
    assert_eq!(fs::metadata(scene.file()).unwrap().mode() & 0o7777, 0o644);
    assert_eq!(fs::metadata(scene.at("state/lease.key")).unwrap().mode() & 0o7777, 0o600);
    let (good, said) = script(&scene, &keys_file);
    assert!(good && said.contains("\"audience\": \"portal\""), "{said}");
    until("another lease", || scene.lease().is_some_and(|l| l != first));

    // Killed, the file stays, and what it says ends by itself; the next life has a higher epoch.
    daemon.kill();
    let left = scene.lease().unwrap();
    let of = |text: &str| read(text.as_bytes(), &keys).unwrap().grant;
    assert!(of(&left).life() <= Duration::from_secs(15));
    let daemon = scene.start();
    until("a lease of the next life", || scene.lease().is_some_and(|l| of(&l).epoch > of(&left).epoch));
    portal.take(scene.lease().unwrap().as_bytes()).unwrap();
    let why = portal.take(left.as_bytes()).unwrap_err().to_string();
    assert!(why.contains("earlier run"), "{why}");
    drop(portal);
    let portal = holder();
    assert!(portal.take(left.as_bytes()).is_err(), "the consumer remembers it over its own restart");

    // The certificate ends, and nobody renews it: the file is gone in time, and so is every lease.
    until("the end of the leases", || {
        if let Some(text) = scene.lease() {
            // What is being replaced at this moment may be an older one, or over.
            drop(portal.take(text.as_bytes()));
        }
        assert!(!portal.is_open() || now().wall < end, "open after the end of the certificate");
        scene.lease().is_none() && !portal.is_open()
    });
    assert!(now().wall < end, "closed at {} only, and the certificate ended at {end}", now().wall);
    let (good, _) = script(&scene, &keys_file);
    assert!(!good);
    assert_eq!(daemon.terminate(), 0);
}

#[test]
fn a_lease_file_that_cannot_be_written_is_told_and_tried_again() {
    let scene = Scene::new();
    scene.issue(Duration::from_secs(3_600));
    fs::remove_dir(scene.at("run")).unwrap();
    let daemon = scene.start();
    daemon.wait("the notice", |d| d.log().contains("KW4107").then_some(()));
    fs::create_dir(scene.at("run")).unwrap();
    fs::set_permissions(scene.at("run"), fs::Permissions::from_mode(0o755)).unwrap();
    until("the lease", || scene.lease().is_some());
    assert_eq!(daemon.terminate(), 0);
    assert_eq!(scene.lease(), None, "stopped, it leaves nothing");
}

#[test]
fn a_lease_file_that_a_dead_guardian_left_is_gone_when_the_path_is_closed() {
    let scene = Scene::new();
    // Nothing to stand on: closed from the beginning.
    fs::write(scene.file(), "keyward-lease-v1.old").unwrap();
    let daemon = scene.start();
    until("the end of the old file", || scene.lease().is_none());
    assert_eq!(daemon.terminate(), 0);
}
