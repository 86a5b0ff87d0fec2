//! Every metric of the daemon, declared once. Names follow Prometheus' conventions: base units, `_total` for what only
//! grows. The number of series is bounded: by the rules that are loaded, by what the configuration names, and by
//! [`SERIES_MAX`] where names come from outside.

use std::collections::BTreeMap;

use prometheus::core::{Atomic, Collector, GenericCounter};
use prometheus::{
    Encoder, Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::engine::window::WindowStats;
use crate::rules::{Meta, RuleSet};
use crate::worker::Counts;

/// Most sources, and most clusters, that have series of their own; the others share `other`.
pub const SERIES_MAX: usize = 100;

/// The label of what has no series of its own.
const OTHER: &str = "other";

/// All metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    sources: IntGauge,
    clusters: IntGauge,
    events: IntCounterVec,
    bytes: IntCounterVec,
    rejected: IntCounterVec,
    skipped: IntCounterVec,
    dead: IntCounterVec,
    newest: GaugeVec,
    matches: IntCounterVec,
    alerts: IntCounterVec,
    late: IntCounter,
    duplicates: IntCounter,
    ungrouped: IntCounter,
    limits: IntCounterVec,
    groups: IntGauge,
    buffered: IntGauge,
    watermark: GaugeVec,
    commits: IntCounterVec,
    store: IntGauge,
    delivered: IntCounterVec,
    delivery_failures: IntCounterVec,
    behind: IntGaugeVec,
    answers: IntCounterVec,
    topics: IntGauge,
    lag: IntGaugeVec,
    partitions: IntGaugeVec,
    rebalances: IntCounterVec,
    clock: Gauge,
}

/// Registers a metric. It cannot fail: names and labels are the literals below, and a test declares them all.
fn declare<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let metric = made.expect("names and labels are literals, and well-formed");
    registry.register(Box::new(metric.clone())).expect("no two literals are the same");
    metric
}

impl Default for Metrics {
    /// All of them at nought.
    fn default() -> Self {
        let registry = Registry::new();
        let r = &registry;
        let counter = |name, help| declare(r, IntCounter::new(name, help));
        let counters = |name, help, labels: &[&str]| declare(r, IntCounterVec::new(Opts::new(name, help), labels));
        let gauge = |name, help| declare(r, IntGauge::new(name, help));
        let gauges = |name, help, labels: &[&str]| declare(r, GaugeVec::new(Opts::new(name, help), labels));
        let int_gauges = |name, help, labels: &[&str]| declare(r, IntGaugeVec::new(Opts::new(name, help), labels));
        let build = counters("auditwatch_build_info", "Always 1; the labels tell what runs.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).inc();
        // Only fails where there is no /proc, and then tells nothing.
        let _ = registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()));
        Metrics {
            sources: gauge("auditwatch_sources", "Sources of events that are known."),
            clusters: gauge("auditwatch_clusters", "Clusters that are known."),
            events: counters("auditwatch_events_total", "Audit events read.", &["source", "stage"]),
            bytes: counters("auditwatch_read_bytes_total", "Bytes read, after decompression.", &["source"]),
            rejected: counters(
                "auditwatch_records_rejected_total",
                "Documents that gave no event: unreadable, too_large, not_audit; and inputs that broke off (broken).",
                &["source", "reason"],
            ),
            skipped: counters(
                "auditwatch_events_limited_total",
                "Events that rules could see in part only: malformed_body, untimed, expired_stage, skewed, fanout_cut.",
                &["reason"],
            ),
            dead: counters(
                "auditwatch_dead_letter_total",
                "Documents that could not be read and were kept in the dead letter, or could not be kept (lost).",
                &["outcome"],
            ),
            newest: gauges("auditwatch_source_newest_event_seconds", "Newest event time read, Unix time.", &["source"]),
            matches: counters("auditwatch_rule_matches_total", "Matches of rules, helpers too.", &["rule", "level"]),
            alerts: counters("auditwatch_alerts_total", "Alerts stored for the first time.", &["rule", "level"]),
            late: counter("auditwatch_late_matches_total", "Matches that came too late for windows."),
            duplicates: counter("auditwatch_duplicate_matches_total", "Matches of a request that had matched before."),
            ungrouped: counter(
                "auditwatch_ungrouped_matches_total",
                "Matches without a field that a correlation reads.",
            ),
            limits: counters("auditwatch_limit_hits_total", "How often a limit on state had to bite.", &["limit"]),
            groups: gauge("auditwatch_window_groups", "Groups that correlations hold state of."),
            buffered: gauge("auditwatch_window_buffered_matches", "Matches that wait for the watermark."),
            watermark: gauges(
                "auditwatch_watermark_seconds",
                "Committed watermark of event time, Unix time.",
                &["cluster"],
            ),
            commits: counters("auditwatch_store_commits_total", "Commits to the store.", &["outcome"]),
            store: gauge("auditwatch_store_bytes", "Size of the store with its write-ahead log."),
            delivered: counters("auditwatch_sink_alerts_total", "Alerts that a sink took.", &["sink"]),
            delivery_failures: counters("auditwatch_sink_failures_total", "Attempts that a sink refused.", &["sink"]),
            behind: int_gauges("auditwatch_sink_behind", "1 while a sink has not taken all stored alerts.", &["sink"]),
            topics: gauge("auditwatch_kafka_topics", "Topics of Kafka that are known."),
            lag: int_gauges("auditwatch_kafka_lag_records", "Records of our partitions not stored yet.", &["topic"]),
            partitions: int_gauges("auditwatch_kafka_partitions", "Partitions that are ours.", &["topic"]),
            rebalances: counters(
                "auditwatch_kafka_rebalances_total",
                "Changes of the consumer group: partitions assigned, revoked, lost.",
                &["change"],
            ),
            answers: counters("auditwatch_webhook_answers_total", "Answers of the audit webhook.", &["code"]),
            clock: declare(
                r,
                Gauge::new("auditwatch_clock_seconds", "The clock that events are held against, Unix time."),
            ),
            registry,
        }
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
    }

    /// So many documents were kept in the dead letter, or could not be.
    pub fn dead(&self, kept: bool, documents: u64) {
        self.dead.with_label_values(&[if kept { "kept" } else { "lost" }]).inc_by(documents);
    }

    /// How far a source has got, microseconds.
    pub fn newest(&self, source: &str, micros: i64) {
        self.newest.with_label_values(&[source]).set(seconds(micros));
    }

    /// A rule held so many times.
    pub fn matched(&self, rule: &Meta, times: u64) {
        self.of_rule(&self.matches, rule).inc_by(times);
    }

    /// An alert of this rule was stored.
    pub fn alert(&self, rule: &str, level: &str) {
        self.alerts.with_label_values(&[rule, level]).inc();
    }

    /// What windows have counted since the start, and hold now.
    pub fn windows(&self, stats: &WindowStats) {
        up_to(&self.late, stats.late);
        up_to(&self.duplicates, stats.duplicate_matches);
        up_to(&self.ungrouped, stats.missing_group.iter().sum());
        let limits = [
            ("keys_saturated", stats.keys_saturated.iter().sum()),
            ("numbers_cut", stats.numbers_cut),
            ("fanout_cut", stats.fanout_cut),
            ("reorder_forced", stats.reorder_forced),
            ("output_forced", stats.output_forced),
            ("dedupe_evicted", stats.dedupe_evicted),
            ("evidence_evicted", stats.evidence_evicted),
            ("late_across", stats.late_across),
        ];
        for (limit, total) in limits {
            up_to(&self.limits.with_label_values(&[limit]), total);
        }
        self.groups.set(stats.live_keys.iter().sum::<u64>() as i64);
        self.buffered.set(stats.buffered as i64);
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

    /// What a sink has taken and refused since the start, and whether there is more.
    pub fn sink(&self, name: &str, taken: u64, failures: u64, behind: bool) {
        up_to(&self.delivered.with_label_values(&[name]), taken);
        up_to(&self.delivery_failures.with_label_values(&[name]), failures);
        self.behind.with_label_values(&[name]).set(i64::from(behind));
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

    /// This machine's clock, microseconds.
    pub fn clock(&self, micros: i64) {
        self.clock.set(seconds(micros));
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
        metrics.windows(&stats);
        metrics.windows(&stats);
        metrics.sink("stdout", 7, 0, true);
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
        ] {
            assert!(told.lines().any(|have| have == line), "{line} in {told}");
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
