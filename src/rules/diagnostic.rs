//! What is wrong with a rule file, and where.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Color, Style};

use super::expr::Span;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; the document is used (or is not meant for us).
    Warning,
    /// The document is left out.
    Error,
}

impl Severity {
    /// `warning` or `error`.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// One problem of one rule file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of problem, stable across versions, e.g. `unknown-modifier`.
    pub code: &'static str,
    /// The problem in one sentence.
    pub message: String,
    /// The file's name as given.
    pub file: String,
    /// Where in the file; line 0 if the problem is not at one place.
    pub span: Span,
    /// What to do about it.
    pub help: Option<String>,
}

/// Columns of the source line shown around the place.
const SHOWN_BEFORE: usize = 60;
const SHOWN: usize = 100;

impl Diagnostic {
    /// The diagnostic as text: `file:line:column: error[code]: message`; below it, if the file's text is given, the source
    /// line with carets under the place; then the help. Control characters are shown escaped, since rule files may come
    /// from strangers and the reader is a terminal.
    pub fn render(&self, text: Option<&str>) -> String {
        self.paint(text.and_then(|text| source_line(text, self.span)), false)
    }

    /// The same for a source line that is at hand, with colours for a terminal if wanted.
    pub fn paint(&self, line: Option<&str>, color: bool) -> String {
        let style = |style: Style| if color { style } else { Style::new() };
        let strong = style(Style::new().bold());
        let alarm = style(Style::new().bold().fg_color(Some(Color::Ansi(match self.severity {
            Severity::Error => AnsiColor::Red,
            Severity::Warning => AnsiColor::Yellow,
        }))));
        let faint = style(Style::new().fg_color(Some(Color::Ansi(AnsiColor::Cyan))));
        let mut out = printable(&self.file);
        if self.span.line > 0 {
            let _ = write!(out, ":{}:{}", self.span.line, self.span.column);
        }
        let (severity, code, message) = (self.severity.as_str(), self.code, printable(&self.message));
        let _ = write!(out, ": {alarm}{severity}[{code}]{alarm:#}: {strong}{message}{strong:#}");
        if let Some(line) = line.filter(|_| self.span.line > 0) {
            let number = self.span.line.to_string();
            let column = self.span.column.max(1) as usize - 1;
            let start = column.saturating_sub(SHOWN_BEFORE);
            let shown: String = line.chars().skip(start).take(SHOWN).map(plain).collect();
            let indent = (column - start).min(shown.chars().count());
            let (blank, carets) = (" ".repeat(indent), "^".repeat(token_length(&shown, indent)));
            let gutter = " ".repeat(number.len());
            let _ = write!(out, "\n {faint}{number} |{faint:#} {}", shown.trim_end());
            let _ = write!(out, "\n {faint}{gutter} |{faint:#} {blank}{alarm}{carets}{alarm:#}");
        }
        if let Some(help) = &self.help {
            let _ = write!(out, "\n  {faint}help:{faint:#} {}", printable(help));
        }
        out
    }
}

/// How many characters of the line belong to what stands at `start`: a quoted text, or a word of YAML.
fn token_length(line: &str, start: usize) -> usize {
    let mut chars = line.chars().skip(start);
    let length = match chars.next() {
        Some(quote @ ('"' | '\'')) => chars.position(|c| c == quote).map_or(1, |end| end + 2),
        Some(first) => {
            let rest: Vec<char> = std::iter::once(first).chain(chars).collect();
            let ends = |at: usize| match rest[at] {
                ' ' | ',' | ']' | '}' | '{' | '(' | ')' => true,
                ':' => rest.get(at + 1).is_none_or(|next| *next == ' '),
                _ => false,
            };
            (0..rest.len()).find(|at| ends(*at)).unwrap_or(rest.len())
        }
        None => 1,
    };
    length.max(1)
}

/// The line that a span names.
fn source_line(text: &str, span: Span) -> Option<&str> {
    let index = (span.line as usize).checked_sub(1)?;
    source_lines(text).nth(index)
}

/// The lines of a rule file as YAML counts them: CR alone ends one too (YAML 1.2.2, §5.4).
pub fn source_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('\r'))
}

/// One character for one column, so that the caret stays under its place.
fn plain(c: char) -> char {
    if c == '\t' {
        ' '
    } else if c.is_control() {
        '\u{fffd}'
    } else {
        c
    }
}

fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// A file with more problems has one, told often.
const MAX_PER_FILE: usize = 1000;

/// Collects the diagnostics of one file.
#[derive(Debug, Default)]
pub struct Report {
    file: String,
    list: Vec<Diagnostic>,
    errors: usize,
    total: usize,
    lints: bool,
    known: bool,
}

impl Report {
    /// An empty report of the file with this name.
    pub fn new(file: &str) -> Self {
        Report { file: file.to_owned(), ..Report::default() }
    }

    /// The same for whoever wants to know what is odd as well, not only what keeps a rule from running.
    pub fn linting(file: &str) -> Self {
        Report { lints: true, ..Report::new(file) }
    }

    /// The same for a file that was read before: a built-in one, of which the tests know that it has no error.
    pub fn of_known(self, known: bool) -> Self {
        Report { known, ..self }
    }

    /// Whether the file is known to have no error.
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// Whether what is odd is to be looked for.
    pub fn lints(&self) -> bool {
        self.lints
    }

    /// Notes an error; the document will be left out.
    pub fn error(&mut self, code: &'static str, span: Span, message: impl Into<String>) {
        self.push(Severity::Error, code, span, message.into(), None);
    }

    /// Notes an error and what to do about it.
    pub fn error_help(
        &mut self,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
        help: impl Into<Option<String>>,
    ) {
        self.push(Severity::Error, code, span, message.into(), help.into());
    }

    /// Notes something worth knowing.
    pub fn warning(&mut self, code: &'static str, span: Span, message: impl Into<String>) {
        self.push(Severity::Warning, code, span, message.into(), None);
    }

    /// Notes something worth knowing and what to do about it.
    pub fn warning_help(
        &mut self,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
        help: impl Into<Option<String>>,
    ) {
        self.push(Severity::Warning, code, span, message.into(), help.into());
    }

    fn push(&mut self, severity: Severity, code: &'static str, span: Span, message: String, help: Option<String>) {
        self.errors += usize::from(severity == Severity::Error);
        self.total += 1;
        if self.total > MAX_PER_FILE {
            return;
        }
        self.list.push(Diagnostic { severity, code, message, file: self.file.clone(), span, help });
    }

    /// How many errors were noted so far; a document is broken if the number grew while it was read.
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// What was noted.
    pub fn into_list(mut self) -> Vec<Diagnostic> {
        if let Some(last) = self.list.last().filter(|_| self.total > MAX_PER_FILE) {
            let message = format!("{} more problems in this file are not shown", self.total - MAX_PER_FILE);
            let span = last.span;
            let severity = if self.errors > 0 { Severity::Error } else { Severity::Warning };
            let code = "too-many-problems";
            self.list.push(Diagnostic { severity, code, message, file: self.file, span, help: None });
        }
        self.list
    }
}

/// The help text for a misspelt word, if there is a likely candidate.
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    super::suggest::suggest(name, candidates).map(|found| format!("did you mean `{found}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_place_source_and_help() {
        let check = |span: (u32, u32), help: Option<&str>, text: Option<&str>, expected: &str| {
            let diagnostic = Diagnostic {
                severity: Severity::Error,
                code: "unknown-modifier",
                message: "unknown modifier `contain\u{1b}`".into(),
                file: "a.yml".into(),
                span: Span { line: span.0, column: span.1 },
                help: help.map(str::to_owned),
            };
            assert_eq!(diagnostic.render(text), expected);
        };
        let head = "error[unknown-modifier]: unknown modifier `contain\\u{1b}`";
        check((2, 3), None, None, &format!("a.yml:2:3: {head}"));
        check((0, 0), None, Some("x"), &format!("a.yml: {head}"));
        check((3, 1), None, Some("x\ry\r\nz"), &format!("a.yml:3:1: {head}\n 3 | z\n   | ^"));
        check((9, 1), None, Some("x"), &format!("a.yml:9:1: {head}"));
        check(
            (2, 3),
            Some("did you mean `contains`?"),
            Some("a: 1\n\té|b: 2\n"),
            &format!("a.yml:2:3: {head}\n 2 |  é|b: 2\n   |   ^^\n  help: did you mean `contains`?"),
        );
    }

    #[test]
    fn crops_long_lines_around_the_place() {
        let text = "x".repeat(5000);
        let diagnostic = Diagnostic {
            severity: Severity::Warning,
            code: "c",
            message: "m".into(),
            file: "f".into(),
            span: Span { line: 1, column: 3000 },
            help: None,
        };
        let rendered = diagnostic.render(Some(&text));
        assert!(rendered.lines().all(|line| line.len() < 120), "{rendered}");
        assert!(rendered.ends_with('^'));
    }

    #[test]
    fn carets_stand_under_the_word() {
        for (line, start, length) in [
            ("verb: replace", 6, 7),
            ("verb: [a, 'b c'] # x", 10, 5),
            ("{verb: a}", 1, 4),
            ("{verb: a}", 7, 1),
            ("condition: not (sel)", 16, 3),
            ("x: 'open", 3, 1),
            ("a", 5, 1),
            ("]", 0, 1),
        ] {
            assert_eq!(token_length(line, start), length, "{line}");
        }
    }
}
