#!/usr/bin/env python3
"""Trains two small SentencePiece models and writes what the tests of this crate compare with.

Needs sentencepiece, transformers 5 and protobuf (`pip install sentencepiece transformers protobuf`). From the
repository root:

    python crates/text/scripts/sentencepiece_fixtures.py crates/text/tests/fixtures/sentencepiece

For `llama` (a space before the text, merges by score) and `gemma` (no such space, tokens of several spaces, turn
marks) it writes
- NAME.gguf.json: the arrays as a GGUF file of that model has them;
- NAME.tokenizer.json: the tokenizer that transformers builds from those arrays (`llama` in the form that the published
  tokenizer.json files of Llama-2 and Mistral have, which transformers gives to GGUF files of Phi-3 only);
- NAME.ids.json: lines and the ids that SentencePiece itself gives them.
The training text is the help texts that come with Python, and single letters of other scripts.
"""

import argparse
import json
import pathlib
import tempfile

import sentencepiece
from pydoc_data.topics import topics
from sentencepiece import sentencepiece_model_pb2 as model_pb2
from transformers.integrations.gguf.gguf_tokenizer_mapping import convert_gguf_tokenizer

LINES = [
    "",
    " ",
    "   ",
    "The player and the opponent choose at the same time.",
    " leading space, and two  spaces, and three   spaces",
    "trailing spaces  ",
    "tabs\tand\nnewlines\n\n twice",
    "numbers 1, 22, 333 and 4444; 3.14",
    "naïve café, Straße, señor",
    "日本語 と 한국어, привет, שלום, नमस्ते",
    "emoji 👩‍👩‍👧 👍🏽 and 🇩🇪",
    "def function(argument):\n    return argument ** 2\n",
    "import statement; exception handling; class attributes",
    "▁ is spelled out ▁▁ here",
    "aaaaaaaaaa bbbbbbb abababababab",
    "\x00\x01\x7f control",
    "é e\u0301 ﬁ ½ ²",
    "<0x41> is no byte token",
]


def corpus():
    text = "\n".join(topics[name] for name in sorted(topics))
    letters = " ".join(chr(code) for code in [*range(0xC0, 0x180), *range(0x391, 0x3CA), *range(0x410, 0x450)])
    return [line for line in text.splitlines() if line.strip()] + [letters] * 3


def train(folder, **options):
    text = folder / "text"
    text.write_text("\n".join(corpus()), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "model"), model_type="bpe", byte_fallback=True,
        character_coverage=1.0, normalization_rule_name="identity", remove_extra_whitespaces=False,
        split_digits=True, allow_whitespace_only_pieces=True, num_threads=1, minloglevel=2, **options,
    )
    return (folder / "model.model").read_bytes()


def gguf_arrays(model, *, spaces_as_spaces):
    proto = model_pb2.ModelProto()
    proto.ParseFromString(model)
    respell = lambda piece: " " * len(piece) if spaces_as_spaces and len(piece) > 1 and set(piece) == {"▁"} else piece
    spec = proto.trainer_spec
    return {
        "tokens": [respell(piece.piece) for piece in proto.pieces],
        "scores": [piece.score for piece in proto.pieces],
        "token_types": [piece.type for piece in proto.pieces],
        "bos_id": spec.bos_id, "eos_id": spec.eos_id, "unk_id": spec.unk_id,
        "pad_id": spec.pad_id if spec.pad_id >= 0 else None,
    }


def write(folder, name, model, arrays, architecture):
    stored = {"tokenizer_type": "llama", "tokens": arrays["tokens"], "scores": arrays["scores"],
              "token_type": arrays["token_types"]}
    tokenizer, _ = convert_gguf_tokenizer(architecture, stored)
    dump = lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"
    (folder / f"{name}.gguf.json").write_text(dump(arrays), encoding="utf-8")
    (folder / f"{name}.tokenizer.json").write_text(dump(json.loads(tokenizer.to_str())), encoding="utf-8")
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    ids = [{"text": line, "ids": processor.encode(line)} for line in LINES]
    (folder / f"{name}.ids.json").write_text(dump(ids), encoding="utf-8")
    differing = [line for line in LINES if tokenizer.encode(line, add_special_tokens=False).ids != processor.encode(line)]
    print(f"{name}: {len(arrays['tokens'])} tokens; transformers differs from SentencePiece on {differing}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as work:
        model = train(pathlib.Path(work), vocab_size=1400)
        write(folder, "llama", model, gguf_arrays(model, spaces_as_spaces=False), "phi3")
    with tempfile.TemporaryDirectory() as work:
        spaces = ["▁" * count for count in range(2, 9)]
        model = train(
            pathlib.Path(work), vocab_size=1500, add_dummy_prefix=False, pad_id=0, eos_id=1, bos_id=2, unk_id=3,
            bos_piece="<bos>", eos_piece="<eos>",
            control_symbols=["<start_of_turn>", "<end_of_turn>"], user_defined_symbols=["\n\n", *spaces],
        )
        write(folder, "gemma", model, gguf_arrays(model, spaces_as_spaces=True), "gemma2")


if __name__ == "__main__":
    main()
