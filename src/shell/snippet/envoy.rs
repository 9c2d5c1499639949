//! Envoy's ext_authz, over gRPC and over HTTP.

use super::{Door, Parts};

pub(super) fn grpc(parts: &Parts<'_>) -> String {
    let path = parts.path;
    let per_route = format!(
        r#"              typed_per_filter_config:
                envoy.filters.http.ext_authz:
                  "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute
                  check_settings:
                    context_extensions: {{ keyward-path: {path} }}
"#
    );
    let service = "              grpc_service:
                envoy_grpc: { cluster_name: keyward_gate }
                timeout: 1s
";
    let protocol = r#"    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: { http2_protocol_options: {} }
"#;
    config(parts, &per_route, service, protocol)
}

pub(super) fn http(parts: &Parts<'_>) -> String {
    let service = format!(
        "              http_service:
                # Envoy appends the original path, and asks with the original method.
                path_prefix: /v1/gate/{}
                server_uri:
                  uri: http://keyward
                  cluster: keyward_gate
                  timeout: 1s
",
        parts.path
    );
    config(parts, "", &service, "")
}

fn config(parts: &Parts<'_>, per_route: &str, service: &str, protocol: &str) -> String {
    let Parts { listen, portal, .. } = parts;
    let (address, port) = (listen.ip(), listen.port());
    let (portal_address, portal_port) = (portal.ip(), portal.port());
    let gate = match parts.gate {
        Door::Socket(socket) => format!("pipe: {{ path: {socket} }}"),
        Door::Tcp(at) => format!("socket_address: {{ address: \"{}\", port_value: {} }}", at.ip(), at.port()),
    };
    format!(
        r#"# Never set `failure_mode_allow`, nor `filter_enabled` without `deny_at_disable`.
static_resources:
  listeners:
  - name: portal
    address:
      socket_address: {{ address: "{address}", port_value: {port} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: portal
          # The gate is asked about the path that the portal sees.
          normalize_path: true
          merge_slashes: true
          path_with_escaped_slashes_action: REJECT_REQUEST
          route_config:
            virtual_hosts:
            - name: portal
              domains: ["*"]
{per_route}              routes:
              - match: {{ prefix: / }}
                route: {{ cluster: portal }}
          http_filters:
          - name: envoy.filters.http.ext_authz
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
              transport_api_version: V3
              failure_mode_allow: false
              status_on_error: {{ code: Forbidden }}
{service}          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: keyward_gate
    type: STATIC
    connect_timeout: 1s
{protocol}    load_assignment:
      cluster_name: keyward_gate
      endpoints:
      - lb_endpoints:
        - endpoint:
            address:
              {gate}
  - name: portal
    type: STATIC
    connect_timeout: 5s
    load_assignment:
      cluster_name: portal
      endpoints:
      - lb_endpoints:
        - endpoint:
            address:
              socket_address: {{ address: "{portal_address}", port_value: {portal_port} }}
"#
    )
}
