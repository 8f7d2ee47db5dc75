//! A text and its named spans, made together: a span's offsets are noted while its text is written,
//! never searched for afterwards.

use lorascope_prompts::Span;

/// A text in the making.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    text: String,
    spans: Vec<Span>,
    open: Vec<(String, usize)>,
}

impl Assembly {
    /// Adds text that has no name.
    pub(crate) fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Adds text that is a span of its own.
    pub(crate) fn mark(&mut self, name: impl Into<String>, text: &str) {
        self.span(name, |out| out.push(text));
    }

    /// Everything that `write` adds is one span.
    pub(crate) fn span(&mut self, name: impl Into<String>, write: impl FnOnce(&mut Self)) {
        self.open(name);
        write(self);
        self.close();
    }

    /// Starts a span; spans nest.
    pub(crate) fn open(&mut self, name: impl Into<String>) {
        self.open.push((name.into(), self.text.len()));
    }

    /// Ends the span that was started last. A span without text has no tokens either, and is left
    /// out.
    pub(crate) fn close(&mut self) {
        if let Some((name, start)) = self.open.pop()
            && start < self.text.len()
        {
            self.spans.push(Span::new(name, start, self.text.len()));
        }
    }

    /// The text and its spans, in the order of their starts, outer before inner.
    pub(crate) fn finish(mut self) -> (String, Vec<Span>) {
        self.spans.sort_by_key(|s| (s.start, std::cmp::Reverse(s.end)));
        (self.text, self.spans)
    }
}
