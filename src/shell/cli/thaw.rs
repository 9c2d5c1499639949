//! Frozen entries for `keyward doctor`: all shards of a log, read and proved.

use std::path::PathBuf;

use super::console::{Exit, Failure};
use crate::codec::ledger::{Grade, Rule, Stored, Trust, Verifier};
use crate::codec::replay::Replay;
use crate::shell::wire::freeze::Shard;
use crate::shell::wire::keep::Thawed;

/// Reads them; `None` if none were given.
pub(super) fn thawed(shards: &[PathBuf]) -> Result<Option<Thawed>, Failure> {
    if shards.is_empty() {
        return Ok(None);
    }
    let refused = |why: String| {
        let hint = "keyward audit verify SHARD says more; give all shards from the first entry on";
        Failure::new(Exit::Failed, format!("the shards cannot be used: {why}"), hint)
    };
    let chain = Shard::chain(shards).map_err(|finding| refused(finding.to_string()))?;
    if chain.first().is_none_or(|first| first.from() != 0) {
        return Err(refused("the one with the first entry is missing".to_owned()));
    }
    // Whose shards they are says the log: its signed root covers the entry of the freeze, which names their root.
    let mut verifier = Verifier::new(Trust::default(), Vec::new());
    let (mut replay, mut subtrees) = (Replay::new(), Vec::new());
    for shard in &chain {
        shard.verify(&mut verifier, &mut |_| ());
    }
    let (beginning, freezes) = (verifier.carry(), verifier.freezes().to_vec());
    verifier.ends_early();
    let report = verifier.finish();
    if let Some(finding) = report.findings.kept().iter().find(|f| f.grade != Grade::Warning && f.rule != Rule::Unsigned)
    {
        return Err(refused(finding.to_string()));
    }
    // A second pass over what is proved now: what it makes goes into a database.
    let mut hashes = Verifier::new(Trust::default(), Vec::new());
    for shard in &chain {
        let made = shard.entries(|sequence, body| {
            let needs = hashes.entry(&Stored { sequence, id: None, at: None, leaf: None, body });
            subtrees.extend(needs.subtrees);
            replay.entry(body).map_err(|e| e.to_string())
        });
        made.map_err(|finding| refused(finding.to_string()))?;
    }
    if hashes.carry() != beginning {
        return Err(refused("they changed while they were read".to_owned()));
    }
    Ok(Some(Thawed { beginning, replay, subtrees, freezes }))
}
