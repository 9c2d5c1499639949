//! What `keyward init` writes: a commented configuration that loads, works without root, and has all its files below one
//! directory.

use std::path::Path;

/// The configuration for one certificate of `domain`, with `email` as the CA's contact and everything below `dir`
/// (absolute).
///
/// What is passed in is quoted but not judged: [`parse`](super::parse) says what is wrong with it.
#[must_use]
pub fn render(domain: &str, email: &str, dir: &Path) -> String {
    let quoted = |text: String| toml::Value::String(text).to_string();
    let below = |rest: &str| quoted(dir.join(rest).to_string_lossy().into_owned());
    TEMPLATE
        .replace("@STATE@", &below("state"))
        .replace("@GATE@", &below("gate.sock"))
        .replace("@INSTALL@", &below("portal"))
        .replace("@CONTACT@", &quoted(format!("mailto:{email}")))
        .replace("@DOMAIN@", &quoted(domain.to_owned()))
}

const TEMPLATE: &str = r#"# Keyward. Every setting with its default and meaning: docs/configuration.md.
# `keyward check` says what is missing on this machine; `keyward --staging` runs all of it dry, at the CA's staging
# directory, with a state of its own and without touching the installed files.

state_dir = @STATE@

[listen]
http = "127.0.0.1:9180"                   # gate checks, metrics, health, pages: this machine only
gate_socket = @GATE@

[[issuer]]
id = "letsencrypt"
directory = "https://acme-v02.api.letsencrypt.org/directory"
staging_directory = "https://acme-staging-v02.api.letsencrypt.org/directory"
contacts = [@CONTACT@]
terms_agreed = true                       # keep this line only if you agree: https://letsencrypt.org/repository/
limits = "letsencrypt"

# How the CA is shown that the name is yours. It connects to port 80 of the name, from several places in the world.
# A process without root may listen there after:
#   sudo sysctl net.ipv4.ip_unprivileged_port_start=80
# Alternatives: a web server that runs already (`webroot = "/var/www/html"` instead of `listen`), port 443
# (type = "tls-alpn-01", listen = ["0.0.0.0:443"]), or DNS (type = "dns-01"), the only way to wildcards.
[[solver]]
id = "web"
type = "http-01"
listen = ["0.0.0.0:80"]

[[certificate]]
id = "portal"
names = [@DOMAIN@]
issuers = ["letsencrypt"]
solvers = ["web"]
# profile = "shortlived"                  # 160 hours instead of the CA's default
# owner = "platform"                      # who is asked when it does not go by itself

  # Servers read current/fullchain.pem and current/key.pem in this directory.
  [[certificate.install]]
  dir = @INSTALL@
  formats = ["fullchain", "key"]

  # What makes the server take new files:
  # [certificate.reload]
  # systemd = "nginx.service"             # or exec = ["/usr/sbin/nginx", "-s", "reload"]

  # Where it is served: a renewal is done only when this shows the new certificate.
  # [[certificate.endpoint]]
  # connect = "127.0.0.1:443"

# What control services ask about. It is open while everything it needs is good, and closes `margin` before the end.
[[path]]
id = "approve"
needs = ["portal"]
margin = "2h"
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::inventory::Layout;
    use crate::shell::config::{Overrides, parse};

    #[test]
    fn the_first_installation_needs_no_directory_that_init_did_not_make() {
        let dir = Path::new("/srv/kw");
        let settings = parse("init", &render("app.example.org", "me@example.org", dir), Overrides::default()).unwrap();
        for credential in settings.estate.credentials.values() {
            for install in credential.managed().map(|m| m.installs.clone()).unwrap_or_default() {
                let Layout::Versioned { dir: own, .. } = install.layout else { panic!("{install:?}") };
                assert_eq!(Path::new(&own).parent(), Some(dir), "only the last directory is made");
            }
        }
    }
}
