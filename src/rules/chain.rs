//! Correlations over rules and over each other: references, aliases, order.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::correlation::{CorrelationDraft, Generate};
use super::diagnostic::Severity;
use super::link::{Linker, Target};
use super::{Correlation, CorrelationKind, Input};

/// The longest chain of correlations over correlations.
const MAX_CHAIN: usize = 16;
/// How far a circle is followed to tell of it, and how much of it is shown.
const MAX_WAY: usize = 1000;
const SHOWN: usize = 8;
/// The most ways on which matches may reach one correlation.
const MAX_WAYS: usize = 10_000;

/// Resolves the correlations and puts them in order: inputs before those who read them, then by id. With each stands the
/// index of its draft. What has errors is left out and told.
pub fn correlations(drafts: &[CorrelationDraft], linker: &mut Linker<'_>) -> Vec<(Correlation, usize)> {
    let resolved: Vec<Option<Vec<Target>>> = drafts.iter().map(|draft| resolve(draft, linker)).collect();
    let order = order(drafts, &resolved);
    let mut chain = Chain { placed: vec![None; drafts.len()], out: Vec::new() };
    for index in &order {
        if let Some(targets) = &resolved[*index] {
            chain.place(drafts, *index, targets, linker);
        }
    }
    let ordered: HashSet<usize> = order.into_iter().collect();
    for index in (0..drafts.len()).filter(|index| resolved[*index].is_some() && !ordered.contains(index)) {
        explain(drafts, &resolved, &ordered, index, linker);
    }
    chain.out
}

/// What the names of a correlation stand for.
fn resolve(draft: &CorrelationDraft, linker: &mut Linker<'_>) -> Option<Vec<Target>> {
    let mut targets = Vec::with_capacity(draft.rules.len());
    let mut failed = false;
    for (text, span) in &draft.rules {
        let place = (&draft.meta, *span);
        match linker.target(text) {
            Some(target @ (Target::Rule(_) | Target::Correlation(_))) => {
                // Only in a sequence does the same rule twice mean anything.
                if targets.contains(&target) && draft.kind != CorrelationKind::TemporalOrdered {
                    linker.error("duplicate-rule", place, format!("the correlation refers to `{text}` twice"));
                    failed = true;
                }
                targets.push(target);
            }
            Some(Target::Missing(why)) => {
                linker.error("broken-reference", place, format!("the correlation needs `{text}`, which {why}"));
                failed = true;
            }
            Some(Target::Filter) => {
                linker.error("unknown-rule", place, format!("`{text}` is a filter, not a rule"));
                failed = true;
            }
            None => {
                linker.unknown(Severity::Error, place, text);
                failed = true;
            }
        }
    }
    if failed {
        return None;
    }
    if let Generate::Only(names) = &draft.generate {
        for (text, span) in names {
            if !linker.target(text).is_some_and(|target| targets.contains(&target)) {
                let message = format!("`generate` names `{text}`, to which the correlation does not refer");
                linker.error("unknown-rule", (&draft.meta, *span), message);
                failed = true;
            }
        }
    }
    (!failed).then_some(targets)
}

/// Drafts in an order in which inputs come first. What is in a cycle, or behind one, or behind a draft that did not resolve,
/// is not in it.
fn order(drafts: &[CorrelationDraft], resolved: &[Option<Vec<Target>>]) -> Vec<usize> {
    let mut waiting = vec![0_usize; drafts.len()];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); drafts.len()];
    for (index, targets) in resolved.iter().enumerate() {
        for target in targets.iter().flatten() {
            if let Target::Correlation(input) = target {
                waiting[index] += 1;
                readers[*input].push(index);
            }
        }
    }
    let id = |index: usize| drafts[index].meta.id.as_str();
    let free = (0..drafts.len()).filter(|index| resolved[*index].is_some() && waiting[*index] == 0);
    let mut ready: BTreeSet<(&str, usize)> = free.map(|index| (id(index), index)).collect();
    let mut order = Vec::with_capacity(drafts.len());
    while let Some((_, index)) = ready.pop_first() {
        order.push(index);
        for reader in &readers[index] {
            waiting[*reader] -= 1;
            if waiting[*reader] == 0 {
                ready.insert((id(*reader), *reader));
            }
        }
    }
    order
}

/// Tells why a resolved correlation has no place in the order.
fn explain(
    drafts: &[CorrelationDraft],
    resolved: &[Option<Vec<Target>>],
    ordered: &HashSet<usize>,
    start: usize,
    linker: &mut Linker<'_>,
) {
    let next = |index: usize| {
        let targets = resolved[index].as_deref()?;
        targets.iter().find_map(|target| match target {
            Target::Correlation(input) if !ordered.contains(input) => Some(*input),
            _ => None,
        })
    };
    let name = |index: usize| drafts[index].meta.name.as_ref().unwrap_or(&drafts[index].meta.id).clone();
    let place = (&drafts[start].meta, drafts[start].meta.span);
    let (mut way, mut passed) = (vec![start], HashSet::from([start]));
    while let Some(following) = way.last().and_then(|last| next(*last)) {
        if way.len() > MAX_WAY || !passed.insert(following) {
            break;
        }
        way.push(following);
    }
    let closes = way.last().and_then(|last| next(*last));
    if closes == Some(start) {
        let shown: Vec<String> = way.iter().take(SHOWN).map(|index| format!("`{}`", name(*index))).collect();
        let more = if way.len() > SHOWN { " → …" } else { "" };
        let message = format!("the correlation feeds itself: {}{more} → `{}`", shown.join(" → "), name(start));
        linker.error("cycle", place, message);
    } else {
        let first = way.get(1).map(|index| name(*index)).unwrap_or_default();
        linker.error("broken-reference", place, format!("the correlation needs `{first}`, which has errors"));
    }
}

/// The correlations that have their place.
struct Chain {
    /// Per draft: its place, how long the chain to it is, and on how many ways matches reach it.
    placed: Vec<Option<(usize, usize, usize)>>,
    out: Vec<(Correlation, usize)>,
}

impl Chain {
    fn place(&mut self, drafts: &[CorrelationDraft], index: usize, targets: &[Target], linker: &mut Linker<'_>) {
        let draft = &drafts[index];
        let here = (&draft.meta, draft.meta.span);
        let (mut length, mut ways) = (1, 0_usize);
        let mut inputs = Vec::with_capacity(targets.len());
        for (target, (text, span)) in targets.iter().zip(&draft.rules) {
            match target {
                Target::Rule(rule) => {
                    ways += 1;
                    inputs.push(Input::Rule(*rule));
                }
                Target::Correlation(input) => {
                    let Some((place, depth, more)) = self.placed[*input] else {
                        let message = format!("the correlation needs `{text}`, which has errors");
                        return linker.error("broken-reference", (&draft.meta, *span), message);
                    };
                    length = length.max(depth + 1);
                    ways = ways.saturating_add(more);
                    inputs.push(Input::Correlation(place));
                }
                Target::Filter | Target::Missing(_) => return,
            }
        }
        if length > MAX_CHAIN || ways > MAX_WAYS {
            let message = format!("correlations over correlations: more than {MAX_CHAIN} deep or {MAX_WAYS} ways");
            return linker.error("too-deep", here, message);
        }
        let Some(aliases) = aliases(draft, targets, linker) else { return };
        self.placed[index] = Some((self.out.len(), length, ways));
        let correlation = Correlation {
            meta: Arc::new(draft.meta.clone()),
            inputs,
            kind: draft.kind.clone(),
            group_by: draft.group_by.clone(),
            aliases,
            timespan_us: draft.timespan_us,
            realert_us: draft.realert_us,
            suppress_us: draft.suppress_us,
            across_clusters: draft.across_clusters,
            alerts: true,
        };
        self.out.push((correlation, index));
    }
}

/// Per alias: the field it stands for, per input.
fn aliases(
    draft: &CorrelationDraft,
    targets: &[Target],
    linker: &mut Linker<'_>,
) -> Option<BTreeMap<String, Vec<Option<String>>>> {
    let counted = draft.kind.counted();
    let mut out = BTreeMap::new();
    let mut failed = false;
    for alias in &draft.aliases {
        let mut fields = vec![None; targets.len()];
        for (rule, field, span) in &alias.fields {
            let target = linker.target(rule);
            let mut found = false;
            for (slot, _) in fields.iter_mut().zip(targets).filter(|(_, input)| Some(**input) == target) {
                *slot = Some(field.clone());
                found = true;
            }
            if !found {
                let message = format!("the alias names `{rule}`, to which the correlation does not refer");
                linker.error("unknown-rule", (&draft.meta, *span), message);
                failed = true;
            }
        }
        let place = (&draft.meta, alias.span);
        if !draft.group_by.contains(&alias.name) && !counted.contains(&alias.name) {
            let message = format!("nothing uses the alias `{}`", alias.name);
            linker.note(Severity::Warning, "unused-alias", place, message, None);
        } else if !failed {
            // A correlation's group may have a field of this name; a rule's event has none.
            let bare =
                |(target, field): (&Target, &Option<String>)| matches!(target, Target::Rule(_)) && field.is_none();
            if let Some(position) = targets.iter().zip(&fields).position(bare) {
                let rule = &draft.rules[position].0;
                linker.error(
                    "incomplete-alias",
                    place,
                    format!("the alias `{}` has no field for `{rule}`", alias.name),
                );
                failed = true;
            }
        }
        out.insert(alias.name.clone(), fields);
    }
    (!failed).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::super::load::load;
    use super::super::{Placeholders, RuleSet, SourceFile};
    use super::*;

    fn rule(name: &str) -> String {
        let head = "logsource: {product: kubernetes, service: audit}\n";
        format!("title: {name}\nname: {name}\n{head}detection: {{s: {{v: {name}}}, condition: s}}\n---\n")
    }

    /// A correlation whose id begins with `order`.
    fn over(name: &str, order: u32, rules: &str, more: &str) -> String {
        format!(
            "title: {name}\nname: {name}\nid: {order:08}-0000-4000-8000-000000000000\n\
             correlation: {{type: temporal, rules: {rules}, timespan: 1m{more}}}\n---\n"
        )
    }

    fn run(text: &str) -> (RuleSet, Vec<String>) {
        let text = rule("a") + &rule("b") + text;
        let (set, diagnostics) = load(&[SourceFile::new("a", text)], &Placeholders::new());
        (set, diagnostics.iter().map(|d| format!("{} {} {}", d.severity.as_str(), d.code, d.message)).collect())
    }

    fn titles(set: &RuleSet) -> Vec<&str> {
        set.correlations.iter().map(|correlation| correlation.meta.title.as_str()).collect()
    }

    #[test]
    fn inputs_stand_before_readers_then_by_id() {
        let (set, problems) = run(&(over("w", 1, "[x, a]", "")
            + &over("x", 3, "[y, b]", "")
            + &over("y", 9, "a", "")
            + &over("z", 4, "[00000009-0000-4000-8000-000000000000, a]", "")));
        assert_eq!(problems, [""; 0]);
        assert_eq!(titles(&set), ["y", "x", "w", "z"]);
        let a = set.rules.iter().position(|rule| rule.meta.title == "a").unwrap();
        assert_eq!(set.correlations[2].inputs, [Input::Correlation(1), Input::Rule(a)]);
        assert_eq!(set.correlations[3].inputs, [Input::Correlation(0), Input::Rule(a)]);
    }

    #[test]
    fn references_that_cannot_be_followed() {
        let check = |text: &str, loaded: &[&str], expected: &[&str]| {
            let (set, problems) = run(text);
            assert_eq!(titles(&set), loaded, "{problems:?}");
            let fits = problems.len() == expected.len() && problems.iter().zip(expected).all(|(p, e)| p.contains(e));
            assert!(fits, "{text}: {problems:?}");
        };
        check(&over("x", 1, "[x]", ""), &[], &["error cycle the correlation feeds itself: `x` → `x`"]);
        check(
            &(over("x", 1, "[a, y]", "")
                + &over("y", 2, "[z]", "")
                + &over("z", 3, "[x]", "")
                + &over("u", 4, "[x, a]", "")),
            &[],
            &[
                "`x` → `y` → `z` → `x`",
                "`y` → `z` → `x` → `y`",
                "cycle",
                "error broken-reference the correlation needs `x`",
            ],
        );
        check(&over("x", 1, "[a, bb]", ""), &[], &["error unknown-rule no rule has the name or id `bb`"]);
        check(
            &(over("x", 1, "[nothing]", "") + &over("y", 2, "[x]", "") + &over("z", 3, "[a]", "")),
            &["z"],
            &["error unknown-rule", "error broken-reference the correlation needs `x`, which has errors"],
        );
        check(&over("x", 1, "[a, a]", ""), &[], &["error duplicate-rule"]);
        check(&over("x", 1, "[a, b, a]", "").replace("temporal", "temporal_ordered"), &["x"], &[]);
        check(&over("x", 1, "[a]", ", generate: [b]"), &[], &["error unknown-rule `generate` names `b`"]);
        let foreign = "title: w\nname: w\nlogsource: {product: windows}\ndetection: {s: {v: w}, condition: s}\n---\n";
        check(
            &(foreign.to_owned() + &over("x", 1, "[w]", "")),
            &[],
            &["warning other-log-source", "needs `w`, which is not for Kubernetes audit logs"],
        );
        check(
            &(rule("bad").replace("{v: bad}", "{v|x: bad}") + &over("x", 1, "[bad]", "")),
            &[],
            &["error unknown-modifier", "needs `bad`, which has errors"],
        );
    }

    #[test]
    fn chains_are_bounded_in_length_and_in_ways() {
        let chain = |count: u32, rules: &dyn Fn(u32) -> String| {
            let rest: String = (1..count).map(|n| over(&format!("c{n}"), n, &rules(n - 1), "")).collect();
            run(&(over("c0", 0, "[a]", "") + &rest)).1
        };
        assert_eq!(chain(16, &|n| format!("[c{n}]")), [""; 0]);
        assert!(chain(17, &|n| format!("[c{n}]"))[0].starts_with("error too-deep"));
        assert_eq!(chain(2000, &|n| format!("[c{n}]")).len(), 2000 - 16);
        // Each level doubles the ways: c0 and c1 feed c2 and c3, and so on.
        let ladder = |levels: u32| {
            let rungs = (1..levels).flat_map(|n| {
                let rules = format!("[l{0}, r{0}]", n - 1);
                [over(&format!("l{n}"), 2 * n, &rules, ""), over(&format!("r{n}"), 2 * n + 1, &rules, "")]
            });
            run(&(over("l0", 0, "[a]", "") + &over("r0", 1, "[b]", "") + &rungs.collect::<String>())).1
        };
        assert_eq!(ladder(14), [""; 0]);
        assert!(ladder(15)[0].starts_with("error too-deep"));
    }

    #[test]
    fn aliases_name_a_field_per_input() {
        let check = |more: &str, expected: Result<&[Option<&str>], &str>| {
            let (set, problems) = run(&over("x", 1, "[a, b]", more));
            match expected {
                Ok(fields) => {
                    let found: Vec<_> = set.correlations[0].aliases["s"].iter().map(Option::as_deref).collect();
                    assert_eq!(found, fields, "{more}: {problems:?}");
                    assert!(
                        problems.is_empty()
                            || !fields.iter().any(Option::is_some)
                            || problems[0].starts_with("warning")
                    );
                }
                Err(problem) => {
                    assert!(problems[0].starts_with(problem) && set.correlations.is_empty(), "{problems:?}")
                }
            }
        };
        check(", group-by: [s], aliases: {s: {a: u.name, b: v}}", Ok(&[Some("u.name"), Some("v")]));
        // An alias for itself is resolved once, not for ever.
        check(", group-by: [s], aliases: {s: {a: s, b: s}}", Ok(&[Some("s"), Some("s")]));
        check(", group-by: [t], aliases: {s: {a: u}}", Ok(&[Some("u"), None]));
        check(", group-by: [s], aliases: {s: {a: u}}", Err("error incomplete-alias"));
        check(", group-by: [s], aliases: {s: {a: u, c: v}}", Err("error unknown-rule the alias names `c`"));
        check(", group-by: [s], aliases: {s: u}", Err("error wrong-value"));
        check(", group-by: [s], aliases: [s]", Err("error wrong-value"));
    }
}
