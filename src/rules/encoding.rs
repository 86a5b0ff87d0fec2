//! The encodings of Sigma's `base64`, `base64offset` and `utf16` modifiers.

/// How a text becomes bytes before it is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charset {
    /// `utf16le`, `wide`.
    Utf16Le,
    /// `utf16be`.
    Utf16Be,
    /// `utf16`: little endian behind a byte order mark.
    Utf16,
}

/// A text as bytes.
pub fn bytes(text: &str, charset: Option<Charset>) -> Vec<u8> {
    match charset {
        None => text.as_bytes().to_vec(),
        Some(Charset::Utf16Le) => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        Some(Charset::Utf16Be) => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        Some(Charset::Utf16) => std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect(),
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for position in 0..4 {
            let digit = (group >> (18 - 6 * position)) as usize & 63;
            out.push(if position <= chunk.len() { char::from(ALPHABET[digit]) } else { '=' });
        }
    }
    out
}

/// What is the same in every Base64 text that holds these bytes, for each of the three ways in which they can lie in its
/// groups of three.
pub fn base64_offsets(bytes: &[u8]) -> [String; 3] {
    [0, 1, 2].map(|shift| {
        let shifted = [&[b' '; 2][..shift], bytes].concat();
        let encoded = base64(&shifted);
        // The digits that also hold bits of a neighbour, in front and behind, differ from text to text.
        let start = [0, 2, 3][shift];
        let end = encoded.len() - [0, 3, 2][shifted.len() % 3];
        encoded.get(start..end).unwrap_or_default().to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes() {
        let check = |text: &str, charset: Option<Charset>, expected: &str| {
            assert_eq!(base64(&bytes(text, charset)), expected, "{text}");
        };
        check("", None, "");
        check("f", None, "Zg==");
        check("fo", None, "Zm8=");
        check("foo", None, "Zm9v");
        check("foobar~", None, "Zm9vYmFyfg==");
        check("cmd", Some(Charset::Utf16Le), "YwBtAGQA");
        check("cmd", Some(Charset::Utf16Be), "AGMAbQBk");
        check("cmd", Some(Charset::Utf16), "//5jAG0AZAA=");
    }

    #[test]
    fn every_offset_holds_only_what_is_certain() {
        // pySigma's own example.
        assert_eq!(base64_offsets(b"foobar"), ["Zm9vYmFy", "Zvb2Jhc", "mb29iYX"]);
        for text in ["a", "ab", "abc", "secret!"] {
            let offsets = base64_offsets(text.as_bytes());
            for before in ["", "x", "yz", "~~~"] {
                for after in ["", "1", "23", "~~~"] {
                    let whole = base64(format!("{before}{text}{after}").as_bytes());
                    assert!(whole.contains(&offsets[before.len() % 3]), "{before}{text}{after}");
                }
            }
        }
    }
}
