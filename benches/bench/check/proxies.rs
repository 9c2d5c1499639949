//! What asking costs at a proxy: the same answer without a question, and with one to either server.
//!
//! nginx and Envoy answer by themselves once they may, so that nothing is behind them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::client::Door;
use super::servers::{Guardian, Minimal, Process, free_port, wait_for};

/// A proxy, and its ways to answer: what is asked, and where it listens.
pub struct Proxy {
    pub name: &'static str,
    /// The first one asks nobody.
    pub ways: Vec<(&'static str, Door, &'static str)>,
    _process: Process,
}

/// Those that are installed.
pub fn start(dir: &Path, minimal: &Minimal, guardian: &Guardian) -> Vec<Proxy> {
    let minimal_socket = match &minimal.unix {
        Door::Unix(path) => path.clone(),
        Door::Tcp(_) => unreachable!("it is a socket"),
    };
    let mut all = vec![nginx(dir, &minimal_socket, &guardian.socket)];
    match envoy_program() {
        Some(program) => all.push(envoy(dir, &program, &minimal_socket, &minimal.grpc, &guardian.socket)),
        None => eprintln!("there is no Envoy below target/tools: tests/run installs it"),
    }
    all
}

fn nginx(dir: &Path, minimal: &Path, gate: &Path) -> Proxy {
    let at = dir.join("nginx");
    std::fs::create_dir_all(&at).expect("a directory");
    let address = free_port();
    let asking = |name: &str, target: &str| {
        format!(
            "location = /{name} {{ auth_request /_{name}; empty_gif; }}\n\
             location = /_{name} {{ internal; proxy_pass http://{name}{target}; proxy_http_version 1.1;\n\
             proxy_pass_request_body off; proxy_pass_request_headers off; proxy_set_header Host keyward;\n\
             proxy_set_header Connection \"\"; proxy_set_header Content-Length \"\";\n\
             proxy_set_header X-Original-Method $request_method; proxy_set_header X-Original-URI $request_uri; }}\n"
        )
    };
    let upstream = |name: &str, socket: &Path| {
        let socket = socket.display();
        format!("upstream {name} {{ server unix:{socket}; keepalive 16; keepalive_requests 1000000000; }}\n")
    };
    let text = format!(
        "daemon off; master_process off; pid {0}/pid; error_log {0}/error.log error; events {{}}\n\
         http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {0}/1; proxy_temp_path {0}/2;\n\
         fastcgi_temp_path {0}/3; uwsgi_temp_path {0}/4; scgi_temp_path {0}/5;\n{1}{2}\
         server {{ listen {address};\nlocation = /open {{ empty_gif; }}\n{3}{4} }} }}",
        at.display(),
        upstream("minimal", minimal),
        upstream("keyward", gate),
        asking("minimal", "/"),
        asking("keyward", "/v1/gate/approve?told=original"),
    );
    std::fs::write(at.join("nginx.conf"), text).expect("a file");
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-e").arg(at.join("error.log")).arg("-c").arg(at.join("nginx.conf"));
    let process = Process::start(command.stdout(Stdio::null()));
    wait_for(address, "nginx");
    let way = |name, target| (name, Door::Tcp(address), target);
    let ways = vec![way("nobody", "/open"), way("minimal", "/minimal"), way("keyward", "/keyward")];
    Proxy { name: "nginx", ways, _process: process }
}

fn envoy_program() -> Option<PathBuf> {
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/envoy/lib");
    let python = std::fs::read_dir(lib).ok()?.next()?.ok()?;
    Some(python.path().join("site-packages/envoy/_bin/envoy")).filter(|program| program.exists())
}

fn envoy(dir: &Path, program: &Path, minimal: &Path, minimal_grpc: &Path, gate: &Path) -> Proxy {
    let http = |cluster: &str, prefix: &str| {
        format!(
            "http_service: {{ path_prefix: \"{prefix}\", server_uri: {{ uri: http://keyward, cluster: {cluster}, timeout: 1s }} }}"
        )
    };
    let grpc = |cluster: &str| format!("grpc_service: {{ envoy_grpc: {{ cluster_name: {cluster} }}, timeout: 1s }}");
    let variants = [
        ("nobody", None),
        ("minimal, HTTP", Some(http("minimal", "/"))),
        ("keyward, HTTP", Some(http("keyward", "/v1/gate/approve"))),
        ("minimal, gRPC", Some(grpc("minimal_grpc"))),
        ("keyward, gRPC", Some(grpc("keyward_grpc"))),
    ];
    let mut text = String::from("static_resources:\n  listeners:\n");
    let mut ways = Vec::new();
    for (i, (name, service)) in variants.iter().enumerate() {
        let address = free_port();
        let filter = service.as_ref().map_or_else(String::new, |service| {
            format!(
                "          - name: envoy.filters.http.ext_authz\n            typed_config:\n              \
                 \"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz\n              \
                 transport_api_version: V3\n              {service}\n"
            )
        });
        text += &format!(
            "  - name: way{i}\n    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}\n    \
             filter_chains:\n    - filters:\n      - name: envoy.filters.network.http_connection_manager\n        \
             typed_config:\n          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n          \
             stat_prefix: way{i}\n          route_config:\n            virtual_hosts:\n            - name: all\n              domains: [\"*\"]\n              \
             typed_per_filter_config:\n                envoy.filters.http.ext_authz:\n                  \
             \"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute\n                  \
             check_settings: {{ context_extensions: {{ keyward-path: approve }} }}\n              \
             routes:\n              - match: {{ prefix: / }}\n                \
             direct_response: {{ status: 200, body: {{ inline_string: ok }} }}\n          http_filters:\n{filter}\
             \x20         - name: envoy.filters.http.router\n            typed_config:\n              \
             \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\n",
            port = address.port(),
        );
        ways.push((*name, Door::Tcp(address), "/approve/4711"));
    }
    text += "  clusters:\n";
    let h2 = "    typed_extension_protocol_options:\n      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n        \
              \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n        \
              explicit_http_config: { http2_protocol_options: {} }\n";
    let clusters = [
        ("minimal", minimal, ""),
        ("keyward", gate, ""),
        ("minimal_grpc", minimal_grpc, h2),
        ("keyward_grpc", gate, h2),
    ];
    for (name, socket, options) in clusters {
        text += &format!(
            "  - name: {name}\n    type: STATIC\n    connect_timeout: 1s\n{options}    load_assignment:\n      \
             cluster_name: {name}\n      endpoints:\n      - lb_endpoints:\n        - endpoint: {{ address: {{ pipe: {{ path: {socket:?} }} }} }}\n"
        );
    }
    let at = dir.join("envoy");
    std::fs::create_dir_all(&at).expect("a directory");
    std::fs::write(at.join("envoy.yaml"), text).expect("a file");
    let log = std::fs::File::create(at.join("log")).expect("a file");
    let mut command = Command::new(program);
    command.args(["--use-dynamic-base-id", "--concurrency", "1", "-l", "warning", "-c"]).arg(at.join("envoy.yaml"));
    let process = Process::start(command.stdout(Stdio::null()).stderr(log));
    for (name, door, _) in &ways {
        if let Door::Tcp(address) = door {
            wait_for(*address, name);
        }
    }
    Proxy { name: "Envoy", ways, _process: process }
}
