//! Windows of many machines, as pure functions: which partition of the matches topic a match belongs to, what stands in
//! that topic, and the owner of a partition, who folds its records into windows. What an owner tells depends on the
//! records of its partition and on nothing else, so that whoever takes a partition over, and reads it from the beginning,
//! is where the one before was.

pub mod matcher;
pub mod owner;
pub mod record;

use sha2::{Digest, Sha256};

use crate::engine::matches::Identity;
use crate::rules::{Input, RuleSet};

pub use owner::Owner;
pub use record::{Mark, Record, Source};

/// Where matches belong. All that must see each other goes to one partition: rules and correlations that are linked, of
/// one cluster (of all clusters, if one of the correlations is across them); and the matches of a rule that nothing reads,
/// by request, which its other stages and deliveries share.
#[derive(Debug, Clone)]
pub struct Router {
    /// By rule.
    routes: Vec<Route>,
    partitions: u32,
}

#[derive(Debug, Clone)]
struct Route {
    /// The least id among those that are linked: the same in every member that has the same rules.
    family: String,
    reads: Reads,
}

/// What a family holds state of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reads {
    /// Requests only: a rule that no correlation reads.
    Request,
    Cluster,
    AllClusters,
}

impl Router {
    /// For a topic of so many partitions; with none everything belongs to the first.
    pub fn new(rules: &RuleSet, partitions: u32) -> Router {
        let first_correlation = rules.rules.len();
        let mut family: Vec<usize> = (0..first_correlation + rules.correlations.len()).collect();
        for (at, correlation) in rules.correlations.iter().enumerate() {
            for input in &correlation.inputs {
                let input = match input {
                    Input::Rule(rule) => *rule,
                    Input::Correlation(inner) => first_correlation + inner,
                };
                let (one, other) = (root(&family, input), root(&family, first_correlation + at));
                family[one.max(other)] = one.min(other);
            }
        }
        let id = |at: usize| match at.checked_sub(first_correlation) {
            None => &rules.rules[at].meta.id,
            Some(correlation) => &rules.correlations[correlation].meta.id,
        };
        let of_rule = |rule: usize| {
            let own = root(&family, rule);
            let members = || (0..family.len()).filter(|at| root(&family, *at) == own);
            let reads = members().map(|at| match at.checked_sub(first_correlation) {
                None => Reads::Request,
                Some(correlation) if rules.correlations[correlation].across_clusters => Reads::AllClusters,
                Some(_) => Reads::Cluster,
            });
            let reads = reads.max().unwrap_or(Reads::Request);
            Route { family: members().map(id).min().cloned().unwrap_or_default(), reads }
        };
        Router { routes: (0..first_correlation).map(of_rule).collect(), partitions: partitions.max(1) }
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// The partition of a match.
    pub fn partition(&self, rule: u32, cluster: &str, identity: &Identity) -> u32 {
        let Some(route) = self.routes.get(rule as usize) else { return 0 };
        let (cluster, request): (&str, &[u8]) = match route.reads {
            Reads::AllClusters => ("", &[]),
            Reads::Cluster => (cluster, &[]),
            Reads::Request => (cluster, identity),
        };
        let mut hash = Sha256::new();
        for part in [route.family.as_bytes(), cluster.as_bytes(), request] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let first = hash.finalize().iter().take(8).fold(0u64, |number, byte| number << 8 | u64::from(*byte));
        (first % u64::from(self.partitions)) as u32
    }
}

/// The least member of a family.
fn root(family: &[usize], mut at: usize) -> usize {
    while family[at] != at {
        at = family[at];
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::SourceFile;

    const RULES: &str = "
title: a
id: 00000000-0000-4000-8000-000000000001
name: a
logsource: {product: kubernetes, service: audit}
detection: {s: {verb: get}, condition: s}
---
title: b
id: 00000000-0000-4000-8000-000000000002
name: b
logsource: {product: kubernetes, service: audit}
detection: {s: {verb: list}, condition: s}
---
title: alone
id: 00000000-0000-4000-8000-000000000003
logsource: {product: kubernetes, service: audit}
detection: {s: {verb: delete}, condition: s}
---
title: c
id: 00000000-0000-4000-8000-000000000004
correlation: {type: temporal, rules: [a, b], group-by: [user.username], timespan: 1m}
";

    #[test]
    fn what_must_see_each_other_meets() {
        let (rules, diagnostics) = crate::rules::load(&[SourceFile::new("r.yml", RULES)], &Default::default());
        assert!(diagnostics.iter().all(|d| d.severity != crate::rules::Severity::Error), "{diagnostics:?}");
        let router = Router::new(&rules, 1000);
        let rule = |title: &str| rules.rules.iter().position(|rule| rule.meta.title == title).unwrap() as u32;
        let at = |title: &str, cluster: &str, request: u8| router.partition(rule(title), cluster, &[request; 16]);
        assert_eq!(at("a", "x", 1), at("b", "x", 2));
        assert_ne!(at("a", "x", 1), at("a", "y", 1));
        assert_eq!(at("alone", "x", 1), at("alone", "x", 1));
        assert_ne!(at("alone", "x", 1), at("alone", "x", 2));
        assert_eq!(Router::new(&rules, 0).partition(0, "x", &[0; 16]), 0);
    }
}
