//! What an exec or attach runs, and where: it stands in the query of the URI only.

use std::ops::ControlFlow;

use super::uri::{self, Query};
use super::view::Event;
use super::walk::{Node, Visit};

impl<'a> Event<'a> {
    /// Shows `visit` the values of a parameter of the request's query.
    pub(super) fn exec_values(&self, key: &str, visit: &mut Visit<'_, 'a>) {
        if !matches!(self.subresource(), Some("exec" | "attach")) {
            return;
        }
        let Some(uri) = self.uri() else { return };
        for (name, value) in Query::of(uri) {
            if name == key && visit(Node::Text(uri::decode(value, self.arena))).is_break() {
                return;
            }
        }
    }

    /// The command's words, joined by blanks.
    pub(super) fn command_line(&self) -> Option<&'a str> {
        let mut line = bumpalo::collections::String::new_in(self.arena);
        self.exec_values("command", &mut |node| {
            if let Node::Text(word) = node {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
            ControlFlow::Continue(())
        });
        (!line.is_empty()).then(|| line.into_bump_str() as &'a str)
    }
}
