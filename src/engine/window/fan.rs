//! Fan-out: the groups that a match belongs to, and the values it adds to them.

use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use super::plan::{Field, Hop, Plan, Plans};
use crate::engine::matches::{Captures, ClusterId, Value};

/// One group that a match belongs to.
#[derive(Debug)]
pub(super) struct Hit<'a> {
    pub(super) key: u128,
    /// The group's values, in the order of `group-by`.
    pub(super) values: SmallVec<[&'a Value; 2]>,
    /// The inputs of the correlation, by position, that the match stands for in this group.
    pub(super) positions: SmallVec<[u16; 2]>,
    /// The counted values (a tuple of fields is one value).
    pub(super) tuples: SmallVec<[u128; 1]>,
}

pub(super) type Hits<'a> = SmallVec<[Hit<'a>; 1]>;

/// Where a match's values are found.
#[derive(Clone, Copy)]
pub(super) struct Signal<'a> {
    pub(super) captures: &'a Captures,
    pub(super) hop: Option<&'a Hop>,
    /// Whose groups these are; `None` where clusters are kept apart otherwise, or mixed.
    pub(super) cluster: Option<ClusterId>,
}

/// The groups of a match that stands at `positions` among the inputs of `plan`, sorted by their values if there are
/// several. Empty if a field is missing. `cut` counts what is beyond `limit`.
pub(super) fn hits<'a>(
    plans: &Plans,
    plan: &Plan,
    positions: &[u16],
    signal: Signal<'a>,
    limit: usize,
    cut: &mut u64,
) -> Hits<'a> {
    let mut hits: Hits<'a> = SmallVec::new();
    for &position in positions {
        let counted = &plan.counted_fields[usize::from(position)];
        let mut tuples: SmallVec<[u128; 1]> = SmallVec::new();
        if !counted.is_empty() {
            cross(plans, counted, signal, limit, cut, |tuple| tuples.push(key(tuple, None)));
            if tuples.is_empty() {
                continue;
            }
        }
        cross(plans, &plan.group_fields[usize::from(position)], signal, limit, cut, |values| {
            let key = key(values, signal.cluster);
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
    hits.sort_by(|a, b| compare(a.values.iter().copied(), b.values.iter().copied()));
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
    mut each: impl FnMut(&[&'a Value]),
) {
    let mut columns: SmallVec<[SmallVec<[&'a Value; 1]>; 2]> = SmallVec::new();
    let mut total = 1usize;
    for field in fields {
        let column = distinct(plans.values(field, signal.captures, signal.hop));
        total = total.saturating_mul(column.len());
        columns.push(column);
    }
    *cut += total.saturating_sub(limit) as u64;
    let mut row: SmallVec<[&'a Value; 2]> = SmallVec::new();
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

fn distinct(values: &[Value]) -> SmallVec<[&Value; 1]> {
    let mut out: SmallVec<[&Value; 1]> = SmallVec::new();
    for value in values {
        if !out.iter().any(|have| have.hash == value.hash) {
            out.push(value);
        }
    }
    out
}

/// One hash for a tuple of values. A single value is its own: it is a SHA-256 already.
fn key(values: &[&Value], cluster: Option<ClusterId>) -> u128 {
    if let ([only], None) = (values, cluster) {
        return only.hash;
    }
    if values.is_empty() && cluster.is_none() {
        return 0;
    }
    // A plain combination of hashes would let whoever chooses the values find two tuples that collide.
    let mut sha = Sha256::new();
    sha.update(cluster.map_or(u64::MAX, u64::from).to_le_bytes());
    for value in values {
        sha.update(value.hash.to_le_bytes());
    }
    let mut first = [0; 16];
    first.copy_from_slice(&sha.finalize()[..16]);
    u128::from_le_bytes(first)
}
