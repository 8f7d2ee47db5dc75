#!/usr/bin/env python3
"""Peer: the plain forward pass of SmolLM2 with `transformers` on PyTorch (CPU, f32).

Four ways, interleaved within each run: eager and sdpa attention, with the logits of all positions and with
those of the last one only (`logits_to_keep=1`). Prints JSON; `seconds` belongs to the way with the smallest
minimum among those with all logits, `ways` holds them all.

    python bench/peers/transformers_forward.py --base SmolLM2-135M-Instruct.Q4_1.gguf --threads 2 --runs 10
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import smollm2
import torch


def token_ids(count: int) -> list[int]:
    """Token ids that both sides of the benchmark use: SmolLM2's BOS, then a fixed walk through the vocabulary."""
    return [1] + [3 + (7919 * place) % 40_000 for place in range(1, count)]


def seconds_of_forward(model, ids: torch.Tensor, logits_to_keep: int) -> float:
    """Wall time of one forward pass without a cache; `logits_to_keep` = 0 means all positions."""
    start = time.perf_counter()
    logits = model(ids, use_cache=False, logits_to_keep=logits_to_keep).logits
    elapsed = time.perf_counter() - start
    if logits.shape[1] != (logits_to_keep or ids.shape[1]) or not torch.isfinite(logits).all():
        raise RuntimeError(f"unexpected logits of shape {tuple(logits.shape)}")
    return elapsed


def measure(gguf: Path, n_tokens: int, runs: int) -> list[dict]:
    ids = torch.tensor([token_ids(n_tokens)])
    models = {attention: smollm2.load_model(gguf, attention) for attention in ("eager", "sdpa")}
    ways = [
        {"attention": attention, "logits": logits, "seconds": []}
        for attention in models
        for logits in ("all", "last")
    ]
    for run in range(runs + 1):
        for way in ways:
            elapsed = seconds_of_forward(models[way["attention"]], ids, 1 if way["logits"] == "last" else 0)
            if run > 0:  # the first round warms up
                way["seconds"].append(elapsed)
    for way in ways:
        way |= {"min": min(way["seconds"]), "median": statistics.median(way["seconds"])}
    return ways


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="the GGUF file")
    parser.add_argument("--tokens", type=int, default=232)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--runs", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with torch.inference_mode():
        ways = measure(arguments.base, arguments.tokens, arguments.runs)
    fastest = min((way for way in ways if way["logits"] == "all"), key=lambda way: way["min"])
    result = {"peer": f"transformers forward, {fastest['attention']}", "n_tokens": arguments.tokens}
    result |= smollm2.surroundings(arguments.threads)
    print(json.dumps(result | {"seconds": fastest["seconds"], "ways": ways}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
