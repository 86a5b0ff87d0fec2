//! Documents that stand one behind the other on one line, as some carriers write millions of them: where one ends.

use memchr::memchr2;

/// Where the last document begins that stands behind another one; `None` if there are not two, or something else stands
/// between them.
pub(super) fn end_in_row(bytes: &[u8]) -> Option<usize> {
    let (mut depth, mut at, mut has_ended, mut end) = (0usize, 0, false, None);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'{' | b'[' => {
                if depth == 0 && has_ended {
                    end = Some(at);
                }
                depth += 1;
            }
            b'}' | b']' if depth > 0 => {
                depth -= 1;
                has_ended = depth == 0;
            }
            b'"' if depth > 0 => match string_end(bytes, at) {
                Some(quote) => at = quote,
                None => break,
            },
            b' ' | b'\t' | b'\r' | b',' => {}
            _ if depth > 0 => {}
            _ => break,
        }
        at += 1;
    }
    end
}

/// The quote that ends the string which begins at `open`.
fn string_end(bytes: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_where_another_begins() {
        for (row, end) in [
            ("{}{", 2),
            ("{}{}{\"a", 4),
            (r#"{"a":"}{"}{"b":[{}]}, {"c":"\"}{"#, 22),
            ("[{}][", 4),
            ("{} garbage {", 0),
            ("TIME {}{", 0),
            (" {}", 0),
            ("{}", 0),
            ("}{}{", 0),
            (r#"{"a":"}{"#, 0),
            ("", 0),
        ] {
            assert_eq!(end_in_row(row.as_bytes()).unwrap_or(0), end, "{row}");
        }
    }
}
