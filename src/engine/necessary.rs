//! What a condition cannot hold without: the values of a dimension that the index sorts rules by.

use super::facets::Facet;
use crate::event::fold;
use crate::event::path::{Derived, Fast, Field, Part, Root};
use crate::event::view::Slot;
use crate::rules::expr::{Cmp, Expr, Op, StrHow, StrOp, Test};

/// What the index looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Dimension {
    Resource,
    Verb,
    ApiGroup,
    Subresource,
    Code,
    Stage,
    Namespace,
    Username,
    Prefix,
    AuditIdForm,
    Actor,
    ActorKind,
    Credential,
    Impersonation,
    UserGroup,
    ActorGroup,
    Annotation,
}

impl Dimension {
    /// All of them, those that narrow most for least first.
    pub const ALL: [Dimension; 17] = [
        Dimension::Resource,
        Dimension::Verb,
        Dimension::ApiGroup,
        Dimension::Subresource,
        Dimension::Code,
        Dimension::Stage,
        Dimension::Namespace,
        Dimension::Username,
        Dimension::Prefix,
        Dimension::AuditIdForm,
        Dimension::Actor,
        Dimension::ActorKind,
        Dimension::Credential,
        Dimension::Impersonation,
        Dimension::UserGroup,
        Dimension::ActorGroup,
        Dimension::Annotation,
    ];

    /// The facet of the header that the value follows from.
    pub fn facet(self) -> Facet {
        match self {
            Dimension::Resource | Dimension::Verb | Dimension::ApiGroup | Dimension::Subresource => Facet::Deed,
            Dimension::Code | Dimension::Stage | Dimension::AuditIdForm => Facet::Deed,
            Dimension::Prefix | Dimension::Username | Dimension::Actor | Dimension::ActorKind => Facet::Actor,
            Dimension::Impersonation | Dimension::UserGroup | Dimension::ActorGroup => Facet::Actor,
            Dimension::Credential => Facet::Actor,
            Dimension::Namespace => Facet::Place,
            Dimension::Annotation => Facet::Annotations,
        }
    }

    /// Whether an event has many values of it.
    pub fn is_many(self) -> bool {
        matches!(self, Dimension::UserGroup | Dimension::ActorGroup | Dimension::Annotation)
    }
}

/// What the names of Kubernetes' own users start with.
pub const SYSTEM: &str = "system:";

/// Stands for a field that is absent or null. No value of an event folds to it, since NUL never folds to a letter and a
/// value of this very text only makes more candidates.
pub const ABSENT: &str = "\0absent";

/// Status codes by what rules ask of them.
pub fn class(code: Option<i64>) -> &'static str {
    match code {
        None => "none",
        Some(101 | 200..=299) => "success",
        Some(401) => "401",
        Some(403) => "403",
        Some(code) if code >= 400 => "error",
        Some(_) => "other",
    }
}

/// Per dimension the values without which a condition cannot hold; `None` if it may hold with any.
#[derive(Debug)]
pub struct Needs([Option<Vec<Box<str>>>; Dimension::ALL.len()]);

impl Needs {
    /// What the condition needs.
    pub fn of(condition: &Expr) -> Needs {
        match condition {
            Expr::Const(false) => Needs::nothing_will_do(),
            Expr::Not(part) => {
                let mut needs = Needs::none();
                if let Expr::Test(test) = &**part
                    && prefixes(test).is_some_and(|all| all.contains(&SYSTEM))
                {
                    needs.0[Dimension::Prefix as usize] = Some(vec!["".into()]);
                }
                needs
            }
            Expr::Const(true) | Expr::Each(_) => Needs::none(),
            Expr::And(parts) => parts.iter().fold(Needs::none(), |needs, part| needs.with(Needs::of(part), sharper)),
            Expr::Or(parts) => {
                let of_any = |needs: Needs, part| needs.with(Needs::of(part), either);
                let mut needs = parts.iter().fold(Needs::nothing_will_do(), of_any);
                for values in needs.0.iter_mut().flatten() {
                    values.sort();
                    values.dedup();
                }
                needs
            }
            // A placeholder whose list is empty: the rule waits for its site.
            Expr::Test(test) if test.is_never() => Needs::nothing_will_do(),
            Expr::Test(test) => Needs::of_test(test),
        }
    }

    /// The values of the dimension without which the condition cannot hold; `None` if it may hold with any.
    pub fn get(&self, dimension: Dimension) -> Option<&[Box<str>]> {
        self.0[dimension as usize].as_deref()
    }

    fn none() -> Needs {
        Needs([const { None }; Dimension::ALL.len()])
    }

    /// Of what never holds.
    fn nothing_will_do() -> Needs {
        Needs([const { Some(Vec::new()) }; Dimension::ALL.len()])
    }

    fn with(mut self, more: Needs, join: impl Fn(Values, Values) -> Values) -> Needs {
        for (mine, theirs) in self.0.iter_mut().zip(more.0) {
            *mine = join(mine.take(), theirs);
        }
        self
    }

    fn of_test(test: &Test) -> Needs {
        let mut needs = Needs::none();
        let Some(name) = test.field.as_ref() else { return needs };
        // Most tests are of bodies, and no dimension is.
        if ["requestObject", "responseObject", "k8s.object", "k8s.podSpec", "k8s.containers"]
            .iter()
            .any(|body| name.starts_with(body))
        {
            return needs;
        }
        let field = Field::parse(name);
        for dimension in Dimension::ALL {
            needs.0[dimension as usize] = named(test, &field, dimension);
        }
        needs
    }
}

/// What is needed of one dimension.
type Values = Option<Vec<Box<str>>>;

/// Of two that are both needed: the shorter list is the sharper one.
fn sharper(one: Values, other: Values) -> Values {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.len() < one.len() { other } else { one }),
        (one, other) => one.or(other),
    }
}

/// Of two of which one is needed.
fn either(one: Values, other: Values) -> Values {
    let (mut all, other) = (one?, other?);
    all.extend(other);
    Some(all)
}

/// The values that a test names, if it is one of equality on the dimension's field.
fn named(test: &Test, field: &Field, dimension: Dimension) -> Values {
    let derived = |wanted| (field.root == Root::Derived(wanted) && field.path.0.is_empty()).then_some(());
    match dimension {
        Dimension::Code if field.root == Root::Derived(Derived::Outcome) => outcomes(test),
        Dimension::Code => (field.root == Root::Fast(Fast::Code)).then(|| codes(test)).flatten(),
        Dimension::Annotation => annotation(test, field),
        Dimension::Prefix => {
            let system = prefixes(test)?.iter().all(|prefix| prefix.starts_with(SYSTEM));
            system.then(|| vec![SYSTEM.into()])
        }
        Dimension::Impersonation => {
            (field.root == Root::Slot(Slot::ImpersonatedUser) && needs_value(test)).then(|| vec!["yes".into()])
        }
        Dimension::Credential => derived(Derived::CredentialId).and_then(|()| credential(test)),
        Dimension::ActorGroup => derived(Derived::ActorGroups).and_then(|()| exact(test, false)),
        Dimension::UserGroup => {
            (field.root == Root::Slot(Slot::User) && is_run(field, "groups")).then(|| exact(test, false)).flatten()
        }
        Dimension::Actor => derived(Derived::ActorUsername).and_then(|()| exact(test, true)),
        Dimension::AuditIdForm => derived(Derived::AuditIdIsUuid).and_then(|()| truth(test)),
        Dimension::ActorKind => derived(Derived::ActorKind).and_then(|()| exact(test, true)),
        Dimension::Stage => (field.root == Root::Slot(Slot::Stage)).then(|| exact(test, true)).flatten(),
        Dimension::Resource
        | Dimension::Verb
        | Dimension::ApiGroup
        | Dimension::Subresource
        | Dimension::Namespace
        | Dimension::Username => {
            let fast = match dimension {
                Dimension::Resource => Fast::Resource,
                Dimension::Verb => Fast::Verb,
                Dimension::ApiGroup => Fast::ApiGroup,
                Dimension::Subresource => Fast::Subresource,
                Dimension::Namespace => Fast::Namespace,
                _ => Fast::Username,
            };
            (field.root == Root::Fast(fast)).then(|| exact(test, true)).flatten()
        }
    }
}

fn is_run(field: &Field, name: &str) -> bool {
    matches!(&*field.path.0, [Part::Run(run)] if &**run == name)
}

/// The spellings of booleans.
fn truth(test: &Test) -> Option<Vec<Box<str>>> {
    let name = |op: &Op| match op {
        Op::Bool(value) => Some(if *value { "true".into() } else { "false".into() }),
        _ => None,
    };
    test.any_of.iter().map(name).collect()
}

/// What the usernames start with that a test of the authenticated user names.
fn prefixes(test: &Test) -> Option<Vec<&str>> {
    if test.field.as_deref() != Some("user.username") {
        return None;
    }
    fn prefix(op: &Op) -> Option<&str> {
        match op {
            Op::Str(StrOp { how: StrHow::Exact(text) | StrHow::Prefix(text), cased: false }) => Some(text),
            _ => None,
        }
    }
    test.any_of.iter().map(prefix).collect()
}

/// Whole values, and absence where the dimension knows it.
fn exact(test: &Test, absence: bool) -> Option<Vec<Box<str>>> {
    let mut values = Vec::new();
    for op in &test.any_of {
        match op {
            Op::Never => {}
            Op::Str(op) => match &op.how {
                StrHow::Exact(text) => values.push(fold(text).into()),
                _ => return None,
            },
            Op::Null | Op::Exists(false) if absence => values.push(ABSENT.into()),
            _ => return None,
        }
    }
    Some(values)
}

fn codes(test: &Test) -> Option<Vec<Box<str>>> {
    let mut values: Vec<Box<str>> = Vec::new();
    for op in &test.any_of {
        match op {
            Op::Never => {}
            Op::Num(Cmp::Eq, number) if number.fract() == 0.0 => values.push(class(Some(*number as i64)).into()),
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

/// The kinds of credentials, by the text before the `=`.
fn credential(test: &Test) -> Option<Vec<Box<str>>> {
    let mut values: Vec<Box<str>> = Vec::new();
    for op in &test.any_of {
        let Op::Str(op) = op else { return None };
        let (StrHow::Exact(text) | StrHow::Prefix(text)) = &op.how else { return None };
        values.push(fold(text.split_once('=')?.0).into());
    }
    Some(values)
}

/// The annotation's key, if the test needs it to be there.
fn annotation(test: &Test, field: &Field) -> Option<Vec<Box<str>>> {
    let (Root::Slot(Slot::Annotations), [Part::Run(key) | Part::Key(key)]) = (field.root, &*field.path.0) else {
        return None;
    };
    needs_value(test).then(|| vec![fold(key).into()])
}

/// Whether the test cannot hold for an absent field.
fn needs_value(test: &Test) -> bool {
    !test.any_of.iter().any(|op| matches!(op, Op::Null | Op::Exists(false)))
}
