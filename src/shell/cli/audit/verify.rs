//! `keyward audit verify`: the whole log, wherever it lies.

use core::time::Duration;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::progress::Progress;
use super::trust::{Keys, notes};
use crate::codec::ledger::{Anchor, Finding, Grade, RangedKey, Report, Rule, Trust, Verifier};
use crate::codec::shard::MANIFEST;
use crate::ports::StoreError;
use crate::shell::cli::args::Output;
use crate::shell::cli::console::{Exit, Failure, Tone};
use crate::shell::cli::{Done, Run, client};
use crate::shell::wire;
use crate::shell::wire::freeze::Shard;

pub(super) const HELP: &str = "\
Examples:
  keyward audit verify /var/lib/keyward --key 'NAME+ID+KEY' --against checkpoint.from-last-month
  keyward audit verify /backup/keyward.db
  keyward audit verify ./exported-log --key 'NAME+ID+KEY' --witness 'NAME+ID+KEY'
  keyward audit verify https://logs.example.org/keyward --key 'NAME+ID+KEY' --json
  keyward audit verify /var/lib/keyward --shard /srv/shards
  keyward audit verify /srv/shards/000000000000-000000004096 --key 'NAME+ID+KEY'

Nothing is written, and a daemon may run meanwhile. Without --key the key that lies beside the database is taken, which
whoever can change the log can change too. Keep a checkpoint or a witness elsewhere and give it: without, a log that was
made anew with the same key looks like the first one. Where the oldest entries were frozen (keyward audit freeze), give their
shards with --shard; without them the log is read from where it begins now, and what is before rests on the signed root.

Exit codes:
  0 ok: everything is what was signed            4 incomplete: something that was signed is not there
  2 tampered: something is not what was signed   5 unverifiable: no key, no checkpoint, or it cannot be read
  3 rolled back: there was more than there is
An unknown option also ends with 2.";

#[derive(Debug, Args)]
pub(in crate::shell::cli) struct Verify {
    /// A state directory, a database file, a directory of static files, the URL of one, or a shard [default: the configured
    /// state directory]
    #[arg(value_name = "DIR|URL|DATABASE")]
    source: Option<String>,
    /// A checkpoint that was saved before, or that a witness has signed: the log must go on from it
    #[arg(long, value_name = "CHECKPOINT")]
    against: Vec<PathBuf>,
    /// A shard of frozen entries, or a directory that holds shards: they are read first
    #[arg(long = "shard", value_name = "DIR")]
    shards: Vec<PathBuf>,
    #[command(flatten)]
    keys: Keys,
    /// The audit lock, if it does not lie beside the database
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// The same as -o json
    #[arg(long)]
    json: bool,
}

/// What is shown beside the report.
struct About {
    source: String,
    signed_by: Vec<String>,
    /// Said if the key was not given.
    key_beside: bool,
    /// Whether anything was given that whoever can change the log cannot have changed.
    outside: bool,
    lock: Option<String>,
    took: Duration,
}

/// What there is to compare with, and what is wrong with it.
#[derive(Default)]
struct Known {
    anchors: Vec<Anchor>,
    findings: Vec<Finding>,
}

impl Known {
    fn note(&mut self, trust: &Trust, what: String, note: &str) {
        match trust.judge(&what, note) {
            Ok(judged) => self.anchors.push(Anchor { what, head: judged.head }),
            Err(finding) => self.findings.push(*finding),
        }
    }

    /// The shards in order; none if they are no chain, which is a finding.
    fn shards(&mut self, dirs: &[PathBuf]) -> Vec<Shard> {
        Shard::chain(dirs).unwrap_or_else(|finding| {
            self.findings.push(*finding);
            Vec::new()
        })
    }

    fn verifier(self, trust: Trust) -> Verifier {
        let mut verifier = Verifier::new(trust, self.anchors);
        self.findings.into_iter().for_each(|finding| verifier.find(finding));
        verifier
    }
}

/// Reads the shards one after the other, from where the first begins.
fn read_shards(shards: &[Shard], verifier: &mut Verifier, progress: &mut Progress) {
    let (Some(first), Some(last)) = (shards.first(), shards.last()) else { return };
    match first.beginning() {
        Ok(beginning) => verifier.begin(&beginning),
        Err(finding) => return verifier.find(*finding),
    }
    for shard in shards {
        shard.verify(verifier, &mut |at| progress.tell(at, last.until()));
        if verifier.size() != shard.until() {
            // What follows it cannot be compared with anything; why, is found.
            return;
        }
    }
}

impl Run {
    pub(super) fn audit_verify(&self, told: &Verify) -> Done {
        let trust = told.keys.trust()?;
        let source = match &told.source {
            Some(source) => source.clone(),
            None => self.state_directory()?.display().to_string(),
        };
        let given = notes(&told.against)?;
        let web = source.starts_with("http://") || source.starts_with("https://");
        let path = Path::new(&source);
        let is_tree = !path.join("keyward.db").exists() && path.join("checkpoint").exists();
        let (report, about) = if !web && path.join(MANIFEST).exists() {
            self.verify_shards(path, told, trust, &given)?
        } else if web || is_tree {
            self.verify_tree(&source, web, trust, &given)?
        } else {
            self.verify_database(path, told, trust, &given)?
        };
        if told.json || self.output == Output::Json {
            self.console.json(&as_json(&report, &about))?;
        } else {
            self.show(&report, &about);
        }
        Ok(Exit::Verdict(report.exit()))
    }

    fn verify_database(
        &self,
        path: &Path,
        told: &Verify,
        mut trust: Trust,
        given: &[(String, String)],
    ) -> Result<(Report, About), Failure> {
        let archive = wire::archive(path).map_err(|e| unreadable(&e))?;
        let key_beside = trust.keys.is_empty();
        if key_beside {
            trust.keys.extend(archive.own_key().and_then(|key| RangedKey::always(key).ok()));
        }
        let mut known = Known::default();
        let shards = known.shards(&told.shards);
        // What cannot be read now cannot be read later, and is told then.
        let mut handovers = archive.handovers().unwrap_or_default();
        handovers.extend(shards.iter().flat_map(Shard::handovers));
        trust.learn(&handovers);
        trust.gaps = shards.first().map_or_else(|| archive.begins().unwrap_or(0), Shard::from) > 0;
        // Before the log, which is then never behind it.
        let lock = match archive.lock(told.lock.as_deref()) {
            Ok(Some(note)) => {
                known.note(&trust, "the audit lock".to_owned(), &note);
                Some("compared".to_owned())
            }
            Ok(None) if told.lock.is_some() => {
                known.findings.push(Finding::new(
                    Grade::Unverifiable,
                    Rule::Unreadable,
                    "there is no audit lock there",
                ));
                None
            }
            Ok(None) => None,
            Err(error) => {
                let grade = if matches!(error, StoreError::Damaged(_)) { Grade::Tampered } else { Grade::Unverifiable };
                known.findings.push(Finding::new(grade, Rule::Unreadable, error.to_string()));
                None
            }
        };
        given.iter().for_each(|(what, note)| known.note(&trust, what.clone(), note));
        let mut secret = [0; 16];
        wire::entropy().fill(&mut secret);
        let mut progress = Progress::new();
        let mut about = About {
            source: archive.path().display().to_string(),
            signed_by: shown(&trust),
            key_beside,
            outside: !given.is_empty() || !trust.witnesses.is_empty(),
            lock,
            took: Duration::ZERO,
        };
        let mut verifier = known.verifier(trust);
        read_shards(&shards, &mut verifier, &mut progress);
        let report = archive.verify(verifier, &secret, &mut |p| progress.tell(p.done, p.total));
        about.took = progress.done();
        Ok((report, about))
    }

    /// Shards that stand for themselves: whether the log that they were taken from names them cannot be said.
    fn verify_shards(
        &self,
        path: &Path,
        told: &Verify,
        mut trust: Trust,
        given: &[(String, String)],
    ) -> Result<(Report, About), Failure> {
        let mut known = Known::default();
        let all: Vec<PathBuf> = told.shards.iter().cloned().chain([path.to_owned()]).collect();
        let shards = known.shards(&all);
        trust.learn(&shards.iter().flat_map(Shard::handovers).collect::<Vec<_>>());
        trust.gaps = shards.first().is_some_and(|first| first.from() > 0);
        given.iter().for_each(|(what, note)| known.note(&trust, what.clone(), note));
        let mut about = About {
            source: path.display().to_string(),
            signed_by: shown(&trust),
            key_beside: false,
            outside: !given.is_empty() || !trust.witnesses.is_empty(),
            lock: None,
            took: Duration::ZERO,
        };
        let mut progress = Progress::new();
        let mut verifier = known.verifier(trust);
        read_shards(&shards, &mut verifier, &mut progress);
        verifier.ends_early();
        about.took = progress.done();
        Ok((verifier.finish(), about))
    }

    fn verify_tree(
        &self,
        source: &str,
        web: bool,
        trust: Trust,
        given: &[(String, String)],
    ) -> Result<(Report, About), Failure> {
        let tree = if web {
            let hint = "name the directory in which `checkpoint` lies";
            wire::tree_at(source).map_err(|e| Failure::new(Exit::Verdict(Grade::Unverifiable.exit()), e, hint))?
        } else {
            wire::tree_in(Path::new(source))
        };
        let mut known = Known::default();
        given.iter().for_each(|(what, note)| known.note(&trust, what.clone(), note));
        let mut about = About {
            source: source.to_owned(),
            signed_by: shown(&trust),
            key_beside: false,
            outside: !given.is_empty() || !trust.witnesses.is_empty(),
            lock: None,
            took: Duration::ZERO,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| {
            Failure::new(
                Exit::Verdict(Grade::Unverifiable.exit()),
                format!("cannot wait for answers: {e}"),
                "see ulimit -a",
            )
        })?;
        let mut progress = Progress::new();
        let verifier = known.verifier(trust);
        let report = runtime.block_on(tree.verify(verifier, &mut |done, total| progress.tell(done, total)));
        about.took = progress.done();
        Ok((report, about))
    }

    pub(super) fn state_directory(&self) -> Result<PathBuf, Failure> {
        let path = client::config_path(&self.common)?;
        let settings = client::settings(&path, &self.common).map_err(|error| {
            self.console.note(error.report(self.console.report_colour()));
            let text = "the configuration names the state directory, and it cannot be used";
            Failure::new(
                Exit::Verdict(Grade::Unverifiable.exit()),
                text,
                "mend it, or name the log: keyward audit verify DIR",
            )
        })?;
        Ok(settings.state_dir)
    }

    fn show(&self, report: &Report, about: &About) {
        let tone = if report.exit() == 0 { Tone::Good } else { Tone::Bad };
        let span = report.span.map_or_else(String::new, |(first, last)| format!(", {first} to {last}"));
        let begins = match report.begins {
            0 => String::new(),
            begins => format!(", the first {begins} of them frozen and not read"),
        };
        let mut compared = report.agrees.clone();
        if !about.outside {
            compared.push(NOTHING_OUTSIDE.to_owned());
        }
        let mut signed_by = about.signed_by.clone();
        if about.key_beside && !signed_by.is_empty() {
            signed_by.push(KEY_BESIDE.to_owned());
        }
        let witnessed = report.witnessed.iter().map(|(name, size, at)| format!("{name} saw size {size} at {at}"));
        self.console.pairs(&[
            ("verdict", self.console.paint(report.verdict(), tone)),
            ("source", about.source.clone()),
            ("log", report.origin.clone().unwrap_or_default()),
            ("entries", format!("{}{begins}{span}", report.entries)),
            ("believe", report.trustworthy().join("\n")),
            ("signed by", signed_by.join("\n")),
            ("agrees with", compared.join("\n")),
            ("witnessed", witnessed.collect::<Vec<_>>().join("\n")),
            ("evidence", blobs(report.evidence.named, report.evidence.missing)),
            ("private texts", blobs(report.private.named, report.private.missing)),
            ("open intents", report.unresolved.to_string()),
        ]);
        for finding in report.findings.kept() {
            let tone = if finding.grade == Grade::Warning { Tone::Warn } else { Tone::Bad };
            self.console.out(self.console.paint(&finding.to_string(), tone));
        }
        if report.findings.more() > 0 {
            self.console.out(format!("and {} findings more", report.findings.more()));
        }
        let read = report.entries.saturating_sub(report.begins);
        self.console.note(format!("{read} entries in {:.1} s", about.took.as_secs_f64()));
    }
}

const NOTHING_OUTSIDE: &str = "nothing from outside was given to compare with: a log made anew with the same key would look the \
                               same; keep a checkpoint elsewhere and give it with --against";
const KEY_BESIDE: &str =
    "which lies beside the log: whoever can change the log may have this key too; give yours with --key";

fn shown(trust: &Trust) -> Vec<String> {
    let learned = |ranged: &RangedKey| {
        ranged.learned.as_ref().map_or_else(String::new, |l| format!(" (by entry {}, a rotation)", l.sequence))
    };
    trust.keys.iter().map(|ranged| format!("{}{}", ranged.key, learned(ranged))).collect()
}

fn blobs(named: u64, missing: u64) -> String {
    match (named, missing) {
        (0, _) => String::new(),
        (named, 0) => format!("{named}, all there"),
        (named, missing) => format!("{named}, {missing} of them deleted"),
    }
}

fn unreadable(error: &StoreError) -> Failure {
    let code = Rule::Unreadable.code();
    let hint = "name a state directory, a keyward.db, or a directory with `checkpoint`; be a user who may read it";
    Failure::new(Exit::Verdict(Grade::Unverifiable.exit()), format!("{error} ({code})"), hint)
}

fn as_json(report: &Report, about: &About) -> serde_json::Value {
    let findings = report.findings.kept().iter().map(|finding| {
        json!({"code": finding.rule.code(), "grade": finding.grade.as_str(), "sequence": finding.sequence, "text": finding.text})
    });
    json!({
        "verdict": report.verdict(),
        "exit": report.exit(),
        "source": about.source,
        "origin": report.origin,
        "entries": report.entries,
        "begins": report.begins,
        "first_time": report.span.map(|(first, _)| first.to_string()),
        "last_time": report.span.map(|(_, last)| last.to_string()),
        "proved_size": report.proved.map(|head| head.size),
        "proved_root": report.proved.map(|head| head.root.to_string()),
        "first_bad": report.first_bad(),
        "believe": report.trustworthy(),
        "keys": about.signed_by,
        "key_lies_beside_the_log": about.key_beside,
        "agrees_with": report.agrees,
        "compared_with_something_from_outside": about.outside,
        "lock": about.lock,
        "checkpoints": report.checkpoints,
        "witnessed": report.witnessed.iter().map(|(name, size, at)| json!({"witness": name, "size": size, "at": at.to_string()})).collect::<Vec<_>>(),
        "evidence": {"named": report.evidence.named, "missing": report.evidence.missing},
        "private": {"named": report.private.named, "missing": report.private.missing},
        "open_intents": report.unresolved,
        "findings": findings.collect::<Vec<_>>(),
        "more_findings": report.findings.more(),
        "seconds": about.took.as_secs_f64(),
    })
}
