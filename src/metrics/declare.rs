//! How metrics are declared: registered, and remembered for the page that tells of them.

use std::cell::RefCell;

use prometheus::core::Collector;
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::{BUCKETS, Declared};

/// Declares metrics in a registry.
pub(super) struct Declare<'r> {
    pub(super) registry: &'r Registry,
    pub(super) declared: RefCell<Vec<Declared>>,
}

impl Declare<'_> {
    /// Registers a metric. It cannot fail: names and labels are literals, and a test declares them all.
    pub(super) fn add<C: Collector + Clone + 'static>(&self, kind: &'static str, made: prometheus::Result<C>) -> C {
        let metric = made.expect("names and labels are literals, and well-formed");
        self.registry.register(Box::new(metric.clone())).expect("no two literals are the same");
        self.declared.borrow_mut().extend(metric.desc().into_iter().map(|desc| Declared {
            name: desc.fq_name.clone(),
            kind,
            labels: desc.variable_labels.clone(),
            help: desc.help.clone(),
        }));
        metric
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add("counter", IntCounter::new(name, help))
    }

    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add("counter", IntCounterVec::new(Opts::new(name, help), labels))
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add("gauge", IntGauge::new(name, help))
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add("gauge", IntGaugeVec::new(Opts::new(name, help), labels))
    }

    pub(super) fn times(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.add("gauge", GaugeVec::new(Opts::new(name, help), labels))
    }

    pub(super) fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
        self.add("histogram", HistogramVec::new(options, labels))
    }
}
