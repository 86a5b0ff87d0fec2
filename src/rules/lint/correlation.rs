//! The fields that correlations group by and count.

use std::collections::HashSet;

use super::super::diagnostic::{Diagnostic, Report};
use super::super::expr::Span;
use super::super::yaml::Node;
use super::field;
use crate::event::catalogue::{Known, Type, find};

/// A name of a field in a correlation, to be checked once all files are read: it may be an alias of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    file: String,
    name: String,
    span: Span,
    /// The correlation's type, if it measures the field's numbers.
    measure: Option<&'static str>,
}

/// Types that take the numbers of a field.
const MEASURES: [&str; 4] = ["value_sum", "value_avg", "value_median", "value_percentile"];

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
        let kind = section.get("type").and_then(Node::as_text);
        let measure = MEASURES.into_iter().find(|measure| kind == Some(measure));
        let mut names = Vec::new();
        let mut take = |node: Option<&Node>, measure: Option<&'static str>| {
            let Some(node) = node else { return };
            let items = match &node.value {
                super::super::yaml::Value::List(items) => items.as_slice(),
                _ => std::slice::from_ref(node),
            };
            names.extend(items.iter().filter_map(|item| Some((item.as_text()?.to_owned(), item.span, measure))));
        };
        take(section.get("group-by"), None);
        take(section.get("condition").and_then(|condition| condition.get("field")), measure);
        for alias in section.get("aliases").and_then(Node::as_map).unwrap_or_default() {
            self.aliases.insert(alias.key.clone());
            alias.value.as_map().unwrap_or_default().iter().for_each(|entry| take(Some(&entry.value), None));
        }
        let named = names.into_iter().map(|(name, span, measure)| Named { file: file.to_owned(), name, span, measure });
        self.named.extend(named);
    }

    /// Checks them.
    pub fn check(self) -> Vec<Diagnostic> {
        let mut out = Vec::new();
        for Named { file, name, span, measure } in self.named {
            if !self.aliases.contains(&name) {
                let mut report = Report::linting(&file);
                let known = field::check(&name, span, &mut report);
                if let (Some(measure), Known::Field(field), true) = (measure, find(&name), known)
                    && !matches!(field.kind, Type::Code | Type::Number | Type::Object)
                {
                    let message = format!("`{measure}` can never hold: `{name}` is {}, no number", field.type_name());
                    report.warning("never-matches", span, message);
                }
                out.extend(report.into_list());
            }
        }
        out
    }
}
