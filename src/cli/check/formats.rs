//! The shapes in which `auditwatch check` tells what it found.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::Checked;
use crate::rules::codes::CODES;
use crate::rules::{Diagnostic, Severity, source_lines};

/// `3 errors and 1 warning in 17 files (12 rules, 3 correlations)`.
pub(super) fn summary(checked: &Checked<'_>) -> String {
    let number = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    let found = match (checked.count(Severity::Error), checked.count(Severity::Warning)) {
        (0, 0) => "no problems".to_owned(),
        (errors, 0) => number(errors, "error"),
        (0, warnings) => number(warnings, "warning"),
        (errors, warnings) => format!("{} and {}", number(errors, "error"), number(warnings, "warning")),
    };
    let (rules, correlations) = (checked.rules.rules.len(), checked.rules.correlations.len());
    let files = number(checked.files.len(), "file");
    format!("{found} in {files} ({}, {})", number(rules, "rule"), number(correlations, "correlation"))
}

/// For people.
pub(super) fn text(out: &mut dyn Write, checked: &Checked<'_>, color: bool) -> io::Result<()> {
    // Problems come file by file, and a large file may have many: its lines are found once.
    let (mut name, mut lines) = ("", Vec::new());
    for problem in checked.problems {
        if problem.file != name {
            name = &problem.file;
            lines = checked.text(name).map_or(Vec::new(), |text| source_lines(text).collect());
        }
        let line = (problem.span.line as usize).checked_sub(1).and_then(|index| lines.get(index).copied());
        writeln!(out, "{}\n", problem.paint(line, color))?;
    }
    writeln!(out, "{}", summary(checked))
}

/// One JSON object.
pub(super) fn json(checked: &Checked<'_>) -> Value {
    let problems = checked.problems.iter().map(|problem| {
        let Diagnostic { severity, code, message, file, span, help } = problem;
        json!({"severity": severity, "code": code, "message": message, "help": help, "file": file,
               "line": span.line, "column": span.column})
    });
    json!({
        "errors": checked.count(Severity::Error),
        "warnings": checked.count(Severity::Warning),
        "files": checked.files.len(),
        "rules": checked.rules.rules.len(),
        "correlations": checked.rules.correlations.len(),
        "problems": problems.collect::<Vec<_>>(),
    })
}

/// SARIF 2.1.0 (OASIS standard), as code scanning reads it.
pub(super) fn sarif(checked: &Checked<'_>) -> Value {
    let used = |code: &str| checked.problems.iter().any(|problem| problem.code == code);
    let told: Vec<&(&str, &str)> = CODES.iter().filter(|(code, _)| used(code)).collect();
    let descriptors = told.iter().map(|(code, what)| json!({"id": code, "shortDescription": {"text": what}}));
    let results = checked.problems.iter().map(|problem| {
        let message = match &problem.help {
            Some(help) => format!("{}\n{help}", problem.message),
            None => problem.message.clone(),
        };
        let mut location = json!({"artifactLocation": {"uri": uri(&problem.file)}});
        if problem.span.line > 0 {
            location["region"] = json!({"startLine": problem.span.line, "startColumn": problem.span.column.max(1)});
        }
        let mut result = json!({
            "ruleId": problem.code,
            "level": problem.severity.as_str(),
            "message": {"text": message},
            "locations": [{"physicalLocation": location}],
        });
        if let Some(index) = told.iter().position(|(code, _)| *code == problem.code) {
            result["ruleIndex"] = json!(index);
        }
        result
    });
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "auditwatch",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": descriptors.collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "results": results.collect::<Vec<_>>(),
        }],
    })
}

/// A file's name as a relative or absolute URI reference (RFC 3986): everything but the unreserved characters and `/` is
/// escaped.
fn uri(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => out.push(char::from(byte)),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    if out.starts_with('/') { format!("file://{out}") } else { out }
}

/// GitHub's workflow commands.
pub(super) fn github(out: &mut dyn Write, checked: &Checked<'_>) -> io::Result<()> {
    for problem in checked.problems {
        let severity = problem.severity.as_str();
        write!(out, "::{severity} file={},", property(&problem.file))?;
        if problem.span.line > 0 {
            write!(out, "line={},col={},", problem.span.line, problem.span.column)?;
        }
        let help = problem.help.as_ref().map_or(String::new(), |help| format!("\n{help}"));
        writeln!(out, "title={}::{}", property(problem.code), data(&format!("{}{help}", problem.message)))?;
    }
    Ok(())
}

/// What ends a command's text must be escaped in it.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{self, RuleSet, SourceFile};

    const RULE: &str = "title: T\nlogsource: {product: kubernetes, service: audit}\n\
                        detection: {s: {user.name: 'a%b'}, t: {verb: replace}, condition: s}\nlevel: hgh\n";

    fn with<T>(name: &str, text: &str, f: impl FnOnce(&Checked<'_>) -> T) -> T {
        let files = [SourceFile::new(name, text)];
        let (rules, problems): (RuleSet, _) = rules::check(&files, &Default::default());
        f(&Checked { files: &files, rules: &rules, problems: &problems })
    }

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_shows_the_line_and_counts() {
        let text = with("a.yml", RULE, |checked| written(|out| text(out, checked, false).unwrap()));
        assert!(text.contains("a.yml:3:17: warning[unknown-field]: unknown field `user.name`"), "{text}");
        assert!(text.contains("\n   |                 ^^^^^^^^^\n  help: did you mean `user.username`?\n"), "{text}");
        assert!(text.ends_with("1 error and 4 warnings in 1 file (0 rules, 0 correlations)\n"), "{text}");
        let colored = with("a.yml", RULE, |checked| written(|out| super::text(out, checked, true).unwrap()));
        assert!(colored.contains("\u{1b}["));
        assert_eq!(with("a.yml", "", summary), "no problems in 1 file (0 rules, 0 correlations)");
    }

    #[test]
    fn json_and_sarif_hold_every_problem_with_its_place() {
        let json = with("a.yml", RULE, json);
        assert_eq!((&json["errors"], &json["warnings"]), (&json!(1), &json!(4)));
        assert_eq!(json["problems"][0]["code"], "unknown-field");
        let sarif = with("/x y/a.yml", RULE, sarif);
        let run = &sarif["runs"][0];
        let result = &run["results"][0];
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "file:///x%20y/a.yml");
        assert_eq!(place["region"], json!({"startLine": 3, "startColumn": 17}));
        let index = result["ruleIndex"].as_u64().unwrap() as usize;
        assert_eq!(run["tool"]["driver"]["rules"][index]["id"], result["ruleId"]);
        assert_eq!(run["results"].as_array().unwrap().len(), 5);
    }

    #[test]
    fn github_commands_are_one_line_each() {
        let text = with("a,b.yml", RULE, |checked| written(|out| github(out, checked).unwrap()));
        assert_eq!(text.lines().count(), 5);
        let first = "::warning file=a%2Cb.yml,line=3,col=17,title=unknown-field::unknown field `user.name`: no audit event \
                     has it, so it can never match%0Adid you mean `user.username`?";
        assert_eq!(text.lines().next(), Some(first));
    }
}
