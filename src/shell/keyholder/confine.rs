//! What the process gives up before it has a key, and after it has opened all that it needs.
//!
//! ```text
//! begin:   no core, memory locked, another user, not dumpable, no new privileges
//!          (passphrase, directory, keys, socket)
//! finish:  no capabilities, Landlock, seccomp
//! ```
//!
//! All of it while there is one thread: what the kernel takes from a thread, threads that it starts later lack too.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope,
};
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_keep_capabilities, set_no_new_privs,
};

use super::calls;

/// Descriptors: connections, files, and as many again.
const MOST_FILES: u64 = 256;

/// What confines the process, and what of it could not be had.
#[derive(Clone, Debug, Default)]
pub(super) struct Confinement {
    have: Vec<String>,
    missing: Vec<String>,
}

impl Confinement {
    fn note(&mut self, what: &str, done: Result<(), String>) {
        match done {
            Ok(()) => self.have.push(what.to_owned()),
            Err(why) => self.missing.push(format!("missing: {what}: {why}")),
        }
    }

    /// What is missing.
    pub(super) fn missing(&self) -> &[String] {
        &self.missing
    }

    /// For people: what there is, and then what is missing.
    pub(super) fn lines(&self) -> Vec<String> {
        self.have.iter().chain(&self.missing).map(|line| line.chars().take(200).collect()).collect()
    }
}

/// A user to become, with the groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Before anything is opened.
pub(super) fn begin(account: Option<Account>, group: Option<u32>) -> Result<Confinement, String> {
    one_thread()?;
    let mut confinement = Confinement::default();
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    confinement.note("no core dumps", setrlimit(Resource::Core, none).map_err(text));
    let files = Rlimit { current: Some(MOST_FILES), maximum: Some(MOST_FILES) };
    setrlimit(Resource::Nofile, files).map_err(|e| format!("the limit of open files cannot be set: {e}"))?;
    confinement.note("memory locked", lock_memory());
    if let Some(account) = account {
        become_user(account, group)?;
    }
    let root = rustix::process::geteuid().is_root();
    let own = if root { Err("it runs as root: give --user NAME".to_owned()) } else { Ok(()) };
    confinement.note("a user of its own", own);
    // A change of user makes a process dumpable by root or not at all, as the kernel is set, so this comes after it.
    confinement.note("not dumpable", set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(text));
    confinement.note("no new privileges", set_no_new_privs(true).map_err(text));
    Ok(confinement)
}

/// After everything is opened. `paths` is what stays within reach.
pub(super) fn finish(mut confinement: Confinement, paths: &[PathBuf]) -> Result<Confinement, String> {
    one_thread()?;
    let kept = kept();
    let what = if kept.is_empty() { "no capabilities" } else { "no capabilities but to lock memory" };
    confinement.note(what, give_up(kept));
    match landlock(paths) {
        Ok(what) => confinement.note(what, Ok(())),
        Err(why) => confinement.note("landlock", Err(why)),
    }
    confinement.note("seccomp", calls::allow());
    Ok(confinement)
}

fn text(error: rustix::io::Errno) -> String {
    std::io::Error::from(error).to_string()
}

/// A second thread would keep what this one gives up.
fn one_thread() -> Result<(), String> {
    let threads = std::fs::read_dir("/proc/self/task").map_err(|e| format!("/proc/self/task cannot be read: {e}"))?;
    match threads.count() {
        1 => Ok(()),
        count => Err(format!("there are {count} threads while privileges are given up; expected one")),
    }
}

/// Now and for all that is still to come, as it is touched: stacks are reserved in megabytes and used in kilobytes.
fn lock_memory() -> Result<(), String> {
    // Only who may, raises it beyond its bound; others raise it as far as that.
    let bound = getrlimit(Resource::Memlock).maximum;
    for limit in [None, bound] {
        if setrlimit(Resource::Memlock, Rlimit { current: limit, maximum: limit }).is_ok() {
            break;
        }
    }
    let limit = getrlimit(Resource::Memlock).current;
    // Below it every allocation that no longer fits would end the process in the midst of its work.
    if limit.is_some_and(|bytes| bytes < ENOUGH) && !may_lock() {
        let kib = limit.unwrap_or(0).checked_div(1_024).unwrap_or(0);
        return Err(format!("{kib} KiB may be locked: set LimitMEMLOCK=infinity, or start it as root with --user"));
    }
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT).map_err(text)
}

/// The program, 64 stacks and all buffers are reserved in less.
const ENOUGH: u64 = 1 << 30;

fn may_lock() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK))
}

/// What stays of the capabilities: none, or the one to lock memory where the limit cannot be raised.
fn kept() -> CapabilitySet {
    let bounded = getrlimit(Resource::Memlock).current.is_some_and(|bytes| bytes < ENOUGH);
    if bounded && may_lock() { CapabilitySet::IPC_LOCK } else { CapabilitySet::empty() }
}

fn give_up(kept: CapabilitySet) -> Result<(), String> {
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(text)
}

/// Only this thread, and it is the only one.
fn become_user(account: Account, group: Option<u32>) -> Result<(), String> {
    use rustix::process::{Gid, Uid};
    let said = |what: &'static str| move |e| format!("{what} cannot be given up: {}", text(e));
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    if uid.is_root() {
        return Err("--user names root, whose rights are what it is meant to give up".to_owned());
    }
    let kept = kept();
    if !kept.is_empty() {
        set_keep_capabilities(true).map_err(said("some capabilities"))?;
    }
    let groups: Vec<Gid> = group.into_iter().map(Gid::from_raw).collect();
    rustix::thread::set_thread_groups(&groups).map_err(said("the groups of the starting user"))?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(said("the group of the starting user"))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(said("the starting user"))?;
    give_up(kept)?;
    let back = rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT);
    if back.is_ok() || rustix::process::getuid() != uid || rustix::process::geteuid() != uid {
        return Err("the starting user could be had back: the kernel did not give it up".to_owned());
    }
    Ok(())
}

/// Files below these paths, and nothing else of the file system; no TCP; no signals and no abstract sockets to outside.
fn landlock(paths: &[PathBuf]) -> Result<&'static str, String> {
    let said = |e: &dyn core::fmt::Display| e.to_string();
    let abi = ABI::V6;
    let files = AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::MakeReg
        | AccessFs::RemoveFile
        | AccessFs::Truncate;
    let rules = Ruleset::default().set_compatibility(CompatLevel::BestEffort);
    let rules = rules.handle_access(AccessFs::from_all(abi)).map_err(|e| said(&e))?;
    let rules = rules.handle_access(AccessNet::from_all(abi)).map_err(|e| said(&e))?;
    let rules = rules.scope(Scope::from_all(abi)).map_err(|e| said(&e))?;
    let mut rules = rules.create().map_err(|e| said(&e))?;
    for path in paths {
        let opened = PathFd::new(path).map_err(|e| said(&e))?;
        let access = if path.is_dir() { files } else { files & AccessFs::from_file(abi) };
        rules = rules.add_rule(PathBeneath::new(opened, access)).map_err(|e| said(&e))?;
    }
    match rules.restrict_self().map_err(|e| said(&e))?.ruleset {
        RulesetStatus::FullyEnforced => Ok("landlock"),
        RulesetStatus::PartiallyEnforced => Ok("landlock, as far as this kernel has it"),
        RulesetStatus::NotEnforced => Err("this kernel has none".to_owned()),
    }
}

/// The user and group numbers of a name in /etc/passwd, or of a number there.
pub(super) fn account(name: &str) -> Result<Account, String> {
    let table = read_table("/etc/passwd")?;
    let found = crate::codec::accounts::account_in(&table, name);
    found.map(|(uid, gid)| Account { uid, gid }).ok_or_else(|| format!("the user {name:?} is not in /etc/passwd"))
}

/// The number of a user: as such, or by name.
pub(super) fn user(name: &str) -> Result<u32, String> {
    name.parse().map_or_else(|_| account(name).map(|a| a.uid), Ok)
}

/// The number of a group: as such, or by name.
pub(super) fn group(name: &str) -> Result<u32, String> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let table = read_table("/etc/group")?;
    crate::codec::accounts::number_in(&table, name).ok_or_else(|| format!("the group {name:?} is not in /etc/group"))
}

fn read_table(path: &str) -> Result<String, String> {
    std::fs::read_to_string(Path::new(path)).map_err(|e| format!("{path} cannot be read: {e}"))
}
