//! nginx's configuration as a tree of directives, with its includes in place.

use std::sync::Arc;

use super::{DEEPEST, Desk, Place};

/// One directive.
#[derive(Clone, Debug)]
pub(super) struct Directive {
    pub(super) at: Place,
    pub(super) name: String,
    pub(super) args: Vec<String>,
    /// What stands in its braces.
    pub(super) block: Option<Vec<Directive>>,
}

impl Directive {
    pub(super) fn arg(&self, n: usize) -> &str {
        self.args.get(n).map_or("", String::as_str)
    }

    pub(super) fn inside(&self) -> &[Self] {
        self.block.as_deref().unwrap_or_default()
    }

    /// The last directive of this name directly inside: nginx refuses most that stand twice.
    pub(super) fn own(&self, name: &str) -> Option<&Self> {
        self.inside().iter().rfind(|d| d.name == name)
    }
}

/// Parses a file; an include is replaced by what it names. `None` after something that was not understood.
pub(super) fn parse(desk: &mut Desk<'_>, file: &str, text: &str) -> Option<Vec<Directive>> {
    let prefix = file.rsplit_once('/').map_or(".", |(dir, _)| if dir.is_empty() { "/" } else { dir }).to_owned();
    parse_file(desk, file, text, &prefix, 0)
}

fn parse_file(desk: &mut Desk<'_>, file: &str, text: &str, prefix: &str, depth: usize) -> Option<Vec<Directive>> {
    let tokens = match tokens(file, text) {
        Ok(tokens) => tokens,
        Err((at, why)) => {
            desk.unread(&at, &why);
            return None;
        }
    };
    let mut rest = tokens.into_iter().peekable();
    let parsed = parse_block(desk, &mut rest, prefix, depth);
    if let (Some(_), Some((at, _))) = (&parsed, rest.next()) {
        desk.unread(&at, "a `}` closes nothing");
        return None;
    }
    parsed
}

type Tokens = core::iter::Peekable<std::vec::IntoIter<(Place, Token)>>;

fn parse_block(desk: &mut Desk<'_>, rest: &mut Tokens, prefix: &str, depth: usize) -> Option<Vec<Directive>> {
    let mut out = Vec::new();
    while let Some((at, token)) = rest.next_if(|(_, token)| !matches!(token, Token::Close)) {
        if depth > DEEPEST {
            desk.unread(&at, "blocks or includes are nested too deep");
            return None;
        }
        let Token::Word(name) = token else {
            desk.unread(&at, "a directive is missing here");
            return None;
        };
        let mut directive = Directive { at: at.clone(), name, args: Vec::new(), block: None };
        loop {
            match rest.next() {
                Some((_, Token::Word(word))) => directive.args.push(word),
                Some((_, Token::End)) => break,
                Some((open, Token::Open)) => {
                    if directive.name.ends_with("_by_lua_block") {
                        desk.unread(&open, "Lua in the configuration is not understood");
                        return None;
                    }
                    directive.block = Some(parse_block(desk, rest, prefix, depth.saturating_add(1))?);
                    if !matches!(rest.next(), Some((_, Token::Close))) {
                        desk.unread(&open, "this block has no end");
                        return None;
                    }
                    break;
                }
                Some((_, Token::Close)) | None => {
                    desk.unread(&at, &format!("`{}` has no `;`", directive.name));
                    return None;
                }
            }
        }
        if directive.name == "include" {
            out.extend(include(desk, &directive, prefix, depth)?);
        } else {
            out.push(directive);
        }
    }
    Some(out)
}

fn include(desk: &mut Desk<'_>, directive: &Directive, prefix: &str, depth: usize) -> Option<Vec<Directive>> {
    let named = directive.arg(0);
    let pattern = if named.starts_with('/') { named.to_owned() } else { format!("{prefix}/{named}") };
    let files =
        if pattern.contains(['*', '?', '[']) { desk.source.matches(&pattern) } else { Ok(vec![pattern.clone()]) };
    let mut out = Vec::new();
    for file in files.unwrap_or_else(|_| vec![pattern]) {
        let text = match desk.read(&file) {
            Ok(text) => text,
            Err(why) => {
                desk.unread(&directive.at, &format!("what is included here cannot be read: {why}"));
                return None;
            }
        };
        out.extend(parse_file(desk, &file, &text, prefix, depth.saturating_add(1))?);
    }
    Some(out)
}

enum Token {
    Word(String),
    Open,
    Close,
    End,
}

/// Words, quoted or not, with `;`, `{` and `}` between them. `${name}` stays in its word.
fn tokens(file: &str, text: &str) -> Result<Vec<(Place, Token)>, (Place, String)> {
    let file: Arc<str> = file.into();
    let mut out = Vec::new();
    let mut line = 1_usize;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let at = Place { file: file.clone(), line };
        match c {
            '\n' => line = line.saturating_add(1),
            c if c.is_whitespace() => {}
            '#' => while chars.next_if(|c| *c != '\n').is_some() {},
            ';' => out.push((at, Token::End)),
            '{' => out.push((at, Token::Open)),
            '}' => out.push((at, Token::Close)),
            '"' | '\'' => {
                let mut word = String::new();
                loop {
                    match chars.next() {
                        Some('\\') => word.extend(chars.next()),
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
                while let Some(next) = chars.peek().copied() {
                    match next {
                        '{' if word.ends_with('$') => {}
                        '}' if word.contains("${") && !word.rsplit("${").next().unwrap_or_default().contains('}') => {}
                        ';' | '{' | '}' => break,
                        c if c.is_whitespace() => break,
                        '\\' => {
                            chars.next();
                            word.push('\\');
                            word.extend(chars.next());
                            continue;
                        }
                        _ => {}
                    }
                    word.push(next);
                    chars.next();
                }
                out.push((at, Token::Word(word)));
            }
        }
    }
    Ok(out)
}
