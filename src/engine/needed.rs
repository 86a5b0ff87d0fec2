//! The keys without which a condition on a pod cannot hold.
//!
//! Rules ask a pod for some hundred things that few pods have. Which keys there are is found once, and rules out most of what
//! is asked without a look at any of it.
//!
//! Invariant: a condition whose keys are not there does not hold, and nothing is in doubt, if nothing of the pod is missing.

use super::condition::{Check, Condition};
use crate::event::keys::{Asked, KeySet};
use crate::event::path::Root;

/// Most paths of one condition that are told apart.
const PATHS_MAX: usize = 64;

/// Paths, one of which a pod must have; `None`: the condition may hold for any pod.
#[derive(Debug, Clone, Default)]
pub struct Needed(Option<Box<[Asked]>>);

impl Needed {
    /// Of a condition that reads pods and what is done to them.
    pub fn of(condition: &Condition) -> Needed {
        Needed(paths(condition).map(Into::into))
    }

    /// Whether the condition may hold for a pod with these keys.
    pub fn may_hold(&self, keys: &KeySet) -> bool {
        self.0.as_ref().is_none_or(|paths| paths.iter().any(|path| keys.may_hold(path)))
    }
}

fn paths(condition: &Condition) -> Option<Vec<Asked>> {
    match condition {
        Condition::Const(false) => Some(Vec::new()),
        Condition::Const(true) | Condition::Not(_) => None,
        Condition::And(parts) => parts.iter().filter_map(paths).reduce(both),
        Condition::Or(parts) => {
            let mut all = Vec::new();
            for part in parts {
                all.extend(paths(part)?);
            }
            Some(all)
        }
        Condition::Test(check) => is_of_pod(check).then(|| vec![check.field.asked.clone()]),
        Condition::Each(block) if block.wants_a_member() => {
            let members = vec![block.field.asked.clone()];
            Some(match paths(&block.condition) {
                Some(inside) => both(members, inside),
                None => members,
            })
        }
        Condition::Each(_) => None,
    }
}

/// Whether the test holds only for what stands in the pod.
fn is_of_pod(check: &Check) -> bool {
    !check.holds_for_nothing() && (check.field.root == Root::Member || check.field.is_of_pod_spec())
}

/// One path of each.
fn both(one: Vec<Asked>, other: Vec<Asked>) -> Vec<Asked> {
    if one.len() * other.len() <= PATHS_MAX {
        return one.iter().flat_map(|one| other.iter().map(move |other| one.and(other))).collect();
    }
    // Either is needed by itself.
    if one.len() < other.len() { one } else { other }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::engine::condition::{Doubt, Verdict};
    use crate::event::walk::Missing;
    use crate::event::walk::testing::with_event;
    use crate::rules::expr::{Each, Expr, Op, Quantifier, StrHow, StrOp, Test};

    fn condition(fields: &'static [&'static str], depth: u32) -> BoxedStrategy<Expr> {
        let op = select(vec![
            Op::Str(StrOp { how: StrHow::Exact("x".into()), cased: false }),
            Op::Exists(true),
            Op::Exists(false),
            Op::Null,
        ]);
        let test = (select(fields), op).prop_map(|(field, op)| {
            Expr::Test(Test { field: Some(field.into()), any_of: vec![op], span: Default::default() })
        });
        let leaf = match depth {
            0 => test.boxed(),
            _ => {
                let quantifier = select(vec![Quantifier::Any, Quantifier::All, Quantifier::None]);
                let inside = condition(&["", "a", "b.c", "a.b"], depth - 1);
                let field = select(&["k8s.containers", "k8s.podSpec.a", "k8s.podSpec.a.b"][..]);
                let each = (field, quantifier, inside).prop_map(|(field, quantifier, inside)| {
                    Expr::Each(Each {
                        field: field.into(),
                        quantifier,
                        condition: Box::new(inside),
                        span: Default::default(),
                    })
                });
                prop_oneof![3 => test, 1 => each].boxed()
            }
        };
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                inner.clone().prop_map(|part| Expr::Not(part.into())),
                prop::collection::vec(inner.clone(), 1..4).prop_map(Expr::And),
                prop::collection::vec(inner, 1..4).prop_map(Expr::Or),
            ]
        })
        .boxed()
    }

    const FIELDS: [&str; 7] = [
        "verb",
        "k8s.podSpec",
        "k8s.podSpec.a",
        "k8s.podSpec.a.b",
        "k8s.podSpec.b.c",
        "k8s.containers.a",
        "k8s.containers.b.c",
    ];

    fn spec() -> impl Strategy<Value = String> {
        let leaf = select(&["1", "\"x\"", "null", "[]", "{}", "[\"x\",\"y\"]"][..]).prop_map(str::to_owned);
        let json = leaf.prop_recursive(3, 12, 3, |inner| {
            let member = (select(&["a", "b", "c", "b.c"][..]), inner.clone());
            let object = prop::collection::vec(member, 0..3).prop_map(|members| {
                let members: Vec<String> = members.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                format!("{{{}}}", members.join(","))
            });
            let array = prop::collection::vec(inner, 0..3).prop_map(|members| format!("[{}]", members.join(",")));
            prop_oneof![object, array]
        });
        (json.clone(), json).prop_map(|(one, other)| format!(r#"{{"a":{one},"containers":[{other}]}}"#))
    }

    proptest! {
        #[test]
        fn what_is_ruled_out_does_not_hold(expr in condition(&FIELDS, 1), spec in spec(), with_pod in any::<bool>()) {
            let condition = Condition::compile(&expr).unwrap();
            let resource = if with_pod { "pods" } else { "secrets" };
            let event = format!(
                r#"{{"level":"Request","verb":"create","objectRef":{{"resource":"{resource}"}},"requestObject":{{"spec":{spec}}}}}"#
            );
            let (ruled_out, judged) = with_event(&event, |event| {
                let ruled_out = event.pod_keys().is_some_and(|keys| !Needed::of(&condition).may_hold(keys));
                let doubt = Doubt::default();
                (ruled_out, (condition.judge(event, &doubt), doubt.get()))
            });
            if ruled_out {
                prop_assert_eq!(judged, (Verdict::False, Missing::default()), "{} {:?}", spec, expr);
            }
        }
    }
}
