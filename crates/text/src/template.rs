//! Chat templates: Jinja source to rendered text, in the environment that transformers 5 gives it.
//!
//! That environment: `trim_blocks` and `lstrip_blocks`, loop controls, `raise_exception`, `strftime_now`, a
//! `tojson` without HTML escapes, `{% generation %}` blocks as plain blocks; the variables `messages`, `tools`
//! and `documents` (none here), `add_generation_prompt`, and the special tokens the model has. Where a message's
//! text ended up in the result is worked out in `spans`.

use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value, context, escape_formatter};

use crate::clock::{Clock, strftime};
use crate::error::{Result, TextError};
use crate::prompt::Message;
use crate::python;

/// How many template instructions a rendering may take; long conversations need some ten thousand. The engine counts 64 bytes of a
/// value that is made as one more.
const MAX_STEPS: u64 = 400_000;

/// How long a rendering may take; those of real templates take a millisecond. Lists that are added to themselves again and again cost
/// the engine no step, but without end, so there has to be an end of this kind too.
const LONGEST: Duration = Duration::from_secs(5);

/// Stack of a rendering. The engine compares, prints and drops values that lie in one another by recursion, and each step can put one
/// into another. It is reserved, not used, where a template does nothing of the kind.
const STACK: usize = 256 << 20;

/// The name under which the one template is kept.
const NAME: &str = "chat_template";

/// A parsed chat template.
#[derive(Debug, Clone)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    clock: Clock,
}

/// The message of `raise_exception`, carried through the engine as an error's source.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

impl ChatTemplate {
    /// Parses a template.
    ///
    /// # Errors
    /// A syntax error, with its line.
    pub(crate) fn parse(source: &str) -> Result<Self> {
        let mut environment = Environment::new();
        environment.set_fuel(Some(MAX_STEPS));
        environment.set_syntax(syntax().map_err(|error| syntax_error(&error))?);
        environment.set_formatter(|out, state, value| {
            python::check_size(value)?;
            escape_formatter(out, state, value)
        });
        environment.set_unknown_method_callback(python::method);
        environment.add_filter("tojson", python::tojson);
        environment.add_filter("trim", python::trim);
        environment.add_test("iterable", python::is_iterable);
        environment.add_test("sequence", python::is_sequence);
        environment.add_function("raise_exception", raise_exception);
        environment
            .add_template_owned(NAME, without_generation_tags(source))
            .map_err(|error| syntax_error(&error))?;
        let mut template = Self { environment, source: source.to_owned(), clock: Clock::System };
        template.set_clock(Clock::System);
        Ok(template)
    }

    /// The Jinja source.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// Whether the template asks for the date.
    pub(crate) fn reads_clock(&self) -> bool {
        self.source.contains("strftime_now")
    }

    /// What `strftime_now` takes for now.
    pub(crate) fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
        self.environment.add_function("strftime_now", move |format: &str| {
            strftime(format, clock).map_err(|directive| {
                let message = format!("strftime_now does not know the directive `{directive}`");
                Error::new(ErrorKind::InvalidOperation, message)
            })
        });
    }

    /// The conversation as the model reads it, up to where its answer begins.
    ///
    /// A template comes with a model from anywhere, so it gets a thread of its own, with a stack that it can't exhaust and a time after
    /// which nobody waits for it any more.
    ///
    /// # Errors
    /// What the template itself refuses, a failure in it, too many steps, or too much time.
    pub(crate) fn render(
        &self,
        messages: &[Message],
        special_tokens: &BTreeMap<String, String>,
    ) -> Result<String> {
        let chat = context! {
            messages => messages.iter().map(dictionary).collect::<Value>(),
            tools => (),
            documents => (),
            add_generation_prompt => true,
        };
        let special_tokens =
            Value::from_pairs(special_tokens.iter().map(|(name, token)| (name.as_str(), token.as_str())));
        let (environment, context) = (self.environment.clone(), context! { ..chat, ..special_tokens });
        let (sender, receiver) = channel();
        let work = move || {
            let rendered = environment.get_template(NAME).and_then(|template| template.render(context));
            // Nobody hears of what comes too late.
            let _ = sender.send(rendered.map_err(|error| failure(&error)));
        };
        let failed = |reason: String| TextError::TemplateFailed { line: None, reason };
        let thread = thread::Builder::new().name("chat template".to_owned()).stack_size(STACK).spawn(work);
        thread.map_err(|error| failed(format!("no thread for it: {error}")))?;
        receiver.recv_timeout(LONGEST).unwrap_or_else(|error| {
            Err(match error {
                RecvTimeoutError::Timeout => TextError::TemplateTooSlow { seconds: LONGEST.as_secs() },
                RecvTimeoutError::Disconnected => failed("the template engine gave up".to_owned()),
            })
        })
    }
}

/// A message as Python has it.
fn dictionary(message: &Message) -> Value {
    Value::from_pairs([("role", message.role.as_str()), ("content", message.content.as_str())])
}

fn syntax() -> Result<SyntaxConfig, Error> {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
}

fn syntax_error(error: &Error) -> TextError {
    TextError::TemplateSyntax { line: error.line(), reason: reason(error) }
}

/// What went wrong, without the engine's own name for the template.
fn reason(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

/// The innermost cause decides what kind of failure it is.
fn failure(error: &Error) -> TextError {
    let mut cause: &(dyn std::error::Error + 'static) = error;
    loop {
        if let Some(Raised(message)) = cause.downcast_ref() {
            return TextError::TemplateRaised { message: message.clone() };
        }
        if cause.downcast_ref::<Error>().is_some_and(|error| error.kind() == ErrorKind::OutOfFuel) {
            return TextError::TemplateTooLong { steps: MAX_STEPS };
        }
        match cause.source() {
            Some(source) => cause = source,
            None => return TextError::TemplateFailed { line: error.line(), reason: reason(error) },
        }
    }
}

/// `{% generation %} ... {% endgeneration %}` marks what an assistant wrote, for training; the engine has no such
/// tag, and for the text it means nothing. An `if` that always holds keeps the white space rules of the tags.
fn without_generation_tags(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        result.push_str(before);
        let Some(length) = tag.find("%}") else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(length);
        let inner = tag.trim_start_matches("{%").trim_matches(['-', '+']).trim();
        match inner {
            "generation" => result.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => result.push_str(&tag.replace("endgeneration", "endif")),
            _ => result.push_str(tag),
        }
        rest = after;
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_generation_blocks_into_plain_ones() {
        let source = "a{%- generation -%} b {% endgeneration %}{% if generation %}c{% endif %}";
        let expected = "a{%- if true -%} b {% endif %}{% if generation %}c{% endif %}";
        assert_eq!(without_generation_tags(source), expected);
        assert_eq!(without_generation_tags("a{% b"), "a{% b");
    }
}
