//! Conditions that hold for every event, or for none. Only what is certain counts: what is not understood may hold.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write;

use super::super::expr::{Expr, Op, Quantifier, StrHow, StrOp, Test};
use super::holds::Ready;
use crate::event::catalogue::{FieldInfo, Known, Type, find};

/// What is known of a condition without any event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Truth {
    /// It cannot hold, because of these fields.
    Never(Vec<String>),
    /// It holds for every event.
    Always,
    /// It depends.
    Open,
}

/// More comparisons than this are not made for one field.
const COMPARISONS_MAX: usize = 100_000;

/// What is known of a condition.
pub(super) fn of(expr: &Expr) -> Truth {
    judge(expr, false)
}

fn judge(expr: &Expr, in_block: bool) -> Truth {
    match expr {
        Expr::Const(true) => Truth::Always,
        Expr::Const(false) => Truth::Never(Vec::new()),
        Expr::Not(part) => match judge(part, in_block) {
            Truth::Never(_) => Truth::Always,
            Truth::Always => Truth::Never(fields(part)),
            Truth::Open => Truth::Open,
        },
        Expr::And(parts) => {
            let truths: Vec<Truth> = parts.iter().map(|part| judge(part, in_block)).collect();
            if let Some(never) = truths.iter().find(|truth| matches!(truth, Truth::Never(_))) {
                return never.clone();
            }
            if truths.iter().all(|truth| *truth == Truth::Always) {
                return Truth::Always;
            }
            contradiction(expr, false, in_block).map_or(Truth::Open, Truth::Never)
        }
        Expr::Or(parts) => {
            let truths: Vec<Truth> = parts.iter().map(|part| judge(part, in_block)).collect();
            if truths.contains(&Truth::Always) {
                return Truth::Always;
            }
            if truths.iter().all(|truth| matches!(truth, Truth::Never(_))) {
                return Truth::Never(fields(expr));
            }
            contradiction(expr, true, in_block).map_or(Truth::Open, |_| Truth::Always)
        }
        Expr::Test(test) => judge_test(test, in_block),
        Expr::Each(each) => match (each.quantifier, judge(&each.condition, true)) {
            (Quantifier::Any | Quantifier::All | Quantifier::Index(_), Truth::Never(_)) => {
                Truth::Never(vec![each.field.clone()])
            }
            (Quantifier::None, Truth::Never(_)) | (Quantifier::AllOrEmpty, Truth::Always) => Truth::Always,
            _ => Truth::Open,
        },
    }
}

fn judge_test(test: &Test, in_block: bool) -> Truth {
    let Some(name) = test.field.as_deref().filter(|_| !in_block) else { return Truth::Open };
    let field = match find(name) {
        Known::Field(field) => Some(field),
        Known::Below(_) => return Truth::Open,
        Known::BelowScalar(_) | Known::Unknown => None,
    };
    let truth = |op: &Op| match (op, field) {
        (Op::Null | Op::Exists(false), None) => Truth::Always,
        // The site may fill the list.
        (Op::Never, _) => Truth::Open,
        (_, None) => Truth::Never(vec![name.to_owned()]),
        (op, Some(field)) => match super::value::never(field, std::slice::from_ref(op), None) {
            Some(_) => Truth::Never(vec![name.to_owned()]),
            None => Truth::Open,
        },
    };
    let mut never = true;
    for op in &test.any_of {
        match truth(op) {
            Truth::Always => return Truth::Always,
            Truth::Open => never = false,
            Truth::Never(_) => {}
        }
    }
    if never { Truth::Never(vec![name.to_owned()]) } else { Truth::Open }
}

/// The names of the fields of an expression, each once.
fn fields(expr: &Expr) -> Vec<String> {
    fn collect(expr: &Expr, out: &mut BTreeSet<String>) {
        match expr {
            Expr::Const(_) => {}
            Expr::And(parts) | Expr::Or(parts) => parts.iter().for_each(|part| collect(part, out)),
            Expr::Not(part) => collect(part, out),
            Expr::Test(test) => out.extend(test.field.clone()),
            Expr::Each(each) => drop(out.insert(each.field.clone())),
        }
    }
    let mut out = BTreeSet::new();
    collect(expr, &mut out);
    out.into_iter().collect()
}

/// A part of a conjunction, perhaps negated.
type Literal<'e> = (bool, &'e Expr);

/// Whether an expression (the opposite of it, if `negated`) is a conjunction whose parts exclude each other; by which
/// fields.
fn contradiction(expr: &Expr, negated: bool, in_block: bool) -> Option<Vec<String>> {
    let mut literals = Vec::new();
    flatten(expr, negated, &mut literals);
    opposites(&literals).or_else(|| if in_block { None } else { exclusive(&literals) })
}

fn flatten<'e>(expr: &'e Expr, negated: bool, out: &mut Vec<Literal<'e>>) {
    match (expr, negated) {
        (Expr::Not(part), _) => flatten(part, !negated, out),
        (Expr::And(parts), false) | (Expr::Or(parts), true) => {
            parts.iter().for_each(|part| flatten(part, negated, out));
        }
        _ => out.push((negated, expr)),
    }
}

/// A part and its negation side by side.
fn opposites(literals: &[Literal<'_>]) -> Option<Vec<String>> {
    if literals.iter().all(|(negated, _)| *negated) || literals.iter().all(|(negated, _)| !negated) {
        return None;
    }
    let plain: HashSet<String> = literals.iter().filter(|(negated, _)| !negated).map(|(_, expr)| key(expr)).collect();
    let both = literals.iter().find(|(negated, expr)| *negated && plain.contains(&key(expr)));
    both.map(|(_, expr)| fields(expr))
}

/// An expression without the places it is written at.
fn key(expr: &Expr) -> String {
    fn write(expr: &Expr, out: &mut String) {
        let list = |word: &str, parts: &[Expr], out: &mut String| {
            out.push_str(word);
            parts.iter().for_each(|part| write(part, out));
            out.push(')');
        };
        // Writing to a String cannot fail.
        let _ = match expr {
            Expr::And(parts) => return list("and(", parts, out),
            Expr::Or(parts) => return list("or(", parts, out),
            Expr::Not(part) => return list("not(", std::slice::from_ref(part), out),
            Expr::Const(value) => write!(out, "{value};"),
            Expr::Test(test) => write!(out, "{:?}{:?};", test.field, test.any_of),
            Expr::Each(each) => {
                let _ = write!(out, "{:?}{:?}", each.field, each.quantifier);
                return list("(", std::slice::from_ref(&each.condition), out);
            }
        };
    }
    let mut out = String::new();
    write(expr, &mut out);
    out
}

/// Tests of one field with one value that no value passes all of.
fn exclusive(literals: &[Literal<'_>]) -> Option<Vec<String>> {
    let mut by_field: HashMap<&str, Vec<(bool, &Test)>> = HashMap::new();
    for (negated, expr) in literals {
        if let Expr::Test(test @ Test { field: Some(name), .. }) = expr {
            by_field.entry(name).or_default().push((*negated, test));
        }
    }
    let mut names: Vec<&str> = by_field.keys().copied().collect();
    names.sort_unstable();
    let found = names.into_iter().find(|name| {
        let tests = &by_field[name];
        let Known::Field(field) = find(name) else { return false };
        // Several values may pass a test each; and only a test that needs a value rules out that there is none.
        tests.len() > 1
            && !field.many
            && tests.iter().any(|(negated, test)| !negated && needs_value(test))
            && none_passes(field, tests)
    });
    found.map(|name| vec![name.to_owned()])
}

fn needs_value(test: &Test) -> bool {
    test.any_of.iter().all(|op| !matches!(op, Op::Null | Op::Exists(false)))
}

fn none_passes(field: &FieldInfo, tests: &[(bool, &Test)]) -> bool {
    let Some(candidates) = candidates(field, tests) else { return false };
    let operators: usize = tests.iter().map(|(_, test)| test.any_of.len()).sum();
    if candidates.len().saturating_mul(operators) > COMPARISONS_MAX {
        return false;
    }
    let ready: Vec<(bool, Vec<Ready<'_>>)> =
        tests.iter().map(|(negated, test)| (*negated, test.any_of.iter().map(Ready::new).collect())).collect();
    let passes = |text: &String| {
        ready.iter().all(|(negated, ops)| match negated {
            false => ops.iter().any(|op| op.may_hold(text)),
            // What may hold need not.
            true => ops.iter().all(|op| matches!(op, Ready::Unclear) || !op.may_hold(text)),
        })
    };
    !candidates.iter().any(passes)
}

/// All values that are possible at all: those the catalogue lists, or those that one of the tests names.
fn candidates(field: &FieldInfo, tests: &[(bool, &Test)]) -> Option<Vec<String>> {
    match field.kind {
        Type::Words(words) => return Some(words.iter().map(|word| (*word).to_owned()).collect()),
        Type::Bool => return Some(vec!["true".to_owned(), "false".to_owned()]),
        Type::Code => return Some((100..600).map(|code: u16| code.to_string()).collect()),
        _ => {}
    }
    tests.iter().filter(|(negated, _)| !negated).find_map(|(_, test)| {
        let exact = |op: &Op| match op {
            Op::Str(StrOp { how: StrHow::Exact(text), cased: false }) => Some(text.clone()),
            _ => None,
        };
        test.any_of.iter().map(exact).collect::<Option<Vec<String>>>()
    })
}
