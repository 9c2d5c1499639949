//! `[[acme_directory]]`: what it says, and one mistake each.

use core::time::Duration;

use keyward::domain::directory::{ChallengeKind, FirstTime, Uses};
use keyward::shell::config::Binding;

use super::parse;

const WHOLE: &str = r#"
state_dir = "/var/lib/keyward"

[[ca]]
id = "mesh"
[[ca.profile]]
id = "workload"
names = ["*.svc.example"]
[[ca.profile]]
id = "short"
lifetime = "1h"
names = ["*.svc.example"]

[[acme_directory]]
id = "corp"
listen = "127.0.0.1:14000"
url = "https://acme.example:14000/"
certificate_file = "/etc/keyward/acme/fullchain.pem"
key_file = "/etc/keyward/acme/key.pem"
ca = "mesh"
profiles = ["workload", "short"]

[[acme_directory.key]]
id = "web"
hmac_file = "/etc/keyward/acme/web.key"
names = ["*.svc.example"]
"#;

#[test]
fn a_directory_asks_for_a_key_and_reaches_the_internet_only_unless_it_is_told_otherwise() {
    let settings = parse(WHOLE).unwrap();
    let directory = &settings.directories[0];
    assert_eq!(directory.place.url, "https://acme.example:14000");
    assert_eq!(directory.binding, Binding::Required);
    assert_eq!(directory.policy.first_time, FirstTime::Allow);
    assert_eq!(directory.policy.grants.values().next().unwrap().uses, Uses::Often);
    assert_eq!(directory.waiting.longest, Duration::from_secs(72 * 3_600));
    assert!(directory.validation.allow.is_empty() && directory.validation.resolver.is_none());
    // Without a resolver nothing is proved in the DNS.
    assert_eq!(directory.validation.challenges, [ChallengeKind::Http01, ChallengeKind::TlsAlpn01]);
    let more = WHOLE.replace("ca = \"mesh\"", "ca = \"mesh\"\nresolver = \"10.0.0.53\"\nallow = [\"10.0.0.0/8\"]");
    let directory = parse(&more).unwrap().directories.remove(0);
    assert_eq!(directory.validation.challenges.len(), 3);
    assert_eq!(directory.validation.resolver.unwrap().port(), 53);
}

#[test]
fn a_dry_run_has_no_directory() {
    assert!(super::parse_staging(WHOLE).unwrap().directories.is_empty());
}

#[test]
fn each_mistake_is_named_where_it_stands() {
    for (what, by, code, mend) in [
        ("profiles = [\"workload\", \"short\"]", "profiles = [\"long\"]", "KW0074", "name a profile that is there"),
        ("profiles = [\"workload\", \"short\"]", "profiles = []", "KW0074", "at least one"),
        ("profiles = [\"workload\", \"short\"]", "", "KW0004", "profiles ="),
        ("ca = \"mesh\"", "ca = \"mash\"", "KW0012", "did you mean \"mesh\"?"),
        ("https://acme.example:14000/", "https://acme.example/acme", "KW0074", "host and port only"),
        ("https://acme.example:14000/", "http://acme.example", "KW0021", "https"),
        ("ca = \"mesh\"", "ca = \"mesh\"\nchallenges = [\"dns-01\"]", "KW0074", "resolver"),
        ("ca = \"mesh\"", "ca = \"mesh\"\nchallenges = []", "KW0074", "at least one kind"),
        ("ca = \"mesh\"", "ca = \"mesh\"\nallow = [\"10.0.0.1/8\"]", "KW0020", "10.20.0.0/16"),
        ("ca = \"mesh\"", "ca = \"mesh\"\nwait = [\"a*b\"]", "KW0070", "**.example"),
        ("ca = \"mesh\"", "ca = \"mesh\"\nfirst_time = \"deny\"", "KW0013", "allow, wait"),
        ("id = \"web\"", "id = \"team web\"", "KW0074", "1 to 64"),
        ("names = [\"*.svc.example\"]\n\"#", "", "KW0004", "names ="),
    ] {
        let text = match what.strip_suffix("\n\"#") {
            // The names of the key are the last ones.
            Some(last) => {
                let at = WHOLE.rfind(last).unwrap();
                WHOLE[..at].to_owned()
            }
            None => WHOLE.replacen(what, by, 1),
        };
        let error = parse(&text).unwrap_err();
        let problem = &error.problems()[0];
        assert_eq!(problem.code, code, "{by}: {error}");
        assert!(error.to_string().contains(mend), "{by}: {error}");
    }
    let twice =
        format!("{WHOLE}[[acme_directory.key]]\nid = \"web\"\nhmac_file = \"/x\"\nnames = [\"a.svc.example\"]\n");
    assert_eq!(parse(&twice).unwrap_err().problems()[0].code, "KW0011");
    let keyless = &WHOLE[..WHOLE.find("[[acme_directory.key]]").unwrap()];
    assert_eq!(parse(keyless).unwrap_err().problems()[0].code, "KW0074");
    assert!(parse(&keyless.replace("ca = \"mesh\"", "ca = \"mesh\"\nexternal_account = \"optional\"")).is_ok());
}
