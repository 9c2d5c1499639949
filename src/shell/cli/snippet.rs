//! `keyward snippet`.

use super::console::{Exit, Failure};
use super::gate_args;
use super::{Done, Run};
use crate::shell::snippet::{Proxy, Wanted, render};

impl Run {
    pub(super) fn snippet(&self, told: &gate_args::Snippet) -> Done {
        let settings = self.settings()?;
        let proxy = match told.proxy {
            gate_args::Proxy::Nginx => Proxy::Nginx,
            gate_args::Proxy::Envoy => Proxy::Envoy,
            gate_args::Proxy::EnvoyHttp => Proxy::EnvoyHttp,
            gate_args::Proxy::Caddy => Proxy::Caddy,
            gate_args::Proxy::Traefik => Proxy::Traefik,
            gate_args::Proxy::Haproxy => Proxy::Haproxy,
        };
        let wanted = Wanted { proxy, path: told.path.clone(), listen: told.listen, portal: told.portal };
        let text = render(&settings, &wanted).map_err(|e| Failure::new(Exit::Failed, e.what, e.mend))?;
        self.console.out(text.trim_end());
        Ok(Exit::Ok)
    }
}
