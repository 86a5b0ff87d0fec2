//! The query of a request URI.

use bumpalo::Bump;

/// The pairs of a URI's query, still encoded.
pub struct Query<'a>(std::str::Split<'a, char>);

impl<'a> Query<'a> {
    /// The query behind the first `?`; no pairs if there is none.
    pub fn of(uri: &'a str) -> Query<'a> {
        Query(uri.split_once('?').map_or("", |(_, query)| query).split('&'))
    }
}

impl<'a> Iterator for Query<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.by_ref().find(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }
}

/// Resolves `%xx` and `+`; bytes that are not UTF-8 become U+FFFD.
pub fn decode<'a>(text: &'a str, arena: &'a Bump) -> &'a str {
    if !text.contains(['%', '+']) {
        return text;
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match (byte, tail) {
            (b'%', [high, low, behind @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    out.push(high << 4 | low);
                    rest = behind;
                }
                _ => out.push(b'%'),
            },
            (b'+', _) => out.push(b' '),
            _ => out.push(*byte),
        }
    }
    arena.alloc_str(&String::from_utf8_lossy(&out))
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_queries() {
        let arena = Bump::new();
        let pairs: Vec<_> =
            Query::of("/x?a=1&b&&c=%2Fetc%2Fpass+wd%zz%e9").map(|(k, v)| (k, decode(v, &arena))).collect();
        assert_eq!(pairs, [("a", "1"), ("b", ""), ("c", "/etc/pass wd%zz\u{fffd}")]);
        assert_eq!(Query::of("/x").count(), 0);
    }
}
