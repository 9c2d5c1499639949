//! `keyward ca`: private CAs.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};

use super::args::{Output, span};
use super::ca_offline::{ImportArgs, Medium, SignIntermediate};
use super::console::{Cell, Exit, Failure, Tone, relative};
use super::rotation::{Acknowledged, Cross, DistrustArgs, EmergencyArgs, OfGeneration, Rotate};
use super::{Done, Run};
use crate::domain::authority::RevocationReason;
use crate::domain::name::Name;
use crate::domain::spiffe::SpiffeId;
use crate::shell::files::create;
use crate::shell::http::ca::model::{Ca as View, Cas, Generation, Made, Revoke, Revoked, Sign, Signed};
use crate::shell::http::ca::rotation_model::Rotation;

#[derive(Debug, Subcommand)]
pub(super) enum Ca {
    /// Every private CA: its generations, how long they last, their revocation lists, and the process that has the keys
    #[command(after_help = "\
Exits with 0 if all is well, and 3 if the key holder cannot be reached or a CA was not made yet.")]
    Status,
    /// Make a CA's first root and issuing CA
    #[command(after_help = "\
Examples:
  keyward ca init mesh                 prints the bundle that peers are to trust
  keyward ca init mesh > /etc/mesh/ca.pem

The CA stands in the configuration as a [[ca]]. Asked again after it was cut off, it goes on where it was.")]
    Init {
        /// The CA's id
        ca: String,
        /// The directory of a root that is kept offline: it is made there if it is none, and signs
        #[arg(long, value_name = "DIR")]
        offline_root: Option<PathBuf>,
        #[command(flatten)]
        medium: Medium,
    },
    /// What an offline root is to sign for a CA, as a file to carry there
    #[command(after_help = "\
Example:
  keyward ca request mesh > request.json      here
  keyward ca sign-intermediate /media/root request.json > answer.pem      there
  keyward ca accept mesh answer.pem           here

Nothing in the file is secret. Asked again it says the same, until the answer was accepted.")]
    Request {
        /// The CA's id
        ca: String,
    },
    /// Sign with an offline root, on the machine that has its medium; no daemon is asked
    #[command(after_help = "\
Examples:
  keyward ca sign-intermediate /media/root request.json > answer.pem
  keyward ca sign-intermediate /media/root > list.pem      a new revocation list only
  keyward ca sign-intermediate /media/root --revoke 4f3a… --reason ca-compromise > list.pem

Shows what it signs, and asks. Writes the root's certificate, what it certified, and its revocation list.")]
    SignIntermediate(SignIntermediate),
    /// Take in what an offline root signed
    Accept {
        /// The CA's id
        ca: String,
        /// What `keyward ca sign-intermediate` wrote
        answer: PathBuf,
    },
    /// Take over a CA that was made elsewhere
    #[command(after_help = "\
Example:
  keyward ca import mesh --root root.pem --issuing issuing.pem --issuing-key issuing.key --crl root.crl.pem

The keys go to the key holder; destroy the files afterwards. What the CA issued before is not in the register: it is
neither listed nor revoked here.")]
    Import(ImportArgs),
    /// Write all that is public of a CA into a directory: certificates, bundle, revocation lists
    Export {
        /// The CA's id
        ca: String,
        /// A directory that is not there yet
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Make a key here and get a certificate for it
    #[command(after_help = "\
Examples:
  keyward ca issue mesh --profile workload --name web.svc.example --out /etc/web/tls
  keyward ca issue mesh --profile workload --spiffe spiffe://mesh.example/ns/prod/sa/web --out .

Writes key.pem (0600), cert.pem (the chain) and ca.pem into the directory; nothing that is there is overwritten.
For what is to be renewed by itself, name the CA in an [[issuer]] and use it in a [[certificate]].")]
    Issue(Issue),
    /// Get a certificate for a signing request; its key and names are taken, nothing else
    #[command(after_help = "\
Example:
  keyward ca sign mesh web.csr --profile workload > web.pem")]
    Sign {
        /// The CA's id
        ca: String,
        /// The request, PEM
        csr: PathBuf,
        #[command(flatten)]
        how: How,
    },
    /// Revoke a certificate, a key for ever, or a generation of a CA
    #[command(after_help = "\
Examples:
  keyward ca revoke 4f3a… --reason superseded
  keyward ca revoke --key 9c1f…        blocks the key, and revokes everything that was issued for it
  keyward ca revoke mesh --generation 1 --reason ca-compromise

The revocation list is published before this returns.

A generation leaves as `keyward ca compromised` says, and its keys are blocked for ever. The one that signs is refused
here: its replacement comes first, and a person has to see what breaks.")]
    Revoke(RevokeArgs),
    /// The newest revocation list of a generation, as DER
    #[command(after_help = "\
Example:
  keyward ca crl mesh/1 | openssl crl -inform der -noout -text")]
    Crl {
        /// The generation, for example mesh/1
        generation: String,
        /// The root's list: of issuing CAs
        #[arg(long)]
        root: bool,
    },
    /// What relying parties are to trust, as PEM
    #[command(after_help = "\
Example:
  keyward ca bundle mesh > /etc/mesh/ca.pem

Its version and digest, which relying parties acknowledge, are said on standard error.")]
    Bundle {
        /// The CA's id
        ca: String,
    },
    /// Rotate a CA before its time, look ahead, or see how its rotation stands
    #[command(after_help = "\
Examples:
  keyward ca rotate mesh --plan
  keyward ca rotate mesh --reason \"yearly\"
  keyward ca rotate mesh --status

It skips the timers, not the evidence: nothing signs before every relying party has acknowledged the bundle and let
a canary in. Exits with 3 while something waits for somebody.")]
    Rotate(Rotate),
    /// Roll a new generation back: the one before it signs again
    #[command(after_help = "\
Example:
  keyward ca rollback mesh 2 --reason \"the portal refuses it\"

From standby, staged, signing or draining of the old one. The new one stays trusted, drains, and goes.")]
    Rollback(OfGeneration),
    /// Say that a key of a generation is in other hands
    #[command(after_help = "\
Example:
  keyward ca compromised mesh 1 --reason \"the backup was stolen\"

A replacement is made and staged at once. Then `keyward ca emergency` shows what breaks.")]
    Compromised(OfGeneration),
    /// Show what breaks if what is compromised goes at once, and sign it off
    Emergency(EmergencyArgs),
    /// Have nothing of a CA trusted any more
    #[command(after_help = "\
Example:
  keyward ca distrust mesh --all --type-name mesh

It cannot be taken back: the bundle is empty, and every relying party refuses every peer.")]
    Distrust(DistrustArgs),
    /// Certify one generation's root by another's
    #[command(after_help = "\
Example:
  keyward ca cross-sign mesh --subject 2 --issuer 1

Whoever trusts generation 1 takes leaves of generation 2 then, as long as they carry the cross-signature.")]
    CrossSign(Cross),
    /// Say for a relying party which bundle it goes by
    #[command(after_help = "\
Example:
  keyward ca acknowledge mesh --party edge --version 3 --digest 9c1f…

It also says that the party gave up the sessions and tickets of whoever is not in the bundle any more.
A party says it itself by POST /v1/ca/CA/acknowledge with its token.")]
    Acknowledge(Acknowledged),
}

#[derive(Debug, Args)]
pub(super) struct How {
    /// The profile of the CA
    #[arg(long)]
    profile: String,
    /// A life shorter than the profile's, for example 1h
    #[arg(long, value_name = "SPAN", value_parser = span)]
    lifetime: Option<core::time::Duration>,
}

#[derive(Debug, Args)]
pub(super) struct Issue {
    /// The CA's id
    ca: String,
    /// A host name or address; may be repeated
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// A SPIFFE ID
    #[arg(long, value_name = "ID")]
    spiffe: Option<String>,
    /// The directory that the files are written to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
pub(super) struct RevokeArgs {
    /// The serial number; with --generation, the CA's id
    #[arg(value_name = "SERIAL", required_unless_present = "key", conflicts_with = "key")]
    what: Option<String>,
    /// Block this key for ever: SHA-256 of its SubjectPublicKeyInfo
    #[arg(long, value_name = "SHA256")]
    key: Option<String>,
    /// Revoke this generation of the CA
    #[arg(long, value_name = "NUMBER", conflicts_with = "key", requires = "reason")]
    generation: Option<u32>,
    /// Why
    #[arg(long, conflicts_with = "key", value_parser = reason)]
    reason: Option<RevocationReason>,
}

pub(super) fn reason(text: &str) -> Result<RevocationReason, String> {
    RevocationReason::parse(text).ok_or_else(|| {
        let all: Vec<&str> = RevocationReason::ALL.iter().map(|(_, name, _)| *name).collect();
        format!("one of {}", all.join(", "))
    })
}

impl Run {
    pub(super) fn ca(&self, command: Ca) -> Done {
        match command {
            Ca::Status => self.ca_status(),
            Ca::Init { ca, offline_root: Some(dir), medium } => self.ca_init_offline(&ca, &dir, &medium),
            Ca::Init { ca, offline_root: None, .. } => self.ca_init(&ca),
            Ca::Request { ca } => self.ca_request(&ca),
            Ca::SignIntermediate(sign) => self.ca_sign_intermediate(&sign),
            Ca::Accept { ca, answer } => self.ca_accept(&ca, &answer),
            Ca::Import(import) => self.ca_import(&import),
            Ca::Export { ca, out } => self.ca_export(&ca, &out),
            Ca::Issue(issue) => self.ca_issue(&issue),
            Ca::Sign { ca, csr, how } => self.ca_sign(&ca, &csr, &how),
            Ca::Revoke(revoke) => self.ca_revoke(revoke),
            Ca::Crl { generation, root } => self.ca_crl(&generation, root),
            Ca::Bundle { ca } => {
                let daemon = self.daemon()?;
                let bytes = daemon.bytes(&format!("/v1/ca/{ca}/bundle"))?;
                let rotation: Rotation = daemon.get(&format!("/v1/ca/{ca}/rotation"))?;
                self.console.raw(&bytes)?;
                let digest = rotation.bundle.unwrap_or_default();
                self.console.note(format!("version {}, digest {digest}", rotation.bundle_version));
                Ok(Exit::Ok)
            }
            Ca::Rotate(asked) => self.ca_rotate(asked),
            Ca::Rollback(asked) => self.ca_rollback(asked),
            Ca::Compromised(asked) => self.ca_compromised(asked),
            Ca::Emergency(asked) => self.ca_emergency(asked),
            Ca::Distrust(asked) => self.ca_distrust(asked),
            Ca::CrossSign(asked) => self.ca_cross_sign(&asked),
            Ca::Acknowledge(asked) => self.ca_acknowledge(asked),
        }
    }

    fn ca_status(&self) -> Done {
        let daemon = self.daemon()?;
        let all: Cas = daemon.get("/v1/ca")?;
        self.banner(&daemon);
        match self.output {
            Output::Json => self.console.json(&all)?,
            Output::Name => all.cas.iter().for_each(|ca| self.console.out(&ca.id)),
            Output::Table if all.cas.is_empty() => {
                self.console.note("there is no private CA: add a [[ca]] to the configuration");
            }
            Output::Table => self.print_cas(&all),
        }
        let made = |ca: &View| ca.generations.iter().any(|g| g.phase == "signing");
        let well =
            all.cas.is_empty() || (all.keyholder.reachable && all.last_round.is_some() && all.cas.iter().all(made));
        Ok(if well { Exit::Ok } else { Exit::Warning })
    }

    fn print_cas(&self, all: &Cas) {
        let rows: Vec<Vec<Cell>> = all.cas.iter().flat_map(|ca| ca.generations.iter().map(row)).collect();
        let heads = ["GENERATION", "PHASE", "ROOT ENDS", "ISSUING CA ENDS", "LEAVES", "REVOKED", "LIST", "NEXT UPDATE"];
        if !rows.is_empty() {
            self.console.table(&heads, &rows);
        }
        for ca in all.cas.iter().filter(|ca| ca.generations.is_empty()) {
            self.console.out(format!("{}: not made yet; make it with: keyward ca init {}", ca.id, ca.id));
        }
        match (&all.keyholder.problem, all.keyholder.process) {
            (Some(problem), _) => self.console.out(self.console.paint(problem, Tone::Bad)),
            (None, process) => self.console.out(format!(
                "key holder: process {}, {} operations; {}",
                process.unwrap_or_default(),
                all.keyholder.operations.unwrap_or_default(),
                all.keyholder.confinement.join(", ")
            )),
        }
        if all.last_round.is_none() {
            self.console.out(self.console.paint("the controller of the private CAs does not go round", Tone::Bad));
        }
    }

    fn ca_init(&self, ca: &str) -> Done {
        let daemon = self.daemon()?;
        let made: Made = daemon.post(&format!("/v1/ca/{ca}/init"), &serde_json::json!({}))?;
        self.banner(&daemon);
        self.print_made(&made)
    }

    pub(super) fn print_made(&self, made: &Made) -> Done {
        match self.output {
            Output::Json => self.console.json(made)?,
            Output::Name => self.console.out(&made.generation),
            Output::Table => {
                self.console.raw(made.bundle.as_bytes())?;
                self.console
                    .note(format!("generation {} signs; peers trust the bundle {}", made.generation, made.digest));
            }
        }
        Ok(Exit::Ok)
    }

    fn ca_sign(&self, ca: &str, csr: &Path, how: &How) -> Done {
        let text = std::fs::read_to_string(csr).map_err(|e| {
            let text = format!("{} cannot be read: {e}", csr.display());
            Failure::new(Exit::Failed, text, "name a file with a signing request in PEM")
        })?;
        let signed = self.certified(ca, text, how)?;
        match self.output {
            Output::Json => self.console.json(&signed)?,
            Output::Name => self.console.out(&signed.serial),
            Output::Table => self.console.raw(signed.chain.as_bytes())?,
        }
        Ok(Exit::Ok)
    }

    fn certified(&self, ca: &str, csr: String, how: &How) -> Result<Signed, Failure> {
        let daemon = self.daemon()?;
        let lifetime_seconds = how.lifetime.map(|l| l.as_secs());
        let asked = Sign { profile: how.profile.clone(), csr, lifetime_seconds };
        let signed = daemon.post(&format!("/v1/ca/{ca}/sign"), &asked)?;
        self.banner(&daemon);
        Ok(signed)
    }

    fn ca_issue(&self, issue: &Issue) -> Done {
        let hint = "keyward ca issue --help shows examples";
        let failed = |text: String| Failure::new(Exit::Failed, text, hint);
        let places = ["key.pem", "cert.pem", "ca.pem"].map(|file| issue.out.join(file));
        if let Some(there) = places.iter().find(|place| place.exists()) {
            let hint = "name another directory, or move the file away";
            return Err(Failure::new(Exit::Usage, format!("{} is there already", there.display()), hint));
        }
        let (key, csr) = request(issue).map_err(|text| Failure::new(Exit::Usage, text, hint))?;
        let bundle = self.daemon()?.bytes(&format!("/v1/ca/{}/bundle", issue.ca))?;
        let signed = self.certified(&issue.ca, csr, &issue.how)?;
        let [key_file, chain_file, bundle_file] = &places;
        for (file, mode, bytes) in [
            (key_file, 0o600, zeroize::Zeroizing::new(key.serialize_pem()).as_bytes()),
            (chain_file, 0o644, signed.chain.as_bytes()),
            (bundle_file, 0o644, &bundle),
        ] {
            create(file, mode, bytes).map_err(|e| failed(format!("{} cannot be written: {e}", file.display())))?;
        }
        match self.output {
            Output::Json => self.console.json(&signed)?,
            Output::Name => self.console.out(&signed.serial),
            Output::Table => self.console.out(format!(
                "{} from {} until {} lies in {}",
                signed.serial,
                signed.generation,
                signed.not_after,
                issue.out.display()
            )),
        }
        Ok(Exit::Ok)
    }

    fn ca_revoke(&self, revoke: RevokeArgs) -> Done {
        let reason = revoke.reason.map(|r| r.as_str().to_owned());
        let (what, reason) = match (revoke.what, revoke.generation, reason) {
            (Some(ca), Some(number), Some(reason)) => return self.ca_revoke_generation(ca, number, reason),
            (what, _, reason) => (what, reason),
        };
        let daemon = self.daemon()?;
        let asked = Revoke { serial: what, spki_sha256: revoke.key, reason };
        let revoked: Revoked = daemon.post("/v1/ca/revoke", &asked)?;
        self.banner(&daemon);
        match self.output {
            Output::Json => self.console.json(&revoked)?,
            Output::Name => revoked.serials.iter().for_each(|serial| self.console.out(serial)),
            Output::Table if revoked.serials.is_empty() => self.console.note("nothing that is not revoked already"),
            Output::Table => revoked.serials.iter().for_each(|serial| self.console.out(format!("{serial} is revoked"))),
        }
        Ok(Exit::Ok)
    }

    fn ca_crl(&self, generation: &str, root: bool) -> Done {
        let which = if root { "root" } else { "issuing" };
        let bytes = self.daemon()?.bytes(&format!("/v1/ca/{generation}/{which}.crl"))?;
        self.console.raw(&bytes)?;
        Ok(Exit::Ok)
    }
}

fn row(g: &Generation) -> Vec<Cell> {
    let tone = if g.phase == "signing" { Tone::Good } else { Tone::Warn };
    let ends = |key: Option<&crate::shell::http::ca::model::Key>| {
        key.and_then(|k| k.not_after.as_deref()).map_or_else(|| "-".to_owned(), relative)
    };
    let list = g.issuing.as_ref().and_then(|k| k.crl.as_ref());
    vec![
        Cell(g.id.clone(), Tone::Strong),
        Cell(g.phase.clone(), tone),
        ends(g.root.as_ref()).into(),
        ends(g.issuing.as_ref()).into(),
        g.leaves.to_string().into(),
        g.revoked.to_string().into(),
        list.map_or_else(|| "-".to_owned(), |l| l.number.to_string()).into(),
        list.map_or_else(|| "-".to_owned(), |l| relative(&l.next_update)).into(),
    ]
}

/// A key that never leaves this machine, and a request for it.
fn request(issue: &Issue) -> Result<(KeyPair, String), String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for name in &issue.names {
        let san = match Name::parse(name).map_err(|e| format!("{name:?} {e}"))? {
            Name::Dns(dns) => SanType::DnsName(dns.to_string().try_into().map_err(|e| format!("{name:?}: {e}"))?),
            Name::Ip(ip) => SanType::IpAddress(ip),
        };
        params.subject_alt_names.push(san);
    }
    if let Some(id) = &issue.spiffe {
        let id = SpiffeId::parse(id).ok_or_else(|| format!("{id:?} is no SPIFFE ID of a workload"))?;
        let uri = id.as_str().try_into().map_err(|e| format!("{id}: {e}"))?;
        params.subject_alt_names.push(SanType::URI(uri));
    }
    if params.subject_alt_names.is_empty() {
        return Err("a certificate needs a --name or a --spiffe".to_owned());
    }
    let key = KeyPair::generate().map_err(|e| format!("a key cannot be made: {e}"))?;
    let csr = params.serialize_request(&key).and_then(|csr| csr.pem());
    Ok((key, csr.map_err(|e| format!("a request cannot be made: {e}"))?))
}
