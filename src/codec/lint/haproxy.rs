//! The rules for HAProxy: a gate that is asked by health checks, or for each request by Lua (`auth-request`).

use std::sync::Arc;

use super::{
    ANY_SUCCESS, BEFORE, Desk, GATE, LATE, LONGEST_WAIT_MS, NO_CHECK, NO_DENY, NO_TIMEOUT, OVER_TCP, PARTIAL, Place,
    SECOND_GATE, SIDE_DOOR, TURNED, UNGUARDED, is_success, millis,
};

/// What opens a section.
const SECTIONS: [&str; 22] = [
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "peers",
    "resolvers",
    "userlist",
    "mailers",
    "cache",
    "http-errors",
    "program",
    "ring",
    "log-forward",
    "log-profile",
    "fcgi-app",
    "crt-list",
    "crt-store",
    "traces",
    "acme",
    "ring-forward",
    "namespace_list",
];
/// An open gate that closes later than this is worth a word: the gate's own promise is five seconds.
const LONGEST_TO_CLOSE_MS: u64 = 5_000;

/// One line.
#[derive(Clone, Debug)]
struct Line {
    at: Place,
    words: Vec<String>,
}

impl Line {
    fn word(&self, n: usize) -> &str {
        self.words.get(n).map_or("", String::as_str)
    }

    fn starts(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(n, w)| self.word(n) == *w)
    }

    /// What follows a word.
    fn after(&self, word: &str) -> Option<&str> {
        let at = self.words.iter().position(|w| w == word)?;
        self.words.get(at.saturating_add(1)).map(String::as_str)
    }

    fn has(&self, word: &str) -> bool {
        self.words.iter().any(|w| w == word)
    }
}

/// A section with its lines; those of the `defaults` before it come first.
struct Section {
    at: Place,
    kind: String,
    name: String,
    inherited: Vec<Line>,
    own: Vec<Line>,
}

impl Section {
    /// Defaults first, so that the last one counts.
    fn lines(&self) -> impl DoubleEndedIterator<Item = &Line> {
        self.inherited.iter().chain(&self.own)
    }

    fn last(&self, words: &[&str]) -> Option<&Line> {
        self.lines().rfind(|l| l.starts(words))
    }

    fn servers(&self) -> impl Iterator<Item = &Line> {
        self.own.iter().filter(|l| matches!(l.word(0), "server" | "server-template"))
    }
}

pub(super) fn lint(desk: &mut Desk<'_>, file: &str, text: &str) {
    let sections = match parse(file, text) {
        Ok(sections) => sections,
        Err((at, why)) => return desk.unread(&at, &why),
    };
    let mut gates = 0_usize;
    for section in &sections {
        if let Some(check) = gate_check(section) {
            gates = gates.saturating_add(1);
            by_checks(desk, section, check, &sections);
            if !is_used(section, &sections) {
                by_count(desk, section, check, &sections);
            }
        }
        gates = gates.saturating_add(by_lua(desk, section, &sections));
        for line in section.own.iter().filter(|l| l.starts(&["filter", "spoe"])) {
            desk.unread(&line.at, "what an SPOE agent decides is not in this file");
        }
    }
    if gates == 0 {
        let how = "ask it for each request with http-request lua.auth-request, or by health checks";
        return desk.unguarded(file, how);
    }
    for section in &sections {
        error_files(desk, section);
    }
}

/// The line by which health checks ask the gate.
fn gate_check(section: &Section) -> Option<&Line> {
    if !matches!(section.kind.as_str(), "backend" | "listen") {
        return None;
    }
    let asks = |l: &&Line| {
        let line = l.starts(&["option", "httpchk"]) || l.starts(&["http-check", "send"]);
        line && l.words.iter().any(|w| w.contains(GATE))
    };
    section.lines().rfind(asks)
}

/// Whether requests are handed to it. One that only asks the gate is counted by others.
fn is_used(section: &Section, all: &[Section]) -> bool {
    let hands = |l: &Line| matches!(l.word(0), "use_backend" | "default_backend") && l.word(1) == section.name;
    section.kind == "listen" || all.iter().any(|s| s.lines().any(hands))
}

/// `http-request deny if { nbsrv(GATE) eq 0 }`: a backend whose only server is the gate, and others that count it.
fn by_count(desk: &mut Desk<'_>, gate: &Section, check: &Line, all: &[Section]) {
    let counted = format!("nbsrv({})", gate.name);
    let counts = |l: &&Line| l.word(0) == "http-request" && l.words.iter().any(|w| w.contains(&counted));
    let mend = format!("http-request deny deny_status 403 if {{ {counted} eq 0 }}");
    let mut denied = false;
    for section in all {
        let Some((n, deny)) = section.own.iter().enumerate().find(|(_, l)| counts(l)) else {
            let takes = matches!(section.kind.as_str(), "frontend" | "listen");
            if takes {
                let text = format!(
                    "{} {} does not count the gate: it lets through whatever comes",
                    section.kind, section.name
                );
                desk.warn(SIDE_DOOR, &section.at, text, mend.as_str());
            }
            continue;
        };
        denied = true;
        before(desk, section, n);
        let rest = deny.words.iter().skip_while(|w| !w.contains(&counted)).skip(1).take(2);
        let test: Vec<&str> = rest.map(String::as_str).collect();
        let closes = matches!(
            (deny.has("if"), deny.has("unless"), test.as_slice()),
            (true, false, ["eq", "0"] | ["lt", "1"]) | (false, true, ["gt", "0"] | ["ge", "1"])
        );
        let refuses = matches!(deny.word(1), "deny" | "reject" | "silent-drop" | "tarpit");
        if !closes || !refuses {
            desk.unread(&deny.at, &format!("what this does when {} has no server is not understood", gate.name));
        }
        if deny.after("deny_status").is_some_and(is_success) {
            desk.open(TURNED, &deny.at, "the refusal has a status of success", "write `deny deny_status 403`");
        }
    }
    if !denied {
        let text = format!("nothing is done with the gate's answer: nobody refuses when {} has no server", gate.name);
        desk.open(NO_DENY, &check.at, text, mend);
    }
    for server in gate.servers().filter(|s| !is_unix(s.word(2)) && !s.has("ssl")) {
        over_tcp(desk, &server.at, server.word(2));
    }
}

fn by_checks(desk: &mut Desk<'_>, section: &Section, check: &Line, all: &[Section]) {
    let off = section.last(&["no", "option", "httpchk"]);
    if section.last(&["option", "httpchk"]).is_none() || off.is_some() {
        let at = off.map_or(&check.at, |l| &l.at);
        let text = "without `option httpchk` a connection is enough for a check, and the gate's answer is not read";
        desk.open(NO_CHECK, at, text, "write `option httpchk`");
    }
    match section.lines().rfind(|l| l.starts(&["http-check", "expect"])) {
        None => {
            let text = "without `http-check expect status 200` every 2xx and 3xx of the gate counts as open";
            desk.open(ANY_SUCCESS, &check.at, text, "write `http-check expect status 200`");
        }
        Some(expect) => {
            let exact = expect.after("status") == Some("200") && !expect.has("!") && !expect.has("rstatus");
            if !exact {
                let text = "this expects something else than status 200, which is all that an open gate says";
                desk.open(ANY_SUCCESS, &expect.at, text, "write `http-check expect status 200`");
            }
        }
    }
    let default = section.last(&["default-server"]);
    let defaults: Vec<&Line> = section.lines().filter(|l| l.starts(&["default-server"])).collect();
    for server in section.servers() {
        let checked =
            server.has("check") || server.has("track") || default.is_some() && defaults.iter().any(|d| d.has("check"));
        if !checked || server.has("no-check") {
            let backup = if server.has("backup") { "backup server" } else { "server" };
            let text = format!("{backup} {} is never checked, so it is used whatever the gate says", server.word(1));
            desk.open(NO_CHECK, &server.at, text, "write `check` on the line, or `default-server check`");
        } else if server.has("backup") {
            let text = "a backup server is used when the gate has closed the others, if its own check differs";
            desk.warn(SECOND_GATE, &server.at, text, "leave it out, or give it the very same check");
        }
        closes_in_time(desk, server, &defaults);
    }
    if section.servers().next().is_none() {
        desk.unread(&section.at, &format!("{} {} has no servers in this file", section.kind, section.name));
    }
    let connect =
        section.lines().filter(|l| l.starts(&["http-check", "connect"])).filter_map(|l| Some((l, l.after("addr")?)));
    let addresses = section.servers().filter_map(|l| Some((l, l.after("addr")?)));
    for (line, address) in connect.chain(addresses).filter(|(_, a)| !is_unix(a)) {
        over_tcp(desk, &line.at, address);
    }
    let text = "servers count as up from a start or reload until their first check has failed";
    let mend = "ask for each request with http-request lua.auth-request, or `init-state down` (HAProxy 3.1)";
    // Or everything is refused for some time after the start.
    let waits = |l: &Line| l.starts(&["http-request", "deny"]) && l.words.iter().any(|w| w.contains("date()"));
    if all.iter().any(|s| s.own.iter().any(waits)) {
        return;
    }
    if !section.servers().all(|s| s.after("init-state") == Some("down"))
        && !defaults.iter().any(|d| d.after("init-state") == Some("down"))
    {
        desk.warn(LATE, &check.at, text, mend);
    }
}

/// How long after the gate has closed the last request goes through.
fn closes_in_time(desk: &mut Desk<'_>, server: &Line, defaults: &[&Line]) {
    let set = |word: &str| server.after(word).or_else(|| defaults.iter().rev().find_map(|d| d.after(word)));
    // HAProxy's own defaults.
    let inter = set("inter").map_or(Some(2_000), |t| millis(t, 1));
    let fall = set("fall").map_or(Some(3), |t| t.parse::<u64>().ok());
    let (Some(inter), Some(fall)) = (inter, fall) else {
        return desk.unread(&server.at, "`inter` or `fall` is not understood");
    };
    let late = inter.saturating_mul(fall);
    if late > LONGEST_TO_CLOSE_MS {
        let text = format!("requests go through for up to {late} ms after the gate has closed (inter × fall)");
        desk.warn(LATE, &server.at, text, "write `inter 1s fall 1 rise 1`");
    }
}

/// `http-request lua.auth-request BACKEND PATH` and what is done with its answer.
fn by_lua(desk: &mut Desk<'_>, section: &Section, all: &[Section]) -> usize {
    let asks =
        |l: &&Line| l.word(0) == "http-request" && matches!(l.word(1), "lua.auth-request" | "lua.auth-intercept");
    let mut found = 0_usize;
    for (n, ask) in section.own.iter().enumerate().filter(|(_, l)| asks(l)) {
        if !ask.word(3).contains(GATE) {
            let text = format!("this asks {}, which is no gate of keyward", ask.word(3));
            desk.warn(UNGUARDED, &ask.at, text, format!("http-request lua.auth-request BACKEND {GATE}PATH"));
            continue;
        }
        found = found.saturating_add(1);
        if ask.has("if") || ask.has("unless") {
            let text = "the gate is asked for some requests only; the others need a refusal of their own";
            desk.warn(PARTIAL, &ask.at, text, "ask for every request of the section, or write # keyward: meant");
        }
        before(desk, section, n);
        if ask.word(1) == "lua.auth-request" {
            after(desk, section, n, ask);
        }
        match all.iter().find(|s| s.kind == "backend" && s.name == ask.word(2)) {
            Some(gate) => gate_backend(desk, gate),
            None => desk.unread(&ask.at, &format!("the backend {:?} is not in this file", ask.word(2))),
        }
    }
    found
}

/// Rules run in the order of the file.
fn before(desk: &mut Desk<'_>, section: &Section, gate: usize) {
    for line in section.own.iter().take(gate).filter(|l| l.word(0) == "http-request") {
        let allows = match line.word(1) {
            "allow" | "use-service" => true,
            "return" => line.after("status").is_none_or(is_success),
            _ => false,
        };
        if allows {
            let text = format!("`http-request {}` ends the rules before the gate is asked", line.word(1));
            desk.open(BEFORE, &line.at, text, "put it behind the gate's rules");
        }
    }
}

fn after(desk: &mut Desk<'_>, section: &Section, gate: usize, ask: &Line) {
    let rest = || section.own.iter().skip(gate.saturating_add(1)).filter(|l| l.word(0) == "http-request");
    let by_answer = |l: &&Line| l.words.iter().any(|w| w.contains("txn.auth_response_"));
    let ends = |l: &&Line| matches!(l.word(1), "deny" | "return" | "reject" | "silent-drop" | "tarpit" | "redirect");
    let Some(deny) = rest().find(|l| ends(l) && by_answer(l)) else {
        let text = "nothing is done with the gate's answer: there is no deny behind it";
        let mend = "http-request deny unless { var(txn.auth_response_code) -m int 200 }";
        desk.open(NO_DENY, &ask.at, text, mend);
        return;
    };
    if let Some(first) = rest().take_while(|l| !core::ptr::eq(*l, deny)).find(|l| l.word(1) == "allow") {
        let text = "`http-request allow` ends the rules before the gate's answer is looked at";
        desk.open(BEFORE, &first.at, text, "put it behind the deny");
    }
    let status = deny.after("deny_status").or_else(|| deny.after("status"));
    let shown_as_success = status.map_or(deny.word(1) == "return", is_success);
    if shown_as_success {
        desk.open(TURNED, &deny.at, "the refusal has a status of success", "write `deny deny_status 403`");
    }
    let negated = deny.has("unless") || deny.words.iter().any(|w| w.starts_with('!'));
    if !negated {
        let text = "this refuses for some answers only; a gate that does not answer has none of them";
        let mend = "refuse unless it is known to be open: deny unless { var(txn.auth_response_code) -m int 200 }";
        desk.open(NO_DENY, &deny.at, text, mend);
    } else if !deny.words.iter().any(|w| w.contains("auth_response_code")) {
        let text = "auth_response_successful is true for every 2xx, a 204 too; the gate says 200 only";
        let mend = "http-request deny unless { var(txn.auth_response_code) -m int 200 }";
        desk.warn(ANY_SUCCESS, &deny.at, text, mend);
    }
}

/// Where the gate is.
fn gate_backend(desk: &mut Desk<'_>, gate: &Section) {
    let servers: Vec<&Line> = gate.servers().collect();
    if servers.is_empty() {
        desk.unread(&gate.at, &format!("the backend {} has no servers in this file", gate.name));
    }
    for server in &servers {
        if !is_unix(server.word(2)) && !server.has("ssl") {
            over_tcp(desk, &server.at, server.word(2));
        }
        if server.has("backup") {
            let text = "a backup answers when the gate does not, and its yes counts";
            desk.open(SECOND_GATE, &server.at, text, "remove it: a gate that does not answer is closed");
        }
    }
    if let Some(all) = gate.last(&["option", "allbackups"]) {
        let text = "backups answer when the gate does not";
        desk.open(SECOND_GATE, &all.at, text, "remove `option allbackups` and the backups");
    } else if let Some(second) = servers.get(1).filter(|s| !s.has("backup")) {
        let text = "a second server is asked as well, and its yes counts";
        desk.warn(SECOND_GATE, &second.at, text, "name one socket");
    }
    for name in ["connect", "server"] {
        let set = gate.last(&["timeout", name]);
        if set.is_none_or(|l| millis(l.word(2), 1).is_none_or(|ms| ms == 0 || ms > LONGEST_WAIT_MS)) {
            let text = format!("without a short `timeout {name}` a silent gate holds requests");
            desk.warn(NO_TIMEOUT, set.map_or(&gate.at, |l| &l.at), text, format!("write `timeout {name} 2s`"));
        }
    }
}

/// Files that are sent for an error hold the whole answer, status line and all.
fn error_files(desk: &mut Desk<'_>, section: &Section) {
    for line in &section.own {
        let named = match (line.word(0), line.word(1)) {
            ("errorfile", _) => line.words.get(2),
            ("http-error" | "http-request" | "http-response", _) => line
                .words
                .iter()
                .position(|w| w == "errorfile" || w == "default-errorfiles")
                .and_then(|at| line.words.get(at.saturating_add(1))),
            _ => None,
        };
        let Some(name) = named.filter(|n| *n != "/dev/null") else { continue };
        let path = if name.starts_with('/') {
            name.clone()
        } else {
            let dir = line.at.file.rsplit_once('/').map_or(".", |(dir, _)| dir);
            format!("{dir}/{name}")
        };
        match desk.read(&path) {
            Err(why) => desk.unread(&line.at, &format!("this error file cannot be read: {why}")),
            Ok(text) => {
                let status = text.split_whitespace().nth(1).unwrap_or_default().to_owned();
                if !text.starts_with("HTTP/") || is_success(&status) {
                    let shown = if is_success(&status) { status } else { "no status line".to_owned() };
                    let text =
                        format!("what is sent for an error begins with {shown}: a closed gate looks like success");
                    desk.open(TURNED, &line.at, text, "begin the file with the true status: HTTP/1.0 503 …");
                }
            }
        }
    }
}

fn is_unix(address: &str) -> bool {
    address.starts_with('/') || address.starts_with("unix@") || address.starts_with("abns@")
}

fn over_tcp(desk: &mut Desk<'_>, at: &Place, address: &str) {
    let text = format!("the gate is asked at {address}: whatever takes that port may answer for it");
    desk.warn(OVER_TCP, at, text, "ask its Unix socket: unix@/run/keyward/gate.sock");
}

fn parse(file: &str, text: &str) -> Result<Vec<Section>, (Place, String)> {
    let file: Arc<str> = file.into();
    let mut sections: Vec<Section> = Vec::new();
    let mut defaults: Vec<(String, Vec<Line>)> = Vec::new();
    for (n, raw) in text.lines().enumerate() {
        let at = Place { file: file.clone(), line: n.saturating_add(1) };
        let words = words(raw).map_err(|why| (at.clone(), why))?;
        let Some(first) = words.first() else { continue };
        if first.starts_with('.') && first.len() > 1 && first.bytes().skip(1).all(|b| b.is_ascii_lowercase()) {
            return Err((at, format!("conditional blocks (`{first}`) are not understood")));
        }
        if SECTIONS.contains(&first.as_str()) {
            keep_defaults(&sections, &mut defaults);
            let from = words.iter().position(|w| w == "from").and_then(|at| words.get(at.saturating_add(1)));
            let inherited = match from {
                Some(name) => {
                    let named = defaults.iter().find(|(own, _)| own == name);
                    named.ok_or_else(|| (at.clone(), format!("there is no `defaults {name}` before")))?.1.clone()
                }
                None => defaults.last().map(|(_, lines)| lines.clone()).unwrap_or_default(),
            };
            let takes = matches!(first.as_str(), "frontend" | "backend" | "listen");
            sections.push(Section {
                at,
                kind: first.clone(),
                name: words.get(1).cloned().unwrap_or_default(),
                inherited: if takes || from.is_some() { inherited } else { Vec::new() },
                own: Vec::new(),
            });
            continue;
        }
        match sections.last_mut() {
            Some(section) => section.own.push(Line { at, words }),
            None => return Err((at, format!("`{first}` stands before the first section"))),
        }
    }
    Ok(sections)
}

/// What a `defaults` section that has just ended holds for those that follow.
fn keep_defaults(sections: &[Section], defaults: &mut Vec<(String, Vec<Line>)>) {
    if let Some(ended) = sections.last().filter(|s| s.kind == "defaults") {
        defaults.push((ended.name.clone(), ended.lines().cloned().collect()));
    }
}

/// Words of a line: quotes and backslashes as in section 2.2 of HAProxy's manual.
fn words(line: &str) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '#' => break,
            c if c.is_whitespace() => out.extend(word.take()),
            '\\' => match chars.next() {
                Some(next) => word.get_or_insert_default().push(next),
                None => return Err("a line that ends with a backslash is not understood".to_owned()),
            },
            '"' | '\'' => {
                let own = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some(end) if end == c => break,
                        Some('\\') if c == '"' => own.extend(chars.next()),
                        Some(inner) => own.push(inner),
                        None => return Err("a quoted text has no end".to_owned()),
                    }
                }
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    out.extend(word);
    Ok(out)
}
