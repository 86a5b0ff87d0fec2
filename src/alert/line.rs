//! The line of JSON that an alert is, written straight from a firing. [`Alert`](super::Alert) and serde give the same, a text
//! at a time: a log that is full of alerts spends a good part of its time there.

use hashbrown::HashMap;

use super::{Excerpt, Firing, Names, Origin, RuleInfo, Trace, cluster, id, message, meta, some};
use crate::engine::matches::Value;
use crate::event::time::format_micros;

/// Writes lines, and remembers what is the same in all lines of a rule.
#[derive(Debug, Default)]
pub struct Lines {
    rules: HashMap<Origin, Box<str>>,
}

impl Lines {
    /// Appends the alert of a firing, without a newline.
    pub fn write(&mut self, out: &mut Vec<u8>, firing: &Firing, names: &Names<'_>) {
        let mut line = Line(out);
        let deciding = firing.trace.excerpt();
        let is_correlation = matches!(firing.origin, Origin::Correlation(_));
        let rule = self.rules.entry(firing.origin).or_insert_with(|| told_of_rule(firing.origin, names));
        line.put("{\"id\":\"").put(&id(firing, names));
        line.put("\",\"time\":\"").put(&format_micros(firing.time));
        line.put("\",\"kind\":").put(if is_correlation { "\"correlation\"" } else { "\"rule\"" });
        line.put(",\"rule\":").put(rule);
        line.put(",\"message\":").text(&message(firing, &deciding, names.rules));
        line.put(",\"cluster\":").text(cluster(names, firing.cluster));
        line.who_what_how(&deciding);
        match is_correlation {
            true => line.put(",\"group\":").group(&firing.group),
            false => line.put(",\"group\":null"),
        };
        line.put(",\"count\":").number(firing.count);
        match firing.window {
            Some((from, to)) => {
                line.put(",\"window\":{\"from\":\"").put(&format_micros(from));
                line.put("\",\"to\":\"").put(&format_micros(to)).put("\"}")
            }
            None => line.put(",\"window\":null"),
        };
        line.put(",\"events\":").events(&firing.events, &firing.trace, &deciding);
        let source = names.sources.get(deciding.source as usize);
        line.put(",\"source\":{\"kind\":").text(source.map_or("", |source| source.kind));
        line.put(",\"name\":").text(source.map_or("", |source| &source.name));
        line.put(",\"position\":\"").number(deciding.offset).put("\"}");
        line.put(if firing.evidence_truncated { ",\"evidence_truncated\":true" } else { "" });
        line.put(if firing.late { ",\"late\":true}" } else { "}" });
    }
}

fn told_of_rule(origin: Origin, names: &Names<'_>) -> Box<str> {
    serde_json::to_string(&RuleInfo::of(meta(origin, names.rules))).expect("it holds texts only").into()
}

/// A line that is being written.
struct Line<'o>(&'o mut Vec<u8>);

impl Line<'_> {
    /// What is JSON already.
    fn put(&mut self, json: &str) -> &mut Self {
        self.0.extend_from_slice(json.as_bytes());
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        // Without branches, so that many bytes are looked at together.
        let escaped = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
        if text.bytes().fold(false, |any, byte| any | escaped(byte)) {
            serde_json::to_writer(&mut *self.0, text).expect("a text is written to memory");
            return self;
        }
        self.put("\"").put(text).put("\"")
    }

    fn maybe(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.text(text),
            None => self.put("null"),
        }
    }

    fn number(&mut self, number: impl itoa::Integer) -> &mut Self {
        self.put(itoa::Buffer::new().format(number))
    }

    fn code(&mut self, code: Option<i64>) -> &mut Self {
        match code {
            Some(code) => self.number(code),
            None => self.put("null"),
        }
    }

    fn group(&mut self, group: &[(String, Value)]) -> &mut Self {
        self.put("{");
        for (number, (name, value)) in group.iter().enumerate() {
            self.put(if number > 0 { "," } else { "" }).text(name).put(":").text(&value.text);
        }
        self.put("}")
    }

    fn who_what_how(&mut self, e: &Excerpt<'_>) {
        self.put(",\"actor\":{\"username\":").text(&e.username).put(",\"groups\":[");
        for (number, group) in e.groups.iter().enumerate() {
            self.put(if number > 0 { "," } else { "" }).text(group);
        }
        self.put("],\"impersonated_by\":").maybe(e.impersonated_by.as_deref());
        self.put(",\"client_ip\":").maybe(e.client_ip.as_deref());
        self.put(",\"user_agent\":").maybe(e.user_agent.as_deref());
        self.put("},\"target\":{\"verb\":").text(&e.verb);
        self.put(",\"resource\":").maybe(some(&e.resource));
        self.put(",\"subresource\":").maybe(e.subresource.as_deref());
        self.put(",\"namespace\":").maybe(e.namespace.as_deref());
        self.put(",\"name\":").maybe(e.name.as_deref());
        self.put(",\"uri\":").text(&e.uri);
        self.put("},\"outcome\":{\"code\":").code(e.code);
        self.put(",\"decision\":").maybe(e.decision.as_deref()).put("}");
    }

    /// The deciding event stands among the events, as a rule.
    fn events(&mut self, events: &[Trace], deciding: &Trace, told: &Excerpt<'_>) {
        self.put("[");
        for (number, trace) in events.iter().enumerate() {
            self.put(if number > 0 { "," } else { "" });
            match trace == deciding {
                true => self.event(told),
                false => self.event(&trace.excerpt()),
            }
        }
        self.put("]");
    }

    fn event(&mut self, e: &Excerpt<'_>) {
        self.put("{\"audit_id\":").text(&e.audit_id);
        self.put(",\"time\":\"").put(&format_micros(e.time));
        self.put("\",\"verb\":").text(&e.verb);
        self.put(",\"resource\":").maybe(some(&e.resource));
        self.put(",\"namespace\":").maybe(e.namespace.as_deref());
        self.put(",\"name\":").maybe(e.name.as_deref());
        self.put(",\"code\":").code(e.code).put("}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::super::{Alert, SourceName, tests::rules};
    use super::*;

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            3 => "[a-z:/ -]{0,40}",
            1 => "[a-z\"\\\\\u{0}-\u{20}\u{7f}é\u{2028}\u{1f600}]{0,12}",
            1 => select(&["", "Bearer abcdefghijklmnopqrstuvwxyz", "?token=abcdefghijk"][..]).prop_map(str::to_owned),
        ]
    }

    prop_compose! {
        fn excerpt()(
            texts in prop::collection::vec(text(), 5), maybe in prop::collection::vec(prop::option::of(text()), 8),
            groups in prop::collection::vec(text(), 0..4), time in select(&[0, 1_795_462_229_041_592, -1][..]),
            code in prop::option::of(select(&[200, 403, -1][..])), source in 0u32..3, offset in any::<u64>(),
        ) -> Excerpt<'static> {
            let own = |at: usize| texts[at].clone().into();
            let or_none = |at: usize| maybe[at].clone().map(Into::into);
            Excerpt {
                audit_id: own(0), time, verb: own(1), resource: own(2), api_group: or_none(0), subresource: or_none(1),
                namespace: or_none(2), name: or_none(3), uri: own(3), username: own(4),
                groups: groups.into_iter().map(Into::into).collect(), impersonated_by: or_none(4),
                client_ip: or_none(5), user_agent: or_none(6), code, decision: or_none(7), source, offset,
            }
        }
    }

    prop_compose! {
        fn firing()(
            origin in select(&[Origin::Rule(0), Origin::Correlation(0)][..]), deciding in excerpt(),
            others in prop::collection::vec(excerpt(), 0..3), own: bool, cluster in 0u32..3,
            group in prop::collection::vec((text(), text()), 0..3), count in any::<u64>(),
            window in prop::option::of((0i64..1 << 50, 0i64..1 << 50)), (evidence_truncated, late) in any::<(bool, bool)>(),
        ) -> Firing {
            let trace = Trace::from(deciding);
            let events = others.into_iter().map(Trace::from).chain(own.then(|| trace.clone())).collect();
            let group = group.into_iter().map(|(name, text)| (name, Value { hash: 7, text: text.into() })).collect();
            Firing {
                origin, time: trace.time, identity: [3; 16], cluster, trace, group, count, window, events, evidence_truncated, late,
            }
        }
    }

    proptest! {
        /// What is written at once is what serde makes of the alert.
        #[test]
        fn a_line_is_the_alert(firings in prop::collection::vec(firing(), 1..4), names in prop::collection::vec(text(), 2)) {
            let (rules, clusters) = (rules(), &names[..]);
            let sources = [SourceName { kind: "file", name: names[0].clone() }, SourceName { kind: "kafka", name: names[1].clone() }];
            let names = Names { rules: &rules, clusters, sources: &sources };
            let mut lines = Lines::default();
            for firing in firings {
                let mut line = Vec::new();
                lines.write(&mut line, &firing, &names);
                prop_assert_eq!(String::from_utf8(line).unwrap(), serde_json::to_string(&Alert::new(&firing, &names)).unwrap());
            }
        }
    }
}
