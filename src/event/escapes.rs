//! The escapes of JSON's strings, read as the API server's decoder (Go's encoding/json) reads them.

use bumpalo::Bump;

use super::structure::Flaw;

/// Whether every escape in the inside of a string is one of JSON's.
pub fn escapes_are_valid(inner: &[u8]) -> bool {
    let mut rest = inner;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let length = match rest.get(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') if rest.get(at + 2..at + 6).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) => 6,
            _ => return false,
        };
        rest = &rest[at + length..];
    }
    true
}

/// The inside of a string with its escapes resolved.
///
/// # Errors
/// [`Flaw::Syntax`] for an escape that JSON does not have, [`Flaw::Utf8`] for bytes that are none.
pub fn unescape(inner: &[u8]) -> Result<String, Flaw> {
    let mut out = Vec::with_capacity(inner.len());
    resolve(inner, |bytes| out.extend_from_slice(bytes))?;
    String::from_utf8(out).map_err(|_| Flaw::Utf8)
}

/// The same, in an arena.
///
/// # Errors
/// As [`unescape`].
pub fn unescape_in<'a>(inner: &[u8], arena: &'a Bump) -> Result<&'a str, Flaw> {
    let mut out = bumpalo::collections::Vec::with_capacity_in(inner.len(), arena);
    resolve(inner, |bytes| out.extend_from_slice_copy(bytes))?;
    std::str::from_utf8(out.into_bump_slice()).map_err(|_| Flaw::Utf8)
}

/// Shows `add` the inside of a string piece by piece, escapes resolved; no more bytes than there are.
fn resolve(inner: &[u8], mut add: impl FnMut(&[u8])) -> Result<(), Flaw> {
    let mut rest = inner;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        add(&rest[..at]);
        let byte = *rest.get(at + 1).ok_or(Flaw::Syntax)?;
        rest = &rest[at + 2..];
        match byte {
            b'"' | b'\\' | b'/' => add(&[byte]),
            b'b' => add(&[0x8]),
            b'f' => add(&[0xc]),
            b'n' => add(b"\n"),
            b'r' => add(b"\r"),
            b't' => add(b"\t"),
            b'u' => {
                let unit = hex4(rest)?;
                rest = &rest[4..];
                let read = match unit {
                    0xd800..=0xdbff => match low_surrogate(rest) {
                        Some(low) => {
                            rest = &rest[6..];
                            let joined = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                            char::from_u32(joined).unwrap_or(char::REPLACEMENT_CHARACTER)
                        }
                        None => char::REPLACEMENT_CHARACTER,
                    },
                    _ => char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER),
                };
                add(read.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => return Err(Flaw::Syntax),
        }
    }
    add(rest);
    Ok(())
}

fn low_surrogate(rest: &[u8]) -> Option<u32> {
    let unit = hex4(rest.strip_prefix(b"\\u")?).ok()?;
    (0xdc00..=0xdfff).contains(&unit).then_some(unit)
}

fn hex4(bytes: &[u8]) -> Result<u32, Flaw> {
    let four = bytes.get(..4).ok_or(Flaw::Syntax)?;
    four.iter().try_fold(0, |n, b| char::from(*b).to_digit(16).map(|d| n << 4 | d)).ok_or(Flaw::Syntax)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unescapes_as_the_api_server_does() {
        for (inner, expected) in [
            ("plain", Ok("plain")),
            (r"a\u0026b\n\/", Ok("a&b\n/")),
            (r"\ud83d\ude00", Ok("\u{1f600}")),
            (r"\ud83d!", Ok("\u{fffd}!")),
            (r"\ud83dA", Ok("\u{fffd}A")),
            (r"\ude00", Ok("\u{fffd}")),
            (r"\ud800\ud83d\ude00", Ok("\u{fffd}\u{1f600}")),
            (r"\x", Err(Flaw::Syntax)),
            (r"\u12g4", Err(Flaw::Syntax)),
            (r"\u12", Err(Flaw::Syntax)),
        ] {
            let (result, arena) = (unescape(inner.as_bytes()), Bump::new());
            assert_eq!(result.as_deref().map_err(|flaw| *flaw), expected, "{inner}");
            assert_eq!(unescape_in(inner.as_bytes(), &arena), expected, "{inner}");
            assert_eq!(escapes_are_valid(inner.as_bytes()), expected.is_ok(), "{inner}");
        }
    }
}
