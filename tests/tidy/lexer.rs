//! Rust source as its code alone: what stands in comments and literals becomes blanks, so that a scanner may look for
//! words and braces. Offsets and lines stay what they were.

/// Blanks comments, and the insides of string and character literals.
pub fn code_of(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let (from, to, next) = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => {
                let end = find(bytes, at, b"\n").unwrap_or(bytes.len());
                (at, end, end)
            }
            b'/' if bytes[at..].starts_with(b"/*") => {
                let end = block_comment_end(bytes, at);
                (at, end, end)
            }
            b'"' => {
                let close = quoted_end(bytes, at + 1, b'"');
                (at + 1, close, close + 1)
            }
            b'r' if !is_word(bytes, at.wrapping_sub(1)) || matches!(bytes[at - 1], b'b' | b'c') => {
                match raw_string(bytes, at) {
                    Some((from, to)) => (from, to, to + 1),
                    None => (at, at, at + 1),
                }
            }
            b'\'' => match char_end(bytes, at) {
                Some(close) => (at + 1, close, close + 1),
                None => (at, at, at + 1),
            },
            _ => (at, at, at + 1),
        };
        let to = to.min(bytes.len());
        out[from.min(to)..to].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
        at = next;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Whether the byte at `at` may be part of an identifier.
pub fn is_word(bytes: &[u8], at: usize) -> bool {
    bytes.get(at).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_')
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    bytes[from..].windows(what.len()).position(|window| window == what).map(|at| from + at)
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

/// Where the literal that began before `at` closes.
fn quoted_end(bytes: &[u8], mut at: usize, quote: u8) -> usize {
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at.min(bytes.len())
}

/// The inside of `r"…"` or `r#"…"#`, if one begins at `at`.
fn raw_string(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let hashes = bytes[at + 1..].iter().take_while(|b| **b == b'#').count();
    let open = at + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'#'; hashes + 1];
    close[0] = b'"';
    Some((open + 1, find(bytes, open + 1, &close).unwrap_or(bytes.len())))
}

/// Where the character literal at `at` closes; `None` for a lifetime.
fn char_end(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at + 1) == Some(&b'\\') {
        return Some(quoted_end(bytes, at + 1, b'\''));
    }
    let text = std::str::from_utf8(&bytes[at + 1..]).ok()?;
    let close = at + 1 + text.chars().next()?.len_utf8();
    (bytes.get(close) == Some(&b'\'')).then_some(close)
}

#[test]
fn blanks_comments_and_literals_only() {
    for (source, code) in [
        ("a // { b\nc", "a       \nc"),
        ("a /* { /* } */ */ b", "a                 b"),
        (r#"f("}\"{", '{', b'\'', x)"#, r#"f("    ", ' ', b'  ', x)"#),
        (r##"f(r"\", r#"}"{"#, br"{")"##, r##"f(r" ", r#"   "#, br" ")"##),
        ("fn f<'a>(x: &'a str, r#type: u8) {}", "fn f<'a>(x: &'a str, r#type: u8) {}"),
        ("'ä'", "'  '"),
        ("for r in x { }", "for r in x { }"),
    ] {
        assert_eq!(code_of(source), code, "{source}");
    }
}
