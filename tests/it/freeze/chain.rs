//! Frozen once and twice.

use std::path::PathBuf;

use super::{fill_now, first, frozen, written};

#[test]
fn a_frozen_log_is_whole_with_its_shards_and_without_them() {
    let (log, to) = (written(1_400), tempfile::TempDir::new().unwrap());
    let shards = to.path().to_str().unwrap();
    let (code, text) = log.command(&[]);
    assert_eq!(code, 0, "{text}");
    let one = frozen(log.path(), to.path(), 700, 512);
    for (more, say) in
        [(&[][..], "KW6121 warning: entries 0–511 are frozen"), (&["--shard", shards], "entries 0–1400 are")]
    {
        let (code, text) = log.command(more);
        assert!(code == 0 && text.contains(say), "{say}: {text}");
    }
    fill_now(log.path(), 2_000, 2_300);
    let two = frozen(log.path(), to.path(), 800, 768);
    fill_now(log.path(), 3_000, 3_010);
    assert_eq!(first(log.path()), 768);
    for (more, say) in [
        (vec![], "KW6121 warning: entries 0–767 are frozen"),
        (vec!["--shard", two.to_str().unwrap()], "KW6121 warning: entries 0–511 are frozen"),
        (vec!["--shard", shards], "entries 0–1711 are proved"),
        (vec!["--shard", two.to_str().unwrap(), "--shard", one.to_str().unwrap()], "entries 0–1711 are proved"),
    ] {
        let (code, text) = log.command(&more);
        assert!(code == 0 && text.contains(say), "{say}: {code} {text}");
    }
    let (code, text) = log.command(&["--shard", one.to_str().unwrap()]);
    assert!(code == 4 && text.contains("the shard of the entries 512–767 is missing"), "{code} {text}");
    let _: [PathBuf; 2] = [one, two];
}
