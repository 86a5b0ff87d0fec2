//! The generator of logs for measuring: the same bytes for the same seed, and the proportions of a real log.

use auditwatch::event::site::Site;
use auditwatch::rules::{Placeholders, RuleSet, SourceFile, load};
use auditwatch::ruletest::Bench;
use serde_json::Value;

#[path = "../benches/support/generate.rs"]
#[allow(dead_code, reason = "tests need no single numbers")]
pub mod support;

use support::{Generator, rules};

const BYTES: usize = 4 << 20;

#[test]
fn the_seed_decides() {
    let log = |seed| Generator::new(seed, false).log(BYTES / 16);
    assert_eq!(log(1), log(1));
    assert_ne!(log(1), log(2));
    assert_eq!(rules(20, 1), rules(20, 1));
}

#[test]
fn every_line_is_an_event() {
    let bench = Bench::new(RuleSet::default().into(), Site::default()).unwrap();
    for metadata_only in [false, true] {
        let counts = bench.matches(Generator::new(42, metadata_only).log(BYTES)).counts;
        assert_eq!((counts.events, counts.unreadable, counts.not_audit), (counts.lines, 0, 0));
        assert!(counts.malformed_body == 0 && counts.duplicate_keys == 0);
    }
}

/// Within a tenth of shared/corpus/bench: 2.43 kB a line, half of the lines under 1.46 kB, a fifth of the bytes and not
/// quite half of the lines without bodies, 9 % conflicts.
#[test]
fn the_proportions_are_those_of_a_real_log() {
    let log = String::from_utf8(Generator::new(42, false).log(BYTES)).unwrap();
    let mut lengths: Vec<usize> = log.lines().map(str::len).collect();
    lengths.sort_unstable();
    let share = |what: &dyn Fn(&Value) -> bool| {
        let of = log.lines().filter(|line| what(&serde_json::from_str(line).unwrap()));
        of.count() as f64 / lengths.len() as f64
    };
    let mean = log.len() / lengths.len();
    assert!((2200..2650).contains(&mean), "{mean}");
    assert!((1200..1700).contains(&lengths[lengths.len() / 2]), "{}", lengths[lengths.len() / 2]);
    let metadata = share(&|event| event["level"] == "Metadata");
    assert!((0.42..0.50).contains(&metadata), "{metadata}");
    let conflicts = share(&|event| event["responseStatus"]["code"] == 409);
    assert!((0.07..0.13).contains(&conflicts), "{conflicts}");
}

#[test]
fn generated_rules_are_rules() {
    let (set, problems) = load(&[SourceFile::new("g.yml", rules(500, 42))], &Placeholders::new());
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(set.rules.len(), 500);
}
