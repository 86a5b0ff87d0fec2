//! Alternatives that facets rule out one by one.
//!
//! A rule often lists what an attack may look like, each time with a verb, a resource or a client of its own. Such a part
//! is settled by no facet, but most of its alternatives are: only what is left of them has to be judged.
//!
//! Invariant: an alternative that is out does not hold, whatever the rest of the event says.

use super::condition::{Condition, Doubt, Verdict, any_of};
use super::facets::Facet;
use super::index::{has, set};
use crate::event::view::Event;

/// The alternatives of parts of conditions, numbered behind the parts themselves.
#[derive(Debug)]
pub struct Branches {
    /// Per part: the number of its first alternative.
    first: Vec<Option<u32>>,
    /// How many parts and alternatives there are.
    all: usize,
}

impl Branches {
    /// Of these parts: those that several things decide, a facet among them.
    pub fn new(parts: &[Condition]) -> Branches {
        let mut all = parts.len();
        let first = parts.iter().map(|part| {
            let some_rule_out = Facet::ALL.iter().any(|facet| part.concerns(*facet));
            let one_settles = Facet::ALL.iter().any(|facet| part.is_of(*facet));
            let first = all as u32;
            match part {
                Condition::Or(branches) if some_rule_out && !one_settles => all += branches.len(),
                _ => return None,
            }
            Some(first)
        });
        Branches { first: first.collect(), all }
    }

    /// Whether some of the part's alternatives may be out.
    pub fn concern(&self, part: usize) -> bool {
        self.first[part].is_some()
    }

    /// How many words a bitset over parts and alternatives has.
    pub fn words(&self) -> usize {
        self.all.div_ceil(64)
    }

    /// The part's verdict as far as it follows from the facet; notes the alternatives that are out.
    pub fn settle(
        &self,
        number: usize,
        part: &Condition,
        event: &Event<'_>,
        facet: Facet,
        settled: &mut [u64],
    ) -> Verdict {
        let (Some(first), Condition::Or(branches)) = (self.first[number], part) else {
            return part.settle(event, facet);
        };
        let mut verdict = Verdict::False;
        for (branch, place) in branches.iter().zip(first as usize..) {
            match branch.settle(event, facet) {
                Verdict::True => return Verdict::True,
                Verdict::Unknown => verdict = Verdict::Unknown,
                Verdict::False => set(settled, place),
            }
        }
        verdict
    }

    /// The part's verdict on an event, of which facets have settled this.
    pub fn judge(&self, number: usize, part: &Condition, event: &Event<'_>, settled: &[u64], doubt: &Doubt) -> Verdict {
        let (Some(first), Condition::Or(branches)) = (self.first[number], part) else {
            return part.judge(event, doubt);
        };
        let left = branches.iter().zip(first as usize..).filter(|(_, place)| !has(settled, *place));
        any_of(left.map(|(branch, _)| branch), event, None, doubt)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::event::walk::testing::with_event;
    use crate::rules::expr::{Expr, Op, StrHow, StrOp, Test};

    const FIELDS: [&str; 8] = [
        "verb",
        "objectRef.resource",
        "user.username",
        "k8s.userAgent.product",
        "objectRef.namespace",
        "requestObject.a",
        "responseObject.a",
        "annotations.a",
    ];

    fn test() -> impl Strategy<Value = Expr> {
        let op = select(vec![
            Op::Str(StrOp { how: StrHow::Exact("x".into()), cased: false }),
            Op::Str(StrOp { how: StrHow::Exact("patch".into()), cased: false }),
            Op::Exists(true),
            Op::Null,
        ]);
        (select(&FIELDS[..]), op).prop_map(|(field, op)| {
            Expr::Test(Test { field: Some(field.into()), any_of: vec![op], span: Default::default() })
        })
    }

    fn condition() -> impl Strategy<Value = Expr> {
        test().prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                inner.clone().prop_map(|part| Expr::Not(part.into())),
                prop::collection::vec(inner.clone(), 1..4).prop_map(Expr::And),
                prop::collection::vec(inner, 1..4).prop_map(Expr::Or),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

        /// Without the alternatives that facets rule out, a part says the same, for the same reason.
        #[test]
        fn what_is_left_decides(
            branches in prop::collection::vec(condition(), 2..5),
            verb in select(&["x", "get", "patch"][..]),
            texts in prop::collection::vec(select(&["x", "y", ""][..]), 4),
            level in select(&["Metadata", "Request", "RequestResponse"][..]),
            bodies in select(&["", r#","requestObject":{"a":"x"}"#, r#","requestObject":{},"responseObject":{"a":"y"}"#][..]),
        ) {
            let part = Condition::compile(&Expr::Or(branches.clone())).unwrap();
            let of_all = Branches::new(std::slice::from_ref(&part));
            let json = format!(
                r#"{{"level":"{level}","verb":"{verb}","user":{{"username":"{}"}},"userAgent":"{}/1","objectRef":{{"resource":"{}","namespace":"{}"}}{bodies},"annotations":{{"a":"x"}}}}"#,
                texts[0], texts[1], texts[2], texts[3]
            );
            with_event(&json, |event| {
                let (whole, left) = (Doubt::default(), Doubt::default());
                let expected = part.judge(event, &whole);
                let mut settled = vec![0; of_all.words()];
                for facet in Facet::ALL {
                    let verdict = of_all.settle(0, &part, event, facet, &mut settled);
                    assert!(verdict == Verdict::Unknown || verdict == expected, "{branches:?} {json}");
                    assert_eq!(verdict, part.settle(event, facet), "{branches:?} {json}");
                }
                let judged = of_all.judge(0, &part, event, &settled, &left);
                assert_eq!((judged, left.get()), (expected, whole.get()), "{branches:?} {json}");
            });
        }
    }

    #[test]
    fn only_what_a_facet_rules_out_in_part_is_numbered() {
        let is = |field: &str| {
            let any_of = vec![Op::Str(StrOp { how: StrHow::Exact("x".into()), cased: false })];
            Expr::Test(Test { field: Some(field.into()), any_of, span: Default::default() })
        };
        let or = |fields: &[&str]| Expr::Or(fields.iter().map(|field| is(field)).collect());
        for (expr, numbered) in [
            (or(&["verb", "requestObject.a"]), true),
            (or(&["verb", "user.username"]), true),
            (or(&["verb", "objectRef.resource"]), false),
            (or(&["requestObject.a", "requestObject.b"]), false),
            (is("verb"), false),
        ] {
            let part = Condition::compile(&expr).unwrap();
            assert_eq!(Branches::new(&[part]).first[0].is_some(), numbered, "{expr:?}");
        }
    }
}
