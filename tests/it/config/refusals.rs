//! One mistake each: the code, the caret and the way to mend it.

use super::{parse, parse_staging, sample};
use keyward::shell::config::{Colour, ConfigError};

/// Edit of the reference sample (what → by what), code, what stands at the caret, what the help says.
type Row = (&'static str, &'static str, &'static str, &'static str, &'static str);

const NAMES: &str = "names = [\"review.example.com\"]";
const SOLVERS: &str = "solvers = [\"web\", \"dns\"]";
const RELOAD: &str = "exec = [\"/usr/sbin/nginx\", \"-s\", \"reload\"]";
const AUDIENCES: &str = "audiences = [\"portal\", \"release-bot\"]";
const DIR: &str = "dir = \"/etc/keyward/live/portal\" ";
const FILES: &str = "files = { fullchain = \"/etc/nginx/tls/portal.pem\"";

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // Shape.
    ("[timing]", "[timing", "KW0002", "", "mend the TOML"),
    ("orders_in_flight = 8", "full_scan = \"2h\"", "KW0002", "full_scan", "mend the TOML"),
    ("[timing]", "[timings]", "KW0003", "timings", "did you mean `timing`?"),
    ("emergency = \"allow\"", "emergancy = \"allow\"", "KW0003", "emergancy", "did you mean `emergency`?"),
    ("renew_at =", "renewat =", "KW0003", "renewat", "did you mean `renew_at`?"),
    ("margin =", "marign =", "KW0003", "marign", "did you mean `margin`?"),
    ("starttls =", "zzz =", "KW0003", "zzz", "may hold: connect, sni, starttls"),
    ("id = \"approve\"", "", "KW0004", "[[path]]", "add, for example: id = \"approve\""),
    // Kinds of request.
    ("guards = [\"approve\"]", "", "KW4501", "kind", "add guards"),
    ("guards = [\"approve\"]", "guards = []", "KW4501", "[]", "name the kinds"),
    ("guards = [\"approve\"]", "guards = [\"approve\", \"read\", \"reject\"]", "KW4501", "[\"approve\", \"read\", \"reject\"]", "stays reachable"),
    ("guards = [\"approve\"]", "guards = [\"aprove\"]", "KW0012", "\"aprove\"", "did you mean \"approve\"?"),
    ("id = \"read\"", "id = \"approve\"", "KW0011", "\"approve\"", "own id"),
    ("  methods = [\"GET\", \"HEAD\"]", "", "KW4502", "[[path.kind]]", "add methods"),
    ("methods = [\"GET\", \"HEAD\"]", "methods = []", "KW4502", "[]", "leave it out"),
    ("methods = [\"GET\", \"HEAD\"]", "methods = [\"get\"]", "KW4502", "\"get\"", "capitals"),
    ("methods = [\"GET\", \"HEAD\"]", "method = [\"GET\"]\n  methods = [\"GET\"]", "KW0003", "method", "did you mean `methods`?"),
    ("prefixes = [\"/approve\"]", "prefixes = [\"approve\"]", "KW4502", "\"approve\"", "from its '/'"),
    ("prefixes = [\"/approve\"]", "prefixes = [\"/a/../b\"]", "KW4502", "\"/a/../b\"", "dot segments"),
    ("prefixes = [\"/approve\"]", "prefixes = [\"/a%70prove\"]", "KW4502", "\"/a%70prove\"", "without escapes"),
    // Gate checks over TLS.
    ("# gate_tls = { listen = \"127.0.0.1:9183\"", "gate_tls = { listen = \"0.0.0.0:9183\"", "KW0050", "\"0.0.0.0:9183\"", "allow_remote"),
    ("# gate_tls = { listen = \"127.0.0.1:9183\",", "gate_tls = {", "KW0004", "{ certificate_file", "listen = "),
    ("# gate_tls = { listen", "gate_tls = { lsten = \"x\", listen", "KW0003", "lsten", "did you mean `listen`?"),
    ("# gate_tls = { listen = \"127.0.0.1:9183\"", "gate_tls = { listen = \"9183\"", "KW0020", "\"9183\"", "127.0.0.1:9180"),
    ("state_dir =", "# state_dir =", "KW0004", "", "add, for example: state_dir = \"/var/lib/keyward\""),
    ("gate_socket = ", "# gate_socket = ", "KW0004", "gate_socket_mode", "add gate_socket"),
    ("key_mode = \"0640\"", "key_mode = 640", "KW0005", "640", "key_mode = \"0640\""),
    ("ari = true", "ari = \"yes\"", "KW0005", "\"yes\"", "ari = true"),
    ("[listen]", "[[listen]]", "KW0005", "[[listen]]", "listen = { … }"),
    ("[[path]]", "[path]", "KW0005", "[path]", "[[path]]"),
    (NAMES, "names = [\"review.example.com\", 5]", "KW0005", "5", "names = ["),
    // Words and references.
    ("id = \"portal\"", "id = \"Portal 1\"", "KW0010", "\"Portal 1\"", "write for example \"portal-1\""),
    ("id = \"wildcard\"", "id = \"portal\"", "KW0011", "\"portal\"", "own id"),
    ("id = \"upstream\"", "id = \"portal\"", "KW0011", "\"portal\"", "own id"),
    ("id = \"second\"  ", "id = \"letsencrypt\"  ", "KW0011", "\"letsencrypt\"", "own id"),
    ("id = \"alpn\"", "id = \"web\"", "KW0011", "\"web\"", "own id"),
    (NAMES, "names = [\"a.example\", \"A.example.\"]", "KW0011", "\"A.example.\"", "remove one"),
    (SOLVERS, "solvers = [\"web\", \"web\"]", "KW0011", "\"web\"]", "remove one"),
    ("issuers = [\"letsencrypt\", \"second\"]", "issuers = [\"letsencrpyt\"]", "KW0012", "\"letsencrpyt\"", "did you mean \"letsencrypt\"?"),
    (SOLVERS, "solvers = [\"wbe\"]", "KW0012", "\"wbe\"", "did you mean \"web\"?"),
    ("needs = [\"portal\", \"policy-engine\"]", "needs = [\"policy-enigne\"]", "KW0012", "\"policy-enigne\"", "did you mean \"policy-engine\"?"),
    ("needs = [\"portal\", \"policy-engine\"]", "needs = [\"xyz\"]", "KW0012", "\"xyz\"", "there are: peers, policy-engine, portal, upstream, wildcard"),
    ("environment = \"production\"", "environment = \"prodcution\"", "KW0013", "\"prodcution\"", "did you mean \"production\"?"),
    ("emergency = \"allow\"", "emergency = \"alow\"", "KW0013", "\"alow\"", "did you mean \"allow\"?"),
    ("when_frozen = \"open\"", "when_frozen = \"closed\"", "KW0013", "\"closed\"", "did you mean \"close\"?"),
    ("key = \"p256\"", "key = \"P-256\"", "KW0013", "\"P-256\"", "did you mean \"p256\"?"),
    ("key = \"p256\"", "key = \"dsa\"", "KW0013", "\"dsa\"", "choose one of: p256, p384"),
    ("formats = [\"combined\"]", "formats = [\"combind\"]", "KW0013", "\"combind\"", "did you mean \"combined\"?"),
    (FILES, "files = { fulchain = \"/etc/nginx/tls/portal.pem\"", "KW0013", "fulchain", "did you mean `fullchain`?"),
    ("days = [\"sat\", \"sun\"]", "days = [\"sat\", \"sunday\"]", "KW0013", "\"sunday\"", "choose one of: mon"),
    ("lane = \"review-required\"", "lane = \"review\"", "KW0013", "\"review\"", "autonomous, review-required, prohibited"),
    ("actions = [\"reissue\"]", "actions = [\"re-issue\"]", "KW0013", "\"re-issue\"", "did you mean \"reissue\"?"),
    ("profile = \"tlsserver\"", "profile = \"tlserver\"", "KW0013", "\"tlserver\"", "did you mean \"tlsserver\"?"),
    ("tsig_algorithm = \"hmac-sha256\"", "tsig_algorithm = \"hmac-md5\"", "KW0013", "\"hmac-md5\"", "hmac-sha256, hmac-sha384, hmac-sha512"),
    // Scalars.
    ("full_scan = \"1h\"", "full_scan = \"60\"", "KW0014", "\"60\"", "units w, d, h, m or s"),
    ("longest = \"14d\"", "longest = \"91d\"", "KW0014", "\"91d\"", "choose from 1 h to 90 d"),
    ("probe_every = \"5m\"", "probe_every = \"7d\"", "KW0014", "\"7d\"", "choose from 10 s to 6 h"),
    ("refresh = \"6h\"", "refresh = \"2d\"", "KW0014", "\"2d\"", "choose from 10 s"),
    ("refresh = \"6h\"", "refesh = \"6h\"", "KW0003", "refesh", "did you mean `refresh`?"),
    ("allow = [\"10.20.0.0/16\"]", "allow = [\"10.20.0.1/16\"]", "KW0020", "\"10.20.0.1/16\"", "write a network"),
    ("allow = [\"10.20.0.0/16\"]", "allow = [\"crl.example\"]", "KW0020", "\"crl.example\"", "write a network"),
    ("crls = [\"distribution-point\"]", "crls = [\"distribution-points\"]", "KW0017", "\"distribution-points\"", "\"distribution-point\" for lists"),
    ("emergency_at = \"5%\"", "emergency_at = \"5\"", "KW0015", "\"5\"", "from 1% to 50%"),
    ("renew_at = \"66%\"", "renew_at = \"99%\"", "KW0015", "\"99%\"", "from 10% to 95%"),
    ("orders_in_flight = 8", "orders_in_flight = 0", "KW0016", "0", "from 1 to 64"),
    ("orders_in_flight = 8", "orders_in_flight = -8", "KW0016", "-8", "from 1 to 64"),
    ("min_tier = 3", "min_tier = 5", "KW0016", "5", "from 0 to 4"),
    ("capacity = 100", "capacity = 5", "KW0016", "5", "from 0 to 4"),
    ("state_dir = \"/var/lib/keyward\" ", "state_dir = \"keyward\" ", "KW0017", "\"keyward\"", "from the root"),
    (DIR, "dir = \"/etc/keyward/../live\" ", "KW0017", "\"/etc/keyward/../live\"", "without '.', '..'"),
    ("file = \"/etc/policy/tls.pem\"", "file = \"~/tls.pem\"", "KW0017", "\"~/tls.pem\"", "from the root"),
    ("cert_mode = \"0644\"", "cert_mode = \"0666\"", "KW0018", "\"0666\"", "for example \"0644\""),
    ("gate_socket_mode = \"0660\"", "gate_socket_mode = \"0o660\"", "KW0018", "\"0o660\"", "octal digits in quotes"),
    ("from = \"02:00\"", "from = \"2am\"", "KW0019", "\"2am\"", "HH:MM"),
    ("until = \"05:00\"", "until = \"02:00\"", "KW0019", "\"02:00\"", "24:00"),
    ("zone = \"Europe/Berlin\"", "zone = \"Europe/Brelin\"", "KW0019", "\"Europe/Brelin\"", "did you mean \"Europe/Berlin\"?"),
    ("http = \"127.0.0.1:9180\"", "http = \"localhost:9180\"", "KW0020", "\"localhost:9180\"", "127.0.0.1:9180"),
    ("connect = \"127.0.0.1:443\"", "connect = \"127.0.0.1\"", "KW0020", "\"127.0.0.1\"", "host and port"),
    ("server = \"192.0.2.53\"", "server = \"ns1.example\"", "KW0020", "\"ns1.example\"", "IP address"),
    ("directory = \"https://acme.ca.example/v2/directory\"", "directory = \"acme.ca.example\"", "KW0021", "\"acme.ca.example\"", "whole URL"),
    ("url = \"https://dns.example/challenge\"", "url = \"http://dns.example/challenge\"", "KW0021", "\"http://dns", "https://"),
    ("url = \"https://dns.example/challenge\"", "url = \"https://u:p@dns.example/\"", "KW0021", "\"https://u", "secrets never stand"),
    ("contacts = [\"mailto:ops@example.com\"]\nterms_agreed = true  ", "contacts = [\"ops@example.com\"]\nterms_agreed = true  ", "KW0022", "\"ops@", "write \"mailto:ops@example.com\""),
    ("owner = \"platform\"", "owner = \"\"", "KW0023", "\"\"", "1 to 128"),
    ("owner = \"platform\"", "owner = \"a\\u001b[2Jb\"", "KW0023", "\"a\\u001b", "one line"),
    ("group = \"www-data\"\n  key", "group = \"www data\"\n  key", "KW0024", "\"www data\"", "a name or a number"),
    // Names and CAs.
    (NAMES, "names = [\"exa_mple.com\"]", "KW0030", "\"exa_mple.com\"", "whole DNS name"),
    (NAMES, "names = [\"https://review.example.com/x\"]", "KW0030", "\"https://", "write the name alone: \"review.example.com\""),
    (NAMES, "names = [\"*.*.example.com\"]", "KW0030", "\"*.*", "whole DNS name"),
    (NAMES, "names = [\"192.0.2.1\"]", "KW0032", "\"192.0.2.1\"", "profile = \"shortlived\""),
    ("solvers = [\"dns\"]", "solvers = [\"web\"]", "KW0033", "\"*.apps", "dns-01"),
    ("profile = \"tlsserver\"", "profile = \"shortlived\"", "KW0038", "[[certificate.window]]", "open more often"),
    ("key = \"p256\"", "key = \"ed25519\"", "KW0035", "\"ed25519\"", "p256"),
    (NAMES, "names = []", "KW0036", "[]", "names = ["),
    (SOLVERS, "solvers = []", "KW0036", "[]", "solvers = ["),
    ("issuers = [\"letsencrypt\", \"second\"]", "issuers = []", "KW0036", "[]", "issuers = ["),
    (", \"apps.example.com\"]", ", \"a.apps.example.com\"]", "KW0037", "\"a.apps", "remove the name"),
    // Schedules.
    ("days = [\"sat\", \"sun\"]", "days = []", "KW0038", "[]", "every day"),
    ("renew_at = \"66%\"", "renew_at = \"85%\"", "KW0038", "[[certificate.window]]", "renew earlier"),
    ("emergency_at = \"5%\"", "emergency_at = \"40%\"", "KW0039", "\"66%\"", "below 100%"),
    (AUDIENCES, "audiences = [\"Portal 1\"]", "KW0010", "\"Portal 1\"", "write for example \"portal\""),
    (AUDIENCES, "audiences = [\"portal\", \"portal\"]", "KW0011", "\"portal\"]", "remove one"),
    (AUDIENCES, "audiences = [\"release-bot\"]", "KW0012", "\"portal\", mode", "list it: audiences = [\"portal\"]"),
    (AUDIENCES, "audiences = \"portal\"", "KW0005", "\"portal\"", "audiences = [\"portal\"]"),
    ("lease_file = {", "lease_fiel = {", "KW0003", "lease_fiel", "did you mean `lease_file`?"),
    ("audience = \"portal\", mode", "mode", "KW0004", "{ path", "add, for example: audience = \"portal\""),
    ("mode = \"0640\", group = \"www-data\" }", "mode = \"0666\" }", "KW0018", "\"0666\"", "nobody else may write a lease"),
    ("\"/run/keyward/approve.lease\"", "\"approve.lease\"", "KW0017", "\"approve.lease\"", "from the root"),
    ("margin = \"2h\"", "margin = \"2h\"\nmisses = 0", "KW0016", "0", "from 1 to 5"),
    ("margin = \"2h\"", "margin = \"2h\"\nmisses = 6", "KW0016", "6", "from 1 to 5"),
    ("margin = \"2h\"", "margin = \"2h\"\nmises = 3", "KW0003", "mises", "did you mean `misses`?"),
    ("margin = \"2h\"", "margin = \"20d\"", "KW0049", "\"20d\"", "well below 15 d"),
    // Places.
    ("dir = \"/etc/keyward/live/wildcard\"", "dir = \"/etc/keyward/live/portal\"", "KW0040", "\"/etc/keyward/live/portal\"", "its own files"),
    ("dir = \"/etc/keyward/live/wildcard\"", "dir = \"/etc/keyward/live/portal/sub\"", "KW0040", "\"/etc/keyward/live/portal/sub\"", "beside it"),
    ("dir = \"/etc/keyward/live/wildcard\"", "dir = \"/etc/nginx/tls\"", "KW0040", "\"/etc/nginx/tls/portal.", "beside it"),
    ("dir = \"/etc/keyward/live/wildcard\"", "files = { cert = \"/etc/nginx/tls/portal.pem\" }\n#", "KW0041", "[[certificate.install]]", "files"),
    ("dir = \"/etc/keyward/live/wildcard\"", "dir = \"/var/lib/keyward/live\"", "KW0040", "\"/var/lib/keyward/live\"", "outside of `state_dir`"),
    ("# admin_socket = \"/var/lib/keyward/admin.sock\"", "admin_socket = \"/run/keyward/gate.sock\"", "KW0040", "\"/run/keyward/gate.sock\"", "own path"),
    (FILES, "dir = \"/etc/x\"\n  files = { fullchain = \"/etc/nginx/tls/portal.pem\"", "KW0041", "[[certificate.install]]", "or files"),
    ("formats = [\"combined\"]", "formats = []", "KW0041", "[]", "fullchain"),
    ("pkcs12_password_file =", "# pkcs12_password_file =", "KW0042", "[[certificate.install]]", "pkcs12_password_file"),
    ("cert_mode = \"0644\"\n", "pkcs12_password_file = \"/p\"\n", "KW0042", "\"/p\"", "remove the password file"),
    ("key_mode = \"0640\"", "key_mode = \"0644\"", "KW0045", "\"0644\"", "for example \"0640\""),
    // Programs.
    (RELOAD, "exec = [\"/bin/true\"]\n  systemd = \"nginx.service\"", "KW0043", "[certificate.reload]", "choose one"),
    (RELOAD, "", "KW0043", "[certificate.reload]", "choose one"),
    (RELOAD, "signal = \"HUP\"", "KW0043", "[certificate.reload]", "pid_file"),
    (RELOAD, "systemd = \"nginx\"", "KW0043", "\"nginx\"", "\"nginx.service\""),
    (RELOAD, "exec = \"nginx -s reload\"", "KW0005", "\"nginx -s reload\"", "exec = [\"/usr/sbin/nginx\", \"-s\", \"reload\"]"),
    (RELOAD, "exec = [\"nginx\", \"-s\", \"reload\"]", "KW0044", "\"nginx\"", "command -v nginx"),
    (RELOAD, "exec = [\"nginx -s reload\"]", "KW0044", "\"nginx -s reload\"", "[\"nginx\", \"-s\", \"reload\"]"),
    (RELOAD, "exec = []", "KW0044", "[]", "exec = ["),
    // What is watched and what stands on it.
    ("glob = \"/etc/peers/*.pem\"", "", "KW0046", "[[observe]]", "endpoints only"),
    ("glob = \"/etc/peers/*.pem\"", "glob = \"/etc/peers/*.pem\"\nfile = \"/x\"", "KW0046", "[[observe]]", "endpoints only"),
    ("glob = \"/etc/peers/*.pem\"", "glob = \"/etc/**/x.pem\"", "KW0048", "\"/etc/**/x.pem\"", "no limit"),
    ("glob = \"/etc/peers/*.pem\"", "glob = \"/etc/peers/x.pem\"", "KW0048", "\"/etc/peers/x.pem\"", "use `file`"),
    ("needs = [\"portal\", \"policy-engine\"]", "needs = []", "KW0047", "[]", "stands on"),
    // Listeners, issuers, solvers.
    ("http = \"127.0.0.1:9180\"", "http = \"0.0.0.0:9180\"", "KW0050", "\"0.0.0.0:9180\"", "listen on 127.0.0.1:9180"),
    ("directory = \"https://acme.ca.example/v2/directory\"", "directory = \"http://acme.ca.example/v2/directory\"", "KW0051", "\"http://", "danger_allow_http_directory = true"),
    ("terms_agreed = true  ", "terms_agreed = false  ", "KW0052", "false", "terms_agreed = true"),
    ("terms_agreed = true  ", "  ", "KW0052", "[[issuer]]", "terms_agreed = true"),
    ("  [[issuer.limit]]", "limits = \"none\"\n  [[issuer.limit]]", "KW0054", "\"none\"", "keep either"),
    ("key_id = \"kid-1\", ", "", "KW0004", "{ hmac_file", "key_id = \"kid-1\""),
    ("# staging_http = \"127.0.0.1:9181\"", "staging_http = \"127.0.0.1:9180\"", "KW0061", "\"127.0.0.1:9180\"", "next port"),
    ("gate_socket = \"/run/keyward/gate.sock\"", "gate_socket = \"/var/lib/keyward/admin.sock\"", "KW0040", "\"/var/lib", "own path"),
    ("# lock = \"/srv/other-volume/keyward.lock\"", "lock = \"/var/lib/keyward/other.lock\"", "KW0040", "\"/var/lib/keyward/other.lock\"", "on another volume"),
    ("# lock = \"/srv/other-volume/keyward.lock\"", "lock = \"other.lock\"", "KW0017", "\"other.lock\"", "whole path"),
    ("# origin = \"example.com/keyward\"", "origin = \"our log\"", "KW0025", "\"our log\"", "without spaces"),
    ("# origin = \"example.com/keyward\"", "origin = \"a+b\"", "KW0025", "\"a+b\"", "without spaces"),
    ("# webroot = ", "webroot = ", "KW0062", "[[solver]]", "keep one"),
    ("listen = [\"0.0.0.0:80\", \"[::]:80\"]", "", "KW0062", "[[solver]]", "webroot"),
    ("listen = [\"0.0.0.0:443\"]", "listen = []", "KW0062", "[]", "0.0.0.0:443"),
    ("exec = [\"/usr/local/libexec/dns-hook\", \"--zone\", \"example.org\"]", "#", "KW0062", "", ""),
    ("webhook = {", "exec = [\"/x\"]\nwebhook = {", "KW0062", "[[solver]]", "keep one"),
];

fn line_of(text: &str, error: &ConfigError) -> String {
    let problem = &error.problems()[0];
    let line = text.lines().nth(problem.line - 1).unwrap_or_default();
    line.chars().skip(problem.column - 1).collect()
}

#[test]
fn each_mistake_alone_is_shown_once_in_its_place_with_the_way_to_mend_it() {
    let reference = sample("keyward.toml");
    let mut wrong = Vec::new();
    for (what, by, code, caret, mend) in ROWS.iter().filter(|r| !r.2.is_empty()) {
        assert!(reference.contains(what), "the reference sample no longer holds {what:?}");
        let text = reference.replacen(what, by, 1);
        let Err(error) = parse(&text) else {
            wrong.push(format!("{what:?} → {by:?} was taken"));
            continue;
        };
        let first = &error.problems()[0];
        let at = line_of(&text, &error);
        if first.code != *code || !at.starts_with(caret) || !first.mend.contains(mend) || first.what.is_empty() {
            wrong.push(format!("{what:?} → {by:?}: expected {code} at {caret:?} with {mend:?}, got\n{error}"));
        }
        // Broken TOML, and a way that lost its keys, may be several problems; so may references to what has no
        // id now, and files in a directory that is taken.
        let several = matches!(*code, "KW0062" | "KW0002");
        let others = error.problems().iter().skip(1).filter(|p| !matches!(p.code, "KW0012" | "KW0040")).count();
        if others > 0 && !several {
            wrong.push(format!("{what:?} → {by:?}: one mistake, {} problems\n{error}", error.problems().len()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n----\n"));
}

#[test]
fn every_mistake_of_a_file_is_reported_at_once_and_in_order() {
    let mut text = sample("keyward.toml");
    for (what, by) in [
        ("environment = \"production\"", "enviroment = \"production\""),
        ("full_scan = \"1h\"", "full_scan = \"1\""),
        ("terms_agreed = true  ", "terms_agreed = false  "),
        ("key = \"p256\"", "key = \"p257\""),
        ("needs = [\"portal\", \"policy-engine\"]", "needs = [\"portal\", \"engine\"]"),
    ] {
        assert!(text.contains(what));
        text = text.replacen(what, by, 1);
    }
    let error = parse(&text).unwrap_err();
    let codes: Vec<_> = error.problems().iter().map(|p| p.code).collect();
    assert_eq!(codes, ["KW0003", "KW0014", "KW0052", "KW0013", "KW0012"]);
    assert!(error.to_string().contains("5 problems in keyward.toml"), "{error}");
}

#[test]
fn a_report_shows_file_line_caret_problem_and_help() {
    let text = "state_dir = \"/s\"\n\n[[path]]\nid = \"approve\"\nneeds = []\nmarign = \"2h\"\n";
    let report = parse(text).unwrap_err().to_string();
    let expected = "\
error[KW0047]: a path needs a credential
 --> keyward.toml:5:9
  |
5 | needs = []
  |         ^^ empty
  |
  = help: name the certificates that it stands on: a path that stands on nothing would be open for ever

error[KW0003]: unknown key `marign` in [[path]]
 --> keyward.toml:6:1
  |
6 | marign = \"2h\"
  | ^^^^^^ unknown key
  |
  = help: did you mean `margin`?

2 problems in keyward.toml; nothing was changed. `keyward explain KW0047` says more";
    assert_eq!(report, expected);
}

#[test]
fn two_places_that_contradict_each_other_are_both_shown() {
    let text = sample("keyward.toml").replacen("id = \"upstream\"", "id = \"portal\"", 1);
    let report = parse(&text).unwrap_err().to_string();
    assert!(report.contains("first time") && report.contains("second time"), "{report}");
    let lines: Vec<&str> = report.lines().filter(|l| l.contains("id = \"portal\"")).collect();
    assert_eq!(lines.len(), 2, "{report}");
}

#[test]
fn more_names_than_the_profile_takes_are_refused_at_the_first_too_many() {
    let list = |n: usize| (0..n).map(|i| format!("\"n{i}.example.com\"")).collect::<Vec<_>>().join(", ");
    let with = |n: usize, profile: &str| {
        let text = sample("minimal.toml").replacen("\"review.example.com\"", &list(n), 1);
        parse(&text.replacen("issuers = [\"letsencrypt\"]", &format!("issuers = [\"letsencrypt\"]\n{profile}"), 1))
    };
    assert!(with(25, "profile = \"tlsserver\"").is_ok() && with(100, "").is_ok());
    for (n, profile, code) in
        [(26, "profile = \"tlsserver\"", "KW0031"), (26, "profile = \"shortlived\"", "KW0031"), (101, "", "KW0006")]
    {
        let error = with(n, profile).unwrap_err();
        assert_eq!(error.problems()[0].code, code, "{error}");
    }
}

#[test]
fn an_address_needs_more_than_dns() {
    let text = sample("keyward.toml")
        .replacen("solvers = [\"dns\"]", "solvers = [\"dns\"]\nprofile = \"shortlived\"", 1)
        .replacen("names = [\"*.apps.example.com\", \"apps.example.com\"]", "names = [\"2001:db8::1\"]", 1);
    assert_eq!(parse(&text).unwrap_err().problems()[0].code, "KW0034");
    parse(&text.replacen("solvers = [\"dns\"]", "solvers = [\"dns\", \"alpn\"]", 1)).unwrap();
}

#[test]
fn the_rules_of_lets_encrypt_are_not_those_of_a_private_ca() {
    let text = sample("minimal.toml")
        .replacen("https://acme-v02.api.letsencrypt.org/directory", "https://ca.internal.example/acme", 1)
        .replacen("\"review.example.com\"", "\"192.0.2.1\"", 1)
        .replacen("solvers = [\"web\"]", "solvers = [\"web\"]\nkey = \"ed25519\"\nprofile = \"tlserver\"", 1);
    parse(&text).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn a_test_ca_may_be_reached_without_tls_only_with_the_named_switch() {
    let text = sample("minimal.toml").replacen("https://acme-v02.api.letsencrypt.org/", "http://127.0.0.1:14000/", 1);
    assert_eq!(parse(&text).unwrap_err().problems()[0].code, "KW0051");
    let open = text.replacen("terms_agreed", "danger_allow_http_directory = true\nterms_agreed", 1);
    assert!(parse(&open).unwrap().issuers[0].danger_allow_http_directory);
}

#[test]
fn staging_refuses_a_production_ca_and_a_state_that_is_not_apart() {
    let production_only = sample("minimal.toml");
    let error = parse_staging(&production_only).unwrap_err();
    assert_eq!(error.problems()[0].code, "KW0060", "{error}");
    let reference = sample("keyward.toml");
    for state in ["/var/lib/keyward", "/var/lib", "/var"] {
        let text = reference.replacen(
            "# staging_state_dir = \"/var/lib/keyward/staging\"",
            &format!("staging_state_dir = \"{state}\""),
            1,
        );
        assert_eq!(parse(&text).unwrap_err().problems()[0].code, "KW0061", "{state}");
    }
    let same = reference.replacen("https://acme-staging-v02.api", "https://acme-v02.api", 1);
    assert_eq!(parse_staging(&same).unwrap_err().problems()[0].code, "KW0060");
}

#[test]
fn a_hopeless_file_gives_a_bounded_report() {
    let text: String = (0..5_000).map(|i| format!("x{i} = 1\n")).collect();
    let error = parse(&text).unwrap_err();
    let report = error.to_string();
    assert_eq!(error.problems().len(), 200);
    assert!(
        report.contains("5001 problems") && report.contains("(4951 more not shown)"),
        "{}",
        &report[report.len() - 200..]
    );
    assert!(report.len() < 100_000);
}

#[test]
fn colours_come_only_when_asked_for_and_never_from_the_file() {
    let error = parse("state_dir = \"/s\" # \u{1b}[31mred\u{9b}\u{202e}\n").unwrap_err();
    let plain = error.report(Colour::Plain);
    assert!(plain.contains("KW0002") && !plain.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{plain:?}");
    assert!(error.report(Colour::Ansi).contains("\u{1b}["));
}
