//! What goes wrong, and the message it must give.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::path::Path;

use lorascope_text::{GgufTokenizer, Message, PromptInput, TextError, Tokenizer, Wrapping};
use tempfile::TempDir;

/// A byte-level tokenizer of the letters a and b and of two special tokens.
fn small() -> GgufTokenizer {
    let tokens = ["<s>", "</s>", "a", "b", "ab", "Ċ", "Ġ", "u", "s", "e", "r"];
    GgufTokenizer {
        model: "gpt2".to_owned(),
        tokens: tokens.map(str::to_owned).to_vec(),
        token_types: vec![3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        merges: vec!["a b".to_owned()],
        bos_id: Some(0),
        eos_id: Some(1),
        add_bos: Some(true),
        ..GgufTokenizer::default()
    }
}

fn with_template(template: &str) -> GgufTokenizer {
    GgufTokenizer { chat_template: Some(template.to_owned()), ..small() }
}

fn build_error(meta: &GgufTokenizer) -> String {
    Tokenizer::from_gguf(meta).unwrap_err().to_string()
}

fn prompt_error<'a>(meta: &GgufTokenizer, input: impl Into<PromptInput<'a>>, wrapping: Wrapping) -> String {
    Tokenizer::from_gguf(meta).unwrap().tokens_prompt(input, wrapping).unwrap_err().to_string()
}

#[test]
fn a_tokenizer_serves_all_threads() {
    fn is_shared<T: Send + Sync + Clone>(_: &T) {}
    is_shared(&Tokenizer::from_gguf(&small()).unwrap());
}

#[test]
fn gguf_metadata() {
    let cases = [
        (
            GgufTokenizer { model: "rwkv".to_owned(), ..small() },
            "cannot rebuild a tokenizer of the kind `rwkv` from GGUF metadata (known: `gpt2`, `llama`); put the model's `tokenizer.json` beside the file",
        ),
        (
            GgufTokenizer { tokens: Vec::new(), ..small() },
            "GGUF metadata `tokenizer.ggml.tokens`: there are no tokens",
        ),
        (
            GgufTokenizer { token_types: vec![1, 1], ..small() },
            "GGUF metadata `tokenizer.ggml.token_type`: has 2 entries for 11 tokens",
        ),
        (
            GgufTokenizer { scores: vec![0.0], ..small() },
            "GGUF metadata `tokenizer.ggml.scores`: has 1 entries for 11 tokens",
        ),
        (
            GgufTokenizer { tokens: vec!["a".to_owned(); 11], ..small() },
            "GGUF metadata `tokenizer.ggml.tokens`: `a` has two ids, `0` and `1`",
        ),
        (
            GgufTokenizer { merges: vec!["b a".to_owned()], ..small() },
            "GGUF metadata `tokenizer.ggml.merges`: `b a` does not join two tokens into a third",
        ),
        (
            GgufTokenizer { merges: vec!["ab".to_owned()], ..small() },
            "GGUF metadata `tokenizer.ggml.merges`: `ab` does not join two tokens into a third",
        ),
        (
            GgufTokenizer { bos_id: Some(99), ..small() },
            "GGUF metadata `tokenizer.ggml.bos_token_id`: id `99` is beyond the 11 tokens",
        ),
        (
            with_template("{% for m in messages %}\n{{ m.content }"),
            "the chat template has a syntax error (line 2): ",
        ),
    ];
    for (meta, expected) in cases {
        let message = build_error(&meta);
        assert!(message.starts_with(expected), "{message}");
    }
    let message = build_error(&GgufTokenizer { pre: Some("klingon".to_owned()), ..small() });
    assert!(
        message.starts_with("unknown GGUF pre-tokenizer `klingon` (known: `default`, `gpt-2`, `smollm`, ")
    );
}

#[test]
fn prompts() {
    let plain = "{{ bos_token }}{{ messages[0].content }}";
    let two_turns = [Message::user("a"), Message { role: "assistant".to_owned(), content: "b".to_owned() }];
    let cases = [
        (prompt_error(&small(), "", Wrapping::Raw), "the prompt is empty"),
        (prompt_error(&with_template(plain), "", Wrapping::Auto), "the prompt is empty"),
        (
            prompt_error(&small(), "a", Wrapping::ChatTemplate),
            "this model has no chat template; give one plain text per prompt, or wrap nothing (raw)",
        ),
        (prompt_error(&with_template(plain), &[][..], Wrapping::Auto), "the conversation has no messages"),
        (
            prompt_error(&small(), &two_turns[..], Wrapping::Auto),
            "a raw prompt is one text: the conversation has the roles `user`, `assistant`, so it needs a chat template",
        ),
        (
            prompt_error(&small(), "<s>a", Wrapping::Raw),
            "the prompt starts with 2 BOS tokens (`<s>`), where the model expects one; remove it from the text",
        ),
        (
            prompt_error(&with_template(plain), "<s>a", Wrapping::Auto),
            "the prompt starts with 2 BOS tokens (`<s>`), where the model expects one; remove it from the chat template or the message",
        ),
        (
            prompt_error(&with_template("{{ messages[0].content }}"), "a", Wrapping::Auto),
            "the prompt does not start with the BOS token `<s>`: this tokenizer adds one to plain text, but the chat template writes none",
        ),
        (
            prompt_error(
                &with_template("{{ raise_exception('no \"' + messages[0].role + '\" here') }}"),
                "a",
                Wrapping::Auto,
            ),
            "the chat template refuses these messages: no \"user\" here",
        ),
        (
            prompt_error(
                &with_template("{% macro f() %}{{ raise_exception('deep') }}{% endmacro %}{{ f() }}"),
                "a",
                Wrapping::Auto,
            ),
            "the chat template refuses these messages: deep",
        ),
        (
            prompt_error(
                &with_template(
                    "{% for i in range(90000) %}{% for j in range(90000) %}{{ j }}{% endfor %}{% endfor %}",
                ),
                "a",
                Wrapping::Auto,
            ),
            "the chat template did not finish within 400000 steps; does it loop forever?",
        ),
        (
            prompt_error(
                &with_template(
                    "{% set ns = namespace(s='ab') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
                ),
                "a",
                Wrapping::Auto,
            ),
            "the chat template did not finish within 400000 steps; does it loop forever?",
        ),
    ];
    for (message, expected) in cases {
        assert_eq!(message, expected);
    }
    let failures = [
        "{{ messages[0].content.nope() }}",
        "\n{{ nothing.attribute }}",
        "{{ strftime_now('%Q') }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ];
    for template in failures {
        let message = prompt_error(&with_template(template), "a", Wrapping::Auto);
        assert!(message.starts_with("the chat template failed (line "), "{template}: {message}");
    }
}

/// What is made of a token grows with the square of its length.
#[test]
fn a_token_of_many_bytes_is_refused() {
    let mut meta = small();
    meta.tokens[2] = "a".repeat(4097);
    let said = build_error(&meta);
    assert!(said.contains("token `2` has 4097 bytes, more than 4096"), "{said}");
}

/// Texts that end in white space fit a rendering in several ways each, and a thousand of them in more ways than can be tried.
#[test]
fn long_chats_of_loose_texts_are_found_at_once() {
    let template = "{% for m in messages %}{{ m.content }}{% endfor %}{% if '\u{f0000}' in messages[0].content %}!{% endif %}";
    let tokenizer = Tokenizer::from_gguf(&with_template(template)).unwrap();
    let chat = vec![Message::user("\n \n a \n \n"); 1000];
    let begun = std::time::Instant::now();
    let rendered = tokenizer.render_chat(&chat).unwrap();
    assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
    // The marked rendering differs at its end, so that no way fits.
    assert!(rendered.content_ranges.iter().all(Option::is_none));
}

#[test]
fn a_good_prompt_has_one_bos_and_no_eos() {
    let meta = GgufTokenizer { add_eos: Some(true), ..small() };
    let tokenizer = Tokenizer::from_gguf(&meta).unwrap();
    assert_eq!(tokenizer.tokens_prompt("ab", Wrapping::Auto).unwrap().ids, [0, 4]);
    let chat = with_template("{{ bos_token }}user\n{{ messages[0].content | trim }}\n");
    let tokenizer = Tokenizer::from_gguf(&chat).unwrap();
    let prompt = tokenizer.tokens_prompt(" \n ab b ", Wrapping::Auto).unwrap();
    assert_eq!(prompt.ids, [0, 7, 8, 9, 10, 5, 4, 6, 3]);
    assert_eq!(prompt.map_span(0, &(3..5)), Some(8..10));
    assert_eq!(prompt.tokens_of(&(8..10)), 6..7);
    assert_eq!(prompt.map_span(0, &(0..5)), None);
    assert_eq!(prompt.tokens_of(&(0..0)), 0..0);
}

const TOKENIZER: &str = r#"{"version":"1.0","added_tokens":[],"normalizer":null,"pre_tokenizer":null,"post_processor":null,
    "decoder":null,"model":{"type":"BPE","vocab":{"a":0,"b":1,"<s>":2},"merges":[]}}"#;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn folder_error(files: &[(&str, &str)]) -> String {
    let folder = folder(files);
    let message = Tokenizer::from_folder(folder.path()).unwrap_err().to_string();
    message
        .replace(&format!("{}/", folder.path().display()), "")
        .replace(&folder.path().display().to_string(), "DIR")
}

#[test]
fn folders() {
    let config = |text| [("tokenizer.json", TOKENIZER), ("tokenizer_config.json", text)];
    let cases = [
        (folder_error(&[]), "no tokenizer: `DIR` has no `tokenizer.json`; save one there with"),
        (
            folder_error(&[("tokenizer.model", "")]),
            "no tokenizer: `DIR` has no `tokenizer.json` (only `tokenizer.model`, which is not read); save one",
        ),
        (
            folder_error(&[("tokenizer.json", "{\"version\": ")]),
            "`tokenizer.json` does not describe a tokenizer: EOF",
        ),
        (folder_error(&[("tokenizer.json", "{}")]), "`tokenizer.json` does not describe a tokenizer: "),
        (
            folder_error(&[(
                "tokenizer.json",
                &TOKENIZER.replace("\"merges\":[]", "\"merges\":[\"<s> <s>\"]"),
            )]),
            "`tokenizer.json` does not describe a tokenizer: the library that reads it gave up: ",
        ),
        (folder_error(&config("[]")), "`tokenizer_config.json` is not a valid JSON object: "),
        (folder_error(&config("{\"a\":")), "`tokenizer_config.json` is not a valid JSON object: EOF"),
        (
            folder_error(&config(r#"{"bos_token": 3}"#)),
            "`bos_token` in `tokenizer_config.json` should be a text, or",
        ),
        (
            folder_error(&config(r#"{"add_bos_token": "yes"}"#)),
            "`add_bos_token` in `tokenizer_config.json` should be true",
        ),
        (
            folder_error(&config(r#"{"bos_token": "<bos>"}"#)),
            "the bos token `<bos>` is not in the vocabulary of `tokenizer_config.json`",
        ),
        (
            folder_error(&config(r#"{"added_tokens_decoder": {"7": {"content": "a"}}}"#)),
            "`tokenizer_config.json` does not describe a tokenizer: `added_tokens_decoder` gives `a` the id `7`",
        ),
        (
            folder_error(&config(r#"{"chat_template": [{"name": "rag", "template": ""}]}"#)),
            "`tokenizer_config.json` names the chat templates `rag`, but none is called `default`",
        ),
        (
            folder_error(&config(r#"{"chat_template": 3}"#)),
            "`chat_template` in `tokenizer_config.json` should be a text, or",
        ),
        (
            folder_error(&[("tokenizer.json", TOKENIZER), ("chat_template.jinja", "{% if %}")]),
            "the chat template has a syntax error (line 1): ",
        ),
    ];
    for (message, expected) in cases {
        assert!(message.starts_with(expected), "{message}");
    }
    assert!(matches!(
        Tokenizer::from_folder(Path::new("no such folder")),
        Err(TextError::NoTokenizer { .. })
    ));
}

#[test]
fn a_folder_says_what_is_added_and_which_template_counts() {
    let named = r#"{"bos_token": {"content": "<s>"}, "add_bos_token": true,
        "chat_template": [{"name": "tool", "template": "t"}, {"name": "default", "template": "{{ bos_token }}a"}]}"#;
    let dir = folder(&[("tokenizer.json", TOKENIZER), ("tokenizer_config.json", named)]);
    let tokenizer = Tokenizer::from_folder(dir.path()).unwrap();
    assert!(tokenizer.adds_bos());
    assert_eq!(tokenizer.chat_template(), Some("{{ bos_token }}a"));
    assert_eq!(tokenizer.tokens_prompt("ab", Wrapping::Raw).unwrap().ids, [2, 0, 1]);

    let map = r#"{"bos_token": "<s>"}"#;
    let files =
        [("tokenizer.json", TOKENIZER), ("special_tokens_map.json", map), ("chat_template.jinja", "file")];
    let dir = folder(&files);
    let tokenizer = Tokenizer::from_folder(dir.path()).unwrap();
    assert_eq!(tokenizer.bos_id(), Some(2));
    assert!(!tokenizer.adds_bos());
    assert_eq!(tokenizer.chat_template(), Some("file"));
}
