//! Makes trees of the parser's events, and holds what they may cost.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use granit_parser::{Event, Marker, ScalarStyle, Tag};

use super::scalar::{self, Kind};
use super::{Entry, Node, Span, Value, YamlError};

/// How deep maps and lists may nest. Whatever walks a tree may therefore recurse.
pub(super) const MAX_DEPTH: usize = 48;

// Room for a file of ten thousand rules, none for what grows without being written (aliases).
const MAX_DOCUMENTS: usize = 50_000;
const MAX_NODES: usize = 2_000_000;
const MAX_EVENTS: usize = 5_000_000;
const MAX_TEXT_BYTES: usize = 64 << 20;
/// Events that aliases repeat in one document.
const MAX_REPEATED: usize = 100_000;
/// Events kept for aliases to repeat, in all of a file; a node in a node that has a name too is kept twice.
const MAX_NAMED: usize = 100_000;
const MAX_NAMED_BYTES: usize = 4 << 20;

/// A document on its way from events to a tree.
pub(super) struct Composer<'a> {
    source: &'a str,
    /// Lists and maps that have not ended, the outermost first.
    open: Vec<Open>,
    /// What the open lists hold so far, one behind the other, and what the open maps hold.
    items: Vec<Node>,
    entries: Vec<Entry>,
    root: Option<Node>,
    /// What is wrong with the document, the earliest such place.
    broken: Option<YamlError>,
    /// By the parser's number; `None` while the node has not ended.
    named: HashMap<usize, Named>,
    spent: Cost,
    repeated: usize,
    named_events: usize,
    named_bytes: usize,
    documents: Vec<Node>,
    errors: Vec<YamlError>,
}

struct Open {
    span: Span,
    anchor: usize,
    /// Where its own begin in `items` or `entries`.
    first: usize,
    /// What only a map has.
    map: Option<OpenMap>,
}

#[derive(Default)]
struct OpenMap {
    key: Option<Key>,
    /// What merge keys (`<<`) bring in.
    merged: Vec<Entry>,
}

enum Key {
    Text(String, Span),
    Merge,
}

struct Named {
    node: Node,
    cost: Cost,
    depth: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    documents: usize,
    nodes: usize,
    events: usize,
    text_bytes: usize,
}

impl Cost {
    fn add(&mut self, more: Cost) {
        self.documents += more.documents;
        self.nodes += more.nodes;
        self.events += more.events;
        self.text_bytes += more.text_bytes;
    }

    /// What of it is too much for a file.
    fn excess(&self) -> Option<&'static str> {
        match self {
            cost if cost.events > MAX_EVENTS => Some("events"),
            cost if cost.documents > MAX_DOCUMENTS => Some("documents"),
            cost if cost.nodes > MAX_NODES => Some("nodes"),
            cost if cost.text_bytes > MAX_TEXT_BYTES => Some("bytes of text"),
            _ => None,
        }
    }
}

impl<'a> Composer<'a> {
    pub(super) fn new(source: &'a str) -> Self {
        Composer {
            source,
            open: Vec::new(),
            items: Vec::new(),
            entries: Vec::new(),
            root: None,
            broken: None,
            named: HashMap::new(),
            spent: Cost::default(),
            repeated: 0,
            named_events: 0,
            named_bytes: 0,
            documents: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// The documents, and what is wrong with those that are left out.
    pub(super) fn finish(self) -> (Vec<Node>, Vec<YamlError>) {
        (self.documents, self.errors)
    }

    /// Takes the next event. An error loses the whole file.
    pub(super) fn take(&mut self, event: Event<'_>, at: &granit_parser::Span) -> Result<(), YamlError> {
        let span = span_of(&at.start);
        self.spend(span, Cost { events: 1, ..Cost::default() })?;
        match event {
            Event::Scalar(text, style, anchor, tag) => self.scalar(text, style, anchor, tag.as_deref(), at),
            Event::SequenceStart(_, anchor, tag) => {
                let kind = Kind::of(tag.as_deref());
                self.start(span, anchor, kind.fits_list(), tag.as_deref(), self.items.len(), None)
            }
            Event::MappingStart(_, anchor, tag) => {
                let kind = Kind::of(tag.as_deref());
                let map = Some(OpenMap::default());
                self.start(span, anchor, kind.fits_map(), tag.as_deref(), self.entries.len(), map)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(name) => self.alias(name, span),
            Event::DocumentStart(..) => self.spend(span, Cost { documents: 1, ..Cost::default() }),
            Event::DocumentEnd => {
                self.end_document();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn spend(&mut self, span: Span, more: Cost) -> Result<(), YamlError> {
        self.spent.add(more);
        match self.spent.excess() {
            Some(what) => Err(too_large(what, span)),
            None => Ok(()),
        }
    }

    fn scalar(
        &mut self,
        text: Cow<'_, str>,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        at: &granit_parser::Span,
    ) -> Result<(), YamlError> {
        let span = span_of(&at.start);
        self.spend(span, Cost { nodes: 1, text_bytes: text.len(), ..Cost::default() })?;
        let (kind, plain) = (Kind::of(tag), style == ScalarStyle::Plain);
        let merges = text == "<<" && (kind == Kind::Merge || tag.is_none() && plain);
        if merges
            && let Some(key @ None) = self.open.last_mut().and_then(|open| open.map.as_mut()).map(|map| &mut map.key)
        {
            *key = Some(Key::Merge);
            return Ok(());
        }
        let Some(value) = Some(kind).filter(|kind| kind.fits_scalar()).and_then(|_| scalar::value(text, plain, kind))
        else {
            return Err(unfit(tag, "what stands here", span));
        };
        let verbatim = match &value {
            Value::Text(text) => at.start.byte_offset().and_then(|start| verbatim_at(self.source, start, text)),
            _ => None,
        };
        self.place(Node { span, value, verbatim }, anchor)
    }

    fn start(
        &mut self,
        span: Span,
        anchor: usize,
        fits: bool,
        tag: Option<&Tag>,
        first: usize,
        map: Option<OpenMap>,
    ) -> Result<(), YamlError> {
        self.spend(span, Cost { nodes: 1, ..Cost::default() })?;
        if self.open.len() == MAX_DEPTH {
            return Err(too_deep(span));
        }
        if !fits {
            return Err(unfit(tag, if map.is_some() { "a map" } else { "a list" }, span));
        }
        self.open.push(Open { span, anchor, first, map });
        Ok(())
    }

    fn end(&mut self) -> Result<(), YamlError> {
        let Some(Open { span, anchor, first, map }) = self.open.pop() else { return Ok(()) };
        let value = match map {
            None => Value::List(self.items.drain(first..).collect()),
            Some(map) => {
                if let Some(error) = twice(&self.entries[first..]) {
                    self.breaks(error);
                }
                if !map.merged.is_empty() {
                    // What a map says itself stands before what it takes from others, and the first of them before the next.
                    let mut own: HashSet<String> =
                        self.entries[first..].iter().map(|entry| entry.key.clone()).collect();
                    self.entries.extend(map.merged.into_iter().filter(|entry| own.insert(entry.key.clone())));
                }
                Value::Map(self.entries.drain(first..).collect())
            }
        };
        self.place(Node { span, value, verbatim: None }, anchor)
    }

    /// Puts a node where it belongs: into the list or the map that is open, as a key or as a value.
    fn place(&mut self, node: Node, anchor: usize) -> Result<(), YamlError> {
        if anchor != 0 {
            self.name(anchor, &node)?;
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        let Some(map) = &mut open.map else {
            self.items.push(node);
            return Ok(());
        };
        match map.key.take() {
            Some(Key::Text(key, key_span)) => self.entries.push(Entry { key, key_span, value: node }),
            Some(Key::Merge) => merge(node, &mut map.merged)?,
            None => {
                let (span, kind) = (node.span, node.kind());
                let text = into_text(node.value);
                let broken = text.is_none();
                map.key = Some(Key::Text(text.unwrap_or_default(), span));
                if broken {
                    self.breaks(YamlError { message: format!("a key must be a text, not {kind}"), span });
                }
            }
        }
        Ok(())
    }

    /// Notes an error of which only this document dies.
    fn breaks(&mut self, error: YamlError) {
        let place = |error: &YamlError| (error.span.line, error.span.column);
        if self.broken.as_ref().is_none_or(|earlier| place(&error) < place(earlier)) {
            self.broken = Some(error);
        }
    }

    /// Keeps a node for aliases.
    fn name(&mut self, anchor: usize, node: &Node) -> Result<(), YamlError> {
        let (cost, depth) = measure(node);
        self.named_events += cost.events;
        self.named_bytes += cost.text_bytes;
        if self.named_events > MAX_NAMED || self.named_bytes > MAX_NAMED_BYTES {
            return Err(too_large("anchors", node.span));
        }
        self.named.insert(anchor, Named { node: node.clone(), cost, depth });
        Ok(())
    }

    fn alias(&mut self, name: usize, span: Span) -> Result<(), YamlError> {
        let Some(Named { node, cost, depth }) = self.named.get(&name) else {
            return Err(YamlError { message: "the alias stands inside of what it names".to_owned(), span });
        };
        self.repeated += cost.events;
        self.spent.add(*cost);
        if let Some(what) = self.spent.excess().or((self.repeated > MAX_REPEATED).then_some("aliases")) {
            return Err(too_large(what, span));
        }
        if self.open.len() + depth > MAX_DEPTH {
            return Err(too_deep(span));
        }
        let node = moved(node, span);
        self.place(node, 0)
    }

    fn end_document(&mut self) {
        self.named.clear();
        self.repeated = 0;
        match (self.broken.take(), self.root.take()) {
            (Some(error), _) => self.errors.push(error),
            (None, Some(root)) if root.value != Value::Null => self.documents.push(root),
            (None, _) => {}
        }
    }
}

pub(super) fn span_of(marker: &Marker) -> Span {
    let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Span { line: narrow(marker.line()), column: narrow(marker.col() + 1) }
}

fn too_large(what: &str, span: Span) -> YamlError {
    let message = format!("the file is too large for a rule file, or grows when its aliases are followed ({what})");
    YamlError { message, span }
}

fn too_deep(span: Span) -> YamlError {
    YamlError { message: format!("the file is nested deeper than {MAX_DEPTH}"), span }
}

fn unfit(tag: Option<&Tag>, what: &str, span: Span) -> YamlError {
    let tag = tag.map(Tag::original).unwrap_or_default();
    YamlError { message: format!("the tag `{tag}` does not fit {what}"), span }
}

/// How many characters of quoting stand before `text` at a place of the source, if it stands there as it is.
fn verbatim_at(source: &str, start: usize, text: &str) -> Option<u32> {
    let rest = source.get(start..)?;
    let quoted = rest.starts_with(['"', '\'']);
    rest.get(usize::from(quoted)..)?.starts_with(text).then_some(u32::from(quoted))
}

fn into_text(value: Value) -> Option<String> {
    match value {
        Value::Bool(is) => Some(is.to_string()),
        Value::Number(number) => Some(number.text),
        Value::Text(text) => Some(text),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    }
}

/// The earliest key that stands a second time.
fn twice(entries: &[Entry]) -> Option<YamlError> {
    let (second, first) = match entries.len() {
        0..=16 => (1..entries.len())
            .find_map(|at| Some((at, entries[..at].iter().position(|entry| entry.key == entries[at].key)?)))?,
        _ => {
            let mut order: Vec<usize> = (0..entries.len()).collect();
            order.sort_unstable_by_key(|&at| (entries[at].key.as_str(), at));
            let pairs = order.windows(2).filter(|pair| entries[pair[0]].key == entries[pair[1]].key);
            pairs.map(|pair| (pair[1], pair[0])).min()?
        }
    };
    let (key, Span { line, column }) = (&entries[second].key, entries[first].key_span);
    let message = format!("the key `{key}` stands twice in one map (first at {line}:{column})");
    Some(YamlError { message, span: entries[second].key_span })
}

/// The entries of a merge key's value: a map or a list of maps.
fn merge(node: Node, into: &mut Vec<Entry>) -> Result<(), YamlError> {
    match node.value {
        Value::Null => {}
        Value::Map(entries) => into.extend(entries),
        Value::List(items) => items.into_iter().try_for_each(|item| merge(item, into))?,
        _ => {
            let message = "the merge key `<<` takes a map or a list of maps".to_owned();
            return Err(YamlError { message, span: node.span });
        }
    }
    Ok(())
}

/// What an alias to the node costs, and how deep it nests.
fn measure(node: &Node) -> (Cost, usize) {
    let scalar = |text: &str| Cost { nodes: 1, events: 1, text_bytes: text.len(), documents: 0 };
    let (mut cost, mut depth) = (scalar(node.as_text().unwrap_or_default()), 0);
    let mut inner = |node: &Node| {
        let (more, below) = measure(node);
        cost.add(more);
        depth = depth.max(below);
    };
    match &node.value {
        Value::List(items) => items.iter().for_each(inner),
        Value::Map(entries) => {
            entries.iter().for_each(|entry| inner(&entry.value));
            entries.iter().for_each(|entry| cost.add(scalar(&entry.key)));
        }
        _ => return (cost, 0),
    }
    // A list and a map end, too.
    cost.events += 1;
    (cost, depth + 1)
}

/// A copy of the node that stands where the alias stands, whole.
pub(super) fn moved(node: &Node, span: Span) -> Node {
    let value = match &node.value {
        Value::List(items) => Value::List(items.iter().map(|item| moved(item, span)).collect()),
        Value::Map(entries) => {
            let copy =
                |entry: &Entry| Entry { key: entry.key.clone(), key_span: span, value: moved(&entry.value, span) };
            Value::Map(entries.iter().map(copy).collect())
        }
        scalar => scalar.clone(),
    };
    Node { span, value, verbatim: None }
}
