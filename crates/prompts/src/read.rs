//! From JSON text to a prompt set. Says which item and which key is wrong; whether the values make
//! sense together is for `check`.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::error::{Problem, PromptError};
use crate::item::{Content, Item, Message, Span};
use crate::set::{MAX_FILE_BYTES, MAX_ITEMS, PromptSet};

/// The entries of one JSON object, in file order, repeated keys included.
struct Entries<T>(Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Collect<T> {
            type Value = Entries<T>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Collect(PhantomData))
    }
}

/// Reads a set from JSON text, without the checks of [`PromptSet::validate`].
pub(crate) fn set_from_text(text: &str) -> Result<PromptSet, PromptError> {
    if text.len() > MAX_FILE_BYTES {
        return Err(PromptError::TooLarge { limit: MAX_FILE_BYTES });
    }
    // Some editors put a byte order mark before UTF-8.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim_ascii_start();
    if !text.starts_with('{') {
        return Ok(PromptSet { items: items_from(text)?, meta: Map::new() });
    }
    let mut items = None;
    let mut meta = Map::new();
    let Entries(entries) = serde_json::from_str::<Entries<&RawValue>>(text).map_err(|e| syntax(&e))?;
    for (key, value) in entries {
        let repeated = if key == "items" {
            items.replace(items_from(value.get())?).is_some()
        } else {
            let value = serde_json::from_str(value.get()).map_err(|e| syntax(&e))?;
            meta.insert(key.clone(), value).is_some()
        };
        if repeated {
            return Err(PromptError::Shape { found: format!("an object with the key `{key}` twice") });
        }
    }
    match items {
        Some(items) => Ok(PromptSet { items, meta }),
        None => Err(PromptError::Shape { found: "an object without the key `items`".into() }),
    }
}

fn items_from(text: &str) -> Result<Vec<Item>, PromptError> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|e| syntax(&e))?;
    if !raw.get().starts_with('[') {
        return Err(PromptError::Shape { found: kind_of_text(raw.get()).into() });
    }
    let rows: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(|e| syntax(&e))?;
    if rows.len() > MAX_ITEMS {
        return Err(PromptError::TooMany { found: rows.len(), limit: MAX_ITEMS });
    }
    rows.iter().enumerate().map(|(index, row)| item_from_row(index, row.get())).collect()
}

fn item_from_row(index: usize, row: &str) -> Result<Item, PromptError> {
    if !row.starts_with('{') {
        return Err(PromptError::Shape {
            found: format!("an array whose entry {index} (counted from 0) is {}", kind_of_text(row)),
        });
    }
    let Entries(entries) = serde_json::from_str::<Entries<Value>>(row).map_err(|e| syntax(&e))?;
    item_from_entries(index, entries)
}

fn syntax(error: &serde_json::Error) -> PromptError {
    let message = error.to_string();
    let hint = if message.starts_with("trailing characters") {
        "; if this is one object a line (JSON Lines), put the objects into one array"
    } else {
        ""
    };
    PromptError::Syntax { message, hint }
}

fn kind_of_text(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'[') => "an array",
        Some(b'{') => "an object",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(b) => format!("the boolean `{b}`"),
        Value::Number(n) => format!("the number `{n}`"),
        Value::String(s) => format!("the string `{}`", s.chars().take(60).collect::<String>()),
        Value::Array(_) => "an array".into(),
        Value::Object(_) => "an object".into(),
    }
}

/// The entries of one item while they are taken out one by one.
struct Fields {
    index: usize,
    id: String,
    map: BTreeMap<String, Value>,
}

impl Fields {
    fn fail(&self, key: impl Into<String>, problem: Problem) -> PromptError {
        PromptError::Item { index: self.index, id: self.id.clone(), key: key.into(), problem }
    }

    fn wrong(&self, key: impl Into<String>, expected: &'static str, value: &Value) -> PromptError {
        self.fail(key, Problem::Type { expected, found: kind(value) })
    }

    /// The value of an optional key. `null` counts as not given: data frames export it so.
    fn take(&mut self, key: &str) -> Option<Value> {
        self.map.remove(key).filter(|v| !v.is_null())
    }

    /// A name: a string, or a number that is written out.
    fn name(&mut self, key: &str) -> Result<Option<String>, PromptError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(s)) => Ok(Some(s)),
            Some(Value::Number(n)) => Ok(Some(n.to_string())),
            Some(other) => Err(self.wrong(key, "a string or a number", &other)),
        }
    }

    fn text(&mut self, key: &str) -> Result<Option<String>, PromptError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(s)) => Ok(Some(s)),
            Some(other) => Err(self.wrong(key, "a string", &other)),
        }
    }
}

fn item_from_entries(index: usize, entries: Vec<(String, Value)>) -> Result<Item, PromptError> {
    let mut fields = Fields { index, id: String::new(), map: BTreeMap::new() };
    for (key, value) in entries {
        if fields.map.insert(key.clone(), value).is_some() {
            return Err(fields.fail(key, Problem::Repeated));
        }
    }
    fields.id = fields.name("id")?.ok_or_else(|| fields.fail("id", Problem::Missing))?;
    let content = content_from(&mut fields)?;
    let spans = spans_from(&mut fields)?;
    Ok(Item {
        content,
        spans,
        answer_a: fields.text("answer_a")?,
        answer_b: fields.text("answer_b")?,
        scenario: fields.name("scenario")?,
        variant: fields.name("variant")?,
        template: fields.name("template")?,
        id: fields.id,
        rest: fields.map,
    })
}

fn content_from(fields: &mut Fields) -> Result<Content, PromptError> {
    match (fields.text("prompt")?, fields.take("messages")) {
        (Some(text), None) => Ok(Content::Text(text)),
        (None, Some(Value::Array(messages))) => {
            let turns = messages.into_iter().enumerate();
            turns.map(|(at, m)| message_from(fields, at, m)).collect::<Result<_, _>>().map(Content::Messages)
        }
        (None, Some(other)) => Err(fields.wrong("messages", "an array of messages", &other)),
        (Some(_), Some(_)) => Err(fields.fail("prompt", Problem::Excludes { other: "messages" })),
        (None, None) => Err(fields.fail("prompt", Problem::Missing)),
    }
}

fn message_from(fields: &Fields, at: usize, value: Value) -> Result<Message, PromptError> {
    let place = |key: &str| format!("messages[{at}].{key}");
    let Value::Object(mut map) = value else {
        return Err(fields.wrong(format!("messages[{at}]"), "an object with `role` and `content`", &value));
    };
    let mut text = |key: &str| match map.remove(key) {
        Some(Value::String(s)) => Ok(s),
        Some(other) => Err(fields.wrong(place(key), "a string", &other)),
        None => Err(fields.fail(place(key), Problem::Missing)),
    };
    let message = Message { role: text("role")?, content: text("content")? };
    match map.keys().next() {
        Some(key) => Err(fields.fail(place(key), Problem::MessageKey)),
        None => Ok(message),
    }
}

fn spans_from(fields: &mut Fields) -> Result<Vec<Span>, PromptError> {
    match fields.take("spans") {
        None => Ok(Vec::new()),
        Some(Value::Array(spans)) => {
            spans.into_iter().enumerate().map(|(at, span)| span_from(fields, at, span)).collect()
        }
        Some(other) => Err(fields.wrong("spans", "an array of objects with `name`, `start`, `end`", &other)),
    }
}

fn span_from(fields: &Fields, at: usize, value: Value) -> Result<Span, PromptError> {
    let place = |key: &str| format!("spans[{at}].{key}");
    let Value::Object(mut map) = value else {
        let place = format!("spans[{at}]");
        return Err(fields.wrong(place, "an object with `name`, `start`, `end`", &value));
    };
    let name = match map.remove("name") {
        Some(Value::String(s)) => s,
        Some(other) => return Err(fields.wrong(place("name"), "a string", &other)),
        None => return Err(fields.fail(place("name"), Problem::Missing)),
    };
    let mut offset = |key: &str| match map.remove(key).filter(|v| !v.is_null()) {
        None => Ok(None),
        Some(value) => match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(n) => Ok(Some(n)),
            None => Err(fields.wrong(place(key), "a whole number, 0 or more", &value)),
        },
    };
    let start = offset("start")?.ok_or_else(|| fields.fail(place("start"), Problem::Missing))?;
    let end = offset("end")?.ok_or_else(|| fields.fail(place("end"), Problem::Missing))?;
    let message = offset("message")?;
    Ok(Span { name, start, end, message, rest: map.into_iter().collect() })
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Entries(entries) = Entries::<Value>::deserialize(deserializer)?;
        item_from_entries(0, entries).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for PromptSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        set_from_text(&value.to_string()).map_err(D::Error::custom)
    }
}
