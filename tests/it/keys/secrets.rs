//! A value that must appear nowhere but where it lies.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};

use super::harness::{Kit, files, version};

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

/// Whether the process has it in its memory.
fn in_memory(pid: u32) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut read = 0_usize;
    let found = maps.lines().any(|line| {
        let mut words = line.split_whitespace();
        let (range, mode) = (words.next().unwrap(), words.next().unwrap());
        if !mode.starts_with("rw") {
            return false;
        }
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|text| u64::from_str_radix(text, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        let got = memory.seek(SeekFrom::Start(from)).and_then(|_| memory.read_exact(&mut bytes)).is_ok();
        read += if got { bytes.len() } else { 0 };
        got && holds(&bytes)
    });
    assert!(read > 1 << 20, "nothing of its memory could be read");
    found
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
    kit.wait("memory without the value", |kit| (!in_memory(kit.pid())).then_some(()));
    for file in files(&kit.at("state")) {
        assert!(!holds(&fs::read(&file).unwrap()), "{}", file.display());
    }
}

fn reqwest_blocking(url: &str) -> String {
    let out = std::process::Command::new("curl").args(["-sS", "--max-time", "10", url]).output().unwrap();
    assert!(out.status.success(), "curl: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}
