"""Cost curves of lorascope: processor time against one size at a time, with the cost model beside it."""

from __future__ import annotations

import json

from contract import Bench
from cost import SMOLLM2, tree_tokens

WORDS = "the sea is calm and a boat goes out to fish while birds fly over it in the light of a clear morning "


def point(name: str, size: int, done, flop: float, work: float) -> dict:
    took = {one: done.took[one] for one in ("seconds", "processor", "peak_bytes")}
    return {"curve": name, "size": size, "work": work, "flop": flop, **took}


def of_length(bench: Bench) -> list[dict]:
    """Decisions of base + 4 adapters on one prompt of so many tokens (raw text, about one token a word)."""
    points = []
    for tokens in bench.size([16, 64, 256, 1024], [16, 256]):
        words = (WORDS * (1 + tokens // 20)).split()[:tokens]
        file = bench.scratch / f"length-{tokens}.json"
        file.write_text(json.dumps([{"id": "one", "prompt": " ".join(words), "answer_a": " yes", "answer_b": " no"}]))
        done = bench.command("decide", "--raw", prompts=file)
        n = int(done.table("decisions")[0]["n_tokens"])
        points.append(point("prompt length, tokens", n, done, 5 * SMOLLM2.forward(n, True), n * 5))
    return points


def of_prompts(bench: Bench) -> list[dict]:
    points = []
    for count in bench.size([1, 4, 15], [1, 4]):
        chosen = bench.decisions[:count]
        done = bench.command("decide", prompts=bench.subset([prompt["id"] for prompt in chosen]))
        ids = [prompt["prompt_ids"] for prompt in chosen]
        flop = 5 * SMOLLM2.tree(ids, True)
        points.append(point("prompts", count, done, flop, 5 * tree_tokens(ids)))
    return points


def of_adapters(bench: Bench) -> list[dict]:
    points = []
    chosen = bench.decisions[:3]
    file = bench.subset([prompt["id"] for prompt in chosen])
    ids = [prompt["prompt_ids"] for prompt in chosen]
    for count in bench.size([0, 1, 2, 4], [0, 4]):
        done = bench.command("decide", adapters=list(bench.adapters)[:count], prompts=file)
        one = SMOLLM2.tree(ids, True)
        points.append(point("adapters beside the base", count, done, (1 + count) * one, (1 + count) * tree_tokens(ids)))
    return points


def of_patches(bench: Bench) -> list[dict]:
    """z of every head of so many layers (spread over the depth) into one adapter, on one prompt up to eight."""
    points = []
    target = list(bench.adapters)[-1]
    for layers, prompts in bench.size([(3, 1), (30, 1), (30, 8)], [(3, 1), (30, 1)]):
        chosen = bench.decisions[:prompts]
        named = [part for n in range(layers) for part in ("--layer", str(n * (30 // layers)))]
        file = bench.subset([prompt["id"] for prompt in chosen])
        what = ["--source", "base", "--target", target, "--site", "z", *named]
        done = bench.command("patch", *what, adapters=[target], prompts=file)
        patches = layers * SMOLLM2.heads * prompts
        ids = [prompt["ids"] for prompt in chosen]
        each = SMOLLM2.tokens(1, len(ids[0]), True, sum(29.5 - k * (30 // layers) for k in range(layers)) / layers)
        trunk = SMOLLM2.tree(ids, True) + SMOLLM2.tree(ids, False)
        points.append(point("patches", patches, done, patches * each + trunk, patches))
    return points


def measure(bench: Bench) -> list[dict]:
    return [point for curve in (of_length, of_prompts, of_adapters, of_patches) for point in curve(bench)]
