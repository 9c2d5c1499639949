//! `[[certificate.install]]` and `[certificate.reload]`: where the files go, and what makes the server take them.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{scalar, solver};
use crate::domain::inventory::{Format, Install, Layout, Reload, ReloadHow};
use crate::shell::config::diagnostic::{Problems, Span, quoted};
use crate::shell::config::raw::{At, Pairs, Section, Wrong, understood};

const MOST_INSTALLS: usize = 32;
/// A reload that takes longer than ten minutes hangs.
const RELOAD_TIMEOUT: core::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);

/// Signals that servers reload by. The numbers are those of Linux, the same on all its 64-bit machines but MIPS.
const SIGNALS: [(i32, &str); 4] = [(1, "HUP"), (10, "USR1"), (12, "USR2"), (28, "WINCH")];

/// Every path that some certificate installs, to find those that two would write.
#[derive(Debug, Default)]
pub(super) struct Places {
    claims: BTreeMap<PathBuf, Claim>,
}

#[derive(Debug)]
struct Claim {
    span: Span,
    whole_directory: bool,
}

impl Places {
    fn claim(&mut self, p: &mut Problems, path: &At<String>, whole_directory: bool, state_dir: Option<&Path>) {
        let own = PathBuf::from(&path.value);
        if state_dir.is_some_and(|state| own.starts_with(state) || (whole_directory && state.starts_with(&own))) {
            let mend = "install outside of `state_dir`: servers must never get a reason to read there";
            let what = format!("{} lies in, or holds, the state directory", quoted(&path.value));
            p.add("KW0040", &path.span, what, "inside the state", mend);
            return;
        }
        if let Some(first) = self.claims.get(&own) {
            let mend = "give each certificate its own files: the later renewal would overwrite the earlier";
            let what = format!("{} is installed twice", quoted(&path.value));
            p.add_with("KW0040", &path.span, what, "second time", mend, (&first.span, "first time"));
            return;
        }
        self.claims.insert(own, Claim { span: path.span.clone(), whole_directory });
    }

    /// Finds files and directories inside a directory that belongs to another install. Paths sort by their parts, so
    /// whatever lies in a directory follows it.
    pub(super) fn check_nesting(&self, p: &mut Problems) {
        let mut outer: Option<(&PathBuf, &Claim)> = None;
        for (path, claim) in &self.claims {
            match outer {
                Some((dir, owner)) if path.starts_with(dir) => {
                    let mend = "install beside it: that directory is swapped and cleaned up as a whole";
                    let what = format!("{} lies inside another install's `dir`", quoted(&path.to_string_lossy()));
                    p.add_with("KW0040", &claim.span, what, "inside", mend, (&owner.span, "this directory"));
                }
                _ => outer = claim.whole_directory.then_some((path, claim)),
            }
        }
    }
}

pub(super) fn read_all(
    p: &mut Problems,
    s: &mut Section<'_>,
    places: &mut Places,
    state_dir: Option<&Path>,
) -> Vec<Install> {
    let sections = s.sections(p, "install", "[[certificate.install]]", MOST_INSTALLS);
    sections.into_iter().filter_map(|section| read(p, section, places, state_dir)).collect()
}

fn read(p: &mut Problems, mut s: Section<'_>, places: &mut Places, state_dir: Option<&Path>) -> Option<Install> {
    let dir = s.parsed(p, "dir", "\"/etc/keyward/live/portal\"", scalar::path);
    let formats = s.words(p, "formats", &Format::ALL.map(|(format, name, _)| (format, name)));
    let files = s.pairs(p, "files", Format::ALL.len(), "{ fullchain = \"/etc/nginx/portal.pem\" }");
    let layout = layout(p, &s, dir, formats, files, places, state_dir);
    let owner = s.parsed(p, "owner", "\"root\"", scalar::account);
    let group = s.parsed(p, "group", "\"www-data\"", scalar::account);
    let secret = "a private key is for its owner, and at most readable for one group";
    let key_mode = s.parsed(p, "key_mode", "\"0640\"", |t| {
        scalar::mode(t, 0o640, 0o400, secret)
            .map_err(|w| Wrong { code: if w.what.starts_with("cannot") { "KW0045" } else { w.code }, ..w })
    });
    let public = "a certificate is read by all if you like, but written by its owner only, and never executed";
    let cert_mode = s.parsed(p, "cert_mode", "\"0644\"", |t| scalar::mode(t, 0o644, 0o400, public));
    let password = s.parsed(p, "pkcs12_password_file", "\"/etc/keyward/p12.pass\"", scalar::path);
    let has_password = s.has("pkcs12_password_file");
    let at = s.at.clone();
    s.close(p);
    let layout = layout?;
    let pkcs12 = match &layout {
        Layout::Versioned { formats, .. } => formats.contains(&Format::Pkcs12),
        Layout::Plain { files } => files.contains_key(&Format::Pkcs12),
    };
    if pkcs12 && !has_password {
        let mend = "add pkcs12_password_file = \"/path/of/a/file\" that holds the password on its first line";
        p.add("KW0042", &at, "the format pkcs12 needs a password file", "`pkcs12_password_file` is missing", mend);
    }
    if !pkcs12 && has_password {
        let span = password.as_ref().map_or(at, |f| f.span.clone());
        let mend = "add the format \"pkcs12\", or remove the password file";
        p.add("KW0042", &span, "`pkcs12_password_file` without the format pkcs12", "for what?", mend);
    }
    Some(Install {
        layout,
        owner: owner.map(|o| o.value),
        group: group.map(|g| g.value),
        key_mode: key_mode.map_or(0o600, |m| m.value),
        cert_mode: cert_mode.map_or(0o644, |m| m.value),
        pkcs12_password_file: password.map(|f| f.value),
    })
}

fn layout(
    p: &mut Problems,
    s: &Section<'_>,
    dir: Option<At<String>>,
    formats: Option<At<Vec<At<Format>>>>,
    files: Option<At<Pairs<'_>>>,
    places: &mut Places,
    state_dir: Option<&Path>,
) -> Option<Layout> {
    let way = |p: &mut Problems, what: &str, label: &str| {
        let mend =
            "write dir = \"…\" with formats = [\"fullchain\", \"key\"], or files = { fullchain = \"…\", key = \"…\" }";
        p.add("KW0041", &s.at, what, label, mend);
    };
    match (s.has("dir"), s.has("files")) {
        (true, true) => way(p, "`dir` and `files` contradict each other", "both are here"),
        (false, false) => way(p, "an install needs `dir` or `files`", "neither is here"),
        (false, true) if s.has("formats") => {
            way(p, "`formats` goes with `dir`; `files` names its formats itself", "here")
        }
        (true, false) => {
            let dir = dir?;
            places.claim(p, &dir, true, state_dir);
            if let Some(formats) = formats.as_ref().filter(|f| f.value.is_empty()) {
                p.add(
                    "KW0041",
                    &formats.span,
                    "`formats` names nothing to write",
                    "empty",
                    "write [\"fullchain\", \"key\"]",
                );
            }
            let default = || BTreeSet::from([Format::Fullchain, Format::Key]);
            let formats = formats.map_or_else(default, |f| f.value.into_iter().map(|f| f.value).collect());
            return Some(Layout::Versioned { dir: dir.value, formats });
        }
        (false, true) => {
            let files = files?;
            if files.value.is_empty() {
                p.add("KW0041", &files.span, "`files` names nothing to write", "empty", "write { fullchain = \"/…\" }");
            }
            let mut plain = BTreeMap::new();
            for (name, path) in files.value {
                let Some(format) = Format::parse(name.value) else {
                    let names = Format::ALL.map(|(_, name, _)| name);
                    let mend = match p.did_you_mean(name.value, names) {
                        Some(meant) => format!("did you mean `{meant}`?"),
                        None => format!("choose from: {}", names.join(", ")),
                    };
                    p.add("KW0013", &name.span, format!("{} is no format", quoted(name.value)), "unknown", mend);
                    continue;
                };
                if let Some(path) = understood(p, "files", path, scalar::path) {
                    places.claim(p, &path, false, state_dir);
                    plain.insert(format, path.value);
                }
            }
            return Some(Layout::Plain { files: plain });
        }
    }
    None
}

pub(super) fn read_reload(p: &mut Problems, section: Option<Section<'_>>) -> Option<Reload> {
    let mut s = section?;
    let exec = solver::argv(p, &mut s, "exec");
    let signal = s.word(p, "signal", &SIGNALS);
    let pid_file = s.parsed(p, "pid_file", "\"/run/nginx.pid\"", scalar::path);
    let unit = s.parsed(p, "systemd", "\"nginx.service\"", unit);
    let timeout = s.parsed(p, "timeout", "\"30s\"", |t| scalar::duration(t, RELOAD_TIMEOUT));
    let tries = s.number(p, "tries", 1..=10);
    let in_staging = s.flag(p, "in_staging").is_some_and(|f| f.value);
    let ways: Vec<&str> = ["exec", "signal", "systemd"].into_iter().filter(|k| s.has(k)).collect();
    let mend = "choose one: exec = [\"/path\", …], signal = \"HUP\" with pid_file = \"…\", or systemd = \"….service\"";
    if ways.len() != 1 {
        let what = match ways.as_slice() {
            [] => "a reload needs a way".to_owned(),
            several => format!("a reload has one way, not {}", several.join(" and ")),
        };
        p.add("KW0043", &s.at, what, "which?", mend);
    }
    if s.has("pid_file") != s.has("signal") {
        p.add("KW0043", &s.at, "`signal` and `pid_file` go together", "one is missing", mend);
    }
    s.close(p);
    let how = exec
        .map(ReloadHow::Exec)
        .or_else(|| unit.map(|u| ReloadHow::Systemd(u.value)))
        .or_else(|| Some(ReloadHow::Signal { signal: signal?.value, pid_file: pid_file?.value }))?;
    Some(Reload {
        how,
        timeout: timeout.map_or(Duration::from_secs(30), |t| t.value),
        tries: tries.map_or(3, |t| u8::try_from(t.value).unwrap_or(3)),
        in_staging,
    })
}

/// A systemd unit's full name (systemd.unit(5)).
fn unit(text: &str) -> Result<String, Wrong> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
    let suffixed =
        [".service", ".socket", ".target", ".path"].iter().any(|s| text.ends_with(s) && text.len() > s.len());
    if suffixed && text.len() <= 255 && text.bytes().all(plain) && !text.starts_with('-') {
        return Ok(text.to_owned());
    }
    let stem: String = text.chars().filter(|c| u8::try_from(*c).is_ok_and(plain)).take(64).collect();
    let mend = format!("write the unit's full name: \"{}.service\"", if stem.is_empty() { "nginx" } else { &stem });
    Err(Wrong::new("KW0043", format!("is no systemd unit: {}", quoted(text)), mend))
}
