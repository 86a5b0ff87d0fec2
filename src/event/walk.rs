//! Looking a path up in an event: longest key first, through arrays, without building a tree.

use std::ops::ControlFlow;

use super::json::{Kind, Raw};
use super::keys::Mark;
use super::path::{Part, Path};
use super::view::{Event, Members, NewMembers};

/// How deep arrays may be nested in arrays before a walk gives up (and the rule that asked is unknown). Objects are
/// bounded by the path's length.
const ARRAYS_MAX: u32 = 64;

/// A value that a path led to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Node<'a> {
    /// A value of the event's text.
    Json(Raw),
    /// The value of a JSON Patch operation (RFC 6902), with the rest of its pointer still to be walked: as if it stood
    /// there in an otherwise empty object.
    Patch {
        /// The rest of the pointer, with its leading slash; empty at the value itself.
        pointer: &'a str,
        /// The operation's value.
        value: Raw,
    },
    /// Text of a derived field.
    Text(&'a str),
    /// A boolean of a derived field.
    Bool(bool),
}

/// What a walk found besides what it showed its visitor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Missing {
    /// A body was asked for that the API server did not log (below its audit level, or truncated).
    pub dropped: bool,
    /// A partial object (a patch) says nothing about the path.
    pub partial: bool,
    /// Bytes were met that are no JSON, or nesting too deep to follow.
    pub malformed: bool,
}

impl Missing {
    /// Whether anything kept the walk from a certain answer.
    pub fn any(self) -> bool {
        self.dropped || self.partial || self.malformed
    }

    /// Both together.
    pub fn or(self, other: Missing) -> Missing {
        Missing {
            dropped: self.dropped | other.dropped,
            partial: self.partial | other.partial,
            malformed: self.malformed | other.malformed,
        }
    }
}

/// The visitor of a walk; it may stop it.
pub type Visit<'v, 'a> = dyn FnMut(Node<'a>) -> ControlFlow<()> + 'v;

impl<'a> Event<'a> {
    /// Shows `visit` every value that `path` leads to from `node`. Arrays on the way stand for each of their members; an
    /// array at the end is shown as such.
    pub fn walk(&self, node: Node<'a>, path: &Path, visit: &mut Visit<'_, 'a>) -> ControlFlow<()> {
        self.descend(node, &path.0, "", 0, visit)
    }

    fn descend(
        &self,
        node: Node<'a>,
        parts: &[Part],
        run: &str,
        arrays: u32,
        visit: &mut Visit<'_, 'a>,
    ) -> ControlFlow<()> {
        let (parts, run) = match (run, parts) {
            ("", []) => return visit(node),
            ("", [Part::Run(first), rest @ ..]) => (rest, &**first),
            ("", [Part::Key(key), rest @ ..]) => return self.enter_key(node, key, rest, arrays, visit),
            _ => (parts, run),
        };
        match node {
            Node::Json(raw) => match self.doc.kind(raw) {
                Kind::Object => match self.longest(raw, run) {
                    Some((value, used)) => {
                        let rest = run[used..].trim_start_matches('.');
                        self.descend(Node::Json(value), parts, rest, arrays, visit)
                    }
                    None => ControlFlow::Continue(()),
                },
                Kind::Array => {
                    self.through_array(raw, arrays, &mut |member, depth| self.descend(member, parts, run, depth, visit))
                }
                _ => ControlFlow::Continue(()),
            },
            // a pointer that ends with an index (`/volumes/-`) has led to a member: its value is what is asked
            Node::Patch { pointer, value } if skip_index(pointer).is_empty() => {
                self.descend(Node::Json(value), parts, run, arrays, visit)
            }
            Node::Patch { pointer, value } => match fits(pointer, run) {
                Some((rest_pointer, rest_run)) => {
                    self.descend(Node::Patch { pointer: rest_pointer, value }, parts, rest_run, arrays, visit)
                }
                None => ControlFlow::Continue(()),
            },
            Node::Text(_) | Node::Bool(_) => ControlFlow::Continue(()),
        }
    }

    fn enter_key(
        &self,
        node: Node<'a>,
        key: &str,
        parts: &[Part],
        arrays: u32,
        visit: &mut Visit<'_, 'a>,
    ) -> ControlFlow<()> {
        match node {
            Node::Json(raw) => match self.doc.kind(raw) {
                Kind::Object => match self.member(raw, key) {
                    Some(value) => self.descend(Node::Json(value), parts, "", arrays, visit),
                    None => ControlFlow::Continue(()),
                },
                Kind::Array => self
                    .through_array(raw, arrays, &mut |member, depth| self.enter_key(member, key, parts, depth, visit)),
                _ => ControlFlow::Continue(()),
            },
            Node::Patch { pointer, value } if skip_index(pointer).is_empty() => {
                self.enter_key(Node::Json(value), key, parts, arrays, visit)
            }
            Node::Patch { pointer, value } => {
                let (segment, rest) = first_segment(skip_index(pointer));
                if unescape_segment(segment) == key {
                    self.descend(Node::Patch { pointer: rest, value }, parts, "", arrays, visit)
                } else {
                    ControlFlow::Continue(())
                }
            }
            Node::Text(_) | Node::Bool(_) => ControlFlow::Continue(()),
        }
    }

    fn through_array(
        &self,
        raw: Raw,
        arrays: u32,
        step: &mut dyn FnMut(Node<'a>, u32) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if arrays >= ARRAYS_MAX {
            self.malformed.set(true);
            return ControlFlow::Continue(());
        }
        if let Some(elements) = self.elements(raw) {
            for element in elements {
                step(Node::Json(*element), arrays + 1)?;
            }
            return ControlFlow::Continue(());
        }
        for element in self.doc.elements(raw) {
            let Ok(element) = element else {
                self.malformed.set(true);
                break;
            };
            step(Node::Json(element), arrays + 1)?;
        }
        ControlFlow::Continue(())
    }

    /// The elements of an array of objects, kept as the members of objects are; `None` if it holds anything else, or is not
    /// well-formed: then it is cheap to walk, or has to be walked up to its flaw.
    fn elements(&self, array: Raw) -> Option<&'a [Raw]> {
        if self.doc.text.get(array.start + 1) != Some(&b'{') {
            return None;
        }
        if let Some(elements) = self.kept.arrays.get(array.start) {
            return Some(elements);
        }
        let mut elements = bumpalo::collections::Vec::new_in(self.arena);
        for element in self.doc.elements(array) {
            elements.push(element.ok()?);
        }
        let elements = elements.into_bump_slice();
        self.kept.arrays.put(array.start, elements, self.arena);
        Some(elements)
    }

    /// The members of an object. Many rules walk the same few objects, so they are kept once found; `None` (and the event
    /// malformed) if they are not well-formed.
    pub(super) fn members(&self, object: Raw) -> Option<Members<'a>> {
        if let Some(members) = self.kept.objects.get(object.start) {
            return Some(members);
        }
        let mut members = NewMembers::new(self.arena);
        for member in self.doc.members(object) {
            let Ok((key, value)) = member else {
                self.malformed.set(true);
                return None;
            };
            members.add(&self.doc, key, value);
        }
        let members = members.done();
        self.kept.objects.put(object.start, members, self.arena);
        Some(members)
    }

    /// The member of the object whose key is the longest prefix of `run` that ends at a dot, and how much of `run` it
    /// used. Of equal keys the last counts, as for the API server's decoder.
    fn longest(&self, object: Raw, run: &str) -> Option<(Raw, usize)> {
        let members = self.members(object)?;
        let mut best: Option<(Raw, usize)> = None;
        for (key, value) in members.marked(Mark::of(run.as_bytes())) {
            let name = self.doc.name(key).unwrap_or_default();
            // The boundary first: it alone rules most names out.
            let fits = !name.is_empty()
                && (run.len() == name.len() || run.as_bytes().get(name.len()) == Some(&b'.'))
                && run.as_bytes().starts_with(&name);
            if fits && best.is_none_or(|(_, used)| name.len() >= used) {
                best = Some((value, name.len()));
            }
        }
        best
    }

    /// The member of the object with exactly this key, the last one if there are several.
    pub(super) fn member(&self, object: Raw, key: &str) -> Option<Raw> {
        let members = self.members(object)?;
        let mut found = None;
        for (name, value) in members.marked(Mark::of(key.as_bytes())) {
            if self.doc.key_is(name, key) {
                found = Some(value);
            }
        }
        found
    }

    /// The same for an object that is looked into once only: its members are not kept.
    pub(super) fn find_member(&self, object: Raw, key: &str) -> Option<Raw> {
        let mut found = None;
        for member in self.doc.members(object) {
            let Ok((name, value)) = member else {
                self.malformed.set(true);
                return None;
            };
            if self.doc.key_is(name, key) {
                found = Some(value);
            }
        }
        found
    }

    /// Shows `visit` the members of an array; a value that is no array is shown as it is.
    pub fn each(&self, node: Node<'a>, visit: &mut Visit<'_, 'a>) -> ControlFlow<()> {
        match node {
            Node::Json(raw) if self.doc.kind(raw) == Kind::Array => {
                self.through_array(raw, 0, &mut |member, _| visit(member))
            }
            Node::Patch { pointer: "", value } => self.each(Node::Json(value), visit),
            Node::Patch { pointer, value } => {
                let rest = skip_index(pointer);
                if rest.len() == pointer.len() { visit(node) } else { visit(Node::Patch { pointer: rest, value }) }
            }
            _ => visit(node),
        }
    }

    /// Shows `visit` the scalars of a node: the value itself, or the members of an array, of arrays in it, and so on.
    pub fn scalars(&self, node: Node<'a>, visit: &mut Visit<'_, 'a>) -> ControlFlow<()> {
        self.flatten(node, 0, visit)
    }

    fn flatten(&self, node: Node<'a>, arrays: u32, visit: &mut Visit<'_, 'a>) -> ControlFlow<()> {
        match node {
            Node::Json(raw) if self.doc.kind(raw) == Kind::Array => {
                self.through_array(raw, arrays, &mut |member, depth| self.flatten(member, depth, visit))
            }
            Node::Patch { pointer, value } if skip_index(pointer).is_empty() => {
                self.flatten(Node::Json(value), arrays, visit)
            }
            _ => visit(node),
        }
    }

    /// Whether a node is JSON null.
    pub fn is_null(&self, node: Node<'a>) -> bool {
        match node {
            Node::Json(raw) | Node::Patch { pointer: "", value: raw } => self.doc.kind(raw) == Kind::Null,
            _ => false,
        }
    }

    /// Shows `visit` every string and number of the event, keys included, for keywords.
    pub fn anything(&self, visit: &mut Visit<'_, 'a>) -> ControlFlow<()> {
        let end = self.raw().end;
        let mut at = self.raw().start;
        while let Some(open) = self.doc.structure.next_quote(at).filter(|open| *open < end) {
            let Some(close) = self.doc.structure.next_quote(open + 1) else { break };
            for token in self.doc.text[at..open].split(|b| !matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
            {
                if token.first().is_some_and(|b| b.is_ascii_digit() || *b == b'-') {
                    let start = token.as_ptr() as usize - self.doc.text.as_ptr() as usize;
                    visit(Node::Json(Raw { start, end: start + token.len() }))?;
                }
            }
            visit(Node::Json(Raw { start: open, end: close + 1 }))?;
            at = close + 1;
        }
        ControlFlow::Continue(())
    }
}

impl Event<'_> {
    /// The string that the place `at` stands in, if it stands in one; from `outside` of all strings on up to there, one
    /// after the other is passed.
    pub fn string_around(&self, outside: usize, at: usize) -> Option<Raw> {
        let mut next = outside;
        loop {
            let open = self.doc.structure.next_quote(next).filter(|open| *open <= at)?;
            next = self.doc.structure.next_quote(open + 1)? + 1;
            if at < next {
                return Some(Raw { start: open, end: next });
            }
        }
    }
}

impl<'a> Members<'a> {
    /// The members whose keys may be the one with this mark.
    #[inline]
    fn marked(self, mark: Mark) -> impl Iterator<Item = (Raw, Raw)> + use<'a> {
        let (marks, list) = if self.any & mark.bit() == 0 { Default::default() } else { (self.marks, self.list) };
        let fits = move |(have, _): &(&Mark, _)| have.may_be(mark);
        marks.iter().zip(list).filter(fits).map(|(_, member)| *member)
    }
}

/// Takes the first segment off a pointer (which starts with a slash).
pub(super) fn first_segment(pointer: &str) -> (&str, &str) {
    let body = pointer.strip_prefix('/').unwrap_or(pointer);
    body.split_at(body.find('/').unwrap_or(body.len()))
}

/// A pointer without its leading array index (`/0/…`, `/-/…`), if it has one.
fn skip_index(pointer: &str) -> &str {
    let (segment, rest) = first_segment(pointer);
    let index = segment == "-" || (!segment.is_empty() && segment.bytes().all(|b| b.is_ascii_digit()));
    if index { rest } else { pointer }
}

pub(super) fn unescape_segment(segment: &str) -> std::borrow::Cow<'_, str> {
    if segment.contains('~') { segment.replace("~1", "/").replace("~0", "~").into() } else { segment.into() }
}

/// Matches the pointer's next key (array indexes before it stand for "some member") with the start of `run`; the rests
/// of both.
fn fits<'p, 'r>(pointer: &'p str, run: &'r str) -> Option<(&'p str, &'r str)> {
    let (segment, rest) = first_segment(skip_index(pointer));
    let key = unescape_segment(segment);
    let behind = run.strip_prefix(&*key).filter(|_| !key.is_empty())?;
    match behind.strip_prefix('.') {
        Some(behind) => Some((rest, behind)),
        None if behind.is_empty() => Some((rest, behind)),
        None => None,
    }
}

/// An event to walk in tests; made by the worker's own path through the text.
#[cfg(test)]
pub(crate) mod testing {
    use bumpalo::Bump;

    use super::super::json::Doc;
    use super::super::site::Site;
    use super::super::structure::Structure;
    use super::*;

    /// Runs `test` on the event in `text`.
    pub fn with_event<T>(text: &str, test: impl FnOnce(&Event<'_>) -> T) -> T {
        with_site(text, &Site::default(), test)
    }

    /// Runs `test` on the event in `text`, at this site.
    pub fn with_site<T>(text: &str, site: &Site, test: impl FnOnce(&Event<'_>) -> T) -> T {
        let (mut structure, arena) = (Structure::default(), Bump::new());
        let doc = Doc::new(structure.build(text.as_bytes()).unwrap(), &structure);
        let raw = doc.value(0).unwrap();
        test(&Event::parse(doc, raw, &arena, site, "prod").unwrap())
    }

    /// What nodes say, as text.
    pub fn show(event: &Event<'_>, node: Node<'_>) -> String {
        match node {
            Node::Json(raw) => String::from_utf8_lossy(event.doc.bytes(raw)).into_owned(),
            Node::Patch { pointer, value } => {
                format!("{pointer}={}", String::from_utf8_lossy(event.doc.bytes(value)))
            }
            Node::Text(text) => text.to_owned(),
            Node::Bool(bool) => bool.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{show, with_event};
    use super::*;

    fn check(text: &str, path: &str, expected: &[&str]) {
        let found = with_event(text, |event| {
            let mut found = Vec::new();
            let _ = event.walk(Node::Json(event.raw()), &Path::parse(path), &mut |node| {
                found.push(show(event, node));
                ControlFlow::Continue(())
            });
            found
        });
        assert_eq!(found, expected, "{path} in {text}");
    }

    #[test]
    fn walks_by_the_longest_key_and_through_arrays() {
        let event = r#"{"annotations":{"a":{"b":1},"a.b":2,"a.b/c":3},"x":[{"y":[1,2]},{"y":3},{"z":4}],"k\u0065y":5,"d":1,"d":2}"#;
        check(event, "annotations.a.b", &["2"]);
        check(event, "annotations.a.b/c", &["3"]);
        check(event, "annotations.\"a\".b", &["1"]);
        check(event, "x.y", &["[1,2]", "3"]);
        check(event, "x", &["[{\"y\":[1,2]},{\"y\":3},{\"z\":4}]"]);
        check(event, "key", &["5"]);
        check(event, "d", &["2"]);
        check(event, "nothing.here", &[]);
        check(event, "d.e", &[]);
    }

    #[test]
    fn a_million_levels_are_no_matter() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        with_event(&deep, |event| {
            let _ = event.walk(Node::Json(event.raw()), &Path::parse("a.b"), &mut |_| ControlFlow::Continue(()));
            assert!(event.take_malformed());
        });
    }

    #[test]
    fn pointers_of_patches_fit_paths() {
        for (pointer, run, expected) in [
            ("/spec/containers/0/image", "spec.containers.image", Some(("/containers/0/image", "containers.image"))),
            ("/0/image", "image", Some(("", ""))),
            ("/-", "image", None),
            ("/metadata/labels/a~1b.c", "metadata.labels.a/b.c", Some(("/labels/a~1b.c", "labels.a/b.c"))),
            ("/a~1b.c", "a/b.c", Some(("", ""))),
            ("/spec", "specs", None),
        ] {
            assert_eq!(fits(pointer, run), expected, "{pointer} {run}");
        }
    }
}
