//! What is in the files, as OpenSSL reads it, and who may read them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use keyward::domain::inventory::Format;
use keyward::ports::Deployer;
use rustix::fs::Mode;

use crate::harness::deploy::{Keys, credential, pairs, plain, production, slot, text, versioned};

const ALL: [Format; 6] =
    [Format::Cert, Format::Chain, Format::Fullchain, Format::Key, Format::Combined, Format::Pkcs12];

fn openssl(arguments: &[&str]) -> String {
    let out = Command::new("openssl").args(arguments).output().expect("openssl is missing: run tests/run");
    assert!(out.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap() + &String::from_utf8_lossy(&out.stderr)
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[tokio::test]
async fn openssl_reads_every_format_and_finds_one_and_the_same_pair_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let password = dir.path().join("password");
    fs::write(&password, "correct horse\n").unwrap();
    let mut install = versioned(&dir.path().join("tls"), &ALL);
    install.pkcs12_password_file = Some(text(&password));
    let keys = Keys::new(pairs(1));
    production(&keys).install(&credential(), &[install], slot(0)).await.unwrap();

    let at = |name: &str| text(&dir.path().join("tls/current").join(name));
    let public = openssl(&["pkey", "-in", &at("key.pem"), "-pubout"]);
    for file in ["cert.pem", "fullchain.pem", "combined.pem"] {
        assert_eq!(openssl(&["x509", "-in", &at(file), "-noout", "-pubkey"]), public, "{file}");
    }
    assert_eq!(openssl(&["pkey", "-in", &at("combined.pem"), "-pubout"]), public);
    assert!(openssl(&["x509", "-in", &at("chain.pem"), "-noout", "-subject"]).contains("test intermediate"));
    let count = |file: &str| fs::read_to_string(at(file)).unwrap().matches("BEGIN CERTIFICATE").count();
    assert_eq!(["cert.pem", "chain.pem", "fullchain.pem", "combined.pem"].map(count), [1, 1, 2, 2]);

    let read = |more: &[&str]| {
        let (file, pass) = (at("bundle.p12"), format!("file:{}", text(&password)));
        openssl(&[&["pkcs12", "-in", &file, "-passin", &pass], more].concat())
    };
    let info = read(&["-info", "-noout"]);
    assert!(info.contains("PBES2, PBKDF2, AES-256-CBC") && info.contains("MAC: sha256"), "{info}");
    let held = read(&["-nodes"]);
    assert_eq!(held.matches("BEGIN CERTIFICATE").count(), 2);
    fs::write(dir.path().join("held.pem"), held).unwrap();
    assert_eq!(openssl(&["pkey", "-in", &text(&dir.path().join("held.pem")), "-pubout"]), public);
}

#[tokio::test]
async fn modes_and_owners_are_as_asked_under_any_umask() {
    assert!(rustix::process::geteuid().is_root(), "owners can be given only as root: run tests/run");
    let keys = Keys::new(pairs(2));
    for (n, umask) in [(0, 0o000), (1, 0o077)] {
        let dir = tempfile::tempdir().unwrap();
        let before = rustix::process::umask(Mode::from_raw_mode(umask));
        let mut by_name = versioned(&dir.path().join("tls"), &[Format::Fullchain, Format::Key]);
        (by_name.owner, by_name.group) = (Some("daemon".to_owned()), Some("www-data".to_owned()));
        (by_name.key_mode, by_name.cert_mode) = (0o640, 0o644);
        let mut by_number = plain(dir.path(), &[Format::Cert, Format::Combined]);
        (by_number.owner, by_number.group) = (Some("4711".to_owned()), Some("4712".to_owned()));
        let result = production(&keys).install(&credential(), &[by_name, by_number], slot(n)).await;
        rustix::process::umask(before);
        result.unwrap();

        let current = dir.path().join("tls/current");
        assert_eq!((mode(&current.join("key.pem")), mode(&current.join("fullchain.pem"))), (0o640, 0o644));
        assert_eq!(mode(&fs::canonicalize(&current).unwrap()), 0o755, "servers of other users must get through");
        let seen = fs::metadata(current.join("key.pem")).unwrap();
        assert_eq!((seen.uid(), seen.gid()), (1, 33), "daemon and www-data on Debian");
        let seen = fs::metadata(dir.path().join("combined.pem")).unwrap();
        assert_eq!((seen.uid(), seen.gid()), (4711, 4712));
        assert_eq!((mode(&dir.path().join("combined.pem")), mode(&dir.path().join("cert.pem"))), (0o600, 0o644));
    }
}

#[tokio::test]
async fn what_cannot_be_right_is_refused_with_a_sentence_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut all = pairs(2);
    all[1].key = all[0].key.clone();
    let deployer = production(&Keys::new(all));
    let sound = || plain(dir.path(), &[Format::Cert, Format::Key]);
    let edited = |edit: &dyn Fn(&mut keyward::domain::inventory::Install)| {
        let mut install = sound();
        edit(&mut install);
        install
    };
    let same = |i: &mut keyward::domain::inventory::Install| {
        let path = text(&dir.path().join("one"));
        i.layout = keyward::domain::inventory::Layout::Plain {
            files: [(Format::Cert, path.clone()), (Format::Key, path)].into(),
        };
    };
    let p12 = plain(dir.path(), &[Format::Cert, Format::Pkcs12]);
    let cases = [
        (edited(&|i| i.owner = Some("nobody-of-this-name".to_owned())), 0, "there is no user"),
        (edited(&|i| i.group = Some("4294967295".to_owned())), 0, "cannot exist"),
        (edited(&|i| i.key_mode = 0o644), 0, "would give every user the private key"),
        (edited(&|i| i.cert_mode = 0o4755), 0, "permissions only"),
        (edited(&same), 0, "is a target twice"),
        (p12, 0, "needs a password file"),
        (plain(&dir.path().join("missing"), &[Format::Cert]), 0, "does not exist"),
        (plain(Path::new("relative"), &[Format::Cert]), 0, "not an absolute path"),
        (plain(Path::new("/tmp/../tmp"), &[Format::Cert]), 0, "holds '..'"),
        (versioned(dir.path(), &[]), 0, "at least one format"),
        (sound(), 1, "do not belong together"),
        (sound(), 2, "no slot"),
    ];
    for (install, n, expected) in cases {
        let said = deployer.install(&credential(), &[install], slot(n)).await.unwrap_err().0;
        assert!(said.contains(expected), "{said:?} does not say {expected:?}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
