//! The one condition language that every rule dialect lowers to.
//!
//! Sigma rules lower to [`Expr`] today; Falco's conditions are a second front end to the same type. An expression is
//! evaluated over one event with three values: true, false, and *unknown* (a body it asks for was dropped).

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

use ipnet::IpNet;
use regex::Regex;

pub use super::span::Span;

/// The largest compiled regular expression, in bytes.
const MAX_REGEX: usize = 1 << 20;

/// A condition over one event.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// Always true or always false.
    Const(bool),
    /// All parts hold (true if there are none).
    And(Vec<Expr>),
    /// At least one part holds (false if there are none).
    Or(Vec<Expr>),
    /// The part does not hold; unknown stays unknown. Shared, because what filters exclude is a part of many rules.
    Not(Arc<Expr>),
    /// A test of one field.
    Test(Test),
    /// Tests bound to one member of an array.
    Each(Each),
}

impl Expr {
    /// Whether both say the same, wherever they stand in their files.
    pub fn says_the_same(&self, other: &Expr) -> bool {
        let all = |mine: &[Expr], theirs: &[Expr]| {
            mine.len() == theirs.len() && mine.iter().zip(theirs).all(|(mine, theirs)| mine.says_the_same(theirs))
        };
        match (self, other) {
            (Expr::Const(mine), Expr::Const(theirs)) => mine == theirs,
            (Expr::And(mine), Expr::And(theirs)) | (Expr::Or(mine), Expr::Or(theirs)) => all(mine, theirs),
            (Expr::Not(mine), Expr::Not(theirs)) => Arc::ptr_eq(mine, theirs) || mine.says_the_same(theirs),
            (Expr::Test(mine), Expr::Test(theirs)) => mine.field == theirs.field && mine.any_of == theirs.any_of,
            (Expr::Each(mine), Expr::Each(theirs)) => {
                (&mine.field, mine.quantifier) == (&theirs.field, theirs.quantifier)
                    && mine.condition.says_the_same(&theirs.condition)
            }
            _ => false,
        }
    }

    /// A hash that is the same for conditions that say the same, and mostly differs for others.
    pub fn rough_hash(&self) -> u64 {
        let mut hasher = foldhash::fast::FixedState::default().build_hasher();
        self.feed(&mut hasher);
        hasher.finish()
    }

    fn feed(&self, hasher: &mut impl Hasher) {
        std::mem::discriminant(self).hash(hasher);
        match self {
            Expr::Const(value) => value.hash(hasher),
            Expr::And(parts) | Expr::Or(parts) => parts.iter().for_each(|part| part.feed(hasher)),
            Expr::Not(part) => part.feed(hasher),
            Expr::Test(test) => {
                test.field.hash(hasher);
                for op in &test.any_of {
                    std::mem::discriminant(op).hash(hasher);
                    match op {
                        Op::Str(StrOp { how: StrHow::Exact(text) | StrHow::Prefix(text), .. })
                        | Op::Str(StrOp { how: StrHow::Suffix(text) | StrHow::Contains(text), .. }) => {
                            text.hash(hasher)
                        }
                        Op::Regex(op) => op.pattern.hash(hasher),
                        _ => {}
                    }
                }
            }
            Expr::Each(each) => {
                each.field.hash(hasher);
                each.condition.feed(hasher);
            }
        }
    }
}

/// A test of one field: it holds if any value that the field resolves to satisfies any of the operators.
#[derive(Debug, Clone, PartialEq)]
pub struct Test {
    /// The field as written in the rule (an event path or a derived `k8s.*` field; inside [`Each`] a path relative to the
    /// member; empty for the member itself). `None`: any scalar anywhere in the event (a Sigma keyword).
    pub field: Option<String>,
    /// Alternatives; a list of values in Sigma.
    pub any_of: Vec<Op>,
    /// Where the test stands in its file.
    pub span: Span,
}

impl Test {
    /// Whether it holds for no value, and for none at all: it compares with nothing.
    pub fn is_never(&self) -> bool {
        !self.any_of.is_empty() && self.any_of.iter().all(|op| *op == Op::Never)
    }
}

/// An array block: a quantifier over the members of an array, with a condition on each member.
#[derive(Debug, Clone, PartialEq)]
pub struct Each {
    /// The array's path, relative to the enclosing block's member if there is one.
    pub field: String,
    /// How many members must satisfy the condition.
    pub quantifier: Quantifier,
    /// The condition; its fields are relative to the member.
    pub condition: Box<Expr>,
    /// Where the block stands in its file.
    pub span: Span,
}

/// The quantifier of an array block (Sigma enhancement proposal "array matching", `sigma-version: 3`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantifier {
    /// At least one member.
    Any,
    /// Every member, and there is at least one.
    All,
    /// Every member; an absent or empty array satisfies it.
    AllOrEmpty,
    /// No member (an absent or empty array satisfies it).
    None,
    /// The member at this index, counted from 0.
    Index(usize),
}

/// What a value must satisfy.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// The path resolves to a value (`true`), or to none (`false`). JSON null counts as absent.
    Exists(bool),
    /// The path resolves to nothing or to JSON null (`field: null`).
    Null,
    /// A comparison of text; numbers and booleans are compared by their JSON spelling.
    Str(StrOp),
    /// A regular expression, unanchored as in Sigma.
    Regex(RegexOp),
    /// A comparison with a number; text that is a number counts as one.
    Num(Cmp, f64),
    /// A JSON boolean, or its spelling in text.
    Bool(bool),
    /// The value is an IP address inside the network.
    Cidr(IpNet),
    /// The comparison of this value with the values of another field of the same event (absolute path).
    FieldRef(FieldRefOp),
    /// A part of the value read as an RFC 3339 time, in UTC.
    Time(TimePart, Cmp, i64),
    /// Can never hold (a placeholder whose list is empty).
    Never,
}

/// A text comparison. `text` has its wildcards already removed; with `cased: false` it is already folded by
/// [`crate::event::fold`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StrOp {
    /// Where the text must stand in the value.
    pub how: StrHow,
    /// Compare case-sensitively.
    pub cased: bool,
}

/// Where a text must stand in the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StrHow {
    /// The whole value.
    Exact(String),
    /// The value's start.
    Prefix(String),
    /// The value's end.
    Suffix(String),
    /// Anywhere.
    Contains(String),
    /// A pattern with wildcards over the whole value.
    Glob(Vec<GlobPart>),
}

/// One part of a wildcard pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GlobPart {
    /// Exactly this text.
    Text(String),
    /// `?`: exactly one character.
    One,
    /// `*`: any number of characters.
    Many,
}

/// A regular expression and its flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegexOp {
    /// The pattern as written.
    pub pattern: String,
    /// Flag `i`.
    pub case_insensitive: bool,
    /// Flag `m`: `^` and `$` match at lines.
    pub multi_line: bool,
    /// Flag `s`: `.` matches newlines.
    pub dot_matches_new_line: bool,
    /// What the pattern compiles to.
    pub built: Built,
}

impl RegexOp {
    /// Compiles a pattern within its limits.
    ///
    /// # Errors
    /// What the regex crate says of the pattern.
    pub fn new(
        pattern: &str,
        case_insensitive: bool,
        multi_line: bool,
        dot_matches_new_line: bool,
    ) -> Result<Self, regex::Error> {
        let op = Self::known(pattern, case_insensitive, multi_line, dot_matches_new_line);
        op.built.0.get_or_init(|| op.build()).clone().map(|_| op)
    }

    /// A pattern that is known to compile, and does so when the first text is held against it: that of all built-in rules
    /// would take longer than the rest of a start.
    pub fn known(pattern: &str, case_insensitive: bool, multi_line: bool, dot_matches_new_line: bool) -> Self {
        let built = Built::default();
        RegexOp { pattern: pattern.to_owned(), case_insensitive, multi_line, dot_matches_new_line, built }
    }

    fn build(&self) -> Result<Regex, regex::Error> {
        regex::RegexBuilder::new(&self.pattern)
            .case_insensitive(self.case_insensitive)
            .multi_line(self.multi_line)
            .dot_matches_new_line(self.dot_matches_new_line)
            .size_limit(MAX_REGEX)
            .build()
    }

    /// Whether the expression matches the text.
    pub fn is_match(&self, text: &str) -> bool {
        let built = self.built.0.get_or_init(|| self.build()).as_ref();
        built.expect("a pattern of a built-in rule, which the tests compile").is_match(text)
    }
}

/// A compiled pattern, once it is, shared by every condition it ends up in: a filter's stands in that of each rule it
/// applies to.
#[derive(Debug, Clone, Default)]
pub struct Built(Arc<OnceLock<Result<Regex, regex::Error>>>);

/// The pattern and its flags tell all; what they compile to tells nothing more.
impl PartialEq for Built {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Built {}

/// Comparison with another field of the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldRefOp {
    /// The other field, as written.
    pub field: String,
    /// Which relation must hold.
    pub how: FieldRefHow,
    /// Compare case-sensitively.
    pub cased: bool,
}

/// The relation of a value to the other field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldRefHow {
    /// Equal.
    Equals,
    /// This value starts with the other.
    StartsWith,
    /// This value ends with the other.
    EndsWith,
    /// This value contains the other.
    Contains,
    /// Numeric comparison.
    Num(Cmp),
}

/// Numeric comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cmp {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less than.
    Lt,
    /// Less than or equal.
    Le,
    /// Greater than.
    Gt,
    /// Greater than or equal.
    Ge,
}

impl Cmp {
    /// Whether `a OP b` holds.
    pub fn holds<T: PartialOrd>(self, a: &T, b: &T) -> bool {
        match self {
            Cmp::Eq => a == b,
            Cmp::Ne => a != b,
            Cmp::Lt => a < b,
            Cmp::Le => a <= b,
            Cmp::Gt => a > b,
            Cmp::Ge => a >= b,
        }
    }
}

/// A part of a time (Sigma's time modifiers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimePart {
    /// 0-59.
    Minute,
    /// 0-23.
    Hour,
    /// Day of the month, 1-31.
    Day,
    /// ISO 8601 week, 1-53.
    Week,
    /// 1-12.
    Month,
    /// Four digits.
    Year,
}
