//! Sinks: where alerts go, and in which shape. The renderers are pure; [`Output`] owns the writer.

pub mod dead_letter;
pub mod ecs;
pub mod falco;
pub mod file;
pub mod http;
pub mod json;
pub mod kafka;
pub mod ocsf;
pub mod route;
pub mod shape;
pub mod syslog;
pub mod table;
pub mod text;

use std::io::{self, Write};

use crate::alert::{Alert, Lines, Names, meta};
use crate::engine::matches::{ClusterId, Firing};
use crate::rules::Level;
use table::TableStyle;

/// The shape of alerts on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people at a terminal.
    Table(TableStyle),
    /// Our own JSON lines (DESIGN §8).
    Json,
    /// OCSF Detection Finding, JSON lines.
    Ocsf,
    /// Elastic Common Schema, JSON lines.
    Ecs,
    /// Falco's JSON output.
    Falco,
}

/// What was told, by level (from informational to critical) and by rule id.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Alerts told.
    pub by_level: [u64; 5],
    /// Alerts told, by rule id.
    pub by_rule: std::collections::BTreeMap<String, u64>,
    /// Alerts below the minimum level: found, not told.
    pub below_min_level: u64,
    /// The highest level found, told or not.
    pub worst: Option<Level>,
}

/// Renders firings and writes them.
pub struct Output<'a> {
    names: Names<'a>,
    /// Names of clusters; envelopes may tell of more than are known at first.
    clusters: Vec<String>,
    format: Format,
    min_level: Level,
    lines: Lines,
    writer: Box<dyn Write + 'a>,
    buffer: Vec<u8>,
    /// What was told so far.
    pub tally: Tally,
}

impl<'a> Output<'a> {
    /// Alerts below `min_level` are counted but not written.
    pub fn new(names: Names<'a>, format: Format, min_level: Level, writer: Box<dyn Write + 'a>) -> Self {
        let clusters = names.clusters.to_vec();
        let (lines, buffer, tally) = (Lines::default(), Vec::new(), Tally::default());
        Output { names, clusters, format, min_level, lines, writer, buffer, tally }
    }

    /// Names of rules, clusters and inputs.
    pub fn names(&self) -> Names<'_> {
        Names { clusters: &self.clusters, ..self.names }
    }

    /// The number of a cluster, a new one if there are fewer than `most`.
    pub fn cluster(&mut self, name: &str, most: usize) -> Option<ClusterId> {
        let known = self.clusters.iter().position(|known| known == name);
        let at = known.or_else(|| {
            (self.clusters.len() < most).then(|| {
                self.clusters.push(name.to_owned());
                self.clusters.len() - 1
            })
        });
        at.map(|at| at as ClusterId)
    }

    /// Writes the alerts of these firings, in their order, and flushes.
    pub fn tell(&mut self, firings: &[Firing]) -> io::Result<()> {
        for firing in firings {
            let known = meta(firing.origin, self.names.rules);
            self.tally.worst = self.tally.worst.max(Some(known.level));
            if known.level < self.min_level {
                self.tally.below_min_level += 1;
                continue;
            }
            if let Format::Table(style) = self.format
                && self.tally.by_rule.is_empty()
            {
                table::header(&mut self.buffer, style)?;
            }
            self.tally.by_level[known.level as usize] += 1;
            match self.tally.by_rule.get_mut(&known.id) {
                Some(told) => *told += 1,
                None => drop(self.tally.by_rule.insert(known.id.clone(), 1)),
            }
            let names = Names { clusters: &self.clusters, ..self.names };
            match self.format {
                Format::Json => {
                    self.lines.write(&mut self.buffer, firing, &names);
                    self.buffer.push(b'\n');
                }
                _ => render(&mut self.buffer, self.format, &Alert::new(firing, &names))?,
            }
        }
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.writer.write_all(&self.buffer)?;
        self.buffer.clear();
        self.writer.flush()
    }
}

/// Writes one alert, with its newline.
pub fn render(out: &mut Vec<u8>, format: Format, alert: &Alert) -> io::Result<()> {
    match format {
        Format::Table(style) => return table::row(out, alert, style),
        Format::Json => serde_json::to_writer(&mut *out, alert)?,
        Format::Ocsf => serde_json::to_writer(&mut *out, &ocsf::render(alert))?,
        Format::Ecs => serde_json::to_writer(&mut *out, &ecs::render(alert))?,
        Format::Falco => serde_json::to_writer(&mut *out, &falco::render(alert))?,
    }
    out.push(b'\n');
    Ok(())
}

/// The MITRE ATT&CK techniques among an alert's tags, each with its sub-technique if it names one: `attack.t1552.007` gives
/// `T1552` and `T1552.007`.
fn techniques(alert: &Alert) -> impl Iterator<Item = (String, Option<String>)> {
    alert.rule.tags.iter().filter_map(|tag| {
        let number = tag.strip_prefix("attack.t").filter(|number| number.starts_with(|c: char| c.is_ascii_digit()))?;
        let whole = format!("T{number}");
        Some(match whole.split_once('.') {
            Some((technique, _)) => (technique.to_owned(), Some(whole)),
            None => (whole, None),
        })
    })
}
