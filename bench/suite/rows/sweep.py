"""What rows of patches share: z of every head and mlp_out of every layer at the decision point, in cells. No row itself.

A cell is a source and a target, each a model and a prompt. Peers work in two ways: *single*, a forward pass for each patch of
a seeded sample, as the libraries' own sweeps do; and *cached*, the tokens before the decision point once with a KV cache,
then every patch of the cell as a copy of the decision token under a mask of its own, which is the way to beat.
"""

from __future__ import annotations

import random

from contract import clocked, key, way
from cost import SMOLLM2


def values(rows: list[dict]) -> dict:
    """delta of every patched run in our table."""
    return {
        key(row["source"], row["target"], row["source_prompt_id"], row["prompt_id"], row["site"], row["layer"], row["head"]): float(
            row["delta_patched"]
        )
        for row in rows
    }


def job(cells: list[dict], prompts: list[dict], whole: dict, sample: int, seed: int) -> dict:
    """What every peer gets. `whole` says how many patches, cells and source runs there are in all."""
    places = [["z", layer, head] for layer in range(SMOLLM2.layers) for head in range(SMOLLM2.heads)]
    places += [["mlp_out", layer, None] for layer in range(SMOLLM2.layers)]
    dice = random.Random(seed)
    named = {prompt["id"]: prompt for prompt in prompts}
    for cell in cells:
        cell["sample"] = dice.sample(places, sample)
        cell["prompt_from"], cell["prompt_to"] = named[cell["from"]], named[cell["to"]]
    return {"cells": cells, "places": places, "whole": whole}


def peer(library, job: dict) -> list[dict]:
    from patching import Patch, Prompt, Source

    ways = {}
    for cell in job["cells"]:
        at = {end: Prompt(p["id"], tuple(p["ids"]), p["token_a"], p["token_b"])
              for end, p in (("from", cell["prompt_from"]), ("to", cell["prompt_to"]))}  # fmt: skip
        library.select(cell["source"])
        library.delta(at["from"])
        (z, mlp_out, _), source_clock = clocked(lambda: library.capture(at["from"]))
        library.select(cell["target"])
        _, target_clock = clocked(lambda: library.delta(at["to"]))
        source = Source(z, mlp_out)
        for name in ("single", "cached"):
            method = library.ways[name]
            prepared, prepare_clock = clocked(lambda: method.prepare(at["to"]))
            patches = [Patch(*place) for place in (job["places"] if method.cached else cell["sample"])]
            parts = [patches[i : i + method.batch] for i in range(0, len(patches), method.batch)]
            method.patch(at["to"], parts[0], source, prepared)
            deltas, clock = clocked(lambda: [d for part in parts for d in method.patch(at["to"], part, source, prepared)])
            labelled = zip(patches, deltas, strict=True)
            found = {
                key(cell["source"], cell["target"], cell["from"], cell["to"], p.site, p.layer, p.head): delta
                for p, delta in labelled
            }
            once = prepare_clock if method.cached else target_clock
            ways.setdefault(name, []).append((len(patches), clock, source_clock, once, found))
    return [summed(name, cells, job["whole"]) for name, cells in ways.items()]


def summed(name: str, cells: list, whole: dict) -> dict:
    """One way over all its cells; what the sweep takes beside patches (source runs, prefixes or target runs) stays apart."""
    clock = {one: sum(cell[1][one] for cell in cells) for one in ("seconds", "processor")}
    fixed = {
        one: whole["sources"] * sum(cell[2][one] for cell in cells) / len(cells)
        + whole["cells"] * sum(cell[3][one] for cell in cells) / len(cells)
        for one in ("seconds", "processor")
    }
    found = {name: value for cell in cells for name, value in cell[4].items()}
    return way(name, sum(cell[0] for cell in cells), clock, found) | {"fixed": fixed}
