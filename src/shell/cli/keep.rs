//! `keyward backup`, `restore`, `doctor`: keeping the state, and what is left of a damaged one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::args::{Backup, Doctor, Output, Restore};
use super::console::{Exit, Failure};
use super::{Done, Run, client, thaw};
use crate::ports::StoreError;
use crate::shell::config::Settings;
use crate::shell::wire;
use crate::shell::wire::keep::{self, Accept, Diagnosis, LogOptions, Manifest, Mend, Secrets, Verdict};

impl Run {
    pub(super) fn backup(&self, told: &Backup) -> Done {
        let dir = self.state_dir()?;
        let secrets = if told.with_keys { Secrets::Included } else { Secrets::LeftOut };
        let shown = told.to.display();
        if told.plan {
            let files = keep::plan(&dir, secrets).map_err(failed)?;
            for (path, size) in &files {
                self.console.out(format!("{} ({size} bytes)", path.display()));
            }
            self.console.note(format!("would be copied to {shown} and read back; nothing was written"));
            self.console.note(about_keys(told.with_keys));
            return Ok(Exit::Ok);
        }
        let manifest = keep::backup(&dir, &told.to, secrets, wire::clock().now()).map_err(failed)?;
        self.describe(&told.to, &manifest)?;
        self.console.note(about_keys(told.with_keys));
        Ok(Exit::Ok)
    }

    pub(super) fn restore(&self, told: &Restore) -> Done {
        let Some(to) = told.to.as_ref().filter(|_| !told.plan) else {
            let manifest = keep::check(&told.backup).map_err(failed)?;
            self.describe(&told.backup, &manifest)?;
            if let Some(to) = &told.to {
                self.console.note(format!("would be put back into {}; nothing was written", to.display()));
            }
            return Ok(Exit::Ok);
        };
        let manifest = keep::restore(&told.backup, to).map_err(failed)?;
        self.describe(to, &manifest)?;
        let shown = to.display();
        self.console.note(format!(
            "next: the audit lock is not part of a backup. If it is still there it has seen more entries than the \
             {} here, and if not it is missing; either way the daemon starts only after a person has accepted that: \
             keyward doctor {shown} --accept rolled-back, or --accept lock-missing",
            manifest.entries
        ));
        if !manifest.with_keys {
            self.console.note(format!(
                "put log.key back into {shown} first (mode 0600), and keys/ and accounts/ where they still are: \
                 this backup was made without private keys"
            ));
        }
        Ok(Exit::Ok)
    }

    pub(super) fn doctor(&self, told: &Doctor) -> Done {
        let (dir, options) = self.place(told.dir.as_deref())?;
        if !told.accept.is_empty() {
            return self.accept(&dir, options, told);
        }
        let mend = if told.repair && !told.plan { Mend::Replace } else { Mend::Look };
        let thawed = thaw::thawed(&told.shards)?;
        let found = keep::examine(&dir, &options, mend, thawed).map_err(failed)?;
        match self.output {
            Output::Json => self.console.json(&as_json(&found))?,
            Output::Table | Output::Name => lines(&found).iter().for_each(|line| self.console.out(line)),
        }
        Ok(match (found.verdict, &found.set_aside) {
            (Verdict::Sound, _) => Exit::Ok,
            (Verdict::Mendable, Some(aside)) => {
                self.console.note(format!("made anew from the log; the old database is {}", aside.display()));
                Exit::Ok
            }
            (Verdict::Mendable, None) => {
                let dir = dir.display();
                self.console
                    .note(format!("the log is whole: keyward doctor {dir} --repair makes the rest anew from it"));
                Exit::Warning
            }
            (Verdict::Incomplete, _) => {
                if let Some(rebuilt) = &found.rebuilt {
                    let shown = rebuilt.display();
                    self.console.note(format!("what could be read is in {shown}; it was not put in place"));
                }
                self.console.note("a backup is needed: keyward restore BACKUP --to NEW_DIR");
                Exit::Failed
            }
        })
    }

    fn accept(&self, dir: &Path, options: LogOptions, told: &Doctor) -> Done {
        let rules = told.accept.iter().map(|name| {
            Accept::parse(name).ok_or_else(|| {
                let known: Vec<&str> = Accept::ALL.iter().map(|(_, name, _)| *name).collect();
                Failure::new(Exit::Usage, format!("there is no rule {name:?}"), format!("one of {}", known.join(", ")))
            })
        });
        let rules = rules.collect::<Result<BTreeSet<Accept>, Failure>>()?;
        let names = told.accept.join(", ");
        if told.plan {
            self.console.out(format!("would open {} once although {names}; an entry would name you", dir.display()));
            return Ok(Exit::Ok);
        }
        let by = format!("uid:{}", rustix::process::getuid().as_raw());
        keep::accept(dir, options, rules, Arc::from(by)).map_err(failed)?;
        self.console.note(format!("{} can be opened again; what was accepted is an entry of its log", dir.display()));
        Ok(Exit::Ok)
    }

    /// The directory that was named, or that of the configuration. Where its lock lies says the configuration, if it is
    /// that of this directory.
    pub(super) fn place(&self, named: Option<&Path>) -> Result<(PathBuf, LogOptions), Failure> {
        let Some(dir) = named else {
            let settings = self.own()?;
            let options = keep::log_options(Some(&settings));
            return Ok((settings.state_dir, options));
        };
        Ok((dir.to_owned(), keep::log_options(self.settings_of(dir).as_ref())))
    }

    /// The configuration, if it is that of this directory.
    pub(super) fn settings_of(&self, dir: &Path) -> Option<Settings> {
        let known = client::config_path(&self.common).ok().and_then(|path| client::settings(&path, &self.common).ok());
        let real = |dir: &Path| std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
        known.filter(|settings| real(&settings.state_dir) == real(dir))
    }

    fn state_dir(&self) -> Result<PathBuf, Failure> {
        self.own().map(|settings| settings.state_dir)
    }

    fn own(&self) -> Result<Settings, Failure> {
        let path = client::config_path(&self.common)?;
        client::settings(&path, &self.common).map_err(|error| {
            self.console.note(error.report(self.console.report_colour()));
            let text = "the configuration names the state directory, and it cannot be used";
            Failure::new(Exit::BadConfig, text, "mend it")
        })
    }

    fn describe(&self, place: &Path, manifest: &Manifest) -> Result<(), Failure> {
        if self.output == Output::Json {
            return self.console.json(manifest);
        }
        let bytes = manifest.files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.size));
        if manifest.begins > 0 {
            let frozen = manifest.begins;
            self.console
                .note(format!("the first {frozen} entries are frozen: they lie in shards, which are no part of it"));
        }
        self.console.out(format!(
            "{}: made {}, {} entries, {} credentials, {} files with {bytes} bytes; read back to the last entry",
            place.display(),
            manifest.made,
            manifest.entries,
            manifest.credentials,
            manifest.files.len()
        ));
        Ok(())
    }
}

fn about_keys(with_keys: bool) -> &'static str {
    if with_keys {
        "it holds private keys: whoever reads it can act as this guardian and as its servers"
    } else {
        "it holds no private keys: keep log.key, keys/ and accounts/ by other means, or use --with-keys"
    }
}

fn lines(found: &Diagnosis) -> Vec<String> {
    let here = found.expected.saturating_sub(found.begins);
    let mut out = vec![format!("{} of {here} entries can be read", found.readable)];
    if found.begins > 0 {
        out.push(format!("the {} entries before them are frozen, and lie in shards", found.begins));
    }
    out.extend(found.findings.iter().map(|f| format!("{} {}", f.code, f.text)));
    out.extend(found.lost.iter().map(|lost| {
        let words = if lost.words.is_empty() { String::new() } else { format!(" ({})", lost.words.join(" ")) };
        format!("lost: entry {}{words}: {}", lost.sequence, lost.why)
    }));
    out.extend(found.unknown.iter().map(|what| format!("unknown: {what}")));
    out
}

fn as_json(found: &Diagnosis) -> serde_json::Value {
    let verdict = match found.verdict {
        Verdict::Sound => "sound",
        Verdict::Mendable => "mendable",
        Verdict::Incomplete => "incomplete",
    };
    let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string());
    serde_json::json!({
        "verdict": verdict,
        "expected": found.expected,
        "begins": found.begins,
        "readable": found.readable,
        "findings": found.findings.iter().map(|f| serde_json::json!({"code": f.code, "text": f.text})).collect::<Vec<_>>(),
        "lost": found.lost.iter().map(|l| {
            serde_json::json!({"sequence": l.sequence, "why": l.why, "words": l.words})
        }).collect::<Vec<_>>(),
        "unknown": found.unknown,
        "rebuilt": path(&found.rebuilt),
        "set_aside": path(&found.set_aside),
    })
}

fn failed(error: StoreError) -> Failure {
    let hint = match &error {
        StoreError::InUse(_) => "stop the daemon first",
        StoreError::Damaged(_) | StoreError::Distrusted { .. } => "keyward explain tells what a code means",
        StoreError::Unavailable(_) | StoreError::Lost(_) => "see the disk",
    };
    Failure::new(Exit::Failed, error.to_string(), hint)
}
