//! What the window stage must do, the slow way: all matches are there at once, and every condition is computed from
//! scratch over the whole history of its group. Written from DESIGN §4 and §5, not from the implementation.

use std::collections::{BTreeMap, BTreeSet};

use auditwatch::engine::CaptureTable;
use auditwatch::engine::captures::fields_of;
use auditwatch::engine::matches::{ClusterId, Firing, Identity, Match, Origin, Value};
use auditwatch::rules::expr::Cmp;
use auditwatch::rules::{Correlation, CorrelationKind, Input, Measure, Needed, RuleSet, Seen};

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
    /// Newest event time per cluster.
    pub newest: BTreeMap<ClusterId, i64>,
}

/// A cluster (unless they are mixed) and the values of a group.
type Key = (Option<ClusterId>, Vec<String>);
/// A match that a group is waited for, or that it ends the wait with: the match, its group, whether it is one that ends.
type Visit<'a> = (&'a Timed, Vec<(String, Value)>, bool);

impl Oracle<'_> {
    /// The matches that count, in event order: the first of each request and rule.
    pub fn merged(&self, mut all: Vec<Timed>) -> Vec<Timed> {
        all.sort_by_key(|t| (t.time, t.m.identity(), t.m.stage, t.m.rule));
        let mut until: BTreeMap<(u32, Identity), i64> = BTreeMap::new();
        all.retain(|t| {
            let known = until.get(&(t.m.rule, t.m.identity())).is_some_and(|until| t.time <= *until);
            if !known {
                let horizon = if t.m.long_running { self.horizon_long } else { self.horizon };
                until.insert((t.m.rule, t.m.identity()), t.time + horizon);
            }
            !known
        });
        all
    }

    /// Everything that must be told, in the order of a replay.
    pub fn told(&self, merged: &[Timed]) -> Vec<Told> {
        let mut out = Vec::new();
        let mut histories: Vec<BTreeMap<_, History>> = self.set.correlations.iter().map(|_| BTreeMap::new()).collect();
        let mut scopes: Vec<BTreeMap<Key, Vec<i64>>> = self.set.correlations.iter().map(|_| BTreeMap::new()).collect();
        let mut visits: Vec<BTreeMap<Key, Vec<Visit<'_>>>> =
            self.set.correlations.iter().map(|_| BTreeMap::new()).collect();
        let mut events = 0;
        for run in merged.chunk_by(|a, b| (a.time, a.m.identity()) == (b.time, b.m.identity())) {
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
                        let mut names: Vec<_> = group_names(c).into_iter().zip(group).collect();
                        if let CorrelationKind::EventAbsence { after } = c.kind {
                            let begins = c.inputs.len() - after;
                            let ends = after > 0 && !past.positions.iter().any(|p| *p >= begins);
                            visits[index].entry((cluster, texts)).or_default().push((signal.base, names, ends));
                            continue;
                        }
                        let scope = scopes[index].entry((cluster, texts[..c.group_by.len()].to_vec())).or_default();
                        scope.push(past.time);
                        let history = histories[index].entry((cluster, texts)).or_default();
                        history.past.push(past);
                        if !learned(c, scope) {
                            continue;
                        }
                        let Some((count, from, events)) = fires(c, history) else { continue };
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
        for (index, groups) in visits.into_iter().enumerate() {
            for ((cluster, _), visits) in groups {
                self.absent(index, cluster, &visits, &mut out);
            }
        }
        out.sort_by(|a, b| (a.time, a.identity, a.origin, &a.group).cmp(&(b.time, b.identity, b.origin, &b.group)));
        out
    }

    /// Whether a correlation mixes clusters, or is fed by one that does.
    fn behind(&self, index: usize) -> bool {
        let c = &self.set.correlations[index];
        let fed = |input: &Input| matches!(input, Input::Correlation(other) if self.behind(*other));
        c.across_clusters || c.inputs.iter().any(fed)
    }

    /// Tells the silences of one group that are over by the newest event.
    fn absent(&self, index: usize, cluster: Option<ClusterId>, visits: &[Visit<'_>], out: &mut Vec<Told>) {
        let c = &self.set.correlations[index];
        // What lives behind all clusters has their common time.
        let newest = match cluster {
            Some(cluster) if !self.behind(index) => self.newest.get(&cluster).copied(),
            _ => self.newest.values().max().copied(),
        };
        let has_after = matches!(c.kind, CorrelationKind::EventAbsence { after } if after > 0);
        let mut told_until = i64::MIN;
        for (place, (base, names, ends)) in visits.iter().enumerate() {
            let end = base.time + c.timespan_us;
            let mut later = visits[place + 1..].iter().take_while(|(next, ..)| next.time <= end);
            let ended = if has_after { later.any(|(_, _, ends)| *ends) } else { later.next().is_some() };
            // One wait at a time: it began with the first that was not waited for already.
            let waited = has_after && {
                let mut open: Option<i64> = None;
                for (earlier, _, ends) in &visits[..place] {
                    open = match open.filter(|since| earlier.time <= since + c.timespan_us) {
                        _ if *ends => None,
                        Some(since) => Some(since),
                        None => Some(earlier.time),
                    };
                }
                open.is_some_and(|since| base.time <= since + c.timespan_us)
            };
            if *ends || ended || waited || Some(end) > newest || !c.alerts {
                continue;
            }
            assert!(end >= told_until);
            told_until = end;
            let window = Some((base.time, end));
            let events = vec![base.m.trace.excerpt().audit_id.to_string()];
            let origin = Origin::Correlation(index as u32);
            out.push(Told { time: end, ..tell(base, origin, names.clone(), 0, window, events) });
        }
    }

    /// The groups of a match, in order, with what it is in each.
    fn groups(&self, c: &Correlation, signal: &Signal) -> Vec<(Vec<Value>, Past)> {
        let mut groups: BTreeMap<Vec<String>, (Vec<Value>, Past)> = BTreeMap::new();
        for position in (0..c.inputs.len()).filter(|p| c.inputs[*p] == signal.from) {
            let fields = fields_of(c, position);
            let (by, counted) = fields.split_at(group_names(c).len());
            let mut values = self.rows(counted, signal);
            if let CorrelationKind::Numbers(..) = c.kind {
                values.retain(|row| row[0].text.parse::<f64>().is_ok());
            }
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

/// The names of a group's values: of the fields to group by, and of those that may be new.
fn group_names(c: &Correlation) -> Vec<String> {
    let mut names = c.group_by.clone();
    if let CorrelationKind::NewValue { fields, .. } = &c.kind {
        names.extend(fields.iter().cloned());
    }
    names
}

/// Whether a scope has learned for long enough by its newest match.
fn learned(c: &Correlation, times: &[i64]) -> bool {
    let CorrelationKind::NewValue { learning_us, .. } = c.kind else { return true };
    let gap = times.windows(2).rposition(|pair| pair[1] - pair[0] > c.timespan_us);
    times.last().is_some_and(|now| now - times[gap.map_or(0, |gap| gap + 1)] >= learning_us)
}

fn seen(condition: &Seen, last: &dyn Fn(usize) -> bool) -> bool {
    match condition {
        Seen::Input(place) => last(*place),
        Seen::And(parts) => !parts.iter().any(|part| !seen(part, last)),
        Seen::Or(parts) => parts.iter().any(|part| seen(part, last)),
        Seen::Not(part) => !seen(part, last),
    }
}

/// The numbers of the tests are such that all of this is exact.
fn measure_of(measure: Measure, numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let sum: f64 = numbers.iter().sum();
    match measure {
        Measure::Sum => sum,
        Measure::Avg => sum / numbers.len() as f64,
        Measure::Percentile(percentile) => {
            let place = f64::from(percentile) / 100_000.0 * (numbers.len() - 1) as f64;
            let (low, high) = (numbers[place.floor() as usize], numbers[place.ceil() as usize]);
            low + (high - low) * place.fract()
        }
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
        CorrelationKind::Numbers(measure, bounds, _) => {
            let texts = inside.iter().flat_map(|past| &past.values);
            let mut numbers: Vec<f64> = texts.map(|row| row[0].parse::<f64>().unwrap()).collect();
            let measured = measure_of(*measure, &mut numbers);
            let holds = bounds.iter().all(|(cmp, k)| cmp.holds(&measured, &(*k as f64 / 1000.0)));
            holds.then(|| (numbers.len(), inside[0].time, (0..inside.len()).collect()))?
        }
        CorrelationKind::Temporal(needed) => {
            let last = |p: usize| inside.iter().rposition(|past| past.positions.contains(&p));
            let used: Vec<usize> = (0..c.inputs.len()).filter_map(last).collect();
            let holds = match needed {
                Needed::All => used.len() == c.inputs.len(),
                Needed::Count(conditions) => holds(conditions, used.len()),
                Needed::Seen(condition) => seen(condition, &|place| last(place).is_some()),
            };
            holds.then_some((used.len(), used.iter().map(|i| inside[*i].time).min()?, used))?
        }
        CorrelationKind::NewValue { .. } => {
            return (inside.len() == 1).then(|| (1, now.time, vec![now.event.1.clone()]));
        }
        CorrelationKind::EventAbsence { .. } => return None,
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
    let (cluster, identity) = (base.m.cluster, base.m.identity());
    Told { time: base.time, identity, origin, group, cluster, count, window, events, late: false }
}
