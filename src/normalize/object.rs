//! A look at the members of an envelope.

use std::borrow::Cow;

use crate::event::json::{Doc, Kind, Raw};

/// An object of an envelope.
#[derive(Clone, Copy)]
pub struct Object<'d> {
    pub doc: Doc<'d>,
    pub raw: Raw,
}

impl<'d> Object<'d> {
    /// The last member of this name.
    pub fn get(&self, name: &str) -> Option<Raw> {
        let doc = self.doc;
        let members = doc.members(self.raw).map_while(Result::ok);
        members.filter(|(key, _)| doc.key_is(*key, name)).last().map(|(_, value)| value)
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The value as a text, if it is one.
    pub fn text_of(&self, raw: Raw) -> Option<Cow<'d, str>> {
        if self.doc.kind(raw) == Kind::String { self.doc.string(raw).ok() } else { None }
    }

    pub fn text(&self, name: &str) -> Option<Cow<'d, str>> {
        self.text_of(self.get(name)?)
    }

    pub fn object_of(&self, raw: Raw) -> Option<Object<'d>> {
        (self.doc.kind(raw) == Kind::Object).then_some(Object { doc: self.doc, raw })
    }

    pub fn object(&self, name: &str) -> Option<Object<'d>> {
        self.object_of(self.get(name)?)
    }

    /// The elements of a member that is an array; of any other, none. What follows a broken element is not seen.
    pub fn array(&self, name: &str) -> Vec<Raw> {
        self.get(name).map_or_else(Vec::new, |raw| self.elements(raw))
    }

    pub fn elements(&self, raw: Raw) -> Vec<Raw> {
        match self.doc.kind(raw) {
            Kind::Array => self.doc.elements(raw).map_while(Result::ok).collect(),
            _ => Vec::new(),
        }
    }

    pub fn bytes(&self, raw: Raw) -> &'d [u8] {
        self.doc.bytes(raw)
    }
}
