//! The pod that a workload is about, wherever the workload keeps it: its spec, its containers, its annotations.

use std::ops::ControlFlow;
use std::sync::LazyLock;

use super::json::{Kind, Raw};
use super::keys::KeySet;
use super::path::{Derived, Field, Path, Root};
use super::view::{Event, NewMembers};
use super::walk::{Missing, Node, Visit, first_segment, unescape_segment};

/// Objects and arrays nested deeper than pods ever are.
const NESTED_MAX: u32 = 32;

/// Where a kind of object keeps its pod.
struct Place {
    template: &'static str,
    spec: Path,
    annotations: Path,
}

/// All such places. A pod is looked for in every request that writes a workload.
static PLACES: LazyLock<[Place; 4]> = LazyLock::new(|| {
    ["", "template.", "spec.template.", "spec.jobTemplate.spec.template."].map(|template| Place {
        template,
        spec: Path::parse(&format!("{template}spec")),
        annotations: Path::parse(&format!("{template}metadata.annotations")),
    })
});

/// The lists of containers in a pod's spec.
static CONTAINERS: LazyLock<[Path; 3]> =
    LazyLock::new(|| ["containers", "initContainers", "ephemeralContainers"].map(Path::parse));

/// Where a kind of object keeps its pod (the list of the Pod Security admission's extractor).
fn place_of(resource: Option<&str>, subresource: &str) -> Option<&'static Place> {
    let template = match (resource?, subresource) {
        ("pods", "" | "ephemeralcontainers" | "resize") => "",
        ("podtemplates", "") => "template.",
        ("deployments" | "daemonsets" | "statefulsets" | "replicasets" | "replicationcontrollers" | "jobs", "") => {
            "spec.template."
        }
        ("cronjobs", "") => "spec.jobTemplate.spec.template.",
        _ => return None,
    };
    PLACES.iter().find(|place| place.template == template)
}

impl<'a> Event<'a> {
    /// Shows `visit` what stands at a path of the pod that the request writes.
    fn in_pod(&self, path: fn(&Place) -> &Path, visit: &mut Visit<'_, 'a>) -> Missing {
        let Some(place) = place_of(self.resource(), self.subresource().unwrap_or("")) else {
            return Missing::default();
        };
        if !matches!(self.verb(), Some("create" | "update" | "patch")) {
            return Missing::default();
        }
        let mut seen = false;
        let mut missing = self.object(&mut |node| {
            self.walk(node, path(place), &mut |found| {
                seen = true;
                visit(found)
            })
        });
        // A patch that does not touch this part of the pod says for certain that nothing in it changes.
        missing.partial &= seen;
        missing
    }

    /// The pod's spec.
    pub(super) fn pod_spec(&self, visit: &mut Visit<'_, 'a>) -> Missing {
        let (specs, missing) = self.pod_specs();
        let _ = specs.iter().try_for_each(|node| visit(*node));
        missing
    }

    fn pod_specs(&self) -> (&'a [Node<'a>], Missing) {
        *self.kept.pod_specs.get_or_init(|| self.keep(|event, visit| event.in_pod(|place| &place.spec, visit)))
    }

    /// The pod's spec as it stands in the event, nothing if there is none, and what is missing of it; `None` if there are
    /// several, or none that is whole, or if not all could be read.
    pub fn sole_pod_spec(&self) -> Option<(&'a [u8], Missing)> {
        let (specs, missing) = self.pod_specs();
        let spec = match specs {
            [] => &[],
            [Node::Json(spec)] => self.doc.bytes(*spec),
            _ => return None,
        };
        (!missing.malformed && !self.has_duplicate_keys()).then_some((spec, missing))
    }

    /// Regular, init and ephemeral containers of the pod's spec, each once.
    pub(super) fn containers(&self, visit: &mut Visit<'_, 'a>) -> Missing {
        let (members, missing) = self.all_containers();
        let _ = members.iter().try_for_each(|node| visit(*node));
        missing
    }

    fn all_containers(&self) -> (&'a [Node<'a>], Missing) {
        *self.kept.containers.get_or_init(|| self.keep(|event, visit| event.find_containers(visit)))
    }

    fn find_containers(&self, visit: &mut Visit<'_, 'a>) -> Missing {
        self.pod_spec(&mut |spec| {
            for list in &*CONTAINERS {
                self.walk(spec, list, &mut |members| self.each(members, visit))?;
            }
            ControlFlow::Continue(())
        })
    }

    /// Collects what a look-up shows into the arena.
    fn keep(&self, look: impl FnOnce(&Self, &mut Visit<'_, 'a>) -> Missing) -> (&'a [Node<'a>], Missing) {
        let mut nodes = bumpalo::collections::Vec::new_in(self.arena);
        let mut missing = look(self, &mut |node| {
            nodes.push(node);
            ControlFlow::Continue(())
        });
        // Every rule that asks has to know, not only the first.
        missing.malformed |= self.malformed.get();
        (nodes.into_bump_slice(), missing)
    }

    /// The pod's annotations, each as `key=value`: some keys end with the name of a container, which no path can say.
    pub(super) fn pod_annotations(&self, visit: &mut Visit<'_, 'a>) -> Missing {
        self.in_pod(|place| &place.annotations, &mut |node| match node {
            Node::Json(raw) | Node::Patch { pointer: "", value: raw } => self.each_annotation(raw, visit),
            Node::Patch { pointer, value } => match first_segment(pointer) {
                (key, "") => self.annotation_text(&unescape_segment(key), value, visit),
                _ => ControlFlow::Continue(()),
            },
            Node::Text(_) | Node::Bool(_) => ControlFlow::Continue(()),
        })
    }

    fn each_annotation(&self, raw: Raw, visit: &mut Visit<'_, 'a>) -> ControlFlow<()> {
        if self.doc.kind(raw) != Kind::Object {
            return ControlFlow::Continue(());
        }
        for (key, value) in self.members(raw).map_or(&[][..], |members| members.list) {
            if let Some(key) = self.text(*key) {
                self.annotation_text(key, *value, visit)?;
            }
        }
        ControlFlow::Continue(())
    }

    fn annotation_text(&self, key: &str, value: Raw, visit: &mut Visit<'_, 'a>) -> ControlFlow<()> {
        match self.text(value) {
            Some(value) => visit(Node::Text(bumpalo::format!(in self.arena, "{}={}", key, value).into_bump_str())),
            None => ControlFlow::Continue(()),
        }
    }

    /// If the field is one of the pod's spec or containers, and none of them has its keys: what the look-up would say of
    /// what is missing. Rules ask for some fifty fields that few pods have.
    pub fn lacks(&self, field: &Field) -> Option<Missing> {
        let missing = match field.root {
            Root::Derived(Derived::PodSpec) => self.pod_specs().1,
            Root::Derived(Derived::Containers) => self.all_containers().1,
            _ => return None,
        };
        let keys = self.pod_keys()?;
        (!keys.may_hold(&field.asked)).then_some(missing)
    }

    /// The keys that stand in the pod's specs; `None` if that cannot be told for sure.
    pub fn pod_keys(&self) -> Option<&'a KeySet> {
        *self.kept.pod_keys.get_or_init(|| self.keys_of_pod())
    }

    fn keys_of_pod(&self) -> Option<&'a KeySet> {
        let mut keys = KeySet::default();
        for node in self.pod_specs().0 {
            let Node::Json(raw) = node else { return None };
            self.index(raw.start, 0, &mut keys)?;
        }
        Some(&*self.arena.alloc(keys))
    }

    /// Adds the keys of the value at `at`, keeps the members of all objects in it and the elements of arrays, and says where
    /// it ends; `None` if it is not written as the API server writes, or nested too deep.
    fn index(&self, at: usize, depth: u32, keys: &mut KeySet) -> Option<usize> {
        match self.doc.text.get(at)? {
            b'"' => Some(self.doc.structure.next_quote(at + 1)? + 1),
            b'{' if depth < NESTED_MAX => self.index_object(at, depth + 1, keys),
            b'[' if depth < NESTED_MAX => self.index_array(at, depth + 1, keys),
            b'{' | b'[' => None,
            _ => Some(self.doc.value(at).ok()?.end),
        }
    }

    fn index_object(&self, open: usize, depth: u32, keys: &mut KeySet) -> Option<usize> {
        let text = self.doc.text;
        let mut members = NewMembers::new(self.arena);
        let mut at = open + 1;
        let mut end = if *text.get(at)? == b'}' { Some(at + 1) } else { None };
        while end.is_none() {
            if *text.get(at)? != b'"' {
                return None;
            }
            let close = self.doc.structure.next_quote(at + 1)?;
            if *text.get(close + 1)? != b':' {
                return None;
            }
            let key = Raw { start: at, end: close + 1 };
            let value = Raw { start: close + 2, end: self.index(close + 2, depth, keys)? };
            let mark = members.add(&self.doc, key, value);
            keys.add(mark, || self.doc.name(key).ok())?;
            at = value.end + 1;
            match text.get(value.end)? {
                b',' => {}
                b'}' => end = Some(at),
                _ => return None,
            }
        }
        if self.kept.objects.get(open).is_none() {
            self.kept.objects.put(open, members.done(), self.arena);
        }
        end
    }

    fn index_array(&self, open: usize, depth: u32, keys: &mut KeySet) -> Option<usize> {
        let text = self.doc.text;
        let of_objects = *text.get(open + 1)? == b'{';
        let mut elements = bumpalo::collections::Vec::new_in(self.arena);
        let mut at = open + 1;
        let mut end = if text[at] == b']' { Some(at + 1) } else { None };
        while end.is_none() {
            // A walk follows arrays in arrays only so far.
            if *text.get(at)? == b'[' {
                return None;
            }
            let element = Raw { start: at, end: self.index(at, depth, keys)? };
            if of_objects {
                elements.push(element);
            }
            at = element.end + 1;
            match text.get(element.end)? {
                b',' => {}
                b']' => end = Some(at),
                _ => return None,
            }
        }
        if of_objects && self.kept.arrays.get(open).is_none() {
            self.kept.arrays.put(open, elements.into_bump_slice(), self.arena);
        }
        end
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::super::walk::testing::with_event;
    use super::*;

    const KEYS: [&str; 9] =
        ["containers", "securityContext", "privileged", "a", "a.b", "a.b/c", "privile\\u0067ed", "", "env."];

    const PATHS: [&str; 9] = [
        "securityContext.privileged",
        "privileged",
        "a",
        "a.b",
        "a.b/c",
        "\"a.b/c\"",
        "containers.a.b.privileged",
        "env.a",
        "nowhere.a",
    ];

    fn json() -> impl Strategy<Value = String> {
        // The last is no JSON.
        let leaf =
            select(&["1", "true", "\"x\"", "null", "[]", "{}", "[[{\"a\":1}]]", "tru"][..]).prop_map(str::to_owned);
        leaf.prop_recursive(5, 40, 4, |inner| {
            let object = prop::collection::vec((select(&KEYS[..]), inner.clone()), 0..4).prop_map(|members| {
                let members: Vec<String> = members.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                format!("{{{}}}", members.join(","))
            });
            let array = prop::collection::vec(inner, 0..3).prop_map(|members| format!("[{}]", members.join(",")));
            prop_oneof![3 => object, 1 => array]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        /// What is said to be lacking is not found by a walk, which says the same of what is missing.
        #[test]
        fn what_a_pod_lacks_is_not_there(spec in json(), path in select(&PATHS[..]), verb in select(&["create", "patch"][..])) {
            let text = format!(
                r#"{{"verb":"{verb}","level":"Request","objectRef":{{"resource":"pods"}},"requestObject":{{"spec":{spec}}}}}"#
            );
            for (root, derived) in [("k8s.podSpec", Derived::PodSpec), ("k8s.containers", Derived::Containers)] {
                let field = Field::parse(&format!("{root}.{path}"));
                let (lacks, before) = with_event(&text, |event| (event.lacks(&field), event.take_malformed()));
                let (found, missing, malformed) = with_event(&text, |event| {
                    let mut found = 0;
                    let missing = event.derived(derived, &field.path, &mut |_| {
                        found += 1;
                        ControlFlow::Continue(())
                    });
                    (found, missing, event.take_malformed())
                });
                if let Some(lacks) = lacks {
                    prop_assert_eq!((0, lacks, before), (found, missing, malformed), "{} {}", root, text);
                }
            }
        }
    }
}
