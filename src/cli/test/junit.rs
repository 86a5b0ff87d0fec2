//! The JUnit report: a suite per test file, and one of rules that no test makes fire, as skipped.

use std::fmt::Write;

use super::Report;
use crate::ruletest::Verdict;

/// The report as XML.
pub(super) fn render(report: &Report) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let tests = report.verdicts.len() + report.untested.len();
    let (failures, skipped) = (report.failures().count(), report.untested.len());
    let seconds = report.started.elapsed().as_secs_f64();
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        out,
        "<testsuites name=\"auditwatch\" tests=\"{tests}\" failures=\"{failures}\" skipped=\"{skipped}\" errors=\"0\" \
         time=\"{seconds:.3}\">"
    );
    for suite in report.verdicts.chunk_by(|a, b| a.file == b.file) {
        write_suite(&mut out, suite);
    }
    if !report.untested.is_empty() {
        let _ = writeln!(
            out,
            "  <testsuite name=\"coverage\" tests=\"{skipped}\" failures=\"0\" skipped=\"{skipped}\" errors=\"0\">"
        );
        for rule in &report.untested {
            let (file, title) = (escape(&rule.file), escape(&rule.title));
            let _ = writeln!(
                out,
                "    <testcase classname=\"{file}\" name=\"{title}\" file=\"{file}\" line=\"{}\"><skipped message=\"no \
                 test makes this rule fire\"/></testcase>",
                rule.line
            );
        }
        out += "  </testsuite>\n";
    }
    out + "</testsuites>\n"
}

fn write_suite(out: &mut String, verdicts: &[Verdict]) {
    let file = verdicts.first().map_or(String::new(), |verdict| escape(&verdict.file));
    let failures = verdicts.iter().filter(|verdict| verdict.failure.is_some()).count();
    let _ = writeln!(
        out,
        "  <testsuite name=\"{file}\" tests=\"{}\" failures=\"{failures}\" skipped=\"0\" errors=\"0\">",
        verdicts.len()
    );
    for verdict in verdicts {
        let (name, line) = (escape(&verdict.name), verdict.line);
        let _ = write!(out, "    <testcase classname=\"{file}\" name=\"{name}\" file=\"{file}\" line=\"{line}\"");
        let _ = match &verdict.failure {
            None => writeln!(out, "/>"),
            Some(why) => {
                let first = escape(why.lines().next().unwrap_or_default());
                writeln!(out, "><failure message=\"{first}\">{}</failure></testcase>", escape(why))
            }
        };
    }
    *out += "  </testsuite>\n";
}

/// Text for XML 1.0, in attributes too. What XML cannot hold at all is shown as an escape.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&apos;",
            '\n' => out += "&#10;",
            '\t' => out.push('\t'),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::ruletest::Untested;

    #[test]
    fn one_suite_per_file_and_one_of_rules_without_tests() {
        let verdict = |file: &str, name: &str, failure: Option<&str>| Verdict {
            file: file.into(),
            line: 3,
            name: name.into(),
            failure: failure.map(str::to_owned),
            fired: Vec::new(),
        };
        let report = Report {
            files: 2,
            verdicts: vec![
                verdict("a.test.yml", "x < \"y\" & \u{1}", None),
                verdict("a.test.yml", "z", Some("expected an alert, got 0\nfired: nothing\n")),
                verdict("b.test.yml", "w", None),
            ],
            untested: vec![Untested { file: "c.yml".into(), line: 1, id: "i".into(), title: "T".into() }],
            rules: 3,
            started: Instant::now(),
        };
        let xml = render(&report);
        for wanted in [
            "<testsuites name=\"auditwatch\" tests=\"4\" failures=\"1\" skipped=\"1\" errors=\"0\" time=\"",
            "<testsuite name=\"a.test.yml\" tests=\"2\" failures=\"1\" skipped=\"0\" errors=\"0\">",
            "<testcase classname=\"a.test.yml\" name=\"x &lt; &quot;y&quot; &amp; \\u{1}\" file=\"a.test.yml\" line=\"3\"/>",
            "<failure message=\"expected an alert, got 0\">expected an alert, got 0&#10;fired: nothing&#10;</failure>",
            "<testsuite name=\"b.test.yml\" tests=\"1\" failures=\"0\" skipped=\"0\" errors=\"0\">",
            "<testcase classname=\"c.yml\" name=\"T\" file=\"c.yml\" line=\"1\"><skipped message=\"",
        ] {
            assert!(xml.contains(wanted), "{wanted}\n{xml}");
        }
        assert_eq!(xml.matches("<testsuite ").count(), xml.matches("</testsuite>").count());
    }
}
