//! Python as chat templates see it: `json.dumps`, and the string methods whose meaning differs between Rust and
//! Python or that the template engine lacks.
//!
//! Not a Python: only what the template engine and its Python-compatibility layer don't already do the same way.

use std::fmt::Write as _;

use minijinja::value::{Kwargs, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};

/// `str.isspace` of one character: Rust's white space and the four separators of ASCII.
pub(crate) fn is_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{1c}'..='\u{1f}')
}

/// `str.strip()`
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// Python's methods of strings, dictionaries and lists.
pub(crate) fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(result) = value.as_str().and_then(|text| string_method(text, name, args)) {
        return result;
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
}

/// A string method that is settled here; nothing for the others.
fn string_method(text: &str, name: &str, args: &[Value]) -> Option<Result<Value, Error>> {
    let is_default = args.iter().all(Value::is_none);
    let stripped = match name {
        "strip" if is_default => strip(text),
        "lstrip" if is_default => text.trim_start_matches(is_space),
        "rstrip" if is_default => text.trim_end_matches(is_space),
        "split" if is_default => {
            let words = text.split(is_space).filter(|word| !word.is_empty());
            return Some(Ok(words.map(Value::from).collect()));
        }
        "removeprefix" => {
            return Some(
                from_args(args).map(|(part,): (&str,)| Value::from(text.strip_prefix(part).unwrap_or(text))),
            );
        }
        "removesuffix" => {
            return Some(
                from_args(args).map(|(part,): (&str,)| Value::from(text.strip_suffix(part).unwrap_or(text))),
            );
        }
        _ => return None,
    };
    Some(Ok(Value::from(stripped)))
}

/// The filter `trim`.
pub(crate) fn trim(text: &str, characters: Option<&str>) -> String {
    match characters {
        None => strip(text).to_owned(),
        Some(characters) => text.trim_matches(|character| characters.contains(character)).to_owned(),
    }
}

/// The test `iterable`, to which `none` is not: templates ask it of the tools they weren't given.
pub(crate) fn is_iterable(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Iterable) || is_sequence(value)
}

/// The test `sequence`: what has a length and items, texts and dictionaries included, as Jinja has it for Python.
pub(crate) fn is_sequence(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String | ValueKind::Undefined)
}

/// How `json.dumps` writes.
struct JsonStyle {
    ensure_ascii: bool,
    sort_keys: bool,
    /// One level; nothing for everything on one line.
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
}

/// Most levels of lists and dictionaries in one another that are written, and most values in them. Templates write the few of a message.
const MAX_DEPTH: usize = 100;
const MAX_VALUES: usize = 1_000_000;

/// Refuses to write a value that is deeper or larger than anything that templates are given. Lists may hold the same list many times, so
/// what is small in memory can be without end when it is written.
pub(crate) fn check_size(value: &Value) -> Result<(), Error> {
    fn count(value: &Value, depth: usize, left: &mut usize) -> Result<(), Error> {
        let is_map = value.kind() == ValueKind::Map;
        if !is_map && !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
            return Ok(());
        }
        if depth == 0 {
            return Err(invalid(format!("a value of more than {MAX_DEPTH} levels cannot be written")));
        }
        for item in value.try_iter()? {
            *left = left.checked_sub(1).ok_or_else(|| {
                invalid(format!("a value of more than {MAX_VALUES} values cannot be written"))
            })?;
            count(&if is_map { value.get_item(&item)? } else { item }, depth - 1, left)?;
        }
        Ok(())
    }
    count(value, MAX_DEPTH, &mut MAX_VALUES.clone())
}

/// The filter `tojson`, which transformers defines as `json.dumps(value, ensure_ascii=False, ...)`: unlike
/// Jinja's own it escapes nothing for HTML.
pub(crate) fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let style = JsonStyle::of(&options)?;
    check_size(value)?;
    let mut text = String::new();
    style.write(value, 0, &mut text)?;
    Ok(text)
}

impl JsonStyle {
    fn of(options: &Kwargs) -> Result<Self, Error> {
        let flag = |name: &str| {
            options.get::<Option<Value>>(name).map(|flag| flag.is_some_and(|flag| flag.is_true()))
        };
        let indent = match options.get::<Option<Value>>("indent")? {
            None => None,
            Some(value) if value.is_none() => None,
            Some(value) => match (value.as_str(), value.as_i64()) {
                (Some(text), _) => Some(text.to_owned()),
                (None, Some(width)) => Some(" ".repeat(usize::try_from(width.clamp(0, 64)).unwrap_or(0))),
                (None, None) => return Err(invalid("indent should be a number or a text".to_owned())),
            },
        };
        let separators = options.get::<Option<Value>>("separators")?.filter(|value| !value.is_none());
        let (item_separator, key_separator) = match separators {
            None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
            Some(pair) => (text_at(&pair, 0)?, text_at(&pair, 1)?),
        };
        let style = Self {
            ensure_ascii: flag("ensure_ascii")?,
            sort_keys: flag("sort_keys")?,
            indent,
            item_separator,
            key_separator,
        };
        options.assert_all_used()?;
        Ok(style)
    }

    fn write(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&number(value)),
            ValueKind::String => self.write_text(value.as_str().unwrap_or_default(), out),
            ValueKind::Seq => {
                let items = value.try_iter()?.map(|item| (None, item)).collect();
                self.write_items(['[', ']'], items, depth, out)?;
            }
            ValueKind::Map => {
                let mut items = Vec::new();
                for key in value.try_iter()? {
                    items.push((Some(key_text(&key)?), value.get_item(&key)?));
                }
                if self.sort_keys {
                    items.sort_by(|a, b| a.0.cmp(&b.0));
                }
                self.write_items(['{', '}'], items, depth, out)?;
            }
            other => return Err(invalid(format!("a value of the kind `{other}` cannot be written as JSON"))),
        }
        Ok(())
    }

    /// A list (items without keys) or a dictionary.
    fn write_items(
        &self,
        brackets: [char; 2],
        items: Vec<(Option<String>, Value)>,
        depth: usize,
        out: &mut String,
    ) -> Result<(), Error> {
        let line = |depth: usize| {
            self.indent.as_ref().map(|indent| format!("\n{}", indent.repeat(depth))).unwrap_or_default()
        };
        out.push(brackets[0]);
        let is_empty = items.is_empty();
        for (index, (key, value)) in items.into_iter().enumerate() {
            if index > 0 {
                out.push_str(&self.item_separator);
            }
            out.push_str(&line(depth + 1));
            if let Some(key) = key {
                self.write_text(&key, out);
                out.push_str(&self.key_separator);
            }
            self.write(&value, depth + 1, out)?;
        }
        if !is_empty {
            out.push_str(&line(depth));
        }
        out.push(brackets[1]);
        Ok(())
    }

    fn write_text(&self, text: &str, out: &mut String) {
        out.push('"');
        for character in text.chars() {
            match character {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                plain if plain >= ' ' && (plain <= '~' || !self.ensure_ascii) => out.push(plain),
                other => {
                    for unit in other.encode_utf16(&mut [0; 2]) {
                        // Writing to a string cannot fail.
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
            }
        }
        out.push('"');
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

fn text_at(pair: &Value, index: usize) -> Result<String, Error> {
    let item = pair.get_item_by_index(index)?;
    item.as_str().map(str::to_owned).ok_or_else(|| invalid("separators should be two texts".to_owned()))
}

/// A dictionary's key as JSON has it.
fn key_text(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(key.as_str().unwrap_or_default().to_owned()),
        ValueKind::Number => Ok(number(key)),
        ValueKind::Bool => Ok(if key.is_true() { "true" } else { "false" }.to_owned()),
        ValueKind::None => Ok("null".to_owned()),
        other => Err(invalid(format!("a key of the kind `{other}` cannot be written as JSON"))),
    }
}

/// An integer, or a float as Python's `repr` writes it.
fn number(value: &Value) -> String {
    match f64::try_from(value.clone()) {
        Ok(float) if !value.is_integer() => float_repr(float),
        _ => value.to_string(),
    }
}

fn float_repr(float: f64) -> String {
    if float.is_nan() {
        return "NaN".to_owned();
    }
    if float.is_infinite() {
        return if float > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let is_plain = float == 0.0 || (1e-4..1e16).contains(&float.abs());
    if is_plain {
        return format!("{float:?}");
    }
    // Rust writes 1e16 and 1.5e-5, Python 1e+16 and 1.5e-05.
    let written = format!("{float:e}");
    let (mantissa, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}
