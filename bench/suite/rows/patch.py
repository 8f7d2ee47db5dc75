"""Row: patching sweep at the decision point, between models."""

from __future__ import annotations

from cost import SMOLLM2
from rows import sweep
from rows.sweep import peer  # noqa: F401  (what peers do is the same for all sweeps)

TITLE = "patches at the decision point: z of every head, every MLP; base into adapters"
UNIT = "patch"
TOLERANCE = 1e-3
PEERS = ("transformers", "TransformerLens", "nnsight")


def scale(bench) -> tuple[list[str], list[dict]]:
    prompts = bench.decisions[: bench.size(15, 3)]
    return list(bench.adapters)[: bench.size(4, 2)], prompts


def ours(bench) -> dict:
    targets, prompts = scale(bench)
    pairs = ["--source", "base", *(part for name in targets for part in ("--target", name))]
    what = [*pairs, "--site", "z", "--site", "mlp_out", "--position", "decision"]
    file = bench.subset([prompt["id"] for prompt in prompts])
    done = bench.command("patch", *what, adapters=targets, prompts=file)
    rows = done.table("patches")
    return done.side(len(rows), sweep.values(rows))


def job(bench, round_: int) -> dict:
    targets, prompts = scale(bench)
    chosen = [(targets[n % len(targets)], prompts[(7 * round_ + 4 * n) % len(prompts)]["id"]) for n in range(bench.size(2, 1))]
    cells = [{"source": "base", "target": target, "from": id_, "to": id_} for target, id_ in chosen]
    whole = {"patches": 300 * len(targets) * len(prompts), "cells": len(targets) * len(prompts), "sources": len(prompts)}
    return sweep.job(cells, bench.decisions, whole, bench.size(4, 2), round_)


def cost(bench) -> dict:
    """The rest of the layers for one column of every patch, and the unpatched runs of all models."""
    targets, prompts = scale(bench)
    ids = [prompt["ids"] for prompt in prompts]
    lengths = [len(tokens) for tokens in ids]
    each = sum(SMOLLM2.tokens(1, n, True, 14.5) for n in lengths) / len(lengths)
    trunk = len(targets) * SMOLLM2.tree(ids, True) + SMOLLM2.tree(ids, False)
    patches = 300 * len(targets) * len(prompts)
    return {"flop": patches * each + trunk, "bytes": SMOLLM2.weights_bytes() * (patches / 300 + len(lengths))}
