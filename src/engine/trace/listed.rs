//! What alerts list of an event, packed: windows keep it of many more events than are ever told.
//!
//! ```text
//! flags | time | offset | source | code | audit id | verb … namespace | name
//! ```
//!
//! Numbers take as many bytes as they need (LEB128, signed ones by zigzag), times are told from that of the block. An audit id
//! that is a UUID takes 16 bytes, not 36. Verb, resource and all else up to the namespace come again from event to event, so
//! they stand apart once, and here is their number.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::{BRIEF_TEXTS, NO_CODE, Trace, at, next_raw, put_raw, u32_at, u64_at};
use crate::event::derived::uuid;
use crate::event::identity::leb128;

/// How many bytes of names are kept apart, about; what finds no room stands with its event.
const NAMES_BYTES_MAX: usize = 1 << 20;

/// What is packed otherwise than by itself.
mod flag {
    pub(super) const CODE: u8 = 1;
    pub(super) const UUID: u8 = 2;
    pub(super) const NAMES: u8 = 4;
}

/// Where the dashes of a UUID stand (RFC 9562).
const DASHES: [usize; 4] = [8, 13, 18, 23];

/// Names that events share.
#[derive(Debug, Default)]
pub(in crate::engine) struct Names {
    seed: RandomState,
    /// The hash of names, and their number.
    numbers: HashTable<(u64, u32)>,
    bytes: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<u32>,
}

impl Names {
    /// The number of these; `None` if there is no more room.
    fn number_of(&mut self, names: &[u8]) -> Option<u32> {
        let hash = self.seed.hash_one(names);
        let same = |(have, number): &(u64, u32)| *have == hash && self.get(*number) == Some(names);
        if let Some((_, number)) = self.numbers.find(hash, same) {
            return Some(*number);
        }
        if self.bytes.len() + names.len() + size_of::<(u64, u32)>() * self.ends.len() > NAMES_BYTES_MAX {
            return None;
        }
        let number = self.ends.len() as u32;
        self.bytes.extend_from_slice(names);
        self.ends.push(self.bytes.len() as u32);
        self.numbers.insert_unique(hash, (hash, number), |(hash, _)| *hash);
        Some(number)
    }

    fn get(&self, number: u32) -> Option<&[u8]> {
        let start = number.checked_sub(1).map_or(Some(&0), |before| self.ends.get(before as usize))?;
        self.bytes.get(*start as usize..*self.ends.get(number as usize)? as usize)
    }
}

/// How much longer than [brief](Trace::brief) it may become.
pub(in crate::engine) const MORE: usize = 16;

/// Appends what alerts list of an event of this time; `base` is the time that its own is told from.
pub(in crate::engine) fn pack(time: i64, brief: &[u8], base: i64, names: &mut Names, into: &mut Vec<u8>) {
    let mut rest = brief.get(at::TEXTS..).unwrap_or_default();
    let audit_id = next_raw(&mut rest);
    let shared = rest;
    // Between the audit id and the last text, the object's name.
    for _ in 2..BRIEF_TEXTS {
        next_raw(&mut rest);
    }
    let (shared, name) = shared.split_at(shared.len() - rest.len());
    let (uuid, number) = (audit_id.and_then(uuid), names.number_of(shared));
    let code = u64_at(brief, at::CODE) as i64;
    let flags = [(code != NO_CODE, flag::CODE), (uuid.is_some(), flag::UUID), (number.is_some(), flag::NAMES)];
    let mut head = Head { bytes: [0; HEAD_MAX], length: 0 };
    head.put([flags.into_iter().map(|(is_set, bit)| if is_set { bit } else { 0 }).sum()]);
    head.signed(time.wrapping_sub(base));
    head.number(u64_at(brief, at::OFFSET));
    head.number(u32_at(brief, at::SOURCE).into());
    if code != NO_CODE {
        head.signed(code);
    }
    match uuid {
        Some(uuid) => head.put(uuid.to_be_bytes()),
        None => {
            head.move_to(into);
            put_raw(into, audit_id);
        }
    }
    if let Some(number) = number {
        head.number(number.into());
    }
    head.move_to(into);
    if number.is_none() {
        into.extend_from_slice(shared);
    }
    into.extend_from_slice(name);
}

/// What is put together before it is appended: to append each number by itself would take longer than to make it.
struct Head {
    bytes: [u8; HEAD_MAX],
    length: usize,
}

/// Flags, an audit id, and five numbers (time, offset, source, code, that of the names).
const HEAD_MAX: usize = 1 + 16 + 5 * 10;

impl Head {
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        self.bytes[self.length..self.length + N].copy_from_slice(&bytes);
        self.length += N;
    }

    fn signed(&mut self, number: i64) {
        self.number((number << 1 ^ number >> 63) as u64);
    }

    fn number(&mut self, number: u64) {
        let (bytes, length) = leb128(number);
        self.put(bytes);
        // What stands behind it is written over.
        self.length -= bytes.len() - length;
    }

    fn move_to(&mut self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.bytes[..self.length]);
        self.length = 0;
    }
}

/// The trace of which this was packed, without the rest; `None` if it was not packed so.
pub(in crate::engine) fn unpack(packed: &[u8], base: i64, names: &Names) -> Option<Trace> {
    let (flags, mut rest) = packed.split_first()?;
    let time = base.wrapping_add(next_signed(&mut rest)?);
    let offset = next_number(&mut rest)?;
    let source = u32::try_from(next_number(&mut rest)?).ok()?;
    let code = if flags & flag::CODE == 0 { NO_CODE } else { next_signed(&mut rest)? };
    let mut brief = vec![0; at::TEXTS];
    brief[at::OFFSET..at::CODE].copy_from_slice(&offset.to_le_bytes());
    brief[at::CODE..at::SOURCE].copy_from_slice(&code.to_le_bytes());
    brief[at::SOURCE..at::GROUPS].copy_from_slice(&source.to_le_bytes());
    if flags & flag::UUID == 0 {
        put_raw(&mut brief, next_raw(&mut rest));
    } else {
        let (uuid, behind) = rest.split_first_chunk()?;
        put_raw(&mut brief, Some(&uuid_text(uuid)));
        rest = behind;
    }
    if flags & flag::NAMES != 0 {
        brief.extend_from_slice(names.get(u32::try_from(next_number(&mut rest)?).ok()?)?);
    }
    brief.extend_from_slice(rest);
    Some(Trace::from_brief(time, &brief))
}

/// The text of a UUID.
fn uuid_text(uuid: &[u8; 16]) -> [u8; 36] {
    let mut text = [b'-'; 36];
    let places = (0..36).filter(|place| !DASHES.contains(place));
    let digits = uuid.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    places.zip(digits).for_each(|(place, digit)| text[place] = b"0123456789abcdef"[usize::from(digit)]);
    text
}

fn next_signed(rest: &mut &[u8]) -> Option<i64> {
    let number = next_number(rest)?;
    Some((number >> 1) as i64 ^ -((number & 1) as i64))
}

fn next_number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::engine::matches::Excerpt;

    fn packed(trace: &Trace, base: i64, names: &mut Names) -> Vec<u8> {
        let mut packed = Vec::new();
        pack(trace.time, trace.brief(), base, names, &mut packed);
        packed
    }

    proptest! {
        /// What was packed is unpacked as it was, whether there was room for its names or not.
        #[test]
        fn nothing_is_lost(
            times in prop::collection::vec(prop_oneof![Just(i64::MIN), Just(i64::MAX), any::<i64>(), 0..9i64], 2),
            offset in prop_oneof![any::<u64>(), 0..300u64],
            source in any::<u32>(),
            code in prop::option::of(any::<i64>()),
            audit_id in prop_oneof![
                "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
                "[0-9a-fA-Fg-]{36}",
                "\\PC{0,40}",
            ],
            texts in prop::collection::vec(prop::option::of(select(&["", "pods", "é", "kube-system"][..])), 4),
            name in prop::option::of("\\PC{0,20}"),
            is_full in any::<bool>(),
        ) {
            let trace = Trace::from(Excerpt {
                time: times[0],
                offset,
                source,
                code,
                audit_id: audit_id.into(),
                verb: texts[0].unwrap_or("get").into(),
                resource: "x".into(),
                api_group: texts[1].map(Into::into),
                subresource: texts[2].map(Into::into),
                namespace: texts[3].map(Into::into),
                name: name.map(Into::into),
                ..Excerpt::default()
            });
            let mut names = Names::default();
            names.number_of(b"others");
            if is_full {
                names.bytes.resize(NAMES_BYTES_MAX, 0);
            }
            let first = packed(&trace, times[1], &mut names);
            prop_assert!(first.len() <= trace.brief().len() + MORE);
            prop_assert_eq!(&packed(&trace, times[1], &mut names), &first);
            let unpacked = unpack(&first, times[1], &names).unwrap();
            prop_assert_eq!((unpacked.time, unpacked.brief()), (trace.time, trace.brief()));
            for end in 0..first.len() {
                unpack(&first[..end], 0, &Names::default());
            }
        }
    }

    #[test]
    fn what_comes_again_takes_little() {
        let trace = |audit_id: &str, namespace: &str| {
            Trace::from(Excerpt {
                time: 1_700_000_000_000_000,
                offset: 200_000_000,
                code: Some(200),
                audit_id: audit_id.to_owned().into(),
                verb: "update".into(),
                resource: "leases".into(),
                api_group: Some("coordination.k8s.io".into()),
                namespace: Some(namespace.to_owned().into()),
                name: Some("a".into()),
                ..Excerpt::default()
            })
        };
        let mut names = Names::default();
        for (audit_id, namespace, bytes) in [
            ("0184eb1d-7a16-4f0c-9d4d-5a1f0a5e6b7c", "kube-system", 31),
            ("0184eb1d-7a16-4f0c-9d4d-5a1f0a5e6b7d", "kube-node-lease", 31),
            ("0184eb1d-7a16-4f0c-9d4d-5a1f0a5e6b7D", "kube-system", 53),
        ] {
            let trace = trace(audit_id, namespace);
            assert_eq!(packed(&trace, trace.time - 1_000_000, &mut names).len(), bytes, "{audit_id}");
        }
        assert_eq!(names.ends.len(), 2);
    }
}
