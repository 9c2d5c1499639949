//! The overview page: complete, escaped, without script, and as wide as the screen.

use std::process::Command;
use std::time::Duration;

use keyward::domain::inventory::Estate;
use keyward::domain::time::{DAY, HOUR};

use crate::harness::estate::{add, credential, managed, path, served};
use crate::harness::http::{Script, Still, seen};
use crate::http::{endpoint, observed, staging, two_paths};

const HOSTILE: &str = "CN=<script>alert(1)</script>\"><img src=x onerror=alert(2)>";

/// A house as it is: most things well, some not.
fn house() -> (Estate, Script) {
    let mut estate = two_paths();
    let long = "a-very-long-name-of-a-service-that-nobody-would-choose.internal.corp.example.com";
    add(&mut estate, served("console", managed(&["console.example.com"], &["le"])));
    add(&mut estate, credential("wildcard", managed(&["*.apps.example.com", long], &["le"])));
    let mut script = Script::default();
    for (id, days, issuer) in [
        ("ldap", 1, "CN=Corp Issuing CA 3,O=Example Corporation,C=DE"),
        ("hostile", 60, HOSTILE),
        ("mail", 200, "CN=R12"),
    ] {
        let file = format!("/peers/{id}.pem");
        let mut peer = observed(id, &file);
        peer.owner = Some("directory".into());
        if id == "mail" {
            peer.endpoints = vec![endpoint("mail.sim")];
            script.hosts.insert("mail.sim".into(), seen("other", "CN=mail", issuer, 200));
        }
        script.files.insert(file, seen(id, HOSTILE, issuer, days));
        add(&mut estate, peer);
    }
    path(&mut estate, "sign-in", &["ldap"], HOUR);
    path(&mut estate, "release-to-production", &["console", "mail"], HOUR);
    (estate, script)
}

fn page(estate: Estate, script: Script, span: Duration) -> (String, String) {
    let server = Still::lived(estate, script, span).serve();
    let reply = server.get("/");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), "text/html; charset=utf-8");
    let policy = reply.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe") && !policy.contains("script-src"));
    let style = server.get("/style.css");
    assert_eq!(style.header("content-type"), "text/css; charset=utf-8");
    (reply.body, style.body)
}

#[test]
fn every_path_has_a_tile_with_a_word_and_a_sign_and_its_reasons() {
    let (estate, script) = house();
    let (html, _) = page(estate, script, HOUR);
    assert_eq!(html.matches("<article class=\"tile ").count(), 4);
    assert_eq!((html.matches("tile open").count(), html.matches("tile closed").count()), (2, 2), "{html}");
    for needle in ["OPEN", "CLOSED", "KW4002", "KW4007", "Holds until", "Weakest link", "Reopens when", "PRODUCTION"] {
        assert!(html.contains(needle), "{needle}");
    }
    for id in ["portal", "console", "wildcard", "ldap", "mail", "peer", "hostile"] {
        assert!(html.contains(&format!("<b>{id}</b>")), "{id}");
    }
    assert!(html.contains("<meta http-equiv=\"refresh\" content=\"15\">"));
    let critical = html.find("class=\"critical\"").unwrap();
    let warning = html.find("<li class=\"warning\">").unwrap();
    assert!(critical < warning, "the worst first");
}

#[test]
fn text_from_certificates_and_configuration_is_only_text() {
    let (estate, script) = house();
    let (html, _) = page(estate, script, HOUR);
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(html.contains("team &lt;b&gt;peers&lt;/b&gt;"));
    for hostile in ["<script", "<img", "onerror=alert(2)>", "<b>peers", "javascript:", "style="] {
        assert!(!html.contains(hostile), "{hostile}");
    }
}

#[test]
fn a_dry_run_has_a_banner_and_an_empty_house_says_what_to_do() {
    let (html, _) = page(staging(two_paths()), Script::default(), HOUR);
    assert!(html.contains("STAGING.") && html.contains("A dry run"));
    let (html, _) = page(crate::harness::estate::estate(&[]), Script::default(), HOUR);
    assert!(html.contains("[[certificate]]") && html.contains("[[path]]") && html.contains("All is routine"));
}

#[test]
fn a_long_inventory_is_cut_and_says_so() {
    let mut estate = crate::harness::estate::estate(&[("le", &[])]);
    let mut script = Script::default();
    for n in 0..1_000 {
        let (id, file) = (format!("peer-{n}"), format!("/peers/{n}.pem"));
        add(&mut estate, observed(&id, &file));
        script.files.insert(file, seen(&id, "CN=peer", "CN=Peers", if n == 777 { 1 } else { 80 }));
    }
    let (html, _) = page(estate, script, DAY);
    assert!(html.contains("800 more are not shown") && html.contains("<b>peer-777</b>"), "the worst stay");
    assert!(html.len() < 1_000_000, "{}", html.len());
}

pub fn chromium(arguments: &[String]) -> String {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(arguments)
        .output()
        .expect("chromium is missing: run tests/run, which installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn no_screen_from_a_small_phone_to_a_desktop_scrolls_sideways() {
    let (estate, script) = house();
    let (html, style) = page(estate, script, HOUR);
    for (width, seen) in measured(&html, &style) {
        assert_eq!((seen[0], seen[2], seen[3]), (width, 4, 7), "{seen:?}");
        assert!(seen[1] <= width, "at {width} the page is {} wide", seen[1]);
    }
}

/// How wide a page is on screens of some widths.
pub fn sideways(html: &str, style: &str) -> Vec<(u32, u32)> {
    measured(html, style).into_iter().map(|(width, seen)| (width, seen[1])).collect()
}

/// On screens of some widths: width, width of what is shown, tiles, rows.
fn measured(html: &str, style: &str) -> Vec<(u32, Vec<u32>)> {
    // The page as it is, with its style inside, in frames of the widths; a frame may measure what it holds.
    let whole = html.replace("<link rel=\"stylesheet\" href=\"/style.css\">", &format!("<style>{style}</style>"));
    let quoted = whole.replace('&', "&amp;").replace('"', "&quot;");
    let widths = [320, 360, 390, 768, 1_280];
    let frames: String = widths
        .iter()
        .map(|w| format!("<iframe width=\"{w}\" height=\"800\" frameborder=0 srcdoc=\"{quoted}\"></iframe>"))
        .collect();
    let measure = "<script>onload = () => { document.title = [...document.querySelectorAll('iframe')].map(f => { \
        const d = f.contentDocument; return [d.documentElement.clientWidth, d.documentElement.scrollWidth, \
        d.querySelectorAll('.tile').length, d.querySelectorAll('tbody tr').length].join('/'); }).join(' '); }</script>";
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("frames.html");
    std::fs::write(&file, format!("<!doctype html><meta charset=utf-8>{frames}{measure}")).unwrap();
    let dom = chromium(&["--dump-dom".into(), format!("file://{}", file.display())]);
    let title = dom.split("<title>").nth(1).unwrap_or_else(|| panic!("{}", &dom[..dom.len().min(500)]));
    let title = title.split("</title>").next().unwrap();
    let measured: Vec<Vec<u32>> =
        title.split(' ').map(|f| f.split('/').map(|n| n.parse().unwrap()).collect()).collect();
    assert_eq!(measured.len(), widths.len());
    widths.into_iter().zip(measured).collect()
}

/// As a reader of the README should see it: one thing wrong, the rest routine.
fn showcase() -> (Estate, Script) {
    let mut estate = crate::harness::estate::estate(&[("letsencrypt", &keyward::domain::limits::LETS_ENCRYPT)]);
    let mut script = Script::default();
    add(&mut estate, served("review", managed(&["review.example.com", "www.example.com"], &["letsencrypt"])));
    add(&mut estate, credential("internal-wildcard", managed(&["*.apps.example.com"], &["letsencrypt"])));
    for (id, days, owner) in [("ldap-peer", 1, "directory"), ("database", 9, "storage"), ("mail", 25, "messaging")] {
        let file = format!("/etc/ssl/peers/{id}.pem");
        let mut peer = observed(id, &file);
        peer.owner = Some(owner.into());
        peer.endpoints = vec![endpoint(&format!("{id}.sim"))];
        let own = seen(id, "CN=peer", "CN=Example Issuing CA 3", days);
        let other = seen("older", "CN=peer", "CN=Example Issuing CA 3", days);
        script.hosts.insert(format!("{id}.sim"), if id == "mail" { other } else { own.clone() });
        script.files.insert(file, own);
        add(&mut estate, peer);
    }
    path(&mut estate, "approve-access", &["review"], HOUR * 2);
    path(&mut estate, "sign-in", &["review", "ldap-peer"], HOUR * 2);
    path(&mut estate, "send-invitations", &["review", "mail"], HOUR * 2);
    (estate, script)
}

#[test]
fn a_browser_shows_it_under_its_own_policy() {
    let (estate, script) = house();
    let server = Still::lived(estate, script, HOUR).serve();
    let out = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    for (name, size) in [("overview-390.png", "390,2600"), ("overview-1280.png", "1280,1500")] {
        let file = out.join(name);
        std::fs::remove_file(&file).ok();
        chromium(&[
            format!("--screenshot={}", file.display()),
            format!("--window-size={size}"),
            format!("http://{}/", server.http),
        ]);
        assert!(std::fs::metadata(&file).unwrap().len() > 20_000, "{name} shows nothing");
    }
    let (estate, script) = showcase();
    let server = Still::lived(estate, script, HOUR).serve();
    for (name, scheme) in [("overview.png", 1), ("overview-dark.png", 0)] {
        let file = out.join(name);
        std::fs::remove_file(&file).ok();
        chromium(&[
            format!("--screenshot={}", file.display()),
            "--window-size=1280,1180".into(),
            format!("--blink-settings=preferredColorScheme={scheme}"),
            format!("http://{}/", server.http),
        ]);
        assert!(std::fs::metadata(&file).unwrap().len() > 20_000, "{name} shows nothing");
    }
}
