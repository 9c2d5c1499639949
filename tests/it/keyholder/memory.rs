//! That keys stay in its memory: no core has them, no other process, no swap, and not the guardian.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use keyward::codec::{sealed, tbs};
use keyward::domain::key::Digest;
use keyward::ports::{HeldKey, KeyHolder as _, ToBeSigned};

use super::secrets::{holds, needles};
use crate::ca::harness::Mesh;
use crate::harness::keyholder::{GuardianLog, Holder, USER, as_user, leaf_tbs, opened, signing};
use crate::harness::life::PATIENCE;
use crate::harness::memory::{mappings, seen_in_memory};

/// Signals by which the kernel leaves a core (signal(7)).
const DUMPING: [(&str, i32); 4] = [("ABRT", 6), ("SEGV", 11), ("QUIT", 3), ("BUS", 7)];

/// In how many forms a key is looked for.
const FORMS: usize = 5;

fn number(holder: &Holder) -> u32 {
    u32::try_from(holder.process().as_raw_nonzero().get()).unwrap()
}

/// A key that has signed.
async fn used(holder: &Holder, log: &mut GuardianLog) -> HeldKey {
    let key = holder.key(log, "root").await;
    let bytes = leaf_tbs(&key, 1, 7);
    let warrant = log.allow(&signing(&key, ToBeSigned::Leaf, &bytes));
    holder.client().sign(Digest::of(&key.spki), ToBeSigned::Leaf, &bytes, &warrant).await.unwrap();
    key
}

fn key_of(holder: &Holder, key: &HeldKey) -> Vec<Vec<u8>> {
    needles(&opened(&holder.path("keys").join(format!("{}.key", Digest::of(&key.spki)))))
}

/// Everything that lies in a directory.
fn lying(dir: &Path) -> Vec<Vec<u8>> {
    fs::read_dir(dir).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect()
}

/// Takes back the limit that it set itself, where root may; whoever may not do that here cannot be helped by it either.
fn raise_core_limit(pid: u32) {
    const SYS_RESOURCE: u32 = 24;
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let held = own.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    let may = u64::from_str_radix(held, 16).unwrap() >> SYS_RESOURCE & 1 == 1;
    let pid = pid.to_string();
    let raised = Command::new("prlimit").args(["--pid", &pid, "--core=unlimited:unlimited"]).output().unwrap();
    assert_eq!(raised.status.success(), may, "{}", String::from_utf8_lossy(&raised.stderr));
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap();
    let words: Vec<&str> = core.split_ascii_whitespace().skip(4).take(2).collect();
    assert_eq!(words, if may { ["unlimited"; 2] } else { ["0"; 2] });
}

#[tokio::test]
async fn no_signal_leaves_a_core_although_the_limits_allow_one() {
    let cores = tempfile::tempdir().unwrap();
    fs::set_permissions(cores.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let here = cores.path().to_str().unwrap();
    let mut log = GuardianLog::new(1);
    let mut secret = Vec::new();
    for (name, signal) in DUMPING {
        let generous = ["/usr/bin/env", "--chdir", here, "prlimit", "--core=unlimited:unlimited"];
        let mut holder = Holder::with(&log, &[], &generous);
        let key = used(&holder, &mut log).await;
        secret = key_of(&holder, &key);
        let pid = number(&holder);
        assert!(seen_in_memory(pid, &secret).contains(&true), "the key is in use, and the search finds it");
        raise_core_limit(pid);
        // What may not be dumped belongs to root, whoever runs it (proc(5)).
        assert_eq!(fs::metadata(format!("/proc/{pid}/mem")).unwrap().uid(), 0);
        // Its own user may send it signals. The first SEGV or BUS goes to Rust's own handler, which looks for a stack that is
        // full, and takes itself away.
        let began = Instant::now();
        while !fs::read_to_string(format!("/proc/{pid}/status")).unwrap().contains("State:\tZ") {
            assert!(began.elapsed() < PATIENCE, "{name} does not end it");
            as_user(USER, &["kill", &format!("-{name}"), &pid.to_string()]);
            std::thread::sleep(Duration::from_millis(20));
        }
        let status = holder.ended();
        assert_eq!((status.signal(), status.core_dumped()), (Some(signal), false), "{name}");
        assert_eq!(lying(cores.path()).len(), 0, "{name} left something");
    }
    // Another program of the same user, which asks for nothing, does leave one.
    let program = "import os, sys\nkey = bytes.fromhex(sys.stdin.readline())\nos.abort()\n";
    let mut control = Command::new("/usr/bin/env")
        .args(["--chdir", here, "prlimit", "--core=unlimited:unlimited", "setpriv", "--reuid", USER, "--clear-groups"])
        .args(["--", "/usr/bin/python3", "-c", program])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let hex: String = secret[0].iter().map(|b| format!("{b:02x}")).collect();
    control.stdin.take().unwrap().write_all(format!("{hex}\n").as_bytes()).unwrap();
    assert!(control.wait().unwrap().core_dumped(), "the kernel leaves no core of anything here");
    // Where the kernel hands cores to a program, that one has it now.
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    if !pattern.contains('/') && !pattern.starts_with('|') {
        assert!(lying(cores.path()).iter().any(|core| holds(core, &secret[0])), "{pattern}");
    }
}

#[tokio::test]
async fn no_way_of_looking_into_another_process_is_open() {
    let mut log = GuardianLog::new(1);
    let holder = Holder::start(&log);
    used(&holder, &mut log).await;
    let peek = include_str!("peek.py");
    let ways = |user: &str, whom: &[&str]| {
        let out = as_user(user, &[&["/usr/bin/python3", "-c", peek], whom].concat());
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{user}: {said}");
        String::from_utf8(out.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let pid = number(&holder).to_string();
    for user in ["daemon", USER] {
        assert_eq!(ways(user, &[&pid]), Vec::<String>::new(), "{user}");
        // All of them work with a process that did not ask for more.
        assert_eq!(ways(user, &[]).len(), 12, "{user}");
    }
}

#[tokio::test]
async fn all_of_its_memory_is_locked_and_nothing_is_swapped() {
    let mut log = GuardianLog::new(1);
    let holder = Holder::start(&log);
    used(&holder, &mut log).await;
    let pid = number(&holder);
    let all = mappings(pid);
    let writable: Vec<_> = all.iter().filter(|m| m.mode.contains('w')).collect();
    let anonymous = |m: &&&_| -> bool {
        let m: &crate::harness::memory::Mapping = m;
        m.what.is_empty() || m.what == "[heap]" || m.what.starts_with("[stack") || m.what.starts_with("[anon")
    };
    // The heap, stacks of its threads, and what the allocator maps.
    assert!(writable.iter().filter(anonymous).count() > 8, "{all:#?}");
    for mapping in &writable {
        assert!(mapping.is("lo"), "it may be swapped: {mapping:?}");
        // What is shared counts by its share.
        assert_eq!((mapping.kib("Locked"), mapping.kib("Swap")), (mapping.kib("Pss"), 0), "{mapping:?}");
    }
    for mapping in writable.iter().filter(anonymous) {
        assert_eq!(mapping.kib("Locked"), mapping.kib("Rss"), "{mapping:?}");
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kib = |name: &str| -> u64 {
        let line = status.lines().find(|l| l.starts_with(&format!("{name}:"))).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
    };
    assert!(kib("VmLck") >= kib("RssAnon") && kib("RssAnon") > 0 && kib("VmSwap") == 0, "{status}");
    // Another process has memory that may be swapped.
    assert!(mappings(std::process::id()).iter().any(|m| m.what == "[heap]" && !m.is("lo")));
}

/// The keys of a daemon's key holder, as they could be seen, and the passphrase.
fn secrets_of(mesh: &Mesh) -> Vec<Vec<u8>> {
    let state = mesh.dir.path().join("state");
    let passphrase = fs::read_to_string(state.join("keyholder.pass")).unwrap();
    let passphrase = passphrase.trim_end().as_bytes().to_vec();
    let mut all = Vec::new();
    for entry in fs::read_dir(state.join("keyholder")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "key") {
            all.extend(needles(&sealed::open(&fs::read_to_string(path).unwrap(), &passphrase).unwrap()));
        }
    }
    all.push(passphrase);
    all
}

#[test]
fn the_guardian_has_no_key_in_its_memory() {
    let mesh = Mesh::made();
    let place = mesh.dir.path();
    mesh.ok(&["ca", "issue", "mesh", "--profile", "workload", "--name", "a.svc.example", "--out", "@"]);
    let serial = crate::harness::pki::openssl(place, &["x509", "-in", "cert.pem", "-noout", "-serial"]);
    mesh.ok(&["ca", "revoke", &serial.trim().trim_start_matches("serial=").to_lowercase()]);
    let secrets = secrets_of(&mesh);
    assert_eq!(secrets.len(), 2 * FORMS + 1, "a root's key, an issuing CA's, and the passphrase");
    let seen = seen_in_memory(mesh.daemon.id(), &secrets);
    assert!(seen.iter().all(|seen| !seen), "{seen:?}");
    // The search finds what is there: the public key of the root, in the guardian; the private ones, where they are used.
    let pem = fs::read(place.join("ca.pem")).unwrap();
    let root = keyward::codec::x509::certificates_from(&pem, &keyward::codec::x509::Limits::ROOTS).unwrap();
    let public = tbs::key_bits(&keyward::codec::x509::public_key(&root[0]).unwrap()).unwrap().to_vec();
    assert_eq!(seen_in_memory(mesh.daemon.id(), &[public]), [true]);
    let holder = mesh.status()["keyholder"]["process"].as_u64().unwrap();
    let seen = seen_in_memory(u32::try_from(holder).unwrap(), &secrets);
    assert!(seen[..FORMS].contains(&true) && seen[FORMS..2 * FORMS].contains(&true), "{seen:?}");
}
