//! Roots that no network reaches, and CAs that were made elsewhere.

use std::fs;

use serde_json::Value;

use super::harness::Mesh;
use crate::harness::pki::openssl;

const OFFLINE: &str = "root = \"offline\"\npermitted_dns = [\"svc.example\"]\n";
const SIGN: [&str; 4] = ["--passphrase-file", "@/pass", "--yes", "-v"];

fn offline() -> Mesh {
    let mesh = Mesh::start_with(OFFLINE, "");
    fs::write(mesh.dir.path().join("pass"), "correct horse battery staple\n").unwrap();
    mesh
}

/// Everything that `ca sign-intermediate` writes.
fn signed(mesh: &Mesh, request: &[&str], name: &str) {
    let out = mesh.bytes(&[&["ca", "sign-intermediate", "@/medium"], request, &SIGN[..3]].concat());
    fs::write(mesh.dir.path().join(name), out).unwrap();
}

fn asked(mesh: &Mesh) -> Value {
    let out = mesh.bytes(&["ca", "request", "mesh", "-o", "json"]);
    fs::write(mesh.dir.path().join("request.json"), &out).unwrap();
    serde_json::from_slice(&out).unwrap()
}

fn issues(mesh: &Mesh) {
    mesh.ok(&["ca", "issue", "mesh", "--profile", "workload", "--name", "a.svc.example", "--out", "@/leaf"]);
    let place = mesh.dir.path();
    for (list, whose) in
        [("issuing.crl", &["ca", "crl", "mesh/1"][..]), ("root.crl", &["ca", "crl", "mesh/1", "--root"])]
    {
        fs::write(place.join("list.der"), mesh.bytes(whose)).unwrap();
        openssl(place, &["crl", "-inform", "der", "-in", "list.der", "-out", list]);
    }
    let lists = ["issuing.crl", "root.crl"].map(|l| fs::read_to_string(place.join(l)).unwrap()).concat();
    fs::write(place.join("crls.pem"), lists).unwrap();
    let strict = ["verify", "-x509_strict", "-crl_check_all", "-CRLfile", "crls.pem", "-CAfile", "leaf/ca.pem"];
    openssl(place, &[&strict[..], &["-untrusted", "leaf/cert.pem", "leaf/cert.pem"]].concat());
}

#[test]
fn an_offline_root_in_this_machine_signs_in_one_go_and_its_key_is_nowhere_else() {
    let mesh = offline();
    fs::create_dir(mesh.dir.path().join("leaf")).unwrap();
    let (code, said) = mesh.run(&["ca", "init", "mesh"]);
    assert_eq!((code, said.contains("KW4660") && said.contains("--offline-root")), (1, true), "{said}");
    let bundle = mesh.ok(&["ca", "init", "mesh", "--offline-root", "@/medium", "--passphrase-file", "@/pass", "--yes"]);
    assert!(bundle.contains("BEGIN CERTIFICATE") && bundle.contains("mesh/1 signs"), "{bundle}");
    issues(&mesh);
    let generation = &mesh.status()["cas"][0]["generations"][0];
    assert_eq!(generation["root"]["keeper"], "offline", "{generation}");
    assert_eq!((&generation["issuing"]["keeper"], &generation["phase"]), (&"holder".into(), &"signing".into()));
    // The holder has one key, and the root's is under its passphrase.
    let keys = fs::read_dir(mesh.dir.path().join("state/keyholder")).unwrap().flatten();
    let keys: Vec<String> =
        keys.map(|f| f.file_name().to_string_lossy().into_owned()).filter(|n| n.ends_with(".key")).collect();
    assert_eq!(keys.len(), 1, "{keys:?}");
    let root = fs::read_to_string(mesh.dir.path().join("medium/root.key")).unwrap();
    assert!(root.contains("BEGIN ENCRYPTED PRIVATE KEY"), "{root}");
    openssl(mesh.dir.path(), &["pkey", "-in", "medium/root.key", "-passin", "file:pass", "-noout"]);
    let (code, said) =
        mesh.run(&["ca", "init", "mesh", "--offline-root", "@/medium", "--passphrase-file", "@/pass", "--yes"]);
    assert_eq!((code, said.contains("nothing waits for its root")), (1, true), "{said}");
}

#[test]
fn a_request_is_carried_there_and_back_and_only_what_was_asked_for_is_taken() {
    let mut mesh = offline();
    fs::create_dir(mesh.dir.path().join("leaf")).unwrap();
    let place = mesh.dir.path().to_owned();
    let first = asked(&mesh);
    assert_eq!(first["issuing"]["permitted_dns"], serde_json::json!(["svc.example"]), "{first}");
    mesh.restart();
    assert_eq!(asked(&mesh), first, "asked again it says the same");
    let (code, said) =
        mesh.run(&["ca", "sign-intermediate", "@/medium", "@/request.json", "--passphrase-file", "@/pass"]);
    assert_eq!((code, said.contains("will certify") && said.contains("--yes")), (2, true), "{said}");
    // Somebody on the way makes more of it than was asked for.
    let mut more = first.clone();
    more["issuing"]["permitted_dns"] = serde_json::json!([]);
    fs::write(place.join("more.json"), more.to_string()).unwrap();
    signed(&mesh, &["@/more.json"], "more.pem");
    let (code, said) = mesh.run(&["ca", "accept", "mesh", "@/more.pem"]);
    assert_eq!((code, said.contains("it is not what was asked for")), (1, true), "{said}");
    more = first.clone();
    more["issuing"]["lifetime_seconds"] = (20 * 365 * 86_400).into();
    fs::write(place.join("more.json"), more.to_string()).unwrap();
    signed(&mesh, &["@/more.json"], "more.pem");
    let (code, said) = mesh.run(&["ca", "accept", "mesh", "@/more.pem"]);
    assert_eq!((code, said.contains("is the latest end by the configuration")), (1, true), "{said}");
    signed(&mesh, &["@/request.json"], "answer.pem");
    // Without the root's list peers that demand one would refuse everybody.
    let answer = fs::read_to_string(place.join("answer.pem")).unwrap();
    let without = answer.split("-----BEGIN X509 CRL").next().unwrap();
    fs::write(place.join("without.pem"), without).unwrap();
    let (code, said) = mesh.run(&["ca", "accept", "mesh", "@/without.pem"]);
    assert_eq!((code, said.contains("revocation list is missing")), (1, true), "{said}");
    let (code, said) = mesh.run(&[
        "ca",
        "sign-intermediate",
        "@/medium",
        "@/request.json",
        "--yes",
        "--passphrase-file",
        "@/request.json",
    ]);
    assert_eq!((code, said.contains("one line")), (2, true), "{said}");
    mesh.ok(&["ca", "accept", "mesh", "@/answer.pem"]);
    issues(&mesh);
    mesh.restart();
    fs::remove_dir_all(place.join("leaf")).unwrap();
    fs::create_dir(place.join("leaf")).unwrap();
    issues(&mesh);
    mesh.ok(&["audit", "verify", place.join("state").to_str().unwrap()]);
}

#[test]
fn a_newer_list_of_an_offline_root_is_taken_alone_and_an_older_or_revoking_one_is_not() {
    let mesh = offline();
    mesh.ok(&["ca", "init", "mesh", "--offline-root", "@/medium", "--passphrase-file", "@/pass", "--yes"]);
    let list_only = |name: &str| {
        let text = fs::read_to_string(mesh.dir.path().join(name)).unwrap();
        let list = text.split_once("-----BEGIN X509 CRL").unwrap().1;
        fs::write(mesh.dir.path().join(name), format!("-----BEGIN X509 CRL{list}")).unwrap();
    };
    for name in ["second.pem", "third.pem"] {
        signed(&mesh, &[], name);
        list_only(name);
    }
    mesh.ok(&["ca", "accept", "mesh", "@/third.pem"]);
    let (code, said) = mesh.run(&["ca", "accept", "mesh", "@/second.pem"]);
    assert_eq!((code, said.contains("has the number 2, and 3 is known")), (1, true), "{said}");
    let book: Value = serde_json::from_slice(&fs::read(mesh.dir.path().join("medium/root.json")).unwrap()).unwrap();
    let serial = book["certified"][0]["serial"].as_str().unwrap();
    signed(&mesh, &["--revoke", serial, "--reason", "ca-compromise"], "struck.pem");
    list_only("struck.pem");
    let (code, said) = mesh.run(&["ca", "accept", "mesh", "@/struck.pem"]);
    assert_eq!((code, said.contains("revokes the issuing CA")), (1, true), "{said}");
    let der = mesh.bytes(&["ca", "crl", "mesh/1", "--root"]);
    fs::write(mesh.dir.path().join("list.der"), der).unwrap();
    let text = openssl(mesh.dir.path(), &["crl", "-inform", "der", "-in", "list.der", "-noout", "-crlnumber"]);
    assert!(text.contains("0x03") || text.contains("=03"), "{text}");
}

#[test]
fn a_ca_that_openssl_made_is_taken_over_with_and_without_its_roots_key() {
    for with_root in [true, false] {
        let mesh = Mesh::start("");
        let place = mesh.dir.path();
        fs::create_dir(place.join("leaf")).unwrap();
        elsewhere(place);
        let mut import =
            vec!["ca", "import", "mesh", "--root", "@/r.pem", "--issuing", "@/i.pem", "--issuing-key", "@/i.key"];
        if with_root {
            import.extend(["--root-key", "@/r.key"]);
        } else {
            let (code, said) = mesh.run(&import);
            assert_eq!((code, said.contains("revocation list is missing")), (1, true), "{said}");
        }
        import.extend(["--crl", "@/r.crl"]);
        let wrong = import.iter().map(|a| if *a == "@/i.key" { "@/r.key" } else { a }).collect::<Vec<_>>();
        assert_eq!(mesh.run(&wrong).0, 1);
        let bundle = mesh.ok(&import);
        assert!(bundle.contains("BEGIN CERTIFICATE"), "{bundle}");
        issues(&mesh);
        let keeper = if with_root { "holder" } else { "offline" };
        assert_eq!(mesh.status()["cas"][0]["generations"][0]["root"]["keeper"], keeper);
        let (code, said) = mesh.run(&import);
        assert_eq!((code, said.contains("KW4611")), (1, true), "{said}");
        mesh.ok(&["ca", "export", "mesh", "--out", "@/out"]);
        let mut files: Vec<String> =
            fs::read_dir(place.join("out")).unwrap().flatten().map(|f| f.file_name().into_string().unwrap()).collect();
        files.sort();
        assert_eq!(files, ["1-issuing.crl", "1-issuing.pem", "1-root.crl", "1-root.pem", "bundle.pem", "ca.json"]);
        assert_eq!(fs::read(place.join("out/1-root.pem")).unwrap(), fs::read(place.join("out/bundle.pem")).unwrap());
    }
}

#[test]
fn a_ca_whose_key_is_in_other_hands_is_not_taken_over() {
    let mesh = Mesh::start("");
    let place = mesh.dir.path();
    elsewhere(place);
    openssl(place, &["pkey", "-in", "i.key", "-pubout", "-outform", "DER", "-out", "i.pub"]);
    let spki = keyward::domain::key::Digest::of(&fs::read(place.join("i.pub")).unwrap()).to_string();
    mesh.ok(&["ca", "revoke", "--key", &spki]);
    let import = ["ca", "import", "mesh", "--root", "@/r.pem", "--issuing", "@/i.pem", "--issuing-key", "@/i.key"];
    let (code, said) = mesh.run(&[&import[..], &["--crl", "@/r.crl"]].concat());
    assert!(code == 1 && said.contains("KW4613") && said.contains(&spki), "{said}");
}

/// A root, an issuing CA and the root's list, as somebody makes them by hand.
fn elsewhere(place: &std::path::Path) {
    let key = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"];
    for name in ["r.key", "i.key"] {
        openssl(place, &[&key[..], &[name]].concat());
    }
    let ca = "basicConstraints=critical,CA:TRUE";
    let usage = "keyUsage=critical,keyCertSign,cRLSign";
    let config = format!(
        "[root]\n{ca}\n{usage}\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n\
         [issuing]\n{ca},pathlen:0\n{usage}\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid:always\n\
         [req]\ndistinguished_name=name\n[name]\n\
         [ca]\ndefault_ca=own\n[own]\ndatabase={0}/index\ncrlnumber={0}/number\ndefault_md=sha256\ncrl_extensions=list\n\
         [list]\nauthorityKeyIdentifier=keyid:always\n",
        place.display()
    );
    fs::write(place.join("ssl.cnf"), config).unwrap();
    fs::write(place.join("index"), "").unwrap();
    fs::write(place.join("number"), "2A\n").unwrap();
    let root =
        ["req", "-x509", "-new", "-key", "r.key", "-subj", "/CN=Old Root", "-days", "3000", "-config", "ssl.cnf"];
    openssl(
        place,
        &[&root[..], &["-extensions", "root", "-set_serial", "0x4a5b6c7d8e9fa0b1", "-out", "r.pem"]].concat(),
    );
    openssl(
        place,
        &["req", "-new", "-key", "i.key", "-subj", "/CN=Old Issuing", "-config", "ssl.cnf", "-out", "i.csr"],
    );
    let below =
        ["x509", "-req", "-in", "i.csr", "-CA", "r.pem", "-CAkey", "r.key", "-days", "1000", "-extfile", "ssl.cnf"];
    openssl(
        place,
        &[&below[..], &["-extensions", "issuing", "-set_serial", "0x4a5b6c7d8e9fa0b2", "-out", "i.pem"]].concat(),
    );
    openssl(
        place,
        &[
            "ca", "-gencrl", "-config", "ssl.cnf", "-keyfile", "r.key", "-cert", "r.pem", "-crldays", "90", "-out",
            "r.crl",
        ],
    );
}

#[test]
fn a_rotation_below_an_offline_root_waits_for_it_and_goes_on_with_its_answer() {
    let mesh = offline();
    fs::create_dir(mesh.dir.path().join("leaf")).unwrap();
    mesh.ok(&["ca", "init", "mesh", "--offline-root", "@/medium", "--passphrase-file", "@/pass", "--yes"]);
    // In the very second of the first one: an order is about the generation that signs, not about a time.
    mesh.ok(&["ca", "rotate", "mesh", "--reason", "drill"]);
    let wanted = mesh.wait("the next generation", |mesh| {
        let (code, said) = mesh.run(&["ca", "request", "mesh", "-o", "json"]);
        (code == 0).then_some(said)
    });
    let compare = |said: &str| {
        let line = said.lines().find(|line| line.contains("compare")).map(str::to_owned);
        line.and_then(|line| line.rsplit(' ').next().map(str::to_owned)).unwrap_or_default()
    };
    let json = &wanted[..=wanted.rfind('}').unwrap()];
    fs::write(mesh.dir.path().join("request.json"), json).unwrap();
    let request: Value = serde_json::from_str(json).unwrap();
    assert_eq!(request["generation"], "mesh/2");
    let sign = ["ca", "sign-intermediate", "@/medium", "@/request.json", "--passphrase-file", "@/pass", "--yes"];
    let (code, said) = mesh.run(&sign);
    assert_eq!((code, compare(&said)), (0, compare(&wanted)), "a person compares one word: {said}");
    assert_eq!(compare(&said).len(), 64, "{said}");
    let answer = &said[said.find("-----BEGIN").unwrap()..];
    fs::write(mesh.dir.path().join("answer.pem"), answer).unwrap();
    mesh.ok(&["ca", "accept", "mesh", "@/answer.pem"]);
    mesh.wait("the second generation", |mesh| {
        let all = mesh.status()["cas"][0]["generations"].clone();
        (all[1]["phase"] == "signing").then_some(())
    });
    let all = mesh.status()["cas"][0]["generations"].clone();
    assert_eq!(
        (all.as_array().unwrap().len(), &all[0]["root"]["spki_sha256"]),
        (2, &all[1]["root"]["spki_sha256"]),
        "{all}"
    );
    // The one list of the root is the new one, wherever it is asked for.
    let lists = ["mesh/1", "mesh/2"].map(|id| mesh.bytes(&["ca", "crl", id, "--root"]));
    assert_eq!(lists[0], lists[1]);
    mesh.ok(&["ca", "issue", "mesh", "--profile", "workload", "--name", "a.svc.example", "--out", "@/leaf"]);
    let (code, said) = mesh.run(&["ca", "request", "mesh"]);
    assert_eq!((code, said.contains("nothing waits for its root")), (1, true), "{said}");
}
