//! The vectors of docs/lease-vectors.json: made here, and judged alike by the library and by docs/lease.py.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use keyward::codec::lease::verify_permit;
use keyward::codec::statement::sign;
use keyward::domain::inventory::Environment;
use keyward::domain::key::Digest;
use keyward::domain::lease::{Expected, Lease, Moment};
use keyward::domain::statement::Context;
use keyward::domain::time::Timestamp;
use keyward::lease::{Keys, Memory, VolatileEpochs, verify};
use serde_json::{Value, json};

use crate::harness::lease::{
    BOOT, MADE, after, audience, boot, decision, key, lease, path, permit, pinned, signed, signed_permit,
};

/// Name, text, edits of what is expected, and whether it is believed.
fn vectors() -> Vec<Value> {
    let mut all = Vec::new();
    let mut add = |name: &str, text: String, edit: Value, good: bool| {
        let mut expected = json!({
            "audience": "portal", "path": "approve", "boot_id": BOOT,
            "wall": MADE + 1, "boot_ms": 3_601_000, "epoch": 41, "permit": null,
        });
        expected.as_object_mut().unwrap().extend(edit.as_object().unwrap().clone());
        all.push(json!({ "name": name, "text": text, "expected": expected, "good": good }));
    };
    let edited = |edit: fn(&mut Lease)| {
        let mut lease = lease();
        edit(&mut lease);
        signed(&lease)
    };
    let plain = || signed(&lease());
    add("a lease", plain(), json!({}), true);
    add("with a newline after it", format!("{}\n", plain()), json!({}), true);
    add("with a nonce", edited(|l| l.nonce = Some("Zm9v-_1".into())), json!({}), true);
    add("without the log", edited(|l| l.log = None), json!({}), true);
    add("of a higher epoch", edited(|l| l.grant.epoch = 99), json!({}), true);
    add("at its last millisecond", plain(), json!({ "wall": MADE + 14, "boot_ms": 3_614_999 }), true);
    add("at its first moment", plain(), json!({ "wall": MADE - 2, "boot_ms": 3_600_000 }), true);
    add("over by the wall clock", plain(), json!({ "wall": MADE + 15 }), false);
    add("over by the clock that does not step", plain(), json!({ "boot_ms": 3_615_000 }), false);
    add("before it begins", plain(), json!({ "wall": MADE - 3 }), false);
    add("before it was made", plain(), json!({ "boot_ms": 3_599_999 }), false);
    add("of another boot", plain(), json!({ "boot_id": "00000000-0000-0000-0000-000000000000" }), false);
    add("of a lower epoch", plain(), json!({ "epoch": 42 }), false);
    add("for another audience", plain(), json!({ "audience": "other" }), false);
    add("about another path", plain(), json!({ "path": "reject" }), false);
    add("of a dry run", edited(|l| l.grant.environment = Environment::Staging), json!({}), false);
    add("that says it lives too long", edited(|l| l.grant.boot_expires = boot(3_615_001)), json!({}), false);
    add("that says it ends too late", edited(|l| l.grant.expires = Timestamp::from_unix(MADE + 16)), json!({}), false);
    add("signed by another key", sign(&key(2), Context::Lease, &lease().json().canonical()).unwrap(), json!({}), false);
    add("cut off", plain()[..plain().len() - 1].to_owned(), json!({}), false);
    add("with padding", format!("{}==", plain()), json!({}), false);
    let swapped = plain().replacen("keyward-lease-v1", "keyward-permit-v1", 1);
    add("under the name of a permit", swapped, json!({ "permit": decision().to_string() }), false);
    let spaced = String::from_utf8(lease().json().canonical()).unwrap().replace(',', ", ");
    add("not canonical", sign(&key(1), Context::Lease, spaced.as_bytes()).unwrap(), json!({}), false);
    add("a permit as a lease", signed_permit(&permit()), json!({}), false);
    add("a permit", signed_permit(&permit()), json!({ "permit": decision().to_string() }), true);
    add("a permit for another decision", signed_permit(&permit()), json!({ "permit": "00".repeat(32) }), false);
    add("a lease as a permit", plain(), json!({ "permit": decision().to_string() }), false);
    all
}

fn judged_here(vector: &Value, keys: &Keys) -> bool {
    let e = &vector["expected"];
    let text = vector["text"].as_str().unwrap().as_bytes();
    let said = |key: &str| e[key].as_str().unwrap();
    let expected = Expected::here(audience(said("audience")), path(said("path")), said("boot_id"));
    let now =
        Moment { wall: Timestamp::from_unix(e["wall"].as_i64().unwrap()), boot: boot(e["boot_ms"].as_u64().unwrap()) };
    let mut epochs = VolatileEpochs::default();
    keyward::lease::Epochs::keep(&mut epochs, crate::harness::lease::ISSUER, e["epoch"].as_u64().unwrap()).unwrap();
    let mut memory = Memory::new(epochs);
    match e["permit"].as_str() {
        None => verify(text, keys, &expected, now, &mut memory).is_ok(),
        Some(digest) => verify_permit(text, keys, &expected, &Digest::parse(digest).unwrap(), now, &mut memory).is_ok(),
    }
}

#[test]
fn library_and_script_agree_on_every_vector_of_the_documentation() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/lease-vectors.json");
    let all = json!({ "keys": [key(1).verifier().to_string()], "vectors": vectors() });
    let made = format!("{}\n", serde_json::to_string_pretty(&all).unwrap());
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lease-vectors.json");
    fs::write(&copy, &made).unwrap();
    let kept = fs::read_to_string(&file).unwrap_or_default();
    assert!(kept == made, "the vectors have changed: cp {} {}", copy.display(), file.display());
    for vector in all["vectors"].as_array().unwrap() {
        assert_eq!(judged_here(vector, &pinned()), vector["good"].as_bool().unwrap(), "{}", vector["name"]);
    }
    let script = "
import json, sys
sys.path.insert(0, sys.argv[1])
import lease
all = json.load(open(sys.argv[2]))
wrong = []
for v in all['vectors']:
    e = v['expected']
    try:
        lease.verify(v['text'], all['keys'], e['audience'], e['path'], e['wall'], e['boot_ms'], e['boot_id'],
                     e['epoch'], 0, e['permit'])
        good = True
    except (ValueError, KeyError, TypeError, IndexError):
        good = False
    if good != v['good']:
        wrong.append(v['name'])
print(len(all['vectors']), wrong)
";
    let docs = file.parent().unwrap();
    let run = Command::new("python3").args(["-B", "-c", script]).arg(docs).arg(&file).stdin(Stdio::null()).output();
    let run = run.unwrap_or_else(|e| panic!("python3: {e}: start the tests with tests/run"));
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    let all = all["vectors"].as_array().unwrap().len();
    assert_eq!(said.trim(), format!("{all} []"), "{}", String::from_utf8_lossy(&run.stderr));
}

#[test]
fn the_example_of_the_documentation_is_the_first_vector() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/lease.md")).unwrap();
    let text = signed(&lease());
    let payload = String::from_utf8(lease().json().canonical()).unwrap();
    for part in [text.as_str(), payload.as_str(), &key(1).verifier().to_string()] {
        assert!(page.contains(part), "docs/lease.md lacks {part}");
    }
    assert!(
        verify(
            text.as_bytes(),
            &pinned(),
            &crate::harness::lease::here(),
            after(1_000),
            &mut Memory::new(VolatileEpochs::default())
        )
        .is_ok()
    );
}

#[test]
fn the_script_stays_short() {
    let lines =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/lease.py")).unwrap().lines().count();
    assert!(lines <= 90, "docs/lease.py has {lines} lines: whoever has no library must be able to read it");
}
