//! That the keys stay in it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyward::adapters::holder::SocketHolder;
use keyward::domain::key::{Digest, KeyAlgorithm};
use keyward::ports::{KeyHolder, ToBeSigned};

use crate::harness::keyholder::{
    GuardianLog, Holder, PASSPHRASE, USER, as_user, generating, leaf_tbs, opened, signing, uid,
};

/// Everything below a directory, and beside it.
fn bytes_below(dir: &Path, out: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            bytes_below(&path, out);
        } else if path.is_file() {
            out.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
}

pub(super) fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle)
}

/// How a private key (PKCS#8) could be seen: its number as bytes, the last one first (so has it the library that signs), in
/// hexadecimal, in base64, and as it lies in PEM.
pub(super) fn needles(pkcs8: &[u8]) -> Vec<Vec<u8>> {
    // The private number: an OCTET STRING of 32 bytes (RFC 5915).
    let at = pkcs8.windows(2).position(|w| w == [4, 32]).unwrap() + 2;
    let scalar = &pkcs8[at..at + 32];
    let hex: String = scalar.iter().map(|b| format!("{b:02x}")).collect();
    // Four characters for three bytes: those that stand for nothing but the number.
    let pem = STANDARD.encode(pkcs8).as_bytes()[at.div_ceil(3) * 4..(at + 32) / 3 * 4].to_vec();
    let backwards = scalar.iter().rev().copied().collect();
    vec![scalar.to_vec(), backwards, hex.into_bytes(), STANDARD.encode(scalar).into_bytes(), pem]
}

/// Relays a socket and writes down what went through.
fn tapped(from: &Path, to: &Path) -> Arc<Mutex<Vec<u8>>> {
    let listener = UnixListener::bind(from).unwrap();
    let (seen, to) = (Arc::new(Mutex::new(Vec::new())), to.to_owned());
    let given = seen.clone();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            let holder = UnixStream::connect(&to).unwrap();
            for (mut from, mut to) in [
                (client.try_clone().unwrap(), holder.try_clone().unwrap()),
                (holder.try_clone().unwrap(), client.try_clone().unwrap()),
            ] {
                let seen = seen.clone();
                std::thread::spawn(move || {
                    let mut buffer = [0; 4_096];
                    while let Ok(count @ 1..) = from.read(&mut buffer) {
                        seen.lock().unwrap().extend_from_slice(&buffer[..count]);
                        if to.write_all(&buffer[..count]).is_err() {
                            return;
                        }
                    }
                });
            }
        }
    });
    given
}

#[tokio::test]
async fn no_byte_of_a_private_key_is_seen_outside_of_the_process() {
    let mut log = GuardianLog::new(1);
    let holder = Holder::start(&log);
    let tap = tempfile::tempdir().unwrap();
    let seen = tapped(&tap.path().join("s"), &holder.socket());
    let client = SocketHolder::new(&tap.path().join("s"), None);
    let warrant = log.allow(&generating("root"));
    let key = client.generate(KeyAlgorithm::P256, "root", &warrant).await.unwrap();
    let bytes = leaf_tbs(&key, 1, 7);
    let warrant = log.allow(&signing(&key, ToBeSigned::Leaf, &bytes));
    client.sign(Digest::of(&key.spki), ToBeSigned::Leaf, &bytes, &warrant).await.unwrap();
    client.keys().await.unwrap();
    client.records(0).await.unwrap();
    let id = Digest::of(&key.spki);
    let needles = needles(&opened(&holder.path("keys").join(format!("{id}.key"))));
    let mut places = vec![("the socket".to_owned(), seen.lock().unwrap().clone())];
    assert!(places[0].1.len() > 1_000 && holds(&places[0].1, &key.spki), "the tap saw the traffic");
    bytes_below(holder.dir.path(), &mut places);
    let process = holder.process().as_raw_nonzero();
    for name in ["environ", "cmdline"] {
        places.push((name.to_owned(), fs::read(format!("/proc/{process}/{name}")).unwrap()));
    }
    assert!(places.len() >= 8, "{:?}", places.iter().map(|p| &p.0).collect::<Vec<_>>());
    for (place, contents) in &places {
        for needle in &needles {
            assert!(!holds(contents, needle), "{place} holds the key");
        }
        let own = place.ends_with("/passphrase");
        assert_eq!(holds(contents, PASSPHRASE.as_bytes()), own, "{place}");
    }
}

#[tokio::test]
async fn neither_another_user_nor_its_own_can_look_into_it_or_at_its_files() {
    let mut log = GuardianLog::new(1);
    let holder = Holder::start(&log);
    let key = Digest::of(&holder.key(&mut log, "root").await.spki);
    let process = holder.process().as_raw_nonzero();
    let file = holder.path("keys").join(format!("{key}.key")).display().to_string();
    let (memory, maps, environ) =
        (format!("/proc/{process}/mem"), format!("/proc/{process}/maps"), format!("/proc/{process}/environ"));
    // Its own user may read the file, which is encrypted, and nothing of the process.
    for (user, path, may) in [
        ("daemon", &file, false),
        ("daemon", &memory, false),
        ("daemon", &maps, false),
        (USER, &memory, false),
        (USER, &maps, false),
        (USER, &environ, false),
        (USER, &file, true),
    ] {
        let out = as_user(user, &["head", "-c", "1", path]);
        assert_eq!(out.status.success(), may, "{user} {path}: {}", String::from_utf8_lossy(&out.stderr));
    }
    for user in ["daemon", USER] {
        let out = as_user(user, &["strace", "-p", &process.to_string(), "-o", "/dev/null"]);
        assert!(!out.status.success(), "{user} could attach to it");
        assert!(String::from_utf8_lossy(&out.stderr).contains("not permitted"), "{user}");
    }
}

#[tokio::test]
async fn it_says_what_confines_it_and_the_kernel_agrees() {
    let log = GuardianLog::new(1);
    let holder = Holder::with(&log, &["--require-confinement"], &[]);
    let status = holder.client().status().await.unwrap();
    let process = holder.process().as_raw_nonzero();
    assert_eq!(status.process, u32::try_from(process.get()).unwrap());
    let lines: Vec<&str> = status.confinement.iter().map(String::as_str).collect();
    for expected in [
        "no core dumps",
        "memory locked",
        "a user of its own",
        "not dumpable",
        "no new privileges",
        "landlock",
        "seccomp",
    ] {
        assert!(lines.contains(&expected), "{expected} is not among {lines:?}");
    }
    assert!(lines.iter().all(|l| !l.starts_with("missing")), "{lines:?}");
    let seen = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let field = |name: &str| {
        let line = seen.lines().find(|l| l.starts_with(&format!("{name}:"))).unwrap_or_default();
        line.split_ascii_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let own = uid(USER).to_string();
    assert_eq!(field("Uid"), [&*own; 4]);
    assert_eq!((field("NoNewPrivs"), field("Seccomp"), field("Groups")), (vec!["1".into()], vec!["2".into()], vec![]));
    let may_lock = 1_u64 << 14;
    for set in ["CapEff", "CapPrm"] {
        let held = u64::from_str_radix(&field(set)[0], 16).unwrap();
        assert_eq!(held & !may_lock, 0, "{set}");
    }
    let locked: u64 = field("VmLck")[0].parse().unwrap();
    assert!(locked > 1_024, "{locked} KiB are locked");
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    let core = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_ascii_whitespace().rev().take(3).collect::<Vec<_>>(), ["bytes", "0", "0"]);
}

#[test]
fn as_root_without_another_user_it_does_not_start_where_the_whole_confinement_is_wanted() {
    let log = GuardianLog::new(1);
    let holder = Holder::prepared(&log, &[]);
    let keys = holder.path("own");
    let out = Command::new(env!("CARGO_BIN_EXE_keyward"))
        .args(["keyholder", "--require-confinement", "--directory"])
        .arg(&keys)
        .arg("--socket")
        .arg(holder.path("s"))
        .arg("--log-key")
        .arg(holder.path("log.pub"))
        .args(["--passphrase-command", "/bin/echo", PASSPHRASE])
        .output()
        .unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(!out.status.success() && said.contains("missing: a user of its own: it runs as root"), "{said}");
}

#[tokio::test]
async fn a_wrong_short_or_open_passphrase_is_refused() {
    let mut log = GuardianLog::new(1);
    let mut holder = Holder::start(&log);
    holder.key(&mut log, "root").await;
    let path = holder.path("passphrase");
    for (text, mode, why) in [
        ("incorrect horse battery staple\n", 0o600, "does not open with this passphrase"),
        ("short\n", 0o600, "has 5 bytes, expected at least 16"),
        ("two lines of words\nand another\n", 0o600, "more than one line"),
        ("correct horse battery staple\n", 0o644, "neither read nor write"),
    ] {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let said = holder.refuses();
        assert!(said.contains(why) && !said.contains("battery"), "{said}");
    }
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    let said = holder.refuses();
    assert!(said.contains("cannot be opened"), "{said}");
}

#[tokio::test]
async fn the_passphrase_may_come_from_age_or_from_a_credential_of_systemd() {
    let mut log = GuardianLog::new(1);
    let mut holder = Holder::start(&log);
    let key = holder.key(&mut log, "root").await;
    let (identity, sealed) = (holder.path("identity"), holder.path("vault.age"));
    let made = Command::new("age-keygen").arg("-o").arg(&identity).output();
    let made = made.expect("age is not installed: run tests/run");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let recipient = fs::read_to_string(&identity).unwrap();
    let recipient = recipient.lines().find_map(|l| l.strip_prefix("# public key: ")).unwrap().to_owned();
    let out = Command::new("age")
        .args(["-r", &recipient, "-o"])
        .arg(&sealed)
        .arg(holder.path("passphrase"))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    std::os::unix::fs::chown(&identity, Some(uid(USER)), None).unwrap();
    let (identity, sealed) = (identity.display().to_string(), sealed.display().to_string());
    let words = ["--passphrase-command", "age", "--decrypt", "--identity", &identity, &sealed];
    holder.say_instead(&words, None);
    holder.restart();
    assert_eq!(holder.client().keys().await.unwrap(), std::slice::from_ref(&key));
    holder.say_instead(&["--passphrase-command", "/bin/false"], None);
    let said = holder.refuses();
    assert!(said.contains("the passphrase command /bin/false failed"), "{said}");
    let credentials = holder.path("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::rename(holder.path("passphrase"), credentials.join("vault")).unwrap();
    holder.say_instead(&["--passphrase-credential", "vault"], Some(("CREDENTIALS_DIRECTORY", &credentials)));
    holder.restart();
    assert_eq!(holder.client().keys().await.unwrap(), [key]);
    holder.say_instead(&["--passphrase-credential", "../passphrase"], Some(("CREDENTIALS_DIRECTORY", &credentials)));
    let said = holder.refuses();
    assert!(said.contains("is no name of a credential"), "{said}");
}

#[tokio::test]
async fn a_key_file_that_was_changed_is_not_used_and_the_others_are() {
    let mut log = GuardianLog::new(1);
    let mut holder = Holder::start(&log);
    let one = holder.key(&mut log, "one").await;
    let two = holder.key(&mut log, "two").await;
    let file = |spki: &[u8]| holder.path("keys").join(format!("{}.key", Digest::of(spki)));
    let (first, second) = (file(&one.spki), file(&two.spki));
    // Somebody puts one key's file into the place of the other.
    fs::copy(&second, &first).unwrap();
    holder.restart();
    assert!(holder.said().contains("it was changed or renamed"), "{}", holder.said());
    for (key, works) in [(&one, false), (&two, true)] {
        let bytes = leaf_tbs(key, 1, 7);
        let warrant = log.allow(&signing(key, ToBeSigned::Leaf, &bytes));
        let signed = holder.client().sign(Digest::of(&key.spki), ToBeSigned::Leaf, &bytes, &warrant).await;
        assert_eq!(signed.is_ok(), works, "{signed:?}");
    }
}
