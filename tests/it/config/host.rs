//! What `keyward check` finds on the machine.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::parse;
use keyward::domain::time::Timestamp;
use keyward::shell::config::{Check, Group, Level, Settings, verify_host};

const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

/// A configuration with everything below `dir`.
fn settings(dir: &Path, more: &str) -> Settings {
    let d = dir.display();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!(
        "state_dir = \"{d}/state\"\n[listen]\nhttp = \"127.0.0.1:{port}\"\ngate_socket = \"{d}/run/gate.sock\"\n\
         [[issuer]]\nid = \"ca\"\ndirectory = \"https://ca.example/dir\"\nterms_agreed = true\n\
         root_files = [\"{d}/root.pem\"]\neab = {{ key_id = \"k\", hmac_file = \"{d}/eab.key\" }}\n\
         [[solver]]\nid = \"dns\"\ntype = \"dns-01\"\nexec = [\"{d}/hook\"]\n\
         [[certificate]]\nid = \"portal\"\nnames = [\"a.example\"]\nissuers = [\"ca\"]\nsolvers = [\"dns\"]\n\
         [[certificate.install]]\ndir = \"{d}/live/portal\"\n{more}"
    );
    parse(&text).unwrap_or_else(|e| panic!("{e}"))
}

/// A directory in which everything is as it should be.
fn good() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str, mode: u32| {
        fs::write(dir.path().join(name), text).unwrap();
        fs::set_permissions(dir.path().join(name), Permissions::from_mode(mode)).unwrap();
    };
    write("root.pem", "-----BEGIN CERTIFICATE-----\n", 0o644);
    write("eab.key", "c2VjcmV0\n", 0o600);
    write("hook", "#!/bin/sh\n", 0o755);
    fs::create_dir(dir.path().join("live")).unwrap();
    fs::create_dir(dir.path().join("state")).unwrap();
    fs::set_permissions(dir.path().join("state"), Permissions::from_mode(0o700)).unwrap();
    dir
}

fn of<'a>(checks: &'a [Check], code: &str) -> Vec<&'a Check> {
    let found: Vec<_> = checks.iter().filter(|c| c.code == code).collect();
    assert!(!found.is_empty(), "{code} says nothing: {checks:#?}");
    found
}

#[test]
fn a_host_in_order_has_a_line_for_each_check_and_no_complaint() {
    let dir = good();
    let checks = verify_host(&settings(dir.path(), ""), NOW);
    let bad: Vec<_> = checks.iter().filter(|c| c.level == Level::Error).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    let mut codes: Vec<_> = checks.iter().map(|c| c.code).collect();
    codes.sort_unstable();
    codes.dedup();
    // Nothing is watched and no owner is named here: those two say nothing.
    assert_eq!(codes.len(), 11, "{codes:?}");
    assert!(checks.iter().all(|c| keyward::shell::explain::explain(c.code).is_some() && !c.text.is_empty()));
    assert!(checks.iter().all(|c| !Group::title(c.group).is_empty()));
}

#[test]
fn nothing_is_left_behind_by_looking() {
    let dir = good();
    let before = fs::read_dir(dir.path()).unwrap().count();
    assert!(!verify_host(&settings(dir.path(), ""), NOW).is_empty());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), before);
}

#[test]
fn each_disorder_is_found_with_a_fix() {
    type Spoil = fn(&Path);
    let rows: [(&str, Level, &str, Spoil); 12] = [
        ("KW0101", Level::Error, "chmod 0700", |p| set(p, "state", 0o770)),
        ("KW0101", Level::Warning, "chmod 0700", |p| set(p, "state", 0o755)),
        ("KW0101", Level::Error, "state_dir", |p| {
            fs::remove_dir(p.join("state")).unwrap();
            fs::write(p.join("state"), "").unwrap();
        }),
        ("KW0103", Level::Error, "ls -l", |p| fs::remove_file(p.join("root.pem")).unwrap()),
        ("KW0103", Level::Error, "chmod 0644", |p| set(p, "root.pem", 0o666)),
        ("KW0103", Level::Error, "openssl", |p| fs::write(p.join("root.pem"), "DER").unwrap()),
        ("KW0104", Level::Error, "install -m 0600", |p| fs::remove_file(p.join("eab.key")).unwrap()),
        ("KW0104", Level::Error, "chmod 0600", |p| set(p, "eab.key", 0o644)),
        ("KW0104", Level::Error, "install -m 0600", |p| fs::write(p.join("eab.key"), " \n").unwrap()),
        ("KW0105", Level::Error, "command -v hook", |p| fs::remove_file(p.join("hook")).unwrap()),
        ("KW0105", Level::Error, "chmod +x", |p| set(p, "hook", 0o644)),
        ("KW0107", Level::Error, "chmod o-w", |p| {
            fs::create_dir_all(p.join("live/portal")).unwrap();
            set(p, "live", 0o777);
        }),
    ];
    for (code, level, fix, spoil) in rows {
        let dir = good();
        let settings = settings(dir.path(), "");
        spoil(dir.path());
        let checks = verify_host(&settings, NOW);
        let found = of(&checks, code);
        assert!(found.iter().any(|c| c.level == level && c.fix.contains(fix)), "{code} {fix}: {found:#?}");
    }
}

fn set(dir: &Path, name: &str, mode: u32) {
    fs::set_permissions(dir.join(name), Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_directory_that_no_installation_makes_is_named_with_its_fix() {
    let dir = good();
    let d = dir.path().display().to_string();
    // Only the last directory of `live/portal` is missing: the installation makes it.
    assert_eq!(of(&verify_host(&settings(dir.path(), ""), NOW), "KW0106")[0].level, Level::Ok);
    let plain = format!("[[certificate.install]]\nfiles = {{ fullchain = \"{d}/none/tls.pem\" }}\n");
    let checks = verify_host(&settings(dir.path(), &plain), NOW);
    let found = of(&checks, "KW0106")[0];
    let names = |c: &Check, missing: &str| c.text.starts_with(missing) && c.fix.ends_with(missing);
    assert!(found.level == Level::Error && names(found, &format!("{d}/none")), "{found:#?}");
    fs::remove_dir(dir.path().join("live")).unwrap();
    let checks = verify_host(&settings(dir.path(), ""), NOW);
    let found = of(&checks, "KW0106")[0];
    assert!(found.level == Level::Error && names(found, &format!("{d}/live")), "{found:#?}");
}

#[test]
fn an_address_in_use_names_who_holds_it() {
    let dir = good();
    let settings = settings(dir.path(), "");
    let held = TcpListener::bind(settings.listen.http).unwrap();
    let checks = verify_host(&settings, NOW);
    drop(held);
    let found = of(&checks, "KW0110")[0];
    let pid = format!("(pid {})", std::process::id());
    assert!(found.level == Level::Error && found.text.contains(&pid) && found.fix.contains("ss -ltnp"), "{found:#?}");
}

#[test]
fn unknown_users_and_groups_are_errors_and_numbers_are_not() {
    let dir = good();
    let account = |owner: &str| {
        let checks = verify_host(&settings(dir.path(), &format!("owner = \"{owner}\"\ngroup = \"0\"\n")), NOW);
        of(&checks, "KW0109").iter().map(|c| c.level).max().unwrap()
    };
    assert_eq!(account("nobody-has-this"), Level::Error);
    assert_ne!(account("root"), Level::Error);
    assert_ne!(account("12345"), Level::Error);
}

#[test]
fn a_file_in_the_place_of_a_socket_and_a_missing_watched_file_are_found() {
    let dir = good();
    fs::create_dir(dir.path().join("run")).unwrap();
    fs::write(dir.path().join("run/gate.sock"), "").unwrap();
    let more = format!("[[observe]]\nid = \"o\"\nfile = \"{}/none.pem\"\n", dir.path().display());
    let checks = verify_host(&settings(dir.path(), &more), NOW);
    assert_eq!(of(&checks, "KW0111")[0].level, Level::Error);
    assert_eq!(of(&checks, "KW0108")[0].level, Level::Warning);
}

#[test]
fn a_directory_in_which_another_could_pose_as_the_gate_is_a_warning() {
    let dir = good();
    let run = dir.path().join("run");
    fs::create_dir_all(&run).unwrap();
    for (mode, level) in [(0o755, Level::Ok), (0o775, Level::Warning), (0o1777, Level::Warning), (0o700, Level::Ok)] {
        fs::set_permissions(&run, fs::Permissions::from_mode(mode)).unwrap();
        let checks = verify_host(&settings(dir.path(), ""), NOW);
        let check = of(&checks, "KW0111")[0];
        assert_eq!(check.level, level, "{mode:o}: {check:?}");
    }
}

#[test]
fn a_clock_before_the_release_is_an_error() {
    let dir = good();
    let checks = verify_host(&settings(dir.path(), ""), Timestamp::from_unix(0));
    assert_eq!(of(&checks, "KW0112")[0].level, Level::Error);
}
