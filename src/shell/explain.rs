//! Every stable code, what it means and what to do: `keyward explain KW0012`, and `docs/codes.md`, which is made of it.
//!
//! | range | about | rows in |
//! |---|---|---|
//! | `KW00xx` | the configuration | `explain/configuration.rs` |
//! | `KW01xx` | the host (`keyward check`) | `explain/host.rs` |
//! | `KW1xxx` | findings of the engine | `explain/engine.rs` |
//! | `KW2xxx` | actions in the audit log | `explain/audit.rs` |
//! | `KW3xxx` | the CAs (ACME) | `explain/acme.rs` |
//! | `KW40xx` | reasons of the gate | `explain/gate.rs` |
//! | `KW406x` | revocation lists that are fetched | `explain/lists.rs` |
//! | `KW407x`, `KW408x` | freezes | `explain/freeze.rs` |
//! | `KW409x` | clocks, and time in which nobody ran | `explain/clocks.rs` |
//! | `KW41xx`, `KW42xx` | leases and permits | `explain/lease.rs` |
//! | `KW43xx` | links (mTLS proxies) | `explain/link.rs` |
//! | `KW44xx` | proof at the proxy: probe, lint, graph | `explain/proof.rs` |
//! | `KW45xx` | what proxies ask the gate | `explain/proxies.rs` |
//! | `KW46xx` | private CAs | `explain/pki.rs` |
//! | `KW48xx` | ACME directories over private CAs | `explain/directory.rs` |
//! | `KW485x`, `KW486x` | the SPIFFE Workload API and Envoy's secrets | `explain/workload.rs` |
//! | `KW488x` to `KW492x` | keys that are no certificate's | `explain/keys.rs` |
//! | `KW500x`, `KW501x` | answers of the API | `explain/api.rs` |
//! | `KW502x`, `KW503x` | policy as files | `explain/policy.rs` |
//! | `KW60xx` | the audit log and its start | `explain/log.rs` |
//! | `KW603x`, `KW604x` | an audit log that cannot be written or believed | `explain/recording.rs` |
//! | `KW61xx` | verifying the audit log | `explain/verifying.rs` |
//! | `KW62xx` | reading the audit log | `explain/reading.rs` |
//! | `KW64xx` | witnesses | `explain/witness.rs` |
//! | `KW63xx` | backup, repair, forgetting | `explain/keep.rs` |
//! | `KW65xx` | exporting and freezing the audit log | `explain/export.rs` |
//!
//! A code is never given a new meaning and never used again. A test finds codes in the sources that have no row here.

mod acme;
mod api;
mod audit;
mod clocks;
mod configuration;
mod directory;
mod engine;
mod export;
mod freeze;
mod gate;
mod host;
mod keep;
mod keys;
mod lease;
mod link;
mod lists;
mod log;
mod outside;
mod pki;
mod policy;
mod proof;
mod proxies;
mod reading;
mod rotation;
mod recording;
mod verifying;
mod witness;
mod workload;

/// What a code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `KW` and four digits.
    pub code: &'static str,
    /// A few words.
    pub title: &'static str,
    /// What it means, in sentences.
    pub meaning: &'static str,
    /// What to do about it.
    pub action: &'static str,
}

/// A row of a table.
const fn row(code: &'static str, title: &'static str, meaning: &'static str, action: &'static str) -> Entry {
    Entry { code, title, meaning, action }
}

/// Every reason for which a path is closed, as the table of docs/gate.md.
#[must_use]
pub fn reasons() -> String {
    use crate::domain::nature::{Firmness, NATURES, Opens};
    let mut out = String::from("| code | reason | closes | opens again |\n|---|---|---|---|\n");
    for (code, firmness, opens) in NATURES {
        let title = explain(code).map_or("", |entry| entry.title);
        let closes = match firmness {
            Firmness::Hard => "hard",
            Firmness::Soft => "soft",
        };
        let opens = match opens {
            Opens::Itself => "by itself",
            Opens::Replaced => "with another key",
            Opens::Person => "a person",
        };
        out.push_str(&format!("| `{code}` | {title} | {closes} | {opens} |\n"));
    }
    out
}

/// The tables with their headings.
const TABLES: &[(&str, &[Entry])] = &[
    ("Configuration", configuration::ROWS),
    ("Host", host::ROWS),
    ("Engine", engine::ROWS),
    ("Audit", audit::ROWS),
    ("ACME", acme::ROWS),
    ("Gate", gate::ROWS),
    ("Revocation lists", lists::ROWS),
    ("Freezes", freeze::ROWS),
    ("Clocks", clocks::ROWS),
    ("Leases and permits", lease::ROWS),
    ("Links", link::ROWS),
    ("Proof at the proxy", proof::ROWS),
    ("Gate: proxies", proxies::ROWS),
    ("Private CAs", pki::ROWS),
    ("Rotating private CAs", rotation::ROWS),
    ("Private CAs: from outside", outside::ROWS),
    ("ACME directories", directory::ROWS),
    ("Workload API", workload::ROWS),
    ("Keys", keys::ROWS),
    ("API", api::ROWS),
    ("Policy", policy::ROWS),
    ("Audit log", log::ROWS),
    ("Audit log: writing", recording::ROWS),
    ("Verifying the audit log", verifying::ROWS),
    ("Reading the audit log", reading::ROWS),
    ("Backup and repair", keep::ROWS),
    ("Witnesses", witness::ROWS),
    ("Exporting the audit log", export::ROWS),
];

/// Every code in order.
pub fn all() -> impl Iterator<Item = &'static Entry> {
    TABLES.iter().flat_map(|(_, rows)| rows.iter())
}

/// What a code means; case and surrounding spaces do not matter.
#[must_use]
pub fn explain(code: &str) -> Option<&'static Entry> {
    let code = code.trim();
    all().find(|entry| entry.code.eq_ignore_ascii_case(code))
}

/// The text of `docs/codes.md`.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from(
        "# Stable codes\n\nMade from `src/shell/explain/`; `keyward explain CODE` prints the same. \
         A code never changes its meaning.\n",
    );
    for (heading, rows) in TABLES.iter().filter(|(_, rows)| !rows.is_empty()) {
        out.push_str(&format!("\n## {heading}\n"));
        for entry in *rows {
            out.push_str(&format!(
                "\n### {} {}\n\n{}\n\n**What to do:** {}\n",
                entry.code, entry.title, entry.meaning, entry.action
            ));
        }
    }
    out
}

/// All codes in a table of Markdown, for `docs/audit.md`.
#[must_use]
pub fn table() -> String {
    let mut out = String::from("| code | title | about |\n|---|---|---|\n");
    for (heading, rows) in TABLES {
        for entry in *rows {
            out.push_str(&format!("| `{}` | {} | {heading} |\n", entry.code, entry.title));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_well_formed_in_order_and_never_twice() {
        let codes: Vec<&str> = all().map(|e| e.code).collect();
        for code in &codes {
            assert!(
                code.len() == 6 && code.starts_with("KW") && code[2..].bytes().all(|b| b.is_ascii_digit()),
                "{code}"
            );
        }
        assert!(codes.windows(2).all(|w| w[0] < w[1]), "rows stand in the order of their codes");
    }

    #[test]
    fn a_row_says_what_it_means_and_what_to_do_in_sentences() {
        for entry in all() {
            for text in [entry.title, entry.meaning, entry.action] {
                assert!(text.len() >= 4 && text.trim() == text, "{}: {text:?}", entry.code);
            }
            assert!(
                entry.meaning.ends_with('.') && entry.action.ends_with('.'),
                "{}: sentences end with '.'",
                entry.code
            );
            assert!(!entry.title.ends_with('.'), "{}: titles do not", entry.code);
        }
    }

    #[test]
    fn a_code_is_found_whatever_its_case() {
        assert_eq!(explain(" kw0003 ").map(|e| e.code), Some("KW0003"));
        assert_eq!(explain("KW9999"), None);
    }
}
