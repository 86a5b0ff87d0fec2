//! Members of a group in a simulation: partitions of events in, matches re-keyed, windows owned by partitions, alerts out,
//! with transactions as Kafka has them. Members die at any step, others go on as zombies, records are delivered twice; the
//! alerts in the end are those of one replay, each once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use auditwatch::alert::{Alert, Names, SourceName};
use auditwatch::distributed::matcher::{Reading, Route};
use auditwatch::distributed::{Owner, Record, Router, Source};
use auditwatch::engine::program::Program;
use auditwatch::engine::window::{Correlator, Settings};
use auditwatch::rules::{self, RuleSet, SourceFile};
use auditwatch::source::{Batch, Record as Part};
use auditwatch::worker::{Worker, WorkerSettings};

use crate::support::logs::{Random, synthetic};
use crate::support::root;

/// What all members run.
struct Engine {
    program: Arc<Program>,
    clusters: Arc<[String]>,
}

impl Engine {
    fn new() -> Engine {
        let mut files = Vec::new();
        let all = glob::glob(&root().join("detections/**/*.yml").display().to_string()).unwrap();
        for path in all.map(Result::unwrap).filter(|path| !path.to_string_lossy().ends_with(".test.yml")) {
            files.push(SourceFile::new(path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
        }
        let (set, _) = rules::load(&files, &Default::default());
        assert!(set.correlations.len() > 5);
        Engine { program: Arc::new(Program::compile(Arc::new(set)).unwrap()), clusters: ["eu".to_owned()].into() }
    }

    fn set(&self) -> &RuleSet {
        &self.program.set
    }

    fn worker(&self) -> Worker {
        let settings = WorkerSettings { clusters: Arc::clone(&self.clusters), ..WorkerSettings::default() };
        Worker::new(Arc::clone(&self.program), settings)
    }

    fn owner(&self) -> Owner {
        let (set, captures) = (Arc::clone(&self.program.set), Arc::clone(&self.program.captures));
        Owner::new(set, captures, settings())
    }

    /// The alerts of one undisturbed replay.
    fn replay(&self, lines: &[String]) -> BTreeMap<String, String> {
        let (set, captures) = (Arc::clone(&self.program.set), Arc::clone(&self.program.captures));
        let mut windows = Correlator::new(set, captures, settings());
        let result = self.worker().process(&batch(lines));
        let mut firings = Vec::new();
        windows.absorb(0, 0, result.newest, result.matches, &mut firings);
        windows.finish(&mut firings);
        let sources = [SourceName { kind: "kafka", name: String::new() }];
        let names = Names { rules: self.set(), clusters: &self.clusters, sources: &sources };
        firings.iter().map(|firing| told(&Alert::new(firing, &names))).collect()
    }
}

/// Little is late: a partition that lets too much pass is seen.
fn settings() -> Settings {
    Settings { lateness_us: 1_000_000, ..Settings::default() }
}

fn told(alert: &Alert) -> (String, String) {
    let mut value = serde_json::to_value(alert).unwrap();
    value.as_object_mut().unwrap().remove("source");
    (alert.id.clone(), value.to_string())
}

fn source(partition: usize) -> Source {
    Source { topic: "audit".to_owned(), partition: partition as i32 }
}

fn batch(lines: &[String]) -> Batch {
    let mut batch = Batch::default();
    for (offset, line) in (0u64..).zip(lines) {
        batch.bytes.extend_from_slice(line.as_bytes());
        batch.records.push(Part { end: batch.bytes.len(), offset });
    }
    batch
}

/// What the brokers hold: only what was committed can be seen.
struct Brokers {
    events: Vec<Vec<String>>,
    events_committed: Vec<usize>,
    matches: Vec<Vec<Vec<u8>>>,
    matches_committed: Vec<usize>,
    alerts: Vec<(String, String)>,
    /// Who has which partition, by the group; everybody else is a zombie.
    events_of: Vec<usize>,
    matches_of: Vec<usize>,
}

impl Brokers {
    fn new(partitions: usize, owned: usize) -> Brokers {
        Brokers {
            events: vec![Vec::new(); partitions],
            events_committed: vec![0; partitions],
            matches: vec![Vec::new(); owned],
            matches_committed: vec![0; owned],
            alerts: Vec::new(),
            events_of: vec![usize::MAX; partitions],
            matches_of: vec![usize::MAX; owned],
        }
    }
}

/// A transaction that is not committed.
#[derive(Default)]
struct Transaction {
    events: BTreeMap<usize, usize>,
    matches: BTreeMap<usize, usize>,
    records: Vec<(u32, Vec<u8>)>,
    alerts: Vec<(String, String)>,
}

struct Member {
    name: usize,
    worker: Worker,
    reading: Reading,
    /// Partitions of events, and where to go on.
    events: BTreeMap<usize, usize>,
    /// Partitions of matches: owner, where to go on, and up to where it folds in silence.
    matches: BTreeMap<usize, (Owner, usize, usize)>,
    transaction: Transaction,
}

impl Member {
    fn new(name: usize, engine: &Engine) -> Member {
        Member {
            name,
            worker: engine.worker(),
            reading: Reading::default(),
            events: BTreeMap::new(),
            matches: BTreeMap::new(),
            transaction: Transaction::default(),
        }
    }

    /// Takes up what the group says: what it keeps goes on, what is new begins where it was committed.
    fn assigned(&mut self, brokers: &Brokers, engine: &Engine) {
        let mine = |of: &[usize]| -> BTreeSet<usize> { (0..of.len()).filter(|at| of[*at] == self.name).collect() };
        let (events, matches) = (mine(&brokers.events_of), mine(&brokers.matches_of));
        for gone in self.events.keys().filter(|at| !events.contains(at)) {
            self.reading.forget(&source(*gone));
        }
        self.events.retain(|at, _| events.contains(at));
        self.matches.retain(|at, _| matches.contains(at));
        self.transaction.events.retain(|at, _| events.contains(at));
        for at in events {
            self.events.entry(at).or_insert(brokers.events_committed[at]);
        }
        for at in matches {
            let new = || (engine.owner(), 0, brokers.matches_committed[at]);
            self.matches.entry(at).or_insert_with(new);
        }
    }

    /// One step of any kind. False if there was nothing to do.
    fn step(&mut self, brokers: &Brokers, engine: &Engine, router: &Router, random: &mut Random) -> bool {
        let partitions: Vec<usize> = self.events.keys().copied().collect();
        let owned: Vec<usize> = self.matches.keys().copied().collect();
        let at = random.below((partitions.len() + owned.len()).max(1));
        match partitions.get(at) {
            Some(partition) => self.read(*partition, brokers, engine, router, random),
            None => match owned.get(at.wrapping_sub(partitions.len())) {
                Some(partition) => self.fold(*partition, brokers, random),
                None => false,
            },
        }
    }

    /// Reads on in one of its partitions. False if nothing is left in any.
    fn read_one(&mut self, brokers: &Brokers, engine: &Engine, router: &Router, random: &mut Random) -> bool {
        let left = self.events.iter().find(|(at, next)| **next < brokers.events[**at].len());
        left.map(|(at, _)| *at).is_some_and(|at| self.read(at, brokers, engine, router, random))
    }

    fn read(
        &mut self,
        partition: usize,
        brokers: &Brokers,
        engine: &Engine,
        router: &Router,
        random: &mut Random,
    ) -> bool {
        let from = self.events[&partition];
        let all = &brokers.events[partition];
        if from == all.len() {
            if random.below(20) == 0 {
                self.reading.is_idle(&source(partition));
            }
            return false;
        }
        let to = (from + 1 + random.below(40)).min(all.len());
        let result = self.worker.process(&batch(&all[from..to]));
        let route = Route { router, rules: engine.set(), captures: &engine.program.captures };
        let mut records = Vec::new();
        self.reading.take(&source(partition), "eu", result, &route, &mut records);
        self.transaction.records.extend(records.iter().map(|(to, record)| (*to, record.encode())));
        self.transaction.events.insert(partition, to);
        self.events.insert(partition, to);
        true
    }

    fn fold(&mut self, partition: usize, brokers: &Brokers, random: &mut Random) -> bool {
        let Some((owner, at, silent)) = self.matches.get_mut(&partition) else { return false };
        let all = &brokers.matches[partition];
        let to = (*at + 1 + random.below(20)).min(all.len());
        let moved = *at < to;
        for bytes in &all[*at..to] {
            let mut alerts = Vec::new();
            owner.take(Record::decode(bytes).unwrap(), &mut alerts);
            if *at >= *silent {
                self.transaction.alerts.extend(alerts.iter().map(told));
            }
            *at += 1;
        }
        if moved && *at > *silent {
            self.transaction.matches.insert(partition, *at);
        }
        moved
    }

    /// Commits all or nothing. False if the group has gone on without this member. Without `marks`, and if there are no
    /// matches, how far was read is told later, and not committed before.
    fn commit(&mut self, brokers: &mut Brokers, marks: bool) -> bool {
        if (marks || !self.transaction.records.is_empty())
            && let Some(marks) = self.reading.marks(&[("audit".to_owned(), brokers.events.len() as i32)])
        {
            let marks = marks.encode();
            self.transaction.records.extend((0..brokers.matches.len()).map(|to| (to as u32, marks.clone())));
        }
        let Transaction { mut events, matches, records, alerts } = std::mem::take(&mut self.transaction);
        if self.reading.is_untold() {
            self.transaction.events = std::mem::take(&mut events);
        }
        let ours = events.keys().all(|at| brokers.events_of[*at] == self.name)
            && matches.keys().all(|at| brokers.matches_of[*at] == self.name)
            && self.events.keys().all(|at| brokers.events_of[*at] == self.name);
        if !ours {
            return false;
        }
        events.into_iter().for_each(|(at, next)| brokers.events_committed[at] = next);
        matches.into_iter().for_each(|(at, next)| brokers.matches_committed[at] = next);
        records.into_iter().for_each(|(to, record)| brokers.matches[to as usize].push(record));
        brokers.alerts.extend(alerts);
        true
    }
}

/// Gives every partition to one of the members that the group knows.
fn rebalance(brokers: &mut Brokers, members: &[usize], random: &mut Random) {
    for of in brokers.events_of.iter_mut().chain(&mut brokers.matches_of) {
        if !members.contains(of) || random.below(4) == 0 {
            *of = *random.pick(members);
        }
    }
}

fn simulate(engine: &Engine, seed: u64, partitions: usize, owned: usize, lines: &[String], deaths: usize) {
    let mut random = Random(seed);
    let mut to_come = VecDeque::new();
    for line in lines {
        // Some are delivered twice, to any partition.
        for _ in 0..1 + usize::from(random.below(10) == 0) {
            to_come.push_back((random.below(partitions), line.clone()));
        }
    }
    let mut brokers = Brokers::new(partitions, owned);
    let router = Router::new(engine.set(), owned as u32);
    let (mut names, mut left) = (4, deaths);
    let mut members: Vec<Member> = (0..4).map(|name| Member::new(name, engine)).collect();
    let mut zombies: Vec<Member> = Vec::new();
    let mut rest = 500;
    let group = |members: &[Member]| members.iter().map(|member| member.name).collect::<Vec<_>>();
    rebalance(&mut brokers, &group(&members), &mut random);
    members.iter_mut().for_each(|member| member.assigned(&brokers, engine));
    while !to_come.is_empty() || rest > 0 {
        rest -= usize::from(to_come.is_empty());
        // At times a lot comes, at times nothing, so that partitions are idle in between.
        if random.below(10) == 0 {
            for (partition, line) in to_come.drain(..random.below(80).min(to_come.len())) {
                brokers.events[partition].push(line);
            }
        }
        let at = random.below(members.len());
        members[at].step(&brokers, engine, &router, &mut random);
        if random.below(6) == 0 {
            let marks = random.below(2) == 0;
            assert!(members[at].commit(&mut brokers, marks), "seed {seed}: a member of the group is refused");
        }
        for zombie in &mut zombies {
            zombie.step(&brokers, engine, &router, &mut random);
            if random.below(4) == 0 && !zombie.events.is_empty() {
                assert!(!zombie.commit(&mut brokers, true), "seed {seed}: a zombie is heard");
            }
        }
        if left > 0 && random.below(60) == 0 {
            left -= 1;
            let gone = members.swap_remove(random.below(members.len()));
            if random.below(2) == 0 {
                // It does not know yet that it has been left behind.
                zombies.push(gone);
            }
            zombies.truncate(3);
            for _ in 0..1 + usize::from(members.len() < 3) {
                members.push(Member::new(names, engine));
                names += 1;
            }
            // Whoever stays commits before it gives back.
            members.iter_mut().for_each(|member| assert!(member.commit(&mut brokers, false), "seed {seed}"));
            rebalance(&mut brokers, &group(&members), &mut random);
            members.iter_mut().for_each(|member| member.assigned(&brokers, engine));
        }
    }
    let mut lines = lines.to_vec();
    let goes_on = seed.is_multiple_of(2);
    if goes_on {
        lines.push(later(lines.last().unwrap()));
        brokers.events.iter_mut().for_each(|events| events.extend(lines.last().cloned()));
        read_and_die(&mut members, &mut brokers, engine, &router, &mut random);
    }
    drain(&mut members, &mut brokers, engine, &router, &mut random, !goes_on);
    compare(&brokers.alerts, &engine.replay(&lines), seed);
}

/// Every partition has gone on, much later. All of it is read, and whoever read it ends before it told so: what was read and
/// is not told is read again by another one, and nobody waits until partitions are idle.
fn read_and_die(members: &mut [Member], brokers: &mut Brokers, engine: &Engine, router: &Router, random: &mut Random) {
    while members.iter_mut().any(|member| member.read_one(brokers, engine, router, random)) {}
    for member in members {
        assert!(member.commit(brokers, false));
        *member = Member::new(member.name, engine);
        member.assigned(brokers, engine);
    }
}

/// An event of an hour later that no rule asks for.
fn later(line: &str) -> String {
    let mut event: serde_json::Value = serde_json::from_str(line).unwrap();
    event["verb"] = "watch".into();
    event["auditID"] = "6f1b0c1e-0000-4000-8000-000000000000".into();
    event["user"] = serde_json::json!({"username": "system:kube-scheduler", "groups": ["system:authenticated"]});
    event["objectRef"] =
        serde_json::json!({"resource": "leases", "namespace": "kube-system", "name": "kube-scheduler"});
    event["requestURI"] = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases".into();
    event["responseStatus"]["code"] = 200.into();
    for time in ["requestReceivedTimestamp", "stageTimestamp"] {
        event[time] = "2026-11-23T20:00:00.000000Z".into();
    }
    for body in ["requestObject", "responseObject"] {
        event.as_object_mut().unwrap().remove(body);
    }
    format!("{event}\n")
}

/// Everything is read and folded, until nothing is left; if `idle`, and every partition was marked as idle twice.
fn drain(
    members: &mut [Member],
    brokers: &mut Brokers,
    engine: &Engine,
    router: &Router,
    random: &mut Random,
    idle: bool,
) {
    let mut quiet = 0;
    while quiet < 4 {
        quiet += 1;
        for member in &mut *members {
            for partition in member.events.keys().copied().collect::<Vec<_>>() {
                while member.read(partition, brokers, engine, router, random) {
                    quiet = 0;
                }
                if idle {
                    member.reading.is_idle(&source(partition));
                }
            }
            assert!(member.commit(brokers, true));
        }
        for member in &mut *members {
            for partition in member.matches.keys().copied().collect::<Vec<_>>() {
                while member.fold(partition, brokers, random) {}
            }
            assert!(member.commit(brokers, true));
        }
    }
}

/// The same alerts, each once.
fn compare(got: &[(String, String)], expected: &BTreeMap<String, String>, seed: u64) {
    let once: BTreeMap<String, String> = got.iter().cloned().collect();
    assert_eq!(once.len(), got.len(), "seed {seed}: an alert twice");
    let lost: Vec<_> = expected.keys().filter(|id| !once.contains_key(*id)).collect();
    let invented: Vec<_> = once.keys().filter(|id| !expected.contains_key(*id)).collect();
    let said = lost.first().map(|id| &expected[*id]);
    assert!(lost.is_empty() && invented.is_empty(), "seed {seed}: lost {lost:?} {said:?}, invented {invented:?}");
    for (id, alert) in expected {
        assert_eq!(&once[id], alert, "seed {seed}");
    }
}

#[test]
fn what_is_longer_than_brokers_take_is_several_records_the_last_of_which_tells_how_far_was_read() {
    let engine = Engine::new();
    let router = Router::new(engine.set(), 1);
    let result = engine.worker().process(&batch(&synthetic(5, 300)));
    let route = Route { router: &router, rules: engine.set(), captures: &engine.program.captures };
    let mut records = Vec::new();
    Reading::default().take(&source(0), "eu", result, &route, &mut records);
    let (_, whole) = records.pop().unwrap();
    let Record::Matches { newest: Some(until), matches, .. } = whole.clone() else { panic!("{whole:?}") };
    let bytes = whole.encode().len();
    assert_eq!(whole.clone().encode_parts(bytes), [whole.encode()]);
    let parts = whole.encode_parts(bytes / 3);
    let mut all = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        assert!(part.len() <= bytes / 3);
        let Ok(Record::Matches { newest, matches, .. }) = Record::decode(part) else { panic!("{part:?}") };
        assert_eq!(newest, (at + 1 == parts.len()).then_some(until));
        all.extend(matches);
    }
    assert_eq!(all, matches);
}

#[test]
fn alerts_are_those_of_one_replay() {
    let engine = Engine::new();
    for (seed, partitions, owned, deaths) in [(1, 1, 1, 0), (2, 8, 4, 0), (3, 8, 4, 12), (4, 40, 16, 10)] {
        simulate(&engine, seed, partitions, owned, &synthetic(seed, 500), deaths);
    }
}

#[test]
fn hundreds_of_partitions_and_members_that_die() {
    let engine = Engine::new();
    simulate(&engine, 77, 300, 24, &synthetic(77, 1_000), 12);
}

/// Minutes: `cargo test --test all distributed -- --ignored`
#[test]
#[ignore = "takes minutes"]
fn many_seeds() {
    let engine = Engine::new();
    for seed in 100..160 {
        simulate(&engine, seed, 1 + seed as usize % 60, 1 + seed as usize % 17, &synthetic(seed, 2_000), 30);
    }
}
