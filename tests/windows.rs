//! The window stage against an oracle that computes everything from scratch, and table by table.

mod oracle;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use auditwatch::engine::CaptureTable;
use auditwatch::engine::matches::{CaptureId, Excerpt, Firing, Match, SourceId, Stage, Trace, Value, Who};
use auditwatch::engine::window::{Correlator, Late, Settings};
use auditwatch::rules::expr::{Cmp, Expr, Span};
use auditwatch::rules::{Correlation, CorrelationKind, Input, Level, Measure, Meta, Needed, Rule, RuleSet, Seen};
use oracle::{Oracle, Timed, Told};
use proptest::prelude::*;

const FIELDS: [&str; 3] = ["a", "b", "c"];
const STAGES: [Stage; 3] = [Stage::ResponseStarted, Stage::ResponseComplete, Stage::Panic];

pub fn meta(id: String) -> Arc<Meta> {
    Arc::new(Meta {
        title: id.clone(),
        id,
        reference: None,
        name: None,
        description: String::new(),
        level: Level::Medium,
        tags: vec![],
        false_positives: vec![],
        references: vec![],
        file: String::new(),
        span: Span::default(),
    })
}

pub fn rules(alerts: &[bool]) -> Vec<Rule> {
    let rule = |(n, alerts): (usize, &bool)| Rule {
        meta: meta(format!("rule-{n}")),
        condition: Expr::Const(true),
        names_stage: false,
        alerts: *alerts,
    };
    alerts.iter().enumerate().map(rule).collect()
}

pub fn correlation(kind: CorrelationKind, inputs: &[Input], group_by: &[&str], timespan_us: i64) -> Correlation {
    Correlation {
        meta: meta("correlation".into()),
        inputs: inputs.to_vec(),
        kind,
        group_by: group_by.iter().map(|s| s.to_string()).collect(),
        aliases: BTreeMap::new(),
        timespan_us,
        realert_us: 3_600_000_000,
        suppress_us: 0,
        across_clusters: false,
        alerts: true,
    }
}

pub fn value(text: &str) -> Value {
    // Any injective function will do for texts this short.
    let hash = text.bytes().fold(text.len() as u128, |hash, byte| (hash << 8) | u128::from(byte));
    Value { hash, text: text.into() }
}

/// An event as the API server wrote it; `rules` matched it.
#[derive(Debug, Clone)]
pub struct Event {
    pub time: Option<i64>,
    pub request: u8,
    pub cluster: u32,
    pub stage: Stage,
    pub long_running: bool,
    pub rules: Vec<u32>,
    pub fields: Vec<(&'static str, Vec<String>)>,
    pub name: String,
}

impl Event {
    pub fn matches(&self, table: &CaptureTable, newest_before: Option<i64>) -> Vec<Match> {
        let mut identity = [0; 16];
        // Neither by cluster nor by request alone, so that clusters interleave within one time.
        (identity[0], identity[1]) = (self.request.wrapping_mul(37), self.cluster as u8);
        identity[15] = self.request;
        let told = Excerpt { audit_id: self.name.as_str().into(), ..Excerpt::default() };
        let one = |rule: &u32| {
            let captured = table.per_rule[*rule as usize].iter().map(|id| {
                let values = self.fields.iter().find(|(name, _)| *name == table.fields[*id as usize]);
                values.into_iter().flat_map(|(_, texts)| texts.iter().map(|t| (*id, value(t))))
            });
            let captured: Vec<(CaptureId, Value)> = captured.flatten().collect();
            Match {
                rule: *rule,
                time: self.time,
                newest_before,
                who: Who::Known(identity),
                stage: self.stage,
                cluster: self.cluster,
                long_running: self.long_running,
                trace: Trace::new(&told, &captured),
            }
        };
        self.rules.iter().map(one).collect()
    }
}

/// Cuts events of one source into the arguments of one `absorb`.
pub fn batch(events: &[Event], table: &CaptureTable) -> (Option<i64>, Vec<Match>) {
    let mut newest = None;
    let mut matches = Vec::new();
    for event in events {
        matches.extend(event.matches(table, newest));
        newest = newest.max(event.time);
    }
    (newest, matches)
}

/// A random correlation; inputs are picked from what stands before it.
#[derive(Debug, Clone)]
struct Spec {
    kind: u8,
    /// Which of the forms that the kind has.
    form: u8,
    inputs: Vec<usize>,
    conditions: Vec<(Cmp, i64)>,
    group_by: Vec<usize>,
    /// The alias `x` is one more field to group by: per input, which field.
    alias: Option<Vec<Option<usize>>>,
    counted: Vec<usize>,
    times: (i64, i64, i64),
    flags: (bool, bool),
}

impl Spec {
    /// `inputs` are the indices of correlations that may be read.
    fn build(&self, rules: usize, readable: &[usize]) -> Correlation {
        let pick = |i: &usize| match i % (rules + readable.len()) {
            rule if rule < rules => Input::Rule(rule),
            other => Input::Correlation(readable[other - rules]),
        };
        let mut inputs: Vec<Input> = self.inputs.iter().map(pick).collect();
        if (4..7).contains(&self.kind) {
            // No rule set has the same rule twice here, and a match would add its numbers twice.
            let mut known = BTreeSet::new();
            inputs.retain(|input| known.insert(*input));
        }
        let last = inputs.len() - 1;
        let counted: Vec<String> = self.counted.iter().map(|f| FIELDS[*f].to_string()).collect();
        let measured = |measure| {
            let bounds = self.conditions.iter().map(|(cmp, k)| (*cmp, k * 1000 - 500 * i64::from(self.form & 1)));
            CorrelationKind::Numbers(measure, bounds.collect(), vec!["n".to_string()])
        };
        let needed = || match self.form {
            0 => Needed::All,
            1 => Needed::Count(self.conditions.clone()),
            2 => Needed::Seen(Seen::And(vec![Seen::Input(0), Seen::Not(Box::new(Seen::Input(last)))])),
            3 => Needed::Seen(Seen::Or(vec![Seen::Not(Box::new(Seen::Input(0))), Seen::Input(last)])),
            _ => Needed::Seen(Seen::And((0..=last).map(Seen::Input).collect())),
        };
        let kind = match self.kind {
            0 => CorrelationKind::EventCount(self.conditions.clone()),
            1 => CorrelationKind::ValueCount(self.conditions.clone(), counted),
            2 => CorrelationKind::Temporal(needed()),
            3 => CorrelationKind::TemporalOrdered,
            4 => measured(Measure::Sum),
            5 => measured(Measure::Avg),
            6 => measured(Measure::Percentile([0, 25_000, 50_000, 95_000, 100_000][usize::from(self.form)])),
            7 => CorrelationKind::NewValue { fields: counted, learning_us: i64::from(self.form) * 5 },
            _ => CorrelationKind::EventAbsence { after: usize::from(self.form / 2).min(last) },
        };
        let mut c = correlation(kind, &inputs, &[], self.times.0);
        c.group_by = self.group_by.iter().map(|f| FIELDS[*f].to_string()).collect();
        if let Some(fields) = &self.alias {
            c.group_by.push("x".into());
            let fields = fields.iter().map(|f| f.map(|f| FIELDS[f].to_string())).collect();
            c.aliases.insert("x".into(), fields);
        }
        (c.realert_us, c.suppress_us) = (self.times.1, self.times.2);
        (c.across_clusters, c.alerts) = self.flags;
        c
    }
}

fn spec() -> impl Strategy<Value = Spec> {
    let cmp = prop_oneof![
        6 => Just(Cmp::Ge),
        1 => prop_oneof![Just(Cmp::Gt), Just(Cmp::Eq), Just(Cmp::Ne), Just(Cmp::Lt), Just(Cmp::Le)],
    ];
    let alias = proptest::option::weighted(0.3, prop::collection::vec(proptest::option::of(0..3usize), 4));
    (
        (0..9u8, 0..5u8),
        prop::collection::vec(0..100usize, 1..4),
        prop::collection::vec((cmp, 0..5i64), 1..3),
        prop::sample::subsequence(vec![0, 1, 2], 0..3),
        alias,
        prop::sample::subsequence(vec![0, 1, 2], 1..3),
        (0..15i64, 0..20i64, prop_oneof![Just(0), 0..20i64]),
        (prop::bool::weighted(0.25), prop::bool::weighted(0.8)),
    )
        .prop_map(|((kind, form), inputs, conditions, group_by, alias, counted, times, flags)| Spec {
            kind,
            form,
            inputs,
            conditions,
            group_by,
            alias,
            counted,
            times,
            flags,
        })
}

/// An event, and the sources of its cluster that deliver it, each with a delay.
fn delivered() -> impl Strategy<Value = (Event, [Option<i64>; 2])> {
    let few = || prop::collection::vec(prop::sample::select(vec!["p", "q", "r"]).prop_map(String::from), 0..4);
    let b = prop::sample::select(vec!["p", "q"]);
    let n = prop::collection::vec(prop::sample::select(vec!["1", "2.5", "-3", "4", "x"]).prop_map(String::from), 0..3);
    (
        (proptest::option::weighted(0.95, 0..60i64), 0..12u8, 0..2u32, 0..3usize),
        prop::sample::subsequence(vec![0, 1, 2], 0..=3),
        (few(), b, few(), n),
        [proptest::option::weighted(0.7, 0..10i64), proptest::option::weighted(0.3, 0..10i64)],
    )
        .prop_map(|((time, request, cluster, stage), rules, (a, b, c, n), by)| {
            let event = Event {
                time,
                request,
                cluster,
                stage: STAGES[stage],
                long_running: request % 3 == 0,
                rules,
                fields: vec![("a", a), ("b", vec![b.into()]), ("c", c), ("n", n)],
                name: String::new(),
            };
            (event, by)
        })
}

#[derive(Debug, Clone)]
struct Case {
    set: RuleSet,
    settings: Settings,
    /// Per source (two for each of two clusters), in order of delivery.
    sources: Vec<Vec<Event>>,
    /// Which source is read next, and how much of it.
    schedule: Vec<(usize, usize)>,
}

fn case() -> impl Strategy<Value = Case> {
    (
        prop::collection::vec(any::<bool>(), 3),
        prop::collection::vec(spec(), 1..5),
        prop::collection::vec(delivered(), 0..60),
        prop::collection::vec((0..4usize, 1..6usize), 1..40),
        (0..8i64, 1..7usize, any::<bool>()),
    )
        .prop_map(|(alerts, specs, events, schedule, (lateness, fanout, ordered))| {
            let mut correlations: Vec<Correlation> = Vec::new();
            for spec in specs {
                // What fires without a match comes at another place among those of its time than the oracle would put it.
                let absent = |c: &Correlation| matches!(c.kind, CorrelationKind::EventAbsence { .. });
                let readable: Vec<usize> = (0..correlations.len()).filter(|c| !absent(&correlations[*c])).collect();
                correlations.push(spec.build(alerts.len(), &readable));
            }
            let set = RuleSet { rules: rules(&alerts), correlations };
            let settings = Settings {
                lateness_us: lateness,
                dedupe_horizon_us: 15,
                dedupe_horizon_long_us: 40,
                fanout_max: fanout,
                ordered_output: ordered,
                ..Settings::default()
            };
            Case { set, settings, sources: deliver(events, lateness), schedule }
        })
}

/// Who delivers what, in which order: anything goes within the lateness.
fn deliver(events: Vec<(Event, [Option<i64>; 2])>, lateness: i64) -> Vec<Vec<Event>> {
    let mut sources: Vec<Vec<(i64, Event)>> = vec![Vec::new(); 4];
    let mut known = BTreeSet::new();
    for (number, (mut event, by)) in events.into_iter().enumerate() {
        // One event of a request, a stage and a time.
        if event.time.is_some() && !known.insert((event.time, event.request, event.cluster, event.stage)) {
            continue;
        }
        event.name = format!("e{number}");
        if event.time.is_none() {
            event.request = 100 + number as u8;
        }
        for (which, delay) in by.iter().enumerate() {
            // An event without a time would get another one from each source.
            if let (Some(delay), true) = (delay, which == 0 || event.time.is_some()) {
                let at = event.time.unwrap_or(number as i64) + delay % (lateness + 1);
                sources[event.cluster as usize * 2 + which].push((at, event.clone()));
            }
        }
    }
    let order = |mut source: Vec<(i64, Event)>| -> Vec<Event> {
        source.sort_by_key(|(at, _)| *at);
        // Nothing can be said of an event without a time before all others.
        source.into_iter().map(|(_, event)| event).skip_while(|event| event.time.is_none()).collect()
    };
    sources.into_iter().map(order).collect()
}

/// Plays a case as its schedule says, the rest of each source at the end.
fn play(case: &Case, table: &Arc<CaptureTable>) -> (Vec<Firing>, Correlator) {
    let mut correlator = Correlator::new(Arc::new(case.set.clone()), Arc::clone(table), case.settings.clone());
    let mut rest: Vec<&[Event]> = case.sources.iter().map(Vec::as_slice).collect();
    for (source, events) in (0u32..).zip(&rest) {
        correlator.add_source(source, source / 2, events.iter().find_map(|e| e.time));
    }
    let mut out = Vec::new();
    let everything = (0..4).map(|source| (source, usize::MAX));
    for (source, size) in case.schedule.iter().copied().chain(everything) {
        if rest[source].is_empty() {
            continue;
        }
        let (now, later) = rest[source].split_at(size.min(rest[source].len()));
        let (newest, matches) = batch(now, table);
        correlator.absorb(source as SourceId, source as u32 / 2, newest, matches, &mut out);
        rest[source] = later;
        if later.is_empty() {
            correlator.finish_source(source as SourceId, &mut out);
        }
    }
    correlator.finish(&mut out);
    (out, correlator)
}

/// The newest event time of each cluster.
fn newest(case: &Case) -> BTreeMap<u32, i64> {
    let mut newest = BTreeMap::new();
    for event in case.sources.iter().flatten() {
        let newest = newest.entry(event.cluster).or_insert(i64::MIN);
        *newest = (*newest).max(event.time.unwrap_or(i64::MIN));
    }
    newest
}

/// All matches with the times they count for.
fn timed(case: &Case, table: &CaptureTable) -> Vec<Timed> {
    let mut all = Vec::new();
    for source in &case.sources {
        let mut newest = None;
        for event in source {
            newest = newest.max(event.time);
            let time = event.time.or(newest).unwrap_or(0);
            all.extend(event.matches(table, None).into_iter().map(|m| Timed { time, m }));
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, max_shrink_iters: 50_000, ..ProptestConfig::default() })]

    /// Whatever the split, the interleaving and the order within the lateness: what the oracle says.
    #[test]
    fn tells_what_the_oracle_tells(case in case()) {
        let table = Arc::new(CaptureTable::new(&case.set));
        let oracle = Oracle {
            set: &case.set,
            table: &table,
            horizon: case.settings.dedupe_horizon_us,
            horizon_long: case.settings.dedupe_horizon_long_us,
            fanout: case.settings.fanout_max,
            newest: newest(&case),
        };
        let all = timed(&case, &table);
        let total = all.len();
        let merged = oracle.merged(all);
        let expected = oracle.told(&merged);
        let (out, correlator) = play(&case, &table);
        let mut told: Vec<Told> = out.iter().map(Told::from).collect();
        if !case.settings.ordered_output {
            told.sort_by(|a, b| {
                (a.time, a.identity, a.origin, &a.group).cmp(&(b.time, b.identity, b.origin, &b.group))
            });
        }
        prop_assert_eq!(told, expected);
        let stats = correlator.stats();
        prop_assert_eq!((stats.late, stats.late_across, stats.buffered), (0, 0, 0));
        prop_assert_eq!(stats.matches, total as u64);
        prop_assert_eq!(stats.duplicate_matches, (total - merged.len()) as u64);
        prop_assert!(out.iter().all(|f| !f.evidence_truncated && f.events.last() == Some(&f.trace)));
    }

    /// With everything going wrong that can (late matches, full buffers, full tables, no evidence), batches still have no
    /// meaning.
    #[test]
    fn batches_have_no_meaning(case in case(), tight in 0..16u8, count in any::<bool>()) {
        let mut case = case;
        let s = &mut case.settings;
        s.late = if count { Late::Count } else { Late::Drop };
        s.lateness_us /= 3;
        let limit = |bit: u8, small: usize, large: usize| if tight & bit != 0 { small } else { large };
        s.reorder_matches_max = limit(1, 5, 1000);
        s.keys_max = limit(2, 2, 1000);
        s.dedupe_entries_max = limit(4, 4, 1000);
        s.evidence_bytes_max = limit(8, 1500, 1 << 20);
        (s.numbers_max, s.absences_max) = (limit(2, 5, 1000), limit(2, 2, 1000));
        let table = Arc::new(CaptureTable::new(&case.set));
        let (out, correlator) = play(&case, &table);
        // The same order of events, one by one.
        let mut single = case.clone();
        single.schedule.extend((0..4).map(|source| (source, usize::MAX)));
        let mut left: Vec<usize> = case.sources.iter().map(Vec::len).collect();
        let one_by_one = |(source, size): (usize, usize)| {
            let take = size.min(left[source]);
            left[source] -= take;
            std::iter::repeat_n((source, 1), take)
        };
        single.schedule = single.schedule.into_iter().flat_map(one_by_one).collect();
        let (other, single) = play(&single, &table);
        let lines = |out: Vec<Firing>| -> Vec<String> {
            let mut lines: Vec<String> = out.iter().map(|f| format!("{f:?}")).collect();
            if !case.settings.ordered_output {
                // Live, what is due at once comes cluster by cluster.
                lines.sort();
            }
            lines
        };
        prop_assert_eq!(lines(out), lines(other));
        // How many groups live depends on nothing but the matches, too.
        prop_assert_eq!(correlator.stats(), single.stats());
    }
}
