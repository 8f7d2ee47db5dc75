"""Row: patches at every position in turn (a column of the layer-by-position map), the MLP of one layer."""

from __future__ import annotations

import random

from contract import clocked, key, way
from cost import SMOLLM2

TITLE = "patches at every position in turn: the MLP of one layer"
UNIT = "patch"
TOLERANCE = 1e-3
PEERS = ("transformers", "TransformerLens", "nnsight")
LAYER = 24
TARGET = "PT4_hybrid"


def ours(bench) -> dict:
    file = bench.subset([bench.decisions[0]["id"]])
    what = ["--source", "base", "--target", TARGET, "--site", "mlp_out", "--layer", str(LAYER), "--position", "each"]
    done = bench.command("patch", *what, adapters=[TARGET], prompts=file)
    rows = done.table("patches")
    return done.side(len(rows), {key(row["first_position"]): float(row["delta_patched"]) for row in rows})


def job(bench, round_: int) -> dict:
    prompt = bench.decisions[0]
    positions = random.Random(round_).sample(range(len(prompt["ids"])), bench.size(4, 2))
    return {"prompt": prompt, "target": TARGET, "positions": positions}


def peer(library, job: dict) -> list[dict]:
    prompt, place = job["prompt"], ("mlp_out", LAYER)
    library.select("base")
    _, source = library.run(prompt["ids"], [place])
    library.select(job["target"])
    library.run(prompt["ids"])

    def patched(position: int) -> float:
        def edit(tensor):
            changed = tensor.clone()
            changed[:, position] = source[place][:, position]
            return changed

        logits, _ = library.run(prompt["ids"], edits=[(place, edit)])
        return (logits[-1, prompt["token_b"]].double() - logits[-1, prompt["token_a"]].double()).item()

    found, clock = clocked(lambda: {key(position): patched(position) for position in job["positions"]})
    return [way("single", len(found), clock, found)]


def cost(bench) -> dict:
    n, above = len(bench.decisions[0]["ids"]), SMOLLM2.layers - 1 - LAYER
    each = sum(SMOLLM2.tokens(n - p, (n + p) / 2, True, above) for p in range(n))
    return {"flop": each + 2 * SMOLLM2.forward(n, True), "bytes": SMOLLM2.weights_bytes(above * n)}
