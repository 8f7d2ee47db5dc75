"""Row: each block of an adapter (one module of one layer) switched off at all positions, one after another."""

from __future__ import annotations

import random

from contract import clocked, key, way
from cost import SMOLLM2

TITLE = "adapter blocks left out one by one: seven modules of two layers"
UNIT = "block and prompt"
TOLERANCE = 1e-3
PEERS = ("transformers", "nnsight")
NOTES = {
    "TransformerLens": "has merged models only: a block can't be switched off without loading the weights again",
    "all": "few blocks of one prompt: a good part of our seconds is loading (the first row), which a peer's leave out",
}
LAYERS = (10, 20)
MODULES = {
    "attn.q_proj": "q_proj",
    "attn.k_proj": "k_proj",
    "attn.v_proj": "v_proj",
    "attn.o_proj": "o_proj",
    "mlp.gate_proj": "gate_proj",
    "mlp.up_proj": "up_proj",
    "mlp.down_proj": "down_proj",
}
TARGET = "PT4_hybrid"


def layers(bench) -> tuple[int, ...]:
    return LAYERS if not bench.quick else LAYERS[1:]


def ours(bench) -> dict:
    file = bench.subset([bench.decisions[0]["id"]])
    chosen = [part for layer in layers(bench) for part in ("--layer", str(layer))]
    what = ["--source", "zero", "--target", TARGET, "--site", "adapter", *chosen, "--position", "all"]
    done = bench.command("patch", *what, adapters=[TARGET], prompts=file)
    rows = done.table("patches")
    return done.side(len(rows), {key(r["site"].removeprefix("adapter:"), r["layer"]): float(r["delta_patched"]) for r in rows})


def job(bench, round_: int) -> dict:
    blocks = [[module, layer] for layer in layers(bench) for module in MODULES]
    return {"prompt": bench.decisions[0], "target": TARGET, "blocks": random.Random(round_).sample(blocks, bench.size(4, 2))}


def peer(library, job: dict) -> list[dict]:
    prompt = job["prompt"]
    library.select(job["target"])
    library.run(prompt["ids"])

    def left_out(module: str, layer: int) -> float:
        logits = library.block_off(prompt["ids"], layer, MODULES[module])
        return (logits[-1, prompt["token_b"]].double() - logits[-1, prompt["token_a"]].double()).item()

    found, clock = clocked(lambda: {key(*block): left_out(*block) for block in job["blocks"]})
    return [way("single", len(found), clock, found)]


def cost(bench) -> dict:
    n = len(bench.decisions[0]["ids"])
    above = [SMOLLM2.layers - 0.5 - layer for layer in layers(bench)]
    flop = sum(len(MODULES) * SMOLLM2.forward(n, True, up) for up in above) + SMOLLM2.forward(n, True)
    return {"flop": flop, "bytes": SMOLLM2.weights_bytes(sum(len(MODULES) * up for up in above))}
