//! Certificates in files.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::codec::keys::KeyPair;
use crate::codec::pem::{self, KeyForm};
use crate::codec::verify::{self, Roots};
use crate::codec::x509::{self, Limits};
use crate::codec::{ParseError, crl, pkcs12};
use crate::domain::certificate::{Chain, Trust};
use crate::domain::inventory::{CrlSeen, Format, Install, Layout, Seen};
use crate::domain::key::Digest;
use crate::ports::HostError;

/// Bytes of a password file; the password is its first line.
const LONGEST_PASSWORD: usize = 4_096;

/// Files that one pattern may match.
const MOST_MATCHES: usize = 10_000;

/// What a watched file holds: PEM, DER, or PKCS#12, which needs its password file.
pub(super) fn watched(path: &str, password_file: Option<&str>, roots: &Roots) -> Seen {
    finish((|| {
        let bytes = read(CWD, path, path)?;
        let found = match (pkcs12::looks_like(&bytes), password_file) {
            (false, _) => certificates(&bytes, path)?,
            (true, Some(password)) => bundle(&bytes, path, password)?.certificates,
            (true, None) => return Err(no_password(path)),
        };
        present(&found, path, roots)
    })())
}

/// What a file with a revocation list says about a chain. The texts follow the file's name.
pub(super) fn revocations(path: &str, chain: &Chain) -> CrlSeen {
    match read_most(CWD, path, "it", crl::LARGEST) {
        Ok(bytes) => match crl::facts(&bytes, chain) {
            Ok(facts) => CrlSeen::Present(facts),
            Err(error) => CrlSeen::Unusable(error.0),
        },
        Err(Seen::Unreadable(why) | Seen::Unreachable(why)) => CrlSeen::Unreadable(format!("cannot be read: {why}")),
        Err(Seen::Unparseable(why)) => CrlSeen::Unusable(format!("is no revocation list: {why}")),
        Err(Seen::Missing | Seen::Present(_)) => CrlSeen::Missing,
    }
}

/// What all places of a credential hold: the worst of it, first what installing again can mend. All have to hold the same
/// certificate, so that a reader of any of them has what was issued.
pub(super) fn installed(installs: &[Install], roots: &Roots) -> Seen {
    let (whole, parts): (Vec<&Install>, Vec<&Install>) = installs.iter().partition(|i| has_leaf(i));
    let Some(first) = whole.first() else {
        return parts.first().map_or(Seen::Missing, |install| installed_at(install, roots));
    };
    let mut places: Vec<(&Install, Seen)> = whole.iter().map(|i| (*i, installed_at(i, roots))).collect();
    if places.iter().all(|(_, seen)| *seen == Seen::Missing) {
        return Seen::Missing;
    }
    let leaf = places.iter().find_map(|(install, seen)| Some((*install, seen.chain()?.leaf.clone())));
    if let Some((_, leaf)) = &leaf {
        places.extend(parts.into_iter().filter_map(|i| Some((i, installed_part(i, &leaf.spki).err()?))));
    }
    let judged = places.into_iter().map(|(install, seen)| match (seen, &leaf) {
        (Seen::Missing, _) => Seen::Unparseable(format!("nothing is installed at {}", place(install))),
        (Seen::Present(own), Some((other, leaf))) if own.leaf.fingerprint != leaf.fingerprint => {
            Seen::Unparseable(format!(
                "{} holds serial {} and {} serial {}; expected is one certificate in all places",
                place(install),
                own.leaf.serial,
                place(other),
                leaf.serial
            ))
        }
        (seen, _) => seen,
    });
    let worst = judged.min_by_key(|seen| match seen {
        Seen::Missing | Seen::Unparseable(_) => 0,
        Seen::Unreadable(_) | Seen::Unreachable(_) => 1,
        Seen::Present(chain) if chain.trust != Trust::Anchored => 2,
        Seen::Present(_) => 3,
    });
    worst.unwrap_or_else(|| installed_at(first, roots))
}

/// The formats that the certificate itself is in.
const LEAF: [Format; 4] = [Format::Fullchain, Format::Cert, Format::Combined, Format::Pkcs12];

fn has_leaf(install: &Install) -> bool {
    match &install.layout {
        Layout::Versioned { formats, .. } => LEAF.iter().any(|f| formats.contains(f)),
        Layout::Plain { files } => LEAF.iter().any(|f| files.contains_key(f)),
    }
}

/// A place, for people.
fn place(install: &Install) -> &str {
    match &install.layout {
        Layout::Versioned { dir, .. } => dir,
        Layout::Plain { files } => files.values().next().map_or("", String::as_str),
    }
}

/// A place with only a key or only the chain: they must be there, and the key must belong to the certificate elsewhere.
fn installed_part(install: &Install, leaf: &Digest) -> Result<(), Seen> {
    let set = Set::open(install)?;
    if let Some((chain, path)) = set.read(Format::Chain) {
        let bytes = chain?;
        if !bytes.is_empty() {
            certificates(&bytes, &path)?;
        }
    }
    match key(&set, place(install))? {
        Some((own, path)) if own != *leaf => {
            Err(Seen::Unparseable(format!("the key in {path} does not belong to the certificate in the other places")))
        }
        _ => Ok(()),
    }
}

/// What an installed set holds; its key must belong to its certificate.
fn installed_at(install: &Install, roots: &Roots) -> Seen {
    let first = finish(installed_once(install, roots));
    // Plain files are replaced one after the other: a set caught in between is looked at once more.
    let torn = matches!((&first, &install.layout), (Seen::Unparseable(_), Layout::Plain { .. }));
    if torn { finish(installed_once(install, roots)) } else { first }
}

/// Regular files, or links to them, that match a shell pattern: sorted.
pub(super) fn matches(pattern: &str) -> Result<Vec<String>, HostError> {
    if !pattern.starts_with('/') {
        return Err(HostError(format!("the pattern {pattern:?} is not absolute; expected one that starts with /")));
    }
    if pattern.contains("**") {
        let text = format!("the pattern {pattern:?} holds **, which would walk whole trees; name the directories");
        return Err(HostError(text));
    }
    let options =
        glob::MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };
    let found = glob::glob_with(pattern, options)
        .map_err(|error| HostError(format!("the pattern {pattern:?} is malformed: {error}")))?;
    let mut out = Vec::new();
    for entry in found {
        let path = entry.map_err(|error| {
            HostError(format!("cannot look into {} for {pattern:?}: {}", error.path().display(), error.error()))
        })?;
        if !std::fs::metadata(&path).is_ok_and(|m| m.is_file()) {
            continue;
        }
        if out.len() >= MOST_MATCHES {
            return Err(HostError(format!("more than {MOST_MATCHES} files match {pattern:?}; narrow the pattern")));
        }
        let Some(text) = path.to_str() else {
            return Err(HostError(format!("{} matches {pattern:?}, but its name is not UTF-8", path.display())));
        };
        out.push(text.to_owned());
    }
    out.sort_unstable();
    Ok(out)
}

fn finish(outcome: Result<Seen, Seen>) -> Seen {
    match outcome {
        Ok(seen) | Err(seen) => seen,
    }
}

fn present(ders: &[CertificateDer<'static>], shown: &str, roots: &Roots) -> Result<Seen, Seen> {
    verify::chain(ders, roots).map(|chain| Seen::Present(chain.into())).map_err(|error| unparseable(shown, &error))
}

fn unparseable(shown: &str, error: &ParseError) -> Seen {
    Seen::Unparseable(format!("{shown} {error}"))
}

fn certificates(bytes: &[u8], shown: &str) -> Result<Vec<CertificateDer<'static>>, Seen> {
    x509::certificates_from(bytes, &Limits::CHAIN).map_err(|error| unparseable(shown, &error))
}

fn bundle(bytes: &[u8], shown: &str, password_file: &str) -> Result<pkcs12::Bundle, Seen> {
    let password = read_most(CWD, password_file, password_file, LONGEST_PASSWORD).map_err(|seen| {
        if seen == Seen::Missing {
            return Seen::Unreadable(format!("the password file {password_file} does not exist"));
        }
        seen
    })?;
    let line = password.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = core::str::from_utf8(line)
        .map_err(|_| Seen::Unreadable(format!("the password in {password_file} is not UTF-8")))?;
    pkcs12::parse(bytes, text).map_err(|error| unparseable(shown, &error))
}

/// A file's bytes, or what was seen instead; wiped when dropped, because some of them are keys.
type Bytes = Result<Zeroizing<Vec<u8>>, Seen>;

/// The files of one set, opened through one directory descriptor where there is one, so that they are of one version.
struct Set<'a> {
    install: &'a Install,
    version: Option<OwnedFd>,
}

impl<'a> Set<'a> {
    fn open(install: &'a Install) -> Result<Self, Seen> {
        let version = match &install.layout {
            Layout::Plain { .. } => None,
            Layout::Versioned { dir, .. } => {
                let path = format!("{dir}/current");
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                Some(rustix::fs::openat(CWD, &path, flags, Mode::empty()).map_err(|error| cannot_open(&path, error))?)
            }
        };
        Ok(Self { install, version })
    }

    /// A file's bytes and its path for people; `None` if the set has no such file.
    fn read(&self, format: Format) -> Option<(Bytes, String)> {
        match (&self.install.layout, &self.version) {
            (Layout::Plain { files }, _) => files.get(&format).map(|path| (read(CWD, path, path), path.clone())),
            (Layout::Versioned { dir, formats }, Some(version)) if formats.contains(&format) => {
                let shown = format!("{dir}/current/{}", format.file_name());
                Some((read(version, format.file_name(), &shown), shown))
            }
            (Layout::Versioned { .. }, _) => None,
        }
    }
}

fn installed_once(install: &Install, roots: &Roots) -> Result<Seen, Seen> {
    let set = Set::open(install)?;
    let (mut ders, shown) = leaf(&set)?;
    // Without a file that holds both, the intermediates stand beside the leaf.
    if ders.len() == 1
        && let Some((chain, path)) = set.read(Format::Chain)
    {
        match chain {
            // A CA without intermediates leaves the file empty.
            Ok(bytes) if bytes.is_empty() => {}
            Ok(bytes) => ders.extend(certificates(&bytes, &path)?),
            Err(seen) => return Err(beside(seen, &shown, &path)),
        }
    }
    let spki = ders.first().and_then(|der| x509::facts(der).ok()).map(|facts| facts.spki);
    if let Some((own, path)) = key(&set, &shown)?
        && spki.is_some_and(|spki| spki != own)
    {
        return Err(Seen::Unparseable(format!("the key in {path} does not belong to the certificate in {shown}")));
    }
    present(&ders, &shown, roots)
}

/// The certificates of the first file that has the leaf.
fn leaf(set: &Set<'_>) -> Result<(Vec<CertificateDer<'static>>, String), Seen> {
    for format in LEAF.into_iter().filter(|f| *f != Format::Pkcs12) {
        if let Some((bytes, path)) = set.read(format) {
            return Ok((certificates(&bytes?, &path)?, path));
        }
    }
    if let Some((bytes, path)) = set.read(Format::Pkcs12) {
        return Ok((opened(set, &bytes?, &path)?.certificates, path));
    }
    Err(Seen::Unreadable("the installed set has no file with the certificate: add fullchain to its files".to_owned()))
}

fn opened(set: &Set<'_>, bytes: &[u8], path: &str) -> Result<pkcs12::Bundle, Seen> {
    match &set.install.pkcs12_password_file {
        Some(password) => bundle(bytes, path, password),
        None => Err(no_password(path)),
    }
}

fn no_password(path: &str) -> Seen {
    Seen::Unreadable(format!("{path} is PKCS#12, and no password file is configured for it"))
}

/// The SPKI digest of the set's private key, and the file it is in; `None` if no key is installed, or if it is closed to
/// us or encrypted, so that there is nothing to compare.
fn key(set: &Set<'_>, leaf: &str) -> Result<Option<(Digest, String)>, Seen> {
    let damaged = |path: &str, error: &ParseError| Seen::Unparseable(format!("{path}: {error}"));
    for format in [Format::Key, Format::Combined, Format::Pkcs12] {
        let Some((bytes, path)) = set.read(format) else { continue };
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(Seen::Missing) => return Err(beside(Seen::Missing, leaf, &path)),
            Err(_) => return Ok(None),
        };
        let (form, der) = if format == Format::Pkcs12 {
            match opened(set, &bytes, &path)?.key {
                Some(der) => (KeyForm::Pkcs8, der),
                None => return Err(Seen::Unparseable(format!("{path} holds no private key"))),
            }
        } else {
            match pem::private_key_in(&bytes).map_err(|error| damaged(&path, &error))? {
                Some((KeyForm::Encrypted, _)) => return Ok(None),
                Some(found) => found,
                None => return Err(Seen::Unparseable(format!("{path} holds no private key"))),
            }
        };
        let pair = KeyPair::read(form, &der).map_err(|error| damaged(&path, &error))?;
        return Ok(Some((pair.spki(), path)));
    }
    Ok(None)
}

/// A file that belongs to a set but is not there is a damaged set, which can be repaired, not a missing certificate.
fn beside(seen: Seen, leaf: &str, path: &str) -> Seen {
    if seen == Seen::Missing {
        return Seen::Unparseable(format!("{leaf} is there, but {path} beside it is missing"));
    }
    seen
}

fn read<Fd: AsFd>(at: Fd, name: &str, shown: &str) -> Bytes {
    read_most(at, name, shown, Limits::CHAIN.bytes)
}

/// Reads a regular file, following links, without ever waiting on a pipe or touching a device.
fn read_most<Fd: AsFd>(at: Fd, name: &str, shown: &str, most: usize) -> Bytes {
    // Opening some devices does something, so the kind is looked at before, and again on what was really opened.
    let before = rustix::fs::statat(&at, name, AtFlags::empty()).map_err(|error| cannot_open(shown, error))?;
    regular(before.st_mode, shown)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(&at, Path::new(name), flags, Mode::empty()).map_err(|e| cannot_open(shown, e))?;
    let stat = rustix::fs::fstat(&fd).map_err(|error| cannot_open(shown, error))?;
    regular(stat.st_mode, shown)?;
    let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
    if size > most {
        return Err(Seen::Unparseable(format!("{shown} is {size} bytes long, more than {most}")));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(size.saturating_add(64)));
    let limit = u64::try_from(most).unwrap_or(u64::MAX);
    File::from(fd)
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| Seen::Unreadable(format!("cannot read {shown}: {error}")))?;
    Ok(bytes)
}

fn regular(mode: u32, shown: &str) -> Result<(), Seen> {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => "a directory",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Symlink | FileType::Unknown => "of an unknown kind",
    };
    Err(Seen::Unreadable(format!("{shown} is {kind}; expected a regular file")))
}

fn cannot_open(shown: &str, error: Errno) -> Seen {
    match error {
        Errno::NOENT | Errno::NOTDIR => Seen::Missing,
        Errno::LOOP => Seen::Unreadable(format!("{shown} is a link that leads in a circle")),
        error => Seen::Unreadable(format!("cannot open {shown}: {}", std::io::Error::from(error))),
    }
}
