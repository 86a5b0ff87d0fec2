//! Named selections and their condition (the `detection` of a rule, a filter, or an array block) to one expression.

use std::sync::Arc;

use super::Placeholders;
use super::condition::{self, Condition};
use super::diagnostic::{Report, did_you_mean};
use super::expr::{Each, Expr, Op, Span, Test};
use super::lint::{self, Leaf};
use super::modifiers::{self, Modifiers};
use super::path::{self, Step};
use super::selections::{MAX_SIZE, Selections, and, or};
use super::yaml::{Entry, Node, Value};

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
    /// The paths of the array blocks around, outermost first.
    pub blocks: Vec<String>,
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
        if entries.len() > MAX_SELECTIONS {
            let message = format!("there are more than {MAX_SELECTIONS} selections");
            self.report.error("too-large", section.span, message);
            return None;
        }
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
        if selections.too_large() {
            let message = format!("the condition comes to more than {MAX_SIZE} tests");
            self.report.error("too-large", written.span, message);
            return None;
        }
        let parts: Vec<Expr> = parts.into_iter().collect::<Option<_>>()?;
        for (name, span) in selections.unused() {
            self.report.warning("unused-selection", span, format!("the condition does not use `{name}`"));
        }
        let condition = or(parts);
        if self.report.lints() && self.blocks.is_empty() {
            lint::condition(&condition, "the condition", written.span, self.report);
        }
        Some(condition)
    }

    fn condition(&mut self, node: &Node, selections: &mut Selections<'_>) -> Option<Expr> {
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

    fn lower(&mut self, condition: &Condition, node: &Node, selections: &mut Selections<'_>) -> Option<Expr> {
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
                let names: Vec<&str> = selections.names().filter(|name| fits(name)).collect();
                if names.is_empty() {
                    let shown = pattern.as_deref().unwrap_or("them");
                    let message = format!("no selection fits `{shown}`");
                    self.report.error("unknown-selection", node.span_at(*offset), message);
                    return None;
                }
                let parts: Option<Vec<Expr>> = names.iter().map(|name| selections.take(name).flatten()).collect();
                parts.map(if *all { and } else { or })
            }
            Condition::And(parts) => self.lower_all(parts, node, selections).map(and),
            Condition::Or(parts) => self.lower_all(parts, node, selections).map(or),
            Condition::Not(part) => Some(Expr::Not(Arc::new(self.lower(part, node, selections)?))),
        }
    }

    /// Every part is looked at, so that all problems are told at once.
    fn lower_all(&mut self, parts: &[Condition], node: &Node, selections: &mut Selections<'_>) -> Option<Vec<Expr>> {
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
        if self.blocks.len() + path.steps.len() > MAX_BLOCKS {
            let message = format!("more than {MAX_BLOCKS} array blocks stand in each other");
            self.report.error("too-deep", span, message);
            return None;
        }
        let around = self.blocks.len();
        self.blocks.extend(path.steps.iter().map(|step| step.field.clone()));
        let condition = self.body(&path.rest, &path.steps, modifiers, entry);
        self.blocks.truncate(around);
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
        // With a condition of its own the block holds named selections, else fields.
        match entry.value.get("condition").map(|node| &node.value) {
            Some(Value::Text(_)) => self.section(&entry.value, &[]),
            _ => self.selection(&entry.value),
        }
    }

    /// A test of one field (in a block: `` and `.` are the member itself; outside: keywords).
    fn values(&mut self, field: &str, modifiers: &Modifiers, values: &[&Node], span: Span) -> Option<Expr> {
        let keyword = self.blocks.is_empty() && field.is_empty();
        let field = match field {
            "" if keyword => None,
            "." if !self.blocks.is_empty() => Some(String::new()),
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
        let leaf = field.as_deref().filter(|_| self.report.lints()).map(|field| Leaf { field, within: &[], span });
        let leaf = leaf.filter(|leaf| lint::leaf(Leaf { within: &self.blocks, ..*leaf }, self.report));
        let mut alternatives: Vec<Vec<Op>> = Vec::with_capacity(values.len());
        let mut failed = false;
        for value in values {
            if keyword && value.value == Value::Null {
                self.report.error("wrong-value", value.span, "null cannot be searched for");
                failed = true;
                continue;
            }
            match modifiers.ops(value, self.placeholders, self.report) {
                Some(ops) => {
                    if let Some(leaf) = leaf {
                        lint::value(Leaf { within: &self.blocks, ..leaf }, value, &ops, self.report);
                    }
                    alternatives.push(ops);
                }
                None => failed = true,
            }
        }
        if failed {
            return None;
        }
        let negated = |expr: Expr| if modifiers.negated { Expr::Not(Arc::new(expr)) } else { expr };
        if modifiers.all {
            let test = |any_of: Vec<Op>| negated(Expr::Test(Test { field: field.clone(), any_of, span }));
            return Some(and(alternatives.into_iter().map(test).collect()));
        }
        let any_of = match alternatives.len() {
            1 => alternatives.swap_remove(0),
            _ => alternatives.into_iter().flatten().collect(),
        };
        Some(negated(Expr::Test(Test { field, any_of, span })))
    }
}

#[cfg(test)]
mod tests {
    use super::super::show::show;
    use super::super::yaml;
    use super::*;

    fn read(text: &str) -> (Option<Expr>, Vec<String>) {
        let lists = Placeholders::from([
            ("admins".into(), vec!["Root".into(), "adm*".into()]),
            ("nets".into(), vec!["10.0.0.0/8".into(), "::1".into()]),
            ("empty".into(), vec![]),
        ]);
        let (documents, errors) = yaml::parse(text);
        assert!(errors.is_empty(), "{text}: {errors:?}");
        let mut report = Report::new("t");
        let mut reader = Reader { placeholders: &lists, arrays: true, report: &mut report, blocks: Vec::new() };
        let expr = reader.section(&documents[0], &[]);
        let shown = report.into_list().into_iter().map(|d| {
            format!(
                "{}:{} {} {}",
                d.span.line,
                d.span.column,
                d.code,
                d.help.map_or(d.message.clone(), |h| d.message + " / " + &h)
            )
        });
        (expr, shown.collect())
    }

    /// A selection's body as a flow map or list, to its expression.
    fn check(body: &str, expected: &str) {
        let (expr, problems) = read(&format!("s: {body}\ncondition: s"));
        assert_eq!(expr.as_ref().map(show).as_deref(), Some(expected), "{body}: {problems:?}");
    }

    /// A selection's body and how its first problem starts.
    fn refuse(body: &str, expected: &str) {
        let (expr, problems) = read(&format!("s: {body}\ncondition: s"));
        assert_eq!(expr, None, "{body}");
        assert!(problems[0].starts_with(expected), "{body}: {problems:?}");
    }

    #[test]
    fn values() {
        check("{verb: List}", "verb 'list'");
        check("{a: x, b: y}", "(a 'x' & b 'y')");
        check("{a: [x, y]}", "a 'x','y'");
        check("{a: 403}", "a Eq(403)");
        check("{a: '403'}", "a '403'");
        check("{a: 00429}", "a '00429'");
        check("{a: 1.5}", "a Eq(1.5)");
        check("{a: 9007199254740993}", "a '9007199254740993'");
        check("{a: true}", "a true");
        check("{a: yes}", "a 'yes'");
        check("{a: null}", "a null");
        check("{a: }", "a null");
        check("{a: ''}", "a ''");
        check("{a: ['', null]}", "a '',null");
        check("{a: '*'}", "a glob'<*>'");
        check(r"{a: '\*'}", "a '*'");
        check("{a: 'x*'}", "a 'x'..");
        check("{a.b/c-d: x}", "a.b/c-d 'x'");
        check("[{a: x}, {b: y, c: z}]", "(a 'x' | (b 'y' & c 'z'))");
        refuse("{a: []}", "1:8 empty-selection");
        refuse("{}", "1:4 empty-selection");
        refuse("[]", "1:4 empty-selection");
        refuse("{a: {b: c}}", "1:8 map-as-value");
        refuse("{a: [[x]]}", "1:9 wrong-value");
    }

    #[test]
    fn keywords() {
        check("[Foo, 'b*r', 4625]", "ANY ..'foo'..,glob'<*>b<*>r<*>',..'4625'..");
        check("foo", "ANY ..'foo'..");
        check("{'|all': [a, b]}", "(ANY ..'a'.. & ANY ..'b'..)");
        check("{'|re': 'a+'}", "ANY /a+/");
        check("{'|startswith|cased': A}", "ANY ^'A'..");
        check("[{a: x}, foo]", "(a 'x' | ANY ..'foo'..)");
        refuse("[a, null]", "1:8 wrong-value");
        refuse("{'|exists': true}", "1:5 modifier-conflict");
        refuse("{'|cidr': 10.0.0.0/8}", "1:5 modifier-conflict");
    }

    #[test]
    fn text_modifiers() {
        check("{a|contains: [X, y]}", "a ..'x'..,..'y'..");
        check("{a|contains|all: [x, y]}", "(a ..'x'.. & a ..'y'..)");
        check("{a|startswith: x, b|endswith: y}", "(a 'x'.. & b ..'y')");
        check("{a|cased: X}", "a ^'X'");
        check("{a|contains|cased: X}", "a ^..'X'..");
        check("{a|contains: 403}", "a ..'403'..");
        check("{a|startswith: 1.50}", "a '1.50'..");
        check("{a|neq: x}", "!a 'x'");
        check("{a|neq: [x, 4]}", "!a 'x',Eq(4)");
        check("{a|contains|neq: x}", "!a ..'x'..");
        check("{a|contains|all|neq: [x, y]}", "(!a ..'x'.. & !a ..'y'..)");
        check("{a|neq: null}", "!a null");
        check("{a|windash: '-a'}", "a '-a','/a','\u{2013}a','\u{2014}a','\u{2015}a'");
        check("{a|base64: foo}", "a 'zm9v'");
        check("{a|base64|cased: foo}", "a ^'Zm9v'");
        check("{a|wide|base64|contains|cased: cmd}", "a ^..'YwBtAGQA'..");
        check("{a|base64offset|contains|cased: foobar}", "a ^..'Zm9vYmFy'..,^..'Zvb2Jhc'..,^..'mb29iYX'..");
        check("{a|exists: true, b|exists: false}", "(a exists & b absent)");
        refuse("{a|contain: x}", "1:5 unknown-modifier unknown modifier `contain` / did you mean `contains`?");
        refuse("{a|contains|startswith: x}", "1:5 modifier-conflict");
        refuse("{a|contains|contains: x}", "1:5 duplicate-modifier");
        refuse("{a|: x}", "1:5 unknown-modifier");
        refuse("{a|exists: 'yes'}", "1:15 wrong-value");
        refuse("{a|exists|neq: true}", "1:5 modifier-conflict");
        refuse("{a|contains: null}", "1:17 wrong-value");
        refuse("{a|wide: x}", "1:5 modifier-conflict");
        refuse("{a|base64|wide: x}", "1:5 modifier-conflict");
        refuse("{a|base64: 'x*'}", "1:15 wildcard-in-base64");
        refuse("{a|base64offset|contains: ''}", "1:30 wrong-value");
        refuse(&format!("{{a: '{}'}}", "*x".repeat(65)), "1:8 too-many-wildcards");
        refuse(&format!("{{a|windash: '{}'}}", "-a ".repeat(20)), "1:16 too-many-values");
    }

    #[test]
    fn other_modifiers() {
        check("{a|re: '^x.*Y$'}", "a /^x.*Y$/");
        check("{a|re|i|m|s: x}", "a /x/ims");
        check("{a|cidr: [10.1.2.3/8, 'fd00::/8', 1.2.3.4]}", "a in(10.0.0.0/8),in(fd00::/8),in(1.2.3.4/32)");
        check("{a|gte: 200, b|lt: '300'}", "(a Ge(200) & b Lt(300))");
        check("{a|lte: 1.5, b|gt: -1}", "(a Le(1.5) & b Gt(-1))");
        check("{a|fieldref: b.c}", "a ref-Equals(b.c)");
        check("{a|fieldref|startswith: b}", "a ref-StartsWith(b)");
        check("{a|endswith|fieldref|cased: b}", "a ^ref-EndsWith(b)");
        check("{a|fieldref|contains|neq: b}", "!a ref-Contains(b)");
        check("{a|fieldref|gt: b}", "a ref-Gt(b)");
        check("{a|hour: 3}", "a Hour-Eq(3)");
        check("{a|hour|gte: 22}", "a Hour-Ge(22)");
        check("{a|minute|lt: 5, b|week: [1, 53]}", "(a Minute-Lt(5) & b Week-Eq(1),Week-Eq(53))");
        check("{a|year|neq: 2026, b|month: 12, c|day|lte: 31}", "(!a Year-Eq(2026) & b Month-Eq(12) & c Day-Le(31))");
        check("{a|expand: '%admins%'}", "a 'root','adm'..");
        check("{a|expand|endswith: 'x:%admins%'}", "a ..'x:root',..'x:adm'..");
        check("{a|cidr|expand: '%nets%'}", "a in(10.0.0.0/8),in(::1/128)");
        check("{a|re|expand: '^|%admins%'}", "a /^|Root/,/^|adm.*/");
        check("{a|expand: ['%empty%', z]}", "a never,'z'");
        check("{a|expand|neq: '%unknown%'}", "!a never");
        check("{a: '%admins%'}", "a '%admins%'");
        refuse("{a|re: '(?=x)'}", "1:11 invalid-regex");
        refuse("{a|re: '['}", "1:11 invalid-regex");
        refuse("{a|re: 'a{1000}{1000}'}", "1:11 invalid-regex");
        refuse("{a|i: x}", "1:5 modifier-conflict the modifier `i` belongs behind `re`");
        refuse("{a|re|contains: x}", "1:5 modifier-conflict");
        refuse("{a|cidr: x}", "1:13 wrong-value");
        refuse("{a|cidr|re: x}", "1:5 modifier-conflict");
        refuse("{a|gt: x}", "1:11 wrong-value");
        refuse("{a|gt|lt: 1}", "1:5 modifier-conflict");
        refuse("{a|gt: nan}", "1:11 wrong-value");
        refuse("{a|hour: 24}", "1:13 wrong-value");
        refuse("{a|hour|day: 2}", "1:5 modifier-conflict");
        refuse("{a|fieldref|expand: x}", "1:5 modifier-conflict");
        refuse("{a|fieldref: ''}", "1:17 wrong-value");
    }

    #[test]
    fn array_blocks() {
        check("{'c[any]': {p: true, i|startswith: x}}", "c[Any]{(p true & i 'x'..)}");
        check("{'c[all_or_empty]': [{p: x}, {q: y}]}", "c[AllOrEmpty]{(p 'x' | q 'y')}");
        check("{'c[none]': {'d[2].e': x}}", "c[None]{d[Index(2)]{e 'x'}}");
        check("{'r.rules[any].verbs[all]': [x, y]}", "r.rules[Any]{verbs[All]{IT 'x','y'}}");
        check("{'c[any]|contains|all': [x, y]}", "c[Any]{(IT ..'x'.. & IT ..'y'..)}");
        check("{'c[any].a.b|neq': x}", "c[Any]{!a.b 'x'}");
        check("{'c[any]': {'.|startswith': x}}", "c[Any]{IT 'x'..}");
        check("{'c[any]': {'|startswith': x}}", "c[Any]{IT 'x'..}");
        check("{'c[any]': {condition: a and not b, a: {x: 1}, b: {y: 2}}}", "c[Any]{(x Eq(1) & !y Eq(2))}");
        check("{'c[any]': {condition: {type: x}}}".replace("{type: x}", "1").as_str(), "c[Any]{condition Eq(1)}");
        check(r"{'l.x\[any\]': y}", "l.x[any] 'y'");
        refuse("{'c[any]': {a: {b: c}}}", "1:19 map-as-value");
        refuse("{'c[any].d': {a: b}}", "1:17 map-as-value");
        refuse("{'c[some]': x}", "1:5 bad-field");
        refuse("{'c[any]': {condition: a or b, a: {x: 1}}}", "1:32 unknown-selection");
        refuse(&format!("{{'a{}': x}}", "[any]".repeat(9)), "1:5 too-deep");
        refuse(&format!("{}{{x: 1}}{}", "{'a[any]': ".repeat(9), "}".repeat(9)), "1:93 too-deep");
    }

    #[test]
    fn conditions() {
        let check = |condition: &str, expected: &str| {
            let (expr, problems) =
                read(&format!("sel_a: {{a: x}}\nsel_b: {{b: y}}\n_c: {{c: z}}\ncondition: {condition}"));
            let shown = expr.as_ref().map_or_else(|| problems[0].clone(), show);
            assert!(shown.starts_with(expected), "{condition}: {shown}");
        };
        check("1 of sel*", "(a 'x' | b 'y')");
        check("all of sel*", "(a 'x' & b 'y')");
        check("1 of them", "(a 'x' | b 'y')");
        check("all of them and not _c", "(a 'x' & b 'y' & !c 'z')");
        check("1 of *c", "c 'z'");
        check("sel_a or sel_b and _c", "(a 'x' | (b 'y' & c 'z'))");
        check("[sel_a, not sel_b]", "(a 'x' | !b 'y')");
        check("sel_a and sel_d", "4:22 unknown-selection there is no selection `sel_d` / did you mean `sel_a`?");
        check("1 of x*", "4:17 unknown-selection");
        check("sel_a sel_b", "4:18 bad-condition");
        check("'sel_a and'", "4:22 bad-condition");
        check("{a: b}", "4:12 wrong-value");
        check("[]", "4:12 wrong-value");
        check("5", "4:12 wrong-value");
    }

    #[test]
    fn tells_what_is_missing_or_left_over() {
        let check = |text: &str, expected: &str| assert_eq!(read(text).1, [expected], "{text}");
        check("s: {a: x}", "1:1 missing-condition there is no `condition` / add `condition: selection`");
        check("s: {a: x}\nt: {b: y}\ncondition: s", "2:1 unused-selection the condition does not use `t`");
        check(
            "s: {a: x}\ntimeframe: 5m\ncondition: s",
            "2:1 timeframe-ignored `timeframe` has no effect; write a correlation document",
        );
        check("[a]", "1:1 wrong-value a map of selections and a condition is expected, not a list");
    }

    #[test]
    fn nothing_grows_without_bound() {
        let values = vec!["x"; 3000].join(", ");
        let text = format!("s: {{a: [{values}]}}\ncondition: {}", vec!["s"; 1000].join(" or "));
        assert!(read(&text).1[0].contains("too-large"));
        let many: String = (0..MAX_SELECTIONS).map(|n| format!("s{n}: {{a: x}}\n")).collect();
        assert!(read(&format!("{many}condition: 1 of them")).1[0].contains("too-large"));
    }
}
