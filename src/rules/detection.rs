//! Named selections and their condition (the `detection` of a rule, a filter, or an array block) to one expression.

use std::collections::HashMap;

use super::Placeholders;
use super::condition::{self, Condition};
use super::diagnostic::{Report, did_you_mean};
use super::expr::{Each, Expr, Op, Span, Test};
use super::modifiers::{self, Modifiers};
use super::path::{self, Step};
use super::yaml::{Entry, Node, Value};

/// The most operators that one condition may come to once its selections are written out.
pub const MAX_SIZE: usize = 200_000;
/// The most selections of one section.
pub const MAX_SELECTIONS: usize = 1000;
/// The most array blocks that may stand in each other.
pub const MAX_BLOCKS: usize = 8;

/// Reads the detections of one document.
pub struct Reader<'a> {
    /// Values for `expand`.
    pub placeholders: &'a Placeholders,
    /// Whether array selectors such as `[any]` are switched on (`sigma-version: 3`).
    pub arrays: bool,
    /// Where problems go.
    pub report: &'a mut Report,
    /// How many array blocks are around.
    pub blocks: usize,
}

/// Several parts, all of which must hold.
pub fn and(mut parts: Vec<Expr>) -> Expr {
    if parts.len() == 1 { parts.remove(0) } else { Expr::And(parts) }
}

fn or(mut parts: Vec<Expr>) -> Expr {
    if parts.len() == 1 { parts.remove(0) } else { Expr::Or(parts) }
}

/// How many operators an expression has.
pub fn size(expr: &Expr) -> usize {
    match expr {
        Expr::Const(_) => 1,
        Expr::And(parts) | Expr::Or(parts) => 1 + parts.iter().map(size).sum::<usize>(),
        Expr::Not(part) => 1 + size(part),
        Expr::Test(test) => 1 + test.any_of.len(),
        Expr::Each(each) => 1 + size(&each.condition),
    }
}

impl Reader<'_> {
    /// A map of selections with their `condition`, to one expression. Keys in `reserved` are not selections. `None` if
    /// anything was wrong, which is then in the report.
    pub fn section(&mut self, section: &Node, reserved: &[&str]) -> Option<Expr> {
        let Some(entries) = section.as_map() else {
            let message = format!("a map of selections and a condition is expected, not {}", section.kind());
            self.report.error("wrong-value", section.span, message);
            return None;
        };
        let mut selections = Selections::default();
        for entry in entries {
            if entry.key == "timeframe" {
                let message = "`timeframe` has no effect; write a correlation document";
                self.report.warning("timeframe-ignored", entry.key_span, message);
            } else if entry.key != "condition" && !reserved.contains(&entry.key.as_str()) {
                let expr = self.selection(&entry.value);
                selections.add(&entry.key, entry.key_span, expr);
            }
        }
        if selections.list.len() > MAX_SELECTIONS {
            let message = format!("there are more than {MAX_SELECTIONS} selections");
            self.report.error("too-large", section.span, message);
            return None;
        }
        let Some(written) = section.get("condition") else {
            let help = "add `condition: selection`".to_owned();
            self.report.error_help("missing-condition", section.span, "there is no `condition`", help);
            return None;
        };
        let texts = match &written.value {
            Value::List(items) if !items.is_empty() => items.iter().collect(),
            _ => vec![written],
        };
        // Several conditions are several queries with one meaning: any of them.
        let parts: Vec<Option<Expr>> = texts.iter().map(|text| self.condition(text, &mut selections)).collect();
        for (name, span) in selections.unused() {
            self.report.warning("unused-selection", span, format!("the condition does not use `{name}`"));
        }
        if selections.size > MAX_SIZE {
            let message = format!("the condition comes to more than {MAX_SIZE} tests");
            self.report.error("too-large", written.span, message);
            return None;
        }
        parts.into_iter().collect::<Option<Vec<_>>>().map(or)
    }

    fn condition(&mut self, node: &Node, selections: &mut Selections) -> Option<Expr> {
        let Value::Text(text) = &node.value else {
            let message = format!("a condition is a text, not {}", node.kind());
            self.report.error("wrong-value", node.span, message);
            return None;
        };
        match condition::parse(text) {
            Ok(condition) => self.lower(&condition, node, selections),
            Err(error) => {
                let span = node.span_at(error.offset);
                self.report.error_help("bad-condition", span, error.message, error.help.map(str::to_owned));
                None
            }
        }
    }

    fn lower(&mut self, condition: &Condition, node: &Node, selections: &mut Selections) -> Option<Expr> {
        match condition {
            Condition::Name(name, offset) => match selections.take(name) {
                Some(expr) => expr,
                None => {
                    let help = did_you_mean(name, selections.names());
                    let message = format!("there is no selection `{name}`");
                    self.report.error_help("unknown-selection", node.span_at(*offset), message, help);
                    None
                }
            },
            Condition::Of { all, pattern, offset } => {
                let fits = |name: &str| match pattern {
                    Some(pattern) => condition::name_fits(pattern, name),
                    None => !name.starts_with('_'),
                };
                let names: Vec<String> = selections.names().filter(|name| fits(name)).map(str::to_owned).collect();
                if names.is_empty() {
                    let shown = pattern.as_deref().unwrap_or("them");
                    let message = format!("no selection fits `{shown}`");
                    self.report.error("unknown-selection", node.span_at(*offset), message);
                    return None;
                }
                let parts: Option<Vec<Expr>> = names.iter().map(|name| selections.take(name).flatten()).collect();
                parts.map(if *all { and } else { or })
            }
            Condition::And(parts) => self.lower_all(parts, node, selections).map(Expr::And),
            Condition::Or(parts) => self.lower_all(parts, node, selections).map(Expr::Or),
            Condition::Not(part) => Some(Expr::Not(Box::new(self.lower(part, node, selections)?))),
        }
    }

    /// Every part is looked at, so that all problems are told at once.
    fn lower_all(&mut self, parts: &[Condition], node: &Node, selections: &mut Selections) -> Option<Vec<Expr>> {
        let lowered: Vec<_> = parts.iter().map(|part| self.lower(part, node, selections)).collect();
        lowered.into_iter().collect()
    }

    /// One selection: a map (all of it), a list of maps (any of them), or keywords.
    fn selection(&mut self, node: &Node) -> Option<Expr> {
        match &node.value {
            Value::Map(entries) if entries.is_empty() => self.empty(node, "map"),
            Value::Map(entries) => {
                let parts: Vec<_> = entries.iter().map(|entry| self.item(entry)).collect();
                parts.into_iter().collect::<Option<Vec<_>>>().map(and)
            }
            Value::List(items) if items.is_empty() => self.empty(node, "list"),
            Value::List(items) => {
                let (maps, values): (Vec<&Node>, Vec<&Node>) =
                    items.iter().partition(|item| matches!(item.value, Value::Map(_)));
                let mut parts: Vec<Option<Expr>> = maps.into_iter().map(|item| self.selection(item)).collect();
                if !values.is_empty() {
                    parts.push(self.values("", &Modifiers::default(), &values, node.span));
                }
                parts.into_iter().collect::<Option<Vec<_>>>().map(or)
            }
            _ => self.values("", &Modifiers::default(), &[node], node.span),
        }
    }

    fn empty<T>(&mut self, node: &Node, what: &str) -> Option<T> {
        self.report.error("empty-selection", node.span, format!("an empty {what} matches nothing"));
        None
    }

    /// `field|modifiers: value`.
    fn item(&mut self, entry: &Entry) -> Option<Expr> {
        let span = entry.key_span;
        let mut names = entry.key.split('|');
        let field = names.next().unwrap_or_default();
        let modifiers = modifiers::parse(&names.collect::<Vec<_>>(), span, self.report);
        let path = match path::parse(field) {
            Ok(path) => path,
            Err(error) => {
                self.report.error_help("bad-field", span, error.message, error.help);
                return None;
            }
        };
        if !path.steps.is_empty() && !self.arrays {
            let help = "add `sigma-version: 3` at the top of the document".to_owned();
            let message = format!("`{field}` uses array matching, which is not switched on");
            self.report.error_help("array-matching-off", span, message, help);
            return None;
        }
        if self.blocks + path.steps.len() > MAX_BLOCKS {
            let message = format!("more than {MAX_BLOCKS} array blocks stand in each other");
            self.report.error("too-deep", span, message);
            return None;
        }
        self.blocks += path.steps.len();
        let condition = self.body(&path.rest, &path.steps, modifiers, entry);
        self.blocks -= path.steps.len();
        // From the innermost member outwards.
        path.steps.into_iter().rev().try_fold(condition?, |condition, Step { field, quantifier }| {
            Some(Expr::Each(Each { field, quantifier, condition: Box::new(condition), span }))
        })
    }

    fn body(&mut self, field: &str, steps: &[Step], modifiers: Option<Modifiers>, entry: &Entry) -> Option<Expr> {
        let holds_maps = |items: &[Node]| items.iter().any(|item| matches!(item.value, Value::Map(_)));
        let nested = match &entry.value.value {
            Value::Map(_) => true,
            Value::List(items) => holds_maps(items),
            _ => false,
        };
        if !nested {
            let values: Vec<&Node> = match &entry.value.value {
                Value::List(items) if items.is_empty() => return self.empty(&entry.value, "list"),
                Value::List(items) => items.iter().collect(),
                _ => vec![&entry.value],
            };
            return self.values(field, &modifiers?, &values, entry.key_span);
        }
        if steps.is_empty() || !field.is_empty() || modifiers.as_ref().is_some_and(|m| *m != Modifiers::default()) {
            let help = format!("write the path with dots (`{0}.…: …`), or `{0}[any]:` for an array", entry.key);
            let message = "a map cannot be the value of a field".to_owned();
            self.report.error_help("map-as-value", entry.value.span, message, help);
            return None;
        }
        modifiers?;
        match entry.value.get("condition") {
            Some(_) => self.section(&entry.value, &[]),
            None => self.selection(&entry.value),
        }
    }

    /// A test of one field (in a block: `` and `.` are the member itself; outside: keywords).
    fn values(&mut self, field: &str, modifiers: &Modifiers, values: &[&Node], span: Span) -> Option<Expr> {
        let keyword = self.blocks == 0 && field.is_empty();
        let field = match field {
            "" if keyword => None,
            "." if self.blocks > 0 => Some(String::new()),
            _ => Some(field.to_owned()),
        };
        let for_keyword = if keyword { modifiers.for_keyword() } else { Some(modifiers.clone()) };
        let Some(modifiers) = for_keyword else {
            self.report.error("modifier-conflict", span, "these modifiers need a field");
            return None;
        };
        if modifiers.all && values.len() == 1 {
            self.report.warning("useless-modifier", span, "`all` has no meaning for a single value");
        }
        let mut alternatives: Vec<Vec<Op>> = Vec::with_capacity(values.len());
        let mut failed = false;
        for value in values {
            if keyword && value.value == Value::Null {
                self.report.error("wrong-value", value.span, "null cannot be searched for");
                failed = true;
                continue;
            }
            match modifiers.ops(value, self.placeholders, self.report) {
                Some(ops) => alternatives.push(ops),
                None => failed = true,
            }
        }
        if failed {
            return None;
        }
        let test = |any_of: Vec<Op>| Expr::Test(Test { field: field.clone(), any_of, span });
        let negated = |expr: Expr| if modifiers.negated { Expr::Not(Box::new(expr)) } else { expr };
        if modifiers.all {
            Some(and(alternatives.into_iter().map(|ops| negated(test(ops))).collect()))
        } else {
            Some(negated(test(alternatives.into_iter().flatten().collect())))
        }
    }
}

/// The named selections of one section.
#[derive(Default)]
struct Selections {
    list: Vec<Selection>,
    index: HashMap<String, usize>,
    /// How many operators were handed out.
    size: usize,
}

struct Selection {
    name: String,
    span: Span,
    /// `None`: it has errors, which are told.
    expr: Option<Expr>,
    size: usize,
    used: bool,
}

impl Selections {
    fn add(&mut self, name: &str, span: Span, expr: Option<Expr>) {
        let size = expr.as_ref().map_or(0, size);
        self.index.insert(name.to_owned(), self.list.len());
        self.list.push(Selection { name: name.to_owned(), span, expr, size, used: false });
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|selection| selection.name.as_str())
    }

    /// A copy of a selection; the outer `None`: there is none of that name. Beyond the allowed size nothing is copied any
    /// more, and the caller gives the whole condition up.
    fn take(&mut self, name: &str) -> Option<Option<Expr>> {
        let selection = &mut self.list[*self.index.get(name)?];
        selection.used = true;
        self.size += selection.size + 1;
        Some(if self.size > MAX_SIZE { None } else { selection.expr.clone() })
    }

    fn unused(&self) -> Vec<(String, Span)> {
        let unused = self.list.iter().filter(|selection| !selection.used && !selection.name.starts_with('_'));
        unused.map(|selection| (selection.name.clone(), selection.span)).collect()
    }
}
