//! The scrape: state as series, made anew each time, so that no series outlives what it is about.
//!
//! Labels hold configuration slugs and fixed words, never a serial number, a name from a certificate or a fingerprint.
//! Times are exported as such, not as seconds left. What is absent is a series with `present 0`, never a missing series.

use std::collections::BTreeMap;

use prometheus::TextEncoder;

use super::exposition::Family;
use super::{Web, views};
use crate::codec::entry::Entry;
use crate::domain::gate::REASONS;
use crate::domain::id::{CredentialId, PathId};
use crate::domain::inventory::{Care, Credential, CrlFacts, CrlSeen, Environment, Seen, Sighting, Source};
use crate::domain::question::Question;
use crate::domain::state::CredentialRecord;
use crate::domain::time::Timestamp;
use crate::domain::tracked::{KeyClass, KeyState};

/// The scrape does not wait longer for the log: a disk that hangs must not take the other series with it.
const LOG_PATIENCE: core::time::Duration = core::time::Duration::from_secs(2);
/// More intents without an outcome are not counted: far more than are ever in flight.
const MOST_INTENTS: usize = 1_000;

/// The whole scrape.
pub(super) async fn text(web: &Web) -> String {
    let mut out = String::new();
    guardian(web, &mut out);
    // Without an answer the series are missing, which is what `absent()` is for: there is no honest number.
    if let Ok(Some(log)) = tokio::time::timeout(LOG_PATIENCE, AuditLog::of(web)).await {
        log.put(&mut out);
    }
    credentials(web, &mut out);
    limits(web, &mut out);
    lists(web, &mut out);
    witnesses(web, &mut out);
    gates(web, &mut out);
    freezes(web, &mut out);
    keys(web, &mut out);
    match TextEncoder::new().encode_to_string(&web.registry.gather()) {
        Ok(events) => out.push_str(&events),
        // Our own families are well formed; a comment is all that could be said here.
        Err(error) => out.push_str(&format!("# {}\n", error.to_string().replace('\n', " "))),
    }
    out
}

fn guardian(web: &Web, out: &mut String) {
    let overview = web.engine.overview();
    let mut info = Family::gauge("keyward_build_info", "Always 1; says which version runs, and where.");
    let environment = overview.environment.as_str();
    info.put(&[("version", env!("CARGO_PKG_VERSION")), ("environment", environment)], 1);
    info.finish(out);
    let mut which = Family::gauge("keyward_environment", "1 for the environment in which the guardian runs.");
    for each in [Environment::Production, Environment::Staging] {
        which.put(&[("environment", each.as_str())], i64::from(each == overview.environment));
    }
    which.finish(out);
    let mut single = |name, help, value| {
        let mut family = Family::gauge(name, help);
        family.put(&[], value);
        family.finish(out);
    };
    single("keyward_up", "1 while the guardian's loop turns.", i64::from(overview.alive));
    single("keyward_start_timestamp_seconds", "Since when the guardian runs.", overview.started.unix());
    single(
        "keyward_audit_writable",
        "1 while state and audit log can be written; otherwise every gate is closed.",
        i64::from(overview.store_fault.is_none()),
    );
    single(
        "keyward_audit_spool_entries",
        "Entries about what was closed already that wait to be written into the log; every gate is closed meanwhile.",
        i64::try_from(overview.spooled).unwrap_or(i64::MAX),
    );
    single(
        "keyward_audit_unrecorded_outcomes",
        "Effects whose outcome could not be written into the log yet; every gate is closed meanwhile.",
        i64::try_from(overview.unresolved).unwrap_or(i64::MAX),
    );
    single(
        "keyward_sealed",
        "1 while the state is not believed: every gate is closed, and nothing is issued or installed.",
        i64::from(overview.sealed.is_some()),
    );
    single("keyward_clock_trusted", "1 while the clocks agree.", i64::from(overview.clock_fault.is_none()));
    single(
        "keyward_attempts_in_flight",
        "Attempts to issue and install that are not over.",
        i64::try_from(overview.in_flight).unwrap_or(i64::MAX),
    );
}

/// The audit log's end.
struct AuditLog {
    size: u64,
    /// Time of its newest entry, which is that of its newest checkpoint.
    newest: Option<Timestamp>,
    unresolved: usize,
}

impl AuditLog {
    async fn of(web: &Web) -> Option<Self> {
        let page = web.store.query(Question { limit: 1, ..Question::default() }).await.ok()?;
        let newest = page.entries.first().and_then(|e| Entry::parse(&e.bytes).ok()).map(|e| e.at);
        let unresolved = web.store.open_intents(MOST_INTENTS).await.ok()?.len();
        Some(Self { size: page.size, newest, unresolved })
    }

    fn put(&self, out: &mut String) {
        let mut single = |name, help, value| {
            let mut family = Family::gauge(name, help);
            family.put(&[], value);
            family.finish(out);
        };
        let size = i64::try_from(self.size).unwrap_or(i64::MAX);
        single("keyward_audit_tree_size", "Entries of the audit log, all of them under its checkpoint.", size);
        if let Some(newest) = self.newest {
            single(
                "keyward_audit_checkpoint_timestamp_seconds",
                "Time of the newest entry, and so of the newest checkpoint; old if nothing is recorded any more.",
                newest.unix(),
            );
        }
        single(
            "keyward_audit_unresolved_intents",
            "Intents without an outcome: what is in flight, and what was cut off and is not reconciled yet.",
            i64::try_from(self.unresolved).unwrap_or(i64::MAX),
        );
    }
}

/// The families that have a line for each credential.
struct PerCredential {
    not_after: Family,
    not_before: Family,
    renew_at: Family,
    last_verified: Family,
    present: Family,
    mismatch: Family,
    info: Family,
    member: Family,
    window_start: Family,
    window_end: Family,
    next_attempt: Family,
    list_from: Family,
    list_until: Family,
    compat: Family,
}

impl PerCredential {
    fn new() -> Self {
        let gauge = Family::gauge;
        Self {
            not_after: gauge("keyward_credential_not_after_timestamp_seconds", "End of the certificate's validity."),
            not_before: gauge(
                "keyward_credential_not_before_timestamp_seconds",
                "Start of the certificate's validity.",
            ),
            renew_at: gauge("keyward_credential_renew_at_timestamp_seconds", "When the renewal is due."),
            last_verified: gauge(
                "keyward_credential_last_verified_timestamp_seconds",
                "When every endpoint was last seen to serve what is stored.",
            ),
            present: gauge("keyward_credential_present", "1 if a certificate is there and can be read."),
            mismatch: gauge(
                "keyward_credential_deployed_mismatch",
                "1 if an endpoint serves another certificate than the stored one.",
            ),
            info: gauge("keyward_credential_info", "Always 1; what the credential is, for joins."),
            member: gauge("keyward_path_member", "1 for each credential that an approval path stands on."),
            window_start: gauge("keyward_ari_window_start_timestamp_seconds", "The CA's renewal window (RFC 9773)."),
            window_end: gauge("keyward_ari_window_end_timestamp_seconds", "The CA's renewal window (RFC 9773)."),
            next_attempt: gauge(
                "keyward_renewal_next_attempt_timestamp_seconds",
                "No new attempt before this time: the last one failed.",
            ),
            list_from: gauge(
                "keyward_credential_crl_this_update_timestamp_seconds",
                "When the oldest of the revocation lists was made that speak of the certificate's chain.",
            ),
            list_until: gauge(
                "keyward_credential_crl_next_update_timestamp_seconds",
                "When the first of these lists is over; a path that needs it closes then.",
            ),
            compat: gauge("x509_cert_not_after", "As x509-certificate-exporter has it, for existing dashboards."),
        }
    }

    fn finish(self, out: &mut String) {
        let all = [
            self.not_after,
            self.not_before,
            self.renew_at,
            self.last_verified,
            self.present,
            self.mismatch,
            self.info,
            self.member,
            self.window_start,
            self.window_end,
            self.next_attempt,
            self.list_from,
            self.list_until,
            self.compat,
        ];
        all.into_iter().for_each(|family| family.finish(out));
    }

    fn put(
        &mut self,
        credential: &Credential,
        sighting: Option<&Sighting>,
        record: Option<&CredentialRecord>,
        paths: &[&PathId],
    ) {
        let own = ("credential", credential.id.as_str());
        let id = [own];
        let at = |family: &mut Family, time: Option<Timestamp>| {
            if let Some(time) = time {
                family.put(&id, time.unix());
            }
        };
        let chain = sighting.and_then(Sighting::chain);
        at(&mut self.not_after, chain.map(|c| c.leaf.validity.not_after));
        at(&mut self.not_before, chain.map(|c| c.leaf.validity.not_before));
        at(&mut self.renew_at, views::renew_at(credential, record));
        at(&mut self.last_verified, last_verified(credential, sighting, record));
        let window = record.and_then(|r| r.ari.as_ref()).and_then(|a| a.window);
        at(&mut self.window_start, window.map(|w| w.0));
        at(&mut self.window_end, window.map(|w| w.1));
        at(&mut self.next_attempt, record.and_then(|r| r.next_attempt));
        let lists = sighting.into_iter().flat_map(|s| s.crls.values().chain(s.points.values()));
        let lists: Vec<&CrlFacts> = lists.filter_map(CrlSeen::facts).collect();
        at(&mut self.list_from, lists.iter().map(|l| l.this_update).min());
        at(&mut self.list_until, lists.iter().filter_map(|l| l.next_update).min());
        self.present.put(&id, i64::from(present(sighting)));
        self.mismatch.put(&id, i64::from(mismatch(credential, sighting)));
        let managed = credential.managed();
        let current = record.and_then(|r| r.current.as_ref()).map(|g| g.issuer.as_str());
        let tier = views::credential_tier(credential, paths.len()).to_string();
        self.info.put(
            &[
                own,
                ("kind", if managed.is_some() { "managed" } else { "observed" }),
                ("tier", &tier),
                ("owner", credential.owner.as_deref().unwrap_or_default()),
                ("issuer", managed.and_then(|m| m.issuers.first()).map_or("", |i| i.as_str())),
                ("ca", current.unwrap_or_default()),
            ],
            1,
        );
        for path in paths {
            self.member.put(&[own, ("path", path.as_str())], 1);
        }
    }
}

fn credentials(web: &Web, out: &mut String) {
    let estate = web.engine.estate();
    let mut paths: BTreeMap<&CredentialId, Vec<&PathId>> = BTreeMap::new();
    for path in estate.paths.values() {
        path.needs.iter().for_each(|need| paths.entry(need).or_default().push(&path.id));
    }
    let none = Vec::new();
    let mut families = PerCredential::new();
    web.engine.for_each_credential(|credential, sighting, record| {
        families.put(credential, sighting, record, paths.get(&credential.id).unwrap_or(&none));
        if let Some(chain) = sighting.and_then(Sighting::chain).filter(|_| web.compat_x509) {
            let path = file(credential);
            let name = path.rsplit('/').next().unwrap_or_default();
            let labels = [("filename", name), ("filepath", &path), ("credential", credential.id.as_str())];
            families.compat.put(&labels, chain.leaf.validity.not_after.unix());
        }
    });
    for (id, _) in web.engine.empty_watches() {
        let Some(watch) = estate.watches.get(&id) else { continue };
        let source = Source::File { path: watch.pattern.clone(), password_file: None };
        let empty = Credential {
            id: id.clone(),
            owner: watch.owner.clone(),
            labels: watch.labels.clone(),
            care: Care::Observed(source),
            endpoints: Vec::new(),
            purpose: None,
            crls: Vec::new(),
        };
        families.put(&empty, None, None, paths.get(&id).unwrap_or(&none));
    }
    families.finish(out);
}

fn present(sighting: Option<&Sighting>) -> bool {
    let Some(sighting) = sighting else { return false };
    match sighting.stored.as_ref().map(|o| &o.seen) {
        Some(seen) => seen.chain().is_some(),
        None => sighting.chain().is_some(),
    }
}

fn mismatch(credential: &Credential, sighting: Option<&Sighting>) -> bool {
    let Some(sighting) = sighting else { return false };
    let Some(stored) = sighting.stored.as_ref().and_then(|o| o.seen.chain()) else { return false };
    let served = credential.endpoints.iter().filter_map(|e| sighting.served.get(e)).map(|o| &o.seen);
    served.filter_map(Seen::chain).any(|seen| seen.leaf.fingerprint != stored.leaf.fingerprint)
}

/// The oldest of the last looks at the endpoints, if all serve what is stored; else what was recorded at installation.
fn last_verified(
    credential: &Credential,
    sighting: Option<&Sighting>,
    record: Option<&CredentialRecord>,
) -> Option<Timestamp> {
    let recorded = || record.and_then(|r| r.current.as_ref()).and_then(|g| g.verified_at);
    let Some(sighting) = sighting.filter(|_| !credential.endpoints.is_empty()) else { return recorded() };
    let stored = sighting.stored.as_ref().and_then(|o| o.seen.chain());
    let looks = credential.endpoints.iter().map(|endpoint| {
        let look = sighting.served.get(endpoint)?;
        let chain = look.seen.chain()?;
        stored.is_none_or(|own| own.leaf.fingerprint == chain.leaf.fingerprint).then_some(look.at)
    });
    looks.collect::<Option<Vec<_>>>().and_then(|times| times.into_iter().min()).or_else(recorded)
}

/// The file that a dashboard knows the certificate by.
fn file(credential: &Credential) -> String {
    match &credential.care {
        Care::Observed(Source::File { path, .. }) => path.clone(),
        Care::Observed(Source::Endpoints) => String::new(),
        Care::Managed(managed) => {
            managed.installs.first().and_then(|install| views::files(install).into_iter().next()).unwrap_or_default()
        }
    }
}

fn witnesses(web: &Web, out: &mut String) {
    let known = web.witnesses.standing();
    let number = |size: u64| i64::try_from(size).unwrap_or(i64::MAX);
    let help = "1 if no witness has to cosign the audit log: whoever has this machine can rewrite it unseen.";
    let mut none = Family::gauge("keyward_audit_witness_quorum_none", help);
    none.put(&[], i64::from(known.quorum_none));
    none.finish(out);
    let mut size = Family::gauge("keyward_audit_witnessed_tree_size", "Entries that each witness has cosigned.");
    let help = "When each witness cosigned last, by its own clock.";
    let mut at = Family::gauge("keyward_audit_witnessed_timestamp_seconds", help);
    for witness in &known.witnesses {
        size.put(&[("witness", &witness.name)], number(witness.size));
        at.put(&[("witness", &witness.name)], witness.at.map_or(0, Timestamp::unix));
    }
    size.finish(out);
    at.finish(out);
    let mut quorum = Family::gauge("keyward_audit_quorum_tree_size", "Entries that the quorum has cosigned.");
    quorum.put(&[], number(known.quorum.map_or(0, |head| head.size)));
    quorum.finish(out);
}

fn limits(web: &Web, out: &mut String) {
    let mut family = Family::gauge(
        "keyward_ca_rate_limit_remaining",
        "Tokens left of a CA's limit, in the bucket that has the fewest.",
    );
    web.engine.for_each_limit(|issuer, limit, left| {
        family.put(&[("ca", issuer.as_str()), ("limit", limit)], i64::from(left));
    });
    family.finish(out);
}

/// By number only: a URL comes from a certificate, which is for nobody's label.
fn lists(web: &Web, out: &mut String) {
    let (mut tracked, mut kept, mut failing) = (0_i64, 0_i64, 0_i64);
    web.engine.for_each_list(|_, standing| {
        tracked = tracked.saturating_add(1);
        kept = kept.saturating_add(i64::from(standing.kept.is_some()));
        failing = failing.saturating_add(i64::from(standing.failures > 0));
    });
    let mut family = Family::gauge("keyward_crl_lists", "Revocation lists at distribution points, by how they stand.");
    for (state, count) in [("tracked", tracked), ("kept", kept), ("failing", failing)] {
        family.put(&[("state", state)], count);
    }
    family.finish(out);
}

fn freezes(web: &Web, out: &mut String) {
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let (counts, held) = web.engine.frozen();
    let mut active = Family::gauge("keyward_freeze_active", "Freezes in force, by the kind of their scope.");
    for (kind, count) in counts {
        active.put(&[("scope", kind)], number(count));
    }
    active.finish(out);
    let mut family =
        Family::gauge("keyward_freeze_held", "Credentials of which something is due and waits for a freeze.");
    family.put(&[], number(held));
    family.finish(out);
}

fn keys(web: &Web, out: &mut String) {
    let Some(tracker) = &web.keys else { return };
    let (all, now) = (tracker.all(), web.clock.now());
    let mut count = Family::gauge("keyward_keys", "Tracked keys, by class and state of the version in use.");
    for (class, word) in KeyClass::ALL {
        let own = || all.iter().filter(move |view| view.key.class == class);
        for (state, name) in KeyState::ALL {
            let many = own().filter(|view| view.record.current.as_ref().map(|v| v.state) == Some(state)).count();
            if own().next().is_some() {
                count.put(&[("class", word), ("state", name)], i64::try_from(many).unwrap_or(i64::MAX));
            }
        }
        let unseen = own().filter(|view| view.record.current.is_none()).count();
        if unseen > 0 {
            count.put(&[("class", word), ("state", "unknown")], i64::try_from(unseen).unwrap_or(i64::MAX));
        }
    }
    count.finish(out);
    let mut age = Family::gauge(
        "keyward_key_age_permille",
        "Age of a tracked key in thousandths of its cryptoperiod: overdue above 1000.",
    );
    let mut ends =
        Family::gauge("keyward_key_limit_timestamp_seconds", "Whatever stands on a key closes at this time.");
    let mut wrong = Family::gauge("keyward_key_finding", "1 for each thing that is wrong with a tracked key now.");
    for view in &all {
        let id = [("key", view.key.id.as_str())];
        if let Some(current) = &view.record.current {
            let period = view.key.cryptoperiod.as_millis().max(1);
            let permille =
                now.since(current.created).as_millis().saturating_mul(1_000).checked_div(period).unwrap_or(0);
            age.put(&id, i64::try_from(permille).unwrap_or(i64::MAX));
            ends.put(&id, view.key.ends_at(current.created).unix());
        }
        for finding in &view.findings {
            wrong.put(&[("key", view.key.id.as_str()), ("code", finding.code)], 1);
        }
    }
    [age, ends, wrong].into_iter().for_each(|family| family.finish(out));
}

fn gates(web: &Web, out: &mut String) {
    let verdicts = web.engine.gates();
    let mut closed =
        Family::gauge("keyward_gate_closed", "1 for each reason that closes an approval path now; open if all are 0.");
    let mut until = Family::gauge(
        "keyward_gate_until_timestamp_seconds",
        "An open path closes by itself at this time, unless what it stands on is renewed.",
    );
    for (verdict, _) in &verdicts {
        for code in REASONS {
            let closes = verdict.reasons.iter().any(|r| r.code == code);
            closed.put(&[("path", verdict.path.as_str()), ("reason", code)], i64::from(closes));
        }
        // A seal closes with its own code.
        for reason in verdict.reasons.iter().filter(|r| !REASONS.contains(&r.code)) {
            closed.put(&[("path", verdict.path.as_str()), ("reason", reason.code)], 1);
        }
        if verdict.is_open() {
            until.put(&[("path", verdict.path.as_str())], verdict.until.unix());
        }
    }
    closed.finish(out);
    until.finish(out);
}
