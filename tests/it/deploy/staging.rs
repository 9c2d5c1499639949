//! A staging run touches nothing in production.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use keyward::domain::inventory::{Format, Reload, ReloadHow};
use keyward::ports::Deployer;

use crate::harness::deploy::{Keys, credential, pairs, plain, slot, staging, text, versioned};

#[tokio::test]
async fn every_path_leads_to_the_same_path_below_the_sandbox() {
    let (sandbox, production) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let keys = Keys::new(pairs(1));
    let deployer = staging(&keys, Some(&sandbox.path().join("not-there-yet")));
    let installs =
        [plain(production.path(), &[Format::Key]), versioned(&production.path().join("tls"), &[Format::Key])];
    deployer.install(&credential(), &installs, slot(0)).await.unwrap();
    deployer.prune(&credential(), &installs, &[]).await.unwrap();
    assert_eq!(fs::read_dir(production.path()).unwrap().count(), 0, "production was touched");
    let below = sandbox.path().join("not-there-yet").join(production.path().strip_prefix("/").unwrap());
    assert!(below.join("key.pem").exists() && below.join("tls/current/key.pem").exists());
}

#[tokio::test]
async fn nothing_leads_out_of_the_sandbox() {
    let (sandbox, production) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let keys = Keys::new(pairs(1));
    fs::create_dir(sandbox.path().join("etc")).unwrap();
    symlink(production.path(), sandbox.path().join("etc/tls")).unwrap();
    symlink("../..", sandbox.path().join("etc/up")).unwrap();
    let up = format!("/etc/../../../..{}", text(production.path()));
    let cases = [
        (Some(sandbox.path()), Path::new("/etc/tls"), "is a link"),
        (Some(sandbox.path()), Path::new("/etc/up/x"), "is a link"),
        (Some(sandbox.path()), Path::new(&up), "holds '..'"),
        (Some(sandbox.path()), Path::new("etc"), "not an absolute path"),
        (None, production.path(), "staging has no sandbox"),
    ];
    for (sandbox, path, expected) in cases {
        let deployer = staging(&keys, sandbox);
        for install in [plain(path, &[Format::Key]), versioned(path, &[Format::Key])] {
            let installs = [install];
            let said = deployer.install(&credential(), &installs, slot(0)).await.unwrap_err().0;
            assert!(said.contains(expected), "{said:?} does not say {expected:?}");
            let said = deployer.prune(&credential(), &installs, &[]).await.unwrap_err().0;
            assert!(said.contains(expected), "{said:?} does not say {expected:?}");
        }
    }
    assert_eq!(fs::read_dir(production.path()).unwrap().count(), 0, "production was touched");
}

#[tokio::test]
async fn a_reload_runs_in_staging_only_if_it_is_meant_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("mark");
    let deployer = staging(&Keys::new(pairs(1)), Some(dir.path()));
    let how = ReloadHow::Exec(["/usr/bin/touch".to_owned(), text(&mark)].into());
    for in_staging in [false, true] {
        let reload = Reload { how: how.clone(), timeout: Duration::from_secs(10), tries: 1, in_staging };
        deployer.reload(&credential(), &reload, slot(0)).await.unwrap();
        assert_eq!(mark.exists(), in_staging);
    }
}
