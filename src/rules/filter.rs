//! Sigma filter documents: conditions that are added to the rules they name.

use super::detection::Reader;
use super::diagnostic::Report;
use super::expr::{Expr, Span};
use super::sigma::{array_matching, spanned_texts};
use super::yaml::{Node, Value};
use super::{Meta, Placeholders};

/// A filter before it is applied.
#[derive(Debug, Clone, PartialEq)]
pub struct FilterDraft {
    /// Identity and texts.
    pub meta: Meta,
    /// What must hold besides the rule's own condition.
    pub condition: Expr,
    /// The rules it is for.
    pub rules: Scope,
}

/// Which rules a filter is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All rules.
    Any,
    /// Names or ids, with their places.
    Named(Vec<(String, Span)>),
}

/// Reads a filter document. `None` if anything was wrong, which is then in the report.
pub fn filter(
    document: &Node,
    meta: Option<Meta>,
    placeholders: &Placeholders,
    report: &mut Report,
) -> Option<FilterDraft> {
    let section = document.get("filter")?;
    let arrays = array_matching(document, report);
    let errors = report.errors();
    let condition = Reader { placeholders, arrays, report, blocks: Vec::new() }.section(section, &["rules"]);
    let rules = match section.get("rules").map(|node| &node.value) {
        Some(Value::Text(text)) if text == "any" => Scope::Any,
        _ => Scope::Named(spanned_texts(section, "rules", report)),
    };
    if rules == Scope::Named(Vec::new()) && report.errors() == errors {
        let help = "name rules, or write `rules: any`".to_owned();
        report.error_help("missing-rules", section.span, "the filter names no rules", help);
        return None;
    }
    Some(FilterDraft { meta: meta?, condition: condition?, rules })
}
