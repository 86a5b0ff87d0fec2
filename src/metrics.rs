//! Every metric of the daemon, declared once. Names follow Prometheus' conventions: base units, `_total` for what only
//! grows. The number of series is bounded: by the rules that are loaded, by what the configuration names, and by
//! [`SERIES_MAX`] where names come from outside.

mod declare;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use declare::Declare;
use prometheus::core::{Atomic, GenericCounter};
use prometheus::{
    Encoder, Gauge, GaugeVec, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};

use crate::engine::window::WindowStats;
use crate::rules::{Meta, RuleSet};
use crate::sink::route::Routed;
use crate::worker::Counts;

/// Most sources, and most clusters, that have series of their own; the others share `other`.
pub const SERIES_MAX: usize = 100;

/// The label of what has no series of its own.
const OTHER: &str = "other";

/// From a millisecond to a minute.
const BUCKETS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// What is known of a metric before it has counted anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Its labels.
    pub labels: Vec<String>,
    /// What it means.
    pub help: String,
}

/// What a sink did since the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct SinkCounts {
    /// Alerts it is done with.
    pub took: u64,
    /// Attempts that it refused.
    pub refused: u64,
    /// Alerts passed over because too many waited.
    pub passed_over: u64,
    /// Messages it took.
    pub sent: u64,
    /// Messages it will never take.
    pub given_up: u64,
    /// Alerts that wait for it.
    pub queued: u64,
    /// Whether any does.
    pub behind: bool,
    /// What became of alerts on the way.
    pub routed: Routed,
}

impl SinkCounts {
    /// These, and what an earlier sink of the name did.
    pub fn after(self, earlier: &SinkCounts) -> SinkCounts {
        let (new, old) = (self.routed, earlier.routed);
        SinkCounts {
            took: self.took + earlier.took,
            refused: self.refused + earlier.refused,
            passed_over: self.passed_over + earlier.passed_over,
            sent: self.sent + earlier.sent,
            given_up: self.given_up + earlier.given_up,
            routed: Routed {
                told: new.told + old.told,
                grouped: new.grouped + old.grouped,
                suppressed: new.suppressed + old.suppressed,
                silenced: new.silenced + old.silenced,
                unrouted: new.unrouted + old.unrouted,
                groups_forced: new.groups_forced + old.groups_forced,
            },
            ..self
        }
    }
}

/// All metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    declared: Vec<Declared>,
    sources: IntGauge,
    clusters: IntGauge,
    events: IntCounterVec,
    bytes: IntCounterVec,
    rejected: IntCounterVec,
    skipped: IntCounterVec,
    deeds: IntCounterVec,
    dead: IntCounterVec,
    newest: GaugeVec,
    source_lag: GaugeVec,
    matches: IntCounterVec,
    alerts: IntCounterVec,
    late: IntCounter,
    duplicates: IntCounter,
    ungrouped: IntCounter,
    limits: IntCounterVec,
    groups: IntGauge,
    groups_of: IntGaugeVec,
    buffered: IntGauge,
    memory: IntGauge,
    watermark: GaugeVec,
    watermark_lag: GaugeVec,
    commits: IntCounterVec,
    store: IntGauge,
    queue: IntGaugeVec,
    delivered: IntCounterVec,
    delivery_failures: IntCounterVec,
    behind: IntGaugeVec,
    queued: IntGaugeVec,
    messages: IntCounterVec,
    routed: IntCounterVec,
    given_up: IntCounterVec,
    delivery_time: HistogramVec,
    latency: HistogramVec,
    answers: IntCounterVec,
    reloads: IntCounterVec,
    reload_good: IntGauge,
    topics: IntGauge,
    lag: IntGaugeVec,
    partitions: IntGaugeVec,
    rebalances: IntCounterVec,
    clock: Gauge,
    clock_behind: Gauge,
    failing: IntGaugeVec,
}

impl Default for Metrics {
    /// All of them at nought.
    fn default() -> Self {
        let registry = Registry::new();
        let d = Declare { registry: &registry, declared: RefCell::default() };
        let build = d.gauges("auditwatch_build_info", "Always 1; the labels tell what runs.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        // Only fails where there is no /proc, and then tells nothing.
        let _ = registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()));
        let mut metrics = Metrics::declare(&d);
        metrics.declared = d.declared.into_inner();
        metrics
    }
}

/// Of what happened in the cluster, by [`Counts`], the names that the label `what` has.
const DEEDS: [&str; 3] = ["authentication_failure", "forbidden", "secret_read"];

impl Metrics {
    #[rustfmt::skip]
    fn declare(d: &Declare<'_>) -> Metrics {
        Metrics {
            registry: d.registry.clone(),
            declared: Vec::new(),
            sources: d.gauge("auditwatch_sources", "Sources of events that are known."),
            clusters: d.gauge("auditwatch_clusters", "Clusters that are known."),
            events: d.counters("auditwatch_events_total", "Audit events read.", &["source", "stage"]),
            bytes: d.counters("auditwatch_read_bytes_total", "Bytes read, after decompression.", &["source"]),
            rejected: d.counters("auditwatch_records_rejected_total", "Documents that gave no event: unreadable, too_large, not_audit; and inputs that broke off (broken).", &["source", "reason"]),
            skipped: d.counters("auditwatch_events_limited_total", "Events that rules could see in part only: malformed_body, untimed, expired_stage, skewed, fanout_cut.", &["reason"]),
            deeds: d.counters("auditwatch_requests_total", "Finished requests of a kind: authentication_failure (401), forbidden (403), secret_read (a Secret was got, listed or watched with success).", &["source", "what"]),
            dead: d.counters("auditwatch_dead_letter_total", "Documents that could not be read and were kept in the dead letter, or could not be kept (lost).", &["outcome"]),
            newest: d.times("auditwatch_source_newest_event_seconds", "Newest event time read, Unix time.", &["source"]),
            source_lag: d.times("auditwatch_source_lag_seconds", "How far the newest event time read is behind this machine's clock.", &["source"]),
            matches: d.counters("auditwatch_rule_matches_total", "Matches of rules, helpers too.", &["rule", "level"]),
            alerts: d.counters("auditwatch_alerts_total", "Alerts stored for the first time.", &["rule", "level"]),
            late: d.counter("auditwatch_late_matches_total", "Matches that came too late for windows."),
            duplicates: d.counter("auditwatch_duplicate_matches_total", "Matches of a request that had matched before."),
            ungrouped: d.counter("auditwatch_ungrouped_matches_total", "Matches without a field that a correlation reads."),
            limits: d.counters("auditwatch_limit_hits_total", "How often a limit on state had to bite.", &["limit"]),
            groups: d.gauge("auditwatch_window_groups", "Groups that correlations hold state of."),
            groups_of: d.gauges("auditwatch_correlation_groups", "Groups that a correlation holds state of.", &["rule"]),
            buffered: d.gauge("auditwatch_window_buffered_matches", "Matches that wait for the watermark."),
            memory: d.gauge("auditwatch_window_memory_bytes", "Memory of the state of windows: evidence as it is, groups, buffered matches and remembered requests by their usual size."),
            watermark: d.times("auditwatch_watermark_seconds", "Committed watermark of event time, Unix time.", &["cluster"]),
            watermark_lag: d.times("auditwatch_watermark_lag_seconds", "How far the committed watermark is behind this machine's clock.", &["cluster"]),
            commits: d.counters("auditwatch_store_commits_total", "Commits to the store.", &["outcome"]),
            store: d.gauge("auditwatch_store_bytes", "Size of the store with its write-ahead log."),
            queue: d.gauges("auditwatch_queue_items", "What waits between two parts: bodies that were posted (webhook), bodies that wait for their answer (answers).", &["queue"]),
            delivered: d.counters("auditwatch_sink_alerts_total", "Alerts that a sink is done with.", &["sink"]),
            delivery_failures: d.counters("auditwatch_sink_failures_total", "Attempts that a sink refused.", &["sink"]),
            behind: d.gauges("auditwatch_sink_behind", "1 while a sink has not taken all stored alerts.", &["sink"]),
            queued: d.gauges("auditwatch_sink_queued_alerts", "Stored alerts that a sink has not taken.", &["sink"]),
            messages: d.counters("auditwatch_sink_messages_total", "Messages that a sink took; one may tell many alerts.", &["sink"]),
            routed: d.counters("auditwatch_sink_routed_total", "What became of alerts on their way: told, grouped (told with others), suppressed, silenced, unrouted (no route wants them); and groups_forced, groups told before their time because there were too many.", &["sink", "outcome"]),
            given_up: d.counters("auditwatch_sink_given_up_total", "Alerts that a sink is never told: refused for their content, or passed over because more than max_backlog waited (backlog).", &["sink", "reason"]),
            delivery_time: d.histograms("auditwatch_sink_delivery_seconds", "How long a sink takes for what it is given.", &["sink"]),
            latency: d.histograms("auditwatch_alert_latency_seconds", "From reading an event to the sink's having its alert; for a correlation that is with the wait for the watermark.", &["sink", "kind"]),
            answers: d.counters("auditwatch_webhook_answers_total", "Answers of the audit webhook.", &["code"]),
            reloads: d.counters("auditwatch_reloads_total", "Times that the configuration was read again: done, or refused, in which case the old one stays.", &["outcome"]),
            reload_good: d.gauge("auditwatch_reload_last_successful", "1 unless the last reload was refused."),
            topics: d.gauge("auditwatch_kafka_topics", "Topics of Kafka that are known."),
            lag: d.gauges("auditwatch_kafka_lag_records", "Records of our partitions not stored yet.", &["topic"]),
            partitions: d.gauges("auditwatch_kafka_partitions", "Partitions that are ours.", &["topic"]),
            rebalances: d.counters("auditwatch_kafka_rebalances_total", "Changes of the consumer group: partitions assigned, revoked, lost.", &["change"]),
            clock: d.add("gauge", Gauge::new("auditwatch_clock_seconds", "The clock that events are held against, Unix time.")),
            clock_behind: d.add("gauge", Gauge::new("auditwatch_clock_behind_seconds", "How far this machine's clock has gone back, and not come again.")),
            failing: d.gauges("auditwatch_source_failing", "1 while a log is not there or cannot be read.", &["source"]),
        }
    }

    /// All of them, whether they have counted anything or not, in the order of their names.
    pub fn declared(&self) -> Vec<Declared> {
        let mut declared = self.declared.clone();
        declared.sort_by(|a, b| a.name.cmp(&b.name));
        declared
    }
}

/// The label of one more name from outside: its own while there is room.
fn label(known: &IntGauge, name: &str) -> String {
    known.inc();
    if known.get() > SERIES_MAX as i64 { OTHER.to_owned() } else { name.to_owned() }
}

/// Brings a counter up to a total that is counted elsewhere.
fn up_to<P: Atomic<T = u64>>(counter: &GenericCounter<P>, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

/// Microseconds as Prometheus tells times: seconds.
fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}

impl Metrics {
    /// Gives every rule its series, so that a rule that never held is seen to be there.
    pub fn know_rules(&self, set: &RuleSet) {
        let alerting = set.rules.iter().filter(|rule| rule.alerts).map(|rule| &rule.meta);
        let correlations = set.correlations.iter().filter(|correlation| correlation.alerts).map(|c| &c.meta);
        for rule in &set.rules {
            self.of_rule(&self.matches, &rule.meta);
        }
        for meta in alerting.chain(correlations) {
            self.of_rule(&self.alerts, meta);
        }
    }

    fn of_rule(&self, family: &IntCounterVec, meta: &Meta) -> IntCounter {
        family.with_label_values(&[&meta.id, meta.level.name()])
    }

    /// The label of a new source: only so many have one of their own. To be asked once for each.
    pub fn source_label(&self, name: &str) -> String {
        label(&self.sources, name)
    }

    /// The label of a new cluster. To be asked once for each.
    pub fn cluster_label(&self, name: &str) -> String {
        label(&self.clusters, name)
    }

    /// One batch of a source was worked on.
    pub fn batch(&self, source: &str, counts: &Counts, oversized: u64, broken: bool) {
        const STAGES: [&str; 5] = ["RequestReceived", "ResponseStarted", "ResponseComplete", "Panic", "other"];
        for (stage, count) in STAGES.iter().zip(counts.by_stage).filter(|(_, count)| *count > 0) {
            self.events.with_label_values(&[source, stage]).inc_by(count);
        }
        self.bytes.with_label_values(&[source]).inc_by(counts.bytes);
        let rejected = [
            ("unreadable", counts.unreadable),
            ("too_large", counts.too_large + oversized),
            ("not_audit", counts.not_audit),
            ("broken", u64::from(broken)),
        ];
        for (reason, count) in rejected {
            self.rejected.with_label_values(&[source, reason]).inc_by(count);
        }
        let skipped = [
            ("malformed_body", counts.malformed_body),
            ("untimed", counts.untimed),
            ("expired_stage", counts.expired_stage),
            ("skewed", counts.skewed),
            ("fanout_cut", counts.fanout_cut),
        ];
        for (reason, count) in skipped {
            self.skipped.with_label_values(&[reason]).inc_by(count);
        }
        for (what, count) in DEEDS.into_iter().zip([counts.unauthenticated, counts.forbidden, counts.secret_reads]) {
            self.deeds.with_label_values(&[source, what]).inc_by(count);
        }
    }

    /// So many documents were kept in the dead letter, or could not be.
    pub fn dead(&self, kept: bool, documents: u64) {
        self.dead.with_label_values(&[if kept { "kept" } else { "lost" }]).inc_by(documents);
    }

    /// How far a source has got, microseconds.
    pub fn newest(&self, source: &str, micros: i64) {
        self.newest.with_label_values(&[source]).set(seconds(micros));
    }

    /// How far a source is behind the clock, microseconds.
    pub fn source_lag(&self, source: &str, micros: i64) {
        self.source_lag.with_label_values(&[source]).set(seconds(micros));
    }

    /// How far a cluster's watermark is behind the clock, microseconds.
    pub fn watermark_lag(&self, cluster: &str, micros: i64) {
        self.watermark_lag.with_label_values(&[cluster]).set(seconds(micros));
    }

    /// So much waits in a queue.
    pub fn queue(&self, name: &str, items: usize) {
        self.queue.with_label_values(&[name]).set(items as i64);
    }

    /// What a sink was given took so long.
    pub fn delivery(&self, sink: &str, spent: Duration) {
        self.delivery_time.with_label_values(&[sink]).observe(spent.as_secs_f64());
    }

    /// So long after its event was read an alert is where it should be; `kind` is `rule` or `correlation`.
    pub fn latency(&self, sink: &str, kind: &str, passed: Duration) {
        self.latency.with_label_values(&[sink, kind]).observe(passed.as_secs_f64());
    }

    /// The configuration was read again, or could not be.
    pub fn reload(&self, done: bool) {
        self.reloads.with_label_values(&[if done { "done" } else { "refused" }]).inc();
        self.reload_good.set(i64::from(done));
    }

    /// Nothing was read again yet.
    pub fn started(&self) {
        self.reload_good.set(1);
    }

    /// A rule held so many times.
    pub fn matched(&self, rule: &Meta, times: u64) {
        self.of_rule(&self.matches, rule).inc_by(times);
    }

    /// An alert of this rule was stored.
    pub fn alert(&self, rule: &str, level: &str) {
        self.alerts.with_label_values(&[rule, level]).inc();
    }

    /// What windows have counted, and what of it was told before; and what they hold now, with their memory in bytes.
    pub fn windows(&self, rules: &RuleSet, stats: &WindowStats, told: &WindowStats, memory: usize) {
        let since = |now: u64, before: u64| now.saturating_sub(before);
        let sum = |list: &[u64]| list.iter().sum::<u64>();
        self.late.inc_by(since(stats.late, told.late));
        self.duplicates.inc_by(since(stats.duplicate_matches, told.duplicate_matches));
        self.ungrouped.inc_by(since(sum(&stats.missing_group), sum(&told.missing_group)));
        let limits = [
            ("keys_saturated", sum(&stats.keys_saturated), sum(&told.keys_saturated)),
            ("numbers_cut", stats.numbers_cut, told.numbers_cut),
            ("fanout_cut", stats.fanout_cut, told.fanout_cut),
            ("reorder_forced", stats.reorder_forced, told.reorder_forced),
            ("output_forced", stats.output_forced, told.output_forced),
            ("dedupe_evicted", stats.dedupe_evicted, told.dedupe_evicted),
            ("evidence_evicted", stats.evidence_evicted, told.evidence_evicted),
            ("late_across", stats.late_across, told.late_across),
        ];
        for (limit, now, before) in limits {
            self.limits.with_label_values(&[limit]).inc_by(since(now, before));
        }
        self.groups.set(sum(&stats.live_keys) as i64);
        for (correlation, groups) in rules.correlations.iter().zip(&stats.live_keys) {
            self.groups_of.with_label_values(&[&correlation.meta.id]).set(*groups as i64);
        }
        self.buffered.set(stats.buffered as i64);
        self.memory.set(memory as i64);
    }

    /// A limit that no window knows of had to bite.
    pub fn limit(&self, name: &str) {
        self.limits.with_label_values(&[name]).inc();
    }

    /// Forgets the groups of correlations: others are loaded.
    pub fn forget_correlations(&self) {
        self.groups_of.reset();
    }

    /// A cluster's watermark was committed, microseconds.
    pub fn watermark(&self, cluster: &str, micros: i64) {
        self.watermark.with_label_values(&[cluster]).set(seconds(micros));
    }

    /// A commit was tried.
    pub fn commit(&self, stored: bool) {
        self.commits.with_label_values(&[if stored { "stored" } else { "failed" }]).inc();
    }

    /// The store takes so many bytes.
    pub fn store_bytes(&self, bytes: u64) {
        self.store.set(bytes as i64);
    }

    /// What a sink did since the start.
    pub fn sink(&self, name: &str, counts: &SinkCounts) {
        up_to(&self.delivered.with_label_values(&[name]), counts.took);
        up_to(&self.delivery_failures.with_label_values(&[name]), counts.refused);
        up_to(&self.messages.with_label_values(&[name]), counts.sent);
        let Routed { told, grouped, suppressed, silenced, unrouted, groups_forced } = counts.routed;
        let outcomes = [
            ("told", told),
            ("grouped", grouped),
            ("suppressed", suppressed),
            ("silenced", silenced),
            ("unrouted", unrouted),
            ("groups_forced", groups_forced),
        ];
        for (outcome, total) in outcomes {
            up_to(&self.routed.with_label_values(&[name, outcome]), total);
        }
        for (reason, total) in [("refused", counts.given_up), ("backlog", counts.passed_over)] {
            up_to(&self.given_up.with_label_values(&[name, reason]), total);
        }
        self.queued.with_label_values(&[name]).set(counts.queued as i64);
        self.behind.with_label_values(&[name]).set(i64::from(counts.behind));
    }

    /// A sink is no longer there.
    pub fn forget_sink(&self, name: &str) {
        let _ = self.queued.remove_label_values(&[name]);
        let _ = self.behind.remove_label_values(&[name]);
    }

    /// The webhook has given this answer so many times since the start.
    pub fn webhook(&self, code: &str, total: u64) {
        up_to(&self.answers.with_label_values(&[code]), total);
    }

    /// The consumer group has changed: partitions were assigned, revoked or lost.
    pub fn rebalance(&self, change: &str) {
        self.rebalances.with_label_values(&[change]).inc();
    }

    /// What is not read yet of our partitions. All topics are told at once: one that is not told any more has none.
    pub fn lags(&self, by_topic: &BTreeMap<String, (i64, i64)>) {
        self.topics.set(by_topic.len() as i64);
        self.lag.reset();
        self.partitions.reset();
        for (at, (topic, (records, partitions))) in by_topic.iter().enumerate() {
            let label = if at < SERIES_MAX { topic.as_str() } else { OTHER };
            self.lag.with_label_values(&[label]).add(*records);
            self.partitions.with_label_values(&[label]).add(*partitions);
        }
    }

    /// The clock that events are held against, and how far this machine's is behind it; microseconds.
    pub fn clock(&self, micros: i64, behind: i64) {
        self.clock.set(seconds(micros));
        self.clock_behind.set(seconds(behind));
    }

    /// Whether a source cannot be read just now.
    pub fn failing(&self, source: &str, failing: bool) {
        self.failing.with_label_values(&[source]).set(failing.into());
    }

    /// All of them, in Prometheus' text format (version 0.0.4).
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        // Writing to memory cannot fail, and what was declared can be told.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(metrics: &Metrics) -> String {
        String::from_utf8(metrics.render()).unwrap()
    }

    #[test]
    fn tells_what_was_counted() {
        let metrics = Metrics::default();
        let counts = Counts { bytes: 70, by_stage: [0, 1, 2, 0, 0], unreadable: 3, ..Counts::default() };
        metrics.batch("a.log", &counts, 1, false);
        metrics.batch("a.log", &counts, 0, true);
        metrics.newest("a.log", 1_500_000);
        let stats =
            WindowStats { late: 5, live_keys: vec![2, 3], keys_saturated: vec![1, 1], ..WindowStats::default() };
        metrics.windows(&RuleSet::default(), &stats, &WindowStats::default(), 77);
        metrics.windows(&RuleSet::default(), &stats, &stats, 77);
        let counts = SinkCounts { took: 7, behind: true, queued: 3, ..SinkCounts::default() };
        metrics.sink("stdout", &counts.after(&SinkCounts::default()));
        metrics.latency("stdout", "rule", Duration::from_millis(30));
        let told = told(&metrics);
        for line in [
            "auditwatch_events_total{source=\"a.log\",stage=\"ResponseComplete\"} 4",
            "auditwatch_read_bytes_total{source=\"a.log\"} 140",
            "auditwatch_records_rejected_total{reason=\"unreadable\",source=\"a.log\"} 6",
            "auditwatch_records_rejected_total{reason=\"too_large\",source=\"a.log\"} 1",
            "auditwatch_records_rejected_total{reason=\"broken\",source=\"a.log\"} 1",
            "auditwatch_source_newest_event_seconds{source=\"a.log\"} 1.5",
            "auditwatch_late_matches_total 5",
            "auditwatch_window_groups 5",
            "auditwatch_limit_hits_total{limit=\"keys_saturated\"} 2",
            "auditwatch_sink_alerts_total{sink=\"stdout\"} 7",
            "auditwatch_sink_behind{sink=\"stdout\"} 1",
            "auditwatch_sink_queued_alerts{sink=\"stdout\"} 3",
            "auditwatch_window_memory_bytes 77",
            "auditwatch_alert_latency_seconds_bucket{kind=\"rule\",sink=\"stdout\",le=\"0.05\"} 1",
        ] {
            assert!(told.lines().any(|have| have == line), "{line} in {told}");
        }
    }

    #[test]
    fn every_name_says_whose_it_is_and_what_it_counts() {
        for Declared { name, kind, help, .. } in Metrics::default().declared() {
            assert!(name.starts_with("auditwatch_") && help.ends_with('.'), "{name}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
        }
    }

    #[test]
    fn names_from_outside_do_not_grow_without_end() {
        let metrics = Metrics::default();
        let labels: std::collections::BTreeSet<_> =
            (0..10 * SERIES_MAX).map(|n| metrics.source_label(&format!("{n}.log"))).collect();
        assert_eq!(labels.len(), SERIES_MAX + 1);
        assert!(labels.contains(OTHER));
        assert!(told(&metrics).contains(&format!("auditwatch_sources {}", 10 * SERIES_MAX)));
    }
}
