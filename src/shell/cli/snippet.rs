//! `keyward snippet`.

use super::args;
use super::console::{Exit, Failure};
use super::{Done, Run};
use crate::shell::snippet::{Proxy, Wanted, render};

impl Run {
    pub(super) fn snippet(&self, told: &args::Snippet) -> Done {
        let settings = self.settings()?;
        let proxy = match told.proxy {
            args::Proxy::Nginx => Proxy::Nginx,
            args::Proxy::Envoy => Proxy::Envoy,
            args::Proxy::EnvoyHttp => Proxy::EnvoyHttp,
            args::Proxy::Caddy => Proxy::Caddy,
            args::Proxy::Traefik => Proxy::Traefik,
            args::Proxy::Haproxy => Proxy::Haproxy,
        };
        let wanted = Wanted { proxy, path: told.path.clone(), listen: told.listen, portal: told.portal };
        let text = render(&settings, &wanted).map_err(|e| Failure::new(Exit::Failed, e.what, e.mend))?;
        self.console.out(text.trim_end());
        Ok(Exit::Ok)
    }
}
