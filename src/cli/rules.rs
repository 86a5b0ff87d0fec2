//! `auditwatch rules`: which detections there are, and what they cover.

mod coverage;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::exit::Exit;
use super::{engine, rule_files};
use crate::config::Site;
use crate::event::catalogue::{self, AuditLevel, Known};
use crate::rules::expr::Expr;
use crate::rules::pack::Pack;
use crate::rules::{Input, Level, Meta, RuleSet, suggest};
use crate::sink::text::printable;

/// List the detections, show one, or tell what they cover.
#[derive(Debug, Args)]
pub struct RulesArgs {
    #[command(subcommand)]
    what: What,

    /// Use these rules instead of the built-in detections. May be repeated.
    #[arg(long, global = true, value_name = "DIR|FILE", env = "AUDITWATCH_RULES", value_delimiter = ':')]
    rules: Vec<PathBuf>,

    /// Use these rules as well. May be repeated.
    #[arg(long, global = true, value_name = "DIR|FILE", env = "AUDITWATCH_ADD_RULES", value_delimiter = ':')]
    add_rules: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Every detection that gives alerts, by area.
    List {
        /// Only those of this pack: core is level low and above, extended is all.
        #[arg(long, value_parser = rule_files::packs(), default_value = "extended")]
        pack: Pack,

        /// Shape of the output.
        #[arg(long, value_name = "FORMAT", default_value = "table")]
        format: Format,
    },
    /// Everything about one detection.
    Show {
        /// Its id, name, or short id such as SEC-002 (which may stand for several).
        rule: String,
    },
    /// What the detections cover by area, what audit logs cannot show, and the audit level needed, as Markdown.
    Coverage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Columns.
    Table,
    /// One JSON array.
    Json,
    /// A Markdown table.
    Markdown,
}

/// A detection that gives alerts.
#[derive(Debug, Clone)]
struct Entry {
    meta: Arc<Meta>,
    correlation: bool,
    /// The lowest audit level at which it can fire.
    needs: AuditLevel,
}

impl Entry {
    /// The folder of its file.
    fn area(&self) -> &str {
        self.meta.file.rsplit('/').nth(1).unwrap_or("other")
    }

    fn short(&self) -> &str {
        self.meta.reference.as_deref().unwrap_or("-")
    }
}

/// Runs the subcommand.
pub fn run(args: &RulesArgs) -> anyhow::Result<Exit> {
    let loaded = engine::load(rule_files::collect(&args.rules, &args.add_rules)?, &Site::default());
    if !loaded.errors.is_empty() {
        bail!("{} of the rules cannot be read; `auditwatch check` tells why", loaded.errors.len());
    }
    let all = entries(&loaded.rules);
    let mut out = io::stdout().lock();
    match &args.what {
        What::List { pack, format } => {
            let chosen: Vec<Entry> = all.into_iter().filter(|entry| pack.holds(&entry.meta)).collect();
            match format {
                Format::Table => table(&mut out, &chosen)?,
                Format::Json => writeln!(out, "{:#}", chosen.iter().map(as_json).collect::<Value>())?,
                Format::Markdown => markdown(&mut out, &chosen)?,
            }
        }
        What::Show { rule } => show(&mut out, &all, rule)?,
        What::Coverage => out.write_all(coverage::page(&all).as_bytes())?,
    }
    out.flush()?;
    Ok(Exit::Done)
}

/// What gives alerts, by area, short id and title.
fn entries(set: &RuleSet) -> Vec<Entry> {
    let rules: Vec<AuditLevel> = set.rules.iter().map(|rule| needs(&rule.condition)).collect();
    let mut correlations: Vec<AuditLevel> = Vec::new();
    for correlation in &set.correlations {
        // Inputs stand earlier in the list than those who read them.
        let of = |input: &Input| match *input {
            Input::Rule(place) => rules[place],
            Input::Correlation(place) => correlations[place],
        };
        let level = correlation.inputs.iter().map(of).max().unwrap_or(AuditLevel::Metadata);
        correlations.push(level);
    }
    let single = set.rules.iter().zip(rules).filter(|(rule, _)| rule.alerts);
    let single = single.map(|(rule, needs)| Entry { meta: Arc::clone(&rule.meta), correlation: false, needs });
    let joined = set.correlations.iter().zip(correlations).filter(|(correlation, _)| correlation.alerts);
    let joined = joined.map(|(it, needs)| Entry { meta: Arc::clone(&it.meta), correlation: true, needs });
    let mut all: Vec<Entry> = single.chain(joined).collect();
    all.sort_by(|a, b| {
        (a.area(), a.short(), &a.meta.title, &a.meta.id).cmp(&(b.area(), b.short(), &b.meta.title, &b.meta.id))
    });
    all
}

/// The lowest audit level at which a condition can hold. What must not be there needs no level.
fn needs(expr: &Expr) -> AuditLevel {
    let of = |field: &str| match catalogue::find(field) {
        Known::Field(field) | Known::Below(field) | Known::BelowScalar(field) => field.level,
        Known::Unknown => AuditLevel::Metadata,
    };
    match expr {
        Expr::Const(_) | Expr::Not(_) => AuditLevel::Metadata,
        Expr::And(parts) => parts.iter().map(needs).max().unwrap_or(AuditLevel::Metadata),
        Expr::Or(parts) => parts.iter().map(needs).min().unwrap_or(AuditLevel::Metadata),
        Expr::Test(test) => test.field.as_deref().map_or(AuditLevel::Metadata, of),
        Expr::Each(each) => of(&each.field),
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Informational => "informational",
        Level::Low => "low",
        Level::Medium => "medium",
        Level::High => "high",
        Level::Critical => "critical",
    }
}

fn table(out: &mut dyn Write, entries: &[Entry]) -> io::Result<()> {
    for entry in entries {
        let (area, short, level) = (printable(entry.area()), printable(entry.short()), level_name(entry.meta.level));
        writeln!(
            out,
            "{area:18}  {short:9}  {level:13}  {:15}  {}",
            entry.needs.as_str(),
            printable(&entry.meta.title)
        )?;
    }
    Ok(())
}

fn markdown(out: &mut dyn Write, entries: &[Entry]) -> io::Result<()> {
    writeln!(out, "| area | id | level | audit level | detection |\n|---|---|---|---|---|")?;
    for entry in entries {
        let (level, needs, title) = (level_name(entry.meta.level), entry.needs.as_str(), cell(&entry.meta.title));
        writeln!(out, "| {} | {} | {level} | {needs} | {title} |", cell(entry.area()), cell(entry.short()))?;
    }
    Ok(())
}

/// Text that cannot end a cell of a Markdown table.
fn cell(text: &str) -> String {
    printable(text).replace('|', "\\|")
}

fn as_json(entry: &Entry) -> Value {
    let meta = &entry.meta;
    json!({
        "id": meta.id,
        "ref": meta.reference,
        "name": meta.name,
        "title": meta.title,
        "area": entry.area(),
        "kind": if entry.correlation { "correlation" } else { "rule" },
        "level": level_name(meta.level),
        "audit_level": entry.needs.as_str(),
        "description": meta.description,
        "tags": meta.tags,
        "references": meta.references,
        "falsepositives": meta.false_positives,
        "file": meta.file,
    })
}

fn show(out: &mut dyn Write, all: &[Entry], wanted: &str) -> anyhow::Result<()> {
    let names = |entry: &Entry| {
        let meta = &entry.meta;
        [Some(meta.id.clone()), meta.name.clone(), meta.reference.clone()].into_iter().flatten().collect::<Vec<_>>()
    };
    let fits = |entry: &&Entry| names(entry).iter().any(|name| name.eq_ignore_ascii_case(wanted));
    let found: Vec<&Entry> = all.iter().filter(fits).collect();
    if found.is_empty() {
        let known: Vec<String> = all.iter().flat_map(names).collect();
        match suggest(wanted, known.iter().map(String::as_str)) {
            Some(name) => bail!("no detection is called {wanted:?}; did you mean {name}?"),
            None => bail!("no detection is called {wanted:?}; `auditwatch rules list` names them all"),
        }
    }
    for entry in found {
        let meta = &entry.meta;
        let name = meta.name.as_deref().unwrap_or("-");
        writeln!(out, "{}  ({}, {})", printable(&meta.title), printable(entry.short()), level_name(meta.level))?;
        writeln!(out, "  id {}, name {}, {}", printable(&meta.id), printable(name), printable(&meta.file))?;
        writeln!(out, "  needs audit level {}", entry.needs.as_str())?;
        meta.description.lines().try_for_each(|line| writeln!(out, "  {}", printable(line)))?;
        for (what, list) in [("tag", &meta.tags), ("false positive", &meta.false_positives), ("see", &meta.references)]
        {
            list.iter().try_for_each(|one| writeln!(out, "  {what}: {}", printable(one)))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
