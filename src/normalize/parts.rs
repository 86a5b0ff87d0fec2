//! Lines that a container runtime cut: their parts are joined again, one stream beside the other.

use super::envelope::Opener;
use super::kinds::Facts;
use super::multiline::document_end;
use super::object::Object;
use super::prefix::Part;
use super::{Context, Place, ProblemKind, Sink};
use crate::event::json::{Doc, Raw};

/// How an event starts, by which the rest of a line is told from the next one.
const EVENT_START: &[u8] = b"{\"kind\":\"Event\",";

/// What there is of lines that are not whole yet: of standard output and of standard error. Never more than the block
/// they stand in.
#[derive(Debug, Default)]
pub struct Parts([Option<Joined>; 2]);

#[derive(Debug)]
struct Joined {
    text: Vec<u8>,
    /// Where parts begin in `text`.
    starts: Vec<usize>,
    place: Place,
}

impl Parts {
    /// Whether a line of the stream waits for its end.
    pub fn has(&self, is_stderr: bool) -> bool {
        self.0[usize::from(is_stderr)].is_some()
    }

    /// Adds a part; with the last one, what became of the line is shown.
    pub fn take(&mut self, part: Part, text: &[u8], place: Place, context: Context<'_>, sink: &mut impl Sink) {
        let slot = &mut self.0[usize::from(part.is_stderr)];
        let joined = slot.get_or_insert_with(|| Joined { text: Vec::new(), starts: Vec::new(), place: place.clone() });
        joined.starts.push(joined.text.len());
        joined.text.extend_from_slice(text);
        joined.place.range.end = place.range.end;
        if part.goes_on {
            return;
        }
        if let Some(joined) = slot.take() {
            joined.show(context, sink);
        }
    }

    /// A line of Docker's json-file that is a part of a longer one. False if it is whole, or none of Docker's.
    pub fn docker(
        &mut self,
        doc: Doc<'_>,
        raw: Raw,
        place: &Place,
        context: Context<'_>,
        sink: &mut impl Sink,
    ) -> bool {
        let object = Object { doc, raw };
        let (Some(text), Some(stream)) = (object.text("log"), object.text("stream")) else { return false };
        let is_stderr = stream == "stderr";
        let goes_on = !text.ends_with('\n');
        // Log shippers take the newline off: then the document tells whether it is whole.
        if !self.has(is_stderr) && (!goes_on || !text.starts_with('{') || document_end(text.as_bytes()).is_some()) {
            return false;
        }
        self.take(Part { is_stderr, goes_on }, text.as_bytes(), place.clone(), context, sink);
        true
    }

    /// The block ends: what waits has no end.
    pub fn end(self, sink: &mut impl Sink) {
        for joined in self.0.into_iter().flatten() {
            let why = "the last part of a cut line is missing".to_owned();
            sink.problem(ProblemKind::Unreadable, joined.place, why);
        }
    }
}

impl Joined {
    fn show(self, context: Context<'_>, sink: &mut impl Sink) {
        let mut text = &self.text[..];
        if document_end(text).is_none() {
            // The end of a line may have been lost, and the parts behind it are the next line's.
            let whole = |at: &&usize| {
                let rest = &self.text[**at..];
                rest.starts_with(EVENT_START) && document_end(rest).is_some()
            };
            if let Some(at) = self.starts.iter().skip(1).rev().take(SALVAGE_MAX).find(whole) {
                let why = "the last part of a cut line is missing".to_owned();
                sink.problem(ProblemKind::Unreadable, self.place.clone(), why);
                text = &text[*at..];
            }
        }
        Opener::new(context, &self.place, sink).text(text, &Facts::default(), 0);
    }
}

/// How many parts are tried as the start of a line.
const SALVAGE_MAX: usize = 16;
