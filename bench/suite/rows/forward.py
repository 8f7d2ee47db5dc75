"""Row: one forward pass that keeps every activation, with the logits of all positions."""

from __future__ import annotations

import json

from contract import clocked, key, measured, way
from cost import SMOLLM2

TITLE = "forward pass of 232 tokens with everything kept, logits of all positions"
UNIT = "pass"
TOLERANCE = 2e-3  # of logits between -10 and 30, f32 on both sides
PEERS = ("transformers", "TransformerLens", "nnsight", "candle-mi")
NOTES = {"all": "what is kept: every hook point (candle-mi, TransformerLens, ours without each head's own input and share of the output), "
         "every module's output (transformers), seven places a layer (nnsight)"}  # fmt: skip
TOKENS = 232


def ids() -> list[int]:
    """What the example bench_forward runs: BOS, then a fixed walk through the vocabulary."""
    return [1] + [3 + (7919 * place) % 40_000 for place in range(1, TOKENS)]


def ours(bench) -> dict:
    words = [str(bench.examples / "bench_forward"), "--base", str(bench.base), "--tokens", str(TOKENS)]
    words += ["--threads", str(bench.threads), "--runs", str(bench.size(5, 2))]
    ways = []
    for name, more in (("kept", ["--capture"]), ("nothing kept", [])):
        took = measured([*words, *more])
        found = json.loads(took["output"])
        values = {key(1): found["last_logit_of_token_1"]}
        clock = {"seconds": sum(found["seconds"]), "processor": found["processor_seconds"]}
        ways.append(way(name, len(found["seconds"]), clock, values) | {"peak_bytes": took["peak_bytes"]})
    return {"ways": ways, "peak_bytes": ways[0]["peak_bytes"]}


def job(bench, round_: int) -> dict:
    return {"ids": ids(), "runs": bench.size(3, 1)}


def peer(library, job: dict) -> list[dict]:
    library.select("base")
    ways = []
    for name, run in (("kept", library.full_cache), ("nothing kept", lambda given: library.run(given, all_logits=True))):
        run(job["ids"])

        def repeated():
            for _ in range(job["runs"]):
                kept = run(job["ids"])
            return kept

        (logits, kept), clock = clocked(repeated)
        ways.append(way(name, job["runs"], clock, {key(1): logits[-1, 1].item()}) | {"kept": kept if name == "kept" else 0})
    return ways


def cost(bench) -> dict:
    return {
        "flop": SMOLLM2.forward(TOKENS, False) + SMOLLM2.logits(TOKENS),
        "bytes": SMOLLM2.weights_bytes() + 4.0 * SMOLLM2.vocabulary * (SMOLLM2.width + TOKENS),
    }
