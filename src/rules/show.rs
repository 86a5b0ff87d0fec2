//! Expressions in one line: what `auditwatch explain` tells of a part of a condition, and the tests' tables.

use super::expr::{Expr, FieldRefHow, GlobPart, Op, RegexOp, StrHow, Test};

/// An expression in one line.
pub fn show(expr: &Expr) -> String {
    let join = |parts: &[Expr], word: &str| {
        format!("({})", parts.iter().map(show).collect::<Vec<_>>().join(&format!(" {word} ")))
    };
    match expr {
        Expr::Const(value) => value.to_string(),
        Expr::And(parts) => join(parts, "&"),
        Expr::Or(parts) => join(parts, "|"),
        Expr::Not(part) => format!("!{}", show(part)),
        Expr::Test(test) => show_test(test),
        Expr::Each(each) => format!("{}[{:?}]{{{}}}", each.field, each.quantifier, show(&each.condition)),
    }
}

fn show_test(test: &Test) -> String {
    let ops: Vec<String> = test.any_of.iter().map(show_op).collect();
    let field = match test.field.as_deref() {
        None => "ANY",
        Some("") => "IT",
        Some(field) => field,
    };
    format!("{field} {}", ops.join(","))
}

fn show_op(op: &Op) -> String {
    match op {
        Op::Exists(true) => "exists".into(),
        Op::Exists(false) => "absent".into(),
        Op::Null => "null".into(),
        Op::Str(op) => format!("{}{}", if op.cased { "^" } else { "" }, show_text(&op.how)),
        Op::Regex(RegexOp { pattern, case_insensitive, multi_line, dot_matches_new_line, .. }) => {
            let flags = [(case_insensitive, "i"), (multi_line, "m"), (dot_matches_new_line, "s")];
            let flags: String = flags.into_iter().filter(|(on, _)| **on).map(|(_, flag)| flag).collect();
            format!("/{pattern}/{flags}")
        }
        Op::Num(cmp, number) => format!("{cmp:?}({number})"),
        Op::Bool(value) => value.to_string(),
        Op::Cidr(network) => format!("in({network})"),
        Op::FieldRef(op) => {
            let how = match op.how {
                FieldRefHow::Num(cmp) => format!("{cmp:?}"),
                how => format!("{how:?}"),
            };
            format!("{}ref-{how}({})", if op.cased { "^" } else { "" }, op.field)
        }
        Op::Time(part, cmp, number) => format!("{part:?}-{cmp:?}({number})"),
        Op::Never => "never".into(),
    }
}

fn show_text(how: &StrHow) -> String {
    match how {
        StrHow::Exact(text) => format!("'{text}'"),
        StrHow::Prefix(text) => format!("'{text}'.."),
        StrHow::Suffix(text) => format!("..'{text}'"),
        StrHow::Contains(text) => format!("..'{text}'.."),
        StrHow::Glob(parts) => {
            let shown = parts.iter().map(|part| match part {
                GlobPart::Text(text) => text.as_str(),
                GlobPart::One => "<?>",
                GlobPart::Many => "<*>",
            });
            format!("glob'{}'", shown.collect::<String>())
        }
    }
}
