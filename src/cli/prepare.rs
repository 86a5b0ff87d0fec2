//! From a configuration to what a daemon runs: the same for a start, a reload and `check`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use serde_json::Value;

use super::engine::{self, Engine, Settings};
use super::log::Say;
use super::{rule_files, sinks, site_file};
use crate::config::layers::Layers;
use crate::config::run::{LogFormat, RunConfig};
use crate::pipeline::live::Outlet;
use crate::rules::Adjustment;

/// What a daemon runs.
pub(super) struct Prepared {
    /// What was said.
    pub config: RunConfig,
    /// The same as it was put together.
    pub told: Value,
    /// The rules, compiled.
    pub engine: Engine,
    /// The sinks; nothing is connected.
    pub sinks: Vec<Outlet>,
    /// How to say something.
    pub say: Say,
    /// Rules that give alerts, correlations among them.
    pub rules: usize,
    warnings: Vec<String>,
}

/// Rules that cannot be loaded.
#[derive(Debug)]
pub(super) struct BadRules(Vec<String>);

impl BadRules {
    /// Tells people.
    pub(super) fn tell(&self) {
        tell(&self.0);
    }

    /// The same as one text.
    pub(super) fn text(&self) -> String {
        self.0.join("\n")
    }
}

impl Prepared {
    /// What runs, in numbers.
    pub(super) fn counted(&self) -> String {
        format!("{} rules give alerts, {} sinks are told", self.rules, self.sinks.len())
    }

    /// Tells people what is odd, or whoever collects it.
    pub(super) fn tell(&self) {
        match self.config.log_format {
            LogFormat::Text => tell(&self.warnings),
            LogFormat::Json => self.warnings.iter().for_each(|warning| self.say.problem(warning)),
        }
    }
}

fn tell(messages: &[String]) {
    for message in messages {
        // A reader that is gone is no reason to stop.
        let _ = writeln!(io::stderr().lock(), "{message}");
    }
}

/// What flags and the environment say.
pub(super) fn layers(flags: Vec<String>) -> Layers {
    let ours =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut environment: Vec<_> = ours.filter(|(name, _)| name.starts_with("AUDITWATCH_")).collect();
    environment.sort();
    Layers { flags, environment }
}

/// The text of a configuration file.
pub(super) fn text(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("configuration {}", file.display()))
}

/// Reads a configuration and everything it names. Rules that are wrong are told apart: they have an exit code of their own.
pub(super) fn read(file: &Path, layers: &Layers) -> anyhow::Result<Result<Prepared, BadRules>> {
    let (config, told) = RunConfig::layered(file, &text(file)?, layers)?;
    let say = Say { format: config.log_format };
    let site = site_file::read(config.site.as_deref())?;
    let mut loaded = engine::load(rule_files::collect(&config.rules, &config.add_rules)?, &site);
    if !loaded.errors.is_empty() {
        loaded.errors.append(&mut loaded.warnings);
        return Ok(Err(BadRules(loaded.errors)));
    }
    loaded.rules.narrow(&config.packs);
    let adjusted = loaded.rules.adjust(&adjustments(&config));
    adjusted.map_err(|wrong| anyhow::anyhow!("{}: overrides: {}", file.display(), wrong.join("\noverrides: ")))?;
    let count = |alerts: bool| usize::from(alerts);
    let rules = loaded.rules.rules.iter().map(|rule| count(rule.alerts)).sum::<usize>()
        + loaded.rules.correlations.iter().map(|one| count(one.alerts)).sum::<usize>();
    let settings = Settings { clusters: Vec::new(), site, lateness_us: config.lateness_max_us(), time_max: None };
    let engine = Engine::new(Arc::new(loaded.rules), settings)?;
    let sinks = sinks::open(&config, &told, say)?;
    let doubts = layers.doubts().into_iter();
    let doubts = doubts.map(|(name, meant)| format!("environment: {name} is no key; did you mean {meant}?"));
    let warnings = loaded.warnings.into_iter().chain(doubts).collect();
    Ok(Ok(Prepared { config, told, engine, sinks, say, rules, warnings }))
}

fn adjustments(config: &RunConfig) -> Vec<Adjustment> {
    let adjustment = |one: &crate::config::run::OverrideConfig| Adjustment {
        rules: one.rules.clone(),
        enabled: one.enabled,
        level: one.level,
        threshold: one.threshold.map(i64::from),
        timespan_us: one.timespan.map(|timespan| timespan.0),
    };
    config.overrides.iter().map(adjustment).collect()
}

/// Files that a configuration names and that are read again with it.
pub(super) fn files(file: &Path, config: &RunConfig, told: &Value) -> Vec<PathBuf> {
    let mut files = vec![file.to_owned()];
    files.extend(config.rules.iter().chain(&config.add_rules).chain(&config.site).cloned());
    // Every `…_file` and `…_files` of a sink.
    let sinks = told.get("sinks").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object);
    for (key, value) in sinks.flatten() {
        match value {
            Value::String(path) if key.ends_with("_file") => files.push(PathBuf::from(path)),
            Value::Object(map) if key.ends_with("_files") => {
                files.extend(map.values().filter_map(|path| path.as_str().map(PathBuf::from)));
            }
            _ => {}
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_a_sink_names_are_looked_at() {
        let text = "sources: [{type: file, paths: [a]}]\nstore: {path: s}\nsite: site\nrules: [r]\n\
                    sinks: [{type: webhook, url_file: u, template_file: t, ca_file: c}, \
                    {type: kafka, brokers: ['b:1'], topic: t, options_files: {sasl.password: p}}]\n";
        let (config, told) = RunConfig::layered(Path::new("run.yaml"), text, &Layers::default()).unwrap();
        let mut found = files(Path::new("run.yaml"), &config, &told);
        found.sort();
        assert_eq!(found, ["c", "p", "r", "run.yaml", "site", "t", "u"].map(PathBuf::from));
    }
}
