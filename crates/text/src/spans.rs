//! Where each message's text lies in a rendered chat.
//!
//! A template may trim a message, move it (a system text into the first user turn) or drop it, and a search for
//! the text could find it in the wrong place (`user` is also a role's name). So the conversation is rendered a
//! second time with every text between two marks, characters that nothing else contains; the two renderings then
//! tell where each text is, and how much of it was trimmed. What a template changes in any other way is reported
//! as not found.

use std::collections::HashSet;
use std::ops::Range;

use crate::prompt::Message;
use crate::python::is_space;

/// Marks are private-use characters of plane 15: two per message, `first + 2 * index` and the next.
const FIRST_MARK: u32 = 0xF_0000;
/// The last private-use character of that plane.
const LAST_MARK: u32 = 0xF_FFFD;

/// Where a message's text lies in the rendered chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Bytes of the rendered text.
    pub range: Range<usize>,
    /// How many bytes of the message's start are missing there.
    pub trimmed_start: usize,
}

/// The conversation with every text between its marks; nothing if marks would not be unique.
pub(crate) fn marked(messages: &[Message], rendered: &str) -> Option<Vec<Message>> {
    let is_mark = |character: char| (FIRST_MARK..=LAST_MARK).contains(&u32::from(character));
    let texts = messages.iter().map(|message| message.content.as_str()).chain([rendered]);
    if texts.into_iter().any(|text| text.contains(is_mark)) {
        return None;
    }
    let mark_one = |(index, message): (usize, &Message)| {
        let [open, close] = marks(index)?;
        Some(Message { role: message.role.clone(), content: format!("{open}{}{close}", message.content) })
    };
    messages.iter().enumerate().map(mark_one).collect()
}

fn marks(index: usize) -> Option<[char; 2]> {
    let open = u32::try_from(index).ok()?.checked_mul(2)?.checked_add(FIRST_MARK)?;
    let close = open.checked_add(1).filter(|close| *close <= LAST_MARK)?;
    Some([char::from_u32(open)?, char::from_u32(close)?])
}

/// A stretch of the marked rendering.
enum Piece<'a> {
    /// What the template wrote; the same in both renderings.
    Template(&'a str),
    /// A message's text, whole; in the plain rendering its ends may be trimmed.
    Content { index: usize, text: &'a str },
}

/// Places of all messages, from the two renderings. A message that doesn't occur whole between its marks, or not
/// exactly once, has none; neither has any if the renderings differ in more than trimmed ends.
pub(crate) fn locate(messages: &[Message], rendered: &str, marked: &str) -> Vec<Option<Place>> {
    let pieces = cut(messages, marked);
    let mut places = vec![None; messages.len()];
    if let Some(found) = align(&pieces, rendered, 0, &mut HashSet::new()) {
        for (index, place) in found {
            if let Some(slot) = places.get_mut(index) {
                *slot = Some(place);
            }
        }
    }
    places
}

/// The marked rendering in pieces; stray marks are left out of the template's part.
fn cut<'a>(messages: &[Message], marked: &'a str) -> Vec<Piece<'a>> {
    let mut found = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let Some([open, close]) = marks(index) else { continue };
        let (Some(start), Some(end)) = (marked.find(open), marked.find(close)) else { continue };
        let is_single = marked.rfind(open) == Some(start) && marked.rfind(close) == Some(end);
        let text_start = start + open.len_utf8();
        let is_whole = marked.get(text_start..end) == Some(message.content.as_str());
        if is_single && is_whole {
            found.push((start, end + close.len_utf8(), index, text_start..end));
        }
    }
    found.sort_by_key(|(start, ..)| *start);
    let mut pieces = Vec::new();
    let mut at = 0;
    for (start, end, index, text) in found {
        push_template(&marked[at..start], &mut pieces);
        pieces.push(Piece::Content { index, text: &marked[text] });
        at = end;
    }
    push_template(&marked[at..], &mut pieces);
    pieces
}

/// A part that the template wrote, without marks of messages that were not found whole.
fn push_template<'a>(text: &'a str, pieces: &mut Vec<Piece<'a>>) {
    let is_mark = |character: char| (FIRST_MARK..=LAST_MARK).contains(&u32::from(character));
    pieces.extend(text.split(is_mark).filter(|part| !part.is_empty()).map(Piece::Template));
}

/// Lays the pieces along the plain rendering from the byte `at`; every piece must fit, to the end. `dead` are numbers of pieces left and
/// places from which they do not fit: texts that end in white space can be trimmed in several ways each, and together in very many.
fn align(
    pieces: &[Piece],
    rendered: &str,
    at: usize,
    dead: &mut HashSet<(usize, usize)>,
) -> Option<Vec<(usize, Place)>> {
    if dead.contains(&(pieces.len(), at)) {
        return None;
    }
    let rest = rendered.get(at..)?;
    let Some((first, others)) = pieces.split_first() else {
        return rest.is_empty().then(Vec::new);
    };
    let found = match first {
        Piece::Template(text) => {
            rest.starts_with(text).then(|| align(others, rendered, at + text.len(), dead)).flatten()
        }
        Piece::Content { index, text } => trimmings(text).into_iter().find_map(|kept| {
            let part = text.get(kept.clone())?;
            if !rest.starts_with(part) {
                return None;
            }
            let mut places = align(others, rendered, at + part.len(), dead)?;
            let place = Place { range: at..at + part.len(), trimmed_start: kept.start };
            places.push((*index, place));
            Some(places)
        }),
    };
    if found.is_none() {
        dead.insert((pieces.len(), at));
    }
    found
}

/// What may be left of a text, most first: all of it, or without white space or line ends at one or both ends.
fn trimmings(text: &str) -> Vec<Range<usize>> {
    let is_line_end = |character: char| character == '\n';
    let starts = [
        0,
        text.len() - text.trim_start_matches(is_line_end).len(),
        text.len() - text.trim_start_matches(is_space).len(),
    ];
    let ends = [text.len(), text.trim_end_matches(is_line_end).len(), text.trim_end_matches(is_space).len()];
    let mut kept = Vec::new();
    for start in starts {
        for end in ends {
            let range = start.min(end)..end;
            if !kept.contains(&range) {
                kept.push(range);
            }
        }
    }
    kept.sort_by_key(|range| std::cmp::Reverse(range.len()));
    kept
}
