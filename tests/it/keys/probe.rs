//! The probe against real files and real processes.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keyward::adapters::keyprobe::HostKeys;
use keyward::domain::id::{AttemptId, KeyId, Ulid};
use keyward::domain::tracked::{Begins, Holds, KeyClass, KeyPlace, TrackedKey, Turnover};
use keyward::domain::upkeep::Step;
use keyward::ports::{KeyProbe as _, Prints};

use crate::harness::acme::TestEntropy;

fn key(place: KeyPlace, hook: &Path) -> TrackedKey {
    TrackedKey {
        id: KeyId::parse("api").unwrap(),
        class: KeyClass::SymmetricAuthentication,
        owner: None,
        environment: None,
        paths: BTreeSet::new(),
        created: None,
        cryptoperiod: Duration::from_secs(1),
        hard_limit: Duration::from_secs(2),
        place,
        live: None,
        every: Duration::from_secs(1),
        grace: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        turnover: Some(Turnover {
            hook: vec![hook.display().to_string()],
            timeout: Duration::from_secs(1),
            overlap: Duration::ZERO,
            begins: Begins::Asked,
        }),
    }
}

struct Place {
    dir: tempfile::TempDir,
    keys: HostKeys,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let keys = HostKeys::new(dir.path(), Arc::new(TestEntropy));
        Self { dir, keys }
    }

    fn script(&self, text: &str) -> KeyPlace {
        let path = self.dir.path().join("probe");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        KeyPlace::Exec { argv: vec![path.display().to_string()], holds: Holds::Secret }
    }

    fn file(&self, name: &str) -> KeyPlace {
        KeyPlace::File { path: self.dir.path().join(name).display().to_string(), holds: Holds::Secret }
    }

    async fn look(&self, place: KeyPlace) -> Result<keyward::domain::tracked::KeyLook, String> {
        self.keys.look(&key(place, Path::new("/bin/true")), Prints::None).await.map_err(|e| e.0)
    }
}

#[tokio::test]
async fn odd_files_are_errors_and_a_pipe_holds_nobody() {
    let place = Place::new();
    let at = |name: &str| place.dir.path().join(name);
    fs::write(at("good"), "s3cret\n").unwrap();
    fs::set_permissions(at("good"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(at("empty"), "\n \n").unwrap();
    fs::write(at("long"), vec![b'x'; (64 << 10) + 1]).unwrap();
    fs::write(at("open"), "s3cret\n").unwrap();
    fs::set_permissions(at("open"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::create_dir(at("directory")).unwrap();
    std::os::unix::fs::symlink(at("good"), at("link")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap();
    assert!(made.success());
    let good = place.look(place.file("good")).await.unwrap();
    assert_eq!(good.weak, None);
    assert!(good.made.is_some());
    assert_eq!(place.look(place.file("link")).await.unwrap().print, good.print);
    let open = place.look(place.file("open")).await.unwrap();
    assert_eq!(open.print, good.print);
    assert!(open.weak.unwrap().contains("everybody may read"));
    for (name, word) in [
        ("empty", "empty"),
        ("long", "longer than 65536"),
        ("directory", "no regular file"),
        ("pipe", "no regular file"),
        ("missing", "cannot be opened"),
    ] {
        let error = place.look(place.file(name)).await.unwrap_err();
        assert!(error.contains(word) && error.contains(name), "{name}: {error}");
    }
}

#[tokio::test]
async fn commands_are_bounded_in_time_and_output_and_know_nothing_of_our_environment() {
    let place = Place::new();
    let print = place.look(place.script("printf s3cret")).await.unwrap().print;
    fs::write(place.dir.path().join("same"), "s3cret\n").unwrap();
    assert_eq!(place.look(place.file("same")).await.unwrap().print, print, "the same value, wherever it lies");
    for (script, word) in [
        ("exit 3", "exit status: 3"),
        ("echo s3cret; exit 1", "7 bytes, is not kept"),
        ("head -c 70000 /dev/zero | tr '\\0' x", "more than 65536"),
        ("printf ''", "empty"),
        ("kill -9 $$", "signal: 9"),
        ("sleep 60", "killed after 1 s"),
        ("(sleep 60; echo x) & wait", "killed after 1 s"),
    ] {
        let began = Instant::now();
        let error = place.look(place.script(script)).await.unwrap_err();
        assert!(error.contains(word) && !error.contains("s3cret"), "{script}: {error}");
        assert!(began.elapsed() < Duration::from_secs(20), "{script}");
    }
    let variables = place.look(place.script("env | sort | cut -d= -f1 | tr '\\n' ' '")).await;
    let expected = place.look(place.script("printf 'KEYWARD_KEY_ID PATH PWD '")).await;
    assert_eq!(variables.unwrap().print, expected.unwrap().print, "nothing but what it has to know");
    let missing = KeyPlace::Exec { argv: vec!["/nowhere/at/all".to_owned()], holds: Holds::Secret };
    assert!(place.look(missing).await.unwrap_err().contains("cannot be started"));
}

#[tokio::test]
async fn without_the_local_key_nothing_is_compared_and_no_new_one_is_made() {
    let place = Place::new();
    fs::write(place.dir.path().join("good"), "s3cret\n").unwrap();
    let own = key(place.file("good"), Path::new("/bin/true"));
    let print = place.keys.look(&own, Prints::None).await.unwrap().print;
    let again = || HostKeys::new(place.dir.path(), Arc::new(TestEntropy));
    assert_eq!(again().look(&own, Prints::Made).await.unwrap().print, print, "after a restart it is the same");
    let file = place.dir.path().join("prints.key");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(again().look(&own, Prints::Made).await.unwrap_err().0.contains("expected 0600"));
    fs::remove_file(&file).unwrap();
    let error = again().look(&own, Prints::Made).await.unwrap_err().0;
    assert!(error.contains("is gone") && error.contains("backup"), "{error}");
    assert!(!file.exists());
}

#[tokio::test]
async fn a_hook_hands_the_key_on_in_a_file_that_only_it_can_read_and_that_is_wiped() {
    let place = Place::new();
    let hook = place.dir.path().join("hook");
    let text = "#!/bin/sh\n[ $1 = create ] && printf new > \"$KEYWARD_KEY_PENDING\"\nexit 0\n";
    fs::write(&hook, text).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(place.dir.path().join("same"), "new").unwrap();
    let own = key(place.file("same"), &hook);
    let print = place.keys.look(&own, Prints::None).await.unwrap().print;
    let rotation = AttemptId(Ulid::from_bytes([1; 16]));
    let made = place.keys.step(&own, Step::Create, rotation).await.unwrap();
    assert_eq!(made, Some(print));
    assert_eq!(place.keys.step(&own, Step::Set, rotation).await.unwrap(), Some(print), "it is still there");
    let pending = place.dir.path().join("rotations/api/pending");
    assert_eq!(fs::metadata(&pending).unwrap().permissions().mode() & 0o777, 0o600);
    // What is no public key says nothing of one: a private half may be handed on.
    let public = KeyPlace::File { path: "/nowhere".to_owned(), holds: Holds::Public };
    assert_eq!(place.keys.step(&key(public, &hook), Step::Set, rotation).await.unwrap(), None);
    // Whoever holds it open sees the zeros.
    let mut held = fs::File::open(&pending).unwrap();
    place.keys.wipe(&own.id).await.unwrap();
    assert!(!pending.exists() && !pending.parent().unwrap().exists());
    let mut left = Vec::new();
    std::io::Read::read_to_end(&mut held, &mut left).unwrap();
    assert_eq!(left, [0, 0, 0]);
    place.keys.wipe(&own.id).await.unwrap();
}

#[tokio::test]
async fn wiping_touches_nothing_that_has_another_name() {
    let place = Place::new();
    let at = |name: &str| place.dir.path().join(name);
    let hook = at("hook");
    let text = format!(
        "#!/bin/sh\nprintf new > \"$KEYWARD_KEY_PENDING\"\nln \"$KEYWARD_KEY_PENDING\" {0}/live\n\
         ln -s {0}/aim \"$KEYWARD_KEY_PENDING.link\"\nmkfifo \"$KEYWARD_KEY_PENDING.pipe\"\n",
        place.dir.path().display()
    );
    fs::write(at("aim"), "other").unwrap();
    fs::write(&hook, text).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o700)).unwrap();
    let own = key(place.file("live"), &hook);
    fs::write(at("same"), "new").unwrap();
    place.look(place.file("same")).await.unwrap();
    let rotation = AttemptId(Ulid::from_bytes([1; 16]));
    place.keys.step(&own, Step::Finish, rotation).await.unwrap();
    place.keys.wipe(&own.id).await.unwrap();
    assert!(!at("rotations/api").exists());
    assert_eq!(fs::read_to_string(at("live")).unwrap(), "new", "the key in use");
    assert_eq!(fs::read_to_string(at("aim")).unwrap(), "other");
}

#[tokio::test]
async fn what_a_command_leaves_running_ends_with_it() {
    let place = Place::new();
    let file = place.dir.path().join("left");
    let script = format!("sleep 600 >/dev/null & echo $! > {}; echo s3cret", file.display());
    place.look(place.script(&script)).await.unwrap();
    let left = fs::read_to_string(&file).unwrap();
    let stat = format!("/proc/{}/stat", left.trim());
    let end = Instant::now() + Duration::from_secs(20);
    // Gone, or dead and not reaped yet by whoever reaps orphans.
    while fs::read_to_string(&stat).is_ok_and(|text| !text.contains(") Z ")) {
        assert!(Instant::now() < end, "{left} still runs");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
