//! A JSON text and its structural index, walked without building a tree.
//!
//! Positions are byte offsets into the text. A walk checks the grammar of the level it walks; what it skips is only
//! known to be balanced.

use std::borrow::Cow;

use bumpalo::Bump;

use super::escapes::{escapes_are_valid, unescape, unescape_in};
use super::structure::{Flaw, Structure};

/// A text with its index.
#[derive(Debug, Clone, Copy)]
pub struct Doc<'a> {
    /// The text.
    pub text: &'a [u8],
    /// Its index.
    pub structure: &'a Structure,
    /// The text again, as what it was found to be when it was indexed; empty if it was found to be flawed.
    utf8: &'a str,
}

/// One JSON value: where it stands. Its first byte tells its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raw {
    /// First byte.
    pub start: usize,
    /// Behind the last byte.
    pub end: usize,
}

/// The kind of a JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    String,
    /// An object.
    Object,
    /// An array.
    Array,
    /// A number.
    Number,
    /// `true` or `false`.
    Bool,
    /// `null`.
    Null,
}

impl<'a> Doc<'a> {
    /// A text that was indexed without finding a flaw.
    #[inline]
    pub fn new(text: &'a str, structure: &'a Structure) -> Self {
        Doc { text: text.as_bytes(), structure, utf8: text }
    }

    /// A text that is walked although it is flawed; its strings may not be UTF-8.
    pub fn flawed(text: &'a [u8], structure: &'a Structure) -> Self {
        Doc { text, structure, utf8: "" }
    }

    /// The bytes of a value.
    #[inline]
    pub fn bytes(&self, raw: Raw) -> &'a [u8] {
        &self.text[raw.start..raw.end]
    }

    /// The kind of a value, by its first byte.
    #[inline]
    pub fn kind(&self, raw: Raw) -> Kind {
        match self.text[raw.start] {
            b'"' => Kind::String,
            b'{' => Kind::Object,
            b'[' => Kind::Array,
            b't' | b'f' => Kind::Bool,
            b'n' => Kind::Null,
            _ => Kind::Number,
        }
    }

    /// The first position at or after `at` that is no white space.
    #[inline]
    pub fn skip_space(&self, mut at: usize) -> usize {
        while matches!(self.text.get(at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            at += 1;
        }
        at
    }

    /// The value that starts at `at`.
    ///
    /// # Errors
    /// If no value starts there, a bracket never closes, or a token is none of JSON's.
    #[inline]
    pub fn value(&self, at: usize) -> Result<Raw, Flaw> {
        match self.text.get(at) {
            Some(b'"') => {
                let close = self.structure.next_quote(at + 1).ok_or(Flaw::OpenString)?;
                Ok(Raw { start: at, end: close + 1 })
            }
            Some(open @ (b'{' | b'[')) => {
                // What is empty, or holds one string, as most of what is short does.
                let end = match self.empty(*open, at).or_else(|| self.list_of_one(at)) {
                    Some(end) => end,
                    None => self.structure.container_end(self.text, at)?,
                };
                Ok(Raw { start: at, end })
            }
            Some(_) => {
                let rest = &self.text[at..];
                let length = rest
                    .iter()
                    .position(|b| {
                        matches!(b, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t' | b':' | b'"' | b'{' | b'[')
                    })
                    .unwrap_or(rest.len());
                if is_scalar(&rest[..length]) { Ok(Raw { start: at, end: at + length }) } else { Err(Flaw::Syntax) }
            }
            None => Err(Flaw::Ended),
        }
    }

    /// The end of the object or array that opens at `at`, if nothing is in it.
    #[inline]
    fn empty(&self, open: u8, at: usize) -> Option<usize> {
        (*self.text.get(at + 1)? == open + 2).then_some(at + 2)
    }

    /// Whether the value at `raw` is an array that holds one string and no white space.
    #[inline]
    pub fn is_list_of_one(&self, raw: Raw) -> bool {
        self.list_of_one(raw.start) == Some(raw.end)
    }

    /// The end of the array at `at` if it holds one string and no white space, as most short ones in headers do.
    #[inline]
    fn list_of_one(&self, at: usize) -> Option<usize> {
        if self.text.get(at..at + 2)? != b"[\"" {
            return None;
        }
        let close = self.structure.next_quote(at + 2)?;
        (*self.text.get(close + 1)? == b']').then_some(close + 2)
    }

    /// The members of the object at `raw`, in order.
    #[inline]
    pub fn members(self, raw: Raw) -> Members<'a> {
        Members { doc: self, at: raw.start + 1, first: true, done: false }
    }

    /// The members of the object at `raw`, to be asked for in the order in which they probably stand.
    #[inline]
    pub fn members_in_order(self, raw: Raw) -> InOrder<'a> {
        InOrder { members: self.members(raw), key_at: raw.start + 1 }
    }

    /// The elements of the array at `raw`, in order.
    #[inline]
    pub fn elements(self, raw: Raw) -> Elements<'a> {
        Elements { doc: self, at: raw.start + 1, first: true, done: false }
    }

    /// Where backslashes stand in the value at `raw`, in order.
    pub fn backslashes(&self, raw: Raw) -> impl Iterator<Item = usize> + 'a {
        self.structure.backslashes(raw.start..raw.end)
    }

    /// The text of the string at `raw` (quotes included in `raw`), unescaped.
    ///
    /// # Errors
    /// [`Flaw::Syntax`] for an escape that JSON does not have. A lone surrogate becomes U+FFFD, as in the API server's
    /// decoder (Go's encoding/json).
    #[inline]
    pub fn string(&self, raw: Raw) -> Result<Cow<'a, str>, Flaw> {
        match self.plain(raw) {
            Some(text) => Ok(Cow::Borrowed(text)),
            None => self.unescaped(raw),
        }
    }

    /// The same; what is not there as it is, is put into the arena.
    ///
    /// # Errors
    /// As [`Doc::string`].
    pub fn string_in(&self, raw: Raw, arena: &'a Bump) -> Result<&'a str, Flaw> {
        self.resolved(raw, |inner| unescape_in(inner, arena))
    }

    /// The text of the string at `raw` if it stands there as it is, without escapes.
    #[inline]
    pub fn plain(&self, raw: Raw) -> Option<&'a str> {
        if self.structure.has_backslash(raw.start + 1..raw.end - 1) { None } else { self.verbatim(raw) }
    }

    /// The inside of the string at `raw` as it stands there; `None` if the text is flawed.
    #[inline]
    pub fn verbatim(&self, raw: Raw) -> Option<&'a str> {
        self.utf8.get(raw.start + 1..raw.end - 1)
    }

    #[cold]
    fn unescaped(&self, raw: Raw) -> Result<Cow<'a, str>, Flaw> {
        self.resolved(raw, |inner| unescape(inner).map(Cow::Owned))
    }

    /// The inside of the string at `raw`, by `unescape` if there is any escape in it.
    fn resolved<T: From<&'a str>>(
        &self,
        raw: Raw,
        unescape: impl FnOnce(&'a [u8]) -> Result<T, Flaw>,
    ) -> Result<T, Flaw> {
        let inner = &self.text[raw.start + 1..raw.end - 1];
        match memchr::memchr(b'\\', inner) {
            None => std::str::from_utf8(inner).map(T::from).map_err(|_| Flaw::Utf8),
            Some(_) => unescape(inner),
        }
    }

    /// The name of the member whose key stands at `raw`, escapes resolved.
    ///
    /// # Errors
    /// As [`Doc::string`].
    #[inline]
    pub fn name(&self, raw: Raw) -> Result<Cow<'a, [u8]>, Flaw> {
        let inner = raw.start + 1..raw.end - 1;
        if self.structure.has_backslash(inner.clone()) {
            return self.string(raw).map(|name| Cow::Owned(name.into_owned().into_bytes()));
        }
        Ok(Cow::Borrowed(&self.text[inner]))
    }

    /// Whether the value at `raw` is no string, or one whose escapes are JSON's.
    #[inline]
    pub fn escapes_are_valid(&self, raw: Raw) -> bool {
        self.text[raw.start] != b'"' || {
            let inner = raw.start + 1..raw.end - 1;
            !self.structure.has_backslash(inner.clone()) || escapes_are_valid(&self.text[inner])
        }
    }

    /// Whether the key at `raw` reads as `name`, escapes resolved.
    pub fn key_is(&self, raw: Raw, name: &str) -> bool {
        let inner = &self.text[raw.start + 1..raw.end - 1];
        inner == name.as_bytes()
            || (self.structure.has_backslash(raw.start + 1..raw.end - 1)
                && self.string(raw).is_ok_and(|key| key == name))
    }
}

/// Iterator over the members of an object. After an error it ends.
pub struct Members<'a> {
    doc: Doc<'a>,
    at: usize,
    first: bool,
    done: bool,
}

impl Members<'_> {
    /// Behind the closing bracket, once the iterator has ended without an error.
    pub fn end(&self) -> usize {
        self.at
    }

    /// The next member, if it stands as the API server writes it, without white space; `None` tells nothing but that the
    /// general way must be taken.
    #[inline]
    fn dense(&self) -> Option<(Raw, Raw)> {
        let text = self.doc.text;
        let open = match self.first {
            true => self.at,
            false if *text.get(self.at)? == b',' => self.at + 1,
            false => return None,
        };
        if *text.get(open)? != b'"' {
            return None;
        }
        let close = self.doc.structure.next_quote(open + 1)?;
        if *text.get(close + 1)? != b':' {
            return None;
        }
        Some((Raw { start: open, end: close + 1 }, self.doc.value(close + 2).ok()?))
    }

    #[inline]
    fn step(&mut self) -> Result<Option<(Raw, Raw)>, Flaw> {
        if !self.first && self.doc.text.get(self.at) == Some(&b'}') {
            self.at += 1;
            return Ok(None);
        }
        if let Some((key, value)) = self.dense() {
            self.first = false;
            self.at = value.end;
            return Ok(Some((key, value)));
        }
        self.spaced()
    }

    fn spaced(&mut self) -> Result<Option<(Raw, Raw)>, Flaw> {
        let doc = self.doc;
        let Some(at) = separator(&doc, self.at, self.first, b'}', &mut self.at)? else { return Ok(None) };
        self.first = false;
        expect(&doc, at, b'"')?;
        let key = doc.value(at)?;
        let colon = doc.skip_space(key.end);
        expect(&doc, colon, b':')?;
        let value = doc.value(doc.skip_space(colon + 1))?;
        self.at = value.end;
        Ok(Some((key, value)))
    }
}

impl Iterator for Members<'_> {
    /// Key (with its quotes) and value.
    type Item = Result<(Raw, Raw), Flaw>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let step = self.step().transpose();
        self.done = !matches!(step, Some(Ok(_)));
        step
    }
}

/// Members that are asked for by name, in the order in which they probably stand. What is asked for in vain costs one
/// comparison; where the guess was wrong, [`InOrder::rest`] goes on in the general way.
pub struct InOrder<'a> {
    members: Members<'a>,
    /// Where the next member's key starts; beyond the text if no other member can follow in the dense way.
    key_at: usize,
}

impl<'a> InOrder<'a> {
    /// The value of the next member, if `name` (with its quotes and colon) is how it starts.
    #[inline(always)]
    pub fn take<const N: usize>(&mut self, name: &[u8; N]) -> Option<Raw> {
        let doc = self.members.doc;
        if !same(doc.text.get(self.key_at..)?.first_chunk::<N>()?, name) {
            return None;
        }
        let at = self.key_at + N;
        if doc.text.get(at) == Some(&b'"')
            && let Some(close) = doc.structure.next_quote(at + 1)
        {
            return Some(self.step(Raw { start: at, end: close + 1 }));
        }
        self.value(at)
    }

    /// Passes over the next members, if they stand there like this, with the comma behind them; says where they begin.
    #[inline(always)]
    pub fn pass<const N: usize>(&mut self, members: &[u8; N]) -> Option<usize> {
        let start = self.key_at;
        if !same(self.members.doc.text.get(start..)?.first_chunk::<N>()?, members) {
            return None;
        }
        self.members.first = false;
        self.members.at = start + N - 1;
        self.key_at = start + N;
        Some(start)
    }

    /// Where the next member's object starts, if it is one of this name. Who walks it [tells](InOrder::step) its end.
    #[inline(always)]
    pub fn object<const N: usize>(&self, name: &[u8; N]) -> Option<usize> {
        let (text, at) = (self.members.doc.text, self.key_at + N);
        (same(text.get(self.key_at..)?.first_chunk::<N>()?, name) && text.get(at) == Some(&b'{')).then_some(at)
    }

    #[inline(never)]
    fn value(&mut self, at: usize) -> Option<Raw> {
        let value = self.members.doc.value(at).ok()?;
        Some(self.step(value))
    }

    /// The next member has this value.
    #[inline(always)]
    pub fn step(&mut self, value: Raw) -> Raw {
        let text = self.members.doc.text;
        self.members.first = false;
        self.members.at = value.end;
        self.key_at = if text.get(value.end) == Some(&b',') { value.end + 1 } else { text.len() };
        value
    }

    /// The members that have not been taken.
    pub fn rest(self) -> Members<'a> {
        self.members
    }
}

/// Whether both are the same. Names are asked for at every event: long ones are compared eight bytes at a time rather than by
/// a call.
#[inline(always)]
fn same<const N: usize>(one: &[u8; N], other: &[u8; N]) -> bool {
    let ((one, tail), (other, other_tail)) = (one.as_chunks::<8>(), other.as_chunks::<8>());
    let differ = |one: &[u8; 8], other: &[u8; 8]| u64::from_le_bytes(*one) ^ u64::from_le_bytes(*other);
    one.iter().zip(other).fold(0, |any, (one, other)| any | differ(one, other)) == 0 && tail == other_tail
}

/// Iterator over the elements of an array. After an error it ends.
pub struct Elements<'a> {
    doc: Doc<'a>,
    at: usize,
    first: bool,
    done: bool,
}

impl Elements<'_> {
    #[inline]
    fn step(&mut self) -> Result<Option<Raw>, Flaw> {
        let doc = self.doc;
        let Some(at) = separator(&doc, self.at, self.first, b']', &mut self.at)? else { return Ok(None) };
        self.first = false;
        let value = doc.value(at)?;
        self.at = value.end;
        Ok(Some(value))
    }
}

impl Iterator for Elements<'_> {
    type Item = Result<Raw, Flaw>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let step = self.step().transpose();
        self.done = !matches!(step, Some(Ok(_)));
        step
    }
}

/// Where the next item starts, or `None` (with `end` set behind the bracket) if the container closes here.
#[inline]
fn separator(doc: &Doc<'_>, at: usize, first: bool, close: u8, end: &mut usize) -> Result<Option<usize>, Flaw> {
    let at = doc.skip_space(at);
    match doc.text.get(at) {
        Some(byte) if *byte == close => {
            *end = at + 1;
            Ok(None)
        }
        Some(b',') if !first => Ok(Some(doc.skip_space(at + 1))),
        Some(_) if first => Ok(Some(at)),
        Some(_) => Err(Flaw::Syntax),
        None => Err(Flaw::Ended),
    }
}

#[inline]
fn expect(doc: &Doc<'_>, at: usize, byte: u8) -> Result<(), Flaw> {
    match doc.text.get(at) {
        Some(have) if *have == byte => Ok(()),
        Some(_) => Err(Flaw::Syntax),
        None => Err(Flaw::Ended),
    }
}

/// Whether the bytes are a number, `true`, `false` or `null` of RFC 8259.
pub fn is_scalar(token: &[u8]) -> bool {
    match token {
        b"true" | b"false" | b"null" => true,
        _ => is_number(token),
    }
}

fn is_number(token: &[u8]) -> bool {
    let digits = |bytes: &[u8]| bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    let rest = token.strip_prefix(b"-").unwrap_or(token);
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest[0] == b'0') {
        return false;
    }
    let mut rest = &rest[whole..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let count = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = &fraction[count..];
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = exponent.strip_prefix(b"+").or(exponent.strip_prefix(b"-")).unwrap_or(exponent);
        let count = digits(exponent);
        return count > 0 && count == exponent.len();
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(text: &str) -> Result<Vec<(String, String)>, Flaw> {
        let mut structure = Structure::default();
        let doc = Doc::new(structure.build(text.as_bytes())?, &structure);
        let raw = doc.value(0)?;
        doc.members(raw)
            .map(|member| {
                let (key, value) = member?;
                Ok((doc.string(key)?.into_owned(), String::from_utf8_lossy(doc.bytes(value)).into_owned()))
            })
            .collect()
    }

    #[test]
    fn walks_members_and_checks_their_grammar() {
        let pairs = |list: &[(&str, &str)]| Ok(list.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect());
        for (text, expected) in [
            ("{}", pairs(&[])),
            ("{ \"a\" : 1 , \"b\":[1,{}]}", pairs(&[("a", "1"), ("b", "[1,{}]")])),
            ("{\"ver\\u0062\":\"x\\\"y\"}", pairs(&[("verb", "\"x\\\"y\"")])),
            ("{\"a\":1e400,\"b\":18446744073709551616}", pairs(&[("a", "1e400"), ("b", "18446744073709551616")])),
            ("{\"a\":tru}", Err(Flaw::Syntax)),
            ("{\"a\":01}", Err(Flaw::Syntax)),
            ("{\"a\":-}", Err(Flaw::Syntax)),
            ("{\"a\":1.}", Err(Flaw::Syntax)),
            ("{\"a\":1e}", Err(Flaw::Syntax)),
            ("{\"a\" 1}", Err(Flaw::Syntax)),
            ("{\"a\":1 \"b\":2}", Err(Flaw::Syntax)),
            ("{\"a\":1,}", Err(Flaw::Syntax)),
            ("{,\"a\":1}", Err(Flaw::Syntax)),
            ("{a:1}", Err(Flaw::Syntax)),
            ("{\"a\":}", Err(Flaw::Syntax)),
        ] {
            assert_eq!(walk(text), expected, "{text}");
        }
    }
}
