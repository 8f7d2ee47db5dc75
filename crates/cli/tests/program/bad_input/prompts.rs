//! Prompt files, answers, spans, and how prompts meet the model.

use super::{Case, RUN};
use serde_json::{Value, json};

/// A case of a prompt file with these items.
macro_rules! items {
    ($name:literal, $items:tt, $says:expr) => {
        Case { name: $name, line: RUN, spoil: |b| b.json("prompts.json", &json!($items)), says: $says }
    };
}

/// A case of a prompt file that is this text.
macro_rules! text {
    ($name:literal, $text:expr, $says:expr) => {
        Case { name: $name, line: RUN, spoil: |b| b.bytes("prompts.json", $text), says: $says }
    };
}

pub const CASES: &[Case] = &[
    Case {
        name: "no file",
        line: "decide --base ./base --prompts gone.json --out out",
        spoil: |_| {},
        says: "prompt file `gone.json`: No such file or directory (os error 2)\n",
    },
    text!(
        "empty",
        b"",
        "prompt file `prompts.json`: is not valid JSON: EOF while parsing a value at line 1 column 0\n"
    ),
    text!(
        "not JSON",
        b"[{\"id\": 1,}]",
        "prompt file `prompts.json`: is not valid JSON: key must be a string at line 1 column 11\n"
    ),
    text!(
        "not UTF-8",
        b"[\"\xff\"]",
        "prompt file `prompts.json`: is not UTF-8 text (first bad byte at offset 2); save it as UTF-8\n"
    ),
    text!("no items", b"[]", "prompt file `prompts.json`: holds no items; a prompt set needs at least one\n"),
    text!(
        "no array",
        b"42",
        "prompt file `prompts.json`: the outermost value is a number; expected an array of items, or an object with the key `items` that holds one\n"
    ),
    items!("an id twice", [{"id": "a", "prompt": "x", "answer_a": "k", "answer_b": "g"},
        {"id": "a", "prompt": "y", "answer_a": "k", "answer_b": "g"}], "prompt file `prompts.json`: items[0] and items[1] have the same id `a`; give each item its own\n"),
    items!("a prompt twice", [{"id": "a", "prompt": "x", "answer_a": "k", "answer_b": "g"},
        {"id": "b", "prompt": "x", "answer_a": "k", "answer_b": "g"}], "prompt file `prompts.json`: items `a` and `b` have the same prompt; a repeated prompt is no further evidence, remove one\n"),
    items!("a blank prompt", [{"id": "a", "prompt": "  ", "answer_a": "k", "answer_b": "g"}], "prompt file `prompts.json`: items[0] (id `a`): key `prompt` is empty or white space only\n"),
    items!("no answers", [{"id": "a", "prompt": "x"}], "item `a` names no `answer_a` and `answer_b`; add both keys, or give default answers for the set\n"),
    items!("one answer", [{"id": "a", "prompt": "x", "answer_a": "k"}], "prompt file `prompts.json`: items[0] (id `a`): key `answer_a` is given without `answer_b`; give both or neither\n"),
    items!("two equal answers", [{"id": "a", "prompt": "x", "answer_a": "keep", "answer_b": "keep"}], "prompt file `prompts.json`: items[0] (id `a`): key `answer_a` is `keep` and `answer_b` is `keep`: the two answers must differ in more than white space\n"),
    items!("two answers of the same tokens",
        [{"id": "a", "prompt": "x", "answer_a": "keep", "answer_b": "ke\u{ad}ep"}], "prompt `a`: answers `keep` and `ke\u{ad}ep` become the same tokens; choose answers that differ\n"),
    items!("an answer that begins with the other",
        [{"id": "a", "prompt": "x", "answer_a": "action1", "answer_b": "action10"}], "prompt `a`: the tokens of `action1` are the beginning of those of `action10`, so there is no token at which they differ; choose answers of which none begins with the other\n"),
    items!("an answer without tokens",
        [{"id": "a", "prompt": "x", "answer_a": "\u{ad}", "answer_b": "keep"}], "prompt `a`: answer `\u{ad}` becomes no token at all; choose an answer that the tokenizer keeps\n"),
    items!("a span past the end", [{"id": "a", "prompt": "short", "answer_a": "k", "answer_b": "g",
        "spans": [{"name": "all", "start": 0, "end": 6}]}], "prompt file `prompts.json`: items[0] (id `a`): key `spans[0]` is the range 0..6, but the text has 5 bytes\n"),
    items!("a span that cuts a character", [{"id": "a", "prompt": "Größe", "answer_a": "k", "answer_b": "g",
        "spans": [{"name": "half", "start": 0, "end": 3}]}], "prompt file `prompts.json`: items[0] (id `a`): key `spans[0]` is the range 0..3, which cuts a character in two; offsets count UTF-8 bytes, not characters\n"),
    items!("an unknown role", [{"id": "a", "messages": [{"role": "robot", "content": "x"}], "answer_a": "k",
        "answer_b": "g"}], "prompt file `prompts.json`: items[0] (id `a`): key `messages[0].role` is `robot`; known roles are system, developer, user, assistant, tool\n"),
    items!("a chat for a model without template", [{"id": "a", "answer_a": "k", "answer_b": "g",
        "messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}]}], "prompt `a`: a raw prompt is one text: the conversation has the roles `system`, `user`, so it needs a chat template\n"),
    Case {
        name: "longer than the context",
        line: RUN,
        spoil: |b| b.json("prompts.json", &long()),
        says: "prompt `tale` has 131 tokens with its longest answer, but the model's context is 128; shorten the prompt\n",
    },
    Case {
        name: "a span that the template loses",
        line: RUN,
        spoil: |b| {
            b.text(
                "base/chat_template.jinja",
                "{{ bos_token }}{% for m in messages %}{{ m.content | upper }}{% endfor %}",
            );
            b.edit("prompts.json", |p| p[1]["spans"] = json!([{"name": "game", "start": 0, "end": 4}]));
        },
        says: "prompt `p1`: span `game` is not in the text that the model sees; the chat template removed or changed it\n",
    },
    Case {
        name: "a template that refuses the chat",
        line: RUN,
        spoil: |b| b.text("base/chat_template.jinja", "{{ raise_exception('Only even turns.') }}"),
        says: "prompt `p0`: the chat template refuses these messages: Only even turns.\n",
    },
    Case {
        name: "one answer on the command line",
        line: "decide --base ./base --prompts prompts.json --answers keep --out out",
        spoil: |_| {},
        says: "`keep` is not two answers A,B",
    },
    Case {
        name: "equal answers on the command line",
        line: "decide --base ./base --prompts prompts.json --answers keep,keep --out out",
        spoil: |b| b.json("prompts.json", &json!([{"id": "a", "prompt": "x"}])),
        says: "default answers: `answer_a` is `keep` and `answer_b` is `keep`: the two answers must differ in more than white space\n",
    },
];

fn long() -> Value {
    json!([{"id": "tale", "prompt": "word ".repeat(25), "answer_a": "keep", "answer_b": "give"}])
}
