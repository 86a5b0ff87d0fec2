//! What parts of conditions say of events whose bodies were not logged.
//!
//! Half of the events of a usual log come without a body, for that is what level Metadata means. Of such an event a part that
//! reads nothing but bodies says what it says of all that did the same. So [`Facet::Deed`] takes in which bodies were not
//! logged, and what rules say for that alone is worked out once per deed: they are out, or they cannot be told.
//!
//! Invariant: a rule that is said to be unknown here is what it would be judged to be, and for the same reason.

use hashbrown::HashMap;

use super::condition::{Condition, Doubt, Verdict};
use super::facets::Facet;
use super::index::{Bits, has, set, unset};
use super::needles::{Found, Needles};
use crate::event::path::{Derived, Root};
use crate::event::view::{Event, Slot};

/// A set of bodies: one bit each.
type Set = u8;

const REQUEST: Set = 1;
const RESPONSE: Set = 2;

/// The parts of conditions that read nothing but bodies and the deed.
#[derive(Debug)]
pub struct Bodies {
    parts: Vec<OfBodies>,
    /// The rules that are judged at every stage, so on events that others are not counted on.
    stage_rules: Bits,
}

#[derive(Debug)]
struct OfBodies {
    part: u32,
    reads: Set,
    rules: Box<[u32]>,
}

/// Which bodies were not logged, as it follows from the level and from what was done.
fn not_logged(event: &Event<'_>) -> Set {
    let (request, response) = event.of_header(|| event.dropped_by_level());
    Set::from(request) * REQUEST + Set::from(response) * RESPONSE
}

impl Bodies {
    /// Of these parts, with the rules that each is a part of; `stage_rules` are judged at every stage.
    pub fn new(parts: &[Condition], rules_of: &[Vec<u32>], stage_rules: &Bits) -> Bodies {
        let of_bodies = (0u32..).zip(parts).zip(rules_of).filter_map(|((part, condition), rules)| {
            let reads = read_by(condition).filter(|reads| *reads != 0)?;
            Some(OfBodies { part, reads, rules: rules.as_slice().into() })
        });
        Bodies { parts: of_bodies.collect(), stage_rules: stage_rules.clone() }
    }

    /// Settles what follows from the bodies that were not logged: takes rules that are out from `left`, notes parts
    /// that hold in `settled`, and moves rules that are unknown, whatever else the event says, from `left` to a set of
    /// `unknown`, whose number it returns. `parts_of` are the parts of each rule.
    pub fn settle(
        &self,
        event: &Event<'_>,
        (parts, parts_of): (&[Condition], &[Box<[u32]>]),
        (needles, number, found): (&Needles, u64, &mut Found),
        (left, settled): (&mut [u64], &mut [u64]),
        unknown: &mut Unknown,
    ) -> u32 {
        let dropped = not_logged(event);
        if dropped == 0 {
            return Unknown::NONE;
        }
        let (mut in_doubt, mut unknown_parts) = (Vec::new(), vec![0; parts.len().div_ceil(64)]);
        for part in self.parts.iter().filter(|part| part.reads & !dropped == 0) {
            if !part.rules.iter().any(|rule| has(left, *rule as usize)) {
                continue;
            }
            let place = part.part as usize;
            let ruled_out = needles.rule_out(place, event, number, found, left);
            let (verdict, missing) = ruled_out.unwrap_or_else(|| {
                let doubt = Doubt::default();
                (parts[place].judge(event, &doubt), doubt.get())
            });
            match verdict {
                Verdict::False => part.rules.iter().for_each(|rule| unset(left, *rule as usize)),
                Verdict::True => set(settled, place),
                Verdict::Unknown if missing.dropped && !missing.malformed => {
                    set(&mut unknown_parts, place);
                    in_doubt.push(part);
                }
                Verdict::Unknown => {}
            }
        }
        let is_known = |part: &u32| has(settled, *part as usize) || has(&unknown_parts, *part as usize);
        let is_unknown = |rule: &u32| {
            let place = *rule as usize;
            has(left, place) && !has(&self.stage_rules, place) && parts_of[place].iter().all(is_known)
        };
        let mut rules: Vec<u32> = in_doubt.iter().flat_map(|part| &part.rules).copied().filter(is_unknown).collect();
        rules.sort_unstable();
        rules.dedup();
        let Some(number) = unknown.number_of(&rules) else { return Unknown::NONE };
        rules.iter().for_each(|rule| unset(left, *rule as usize));
        number
    }
}

/// How many rules the sets of [`Unknown`] have together.
const UNKNOWN_MAX: usize = 1 << 18;

/// Sets of rules that deeds leave unknown, and how often each did: most events without a body do, and to count a rule of
/// hundreds each time costs more than all else.
#[derive(Debug, Default)]
pub struct Unknown {
    numbers: HashMap<Box<[u32]>, u32>,
    sets: Vec<(Box<[u32]>, u64)>,
    /// How many rules they have together.
    rules: usize,
}

impl Unknown {
    /// The number of the empty set.
    const NONE: u32 = 0;

    /// The number of a set; `None` if there is no room for it: then its rules have to be judged.
    fn number_of(&mut self, rules: &[u32]) -> Option<u32> {
        if rules.is_empty() {
            return Some(Unknown::NONE);
        }
        if let Some(number) = self.numbers.get(rules) {
            return Some(*number);
        }
        if self.rules + rules.len() > UNKNOWN_MAX {
            return None;
        }
        self.rules += rules.len();
        self.sets.push((rules.into(), 0));
        let number = self.sets.len() as u32;
        self.numbers.insert(rules.into(), number);
        Some(number)
    }

    /// One more event leaves this set unknown.
    #[inline]
    pub fn count(&mut self, number: u32) {
        if let Some((_, events)) = (number as usize).checked_sub(1).and_then(|place| self.sets.get_mut(place)) {
            *events += 1;
        }
    }

    /// Adds what was counted to the rules' own counts, and begins anew.
    pub fn tell(&mut self, of_rule: &mut [u64]) {
        for (rules, events) in self.sets.iter_mut().filter(|(_, events)| *events > 0) {
            rules.iter().for_each(|rule| of_rule[*rule as usize] += *events);
            *events = 0;
        }
    }
}

/// The bodies that a condition reads, if it reads nothing else but the deed.
fn read_by(condition: &Condition) -> Option<Set> {
    match condition {
        Condition::Const(_) => Some(0),
        Condition::And(parts) | Condition::Or(parts) => {
            parts.iter().try_fold(0, |reads, part| Some(reads | read_by(part)?))
        }
        Condition::Not(part) => read_by(part),
        Condition::Test(check) if check.facet == Some(Facet::Deed) => Some(0),
        Condition::Test(check) => read_at(check.field.root),
        // Without members nothing else is asked.
        Condition::Each(block) => read_at(block.field.root),
    }
}

/// The bodies that a look at such a field reads, if it reads nothing else but the deed.
fn read_at(root: Root) -> Option<Set> {
    Some(match root {
        Root::Slot(Slot::RequestObject) => REQUEST,
        Root::Slot(Slot::ResponseObject) => RESPONSE,
        Root::Derived(
            Derived::Object
            | Derived::PodSpec
            | Derived::Containers
            | Derived::PodAnnotations
            | Derived::GrantedSubjects,
        ) => REQUEST | RESPONSE,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::event::walk::testing::with_event;
    use crate::rules::expr::{Each, Expr, Op, Quantifier, StrHow, StrOp, Test};

    const FIELDS: [&str; 9] = [
        "verb",
        "objectRef.resource",
        "user.username",
        "requestObject.a",
        "requestObject.spec.a",
        "responseObject.a",
        "k8s.object.spec.a",
        "k8s.podSpec.a",
        "k8s.objectName",
    ];

    fn condition() -> impl Strategy<Value = Expr> {
        let text = |text: &str| Op::Str(StrOp { how: StrHow::Exact(text.into()), cased: false });
        let op = select(vec![text("x"), text("patch"), Op::Exists(true), Op::Null, Op::Exists(false)]);
        let test = (select(&FIELDS[..]), op).prop_map(|(field, op)| {
            Expr::Test(Test { field: Some(field.into()), any_of: vec![op], span: Default::default() })
        });
        test.prop_recursive(3, 8, 3, |inner| {
            let quantifier = select(vec![Quantifier::Any, Quantifier::All, Quantifier::None]);
            let field = select(vec!["k8s.containers", "requestObject.list"]);
            prop_oneof![
                inner.clone().prop_map(|part| Expr::Not(part.into())),
                prop::collection::vec(inner.clone(), 1..3).prop_map(Expr::And),
                prop::collection::vec(inner.clone(), 1..3).prop_map(Expr::Or),
                (quantifier, field, inner).prop_map(|(quantifier, field, condition)| {
                    Expr::Each(Each {
                        field: field.into(),
                        quantifier,
                        condition: condition.into(),
                        span: Default::default(),
                    })
                }),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

        /// What one event settles holds for every other one of its deed.
        #[test]
        fn a_deed_says_what_is_judged(
            conditions in prop::collection::vec(condition(), 1..6),
            rules in prop::collection::vec(prop::collection::btree_set(0..6u32, 1..3), 1..5),
            of_stage in 0..32u64,
            verb in select(&["x", "get", "create", "patch", "update"][..]),
            resource in select(&["pods", "x", "deployments"][..]),
            level in select(&["Metadata", "Request", "RequestResponse"][..]),
            bodies in select(&["", r#","requestObject":{"a":"x","spec":{"a":"x"}}"#, r#","responseObject":{"a":"y"}"#, r#","requestObject":null"#][..]),
            others in prop::collection::vec((select(&["x", "y"][..]), any::<bool>()), 2),
        ) {
            let parts: Vec<Condition> = conditions.iter().map(|part| Condition::compile(part).unwrap()).collect();
            let of_rule: Vec<Box<[u32]>> =
                rules.iter().map(|of| of.iter().map(|part| part % parts.len() as u32).collect()).collect();
            let rules_of: Vec<Vec<u32>> = (0..parts.len() as u32)
                .map(|part| (0u32..).zip(&of_rule).filter(|(_, of)| of.contains(&part)).map(|(rule, _)| rule).collect())
                .collect();
            let of_bodies = Bodies::new(&parts, &rules_of, &vec![of_stage]);
            let needles = Needles::new(&conditions.iter().collect::<Vec<_>>(), &parts, &rules_of, 1);
            let json = |(name, truncated): (&str, bool)| {
                let annotation = if truncated { r#","annotations":{"audit.k8s.io/truncated":"true"}"# } else { "" };
                format!(
                    r#"{{"level":"{level}","verb":"{verb}","user":{{"username":"{name}"}},"objectRef":{{"resource":"{resource}","name":"{name}"}}{bodies}{annotation}}}"#
                )
            };
            let (mut left, mut settled) = (vec![u64::MAX], vec![0]);
            let mut unknown = Unknown::default();
            let (dropped, set) = with_event(&json(others[0]), |event| {
                let found = (&needles, 1, &mut Found::default());
                let both = (&mut left[..], &mut settled[..]);
                (not_logged(event), of_bodies.settle(event, (&parts, &of_rule), found, both, &mut unknown))
            });
            unknown.count(set);
            let mut counts = vec![0; of_rule.len()];
            unknown.tell(&mut counts);
            with_event(&json(others[1]), |event| {
                if not_logged(event) != dropped {
                    return;
                }
                for (part, condition) in parts.iter().enumerate().filter(|(part, _)| has(&settled, *part)) {
                    assert_eq!(condition.judge(event, &Doubt::default()), Verdict::True, "{:?}", conditions[part]);
                }
                for (rule, of) in of_rule.iter().enumerate() {
                    let doubt = Doubt::default();
                    let verdicts: Vec<Verdict> = of.iter().map(|part| parts[*part as usize].judge(event, &doubt)).collect();
                    let is_false = verdicts.contains(&Verdict::False);
                    assert!(has(&left, rule) || is_false || counts[rule] == 1, "{rule} {verdicts:?}");
                    if counts[rule] == 1 {
                        assert!(!is_false && verdicts.contains(&Verdict::Unknown), "{rule} {verdicts:?}");
                        assert!(doubt.get().dropped && !doubt.get().malformed && of_stage >> rule & 1 == 0);
                    }
                }
            });
        }
    }

    #[test]
    fn a_set_that_finds_no_room_is_judged() {
        let mut unknown = Unknown::default();
        let all: Vec<u32> = (0..UNKNOWN_MAX as u32).collect();
        assert_eq!(unknown.number_of(&all), Some(1));
        assert_eq!(
            (unknown.number_of(&[1]), unknown.number_of(&[]), unknown.number_of(&all)),
            (None, Some(0), Some(1))
        );
    }
}
