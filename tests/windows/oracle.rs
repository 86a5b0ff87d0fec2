//! What the window stage must do, the slow way: all matches are there at once, and every condition is computed from
//! scratch over the whole history of its group. Written from DESIGN §4 and §5, not from the implementation.

use std::collections::{BTreeMap, BTreeSet};

use auditwatch::engine::CaptureTable;
use auditwatch::engine::captures::fields_of;
use auditwatch::engine::matches::{ClusterId, Firing, Identity, Match, Origin, Value};
use auditwatch::rules::expr::Cmp;
use auditwatch::rules::{Correlation, CorrelationKind, Input, RuleSet};

/// What is compared of a firing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told {
    pub time: i64,
    pub identity: Identity,
    pub origin: Origin,
    pub group: Vec<(String, String)>,
    pub cluster: ClusterId,
    pub count: u64,
    pub window: Option<(i64, i64)>,
    pub events: Vec<String>,
    pub late: bool,
}

impl From<&Firing> for Told {
    fn from(f: &Firing) -> Self {
        Told {
            time: f.time,
            identity: f.identity,
            origin: f.origin,
            group: f.group.iter().map(|(name, value)| (name.clone(), value.text.to_string())).collect(),
            cluster: f.cluster,
            count: f.count,
            window: f.window,
            events: f.events.iter().map(|e| e.excerpt().audit_id.to_string()).collect(),
            late: f.late,
        }
    }
}

/// A match with the time it counts for.
#[derive(Debug, Clone)]
pub struct Timed {
    pub time: i64,
    pub m: Match,
}

/// A match, or a correlation's firing on one.
#[derive(Clone)]
struct Signal<'a> {
    from: Input,
    base: &'a Timed,
    /// Names and values of the groups it has passed, the last correlation first.
    names: Vec<(String, Value)>,
}

/// One match in the history of a group.
struct Past {
    time: i64,
    /// Place of its event among all events, and the event's name.
    event: (usize, String),
    positions: BTreeSet<usize>,
    values: BTreeSet<Vec<String>>,
}

#[derive(Default)]
struct History {
    past: Vec<Past>,
    held: Vec<i64>,
    fired: Vec<i64>,
    episode: usize,
}

pub struct Oracle<'a> {
    pub set: &'a RuleSet,
    pub table: &'a CaptureTable,
    pub horizon: i64,
    pub horizon_long: i64,
    pub fanout: usize,
}

impl Oracle<'_> {
    /// The matches that count, in event order: the first of each request and rule.
    pub fn merged(&self, mut all: Vec<Timed>) -> Vec<Timed> {
        all.sort_by_key(|t| (t.time, t.m.identity, t.m.stage, t.m.rule));
        let mut until: BTreeMap<(u32, Identity), i64> = BTreeMap::new();
        all.retain(|t| {
            let known = until.get(&(t.m.rule, t.m.identity)).is_some_and(|until| t.time <= *until);
            if !known {
                let horizon = if t.m.long_running { self.horizon_long } else { self.horizon };
                until.insert((t.m.rule, t.m.identity), t.time + horizon);
            }
            !known
        });
        all
    }

    /// Everything that must be told, in the order of a replay.
    pub fn told(&self, merged: &[Timed]) -> Vec<Told> {
        let mut out = Vec::new();
        let mut histories: Vec<BTreeMap<_, History>> = self.set.correlations.iter().map(|_| BTreeMap::new()).collect();
        let mut events = 0;
        for run in merged.chunk_by(|a, b| (a.time, a.m.identity) == (b.time, b.m.identity)) {
            let mut told = Vec::new();
            let mut signals: Vec<Signal> = Vec::new();
            for base in run {
                let m = &base.m;
                signals.push(Signal { from: Input::Rule(m.rule as usize), base, names: Vec::new() });
                if self.set.rules[m.rule as usize].alerts {
                    told.push(tell(
                        base,
                        Origin::Rule(m.rule),
                        vec![],
                        1,
                        None,
                        vec![m.trace.excerpt().audit_id.to_string()],
                    ));
                }
            }
            for (index, c) in self.set.correlations.iter().enumerate() {
                let read: Vec<Signal> = signals.iter().filter(|s| c.inputs.contains(&s.from)).cloned().collect();
                for signal in read {
                    for (group, mut past) in self.groups(c, &signal) {
                        past.event.0 = events + signal.base.m.stage as usize;
                        let texts: Vec<String> = group.iter().map(|v| v.text.to_string()).collect();
                        let cluster = (!c.across_clusters).then_some(signal.base.m.cluster);
                        let history = histories[index].entry((cluster, texts)).or_default();
                        history.past.push(past);
                        let Some((count, from, events)) = fires(c, history) else { continue };
                        let mut names: Vec<_> = c.group_by.iter().cloned().zip(group).collect();
                        if c.alerts {
                            let window = Some((from, signal.base.time));
                            let origin = Origin::Correlation(index as u32);
                            told.push(tell(signal.base, origin, names.clone(), count, window, events));
                        }
                        names.extend(signal.names.iter().cloned());
                        signals.push(Signal { from: Input::Correlation(index), base: signal.base, names });
                    }
                }
            }
            events += 5;
            told.sort_by(|a, b| (a.origin, &a.group).cmp(&(b.origin, &b.group)));
            out.append(&mut told);
        }
        out
    }

    /// The groups of a match, in order, with what it is in each.
    fn groups(&self, c: &Correlation, signal: &Signal) -> Vec<(Vec<Value>, Past)> {
        let mut groups: BTreeMap<Vec<String>, (Vec<Value>, Past)> = BTreeMap::new();
        for position in (0..c.inputs.len()).filter(|p| c.inputs[*p] == signal.from) {
            let fields = fields_of(c, position);
            let (by, counted) = fields.split_at(c.group_by.len());
            let values = self.rows(counted, signal);
            for row in if values.is_empty() { Vec::new() } else { self.rows(by, signal) } {
                let time = signal.base.time;
                let event = (0, signal.base.m.trace.excerpt().audit_id.to_string());
                let past = Past { time, event, positions: BTreeSet::new(), values: BTreeSet::new() };
                let texts = row.iter().map(|v| v.text.to_string()).collect();
                let (_, past) = groups.entry(texts).or_insert((row, past));
                past.positions.insert(position);
                past.values.extend(values.iter().map(|row| row.iter().map(|v| v.text.to_string()).collect()));
            }
        }
        groups.into_values().collect()
    }

    /// Every combination of the fields' values; one without any field, none if a field is missing.
    fn rows(&self, fields: &[String], signal: &Signal) -> Vec<Vec<Value>> {
        let mut rows: Vec<Vec<Value>> = vec![Vec::new()];
        for field in fields {
            let mut values: Vec<Value> = match signal.names.iter().find(|(name, _)| name == field) {
                Some((_, value)) => vec![value.clone()],
                None => self
                    .table
                    .id(field)
                    .map_or(vec![], |id| signal.base.m.trace.values(id).map(|v| v.to_value()).collect()),
            };
            let mut known = BTreeSet::new();
            values.retain(|v| known.insert(v.hash));
            let add = |row: &Vec<Value>| -> Vec<Vec<Value>> {
                values.iter().map(|v| row.iter().cloned().chain([v.clone()]).collect()).collect()
            };
            rows = rows.iter().flat_map(add).collect();
        }
        rows.truncate(self.fanout);
        rows
    }
}

/// Whether the newest match of a group makes it fire: count, time of the oldest counted, events.
fn fires(c: &Correlation, h: &mut History) -> Option<(u64, i64, Vec<String>)> {
    let now = h.past.last()?;
    let first = h.past.iter().position(|p| now.time - p.time <= c.timespan_us)?;
    let inside = &h.past[first..];
    let begins = !h.held.iter().any(|t| now.time - t <= c.timespan_us);
    let (mut count, mut from, used): (usize, i64, Vec<usize>) = match &c.kind {
        CorrelationKind::EventCount(conditions) => {
            let used = inside.len().saturating_sub(need(conditions))..inside.len();
            holds(conditions, inside.len()).then(|| (inside.len(), inside[0].time, used.collect()))?
        }
        CorrelationKind::ValueCount(conditions, _) => {
            let mut last: BTreeMap<&Vec<String>, usize> = BTreeMap::new();
            for (index, past) in inside.iter().enumerate() {
                last.extend(past.values.iter().map(|value| (value, index)));
            }
            let mut last: Vec<usize> = last.into_values().collect();
            last.sort_unstable();
            let cap = if begins { last.len() } else { last.len().min(greatest(conditions) + 1) };
            let used = last[last.len().saturating_sub(need(conditions))..].to_vec();
            holds(conditions, last.len()).then(|| (cap, inside[last[last.len() - cap]].time, used))?
        }
        CorrelationKind::Temporal => {
            let last = |p| inside.iter().rposition(|past| past.positions.contains(&p));
            let used: Vec<usize> = (0..c.inputs.len()).map(last).collect::<Option<_>>()?;
            (used.len(), used.iter().map(|i| inside[*i].time).min()?, used)
        }
        CorrelationKind::TemporalOrdered => {
            let used = chain(inside, c.inputs.len(), &[])?;
            (used.len(), inside[used[0]].time, used)
        }
    };
    if begins {
        h.episode = first;
    } else if matches!(c.kind, CorrelationKind::EventCount(_)) {
        (count, from) = (h.past.len() - h.episode, h.past[h.episode].time);
    }
    let ago = h.fired.last().map(|t| now.time - t);
    h.held.push(now.time);
    if !(begins || ago.is_none_or(|ago| ago >= c.realert_us)) || ago.is_some_and(|ago| ago < c.suppress_us) {
        return None;
    }
    h.fired.push(now.time);
    let mut events: BTreeSet<_> = used.into_iter().map(|i| inside[i].event.clone()).collect();
    events.remove(&now.event);
    Some((count as u64, from, events.into_iter().chain([now.event.clone()]).map(|e| e.1).collect()))
}

/// The latest chain of distinct matches for all inputs in order, by trying all from the latest on.
fn chain(inside: &[Past], inputs: usize, so_far: &[usize]) -> Option<Vec<usize>> {
    if so_far.len() == inputs {
        return Some(so_far.to_vec());
    }
    (0..inside.len()).rev().find_map(|next| {
        let fits = inside[next].positions.contains(&so_far.len()) && !so_far.contains(&next);
        let later = so_far.last().is_none_or(|last| inside[*last].time <= inside[next].time);
        (fits && later).then(|| chain(inside, inputs, &[so_far, &[next]].concat())).flatten()
    })
}

fn holds(conditions: &[(Cmp, i64)], count: usize) -> bool {
    conditions.iter().all(|(cmp, k)| cmp.holds(&(count as i64), k))
}

fn greatest(conditions: &[(Cmp, i64)]) -> usize {
    conditions.iter().map(|c| c.1).max().unwrap_or(0).max(0) as usize
}

/// How many of the counted are listed.
fn need(conditions: &[(Cmp, i64)]) -> usize {
    let lower = conditions.iter().filter_map(|(cmp, k)| match cmp {
        Cmp::Ge | Cmp::Eq => Some(*k),
        Cmp::Gt => Some(k + 1),
        _ => None,
    });
    lower.max().map_or(greatest(conditions) + 1, |k| k.max(1) as usize)
}

fn tell(
    base: &Timed,
    origin: Origin,
    group: Vec<(String, Value)>,
    count: u64,
    window: Option<(i64, i64)>,
    events: Vec<String>,
) -> Told {
    let group = group.into_iter().map(|(name, value)| (name, value.text.to_string())).collect();
    let (cluster, identity) = (base.m.cluster, base.m.identity);
    Told { time: base.time, identity, origin, group, cluster, count, window, events, late: false }
}
