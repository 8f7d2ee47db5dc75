"""Row: decisions of base and adapters, both answers in all their spellings."""

from __future__ import annotations

from contract import clocked, key, way
from cost import SMOLLM2

TITLE = "decisions of base + 4 adapters"
UNIT = "decision"
TOLERANCE = 1e-3
PEERS = ("transformers", "TransformerLens", "nnsight", "candle-mi")
NOTES = {"candle-mi": "decisions of the base only: it has no adapters"}


def prompts(bench) -> list[dict]:
    return bench.decisions[: bench.size(15, 5)]


def ours(bench) -> dict:
    done = bench.command("decide", prompts=bench.subset([prompt["id"] for prompt in prompts(bench)]))
    rows = done.table("decisions")
    return done.side(len(rows), {key(row["model"], row["prompt_id"]): float(row["delta"]) for row in rows})


def job(bench, round_: int) -> dict:
    models = ["base", *bench.adapters]
    some = models if not bench.quick else [models[0], models[-1]]
    return {"models": some, "prompts": [prompts(bench)[round_ % len(prompts(bench))]]}


def peer(library, job: dict) -> list[dict]:
    ways = {}
    for model in job["models"]:
        library.select(model)
        for name, score in library.scores().items():
            found, clock = clocked(lambda: {key(model, prompt["id"]): score(prompt) for prompt in job["prompts"]})
            ways.setdefault(name, []).append((found, clock))
    return [
        way(
            name,
            len(job["models"]) * len(job["prompts"]),
            {one: sum(clock[one] for _, clock in parts) for one in ("seconds", "processor")},
            {name: value for found, _ in parts for name, value in found.items()},
        )
        for name, parts in ways.items()
    ]


def cost(bench) -> dict:
    return SMOLLM2.decisions(prompts(bench), len(bench.adapters))
