//! Every removal, swap and truncation.

use keyward::codec::checkpoint::Checkpoint;
use keyward::codec::ledger::{Anchor, Report, Signed, Stored, Verifier};
use keyward::codec::note;
use keyward::domain::key::Digest;

use crate::harness::ledger::{Note, Row, Written};

/// Hands rows and checkpoints over as the tables hold them.
fn feed(mut verifier: Verifier, rows: &[Row], notes: &[Note]) -> Report {
    let mut due = notes.iter().peekable();
    for row in rows {
        while let Some(note) = due.next_if(|note| note.size <= verifier.size()) {
            checkpoint(&mut verifier, note);
        }
        entry(&mut verifier, row);
    }
    due.for_each(|note| checkpoint(&mut verifier, note));
    verifier.finish()
}

fn entry(verifier: &mut Verifier, row: &Row) {
    verifier.entry(&Stored {
        sequence: row.sequence as u64,
        id: Some(row.id),
        at: Some(row.at),
        leaf: Some(Digest(row.leaf)),
        body: &row.body,
    });
}

fn checkpoint(verifier: &mut Verifier, note: &Note) {
    verifier.checkpoint(&Signed { size: Some(note.size), at: Some(note.at), note: &note.note });
}

/// The verifier before each entry, so that what comes before is read once.
fn before_each(verifier: Verifier, rows: &[Row], notes: &[Note]) -> Vec<Verifier> {
    let mut at = verifier;
    let mut due = notes.iter().peekable();
    let mut all = Vec::new();
    for row in rows {
        while let Some(note) = due.next_if(|note| note.size <= at.size()) {
            checkpoint(&mut at, note);
        }
        all.push(at.clone());
        entry(&mut at, row);
    }
    all
}

fn renumbered(rows: &[Row], from: usize) -> Vec<Row> {
    rows.iter().enumerate().map(|(n, row)| Row { sequence: (from + n) as i64, ..row.clone() }).collect()
}

/// A few entries after the change, and the checkpoints after these: what follows can only be worse.
fn rest(rows: &[Row], from: usize) -> &[Row] {
    &rows[from.min(rows.len())..(from + 12).min(rows.len())]
}

#[test]
fn every_removal_swap_and_reorder_is_seen_also_with_new_numbers() {
    let log = Written::new(1_000);
    let (rows, notes) = (log.rows(), log.notes());
    assert_eq!(feed(Verifier::new(log.trust(), Vec::new()), &rows, &notes).exit(), 0);
    let before = before_each(Verifier::new(log.trust(), Vec::new()), &rows, &notes);
    let later = |n: usize| notes.iter().filter(|note| note.size as usize > n).cloned().collect::<Vec<_>>();
    for n in 0..rows.len() {
        let bad = |what: &str, changed: Vec<Row>| {
            let report = feed(before[n].clone(), &changed, &later(n));
            // To take the last one away is to cut the log off.
            let expected = if changed.is_empty() { 4 } else { 2 };
            assert_eq!(report.exit(), expected, "{what} {n}: {:?}", report.findings.kept());
            if expected == 2 {
                assert_eq!(report.first_bad(), Some(n as u64), "{what} {n}: {:?}", report.findings.kept());
            }
        };
        bad("removed", rest(&rows, n + 1).to_vec());
        bad("removed and renumbered", renumbered(rest(&rows, n + 1), n));
        for (far, what) in [(1, "swapped"), (7, "exchanged")] {
            if n + far < rows.len() {
                let mut changed = rows[n..(n + 12).min(rows.len())].to_vec();
                changed.swap(0, far);
                bad(what, changed.clone());
                bad("renumbered", renumbered(&changed, n));
            }
        }
        let mut twice = rest(&rows, n).to_vec();
        twice.insert(0, rows[n].clone());
        let report = feed(before[n].clone(), &twice, &later(n));
        assert_eq!((report.exit(), report.first_bad().is_some()), (2, true), "twice {n}");
    }
}

#[test]
fn every_truncation_is_seen_and_what_is_left_is_still_proved() {
    let log = Written::new(1_000);
    let (rows, notes) = (log.rows(), log.notes());
    let newest = notes.last().unwrap();
    let head = Checkpoint::of(&newest.note.parse::<note::Note>().unwrap()).unwrap().head;
    let lock = || vec![Anchor { what: "the lock".into(), head }];
    let before = before_each(Verifier::new(log.trust(), Vec::new()), &rows, &notes);
    let with_lock = before_each(Verifier::new(log.trust(), lock()), &rows, &notes);
    for n in 0..rows.len() {
        let (reached, beyond): (Vec<Note>, Vec<Note>) = notes.iter().cloned().partition(|note| note.size as usize <= n);
        // Entries alone: their checkpoint says that there were more.
        let due: Vec<Note> = notes.iter().filter(|note| note.size as usize >= n).cloned().collect();
        let report = feed(before[n].clone(), &[], &due);
        // The rows of `before` have not seen the checkpoint of their own size yet.
        assert_eq!(report.exit(), 4, "{n}: {:?}", report.findings.kept());
        let proved = reached.last().map(|note| note.size).filter(|size| *size > 0);
        assert_eq!(report.proved.map(|head| head.size).filter(|size| *size > 0), proved, "{n}");
        // With their checkpoints: entries behind the last one are found, or it is an older log that only the lock knows.
        let own: Vec<Note> = due.iter().filter(|note| note.size as usize == n).cloned().collect();
        let report = feed(before[n].clone(), &[], &own);
        let exact = !own.is_empty();
        let expected = match (reached.is_empty(), exact) {
            (true, _) => 5,
            (false, true) => 0,
            (false, false) => 2,
        };
        assert_eq!(report.exit(), expected, "{n}: {:?}", report.findings.kept());
        let report = feed(with_lock[n].clone(), &[], &own);
        let expected = if expected == 2 { 2 } else { 3 };
        assert_eq!(report.exit(), expected, "{n}, with the lock: {:?}", report.findings.kept());
        assert!(!beyond.is_empty());
    }
}
