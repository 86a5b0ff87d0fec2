//! Whether an operator holds for a text, for the few texts that a field can have. The engine's own comparison is compiled
//! for speed; this one is plain.

use super::super::expr::{GlobPart, Op, RegexOp, StrHow, StrOp};
use crate::event::fold;

/// An operator, ready to be held against several texts.
pub(super) enum Ready<'a> {
    Text(&'a StrOp),
    Regex(&'a RegexOp),
    Other(&'a Op),
    /// Whether it holds depends on more than the text.
    Unclear,
}

impl<'a> Ready<'a> {
    pub(super) fn new(op: &'a Op) -> Self {
        match op {
            Op::Str(op) => Ready::Text(op),
            Op::Regex(op) => Ready::Regex(op),
            Op::Num(..) | Op::Bool(_) | Op::Cidr(_) | Op::Null | Op::Exists(_) => Ready::Other(op),
            Op::FieldRef(_) | Op::Time(..) | Op::Never => Ready::Unclear,
        }
    }

    /// Whether it may hold for a value of this text.
    pub(super) fn may_hold(&self, text: &str) -> bool {
        match self {
            Ready::Text(op) => text_holds(op, text),
            Ready::Regex(regex) => regex.is_match(text),
            Ready::Unclear => true,
            Ready::Other(op) => match op {
                Op::Num(cmp, number) => text.trim().parse::<f64>().is_ok_and(|n| cmp.holds(&n, number)),
                Op::Bool(flag) => text.eq_ignore_ascii_case(if *flag { "true" } else { "false" }),
                Op::Cidr(network) => text.parse::<std::net::IpAddr>().is_ok_and(|ip| network.contains(&ip)),
                Op::Exists(there) => *there,
                Op::Null => false,
                _ => true,
            },
        }
    }
}

fn text_holds(op: &StrOp, text: &str) -> bool {
    let text = if op.cased { text.into() } else { fold(text) };
    match &op.how {
        StrHow::Exact(wanted) => *text == **wanted,
        StrHow::Prefix(wanted) => text.starts_with(wanted.as_str()),
        StrHow::Suffix(wanted) => text.ends_with(wanted.as_str()),
        StrHow::Contains(wanted) => text.contains(wanted.as_str()),
        StrHow::Glob(parts) => glob(parts, &text),
    }
}

/// Wildcards by trying out; only for the short texts of this module. The last `*` is the only one to come back to.
fn glob(parts: &[GlobPart], text: &str) -> bool {
    let (mut part, mut rest) = (0, text);
    let mut star: Option<(usize, &str)> = None;
    loop {
        let stepped = match parts.get(part) {
            None if rest.is_empty() => return true,
            None => None,
            Some(GlobPart::Many) => {
                star = Some((part + 1, rest));
                part += 1;
                continue;
            }
            Some(GlobPart::One) => rest.chars().next().map(|c| &rest[c.len_utf8()..]),
            Some(GlobPart::Text(text)) => rest.strip_prefix(text.as_str()),
        };
        match (stepped, star) {
            (Some(after), _) => {
                part += 1;
                rest = after;
            }
            (None, Some((behind, from))) => {
                let Some(c) = from.chars().next() else { return false };
                let from = &from[c.len_utf8()..];
                star = Some((behind, from));
                (part, rest) = (behind, from);
            }
            (None, None) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::strings;
    use super::*;

    #[test]
    fn wildcards() {
        let check = |pattern: &str, text: &str, expected: bool| {
            let op = Op::Str(strings::comparison(strings::parse(pattern), strings::Place::Whole, false));
            assert_eq!(Ready::new(&op).may_hold(text), expected, "{pattern} {text}");
        };
        check("get", "GET", true);
        check("g?t", "get", true);
        check("g?t", "gt", false);
        check("*e*t*", "delete", true);
        check("*e*t", "delete", false);
        check("d*e?e*", "delete", true);
        check("a*b*c", "aXbXbc", true);
        check("*", "", true);
        check("?*", "", false);
    }
}
