//! What proxies ask: any bytes are read or refused, and only what has one meaning is reachable while a path is closed.
#![no_main]

use keyward::codec::ext_authz::{EXTENSION, read};
use keyward::domain::guard::{Asked, Care, Guard, Kind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let Ok(check) = read(body) else { return };
    assert!(check.path.is_none() || body.windows(EXTENSION.len()).any(|w| w == EXTENSION.as_bytes()));
    let kind = |name: &str, prefix: &str, care| Kind {
        name: name.into(),
        methods: ["POST".to_owned()].into(),
        prefixes: [prefix.to_owned()].into(),
        care,
    };
    let guard =
        Guard::new(vec![kind("approve", "/approve", Care::Guarded), kind("reject", "/reject", Care::Reachable)]);
    if guard.reachable(&Asked { method: &check.method, target: &check.target }).is_some() {
        let path = check.target.split('?').next().unwrap_or_default();
        assert!(check.method == "POST" && (path == "/reject" || path.starts_with("/reject/")), "{path}");
        assert!(
            !path.contains("//") && !path.contains("/.") || path.split('/').all(|s| !matches!(s, "." | "..")),
            "{path}"
        );
        assert!(path.bytes().all(|b| b.is_ascii_graphic() && !b"%;\\#".contains(&b)), "{path}");
    }
});
