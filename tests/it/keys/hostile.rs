//! Configurations that cannot be, and states that nobody wants.

use std::fs;

use super::harness::Kit;

fn refused(keys: &str) -> String {
    let kit = Kit::prepare(keys);
    let (code, said) = kit.run(&["config", "check"]);
    assert_eq!(code, 64, "{keys}: {said}");
    said
}

#[test]
fn what_cannot_be_tracked_is_refused_with_a_way_to_mend_it() {
    let key = |rest: &str| format!("[[key]]\nid = \"k\"\nclass = \"authorization\"\n{rest}");
    for (keys, code, word) in [
        (key(""), "KW0076", "exactly one place"),
        (key("file = \"/a\"\nexec = [\"/b\"]\n"), "KW0076", "exactly one place"),
        (key("file = \"/a\"\nmanual = true\ncreated = \"2026-01-01\"\n"), "KW0076", "exactly one place"),
        (key("manual = true\n"), "KW0076", "how old it is"),
        (key("manual = true\ncreated = \"yesterday\"\n"), "KW0076", "is no day"),
        (key("manual = true\ncreated = \"2026-01-01\"\nlive = [\"/b\"]\n"), "KW0076", "compared with"),
        (
            key("manual = true\ncreated = \"2026-01-01\"\n[key.rotation]\nhook = [\"/b\"]\n"),
            "KW0076",
            "nobody could see",
        ),
        (key("file = \"/a\"\nholds = \"facts\"\n"), "KW0076", "holds no facts"),
        (key("file = \"/a\"\ncryptoperiod = \"9d\"\nhard_limit = \"9d\"\n"), "KW0076", "not after the cryptoperiod"),
        (key("file = \"/a\"\ncryptoperiod = \"900d\"\n"), "KW0076", "not after the cryptoperiod"),
        (key("file = \"/a\"\npaths = [\"aprove\"]\n"), "KW0012", "did you mean"),
        (key("file = \"a\"\n"), "KW0017", "no absolute path"),
        (key("exec = [\"cat\", \"/a\"]\n"), "KW0017", "no absolute path"),
        (key("exec = []\n"), "KW0017", "is empty"),
        (key("file = \"/a\"\n[key.rotation]\noverlap = \"1h\"\n"), "KW0004", "hook"),
        (key("file = \"/a\"\nvalue = \"s3cret\"\n"), "KW0003", "unknown key"),
        ("keys = [\"nothing\"]\n".to_owned(), "KW0012", "no key"),
        ("[[key]]\nid = \"k\"\nclass = \"password\"\nfile = \"/a\"\n".to_owned(), "KW0013", "class"),
    ] {
        let said = refused(&keys);
        assert!(said.contains(code) && said.contains(word), "{keys}: {said}");
    }
}

#[test]
fn a_reload_takes_new_keys_and_looks_where_they_lie_now() {
    let key = |file: &str| {
        format!(
            "[[key]]\nid = \"api\"\nclass = \"authorization\"\npaths = [\"approve\"]\nfile = \"@/{file}\"\nevery = \"1s\"\n"
        )
    };
    let mut kit = Kit::prepare("");
    kit.write("one", "first\n");
    kit.run_daemon();
    kit.wait_for(&[]);
    kit.configure(&key("one"));
    kit.ok(&["config", "reload"]);
    kit.wait("the key", |kit| (kit.show("api")["outlook"] == "good").then_some(()));
    kit.wait_for(&[]);
    kit.configure(&key("missing"));
    kit.ok(&["config", "reload"]);
    kit.wait_for(&["KW4880"]);
    fs::rename(kit.at("one"), kit.at("missing")).unwrap();
    kit.wait_for(&[]);
    // It went and came back, and is as old as it was.
    kit.configure("");
    kit.ok(&["config", "reload"]);
    kit.configure(&key("missing"));
    kit.ok(&["config", "reload"]);
    kit.wait("the key", |kit| (kit.show("api")["versions"][0]["number"] == 1).then_some(()));
}

#[test]
fn nobody_changes_a_key_through_the_http_door() {
    let mut kit =
        Kit::prepare("[[key]]\nid = \"v\"\nclass = \"authorization\"\ncreated = \"2026-06-01\"\nmanual = true\n");
    kit.run_daemon();
    let url = |what: &str| format!("http://{}/v1/key/v{what}", kit.port);
    let ask = |args: &[&str], url: &str| {
        let out = std::process::Command::new("curl").args(["-sS", "--max-time", "10"]).args(args).arg(url).output();
        String::from_utf8(out.unwrap().stdout).unwrap()
    };
    for act in ["rotate", "rotated", "suspend", "resume", "deactivate", "compromised", "destroy", "abandon"] {
        let said = ask(&["-X", "POST", "-d", "{\"reason\":\"x\"}", "-w", " %{http_code}"], &url(&format!("/{act}")));
        assert!(said.ends_with("403"), "{act}: {said}");
    }
    let said = ask(&[], &url(""));
    assert!(!said.contains("\"suspended\""), "{said}");
}
