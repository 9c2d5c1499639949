//! `keyward audit prove` and `keyward audit check-proof`: one entry, for whoever has only the log's key.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::args::Place;
use super::trust::{Keys, small_file};
use crate::codec::ParseError;
use crate::codec::ledger::{Finding, Grade, LONGEST_DOCUMENT, Proof, Proved, RangedKey, Rule};
use crate::codec::note::Note;
use crate::codec::tlog_policy::{LONGEST_POLICY, Policy, Unsaid, Unsatisfied};
use crate::shell::cli::args::Output;
use crate::shell::cli::console::{Exit, Failure, Tone};
use crate::shell::cli::{Done, Run};
use crate::shell::files::create;
use crate::shell::wire;

pub(super) const HELP: &str = "\
Examples:
  keyward audit prove 01KDGZJ5N3W0G3C5Y7B2Q4R6T8 --out entry.proof
  keyward audit prove 4711 --database /var/lib/keyward > entry.proof

The file holds the entry, its place, what proves that it is in the log, and the newest signed checkpoint. Whoever has the
log's key checks it with `keyward audit check-proof` or docs/verify.py, offline.";

pub(super) const CHECK_HELP: &str = "\
Example:
  keyward audit check-proof entry.proof --key 'NAME+ID+KEY'

The key must come from elsewhere than the file: what the file says about it is only a hint.

Exit codes:
  0 ok: the entry is in the log      5 unverifiable: no proof, or no key for its log
  2 tampered: the proof is wrong";

#[derive(Debug, Args)]
pub(in crate::shell::cli) struct Prove {
    /// The entry's id, or its place in the log
    id: String,
    /// Write it to this file, which must not be there yet, instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(in crate::shell::cli) struct CheckProof {
    /// The proof
    file: PathBuf,
    #[command(flatten)]
    keys: Keys,
    /// Whom to believe (C2SP tlog-policy): the keys of its logs count, and its quorum must have cosigned
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

impl Run {
    pub(super) fn audit_prove(&self, told: &Prove) -> Done {
        let source = self.source(&told.place)?;
        let mut proof = source.proof(&told.id)?;
        if let Some(path) = &told.place.database {
            // Not believed by anybody, and good to know.
            proof.hint = wire::archive(path).ok().and_then(|log| log.own_key()).map(|key| key.to_string());
        }
        self.source_banner(&source);
        let proof = proof.to_json();
        match &told.out {
            None => self.console.out(proof.trim_end()),
            Some(path) => {
                let written = create(path, 0o644, proof.as_bytes());
                written.map_err(|e| {
                    let hint = "name a file that is not there yet, in a directory that you may write";
                    Failure::new(Exit::Failed, format!("cannot write {}: {e}", path.display()), hint)
                })?;
                self.console.note(format!("{} holds the proof", path.display()));
            }
        }
        Ok(Exit::Ok)
    }

    pub(super) fn audit_check_proof(&self, told: &CheckProof) -> Done {
        let mut trust = told.keys.trust()?;
        let policy = told.policy.as_deref().map(policy).transpose()?;
        if let Some(policy) = &policy {
            trust.keys.extend(policy.logs().iter().filter_map(|log| RangedKey::always(log.key.clone()).ok()));
        }
        let bytes = small_file(&told.file, LONGEST_DOCUMENT)?;
        let read = Proof::read(&bytes);
        let hint = read.as_ref().ok().and_then(|proof| proof.hint.clone());
        let checked = read.and_then(|proof| proof.check(&trust).map(|proved| (proof, proved)));
        let checked = checked.and_then(|(proof, proved)| match &policy {
            Some(policy) => satisfied(policy, proof, proved),
            None => Ok((proof, proved)),
        });
        let json = self.output == Output::Json;
        match checked {
            Ok((proof, proved)) if json => self.console.json(&proved_json(&proof, &proved))?,
            Ok((proof, proved)) => self.show_proved(&proof, &proved),
            Err(finding) => {
                if json {
                    self.console.json(&refused_json(&finding))?;
                } else {
                    self.console.out(self.console.paint(&finding.to_string(), Tone::Bad));
                    if let Some(hint) = hint.filter(|_| trust.keys.is_empty()) {
                        self.console.note(format!("the file says that its log's key is {hint}: compare it with yours"));
                    }
                }
                return Ok(Exit::Verdict(finding.grade.exit()));
            }
        }
        Ok(Exit::Verdict(0))
    }

    fn show_proved(&self, proof: &Proof, proved: &Proved) {
        let checkpoint = &proved.checkpoint;
        let witnessed = checkpoint.witnessed.iter().map(|(name, at)| format!("{name} at {at}"));
        self.console.pairs(&[
            ("verdict", self.console.paint("ok", Tone::Good)),
            ("log", checkpoint.origin.clone()),
            ("entry", format!("{} of {}", proof.sequence, checkpoint.head.size)),
            ("id", proved.id.clone()),
            ("time", proved.at.to_string()),
            ("witnessed", witnessed.collect::<Vec<_>>().join("\n")),
        ]);
        self.console.out(String::from_utf8_lossy(&proof.entry));
    }
}

fn policy(path: &Path) -> Result<Policy, Failure> {
    let bytes = small_file(path, LONGEST_POLICY)?;
    Policy::parse(&bytes, Unsaid::Refused).map_err(|e| {
        let text = format!("the policy {}: it {e}", path.display());
        Failure::new(Exit::Verdict(Grade::Unverifiable.exit()), text, "see C2SP tlog-policy for what it must look like")
    })
}

/// The proof with its witnesses, if they are those that the policy asks for.
fn satisfied(policy: &Policy, proof: Proof, mut proved: Proved) -> Result<(Proof, Proved), Box<Finding>> {
    let refused = |grade, why: String| {
        Box::new(Finding::new(grade, Rule::Witness, format!("the policy is not satisfied: {why}")))
    };
    let note: Note = proof.checkpoint.parse().map_err(|e: ParseError| refused(Grade::Tampered, e.to_string()))?;
    match policy.satisfied(&note) {
        Ok(satisfied) => {
            proved.checkpoint.witnessed = satisfied.cosigned;
            Ok((proof, proved))
        }
        Err(why @ Unsatisfied::Wrong(_)) => Err(refused(Grade::Tampered, why.to_string())),
        Err(
            why @ (Unsatisfied::Checkpoint(_)
            | Unsatisfied::UnknownLog(_)
            | Unsatisfied::Unsigned(_)
            | Unsatisfied::Quorum(_)),
        ) => Err(refused(Grade::Unverifiable, why.to_string())),
    }
}

fn proved_json(proof: &Proof, proved: &Proved) -> serde_json::Value {
    let checkpoint = &proved.checkpoint;
    json!({
        "verdict": "ok",
        "exit": 0,
        "origin": checkpoint.origin,
        "sequence": proof.sequence.to_string(),
        "size": checkpoint.head.size.to_string(),
        "witnessed": checkpoint.witnessed.iter().map(|(name, at)| json!({"witness": name, "at": at.to_string()})).collect::<Vec<_>>(),
        "entry": serde_json::from_slice::<serde_json::Value>(&proof.entry).unwrap_or_default(),
    })
}

fn refused_json(finding: &Finding) -> serde_json::Value {
    json!({
        "verdict": finding.grade.as_str(),
        "exit": finding.grade.exit(),
        "code": finding.rule.code(),
        "text": finding.text,
    })
}
