//! `keyward ca`, where a part of a CA is outside: the root's medium, and CAs that were made elsewhere.

use std::io::{BufRead as _, IsTerminal as _};
use std::path::{Path, PathBuf};

use clap::Args;
use core::time::Duration;
use zeroize::Zeroizing;

use super::args::{Output, span};
use super::ca::reason;
use super::console::{Exit, Failure};
use super::{Done, Run};
use crate::codec::offline::{LONGEST, Request};
use crate::domain::authority::RevocationReason;
use crate::domain::key::Digest;
use crate::domain::time::{DAY, human_span};
use crate::shell::http::ca::model::{Accept, Import as Sent, Made};
use crate::shell::offline::{Answer, Offline, holds_root};
use crate::shell::wire;

/// A root's list is good for so long: it is renewed by hand, at the next visit to the safe.
const LIST_LIFETIME: Duration = DAY.saturating_mul(400);
/// Characters of a passphrase, as the key holder demands.
const SHORTEST: usize = 16;

/// How the offline root is reached.
#[derive(Debug, Args)]
pub(super) struct Medium {
    /// The file with the passphrase of the root's key; without it the passphrase is asked for
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Sign without asking
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(super) struct SignIntermediate {
    /// The directory of the root: root.pem, root.key, root.json
    dir: PathBuf,
    /// What `keyward ca request` wrote; without it only a new revocation list is signed
    request: Option<PathBuf>,
    /// Revoke what the root certified, by its serial number
    #[arg(long, value_name = "SERIAL")]
    revoke: Option<String>,
    /// Why
    #[arg(long, requires = "revoke", value_parser = reason)]
    reason: Option<RevocationReason>,
    /// How long the revocation list is good (400d)
    #[arg(long, value_name = "SPAN", value_parser = span)]
    crl_lifetime: Option<Duration>,
    #[command(flatten)]
    medium: Medium,
}

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The CA's id
    ca: String,
    /// The root's certificate, PEM
    #[arg(long, value_name = "FILE")]
    root: PathBuf,
    /// The issuing CA's certificate, PEM
    #[arg(long, value_name = "FILE")]
    issuing: PathBuf,
    /// The issuing CA's private key: PKCS#8, PEM, without a passphrase
    #[arg(long, value_name = "FILE")]
    issuing_key: PathBuf,
    /// The root's private key; without it the root stays where it is, and its list has to come along
    #[arg(long, value_name = "FILE")]
    root_key: Option<PathBuf>,
    /// A revocation list of either, PEM; may be repeated
    #[arg(long = "crl", value_name = "FILE")]
    crls: Vec<PathBuf>,
    /// Forget so many certificates that the issuing CA's list revokes
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    forget_revoked: usize,
}

impl Run {
    pub(super) fn ca_request(&self, ca: &str) -> Done {
        let daemon = self.daemon()?;
        let request: Request = daemon.post(&format!("/v1/ca/{ca}/request"), &serde_json::json!({}))?;
        self.banner(&daemon);
        self.console.note(format!("compare where it is signed: {}", fingerprint(&request)));
        match self.output {
            Output::Name => self.console.out(&request.generation),
            Output::Json | Output::Table => self.console.json(&request)?,
        }
        Ok(Exit::Ok)
    }

    pub(super) fn ca_sign_intermediate(&self, sign: &SignIntermediate) -> Done {
        let request = sign.request.as_deref().map(read_request).transpose()?;
        let revoke = sign.revoke.as_deref().map(|serial| (serial, sign.reason.unwrap_or_default()));
        let lifetime = sign.crl_lifetime.unwrap_or(LIST_LIFETIME);
        let answer = self.sign_offline(&sign.dir, &sign.medium, request.as_ref(), revoke, lifetime)?;
        self.console.raw(answer.pem.as_bytes())?;
        Ok(Exit::Ok)
    }

    pub(super) fn ca_accept(&self, ca: &str, file: &Path) -> Done {
        let pem = read(file)?;
        self.ca_accepted(ca, pem)
    }

    fn ca_accepted(&self, ca: &str, pem: String) -> Done {
        let daemon = self.daemon()?;
        let made: Made = daemon.post(&format!("/v1/ca/{ca}/accept"), &Accept { pem })?;
        self.banner(&daemon);
        self.print_made(&made)
    }

    /// Everything in one go, where the root's medium is in this machine.
    pub(super) fn ca_init_offline(&self, ca: &str, dir: &Path, medium: &Medium) -> Done {
        let request: Request = self.daemon()?.post(&format!("/v1/ca/{ca}/request"), &serde_json::json!({}))?;
        let answer = self.sign_offline(dir, medium, Some(&request), None, LIST_LIFETIME)?;
        self.ca_accepted(ca, answer.pem)
    }

    fn sign_offline(
        &self,
        dir: &Path,
        medium: &Medium,
        request: Option<&Request>,
        revoke: Option<(&str, RevocationReason)>,
        list_lifetime: Duration,
    ) -> Result<Answer, Failure> {
        let there = holds_root(dir);
        self.show_signing(dir, there, request, revoke);
        if !medium.yes {
            confirm()?;
        }
        let passphrase = passphrase(medium.passphrase_file.as_deref(), there)?;
        let clock = wire::clock();
        let entropy = wire::entropy();
        let offline = Offline { dir, passphrase, entropy: &*entropy, now: clock.now(), list_lifetime };
        let answer = offline.sign(request, revoke).map_err(|text| {
            Failure::new(Exit::Failed, text, "docs/private-pki.md shows the way of a root that is offline")
        })?;
        let made = if answer.made { "made for it, and " } else { "" };
        self.console.note(format!("signed by the root {}, {made}kept in {}", answer.root, dir.display()));
        Ok(answer)
    }

    /// What a person is about to sign.
    fn show_signing(
        &self,
        dir: &Path,
        there: bool,
        request: Option<&Request>,
        revoke: Option<(&str, RevocationReason)>,
    ) {
        let note = |text: String| self.console.note(text);
        if let Some(Request { generation, root, issuing, .. }) = request {
            if !there {
                let life = human_span(Duration::from_secs(root.lifetime_seconds));
                note(format!(
                    "a new root {:?} ({}, {life}) will be made in {}",
                    root.common_name,
                    root.key,
                    dir.display()
                ));
            }
            let life = human_span(Duration::from_secs(issuing.lifetime_seconds));
            note(format!("the root will certify {:?} for {generation}, for {life} at most", issuing.common_name));
            for (what, trees) in [
                ("for names below", &issuing.permitted_dns),
                ("not for names below", &issuing.excluded_dns),
                ("for addresses in", &issuing.permitted_ip),
                ("not for addresses in", &issuing.excluded_ip),
            ] {
                if !trees.is_empty() {
                    note(format!("  {what} {}", trees.join(", ")));
                }
            }
            if issuing.permitted_dns.is_empty() {
                note("  for every name".to_owned());
            }
            if issuing.permitted_ip.is_empty() {
                note("  for every address".to_owned());
            }
            if let Some(domain) = &issuing.trust_domain {
                note(format!("  for SPIFFE IDs of {domain}"));
            }
            if let Some(request) = request {
                note(format!("compare with what `keyward ca request` said: {}", fingerprint(request)));
            }
        }
        if let Some((serial, reason)) = revoke {
            note(format!("the root will revoke {serial}: {}", reason.as_str()));
        }
        if request.is_none() {
            note("the root will sign a new revocation list".to_owned());
        }
    }

    pub(super) fn ca_import(&self, import: &ImportArgs) -> Done {
        let mut pem = read(&import.root)? + &read(&import.issuing)?;
        for crl in &import.crls {
            pem += &read(crl)?;
        }
        let sent = Sent {
            pem,
            issuing_key: read(&import.issuing_key)?,
            root_key: import.root_key.as_deref().map(read).transpose()?,
            forget_revoked: import.forget_revoked,
        };
        let daemon = self.daemon()?;
        let made: Made = daemon.post(&format!("/v1/ca/{}/import", import.ca), &sent)?;
        self.banner(&daemon);
        self.print_made(&made)
    }

    /// Everything public of a CA, in a directory that is made for it.
    pub(super) fn ca_export(&self, ca: &str, out: &Path) -> Done {
        let daemon = self.daemon()?;
        let bundle = daemon.bytes(&format!("/v1/ca/{ca}/bundle"))?;
        let all: crate::shell::http::ca::model::Cas = daemon.get("/v1/ca")?;
        let hint = "keyward ca status shows them all";
        let own = all.cas.into_iter().find(|own| own.id == ca);
        let own = own.ok_or_else(|| Failure::new(Exit::Failed, format!("there is no CA {ca}"), hint))?;
        let failed = |path: &Path, e: &std::io::Error| {
            Failure::new(
                Exit::Failed,
                format!("{} cannot be written: {e}", path.display()),
                "name a directory that is not there",
            )
        };
        std::fs::create_dir(out).map_err(|e| failed(out, &e))?;
        let write = |name: &str, bytes: &[u8]| {
            let path = out.join(name);
            crate::shell::files::create(&path, 0o644, bytes).map_err(|e| failed(&path, &e))
        };
        write("bundle.pem", &bundle)?;
        let text = serde_json::to_vec_pretty(&own)
            .map_err(|e| Failure::new(Exit::Failed, e.to_string(), "say so to whoever builds this"))?;
        write("ca.json", &text)?;
        for generation in &own.generations {
            let number = generation.id.rsplit('/').next().unwrap_or_default();
            let id = &generation.id;
            for place in ["root", "issuing"] {
                // One that is being made, or is retired, has no list or no certificate.
                if let Ok(der) = daemon.bytes(&format!("/v1/ca/{id}/{place}.pem")) {
                    write(&format!("{number}-{place}.pem"), &der)?;
                }
                if let Ok(der) = daemon.bytes(&format!("/v1/ca/{id}/{place}.crl")) {
                    write(&format!("{number}-{place}.crl"), &der)?;
                }
            }
        }
        self.console.note(format!(
            "certificates and lists of {ca} lie in {}; its keys stay with the key holder",
            out.display()
        ));
        Ok(Exit::Ok)
    }
}

/// SHA-256 of all that a request says: whoever changes it on the way changes this.
fn fingerprint(request: &Request) -> String {
    serde_json::to_vec(request).map(|bytes| Digest::of(&bytes).to_string()).unwrap_or_default()
}

fn read(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|e| {
        Failure::new(Exit::Failed, format!("{} cannot be read: {e}", file.display()), "name a file in PEM")
    })
}

fn read_request(file: &Path) -> Result<Request, Failure> {
    let hint = "bring what `keyward ca request` wrote";
    let failed = |text: String| Failure::new(Exit::Failed, text, hint);
    let size = std::fs::metadata(file).map(|m| m.len());
    let size = size.map_err(|e| failed(format!("{} cannot be read: {e}", file.display())))?;
    if usize::try_from(size).is_ok_and(|size| size > LONGEST) {
        return Err(failed(format!("{} is larger than {LONGEST} bytes", file.display())));
    }
    let bytes = std::fs::read(file).map_err(|e| failed(format!("{} cannot be read: {e}", file.display())))?;
    Request::read(&bytes).map_err(|e| failed(format!("{} {e}", file.display())))
}

fn confirm() -> Result<(), Failure> {
    let stdin = std::io::stdin();
    let declined = |text: &str| Failure::new(Exit::Usage, text, "say --yes, or answer yes on a terminal");
    if !stdin.is_terminal() {
        return Err(declined("nobody can be asked whether the root should sign this"));
    }
    eprint("sign it? [yes/no] ");
    let mut line = String::new();
    stdin.lock().read_line(&mut line).map_err(|_| declined("no answer came"))?;
    if matches!(line.trim(), "yes" | "y") { Ok(()) } else { Err(declined("nothing was signed")) }
}

#[allow(clippy::print_stderr, reason = "a question stays on its line")]
fn eprint(text: &str) {
    eprint!("{text}");
}

/// From its file, or a person's; typed twice where it is new.
fn passphrase(file: Option<&Path>, there: bool) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let hint = "openssl rand -base64 32 makes a good one";
    let failed = |text: String| Failure::new(Exit::Usage, text, hint);
    let text = match file {
        Some(file) => Zeroizing::new(read(file)?),
        None => {
            let first = hidden("passphrase of the root's key: ").map_err(&failed)?;
            if !there && *hidden("once more: ").map_err(&failed)? != *first {
                return Err(failed("the two are not the same".to_owned()));
            }
            first
        }
    };
    let line = text.trim_end_matches(['\n', '\r']);
    if line.len() < SHORTEST || line.contains(['\n', '\r', '\0']) {
        return Err(failed(format!("the passphrase is one line of {SHORTEST} characters or more")));
    }
    Ok(Zeroizing::new(line.as_bytes().to_vec()))
}

/// A line from the terminal that is not shown.
fn hidden(question: &str) -> Result<Zeroizing<String>, String> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    let no_terminal = || "there is no terminal to ask on; say --passphrase-file FILE".to_owned();
    if !stdin.is_terminal() {
        return Err(no_terminal());
    }
    let before = tcgetattr(&stdin).map_err(|_| no_terminal())?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &silent).map_err(|_| no_terminal())?;
    eprint(question);
    let mut line = Zeroizing::new(String::with_capacity(1_024));
    let got = stdin.lock().read_line(&mut line);
    let shown = tcsetattr(&stdin, OptionalActions::Flush, &before);
    eprint("\n");
    shown.map_err(|e| format!("the terminal stays silent ({e}): run `stty echo`"))?;
    got.map_err(|e| format!("no passphrase came: {e}"))?;
    Ok(line)
}
