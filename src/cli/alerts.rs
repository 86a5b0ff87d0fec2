//! `auditwatch alerts`: what a daemon has stored.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;

use serde_json::Value;

use super::exit::Exit;
use crate::config::duration_us;
use crate::event::time::parse_micros;
use crate::journal::{Journal, Query};
use crate::pipeline::now_us;
use crate::sink::text::{fit, printable};

/// Show the alerts that a daemon has stored.
#[derive(Debug, clap::Args)]
pub struct AlertsArgs {
    /// The daemon's state file (store.path); it may be running.
    #[arg(long, value_name = "FILE", env = "AUDITWATCH_STORE")]
    store: PathBuf,

    /// Only alerts of events since then: a time (2026-11-23T10:00:00Z), a day (2026-11-23), or how long ago (1h).
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Since>,

    /// Only alerts of this level and above.
    #[arg(long, value_name = "LEVEL", default_value = "informational")]
    level: super::replay::LevelArg,

    /// Only alerts of this rule: its id, or its short id (SEC-001).
    #[arg(long, value_name = "ID")]
    rule: Option<String>,

    /// Only what this user did.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// Shape of the alerts [default: table on a terminal, else json].
    #[arg(long, value_name = "FORMAT")]
    format: Option<FormatArg>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FormatArg {
    /// Readable columns.
    Table,
    /// Lines of JSON, as they were told.
    Json,
}

#[derive(Debug, Clone, Copy)]
enum Since {
    /// Microseconds since the epoch.
    Time(i64),
    /// Microseconds before now.
    Ago(i64),
}

fn since(text: &str) -> Result<Since, String> {
    let day = || parse_micros(format!("{text}T00:00:00Z").as_bytes());
    let time = parse_micros(text.as_bytes()).or_else(day).map(Since::Time);
    let ago = || duration_us(text).map(Since::Ago).ok();
    time.or_else(ago).ok_or_else(|| "write a time such as 2026-11-23T10:00:00Z, or how long ago, such as 1h".to_owned())
}

/// Runs the subcommand.
pub fn run(args: &AlertsArgs) -> anyhow::Result<Exit> {
    let now = now_us();
    let query = Query {
        since_us: args.since.map(|since| match since {
            Since::Time(time) => time,
            Since::Ago(ago) => now.saturating_sub(ago),
        }),
        level_min: crate::rules::Level::from(args.level) as u8,
        rule: args.rule.clone(),
        user: args.user.clone(),
    };
    let journal = Journal::open_to_read(&args.store)?;
    let stdout = io::stdout();
    let default = if stdout.is_terminal() { FormatArg::Table } else { FormatArg::Json };
    let table = args.format.unwrap_or(default) == FormatArg::Table;
    let mut out = BufWriter::new(stdout.lock());
    let mut written = if table { writeln!(out, "{}", header()) } else { Ok(()) };
    journal.query(&query, |body| {
        if written.is_ok() {
            written = if table { writeln!(out, "{}", row(body)) } else { writeln!(out, "{body}") };
        }
        written.is_ok()
    })?;
    written.and_then(|()| out.flush())?;
    Ok(Exit::Done)
}

fn header() -> String {
    columns("TIME (UTC)", "LEVEL", "REF", "WHAT")
}

/// An alert in one line; what happened stands last and is not cut.
fn row(body: &str) -> String {
    let alert: Value = serde_json::from_str(body).unwrap_or_default();
    let text = |at: &str| alert.pointer(at).and_then(Value::as_str).unwrap_or("-");
    let time = text("/time").get(..19).unwrap_or("-").replace('T', " ");
    let level = match text("/rule/level") {
        "informational" => "INFO".to_owned(),
        level => level.to_uppercase(),
    };
    columns(&time, &level, text("/rule/ref"), text("/message"))
}

fn columns(time: &str, level: &str, reference: &str, what: &str) -> String {
    format!("{}  {}  {}  {}", fit(time, 19), fit(level, 8), fit(reference, 9), printable(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_or_how_long_ago() {
        assert!(matches!(since("1970-01-01T00:00:01Z"), Ok(Since::Time(1_000_000))));
        assert!(matches!(since("1970-01-02"), Ok(Since::Time(86_400_000_000))));
        assert!(matches!(since("1h"), Ok(Since::Ago(3_600_000_000))));
        assert!(since("yesterday").is_err());
    }

    #[test]
    fn an_alert_in_one_line() {
        let body = r#"{"time":"2026-11-23T10:00:00.123456Z","rule":{"level":"high","ref":"SEC-001"},"message":"Secrets:\u001b alice"}"#;
        assert_eq!(row(body), "2026-11-23 10:00:00  HIGH      SEC-001    Secrets:\\u{1b} alice");
    }
}
