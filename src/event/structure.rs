//! The structural index of a JSON text: where strings begin and end and where brackets stand outside of them.
//!
//! One pass over the bytes, 64 at a time, leaves three bits per byte: *quote* (a quote that opens or closes a string),
//! *bracket* (one of `{}[]` outside of strings) and *backslash*. Everything that walks the text afterwards jumps along
//! these bits, so that a body nobody asks for costs a bit per bracket, and a string without escapes is known to be one.
//! The pass also finds what no valid line may hold: control characters inside strings, and a string that never closes.

use std::ops::Range;

use super::lanes::{self, Lanes, Portable, Sum};

/// What makes a text unfit to be walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// A string never closes before the line's end.
    #[error("a string is not closed")]
    OpenString,
    /// A raw control character (below U+0020) stands inside a string.
    #[error("a string holds a raw control character")]
    Control,
    /// The bytes are not UTF-8.
    #[error("not valid UTF-8")]
    Utf8,
    /// Brackets do not match, or do not all close.
    #[error("brackets do not match")]
    Brackets,
    /// The text ends before all brackets are closed.
    #[error("ends before its brackets close")]
    Ended,
    /// A token stands where the grammar of JSON has none like it.
    #[error("not well-formed JSON")]
    Syntax,
    /// Nested deeper than a rule may look.
    #[error("arrays nested too deep to be read by a rule")]
    Depth,
}

/// The index of one text; reused from record to record so that it allocates only when a longer one comes.
#[derive(Debug, Default)]
pub struct Structure {
    words: Vec<Word>,
    closed: bool,
    /// Whether there is any backslash: in many headers there is none.
    backslashes: bool,
}

/// What is kept of a block of 64 bytes.
#[derive(Debug, Default, Clone, Copy)]
struct Word {
    quote: u64,
    bracket: u64,
    backslash: u64,
}

/// Which bytes of a block of 64 are what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Masks {
    pub quote: u64,
    pub backslash: u64,
    pub bracket: u64,
}

/// What one block hands on to the next.
#[derive(Default)]
struct Carry {
    escaped: u64,
    in_string: u64,
    backslashes: u64,
}

impl Structure {
    /// Indexes `text`, replacing what was there, and gives it back as what it has been found to be.
    ///
    /// # Errors
    /// The first flaw found, without its place: who reports it locates the whole document.
    pub fn build<'t>(&mut self, text: &'t [u8]) -> Result<&'t str, Flaw> {
        let (carried, text) = lanes::dispatch(self, text);
        self.judge(&carried, text)
    }

    fn judge<'t>(&mut self, carried: &Carried, text: Option<&'t str>) -> Result<&'t str, Flaw> {
        self.closed = carried.in_string == 0;
        match text {
            None => Err(Flaw::Utf8),
            Some(_) if !self.closed => Err(Flaw::OpenString),
            Some(text) if carried.control && self.holds_control(text.as_bytes()) => Err(Flaw::Control),
            Some(text) => Ok(text),
        }
    }

    /// Whether all strings of the text are closed, so that it can be walked in spite of another flaw.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The same by the portable implementation, for tests that hold the two side by side.
    pub fn build_portable<'t>(&mut self, text: &'t [u8]) -> Result<&'t str, Flaw> {
        let carried = self.fill::<Portable>(text);
        self.judge(&carried, std::str::from_utf8(text).ok())
    }

    #[inline(always)]
    pub(super) fn fill<L: Lanes>(&mut self, text: &[u8]) -> Carried {
        let (mut carry, mut seen) = (Carry::default(), L::NOTHING);
        let (whole, rest) = text.as_chunks::<64>();
        // Every word is written below.
        self.words.resize(text.len().div_ceil(64), Word::default());
        for (word, block) in self.words.iter_mut().zip(whole) {
            *word = Word::of(&L::masks(block, &mut seen), L::prefix_xor, &mut carry);
        }
        if let (Some(word), false) = (self.words.last_mut(), rest.is_empty()) {
            let mut block = [b' '; 64];
            block[..rest.len()].copy_from_slice(rest);
            *word = Word::of(&L::masks(&block, &mut seen), L::prefix_xor, &mut carry);
        }
        self.backslashes = carry.backslashes != 0;
        let Sum { control, ascii } = L::sum(seen);
        Carried { in_string: carry.in_string, control, ascii }
    }

    /// Whether a control character stands inside a string of the indexed text.
    #[cold]
    fn holds_control(&self, text: &[u8]) -> bool {
        let mut carry = 0;
        self.words.iter().zip(text.chunks(64)).any(|(word, bytes)| {
            let in_string = in_string(word.quote, Portable::prefix_xor, &mut carry);
            in_string != 0 && controls(bytes) & in_string != 0
        })
    }

    /// The first quote at or after `from`.
    #[inline]
    pub fn next_quote(&self, from: usize) -> Option<usize> {
        let mut at = from / 64;
        let mut word = self.words.get(at)?.quote & (u64::MAX << (from % 64));
        while word == 0 {
            at += 1;
            word = self.words.get(at)?.quote;
        }
        Some(at * 64 + word.trailing_zeros() as usize)
    }

    /// The first backslash at or after `from`, or a place beyond the text.
    #[inline]
    pub fn next_backslash(&self, from: usize) -> usize {
        if !self.backslashes {
            return usize::MAX;
        }
        let (first, rest) = (from / 64, u64::MAX << (from % 64));
        let Some([word, behind @ ..]) = self.words.get(first..) else { return usize::MAX };
        let word = word.backslash & rest;
        if word != 0 {
            return first * 64 + word.trailing_zeros() as usize;
        }
        let next = behind.iter().position(|word| word.backslash != 0);
        next.map_or(usize::MAX, |at| (first + 1 + at) * 64 + behind[at].backslash.trailing_zeros() as usize)
    }

    /// Whether a backslash stands in `range`. Beyond the text the answer may be yes: who is told so looks for himself.
    #[inline]
    pub fn has_backslash(&self, range: Range<usize>) -> bool {
        self.backslashes && self.has_backslash_in(range)
    }

    /// Where backslashes stand in `range`, in order.
    pub fn backslashes(&self, range: Range<usize>) -> impl Iterator<Item = usize> + '_ {
        let first = range.start / 64;
        let blocks = if self.backslashes { self.words.get(first..).unwrap_or_default() } else { &[] };
        let all = (first..range.end.div_ceil(64)).zip(blocks).flat_map(|(block, word)| {
            let mut left = word.backslash;
            std::iter::from_fn(move || {
                let place = (left != 0).then(|| block * 64 + left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(place)
            })
        });
        all.filter(move |place| range.contains(place))
    }

    fn has_backslash_in(&self, range: Range<usize>) -> bool {
        let (first, last) = (range.start / 64, range.end / 64);
        let from = u64::MAX << (range.start % 64);
        let until = !(u64::MAX << (range.end % 64));
        // A range that ends with a block ends before the first bit of the next one, which may not be there.
        let end = if until == 0 { 0 } else { self.words.get(last).map_or(1, |word| word.backslash & until) };
        if first == last {
            return end & from != 0;
        }
        match self.words.get(first..last) {
            Some([one]) => one.backslash & from | end != 0,
            Some([one, between @ ..]) => {
                one.backslash & from | end != 0 || between.iter().any(|word| word.backslash != 0)
            }
            _ => true,
        }
    }

    /// The position after the bracket that closes the one at `open`.
    ///
    /// # Errors
    /// [`Flaw::Brackets`] if brackets of different kinds cross, [`Flaw::Ended`] if the text ends first.
    pub fn container_end(&self, text: &[u8], open: usize) -> Result<usize, Flaw> {
        // One bit per open bracket: set for a curly one. Which way a bracket goes cannot be foretold, so nothing here
        // branches on it: a wrong kind is noted, and told at the end.
        let (mut kinds, mut depth, mut crossed) = (0u64, 0usize, 0u64);
        let mut word_at = open / 64;
        let mut word = self.words.get(word_at).map_or(0, |word| word.bracket) & (u64::MAX << (open % 64));
        loop {
            while word == 0 {
                word_at += 1;
                word = match self.words.get(word_at) {
                    Some(word) => word.bracket,
                    None => return Err(if crossed == 0 { Flaw::Ended } else { Flaw::Brackets }),
                };
            }
            let at = word_at * 64 + word.trailing_zeros() as usize;
            word &= word - 1;
            let byte = text[at];
            let curly = u64::from(byte >> 5 & 1);
            let opens = byte & 0x06 == 0x02;
            crossed |= (kinds ^ curly) & 1 & !u64::from(opens);
            kinds = if opens { kinds << 1 | curly } else { kinds >> 1 };
            depth = if opens { depth + 1 } else { depth.wrapping_sub(1) };
            if depth.wrapping_sub(1) >= 63 {
                return match (depth, crossed) {
                    (0, 0) => Ok(at + 1),
                    (64.., 0) => self.container_end_deep(text, open),
                    _ => Err(Flaw::Brackets),
                };
            }
        }
    }

    /// The same for any depth: beyond 64, levels spill over, 64 at a time, so that a million levels cost 16 KiB and no
    /// recursion.
    fn container_end_deep(&self, text: &[u8], open: usize) -> Result<usize, Flaw> {
        let (mut kinds, mut depth, mut spilled) = (0u64, 0usize, Vec::new());
        let mut word_at = open / 64;
        let mut word = self.words.get(word_at).map_or(0, |word| word.bracket) & (u64::MAX << (open % 64));
        loop {
            while word == 0 {
                word_at += 1;
                word = self.words.get(word_at).ok_or(Flaw::Ended)?.bracket;
            }
            let at = word_at * 64 + word.trailing_zeros() as usize;
            word &= word - 1;
            let byte = text[at];
            let curly = u64::from(byte & 0x20 != 0);
            if byte & 0x06 == 0x02 {
                if depth.is_multiple_of(64) && depth > 0 {
                    spilled.push(kinds);
                }
                kinds = kinds << 1 | curly;
                depth += 1;
            } else {
                if kinds & 1 != curly {
                    return Err(Flaw::Brackets);
                }
                depth -= 1;
                if depth == 0 {
                    return Ok(at + 1);
                }
                kinds >>= 1;
                if depth.is_multiple_of(64) {
                    kinds = spilled.pop().ok_or(Flaw::Brackets)?;
                }
            }
        }
    }
}

/// What remains to be judged after the last block.
pub(super) struct Carried {
    in_string: u64,
    /// Whether there is any control character, be it between strings.
    control: bool,
    pub(super) ascii: bool,
}

impl Word {
    #[inline(always)]
    fn of(masks: &Masks, prefix_xor: impl Fn(u64) -> u64, carry: &mut Carry) -> Word {
        let quote = masks.quote & !escaped(masks.backslash, &mut carry.escaped);
        let in_string = in_string(quote, prefix_xor, &mut carry.in_string);
        carry.backslashes |= masks.backslash;
        Word { quote, bracket: masks.bracket & !in_string, backslash: masks.backslash }
    }
}

/// Which bytes stand inside strings or are quotes that open one. `carry` is all ones if the last block ended inside a string.
#[inline(always)]
fn in_string(quote: u64, prefix_xor: impl Fn(u64) -> u64, carry: &mut u64) -> u64 {
    let in_string = prefix_xor(quote) ^ *carry;
    *carry = ((in_string as i64) >> 63) as u64;
    in_string
}

/// Which of up to 64 bytes are below 0x20.
fn controls(bytes: &[u8]) -> u64 {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let mut block = [b' '; 64];
    block[..bytes.len()].copy_from_slice(bytes);
    block.as_chunks::<8>().0.iter().zip((0u32..).step_by(8)).fold(0, |bits, (eight, at)| {
        let eight = u64::from_le_bytes(*eight);
        // The high bit of each byte: it is 0x80 or more, or the rest of it is 0x20 or more.
        let others = (eight | ((eight & !HIGH) + 0x6060_6060_6060_6060)) & HIGH;
        // These eight bits side by side.
        bits | ((others ^ HIGH) >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56 << at
    })
}

/// Which bytes are escaped by a backslash before them. `previous` says whether the first byte is, and is left for the
/// next block. Runs of backslashes are resolved by one addition: a carry runs through a run from an odd start (the
/// method of Langdale and Lemire, "Parsing Gigabytes of JSON per Second", 2019).
#[inline(always)]
fn escaped(backslash: u64, previous: &mut u64) -> u64 {
    const EVEN: u64 = 0x5555_5555_5555_5555;
    if backslash == 0 {
        return std::mem::take(previous);
    }
    let backslash = backslash & !*previous;
    let follows = backslash << 1 | *previous;
    let odd_starts = backslash & !EVEN & !follows;
    let (even_runs, overflow) = odd_starts.overflowing_add(backslash);
    *previous = u64::from(overflow);
    (EVEN ^ (even_runs << 1)) & follows
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Quotes, brackets and what is wrong by the textbook state machine.
    fn plain(text: &[u8]) -> (Vec<usize>, Vec<usize>, Result<&str, Flaw>) {
        let (mut quotes, mut brackets, mut inside, mut escape) = (vec![], vec![], false, false);
        let mut control = false;
        for (at, &byte) in text.iter().enumerate() {
            let escaped = std::mem::take(&mut escape);
            control |= inside && byte < 0x20;
            match byte {
                b'\\' => escape = !escaped,
                b'"' if !escaped => {
                    quotes.push(at);
                    inside = !inside;
                }
                b'{' | b'}' | b'[' | b']' if !inside => brackets.push(at),
                _ => {}
            }
        }
        let read = std::str::from_utf8(text).map_err(|_| Flaw::Utf8);
        let read = read.and_then(|text| if inside { Err(Flaw::OpenString) } else { Ok(text) });
        (quotes, brackets, read.and_then(|text| if control { Err(Flaw::Control) } else { Ok(text) }))
    }

    fn bits(words: &[Word], of: impl Fn(&Word) -> u64) -> Vec<usize> {
        (0..words.len() * 64).filter(|at| of(&words[at / 64]) >> (at % 64) & 1 == 1).collect()
    }

    #[test]
    fn finds_control_characters() {
        for (start, step, length) in (0..=255u8).flat_map(|start| [(start, 1, 64), (start, 37, 61), (start, 0, 5)]) {
            let bytes: Vec<u8> = (0..length).map(|n: u8| start.wrapping_add(n.wrapping_mul(step))).collect();
            let expected: u64 = (0u32..).zip(&bytes).map(|(at, byte)| u64::from(*byte < 0x20) << at).sum();
            assert_eq!(controls(&bytes), expected, "{bytes:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_implementation_agrees_with_the_state_machine(
            mut bytes in proptest::collection::vec(proptest::sample::select(b"\\\\\\\"\"{}[]a \n,:\xc3".to_vec()), 0..400),
            ascii: bool, dense: bool, range in (0usize..400, 0usize..200),
        ) {
            bytes.retain(|byte| !(ascii && *byte == 0xc3 || dense && *byte == b'\n'));
            let (quotes, brackets, read) = plain(&bytes);
            let (mut fast, mut portable) = (Structure::default(), Structure::default());
            let one = fast.build(&bytes);
            let two = portable.build_portable(&bytes);
            proptest::prop_assert_eq!(one, read);
            proptest::prop_assert_eq!(two, read);
            for structure in [&fast, &portable] {
                proptest::prop_assert_eq!(&bits(&structure.words, |word| word.quote), &quotes);
                proptest::prop_assert_eq!(&bits(&structure.words, |word| word.bracket), &brackets);
            }
            let range = range.0.min(bytes.len())..(range.0 + range.1).min(bytes.len());
            let backslashes: Vec<usize> = range.clone().filter(|at| bytes[*at] == b'\\').collect();
            proptest::prop_assert_eq!(fast.backslashes(range.clone()).collect::<Vec<_>>(), backslashes);
            let next = (range.start..bytes.len()).find(|at| bytes[*at] == b'\\').unwrap_or(usize::MAX);
            proptest::prop_assert_eq!(fast.next_backslash(range.start), next);
            proptest::prop_assert_eq!(fast.has_backslash(range.clone()), bytes[range].contains(&b'\\'));
        }

        #[test]
        fn the_end_of_a_container_is_the_same_however_deep(
            bytes in proptest::collection::vec(proptest::sample::select(b"{{[[}]]}} a".to_vec()), 0..300), wrap in 0usize..70
        ) {
            let (open, close): (Vec<u8>, Vec<u8>) = (0..wrap).map(|n| if n % 3 == 0 { (b'{', b'}') } else { (b'[', b']') }).unzip();
            let text = [&open[..], b"[", &bytes[..], b"]", &close.into_iter().rev().collect::<Vec<_>>()].concat();
            let mut structure = Structure::default();
            let _ = structure.build(&text);
            proptest::prop_assert_eq!(structure.container_end(&text, 0), structure.container_end_deep(&text, 0));
        }
    }

    /// A container that is well-formed, as deep and as dense as the choices make it.
    fn container(choices: &[u8]) -> Vec<u8> {
        let (mut text, mut open) = (vec![b'['], vec![b']']);
        for choice in choices {
            match choice {
                0..10 => (text.push(b'{'), open.push(b'}')).1,
                10..20 => (text.push(b'['), open.push(b']')).1,
                20..45 if open.len() > 1 => text.extend(open.pop()),
                _ => text.extend(std::iter::repeat_n(b' ', usize::from(choice % 16))),
            }
        }
        text.extend(open.into_iter().rev());
        text
    }

    proptest::proptest! {
        #[test]
        fn a_container_ends_where_it_was_closed(
            choices in proptest::collection::vec(0u8..80, 0..600), before in 0usize..70, behind in 0usize..70,
            wrong: Option<(usize, u8)>
        ) {
            let mut text = [vec![b' '; before], container(&choices), vec![b' '; behind]].concat();
            let brackets: Vec<usize> = (before + 1..text.len()).filter(|at| text[*at] != b' ').collect();
            if let Some((at, bracket)) = wrong {
                text[brackets[at % brackets.len()]] = b"{}[]"[usize::from(bracket % 4)];
            }
            let mut structure = Structure::default();
            structure.build(&text).unwrap();
            let expected = structure.container_end_deep(&text, before);
            if wrong.is_none() {
                proptest::prop_assert_eq!(expected, Ok(text.len() - behind));
            }
            proptest::prop_assert_eq!(structure.container_end(&text, before), expected);
        }
    }

    #[test]
    fn finds_the_end_of_a_container() {
        let deep = format!("{}{}", "[{\"a\":".repeat(500_000), "1".to_owned() + &"}]".repeat(500_000));
        for (text, end) in [
            ("{}", Ok(2)),
            ("{\"a\":[1,{\"}\":2}]} tail", Ok(17)),
            ("[}", Err(Flaw::Brackets)),
            ("{\"a\":[}]", Err(Flaw::Brackets)),
            ("[[1]", Err(Flaw::Ended)),
            (deep.as_str(), Ok(deep.len())),
        ] {
            let mut structure = Structure::default();
            structure.build(text.as_bytes()).unwrap();
            assert_eq!(structure.container_end(text.as_bytes(), 0), end, "{}", &text[..text.len().min(40)]);
        }
        for depth in [63, 64, 65, 127, 128, 129, 192] {
            let text = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            let wrong = format!("{}{}}}", "[".repeat(depth), "]".repeat(depth - 1));
            let mut structure = Structure::default();
            structure.build(text.as_bytes()).unwrap();
            assert_eq!(structure.container_end(text.as_bytes(), 0), Ok(depth * 2));
            structure.build(wrong.as_bytes()).unwrap();
            assert_eq!(structure.container_end(wrong.as_bytes(), 0), Err(Flaw::Brackets));
        }
    }

    #[test]
    fn refuses_what_no_line_may_hold() {
        for (text, flaw) in [
            (&b"\"a\nb\""[..], Flaw::Control),
            (b"\"a", Flaw::OpenString),
            (b"\"a\\\"", Flaw::OpenString),
            (b"\"\xff\"", Flaw::Utf8),
            (b"{\xff}", Flaw::Utf8),
        ] {
            assert_eq!(Structure::default().build(text), Err(flaw));
        }
    }
}
