//! What a daemon says on standard error: lines for people, or JSON for whoever collects them.

use std::io::{self, Write};

use serde_json::json;

use crate::config::run::LogFormat;
use crate::event::time::format_micros;
use crate::pipeline::live::Grade;
use crate::pipeline::now_us;
use crate::sink::text::printable;

/// Says something; one line each.
#[derive(Debug, Clone, Copy)]
pub struct Say {
    /// In which shape.
    pub format: LogFormat,
}

impl Say {
    /// What is as it should be.
    pub fn info(self, text: &str) {
        self.line("info", text);
    }

    /// What somebody should look at.
    pub fn problem(self, text: &str) {
        self.line("warn", text);
    }

    /// What the pipeline says.
    pub fn graded(self, grade: Grade, text: &str) {
        match grade {
            Grade::Info => self.info(text),
            Grade::Problem => self.problem(text),
        }
    }

    fn line(self, level: &str, text: &str) {
        // A reader that is gone is no reason to stop.
        let _ = writeln!(io::stderr().lock(), "{}", line(self.format, &format_micros(now_us()), level, text));
    }
}

fn line(format: LogFormat, now: &str, level: &str, text: &str) -> String {
    match format {
        LogFormat::Text => format!("{now} {}", printable(text)),
        LogFormat::Json => {
            // What a message is about stands before its first colon: `sink slack: …`.
            let (part, message) = text.split_once(": ").filter(|(part, _)| part.len() <= 80).unwrap_or(("", text));
            match part {
                "" => json!({"time": now, "level": level, "message": message}).to_string(),
                part => json!({"time": now, "level": level, "part": part, "message": message}).to_string(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_the_same_in_both_shapes() {
        let said = |format, text| line(format, "T", "warn", text);
        assert_eq!(said(LogFormat::Text, "sink a: no\n"), format!("T {}", printable("sink a: no\n")));
        let json = said(LogFormat::Json, "sink a: \"no\"\n");
        assert_eq!(json, r#"{"time":"T","level":"warn","part":"sink a","message":"\"no\"\n"}"#);
        assert_eq!(said(LogFormat::Json, "ready"), r#"{"time":"T","level":"warn","message":"ready"}"#);
    }
}
