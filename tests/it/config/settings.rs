//! What comes out of a good configuration.

use core::time::Duration;

use super::{parse, parse_staging, sample, samples};
use keyward::domain::freeze::{Emergency, Freezing, WhenFrozen};
use keyward::domain::id::{CredentialId, PathId};
use keyward::domain::inventory::{Ari, Care, Environment, KeyReuse, Layout, ListSource, ReloadHow, Source, StartTls};
use keyward::domain::key::KeyAlgorithm;
use keyward::domain::limits::LETS_ENCRYPT;
use keyward::domain::policy::Lane;
use keyward::shell::config::{self, DnsUpdate, HttpChallenge, Overrides, SolverKind};

fn credential(id: &str) -> CredentialId {
    CredentialId::parse(id).unwrap()
}

#[test]
fn what_freezes_may_do_is_said_or_as_usual() {
    let of = |text: &str| {
        let e = parse(text).unwrap().estate;
        (e.freezing, e.paths[&PathId::parse("approve").unwrap()].when_frozen)
    };
    let text = sample("keyward.toml");
    let strict = text
        .replace("emergency = \"allow\"", "emergency = \"block\"")
        .replace("longest = \"14d\"", "longest = \"36h\"")
        .replace("when_frozen = \"open\"", "when_frozen = \"close\"");
    let longest = Duration::from_secs(36 * 3_600);
    assert_eq!(of(&strict), (Freezing { emergency: Emergency::Block, longest }, WhenFrozen::Close));
    let silent = text.replace("[freeze]\nemergency = \"allow\"  ", "# ").replace("longest = ", "# longest = ");
    let silent = silent.replace("when_frozen = ", "# when_frozen = ");
    assert_ne!(silent, text);
    assert_eq!(of(&silent), (Freezing::default(), WhenFrozen::Open));
    assert_eq!(Freezing::default().longest, Duration::from_secs(14 * 86_400));
}

#[test]
fn the_reference_sample_means_what_it_says() {
    let s = parse(&sample("keyward.toml")).unwrap();
    let e = &s.estate;
    assert_eq!((e.environment, e.orders_in_flight), (Environment::Production, 8));
    assert_eq!((e.full_scan, e.probe_every), (Duration::from_secs(3_600), Duration::from_secs(300)));
    assert_eq!((e.credentials.len(), e.watches.len(), e.paths.len(), e.issuers.len()), (4, 1, 1, 2));
    assert_eq!(e.freezing, Freezing { emergency: Emergency::Allow, longest: Duration::from_secs(14 * 86_400) });
    assert_eq!(s.sandbox_dir, None);

    let portal = e.credentials[&credential("portal")].clone();
    let managed = portal.managed().unwrap();
    assert_eq!(managed.names.to_string(), "review.example.com");
    assert_eq!(
        (managed.key, managed.key_reuse, managed.profile.as_deref()),
        (KeyAlgorithm::P256, KeyReuse::Fresh, Some("tlsserver"))
    );
    assert_eq!(
        (managed.renewal.fallback_permille, managed.renewal.emergency_permille, managed.renewal.ari),
        (Some(660), 50, Ari::Ask)
    );
    assert_eq!(managed.issuers.iter().map(|i| i.as_str()).collect::<Vec<_>>(), ["letsencrypt", "second"]);
    assert_eq!((managed.installs[0].key_mode, managed.installs[0].cert_mode), (0o640, 0o644));
    assert_eq!((managed.installs[1].key_mode, managed.installs[1].cert_mode), (0o600, 0o644), "the defaults");
    assert!(
        matches!(&managed.installs[0].layout, Layout::Versioned { dir, formats } if dir == "/etc/keyward/live/portal" && formats.len() == 2)
    );
    assert!(matches!(&managed.installs[1].layout, Layout::Plain { files } if files.len() == 3));
    let reload = managed.reload.as_ref().unwrap();
    assert_eq!(reload.how, ReloadHow::Exec(vec!["/usr/sbin/nginx".into(), "-s".into(), "reload".into()]));
    assert_eq!((reload.timeout, reload.tries, reload.in_staging), (Duration::from_secs(30), 3, false));
    assert_eq!(portal.endpoints[0].to_string(), "127.0.0.1:443 (review.example.com)");
    assert_eq!(managed.windows[0].days, [false, false, false, false, false, true, true]);
    assert_eq!((managed.windows[0].from_minute, managed.windows[0].until_minute), (120, 300));
    assert_eq!(portal.labels["data_class"], "restricted");

    assert_eq!((e.lists_every, s.lists_allow.len()), (Duration::from_secs(6 * 3_600), 1));
    let watched = &e.credentials[&credential("policy-engine")];
    assert!(watched.fetches_lists() && watched.list_files().next().is_none());
    let both = sample("keyward.toml").replace(
        "crls = [\"distribution-point\"]",
        "crls = [\"/etc/pki/a.crl\", \"distribution-point\", \"distribution-point\"]",
    );
    let both = parse(&both).unwrap().estate.credentials[&credential("policy-engine")].clone();
    assert_eq!(both.crls, [ListSource::from("/etc/pki/a.crl"), ListSource::DistributionPoints]);

    let path = &e.paths[&PathId::parse("approve").unwrap()];
    let audiences: Vec<&str> = path.leases.audiences.iter().map(|a| a.as_str()).collect();
    assert_eq!(audiences, ["portal", "release-bot"]);
    let file = path.leases.file.as_ref().unwrap();
    assert_eq!((file.path.as_str(), file.audience.as_str()), ("/run/keyward/approve.lease", "portal"));
    assert_eq!((file.mode, file.group.as_deref()), (0o640, Some("www-data")));
    assert_eq!((path.needs.len(), path.margin), (2, Duration::from_secs(7_200)));
    assert_eq!(path.misses, 3);
    for misses in [1, 5] {
        let text =
            super::sample("keyward.toml").replace("margin = \"2h\"", &format!("margin = \"2h\"\nmisses = {misses}"));
        let paths = parse(&text).unwrap().estate.paths;
        assert_eq!(paths[&PathId::parse("approve").unwrap()].misses, misses);
    }
    assert_eq!(e.policy.rules()[0].lane, Lane::ReviewRequired);
    let issuers: Vec<_> = e.issuers.values().map(|i| i.limits.to_vec()).collect();
    assert_eq!(issuers[0], LETS_ENCRYPT);
    assert_eq!((issuers[1].len(), issuers[1][0].capacity, issuers[1][0].reserve), (1, 100, 5));
    assert_eq!(s.issuers[1].eab.as_ref().map(|e| e.key_id.as_str()), Some("kid-1"));

    let gate = s.listen.gate_socket.as_ref().unwrap();
    assert_eq!(
        (gate.path.to_str(), gate.mode, gate.group.as_deref()),
        (Some("/run/keyward/gate.sock"), 0o660, Some("www-data"))
    );
    assert_eq!(s.listen.admin_socket.to_str(), Some("/var/lib/keyward/admin.sock"));
    assert!(matches!(&s.solvers[0].kind, SolverKind::Http01(HttpChallenge::Listen(l)) if l.len() == 2));
    let SolverKind::Dns01 { update: DnsUpdate::Rfc2136 { server, ttl_secs, .. }, propagation, follow_cname } =
        &s.solvers[2].kind
    else {
        panic!("{:?}", s.solvers[2]);
    };
    assert_eq!((server.to_string().as_str(), *ttl_secs, *follow_cname), ("192.0.2.53:53", 60, true));
    assert_eq!((propagation.check, propagation.resolver.map(|r| r.port())), (true, Some(53)));
}

#[test]
fn the_audit_log_has_a_name_and_a_lock_of_the_file_and_in_staging_its_own() {
    let text = format!("{}\n[audit]\nlock = \"/srv/b/kw.lock\"\norigin = \"example.com/kw\"\n", sample("minimal.toml"));
    let audit = parse(&text).unwrap().audit;
    assert_eq!(audit.lock.as_deref(), Some(std::path::Path::new("/srv/b/kw.lock")));
    assert_eq!(audit.origin.as_deref(), Some("example.com/kw"));
    assert_eq!(parse(&sample("minimal.toml")).unwrap().audit, config::AuditSettings::default());
    if let Ok(staging) = super::parse_staging(&text) {
        assert_eq!(staging.audit, config::AuditSettings::default());
    }
}

#[test]
fn the_least_configuration_has_sensible_defaults() {
    let s = parse(&sample("minimal.toml")).unwrap();
    let portal = &s.estate.credentials[&credential("portal")];
    let managed = portal.managed().unwrap();
    assert_eq!((managed.renewal.fallback_permille, managed.renewal.ari), (None, Ari::Ask));
    assert_eq!(
        portal.endpoints[0].sni.as_deref(),
        Some("review.example.com"),
        "an address is asked for the certificate's name"
    );
    assert_eq!(s.listen.http.to_string(), "127.0.0.1:9180");
    assert_eq!(s.listen.gate_socket, None);
    assert_eq!(s.issuers[0].requests_per_second, 10);
    assert_eq!(
        s.estate.issuers.values().next().unwrap().limits.to_vec(),
        LETS_ENCRYPT,
        "nobody ignores them by silence"
    );
}

#[test]
fn what_is_only_watched_needs_no_issuer() {
    let s = parse(&sample("mtls-observe.toml")).unwrap();
    assert!(s.issuers.is_empty() && s.solvers.is_empty());
    let care = |id: &str| s.estate.credentials[&credential(id)].care.clone();
    assert!(matches!(care("policy-engine"), Care::Observed(Source::File { .. })));
    assert!(matches!(care("gateway-client"), Care::Observed(Source::File { password_file: Some(_), .. })));
    assert!(matches!(care("audit-db"), Care::Observed(Source::Endpoints)));
    assert_eq!(s.estate.credentials[&credential("audit-db")].endpoints[0].starttls, StartTls::Postgres);
    assert_eq!(s.estate.watches[&credential("peers")].pattern, "/etc/policy/peers/*.pem");
}

#[test]
fn a_dry_run_shares_nothing_with_production() {
    for (name, text) in samples().into_iter().filter(|(name, _)| name != "minimal.toml" && name != "staging.toml") {
        let production = parse(&text).unwrap();
        let staging = parse_staging(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(staging.estate.environment, Environment::Staging);
        assert_ne!(staging.state_dir, production.state_dir, "{name}");
        assert_eq!(staging.sandbox_dir.as_deref(), Some(&*staging.state_dir.join("sandbox")));
        assert_ne!(staging.listen.http, production.listen.http);
        assert_ne!(staging.listen.admin_socket, production.listen.admin_socket);
        let socket = |s: &config::Settings| s.listen.gate_socket.as_ref().map(|g| g.path.clone());
        assert!(socket(&staging).is_none() || socket(&staging) != socket(&production), "{name}");
        for (a, b) in staging.issuers.iter().zip(&production.issuers) {
            assert_ne!(a.directory, b.directory, "{name}");
            assert_eq!(staging.estate.issuers[&a.id].directory, a.directory, "one truth about the directory");
        }
    }
}

#[test]
fn a_staging_file_is_staging_and_takes_a_test_ca_as_it_is() {
    let s = parse(&sample("staging.toml")).unwrap();
    assert_eq!(s.state_dir.to_str(), Some("/var/lib/keyward/staging"));
    assert_eq!(s.listen.http.to_string(), "127.0.0.1:9181");
    let directories: Vec<_> = s.issuers.iter().map(|i| i.directory.as_str()).collect();
    assert_eq!(directories, ["https://acme-staging-v02.api.letsencrypt.org/directory", "https://127.0.0.1:14000/dir"]);
}

#[test]
fn an_overridden_state_directory_wins_but_never_joins_staging_to_production() {
    let load = |staging, dir: &str| {
        let overrides = Overrides { staging, state_dir: Some(dir.into()) };
        config::parse("keyward.toml", &sample("keyward.toml"), overrides)
    };
    assert_eq!(load(false, "/srv/kw").unwrap().state_dir.to_str(), Some("/srv/kw"));
    assert_eq!(load(true, "/srv/kw").unwrap().state_dir.to_str(), Some("/srv/kw"));
    assert_eq!(load(true, "/var/lib/keyward").unwrap_err().problems()[0].code, "KW0061");
    assert_eq!(load(false, "kw").unwrap_err().problems()[0].code, "KW0017");
}

#[test]
fn ten_thousand_certificates_are_read_and_checked() {
    let mut text = sample("minimal.toml").replacen("[[path]]", "[[observe]]\nid = \"x\"\nfile = \"/x\"\n\n[[path]]", 1);
    for i in 0..10_000 {
        text.push_str(&format!(
            "[[certificate]]\nid = \"c{i}\"\nnames = [\"c{i}.example.com\", \"d{i}.example.com\"]\nissuers = [\"letsencrypt\"]\n\
             solvers = [\"web\"]\nlabels = {{ env = \"prod\" }}\n[[certificate.install]]\ndir = \"/etc/keyward/live/c{i}\"\n\
             [[certificate.endpoint]]\nconnect = \"127.0.0.1:443\"\nsni = \"c{i}.example.com\"\n\
             [[certificate.window]]\nfrom = \"02:00\"\nuntil = \"05:00\"\nzone = \"Europe/Berlin\"\n"
        ));
    }
    let settings = parse(&text).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(settings.estate.credentials.len(), 10_002);
}

#[test]
fn ten_thousand_mistakes_do_not_take_quadratic_time() {
    let mut text = sample("minimal.toml");
    for i in 0..10_000 {
        text.push_str(&format!(
            "[[certificate]]\nid = \"c{i}\"\nnames = [\"c{i}.example.com\"]\nissuers = [\"x{i}\"]\nsolvers = [\"web\"]\nzzz = 1\n"
        ));
    }
    assert_eq!(parse(&text).unwrap_err().problems().len(), 200);
}

#[test]
fn a_dry_run_writes_no_lease_file_and_a_path_without_audiences_has_none() {
    let staging = super::parse_staging(&super::sample("keyward.toml")).unwrap();
    let path = &staging.estate.paths[&PathId::parse("approve").unwrap()];
    assert!(path.leases.file.is_none() && path.leases.audiences.len() == 2);
    let text = super::sample("keyward.toml");
    let without: String = text
        .lines()
        .filter(|l| !l.starts_with("audiences") && !l.starts_with("lease_file"))
        .map(|l| format!("{l}\n"))
        .collect();
    let path = &super::parse(&without).unwrap().estate.paths[&PathId::parse("approve").unwrap()];
    assert_eq!(path.leases, keyward::domain::inventory::Leases::default());
}

#[test]
fn two_leases_do_not_lie_in_one_file() {
    let text = super::sample("keyward.toml");
    let twice = format!(
        "{text}\n[[path]]\nid = \"again\"\nneeds = [\"portal\"]\naudiences = [\"portal\"]\n\
         lease_file = {{ path = \"/run/keyward/approve.lease\", audience = \"portal\" }}\n"
    );
    let error = super::parse(&twice).unwrap_err().to_string();
    assert!(error.contains("two leases cannot lie in one file") && error.contains("first time"), "{error}");
}
