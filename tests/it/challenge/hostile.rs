//! What a hostile CA may send as a token: nothing is written, run or sent.

use std::fs;
use std::time::Duration;

use keyward::adapters::challenge::SolverKind;
use keyward::domain::execution::Fault;
use keyward::domain::name::Name;
use keyward::ports::{ChallengeKind, ChallengeTask, Solver as _};

use super::by_command;
use crate::harness::challenge::{id, start};

#[tokio::test]
async fn a_hostile_token_or_name_reaches_no_file_and_no_command() {
    let dir = tempfile::tempdir().unwrap();
    let www = dir.path().join("a/b/www");
    fs::create_dir_all(&www).unwrap();
    let webroot = start(SolverKind::Http01Webroot { dir: www.clone() }).await.unwrap();
    let mark = dir.path().join("ran");
    let script = format!("touch {}", mark.display());
    let exec = start(by_command(&["/bin/sh", "-c", &script], Duration::from_secs(5))).await.unwrap();
    let huge = "a".repeat(1 << 20);
    let token = |t: &str| (t.to_owned(), Name::parse("a.example.com").unwrap());
    let name = |n: &str| ("token".to_owned(), Name::Dns(n.into()));
    let hostile = [
        token("../../x"),
        token("../../../../../../../../tmp/keyward-hostile-token"),
        token("/tmp/keyward-hostile-token"),
        token("$(id)"),
        token("`id`"),
        token(";id"),
        token("a\0b"),
        token(""),
        token("."),
        token(".."),
        token("-\n"),
        token(&huge),
        name("$(id).example.com"),
        name("../../etc"),
        name("a\0.example.com"),
        name("*.example.com"),
        name(&huge),
    ];
    for (token, name) in hostile {
        for (solvers, kind) in [(&webroot, ChallengeKind::Http01), (&exec, ChallengeKind::Dns01)] {
            let key_authorization = format!("{token}.thumb");
            let task = ChallengeTask { kind, name: name.clone(), token: token.clone(), key_authorization };
            for result in [solvers.present(&id("s"), &task).await, solvers.cleanup(&id("s"), &task).await] {
                let error = result.unwrap_err();
                let fault = if token == "token" { Fault::Ours } else { Fault::Issuer };
                assert_eq!(error.fault, fault, "{}", error.text);
                assert!(error.text.len() < 500 && !error.text.contains('\0'), "{}", error.text.len());
            }
        }
    }
    assert!(!mark.exists(), "the command ran");
    assert_eq!(fs::read_dir(&www).unwrap().count(), 0);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert!(!std::path::Path::new("/tmp/keyward-hostile-token").exists());
}
