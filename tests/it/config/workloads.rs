//! `[workload_api]`, `[[workload]]` and links that follow a private CA: what is taken and what is refused.

use keyward::domain::workload::Selector;

use super::parse;

const BASE: &str = "state_dir = \"/var/lib/keyward\"\n[[observe]]\nid = \"portal\"\nfile = \"/etc/portal.pem\"\n\
    [[path]]\nid = \"approve\"\nneeds = [\"portal\"]\n[[ca]]\nid = \"mesh\"\ntrust_domain = \"mesh.example\"\n\
    [[ca.profile]]\nid = \"workload\"\nlifetime = \"24h\"\nnames = [\"*.svc.example\"]\nspiffe = [\"/ns/*/sa/*\"]\n";
const API: &str = "[workload_api]\nsocket = \"/run/w.sock\"\n";
const WORKLOAD: &str = "[[workload]]\nspiffe = \"spiffe://mesh.example/ns/a/sa/b\"\nca = \"mesh\"\nca_profile = \"workload\"\n\
    names = [\"a.svc.example\"]\nlifetime = \"1h\"\nselectors = [\"unix:uid:7\", \"unix:path:/usr/bin/b\"]\npath = \"approve\"\n";
const LINK: &str = "[[link]]\nid = \"in\"\npath = \"approve\"\nside = \"server\"\nlisten = \"0.0.0.0:8443\"\n\
    forward = \"127.0.0.1:80\"\ncredential = \"portal\"\nca = \"mesh\"\npeers = [\"dns:a.example.com\"]\n";

#[test]
fn workloads_are_read_with_their_defaults_and_a_dry_run_gives_nothing() {
    let text = format!("{BASE}{API}{WORKLOAD}{LINK}");
    let settings = parse(&text).unwrap();
    let api = settings.workload_api.as_ref().unwrap();
    assert_eq!((api.socket.mode, api.max_connections, api.max_streams_per_user), (0o666, 1_000, 256));
    let [workload] = &*settings.workloads else { panic!("{:?}", settings.workloads) };
    assert_eq!(workload.selectors[0], Selector::Uid(7));
    assert!(workload.path.is_some() && workload.lifetime.is_some() && workload.names.iter().count() == 1);
    let link = &settings.links[0];
    assert!(link.ca.as_ref().is_some_and(|ca| ca.as_str() == "mesh") && link.roots.is_empty(), "{link:?}");
    assert_eq!(super::parse_staging(&text).unwrap().workload_api, None);
}

#[test]
fn what_is_wrong_is_said_with_its_code() {
    for (from, to, code) in [
        ("\"unix:uid:7\", \"unix:path:/usr/bin/b\"", "", "KW0075"),
        ("\"unix:uid:7\", ", "", "KW0075"),
        ("unix:uid:7", "uid:7", "KW0075"),
        ("unix:uid:7", "unix:uid:root", "KW0075"),
        ("unix:path:/usr/bin/b", "unix:path:usr/bin/b", "KW0075"),
        ("selectors =", "selector =", "KW0003"),
        ("[workload_api]\nsocket = \"/run/w.sock\"\n", "", "KW0075"),
        (WORKLOAD, "", "KW0075"),
        ("/run/w.sock", "w.sock", "KW0017"),
        ("socket =", "socket_mode = \"0777\"\nsocket =", "KW0018"),
        ("socket =", "max_connections = 0\nsocket =", "KW0016"),
        ("spiffe://mesh.example/ns/a/sa/b", "spiffe://mesh.example", "KW0070"),
        ("spiffe://mesh.example/ns/a/sa/b", "spiffe://other.example/ns/a/sa/b", "KW0072"),
        ("spiffe://mesh.example/ns/a/sa/b", "spiffe://mesh.example/admin", "KW0072"),
        ("a.svc.example", "a.other.example", "KW0072"),
        ("lifetime = \"1h\"", "lifetime = \"48h\"", "KW0072"),
        ("lifetime = \"1h\"", "lifetime = \"1m\"", "KW0014"),
        ("ca_profile = \"workload\"", "ca_profile = \"web\"", "KW0012"),
        ("ca_profile = \"workload\"", "", "KW0004"),
        ("path = \"approve\"\n[[link]]", "path = \"aprove\"\n[[link]]", "KW0012"),
        ("credential = \"portal\"\nca = \"mesh\"", "credential = \"portal\"\nca = \"mush\"", "KW0012"),
        ("peers =", "roots = [\"/etc/ca.pem\"]\npeers =", "KW4336"),
        ("peers =", "crls = [\"/etc/ca.crl\"]\npeers =", "KW4336"),
        ("credential = \"portal\"\nca = \"mesh\"", "credential = \"portal\"", "KW0004"),
    ] {
        let text = format!("{BASE}{API}{WORKLOAD}{LINK}");
        assert!(text.contains(from), "{from}");
        let said = parse(&text.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(said.contains(code), "{from} → {to}: {code} expected:\n{said}");
    }
}
