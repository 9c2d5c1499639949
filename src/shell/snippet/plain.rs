//! Proxies that ask for every request, with the original request in headers: nginx, Caddy, Traefik.

use super::{Door, Parts};

/// What the gate is asked; `told` names the headers that the proxy itself sets.
fn question(parts: &Parts<'_>, told: &str) -> String {
    format!("/v1/gate/{}?told={told}", parts.path)
}

pub(super) fn nginx(parts: &Parts<'_>) -> String {
    let Parts { path, listen, portal, .. } = parts;
    let gate = match parts.gate {
        Door::Socket(socket) => format!("unix:{socket}"),
        Door::Tcp(address) => address.to_string(),
    };
    let question = question(parts, "original");
    format!(
        r#"# Include it inside http {{ }}. nginx takes any 2xx for a yes, so the answer itself is looked at: exactly 200 is one.
map $keyward_answer $keyward_portal {{
    "~(?:^|[ ,])200$" keyward_portal_open;    # after a retry the answers of both tries stand there
    default keyward_portal_shut;
}}
upstream keyward_portal_open {{
    server {portal};
}}
upstream keyward_portal_shut {{
    server unix:/nonexistent/keyward;         # 502
}}
upstream keyward_gate {{
    server {gate} max_fails=0;
    keepalive 16;
    keepalive_timeout 60s;                    # the gate keeps them for 75 s
}}

server {{
    listen {listen};

    location / {{
        auth_request /_keyward/{path};
        auth_request_set $keyward_answer $upstream_status;
        # No `return` and no `rewrite` in a guarded location: they answer before the gate is asked.
        proxy_pass http://$keyward_portal;
        proxy_set_header Host $http_host;
    }}

    location = /_keyward/{path} {{
        internal;
        auth_request off;
        proxy_pass http://keyward_gate{question};
        proxy_method GET;
        proxy_http_version 1.1;
        proxy_pass_request_body off;
        proxy_pass_request_headers off;       # nothing that the client says reaches the gate but what stands here
        proxy_set_header Host keyward;
        proxy_set_header Connection "";
        proxy_set_header Content-Length "";
        proxy_set_header X-Original-Method $request_method;
        proxy_set_header X-Original-URI $request_uri;
        proxy_connect_timeout 1s;
        proxy_send_timeout 1s;
        proxy_read_timeout 1s;
        proxy_next_upstream error;            # once more if a kept connection was closed meanwhile
        proxy_next_upstream_tries 2;
        proxy_next_upstream_timeout 1s;
        proxy_intercept_errors off;
        proxy_cache off;
        proxy_store off;
    }}
}}
"#
    )
}

pub(super) fn caddy(parts: &Parts<'_>) -> String {
    let portal = parts.portal;
    let (address, port) = (parts.listen.ip(), parts.listen.port());
    let gate = match parts.gate {
        Door::Socket(socket) => format!("unix/{socket}"),
        Door::Tcp(address) => address.to_string(),
    };
    let question = question(parts, "forwarded");
    format!(
        r"# What `forward_auth` stands for, but exactly 200 is a yes: `forward_auth` takes any 2xx, as 204.
http://:{port} {{
	bind {address}
	# `route` keeps this order: what stands before the question would be answered without it.
	route {{
		reverse_proxy {gate} {{
			method GET
			rewrite {question}
			header_up Host keyward
			header_up -Cookie
			header_up -Authorization
			header_up X-Forwarded-Method {{method}}
			header_up X-Forwarded-Uri {{uri}}
			lb_try_duration 0
			transport http {{
				dial_timeout 1s
				response_header_timeout 1s
				read_timeout 1s
				write_timeout 1s
				keepalive 60s
			}}
			@open status 200
			handle_response @open {{
				request_header -Keyward-Reasons
			}}
			handle_response {{
				respond 403
			}}
		}}
		reverse_proxy {portal}
	}}
}}
"
    )
}

pub(super) fn traefik(parts: &Parts<'_>) -> String {
    let Parts { path, portal, gate, .. } = parts;
    let question = question(parts, "forwarded");
    format!(
        r"# Dynamic configuration (file provider); the entry point `web` is yours. Traefik takes any 2xx for a yes, and waits
# for the gate for 30 s, which it does not let one set.
http:
  routers:
    portal:
      entryPoints: [web]
      rule: PathPrefix(`/`)
      middlewares: [keyward-{path}]
      service: portal
  middlewares:
    keyward-{path}:
      forwardAuth:
        address: http://{gate}{question}
        trustForwardHeader: false             # Traefik itself tells method and URI; the client's own words are dropped
        authRequestHeaders: [Accept]          # and nothing else of the client's reaches the gate
  services:
    portal:
      loadBalancer:
        servers:
          - url: http://{portal}
"
    )
}
