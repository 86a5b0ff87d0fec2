//! Lines of container runtimes, several of which may make one: where in a block no line waits for its rest.

use memchr::{memchr, memmem, memrchr};

/// How much of a line Docker's json-file driver takes at once, in bytes; what it writes of it is no shorter.
const DOCKER_PART_BYTES: usize = 16 * 1024;

/// A line as a runtime wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line {
    is_stderr: bool,
    /// Whether the text goes on in a later line of the stream.
    goes_on: bool,
}

/// The end of the last line of `lines` behind which no line waits for its rest; `None` if there is none. `lines` ends
/// where a line does.
pub(super) fn closed_end(lines: &[u8]) -> Option<usize> {
    let body = lines.strip_suffix(b"\n").unwrap_or(lines);
    let last = &body[memrchr(b'\n', body).map_or(0, |newline| newline + 1)..];
    // A runtime's file holds nothing but a runtime's lines.
    let shape: fn(&[u8]) -> Option<Line> = match (cri(last), docker(last)) {
        (Some(_), _) => cri,
        (None, Some(_)) if keeps_newlines(lines) => docker,
        (None, Some(_)) => long_docker,
        (None, None) => return Some(lines.len()),
    };
    let (mut open, mut closed, mut at) = ([false; 2], None, 0);
    while at < lines.len() {
        let end = memchr(b'\n', &lines[at..]).map_or(lines.len(), |newline| at + newline + 1);
        if let Some(line) = shape(lines[at..end].trim_ascii_end()) {
            open[usize::from(line.is_stderr)] = line.goes_on;
        }
        at = end;
        if open == [false; 2] {
            closed = Some(at);
        }
    }
    closed
}

/// `TIME STREAM TAG …` (Kubernetes' CRI logging format), where the tag of a part is `P`.
fn cri(line: &[u8]) -> Option<Line> {
    let mut words = line[..line.len().min(64)].split(|b| *b == b' ');
    words.next().filter(|time| time.first().is_some_and(u8::is_ascii_digit))?;
    let is_stderr = match words.next()? {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    let tags = words.next()?;
    Some(Line { is_stderr, goes_on: tags == b"P" || tags.starts_with(b"P:") })
}

/// `{"log":"…","stream":"…",…}` (Docker's json-file driver), where a part lacks the newline.
fn docker(line: &[u8]) -> Option<Line> {
    let text = log_text(line)?;
    let is_stderr = line[8 + text.len()..].starts_with(b"\",\"stream\":\"stderr");
    Some(Line { is_stderr, goes_on: !ends_with_newline(text) })
}

/// The same of lines from which something took the newlines: only what is as long as a part is one.
fn long_docker(line: &[u8]) -> Option<Line> {
    let line_read = docker(line)?;
    let goes_on = line_read.goes_on && log_text(line)?.len() >= DOCKER_PART_BYTES;
    Some(Line { goes_on, ..line_read })
}

/// The text of a line of Docker's, as it stands.
fn log_text(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(b"{\"log\":\"")?;
    Some(&rest[..memmem::rfind(rest, b"\",\"stream\":\"std")?])
}

/// Whether an escaped text ends with a newline.
fn ends_with_newline(text: &[u8]) -> bool {
    let Some(rest) = text.strip_suffix(b"n") else { return false };
    rest.iter().rev().take_while(|b| **b == b'\\').count() % 2 == 1
}

fn keeps_newlines(lines: &[u8]) -> bool {
    lines.split(|b| *b == b'\n').any(|line| log_text(line).is_some_and(ends_with_newline))
}

#[cfg(test)]
mod tests {
    use super::closed_end;

    #[test]
    fn a_block_ends_where_nothing_is_open() {
        let cri = |lines: &[(&str, &str)]| -> Vec<String> {
            lines.iter().map(|(stream, tag)| format!("2026-11-23T10:00:00.1Z {stream} {tag} text\n")).collect()
        };
        let docker = |lines: &[(&str, &str)]| -> Vec<String> {
            lines
                .iter()
                .map(|(stream, text)| format!("{{\"log\":\"{text}\",\"stream\":\"{stream}\",\"time\":\"x\"}}\n"))
                .collect()
        };
        let long = "x".repeat(16 * 1024);
        for (lines, closed) in [
            (vec!["{\"a\":1}\n".to_owned(), "2 stdout P\n".to_owned()], 1),
            (vec!["plain\n".to_owned(), "half".to_owned()], 2),
            (cri(&[("stdout", "F"), ("stdout", "P"), ("stdout", "F")]), 3),
            (cri(&[("stdout", "F"), ("stdout", "P"), ("stderr", "F")]), 1),
            (cri(&[("stdout", "F"), ("stderr", "P:x"), ("stdout", "F"), ("stderr", "F"), ("stdout", "P")]), 4),
            (cri(&[("stdout", "P"), ("stdout", "P")]), 0),
            (docker(&[("stdout", "a\\n"), ("stdout", "b"), ("stderr", "c\\n")]), 1),
            (docker(&[("stdout", "a\\n"), ("stdout", "b"), ("stdout", "c\\n")]), 3),
            (docker(&[("stdout", "a\\n"), ("stdout", "b\\\\n")]), 1),
            // Without newlines, only what is long enough to have been cut.
            (docker(&[("stdout", "a"), ("stdout", "b")]), 2),
            (docker(&[("stdout", "a"), ("stdout", &long)]), 1),
        ] {
            let expected = lines[..closed].iter().map(String::len).sum();
            assert_eq!(closed_end(lines.concat().as_bytes()), Some(expected).filter(|end| *end > 0), "{lines:?}");
        }
    }
}
