//! Alerts for people: one line each, in columns that fit the terminal.

use std::io::{self, Write};

use anstyle::{AnsiColor, Color, Style};

use super::text::{fit, printable};
use crate::alert::{Alert, Kind};
use crate::rules::Level;

/// How a table looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableStyle {
    /// Columns of the terminal; at least [`TableStyle::WIDTH_MIN`] are used.
    pub width: usize,
    /// Whether to colour.
    pub color: bool,
}

impl TableStyle {
    /// Narrower than this, lines wrap.
    pub const WIDTH_MIN: usize = 80;
    /// The width when there is no terminal to ask.
    pub const WIDTH_DEFAULT: usize = 140;
}

const TIME: usize = 19;
const LEVEL: usize = 8;
const REF: usize = 9;
const GAP: usize = 2;

/// Widths of title, actor and target: what the fixed columns leave, in shares.
fn shares(style: TableStyle) -> (usize, usize, usize) {
    let rest = style.width.max(TableStyle::WIDTH_MIN) - (TIME + LEVEL + REF + 5 * GAP);
    let title = rest * 2 / 5;
    let actor = rest / 4;
    (title, actor, rest - title - actor)
}

/// The line of column names.
pub fn header(out: &mut Vec<u8>, style: TableStyle) -> io::Result<()> {
    let (title, actor, target) = shares(style);
    let columns =
        [("TIME (UTC)", TIME), ("LEVEL", LEVEL), ("REF", REF), ("WHAT", title), ("WHO", actor), ("TARGET", target)];
    let line: Vec<String> = columns.iter().map(|(name, width)| fit(name, *width)).collect();
    let bold = style_or_plain(style, Style::new().bold());
    writeln!(out, "{bold}{}{bold:#}", line.join("  ").trim_end())
}

/// One alert.
pub fn row(out: &mut Vec<u8>, alert: &Alert, style: TableStyle) -> io::Result<()> {
    let (title_width, actor_width, target_width) = shares(style);
    let paint = style_or_plain(style, color_of(alert.rule.level));
    let time = alert.time.get(..TIME).unwrap_or(&alert.time).replace('T', " ");
    let level = format!("{:?}", alert.rule.level).to_uppercase();
    let level = if alert.rule.level == Level::Informational { "INFO" } else { &level };
    let reference = alert.rule.reference.as_deref().unwrap_or("-");
    let title = match alert.kind {
        Kind::Rule => printable(&alert.rule.title).into_owned(),
        Kind::Correlation => format!("{} ×{}", printable(&alert.rule.title), alert.count),
    };
    let line = format!(
        "{}  {paint}{}{paint:#}  {}  {}  {}  {}",
        fit(&time, TIME),
        fit(level, LEVEL),
        fit(&printable(reference), REF),
        fit(&title, title_width),
        fit(&printable(&who(alert)), actor_width),
        fit(&printable(&what(alert)), target_width),
    );
    writeln!(out, "{}", line.trim_end())
}

fn who(alert: &Alert) -> String {
    let actor = &alert.actor;
    let name = if actor.username.is_empty() { "(nobody)" } else { &actor.username };
    match (&actor.impersonated_by, &actor.client_ip) {
        (Some(by), _) => format!("{name} (by {by})"),
        (None, Some(ip)) => format!("{name} {ip}"),
        (None, None) => name.to_owned(),
    }
}

fn what(alert: &Alert) -> String {
    let target = &alert.target;
    let mut out = target.verb.clone();
    match &target.resource {
        None => out += &format!(" {}", target.uri),
        Some(resource) => {
            out += &format!(" {resource}");
            target.subresource.iter().for_each(|s| out += &format!("/{s}"));
            let place = [&target.namespace, &target.name].map(|p| p.as_deref().unwrap_or_default());
            match place {
                ["", ""] => {}
                ["", name] => out += &format!(" {name}"),
                [namespace, ""] => out += &format!(" {namespace}/*"),
                [namespace, name] => out += &format!(" {namespace}/{name}"),
            }
        }
    }
    alert.outcome.code.iter().for_each(|code| out += &format!(" ({code})"));
    out
}

fn color_of(level: Level) -> Style {
    let color = |c: AnsiColor| Style::new().fg_color(Some(Color::Ansi(c)));
    match level {
        Level::Informational => Style::new().dimmed(),
        Level::Low => color(AnsiColor::Cyan),
        Level::Medium => color(AnsiColor::Yellow),
        Level::High => color(AnsiColor::Red).bold(),
        Level::Critical => color(AnsiColor::White).bg_color(Some(Color::Ansi(AnsiColor::Red))).bold(),
    }
}

fn style_or_plain(style: TableStyle, wanted: Style) -> Style {
    if style.color { wanted } else { Style::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::tests::{alert_of_correlation, alert_of_rule};

    fn table(alert: &Alert, width: usize, color: bool) -> String {
        let mut out = Vec::new();
        let style = TableStyle { width, color };
        header(&mut out, style).unwrap();
        row(&mut out, alert, style).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_table_fits_the_terminal() {
        for width in [80, 100, 200] {
            for alert in [alert_of_rule(), alert_of_correlation()] {
                let text = table(&alert, width, false);
                assert!(text.lines().all(|l| super::super::text::width(l) <= width), "{text}");
                assert_eq!(text.lines().count(), 2);
            }
        }
        insta::assert_snapshot!(table(&alert_of_correlation(), 150, false), @r#"
TIME (UTC)           LEVEL     REF        WHAT                                       WHO                         TARGET
2026-11-23 19:30:29  CRITICAL  SEC-002    Secrets harvested ×8                       alice 10.0.0.7              list secrets kube-system/* (200)
"#);
    }

    #[test]
    fn names_from_the_log_cannot_steer_the_terminal() {
        let mut alert = alert_of_rule();
        alert.actor.username = "eve\x1b[2J\r\n".into();
        alert.target.name = Some("x\0\u{202e}y".into());
        let text = table(&alert, 200, false);
        assert_eq!(text.lines().count(), 2);
        assert!(!text.contains(['\x1b', '\r', '\0', '\u{202e}']), "{text:?}");
        assert!(text.contains("eve\\u{1b}[2J\\r\\n"), "{text}");
        let colored = table(&alert, 200, true);
        assert!(colored.contains("\x1b[") && !colored.contains("\x1b[2J"));
    }
}
