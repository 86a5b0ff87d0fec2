//! The window stage, one behaviour at a time. Times are seconds here, microseconds inside.

use std::sync::Arc;

use auditwatch::engine::CaptureTable;
use auditwatch::engine::matches::{Firing, Origin, Stage, Who};
use auditwatch::engine::window::{Correlator, Late, Settings};
use auditwatch::rules::expr::Cmp;
use auditwatch::rules::{Correlation, CorrelationKind, Input, Measure, RuleSet};

use super::{Event, batch, correlation, rules};

const SECOND: i64 = 1_000_000;
const RULE: [Input; 1] = [Input::Rule(0)];

/// A stage under test, with one rule (and its alerts) unless said otherwise.
struct Bench {
    table: Arc<CaptureTable>,
    correlator: Correlator,
    out: Vec<Firing>,
}

impl Bench {
    fn new(alerts: &[bool], correlations: Vec<Correlation>, settings: Settings) -> Self {
        let set = Arc::new(RuleSet { rules: rules(alerts), correlations });
        let table = Arc::new(CaptureTable::new(&set));
        Bench { correlator: Correlator::new(set, Arc::clone(&table), settings), table, out: Vec::new() }
    }

    /// One batch of source `source` of cluster `source / 10`.
    fn absorb(&mut self, source: u32, events: &[Event]) {
        let (newest, matches) = batch(events, &self.table);
        self.correlator.absorb(source, source / 10, newest, matches, &mut self.out);
    }

    /// What was told since the last time: who, when (in seconds), how many, on what evidence.
    fn told(&mut self) -> Vec<String> {
        let line = |f: Firing| {
            let who = match f.origin {
                Origin::Rule(n) => format!("r{n}"),
                Origin::Correlation(n) => format!("c{n}"),
            };
            let events: Vec<String> = f.events.iter().map(|e| e.excerpt().audit_id.to_string()).collect();
            let late = if f.late { " late" } else { "" };
            let truncated = if f.evidence_truncated { " truncated" } else { "" };
            format!("{who} @{} x{} {}{late}{truncated}", f.time / SECOND, f.count, events.join(","))
        };
        self.out.drain(..).map(line).collect()
    }

    fn finish(&mut self) -> Vec<String> {
        self.correlator.finish(&mut self.out);
        self.told()
    }
}

/// An event of rule 0 at a time in seconds; every one is a request of its own.
fn at(time: i64, request: u8) -> Event {
    Event {
        time: Some(time * SECOND),
        request,
        cluster: 0,
        stage: Stage::ResponseComplete,
        long_running: false,
        rules: vec![0],
        fields: vec![("a", vec!["p".into()])],
        name: format!("e{request}"),
    }
}

fn by(time: i64, request: u8, value: &str) -> Event {
    Event { fields: vec![("a", vec![value.into()])], ..at(time, request) }
}

/// Nothing matched: it only moves the watermark.
fn idle(time: i64) -> Event {
    Event { rules: vec![], ..at(time, 255) }
}

fn at_least(count: i64, timespan: i64) -> Correlation {
    correlation(CorrelationKind::EventCount(vec![(Cmp::Ge, count)]), &RULE, &["a"], timespan * SECOND)
}

#[test]
fn waits_for_the_lateness_and_counts_the_edge_of_the_timespan() {
    let mut b = Bench::new(&[false], vec![at_least(3, 60)], Settings::default());
    b.absorb(0, &[at(100, 1), at(160, 3), at(159, 2)]);
    assert!(b.told().is_empty());
    b.absorb(0, &[idle(170)]);
    assert!(b.told().is_empty(), "the watermark is at the match, not past it");
    b.absorb(0, &[Event { time: Some(170 * SECOND + 1), ..idle(0) }]);
    assert_eq!(b.told(), ["c0 @160 x3 e1,e2,e3"]);
    assert_eq!(b.correlator.watermark(0), Some(160 * SECOND + 1));
    assert_eq!(b.correlator.watermark(1), None);
    let mut b = Bench::new(&[false], vec![at_least(2, 60)], Settings::default());
    b.absorb(0, &[at(100, 1), Event { time: Some(160 * SECOND + 1), ..at(0, 2) }]);
    assert!(b.finish().is_empty());
}

#[test]
fn a_late_match_is_told_and_not_counted() {
    let late = |late| Settings { late, ..Settings::default() };
    let mut b = Bench::new(&[true], vec![at_least(2, 60)], late(Late::Drop));
    b.absorb(0, &[at(100, 1), idle(150), at(139, 2), at(140, 3)]);
    assert_eq!(b.told(), ["r0 @100 x1 e1", "r0 @139 x1 e2 late"]);
    assert_eq!(b.finish(), ["r0 @140 x1 e3", "c0 @140 x2 e1,e3"]);
    assert_eq!((b.correlator.stats().late, b.correlator.stats().matches), (1, 3));
    // Counted at the watermark of its arrival: 140 s.
    let mut b = Bench::new(&[true], vec![at_least(2, 60)], late(Late::Count));
    b.absorb(0, &[at(100, 1), idle(150), at(139, 2)]);
    assert_eq!(b.told(), ["r0 @100 x1 e1", "r0 @139 x1 e2 late"]);
    assert_eq!(b.finish(), ["c0 @140 x2 e1,e2"]);
}

#[test]
fn a_late_stage_of_a_request_does_not_hide_the_one_in_time() {
    let mut b = Bench::new(&[true], vec![at_least(2, 60)], Settings::default());
    b.absorb(0, &[at(141, 1), idle(150)]);
    let started = Event { name: "e2-late".into(), ..at(130, 2) };
    // Late at first, and again; then another stage of the same request in time.
    b.absorb(0, &[started.clone(), started, at(145, 2)]);
    assert_eq!(b.told(), ["r0 @130 x1 e2-late late"]);
    assert_eq!(b.finish(), ["r0 @141 x1 e1", "c0 @145 x2 e1,e2"]);
    assert_eq!((b.correlator.stats().late, b.correlator.stats().duplicate_matches), (1, 1));
    // The other way round: what was counted is not told again.
    let mut b = Bench::new(&[true], vec![], Settings::default());
    b.absorb(0, &[at(100, 1), idle(120), at(99, 1)]);
    assert_eq!(b.told(), ["r0 @100 x1 e1"]);
    assert_eq!((b.correlator.stats().late, b.correlator.stats().duplicate_matches), (0, 1));
}

#[test]
fn a_match_without_a_time_takes_the_newest_before_it() {
    let untimed = |request| Event { time: None, ..at(0, request) };
    let mut b = Bench::new(&[true], vec![], Settings::default());
    b.absorb(0, &[untimed(1), at(100, 2), at(95, 3), untimed(4)]);
    b.absorb(0, &[untimed(5)]);
    assert_eq!(b.correlator.watermark(0), Some(90 * SECOND));
    b.correlator.finish(&mut b.out);
    assert!(b.out.iter().all(|f| f.trace.time == f.time), "the excerpt says the same");
    let told = b.told();
    assert_eq!(told[..2], ["r0 @0 x1 e1", "r0 @95 x1 e3"]);
    assert!(told[2..].iter().all(|line| line.starts_with("r0 @100 ")), "{told:?}");
    assert_eq!((told.len(), b.correlator.stats().untimed), (5, 3));
}

#[test]
fn tells_again_after_realert_and_not_before_suppress_is_over() {
    let every = |seconds: i64, n: u8| -> Vec<Event> { (0..n).map(|i| at(i64::from(i) * seconds, i)).collect() };
    let times = |realert: i64, suppress: i64, events: &[Event]| -> Vec<String> {
        let mut c = at_least(2, 15);
        (c.realert_us, c.suppress_us) = (realert * SECOND, suppress * SECOND);
        let mut b = Bench::new(&[false], vec![c], Settings::default());
        b.absorb(0, events);
        b.finish().iter().map(|line| line.split(' ').skip(1).take(2).collect::<Vec<_>>().join(" ")).collect()
    };
    // It goes on holding: told at first, and each time `realert` has passed, with what came since.
    assert_eq!(times(30, 0, &every(10, 9)), ["@10 x2", "@40 x5", "@70 x8"]);
    assert_eq!(times(1000, 0, &every(10, 9)), ["@10 x2"]);
    assert_eq!(times(30, 45, &every(10, 9)), ["@10 x2", "@60 x7"]);
    // It stops holding for a timespan, and begins anew: 0, 10 | 100, 110 | 200, 210.
    let mut bursts = Vec::new();
    for (n, start) in [(0, 0), (10, 100), (20, 200)] {
        bursts.extend([at(start, n), at(start + 10, n + 1)]);
    }
    assert_eq!(times(1000, 0, &bursts), ["@10 x2", "@110 x2", "@210 x2"]);
    assert_eq!(times(1000, 150, &bursts), ["@10 x2", "@210 x2"]);
}

#[test]
fn conditions_hold_at_any_number_they_name() {
    let first = |conditions: Vec<(Cmp, i64)>| -> Vec<String> {
        let c = correlation(CorrelationKind::EventCount(conditions), &RULE, &["a"], 100 * SECOND);
        let mut b = Bench::new(&[false], vec![c], Settings::default());
        b.absorb(0, &(1..6).map(|i| at(i64::from(i), i)).collect::<Vec<_>>());
        b.finish()
    };
    assert_eq!(first(vec![(Cmp::Ge, 3)]), ["c0 @3 x3 e1,e2,e3"]);
    assert_eq!(first(vec![(Cmp::Gt, 3)]), ["c0 @4 x4 e1,e2,e3,e4"]);
    assert_eq!(first(vec![(Cmp::Eq, 2)]), ["c0 @2 x2 e1,e2"]);
    assert_eq!(first(vec![(Cmp::Lt, 3)]), ["c0 @1 x1 e1"]);
    assert_eq!(first(vec![(Cmp::Ne, 1)]), ["c0 @2 x2 e1,e2"]);
    assert_eq!(first(vec![(Cmp::Ge, 2), (Cmp::Le, 4)]), ["c0 @2 x2 e1,e2"]);
    assert_eq!(first(vec![(Cmp::Ge, 6)]), [""; 0]);
}

#[test]
fn no_group_beyond_the_limit_and_none_lost_for_it() {
    let settings = Settings { keys_max: 2, ..Settings::default() };
    let mut b = Bench::new(&[false], vec![at_least(2, 160)], settings);
    b.absorb(0, &[by(0, 1, "p"), by(1, 2, "q"), by(2, 3, "r"), by(3, 4, "r"), by(4, 5, "p")]);
    b.absorb(0, &[idle(100)]);
    assert_eq!(b.told(), ["c0 @4 x2 e1,e5"], "r is not admitted, p is not evicted");
    assert_eq!((b.correlator.stats().keys_saturated[0], b.correlator.stats().live_keys[0]), (2, 2));
    // q is over after 161 s; there is room again.
    b.absorb(0, &[by(162, 6, "r"), by(163, 7, "r"), idle(300)]);
    assert_eq!(b.told(), ["c0 @163 x2 e6,e7"]);
    assert_eq!(b.correlator.stats().keys_saturated[0], 2);
}

#[test]
fn groups_that_are_over_are_purged() {
    let mut c = at_least(2, 10);
    c.suppress_us = 500 * SECOND;
    let mut b = Bench::new(&[false], vec![c], Settings::default());
    let mut events: Vec<Event> = (0..200).map(|i| by(i64::from(i), i, &format!("v{i}"))).collect();
    events.extend([by(200, 200, "told"), by(201, 201, "told")]);
    b.absorb(0, &events);
    b.absorb(0, &[by(400, 202, "x"), by(401, 203, "told"), by(402, 204, "told"), idle(500)]);
    assert_eq!(b.told(), ["c0 @201 x2 e200,e201"], "a purge does not end a silence");
    assert!(b.correlator.stats().live_keys[0] <= 3, "{:?}", b.correlator.stats());
    b.absorb(0, &[by(710, 205, "told"), by(711, 206, "told"), idle(800)]);
    assert_eq!(b.told(), ["c0 @711 x2 e205,e206"]);
}

#[test]
fn says_when_evidence_was_evicted() {
    let size = at(0, 0).matches(&CaptureTable { fields: vec![], per_rule: vec![vec![]] }, None)[0].trace.listed_size();
    let settings = Settings { evidence_bytes_max: 2 * size + size / 2, ..Settings::default() };
    let mut b = Bench::new(&[false], vec![at_least(4, 60)], settings);
    b.absorb(0, &[at(1, 1), at(2, 2), at(3, 3), at(4, 4)]);
    assert_eq!(b.finish(), ["c0 @4 x4 e3,e4 truncated"]);
    assert_eq!(b.correlator.stats().evidence_evicted, 2);
    let mut b = Bench::new(&[false], vec![at_least(2, 60)], Settings { evidence_bytes_max: 0, ..Settings::default() });
    b.absorb(0, &[at(1, 1), at(2, 2)]);
    assert_eq!(b.finish(), ["c0 @2 x2 e2 truncated"], "the deciding event is always there");
}

#[test]
fn lists_no_more_events_than_allowed() {
    let mut b = Bench::new(&[false], vec![at_least(5, 60)], Settings { events_max: 2, ..Settings::default() });
    b.absorb(0, &(1..6).map(|i| at(i64::from(i), i)).collect::<Vec<_>>());
    assert_eq!(b.finish(), ["c0 @5 x5 e4,e5"]);
}

#[test]
fn lets_the_oldest_go_when_too_many_wait() {
    let settings = Settings { reorder_matches_max: 2, ..Settings::default() };
    let mut b = Bench::new(&[true], vec![], settings);
    b.absorb(0, &[at(12, 1), at(11, 2), at(13, 3), at(11, 4), at(14, 5)]);
    assert_eq!(b.told(), ["r0 @11 x1 e2", "r0 @11 x1 e4 late", "r0 @12 x1 e1"]);
    assert_eq!(b.correlator.stats().reorder_forced, 2);
    assert_eq!(b.correlator.watermark(0), Some(12 * SECOND + 1));
    assert_eq!(b.finish(), ["r0 @13 x1 e3", "r0 @14 x1 e5"]);
}

#[test]
fn a_source_that_is_known_and_not_read_holds_the_watermark() {
    let mut b = Bench::new(&[true], vec![], Settings::default());
    b.correlator.add_source(0, 0, Some(100 * SECOND));
    b.correlator.add_source(1, 0, Some(50 * SECOND));
    b.absorb(0, &[at(100, 1), at(200, 2)]);
    assert_eq!(b.correlator.watermark(0), Some(40 * SECOND));
    b.absorb(1, &[at(50, 3), at(150, 4)]);
    assert_eq!(b.told(), ["r0 @50 x1 e3", "r0 @100 x1 e1"]);
    b.correlator.finish_source(1, &mut b.out);
    assert_eq!(b.told(), ["r0 @150 x1 e4"]);
    b.correlator.finish_source(0, &mut b.out);
    assert_eq!(b.told(), ["r0 @200 x1 e2"], "all have ended: everything is due");
    // Idle sources come back; what they bring must be newer.
    b.absorb(1, &[at(200, 5), at(201, 6)]);
    assert_eq!(b.told(), ["r0 @200 x1 e5 late"]);
    assert_eq!(b.finish(), ["r0 @201 x1 e6"]);
}

#[test]
fn clusters_wait_for_each_other_only_where_they_mix() {
    let mut across = at_least(2, 60);
    across.across_clusters = true;
    let in_other = |time, request| Event { cluster: 1, ..at(time, request) };
    for ordered_output in [false, true] {
        let settings = Settings { ordered_output, ..Settings::default() };
        let mut b = Bench::new(&[true], vec![at_least(2, 60), across.clone()], settings);
        b.correlator.add_source(0, 0, Some(100 * SECOND));
        b.correlator.add_source(10, 1, Some(90 * SECOND));
        b.absorb(0, &[at(100, 1), at(110, 2), idle(200)]);
        let own = ["r0 @100 x1 e1", "r0 @110 x1 e2", "c0 @110 x2 e1,e2"];
        assert_eq!(b.told(), if ordered_output { &[][..] } else { &own[..] });
        b.absorb(10, &[in_other(99, 3), idle(200)]);
        if ordered_output {
            let all = ["r0 @99 x1 e3", "r0 @100 x1 e1", "c1 @100 x2 e3,e1", "r0 @110 x1 e2", "c0 @110 x2 e1,e2"];
            assert_eq!(b.told(), all);
        } else {
            assert_eq!(b.told(), ["r0 @99 x1 e3", "c1 @100 x2 e3,e1"]);
        }
        assert_eq!(b.correlator.stats().late_across, 0);
        // A cluster that joins behind the others: its own windows do not mind, those across cannot take it.
        b.absorb(20, &[Event { cluster: 2, ..at(50, 4) }, Event { cluster: 2, ..at(51, 5) }, idle(70)]);
        assert_eq!(b.told().last().unwrap(), "c0 @51 x2 e4,e5");
        assert_eq!(b.correlator.stats().late_across, 2);
    }
}

#[test]
fn a_missing_field_and_a_flood_of_values_are_counted() {
    let counted = CorrelationKind::ValueCount(vec![(Cmp::Ge, 3)], vec!["b".into()]);
    let c = correlation(counted, &RULE, &["a"], 60 * SECOND);
    let settings = Settings { fanout_max: 2, ..Settings::default() };
    let mut b = Bench::new(&[false], vec![c], settings);
    let with = |request, fields: &[(&'static str, &[&str])]| {
        let own = |texts: &[&str]| texts.iter().map(|t| t.to_string()).collect();
        Event { fields: fields.iter().map(|(f, texts)| (*f, own(texts))).collect(), ..at(i64::from(request), request) }
    };
    b.absorb(0, &[with(1, &[("a", &["p"])]), with(2, &[("b", &["x"])])]);
    b.absorb(0, &[with(3, &[("a", &["p", "q", "p", "r"]), ("b", &["x", "y", "z"])]), with(4, &[("a", &["q"])])]);
    b.absorb(0, &[with(5, &[("a", &["q"]), ("b", &["y", "w"])])]);
    assert_eq!(b.finish(), ["c0 @5 x3 e3,e5"]);
    let stats = b.correlator.stats();
    // One value of b and one group (r) too many in the third event; p was there twice.
    assert_eq!((stats.missing_group[0], stats.fanout_cut, stats.live_keys[0]), (3, 2, 2));
}

#[test]
#[ignore = "a measurement: cargo test --release --test all speed -- --ignored --nocapture"]
fn speed() {
    // Matches in the buffer (10 s of them), users.
    for (waiting, users) in [(100, 100), (10_000, 2_000), (100_000, 20_000)] {
        measure(waiting, users);
    }
}

#[allow(clippy::print_stdout)]
fn measure(waiting: u64, users: u64) {
    let step = 10 * SECOND / waiting as i64;
    let failed = at_least(5, 60);
    let counted = CorrelationKind::ValueCount(vec![(Cmp::Ge, 5)], vec!["b".into()]);
    let ordered = correlation(CorrelationKind::TemporalOrdered, &[Input::Rule(0), Input::Rule(1)], &["a"], 60 * SECOND);
    let many = correlation(counted, &RULE, &["a"], 600 * SECOND);
    let correlations = vec![failed, many, ordered];
    let mut b = Bench::new(&[false, false], correlations, Settings::default());
    let total = 1_000_000u64;
    let mut seconds = 0.0;
    for start in (0..total).step_by(1000) {
        let event = |n: u64| Event {
            time: Some(n as i64 * step + (n * 7919 % 1000) as i64),
            rules: vec![(n % 2) as u32],
            fields: vec![("a", vec![format!("u{}", n * 31 % users)]), ("b", vec![format!("b{}", n % 3)])],
            ..at(0, 0)
        };
        let events: Vec<Event> = (start..start + 1000).map(event).collect();
        let (newest, mut matches) = batch(&events, &b.table);
        for (n, m) in (start..).zip(&mut matches) {
            let identity = u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            m.who = Who::Known(identity.to_le_bytes());
        }
        // Only the stage itself, not what makes its input.
        let started = std::time::Instant::now();
        b.correlator.absorb(0, 0, newest, matches, &mut b.out);
        seconds += started.elapsed().as_secs_f64();
    }
    let started = std::time::Instant::now();
    b.correlator.finish(&mut b.out);
    seconds += started.elapsed().as_secs_f64();
    let rate = total as f64 / seconds;
    println!("{waiting} waiting, {users} users: {rate:.0} matches/s, {} firings", b.out.len());
}

#[test]
fn what_is_new_is_told_once_its_group_has_learned() {
    let kind = CorrelationKind::NewValue { fields: vec!["b".into()], learning_us: 10 * SECOND };
    let c = correlation(kind, &RULE, &["a"], 100 * SECOND);
    let seen = |time, request, b: &str| Event {
        fields: vec![("a", vec!["p".into()]), ("b", vec![b.into()])],
        ..at(time, request)
    };
    let mut b = Bench::new(&[false], vec![c.clone()], Settings::default());
    b.absorb(0, &[seen(0, 1, "x"), seen(9, 2, "y"), seen(10, 3, "z"), seen(11, 4, "x"), seen(20, 5, "z")]);
    // Not seen for longer than the timespan is new again, if the group went on.
    b.absorb(0, &[seen(100, 6, "y"), seen(112, 7, "x"), seen(120, 8, "z"), seen(300, 9, "x")]);
    assert_eq!(b.finish(), ["c0 @10 x1 e3", "c0 @112 x1 e7"]);
    // What there is no room to remember is told.
    let settings = Settings { keys_max: 1, ..Settings::default() };
    let mut b = Bench::new(&[false], vec![c], settings);
    b.absorb(0, &[seen(0, 1, "x"), seen(10, 2, "y"), seen(11, 3, "y")]);
    assert_eq!(b.finish(), ["c0 @10 x1 e2", "c0 @11 x1 e3"]);
    assert_eq!(b.correlator.stats().keys_saturated, [2]);
}

#[test]
fn a_silence_is_told_when_the_watermark_has_passed_its_end() {
    let absence = |after, inputs: &[Input], timespan: i64| {
        correlation(CorrelationKind::EventAbsence { after }, inputs, &["a"], timespan * SECOND)
    };
    let mut b = Bench::new(&[false], vec![absence(0, &RULE, 60)], Settings::default());
    b.absorb(0, &[at(0, 1), at(60, 2), by(65, 3, "q"), idle(130)]);
    assert!(b.told().is_empty(), "120 is not behind the watermark yet");
    b.absorb(0, &[idle(131)]);
    assert_eq!(b.told(), ["c0 @120 x0 e2"]);
    // Told once; a new match begins a new wait. What had not ended by the newest event is not told.
    b.absorb(0, &[at(140, 4), idle(199)]);
    assert_eq!(b.finish(), ["c0 @125 x0 e3"]);
    // Something has to follow: rule 1 begins the wait for rule 0.
    let inputs = [Input::Rule(0), Input::Rule(1)];
    let begin = |time, request, value| Event { rules: vec![1], ..by(time, request, value) };
    let mut b = Bench::new(&[false, false], vec![absence(1, &inputs, 60)], Settings::default());
    b.absorb(0, &[begin(0, 1, "p"), begin(1, 2, "q"), begin(2, 3, "p"), at(60, 4), at(80, 5), begin(90, 6, "p")]);
    b.absorb(0, &[begin(100, 7, "p"), idle(200)]);
    assert_eq!(b.finish(), ["c0 @61 x0 e2", "c0 @150 x0 e6"]);
    // A silence feeds other correlations at its own time.
    let after = correlation(
        CorrelationKind::EventCount(vec![(Cmp::Ge, 2)]),
        &[Input::Correlation(0), Input::Rule(1)],
        &[],
        30 * SECOND,
    );
    let mut b = Bench::new(&[false, false], vec![absence(0, &RULE, 60), after], Settings::default());
    b.absorb(0, &[at(0, 1), begin(70, 2, "r"), idle(200)]);
    assert_eq!(b.finish(), ["c0 @60 x0 e1", "c1 @70 x2 e1,e2"]);
}

#[test]
fn silences_that_end_together_are_told_in_one_order() {
    let told = || {
        let absence = correlation(CorrelationKind::EventAbsence { after: 0 }, &RULE, &["a", "b"], 60 * SECOND);
        let mut b = Bench::new(&[false], vec![absence], Settings::default());
        let of = |request: u8| Event {
            fields: vec![("a", vec!["p".into()]), ("b", vec![format!("q{request}")])],
            ..at(0, request)
        };
        b.absorb(0, &(1..9).map(of).chain([idle(200)]).collect::<Vec<_>>());
        b.finish()
    };
    let first = told();
    assert_eq!(first.len(), 8);
    for _ in 0..9 {
        assert_eq!(told(), first);
    }
}

#[test]
fn numbers_are_bounded() {
    let kind = CorrelationKind::Numbers(Measure::Sum, vec![(Cmp::Ge, 5000)], vec!["b".into()]);
    let c = correlation(kind, &RULE, &["a"], 100 * SECOND);
    let one = |time, request, group: &str| Event {
        fields: vec![("a", vec![group.into()]), ("b", vec!["1".into()])],
        ..at(time, request)
    };
    let settings = Settings { numbers_per_group_max: 3, ..Settings::default() };
    let mut b = Bench::new(&[false], vec![c.clone()], settings);
    b.absorb(0, &(1..8).map(|n| one(i64::from(n), n, "p")).collect::<Vec<_>>());
    assert!(b.finish().is_empty());
    assert_eq!(b.correlator.stats().numbers_cut, 4);
    // A group never takes from another one.
    let settings = Settings { numbers_max: 6, ..Settings::default() };
    let mut b = Bench::new(&[false], vec![c], settings);
    let of_p = (1..7).map(|n| one(i64::from(n), n, "p"));
    b.absorb(0, &of_p.chain((7..13).map(|n| one(i64::from(n), n, "q"))).collect::<Vec<_>>());
    assert_eq!(b.finish(), ["c0 @5 x5 e1,e2,e3,e4,e5"]);
    assert_eq!(b.correlator.stats().numbers_cut, 5);
}
