//! What a replay says on stderr when it is done.

use std::io::{self, Write};

use indicatif::{DecimalBytes, HumanCount};

use crate::pipeline::{Located, Summary};
use crate::rules::RuleSet;
use crate::sink::text::printable;
use crate::source::discover::Skipped;

/// Lines shown of a list, unless more is asked for.
const SHOWN_MAX: usize = 10;
const LEVELS: [&str; 5] = ["informational", "low", "medium", "high", "critical"];

/// Writes the summary; `verbose` shows lists to their end.
pub fn write(
    out: &mut dyn Write,
    summary: &Summary,
    rules: &RuleSet,
    skipped: &[Skipped],
    verbose: bool,
) -> io::Result<()> {
    let shown = if verbose { usize::MAX } else { SHOWN_MAX };
    totals(out, summary)?;
    alerts(out, summary, rules, shown)?;
    if summary.late > 0 {
        let n = HumanCount(summary.late);
        writeln!(out, "late: {n} matches came after their windows had closed; a longer --lateness would count them")?;
    }
    problems(out, summary, shown)?;
    for input in &summary.inputs {
        if let Some(why) = &input.broken {
            writeln!(out, "broken: {}: {}", printable(&input.name), printable(why))?;
        }
    }
    if !skipped.is_empty() {
        writeln!(out, "skipped in folders: {}", HumanCount(skipped.len() as u64))?;
        for one in skipped.iter().take(shown) {
            writeln!(out, "  {}: {}", printable(&one.path.to_string_lossy()), printable(&one.why))?;
        }
        more(out, skipped.len() as u64, shown)?;
    }
    Ok(())
}

fn totals(out: &mut dyn Write, summary: &Summary) -> io::Result<()> {
    let c = &summary.counts;
    let inputs = summary.inputs.len();
    let plural = if inputs == 1 { "" } else { "s" };
    let rate = |n: u64| (n as f64 / summary.seconds.max(1e-6)) as u64;
    writeln!(
        out,
        "{} events of {} requests in {inputs} input{plural}, {} in {:.2} s ({}/s, {} events/s)",
        HumanCount(c.events),
        HumanCount(summary.requests),
        DecimalBytes(c.bytes),
        summary.seconds,
        DecimalBytes(rate(c.bytes)),
        HumanCount(rate(c.events)),
    )?;
    let names = ["RequestReceived", "ResponseStarted", "ResponseComplete", "Panic", "other"];
    let stages = names.iter().zip(c.by_stage).filter(|(_, n)| *n > 0);
    let stages: Vec<String> = stages.map(|(name, n)| format!("{name} {}", HumanCount(n))).collect();
    if !stages.is_empty() {
        writeln!(out, "stages: {}", stages.join(", "))?;
    }
    let rest = [
        (summary.duplicates, "delivered twice"),
        (c.not_audit, "no audit events"),
        (c.untimed, "without a time"),
        (c.malformed_body, "with a malformed body"),
        (c.duplicate_keys, "with a member twice"),
        (c.expired_stage, "stages too late to be judged"),
    ];
    let rest: Vec<String> =
        rest.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", HumanCount(*n))).collect();
    if !rest.is_empty() {
        writeln!(out, "of note: {}", rest.join(", "))?;
    }
    Ok(())
}

fn alerts(out: &mut dyn Write, summary: &Summary, rules: &RuleSet, shown: usize) -> io::Result<()> {
    let tally = &summary.alerts;
    let levels = LEVELS.iter().zip(tally.by_level).rev().filter(|(_, n)| *n > 0);
    let levels: Vec<String> = levels.map(|(level, n)| format!("{} {level}", HumanCount(n))).collect();
    let told = if levels.is_empty() { "none".to_owned() } else { levels.join(", ") };
    let below = match tally.below_min_level {
        0 => String::new(),
        n => format!(" ({} below --min-level not told)", HumanCount(n)),
    };
    writeln!(out, "alerts: {told}{below}")?;
    let metas = rules.rules.iter().map(|r| &r.meta).chain(rules.correlations.iter().map(|c| &c.meta));
    let mut by_rule: Vec<_> =
        metas.filter_map(|meta| tally.by_rule.get(&meta.id).map(|n| (meta.level, *n, meta))).collect();
    by_rule.sort_by(|a, b| (b.0, b.1, &a.2.id).cmp(&(a.0, a.1, &b.2.id)));
    for (level, n, meta) in by_rule.iter().take(shown.max(20)) {
        let reference = meta.reference.as_deref().unwrap_or("-");
        writeln!(
            out,
            "  {:>7}  {:<13}  {:<9}  {}",
            HumanCount(*n).to_string(),
            LEVELS[*level as usize],
            printable(reference),
            printable(&meta.title)
        )?;
    }
    more(out, by_rule.len() as u64, shown.max(20))
}

fn problems(out: &mut dyn Write, summary: &Summary, shown: usize) -> io::Result<()> {
    let c = &summary.counts;
    if c.unreadable + c.too_large == 0 {
        return Ok(());
    }
    writeln!(out, "not understood: {} unreadable, {} too large", HumanCount(c.unreadable), HumanCount(c.too_large))?;
    let too_large = |at: &&Located| at.kind == crate::worker::ProblemKind::TooLarge;
    let places = summary.inputs.iter().flat_map(|input| {
        let all = input.unreadable.0.iter().chain(input.notes.0.iter().filter(too_large));
        all.map(move |at| (&input.name, at))
    });
    for (name, at) in places.take(shown) {
        writeln!(out, "  {}:{}: {}", printable(name), at.line, printable(&at.why))?;
    }
    more(out, c.unreadable + c.too_large, shown)
}

fn more(out: &mut dyn Write, all: u64, shown: usize) -> io::Result<()> {
    match all.saturating_sub(shown as u64) {
        0 => Ok(()),
        n => writeln!(out, "  … and {} more", HumanCount(n)),
    }
}
