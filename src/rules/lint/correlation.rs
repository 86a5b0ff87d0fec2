//! The fields that correlations group by and count.

use std::collections::HashSet;

use super::super::diagnostic::{Diagnostic, Report};
use super::super::expr::Span;
use super::super::yaml::Node;
use super::field;

/// A name of a field in a correlation, to be checked once all files are read: it may be an alias of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    file: String,
    name: String,
    span: Span,
}

/// The names of fields in correlations, over all files.
#[derive(Debug, Default)]
pub struct Names {
    named: Vec<Named>,
    aliases: HashSet<String>,
}

impl Names {
    /// Takes in the names that a correlation document uses.
    pub fn collect(&mut self, document: &Node, file: &str) {
        let Some(section) = document.get("correlation") else { return };
        let mut names = Vec::new();
        let mut take = |node: Option<&Node>| {
            let Some(node) = node else { return };
            let items = match &node.value {
                super::super::yaml::Value::List(items) => items.as_slice(),
                _ => std::slice::from_ref(node),
            };
            names.extend(items.iter().filter_map(|item| Some((item.as_text()?.to_owned(), item.span))));
        };
        take(section.get("group-by"));
        take(section.get("condition").and_then(|condition| condition.get("field")));
        for alias in section.get("aliases").and_then(Node::as_map).unwrap_or_default() {
            self.aliases.insert(alias.key.clone());
            alias.value.as_map().unwrap_or_default().iter().for_each(|entry| take(Some(&entry.value)));
        }
        self.named.extend(names.into_iter().map(|(name, span)| Named { file: file.to_owned(), name, span }));
    }

    /// Checks them.
    pub fn check(self) -> Vec<Diagnostic> {
        let mut out = Vec::new();
        for Named { file, name, span } in self.named {
            if !self.aliases.contains(&name) {
                let mut report = Report::linting(&file);
                field::check(&name, span, &mut report);
                out.extend(report.into_list());
            }
        }
        out
    }
}
