//! From an event to what its matches keep of it: the texts that an alert may tell, and the captured values.

use std::hash::BuildHasher;
use std::ops::ControlFlow;

use foldhash::fast::RandomState;

use super::CaptureTable;
use super::facets::Alike;
use super::lookup::{look_up_all, scalar_text};
use super::matches::{CaptureId, SourceId, Trace, Who};
use super::trace::{Recorder, Written, tells_who};
use crate::event::derived::uuid;
use crate::event::identity::hash128;
use crate::event::path::Field;
use crate::event::redact;
use crate::event::view::Event;

/// Most values of one captured field that a match carries; the rest is counted.
pub const VALUES_MAX: usize = 64;

/// Most groups of an actor that an alert lists.
const GROUPS_MAX: usize = 64;

/// Where an event stands, and when it happened.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Event time in microseconds since the Unix epoch, if it has one.
    pub time: Option<i64>,
    /// Index of its input.
    pub source: SourceId,
    /// Byte offset of its document in the input (after decompression).
    pub offset: u64,
    /// In what it is like others.
    pub alike: Alike,
}

/// Writes what matches keep of their events; kept for its memory.
#[derive(Debug, Default)]
pub struct Keeper {
    recorder: Recorder,
    wanted: Vec<CaptureId>,
    hashes: Hashes,
    actors: Memo<Written>,
    decisions: Memo<Option<Box<str>>>,
}

impl Keeper {
    /// What the matches of these rules keep of the event, to be [put on its sheet](Keeper::put_on_sheet). `fields` are those of `table`, compiled. How many captured
    /// values beyond the limit were left out of each match is added to `cut`.
    pub fn keep(
        &mut self,
        event: &Event<'_>,
        place: Place,
        rules: &[u32],
        table: &CaptureTable,
        fields: &[Field],
        cut: &mut u64,
    ) -> Trace {
        self.record(event, place);
        let Keeper { recorder, wanted, hashes, .. } = self;
        let of_rule = |rule: &u32| table.per_rule[*rule as usize].as_slice();
        let wanted = match rules {
            [only] => of_rule(only),
            _ => {
                wanted.clear();
                wanted.extend(rules.iter().flat_map(of_rule));
                wanted.sort_unstable();
                wanted.dedup();
                wanted
            }
        };
        for &id in wanted {
            let left_out = capture(event, id, &fields[id as usize], recorder, hashes);
            if left_out > 0 {
                *cut += left_out * rules.iter().filter(|rule| of_rule(rule).contains(&id)).count() as u64;
            }
        }
        recorder.finish(place.time.unwrap_or(0), event.received().unwrap_or(0))
    }

    /// Whose request the event is of; `seed` makes a hash that stands for it, if its trace can tell the identity itself.
    pub fn who(event: &Event<'_>, seed: Option<&RandomState>) -> Who {
        let parts = event.parts_of_identity();
        match seed.filter(|_| tells_who(&parts, event.impersonated())) {
            Some(seed) => Who::Keyed(parts.keyed(seed)),
            None => Who::Known(parts.hash()),
        }
    }

    /// Puts traces on the sheet that they were all written on since the last time.
    pub fn put_on_sheet<'t>(&mut self, traces: impl Iterator<Item = &'t mut Trace>) {
        let mut traces = traces.peekable();
        if traces.peek().is_some() {
            let sheet = self.recorder.sheet();
            traces.for_each(|trace| trace.put_on(&sheet));
        }
    }
}

impl Keeper {
    /// Records what is told of the event. What it shares with others is read once.
    fn record(&mut self, event: &Event<'_>, place: Place) {
        let Keeper { recorder, actors, decisions, .. } = self;
        if let Some(hash) = place.alike.annotations
            && decisions.find(hash).is_none()
        {
            decisions.put(hash, event.decision().map(Box::from));
        }
        let known = place.alike.annotations.and_then(|hash| decisions.find(hash));
        let decision = known.map_or_else(|| event.decision(), |decision| decision.as_deref());
        let texts = [
            event.audit_id(),
            event.verb(),
            event.resource(),
            event.api_group(),
            event.subresource(),
            event.namespace(),
            event.name(),
            event.uri(),
            event.client_ip(),
            decision,
            Some(event.cluster()).filter(|cluster| !cluster.is_empty()),
        ];
        recorder.begin(place.source, place.offset, event.code(), &texts);
        let Some(hash) = place.alike.actor else { return record_actor(event, recorder) };
        if !actors.find(hash).is_some_and(|written| recorder.tell_as_written(*written)) {
            record_actor(event, recorder);
            actors.put(hash, recorder.written());
        }
    }
}

fn record_actor(event: &Event<'_>, recorder: &mut Recorder) {
    let behind = event.username().filter(|_| event.impersonated());
    recorder.actor(&[event.actor_username(), behind, event.user_agent()]);
    let mut groups = 0;
    let _ = event.actor_groups(&mut |node| {
        if let Some(group) = scalar_text(event, node) {
            recorder.group(group);
            groups += 1;
        }
        if groups < GROUPS_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
}

/// How many values a memo holds.
const MEMO: usize = 256;

/// What was worked out last for hashes that come again and again.
#[derive(Debug)]
struct Memo<T> {
    /// By the last bits of the hash.
    known: Vec<Option<(u64, T)>>,
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Memo { known: Vec::new() }
    }
}

impl<T> Memo<T> {
    fn find(&self, hash: u64) -> Option<&T> {
        let (have, value) = self.known.get(hash as usize % MEMO)?.as_ref()?;
        (*have == hash).then_some(value)
    }

    fn put(&mut self, hash: u64, value: T) {
        self.known.resize_with(MEMO, || None);
        self.known[hash as usize % MEMO] = Some((hash, value));
    }
}

/// Records the values of a field; returns how many were too many.
fn capture(event: &Event<'_>, id: CaptureId, field: &Field, recorder: &mut Recorder, hashes: &mut Hashes) -> u64 {
    let (resource, subresource) = (event.resource().unwrap_or(""), event.subresource().unwrap_or(""));
    let secret = redact::is_secret_field(resource, subresource, &field.name);
    let mut values = 0;
    look_up_all(field, event, &mut |text| {
        values += 1;
        if values <= VALUES_MAX {
            match secret {
                true => recorder.value(id, hash128([text.as_bytes()]), None),
                false => recorder.value(id, hashes.of(text), Some(text)),
            }
        }
    });
    values.saturating_sub(VALUES_MAX) as u64
}

/// How many hashes are remembered, and of how long texts (bytes): that of a certificate, `X509SHA256=` and 64 digits, is 75.
const HASHES: usize = 512;
const HASHED_MAX: usize = 79;

/// The hashes of the values seen last: users, addresses and namespaces come again and again, and BLAKE3 is dear for texts
/// that short.
#[derive(Debug, Default)]
struct Hashes {
    seed: RandomState,
    /// By the last bits of a quick hash.
    known: Vec<Hashed>,
}

/// A text, its length (255: none yet), and its hash.
#[derive(Debug, Clone, Copy)]
struct Hashed {
    text: [u8; HASHED_MAX],
    length: u8,
    hash: u128,
}

const _: () = assert!(size_of::<Hashed>() == 96, "what is remembered should fill its place");

/// The hash of an address that is short enough is its text, behind its length: no two have the same, and there are too many
/// of them to be remembered. Not for secrets.
fn of_address(text: &[u8]) -> Option<u128> {
    const LONGEST: usize = size_of::<u128>() - 1;
    let mut padded = [0; size_of::<u128>()];
    padded[size_of::<u128>().checked_sub(text.len())?..].copy_from_slice(text);
    // All bytes at once: what is asked of every match should have no branches.
    let digits = |byte: u8| byte.wrapping_sub(b'0') < 10 || byte.wrapping_sub(b'a') < 6;
    let count = |is: fn(u8) -> bool| padded.iter().map(|byte| u8::from(is(*byte))).sum::<u8>();
    let (digits, marks) = (count(digits), count(|byte| byte == b'.' || byte == b':'));
    if text.len() > LONGEST || usize::from(digits + marks) != text.len() || marks == 0 {
        return None;
    }
    padded[LONGEST - text.len()] = text.len() as u8;
    Some(u128::from_be_bytes(padded))
}

/// The hash of a credential's id is the random UUID (version 4, RFC 9562) in it: each token of a service account has its
/// own, and it is the API server that draws it. No address has the bits of its version.
fn of_token(text: &str) -> Option<u128> {
    let id = uuid(text.strip_prefix("JTI=")?.as_bytes())?;
    (id >> 76 & 0xf == 4).then_some(id)
}

impl Hashes {
    fn of(&mut self, text: &str) -> u128 {
        if let Some(hash) = of_address(text.as_bytes()).or_else(|| of_token(text)) {
            return hash;
        }
        let length = text.len();
        if length > HASHED_MAX {
            return hash128([text.as_bytes()]);
        }
        if self.known.is_empty() {
            self.known.resize(HASHES, Hashed { text: [0; HASHED_MAX], length: u8::MAX, hash: 0 });
        }
        let place = &mut self.known[self.seed.hash_one(text.as_bytes()) as usize % HASHES];
        if usize::from(place.length) != length || &place.text[..length] != text.as_bytes() {
            place.text[..length].copy_from_slice(text.as_bytes());
            place.length = length as u8;
            place.hash = hash128([text.as_bytes()]);
        }
        place.hash
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::super::matches::Excerpt;
    use super::*;
    use crate::event::walk::testing::with_event;

    /// The excerpt made at once, without a trace between.
    fn excerpt(event: &Event<'_>) -> Excerpt<'static> {
        let shown = |text: &str| Cow::Owned(redact::text(text).into_owned());
        let maybe = |text: Option<&str>| text.map(shown);
        let mut groups = Vec::new();
        let _ = event.actor_groups(&mut |node| {
            groups.extend(scalar_text(event, node).map(shown));
            if groups.len() < GROUPS_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        Excerpt {
            audit_id: shown(event.audit_id().unwrap_or("")),
            time: 7,
            verb: shown(event.verb().unwrap_or("")),
            resource: shown(event.resource().unwrap_or("")),
            api_group: maybe(event.api_group()),
            subresource: maybe(event.subresource()),
            namespace: maybe(event.namespace()),
            name: maybe(event.name()),
            uri: shown(event.uri().unwrap_or("")),
            username: shown(event.actor_username().unwrap_or("")),
            groups,
            impersonated_by: if event.impersonated() { maybe(event.username()) } else { None },
            client_ip: maybe(event.client_ip()),
            user_agent: maybe(event.user_agent()),
            code: event.code(),
            decision: maybe(event.decision()),
            source: 3,
            offset: 9,
        }
    }

    const FIELDS: [&str; 3] = ["k8s.actor.groups", "objectRef.name", "requestObject.data.x"];

    /// The trace of an event that three rules matched, the last of which wants nothing.
    fn keep(event: &Event<'_>) -> (Trace, u64) {
        let fields = FIELDS.map(Field::parse);
        let table =
            CaptureTable { fields: FIELDS.map(str::to_owned).to_vec(), per_rule: vec![vec![0, 1], vec![0, 2], vec![]] };
        let mut cut = 0;
        // The second tells of the actor what the first has written.
        let alike = Alike { actor: Some(7), ..Alike::default() };
        let place = Place { time: Some(7), source: 3, offset: 9, alike };
        let mut keeper = Keeper::default();
        let mut traces = [
            keeper.keep(event, place, &[0], &table, &fields, &mut 0),
            keeper.keep(event, place, &[0, 1, 2], &table, &fields, &mut cut),
        ];
        keeper.put_on_sheet(traces.iter_mut());
        let [first, all] = traces;
        assert_eq!(first.excerpt(), all.excerpt());
        let alone = all.alone();
        assert_eq!(
            (alone.excerpt(), alone.identity(), alone.brief(), format!("{alone:?}")),
            (all.excerpt(), all.identity(), all.brief(), format!("{all:?}"))
        );
        let again = alone.alone();
        assert!(again == all && again.excerpt() == all.excerpt());
        (all, cut)
    }

    /// A trace gives the very excerpt that the event gives.
    #[test]
    fn nothing_is_lost_on_the_way() {
        let long = |text: &str| format!(r#"{{"requestURI":"/{}","user":{{"username":"u"}}}}"#, text.repeat(5000));
        let cut_token = format!(
            r#"{{"requestURI":"/{}?token=abcdefghijk","user":{{"groups":["{}"]}}}}"#,
            "x".repeat(1013),
            "é".repeat(600)
        );
        for text in [
            "{}",
            r#"{"auditID":"a","verb":"get","requestURI":"/x?a=\u0026","user":{"username":"al\"ice\n","groups":["g1","\u00e9"]},"sourceIPs":["1.1.1.1","2.2.2.2"],"userAgent":"k\\","objectRef":{"resource":"pods","subresource":"exec","namespace":"n","name":"p\u0000","apiGroup":"g"},"responseStatus":{"code":403,"message":"no"},"annotations":{"authorization.k8s.io/decision":"forbid","x":"y"}}"#,
            r#"{"user":{"username":"u","groups":["g"]},"impersonatedUser":{"username":"root","groups":["system:masters"]}}"#,
            r#"{"user":{"username":"u","groups":["g"]},"user":{"username":"v"},"objectRef":{"resource":"pods"},"objectRef":{"name":"n"}}"#,
            r#"{"user":{"groups":["g"]},"impersonatedUser":{"username":"root"},"verb":"get"}"#,
            r#"{"auditID":"a","requestReceivedTimestamp":"2026-11-23T19:30:29.041592Z","user":{"username":"u"},"impersonatedUser":{"uid":"1"},"verb":"get","requestURI":"/x"}"#,
            r#"{"user":{},"objectRef":{"name":""}}"#,
            &long("x"),
            &long("é"),
            &cut_token,
        ] {
            let seed = RandomState::default();
            let (direct, identity, who, (kept, _)) = with_event(text, |event| {
                (excerpt(event), event.identity(), Keeper::who(event, Some(&seed)), keep(event))
            });
            assert_eq!(direct, kept.excerpt(), "{text}");
            match who {
                Who::Known(known) => assert_eq!(known, identity, "{text}"),
                Who::Keyed(_) => assert_eq!(kept.identity(), identity, "{text}"),
            }
            // What is too long to be kept whole, and a user that is not told beside the one it acts as.
            let is_odd = text.len() > 2000 || text.contains(r#""user":{"groups":["g"]},"impersonated"#);
            assert_eq!(matches!(who, Who::Known(_)), is_odd, "{text}");
        }
    }

    #[test]
    fn remembered_hashes_are_those_of_their_texts() {
        let mut hashes = Hashes::default();
        let texts: Vec<String> = (0..3 * HASHES).map(|n| "x".repeat(n % 90) + &(n / 7).to_string()).collect();
        for text in texts.iter().chain(&texts).chain(&[String::new()]) {
            assert_eq!(hashes.of(text), hash128([text.as_bytes()]), "{text}");
        }
    }

    #[test]
    fn an_address_is_its_own_hash() {
        let mut hashes = Hashes::default();
        for (text, is_own) in [
            ("10.0.0.1", true),
            ("255.255.255.255", true),
            ("fd00::1", true),
            ("2001:db8::1:2:3", true),
            ("2001:db8::1:2:34", false),
            ("deadbeef", false),
            ("10.0.0.x", false),
            ("", false),
        ] {
            assert_eq!(hashes.of(text) != hash128([text.as_bytes()]), is_own, "{text}");
        }
        let all = ["1.2.3.4", "01.2.3.4", "1.2.3.40", "1:2", "1::2", ".", ".."].map(|text| hashes.of(text));
        assert_eq!(std::collections::BTreeSet::from(all).len(), all.len());
    }

    proptest! {
        /// Many bytes at once say what one after the other says.
        #[test]
        fn short_hashes_are_those_of_a_plain_reading(text in "[0-9a-f.:]{0,17}|[0-9a-g.:]{0,5}", id in any::<u128>()) {
            let is_address = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'.' | b':');
            let read = || text.bytes().fold(text.len() as u128, |hash, byte| hash << 8 | u128::from(byte));
            let fits = text.len() < 16 && text.bytes().all(is_address) && text.contains(['.', ':']);
            prop_assert_eq!(of_address(text.as_bytes()), fits.then(read));
            let id = id & !(0xf << 76) | 4 << 76;
            let hex = format!("{id:032x}");
            let token = format!("JTI={}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
            prop_assert_eq!(of_token(&token), Some(id));
        }
    }

    #[test]
    fn a_token_is_known_by_its_uuid() {
        let mut hashes = Hashes::default();
        let token = "JTI=0f2e3132-2e33-4e31-b2e3-33343536372e";
        assert_eq!(hashes.of(token), 0x0f2e_3132_2e33_4e31_b2e3_3334_3536_372e);
        for other in [
            "JTI=0F2e3132-2e33-4e31-b2e3-33343536372e",
            "JTI=0f2e3132-2e33-1e31-b2e3-33343536372e",
            "JTI=0f2e3132-2e33-4e31-b2e3-33343536372",
            "JTI=0f2e3132-2e33-4e31-b2e3333343536372e",
            "JTI=0f2e3132-2e33-4e31-b2e3-3334353637-e",
            "JTI=0f2e3132-2e33-4e31-b2e3-33343536372ee",
            "jti=0f2e3132-2e33-4e31-b2e3-33343536372e",
            "0f2e3132-2e33-4e31-b2e3-33343536372e",
            "JTI=",
        ] {
            assert_eq!(hashes.of(other), hash128([other.as_bytes()]), "{other}");
        }
    }

    /// What alerts list of an event is the same of a trace and of what is remembered of it, and nothing else is remembered.
    #[test]
    fn what_is_listed_of_an_event_is_remembered() {
        for text in [
            "{}",
            r#"{"auditID":"a","verb":"get","requestURI":"/x","user":{"username":"u","groups":["g1","g2"]},"userAgent":"k","objectRef":{"resource":"pods","subresource":"exec","namespace":"n","name":"p","apiGroup":"g"},"responseStatus":{"code":403}}"#,
            r#"{"verb":"é","objectRef":{"name":""}}"#,
        ] {
            let (kept, _) = with_event(text, keep);
            let brief = Trace::from_brief(kept.time, kept.brief());
            let (whole, listed) = (kept.excerpt(), brief.excerpt());
            let told = Excerpt {
                uri: Cow::default(),
                username: Cow::default(),
                groups: Vec::new(),
                impersonated_by: None,
                client_ip: None,
                user_agent: None,
                decision: None,
                ..whole
            };
            assert_eq!(listed, told, "{text}");
            let ids = kept.all_values().map(|(id, _)| id);
            for id in ids.chain([0, 1, 2, 3]) {
                let mut all = kept.values(id);
                let sole = all.next().filter(|_| all.next().is_none());
                assert_eq!(kept.sole_value(id).map(|value| value.hash), sole.map(|value| value.hash), "{text} {id}");
            }
        }
    }

    #[test]
    fn values_are_shown_redacted_and_compared_whole() {
        let many: Vec<String> = (0..70).map(|n| format!("\"g{n}\"")).collect();
        let (name, data) = (format!("token=hunter22&{}", "n".repeat(2000)), "hunter22");
        let text = format!(
            r#"{{"level":"Request","verb":"create","user":{{"groups":[{}]}},"objectRef":{{"resource":"secrets","name":"{name}"}},"requestObject":{{"data":{{"x":"{data}"}}}}}}"#,
            many.join(",")
        );
        let (trace, cut) = with_event(&text, keep);
        assert_eq!(cut, 12, "six too many for each of two rules");
        let values = |id| trace.values(id).map(|value| value.to_value()).collect::<Vec<_>>();
        assert_eq!((values(0).len(), &*values(0)[63].text), (VALUES_MAX, "g63"));
        let [shown] = &values(1)[..] else { panic!("one name") };
        assert_eq!(
            (shown.text.len(), &shown.text[..17], shown.hash),
            (256, "token=[redacted]&", hash128([name.as_bytes()]))
        );
        let [secret] = &values(2)[..] else { panic!("one datum") };
        assert_eq!((&*secret.text, secret.hash), (redact::REDACTED, hash128([data.as_bytes()])));
        assert!(values(3).is_empty());
    }
}
