//! A sink in a thread of its own: which alerts it is told and which together, how fast, and how far it has got.

use std::collections::VecDeque;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::super::now_us;
use crate::sink::route::{Route, Routed, Router, Silence};

/// Where alerts go.
pub trait Sink: Send {
    /// What it is called, in messages and in the journal.
    fn name(&self) -> String;
    /// Takes messages, each a line of JSON. When it returns they are where they should be; after an error all of them are
    /// given again, but those that are settled.
    ///
    /// # Errors
    /// They could not be written. A closed pipe ends the run.
    fn send(&mut self, alerts: &[(i64, String)]) -> io::Result<()>;

    /// The number of the last message before which all were taken or given up; for one that keeps count.
    fn settled(&self) -> i64 {
        i64::MIN
    }

    /// Messages that it will never take, since the start.
    fn given_up(&self) -> u64 {
        0
    }
}

/// A limit on messages in time.
#[derive(Debug, Clone, Copy)]
pub struct RateLimit {
    /// So many.
    pub count: u32,
    /// In so long.
    pub per: Duration,
}

/// A sink with all that is between it and the journal.
pub struct Outlet {
    /// The sink itself.
    pub sink: Box<dyn Sink>,
    /// What it is told.
    pub routes: Vec<Route>,
    /// And what not.
    pub silences: Vec<Silence>,
    /// How fast.
    pub rate: Option<RateLimit>,
    /// How many alerts may wait for it.
    pub backlog_max: i64,
    /// The same for the same settings: a sink that does not change goes on over a reload.
    pub settings: String,
}

/// Alerts with their numbers.
pub(super) type Alerts = Vec<(i64, String)>;

/// What a sink is given.
pub(super) struct Lot {
    pub(super) alerts: Alerts,
    /// The number of the last alert that it need not tell any more.
    pub(super) taken: i64,
}

/// What came of a lot.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// The number of the last alert before which all are done with.
    pub(super) through: Option<i64>,
    /// What is to be remembered with it.
    pub(super) state: Option<String>,
    /// How long it must not be given anything.
    pub(super) wait: Duration,
    /// When something is to be told even if nothing comes.
    pub(super) due: Option<Duration>,
    /// Whether anything is left.
    pub(super) left: bool,
    pub(super) error: Option<io::Error>,
    /// How long it took; none if nothing was sent.
    pub(super) spent: Option<Duration>,
    /// When it was done: whoever asks may be busy with other things.
    pub(super) at: Option<Instant>,
    /// Since the start.
    pub(super) routed: Routed,
    /// Messages sent since the start, and those it will never take.
    pub(super) sent: u64,
    pub(super) given_up: u64,
}

/// A message, and how far the journal is done with when it is sent.
struct Waiting {
    message: (i64, String),
    through: Option<i64>,
}

struct Work {
    sink: Box<dyn Sink>,
    router: Router,
    bucket: Option<Bucket>,
    /// What is to be sent, in its order.
    waiting: VecDeque<Waiting>,
    /// The number of the last alert that was made a message, or passed over.
    planned: i64,
    /// Numbers of messages are the sink's own: one may tell many alerts, and none stands for a group that is due.
    next: i64,
    sent: u64,
}

/// Starts the thread. It ends when nobody gives it anything any more; nobody waits for it, since it may wait for a reader
/// for ever.
pub(super) fn start(outlet: Outlet, taken: i64, state: &str) -> io::Result<(Sender<Lot>, Receiver<Done>)> {
    let name = outlet.sink.name();
    let mut work = Work {
        sink: outlet.sink,
        router: Router::new(outlet.routes, outlet.silences, state),
        bucket: outlet.rate.map(Bucket::new),
        waiting: VecDeque::new(),
        planned: taken,
        next: 0,
        sent: 0,
    };
    let (to, lots) = bounded::<Lot>(1);
    let (done, from) = bounded(1);
    let run = move || {
        for lot in lots {
            work.pass_over(lot.taken);
            if done.send(work.take(lot.alerts)).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name(format!("sink {name}")).spawn(run)?;
    Ok((to, from))
}

impl Work {
    /// Forgets what was passed over while it waited.
    fn pass_over(&mut self, taken: i64) {
        self.planned = self.planned.max(taken);
        self.waiting.retain(|waiting| waiting.through.is_none_or(|through| through > taken));
    }

    fn take(&mut self, mut alerts: Alerts) -> Done {
        let now_us = now_us();
        alerts.retain(|(number, _)| *number > self.planned);
        self.plan(alerts, now_us);
        let mut done = Done::default();
        while !self.waiting.is_empty() && done.error.is_none() {
            let allowed = self.bucket.as_mut().map_or(usize::MAX, |bucket| bucket.allowed(Instant::now()));
            let count = allowed.min(self.waiting.len());
            if count == 0 {
                done.wait = self.bucket.as_ref().map_or(Duration::ZERO, Bucket::wait);
                break;
            }
            self.send(count, &mut done);
        }
        done.left = !self.waiting.is_empty();
        if !done.left {
            done.through = Some(self.planned);
            done.state = self.router.state();
        }
        done.due =
            self.router.due_us().map(|at| Duration::from_micros(at.saturating_sub(now_us).max(0).unsigned_abs()));
        let at = Some(Instant::now());
        Done { routed: self.router.routed, sent: self.sent, given_up: self.sink.given_up(), at, ..done }
    }

    /// Makes messages of alerts, and of groups that are due.
    fn plan(&mut self, alerts: Alerts, now_us: i64) {
        let messages = self.router.messages(&alerts, now_us);
        self.planned = alerts.last().map_or(self.planned, |(number, _)| *number);
        // Where one message may tell many alerts, only the end of a lot says how far the journal is done with.
        let whole = self.router.groups();
        for (number, line) in messages {
            self.next += 1;
            self.waiting.push_back(Waiting { message: (self.next, line), through: (!whole).then_some(number) });
        }
    }

    fn send(&mut self, count: usize, done: &mut Done) {
        let some: Alerts = self.waiting.iter().take(count).map(|waiting| waiting.message.clone()).collect();
        let last = some.last().map_or(0, |(number, _)| *number);
        let began = Instant::now();
        let result = self.sink.send(&some);
        done.spent = Some(done.spent.unwrap_or_default() + began.elapsed());
        let settled = if result.is_ok() { last } else { self.sink.settled() };
        done.error = result.err();
        let mut sent = 0;
        while let Some(first) = self.waiting.front().filter(|first| first.message.0 <= settled) {
            done.through = first.through.or(done.through);
            self.waiting.pop_front();
            sent += 1;
        }
        self.sent += sent;
        if let Some(bucket) = &mut self.bucket {
            bucket.take(sent);
        }
    }
}

/// So many at once, and as many again in the time they are for.
struct Bucket {
    limit: RateLimit,
    /// What there is, in messages.
    tokens: f64,
    filled_at: Instant,
}

impl Bucket {
    fn new(limit: RateLimit) -> Bucket {
        Bucket { limit, tokens: f64::from(limit.count), filled_at: Instant::now() }
    }

    fn allowed(&mut self, now: Instant) -> usize {
        let passed = now.saturating_duration_since(self.filled_at).as_secs_f64() / self.limit.per.as_secs_f64();
        let most = f64::from(self.limit.count);
        self.tokens = (self.tokens + passed * most).min(most);
        self.filled_at = now;
        // What is missing by rounding must not cost another wait.
        (self.tokens + 1e-6) as usize
    }

    fn take(&mut self, messages: u64) {
        self.tokens -= messages as f64;
    }

    /// Until one more is allowed.
    fn wait(&self) -> Duration {
        self.limit.per.mul_f64((1.0 - self.tokens).max(0.0) / f64::from(self.limit.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::tests::alert_of_rule;

    /// Takes so many messages and then fails once, as often as it is told.
    struct Moody {
        takes: Vec<usize>,
        settled: i64,
        told: Sender<i64>,
    }

    impl Sink for Moody {
        fn name(&self) -> String {
            "moody".to_owned()
        }

        fn send(&mut self, alerts: &[(i64, String)]) -> io::Result<()> {
            let takes = if self.takes.is_empty() { usize::MAX } else { self.takes.remove(0) };
            let settled = self.settled;
            for (number, _) in alerts.iter().filter(|(number, _)| *number > settled).take(takes) {
                let _ = self.told.try_send(*number);
                self.settled = *number;
            }
            if takes == usize::MAX { Ok(()) } else { Err(io::Error::other("no")) }
        }

        fn settled(&self) -> i64 {
            self.settled
        }
    }

    fn work(takes: Vec<usize>, routes: Vec<Route>, rate: Option<RateLimit>) -> (Work, Receiver<i64>) {
        let (told, said) = bounded(100);
        let sink = Box::new(Moody { takes, settled: i64::MIN, told });
        let router = Router::new(routes, Vec::new(), "");
        let bucket = rate.map(Bucket::new);
        (Work { sink, router, bucket, waiting: VecDeque::new(), planned: 0, next: 0, sent: 0 }, said)
    }

    fn lot(numbers: std::ops::Range<i64>) -> Alerts {
        numbers.map(|n| (n, serde_json::to_string(&alert_of_rule()).unwrap())).collect()
    }

    #[test]
    fn what_was_taken_of_a_lot_is_not_told_again() {
        let (mut work, said) = work(vec![2, 0], Vec::new(), None);
        let done = work.take(lot(11..16));
        assert!(done.error.is_some() && done.left);
        assert_eq!(done.through, Some(12));
        // The lot comes again, and more with it.
        let done = work.take(lot(13..18));
        assert_eq!((done.through, done.error.is_some()), (None, true));
        let done = work.take(lot(13..20));
        assert_eq!((done.through, done.left, done.sent), (Some(19), false, 9));
        assert_eq!(said.try_iter().collect::<Vec<_>>(), (1..10).collect::<Vec<_>>());
    }

    #[test]
    fn a_group_is_done_with_when_its_lot_is() {
        use crate::sink::route::Key;
        let route = Route { group_by: vec![Key::Rule], interval_us: 3_600_000_000, ..Route::default() };
        let (mut work, said) = work(vec![0], vec![route], None);
        let done = work.take(lot(1..6));
        assert_eq!((done.through, done.state), (None, None));
        let done = work.take(lot(1..9));
        assert_eq!((done.through, done.left), (Some(8), false));
        assert!(done.state.is_some() && done.due.is_some());
        assert_eq!((said.try_iter().count(), done.routed.grouped), (1, 7));
    }

    #[test]
    fn a_rate_is_kept() {
        let limit = RateLimit { count: 3, per: Duration::from_secs(3600) };
        let (mut work, said) = work(Vec::new(), Vec::new(), Some(limit));
        let done = work.take(lot(1..6));
        assert_eq!((done.through, done.left, done.error.is_none()), (Some(3), true, true));
        assert!(done.wait > Duration::from_secs(1000) && done.wait <= Duration::from_secs(1200), "{:?}", done.wait);
        assert_eq!(said.try_iter().count(), 3);
        let bucket = work.bucket.as_mut().unwrap();
        assert_eq!(bucket.allowed(bucket.filled_at + Duration::from_secs(1200)), 1);
        assert_eq!(bucket.allowed(bucket.filled_at + Duration::from_secs(86_400)), 3);
    }
}
