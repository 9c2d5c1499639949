//! Policy in force: in a simulated world, and in the real daemon with its files.

use std::fs;
use std::path::Path;

use keyward::domain::inventory::Estate;
use keyward::domain::limits::LETS_ENCRYPT;
use keyward::domain::policy::Policy;
use keyward::domain::time::{DAY, HOUR, MINUTE, Timestamp};
use keyward::engine::Command;
use keyward::ports::Clock as _;
use keyward::shell::config;
use keyward::sim::world::World;
use serde_json::Value;

use crate::harness::estate::{add, cid, credential, estate, iid, managed, path, start};
use crate::harness::life::{Place, certificate};
use crate::process::{Daemon, write_config};

fn policy(text: &str) -> Policy {
    config::parse_policy("policy.toml", &format!("version = 1\n{text}")).unwrap_or_else(|e| panic!("{e}"))
}

fn one(text: &str) -> Estate {
    let mut estate = estate(&[("le", &LETS_ENCRYPT), ("other", &LETS_ENCRYPT)]);
    add(&mut estate, credential("portal", managed(&["review.example.com"], &["le", "other"])));
    estate.policy = policy(text);
    estate
}

fn entries(world: &World, code: &str) -> Vec<Value> {
    let all: Vec<Value> =
        keyward::sim::clock::run(&world.clock, crate::harness::store::readable(&world.store.recovered())).unwrap();
    all.into_iter().filter(|e| e["data"]["code"] == code).collect()
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

const HOURS: &str = "[hours]\nzone = \"UTC\"\nfrom = \"09:00\"\nuntil = \"17:00\"\n";

#[test]
fn what_waits_out_of_hours_goes_by_itself_when_people_are_at_work() {
    let rules = "[[rule]]\nid = \"by-day\"\nhours = \"off\"\nlane = \"review-required\"\n\
                 [[rule]]\nid = \"routine\"\nactions = [\"issue\"]\nlane = \"autonomous\"\n";
    // The world begins on a Sunday at midnight.
    let text = format!("{HOURS}{rules}");
    let mut world = World::new(1, start(), one(&text));
    world.live(DAY + HOUR * 9 - MINUTE);
    assert_eq!(world.ca.tally(&iid("le")).orders, 0);
    assert_eq!(entries(&world, "KW2007")[0]["data"]["policy"]["rule"], "by-day");
    world.live(HOUR * 2);
    assert_eq!(world.ca.tally(&iid("le")).orders, 1);
    let intent = &entries(&world, "KW2001")[0]["data"];
    assert_eq!(intent["policy"]["rule"], "routine");
    assert_eq!(intent["policy"]["version"], policy(&text).version().to_string());
    let time = intent["time"].as_str().map(at);
    assert!(time.is_none_or(|time| time >= at("2026-11-23T09:00:00Z")), "{intent}");
}

#[test]
fn a_prohibited_action_never_reaches_the_ca_whoever_asks() {
    // That a person asks makes no renewal of a first certificate.
    for actions in ["\"issue\", \"renew\"", "\"issue\""] {
        let rule = format!("[[rule]]\nid = \"no\"\nactions = [{actions}]\nlane = \"prohibited\"\n");
        let mut world = World::new(1, start(), one(&rule));
        world.live_with(DAY, |engine| async move {
            World::ask_renewal(&engine, &cid("portal"), "uid:0").unwrap();
        });
        assert_eq!(world.ca.tally(&iid("le")).orders, 0, "{actions}");
        assert!(entries(&world, "KW2001").is_empty(), "no intent without a leave");
        assert_eq!(entries(&world, "KW2007")[0]["data"]["policy"]["decision"], "refuse");
    }
}

#[test]
fn after_failures_and_at_another_issuer_a_person_is_asked() {
    let rules = "[[rule]]\nid = \"failing\"\nmin_failures = 2\nlane = \"review-required\"\n\
                 [[rule]]\nid = \"elsewhere\"\nissuer = [\"known\", \"new\"]\nlane = \"review-required\"\n\
                 [[rule]]\nid = \"routine\"\nactions = [\"issue\", \"renew\", \"reinstall\"]\nlane = \"autonomous\"\n";
    let mut world = World::new(1, start(), one(rules));
    world.ca.behave(&iid("le"), |b| b.failing_permille = 1_000);
    world.live(DAY * 3);
    let tally = |issuer| world.ca.tally(&iid(issuer)).orders;
    let rules: Vec<Value> = entries(&world, "KW2007").iter().map(|e| e["data"]["policy"]["rule"].clone()).collect();
    assert!(tally("le") >= 2, "what failed once goes on by itself");
    assert_eq!(tally("other"), 0);
    assert!(rules.contains(&"failing".into()) || rules.contains(&"elsewhere".into()), "{rules:?}");
}

#[test]
fn an_incident_over_its_key_is_seen_by_the_next_decision() {
    let rules = "[[rule]]\nid = \"incident\"\nmin_incidents = 1\nlane = \"prohibited\"\n\
                 [[rule]]\nid = \"routine\"\nactions = [\"issue\", \"renew\"]\nmax_incidents = 0\nlane = \"autonomous\"\n";
    let mut estate = one(rules);
    path(&mut estate, "approve", &["portal"], HOUR);
    let mut world = World::new(1, start(), estate);
    let clock = world.clock.clone();
    world.live_with(DAY, |engine| async move {
        clock.sleep(HOUR).await;
        let spki = engine.credential(&cid("portal")).unwrap().record.current.unwrap().spki;
        engine.command(Command::Compromise { spki, by: "uid:0".into() }).unwrap();
        clock.sleep(MINUTE).await;
        World::ask_renewal(&engine, &cid("portal"), "uid:0").unwrap();
    });
    assert_eq!(world.ca.tally(&iid("le")).orders, 1, "the first one, when nothing was known");
    let intent = &entries(&world, "KW2001")[0]["data"];
    assert_eq!((&intent["policy"]["rule"], &intent["risk"]["tier"]), (&"routine".into(), &2.into()));
    assert_eq!(entries(&world, "KW2007")[0]["data"]["policy"]["rule"], "incident");
}

fn json(daemon: &Daemon, args: &[&str]) -> Value {
    let output = daemon.cli(args);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

const ROUTINE: &str =
    "version = 1\n[[rule]]\nid = \"routine\"\nactions = [\"issue\", \"renew\", \"reinstall\"]\nlane = \"autonomous\"\n";

/// Asks the daemon for a renewal without reading the configuration; its exit code.
fn renew(daemon: &Daemon, place: &Place) -> Option<i32> {
    let socket = place.at("state/admin.sock");
    daemon.cli(&["--socket", socket.to_str().unwrap(), "cert", "renew", "portal"]).status.code()
}

fn reload(daemon: &Daemon, place: &Place) -> (Option<i32>, String) {
    let socket = place.at("state/admin.sock");
    let done = daemon.cli(&["--socket", socket.to_str().unwrap(), "config", "reload"]);
    (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_good_policy_stays_in_force_whatever_becomes_of_its_file() {
    let place = Place::new().await;
    let config = write_config(&place, &certificate("portal", &["portal.example.com"], ""));
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}\n[policy]\nfile = \"policy.toml\"\n")).unwrap();
    let file = place.at("policy.toml");
    let write = |text: &str| fs::write(&file, text).unwrap();
    write(ROUTINE);
    let daemon = Daemon::start(config.clone());
    daemon.wait("the certificate", |d| d.says(&["cert", "show", "portal"]).contains("\ninstalled "));
    let digest = json(&daemon, &["policy", "digest", "-o", "json"])["digest"].clone();
    let recorded = json(&daemon, &["audit", "query", "--credential", "portal", "-o", "json"]).to_string();
    assert!(recorded.contains(digest.as_str().unwrap()), "the digest stands in the intent: {recorded}");

    write(&ROUTINE.replace("actions", "acts"));
    let (code, said) = reload(&daemon, &place);
    assert_eq!(code, Some(1));
    assert!(said.contains("policy.toml:4:1") && said.contains("unknown key `acts`"), "{said}");
    assert_eq!(renew(&daemon, &place), Some(0), "the last good policy lets it go on");

    write(&ROUTINE.replace("autonomous", "prohibited"));
    assert_eq!(reload(&daemon, &place).0, Some(0));
    assert_eq!(renew(&daemon, &place), Some(6));
    fs::remove_file(&file).unwrap();
    let (code, said) = reload(&daemon, &place);
    assert!(code == Some(1) && said.contains("KW5020"), "{said}");
    assert_eq!(renew(&daemon, &place), Some(6), "without its file it is not forgotten");
    assert_eq!(daemon.end(), 0);
    assert_eq!(start_code(&config), Some(64), "and without it nothing starts");
}

fn start_code(config: &Path) -> Option<i32> {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_keyward"));
    command.args(["run", "-c"]).arg(config).output().unwrap().status.code()
}
