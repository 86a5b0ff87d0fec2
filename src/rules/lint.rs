//! Checks beyond what a rule needs to run: fields that no event has, values that can never match, conditions that always
//! or never hold, attributes that the specification spells otherwise. All of them are warnings: such a rule runs, but
//! hardly as it was meant.

pub mod correlation;
mod field;
mod holds;
pub mod meta;
mod truth;
mod value;

use super::diagnostic::Report;
use super::expr::{Expr, Op, Span};
use super::yaml::Node;
use crate::event::catalogue::{Known, find};

/// A test of a field as it is written: one value, or all values of one list.
#[derive(Debug, Clone, Copy)]
pub struct Leaf<'a> {
    /// The field as written, below the arrays around.
    pub field: &'a str,
    /// The paths of the arrays around, outermost first.
    pub within: &'a [String],
    /// Where the field is written.
    pub span: Span,
}

impl Leaf<'_> {
    /// The field's path from the event on.
    fn path(&self) -> String {
        let mut path = self.within.join(".");
        if !self.field.is_empty() && self.field != "." {
            if !path.is_empty() {
                path.push('.');
            }
            path += self.field;
        }
        path
    }
}

/// Checks the field of a test. `false`: no event has it, and there is no use in looking at its values.
pub fn leaf(leaf: Leaf<'_>, report: &mut Report) -> bool {
    field::check(&leaf.path(), leaf.span, report)
}

/// Checks one value of a test, after its field.
pub fn value(leaf: Leaf<'_>, value: &Node, ops: &[Op], report: &mut Report) {
    for op in ops {
        if let Op::FieldRef(other) = op {
            field::check(&other.field, value.span, report);
        }
    }
    let path = leaf.path();
    if let Known::Field(known) = find(&path)
        && let Some(found) = value::never(known, ops, value.as_text())
    {
        report.warning_help("never-matches", value.span, found.message, found.help);
    }
}

/// Checks a whole condition: does it ever hold, does it ever not?
pub fn condition(condition: &Expr, what: &str, span: Span, report: &mut Report) {
    match truth::of(condition) {
        truth::Truth::Never(why) => {
            let message = match why.is_empty() {
                true => format!("{what} can never hold"),
                false => format!("{what} can never hold, because of {}", names(&why)),
            };
            report.warning("always-false", span, message);
        }
        truth::Truth::Always => report.warning("always-true", span, format!("{what} holds for every event")),
        truth::Truth::Open => {}
    }
}

/// Names of fields for a message; a few are enough.
fn names(fields: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<String> = fields.iter().take(SHOWN).map(|field| format!("`{field}`")).collect();
    let more = if fields.len() > SHOWN { " and others" } else { "" };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests;
