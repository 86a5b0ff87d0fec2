//! The values of a field of an event, for tests and for what matches carry along.

use std::ops::ControlFlow;

use crate::event::json::Kind;
use crate::event::path::{Fast, Field, Part, Path, Root};
use crate::event::view::{Event, Slot};
use crate::event::walk::{Missing, Node};

/// Where fields of members are looked up.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    /// The member.
    pub(super) member: Node<'a>,
    /// Whether it is part of a patch.
    pub(super) partial: bool,
}

/// Shows `visit` every value of a field and says what kept the look-up from being sure.
pub(super) fn look_up<'a>(
    field: &Field,
    event: &Event<'a>,
    scope: Option<Scope<'a>>,
    visit: &mut dyn FnMut(Node<'a>) -> ControlFlow<()>,
) -> Missing {
    let mut missing = Missing::default();
    let mut found = false;
    let mut watched = |node| {
        found = true;
        visit(node)
    };
    match field.root {
        Root::Fast(Fast::Code) => {
            if let Some(code) = event.code() {
                let _ = watched(Node::Text(bumpalo::format!(in event.arena(), "{}", code).into_bump_str()));
            }
        }
        Root::Fast(fast) => {
            if let Some(text) = fast_text(fast, event) {
                let _ = watched(Node::Text(text));
            }
        }
        Root::Slot(slot) => missing = slot_values(slot, &field.path, event, &mut watched),
        Root::Derived(derived) => {
            missing = match event.lacks(field) {
                Some(missing) => missing,
                None => event.derived(derived, &field.path, &mut watched),
            }
        }
        Root::Event => drop(event.walk(Node::Json(event.raw()), &field.path, &mut watched)),
        Root::Member => {
            if let Some(scope) = scope {
                let _ = event.walk(scope.member, &field.path, &mut watched);
                missing.partial = scope.partial;
            }
        }
        Root::Anything => drop(event.anything(&mut watched)),
    }
    // What a patch says it says for certain; only its silence leaves doubt.
    missing.partial &= !found;
    missing.malformed |= event.take_malformed();
    missing
}

/// Shows `visit` the text of every scalar of a field of the event.
pub fn look_up_all(field: &Field, event: &Event<'_>, visit: &mut dyn FnMut(&str)) {
    if let Some(text) = sole_text(field, event) {
        return text.into_iter().for_each(visit);
    }
    let _ = look_up(field, event, None, &mut |node| {
        event.scalars(node, &mut |scalar| {
            if let Some(text) = scalar_text(event, scalar) {
                visit(text);
            }
            ControlFlow::Continue(())
        })
    });
}

/// The text of a field that has one at most, and takes no walk; `None` for the others.
#[inline]
pub(super) fn sole_text<'a>(field: &Field, event: &Event<'a>) -> Option<Option<&'a str>> {
    match field.root {
        Root::Fast(Fast::Code) => None,
        Root::Fast(fast) => Some(fast_text(fast, event)),
        Root::Derived(derived) if field.path.0.is_empty() => event.derived_text(derived),
        _ => None,
    }
}

fn fast_text<'a>(fast: Fast, event: &Event<'a>) -> Option<&'a str> {
    match fast {
        Fast::Verb => event.verb(),
        Fast::Resource => event.resource(),
        Fast::Subresource => event.subresource(),
        Fast::Namespace => event.namespace(),
        Fast::Name => event.name(),
        Fast::ApiGroup => event.api_group(),
        Fast::Username => event.username(),
        Fast::RequestUri => event.uri(),
        Fast::UserAgent => event.user_agent(),
        Fast::Code => None,
    }
}

fn slot_values<'a>(
    slot: Slot,
    path: &Path,
    event: &Event<'a>,
    visit: &mut dyn FnMut(Node<'a>) -> ControlFlow<()>,
) -> Missing {
    let mut missing = Missing::default();
    if matches!(slot, Slot::RequestObject | Slot::ResponseObject) && event.body_dropped(slot) {
        missing.dropped = true;
    } else if let Some(value) = extra_key(slot, path).and_then(|key| event.extra_value(key)) {
        let _ = value.map(|raw| visit(Node::Json(raw)));
    } else if is_groups(slot, path) && !event.has_duplicate_keys() {
        let _ = event.groups_raw().map(|raw| visit(Node::Json(raw)));
    } else if !path.0.is_empty() && event.is_merged(slot) {
        event.walk_merged(slot, path, visit);
    } else if let Some(raw) = event.slot(slot) {
        let _ = event.walk(Node::Json(raw), path, visit);
        // A patch body names only what it changes.
        missing.partial = slot == Slot::RequestObject && event.verb() == Some("patch");
    }
    missing
}

/// Whether the path leads to the user's groups, which are known where they stand once.
fn is_groups(slot: Slot, path: &Path) -> bool {
    slot == Slot::User && matches!(&*path.0, [Part::Run(run)] if &**run == "groups")
}

/// The key in `user.extra` that the path names.
fn extra_key(slot: Slot, path: &Path) -> Option<&str> {
    match &*path.0 {
        [Part::Run(run)] if slot == Slot::User => run.strip_prefix("extra."),
        _ => None,
    }
}

/// The text of a scalar; numbers and booleans by their spelling.
pub fn scalar_text<'a>(event: &Event<'a>, node: Node<'a>) -> Option<&'a str> {
    match node {
        Node::Text(text) => Some(text),
        Node::Bool(true) => Some("true"),
        Node::Bool(false) => Some("false"),
        Node::Json(raw) | Node::Patch { pointer: "", value: raw } => match event.doc().kind(raw) {
            Kind::String => event.text(raw),
            Kind::Number | Kind::Bool => std::str::from_utf8(event.doc().bytes(raw)).ok(),
            Kind::Object | Kind::Array | Kind::Null => None,
        },
        Node::Patch { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::walk::testing::with_event;

    /// What is known of where a field stands is what a walk from the event's root finds.
    #[test]
    fn groups_are_found_where_a_walk_finds_them() {
        for (user, expected) in [
            (r#""user":{"username":"u","groups":["a","b\u0063"]}"#, "a bc"),
            (r#""user":{"groups":["a",["b",null,1]],"more":1}"#, "a b 1"),
            (r#""user":{"gr\u006fups":"a"}"#, "a"),
            (r#""user":{"groups":[]}"#, ""),
            (r#""user":{"groups":{"groups":["a"]}}"#, ""),
            (r#""user":{"username":"u"}"#, ""),
            (r#""user":["groups"]"#, ""),
            (r#""user":null"#, ""),
            (r#""verb":"get""#, ""),
        ] {
            let known = Field::parse("user.groups");
            assert_eq!(known.root, Root::Slot(Slot::User));
            let walked = Field { root: Root::Event, path: Path::parse("user.groups"), ..known.clone() };
            let found = |event: &Event<'_>, field: &Field| {
                let mut found = Vec::new();
                look_up_all(field, event, &mut |text| found.push(text.to_owned()));
                found.join(" ")
            };
            with_event(&format!("{{{user}}}"), |event| {
                assert_eq!(found(event, &known), expected, "{user}");
                assert_eq!(found(event, &walked), expected, "{user}");
            });
        }
    }
}
