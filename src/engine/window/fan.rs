//! Fan-out: the groups that a match belongs to, and the values it adds to them.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::plan::{Column, Field, Hop, Plan, Plans};
use crate::engine::matches::{Captured, ClusterId, Trace, Value};
use crate::event::identity::hash128;

/// A value of a match, wherever it was found.
#[derive(Debug, Clone, Copy)]
pub(super) enum Found<'a> {
    /// In the event.
    Captured(Captured<'a>),
    /// In the group of a correlation that the match has passed.
    Grouped(&'a Value),
}

impl<'a> Found<'a> {
    pub(super) fn hash(&self) -> u128 {
        match self {
            Found::Captured(value) => value.hash,
            Found::Grouped(value) => value.hash,
        }
    }

    fn shown(&self) -> Cow<'a, str> {
        match self {
            Found::Captured(value) => value.shown(),
            Found::Grouped(value) => Cow::Borrowed(&value.text),
        }
    }

    /// The value in thousandths, if it is a number.
    pub(super) fn number(&self) -> Option<i64> {
        match self {
            Found::Captured(value) => thousandths(value.text()?),
            Found::Grouped(value) => thousandths(&value.text),
        }
    }

    pub(super) fn to_value(self) -> Value {
        match self {
            Found::Captured(value) => value.to_value(),
            Found::Grouped(value) => value.clone(),
        }
    }
}

/// A number as written, in thousandths. What is beyond 9e12 is too large to be added up exactly, and no number here.
fn thousandths(text: &str) -> Option<i64> {
    const LARGEST: i64 = 9_000_000_000_000;
    if let Ok(whole) = text.parse::<i64>() {
        return whole.checked_mul(1000).filter(|_| (-LARGEST..=LARGEST).contains(&whole));
    }
    // Rust also reads `inf`, `nan` and the like.
    let number: f64 = text.parse().ok().filter(|number: &f64| number.abs() <= LARGEST as f64)?;
    Some((number * 1000.0).round() as i64)
}

/// The values of a group, in the order of `group-by`.
pub(super) type Values<'a> = SmallVec<[Found<'a>; 4]>;

/// One group that a match belongs to.
#[derive(Debug)]
pub(super) struct Hit<'a> {
    pub(super) key: u128,
    pub(super) values: Values<'a>,
    /// The inputs of the correlation, by position, that the match stands for in this group.
    pub(super) positions: SmallVec<[u16; 2]>,
    /// The counted values (a tuple of fields is one value): hashes, or numbers in thousandths.
    pub(super) tuples: SmallVec<[u128; 1]>,
}

pub(super) type Hits<'a> = SmallVec<[Hit<'a>; 1]>;

/// The only group that a match belongs to, where it has one value a field: what almost every match is. What its values are
/// is asked of the few that fire.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sole {
    pub(super) key: u128,
    /// The value counted, if there is one.
    pub(super) counted: Option<u128>,
}

/// Where a match's values are found.
#[derive(Clone, Copy)]
pub(super) struct Signal<'a> {
    pub(super) trace: &'a Trace,
    pub(super) hop: Option<&'a Hop>,
    /// Whose groups these are; `None` where clusters are kept apart otherwise, or mixed.
    pub(super) cluster: Option<ClusterId>,
}

/// What a match that stands at one place only, with one value per field, is. `None` if it is not; then [`several`] says
/// what it is.
pub(super) fn sole(plans: &Plans, plan: &Plan, positions: &[u16], signal: Signal<'_>) -> Option<Sole> {
    let [position] = positions else { return None };
    let (group, counted) = plan.fields_at(*position);
    let hash = |field: &Field| plans.sole_value(field, signal.trace, signal.hop).map(|value| value.hash());
    let key = match (group, signal.cluster) {
        ([], None) => 0,
        ([field], None) => hash(field)?,
        _ => {
            let mut hashes = 0;
            let found = group.iter().map_while(hash).inspect(|_| hashes += 1);
            let key = plans.mixer.key(signal.cluster.map_or(u64::MAX, u64::from), found);
            (hashes == group.len()).then_some(key)?
        }
    };
    let counted = match counted {
        [] => None,
        [field] => Some(plan.counted(&plans.sole_value(field, signal.trace, signal.hop)?)?),
        _ => return None,
    };
    Some(Sole { key, counted })
}

/// The values of the group of a match that is [sole].
pub(super) fn sole_values<'a>(plans: &Plans, plan: &Plan, positions: &[u16], signal: Signal<'a>) -> Values<'a> {
    let fields = positions.iter().flat_map(|position| plan.fields_at(*position).0);
    fields.filter_map(|field| plans.sole_value(field, signal.trace, signal.hop)).collect()
}

/// The groups of a match that stands at `positions` among the inputs of `plan`, sorted by their values if there are
/// several. Empty if a field is missing. `cut` counts what is beyond `limit`.
pub(super) fn several<'a>(
    plans: &Plans,
    plan: &Plan,
    positions: &[u16],
    signal: Signal<'a>,
    limit: usize,
    cut: &mut u64,
) -> Hits<'a> {
    let mut hits: Hits<'a> = SmallVec::new();
    for &position in positions {
        let (group, counted) = plan.fields_at(position);
        let mut tuples: SmallVec<[u128; 1]> = SmallVec::new();
        if !counted.is_empty() {
            cross(plans, counted, signal, limit, cut, |tuple| match tuple {
                [only] => tuples.extend(plan.counted(only)),
                _ => tuples.push(key(plans, tuple, None)),
            });
            if tuples.is_empty() {
                continue;
            }
        }
        cross(plans, group, signal, limit, cut, |values| {
            let key = key(plans, values, signal.cluster);
            match hits.iter_mut().find(|h| h.key == key) {
                // The same input at another position: one match, whatever it stands for.
                Some(hit) => {
                    hit.positions.push(position);
                    hit.tuples.extend(tuples.iter().copied());
                }
                None => hits.push(Hit {
                    key,
                    values: SmallVec::from_slice(values),
                    positions: SmallVec::from_elem(position, 1),
                    tuples: tuples.clone(),
                }),
            }
        });
    }
    if hits.len() > 1 {
        // By the values as shown, then by their hashes, as firings are.
        hits.sort_by_cached_key(|hit| -> (Vec<Cow<'a, str>>, Vec<u128>) {
            (hit.values.iter().map(Found::shown).collect(), hit.values.iter().map(Found::hash).collect())
        });
    }
    hits
}

/// The order of groups: by their values as shown, then by their hashes.
pub(super) fn compare<'a>(
    a: impl Iterator<Item = &'a Value> + Clone,
    b: impl Iterator<Item = &'a Value> + Clone,
) -> std::cmp::Ordering {
    let text = a.clone().map(|v| &v.text).cmp(b.clone().map(|v| &v.text));
    text.then_with(|| a.map(|v| v.hash).cmp(b.map(|v| v.hash)))
}

/// Calls `each` for every combination of the fields' distinct values, at most `limit` of them.
fn cross<'a>(
    plans: &Plans,
    fields: &[Field],
    signal: Signal<'a>,
    limit: usize,
    cut: &mut u64,
    mut each: impl FnMut(&[Found<'a>]),
) {
    let mut columns: SmallVec<[Column<'a>; 4]> = SmallVec::new();
    let mut total = 1usize;
    for field in fields {
        let column = plans.values(field, signal.trace, signal.hop);
        total = total.saturating_mul(column.len());
        columns.push(column);
    }
    *cut += total.saturating_sub(limit) as u64;
    let mut row: SmallVec<[Found<'a>; 4]> = SmallVec::new();
    for index in 0..total.min(limit) {
        row.clear();
        let mut rest = index;
        // The last field turns fastest; built from the back, so that the division finds it first.
        for column in columns.iter().rev() {
            row.push(column[rest % column.len()]);
            rest /= column.len();
        }
        row.reverse();
        each(&row);
    }
}

/// One key for a tuple of values. A single value has its own: it is a BLAKE3 already.
#[inline]
pub(super) fn key(plans: &Plans, values: &[Found<'_>], cluster: Option<ClusterId>) -> u128 {
    match (values, cluster) {
        ([only], None) => only.hash(),
        ([], None) => 0,
        _ => plans.mixer.key(cluster.map_or(u64::MAX, u64::from), values.iter().map(Found::hash)),
    }
}

/// The same key in every run: for what is ordered by it.
pub(super) fn lasting_key(values: &[Found<'_>], cluster: Option<ClusterId>) -> u128 {
    let cluster = cluster.map_or(u64::MAX, u64::from).to_le_bytes();
    let hashes: SmallVec<[[u8; 16]; 4]> = values.iter().map(|value| value.hash().to_le_bytes()).collect();
    hash128(std::iter::once(&cluster[..]).chain(hashes.iter().map(|hash| &hash[..])))
}
