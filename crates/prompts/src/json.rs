//! How a prompt set is written: one layout, the same bytes for the same set on every machine and
//! in every build. Keys of the schema come first in a fixed order, all others sorted.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value, json};

use crate::item::{Content, Item, Span};
use crate::set::PromptSet;

/// The schema's own keys of an item.
pub(crate) const ITEM_KEYS: [&str; 9] =
    ["id", "scenario", "variant", "template", "prompt", "messages", "answer_a", "answer_b", "spans"];
/// The schema's own keys of a span.
pub(crate) const SPAN_KEYS: [&str; 4] = ["name", "message", "start", "end"];

/// A JSON value whose objects are written with sorted keys. `serde_json` keeps either file order or
/// sorted order, depending on a feature that any crate of a build can switch on; this does not.
struct Sorted<'a>(&'a Value);

impl Serialize for Sorted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Array(values) => serializer.collect_seq(values.iter().map(Sorted)),
            Value::Object(map) => {
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_by_key(|(key, _)| key.as_str());
                serializer.collect_map(entries.into_iter().map(|(k, v)| (k, Sorted(v))))
            }
            leaf => leaf.serialize(serializer),
        }
    }
}

/// The keys and values of an item in the order in which they are written.
fn item_fields(item: &Item) -> Vec<(&str, Value)> {
    let mut fields = vec![("id", json!(item.id))];
    let mut text = |key, value: &Option<String>| {
        if let Some(value) = value {
            fields.push((key, json!(value)));
        }
    };
    text("scenario", &item.scenario);
    text("variant", &item.variant);
    text("template", &item.template);
    text("answer_a", &item.answer_a);
    text("answer_b", &item.answer_b);
    match &item.content {
        Content::Text(text) => fields.push(("prompt", json!(text))),
        Content::Messages(messages) => {
            let turns =
                messages.iter().map(|m| json!({"role": m.role, "content": m.content})).collect::<Vec<_>>();
            fields.push(("messages", Value::Array(turns)));
        }
    }
    if !item.spans.is_empty() {
        fields.push(("spans", Value::Array(item.spans.iter().map(span_value).collect())));
    }
    fields.extend(item.rest.iter().map(|(key, value)| (key.as_str(), value.clone())));
    fields
}

fn span_value(span: &Span) -> Value {
    let mut map = Map::new();
    map.insert("name".into(), json!(span.name));
    map.insert("start".into(), json!(span.start));
    map.insert("end".into(), json!(span.end));
    if let Some(message) = span.message {
        map.insert("message".into(), json!(message));
    }
    map.extend(span.rest.clone());
    Value::Object(map)
}

impl Serialize for Item {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = item_fields(self);
        let mut map = serializer.serialize_map(Some(fields.len()))?;
        for (key, value) in &fields {
            map.serialize_entry(key, &Sorted(value))?;
        }
        map.end()
    }
}

impl Serialize for PromptSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.meta.is_empty() {
            return serializer.collect_seq(&self.items);
        }
        let mut entries: Vec<_> = self.meta.iter().collect();
        entries.sort_by_key(|(key, _)| key.as_str());
        let mut map = serializer.serialize_map(Some(entries.len() + 1))?;
        for (key, value) in entries {
            map.serialize_entry(key, &Sorted(value))?;
        }
        map.serialize_entry("items", &self.items)?;
        map.end()
    }
}

/// The set as text: one key a line, one span a line, a line break at the end.
pub(crate) fn pretty(set: &PromptSet) -> String {
    let mut out = String::new();
    if set.meta.is_empty() {
        push_items(&mut out, &set.items);
        out.push('\n');
        return out;
    }
    let mut entries: Vec<_> = set.meta.iter().collect();
    entries.sort_by_key(|(key, _)| key.as_str());
    out.push_str("{\n");
    for (key, value) in entries {
        out.push_str(&format!("{}: {},\n", compact(&json!(key)), compact(value)));
    }
    out.push_str("\"items\": ");
    push_items(&mut out, &set.items);
    out.push_str("\n}\n");
    out
}

fn push_items(out: &mut String, items: &[Item]) {
    out.push_str("[\n");
    for (at, item) in items.iter().enumerate() {
        out.push_str(" {\n");
        let fields = item_fields(item);
        for (number, (key, value)) in fields.iter().enumerate() {
            out.push_str(&format!("  {}: ", compact(&json!(key))));
            match value {
                Value::Array(rows) if matches!(*key, "spans" | "messages") => push_rows(out, rows),
                value => out.push_str(&compact(value)),
            }
            out.push_str(if number + 1 < fields.len() { ",\n" } else { "\n" });
        }
        out.push_str(if at + 1 < items.len() { " },\n" } else { " }\n" });
    }
    out.push(']');
}

fn push_rows(out: &mut String, rows: &[Value]) {
    let rows: Vec<String> = rows.iter().map(|row| format!("\n   {}", compact(row))).collect();
    out.push_str(&format!("[{}\n  ]", rows.join(",")));
}

/// A value on one line, objects sorted.
fn compact(value: &Value) -> String {
    match value {
        Value::Array(values) => {
            format!("[{}]", values.iter().map(compact).collect::<Vec<_>>().join(", "))
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| key.as_str());
            let entries: Vec<String> = entries
                .into_iter()
                .map(|(k, v)| format!("{}: {}", Value::String(k.clone()), compact(v)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        leaf => leaf.to_string(),
    }
}
