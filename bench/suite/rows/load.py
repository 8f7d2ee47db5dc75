"""Row: from nothing to a first decision of base and adapters on one short prompt. Peers' loading is timed when they start."""

from __future__ import annotations

import json

from cost import SMOLLM2

TITLE = "loading: from the start of the process to a first result of base + 4 adapters"
UNIT = "start"
TOLERANCE = None  # nothing is computed that both sides would have
PEERS = ("transformers", "TransformerLens", "nnsight", "candle-mi")
NOTES = {"candle-mi": "the base alone", "all": "peers: imports of the libraries included, from weights already converted to f32"}


def ours(bench) -> dict:
    file = bench.scratch / "short.json"
    file.write_text(json.dumps([{"id": "short", "prompt": "Answer yes or no.", "answer_a": "yes", "answer_b": "no"}]))
    return bench.command("decide", prompts=file).side(1, {})


def cost(bench) -> dict:
    return {"flop": 5 * SMOLLM2.forward(20, True), "bytes": SMOLLM2.weights_bytes() + 4.0 * SMOLLM2.vocabulary * SMOLLM2.width}
