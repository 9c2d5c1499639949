//! HAProxy as it is, without Lua: a health check asks the gate, and without a healthy gate every request is denied.

use super::{Door, Parts};

pub(super) fn config(parts: &Parts<'_>) -> String {
    let Parts { path, listen, portal, .. } = parts;
    let gate = match parts.gate {
        Door::Socket(socket) => format!("unix@{socket}"),
        Door::Tcp(address) => address.to_string(),
    };
    format!(
        r"# HAProxy asks five times a second, not for each request: it closes at the latest 0.7 s after the gate (0.2 s until
# the next check, 0.2 s to connect, 0.3 s to answer), and opens after two good answers. Checks go on while nobody comes.
global
    # A server counts as up until its first check: nothing passes in the first two to three seconds.
    set-var proc.keyward_began date()

frontend portal
    mode http
    bind {listen}
    timeout client 30s
    http-request deny deny_status 403 if {{ date(),sub(proc.keyward_began) lt 3 }}
    http-request deny deny_status 403 if {{ nbsrv(keyward_{path}) eq 0 }}
    default_backend portal

backend portal
    mode http
    timeout connect 5s
    timeout server 30s
    server portal {portal}

backend keyward_{path}
    mode http
    timeout connect 200ms
    timeout server 1s
    timeout check 300ms
    option httpchk
    http-check send meth GET uri /v1/gate/{path} ver HTTP/1.1 hdr Host keyward
    http-check expect status 200
    server gate {gate} check inter 200ms fastinter 200ms downinter 200ms fall 1 rise 2
"
    )
}
