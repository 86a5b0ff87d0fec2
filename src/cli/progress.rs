//! The progress bar: on a terminal, and only when there is something to wait for.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::pipeline::Progress;

/// Shorter runs show no bar.
const SHOWN_AFTER: Duration = Duration::from_millis(700);
/// How often events/s is worked out anew.
const MESSAGE_EVERY: Duration = Duration::from_millis(200);

/// A progress bar that appears when a run takes long.
pub struct Bar {
    bar: ProgressBar,
    wanted: bool,
    shown: bool,
    started: Instant,
    told: Instant,
}

impl Bar {
    /// `total`: bytes on disk, if known. A bar that is not `wanted` never shows.
    pub fn new(total: Option<u64>, wanted: bool) -> Self {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        let template = match total {
            Some(_) => "{bar:30} {bytes}/{total_bytes} {binary_bytes_per_sec} {msg} ETA {eta}",
            None => "{spinner} {bytes} {binary_bytes_per_sec} {msg} {elapsed}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let now = Instant::now();
        Bar { bar, wanted, shown: false, started: now, told: now }
    }

    /// A handle that prints without tearing the bar.
    pub fn writer<W: Write>(&self, inner: W) -> BarWriter<W> {
        BarWriter { bar: self.wanted.then(|| self.bar.clone()), inner }
    }

    /// Moves the bar.
    pub fn update(&mut self, progress: Progress) {
        if !self.wanted {
            return;
        }
        let now = Instant::now();
        if !self.shown {
            if now - self.started < SHOWN_AFTER {
                return;
            }
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.shown = true;
        }
        if now - self.told >= MESSAGE_EVERY {
            self.told = now;
            let rate = progress.events as f64 / (now - self.started).as_secs_f64();
            self.bar.set_message(format!("{} events/s", HumanCount(rate as u64)));
        }
        self.bar.set_position(progress.raw_bytes);
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Writes while the bar is put aside.
pub struct BarWriter<W> {
    bar: Option<ProgressBar>,
    inner: W,
}

impl<W: Write> Write for BarWriter<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.inner.write_all(buf).and_then(|()| self.inner.flush()))?,
            None => self.inner.write_all(buf)?,
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
