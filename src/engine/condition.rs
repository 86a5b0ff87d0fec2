//! Compiled conditions and their evaluation: [`Expr`] with fields resolved, comparisons prepared, cheap tests first.

use std::ops::ControlFlow;

use chrono::{DateTime, Datelike, Timelike};

use super::block::Block;
use super::facets::Facet;
use super::keywords::Keywords;
use super::lookup::{Scope, look_up, scalar_text, sole_text};
use super::networks::Networks;
use super::patterns::Patterns;
use super::text::{Texts, folded};
use crate::event::path::{Derived, Fast, Field, Root};
use crate::event::view::Event;
use crate::event::walk::{Missing, Node};
use crate::rules::expr::{Cmp, Expr, FieldRefHow, FieldRefOp, Op, Test, TimePart};

/// Ranks negated parts behind all others.
const NEGATED: u32 = 1_000_000;

/// The verdict of a condition on one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It does not hold.
    False,
    /// It holds.
    True,
    /// It cannot be told.
    Unknown,
}

impl Verdict {
    fn of(holds: bool) -> Verdict {
        if holds { Verdict::True } else { Verdict::False }
    }

    pub(super) fn not(self) -> Verdict {
        match self {
            Verdict::False => Verdict::True,
            Verdict::True => Verdict::False,
            Verdict::Unknown => Verdict::Unknown,
        }
    }
}

/// Why verdicts of one event were unknown.
pub type Doubt = std::cell::Cell<Missing>;

/// A compiled condition.
#[derive(Debug)]
pub enum Condition {
    /// Always true or always false.
    Const(bool),
    /// All parts, cheap ones first.
    And(Box<[Condition]>),
    /// Any part, cheap ones first.
    Or(Box<[Condition]>),
    /// The opposite.
    Not(Box<Condition>),
    /// A test of one field.
    Test(Box<Check>),
    /// An array block.
    Each(Box<Block>),
}

/// A compiled test. What few tests have is kept apart: a test is looked at in many places of memory or in few.
#[derive(Debug)]
pub struct Check {
    pub(super) field: Field,
    /// The facet that its verdict follows from.
    pub(super) facet: Option<Facet>,
    texts: Texts,
    rare: Option<Box<Rare>>,
    /// Holds if the field is there.
    present: bool,
    /// Holds if the field is absent.
    absent: bool,
    /// Whether it asks more of a field than to be there.
    compares: bool,
    /// Whether numbers are all it compares with.
    only_numbers: bool,
}

/// What few tests compare with.
#[derive(Debug, Default)]
struct Rare {
    /// For tests of any text of the event.
    keywords: Option<Keywords>,
    numbers: Vec<(Cmp, f64)>,
    bools: Vec<bool>,
    patterns: Patterns,
    networks: Networks,
    references: Vec<(Field, FieldRefOp)>,
    times: Vec<(TimePart, Cmp, i64)>,
}

impl Condition {
    /// Compiles an expression.
    ///
    /// # Errors
    /// A regular expression that is not one, or is too large.
    pub fn compile(expr: &Expr) -> Result<Condition, regex::Error> {
        Self::build(expr, false)
    }

    pub(super) fn build(expr: &Expr, in_block: bool) -> Result<Condition, regex::Error> {
        let parts = |list: &[Expr]| -> Result<Box<[Condition]>, regex::Error> {
            let mut parts: Vec<Condition> =
                list.iter().map(|part| Self::build(part, in_block)).collect::<Result<_, _>>()?;
            parts.sort_by_key(Condition::cost);
            Ok(parts.into())
        };
        Ok(match expr {
            Expr::Const(value) => Condition::Const(*value),
            Expr::And(list) => Condition::And(parts(list)?),
            Expr::Or(list) => Condition::Or(parts(list)?),
            Expr::Not(part) => match Self::build(part, in_block)? {
                Condition::Const(value) => Condition::Const(!value),
                part => Condition::Not(Box::new(part)),
            },
            // A placeholder whose list is empty: whatever the event says, it does not hold.
            Expr::Test(test) if test.is_never() => Condition::Const(false),
            Expr::Test(test) => Condition::Test(Box::new(Check::compile(test, in_block)?)),
            Expr::Each(each) => Condition::Each(Box::new(Block::compile(each, in_block)?)),
        })
    }

    /// A rank for ordering: fields at hand, then derived ones, then bodies, then everything.
    pub(super) fn cost(&self) -> u32 {
        match self {
            Condition::Const(_) => 0,
            Condition::And(parts) | Condition::Or(parts) => parts.iter().map(Condition::cost).max().unwrap_or(0) + 1,
            // What is excluded decides rarely: it comes behind whatever has to hold.
            Condition::Not(part) => NEGATED + part.cost(),
            Condition::Test(check) => check.cost(),
            Condition::Each(block) => block.cost(),
        }
    }

    /// Whether any test is of the facet.
    pub(super) fn concerns(&self, facet: Facet) -> bool {
        self.any_test(&mut |check| check.facet == Some(facet))
    }

    /// Whether all of it follows from the facet.
    pub(super) fn is_of(&self, facet: Facet) -> bool {
        self.all_tests(&mut |check| check.facet == Some(facet))
    }

    /// Whether all tests are such, and there are no array blocks.
    pub(super) fn all_tests(&self, are: &mut dyn FnMut(&Check) -> bool) -> bool {
        match self {
            Condition::Const(_) => true,
            Condition::And(parts) | Condition::Or(parts) => parts.iter().all(|part| part.all_tests(are)),
            Condition::Not(part) => part.all_tests(are),
            Condition::Test(check) => are(check),
            Condition::Each(_) => false,
        }
    }

    /// Whether any test outside of array blocks is one of these.
    pub(super) fn any_test(&self, is_one: &mut dyn FnMut(&Check) -> bool) -> bool {
        match self {
            Condition::Const(_) | Condition::Each(_) => false,
            Condition::And(parts) | Condition::Or(parts) => parts.iter().any(|part| part.any_test(is_one)),
            Condition::Not(part) => part.any_test(is_one),
            Condition::Test(check) => is_one(check),
        }
    }

    /// Whether the verdict follows from the pod's spec and from what was done.
    pub(super) fn is_of_pod(&self) -> bool {
        self.reads_no_more_than_pods() && self.reads_pods()
    }

    fn reads_no_more_than_pods(&self) -> bool {
        match self {
            Condition::Const(_) => true,
            Condition::And(parts) | Condition::Or(parts) => parts.iter().all(Condition::reads_no_more_than_pods),
            Condition::Not(part) => part.reads_no_more_than_pods(),
            Condition::Test(check) => {
                let of_member = check.field.root == Root::Member;
                check.rare.as_ref().is_none_or(|rare| rare.references.is_empty())
                    && (of_member || check.facet == Some(Facet::Deed) || check.field.is_of_pod_spec())
            }
            Condition::Each(block) => {
                let of_member = block.field.root == Root::Member;
                (of_member || block.field.is_of_pod_spec()) && block.condition.reads_no_more_than_pods()
            }
        }
    }

    fn reads_pods(&self) -> bool {
        match self {
            Condition::Const(_) => false,
            Condition::And(parts) | Condition::Or(parts) => parts.iter().any(Condition::reads_pods),
            Condition::Not(part) => part.reads_pods(),
            Condition::Test(check) => check.field.is_of_pod_spec(),
            Condition::Each(block) => block.field.is_of_pod_spec(),
        }
    }

    /// The verdict as far as it follows from the facet alone: unknown if the rest of the event has a say.
    pub(super) fn settle(&self, event: &Event<'_>, facet: Facet) -> Verdict {
        self.settle_by(&|check| match check.facet == Some(facet) {
            true => check.eval(event, None, &Doubt::default()),
            false => Verdict::Unknown,
        })
    }

    /// The verdict as far as it follows from what is known of tests.
    pub(super) fn settle_by(&self, known: &impl Fn(&Check) -> Verdict) -> Verdict {
        let all = |parts: &[Condition], decisive: Verdict| {
            let mut verdict = decisive.not();
            for part in parts {
                match part.settle_by(known) {
                    settled if settled == decisive => return decisive,
                    Verdict::Unknown => verdict = Verdict::Unknown,
                    _ => {}
                }
            }
            verdict
        };
        match self {
            Condition::Const(value) => Verdict::of(*value),
            Condition::And(parts) => all(parts, Verdict::False),
            Condition::Or(parts) => all(parts, Verdict::True),
            Condition::Not(part) => part.settle_by(known).not(),
            Condition::Test(check) => known(check),
            Condition::Each(_) => Verdict::Unknown,
        }
    }

    /// The verdict on an event.
    pub fn judge<'a>(&self, event: &Event<'a>, doubt: &Doubt) -> Verdict {
        self.eval(event, None, doubt)
    }

    pub(super) fn eval<'a>(&self, event: &Event<'a>, scope: Option<Scope<'a>>, doubt: &Doubt) -> Verdict {
        match self {
            Condition::Const(value) => Verdict::of(*value),
            Condition::And(parts) => decided(parts.iter(), Verdict::False, event, scope, doubt),
            Condition::Or(parts) => any_of(parts.iter(), event, scope, doubt),
            Condition::Not(part) => part.eval(event, scope, doubt).not(),
            Condition::Test(check) => check.eval(event, scope, doubt),
            Condition::Each(block) => block.eval(event, scope, doubt),
        }
    }
}

/// The verdict of alternatives.
pub(super) fn any_of<'a, 'c>(
    parts: impl Iterator<Item = &'c Condition>,
    event: &Event<'a>,
    scope: Option<Scope<'a>>,
    doubt: &Doubt,
) -> Verdict {
    decided(parts, Verdict::True, event, scope, doubt)
}

/// The opposite of the decisive verdict if none of the parts has it. Once it is decided no doubt remains, whatever was
/// looked at before that.
#[inline]
fn decided<'a, 'c>(
    parts: impl Iterator<Item = &'c Condition>,
    decisive: Verdict,
    event: &Event<'a>,
    scope: Option<Scope<'a>>,
    doubt: &Doubt,
) -> Verdict {
    let (before, mut verdict) = (doubt.get(), decisive.not());
    for part in parts {
        match part.eval(event, scope, doubt) {
            judged if judged == decisive => {
                doubt.set(before);
                return decisive;
            }
            Verdict::Unknown => verdict = Verdict::Unknown,
            _ => {}
        }
    }
    verdict
}

/// The rank of a look at the field.
pub(super) fn field_cost(field: &Field) -> u32 {
    match field.root {
        Root::Fast(Fast::RequestUri | Fast::UserAgent) => 2,
        Root::Fast(_) => 1,
        Root::Anything => 1000,
        _ if field.reads_body() => 100,
        Root::Member => 1,
        _ => 5,
    }
}

impl Check {
    fn compile(test: &Test, in_block: bool) -> Result<Check, regex::Error> {
        let field = match &test.field {
            None => Field::anything(),
            Some(name) if in_block => Field::of_member(name),
            Some(name) => Field::parse(name),
        };
        let mut rare = Rare {
            keywords: if test.field.is_none() { Keywords::new(&test.any_of) } else { None },
            patterns: Patterns::new(test.any_of.iter().filter_map(|op| match op {
                Op::Regex(op) => Some(op),
                _ => None,
            })),
            networks: Networks::new(test.any_of.iter().filter_map(|op| match op {
                Op::Cidr(network) => Some(*network),
                _ => None,
            })),
            ..Rare::default()
        };
        let (mut present, mut absent) = (false, false);
        for op in &test.any_of {
            match op {
                Op::Str(_) | Op::Never | Op::Cidr(_) | Op::Regex(_) => {}
                Op::Num(cmp, number) => rare.numbers.push((*cmp, *number)),
                Op::Bool(value) => rare.bools.push(*value),
                Op::FieldRef(op) => rare.references.push((Field::parse(&op.field), op.clone())),
                Op::Time(part, cmp, value) => rare.times.push((*part, *cmp, *value)),
                Op::Exists(true) => present = true,
                Op::Exists(false) | Op::Null => absent = true,
            }
        }
        let texts = Texts::new(&test.any_of);
        Ok(Check {
            facet: Facet::of_test(&field, &test.any_of),
            field,
            compares: !texts.is_empty() || rare.compares_text() || !rare.networks.is_empty(),
            texts,
            rare: (!rare.is_empty()).then(|| Box::new(rare)),
            present,
            absent,
            only_numbers: test.any_of.iter().all(|op| matches!(op, Op::Num(..))),
        })
    }

    fn cost(&self) -> u32 {
        let has_patterns = self.rare.as_ref().is_some_and(|rare| !rare.patterns.is_empty());
        field_cost(&self.field) + if has_patterns { 3 } else { 0 }
    }

    /// Whether it holds if the field is absent.
    pub(super) fn holds_for_nothing(&self) -> bool {
        self.absent
    }

    /// Whether it asks for the client's address, and for the networks that it is in, if for anything of it.
    pub(super) fn is_of_client(&self) -> bool {
        let of_client = self.field.root == Root::Derived(Derived::ClientIp) && self.field.path.0.is_empty();
        of_client && self.texts.is_empty() && self.rare.as_ref().is_none_or(|rare| !rare.compares_text())
    }

    /// The networks that it asks for.
    pub(super) fn networks(&self) -> Option<&Networks> {
        self.rare.as_ref().map(|rare| &rare.networks)
    }

    /// The verdict on this address of the client, for such a test.
    pub(super) fn eval_address(&self, address: Option<&str>) -> Verdict {
        Verdict::of(match address {
            Some(text) => self.present || self.networks().is_some_and(|networks| networks.hold(text)),
            None => self.absent,
        })
    }

    /// The verdict on a field whose text is at hand: no walk, and no doubt.
    fn eval_text(&self, event: &Event<'_>, text: Option<&str>) -> Verdict {
        Verdict::of(match text {
            Some(text) => self.present || self.holds_text(event, text),
            None => self.absent,
        })
    }

    fn eval<'a>(&self, event: &Event<'a>, scope: Option<Scope<'a>>, doubt: &Doubt) -> Verdict {
        if self.only_numbers && self.field.root == Root::Fast(Fast::Code) {
            let numbers = self.rare.as_ref().map_or(&[][..], |rare| &rare.numbers);
            let holds = |code: i64| numbers.iter().any(|(cmp, value)| cmp.holds(&(code as f64), value));
            return Verdict::of(event.code().is_some_and(holds));
        }
        if let Some(text) = sole_text(&self.field, event) {
            return self.eval_text(event, text);
        }
        if let Some(words) = self.rare.as_ref().and_then(|rare| rare.keywords.as_ref())
            && let Some(holds) = words.any_text(event, |text| self.holds(event, text))
        {
            return Verdict::of(holds);
        }
        let (mut found, mut hit) = (false, false);
        let missing = look_up(&self.field, event, scope, &mut |node| {
            if event.is_null(node) {
                return ControlFlow::Continue(());
            }
            found = true;
            hit |= self.present;
            if self.compares && !hit {
                let _ = event.scalars(node, &mut |scalar| {
                    hit |= self.holds(event, scalar);
                    if hit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                });
            }
            if hit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if hit {
            return Verdict::True;
        }
        if missing.any() {
            doubt.set(doubt.get().or(missing));
            return Verdict::Unknown;
        }
        Verdict::of(self.absent && !found)
    }

    fn holds<'a>(&self, event: &Event<'a>, node: Node<'a>) -> bool {
        scalar_text(event, node).is_some_and(|text| self.holds_text(event, text))
    }

    fn holds_text(&self, event: &Event<'_>, text: &str) -> bool {
        self.texts.hold(text, event.arena()) || self.rare.as_ref().is_some_and(|rare| rare.holds(event, text))
    }
}

impl Rare {
    fn is_empty(&self) -> bool {
        !self.compares_text() && self.keywords.is_none() && self.networks.is_empty()
    }

    /// Whether it asks anything of a text but the network that it is in.
    fn compares_text(&self) -> bool {
        !self.numbers.is_empty()
            || !self.bools.is_empty()
            || !self.patterns.is_empty()
            || !self.references.is_empty()
            || !self.times.is_empty()
    }

    fn holds(&self, event: &Event<'_>, text: &str) -> bool {
        let number = || text.trim().parse::<f64>();
        (!self.numbers.is_empty()
            && number().is_ok_and(|n| self.numbers.iter().any(|(cmp, value)| cmp.holds(&n, value))))
            || self.bools.iter().any(|value| text.eq_ignore_ascii_case(if *value { "true" } else { "false" }))
            || self.patterns.is_match(text)
            || (!self.networks.is_empty() && self.networks.hold(text))
            || self.times.iter().any(|(part, cmp, value)| time_part(text, *part).is_some_and(|n| cmp.holds(&n, value)))
            || self.references.iter().any(|(field, op)| refers(event, text, field, op))
    }
}

fn time_part(text: &str, part: TimePart) -> Option<i64> {
    let time = DateTime::parse_from_rfc3339(text).ok()?.to_utc();
    Some(match part {
        TimePart::Minute => i64::from(time.minute()),
        TimePart::Hour => i64::from(time.hour()),
        TimePart::Day => i64::from(time.day()),
        TimePart::Week => i64::from(time.iso_week().week()),
        TimePart::Month => i64::from(time.month()),
        TimePart::Year => i64::from(time.year()),
    })
}

fn refers<'a>(event: &Event<'a>, text: &str, field: &Field, op: &FieldRefOp) -> bool {
    let mut hit = false;
    let _ = look_up(field, event, None, &mut |node| {
        event.scalars(node, &mut |scalar| {
            if let Some(other) = scalar_text(event, scalar) {
                hit |= relates(text, other, op, event.arena());
            }
            if hit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    });
    hit
}

fn relates(text: &str, other: &str, op: &FieldRefOp, arena: &bumpalo::Bump) -> bool {
    if let FieldRefHow::Num(cmp) = op.how {
        return matches!((text.parse::<f64>(), other.parse::<f64>()), (Ok(a), Ok(b)) if cmp.holds(&a, &b));
    }
    let (text, other) = if op.cased { (text, other) } else { (folded(text, arena), folded(other, arena)) };
    match op.how {
        FieldRefHow::Equals => text == other,
        FieldRefHow::StartsWith => text.starts_with(other),
        FieldRefHow::EndsWith => text.ends_with(other),
        FieldRefHow::Contains => text.contains(other),
        FieldRefHow::Num(_) => false,
    }
}
