//! What is read is what was written, and foreign files are taken as they are.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lorascope_prompts::{Content, Item, Message, PromptSet, Span};
use proptest::prelude::*;
use serde_json::{Value, json};

/// The folder of reference data beside the repository; `None`, said aloud, where it is absent and not demanded.
fn shared() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    if path.is_dir() {
        return Some(path);
    }
    let demanded = std::env::var("LORASCOPE_REQUIRE_SHARED").is_ok_and(|value| value == "1");
    assert!(!demanded, "`{}` is absent, and LORASCOPE_REQUIRE_SHARED=1 demands it", path.display());
    println!("skipped: `{}` is absent", path.display());
    None
}

#[test]
fn a_foreign_file_is_taken_as_it_is() {
    let text = r#"[
        {"id": 7, "scenario": "s", "variant": 0, "prompt": "Grüße, 東京", "seed": 42, "notes": null,
         "state": {"z": [1, 0.1], "a": "C"}, "answer_a": null,
         "spans": [{"name": "city", "start": 9, "end": 15, "colour": "red"}]},
        {"id": "chat", "messages": [{"role": "system", "content": ""}, {"role": "user", "content": "hi"}],
         "spans": [{"name": "greeting", "message": 1, "start": 0, "end": 2}]}
    ]"#;
    let set = PromptSet::parse(text).unwrap();
    let (first, chat) = (&set.items[0], &set.items[1]);
    assert_eq!((first.id.as_str(), first.variant.as_deref()), ("7", Some("0")));
    assert_eq!(first.answer_a, None);
    assert_eq!(first.span_text(&first.spans[0]), Some("東京"));
    assert_eq!(first.spans[0].rest["colour"], json!("red"));
    assert_eq!(first.rest["state"], json!({"z": [1, 0.1], "a": "C"}));
    assert_eq!(first.rest["notes"], Value::Null);
    assert_eq!(first.cluster(), "7");
    assert_eq!(chat.content.turns(), [("system", ""), ("user", "hi")]);
    assert_eq!(chat.span_text(&chat.spans[0]), Some("hi"));
    assert_eq!(chat.spans_named("greeting").count(), 1);
    assert_eq!(PromptSet::parse(&set.to_json()).unwrap(), set);
}

#[test]
fn keys_of_an_object_are_kept_and_a_byte_order_mark_is_not() {
    let text = "\u{feff} {\"source\": \"x\", \"items\": [{\"id\": \"a\", \"prompt\": \"b\"}], \"made\": {\"b\": 1, \"a\": 2}}";
    let set = PromptSet::parse(text).unwrap();
    assert_eq!(set.meta["source"], json!("x"));
    let expected = "{\n\"made\": {\"a\": 2, \"b\": 1},\n\"source\": \"x\",\n\"items\": [\n {\n  \"id\": \"a\",\n  \"prompt\": \"b\"\n }\n]\n}\n";
    assert_eq!(set.to_json(), expected);
    assert_eq!(PromptSet::parse(expected).unwrap(), set);
}

#[test]
fn the_reference_prompts_are_read() {
    let Some(shared) = shared() else { return };
    let set = PromptSet::read(shared.join("golden/prompts.json")).unwrap();
    let ids: Vec<_> = set.items.iter().map(|i| i.id.as_str()).collect();
    assert_eq!(ids, ["table_cd", "table_dc_swapped", "words", "yes_no", "unicode"]);
    assert_eq!(set.items[1].answers_for(None).unwrap(), ("action2", "action1"));
    assert_eq!(PromptSet::parse(&set.to_json()).unwrap(), set);
}

#[test]
fn a_file_is_written_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prompts.json");
    let set = PromptSet::new(vec![Item::new("a", Content::Text("b".into()))]);
    set.write(&path).unwrap();
    assert_eq!(PromptSet::read(&path).unwrap(), set);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert!(set.write(folder.path().join("none").join("prompts.json")).is_err());
}

/// Any text that a prompt may hold.
fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 é東🙂\"\\\\\n\t/]{0,20}[a-z東]"
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e300f64..1e300).prop_map(Value::from),
        text().prop_map(Value::from),
        prop::collection::btree_map("[a-z]{1,3}", any::<u64>(), 0..3).prop_map(|m| json!(m)),
    ]
}

fn content() -> impl Strategy<Value = Content> {
    let message = ("system|user|assistant", text()).prop_map(|(role, content)| Message { role, content });
    prop_oneof![
        text().prop_map(Content::Text),
        prop::collection::vec(message, 1..4).prop_map(Content::Messages),
    ]
}

prop_compose! {
    fn item()(
        content in content(),
        answers in prop::option::of(text()),
        scenario in prop::option::of("[a-z]{1,5}"),
        template in prop::option::of("[a-z]{1,5}"),
        rest in prop::collection::btree_map("x_[a-z]{1,3}", leaf(), 0..4),
        note in leaf(),
    ) -> Item {
        let message = matches!(content, Content::Messages(_)).then_some(0);
        let len = content.turns()[0].1.len();
        let name = "whole".to_owned();
        let span = Span { name, start: 0, end: len, message, rest: BTreeMap::from([("note".into(), note)]) };
        let mut item = Item::new("", content);
        item.answer_b = answers.as_ref().map(|a| format!("{a}!"));
        item.answer_a = answers;
        item.scenario = scenario;
        item.template = template;
        item.rest = rest;
        item.spans = vec![span];
        item
    }
}

proptest! {
    #[test]
    fn any_valid_set_survives_the_round_trip(
        items in prop::collection::vec(item(), 1..5),
        meta in prop::collection::btree_map("m_[a-z]{1,3}", leaf(), 0..3),
    ) {
        let mut set = PromptSet::new(items);
        set.meta = meta.into_iter().collect();
        for (at, item) in set.items.iter_mut().enumerate() {
            item.id = format!("id {at}");
            match &mut item.content {
                Content::Text(text) => text.push_str(&at.to_string()),
                Content::Messages(messages) => messages[0].content.push_str(&at.to_string()),
            }
        }
        let written = set.to_json();
        let read = PromptSet::parse(&written).unwrap();
        prop_assert_eq!(&read, &set);
        prop_assert_eq!(read.to_json(), written);
        let through_serde: PromptSet = serde_json::from_str(&serde_json::to_string(&set).unwrap()).unwrap();
        prop_assert_eq!(&through_serde, &set);
        let item: Item = serde_json::from_value(serde_json::to_value(&set.items[0]).unwrap()).unwrap();
        prop_assert_eq!(&item, &set.items[0]);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[\\[\\]{}\":,a-z0-9 ]{0,60}") {
        let _ = PromptSet::parse(&text);
    }
}
