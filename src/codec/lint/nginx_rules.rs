//! The rules for nginx (`auth_request`).
//!
//! The phases of a request decide: server rewrite, rewrite (`return`, `rewrite`, `if`), access (`auth_request`), content.
//! Whatever answers before the access phase is not guarded.

use super::nginx::{Directive, parse};
use super::{
    ANY_CHECK, ANY_SUCCESS, BEFORE, CACHED, Desk, GATE, LONGEST_WAIT_MS, NO_TIMEOUT, NOT_INTERNAL, OVER_TCP,
    OWN_ANSWER, Place, SECOND_GATE, SIDE_DOOR, TURNED, UNGUARDED, is_success, millis,
};

/// What hands a request on.
const PASSES: [&str; 6] = ["proxy_pass", "fastcgi_pass", "grpc_pass", "uwsgi_pass", "scgi_pass", "memcached_pass"];
/// What a refusal or a missing gate becomes, as `error_page` may catch it.
const REFUSALS: [&str; 6] = ["401", "403", "500", "502", "503", "504"];

pub(super) fn lint(desk: &mut Desk<'_>, file: &str, text: &str) {
    let Some(top) = parse(desk, file, text) else { return };
    let http: Vec<&[Directive]> = top.iter().filter(|d| d.name == "http").map(Directive::inside).collect();
    // A file of conf.d stands inside of http.
    let http = if http.is_empty() { vec![top.as_slice()] } else { http };
    let mut guarded = 0_usize;
    for http in http {
        for server in http.iter().filter(|d| d.name == "server") {
            let mut all = Vec::new();
            collect(&[http, server.inside()], &mut all);
            guarded = guarded.saturating_add(Server { http, server, all }.lint(desk));
        }
    }
    if guarded == 0 {
        let how = "guard a location: auth_request /_gate; and let location = /_gate pass on to the gate's socket";
        desk.unguarded(file, how);
    }
}

/// A location, with what it inherits from: http, server, location, and so on to itself.
struct Location<'a> {
    own: &'a Directive,
    scopes: Vec<&'a [Directive]>,
}

fn collect<'a>(scopes: &[&'a [Directive]], out: &mut Vec<Location<'a>>) {
    for own in scopes.last().into_iter().flat_map(|inside| inside.iter()).filter(|d| d.name == "location") {
        let mut scopes = scopes.to_vec();
        scopes.push(own.inside());
        collect(&scopes, out);
        out.push(Location { own, scopes });
    }
}

impl<'a> Location<'a> {
    /// What holds here for a directive that an inner block replaces.
    fn effective(&self, name: &str) -> Option<&'a Directive> {
        self.scopes.iter().rev().find_map(|inside| inside.iter().rfind(|d| d.name == name))
    }

    /// The same for one that may stand several times.
    fn all(&self, name: &str) -> Vec<&'a Directive> {
        let level = self.scopes.iter().rev().find(|inside| inside.iter().any(|d| d.name == name));
        level.into_iter().flat_map(|inside| inside.iter()).filter(|d| d.name == name).collect()
    }

    fn guard(&self) -> Option<&'a Directive> {
        self.effective("auth_request").filter(|d| d.arg(0) != "off")
    }

    /// Modifier and what is compared.
    fn pattern(&self) -> (&'a str, &'a str) {
        match self.own.args.as_slice() {
            [what] if what.starts_with('@') => ("@", what),
            [what] => ("", what),
            [modifier, what, ..] => (modifier, what),
            [] => ("", ""),
        }
    }

    /// Whom the request is handed to.
    fn passes(&self) -> Option<&'a Directive> {
        let mut deep = Vec::new();
        within(self.own.inside(), &mut |d| {
            if PASSES.contains(&d.name.as_str()) {
                deep.push(d);
            }
        });
        deep.into_iter().next()
    }

    /// Whether it does nothing but refuse.
    fn refuses(&self) -> bool {
        self.own.own("return").is_some_and(|r| r.arg(0).starts_with(['4', '5']))
    }
}

/// Everything in a location that is not another location: `if` and `limit_except` belong to it.
fn within<'a>(inside: &'a [Directive], each: &mut impl FnMut(&'a Directive)) {
    for directive in inside {
        each(directive);
        if matches!(directive.name.as_str(), "if" | "limit_except") {
            within(directive.inside(), each);
        }
    }
}

struct Server<'a> {
    http: &'a [Directive],
    server: &'a Directive,
    all: Vec<Location<'a>>,
}

impl<'a> Server<'a> {
    /// Says how many locations are guarded.
    fn lint(&self, desk: &mut Desk<'_>) -> usize {
        let whole = self.server.own("auth_request").filter(|d| d.arg(0) != "off");
        let mut uris: Vec<&Directive> = self.all.iter().filter_map(Location::guard).chain(whole).collect();
        uris.sort_by(|a, b| a.arg(0).cmp(b.arg(0)));
        uris.dedup_by(|a, b| a.arg(0) == b.arg(0));
        let gates: Vec<Option<&Location<'a>>> = uris.iter().map(|d| self.find(d.arg(0))).collect();
        let is_gate = |l: &Location<'_>| gates.iter().flatten().any(|g| core::ptr::eq(g.own, l.own));
        for (directive, gate) in uris.iter().zip(&gates) {
            match gate {
                Some(gate) => self.gate(desk, gate, directive),
                None => {
                    let text = format!("no location answers {}, so a file of that name would", directive.arg(0));
                    desk.open(OWN_ANSWER, &directive.at, text, format!("add location = {} {{ … }}", directive.arg(0)));
                }
            }
        }
        let guarded: Vec<&Location<'a>> = self.all.iter().filter(|l| l.guard().is_some() && !is_gate(l)).collect();
        if !guarded.is_empty() || whole.is_some() {
            within(self.server.inside(), &mut |d| self.answers_before(desk, d, "the server"));
        }
        for location in &guarded {
            self.guarded(desk, location);
        }
        self.side_doors(desk, &guarded, &is_gate);
        guarded.len().saturating_add(usize::from(whole.is_some() && guarded.is_empty()))
    }

    /// The location that takes a URL: the exact one, else the longest prefix.
    fn find(&self, uri: &str) -> Option<&Location<'a>> {
        if uri.starts_with('@') {
            return self.all.iter().find(|l| l.pattern() == ("@", uri));
        }
        let exact = self.all.iter().find(|l| l.pattern() == ("=", uri));
        let prefix = |l: &&Location<'_>| {
            let (modifier, what) = l.pattern();
            matches!(modifier, "" | "^~") && uri.starts_with(what)
        };
        exact.or_else(|| self.all.iter().filter(prefix).max_by_key(|l| l.pattern().1.len()))
    }

    fn answers_before(&self, desk: &mut Desk<'_>, d: &Directive, whose: &str) {
        if d.name == "return" {
            let code = d.arg(0);
            if is_success(code) || !code.bytes().all(|b| b.is_ascii_digit()) && !code.starts_with("http") {
                let text = format!("`return {code}` in {whose} answers before the gate is asked (rewrite phase)");
                desk.open(BEFORE, &d.at, text, "serve it in the content phase: proxy_pass, or a file with try_files");
            }
        }
    }

    fn guarded(&self, desk: &mut Desk<'_>, location: &Location<'a>) {
        within(location.own.inside(), &mut |d| {
            self.answers_before(desk, d, "a guarded location");
            if d.name == "rewrite" {
                let leaves = !matches!(d.arg(2), "break" | "redirect" | "permanent") && !d.arg(1).starts_with("http");
                if leaves && !self.everything_is_guarded() {
                    let text = "`rewrite` leaves the guarded location before the gate is asked (rewrite phase)";
                    desk.open(BEFORE, &d.at, text, "write `break` at its end, or guard the whole server");
                }
            }
        });
        if let Some(satisfy) = location.effective("satisfy").filter(|d| d.arg(0) == "any") {
            let text = "with `satisfy any` an allowed address or a password is enough, whatever the gate says";
            desk.open(ANY_CHECK, &satisfy.at, text, "write `satisfy all`");
        }
        for page in location.all("error_page") {
            self.error_page(desk, page);
        }
        if !self.compares_status(location) {
            let at = location.guard().map_or(&location.own.at, |d| &d.at);
            let text = "auth_request takes every 2xx for a yes, a 204 too; the gate says 200 only";
            let mend = "auth_request_set $gate $upstream_status; map $gate $to { 200 portal; default refused; } and proxy_pass http://$to";
            desk.warn(ANY_SUCCESS, at, text, mend);
        }
    }

    /// Whether every location of the server that hands on is guarded, but those that only ask the gate.
    fn everything_is_guarded(&self) -> bool {
        self.server.own("auth_request").is_some_and(|d| d.arg(0) != "off")
            && !self.all.iter().any(|l| l.own.own("auth_request").is_some_and(|d| d.arg(0) == "off"))
    }

    /// Whether where the request goes depends on the exact status of the gate's answer.
    fn compares_status(&self, location: &Location<'a>) -> bool {
        let set = location.all("auth_request_set");
        let variables = set.iter().filter(|d| d.arg(1) == "$upstream_status").map(|d| d.arg(0));
        let Some(target) = location.passes().map(|d| d.arg(0)) else { return false };
        variables.into_iter().any(|variable| {
            let maps = self.http.iter().filter(|d| d.name == "map" && d.arg(0) == variable);
            maps.into_iter().any(|map| {
                let named = |word: &str| target.contains(word) || target.contains(&braced(word));
                let other = |d: &Directive| is_success(&d.name) && d.name != "200" || d.name.starts_with('~');
                named(map.arg(1)) && !map.inside().iter().any(other)
            })
        })
    }

    fn error_page(&self, desk: &mut Desk<'_>, page: &Directive) {
        let (turned, target) = (page.args.iter().find(|a| a.starts_with('=')), page.args.last());
        let codes = page.args.iter().take_while(|a| a.bytes().all(|b| b.is_ascii_digit()));
        if !codes.into_iter().any(|code| REFUSALS.contains(&code.as_str())) {
            return;
        }
        let to = turned.map(|t| t.trim_start_matches('='));
        let mend = "keep the status: error_page 401 403 500 /denied.html";
        if to.is_some_and(is_success) {
            let text = format!("a refusal becomes {}", to.unwrap_or_default());
            desk.open(TURNED, &page.at, text, mend);
            return;
        }
        let Some(target) = target.filter(|t| !t.starts_with("http") && !t.starts_with('$')) else { return };
        let Some(location) = self.find(target) else { return };
        if location.refuses() {
            return;
        }
        if to == Some("") {
            let text = format!("a refusal takes the status of whatever {target} answers");
            desk.open(TURNED, &page.at, text, mend);
        } else if location.passes().is_some() && location.guard().is_none() {
            let text = format!("a refused request goes on to {target}, which hands it on and is not guarded");
            desk.open(TURNED, &page.at, text, "show a file for it, and hand nothing on");
        }
    }

    /// The location that asks the gate.
    fn gate(&self, desk: &mut Desk<'_>, gate: &Location<'a>, asked: &Directive) {
        let at = &gate.own.at;
        let mut answers = false;
        within(gate.own.inside(), &mut |d| {
            if d.name == "return" && !d.arg(0).starts_with(['4', '5']) {
                answers = true;
                let text = format!("`return {}` answers in the gate's place", d.arg(0));
                desk.open(OWN_ANSWER, &d.at, text, "remove it: only the gate may say yes");
            }
        });
        for page in gate.all("error_page") {
            self.error_page(desk, page);
        }
        let Some(pass) = gate.own.own("proxy_pass") else {
            if !answers && !gate.refuses() {
                let text = "this location answers by itself instead of asking the gate";
                desk.open(OWN_ANSWER, at, text, "proxy_pass http://unix:/run/keyward/gate.sock:/v1/gate/PATH;");
            }
            return;
        };
        if !pass.arg(0).contains(GATE) && !asked.arg(0).starts_with(GATE) {
            let text = format!("{} is no gate of keyward: it has no {GATE}PATH", pass.arg(0));
            desk.open(UNGUARDED, &pass.at, text, "proxy_pass http://unix:/run/keyward/gate.sock:/v1/gate/PATH;");
        }
        self.target(desk, pass);
        if gate.own.own("internal").is_none() && gate.pattern().0 != "@" {
            let text = "the gate's location can be asked from outside, and tells anybody why it is closed";
            desk.warn(NOT_INTERNAL, at, text, "write `internal;` into it");
        }
        if !matches!(gate.pattern().0, "=" | "^~" | "@") && self.all.iter().any(|l| l.pattern().0.starts_with('~')) {
            let text = "a location with a regular expression may take the gate's URL before this one does";
            desk.warn(OWN_ANSWER, at, text, format!("write location = {}", asked.arg(0)));
        }
        for name in ["proxy_connect_timeout", "proxy_read_timeout"] {
            let set = gate.effective(name);
            if set.is_none_or(|d| millis(d.arg(0), 1_000).is_none_or(|ms| ms > LONGEST_WAIT_MS)) {
                let text = format!("without a short {name} a silent gate holds requests for 60 s");
                desk.warn(NO_TIMEOUT, set.map_or(at, |d| &d.at), text, format!("write `{name} 2s;`"));
            }
        }
        if let Some(cache) = gate.effective("proxy_cache").filter(|d| d.arg(0) != "off") {
            let text = "a kept yes opens for as long as it is kept, whatever the gate says by then";
            desk.open(CACHED, &cache.at, text, "write `proxy_cache off;` into the gate's location");
        }
    }

    /// Whom the gate's location asks.
    fn target(&self, desk: &mut Desk<'_>, pass: &Directive) {
        let url = pass.arg(0);
        let Some(rest) = url.strip_prefix("http://") else { return };
        if rest.starts_with("unix:") {
            return;
        }
        let host = rest.split('/').next().unwrap_or_default();
        if host.contains('$') {
            desk.unread(&pass.at, "whom this asks depends on a variable");
            return;
        }
        let upstream = self.http.iter().find(|d| d.name == "upstream" && d.arg(0) == host);
        let Some(upstream) = upstream else {
            over_tcp(desk, &pass.at, host);
            return;
        };
        let servers: Vec<&Directive> = upstream.inside().iter().filter(|d| d.name == "server").collect();
        for server in &servers {
            if !server.arg(0).starts_with("unix:") {
                over_tcp(desk, &server.at, server.arg(0));
            }
        }
        if let Some(second) = servers.get(1) {
            let text = "a second server is asked when the first does not answer, and its yes counts as well";
            desk.warn(SECOND_GATE, &second.at, text, "name one socket: a gate that does not answer is closed");
        }
    }

    fn side_doors(&self, desk: &mut Desk<'_>, guarded: &[&Location<'a>], is_gate: &impl Fn(&Location<'_>) -> bool) {
        for open in self.all.iter().filter(|l| l.guard().is_none() && !is_gate(l)) {
            let Some(target) = open.passes() else { continue };
            let host = authority(target.arg(0));
            let mut same = guarded.iter().filter(|g| g.passes().is_some_and(|p| authority(p.arg(0)) == host));
            if let Some(other) = same.next() {
                let text = format!(
                    "{host} is behind the guarded location of line {} too: what that does not match reaches it here",
                    other.own.at.line
                );
                let mend =
                    "guard the server and write `auth_request off;` only where all may come; or # keyward: meant";
                desk.warn(SIDE_DOOR, &target.at, text, mend);
            }
        }
    }
}

fn over_tcp(desk: &mut Desk<'_>, at: &Place, host: &str) {
    let text = format!("the gate is asked at {host}: whatever takes that port may answer for it");
    desk.warn(OVER_TCP, at, text, "ask its Unix socket: http://unix:/run/keyward/gate.sock:/v1/gate/PATH");
}

/// Scheme and host, without the path.
fn authority(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at.saturating_add(3));
    let rest = url.get(start..).unwrap_or_default();
    let end = rest.find('/').filter(|_| !rest.starts_with("unix:")).unwrap_or(rest.len());
    rest.get(..end).unwrap_or(rest)
}

/// `$name` as `${name}`.
fn braced(variable: &str) -> String {
    format!("${{{}}}", variable.trim_start_matches('$'))
}
