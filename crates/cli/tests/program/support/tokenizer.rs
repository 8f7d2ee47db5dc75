//! A byte-level tokenizer for the tiny models, which have none: one token a byte, ids below 512.

use serde_json::{Map, Value, json};

/// GPT-2's spelling of the 256 bytes as printable characters (Radford et al. 2019, `bytes_to_unicode`).
fn characters() -> [char; 256] {
    let printable = |b: u32| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let mut others = 256;
    std::array::from_fn(|byte| {
        let byte = byte as u32;
        let code = if printable(byte) {
            byte
        } else {
            others += 1;
            others - 1
        };
        char::from_u32(code).unwrap()
    })
}

/// `tokenizer.json`: `<pad>` 0, `<eos>` 1, `<bos>` 2, then the bytes. Soft hyphens vanish, so that there is a text that
/// isn't blank and has no tokens.
pub fn byte_level() -> Value {
    let mut vocab = Map::new();
    for (id, c) in characters().iter().enumerate() {
        vocab.insert(c.to_string(), json!(id + 3));
    }
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "<pad>"), special(1, "<eos>"), special(2, "<bos>")],
        "normalizer": {"type": "Replace", "pattern": {"String": "\u{ad}"}, "content": ""},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []}
    })
}

/// `tokenizer_config.json`: plain text begins with `<bos>`.
pub fn config() -> Value {
    json!({"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "add_bos_token": true})
}
