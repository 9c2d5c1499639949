//! Audit entries as events of the Open Cybersecurity Schema Framework (OCSF 1.7), for a SIEM.
//!
//! What is done to credentials, issuers, approval paths and requests is Entity Management (class 3004); the guardian's own
//! start, stop and the like are Application Lifecycle (class 6002). The canonical entry goes along as `raw_data`, so that
//! nothing is lost and its leaf hash can be computed again. Refuses to decide what is severe: a failure is, nothing else.

use serde_json::{Map, Value, json};

use super::ParseError;
use super::entry::Entry;
use crate::domain::audit::{Outcome, Phase, leaf_hash};

/// The version of the schema that is written.
pub const VERSION: &str = "1.7.0";

const ENTITY_MANAGEMENT: (u64, u64) = (3, 3004);
const APPLICATION_LIFECYCLE: (u64, u64) = (6, 6002);
/// An activity that the class has no number for; its name stands beside it.
const OTHER: u64 = 99;

/// One entry's stored bytes as an OCSF event.
///
/// # Errors
/// If the bytes are no entry.
pub fn event(bytes: &[u8]) -> Result<Value, ParseError> {
    let entry = Entry::parse(bytes)?;
    let raw = core::str::from_utf8(bytes).map_err(|_| ParseError::new("an entry is not UTF-8"))?;
    let daemon = entry.target.kind == "daemon";
    let (category, class) = if daemon { APPLICATION_LIFECYCLE } else { ENTITY_MANAGEMENT };
    let activity = if daemon { lifecycle(&entry.action) } else { management(&entry.action) };
    let (status, status_name) = status(&entry);
    let severity = severity(&entry);
    let mut event = Map::new();
    let mut put = |key: &str, value: Value| drop(event.insert(key.to_owned(), value));
    put("activity_id", json!(activity));
    put("activity_name", json!(entry.action));
    put("category_uid", json!(category));
    put("class_uid", json!(class));
    // OCSF: class times a hundred plus the activity.
    put("type_uid", json!(class.saturating_mul(100).saturating_add(activity)));
    put("time", json!(entry.at.unix().saturating_mul(1_000)));
    put("timezone_offset", json!(0));
    put("severity_id", json!(severity));
    put("status_id", json!(status));
    put("status", json!(status_name));
    put("status_code", json!(entry.code));
    put("message", json!(message(&entry)));
    put("metadata", metadata(&entry));
    put("raw_data", json!(raw));
    put("raw_data_hash", json!({ "algorithm_id": 3, "algorithm": "SHA-256", "value": hex_of_raw(bytes) }));
    if daemon {
        put("app", json!({ "name": "keyward", "uid": entry.target.id }));
    } else {
        put("actor", actor(&entry));
        put("entity", json!({ "name": entry.target.id, "uid": entry.target.key(), "type": entry.target.kind }));
        put("comment", json!(message(&entry)));
    }
    put("unmapped", unmapped(&entry, bytes));
    Ok(Value::Object(event))
}

/// OCSF's hash of the raw data is a plain one; the leaf hash of the log stands in `unmapped`.
fn hex_of_raw(bytes: &[u8]) -> String {
    crate::domain::key::Digest::of(bytes).to_string()
}

/// Activities of Entity Management: 1 create, 3 update, 8 enable, 9 disable, 10 activate, 11 deactivate.
fn management(action: &str) -> u64 {
    match action {
        "certificate.issue" => 1,
        "certificate.install" => 10,
        "certificate.rollback" => 11,
        "certificate.schedule" | "certificate.postpone" | "issuer.rollover" | "issuer.terms" => 3,
        "gate.open" => 8,
        "gate.close" => 9,
        _ => OTHER,
    }
}

/// Activities of Application Lifecycle: 3 start, 4 stop, 8 update.
fn lifecycle(action: &str) -> u64 {
    match action {
        "daemon.start" => 3,
        "daemon.stop" => 4,
        "configuration.reload" => 8,
        _ => OTHER,
    }
}

/// 0 unknown, 1 success, 2 failure, 99 what the name says.
fn status(entry: &Entry) -> (u64, &'static str) {
    match (entry.phase, entry.outcome) {
        (_, Some(Outcome::Success)) => (1, "Success"),
        (_, Some(Outcome::Failure)) => (2, "Failure"),
        (_, Some(Outcome::Denied)) => (OTHER, "Denied"),
        (_, Some(Outcome::Unknown)) => (0, "Unknown"),
        (Phase::Intent, None) => (OTHER, "Intended"),
        (Phase::Event | Phase::Outcome, None) => (1, "Success"),
    }
}

/// 1 informational, 3 medium for what failed or is unknown, 2 low for what was denied.
fn severity(entry: &Entry) -> u64 {
    match entry.outcome {
        Some(Outcome::Failure | Outcome::Unknown) => 3,
        Some(Outcome::Denied) => 2,
        Some(Outcome::Success) | None => 1,
    }
}

fn message(entry: &Entry) -> String {
    let what = match (entry.phase, entry.outcome) {
        (Phase::Intent, _) => " intended".to_owned(),
        (_, Some(outcome)) => format!(": {outcome}"),
        (_, None) => String::new(),
    };
    format!("{} {} of {}{what}", entry.code, entry.action, entry.target.key())
}

fn actor(entry: &Entry) -> Value {
    match &entry.actor.subject {
        Some(subject) => json!({ "user": { "uid": subject, "name": subject }, "app_name": "keyward" }),
        None => json!({ "app_name": "keyward", "invoked_by": entry.actor.kind }),
    }
}

fn metadata(entry: &Entry) -> Value {
    let version = entry.version.as_deref().unwrap_or("unknown");
    let mut metadata = json!({
        "version": VERSION,
        "uid": entry.id.to_string(),
        "sequence": entry.sequence,
        "log_name": "audit",
        "event_code": entry.code,
        "product": { "name": "Keyward", "vendor_name": "Keyward", "version": version },
    });
    if let (Some(correlation), Some(fields)) = (entry.correlation, metadata.as_object_mut()) {
        fields.insert("correlation_uid".into(), json!(correlation.to_string()));
    }
    metadata
}

/// What OCSF has no place for.
fn unmapped(entry: &Entry, bytes: &[u8]) -> Value {
    let policy = entry.policy.as_ref().map(|p| {
        json!({ "decision": p.decision, "rule": p.rule, "version": p.version.to_string(), "inputs": p.inputs.to_string() })
    });
    let fields = [
        ("intent_ref", json!(entry.intent.map(|id| id.to_string()))),
        ("leaf_hash", json!(leaf_hash(bytes).to_string())),
        ("phase", json!(entry.phase.as_str())),
        ("policy", json!(policy)),
        ("serial", json!(entry.target.serial)),
        ("tier", json!(entry.tier)),
    ];
    fields.into_iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::{Actor, Draft, Target, TargetKind, seal};
    use crate::domain::id::{EntryId, Ulid};
    use crate::domain::private::Told;
    use crate::domain::time::Timestamp;

    fn draft(action: &'static str, kind: TargetKind) -> Draft {
        let at = Timestamp::from_unix(1_790_000_000);
        Draft::new(EntryId(Ulid::new(at, [7; 10])), at, action, "KW2003", Target::new(kind, "portal"))
    }

    #[test]
    fn an_issuance_is_a_creation_and_keeps_its_bytes() {
        let mut issued = draft("certificate.issue", TargetKind::Credential);
        (issued.phase, issued.outcome) = (Phase::Outcome, Some(Outcome::Failure));
        issued.actor = Actor::Human("uid:7".into());
        let sealed = seal(&issued, 9, None, &Told::nothing());
        let event = event(&sealed.bytes).unwrap();
        assert_eq!((&event["class_uid"], &event["type_uid"]), (&json!(3004), &json!(300_401)));
        assert_eq!((&event["status_id"], &event["severity_id"]), (&json!(2), &json!(3)));
        assert_eq!(event["raw_data"].as_str().map(str::as_bytes), Some(&*sealed.bytes));
        assert_eq!(event["unmapped"]["leaf_hash"], json!(sealed.leaf.to_string()));
        assert_eq!(event["metadata"]["sequence"], json!(9));
    }

    #[test]
    fn the_guardians_own_life_is_an_application_lifecycle() {
        let started = seal(&draft("daemon.start", TargetKind::Daemon), 0, None, &Told::nothing());
        let event = event(&started.bytes).unwrap();
        assert_eq!((&event["class_uid"], &event["activity_id"]), (&json!(6002), &json!(3)));
        assert_eq!(event["app"]["name"], json!("keyward"));
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        assert!(event(b"{}").is_err());
    }
}
