//! The index over necessary equalities: from what an event's verb, resource … are to the rules that may match it, so
//! that cost grows with candidates and not with rules.
//!
//! For each dimension a rule either names the values without which it cannot match, or leaves the dimension open. The
//! candidates of an event are the rules that every dimension lets pass: one AND of bitsets. The index may only err on
//! the side of too many; a differential test holds it against judging every rule.

use hashbrown::HashMap;

use crate::event::fold;
use crate::event::path::{Derived, Fast, Field, Root};
use crate::event::view::Event;
use crate::rules::expr::{Cmp, Expr, Op, StrHow, Test};

/// A bitset over rules.
pub type Bits = Vec<u64>;

/// What the index looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dimension {
    Verb,
    Resource,
    Subresource,
    Username,
    Namespace,
    Code,
}

const DIMENSIONS: [Dimension; 6] = [
    Dimension::Resource,
    Dimension::Verb,
    Dimension::Subresource,
    Dimension::Code,
    Dimension::Username,
    Dimension::Namespace,
];

/// Which rules each value of each dimension lets pass.
#[derive(Debug, Default)]
pub struct Index {
    words: usize,
    tables: Vec<Table>,
}

#[derive(Debug)]
struct Table {
    dimension: Dimension,
    by_value: HashMap<Box<str>, Bits, foldhash::fast::RandomState>,
    /// Rules that leave the dimension open: all that may match an event whose value nobody names.
    open: Bits,
}

impl Index {
    /// Builds the index of these conditions; the position of a condition is its rule's bit.
    pub fn new(conditions: &[&Expr]) -> Index {
        let words = conditions.len().div_ceil(64);
        let mut tables = Vec::new();
        for dimension in DIMENSIONS {
            let mut open = vec![0; words];
            let mut by_value: HashMap<Box<str>, Bits, foldhash::fast::RandomState> = HashMap::default();
            for (rule, condition) in conditions.iter().enumerate() {
                match necessary(condition, dimension) {
                    None => set(&mut open, rule),
                    Some(values) => {
                        for value in values {
                            set(by_value.entry(value).or_insert_with(|| vec![0; words]), rule);
                        }
                    }
                }
            }
            for bits in by_value.values_mut() {
                for (word, open) in bits.iter_mut().zip(&open) {
                    *word |= open;
                }
            }
            if !by_value.is_empty() {
                tables.push(Table { dimension, by_value, open });
            }
        }
        Index { words, tables }
    }

    /// How many words a bitset over the rules has.
    pub fn words(&self) -> usize {
        self.words
    }

    /// Narrows `candidates` down to the rules that may match the event.
    pub fn narrow(&self, event: &Event<'_>, candidates: &mut Bits) {
        for table in &self.tables {
            let bits = table.of(event);
            let mut any = 0;
            for (word, bits) in candidates.iter_mut().zip(bits) {
                *word &= bits;
                any |= *word;
            }
            if any == 0 {
                return;
            }
        }
    }
}

impl Table {
    fn of(&self, event: &Event<'_>) -> &Bits {
        let value = match self.dimension {
            Dimension::Verb => event.verb(),
            Dimension::Resource => event.resource(),
            Dimension::Subresource => event.subresource(),
            Dimension::Username => event.username(),
            Dimension::Namespace => event.namespace(),
            Dimension::Code => Some(class(event.code())),
        };
        value.and_then(|value| self.by_value.get(&*fold(value))).unwrap_or(&self.open)
    }
}

fn set(bits: &mut Bits, rule: usize) {
    bits[rule / 64] |= 1 << (rule % 64);
}

/// Status codes by what rules ask of them.
fn class(code: Option<i64>) -> &'static str {
    match code {
        None => "none",
        Some(101 | 200..=299) => "success",
        Some(401) => "401",
        Some(403) => "403",
        Some(code) if code >= 400 => "error",
        Some(_) => "other",
    }
}

/// The values of the dimension without which the condition cannot hold; `None` if it may hold with any.
fn necessary(expr: &Expr, dimension: Dimension) -> Option<Vec<Box<str>>> {
    match expr {
        Expr::Const(false) => Some(Vec::new()),
        Expr::Const(true) | Expr::Not(_) | Expr::Each(_) => None,
        Expr::And(parts) => {
            // Each part alone is necessary: the shortest list is the sharpest.
            parts.iter().filter_map(|part| necessary(part, dimension)).min_by_key(Vec::len)
        }
        Expr::Or(parts) => {
            let mut all = Vec::new();
            for part in parts {
                all.extend(necessary(part, dimension)?);
            }
            all.sort();
            all.dedup();
            Some(all)
        }
        Expr::Test(test) => named(test, dimension),
    }
}

/// The values that a test names, if it is one of equality on the dimension's field.
fn named(test: &Test, dimension: Dimension) -> Option<Vec<Box<str>>> {
    let field = Field::parse(test.field.as_ref()?);
    let fast = match dimension {
        Dimension::Verb => Fast::Verb,
        Dimension::Resource => Fast::Resource,
        Dimension::Subresource => Fast::Subresource,
        Dimension::Username => Fast::Username,
        Dimension::Namespace => Fast::Namespace,
        Dimension::Code if field.root == Root::Derived(Derived::Outcome) => return outcomes(test),
        Dimension::Code => Fast::Code,
    };
    if field.root != Root::Fast(fast) {
        return None;
    }
    let mut values = Vec::new();
    for op in &test.any_of {
        match op {
            Op::Never => {}
            Op::Str(op) => match &op.how {
                StrHow::Exact(text) if fast != Fast::Code => values.push(fold(text).into()),
                StrHow::Exact(text) => values.push(class(Some(text.parse().ok()?)).into()),
                _ => return None,
            },
            Op::Num(Cmp::Eq, number) if fast == Fast::Code && number.fract() == 0.0 => {
                values.push(class(Some(*number as i64)).into());
            }
            _ => return None,
        }
    }
    Some(values)
}

/// The classes of codes that named outcomes can have.
fn outcomes(test: &Test) -> Option<Vec<Box<str>>> {
    let mut values: Vec<Box<str>> = Vec::new();
    for op in &test.any_of {
        let Op::Str(op) = op else { return None };
        let StrHow::Exact(text) = &op.how else { return None };
        match &*fold(text) {
            "success" => values.push("success".into()),
            "unauthenticated" => values.push("401".into()),
            "forbidden" => values.push("403".into()),
            "refused" => values.extend(["403".into(), "error".into()]),
            "error" => values.push("error".into()),
            "none" => values.extend(["none".into(), "other".into()]),
            _ => {}
        }
    }
    Some(values)
}
