//! Debian's clients, unmodified, and Keyward itself: each issues, renews and revokes where it can.

use std::fs;
use std::process::Stdio;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use tokio::process::Command;

use super::corp::{Corp, KEYS, MAC, PATIENCE};
use crate::relying::clients::chain;
use crate::relying::retire;

fn mac() -> String {
    B64.encode(MAC)
}

#[test]
fn certbot_issues_renews_and_revokes() {
    let corp = Corp::made("");
    let (root, web, ip) = (corp.path("root.pem"), corp.web.port().to_string(), corp.ip.to_string());
    let dirs = ["--config-dir", "certbot", "--work-dir", "certbot/work", "--logs-dir", "certbot/logs", "-n"];
    let env = [("REQUESTS_CA_BUNDLE", &*root)];
    let (server, mac) = (corp.directory(), mac());
    let issue = [
        &["certonly", "--standalone", "--http-01-port", &web, "--http-01-address", &ip, "--server", &server][..],
        &["--eab-kid", "web", "--eab-hmac-key", &mac, "--agree-tos", "-m", "web@example.com"],
        &["-d", "web.svc.example"],
        &dirs,
    ];
    corp.tool("certbot", &env, &issue.concat());
    assert_eq!(corp.leaves(), (1, 0));
    let renew = [&["renew", "--force-renewal", "--no-random-sleep-on-renew"][..], &dirs];
    corp.tool("certbot", &env, &renew.concat());
    assert_eq!(corp.leaves(), (2, 0));
    let live = "certbot/live/web.svc.example/cert.pem";
    let revoke = [
        &["revoke", "--cert-path", live, "--reason", "superseded", "--no-delete-after-revoke", "--server", &server][..],
        &dirs,
    ];
    corp.tool("certbot", &env, &revoke.concat());
    assert_eq!(corp.leaves(), (2, 1));
}

#[test]
fn lego_issues_renews_and_revokes() {
    let corp = Corp::made("");
    let (root, web, server, mac) = (corp.path("root.pem"), corp.web.to_string(), corp.directory(), mac());
    let env = [("LEGO_CA_CERTIFICATES", &*root)];
    let common = [
        "--server",
        &server,
        "--email",
        "web@example.com",
        "--accept-tos",
        "--eab",
        "--kid",
        "web",
        "--hmac",
        &mac,
        "--domains",
        "a.svc.example",
        "--http",
        "--http.port",
        &web,
        "--path",
        "lego",
    ];
    corp.tool("lego", &env, &[&common[..], &["run"]].concat());
    assert_eq!(corp.leaves(), (1, 0));
    corp.tool("lego", &env, &[&common[..], &["renew", "--days", "365", "--no-random-sleep"]].concat());
    assert_eq!(corp.leaves(), (2, 0));
    corp.tool("lego", &env, &[&common[..], &["revoke"]].concat());
    assert_eq!(corp.leaves(), (2, 1));
}

/// Go's TLS as a client, of a directory whose own certificate is one of ours.
#[test]
fn lego_takes_a_directory_by_our_own_chain_and_none_whose_root_is_over_or_retired() {
    let mut corp = Corp::made("");
    let ip = corp.ip.to_string();
    for (name, over) in [("over", true), ("fresh", false)] {
        chain(corp.path(name).as_ref(), &ip, "spiffe://mesh.example/acme", over);
    }
    let issue = |corp: &Corp, name: &str| {
        fs::create_dir(corp.path(name)).unwrap();
        let out = format!("@/{name}");
        corp.mesh.ok(&["ca", "issue", "mesh", "--profile", "short", "--name", &ip, "--out", &out]);
    };
    let (web, mac) = (corp.web.to_string(), mac());
    let shown = |corp: &mut Corp, name: &str, trust: &str| {
        for (from, to) in [("cert.pem", "acme.pem"), ("key.pem", "acme.key")] {
            fs::copy(corp.path(&format!("{name}/{from}")), corp.path(to)).unwrap();
        }
        corp.mesh.restart();
        let (server, trust, place) = (corp.directory(), corp.path(trust), format!("lego-{name}"));
        let account = ["--email", "web@example.com", "--accept-tos", "--eab", "--kid", "web", "--hmac", &mac];
        let order = ["--domains", "a.svc.example", "--http", "--http.port", &web, "--path", &place, "run"];
        let args = [&["--server", &server][..], &account, &order].concat();
        let out = corp.tried("lego", &[("LEGO_CA_CERTIFICATES", &trust)], &args);
        let said = [out.stdout, out.stderr].concat();
        (out.status.success(), String::from_utf8(said).unwrap())
    };
    issue(&corp, "good");
    for name in ["good", "fresh"] {
        let (taken, said) = shown(&mut corp, name, &format!("{name}/ca.pem"));
        assert!(taken, "{name}: {said}\n{}", corp.log());
    }
    let (taken, said) = shown(&mut corp, "over", "over/ca.pem");
    assert!(!taken && said.contains("certificate has expired"), "{said}");
    retire(&corp.mesh, || {});
    issue(&corp, "new");
    let (taken, said) = shown(&mut corp, "new", "new/ca.pem");
    assert!(taken, "{said}\n{}", corp.log());
    let (taken, said) = shown(&mut corp, "good", "new/ca.pem");
    assert!(!taken && said.contains("unknown authority"), "{said}");
}

#[test]
fn lego_proves_a_wildcard_in_the_dns() {
    let corp = Corp::made("profiles = [\"short\"]\n");
    let (root, server, mac) = (corp.path("root.pem"), corp.directory(), mac());
    let (name, dns) = (corp.tsig.name.to_owned(), corp.knot.address.to_string());
    let secret = base64::prelude::BASE64_STANDARD.encode(&corp.tsig.secret);
    let env = [
        ("LEGO_CA_CERTIFICATES", &*root),
        ("RFC2136_NAMESERVER", &dns),
        ("RFC2136_TSIG_KEY", &name),
        ("RFC2136_TSIG_SECRET", &secret),
        ("RFC2136_TSIG_ALGORITHM", "hmac-sha256."),
        ("RFC2136_PROPAGATION_TIMEOUT", "20"),
    ];
    let args = [
        "--server",
        &server,
        "--email",
        "web@example.com",
        "--accept-tos",
        "--eab",
        "--kid",
        "web",
        "--hmac",
        &mac,
        "--domains",
        "*.svc.example",
        "--dns",
        "rfc2136",
        "--dns.resolvers",
        &dns,
        "--dns.disable-cp",
        "--path",
        "lego",
        "run",
    ];
    corp.tool("lego", &env, &args);
    assert_eq!(corp.leaves(), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn dehydrated_issues_renews_and_revokes() {
    let corp = Corp::made("");
    let dir = corp.mesh.dir.path();
    let known = dir.join("www/.well-known/acme-challenge");
    fs::create_dir_all(&known).unwrap();
    let config = format!(
        "CA=\"{}\"\nCHALLENGETYPE=http-01\nWELLKNOWN={}\nBASEDIR={}\nCONTACT_EMAIL=web@example.com\n\
         EAB_KID=web\nEAB_HMAC_KEY={}\nCURL_OPTS=\"--cacert {}\"\nOCSP_FETCH=no\n",
        corp.directory(),
        known.display(),
        dir.join("dehydrated").display(),
        mac(),
        corp.path("root.pem"),
    );
    fs::create_dir(dir.join("dehydrated")).unwrap();
    fs::write(dir.join("dehydrated/config"), config).unwrap();
    let mut server = Command::new("python3")
        .args(["-m", "http.server", &corp.web.port().to_string(), "--bind", &corp.ip.to_string(), "--directory", "www"])
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    until(|| std::net::TcpStream::connect(corp.web).is_ok()).await;
    let run = |args: &[&str]| corp.tool("dehydrated", &[], &[args, &["-f", "dehydrated/config"]].concat());
    run(&["--register", "--accept-terms"]);
    run(&["-c", "-d", "b.svc.example"]);
    assert_eq!(corp.leaves(), (1, 0));
    run(&["-c", "-x", "-d", "b.svc.example"]);
    assert_eq!(corp.leaves(), (2, 0));
    run(&["-r", "dehydrated/certs/b.svc.example/cert.pem"]);
    assert_eq!(corp.leaves(), (2, 1));
    server.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn caddy_has_its_certificate_when_it_starts() {
    let corp = Corp::made("");
    let text = format!(
        "{{\n admin off\n http_port {}\n https_port {}\n default_bind {}\n storage file_system {{\n  root {}\n }}\n \
         acme_ca {}\n acme_ca_root {}\n acme_eab {{\n  key_id web\n  mac_key {}\n }}\n email web@example.com\n}}\n\
         web.svc.example {{\n respond \"hello\"\n}}\n",
        corp.web.port(),
        corp.tls.port(),
        corp.ip,
        corp.path("caddy"),
        corp.directory(),
        corp.path("root.pem"),
        mac(),
    );
    fs::write(corp.path("Caddyfile"), text).unwrap();
    let log = fs::File::create(corp.path("caddy.log")).unwrap();
    let mut caddy = Command::new("caddy")
        .args(["run", "--config", "Caddyfile", "--adapter", "caddyfile"])
        .current_dir(corp.mesh.dir.path())
        .env("HOME", corp.mesh.dir.path())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .expect("caddy is missing: run tests/run, which installs it");
    let said = || fs::read_to_string(corp.path("caddy.log")).unwrap_or_default();
    until_or(|| said().contains("certificate obtained successfully"), || format!("{}\n{}", said(), corp.log())).await;
    assert_eq!(corp.leaves(), (1, 0));
    fs::write(corp.path("bundle.pem"), corp.mesh.bytes(&["ca", "bundle", "mesh"])).unwrap();
    let (address, dir) = (corp.tls.to_string(), corp.mesh.dir.path().to_owned());
    let shown = tokio::task::spawn_blocking(move || {
        let args = ["s_client", "-connect", &address, "-servername", "web.svc.example", "-CAfile", "bundle.pem"];
        let out = std::process::Command::new("openssl").args(args).current_dir(dir).stdin(Stdio::null()).output();
        String::from_utf8_lossy(&out.unwrap().stdout).into_owned()
    });
    let shown = shown.await.unwrap();
    assert!(shown.contains("Verify return code: 0 (ok)"), "{shown}");
    caddy.kill().await.unwrap();
}

#[test]
fn keyward_renews_from_its_own_directory() {
    let web = "[[issuer]]\nid = \"own\"\ndirectory = \"DIRECTORY\"\ncontacts = [\"mailto:web@example.com\"]\n\
        terms_agreed = true\nroot_files = [\"@/roots.pem\"]\n\
        [issuer.eab]\nkey_id = \"web\"\nhmac_file = \"@/web.key\"\n\
        [[solver]]\nid = \"http\"\ntype = \"http-01\"\nlisten = [\"WEB\"]\n\
        [[certificate]]\nid = \"portal\"\nnames = [\"web.svc.example\"]\nissuers = [\"own\"]\nsolvers = [\"http\"]\n\
        [[certificate.install]]\ndir = \"@/portal\"\n";
    let mut corp = Corp::with("", KEYS, "");
    let file = corp.mesh.dir.path().join("keyward.toml");
    let more =
        web.replace("DIRECTORY", &corp.directory()).replace("WEB", &corp.web.to_string()).replace("@/", &corp.path(""));
    fs::write(&file, fs::read_to_string(&file).unwrap() + &more).unwrap();
    // What the directory shows, and what it issues.
    let bundle = String::from_utf8(corp.mesh.bytes(&["ca", "bundle", "mesh"])).unwrap();
    fs::write(corp.path("roots.pem"), format!("{}{bundle}", corp.root)).unwrap();
    corp.mesh.restart();
    let serial = |corp: &Corp| corp.mesh.credential("portal")["installed_serial"].as_str().map(str::to_owned);
    let first = corp.mesh.wait("the first certificate", |_| serial(&corp));
    assert_eq!(corp.entries("acme.issue"), 1);
    corp.mesh.ok(&["cert", "renew", "portal"]);
    corp.mesh.wait("a renewal", |_| serial(&corp).filter(|s| *s != first));
    assert_eq!(corp.entries("acme.issue"), 2);
}

async fn until(look: impl Fn() -> bool) {
    until_or(look, String::new).await;
}

async fn until_or(look: impl Fn() -> bool, said: impl Fn() -> String) {
    let end = std::time::Instant::now() + PATIENCE;
    while !look() {
        assert!(std::time::Instant::now() < end, "it did not come: {}", said());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
