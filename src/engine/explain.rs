//! Why a condition holds for an event, or does not: each of its parts with its verdict and the values that were there.
//!
//! Every part is compiled and judged by itself, as if it were the whole condition, so what is told of it is what the
//! engine would say. That is slow, and meant for one event and a reader.

use std::ops::ControlFlow;

use super::condition::{Condition, Doubt, Verdict};
use super::lookup::look_up_all;
use crate::event::path::Field;
use crate::event::redact;
use crate::event::view::Event;
use crate::rules::expr::{Each, Expr, Quantifier, Span, Test};
use crate::rules::show::show;

/// Most values told of a field.
const VALUES_MAX: usize = 8;
/// Longest text of a part or of a value that is told, in characters.
const TEXT_MAX: usize = 160;

/// A part of a condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// What it asks: `all of`, `any of`, `not`, or a test in one line.
    pub what: String,
    /// Where it stands in its file; 0:0 for what stands nowhere by itself.
    pub span: Span,
    /// Its verdict on the event. `None` for what is asked of the members of an array, each of which has its own.
    pub verdict: Option<Verdict>,
    /// The field's values, redacted and bounded; `None` for a part that looks at no one field.
    pub values: Option<Vec<String>>,
    /// Values that are not told.
    pub more: usize,
    /// The parts it is made of.
    pub parts: Vec<Part>,
}

impl Part {
    /// How many of the tests below it hold, and how many there are.
    pub fn tally(&self) -> (usize, usize) {
        if self.parts.is_empty() || self.values.is_some() {
            return (usize::from(self.verdict == Some(Verdict::True)), 1);
        }
        self.parts.iter().map(Part::tally).fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
    }
}

/// Explains a condition on an event.
///
/// # Errors
/// A regular expression that cannot be compiled.
pub fn explain(expr: &Expr, event: &Event<'_>) -> Result<Part, regex::Error> {
    let verdict = Some(Condition::compile(expr)?.judge(event, &Doubt::default()));
    let all = |parts: &[Expr]| parts.iter().map(|part| explain(part, event)).collect::<Result<Vec<_>, _>>();
    let group = |what: &str, parts| Part {
        what: what.to_owned(),
        span: Span::default(),
        verdict,
        values: None,
        more: 0,
        parts,
    };
    Ok(match expr {
        Expr::Const(value) => group(if *value { "always" } else { "never" }, Vec::new()),
        Expr::And(parts) => group("all of", all(parts)?),
        Expr::Or(parts) => group("any of", all(parts)?),
        Expr::Not(part) => group("not", vec![explain(part, event)?]),
        Expr::Test(test) => Part { verdict, ..of_test(test, "", event) },
        Expr::Each(each) => Part { verdict, ..of_block(each, "", event) },
    })
}

/// A test with the values of its field; `within` is the path of the array around it, with its dot.
fn of_test(test: &Test, within: &str, event: &Event<'_>) -> Part {
    let path = test.field.as_deref().map(|field| format!("{within}{field}"));
    let (values, more) = match path.as_deref().map(|path| path.trim_end_matches('.')) {
        Some(path) if !path.is_empty() => {
            let (values, more) = values(path, event);
            (Some(values), more)
        }
        _ => (None, 0),
    };
    let what = bounded(&show(&Expr::Test(test.clone())));
    Part { what, span: test.span, verdict: None, values, more, parts: Vec::new() }
}

/// An array block with the tests inside. They say what all members together hold.
fn of_block(each: &Each, within: &str, event: &Event<'_>) -> Part {
    let inside = format!("{within}{}.", each.field);
    let quantifier = match each.quantifier {
        Quantifier::Any => "any",
        Quantifier::All => "all",
        Quantifier::AllOrEmpty => "all_or_empty",
        Quantifier::None => "none",
        Quantifier::Index(index) => &index.to_string(),
    };
    let what = format!("{within}{}[{quantifier}], of one and the same member", each.field);
    let mut parts = Vec::new();
    tests_of(&each.condition, &inside, event, &mut parts);
    Part { what, span: each.span, verdict: None, values: None, more: 0, parts }
}

fn tests_of(expr: &Expr, within: &str, event: &Event<'_>, out: &mut Vec<Part>) {
    match expr {
        Expr::Const(_) => {}
        Expr::And(parts) | Expr::Or(parts) => parts.iter().for_each(|part| tests_of(part, within, event, out)),
        Expr::Not(part) => tests_of(part, within, event, out),
        Expr::Test(test) => out.push(of_test(test, within, event)),
        Expr::Each(each) => out.push(of_block(each, within, event)),
    }
}

/// The values of a field as they may be told, and how many there are besides.
fn values(path: &str, event: &Event<'_>) -> (Vec<String>, usize) {
    let secret = redact::is_secret_field(event.resource().unwrap_or(""), event.subresource().unwrap_or(""), path);
    let (mut told, mut all) = (Vec::new(), 0);
    look_up_all(&Field::parse(path), event, &mut |text| {
        all += 1;
        if told.len() < VALUES_MAX {
            told.push(if secret { redact::REDACTED.to_owned() } else { bounded(&redact::text(text)) });
        }
    });
    let more = all - told.len();
    (told, more)
}

fn bounded(text: &str) -> String {
    let mut out = String::new();
    let _ = text.chars().enumerate().try_for_each(|(place, c)| {
        if place == TEXT_MAX {
            out.push('…');
            return ControlFlow::Break(());
        }
        out.push(c);
        ControlFlow::Continue(())
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::walk::testing::with_event;
    use crate::rules::{Placeholders, SourceFile, load};

    #[test]
    fn tells_of_each_part_what_it_found() {
        let check = |detection: &str, event: &str, expected: &[&str]| {
            let text =
                format!("title: t\nsigma-version: 3\nlogsource: {{product: kubernetes}}\ndetection: {detection}\n");
            let (set, problems) = load(&[SourceFile::new("a.yml", text)], &Placeholders::new());
            assert!(problems.is_empty(), "{problems:?}");
            let event = format!(r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1",{event}}}"#);
            let part = with_event(&event, |event| explain(&set.rules[0].condition, event).unwrap());
            let mut lines = Vec::new();
            flatten(&part, &mut lines);
            assert_eq!(lines, expected, "{detection}");
        };
        check(
            "{s: {verb: get, user.username: bob}, condition: s}",
            r#""verb":"get","user":{"username":"alice"}"#,
            &["- all of", "+ verb 'get' = get", "- user.username 'bob' = alice"],
        );
        check(
            "{s: {verb: get}, f: {user.groups|contains: x}, condition: s and not f}",
            r#""verb":"get","user":{"username":"a","groups":["g","h"]}"#,
            &["+ all of", "+ verb 'get' = get", "+ not", "- user.groups ..'x'.. = g h"],
        );
        check(
            "{s: {'requestObject.spec.containers[any]': {image|startswith: e, name: c}}, condition: s}",
            r#""verb":"create","level":"Request","requestObject":{"spec":{"containers":[{"name":"c","image":"evil"}]}}"#,
            &[
                "+ requestObject.spec.containers[any], of one and the same member",
                "  image 'e'.. = evil",
                "  name 'c' = c",
            ],
        );
        check(
            "{s: {requestObject.data.k|startswith: s}, condition: s}",
            r#""verb":"create","level":"Request","objectRef":{"resource":"secrets"},"requestObject":{"data":{"k":"hush"}}"#,
            &["- requestObject.data.k 's'.. = [redacted]"],
        );
        check(
            "{s: {requestObject.spec.replicas|gt: 5}, condition: s}",
            r#""verb":"create","level":"Metadata""#,
            &["? requestObject.spec.replicas Gt(5) ="],
        );
    }

    fn flatten(part: &Part, out: &mut Vec<String>) {
        let mark = match part.verdict {
            Some(Verdict::True) => "+",
            Some(Verdict::False) => "-",
            Some(Verdict::Unknown) => "?",
            None => " ",
        };
        let values = part.values.as_ref().map_or(String::new(), |values| format!(" = {}", values.join(" ")));
        out.push(format!("{mark} {}{values}", part.what).trim_end().to_owned());
        part.parts.iter().for_each(|part| flatten(part, out));
    }
}
