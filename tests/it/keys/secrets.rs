//! A value that must appear nowhere but where it lies.

use std::fs;

use super::harness::{Kit, files, version};
use crate::harness::memory::seen_in_memory;

const CANARY: &str = "canary-9c41e0b7d2-never-seen";

const HOOK: &str = "#!/bin/sh\n\
    tr '\\0' '\\n' < /proc/$$/environ >> @/seen-by-hook\n\
    tr '\\0' '\\n' < /proc/$$/cmdline >> @/seen-by-hook\n\
    ls -l \"$KEYWARD_KEY_PENDING\" >> @/modes\n\
    case $1 in\n\
    create) echo canary-9c41e0b7d2-never-seen-2 > \"$KEYWARD_KEY_PENDING\"; cat \"$KEYWARD_KEY_PENDING\";;\n\
    set) cat \"$KEYWARD_KEY_PENDING\" >&2; [ -f @/failed ] || { touch @/failed; exit 1; };;\n\
    finish) cp \"$KEYWARD_KEY_PENDING\" @/api.new; chmod 600 @/api.new; mv @/api.new @/api.key;;\n\
    esac\n";

fn holds(bytes: &[u8]) -> bool {
    bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes())
}

#[test]
fn a_value_is_nowhere_but_where_it_lies() {
    let mut kit = Kit::prepare(
        "[[key]]\nid = \"api\"\nclass = \"symmetric-authentication\"\nfile = \"@/api.key\"\nevery = \"3s\"\n\
         live = [\"/bin/cat\", \"@/api.key\"]\n[key.rotation]\nhook = [\"@/hook\"]\noverlap = \"1s\"\n\
         [[key]]\nid = \"told\"\nclass = \"authorization\"\nexec = [\"@/probe\"]\nevery = \"3s\"\n\
         [[key]]\nid = \"odd\"\nclass = \"authorization\"\nexec = [\"@/odd\"]\nholds = \"facts\"\nevery = \"3s\"\n",
    );
    kit.script("hook", HOOK);
    kit.script("probe", &format!("#!/bin/sh\necho {CANARY}-3; echo {CANARY}-4 >&2\n"));
    kit.script("odd", &format!("#!/bin/sh\necho {CANARY}-5\n"));
    kit.write("api.key", &format!("{CANARY}\n"));
    kit.run_daemon();
    kit.wait("looks", |kit| (kit.show("told")["outlook"] == "good").then_some(()));
    kit.wait("a look that fails", |kit| kit.show("odd")["problem"].is_string().then_some(()));
    kit.ok(&["key", "rotate", "api", "--reason", "a test"]);
    // One step fails first, and is tried again after a minute; the rest is what matters.
    kit.wait("a failure", |kit| (kit.show("api")["rotation"]["failures"] == 1).then_some(()));
    let modes = fs::read_to_string(kit.at("modes")).unwrap();
    assert!(modes.lines().all(|line| line.starts_with("-rw-------")), "{modes}");
    let dir = fs::metadata(kit.at("state/rotations/api")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&dir) & 0o777, 0o700);
    let prints = fs::metadata(kit.at("state/prints.key")).unwrap();
    assert_eq!((std::os::unix::fs::MetadataExt::mode(&prints) & 0o777, prints.len()), (0o600, 32));
    kit.ok(&["key", "rotate", "api", "--abandon", "--reason", "seen enough"]);
    assert!(!version(&kit.show("api"), "CURRENT")["print"].as_str().unwrap().contains("canary"));
    // The audit log as a person reads it, the API, the metrics.
    for said in [
        kit.ok(&["audit", "query", "--limit", "200", "-o", "json"]),
        kit.run(&["key", "list", "-o", "json"]).1,
        kit.ok(&["key", "show", "api"]),
        kit.run(&["status"]).1,
        reqwest_blocking(&format!("http://{}/metrics", kit.port)),
        kit.log(),
    ] {
        assert!(said.len() > 20 && !holds(said.as_bytes()), "{said}");
    }
    let hook = fs::read(kit.at("seen-by-hook")).unwrap();
    assert!(hook.len() > 100 && !holds(&hook), "{}", String::from_utf8_lossy(&hook));
    for what in ["environ", "cmdline"] {
        assert!(!holds(&fs::read(format!("/proc/{}/{what}", kit.pid())).unwrap()), "{what}");
    }
    // A look that is under way has it for a moment; what is over leaves nothing.
    kit.wait("memory without the value", |kit| (seen_in_memory(kit.pid(), &[CANARY.into()]) == [false]).then_some(()));
    for file in files(&kit.at("state")) {
        assert!(!holds(&fs::read(&file).unwrap()), "{}", file.display());
    }
}

fn reqwest_blocking(url: &str) -> String {
    let out = std::process::Command::new("curl").args(["-sS", "--max-time", "10", url]).output().unwrap();
    assert!(out.status.success(), "curl: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}
