//! Whoever relies on what our CAs issue: OpenSSL, Go (Caddy; lego is with the directory's tests) and rustls take it, and refuse
//! what must be refused. What one of them has no check for is refused by a link, whoever comes to it.
//!
//! | shown | |
//! |---|---|
//! | good | a leaf of the CA |
//! | fresh | a good leaf of a chain like the next one, whose root is good |
//! | over | a good leaf below a good CA below a root that has ended |
//! | revoked | a leaf that its CA has revoked |
//! | other | a leaf with a SPIFFE ID that nobody is to speak with |
//! | retired | the good leaf, when its CA has retired |
//! | new | a leaf of the one after it |

pub mod clients;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use rustls::HandshakeKind;
use serde_json::Value;

use crate::ca::harness::Mesh;
use crate::harness::life::{free_port, own_address};
use clients::{Caddy, chain, plainly, proxy, rustls, rustls_client, s_client, s_server, service, site, verify, webpki};

/// Who has a certificate, by the name of its directory.
const ALL: [&str; 6] = ["good", "fresh", "over", "revoked", "other", "new"];
/// Whose certificate servers have that look at those of clients: it stays good throughout.
const SERVER: &str = "fresh";
/// The name of the links' own certificate.
const OWN: &str = "own.svc.example";

fn id(who: &str) -> String {
    format!("spiffe://mesh.example/ns/prod/sa/{who}")
}

fn host(who: &str) -> String {
    format!("{who}.svc.example")
}

/// Where one of [`ALL`] meets whom.
struct Doors {
    /// Caddy takes plain requests here and is a client of a server with its certificate.
    asks: SocketAddr,
    /// Caddy takes plain requests here and goes to the link with its certificate.
    comes: SocketAddr,
    /// Caddy is a server with its certificate.
    serves: SocketAddr,
    /// A link takes plain requests here and goes to that server.
    out: SocketAddr,
}

struct House {
    mesh: Mesh,
    /// The link that follows the CA, and one with files.
    links: [SocketAddr; 2],
    /// Where Caddy wants to see certificates.
    caddy: SocketAddr,
    doors: Vec<(&'static str, Doors)>,
}

impl House {
    fn new() -> Self {
        let free = || free_port(own_address());
        let (links, caddy) = ([free(), free()], free());
        let doors: Vec<_> =
            ALL.map(|who| (who, Doors { asks: free(), comes: free(), serves: free(), out: free() })).into();
        let mut text = format!(
            "[[certificate]]\nid = \"own\"\nnames = [\"{OWN}\"]\nissuers = [\"private\"]\n\
             [[certificate.install]]\ndir = \"@/own\"\n[[path]]\nid = \"approve\"\nneeds = [\"own\"]\n"
        );
        let by_ca = format!("ca = \"mesh\"\npeers = [\"{}\", \"{}\", \"{}\"]\n", id("good"), id("revoked"), id("new"));
        let by_files = format!(
            "roots = [\"@/over/ca.pem\", \"@/fresh/ca.pem\"]\npeers = [\"{}\", \"{}\"]\n",
            id("over"),
            id("fresh")
        );
        let common = "path = \"approve\"\ncredential = \"own\"\n";
        for (name, listen, trust) in [("in", links[0], &by_ca), ("files", links[1], &by_files)] {
            text += &format!(
                "[[link]]\nid = \"{name}\"\nside = \"server\"\nlisten = \"{listen}\"\nforward = \"{}\"\n{common}{trust}",
                service()
            );
        }
        for (who, doors) in &doors {
            let trust = if matches!(*who, "over" | "fresh") { &by_files } else { &by_ca };
            text += &format!(
                "[[link]]\nid = \"out-{who}\"\nside = \"client\"\nlisten = \"{}\"\nforward = \"{}\"\nserver_name = \"{}\"\n\
                 {common}{trust}",
                doors.out,
                doors.serves,
                host(who)
            );
        }
        let mesh = Mesh::prepared("", &text, |dir| {
            for (who, over) in [("over", true), ("fresh", false)] {
                chain(&dir.join(who), &host(who), &id(who), over);
            }
        });
        mesh.ok(&["ca", "init", "mesh"]);
        mesh.ok(&["cert", "renew", "own"]);
        mesh.wait("the bundle", |mesh| {
            let there = |name: &str| mesh.dir.path().join("state/pki").join(name).exists();
            (there("mesh.pem") && there("mesh.crl.pem")).then_some(())
        });
        Self { mesh, links, caddy, doors }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.mesh.dir.path().join(name)
    }

    fn issue(&self, who: &str) {
        fs::create_dir_all(self.at(who)).unwrap();
        let out = format!("@/{who}");
        let (host, id) = (host(who), id(who));
        let profile = ["ca", "issue", "mesh", "--profile", "workload", "--name", &host];
        self.mesh.ok(&[&profile[..], &["--spiffe", &id, "--out", &out]].concat());
    }

    /// Writes what is trusted now: anchors and lists, and for those that know no lists the anchors of all chains.
    fn trust(&self) {
        let read = |name: &str| fs::read_to_string(self.at(name)).unwrap();
        let (anchors, lists) = (read("state/pki/mesh.pem"), read("state/pki/mesh.crl.pem"));
        fs::write(self.at("anchors.pem"), &anchors).unwrap();
        fs::write(self.at("trust.pem"), format!("{anchors}{lists}")).unwrap();
        fs::write(self.at("pool.pem"), anchors + &read("over/ca.pem") + &read("fresh/ca.pem")).unwrap();
    }

    fn doors(&self, who: &str) -> &Doors {
        &self.doors.iter().find(|(own, _)| *own == who).unwrap().1
    }

    fn link(&self, who: &str) -> SocketAddr {
        self.links[usize::from(matches!(who, "over" | "fresh"))]
    }

    /// What a chain is judged by where lists count.
    fn trust_of(&self, who: &str) -> PathBuf {
        if matches!(who, "over" | "fresh") { self.at(who).join("trust.pem") } else { self.at("trust.pem") }
    }

    /// Caddy's sites, if these have certificates now and others serve with them there.
    fn sites(&self, servers: &[(&str, SocketAddr)]) -> String {
        let pool = self.at("pool.pem");
        let roots = ["anchors.pem", "over/ca.pem", "fresh/ca.pem"].map(|name| self.at(name));
        let mut text = site(self.caddy, &host(SERVER), &self.at(SERVER), &roots);
        for (who, server) in servers {
            let (own, doors) = (self.at(who), self.doors(who));
            text += &proxy(doors.asks, *server, &host(who), &own, &pool);
            text += &proxy(doors.comes, self.link(who), OWN, &own, &self.at("anchors.pem"));
            text += &site(doors.serves, &host(who), &own, &roots);
        }
        text
    }

    /// What each says about each: a table.
    fn table(&self, columns: &[&str]) -> String {
        let (anchors, pool) = (self.at("anchors.pem"), self.at("pool.pem"));
        type Judge<'a> = (&'static str, Box<dyn Fn(&str) -> bool + 'a>);
        let judges: Vec<Judge<'_>> = vec![
            ("openssl verify", Box::new(|who| verify(&self.at(who), &self.trust_of(who)))),
            (
                "openssl server",
                Box::new(|who| {
                    let (_running, server) = s_server(&self.at(SERVER), Some(&self.trust_of(who)));
                    s_client(server, &host(SERVER), &self.at(who), &pool, &[]).0
                }),
            ),
            (
                "openssl client",
                Box::new(|who| {
                    let (_running, server) = s_server(&self.at(who), None);
                    let lists = ["-x509_strict", "-crl_check_all"];
                    s_client(server, &host(who), &self.at(SERVER), &self.trust_of(who), &lists).0
                }),
            ),
            ("rustls verifier", Box::new(|who| webpki(&self.at(who), &self.trust_of(who)))),
            ("Go server", Box::new(|who| s_client(self.caddy, &host(SERVER), &self.at(who), &pool, &[]).0)),
            ("Go client", Box::new(|who| plainly(self.doors(who).asks, &host(who)))),
            ("link, by openssl", Box::new(|who| s_client(self.link(who), OWN, &self.at(who), &anchors, &[]).0)),
            (
                "link, by rustls",
                Box::new(|who| rustls(self.link(who), OWN, &rustls_client(&self.at(who), Some(&anchors))).0),
            ),
            ("link, by Go", Box::new(|who| plainly(self.doors(who).comes, OWN))),
            ("link, to Go", Box::new(|who| plainly(self.doors(who).out, &host(who)))),
        ];
        let mut text = format!("{:18}{}\n", "shown", columns.iter().map(|c| format!("{c:9}")).collect::<String>());
        for (name, judge) in &judges {
            let cells: String = columns.iter().map(|who| if judge(who) { "yes      " } else { "no       " }).collect();
            text += &format!("{name:18}{cells}\n");
        }
        text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }

    /// Until a link lets one in that it is to let in.
    fn until_open(&self, who: &str) {
        self.mesh.wait(&format!("the link open for {who}"), |_| {
            rustls(self.link(who), OWN, &rustls_client(&self.at(who), Some(&self.at("anchors.pem")))).0.then_some(())
        });
        self.mesh.wait("all links ready", |mesh| {
            let links: Value = serde_json::from_str(&mesh.run(&["link", "status", "-o", "json"]).1).ok()?;
            links.as_array()?.iter().all(|link| link["open"] == true).then_some(())
        });
    }
}

/// Has the CA's first generation leave at once: its key is in other hands, and a person has seen what breaks. `next` is done once
/// another one signs.
pub fn retire(mesh: &Mesh, next: impl FnOnce()) {
    mesh.run(&["ca", "compromised", "mesh", "1", "--reason", "a drill"]);
    let digest = mesh.wait("what breaks", |mesh| {
        let shown: Value = serde_json::from_str(&mesh.run(&["ca", "emergency", "mesh", "-o", "json"]).1).ok()?;
        shown["digest"].as_str().map(str::to_owned)
    });
    mesh.ok(&["ca", "emergency", "mesh", "--sign-off", &digest]);
    let phase = |mesh: &Mesh, at: usize| {
        mesh.status()["cas"][0]["generations"][at]["phase"].as_str().unwrap_or_default().to_owned()
    };
    mesh.wait("another one that signs", |mesh| (phase(mesh, 1) == "signing").then_some(()));
    next();
    mesh.wait("its retirement", |mesh| ["retired", "destroyed"].contains(&&*phase(mesh, 0)).then_some(()));
}

#[test]
fn openssl_go_and_rustls_take_what_we_issue_and_refuse_what_must_be_refused() {
    let house = House::new();
    let mesh = &house.mesh;
    ["good", "revoked", "other"].iter().for_each(|who| house.issue(who));
    let serial = crate::harness::pki::openssl(&house.at("revoked"), &["x509", "-in", "cert.pem", "-noout", "-serial"]);
    house.trust();
    house.until_open("revoked");
    mesh.ok(&["ca", "revoke", &serial.trim().trim_start_matches("serial=").to_lowercase()]);
    house.trust();
    house.until_open("good");
    let columns = ["good", "fresh", "over", "revoked", "other"];
    let running: Vec<_> = columns.map(|who| (who, s_server(&house.at(who), None))).into();
    let servers: Vec<(&str, SocketAddr)> = running.iter().map(|(who, (_, at))| (*who, *at)).collect();
    let caddy = Caddy::start(&house.at("caddy"), &house.sites(&servers), &[house.caddy, house.doors("other").serves]);
    // rustls knows no dates of a root, Go no lists, and none of them SPIFFE IDs: the links stand for them.
    assert_eq!(
        house.table(&columns),
        "\
shown             good     fresh    over     revoked  other
openssl verify    yes      yes      no       no       yes
openssl server    yes      yes      no       no       yes
openssl client    yes      yes      no       no       yes
rustls verifier   yes      yes      yes      no       yes
Go server         yes      yes      no       yes      yes
Go client         yes      yes      no       yes      yes
link, by openssl  yes      yes      no       no       no
link, by rustls   yes      yes      no       no       no
link, by Go       yes      yes      no       no       no
link, to Go       yes      yes      no       no       no
"
    );

    // Sessions from before the distrust: whoever comes again with one comes back where sessions are resumed at all.
    let (good, pool, server) = (house.at("good"), house.at("pool.pem"), host(SERVER));
    let session = |what: &str| format!("{what}.session");
    let come = |what: &str, to, host: &str| s_client(to, host, &good, &pool, &["-sess_out", &session(what)]);
    let come_again = |what: &str, to, host: &str| {
        let file = session(what);
        let args: &[&str] = &["-sess_in", &file];
        s_client(to, host, &good, &pool, if good.join(&file).exists() { args } else { &[] })
    };
    let client = rustls_client(&good, None);
    let (openssl_running, openssl) = s_server(&house.at(SERVER), Some(&house.at("trust.pem")));
    let who_resumes = [("openssl", openssl, &*server, true), ("Caddy", house.caddy, &server, true)];
    for (what, to, host, resumes) in who_resumes.into_iter().chain([("link", house.links[0], OWN, false)]) {
        let (through, said) = come(what, to, host);
        assert!(through, "{what}: {said}");
        let (through, said) = come_again(what, to, host);
        assert_eq!((through, said.contains("Reused, TLSv1.3")), (true, resumes), "{what}: {said}");
        let again = if resumes { HandshakeKind::Resumed } else { HandshakeKind::Full };
        let kinds = [(); 2].map(|()| rustls(to, host, &client));
        assert_eq!(kinds, [(true, Some(HandshakeKind::Full)), (true, Some(again))], "{what}");
    }

    // Its leaf comes by itself too, some minutes later.
    retire(mesh, || drop(mesh.ok(&["cert", "renew", "own"])));
    let before = fs::read_to_string(house.at("anchors.pem")).unwrap();
    mesh.wait("a bundle with the new root alone", |_| {
        let pem = fs::read_to_string(house.at("state/pki/mesh.pem")).unwrap();
        (pem != before && pem.matches("BEGIN").count() == 1).then_some(())
    });
    house.issue("new");
    house.trust();
    house.until_open("new");
    let (_new, new) = s_server(&house.at("new"), None);
    caddy.reload(&house.sites(&[("new", new), ("good", servers[0].1)]));
    mesh.wait("Caddy with the new bundle", |_| {
        s_client(house.caddy, &server, &house.at("new"), &pool, &[]).0.then_some(())
    });
    assert_eq!(
        house.table(&["new", "good"]),
        "\
shown             new      good
openssl verify    yes      no
openssl server    yes      no
openssl client    yes      no
rustls verifier   yes      no
Go server         yes      no
Go client         yes      no
link, by openssl  yes      no
link, by rustls   yes      no
link, by Go       yes      no
link, to Go       yes      no
"
    );
    drop(openssl_running);
    let (_again, openssl) = s_server(&house.at(SERVER), Some(&house.at("trust.pem")));
    for (what, to, host) in
        [("openssl", openssl, &*server), ("Caddy", house.caddy, &server), ("link", house.links[0], OWN)]
    {
        let (through, said) = come_again(what, to, host);
        assert!(!through && !said.contains("Reused"), "{what}: {said}");
        let (through, kind) = rustls(to, host, &client);
        assert!(!through && kind != Some(HandshakeKind::Resumed), "{what}: {kind:?}");
    }
}
