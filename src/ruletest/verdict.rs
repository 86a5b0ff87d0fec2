//! What a test expects, and whether it came.

use std::collections::BTreeSet;
use std::fmt;

use super::bench::Run;
use super::{Bench, Test};
use crate::alert::{Alert, Names, SourceName, meta};
use crate::engine::matches::{Firing, Origin};

/// Alerts told of in a failure; more would hide the reason.
const TOLD_MAX: usize = 8;

/// What a test expects of its rule file: so many alerts that have everything said here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expect {
    /// At least so many.
    pub at_least: usize,
    /// Exactly so many.
    pub exactly: Option<usize>,
    /// Of this level.
    pub level: Option<String>,
    /// With this `ref`.
    pub reference: Option<String>,
    /// With these values among their group's.
    pub group: Vec<(String, String)>,
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.exactly {
            Some(0) => write!(f, "no alert")?,
            Some(1) => write!(f, "exactly 1 alert")?,
            Some(n) => write!(f, "exactly {n} alerts")?,
            None => write!(f, "an alert")?,
        }
        self.level.iter().try_for_each(|level| write!(f, " of level {level}"))?;
        self.reference.iter().try_for_each(|reference| write!(f, " with ref {reference}"))?;
        self.group.iter().try_for_each(|(name, value)| write!(f, " with {name}={value}"))
    }
}

impl Expect {
    fn holds(&self, count: usize) -> bool {
        self.exactly.map_or(count >= self.at_least, |n| n == count)
    }

    fn wants(&self, alert: &Alert) -> bool {
        let has = |name: &str, value: &str| {
            let group = alert.group.as_ref().map_or(&[][..], |group| &group.0);
            group.iter().any(|(n, v)| n == name && v == value)
        };
        self.level.as_deref().is_none_or(|level| level == level_name(alert))
            && self.reference.as_deref().is_none_or(|reference| Some(reference) == alert.rule.reference.as_deref())
            && self.group.iter().all(|(name, value)| has(name, value))
    }
}

/// Runs a test: the reason if it fails, and the ids of what held or fired of its rule file.
pub(super) fn judge(bench: &Bench, rules: &str, test: &Test) -> (Option<String>, Vec<String>) {
    let mut log = String::new();
    for event in &test.events {
        log += &event.to_string();
        log.push('\n');
    }
    let run = bench.run(log.into_bytes());
    (failure(bench, rules, test, &run), fired(bench, rules, &run))
}

/// The ids of the rules and correlations of a file that held or fired.
fn fired(bench: &Bench, rules: &str, run: &Run) -> Vec<String> {
    let held = run.matched.iter().map(|rule| Origin::Rule(*rule));
    let fired = run.firings.iter().map(|firing| firing.origin);
    let metas = held.chain(fired).map(|origin| meta(origin, bench.rules())).filter(|meta| meta.file == rules);
    let ids: BTreeSet<String> = metas.map(|meta| meta.id.clone()).collect();
    ids.into_iter().collect()
}

fn failure(bench: &Bench, rules: &str, test: &Test, run: &Run) -> Option<String> {
    if run.result.counts.events != test.events.len() as u64 {
        let why: Vec<&str> = run.result.problems.iter().map(|problem| problem.why.as_str()).collect();
        return Some(format!("some of its events are no audit events: {}", why.join("; ")));
    }
    let source = [SourceName { kind: "file", name: String::new() }];
    let names = Names { rules: bench.rules(), clusters: &[String::new()], sources: &source };
    let of_this_file = |firing: &&Firing| meta(firing.origin, bench.rules()).file == rules;
    let (own, others): (Vec<&Firing>, Vec<&Firing>) = run.firings.iter().partition(of_this_file);
    let own: Vec<Alert> = own.into_iter().map(|firing| Alert::new(firing, &names)).collect();
    let wanted = own.iter().filter(|alert| test.expect.wants(alert)).count();
    if test.expect.holds(wanted) {
        return None;
    }
    let others: Vec<Alert> = others.into_iter().map(|firing| Alert::new(firing, &names)).collect();
    let mut why = format!("expected {}, got {wanted}\n", test.expect);
    why += &told("fired of this file", &own);
    why += &told("fired of other files", &others);
    for (n, rule) in run.result.counts.unknown.iter().zip(&bench.rules().rules).filter(|(n, _)| **n > 0) {
        let meta = &rule.meta;
        if meta.file == rules {
            why += &format!("unknown for {n} events, whose bodies were not logged: {}\n", meta.title);
        }
    }
    Some(why)
}

fn told(what: &str, alerts: &[Alert]) -> String {
    if alerts.is_empty() {
        return format!("{what}: nothing\n");
    }
    let mut out = format!("{what}:\n");
    for alert in alerts.iter().take(TOLD_MAX) {
        let reference = alert.rule.reference.as_deref().unwrap_or("-");
        out += &format!("  {} {} {}\n", level_name(alert), reference, alert.message);
    }
    if alerts.len() > TOLD_MAX {
        out += &format!("  … and {} more\n", alerts.len() - TOLD_MAX);
    }
    out
}

fn level_name(alert: &Alert) -> &'static str {
    use crate::rules::Level;
    match alert.rule.level {
        Level::Informational => "informational",
        Level::Low => "low",
        Level::Medium => "medium",
        Level::High => "high",
        Level::Critical => "critical",
    }
}
