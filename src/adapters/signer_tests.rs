use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::adapters::entropy::OsEntropy;
use crate::codec::note::VerifierKey;

fn open(dir: &Path) -> Result<FileSigner, HostError> {
    FileSigner::open(dir, "keyward/1", Arc::new(OsEntropy))
}

fn in_use(signer: &FileSigner) -> String {
    signer.keys().first().unwrap().text.clone()
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn now<T>(doing: Doing<'_, T>) -> T {
    futures_util::FutureExt::now_or_never(doing).unwrap()
}

#[test]
fn the_key_is_made_once_at_0600_and_signs_the_same_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).unwrap();
    let key: VerifierKey = in_use(&first).parse().unwrap();
    assert_eq!(key.name(), "keyward/1/lease");
    assert_eq!(fs::metadata(dir.path().join(FILE)).unwrap().mode() & 0o7777, 0o600);
    let again = open(dir.path()).unwrap();
    let signed = again.sign(b"bytes").unwrap();
    assert!(
        signed.key == key.id() && key.has_signed(b"bytes", &signed.bytes) && !key.has_signed(b"byte", &signed.bytes)
    );
    assert_eq!(files(dir.path()), [FILE]);
}

#[test]
fn a_rotation_announces_then_uses_then_destroys() {
    let dir = tempfile::tempdir().unwrap();
    let signer = open(dir.path()).unwrap();
    let old = in_use(&signer);
    assert!(now(signer.advance()).unwrap_err().0.contains("no next key is announced"));
    let next = now(signer.announce()).unwrap();
    assert_eq!(now(signer.announce()).unwrap(), next, "announced twice, it is the same");
    assert_eq!((in_use(&signer), signer.keys().len()), (old.clone(), 2));
    // A restart in between changes nothing.
    let signer = open(dir.path()).unwrap();
    assert_eq!((in_use(&signer), signer.keys().last().unwrap().text.clone()), (old.clone(), next.clone()));
    assert_eq!(now(signer.advance()).unwrap(), next);
    assert_eq!((in_use(&signer), signer.keys().len()), (next.clone(), 1));
    assert_eq!(in_use(&open(dir.path()).unwrap()), next);
    assert_eq!(files(dir.path()), [FILE]);
}

#[test]
fn a_rotation_that_was_cut_off_anywhere_has_one_key_after_the_next_start() {
    let start = |steps: &[(&str, &str)]| {
        let dir = tempfile::tempdir().unwrap();
        let signer = open(dir.path()).unwrap();
        let (old, next) = (in_use(&signer), now(signer.announce()).unwrap());
        for (from, to) in steps {
            fs::rename(dir.path().join(from), dir.path().join(to)).unwrap();
        }
        let signer = open(dir.path()).unwrap();
        (in_use(&signer) == old, in_use(&signer) == next, files(dir.path()).len())
    };
    assert_eq!(start(&[]), (true, false, 2));
    assert_eq!(start(&[(FILE, OLD)]), (false, true, 1));
    assert_eq!(start(&[(FILE, OLD), (NEXT, FILE)]), (false, true, 1));
}

#[test]
fn a_key_that_others_can_read_or_of_another_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    let other = FileSigner::open(dir.path(), "keyward/2", Arc::new(OsEntropy)).unwrap_err();
    assert!(other.0.contains("belongs to another log"), "{other}");
    fs::set_permissions(dir.path().join(FILE), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(open(dir.path()).unwrap_err().0.contains("at 0600"));
    fs::remove_file(dir.path().join(FILE)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join(FILE)).unwrap();
    assert!(open(dir.path()).is_err(), "no link is followed");
}
