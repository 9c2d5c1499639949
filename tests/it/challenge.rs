//! Challenge solvers against real clients, servers, commands and attackers.

mod dns;
mod exec;
mod hostile;
mod listeners;
mod webhook;
mod webroot;

use std::time::Duration;

use keyward::adapters::challenge::dns::{Delegation, Propagation, Provider};
use keyward::adapters::challenge::exec::Exec;
use keyward::adapters::challenge::{Binding, SolverConfig, SolverKind, Solvers, StartError};
use keyward::domain::name::Name;
use keyward::ports::{ChallengeKind, Solver as _};

use crate::harness::challenge::{RealChance, RealTime, free_port, id, start, task};

/// A dns-01 solver that writes by a command and looks at nothing.
pub fn by_command(argv: &[&str], timeout: Duration) -> SolverKind {
    let argv = argv.iter().map(|a| (*a).to_owned()).collect();
    SolverKind::Dns01 {
        provider: Provider::Exec(Exec { argv, timeout }),
        propagation: Propagation { check: false, ..Propagation::default() },
        delegation: Delegation::Ignore,
    }
}

#[tokio::test]
async fn each_solver_names_the_kinds_it_can_do_for_a_name() {
    let name = |text: &str| Name::parse(text).unwrap();
    let http = start(SolverKind::Http01Webroot { dir: "/srv/www".into() }).await.unwrap();
    assert_eq!(http.kinds(&id("s"), &name("a.example.com")), [ChallengeKind::Http01]);
    assert_eq!(http.kinds(&id("s"), &name("192.0.2.1")), [ChallengeKind::Http01]);
    assert_eq!(http.kinds(&id("s"), &name("*.example.com")), []);
    assert_eq!(http.kinds(&id("other"), &name("a.example.com")), []);
    let dns = start(by_command(&["/bin/true"], Duration::from_secs(5))).await.unwrap();
    assert_eq!(dns.kinds(&id("s"), &name("a.example.com")), [ChallengeKind::Dns01]);
    assert_eq!(dns.kinds(&id("s"), &name("*.example.com")), [ChallengeKind::Dns01]);
    assert_eq!(dns.kinds(&id("s"), &name("192.0.2.1")), []);
}

#[tokio::test]
async fn a_solver_that_is_unknown_or_of_another_kind_says_so() {
    let http = start(SolverKind::Http01Webroot { dir: "/srv/www".into() }).await.unwrap();
    let dns = task(ChallengeKind::Dns01, "a.example.com", "t");
    assert!(http.present(&id("s"), &dns).await.unwrap_err().text.contains("does http-01, and cannot do dns-01"));
    let by_command = start(by_command(&["/bin/true"], Duration::from_secs(5))).await.unwrap();
    let address = task(ChallengeKind::Dns01, "192.0.2.1", "t");
    assert!(by_command.present(&id("s"), &address).await.unwrap_err().text.contains("cannot do dns-01 for 192.0.2.1"));
    assert!(http.present(&id("x"), &dns).await.unwrap_err().text.contains("no solver is named x"));
}

#[tokio::test]
async fn settings_out_of_range_are_refused_at_start() {
    let second = Duration::from_secs(1);
    let listener = |bind| SolverKind::Http01Listener { bind, binding: Binding::Always };
    let slow = Propagation { deadline: Duration::from_secs(601), ..Propagation::default() };
    let SolverKind::Dns01 { provider, .. } = by_command(&["/bin/true"], second) else { panic!("another kind") };
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for (kind, expected) in [
        (by_command(&["relative/path"], second), "not an absolute path"),
        (by_command(&[], second), "not an absolute path"),
        (by_command(&["/bin/true"], Duration::ZERO), "expected 1 to 600 s"),
        (by_command(&["/bin/true", "a\0b"], second), "NUL"),
        (listener(vec![]), "expected 1 to 16"),
        (listener(vec![held.local_addr().unwrap()]), "cannot listen on 127.0.0.1"),
        (SolverKind::Http01Webroot { dir: "www".into() }, "not an absolute path"),
        (SolverKind::Dns01 { provider, propagation: slow, delegation: Delegation::Follow }, "expected 1 to 600 s"),
    ] {
        let error = start(kind).await.unwrap_err().to_string();
        assert!(error.starts_with("solver s: ") && error.contains(expected), "{error}");
    }
    let twice = || SolverConfig { id: id("s"), kind: listener(vec![free_port()]) };
    let error = Solvers::start(vec![twice(), twice()], RealTime::new(), std::sync::Arc::new(RealChance));
    assert_eq!(error.unwrap_err(), StartError::Twice(id("s")));
}
