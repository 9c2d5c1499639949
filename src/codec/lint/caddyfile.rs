//! The rules for a Caddyfile: `forward_auth`, and what it is short for.
//!
//! Directives run in Caddy's own order, not in that of the file, except inside of `route`. What answers before the gate is
//! asked is therefore found in `route` blocks, and in the global option `order`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{
    ANY_SUCCESS, BEFORE, CACHED, DEEPEST, Desk, GATE, LONGEST_WAIT_MS, NO_TIMEOUT, OVER_TCP, Place, SECOND_GATE,
    SIDE_DOOR, TURNED, UNGUARDED, is_success, millis,
};

/// What answers or hands on.
const ANSWERS: [&str; 6] = ["respond", "reverse_proxy", "file_server", "php_fastcgi", "acme_server", "metrics"];

/// A line with the block behind it.
#[derive(Clone, Debug)]
struct Line {
    at: Place,
    words: Vec<String>,
    block: Option<Vec<Line>>,
}

impl Line {
    fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    fn args(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }

    fn inside(&self) -> &[Self] {
        self.block.as_deref().unwrap_or_default()
    }

    fn own(&self, name: &str) -> Option<&Self> {
        self.inside().iter().find(|l| l.name() == name)
    }

    /// Asks the gate: by the short form, or by what it stands for.
    fn is_gate(&self) -> bool {
        let asks = |name: &str| self.own(name).is_some_and(|l| l.args().iter().any(|a| a.contains(GATE)));
        self.name() == "forward_auth" && asks("uri") || self.name() == "reverse_proxy" && asks("rewrite")
    }

    fn walk<'a>(&'a self, each: &mut impl FnMut(&'a Self)) {
        each(self);
        self.inside().iter().for_each(|l| l.walk(each));
    }
}

pub(super) fn lint(desk: &mut Desk<'_>, file: &str, text: &str) {
    let Some(top) = parse(desk, file, text, 0) else { return };
    let mut snippets = BTreeMap::new();
    for line in &top {
        if let Some(name) = line.name().strip_prefix('(').and_then(|n| n.strip_suffix(')')) {
            snippets.insert(name.to_owned(), line.inside().to_vec());
        }
    }
    let Some(sites) = expand(desk, &top, &snippets, file, 0) else { return };
    let mut gates = 0_usize;
    for site in sites.iter().filter(|l| !l.name().starts_with('(')) {
        if site.words.is_empty() {
            global(desk, site);
            continue;
        }
        let mut own = 0_usize;
        site.walk(&mut |line| own = own.saturating_add(usize::from(line.is_gate())));
        if own > 0 {
            guarded(desk, site);
        }
        gates = gates.saturating_add(own);
    }
    if gates == 0 {
        let how = "write forward_auth unix//run/keyward/gate.sock { uri /v1/gate/PATH } into the site";
        desk.unguarded(file, how);
    }
}

/// The options block, which has no address.
fn global(desk: &mut Desk<'_>, options: &Line) {
    for order in options.inside().iter().filter(|l| l.name() == "order") {
        let (what, where_) =
            (order.args().first().map_or("", String::as_str), order.args().get(1).map_or("", String::as_str));
        let ahead = where_ == "first" || where_ == "before";
        if (ANSWERS.contains(&what) || what == "cache") && ahead
            || what == "forward_auth" && matches!(where_, "last" | "after")
        {
            let text =
                format!("this order lets `{what}` run {where_}, so that something answers before the gate is asked");
            desk.open(BEFORE, &order.at, text, "remove it, or put `order forward_auth first`");
        }
    }
}

/// A site in which the gate is asked somewhere.
fn guarded(desk: &mut Desk<'_>, site: &Line) {
    site.walk(&mut |line| {
        if line.is_gate() {
            gate(desk, site, line);
        }
        match line.name() {
            "route" => route(desk, line),
            "handle_errors" => errors(desk, line),
            "intercept" => intercept(desk, line),
            "cache" => {
                let text = "a cache in a guarded site may answer without asking the gate";
                desk.open(
                    CACHED,
                    &line.at,
                    text,
                    "remove it, or put it behind the gate in a `route` block; then # keyward: meant",
                );
            }
            "forward_auth" if !line.is_gate() => {
                let text = format!("this forward_auth is no gate of keyward: its uri has no {GATE}PATH");
                desk.warn(UNGUARDED, &line.at, text, format!("write `uri {GATE}PATH`, if it is to be one"));
            }
            _ => {}
        }
    });
}

/// Inside of `route` the order of the file holds.
fn route(desk: &mut Desk<'_>, route: &Line) {
    let lines = route.inside();
    let Some(place) = lines.iter().position(|l| l.is_gate()) else { return };
    for line in lines.iter().take(place).filter(|l| ANSWERS.contains(&l.name())) {
        let text =
            format!("`{}` answers before the gate is asked: in `route` the order of the file holds", line.name());
        desk.open(BEFORE, &line.at, text, "put forward_auth first");
    }
}

/// What an error becomes: a gate that does not answer is one.
fn errors(desk: &mut Desk<'_>, errors: &Line) {
    errors.walk(&mut |line| match line.name() {
        "respond" if respond_status(line).is_none_or(is_success) => {
            let text = "an error is answered with 200: a client takes a gate that does not answer for a yes";
            desk.open(TURNED, &line.at, text, "write the status too: respond \"closed\" 403");
        }
        "reverse_proxy" | "php_fastcgi" => {
            let text = format!("when the gate does not answer, `{}` is tried instead", line.name());
            desk.open(TURNED, &line.at, text, "answer errors with a text or a file, and hand nothing on");
        }
        _ => {}
    });
}

fn intercept(desk: &mut Desk<'_>, intercept: &Line) {
    for handler in intercept.inside().iter().filter(|l| l.name() == "handle_response") {
        if !refuses(handler.inside()) {
            let text = "an answer is replaced by one that is no refusal";
            desk.open(TURNED, &handler.at, text, "respond with 403 in it");
        }
    }
}

/// The status of `respond [matcher] [body] [status]` or of its block; `None`: 200.
fn respond_status(line: &Line) -> Option<&str> {
    let number = |w: &&String| w.len() == 3 && w.bytes().all(|b| b.is_ascii_digit());
    line.args().iter().rfind(number).map(String::as_str)
}

/// Whether these handlers do nothing but refuse.
fn refuses(lines: &[Line]) -> bool {
    lines.iter().any(|l| match l.name() {
        "respond" => respond_status(l).is_some_and(|s| s.starts_with(['4', '5'])),
        "error" | "abort" | "copy_response" => true,
        "redir" => true,
        _ => false,
    })
}

/// The gate's own block.
fn gate(desk: &mut Desk<'_>, site: &Line, gate: &Line) {
    let upstreams: Vec<&String> = gate.args().iter().filter(|a| !a.starts_with(['@', '/', '*'])).collect();
    let inner: Vec<&String> = gate.inside().iter().filter(|l| l.name() == "to").flat_map(|l| l.args()).collect();
    let upstreams: Vec<&String> = upstreams.into_iter().chain(inner).collect();
    for upstream in upstreams.iter().filter(|u| !u.starts_with("unix/") && !u.starts_with("https://")) {
        if upstream.contains('{') {
            desk.unread(&gate.at, "whom this asks depends on a placeholder");
            continue;
        }
        let text = format!("the gate is asked at {upstream}: whatever takes that port may answer for it");
        desk.warn(OVER_TCP, &gate.at, text, "ask its Unix socket: unix//run/keyward/gate.sock");
    }
    if upstreams.len() > 1 {
        let text = "a second upstream is asked as well, and its yes counts";
        desk.warn(SECOND_GATE, &gate.at, text, "name one socket: a gate that does not answer is closed");
    }
    let transport = gate.own("transport");
    for name in ["dial_timeout", "response_header_timeout"] {
        let set = transport.and_then(|t| t.own(name)).and_then(|l| l.args().first()).and_then(|a| millis(a, 1));
        if set.is_none_or(|ms| ms == 0 || ms > LONGEST_WAIT_MS) {
            let text = format!("without a short {name} a silent gate holds requests");
            desk.warn(NO_TIMEOUT, &gate.at, text, format!("transport http {{ {name} 2s }}"));
        }
    }
    if gate.name() == "forward_auth" {
        let text = "forward_auth takes every 2xx for a yes, a 204 too; the gate says 200 only";
        let mend = "write it out: reverse_proxy GATE { method GET; rewrite /v1/gate/PATH; @good status 200; handle_response @good { vars gate open } }";
        desk.warn(ANY_SUCCESS, &gate.at, text, mend);
    }
    for handler in gate.inside().iter().filter(|l| l.name() == "handle_response") {
        response(desk, gate, handler);
    }
    side_doors(desk, site, gate);
}

/// `handle_response [@matcher] [status]` in the gate's block: what it does not end goes on to what is guarded.
fn response(desk: &mut Desk<'_>, gate: &Line, handler: &Line) {
    let matcher = handler.args().iter().find(|a| a.starts_with('@'));
    let definition = matcher.and_then(|name| gate.inside().iter().find(|l| l.name() == name));
    // `@name status 200`, or `@name { status 200 }`.
    let short = definition.filter(|d| d.args().first().is_some_and(|a| a == "status"));
    let statuses: Vec<&str> = match (short, definition) {
        (Some(short), _) => short.args().iter().skip(1).map(String::as_str).collect(),
        (None, Some(block)) => {
            block.inside().iter().filter(|l| l.name() == "status").flat_map(|l| l.args()).map(String::as_str).collect()
        }
        (None, None) => Vec::new(),
    };
    if !statuses.is_empty() && statuses.iter().all(|s| *s == "200") {
        return;
    }
    if refuses(handler.inside()) {
        return;
    }
    if !statuses.is_empty() && statuses.iter().all(|s| s.starts_with('2')) {
        let text = format!("{} opens, not only 200", statuses.join(" and "));
        desk.warn(ANY_SUCCESS, &handler.at, text, "match `status 200` alone");
        return;
    }
    let text = "an answer of the gate that is no 200 is handled here and not refused, so that the request goes on";
    desk.open(TURNED, &handler.at, text, "match `@good status 200`, and leave everything else to Caddy");
}

/// The same upstream in a `handle` of its own that asks nobody.
fn side_doors(desk: &mut Desk<'_>, site: &Line, gate: &Line) {
    let holds = |block: &Line| {
        let mut found = false;
        block.walk(&mut |l| found |= core::ptr::eq(l, gate));
        found
    };
    let proxies = |block: &Line| {
        let mut all = Vec::new();
        block.walk(&mut |l| {
            if matches!(l.name(), "reverse_proxy" | "php_fastcgi") && !l.is_gate() {
                all.extend(
                    l.args().iter().filter(|a| !a.starts_with(['@', '/', '*'])).map(|a| (a.clone(), l.at.clone())),
                );
            }
        });
        all
    };
    let is_handle = |l: &&Line| matches!(l.name(), "handle" | "handle_path" | "route");
    let Some(own) = site.inside().iter().filter(is_handle).find(|l| holds(l)) else { return };
    let behind: Vec<String> = proxies(own).into_iter().map(|(to, _)| to).collect();
    for other in
        site.inside().iter().filter(|l| !core::ptr::eq(*l, own) && (is_handle(l) || l.name() == "reverse_proxy"))
    {
        let mut asks = false;
        other.walk(&mut |l| asks |= l.is_gate());
        for (to, at) in proxies(other).into_iter().filter(|(to, _)| !asks && behind.contains(to)) {
            let text = format!("{to} is behind the gate too: what the guarded block does not match reaches it here");
            desk.warn(SIDE_DOOR, &at, text, "ask the gate for the whole site, or write # keyward: meant");
        }
    }
}

/// Puts snippets and files in the place of `import`.
fn expand(
    desk: &mut Desk<'_>,
    lines: &[Line],
    snippets: &BTreeMap<String, Vec<Line>>,
    file: &str,
    depth: usize,
) -> Option<Vec<Line>> {
    let mut out = Vec::new();
    for line in lines {
        if depth > DEEPEST {
            desk.unread(&line.at, "imports are nested too deep");
            return None;
        }
        if line.name() != "import" {
            let block = match &line.block {
                Some(block) => Some(expand(desk, block, snippets, file, depth.saturating_add(1))?),
                None => None,
            };
            out.push(Line { block, ..line.clone() });
            continue;
        }
        let named = line.args().first().map_or("", String::as_str);
        if line.args().len() > 1 || named.contains('{') {
            desk.unread(&line.at, "an import with arguments or placeholders is not understood");
            return None;
        }
        if let Some(snippet) = snippets.get(named) {
            out.extend(expand(desk, snippet, snippets, file, depth.saturating_add(1))?);
            continue;
        }
        let dir = file.rsplit_once('/').map_or(".", |(dir, _)| dir);
        let pattern = if named.starts_with('/') { named.to_owned() } else { format!("{dir}/{named}") };
        let files =
            if pattern.contains(['*', '?']) { desk.source.matches(&pattern) } else { Ok(vec![pattern.clone()]) };
        for own in files.unwrap_or_else(|_| vec![pattern]) {
            let text = match desk.read(&own) {
                Ok(text) => text,
                Err(why) => {
                    desk.unread(&line.at, &format!("what is imported here cannot be read: {why}"));
                    return None;
                }
            };
            let lines = parse(desk, &own, &text, depth)?;
            out.extend(expand(desk, &lines, snippets, &own, depth.saturating_add(1))?);
        }
    }
    Some(out)
}

fn parse(desk: &mut Desk<'_>, file: &str, text: &str, depth: usize) -> Option<Vec<Line>> {
    let parsed = tokens(file, text).and_then(|tokens| {
        let mut rest = tokens.into_iter();
        block(&mut rest, None, depth)
    });
    match parsed {
        Ok(lines) => Some(bare_site(lines, depth)),
        Err((at, why)) => {
            desk.unread(&at, &why);
            None
        }
    }
}

/// A file of one site needs no braces: its first line is the address, and the others are the site.
fn bare_site(lines: Vec<Line>, depth: usize) -> Vec<Line> {
    let is_own = |l: &Line| l.words.is_empty() || l.name().starts_with('(') || l.name() == "import";
    let first = lines.iter().position(|l| !is_own(l));
    match first.and_then(|n| Some((n, lines.get(n)?))) {
        Some((n, site)) if depth == 0 && site.block.is_none() => {
            let (before, rest) = lines.split_at(n);
            let mut site = site.clone();
            site.block = Some(rest.get(1..).unwrap_or_default().to_vec());
            before.iter().cloned().chain([site]).collect()
        }
        _ => lines,
    }
}

enum Token {
    Word(String),
    Open,
    Close,
    Newline,
}

type Wrong = (Place, String);

fn block(
    rest: &mut std::vec::IntoIter<(Place, Token)>,
    opened: Option<&Place>,
    depth: usize,
) -> Result<Vec<Line>, Wrong> {
    let mut out: Vec<Line> = Vec::new();
    let mut line: Option<Line> = None;
    while let Some((at, token)) = rest.next() {
        if depth > DEEPEST {
            return Err((at, "blocks are nested too deep".to_owned()));
        }
        match token {
            Token::Word(word) => {
                line.get_or_insert_with(|| Line { at, words: Vec::new(), block: None }).words.push(word);
            }
            Token::Open => {
                let mut own = line.take().unwrap_or_else(|| Line { at: at.clone(), words: Vec::new(), block: None });
                own.block = Some(block(rest, Some(&at), depth.saturating_add(1))?);
                out.push(own);
            }
            // A comma at its end continues a line of addresses.
            Token::Newline => {
                if !line.as_ref().is_some_and(|l| l.words.last().is_some_and(|w| w.ends_with(','))) {
                    out.extend(line.take());
                }
            }
            Token::Close => {
                out.extend(line.take());
                return if opened.is_some() { Ok(out) } else { Err((at, "a `}` closes nothing".to_owned())) };
            }
        }
    }
    out.extend(line.take());
    match opened {
        Some(at) => Err((at.clone(), "this block has no end".to_owned())),
        None => Ok(out),
    }
}

fn tokens(file: &str, text: &str) -> Result<Vec<(Place, Token)>, Wrong> {
    let file: Arc<str> = file.into();
    let mut out = Vec::new();
    let mut line = 1_usize;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let at = Place { file: file.clone(), line };
        match c {
            '\n' => {
                line = line.saturating_add(1);
                out.push((at, Token::Newline));
            }
            '\\' if chars.next_if_eq(&'\n').is_some() => line = line.saturating_add(1),
            c if c.is_whitespace() => {}
            '#' => while chars.next_if(|c| *c != '\n').is_some() {},
            '"' | '`' => {
                let mut word = String::new();
                loop {
                    match chars.next() {
                        Some('\\') if c == '"' && chars.next_if_eq(&'"').is_some() => word.push('"'),
                        Some(end) if end == c => break,
                        Some(inner) => {
                            line = line.saturating_add(usize::from(inner == '\n'));
                            word.push(inner);
                        }
                        None => return Err((at, "a quoted text has no end".to_owned())),
                    }
                }
                out.push((at, Token::Word(word)));
            }
            c => {
                let mut word = String::from(c);
                while let Some(next) = chars.next_if(|c| !c.is_whitespace()) {
                    word.push(next);
                }
                if word.starts_with("<<") {
                    return Err((at, "a text over several lines (<<) is not understood".to_owned()));
                }
                out.push((
                    at,
                    match word.as_str() {
                        "{" => Token::Open,
                        "}" => Token::Close,
                        _ => Token::Word(word),
                    },
                ));
            }
        }
    }
    Ok(out)
}
