//! YAML, and so JSON, as a tree that knows its lines.

use std::collections::BTreeMap;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, Span};

use super::{DEEPEST, Place};

/// Aliases may name what has aliases: all of it together has at most so many nodes.
const MOST_NODES: usize = 200_000;

/// A value with its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) at: Place,
    pub(super) value: Value,
    /// It and all below it.
    size: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Scalar(String),
    List(Vec<Arc<Node>>),
    /// In the order of the file.
    Map(Vec<(String, Arc<Node>)>),
}

impl Node {
    /// The value of a key.
    pub(super) fn key(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(pairs) => pairs.iter().find(|(k, _)| k == key).map(|(_, v)| &**v),
            Value::Scalar(_) | Value::List(_) => None,
        }
    }

    /// The value below several keys.
    pub(super) fn path(&self, keys: &[&str]) -> Option<&Self> {
        keys.iter().try_fold(self, |node, key| node.key(key))
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text) => Some(text),
            Value::List(_) | Value::Map(_) => None,
        }
    }

    pub(super) fn is_true(&self) -> bool {
        matches!(self.text(), Some("true" | "True" | "TRUE"))
    }

    pub(super) fn list(&self) -> &[Arc<Self>] {
        match &self.value {
            Value::List(items) => items,
            Value::Scalar(_) | Value::Map(_) => &[],
        }
    }

    pub(super) fn pairs(&self) -> &[(String, Arc<Self>)] {
        match &self.value {
            Value::Map(pairs) => pairs,
            Value::Scalar(_) | Value::List(_) => &[],
        }
    }

    /// Calls `each` with this node and with every one below it.
    pub(super) fn walk<'a>(&'a self, each: &mut impl FnMut(&'a Self)) {
        each(self);
        self.list().iter().for_each(|n| n.walk(each));
        self.pairs().iter().for_each(|(_, n)| n.walk(each));
    }
}

/// Parses one document.
///
/// # Errors
/// Where it stops being understood, and why.
pub(super) fn parse(file: &str, text: &str) -> Result<Arc<Node>, (Place, String)> {
    let mut tree = Tree { file: file.into(), stack: Vec::new(), anchors: BTreeMap::new(), nodes: 0, root: None };
    let mut documents = 0_usize;
    // JSON may be indented by tabs, YAML may not; in a JSON text a tab never stands inside of a string.
    let json = text.contains('\t') && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    let text = if json { std::borrow::Cow::Owned(text.replace('\t', " ")) } else { std::borrow::Cow::Borrowed(text) };
    for event in Parser::new_from_str(&text) {
        let (event, span) = event.map_err(|e| (tree.place(e.marker().line()), e.info().to_owned()))?;
        if matches!(event, Event::DocumentStart(..)) {
            documents = documents.saturating_add(1);
            if documents > 1 {
                return Err((tree.at(&span), "a second document begins here, and only one is read".to_owned()));
            }
        }
        tree.take(event, &span).map_err(|why| (tree.at(&span), why))?;
    }
    tree.root.ok_or_else(|| (Place::start(file), "there is nothing in it".to_owned()))
}

/// What is open.
enum Open {
    List(Place, usize, Vec<Arc<Node>>),
    /// With the key that waits for its value.
    Map(Place, usize, Vec<(String, Arc<Node>)>, Option<String>),
}

struct Tree {
    file: Arc<str>,
    stack: Vec<Open>,
    anchors: BTreeMap<usize, Arc<Node>>,
    nodes: usize,
    root: Option<Arc<Node>>,
}

impl Tree {
    fn place(&self, line: usize) -> Place {
        Place { file: self.file.clone(), line }
    }

    fn at(&self, span: &Span) -> Place {
        self.place(span.start.line())
    }

    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), String> {
        let at = self.at(span);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) | Event::DocumentEnd => {
                Ok(())
            }
            Event::Alias(id) => {
                let node = self.anchors.get(&id).cloned().ok_or("this alias names nothing")?;
                self.put(node, 0)
            }
            Event::Scalar(text, _, anchor, _) => {
                let value = Value::Scalar(text.into_owned());
                self.put(Arc::new(Node { at, value, size: 1 }), anchor)
            }
            Event::SequenceStart(anchor, _) => self.push(Open::List(at, anchor, Vec::new())),
            Event::MappingStart(anchor, _) => self.push(Open::Map(at, anchor, Vec::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => {
                let (at, anchor, value) = match self.stack.pop() {
                    Some(Open::List(at, anchor, items)) => (at, anchor, Value::List(items)),
                    Some(Open::Map(at, anchor, pairs, None)) => (at, anchor, Value::Map(pairs)),
                    Some(Open::Map(..)) | None => return Err("this ends nothing".to_owned()),
                };
                let below: usize = match &value {
                    Value::Scalar(_) => 0,
                    Value::List(items) => items.iter().map(|n| n.size).fold(0, usize::saturating_add),
                    Value::Map(pairs) => pairs.iter().map(|(_, n)| n.size).fold(0, usize::saturating_add),
                };
                self.put(Arc::new(Node { at, value, size: below.saturating_add(1) }), anchor)
            }
        }
    }

    fn push(&mut self, open: Open) -> Result<(), String> {
        self.stack.push(open);
        if self.stack.len() > DEEPEST { Err("this is nested too deep".to_owned()) } else { Ok(()) }
    }

    fn put(&mut self, node: Arc<Node>, anchor: usize) -> Result<(), String> {
        self.nodes = self.nodes.saturating_add(node.size);
        if self.nodes > MOST_NODES {
            return Err(format!("with its aliases it has more than {MOST_NODES} values"));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Open::List(_, _, items)) => items.push(node),
            Some(Open::Map(_, _, pairs, waiting)) => match waiting.take() {
                Some(key) => pairs.push((key, node)),
                None => {
                    let key = node.text().ok_or("a key is no text")?.to_owned();
                    if key == "<<" {
                        return Err("merge keys are not understood".to_owned());
                    }
                    if pairs.iter().any(|(k, _)| *k == key) {
                        return Err(format!("the key {key:?} stands twice: programs differ in which of them counts"));
                    }
                    *waiting = Some(key);
                }
            },
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_and_json_are_one_tree_with_lines() {
        for text in ["a:\n  b: [1, two]\n  c: 'true'\n", "{\"a\":\n {\"b\": [1, \"two\"],\n \"c\": \"true\"}}"] {
            let root = parse("x", text).unwrap();
            let c = root.path(&["a", "c"]).unwrap();
            assert_eq!((c.text(), c.at.line), (Some("true"), 3), "{text}");
            assert_eq!(root.path(&["a", "b"]).unwrap().list().len(), 2);
        }
    }

    #[test]
    fn what_programs_read_differently_is_not_understood() {
        let bomb = (0..30).fold("a0: &a0 [x,x]\n".to_owned(), |t, n| format!("{t}a{0}: &a{0} [*a{n},*a{n}]\n", n + 1));
        let deep = "[".repeat(200);
        for bad in ["a: 1\na: 2\n", "a: 1\n---\nb: 2\n", "<<: {a: 1}\n", "a: *b\n", "a: [1\n", "", &bomb, &deep] {
            assert!(parse("x", bad).is_err(), "{:?}", &bad[..bad.len().min(40)]);
        }
    }
}
