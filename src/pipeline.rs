//! Wires the stages of a replay: one reader, N workers, and the calling thread, which puts the workers' results back into
//! order, moves the windows and tells the alerts. Nothing of what comes out depends on N or on timing.
#![allow(clippy::disallowed_methods, reason = "the pipeline owns the threads and times the run")]

mod dead;
pub mod distributed;
pub mod live;
pub mod requests;
pub mod summary;

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, bounded, select};

use crate::engine::matches::{ClusterId, Firing, Match, SourceId};
use crate::sink::Output;
use crate::source::merge::Merge;
use crate::source::replay::Limits;
use crate::source::{Batch, Input};
use crate::worker::BatchResult;
use requests::Requests;
pub use summary::{InputSummary, Located, Summary};

/// Buffers larger than this many blocks are not kept for the next batch: a rare huge document must not hold its memory.
const KEPT_BLOCKS_MAX: usize = 4;

/// How many clusters are told apart: envelopes name them, and each costs windows of its own.
const CLUSTERS_MAX: usize = 1000;

/// What this machine's clock shows, microseconds since the Unix epoch.
pub fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

/// What a worker does with a batch. One value per thread.
pub trait Analyzer {
    /// Turns bytes into matches and counts.
    fn process(&mut self, batch: &Batch) -> BatchResult;
}

/// What happens to matches, in the order of batches.
pub trait Windows {
    /// Announces an input before anything else, with its first event time (microseconds) if it is known.
    fn add_source(&mut self, source: SourceId, cluster: ClusterId, first_time: Option<i64>);
    /// Takes the matches of one batch; `newest` is the newest event time of the batch.
    fn absorb(
        &mut self,
        source: SourceId,
        cluster: ClusterId,
        newest: Option<i64>,
        matches: Vec<Match>,
        out: &mut Vec<Firing>,
    );
    /// A batch told nothing of the input's own cluster, but of others up to `newest` (microseconds).
    fn pass_over(&mut self, source: SourceId, cluster: ClusterId, newest: Option<i64>, out: &mut Vec<Firing>);
    /// The input has ended.
    fn finish_source(&mut self, source: SourceId, out: &mut Vec<Firing>);
    /// All inputs have ended: what is still due.
    fn finish(&mut self, out: &mut Vec<Firing>);
    /// Matches that came too late for their windows.
    fn late(&self) -> u64;
    /// Further counters, for `--stats`.
    fn stats(&self) -> serde_json::Value;
}

/// What to replay, and how.
#[derive(Debug)]
pub struct Plan {
    /// Inputs with their clusters; their order gives the `SourceId`s.
    pub inputs: Vec<(Input, ClusterId)>,
    /// Worker threads, at least 1.
    pub workers: usize,
    /// How inputs are cut.
    pub limits: Limits,
    /// Event times later than this (microseconds) say nothing about how far an input has got.
    pub time_max: Option<i64>,
}

/// How far a replay has got.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Bytes read as they are stored.
    pub raw_bytes: u64,
    /// Events analyzed.
    pub events: u64,
}

/// What people see besides the alerts.
pub trait Observer {
    /// Called after every batch.
    fn progress(&mut self, _progress: Progress) {}
    /// A document that could not be read, with its raw bytes if they were kept.
    fn dead_letter(&mut self, _input: &str, _at: &Located, _raw: Option<&[u8]>) -> io::Result<()> {
        Ok(())
    }
}

/// Why a replay stopped before its end.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// Alerts could not be written.
    #[error("cannot write alerts: {0}")]
    Output(#[source] io::Error),
    /// Dead letters could not be written.
    #[error("cannot write dead letters: {0}")]
    DeadLetter(#[source] io::Error),
    /// The operating system gave no thread.
    #[error("cannot start a thread: {0}; try fewer --workers")]
    Thread(#[source] io::Error),
    /// A bug in auditwatch.
    #[error("internal error in the {stage}: {what}; please report it with the input that caused it")]
    Panic {
        /// Which thread.
        stage: &'static str,
        /// What it said.
        what: String,
    },
}

/// A batch on its way, and how many credits it holds.
struct Work {
    batch: Batch,
    credits: usize,
}

/// A batch with what came of it, or what the worker said when it panicked.
type Done = Result<(Work, BatchResult), String>;

/// Replays all inputs. Alerts go to `output` in the order of the windows; `observer` is told of everything else.
pub fn replay<A: Analyzer>(
    plan: Plan,
    make_worker: impl Fn() -> A + Sync,
    windows: &mut dyn Windows,
    output: &mut Output<'_>,
    observer: &mut dyn Observer,
) -> Result<Summary, PipelineError> {
    let started = Instant::now();
    let raw = Arc::new(AtomicU64::new(0));
    let names: Vec<String> = plan.inputs.iter().map(|(input, _)| input.name.clone()).collect();
    let merge = Merge::new(plan.inputs, plan.limits, plan.time_max, raw.clone());
    for (source, cluster, first_time) in merge.first_times() {
        windows.add_source(source, cluster, first_time);
    }
    let sequencer = Sequencer {
        next: 0,
        waiting: BTreeMap::new(),
        windows,
        output,
        observer,
        summary: Summary::new(names),
        requests: Requests::default(),
        firings: Vec::new(),
        raw,
    };
    let block_bytes = plan.limits.block_bytes;
    let mut summary = match plan.workers {
        0 | 1 => alone(merge, make_worker(), sequencer, block_bytes)?,
        workers => together(merge, workers, &make_worker, sequencer, block_bytes)?,
    };
    summary.seconds = started.elapsed().as_secs_f64();
    Ok(summary)
}

/// Everything in the calling thread: one worker costs one CPU, and a block stays in its cache.
fn alone<A: Analyzer>(
    mut merge: Merge,
    mut worker: A,
    mut sequencer: Sequencer<'_, '_>,
    block_bytes: usize,
) -> Result<Summary, PipelineError> {
    let mut buffer = Vec::new();
    while let Some(batch) = merge.next_batch(buffer) {
        let result = catch_unwind(AssertUnwindSafe(|| worker.process(&batch)));
        let result = result.map_err(|panic| PipelineError::Panic { stage: "matcher", what: said(panic) })?;
        sequencer.take(&batch, result)?;
        buffer = if batch.bytes.capacity() <= KEPT_BLOCKS_MAX * block_bytes { batch.bytes } else { Vec::new() };
    }
    sequencer.end()?;
    Ok(sequencer.finish())
}

/// A reader, `workers` matchers and the calling thread.
fn together<A: Analyzer>(
    merge: Merge,
    workers: usize,
    make_worker: &(impl Fn() -> A + Sync),
    mut sequencer: Sequencer<'_, '_>,
    block_bytes: usize,
) -> Result<Summary, PipelineError> {
    // How far the reader may be ahead of the windows, in blocks: what bounds the memory of everything in between.
    // With fewer, workers stand still while the calling thread waits for its turn on a core.
    let credits = workers + 8;
    let (credit_tx, credit_rx) = bounded(credits);
    let (pool_tx, pool_rx) = bounded(credits);
    let (work_tx, work_rx) = bounded::<Work>(credits);
    let (done_tx, done_rx) = bounded::<Done>(credits + workers);
    // Dropped when the windows stop early; the reader may then be stuck in a read, so nobody waits for it.
    let (stop_tx, stop_rx) = bounded::<()>(0);
    for _ in 0..credits {
        let _ = credit_tx.try_send(());
    }
    let reader = thread::Builder::new()
        .name("reader".to_owned())
        .spawn(move || read(merge, &credit_rx, &pool_rx, &work_tx, block_bytes))
        .map_err(PipelineError::Thread)?;
    let summary = thread::scope(|scope| {
        for n in 0..workers {
            let (work_rx, done_tx, stop_rx) = (work_rx.clone(), done_tx.clone(), stop_rx.clone());
            thread::Builder::new()
                .name(format!("worker-{n}"))
                .spawn_scoped(scope, move || work(make_worker, &work_rx, &done_tx, &stop_rx))
                .map_err(PipelineError::Thread)?;
        }
        drop((work_rx, done_tx));
        let _stop_when_done = stop_tx;
        let returns = Returns { credits: credit_tx, pool: pool_tx, kept_bytes_max: KEPT_BLOCKS_MAX * block_bytes };
        sequencer.run(&done_rx, &returns)?;
        Ok(sequencer.finish())
    })?;
    reader.join().map_err(|panic| PipelineError::Panic { stage: "reader", what: said(panic) })?;
    Ok(summary)
}

/// The reader's thread. It ends when the inputs end or when nobody takes its batches any more.
fn read(
    mut merge: Merge,
    credit_rx: &Receiver<()>,
    pool_rx: &Receiver<Vec<u8>>,
    work_tx: &Sender<Work>,
    block_bytes: usize,
) {
    let all = credit_rx.capacity().unwrap_or(1);
    while credit_rx.recv().is_ok() {
        let Some(batch) = merge.next_batch(pool_rx.try_recv().unwrap_or_default()) else { return };
        // A batch of many blocks (one huge document) waits until most others are done.
        let credits = (batch.bytes.len() / block_bytes + 1).min(all);
        if (1..credits).any(|_| credit_rx.recv().is_err()) || work_tx.send(Work { batch, credits }).is_err() {
            return;
        }
    }
}

/// A worker's thread. A panic becomes a message, so that nobody waits for a result that never comes.
fn work<A: Analyzer>(
    make_worker: &impl Fn() -> A,
    work_rx: &Receiver<Work>,
    done_tx: &Sender<Done>,
    stop_rx: &Receiver<()>,
) {
    let mut worker = make_worker();
    loop {
        let work = select! {
            recv(work_rx) -> work => match work { Ok(work) => work, Err(_) => return },
            recv(stop_rx) -> _ => return,
        };
        let result = catch_unwind(AssertUnwindSafe(|| worker.process(&work.batch)));
        let panicked = result.is_err();
        let done = result.map(|result| (work, result)).map_err(said);
        if done_tx.send(done).is_err() || panicked {
            return;
        }
    }
}

fn said(panic: Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a message".to_owned())
}

/// The calling thread: sole owner of windows, counts and output.
struct Sequencer<'a, 'o> {
    next: u64,
    waiting: BTreeMap<u64, (Work, BatchResult)>,
    windows: &'a mut dyn Windows,
    output: &'a mut Output<'o>,
    observer: &'a mut dyn Observer,
    summary: Summary,
    requests: Requests,
    firings: Vec<Firing>,
    raw: Arc<AtomicU64>,
}

/// The way back to the reader.
struct Returns {
    credits: Sender<()>,
    pool: Sender<Vec<u8>>,
    kept_bytes_max: usize,
}

impl Returns {
    fn give(&self, work: Work) {
        if work.batch.bytes.capacity() <= self.kept_bytes_max {
            let _ = self.pool.try_send(work.batch.bytes);
        }
        for _ in 0..work.credits {
            let _ = self.credits.try_send(());
        }
    }
}

impl Sequencer<'_, '_> {
    fn run(&mut self, done_rx: &Receiver<Done>, returns: &Returns) -> Result<(), PipelineError> {
        for done in done_rx {
            let (work, result) = done.map_err(|what| PipelineError::Panic { stage: "matcher", what })?;
            self.waiting.insert(work.batch.seq, (work, result));
            while let Some((work, result)) = self.waiting.remove(&self.next) {
                self.next += 1;
                self.take(&work.batch, result)?;
                returns.give(work);
            }
        }
        self.end()
    }

    /// All batches have been taken.
    fn end(&mut self) -> Result<(), PipelineError> {
        self.windows.finish(&mut self.firings);
        self.tell()
    }

    fn take(&mut self, batch: &Batch, mut result: BatchResult) -> Result<(), PipelineError> {
        self.requests.see(&result.seen);
        let observer = &mut *self.observer;
        let mut failed = None;
        self.summary.add(batch, &result, |input, at, raw| {
            if failed.is_none() {
                failed = observer.dead_letter(input, at, raw).err();
            }
        });
        if let Some(error) = failed {
            return Err(PipelineError::DeadLetter(error));
        }
        self.absorb(batch, &mut result);
        if batch.last {
            self.windows.finish_source(batch.source, &mut self.firings);
        }
        let raw_bytes = self.raw.load(std::sync::atomic::Ordering::Relaxed);
        self.observer.progress(Progress { raw_bytes, events: self.summary.counts.events });
        self.tell()
    }

    /// Hands the matches on, each part to its cluster.
    fn absorb(&mut self, batch: &Batch, result: &mut BatchResult) {
        if result.is_elsewhere() {
            self.windows.pass_over(batch.source, batch.cluster, result.newest_elsewhere(), &mut self.firings);
        } else {
            let matches = std::mem::take(&mut result.matches);
            self.windows.absorb(batch.source, batch.cluster, result.newest, matches, &mut self.firings);
        }
        for part in result.elsewhere.drain(..) {
            let cluster = self.output.cluster(&part.cluster, CLUSTERS_MAX);
            self.summary.counts.clusters_full += if cluster.is_none() { part.matches.len() as u64 } else { 0 };
            let cluster = cluster.unwrap_or(batch.cluster);
            self.windows.absorb(batch.source, cluster, part.newest, part.matches, &mut self.firings);
        }
    }

    fn tell(&mut self) -> Result<(), PipelineError> {
        self.output.tell(&self.firings).map_err(PipelineError::Output)?;
        self.firings.clear();
        Ok(())
    }

    fn finish(self) -> Summary {
        let mut summary = self.summary;
        summary.requests = self.requests.new;
        summary.duplicates = self.requests.duplicates;
        summary.late = self.windows.late();
        summary.windows = self.windows.stats();
        summary.alerts = self.output.tally.clone();
        summary
    }
}

#[cfg(test)]
mod tests;
