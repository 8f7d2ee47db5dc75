"""Row: patching sweep at the decision point, between prompts of the base (so candle-mi can take part, with MLPs)."""

from __future__ import annotations

from cost import SMOLLM2
from rows import sweep
from rows.sweep import peer  # noqa: F401

TITLE = "patches between prompts of one model: z of every head, every MLP"
UNIT = "patch"
TOLERANCE = 1e-3
PEERS = ("transformers", "TransformerLens", "nnsight", "candle-mi")
NOTES = {
    "candle-mi": "MLPs only: it has no hook at z, so heads can't be patched one by one",
    "all": "few patches of few prompts: a good part of our seconds is loading (the first row), which a peer's leave out",
}
SCENARIOS = ("CD_punished", "DC_exploited")  # same wording, same number of tokens in each variant


def pairs(bench) -> list[tuple[str, str]]:
    return [(f"{SCENARIOS[0]}_v{n}", f"{SCENARIOS[1]}_v{n}") for n in range(bench.size(3, 1))]


def ours(bench) -> dict:
    file = bench.subset([id_ for pair in pairs(bench) for id_ in pair])
    what = ["--between", ":".join(SCENARIOS), "--site", "z", "--site", "mlp_out", "--position", "decision"]
    done = bench.command("patch", *what, adapters=[], prompts=file)
    rows = done.table("patches")
    return done.side(len(rows), sweep.values(rows))


def job(bench, round_: int) -> dict:
    chosen = pairs(bench)[round_ % len(pairs(bench))]
    cells = [{"source": "base", "target": "base", "from": chosen[0], "to": chosen[1]}]
    n = len(pairs(bench))
    return sweep.job(cells, bench.decisions, {"patches": 300 * n, "cells": n, "sources": n}, bench.size(6, 3), round_)


def cost(bench) -> dict:
    ids = [p["ids"] for p in bench.decisions if p["id"] in [id_ for pair in pairs(bench) for id_ in pair]]
    n = len(pairs(bench))
    each = SMOLLM2.tokens(1, sum(map(len, ids)) / len(ids), False, 14.5)
    return {"flop": 300 * n * each + SMOLLM2.tree(ids, False), "bytes": SMOLLM2.weights_bytes() * (n + 1)}
