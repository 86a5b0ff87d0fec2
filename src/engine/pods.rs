//! What parts of conditions said of a pod, for when the same pod comes again.
//!
//! Controllers write the same workload time and again: in a real log four of five pod specs had been there before. A part
//! that reads nothing but the pod's spec and what was done says the same whenever both are the same, and so it does
//! whenever a request leaves the pod alone, or its body was not logged: most writes of workloads only tell their state.
//!
//! Invariant: what is remembered of a verdict is all that there is to it. Its doubt, if any, is that the body is missing or
//! a patch; what is not well-formed is judged each time.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;

use super::condition::Verdict;
use super::index::{has, set};
use super::needed::Needed;
use crate::event::view::Event;
use crate::event::walk::Missing;

/// How many pods a worker remembers, by the last bits of their hash.
const PODS: usize = 2048;

/// Verdicts by pods. One per worker.
#[derive(Debug, Default)]
pub struct Pods {
    /// Seeded at random, so that nobody can write pods that collide.
    seed: RandomState,
    /// Whose verdicts stand at a place; 0: nobody's.
    keys: Vec<u64>,
    /// Per place: which parts are known to be true or false, and which are true, or else unknown.
    verdicts: Vec<u64>,
    /// The pod of the event at hand.
    now: Now,
}

/// The pod of the event at hand.
#[derive(Debug, Default, Clone, Copy)]
enum Now {
    /// Nobody asked yet.
    #[default]
    Unasked,
    /// It has none that could be remembered.
    None,
    /// It has this key, and this is missing.
    Pod(u64, Missing),
}

impl Pods {
    /// The next event.
    pub fn begin(&mut self) {
        self.now = Now::Unasked;
    }

    /// What was said of the event's pod by the part with this number, of these, and why it is unknown; `deed` is the hash
    /// of what was done. All parts that a new pod has not the keys for are known at once.
    pub fn recall(
        &mut self,
        event: &Event<'_>,
        deed: Option<u64>,
        number: u32,
        parts: &[Needed],
    ) -> Option<(Verdict, Missing)> {
        let (key, missing) = self.key(event, deed)?;
        if !self.is_known(key) {
            self.meet(event, key, missing, parts)?;
        }
        let (judged, held) = self.words(key, parts)?.split_at(words_of_one(parts));
        match (has(judged, number as usize), has(held, number as usize)) {
            (false, false) => None,
            (false, true) => Some((Verdict::Unknown, missing)),
            (true, false) => Some((Verdict::False, Missing::default())),
            (true, true) => Some((Verdict::True, Missing::default())),
        }
    }

    /// Remembers what a part said of the event's pod, and why it was unknown, if that is for what is missing of the pod.
    pub fn note(
        &mut self,
        event: &Event<'_>,
        deed: Option<u64>,
        number: u32,
        parts: &[Needed],
        (verdict, doubt): (Verdict, Missing),
    ) {
        let Some((key, missing)) = self.key(event, deed) else { return };
        let (known, true_or_unknown) = match verdict {
            Verdict::Unknown if missing.any() && doubt == missing => (false, true),
            Verdict::True | Verdict::False if !doubt.any() => (true, verdict == Verdict::True),
            _ => return,
        };
        if !self.is_known(key) {
            self.begin_pod(key, parts);
        }
        let Some(words) = self.words(key, parts) else { return };
        let (judged, held) = words.split_at_mut(words_of_one(parts));
        if known {
            set(judged, number as usize);
        }
        if true_or_unknown {
            set(held, number as usize);
        }
    }

    /// Notes what the keys of a pod rule out; `None` if that cannot be told.
    fn meet(&mut self, event: &Event<'_>, key: u64, missing: Missing, parts: &[Needed]) -> Option<()> {
        if missing.any() {
            return None;
        }
        let keys = event.pod_keys()?;
        self.begin_pod(key, parts);
        let (judged, _) = self.words(key, parts)?.split_at_mut(words_of_one(parts));
        let ruled_out = parts.iter().enumerate().filter(|(_, part)| !part.may_hold(keys));
        ruled_out.for_each(|(number, _)| set(judged, number));
        Some(())
    }

    fn is_known(&self, key: u64) -> bool {
        self.keys.get(key as usize % PODS) == Some(&key)
    }

    /// Gives the pod its place, of which nothing is known.
    fn begin_pod(&mut self, key: u64, parts: &[Needed]) {
        self.keys.resize(PODS, 0);
        self.verdicts.resize(PODS * words(parts), 0);
        self.keys[key as usize % PODS] = key;
        if let Some(words) = self.words(key, parts) {
            words.fill(0);
        }
    }

    /// Which parts were judged to be true or false at the pod's place, and, behind them, which are true or else unknown.
    fn words(&mut self, key: u64, parts: &[Needed]) -> Option<&mut [u64]> {
        let at = key as usize % PODS;
        self.verdicts.get_mut(at * words(parts)..(at + 1) * words(parts))
    }

    fn key(&mut self, event: &Event<'_>, deed: Option<u64>) -> Option<(u64, Missing)> {
        if let Now::Unasked = self.now {
            self.now = deed.zip(event.sole_pod_spec()).map_or(Now::None, |(deed, (spec, missing))| {
                let mut hasher = self.seed.build_hasher();
                hasher.write_u64(deed);
                hasher.write(spec);
                hasher.write(&[u8::from(missing.dropped), u8::from(missing.partial)]);
                Now::Pod(hasher.finish().max(1), missing)
            });
        }
        match self.now {
            Now::Pod(key, missing) => Some((key, missing)),
            Now::None | Now::Unasked => None,
        }
    }
}

/// Words that a bit for each of the parts takes.
fn words_of_one(parts: &[Needed]) -> usize {
    parts.len().div_ceil(64)
}

/// Words that a pod takes.
fn words(parts: &[Needed]) -> usize {
    2 * words_of_one(parts)
}

#[cfg(test)]
mod tests {
    use super::super::condition::{Condition, Doubt};
    use super::*;
    use crate::event::walk::testing::with_event;
    use crate::rules::expr::{Expr, Op, StrHow, StrOp, Test};

    fn event(verb: &str, resource: &str, spec: &str) -> String {
        format!(
            r#"{{"level":"Request","verb":"{verb}","objectRef":{{"resource":"{resource}"}},"requestObject":{{"spec":{spec}}}}}"#
        )
    }

    fn test(field: Option<&str>, op: Op) -> Expr {
        Expr::Test(Test { field: field.map(str::to_owned), any_of: vec![op], span: Default::default() })
    }

    #[test]
    fn remembers_by_pod_and_deed_and_what_there_is_to_a_verdict() {
        let (sure, dropped, partial, malformed) = (
            Missing::default(),
            Missing { dropped: true, ..Missing::default() },
            Missing { partial: true, ..Missing::default() },
            Missing { malformed: true, ..Missing::default() },
        );
        let (mut pods, parts) = (Pods::default(), vec![Needed::default(); 70]);
        let mut seen = |text: &str, deed: Option<u64>, note: Option<(u32, Verdict, Missing)>| {
            with_event(text, |event| {
                pods.begin();
                if let Some((number, verdict, doubt)) = note {
                    pods.note(event, deed, number, &parts, (verdict, doubt));
                }
                [0, 1, 69].map(|number| pods.recall(event, deed, number, &parts))
            })
        };
        let (spec, other) = (r#"{"hostPID":true}"#, r#"{"hostPID":false}"#);
        let pod = event("create", "pods", spec);
        assert_eq!(seen(&pod, Some(1), None), [None; 3]);
        let held = Some((Verdict::True, sure));
        assert_eq!(seen(&pod, Some(1), Some((0, Verdict::True, sure))), [held, None, None]);
        let both = [held, None, Some((Verdict::False, sure))];
        assert_eq!(seen(&pod, Some(1), Some((69, Verdict::False, sure))), both);
        assert_eq!(seen(&event("create", "pods", other), Some(1), None), [None; 3]);
        assert_eq!(seen(&pod, Some(2), None), [None; 3]);
        assert_eq!(seen(&pod, None, Some((0, Verdict::True, sure))), [None; 3]);
        // A doubt that is not what the pod lacks may not come again.
        for doubt in [dropped, partial, malformed] {
            for verdict in [Verdict::True, Verdict::False, Verdict::Unknown] {
                assert_eq!(seen(&pod, Some(1), Some((1, verdict, doubt))), both);
            }
        }
        // The same again, though others came between.
        assert_eq!(seen(&pod, Some(1), None), both);
        // No pod, a patch of one, a patch of something else, and a body that was not logged.
        let of_patch = event("patch", "pods", spec);
        let not_logged = r#"{"level":"Metadata","verb":"create","objectRef":{"resource":"pods"}}"#;
        for (deed, (text, missing)) in (3..).zip([
            (event("create", "secrets", spec), sure),
            (of_patch.replace("spec", "status"), sure),
            (of_patch, partial),
            (not_logged.to_owned(), dropped),
        ]) {
            let deed = Some(deed);
            assert_eq!(seen(&text, deed, Some((0, Verdict::Unknown, malformed))), [None; 3], "{text}");
            let known = [Some((Verdict::False, sure)), None, None];
            assert_eq!(seen(&text, deed, Some((0, Verdict::False, sure))), known, "{text}");
            let unknown = missing.any().then_some((Verdict::Unknown, missing));
            assert_eq!(seen(&text, deed, Some((1, Verdict::Unknown, missing))), [known[0], unknown, None], "{text}");
            // The same deed, but this pod.
            assert_eq!(seen(&pod, deed, None), [None; 3], "{text}");
        }
        for unsure in [
            pod.replace(r#""verb""#, r#""verb":"get","verb""#),
            pod.replace(r#""spec":{"#, r#""x":tru,"spec":{"#),
            event("patch", "pods", "{}").replace(
                r#"{"spec":{}}"#,
                r#"[{"op":"add","path":"/spec","value":{}},{"op":"add","path":"/spec","value":{}}]"#,
            ),
        ] {
            assert_eq!(seen(&unsure, Some(1), Some((0, Verdict::True, sure))), [None; 3], "{unsure}");
        }
    }

    #[test]
    fn knows_which_parts_follow_from_the_pod() {
        let is = || Op::Str(StrOp { how: StrHow::Exact("x".into()), cased: false });
        let of = |field: &str| test(Some(field), is());
        for (expr, is_of_pod) in [
            (of("k8s.podSpec.hostPID"), true),
            (of("k8s.containers.image"), true),
            (Expr::Or(vec![of("k8s.containers.image"), Expr::Not(of("verb").into())]), true),
            (of("verb"), false),
            (Expr::And(vec![of("k8s.containers.image"), of("user.username")]), false),
            (Expr::Or(vec![of("k8s.containers.image"), of("k8s.podAnnotations")]), false),
            (Expr::Or(vec![of("k8s.containers.image"), of("k8s.object.metadata.name")]), false),
            (Expr::Or(vec![of("k8s.containers.image"), test(None, is())]), false),
        ] {
            assert_eq!(Condition::compile(&expr).unwrap().is_of_pod(), is_of_pod, "{expr:?}");
        }
        // A doubt is noted by nobody: the judge sees to that.
        let doubt = Doubt::default();
        let condition = Condition::compile(&of("k8s.podSpec.hostPID")).unwrap();
        let patch = event("patch", "pods", r#"{"x":1}"#);
        assert_eq!(with_event(&patch, |event| condition.judge(event, &doubt)), Verdict::Unknown);
        assert!(doubt.get().any());
    }
}
