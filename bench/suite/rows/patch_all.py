"""Row: patches at all positions of a prompt together, for every head and the MLP of a few layers."""

from __future__ import annotations

import random

from contract import clocked, key, way
from cost import SMOLLM2

TITLE = "patches at all positions together: z of every head, the MLP, of three layers"
UNIT = "patch"
TOLERANCE = 1e-3
PEERS = ("transformers", "TransformerLens", "nnsight")
LAYERS = (6, 14, 22)
TARGET = "PT4_hybrid"


def layers(bench) -> tuple[int, ...]:
    return LAYERS if not bench.quick else LAYERS[2:]


def ours(bench) -> dict:
    file = bench.subset([bench.decisions[0]["id"]])
    chosen = [part for layer in layers(bench) for part in ("--layer", str(layer))]
    what = ["--source", "base", "--target", TARGET, "--site", "z", "--site", "mlp_out", *chosen, "--position", "all"]
    done = bench.command("patch", *what, adapters=[TARGET], prompts=file)
    rows = done.table("patches")
    return done.side(len(rows), {key(r["site"], r["layer"], r["head"]): float(r["delta_patched"]) for r in rows})


def job(bench, round_: int) -> dict:
    places = [["z", layer, head] for layer in layers(bench) for head in range(SMOLLM2.heads)]
    places += [["mlp_out", layer, None] for layer in layers(bench)]
    return {"prompt": bench.decisions[0], "target": TARGET, "places": random.Random(round_).sample(places, bench.size(4, 2))}


def peer(library, job: dict) -> list[dict]:
    prompt = job["prompt"]
    library.select("base")
    _, source = library.run(prompt["ids"], [(site, layer) for site, layer, _ in job["places"]])
    library.select(job["target"])
    library.run(prompt["ids"])

    def patched(site: str, layer: int, head: int | None) -> float:
        taken = source[site, layer]

        def edit(tensor):
            if head is None:
                return taken
            changed = tensor.clone().flatten(2)
            width = changed.shape[-1] // SMOLLM2.heads
            columns = slice(head * width, (head + 1) * width)
            changed[..., columns] = taken.flatten(2)[..., columns]
            return changed.view_as(tensor)

        logits, _ = library.run(prompt["ids"], edits=[((site, layer), edit)])
        return (logits[-1, prompt["token_b"]].double() - logits[-1, prompt["token_a"]].double()).item()

    found, clock = clocked(lambda: {key(*place): patched(*place) for place in job["places"]})
    return [way("single", len(found), clock, found)]


def cost(bench) -> dict:
    n = len(bench.decisions[0]["ids"])
    above = [SMOLLM2.layers - 1 - layer for layer in layers(bench)]
    each = SMOLLM2.heads + 1
    flop = sum(each * SMOLLM2.forward(n, True, up + 0.5) for up in above) + 2 * SMOLLM2.forward(n, True)
    return {"flop": flop, "bytes": SMOLLM2.weights_bytes(sum(each * up for up in above))}
