//! Users and groups that files are given to.

use std::collections::BTreeMap;
use std::io::Read as _;

use super::{Found, Group, Report, sh};
use crate::shell::config::settings::Settings;

/// More of an account file is not read: a hundred thousand accounts fit.
const LONGEST_FILE: u64 = 8 * 1_024 * 1_024;

pub(super) fn known(report: &mut Report, settings: &Settings) {
    let (users, groups) = (accounts("/etc/passwd"), accounts("/etc/group"));
    let installs: Vec<_> =
        settings.estate.credentials.values().filter_map(|c| c.managed()).flat_map(|m| &m.installs).collect();
    let mut found = Found::default();
    let mut names: BTreeMap<(&str, &str), Option<u32>> = BTreeMap::new();
    for install in &installs {
        if let Some(owner) = &install.owner {
            names.insert(("user", owner), id(&users, owner));
        }
        if let Some(group) = &install.group {
            names.insert(("group", group), id(&groups, group));
        }
    }
    if let Some(group) = settings.listen.gate_socket.as_ref().and_then(|g| g.group.as_ref()) {
        names.insert(("group", group), id(&groups, group));
    }
    let euid = rustix::process::geteuid();
    let mut own_groups = rustix::process::getgroups().unwrap_or_default();
    own_groups.push(rustix::process::getegid());
    for ((kind, name), number) in &names {
        let (file, tool, database) =
            if *kind == "user" { ("/etc/passwd", "useradd", "passwd") } else { ("/etc/group", "groupadd", "group") };
        match number {
            None => {
                let fix = format!(
                    "sudo {tool} --system {0}; or write the number that `getent {database} {0} | cut -d: -f3` prints",
                    sh(name)
                );
                found.error(format!("there is no {kind} {name} in {file}"), fix);
            }
            Some(_) if euid.is_root() => {}
            Some(number) if *kind == "user" && *number != euid.as_raw() => {
                let text = format!("files can be given to the user {name} only with CAP_CHOWN");
                found.warning(text, "systemd: AmbientCapabilities=CAP_CHOWN; or leave `owner` out and use `group`");
            }
            Some(number) if *kind == "group" && !own_groups.iter().any(|g| g.as_raw() == *number) => {
                let text = format!("files can be given to the group {name} only by one of its members");
                found.warning(text, format!("sudo usermod -aG {} \"$(id -un)\"", sh(name)));
            }
            Some(_) => {}
        }
    }
    report.put_counted(
        "KW0109",
        Group::Files,
        found,
        names.len(),
        format!("{} users and groups are known", names.len()),
    );
}

fn id(accounts: &BTreeMap<String, u32>, name: &str) -> Option<u32> {
    name.parse().ok().or_else(|| accounts.get(name).copied())
}

/// Names and numbers of passwd(5) or group(5).
fn accounts(path: &str) -> BTreeMap<String, u32> {
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|f| f.take(LONGEST_FILE).read_to_string(&mut text));
    if read.is_err() {
        return BTreeMap::new();
    }
    let line = |l: &str| {
        let mut fields = l.split(':');
        let name = fields.next()?.to_owned();
        Some((name, fields.nth(1)?.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}
