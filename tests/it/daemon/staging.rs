//! A dry run of the same configuration touches nothing of production.

use std::fs;
use std::time::Duration;

use keyward::domain::inventory::Environment;
use keyward::shell::acme_server::Endpoint;
use keyward::shell::config::Overrides;

use crate::harness::life::{Life, Place, certificate, snapshot};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_beside_production_touches_nothing_of_it() {
    let place = Place::new().await;
    // The staging CA has an address, names and a root of its own, and looks for responses in the same place.
    let (http, tls) = (place.http.port(), place.tls.port());
    let staging = Place::with(|_, validator| {
        (validator.http_port, validator.tls_port) = (http, tls);
    })
    .await;
    fs::copy(staging.at("root.pem"), place.at("staging-root.pem")).unwrap();
    let hook = place.script("hook", "echo $KEYWARD_ENVIRONMENT >> @/production/hooks");
    let dry = place.script("dry", "echo $KEYWARD_ENVIRONMENT >> @/staging-hooks");
    for dir in ["production", "production/live"] {
        fs::create_dir(place.at(dir)).unwrap();
    }
    let own = |id: &str, more: &str| {
        let install = format!(
            "\n[[certificate.install]]\ndir = \"@/production/live/{id}\"\n[[certificate.install]]\n\
             files = {{ fullchain = \"@/production/{id}.pem\", key = \"@/production/{id}.key\" }}\n"
        );
        certificate(id, &[&format!("{id}.example.test")], &format!("{install}{more}"))
    };
    let rest = format!(
        "{}{}{}[[path]]\nid = \"approve\"\nneeds = [\"portal\"]\n",
        own("portal", &format!("[certificate.reload]\nexec = [{hook:?}]\ntries = 1\n")),
        own("other", &format!("[certificate.reload]\nexec = [{dry:?}]\ntries = 1\nin_staging = true\n")),
        own("third", "[[certificate.endpoint]]\nconnect = \"127.0.0.1:1\"\n"),
    );
    let issuer = format!("staging_directory = \"{}\"", staging.ca.directory_url());
    let toml = place.toml_with("staging_state_dir = \"@/dry-state\"", &issuer, &rest).replace(
        &format!("root_files = [\"{}\"]", place.text("root.pem")),
        &format!("root_files = [\"{}\", \"{}\"]", place.text("root.pem"), place.text("staging-root.pem")),
    );
    // Production first, so that there is something to spoil; its third certificate is served nowhere, so it only tries.
    let life = place.start(&toml).await;
    life.installed("portal").await;
    life.installed("other").await;
    let production = life.view("portal").current().unwrap().serial.clone();
    life.stop().await;
    let taken = |dirs: &[&str]| dirs.iter().flat_map(|d| snapshot(&place.at(d))).collect::<Vec<_>>();
    let (before, asked) = (taken(&["production", "state"]), requests(&place));

    let overrides = Overrides { staging: true, ..Overrides::default() };
    let life = Life::try_start(&toml, overrides, place.clock.clone()).await.unwrap();
    assert_eq!(life.engine.overview().environment, Environment::Staging);
    for id in ["portal", "other", "third"] {
        let dry = life.installed(id).await;
        assert_ne!(dry.serial, production);
    }
    place.advance(Duration::from_secs(2));
    for id in ["portal", "other"] {
        let last = life.installed(id).await;
        life.renew(id);
        life.renewed(id, &last).await;
    }
    life.scan();
    life.wait("the dry run's own gate opens", |l| {
        l.engine.gate(&crate::harness::estate::pid("approve")).is_open().then_some(())
    })
    .await;
    assert_eq!(life.complaints().await, Vec::<String>::new());
    let start = life.entries().await.into_iter().find(|e| e["data"]["code"] == "KW2401").unwrap();
    assert_eq!(start["data"]["facts"]["environment"], "staging");
    life.stop().await;

    assert_eq!(taken(&["production", "state"]), before, "not a byte, inode or time of production changed");
    assert_eq!(requests(&place), asked, "the production CA was not asked for anything");
    assert!(requests(&staging) > 0);
    let hooks = fs::read_to_string(place.at("staging-hooks")).unwrap();
    assert!(hooks.contains("production\n") && hooks.contains("staging\n"), "only this hook runs in staging: {hooks}");
    let sandbox = place.at("dry-state/sandbox");
    let below =
        sandbox.join(place.dir.path().strip_prefix("/").unwrap()).join("production/live/portal/current/key.pem");
    assert!(below.exists(), "{}", below.display());
}

fn requests(place: &Place) -> u64 {
    Endpoint::ALL.iter().map(|e| place.control.requests(*e)).sum()
}
