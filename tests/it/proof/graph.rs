//! What stands on what, and the ring of an approval that stands on what it repairs.

use keyward::domain::graph::{Graph, Node, Relation};
use keyward::domain::inventory::Estate;
use keyward::domain::policy::{Approval, Policy, Repair};
use keyward::domain::time::HOUR;
use proptest::prelude::*;

use crate::harness::estate::{add, cid, estate, managed, path, pid, served};
use crate::harness::http::Still;
use crate::http::two_paths;

/// Over which path, and the way for repairs: the command line (`None`) or another path.
type Over = Option<(usize, Option<Option<usize>>)>;

/// So many credentials and paths; `needs[p]` are the credentials of path p, `over[c]` the path of credential c.
fn world(needs: &[Vec<usize>], over: &[Over]) -> Estate {
    let mut all = estate(&[("le", &[])]);
    for n in 0..over.len() {
        add(&mut all, served(&format!("c{n}"), managed(&[&format!("c{n}.example.com")], &["le"])));
    }
    for (n, needs) in needs.iter().enumerate() {
        let needs: Vec<String> = needs.iter().map(|c| format!("c{c}")).collect();
        path(&mut all, &format!("p{n}"), &needs.iter().map(String::as_str).collect::<Vec<_>>(), HOUR);
    }
    let approvals = over.iter().enumerate().filter_map(|(n, over)| {
        let (over, repair) = (*over)?;
        let repair = repair.map(|r| r.map_or(Repair::Cli, |p| Repair::Over(pid(&format!("p{p}")))));
        Some((cid(&format!("c{n}")), Approval { over: pid(&format!("p{over}")), repair }))
    });
    all.policy = Policy::default().with_approvals(approvals.collect(), None);
    all
}

fn rings(estate: &Estate) -> Vec<Vec<String>> {
    let graph = Graph::of(estate);
    graph.cycles.iter().map(|c| c.ring.iter().map(|(id, _)| id.to_string()).collect()).collect()
}

#[test]
fn an_approval_that_stands_on_what_it_repairs_is_found() {
    for (needs, over, expected) in [
        // Its own path.
        (vec![vec![0]], vec![Some((0, None))], vec![vec!["c0"]]),
        // By way of another, which is found once.
        (vec![vec![1], vec![0]], vec![Some((0, None)), Some((1, None))], vec![vec!["c0", "c1"]]),
        // Not if one of them needs nobody.
        (vec![vec![1], vec![0]], vec![Some((0, None)), None], vec![]),
        // Nor with a lane outside: the command line, or a path that does not stand on it.
        (vec![vec![0]], vec![Some((0, Some(None)))], vec![]),
        (vec![vec![0], vec![1]], vec![Some((0, Some(Some(1)))), None], vec![]),
        // But a lane that comes back to it is none.
        (vec![vec![0], vec![0, 1]], vec![Some((0, Some(Some(1)))), None], vec![vec!["c0"]]),
        // Whatever waits behind a ring is no part of it.
        (vec![vec![0], vec![1]], vec![Some((0, None)), Some((0, None))], vec![vec!["c0"]]),
        // One lane anywhere in the ring breaks it for all.
        (vec![vec![1], vec![2], vec![0]], vec![Some((0, None)), Some((1, Some(None))), Some((2, None))], vec![]),
    ] {
        assert_eq!(rings(&world(&needs, &over)), expected, "{needs:?} {over:?}");
    }
    let behind = world(&[vec![0]], &[Some((0, None)), Some((0, None)), Some((0, None))]);
    assert_eq!(Graph::of(&behind).cycles[0].behind, 2);
}

#[test]
fn a_path_that_depends_on_another_stands_on_what_that_needs() {
    let mut world = world(&[vec![1], vec![0]], &[Some((0, None)), None]);
    assert_eq!(rings(&world), Vec::<Vec<String>>::new());
    let mut p0 = (*world.paths[&pid("p0")]).clone();
    p0.depends_on.insert(pid("p1"));
    world.paths.insert(pid("p0"), p0.into());
    assert_eq!(rings(&world), [["c0"]]);
    assert!(Graph::of(&world).edges.contains(&(Node::Path(pid("p1")), Relation::HoldsPath, Node::Path(pid("p0")))));
}

/// By trying: whether everything can be repaired, one after the other, in any order.
fn all_repairable(needs: &[Vec<usize>], over: &[Over]) -> bool {
    let mut good: Vec<bool> = over.iter().map(Option::is_none).collect();
    for _ in 0..=over.len() {
        for (n, over) in over.iter().enumerate() {
            let Some((over, repair)) = over else { continue };
            let open = |p: usize| needs[p].iter().all(|c| good[*c]);
            let cli = *repair == Some(None);
            if cli || open(*over) || repair.flatten().is_some_and(open) {
                good[n] = true;
            }
        }
    }
    good.iter().all(|g| *g)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn there_is_a_ring_exactly_where_something_can_never_be_repaired(
        needs in proptest::collection::vec(proptest::collection::vec(0_usize..5, 1..3), 4),
        over in proptest::collection::vec(
            proptest::option::of((0_usize..4, proptest::option::weighted(0.3, proptest::option::of(0_usize..4)))), 5),
    ) {
        let world = world(&needs, &over);
        prop_assert_eq!(Graph::of(&world).cycles.is_empty(), all_repairable(&needs, &over));
        for cycle in Graph::of(&world).cycles {
            // Each of the ring really is approved over a path that stands on the next.
            for (n, (id, path)) in cycle.ring.iter().enumerate() {
                let next = &cycle.ring[(n + 1) % cycle.ring.len()].0;
                prop_assert!(world.paths[path].needs.contains(next), "{} {}", id, path);
            }
        }
    }
}

#[test]
fn the_graph_shows_where_a_credential_is_served_and_what_that_holds_open() {
    let graph = Graph::of(&two_paths());
    let endpoint = Node::Endpoint("portal.sim:443".into());
    for edge in [
        (Node::Issuer(crate::harness::estate::iid("le")), Relation::Issues, Node::Credential(cid("portal"))),
        (Node::Credential(cid("portal")), Relation::ServedAt, endpoint.clone()),
        (endpoint, Relation::Holds, Node::Path(pid("approve"))),
        (Node::Credential(cid("peer")), Relation::Holds, Node::Path(pid("broken"))),
    ] {
        assert!(graph.edges.contains(&edge), "{edge:?} in {:#?}", graph.edges);
    }
    let server = Still::new(two_paths()).serve();
    let json = server.get("/v1/graph").json();
    assert_eq!(json["edges"].as_array().unwrap().len(), graph.edges.len());
    assert!(json["cycles"].as_array().unwrap().is_empty());
}

/// A configuration with a ring: two paths make the credential's tier the highest.
fn config(paths: usize, certificate: &str, policy: &str) -> String {
    let mut text = format!(
        "state_dir = \"/var/lib/keyward\"\n[[issuer]]\nid = \"ca\"\ndirectory = \"https://ca.test/\"\nterms_agreed = true\n\
         [[solver]]\nid = \"web\"\ntype = \"http-01\"\nlisten = [\"127.0.0.1:80\"]\n[[certificate]]\nid = \"portal\"\n\
         names = [\"a.example\"]\nissuers = [\"ca\"]\nsolvers = [\"web\"]\n{certificate}\n"
    );
    for n in 0..paths {
        text.push_str(&format!("[[path]]\nid = \"p{n}\"\nneeds = [\"portal\"]\n"));
    }
    text.push_str("[[observe]]\nid = \"peer\"\nfile = \"/peer.pem\"\n[[path]]\nid = \"side\"\nneeds = [\"peer\"]\n");
    text + policy
}

#[test]
fn a_ring_is_refused_where_it_hurts_most_and_borne_elsewhere() {
    let review = "[[policy.rule]]\nid = \"all\"\nlane = \"review-required\"\n";
    let usual = format!("[policy]\napproved_over = \"p0\"\n{review}");
    let way = format!("[policy]\napproved_over = \"p0\"\nrepair = \"cli\"\n{review}");
    for (paths, certificate, policy, code) in [
        (2, "approved_over = \"p0\"", "", Some("KW4471")),
        (1, "approved_over = \"p0\"", "", None),
        (2, "approved_over = \"p0\"\nrepair = \"cli\"", "", None),
        (2, "approved_over = \"p0\"\nrepair = \"side\"", "", None),
        (2, "approved_over = \"p0\"\nrepair = \"p1\"", "", Some("KW4471")),
        (2, "approved_over = \"side\"", "", None),
        (2, "", usual.as_str(), Some("KW4471")),
        (2, "approved_over = \"side\"", usual.as_str(), None),
        (2, "", way.as_str(), None),
        // Without a rule that sends it to a person, nobody has to approve.
        (2, "", "[policy]\napproved_over = \"p0\"\n", None),
        (1, "approved_over = \"p9\"", "", Some("KW0012")),
        (1, "approved_over = \"p0\"\nrepair = \"console\"", "", Some("KW0012")),
        (1, "repair = \"cli\"", "", Some("KW4473")),
        (1, "approved_ower = \"p0\"", "", Some("KW0003")),
    ] {
        let text = config(paths, certificate, policy);
        let parsed = keyward::shell::config::parse("x.toml", &text, Default::default());
        let codes: Vec<&str> =
            parsed.as_ref().err().map_or(Vec::new(), |e| e.problems().iter().map(|p| p.code).collect());
        assert_eq!(
            codes.first().copied(),
            code,
            "{paths} {certificate:?} {policy:?}: {:?}",
            parsed.err().map(|e| e.to_string())
        );
    }
}

#[test]
fn a_ring_that_is_borne_is_a_warning_of_graph_and_check() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keyward.toml");
    std::fs::write(&file, config(1, "approved_over = \"p0\"", "")).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_keyward"));
        let output = command.arg("-c").arg(&file).args(arguments).env_clear().output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = run(&["gate", "graph"]);
    assert_eq!(code, 3, "{text}");
    assert!(
        text.contains("ring KW4472") && text.contains("portal is approved over p0, which stands on portal"),
        "{text}"
    );
    let (_, dot) = run(&["gate", "graph", "--dot"]);
    assert!(
        dot.starts_with("digraph keyward {")
            && dot.contains("\"path p0\" -> \"credential portal\" [label=\"approves\", color=red];"),
        "{dot}"
    );
    let (_, json) = run(&["gate", "graph", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["cycles"][0]["refused"].as_bool(), json["cycles"][0]["tier"].as_u64()), (Some(false), Some(2)));
    let (_, check) = run(&["check", "--pre"]);
    assert!(check.contains("KW4472"), "{check}");
}
