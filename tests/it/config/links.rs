//! `[[link]]`: what is taken and what is refused.

use keyward::domain::link::{Identity, Listen, Side};

use super::parse;

const BASE: &str = "state_dir = \"/var/lib/keyward\"\n[[observe]]\nid = \"portal\"\nfile = \"/etc/portal.pem\"\n\
                    [[observe]]\nid = \"p12\"\nfile = \"/etc/portal.p12\"\npassword_file = \"/etc/pass\"\n\
                    [[observe]]\nid = \"many\"\nglob = \"/etc/*.pem\"\n\
                    [[path]]\nid = \"approve\"\nneeds = [\"portal\"]\n";
const SERVER: &str = "[[link]]\nid = \"in\"\npath = \"approve\"\nside = \"server\"\nlisten = \"0.0.0.0:8443\"\n\
                      forward = \"127.0.0.1:80\"\ncredential = \"portal\"\nroots = [\"/etc/ca.pem\"]\n\
                      peers = [\"dns:a.example.com\"]\n";
const CLIENT: &str = "[[link]]\nid = \"out\"\npath = \"approve\"\nside = \"client\"\nlisten = \"/run/out.sock\"\n\
                      forward = \"far.example.com:8443\"\nserver_name = \"far.example.com\"\ncert_file = \"/etc/a.pem\"\n\
                      key_file = \"/etc/a.key\"\nroots = [\"/etc/ca.pem\"]\npeers = [\"spiffe://example.com/far\"]\n";

#[test]
fn both_sides_are_read_with_their_defaults() {
    let settings = parse(&format!("{BASE}{SERVER}{CLIENT}")).unwrap();
    let [server, client] = settings.links.as_slice() else { panic!("{:?}", settings.links) };
    assert_eq!((server.side, server.max_connections, server.idle_timeout.as_secs()), (Side::Server, 1_000, 900));
    let Identity::Files { credential: Some(id), certificate, key } = &server.identity else { panic!("{server:?}") };
    assert!(id.as_str() == "portal" && certificate == "/etc/portal.pem" && key == certificate);
    assert!(matches!(&client.listen, Listen::Unix { mode: 0o660, group: None, .. }), "{client:?}");
    let staging = super::parse_staging(&format!("{BASE}{SERVER}{CLIENT}")).unwrap();
    assert!(staging.links.is_empty(), "a dry run stands at no door of production");
}

#[test]
fn what_is_wrong_is_said_with_its_code() {
    for (of, from, to, code) in [
        (SERVER, "peers = [\"dns:a.example.com\"]", "peers = []", "KW4331"),
        (SERVER, "peers = [\"dns:a.example.com\"]", "", "KW0004"),
        (SERVER, "dns:a.example.com\"", "dns:a.example.com\", \"dns:A.example.com\"", "KW0011"),
        (SERVER, "dns:a.example.com", "*.example.com", "KW4330"),
        (SERVER, "dns:a.example.com", "dns:*.example.com", "KW4330"),
        (SERVER, "dns:a.example.com", "spiffe://example.com", "KW4330"),
        (SERVER, "[\"/etc/ca.pem\"]", "[]", "KW4331"),
        (SERVER, "roots = [\"/etc/ca.pem\"]", "", "KW0004"),
        (SERVER, "\"/etc/ca.pem\"", "\"ca.pem\"", "KW0017"),
        (SERVER, "path = \"approve\"", "path = \"aprove\"", "KW0012"),
        (SERVER, "path = \"approve\"", "", "KW0004"),
        (SERVER, "side = \"server\"", "side = \"both\"", "KW0013"),
        (SERVER, "side = \"server\"", "", "KW0004"),
        (SERVER, "credential = \"portal\"", "credential = \"portel\"", "KW0012"),
        (SERVER, "credential = \"portal\"", "credential = \"p12\"", "KW4333"),
        (SERVER, "credential = \"portal\"", "credential = \"many\"", "KW4333"),
        (SERVER, "credential = \"portal\"", "", "KW4332"),
        (SERVER, "credential = \"portal\"", "credential = \"portal\"\ncert_file = \"/etc/a.pem\"", "KW4332"),
        (SERVER, "credential = \"portal\"", "cert_file = \"/etc/a.pem\"", "KW4332"),
        (SERVER, "127.0.0.1:80", "app.example.com:80", "KW4335"),
        (SERVER, "127.0.0.1:80", "127.0.0.1", "KW0020"),
        (SERVER, "peers =", "server_name = \"x.example.com\"\npeers =", "KW4334"),
        (SERVER, "peers =", "socket_mode = \"0600\"\npeers =", "KW0004"),
        (SERVER, "peers =", "max_connections = 0\npeers =", "KW0016"),
        (SERVER, "peers =", "idle_timeout = \"0s\"\npeers =", "KW0014"),
        (SERVER, "peers =", "alpn = [\"\"]\npeers =", "KW0023"),
        (SERVER, "peers =", "peer = [\"x\"]\npeers =", "KW0003"),
        (CLIENT, "\"/run/out.sock\"", "\"0.0.0.0:9000\"", "KW4335"),
        (CLIENT, "server_name = \"far.example.com\"", "", "KW0004"),
        (CLIENT, "id = \"out\"", "id = \"Out\"", "KW0010"),
    ] {
        let changed = of.replacen(from, to, 1);
        assert_ne!(changed, of, "{from}");
        let error = parse(&format!("{BASE}{changed}")).expect_err(&changed);
        let codes: Vec<&str> = error.problems().iter().map(|p| p.code).collect();
        assert_eq!(codes, [code], "{changed}\n{error}");
    }
    let twice = SERVER.replace("\"in\"", "\"again\"");
    let error = parse(&format!("{BASE}{SERVER}{twice}")).unwrap_err();
    assert_eq!(error.problems()[0].code, "KW0040", "{error}");
    let open = CLIENT.replace("\"/run/out.sock\"", "\"0.0.0.0:9000\"\nallow_remote = true");
    parse(&format!("{BASE}{open}")).unwrap();
}
