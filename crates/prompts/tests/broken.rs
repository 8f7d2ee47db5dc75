//! Prompt files that must be refused, each with the message that a user gets.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use lorascope_prompts::{Content, Item, PromptError, PromptSet, Span};

/// What is broken, the file, the message.
const BROKEN: &[(&str, &str, &str)] = &[
    ("empty file", "", "is not valid JSON: EOF while parsing a value at line 1 column 0"),
    ("cut off", "[{\"id\": \"a\", \"prompt\"", "is not valid JSON: EOF while parsing"),
    (
        "JSON Lines",
        "{\"id\":\"a\",\"prompt\":\"x\"}\n{\"id\":\"b\",\"prompt\":\"y\"}",
        "if this is one object a line (JSON Lines), put the objects into one array",
    ),
    ("no items", "[]", "holds no items; a prompt set needs at least one"),
    ("no items in object", "{\"items\": []}", "holds no items"),
    ("a string", "\"hello\"", "the outermost value is a string; expected an array of items"),
    ("an object without items", "{\"prompts\": []}", "an object without the key `items`"),
    ("items twice", "{\"items\": [], \"items\": []}", "an object with the key `items` twice"),
    ("items not an array", "{\"items\": 3}", "the outermost value is a number"),
    ("an item that is text", "[\"x\"]", "an array whose entry 0 (counted from 0) is a string"),
    ("no id", "[{\"prompt\": \"x\"}]", "items[0]: key `id` is missing"),
    (
        "id of wrong type",
        "[{\"id\": [], \"prompt\": \"x\"}]",
        "items[0]: key `id` is an array; expected a string or a number",
    ),
    ("blank id", "[{\"id\": \" \", \"prompt\": \"x\"}]", "key `id` is empty or white space only"),
    (
        "id with line break",
        "[{\"id\": \"a\\nb\", \"prompt\": \"x\"}]",
        "key `id` holds the control character U+000A at byte 1",
    ),
    ("no prompt", "[{\"id\": \"a\"}]", "items[0] (id `a`): key `prompt` is missing"),
    ("prompt null", "[{\"id\": \"a\", \"prompt\": null}]", "items[0] (id `a`): key `prompt` is missing"),
    (
        "prompt a number",
        "[{\"id\": \"a\", \"prompt\": 3}]",
        "key `prompt` is the number `3`; expected a string",
    ),
    ("blank prompt", "[{\"id\": \"a\", \"prompt\": \" \\n\"}]", "key `prompt` is empty or white space only"),
    (
        "NUL",
        "[{\"id\": \"a\", \"prompt\": \"x\\u0000\"}]",
        "key `prompt` holds the control character U+0000 at byte 1",
    ),
    (
        "prompt and messages",
        "[{\"id\": \"a\", \"prompt\": \"x\", \"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}]",
        "key `prompt` is given together with `messages`; give one of the two",
    ),
    ("key twice", "[{\"id\": \"a\", \"prompt\": \"x\", \"prompt\": \"y\"}]", "key `prompt` occurs twice"),
    (
        "messages empty",
        "[{\"id\": \"a\", \"messages\": []}]",
        "key `messages` is empty; expected at least one message",
    ),
    (
        "messages a string",
        "[{\"id\": \"a\", \"messages\": \"x\"}]",
        "key `messages` is the string `x`; expected an array",
    ),
    ("message a string", "[{\"id\": \"a\", \"messages\": [\"x\"]}]", "key `messages[0]` is the string `x`"),
    (
        "no role",
        "[{\"id\": \"a\", \"messages\": [{\"content\": \"x\"}]}]",
        "key `messages[0].role` is missing",
    ),
    (
        "unknown role",
        "[{\"id\": \"a\", \"messages\": [{\"role\": \"usr\", \"content\": \"x\"}]}]",
        "key `messages[0].role` is `usr`; known roles are system, developer, user, assistant, tool",
    ),
    (
        "content parts",
        "[{\"id\": \"a\", \"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\"}]}]}]",
        "key `messages[0].content` is an array; expected a string",
    ),
    (
        "a key that would be lost",
        "[{\"id\": \"a\", \"messages\": [{\"role\": \"user\", \"content\": \"x\", \"tool_calls\": []}]}]",
        "key `messages[0].tool_calls` is not supported in a message",
    ),
    (
        "same id",
        "[{\"id\": \"a\", \"prompt\": \"x\"}, {\"id\": \"a\", \"prompt\": \"y\"}]",
        "items[0] and items[1] have the same id `a`",
    ),
    (
        "same id, number and text",
        "[{\"id\": 1, \"prompt\": \"x\"}, {\"id\": \"1\", \"prompt\": \"y\"}]",
        "have the same id `1`",
    ),
    (
        "same prompt",
        "[{\"id\": \"a\", \"prompt\": \"x\"}, {\"id\": \"b\", \"prompt\": \"x\"}]",
        "items `a` and `b` have the same prompt",
    ),
    (
        "same prompt as a chat",
        "[{\"id\": \"a\", \"prompt\": \"x\"}, {\"id\": \"b\", \"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}]",
        "items `a` and `b` have the same prompt",
    ),
    (
        "one answer",
        "[{\"id\": \"a\", \"prompt\": \"x\", \"answer_a\": \"Y\"}]",
        "key `answer_a` is given without `answer_b`",
    ),
    (
        "equal answers",
        "[{\"id\": \"a\", \"prompt\": \"x\", \"answer_a\": \"Y\", \"answer_b\": \" Y\"}]",
        "must differ in more than white space",
    ),
    (
        "blank answer",
        "[{\"id\": \"a\", \"prompt\": \"x\", \"answer_a\": \"\", \"answer_b\": \"Y\"}]",
        "key `answer_a` is empty or white space only",
    ),
    (
        "answer a number",
        "[{\"id\": \"a\", \"prompt\": \"x\", \"answer_a\": 1, \"answer_b\": 2}]",
        "key `answer_a` is the number `1`; expected a string",
    ),
    (
        "spans as an object",
        "[{\"id\": \"a\", \"prompt\": \"x\", \"spans\": {\"n\": [0, 1]}}]",
        "key `spans` is an object; expected an array of objects",
    ),
    (
        "span without end",
        "[{\"id\": \"a\", \"prompt\": \"x\", \"spans\": [{\"name\": \"n\", \"start\": 0}]}]",
        "key `spans[0].end` is missing",
    ),
    (
        "negative offset",
        "[{\"id\": \"a\", \"prompt\": \"x\", \"spans\": [{\"name\": \"n\", \"start\": -1, \"end\": 1}]}]",
        "key `spans[0].start` is the number `-1`; expected a whole number, 0 or more",
    ),
    (
        "span past the end",
        "[{\"id\": \"a\", \"prompt\": \"x\", \"spans\": [{\"name\": \"n\", \"start\": 0, \"end\": 2}]}]",
        "key `spans[0]` is the range 0..2, but the text has 1 bytes",
    ),
    (
        "empty span",
        "[{\"id\": \"a\", \"prompt\": \"xy\", \"spans\": [{\"name\": \"n\", \"start\": 1, \"end\": 1}]}]",
        "key `spans[0]` is the range 1..1, which holds no byte",
    ),
    (
        "span inside a character",
        "[{\"id\": \"a\", \"prompt\": \"é!\", \"spans\": [{\"name\": \"n\", \"start\": 1, \"end\": 3}]}]",
        "cuts a character in two; offsets count UTF-8 bytes",
    ),
    (
        "span twice",
        "[{\"id\": \"a\", \"prompt\": \"xy\", \"spans\": [{\"name\": \"n\", \"start\": 0, \"end\": 1}, {\"name\": \"n\", \"start\": 0, \"end\": 1}]}]",
        "key `spans[1]` repeats the span `n` 0..1",
    ),
    (
        "span of a chat without message",
        "[{\"id\": \"a\", \"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"spans\": [{\"name\": \"n\", \"start\": 0, \"end\": 1}]}]",
        "key `spans[0].message` is missing",
    ),
    (
        "span in a message that is not there",
        "[{\"id\": \"a\", \"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"spans\": [{\"name\": \"n\", \"message\": 1, \"start\": 0, \"end\": 1}]}]",
        "key `spans[0].message` is 1, but the item has 1 messages",
    ),
    (
        "span of a plain prompt with a message",
        "[{\"id\": \"a\", \"prompt\": \"x\", \"spans\": [{\"name\": \"n\", \"message\": 0, \"start\": 0, \"end\": 1}]}]",
        "key `spans[0].message` is 0, but the item has 0 messages",
    ),
];

#[test]
fn each_broken_file_gets_its_message() {
    for (what, text, expected) in BROKEN {
        let message = PromptSet::parse(text).expect_err(what).to_string();
        assert!(message.contains(expected), "{what}:\n  said     {message}\n  expected {expected}");
    }
}

#[test]
fn files_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.json");
    assert!(matches!(PromptSet::read(&missing), Err(PromptError::Io { .. })));
    let latin = folder.path().join("latin.json");
    std::fs::write(&latin, b"[{\"id\": \"a\", \"prompt\": \"caf\xe9\"}]").unwrap();
    let message = PromptSet::read(&latin).unwrap_err().to_string();
    assert!(message.contains("latin.json") && message.contains("first bad byte at offset 27"), "{message}");
}

#[test]
fn sets_built_in_code_are_checked_too() {
    let text = |t: &str| Content::Text(t.into());
    let mut item = Item::new("a", text("x"));
    item.rest.insert("prompt".into(), "y".into());
    let message = PromptSet::new(vec![item]).validate().unwrap_err().to_string();
    assert!(message.contains("one of the schema's own keys"), "{message}");

    let mut item = Item::new("a", text("x"));
    item.spans.push(Span::new("", 0, 1));
    assert!(PromptSet::new(vec![item]).validate().is_err());

    let long = Item::new("a", text(&"x".repeat(lorascope_prompts::MAX_TEXT_BYTES + 1)));
    assert!(PromptSet::new(vec![long]).validate().is_err());
    let long = Item::new("a".repeat(lorascope_prompts::MAX_NAME_BYTES + 1), text("x"));
    assert!(PromptSet::new(vec![long]).validate().is_err());

    let message = lorascope_prompts::Message { role: "user".into(), content: "x".into() };
    let chat = |n: usize| Content::Messages(vec![message.clone(); n]);
    assert!(PromptSet::new(vec![Item::new("a", chat(lorascope_prompts::MAX_MESSAGES))]).validate().is_ok());
    let long = PromptSet::new(vec![Item::new("a", chat(lorascope_prompts::MAX_MESSAGES + 1))]).validate();
    let said = long.unwrap_err().to_string();
    assert!(said.contains("key `messages` has 1001 entries, more than the limit of 1000"), "{said}");

    let mut set = PromptSet::new(vec![Item::new("a", text("x"))]);
    set.meta.insert("items".into(), 3.into());
    assert!(set.validate().is_err());
}

#[test]
fn answers_of_an_item_or_of_the_set() {
    let set = PromptSet::parse(
        r#"[{"id": "own", "prompt": "x", "answer_a": "Yes", "answer_b": "No"}, {"id": "none", "prompt": "y"}]"#,
    )
    .unwrap();
    let (own, none) = (&set.items[0], &set.items[1]);
    assert_eq!(own.answers_for(Some(("1", "2"))).unwrap(), ("Yes", "No"));
    assert_eq!(none.answers_for(Some(("1", "2"))).unwrap(), ("1", "2"));
    let message = none.answers_for(None).unwrap_err().to_string();
    assert_eq!(
        message,
        "item `none` names no `answer_a` and `answer_b`; add both keys, or give default answers for the set"
    );
    let message = none.answers_for(Some(("1", " 1"))).unwrap_err().to_string();
    assert!(message.starts_with("default answers: ") && message.contains("must differ"), "{message}");
    let mut half = Item::new("half", Content::Text("x".into()));
    half.answer_b = Some("No".into());
    let message = half.answers_for(Some(("1", "2"))).unwrap_err().to_string();
    assert!(message.contains("key `answer_b` is given without `answer_a`"), "{message}");
}
