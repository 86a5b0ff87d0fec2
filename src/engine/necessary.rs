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

/// Per dimension the values without which a condition cannot hold; with any value of a dimension that is not here it may.
#[derive(Debug)]
pub struct Needs(Vec<(Dimension, Values)>);

/// What is needed of one dimension.
type Values = Vec<Box<str>>;

impl Needs {
    /// What the condition needs.
    pub fn of(condition: &Expr) -> Needs {
        match condition {
            Expr::Const(false) => Needs::nothing_will_do(),
            Expr::Not(part) => match &**part {
                Expr::Test(test) if prefixes(test).is_some_and(|all| all.contains(&SYSTEM)) => {
                    Needs(vec![(Dimension::Prefix, vec!["".into()])])
                }
                _ => Needs::none(),
            },
            Expr::Const(true) | Expr::Each(_) => Needs::none(),
            Expr::And(parts) => parts.iter().map(Needs::of).fold(Needs::none(), Needs::and),
            Expr::Or(parts) => {
                let mut needs = parts.iter().map(Needs::of).reduce(Needs::or).unwrap_or_else(Needs::nothing_will_do);
                for (_, values) in &mut needs.0 {
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
        self.0.iter().find(|(of, _)| *of == dimension).map(|(_, values)| values.as_slice())
    }

    fn none() -> Needs {
        Needs(Vec::new())
    }

    /// Of what never holds.
    fn nothing_will_do() -> Needs {
        Needs(Dimension::ALL.map(|dimension| (dimension, Vec::new())).into())
    }

    /// Of two that both must hold: the shorter list is the sharper one.
    fn and(mut self, more: Needs) -> Needs {
        for (dimension, theirs) in more.0 {
            match self.0.iter_mut().find(|(of, _)| *of == dimension) {
                Some((_, mine)) if theirs.len() < mine.len() => *mine = theirs,
                Some(_) => {}
                None => self.0.push((dimension, theirs)),
            }
        }
        self
    }

    /// Of two of which one must hold.
    fn or(mut self, mut more: Needs) -> Needs {
        self.0.retain_mut(|(dimension, mine)| {
            let theirs = more.0.iter_mut().find(|(of, _)| of == dimension);
            theirs.map(|(_, theirs)| mine.append(theirs)).is_some()
        });
        self
    }

    fn of_test(test: &Test) -> Needs {
        let Some(name) = test.field.as_ref() else { return Needs::none() };
        // Most tests are of bodies, and no dimension is.
        if ["requestObject", "responseObject", "k8s.object", "k8s.podSpec", "k8s.containers"]
            .iter()
            .any(|body| name.starts_with(body))
        {
            return Needs::none();
        }
        let field = Field::parse(name);
        let mut needs = Needs(named(test, &field).into_iter().collect());
        if prefixes(test).is_some_and(|all| all.iter().all(|prefix| prefix.starts_with(SYSTEM))) {
            needs.0.push((Dimension::Prefix, vec![SYSTEM.into()]));
        }
        needs
    }
}

/// The dimension that a field is, and the values that a test of it names, if it is one of equality.
fn named(test: &Test, field: &Field) -> Option<(Dimension, Values)> {
    let whole = |dimension| Some((dimension, exact(test, true)?));
    match field.root {
        Root::Fast(Fast::Resource) => whole(Dimension::Resource),
        Root::Fast(Fast::Verb) => whole(Dimension::Verb),
        Root::Fast(Fast::ApiGroup) => whole(Dimension::ApiGroup),
        Root::Fast(Fast::Subresource) => whole(Dimension::Subresource),
        Root::Fast(Fast::Namespace) => whole(Dimension::Namespace),
        Root::Fast(Fast::Username) => whole(Dimension::Username),
        Root::Fast(Fast::Code) => Some((Dimension::Code, codes(test)?)),
        Root::Slot(Slot::Stage) => whole(Dimension::Stage),
        Root::Slot(Slot::Annotations) => Some((Dimension::Annotation, annotation(test, field)?)),
        Root::Slot(Slot::ImpersonatedUser) => needs_value(test).then(|| (Dimension::Impersonation, vec!["yes".into()])),
        Root::Slot(Slot::User) if is_run(field, "groups") => Some((Dimension::UserGroup, exact(test, false)?)),
        Root::Derived(Derived::Outcome) => Some((Dimension::Code, outcomes(test)?)),
        Root::Derived(derived) if field.path.0.is_empty() => match derived {
            Derived::ActorUsername => whole(Dimension::Actor),
            Derived::ActorKind => whole(Dimension::ActorKind),
            Derived::ActorGroups => Some((Dimension::ActorGroup, exact(test, false)?)),
            Derived::AuditIdIsUuid => Some((Dimension::AuditIdForm, truth(test)?)),
            Derived::CredentialId => Some((Dimension::Credential, credential(test)?)),
            _ => None,
        },
        _ => None,
    }
}

fn is_run(field: &Field, name: &str) -> bool {
    matches!(&*field.path.0, [Part::Run(run)] if &**run == name)
}

/// The spellings of booleans.
fn truth(test: &Test) -> Option<Values> {
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
fn exact(test: &Test, absence: bool) -> Option<Values> {
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

fn codes(test: &Test) -> Option<Values> {
    let mut values = Values::new();
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
fn outcomes(test: &Test) -> Option<Values> {
    let mut values = Values::new();
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
fn credential(test: &Test) -> Option<Values> {
    let mut values = Values::new();
    for op in &test.any_of {
        let Op::Str(op) = op else { return None };
        let (StrHow::Exact(text) | StrHow::Prefix(text)) = &op.how else { return None };
        values.push(fold(text.split_once('=')?.0).into());
    }
    Some(values)
}

/// The annotation's key, if the test needs it to be there.
fn annotation(test: &Test, field: &Field) -> Option<Values> {
    let [Part::Run(key) | Part::Key(key)] = &*field.path.0 else { return None };
    needs_value(test).then(|| vec![fold(key).into()])
}

/// Whether the test cannot hold for an absent field.
fn needs_value(test: &Test) -> bool {
    !test.any_of.iter().any(|op| matches!(op, Op::Null | Op::Exists(false)))
}
