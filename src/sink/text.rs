//! Text from the outside, made safe for a terminal. Names in audit logs are chosen by whoever sends the requests.

use std::borrow::Cow;
use std::fmt::Write;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Whether a terminal, or a reader's eye, can be fooled by this character: control characters (ESC, CR, LF, NUL, C1) and
/// those that turn the direction of text around or are invisible.
fn treacherous(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
        || matches!(c, '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}')
}

/// Shows treacherous characters as escapes: `\n`, `\u{1b}`.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(treacherous) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if treacherous(c) => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{{{:x}}}", c as u32);
            }
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Columns that a text takes on a terminal.
pub fn width(text: &str) -> usize {
    text.width()
}

/// A text of exactly `columns` columns: cut off with `…`, or filled up with spaces.
pub fn fit(text: &str, columns: usize) -> String {
    let have = width(text);
    if have <= columns {
        return format!("{text}{}", " ".repeat(columns - have));
    }
    let mut out = String::with_capacity(columns + 4);
    let mut used = 0;
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide + 1 > columns {
            break;
        }
        used += wide;
        out.push(c);
    }
    if used < columns {
        out.push('…');
        used += 1;
    }
    out + &" ".repeat(columns - used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_would_fool_a_terminal() {
        for (text, shown) in [
            ("alice", "alice"),
            ("größe 名前", "größe 名前"),
            ("a\x1b[31mb", "a\\u{1b}[31mb"),
            ("a\r\nb\tc\0", "a\\r\\nb\\tc\\u{0}"),
            ("\u{7f}\u{9b}31m", "\\u{7f}\\u{9b}31m"),
            ("x\u{202e}gpj.exe", "x\\u{202e}gpj.exe"),
            ("zero\u{200b}width", "zero\\u{200b}width"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }

    #[test]
    fn fits_text_into_columns() {
        for (text, columns, shown) in [
            ("abc", 5, "abc  "),
            ("abc", 3, "abc"),
            ("abcdef", 4, "abc…"),
            ("名前名前", 5, "名前…"),
            ("名前名前", 4, "名… "),
            ("abc", 1, "…"),
            ("abc", 0, ""),
        ] {
            assert_eq!(fit(text, columns), shown, "{text} in {columns}");
        }
    }
}
