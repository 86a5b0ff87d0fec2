//! What stands before a document on its line: what a container runtime, syslog or an export puts there.

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while, take_while_m_n, take_while1};
use nom::character::complete::{char, digit1};
use nom::combinator::{opt, recognize, rest, verify};
use nom::multi::many0_count;
use nom::sequence::{delimited, preceded, terminated};
use nom::{IResult, Parser};

/// A line without what stood before its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stripped<'t> {
    /// The text.
    pub text: &'t [u8],
    /// Of a container runtime's line: its stream, and whether the text goes on in a later line.
    pub part: Option<Part>,
}

/// Where a container runtime's line belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Whether it is standard error.
    pub is_stderr: bool,
    /// Whether more of the text follows.
    pub goes_on: bool,
}

/// Takes off what stands before a line's text; `None` if nothing known does.
pub fn strip(line: &[u8]) -> Option<Stripped<'_>> {
    if let Ok((text, part)) = cri(line) {
        return Some(Stripped { text, part: Some(part) });
    }
    let (_, text) = alt((syslog_5424, syslog_3164, exported, syslog_file, node)).parse(line).ok()?;
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    Some(Stripped { text: text.trim_ascii_start(), part: None })
}

/// `2026-03-01T10:00:00.004300000Z stdout P TEXT`; the tag may hold more than the letter, behind a colon.
fn cri(line: &[u8]) -> IResult<&[u8], Part> {
    let (line, is_stderr) = delimited(
        time,
        alt((tag(&b" stdout "[..]).map(|_| false), tag(&b" stderr "[..]).map(|_| true))),
        nom::combinator::success(()),
    )
    .parse(line)?;
    let (line, goes_on) = alt((char('P').map(|_| true), char('F').map(|_| false))).parse(line)?;
    let (line, _) = (opt(preceded(char(':'), word)), opt(char(' '))).parse(line)?;
    Ok((line, Part { is_stderr, goes_on }))
}

/// RFC 5424, with or without the length that goes before it over TCP.
fn syslog_5424(line: &[u8]) -> IResult<&[u8], &[u8]> {
    let (line, _) = (opt((digit1, char(' '))), priority, tag(&b"1 "[..])).parse(line)?;
    let (line, _) = (blank, blank, blank, blank, blank).parse(line)?;
    let (line, _) = alt((tag(&b"-"[..]), recognize((element, many0_count(element))))).parse(line)?;
    preceded(char(' '), rest).parse(line)
}

/// An element of RFC 5424's structured data: `[id name="value" …]`, where `\` hides what follows it.
fn element(line: &[u8]) -> IResult<&[u8], &[u8]> {
    let mut quoted = false;
    let mut bytes = line.iter().enumerate().skip(1);
    if line.first() != Some(&b'[') {
        return char('[').map(|_| line).parse(line);
    }
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' if quoted => drop(bytes.next()),
            b'"' => quoted = !quoted,
            b']' if !quoted => return Ok((&line[at + 1..], &line[..=at])),
            _ => {}
        }
    }
    char(']').map(|_| line).parse(&line[line.len()..])
}

/// RFC 3164, with or without its priority: `<14>Mar  1 10:00:00 HOST TAG: MSG`.
fn syslog_3164(line: &[u8]) -> IResult<&[u8], &[u8]> {
    const MONTHS: &[&[u8]] =
        &[b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    let month = verify(take_while_m_n(3, 3, |b: u8| b.is_ascii_alphabetic()), |name: &[u8]| MONTHS.contains(&name));
    let (line, _) = (opt(priority), month, take_while1(|b| b == b' '), digit1, char(' ')).parse(line)?;
    let (line, _) = (take_while_m_n(8, 8, |b: u8| b.is_ascii_digit() || b == b':'), char(' ')).parse(line)?;
    let (line, _) = blank(line)?;
    message(line)
}

/// What rsyslog writes into files: `2026-03-01T10:00:00.0043+00:00 HOST TAG: MSG`.
fn syslog_file(line: &[u8]) -> IResult<&[u8], &[u8]> {
    let (line, _) = (opt(priority), time, char(' '), blank).parse(line)?;
    message(line)
}

/// `TAG: MSG`; some leave the blank out.
fn message(line: &[u8]) -> IResult<&[u8], &[u8]> {
    let label = take_while1(|b| !matches!(b, b' ' | b'{' | b':' | b'"'));
    preceded((label, char(':'), opt(char(' '))), rest).parse(line)
}

/// A line of a CloudWatch export: a time, a blank and an object.
fn exported(line: &[u8]) -> IResult<&[u8], &[u8]> {
    preceded((time, char(' ')), verify(rest, |text: &[u8]| text.starts_with(b"{"))).parse(line)
}

/// A line of `oc adm node-logs`: the node's name, a blank and an event.
fn node(line: &[u8]) -> IResult<&[u8], &[u8]> {
    let name = take_while1(|b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    preceded((name, char(' ')), verify(rest, |text: &[u8]| text.starts_with(b"{\"kind\":\"Event\""))).parse(line)
}

fn priority(line: &[u8]) -> IResult<&[u8], &[u8]> {
    delimited(char('<'), take_while_m_n(1, 3, |b: u8| b.is_ascii_digit()), char('>')).parse(line)
}

fn time(line: &[u8]) -> IResult<&[u8], &[u8]> {
    let date = take_while_m_n(10, 10, |b: u8| b.is_ascii_digit() || b == b'-');
    let clock = take_while1(|b: u8| b.is_ascii_digit() || matches!(b, b':' | b'.' | b'+' | b'-' | b'Z'));
    recognize((date, char('T'), clock)).parse(line)
}

fn word(line: &[u8]) -> IResult<&[u8], &[u8]> {
    take_while(|b| b != b' ').parse(line)
}

fn blank(line: &[u8]) -> IResult<&[u8], &[u8]> {
    terminated(take_while1(|b| b != b' '), char(' ')).parse(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_off_what_is_known() {
        let part = |is_stderr, goes_on| Some(Part { is_stderr, goes_on });
        for (line, expected) in [
            ("2026-03-01T10:00:00.004300000Z stdout P {\"a", Some(("{\"a", part(false, true)))),
            ("2026-03-01T10:00:00.0+01:00 stderr F x", Some(("x", part(true, false)))),
            ("2026-03-01T10:00:00Z stdout F", Some(("", part(false, false)))),
            ("2026-03-01T10:00:00Z {\"a\":1}", Some(("{\"a\":1}", None))),
            ("2026-03-01T10:00:00Z {\"a\": b: {}", Some(("{\"a\": b: {}", None))),
            ("2026-03-01T10:00:00Z other text", None),
            ("<14>1 2026-03-01T10:00:00.0043Z m0 kube-apiserver - - - {}", Some(("{}", None))),
            ("58 <14>1 - m0 k - - [a b=\"\\\"]\"][c] \u{feff}{}", Some(("{}", None))),
            ("<14>Mar  1 10:00:00 m0 audit[3]: {}", Some(("{}", None))),
            ("Mar  1 10:00:00 m0 audit: {}", Some(("{}", None))),
            ("Mar  1 10:00:00 m0 audit:{}", Some(("{}", None))),
            ("2026-03-01T10:00:00.0043+00:00 m0 audit[3]: {}", Some(("{}", None))),
            ("2026-03-01T10:00:00.000001Z AUDIT: id=\"a\" uri=\"x: {}\"", None),
            ("Mai  1 10:00:00 m0 audit: {}", None),
            ("master-0 {\"kind\":\"Event\"}", Some(("{\"kind\":\"Event\"}", None))),
            ("ta\":\"x\",\"verb\":\"get\"}", None),
            ("<14>1 - m0 k - - [a", None),
            ("", None),
        ] {
            let got = strip(line.as_bytes()).map(|s| (std::str::from_utf8(s.text).unwrap(), s.part));
            assert_eq!(got, expected, "{line}");
        }
    }
}
