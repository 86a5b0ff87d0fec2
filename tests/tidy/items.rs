//! What a source file holds: its functions, the modules it declares, the paths it names, and its code without tests.

use super::lexer::is_word;

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    /// From 1.
    pub line: usize,
    /// From `fn` to the closing brace.
    pub lines: usize,
}

/// A module that lives in a file of its own.
#[derive(Debug, PartialEq, Eq)]
pub struct Declared {
    pub name: String,
    /// `#[path = "…"]`.
    pub path: Option<String>,
    pub is_test: bool,
}

/// A path such as `std::fs::read`, use trees spelled out.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    pub line: usize,
    pub path: Vec<String>,
}

/// The line of an offset, from 1.
pub fn line_of(code: &str, at: usize) -> usize {
    code.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1
}

/// The functions of a file, given its code.
pub fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for at in words(code, "fn") {
        let name = word_at(code, at + 2);
        let Some((open, b'{')) = (!name.is_empty()).then(|| body(code, at)).flatten() else { continue };
        let (line, end) = (line_of(code, at), line_of(code, closing(code, open)));
        found.push(Function { name: name.to_owned(), line, lines: end - line + 1 });
    }
    found
}

/// The modules that a file declares without a body. `source` is the file as written.
pub fn modules(code: &str, source: &str) -> Vec<Declared> {
    let mut found = Vec::new();
    for at in words(code, "mod") {
        let name = word_at(code, at + 3);
        if name.is_empty() || !matches!(body(code, at), Some((_, b';'))) {
            continue;
        }
        let before = code[..at].rfind([';', '}']).map_or(0, |end| end + 1);
        let attributes = &code[before..at];
        let path = attributes.find("#[path").map(|attribute| {
            let quoted = &source[before + attribute..at];
            quoted.split('"').nth(1).unwrap_or_default().to_owned()
        });
        found.push(Declared { name: name.to_owned(), path, is_test: attributes.contains("cfg(test)") });
    }
    found
}

/// Blanks every item under `#[cfg(test)]`.
pub fn without_tests(code: &str) -> String {
    let mut out = code.as_bytes().to_vec();
    for (at, _) in code.match_indices("#[cfg(test)]") {
        let end = match body(code, at) {
            Some((open, b'{')) => closing(code, open),
            Some((end, _)) => end,
            None => code.len() - 1,
        };
        out[at..=end].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Every path of at least two segments.
pub fn paths(code: &str) -> Vec<Named> {
    let mut found = Vec::new();
    let bytes = code.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let starts = is_word(bytes, at) && (at == 0 || !is_word(bytes, at - 1));
        if !starts || code[..at].ends_with("::") {
            at += 1;
            continue;
        }
        let line = line_of(code, at);
        let mut trees = Vec::new();
        at = tree(code, at, &mut Vec::new(), &mut trees);
        found.extend(trees.into_iter().filter(|path| path.len() > 1).map(|path| Named { line, path }));
    }
    found
}

/// Reads the path at `at`, and what a use tree makes of it; returns where it ends.
fn tree(code: &str, at: usize, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    let depth = prefix.len();
    let word = word_at(code, at);
    let mut at = at + word.len();
    if word != "self" || depth == 0 {
        prefix.push(word.to_owned());
    }
    if !code[at..].starts_with("::") {
        found.push(prefix.clone());
    } else {
        at += 2;
        match code.as_bytes().get(at) {
            Some(b'{') => {
                let end = closing(code, at);
                at += 1;
                while at < end {
                    if is_word(code.as_bytes(), at) && !code[..at].ends_with(" as ") {
                        at = tree(code, at, prefix, found);
                    } else {
                        at += 1;
                    }
                }
                at = end + 1;
            }
            Some(_) if is_word(code.as_bytes(), at) => at = tree(code, at, prefix, found),
            _ => found.push(prefix.clone()),
        }
    }
    prefix.truncate(depth);
    at
}

/// Where a word of its own stands.
fn words<'c>(code: &'c str, word: &'c str) -> impl Iterator<Item = usize> + 'c {
    let bytes = code.as_bytes();
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| !is_word(bytes, at + word.len()) && (*at == 0 || !is_word(bytes, at - 1)))
}

/// The identifier that begins at `at` or behind blanks.
fn word_at(code: &str, at: usize) -> &str {
    let text = code[at..].trim_start();
    &text[..text.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count()]
}

/// The `{` or `;` at which an item's head ends.
fn body(code: &str, from: usize) -> Option<(usize, u8)> {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' | b';' if depth == 0 => return Some((at, byte)),
            _ => {}
        }
    }
    None
}

/// The brace that closes the one at `open`.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return at;
        }
    }
    code.len() - 1
}

#[test]
fn measures_functions() {
    let code =
        "fn a() {}\ntrait T { fn b(&self);\n fn c(x: [u8; 2]) -> fn(u8) {\n if x {\n }\n }\n}\nstruct S { fn_: u8 }";
    let function = |name: &str, line, lines| Function { name: name.to_owned(), line, lines };
    assert_eq!(functions(code), [function("a", 1, 1), function("c", 3, 4)]);
}

#[test]
fn finds_declared_modules() {
    let source = "mod a;\npub mod b { mod c; }\n#[cfg(test)]\n#[path = \"x_tests.rs\"]\nmod tests;";
    let declared = |name: &str, path: Option<&str>, is_test| Declared {
        name: name.to_owned(),
        path: path.map(str::to_owned),
        is_test,
    };
    assert_eq!(
        modules(source, source),
        [declared("a", None, false), declared("c", None, false), declared("tests", Some("x_tests.rs"), true)]
    );
}

#[test]
fn leaves_tests_out() {
    let code = "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() {}\n}\n#[cfg(test)]\nmod more;\nfn c() {}";
    assert_eq!(without_tests(code).split_whitespace().collect::<Vec<_>>(), ["fn", "a()", "{}", "fn", "c()", "{}"]);
    assert_eq!(without_tests(code).len(), code.len());
}

#[test]
fn spells_out_use_trees() {
    let code = "use std::{fs::{self, File}, io as output};\nlet x = crate::a::b(y.z, i64::MAX, Vec::<u8>::new());";
    let found: Vec<(usize, String)> =
        paths(code).into_iter().map(|named| (named.line, named.path.join("::"))).collect();
    let expected = [(1, "std::fs"), (1, "std::fs::File"), (1, "std::io"), (2, "crate::a::b"), (2, "i64::MAX")];
    assert!(expected.iter().all(|(line, path)| found.contains(&(*line, (*path).to_owned()))), "{found:?}");
    assert!(!found.iter().any(|(_, path)| path.contains("output")), "{found:?}");
}
