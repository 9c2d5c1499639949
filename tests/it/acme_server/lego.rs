//! Debian's lego, unmodified, as a client that nobody here wrote.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use keyward::shell::acme_server::Validation;
use tokio::process::Command;

use super::kit::{Lab, ders};

#[tokio::test]
async fn lego_issues_and_renews_by_http_01() {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let lab = Lab::with(|config| {
        if let Validation::On(validator) = &mut config.validation {
            validator.http_port = port;
        }
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root.pem");
    std::fs::write(&root, lab.ca.root_pem()).unwrap();
    for (step, most) in [(vec!["run"], 1), (vec!["renew", "--days", "365", "--no-random-sleep"], 2)] {
        let lego = Command::new("/usr/bin/lego")
            .env("LEGO_CA_CERTIFICATES", &root)
            .args(["--server", &lab.ca.directory_url(), "--email", "owner@example.com", "--accept-tos"])
            .args(["--domains", "lego.example.com", "--http", "--http.port", &format!("127.0.0.1:{port}")])
            .arg("--path")
            .arg(dir.path())
            .args(&step)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let out = tokio::time::timeout(Duration::from_secs(60), lego).await.expect("lego ends within a minute");
        let out = out.expect("lego is installed: see tests/run");
        assert!(out.status.success(), "{step:?}: {}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(lab.control.certificates().len(), most, "{}", String::from_utf8_lossy(&out.stderr));
    }
    let chain = std::fs::read_to_string(dir.path().join("certificates/lego.example.com.crt")).unwrap();
    assert_eq!(ders(&chain).len(), 2);
    assert!(lab.control.validations().iter().all(|v| v.failure.is_none()));
}
