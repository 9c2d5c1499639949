//! The audit log over the API and on its page.

use keyward::domain::audit::{Draft, Outcome, Target, TargetKind, bounded_text};
use keyward::domain::id::{EntryId, Ulid};
use keyward::domain::json::Json;
use keyward::domain::private::Private;
use keyward::domain::time::HOUR;
use keyward::ports::Batch;
use serde_json::Value;

use crate::harness::http::{Script, Server, Still};
use crate::http::page::{chromium, sideways};
use crate::http::two_paths;

/// A guardian that issued a certificate an hour ago, with two gates.
pub fn house() -> Still {
    Still::lived(two_paths(), Script::default(), HOUR)
}

fn get(server: &Server, path: &str) -> Value {
    let reply = server.get(path);
    assert_eq!((reply.status, reply.header("content-type")), (200, "application/json"), "{path}: {}", reply.body);
    reply.json()
}

fn refused(server: &Server, path: &str) -> (u16, String, String) {
    let reply = server.get(path);
    assert_eq!(reply.header("content-type"), "application/problem+json", "{path}: {}", reply.body);
    let problem = reply.json();
    assert!(problem["hint"].as_str().unwrap().len() > 3, "{problem}");
    (reply.status, problem["code"].as_str().unwrap().into(), problem["detail"].as_str().unwrap().into())
}

fn rows(page: &Value) -> &Vec<Value> {
    page["entries"].as_array().unwrap()
}

#[test]
fn the_log_is_asked_by_words_times_and_pages() {
    let server = house().serve();
    let all = get(&server, "/v1/audit/entries?order=oldest&limit=1000");
    let size = rows(&all).len();
    assert!(size > 8 && all["size"].as_str() == Some(&*size.to_string()) && all["more"] == false, "{all}");
    let first = &rows(&all)[0];
    for field in ["sequence", "id", "time", "code", "title", "action", "phase", "target", "actor", "text", "leaf"] {
        assert!(first[field].is_string(), "{field}: {first}");
    }
    assert_eq!((&first["code"], &first["entry"]["data"]["code"]), (&"KW2401".into(), &"KW2401".into()));
    for (query, fits) in [
        ("credential=portal&outcome=success", ("target", "credential/portal")),
        ("path=broken", ("target", "path/broken")),
        ("code=KW2001", ("code", "KW2001")),
        ("text=KW2001", ("code", "KW2001")),
        ("text=about%20to%20be%20ordered", ("code", "KW2001")),
        ("phase=intent&action=certificate", ("phase", "intent")),
        ("actor=automation", ("actor", "automation")),
    ] {
        let page = get(&server, &format!("/v1/audit/entries?{query}"));
        assert!(!rows(&page).is_empty(), "{query}");
        assert!(rows(&page).iter().all(|row| row[fits.0] == fits.1), "{query}: {page}");
    }
    let gates = get(&server, "/v1/audit/entries?code=KW23");
    assert!(rows(&gates).iter().all(|r| r["code"].as_str().unwrap().starts_with("KW23")) && rows(&gates).len() >= 2);
    let either = get(&server, "/v1/audit/entries?code=KW2001&code=KW2003");
    assert_eq!(rows(&either).len(), 2, "of one kind any");
    for none in ["service=x", "approver=x", "exception=x", "incident=x", "until=2001-01-01", "credential=nobody"] {
        let page = get(&server, &format!("/v1/audit/entries?{none}"));
        assert_eq!((rows(&page).len(), &page["more"]), (0, &false.into()), "{none}");
    }
    assert_eq!(rows(&get(&server, "/v1/audit/entries?since=4w&limit=1000")).len(), size);
    let mut cursor = String::new();
    let mut seen = Vec::new();
    loop {
        let page = get(&server, &format!("/v1/audit/entries?limit=3{cursor}"));
        seen.extend(rows(&page).iter().map(|r| r["sequence"].as_str().unwrap().to_owned()));
        if page["more"] == false {
            break;
        }
        cursor = format!("&cursor={}", page["next"].as_str().unwrap());
    }
    assert_eq!(seen, (0..size).rev().map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_question_that_is_not_understood_is_refused_and_never_answered_otherwise() {
    let server = house().serve();
    for (query, why) in [
        ("colour=red", "no parameter \"colour\""),
        ("credential=", "has 0 bytes"),
        ("limit=0", "limit \"0\""),
        ("limit=1001", "not possible"),
        ("since=yesterday", "is no time"),
        ("until=1y", "is no time"),
        ("outcome=sucess", "not possible"),
        ("phase=x", "not possible"),
        ("tier=5", "not possible"),
        ("code=gate", "is no code"),
        ("code=KW12345", "is no code"),
        ("text=no%20such%20words%20anywhere", "no code's meaning"),
        ("correlation=x", "no ULID"),
        ("cursor=7", "is no cursor"),
        ("cursor=n07", "is no cursor"),
        ("cursor=n7&order=oldest", "other order"),
        ("order=random", "order \"random\""),
    ] {
        let (status, code, text) = refused(&server, &format!("/v1/audit/entries?{query}"));
        assert_eq!((status, code.as_str()), (400, "KW6201"), "{query}: {text}");
        assert!(text.contains(why), "{query}: {text}");
    }
    let many = vec!["code=KW2001"; 65].join("&");
    assert_eq!(refused(&server, &format!("/v1/audit/entries?{many}")).1, "KW6201");
    let long = format!("/v1/audit/entries?credential={}", "x".repeat(257));
    assert_eq!(refused(&server, &long).1, "KW6201");
    for (path, status, code) in [
        ("/v1/audit/entries/999999", 404, "KW6202"),
        ("/v1/audit/entries/01KDGZJ5N3W0G3C5Y7B2Q4R6T8", 404, "KW6202"),
        ("/v1/audit/entries/01KDGZJ5N3W0G3C5Y7B2Q4R6T8/story", 404, "KW6202"),
        ("/v1/audit/entries/nonsense", 400, "KW6201"),
        ("/audit/999999", 404, "KW6202"),
        ("/audit?colour=red", 400, "KW6201"),
    ] {
        let (found, kind, text) = refused(&server, path);
        assert_eq!((found, kind.as_str()), (status, code), "{path}: {text}");
    }
}

#[test]
fn an_entry_is_shown_with_its_other_half_and_its_evidence() {
    let server = house().serve();
    let intent = rows(&get(&server, "/v1/audit/entries?code=KW2001"))[0].clone();
    let outcome = rows(&get(&server, "/v1/audit/entries?code=KW2003"))[0].clone();
    let by_id = get(&server, &format!("/v1/audit/entries/{}", intent["id"].as_str().unwrap()));
    let by_place = get(&server, &format!("/v1/audit/entries/{}", intent["sequence"].as_str().unwrap()));
    assert_eq!(by_id, by_place);
    assert_eq!((&by_id["partner"]["id"], &by_id["partner"]["outcome"]), (&outcome["id"], &"success".into()));
    assert_eq!(
        by_id["bytes"].as_str().map(|b| serde_json::from_str::<Value>(b).unwrap()),
        Some(by_id["entry"].clone())
    );
    let back = get(&server, &format!("/v1/audit/entries/{}", outcome["id"].as_str().unwrap()));
    assert_eq!((&back["partner"]["id"], &back["partner"]["phase"]), (&intent["id"], &"intent".into()));
    for piece in back["evidence"].as_array().unwrap() {
        assert_eq!((piece["kept"].as_bool(), piece["sha256"].as_str().map(str::len)), (Some(true), Some(64)));
    }
}

#[test]
fn a_decision_is_told_from_its_entries() {
    let server = house().serve();
    let intent = rows(&get(&server, "/v1/audit/entries?code=KW2001"))[0].clone();
    let told = |name: &str| {
        let story = get(&server, &format!("/v1/audit/entries/{name}/story"));
        let sentences: Vec<String> = serde_json::from_value(story["sentences"].clone()).unwrap();
        assert!(sentences.iter().all(|s| s.ends_with('.')), "{sentences:#?}");
        (sentences.join("\n"), story["entries"].as_array().unwrap().len())
    };
    let (whole, entries) = told(intent["id"].as_str().unwrap());
    assert!(entries >= 5, "{whole}");
    for part in [
        "entries about credential portal",
        "automation was about to issue a certificate",
        "Policy let it go on: rule ",
        "inputs ",
        "KW2002 (ordered): recorded by automation",
        "to issue a certificate came out as success (of intent #",
        "was about to install a certificate",
        "to install a certificate came out as success",
        "the entry asked for",
    ] {
        assert!(whole.contains(part), "{part}: {whole}");
    }
    let by_correlation = told(intent["correlation"].as_str().unwrap());
    assert_eq!(by_correlation.1, entries);
    let gate = rows(&get(&server, "/v1/audit/entries?path=broken"))[0].clone();
    let (alone, one) = told(gate["sequence"].as_str().unwrap());
    assert!(one == 1 && alone.contains("one entry about path broken") && alone.contains("reasons: "), "{alone}");
}

#[test]
fn counts_and_the_checkpoint_are_there_and_in_the_scrape() {
    let server = house().serve();
    let stats = get(&server, "/v1/audit/stats");
    let size: usize = stats["size"].as_str().unwrap().parse().unwrap();
    let counted: u64 = stats["codes"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(usize::try_from(counted).unwrap(), size, "each entry has one code");
    assert_eq!(stats["unresolved_intents"], "0");
    let note = server.get("/v1/audit/checkpoint");
    assert_eq!(note.status, 200);
    assert_eq!(note.body.lines().nth(1), Some(size.to_string().as_str()), "{}", note.body);
    let scrape = server.get("/metrics").body;
    for line in [format!("keyward_audit_tree_size {size}"), "keyward_audit_unresolved_intents 0".to_owned()] {
        assert!(scrape.lines().any(|l| l == line), "{line}");
    }
    assert!(scrape.contains("\nkeyward_audit_checkpoint_timestamp_seconds 1"), "{scrape}");
}

const HOSTILE_NAME: &str = "uid:1000\"><script>alert(1)</script>";

/// A house with an entry that a CA might have written.
pub fn hostile() -> Still {
    let still = house();
    write(&still, 9);
    still
}

/// One more entry.
pub fn write(still: &Still, seed: u8) {
    let now = still.ports.clock.now();
    let target = Target::new(TargetKind::Credential, "portal");
    let mut draft = Draft::new(EntryId(Ulid::new(now, [seed; 10])), now, "certificate.issue", "KW3007", target);
    draft.by(&Private { salt: [7; 16], text: HOSTILE_NAME.into() });
    draft.outcome = Some(Outcome::Failure);
    let text = bounded_text("<img src=x onerror=alert(2)> \u{1b}[31m =1+1 \u{202e}evil");
    draft.private.push(("text", text.into()));
    draft.facts = vec![("issuer", Json::str("le"))];
    futures_util::FutureExt::now_or_never(still.ports.store.commit(Batch { changes: vec![], entries: vec![draft] }))
        .unwrap()
        .unwrap();
}

#[test]
fn people_and_private_texts_are_told_by_name_while_they_are_kept_and_asked_for_by_name() {
    let server = hostile().serve();
    let name: String = url_encoded(HOSTILE_NAME);
    let page = get(&server, &format!("/v1/audit/entries?actor={name}"));
    let row = &rows(&page)[0];
    assert_eq!((rows(&page).len(), &row["actor"], &row["code"]), (1, &HOSTILE_NAME.into(), &"KW3007".into()));
    assert!(row["text"].as_str().unwrap().starts_with("<img src=x"), "{row}");
    let pseudonym = row["entry"]["data"]["actor"]["subject"].as_str().unwrap();
    assert_eq!(pseudonym.len(), 64, "the entry itself names nobody");
    assert!(!row["entry"].to_string().contains("<img"), "and holds no text from outside");
    assert_eq!(rows(&get(&server, &format!("/v1/audit/entries?actor={pseudonym}"))).len(), 1);
    assert_eq!(rows(&get(&server, "/v1/audit/entries?actor=uid:1000")).len(), 0, "not by half a name");
    let place = row["sequence"].as_str().unwrap();
    let detail = get(&server, &format!("/v1/audit/entries/{place}"));
    assert!(detail["private"]["text"].as_str().unwrap().contains("evil") && detail["private"]["actor"].is_null());
    let story = get(&server, &format!("/v1/audit/entries/{place}/story")).to_string();
    assert!(story.contains("evil") && story.contains("for uid:1000"), "{story}");
}

fn url_encoded(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

#[test]
fn the_page_lists_narrows_and_pages_with_links_only() {
    let server = hostile().serve();
    let reply = server.get("/audit");
    assert_eq!((reply.status, reply.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = reply.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("form-action 'none'"), "{policy}");
    assert!(server.get("/").body.contains("href=\"/audit\""));
    let html = &reply.body;
    for hostile in ["<script", "<img", "<form", "style=", "javascript:", "\u{1b}", "\u{202e}"] {
        assert!(!html.contains(hostile), "{hostile}");
    }
    assert!(html.contains("&lt;img src=x"));
    assert!(html.contains("href=\"/audit?outcome=failure\"") && html.contains("href=\"/audit?credential=portal\""));
    let narrowed = server.get("/audit?code=KW2301&path=approve&limit=1").body;
    assert_eq!(narrowed.matches("<tr>").count(), 2, "{narrowed}");
    assert!(narrowed.contains("code KW2301 ✕") && narrowed.contains("href=\"/audit?path=approve&amp;limit=1\""));
    assert!(server.get("/audit?credential=nobody").body.contains("No entry is like that."));
    let first = server.get("/audit?limit=2").body;
    let next = first.split("rel=\"next\" href=\"").nth(1).unwrap().split('"').next().unwrap().replace("&amp;", "&");
    let second = server.get(&next).body;
    assert!(second.contains("← newest") && first != second);
    let one = server.get("/audit/1").body;
    for part in ["What happened", "As stored", "Leaf", "#1 of "] {
        assert!(one.contains(part), "{part}: {one}");
    }
}

#[test]
fn no_screen_scrolls_sideways_and_a_browser_shows_it_under_its_own_policy() {
    let server = hostile().serve();
    let style = server.get("/style.css").body;
    for path in ["/audit", "/audit/1", "/audit?code=KW3007&outcome=failure"] {
        for (width, seen) in sideways(&server.get(path).body, &style) {
            assert!(seen <= width, "{path}: at {width} the page is {seen} wide");
        }
    }
    let out = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    for (name, size, path) in [
        ("audit-390.png", "390,2600", "/audit"),
        ("audit-1280.png", "1280,1300", "/audit"),
        ("audit-entry-390.png", "390,2600", "/audit/1"),
        ("audit-entry-1280.png", "1280,1300", "/audit/1"),
    ] {
        let file = out.join(name);
        std::fs::remove_file(&file).ok();
        chromium(&[
            format!("--screenshot={}", file.display()),
            format!("--window-size={size}"),
            format!("http://{}{path}", server.http),
        ]);
        assert!(std::fs::metadata(&file).unwrap().len() > 20_000, "{name} shows nothing");
    }
}
