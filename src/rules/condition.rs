//! Sigma's condition grammar: `1 of selection* and not (filter or keywords)`.

use nom::IResult;
use nom::Parser as _;
use nom::branch::alt;
use nom::bytes::complete::take_while1;
use nom::character::complete::{char, multispace0};
use nom::combinator::value;
use nom::sequence::preceded;

/// How deep parentheses and `not` may nest.
pub const MAX_DEPTH: usize = 64;
/// The longest condition that is read, in bytes.
pub const MAX_LENGTH: usize = 64 * 1024;

/// A condition over named selections. Offsets are in bytes of the condition's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// A selection.
    Name(String, usize),
    /// `1 of …`, `any of …` (any) or `all of …`.
    Of {
        /// Whether all of them must hold; else one is enough.
        all: bool,
        /// A name with `*` wildcards; `None` is `them`: all names that do not start with `_`.
        pattern: Option<String>,
        /// Where it stands.
        offset: usize,
    },
    /// All parts.
    And(Vec<Condition>),
    /// At least one part.
    Or(Vec<Condition>),
    /// Not the part.
    Not(Box<Condition>),
}

/// Why a text is no condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConditionError {
    /// What is wrong.
    pub message: String,
    /// Where, in bytes of the condition's text.
    pub offset: usize,
    /// What to do about it.
    pub help: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Open,
    Close,
    Pipe,
    Word(&'a str),
}

fn token(input: &str) -> IResult<&str, Token<'_>> {
    let word = take_while1(|c: char| !c.is_whitespace() && !matches!(c, '(' | ')' | '|'));
    preceded(
        multispace0,
        alt((
            value(Token::Open, char('(')),
            value(Token::Close, char(')')),
            value(Token::Pipe, char('|')),
            word.map(Token::Word),
        )),
    )
    .parse(input)
}

fn tokens(text: &str) -> Result<Vec<(Token<'_>, usize)>, ConditionError> {
    let mut out = Vec::new();
    let mut rest = text;
    while !rest.trim_start().is_empty() {
        let start = text.len() - rest.trim_start().len();
        let (after, token) = token(rest).map_err(|_| error(start, "this is no part of a condition"))?;
        out.push((token, start));
        rest = after;
    }
    Ok(out)
}

fn error(offset: usize, message: impl Into<String>) -> ConditionError {
    ConditionError { message: message.into(), offset, help: None }
}

/// Reads a condition.
pub fn parse(text: &str) -> Result<Condition, ConditionError> {
    if text.len() > MAX_LENGTH {
        return Err(error(0, format!("the condition has {} bytes; at most {MAX_LENGTH} are read", text.len())));
    }
    let mut parser = Parser { tokens: tokens(text)?, next: 0, end: text.trim_end().len(), depth: 0 };
    let condition = parser.or()?;
    match parser.peek() {
        None => Ok(condition),
        Some((Token::Close, offset)) => Err(error(offset, "this parenthesis closes nothing")),
        Some((Token::Pipe, offset)) => Err(ConditionError {
            help: Some("aggregations behind `|` were removed from Sigma; write a correlation document"),
            ..error(offset, "conditions cannot be piped")
        }),
        Some((_, offset)) => Err(error(offset, "expected `and` or `or` here")),
    }
}

struct Parser<'a> {
    tokens: Vec<(Token<'a>, usize)>,
    next: usize,
    end: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<(Token<'a>, usize)> {
        self.tokens.get(self.next).copied()
    }

    fn keyword(&self, ahead: usize, keyword: &str) -> bool {
        let token = self.tokens.get(self.next + ahead);
        matches!(token, Some((Token::Word(word), _)) if word.eq_ignore_ascii_case(keyword))
    }

    fn or(&mut self) -> Result<Condition, ConditionError> {
        let mut parts = vec![self.and()?];
        while self.keyword(0, "or") {
            self.next += 1;
            parts.push(self.and()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Condition::Or(parts) })
    }

    fn and(&mut self) -> Result<Condition, ConditionError> {
        let mut parts = vec![self.unary()?];
        while self.keyword(0, "and") {
            self.next += 1;
            parts.push(self.unary()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Condition::And(parts) })
    }

    fn unary(&mut self) -> Result<Condition, ConditionError> {
        let Some((token, offset)) = self.peek() else {
            return Err(error(self.end, "the condition ends where a selection is expected"));
        };
        let nests = token == Token::Open || matches!(token, Token::Word(word) if word.eq_ignore_ascii_case("not"));
        if nests && self.depth == MAX_DEPTH {
            return Err(error(offset, format!("the condition is nested deeper than {MAX_DEPTH}")));
        }
        match token {
            Token::Open => {
                self.next += 1;
                self.depth += 1;
                let inner = self.or()?;
                self.depth -= 1;
                match self.peek() {
                    Some((Token::Close, _)) => self.next += 1,
                    _ => return Err(error(offset, "this parenthesis is not closed")),
                }
                Ok(inner)
            }
            Token::Word(word) if word.eq_ignore_ascii_case("not") => {
                self.next += 1;
                self.depth += 1;
                let inner = self.unary()?;
                self.depth -= 1;
                Ok(Condition::Not(Box::new(inner)))
            }
            Token::Word(_) if self.keyword(1, "of") => self.of(),
            Token::Word(word) => self.name(word, offset),
            Token::Close | Token::Pipe => Err(error(offset, "a selection is expected here")),
        }
    }

    fn name(&mut self, word: &str, offset: usize) -> Result<Condition, ConditionError> {
        if ["and", "or", "of"].iter().any(|keyword| word.eq_ignore_ascii_case(keyword)) {
            return Err(error(offset, format!("a selection is expected before `{word}`")));
        }
        if word.contains('*') {
            return Err(ConditionError {
                help: Some("write `1 of` or `all of` before a pattern"),
                ..error(offset, format!("`{word}` is a pattern, not a selection"))
            });
        }
        self.next += 1;
        Ok(Condition::Name(word.to_owned(), offset))
    }

    fn of(&mut self) -> Result<Condition, ConditionError> {
        let Some((Token::Word(count), offset)) = self.peek() else {
            return Err(error(self.end, "a selection is expected here"));
        };
        let all = match count.to_ascii_lowercase().as_str() {
            "1" | "any" => false,
            "all" => true,
            _ => {
                return Err(error(offset, format!("`{count} of` is not in Sigma; only `1 of`, `any of` and `all of`")));
            }
        };
        self.next += 2;
        match self.peek() {
            Some((Token::Word(word), offset)) => {
                self.next += 1;
                let pattern = (!word.eq_ignore_ascii_case("them")).then(|| word.to_owned());
                Ok(Condition::Of { all, pattern, offset })
            }
            Some((_, offset)) => Err(error(offset, "`them` or a pattern is expected after `of`")),
            None => Err(error(self.end, "`them` or a pattern is expected after `of`")),
        }
    }
}

/// Whether a selection's name fits a pattern in which `*` is any number of characters.
pub fn name_fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut middle: Vec<&str> = parts.collect();
    let Some(last) = middle.pop() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(condition: &Condition) -> String {
        let join = |parts: &[Condition], word: &str| {
            format!("({})", parts.iter().map(show).collect::<Vec<_>>().join(&format!(" {word} ")))
        };
        match condition {
            Condition::Name(name, _) => name.clone(),
            Condition::Of { all, pattern, .. } => {
                format!("{}:{}", if *all { "all" } else { "any" }, pattern.as_deref().unwrap_or("THEM"))
            }
            Condition::And(parts) => join(parts, "&"),
            Condition::Or(parts) => join(parts, "|"),
            Condition::Not(part) => format!("!{}", show(part)),
        }
    }

    #[test]
    fn reads_conditions() {
        let check = |text: &str, expected: &str| assert_eq!(show(&parse(text).unwrap()), expected, "{text}");
        check("selection", "selection");
        check(" a and b or c ", "((a & b) | c)");
        check("a or b and c", "(a | (b & c))");
        check("not a and b", "(!a & b)");
        check("not (a or b)", "!(a | b)");
        check("not not a", "!!a");
        check("a AND NOT b Or c", "((a & !b) | c)");
        check("1 of them", "any:THEM");
        check("any of sel*", "any:sel*");
        check("ALL OF THEM and not 1 of filter_*", "(all:THEM & !any:filter_*)");
        check("all of s*_x*", "all:s*_x*");
        check("(a)and(b)", "(a & b)");
        check("all", "all");
        check("sel-1.b and\n\tnot\tthem", "(sel-1.b & !them)");
        check(&format!("{}a{}", "(".repeat(64), ")".repeat(64)), "a");
    }

    #[test]
    fn refuses_with_an_offset() {
        let check = |text: &str, offset: usize, part: &str| {
            let error = parse(text).unwrap_err();
            assert!(error.offset == offset && error.message.contains(part), "{text:.40}: {error:?}");
        };
        check("", 0, "ends where");
        check("a and ", 5, "ends where");
        check("a b", 2, "expected `and` or `or`");
        check("and a", 0, "before `and`");
        check("a or or b", 5, "before `or`");
        check("(a or b", 0, "not closed");
        check("a)", 1, "closes nothing");
        check("()", 1, "expected here");
        check("2 of sel*", 0, "not in Sigma");
        check("1 of", 4, "after `of`");
        check("1 of (a)", 5, "after `of`");
        check("sel*", 0, "is a pattern");
        check("a | count() > 5", 2, "piped");
        check(&format!("{}a", "(".repeat(100_000)), 0, "at most");
        check(&"(".repeat(60_000), 64, "nested deeper");
        check(&"not ".repeat(10_000), 256, "nested deeper");
        check(&format!("{}a", "not (".repeat(33)), 32 * 5, "nested deeper");
    }

    #[test]
    fn long_chains_are_not_deep() {
        let text = vec!["a"; 10_000].join(" or ");
        assert!(matches!(parse(&text).unwrap(), Condition::Or(parts) if parts.len() == 10_000));
    }

    #[test]
    fn fits_patterns() {
        let check = |pattern: &str, name: &str, expected: bool| {
            assert_eq!(name_fits(pattern, name), expected, "{pattern} {name}");
        };
        check("sel", "sel", true);
        check("sel", "sel1", false);
        check("sel*", "sel", true);
        check("sel*", "selection_a", true);
        check("*a", "sela", true);
        check("*a", "ab", false);
        check("s*_*x", "sel_ax", true);
        check("a*a", "a", false);
        check("*", "", true);
    }
}
