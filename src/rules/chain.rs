//! Correlations over rules and over each other: references, aliases, order.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::correlation::{CorrelationDraft, Generate};
use super::diagnostic::Severity;
use super::link::{Linker, Target};
use super::{Correlation, CorrelationKind, Input};

/// The longest chain of correlations over correlations.
const MAX_CHAIN: usize = 16;
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
    let mut way = vec![start];
    while let Some(following) = way.last().and_then(|last| next(*last)) {
        if way.contains(&following) || way.len() > MAX_CHAIN {
            break;
        }
        way.push(following);
    }
    let closes = way.last().and_then(|last| next(*last));
    if closes == Some(start) {
        let shown: Vec<String> = way.iter().map(|index| format!("`{}`", name(*index))).collect();
        let message = format!("the correlation feeds itself: {} → `{}`", shown.join(" → "), name(start));
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
    let counted: &[String] = match &draft.kind {
        CorrelationKind::ValueCount(_, fields) => fields,
        _ => &[],
    };
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
