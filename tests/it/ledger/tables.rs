//! What the tables hold, bent in the database itself: the library, the command and Python look at the same files.

use std::path::PathBuf;

use keyward::codec::ledger::Report;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::harness::ledger::{Written, python};

/// Each column whose every bit counts.
const COLUMNS: [(&str, usize, usize); 22] = [
    ("entry", 5, 0),
    ("entry", 5, 1),
    ("entry", 5, 2),
    ("entry", 5, 3),
    ("entry", 5, 4),
    ("checkpoint", 4, 0),
    ("checkpoint", 4, 1),
    ("checkpoint", 4, 2),
    ("subtree", 3, 0),
    ("subtree", 3, 1),
    ("subtree", 3, 2),
    ("word", 2, 0),
    ("word", 2, 1),
    ("mark", 2, 0),
    ("mark", 2, 1),
    ("open_intent", 2, 0),
    ("open_intent", 2, 1),
    ("evidence", 2, 0),
    ("evidence", 2, 1),
    ("private", 4, 0),
    ("private", 4, 1),
    ("private", 4, 2),
];

/// What to do, and the exit code that must come of it.
const STATEMENTS: [(&str, i32); 18] = [
    ("DELETE FROM subtree WHERE place = 1", 2),
    ("INSERT INTO subtree VALUES (8, 9, zeroblob(32))", 2),
    ("DELETE FROM mark WHERE sequence = 500 AND word = (SELECT min(word) FROM mark WHERE sequence = 500)", 2),
    ("INSERT INTO mark VALUES ((SELECT id FROM word WHERE text = 'code:KW2001'), 501)", 2),
    ("INSERT INTO word (text) VALUES ('target:nobody')", 2),
    ("DELETE FROM open_intent WHERE sequence = 50", 2),
    ("INSERT INTO open_intent SELECT id, sequence FROM entry WHERE sequence = 55", 2),
    // Deletable, and only counted.
    ("DELETE FROM evidence WHERE rowid = 3", 0),
    ("UPDATE evidence SET bytes = CAST(bytes || x'00' AS BLOB) WHERE rowid = 3", 2),
    ("DELETE FROM private WHERE rowid = 2", 0),
    ("INSERT INTO private (sha256, salt, text, person) VALUES (zeroblob(32), zeroblob(16), 'x', 0)", 2),
    ("DELETE FROM checkpoint", 5),
    ("DELETE FROM checkpoint WHERE size = (SELECT max(size) FROM checkpoint)", 2),
    ("UPDATE checkpoint SET kept = 0 WHERE size = (SELECT min(size) FROM checkpoint WHERE size > 0)", 2),
    ("DELETE FROM entry WHERE sequence = 700", 2),
    ("DELETE FROM entry WHERE sequence >= 700", 4),
    (
        "DELETE FROM entry WHERE sequence >= 700; DELETE FROM mark WHERE sequence >= 700; DELETE FROM subtree WHERE place > 1",
        4,
    ),
    (
        "UPDATE entry SET sequence = -1 WHERE sequence = 700; UPDATE entry SET sequence = 700 WHERE sequence = 701;
      UPDATE entry SET sequence = 701 WHERE sequence = -1",
        2,
    ),
];

/// Numbers that look like chance and are the same in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

/// Flips one bit of one value; gives what it was, or nothing if that would be no text any more.
fn flip(database: &Connection, table: &str, columns: usize, column: usize, chance: &mut Chance) -> Option<String> {
    let rows: i64 = database.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
    // The first checkpoint is of no entries: its time is nobody's, and only its note and size say something.
    let first = usize::from(table == "checkpoint");
    let which = first + chance.below(rows as usize - first);
    let read = |row: &rusqlite::Row<'_>| (0..columns).map(|n| row.get(n)).collect::<Result<Vec<Value>, _>>();
    let mut values: Vec<Value> =
        database.query_row(&format!("SELECT * FROM {table} LIMIT 1 OFFSET {which}"), [], read).unwrap();
    let marks: Vec<String> = (1..=columns).map(|n| format!("?{n}")).collect();
    let names: Vec<String> = database
        .prepare(&format!("SELECT name FROM pragma_table_info('{table}')"))
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let conditions: Vec<String> = names.iter().zip(&marks).map(|(name, mark)| format!("{name} IS {mark}")).collect();
    database
        .execute(&format!("DELETE FROM {table} WHERE {}", conditions.join(" AND ")), params_from_iter(&values))
        .unwrap();
    let bit = chance.below(8);
    let said = match &mut values[column] {
        Value::Integer(n) => {
            let bit = chance.below(64);
            *n ^= 1 << bit;
            format!("bit {bit}")
        }
        Value::Blob(bytes) => {
            let at = chance.below(bytes.len());
            bytes[at] ^= 1 << bit;
            format!("byte {at}, bit {bit}")
        }
        Value::Text(text) => {
            let mut bytes = text.clone().into_bytes();
            let at = chance.below(bytes.len());
            bytes[at] ^= 1 << bit;
            *text = String::from_utf8(bytes).ok()?;
            format!("byte {at}, bit {bit}")
        }
        other @ (Value::Null | Value::Real(_)) => panic!("{other:?}"),
    };
    let insert = format!("INSERT OR REPLACE INTO {table} ({}) VALUES ({})", names.join(","), marks.join(","));
    database.execute(&insert, params_from_iter(&values)).unwrap();
    Some(format!("{table}.{} of row {which}, {said}", names[column]))
}

/// What the three say must be the same.
fn all_say(logs: &[(String, Written, i32)]) {
    let paths: Vec<PathBuf> = logs.iter().map(|(_, log, _)| log.path().to_owned()).collect();
    let python = python(&[], &paths);
    for (n, (what, log, expected)) in logs.iter().enumerate() {
        let report: Report = log.verified();
        assert_eq!(i32::from(report.exit()), *expected, "{what}: {:#?}", report.findings.kept());
        assert_eq!(python[n].0, *expected, "{what}: {}", python[n].1);
        if n.is_multiple_of(3) {
            let (code, text) = log.command(&[]);
            assert_eq!(code, *expected, "{what}: {text}");
        }
    }
}

#[test]
fn what_is_bent_in_the_database_is_found_by_all_verifiers() {
    let log = Written::new(1_000);
    let mut chance = Chance(7);
    let mut bent = Vec::new();
    for (table, columns, column) in COLUMNS {
        for _ in 0..4 {
            let copy = log.copy();
            let database = copy.unguarded();
            let what = flip(&database, table, columns, column, &mut chance);
            drop(database);
            bent.extend(what.map(|what| (what, copy, 2)));
        }
    }
    assert!(bent.len() > 60, "{}", bent.len());
    for (sql, expected) in STATEMENTS {
        let copy = log.copy();
        copy.mutilate(sql);
        bent.push((sql.to_owned(), copy, expected));
    }
    all_say(&bent);
    assert_eq!(log.verified().exit(), 0, "the original was not touched");
}

#[test]
fn every_bit_of_the_index_is_seen() {
    use keyward::codec::ledger::{Fold, expect_rows};
    let log = Written::new(1_000);
    let mut base = Fold::new(&[3; 16]);
    let rows = log.rows();
    for row in &rows {
        expect_rows(&mut base, &row.body, 0);
        base.found(base.id(&row.id), row.sequence as u64);
    }
    let database = Connection::open(log.path().join("keyward.db")).unwrap();
    let words: std::collections::BTreeMap<i64, String> = database
        .prepare("SELECT id, text FROM word")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let marks: Vec<(i64, i64)> = database
        .prepare("SELECT word, sequence FROM mark")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    for (word, sequence) in &marks {
        let word = base.word(&words[word]);
        base.found(word, *sequence as u64);
    }
    assert_eq!(base.difference(), None);
    let mut checked = 0_u32;
    for (n, (word, sequence)) in marks.iter().enumerate() {
        let own = base.word(&words[word]);
        // All 64 bits of one row in ten, the lower twelve of the others; what is no row of a word or of an entry any
        // more is simply gone.
        for bit in 0..if n.is_multiple_of(10) { 64 } else { 12 } {
            let mut bent = base.clone();
            bent.expect(own, *sequence as u64);
            if let Some(other) = words.get(&(word ^ 1 << bit)) {
                let other = bent.word(other);
                bent.found(other, *sequence as u64);
            }
            assert!(bent.difference().is_some(), "mark {n}: word, bit {bit}");
            let mut bent = base.clone();
            bent.expect(own, *sequence as u64);
            if (0..1_000).contains(&(sequence ^ 1 << bit)) {
                bent.found(own, (sequence ^ 1 << bit) as u64);
            }
            assert!(bent.difference().is_some(), "mark {n}: sequence, bit {bit}");
            checked += 2;
        }
    }
    assert!(checked > 200_000, "{checked}");
}
