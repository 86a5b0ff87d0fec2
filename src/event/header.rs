//! Reads the header of an event: where its members stand, and those texts that everything asks for.

use super::Stage;
use super::credential::usual_extra;
use super::json::{Kind, Members, Raw};
use super::structure::Flaw;
use super::time::parse_micros;
use super::view::{Event, Located, Texts};

/// A top-level member of an event that rules may ask for (audit.k8s.io/v1 `Event`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Slot {
    Kind,
    ApiVersion,
    Level,
    AuditId,
    Stage,
    RequestUri,
    Verb,
    User,
    ImpersonatedUser,
    AuthenticationMetadata,
    SourceIps,
    UserAgent,
    ObjectRef,
    ResponseStatus,
    RequestObject,
    ResponseObject,
    RequestReceivedTimestamp,
    StageTimestamp,
    Annotations,
    /// Of an EventList.
    Items,
}

/// How many slots there are.
pub(super) const SLOTS: usize = Slot::Items as usize + 1;

impl Slot {
    /// The slot of a member's name.
    #[inline]
    pub fn of(name: &[u8]) -> Option<Slot> {
        Some(match name {
            b"kind" => Slot::Kind,
            b"apiVersion" => Slot::ApiVersion,
            b"level" => Slot::Level,
            b"auditID" => Slot::AuditId,
            b"stage" => Slot::Stage,
            b"requestURI" => Slot::RequestUri,
            b"verb" => Slot::Verb,
            b"user" => Slot::User,
            b"impersonatedUser" => Slot::ImpersonatedUser,
            b"authenticationMetadata" => Slot::AuthenticationMetadata,
            b"sourceIPs" => Slot::SourceIps,
            b"userAgent" => Slot::UserAgent,
            b"objectRef" => Slot::ObjectRef,
            b"responseStatus" => Slot::ResponseStatus,
            b"requestObject" => Slot::RequestObject,
            b"responseObject" => Slot::ResponseObject,
            b"requestReceivedTimestamp" => Slot::RequestReceivedTimestamp,
            b"stageTimestamp" => Slot::StageTimestamp,
            b"annotations" => Slot::Annotations,
            b"items" => Slot::Items,
            _ => return None,
        })
    }

    /// Whether the API server's decoder merges a second occurrence into the first (structs and maps of Go), instead of
    /// replacing it.
    pub(super) fn merges(self) -> bool {
        matches!(
            self,
            Slot::User
                | Slot::ImpersonatedUser
                | Slot::AuthenticationMetadata
                | Slot::ObjectRef
                | Slot::ResponseStatus
                | Slot::Annotations
        )
    }

    /// Whether its own members are located when the event is read.
    fn is_read_into(self) -> bool {
        matches!(self, Slot::User | Slot::ObjectRef | Slot::ResponseStatus)
    }
}

/// What nearly every event starts with.
const USUAL_START: &[u8; 46] = br#""kind":"Event","apiVersion":"audit.k8s.io/v1","#;

/// A whole number, however JSON spells it (`200`, `2e2`).
fn integer(token: &[u8]) -> Option<i64> {
    // As nearly all are written.
    if let [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] = *token {
        return Some(i64::from(a) * 100 + i64::from(b) * 10 + i64::from(c) - i64::from(b'0') * 111);
    }
    let text = std::str::from_utf8(token).ok()?;
    let rounded = || text.parse::<f64>().ok().filter(|n| n.fract() == 0.0 && n.abs() < 1e15).map(|n| n as i64);
    text.parse().ok().or_else(rounded)
}

impl<'a> Event<'a> {
    /// Locates the members.
    ///
    /// # Errors
    /// As [`Event::parse`].
    pub fn read(&mut self) -> Result<(), Flaw> {
        let doc = self.doc;
        let mut members = self.read_in_order()?;
        let mut located = true;
        for member in members.by_ref() {
            let (key, value) = member?;
            located &= !self.place(key, value)?.is_some_and(Slot::is_read_into);
        }
        self.raw.end = members.end();
        if !located {
            self.locate()?;
        }
        self.texts = self.read_texts();
        self.stage = match self.slot(Slot::Stage).map(|raw| doc.bytes(raw)) {
            Some(b"\"ResponseComplete\"") => Stage::ResponseComplete,
            Some(b"\"ResponseStarted\"") => Stage::ResponseStarted,
            Some(b"\"RequestReceived\"") => Stage::RequestReceived,
            Some(b"\"Panic\"") => Stage::Panic,
            _ => Stage::Other,
        };
        self.received = self.time_of(Slot::RequestReceivedTimestamp);
        self.time = self.time_of(Slot::StageTimestamp).or(self.received);
        if self.time.is_none() {
            // As v1alpha1 had it.
            let raw = self.find_member(self.raw, "timestamp").filter(|raw| self.doc.kind(*raw) == Kind::String);
            self.time = raw.and_then(|raw| self.text(raw)).and_then(|text| parse_micros(text.as_bytes()));
        }
        // It counts as far as it can be read, and leaves whoever asks first in no doubt.
        self.flawed = self.malformed.take();
        Ok(())
    }

    /// Takes the members that stand in the order in which the API server writes them (that of Go's struct), and leaves the
    /// rest. An order is only a guess: what does not fit it is left to the general way.
    fn read_in_order(&mut self) -> Result<Members<'a>, Flaw> {
        let mut members = self.doc.members_in_order(self.raw);
        let mut backslash = self.doc.structure.next_backslash(self.raw.start);
        self.plain = [self.raw.start..backslash, 0..0];
        macro_rules! take {
            ($($name:literal => $slot:ident),* $(,)?) => {$(
                if let Some(value) = members.take($name) {
                    // Nearly all members stand before it.
                    if value.end > backslash {
                        if !self.doc.escapes_are_valid(value) {
                            return Err(Flaw::Syntax);
                        }
                        backslash = self.doc.structure.next_backslash(value.end);
                        if self.plain[1].is_empty() {
                            self.plain[1] = value.end..backslash;
                        }
                    }
                    self.slots[Slot::$slot as usize] = Some(value);
                }
            )*};
        }
        // These are read into at once: so their ends need not be looked for. What is wrong with one is left to the general
        // way as well.
        macro_rules! read_into {
            ($name:literal => $slot:ident) => {
                match members.object($name) {
                    Some(start) => match self.locate_in(Slot::$slot, Raw { start, end: start }) {
                        Ok(end) => self.slots[Slot::$slot as usize] = Some(members.step(Raw { start, end })),
                        Err(_) => return Ok(members.rest()),
                    },
                    None => take! { $name => $slot },
                }
            };
        }
        if let Some(start) = members.pass(USUAL_START) {
            self.slots[Slot::Kind as usize] = Some(Raw { start: start + 7, end: start + 14 });
            self.slots[Slot::ApiVersion as usize] = Some(Raw { start: start + 28, end: start + 45 });
        }
        take! {
            b"\"kind\":" => Kind,
            b"\"apiVersion\":" => ApiVersion,
            b"\"level\":" => Level,
            b"\"auditID\":" => AuditId,
            b"\"stage\":" => Stage,
            b"\"requestURI\":" => RequestUri,
            b"\"verb\":" => Verb,
        }
        read_into!(b"\"user\":" => User);
        take! {
            b"\"impersonatedUser\":" => ImpersonatedUser,
            b"\"authenticationMetadata\":" => AuthenticationMetadata,
            b"\"sourceIPs\":" => SourceIps,
            b"\"userAgent\":" => UserAgent,
        }
        read_into!(b"\"objectRef\":" => ObjectRef);
        read_into!(b"\"responseStatus\":" => ResponseStatus);
        take! {
            b"\"requestObject\":" => RequestObject,
            b"\"responseObject\":" => ResponseObject,
            b"\"requestReceivedTimestamp\":" => RequestReceivedTimestamp,
            b"\"stageTimestamp\":" => StageTimestamp,
            b"\"annotations\":" => Annotations,
        }
        Ok(members.rest())
    }

    /// Notes a member, and says which it is.
    #[inline]
    fn place(&mut self, key: Raw, value: Raw) -> Result<Option<Slot>, Flaw> {
        let Some(slot) = Slot::of(&self.doc.name(key)?) else { return Ok(None) };
        if !self.doc.escapes_are_valid(value) {
            return Err(Flaw::Syntax);
        }
        if let Some(before) = self.slots[slot as usize] {
            self.duplicate_keys = true;
            if slot.merges() {
                let null = self.doc.kind(value) == Kind::Null;
                // Null leaves a Go struct as it is, and empties a pointer or a map.
                if null && slot == Slot::User {
                    return Ok(Some(slot));
                }
                self.earlier.retain(|(have, _)| !(null && *have == slot));
                if !null {
                    self.earlier.push((slot, before));
                }
            }
        }
        self.slots[slot as usize] = Some(value);
        Ok(Some(slot))
    }

    fn locate(&mut self) -> Result<(), Flaw> {
        self.located = Located::default();
        for slot in [Slot::User, Slot::ObjectRef, Slot::ResponseStatus] {
            if !self.earlier.is_empty() {
                let parts: smallvec::SmallVec<[Raw; 2]> = self.objects(slot).collect();
                for raw in parts {
                    self.locate_in(slot, raw)?;
                }
            } else if let Some(raw) = self.slot(slot).filter(|raw| self.doc.kind(*raw) == Kind::Object) {
                self.locate_in(slot, raw)?;
            }
        }
        Ok(())
    }

    /// Locates the members of one of these objects, those first that stand in the API server's order; where it ends.
    fn locate_in(&mut self, slot: Slot, raw: Raw) -> Result<usize, Flaw> {
        let mut members = self.doc.members_in_order(raw);
        let (found, twice) = (&mut self.located, &mut self.duplicate_keys);
        let mut put = |place: &mut Option<Raw>, value: Option<Raw>| {
            if value.is_some() {
                *twice |= place.is_some();
                *place = value;
            }
        };
        match slot {
            Slot::User => {
                put(&mut found.username, members.take(b"\"username\":"));
                members.take(b"\"uid\":");
                put(&mut found.groups, members.take(b"\"groups\":"));
                let usual = members.object(b"\"extra\":").and_then(|start| usual_extra(self.doc, start));
                found.usual_extra = usual.map(|(members, _)| members);
                let extra = match usual {
                    Some((_, extra)) => Some(members.step(extra)),
                    None => members.take(b"\"extra\":"),
                };
                put(&mut found.extra, extra);
            }
            Slot::ObjectRef => {
                put(&mut found.resource, members.take(b"\"resource\":"));
                put(&mut found.namespace, members.take(b"\"namespace\":"));
                put(&mut found.name, members.take(b"\"name\":"));
                members.take(b"\"uid\":");
                put(&mut found.api_group, members.take(b"\"apiGroup\":"));
                members.take(b"\"apiVersion\":");
                members.take(b"\"resourceVersion\":");
                put(&mut found.subresource, members.take(b"\"subresource\":"));
            }
            _ => {
                members.take(b"\"metadata\":");
                put(&mut found.code, members.take(b"\"code\":"));
            }
        }
        found.plain_user |= slot == Slot::User;
        let mut members = members.rest();
        for member in members.by_ref() {
            let (key, value) = member?;
            if slot == Slot::User {
                found.plain_user = false;
                found.usual_extra = None;
            }
            let place = match (slot, &*self.doc.name(key)?) {
                (Slot::User, b"username") => &mut found.username,
                (Slot::User, b"groups") => &mut found.groups,
                (Slot::User, b"extra") => &mut found.extra,
                (Slot::ObjectRef, b"resource") => &mut found.resource,
                (Slot::ObjectRef, b"subresource") => &mut found.subresource,
                (Slot::ObjectRef, b"namespace") => &mut found.namespace,
                (Slot::ObjectRef, b"name") => &mut found.name,
                (Slot::ObjectRef, b"apiGroup") => &mut found.api_group,
                (Slot::ResponseStatus, b"code") => &mut found.code,
                _ => continue,
            };
            put(place, Some(value));
        }
        Ok(members.end())
    }

    fn read_texts(&self) -> Texts<'a> {
        let text = |raw: Option<Raw>| raw.and_then(|raw| self.text(raw));
        let located = &self.located;
        let code = located.code.and_then(|raw| integer(self.doc.bytes(raw)));
        Texts {
            verb: text(self.slot(Slot::Verb)),
            username: text(located.username),
            resource: text(located.resource),
            subresource: text(located.subresource),
            namespace: text(located.namespace),
            name: text(located.name),
            api_group: text(located.api_group),
            code,
        }
    }

    fn time_of(&self, slot: Slot) -> Option<i64> {
        let raw = self.slot(slot).filter(|raw| self.doc.kind(*raw) == Kind::String)?;
        // The zero time of Go (year 1) is no time.
        parse_micros(&self.doc.text[raw.start + 1..raw.end - 1]).filter(|micros| *micros > 0)
    }
}

#[cfg(test)]
mod tests {
    use bumpalo::Bump;
    use proptest::prelude::*;
    use proptest::sample::{select, subsequence};

    use super::super::json::Doc;
    use super::super::site::Site;
    use super::super::structure::Structure;
    use super::*;

    /// Everything that reading finds, or the flaw.
    fn read(text: &str) -> Result<String, Flaw> {
        let (mut structure, arena, site) = (Structure::default(), Bump::new(), Site::default());
        let doc = Doc::new(structure.build(text.as_bytes())?, &structure);
        let event = Event::parse(doc, Raw { start: 0, end: text.len() }, &arena, &site, "")?;
        let said = |raw: Raw| text[raw.start..raw.end].replace(' ', "");
        let slots: Vec<_> = event.slots.iter().map(|slot| slot.map(said)).collect();
        let earlier: Vec<_> = event.earlier.iter().map(|(slot, raw)| (*slot, said(*raw))).collect();
        let parts = [event.located.groups, event.located.extra].map(|part| part.map(said));
        let mut extra = Vec::new();
        let sound = event.each_extra(&mut |key, value| extra.push((key.name().to_vec(), said(value))));
        let rest = (event.stage, event.time, event.received, event.duplicate_keys, event.is_flawed());
        let extra = (extra, sound, event.single_credential());
        Ok(format!("{slots:?} {earlier:?} {parts:?} {:?} {rest:?} {:?} {extra:?}", event.texts, said(event.raw)))
    }

    /// Members in the API server's order, and some that are none of its or none at all.
    const MEMBERS: [&str; 29] = [
        r#""kind":"Event""#,
        r#""apiVersion":"audit.k8s.io/v1""#,
        r#""level":"Metadata""#,
        r#""auditID":"a\u0026b""#,
        r#""stage":"ResponseComplete""#,
        r#""requestURI":"/x?\"""#,
        r#""verb":"g\u0065t""#,
        r#""user":{"username":"u","uid":"1","groups":["g"],"extra":{"k":["v"]}}"#,
        r#""user":{"groups":[],"username":"v","username":"w"}"#,
        r#""user":{"username":"s","extra":{"authentication.kubernetes.io/credential-id":["JTI=1"],"authentication.kubernetes.io/pod-name":["p"],"authentication.kubernetes.io/pod-uid":[{}]}}"#,
        r#""user":{"username":"t","extra":{"authentication.kubernetes.io/node-name":["n"],"authentication.kubernetes.io/credential-id":"JTI=2"}}"#,
        r#""user":{"extra":{"authentication.kubernetes.io/credential-id":["JTI=3","JTI=4"]},"more":{}}"#,
        r#""impersonatedUser":{"username":"i"}"#,
        r#""authenticationMetadata":{}"#,
        r#""sourceIPs":["1.1.1.1"]"#,
        r#""userAgent":"\x""#,
        r#""objectRef":{"resource":"pods","namespace":"n","name":"p","uid":"2","apiGroup":"g","apiVersion":"v1","resourceVersion":"3","subresource":"exec"}"#,
        r#""objectRef":{"name":"q","resource":"se\u0063rets","more":1}"#,
        r#""objectRef":null"#,
        r#""responseStatus":{"metadata":{},"code":200}"#,
        r#""responseStatus":{"metadata":{},"status":"Failure","code":4e2}"#,
        r#""requestObject":{"a":[{"b":"}"}]}"#,
        r#""responseObject":[1,{}]"#,
        r#""requestReceivedTimestamp":"2026-11-23T19:30:29.041592Z""#,
        r#""stageTimestamp":"2026-11-23T19:30:30.041592Z""#,
        r#""annotations":{"a/b":"c"}"#,
        r#""ver\u0062":"list""#,
        r#""other":tru"#,
        r#""verb":"#,
    ];

    proptest! {
        /// Taking members in the order in which they probably stand finds what the general way finds, which white space
        /// forces.
        #[test]
        fn an_order_is_only_a_guess(
            mut members in subsequence(MEMBERS.to_vec(), 0..MEMBERS.len()), swap in any::<Option<(usize, usize)>>(),
            strange in select(vec![false, false, false, true]), tail in select(vec!["}", "}", "}", ",}", "", "]"]),
        ) {
            if !strange {
                members.retain(|member| !MEMBERS[26..].contains(member) && *member != MEMBERS[15]);
            }
            if let (Some((one, two)), false) = (swap, members.is_empty()) {
                let count = members.len();
                members.swap(one % count, two % count);
            }
            let dense = format!("{{{}{tail}", members.join(","));
            let spaced = dense.replace("{\"", "{ \"").replace(",\"", " , \"").replace("\":", "\" : ");
            prop_assert_eq!(read(&dense), read(&spaced), "{}", dense);
        }
    }

    #[test]
    fn names_a_member_in_many_ways() {
        let both = r#"{"verb":"get","user":{"username":"u"},"user":{"username":"v","groups":["g"]}}"#;
        let found = read(both).unwrap();
        assert!(found.contains("true") && found.contains(r#"username: Some("v")"#), "{found}");
        assert_eq!(read(&both.replace("get", "\\x")), Err(Flaw::Syntax));
        assert_eq!(read(&both.replace("}}", "}")), Err(Flaw::Ended));
    }
}
