//! Directories, files and programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};

use super::{Found, Group, Report, sh};
use crate::domain::inventory::{Care, Layout, ReloadHow, Source};
use crate::shell::config::settings::{DnsUpdate, HttpChallenge, Settings, SolverKind};

/// Below 64 MiB the next audit entries or a WAL may not fit; below 512 MiB somebody should look.
const LEAST_SPACE: u64 = 64 * 1_024 * 1_024;
const LITTLE_SPACE: u64 = 512 * 1_024 * 1_024;
/// Secrets and roots are small; no more of a file is looked at.
const LONGEST_LOOK: u64 = 1_024 * 1_024;

/// What the deployer makes of a path, for people.
const MADE: &str = "only the last directory of a `dir`, nothing above it and nothing for single `files`";

pub(super) fn state(report: &mut Report, settings: &Settings) {
    let dir = settings.state_dir.as_path();
    let mut found = Found::default();
    let own = rustix::process::geteuid().as_raw();
    match fs::metadata(dir) {
        Ok(meta) if !meta.is_dir() => {
            found.error(
                format!("{} is no directory", dir.display()),
                format!("ls -l {}; set another state_dir", sh(dir)),
            );
        }
        Ok(meta) => {
            if meta.uid() != own {
                let text = format!("{} belongs to user {}, and this runs as {own}", dir.display(), meta.uid());
                found.error(text, format!("sudo chown -R {own} {}", sh(dir)));
            } else if meta.mode() & 0o022 != 0 {
                let text = format!("{} may be written by others (mode {:04o})", dir.display(), meta.mode() & 0o7777);
                found.error(text, format!("chmod 0700 {}", sh(dir)));
            } else if meta.mode() & 0o055 != 0 {
                let text = format!("{} may be read by others (mode {:04o})", dir.display(), meta.mode() & 0o7777);
                found.warning(text, format!("chmod 0700 {}", sh(dir)));
            } else if !may(dir, Access::WRITE_OK) {
                let text = format!("{} cannot be written (read-only?)", dir.display());
                found.error(text, format!("findmnt -T {}; sudo mount -o remount,rw …", sh(dir)));
            }
        }
        Err(_) => not_there_yet(&mut found, dir, "0700"),
    }
    report.put("KW0101", Group::State, found, format!("{} is this user's own, or can be made", dir.display()));
    space(report, dir);
}

/// A directory that is still to be made: the nearest one above it must let us.
fn not_there_yet(found: &mut Found, dir: &Path, mode: &str) {
    let above = existing(dir);
    if !may(&above, Access::WRITE_OK) {
        let text = format!("{} does not exist, and {} cannot be written", dir.display(), above.display());
        found.error(text, format!("sudo install -d -m {mode} -o \"$(id -u)\" -g \"$(id -g)\" {}", sh(dir)));
    }
}

fn space(report: &mut Report, dir: &Path) {
    let mut found = Found::default();
    let above = existing(dir);
    let mut text = "free space could not be read".to_owned();
    match rustix::fs::statvfs(&above) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            text = format!("{} MiB are free at {}", free / (1_024 * 1_024), above.display());
            let fix = format!("df -h {}; make room or move state_dir", sh(&above));
            if free < LEAST_SPACE || (stat.f_files > 0 && stat.f_favail < 64) {
                found.error(
                    format!("{text}: the audit log would soon stop all work (64 MiB and 64 inodes at least)"),
                    fix,
                );
            } else if free < LITTLE_SPACE {
                found.warning(format!("{text}: little (512 MiB are comfortable)"), fix);
            }
        }
        Err(e) => found
            .warning(format!("free space at {} cannot be read: {e}", above.display()), format!("df -h {}", sh(&above))),
    }
    report.put("KW0102", Group::State, found, text);
}

pub(super) fn secrets(report: &mut Report, settings: &Settings) {
    let roots: BTreeSet<&Path> = settings.issuers.iter().flat_map(|i| &i.root_files).map(PathBuf::as_path).collect();
    let mut found = Found::default();
    for path in &roots {
        match look(path) {
            Err(e) => found.error(format!("roots {}: {e}", path.display()), format!("ls -l {}", sh(path))),
            Ok((meta, _)) if meta.mode() & 0o022 != 0 => {
                let text =
                    format!("roots {} may be changed by others (mode {:04o})", path.display(), meta.mode() & 0o7777);
                found.error(text, format!("sudo chmod 0644 {}", sh(path)));
            }
            Ok((_, bytes)) if !String::from_utf8_lossy(&bytes).contains("-----BEGIN CERTIFICATE-----") => {
                let text = format!("roots {} hold no PEM certificate", path.display());
                found.error(text, format!("openssl x509 -inform DER -in {0} -out {0}.pem", sh(path)));
            }
            Ok(_) => {}
        }
    }
    report.put_counted(
        "KW0103",
        Group::Secrets,
        found,
        roots.len(),
        format!("{} root files are readable", roots.len()),
    );

    let secrets = secret_files(settings);
    let mut found = Found::default();
    for (path, what) in &secrets {
        let shown = path.display();
        match look(path) {
            Err(e) => {
                let fix = format!("install -m 0600 /dev/stdin {} # then paste it and press Ctrl-D", sh(path));
                found.error(format!("{what} {shown}: {e}"), fix);
            }
            Ok((meta, _)) if meta.mode() & 0o007 != 0 => {
                let text = format!("{what} {shown} is open to everybody (mode {:04o})", meta.mode() & 0o7777);
                found.error(text, format!("chmod 0600 {}; then replace the secret, for it may be known", sh(path)));
            }
            Ok((meta, _)) if meta.mode() & 0o020 != 0 => {
                let text = format!("{what} {shown} may be changed by its group (mode {:04o})", meta.mode() & 0o7777);
                found.warning(text, format!("chmod 0600 {}", sh(path)));
            }
            Ok((_, bytes)) if bytes.iter().all(u8::is_ascii_whitespace) => {
                found.error(format!("{what} {shown} is empty"), format!("install -m 0600 /dev/stdin {}", sh(path)));
            }
            Ok(_) => {}
        }
    }
    report.put_counted(
        "KW0104",
        Group::Secrets,
        found,
        secrets.len(),
        format!("{} secret files are readable, and not by others", secrets.len()),
    );
}

fn secret_files(settings: &Settings) -> BTreeMap<PathBuf, &'static str> {
    let mut files = BTreeMap::new();
    for eab in settings.issuers.iter().filter_map(|i| i.eab.as_ref()) {
        files.insert(eab.hmac_file.clone(), "the binding key");
    }
    for directory in &settings.directories {
        files.extend(directory.keys.iter().map(|(_, file)| (file.clone(), "an external account key")));
    }
    for solver in &settings.solvers {
        if let SolverKind::Dns01 { update, .. } = &solver.kind {
            match update {
                DnsUpdate::Rfc2136 { tsig_secret_file, .. } => files.insert(tsig_secret_file.clone(), "the TSIG key"),
                DnsUpdate::Webhook { secret_file, .. } => files.insert(secret_file.clone(), "the webhook's key"),
                DnsUpdate::Exec { .. } => None,
            };
        }
    }
    for file in settings.estate.watches.values().filter_map(|w| w.password_file.as_ref()) {
        files.insert(PathBuf::from(file), "the PKCS#12 password");
    }
    for credential in settings.estate.credentials.values() {
        match &credential.care {
            Care::Managed(managed) => {
                for file in managed.installs.iter().filter_map(|i| i.pkcs12_password_file.as_ref()) {
                    files.insert(PathBuf::from(file), "the PKCS#12 password");
                }
            }
            Care::Observed(Source::File { password_file: Some(file), .. }) => {
                files.insert(PathBuf::from(file), "the PKCS#12 password");
            }
            Care::Observed(_) => {}
        }
    }
    files
}

pub(super) fn programs(report: &mut Report, settings: &Settings) {
    let mut programs: BTreeSet<&Path> = BTreeSet::new();
    let mut units: BTreeSet<&str> = BTreeSet::new();
    let mut pid_files: BTreeSet<&Path> = BTreeSet::new();
    for solver in &settings.solvers {
        if let SolverKind::Dns01 { update: DnsUpdate::Exec { argv, .. }, .. } = &solver.kind {
            programs.extend(argv.first().map(Path::new));
        }
    }
    let reloads = settings.estate.credentials.values().filter_map(|c| c.managed()?.reload.as_ref());
    for reload in reloads.filter(|r| settings.sandbox_dir.is_none() || r.in_staging) {
        match &reload.how {
            ReloadHow::Exec(argv) => programs.extend(argv.first().map(Path::new)),
            ReloadHow::Systemd(unit) => _ = units.insert(unit),
            ReloadHow::Signal { pid_file, .. } => _ = pid_files.insert(Path::new(pid_file)),
        }
    }
    let mut found = Found::default();
    for program in &programs {
        let shown = program.display();
        match fs::metadata(program) {
            Err(e) => {
                let name = program.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
                found.error(format!("the program {shown}: {e}"), format!("command -v {}", sh(name)));
            }
            Ok(meta) if !meta.is_file() => {
                found.error(format!("{shown} is no program"), format!("ls -ld {}", sh(program)))
            }
            Ok(_) if !may(program, Access::EXEC_OK) => {
                found.error(format!("{shown} may not be executed by this user"), format!("chmod +x {}", sh(program)));
            }
            Ok(meta) if meta.mode() & 0o002 != 0 => {
                let text = format!("{shown} may be changed by everybody, and would run as this user");
                found.error(text, format!("sudo chmod o-w {}", sh(program)));
            }
            Ok(_) => {}
        }
    }
    if !units.is_empty() && !Path::new("/run/systemd/system").is_dir() {
        let names: Vec<&str> = units.iter().copied().take(5).collect();
        let fix = "use `exec` or `signal` in [certificate.reload]; systemd does not run here";
        found.error(format!("systemd is to reload {}, and it does not run here", names.join(", ")), fix);
    }
    for file in &pid_files {
        if !file.is_file() {
            let text = format!("the pid file {} is not there: does its server run?", file.display());
            found.warning(text, format!("ls -l {}", sh(file)));
        }
    }
    let count = programs.len().saturating_add(units.len()).saturating_add(pid_files.len());
    report.put_counted(
        "KW0105",
        Group::Programs,
        found,
        count,
        format!("{count} programs, units and pid files are usable"),
    );
}

pub(super) fn installs(report: &mut Report, settings: &Settings) {
    // With whether the installation makes it itself, should it be missing: the last directory of a versioned set, and no
    // other.
    let mut dirs: BTreeMap<PathBuf, bool> = BTreeMap::new();
    let installs = settings.estate.credentials.values().filter_map(|c| c.managed()).flat_map(|m| &m.installs);
    // In staging all of them lie in the sandbox, which is part of the state.
    for install in installs.filter(|_| settings.sandbox_dir.is_none()) {
        match &install.layout {
            Layout::Versioned { dir, .. } => *dirs.entry(PathBuf::from(dir)).or_default() = true,
            Layout::Plain { files } => files.values().filter_map(|f| Path::new(f).parent()).for_each(|dir| {
                dirs.entry(dir.to_path_buf()).or_default();
            }),
        }
    }
    let webroots = settings.solvers.iter().filter_map(|s| match &s.kind {
        SolverKind::Http01(HttpChallenge::Webroot(dir)) => Some(dir),
        SolverKind::Http01(HttpChallenge::Listen(_)) | SolverKind::TlsAlpn01 { .. } | SolverKind::Dns01 { .. } => None,
    });
    let mut usable = Found::default();
    let mut open = Found::default();
    let mut open_dirs = BTreeMap::new();
    for (dir, made) in &dirs {
        match fs::metadata(dir) {
            Ok(meta) if !meta.is_dir() => {
                usable.error(format!("{} is no directory", dir.display()), format!("ls -ld {}", sh(dir)));
            }
            Ok(_) if !may(dir, Access::WRITE_OK) => {
                let fix = format!("sudo chown \"$(id -u)\" {0} && chmod 0755 {0}", sh(dir));
                usable.error(format!("{} cannot be written by this user", dir.display()), fix);
            }
            Ok(_) => {}
            Err(_) => {
                let missing = if *made { dir.parent().filter(|above| !above.is_dir()) } else { Some(dir.as_path()) };
                match missing {
                    Some(missing) => {
                        let text = format!("{} does not exist; an installation makes {MADE}", missing.display());
                        let own = "-o \"$(id -u)\" -g \"$(id -g)\"";
                        usable.error(text, format!("sudo install -d -m 0755 {own} {}", sh(missing)));
                    }
                    None => not_there_yet(&mut usable, dir, "0755"),
                }
            }
        }
        if let Some(above) = writable_by_all(dir, &mut open_dirs) {
            let text = format!("everybody may change {}, and so swap the files in {}", above.display(), dir.display());
            open.error(text, format!("sudo chmod o-w {}", sh(&above)));
        }
    }
    for dir in webroots {
        if !dir.is_dir() || !may(dir, Access::WRITE_OK) {
            let text = format!("the webroot {} is not there or cannot be written", dir.display());
            usable.error(text, format!("sudo install -d -o \"$(id -u)\" {}/.well-known/acme-challenge", sh(dir)));
        }
    }
    report.put_counted(
        "KW0106",
        Group::Files,
        usable,
        dirs.len(),
        format!("{} install directories are there, or can be made", dirs.len()),
    );
    report.put_counted(
        "KW0107",
        Group::Files,
        open,
        dirs.len(),
        "no install directory is open to everybody".to_owned(),
    );
}

/// The first directory on the way up that everybody may write, unless its sticky bit protects the names in it.
fn writable_by_all(dir: &Path, known: &mut BTreeMap<PathBuf, bool>) -> Option<PathBuf> {
    dir.ancestors()
        .find(|above| {
            let open = || fs::metadata(above).is_ok_and(|m| m.mode() & 0o1002 == 0o0002);
            *known.entry(above.to_path_buf()).or_insert_with(open)
        })
        .map(Path::to_path_buf)
}

pub(super) fn watched(report: &mut Report, settings: &Settings) {
    let mut found = Found::default();
    let mut count = 0_usize;
    for credential in settings.estate.credentials.values() {
        if let Care::Observed(Source::File { path, .. }) = &credential.care {
            count = count.saturating_add(1);
            if let Err(e) = look(Path::new(path)) {
                let text = format!("the watched file {path} of {}: {e}; its paths stay closed", credential.id);
                found.warning(text, format!("ls -l {}", sh(path)));
            }
        }
    }
    report.put_counted("KW0108", Group::Files, found, count, format!("{count} watched files are readable"));
}

/// What stands in a file, as far as it can be told with a bounded look.
fn look(path: &Path) -> std::io::Result<(Metadata, Vec<u8>)> {
    // A pipe or device in the place of a file would hang the open.
    if !fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("is no file"));
    }
    let file = fs::File::open(path)?;
    let meta = file.metadata()?;
    let mut bytes = Vec::new();
    file.take(LONGEST_LOOK).read_to_end(&mut bytes)?;
    Ok((meta, bytes))
}

/// The nearest directory above that exists; the path itself if it does.
pub(super) fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/")).to_path_buf()
}

/// Whether this process may.
pub(super) fn may(path: &Path, access: Access) -> bool {
    rustix::fs::accessat(CWD, path, access, AtFlags::EACCESS).is_ok()
}
