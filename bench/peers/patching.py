"""The work of the activation-patching benchmark: prompts, patches, sample, clock, and the JSON that every peer prints.

Not a peer itself. A *patch* puts one activation of the source model's run into the target model's run at the
decision point of a prompt: `z` of one head (before the output projection) or `mlp_out` of one layer. A *cell* is a
target and a prompt. All peers time the same seeded sample: a few cells, and in each of them as many patches.

A peer is a class with

    n_layers, n_heads
    select(model)                                    makes a model the current one (not timed)
    capture(prompt) -> (z, mlp_out, delta)           z: layers × heads × d_head, mlp_out: layers × d_model
    delta(prompt) -> float                           the current model as it is
    ways: {name: Way}

and a way patches many: `patch(prompt, patches, source) -> deltas`, at most `batch` patches a call. `prepare(prompt)`
runs once for each cell, is timed, and its result is given to `patch`.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import smollm2
import torch
from decided import BASE, decided


@dataclass(frozen=True)
class Prompt:
    """Token ids up to the decision point, and the two tokens between which the next one decides."""

    id: str
    ids: tuple[int, ...]
    token_a: int
    token_b: int


@dataclass(frozen=True)
class Patch:
    """One activation at the decision point; `head` is None for `mlp_out`."""

    site: str
    layer: int
    head: int | None


@dataclass(frozen=True)
class Source:
    """The source model's activations at the decision point."""

    z: torch.Tensor
    mlp_out: torch.Tensor

    def value(self, patch: Patch) -> torch.Tensor:
        return self.mlp_out[patch.layer] if patch.head is None else self.z[patch.layer, patch.head]


@dataclass(frozen=True)
class Way:
    """One way to patch: how many patches a call takes, what a cell needs beforehand, and the call."""

    patch: Callable
    batch: int
    prepare: Callable = lambda prompt: None
    cached: bool = False  # patches everything in a cell, not the sample; the target's own delta would be one more row


def read_prompts(folder: Path) -> list[Prompt]:
    """The prompts as `lorascope decide` left them: ids, primary pair and decision position."""
    return [Prompt(p["id"], tuple(p["ids"]), p["token_a"], p["token_b"]) for p in decided(folder)]


def all_patches(n_layers: int, n_heads: int) -> list[Patch]:
    heads = [Patch("z", layer, head) for layer in range(n_layers) for head in range(n_heads)]
    return heads + [Patch("mlp_out", layer, None) for layer in range(n_layers)]


def rows_by_layer(patches: list[Patch]) -> dict[tuple[str, int], list[tuple[int, Patch]]]:
    """The patches with their row in the batch, grouped by the module that they touch: one hook a module."""
    groups: dict[tuple[str, int], list[tuple[int, Patch]]] = {}
    for row, patch in enumerate(patches):
        groups.setdefault((patch.site, patch.layer), []).append((row, patch))
    return groups


def mask_of_rows(n: int, before: int) -> torch.Tensor:
    """Additive mask in which each of n copies of a token sees the `before` cached ones and itself."""
    mask = torch.full((n, n), torch.finfo(torch.float32).min).fill_diagonal_(0.0)
    return torch.cat([torch.zeros(n, before), mask], dim=1)[None, None]


def differences(logits: torch.Tensor, prompt: Prompt) -> list[float]:
    """logit(B) − logit(A) of each row."""
    return (logits[:, prompt.token_b].double() - logits[:, prompt.token_a].double()).tolist()


def write(output: torch.Tensor, rows, source: Source, place) -> None:
    """Puts the source's vectors into the rows of a module's output."""
    for row, patch in rows:
        place(output, row).copy_(source.value(patch))


def chunks(patches: list[Patch], size: int) -> list[list[Patch]]:
    return [patches[start : start + size] for start in range(0, len(patches), size)]


def timed(function: Callable, *arguments) -> tuple[object, float]:
    start = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - start


def run_cell(peer, call: argparse.Namespace, target: str, prompt: Prompt, sample: list[Patch], everything: list[Patch]):
    """Patches one cell in every way. Each way is warmed up by its own first call, which is then repeated."""
    peer.select(call.source)
    (z, mlp_out, delta_source), source_seconds = timed(peer.capture, prompt)
    peer.select(target)
    peer.delta(prompt)
    delta_target, target_seconds = timed(peer.delta, prompt)
    source = Source(z, mlp_out)
    result = {"target": target, "prompt_id": prompt.id, "source_seconds": source_seconds}
    result |= {"target_seconds": target_seconds, "ways": {}, "patches": []}
    same = {"source": call.source, "target": target, "prompt_id": prompt.id}
    same |= {"delta_source": delta_source, "delta_target": delta_target}
    for name in call.ways or peer.ways:
        way = peer.ways[name]
        prepared, prepare_seconds = timed(way.prepare, prompt)
        parts = chunks(everything if way.cached else sample, way.batch)
        way.patch(prompt, parts[0], source, prepared)
        each = []
        for part in parts:
            deltas, seconds = timed(way.patch, prompt, part, source, prepared)
            each.append({"patches": len(part), "seconds": seconds})
            result["patches"] += [
                same | {"way": name, **asdict(patch), "delta_patched": delta}
                for patch, delta in zip(part, deltas, strict=True)
            ]
        result["ways"][name] = {"prepare_seconds": prepare_seconds, "calls": each}
        del prepared
        gc.collect()
    return result


def summary(cells: list[dict], name: str, cached: bool, whole: dict) -> dict:
    """Seconds per patch of one way, and what the whole sweep would take: every patch at the median, the source's run
    once for each prompt, and once for each cell the preparation or, where the way has none, the target's own run."""
    calls = [one for cell in cells for one in cell["ways"][name]["calls"]]
    full = max(one["patches"] for one in calls)
    each = [one["seconds"] / one["patches"] for one in calls if one["patches"] == full]
    median = {key: statistics.median(cell[key] for cell in cells) for key in ("source_seconds", "target_seconds")}
    prepare = statistics.median(cell["ways"][name]["prepare_seconds"] for cell in cells)
    cell = prepare if cached else median["target_seconds"]
    fixed = whole["prompts"] * median["source_seconds"] + whole["cells"] * cell
    return {
        "batch": full,
        "timed_patches": sum(one["patches"] for one in calls),
        "median_seconds": statistics.median(each),
        "min_seconds": min(each),
        "prepare_seconds": prepare,
        "sweep_seconds": whole["patches"] * statistics.median(each) + fixed,
        "sweep_seconds_at_min": whole["patches"] * min(each) + fixed,
    }


def adapter(text: str) -> tuple[str, str]:
    name, separator, folder = text.partition("=")
    if not (name and separator and (Path(folder) / "adapter_config.json").is_file()):
        raise argparse.ArgumentTypeError(f"`{text}` is not NAME=FOLDER with an adapter_config.json in the folder")
    return name, folder


def arguments_of_call(description: str, ways: tuple[str, ...]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="the GGUF file")
    parser.add_argument("--adapter", type=adapter, action="append", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--decisions", type=Path, required=True, help="run folder of `lorascope decide` on the prompts")
    parser.add_argument("--source", default=BASE)
    parser.add_argument("--target", action="append", help="default: every adapter")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--sample", type=int, default=40, help="patches to time, over all cells")
    parser.add_argument("--batch", type=int, default=10, help="patches in one forward pass of way `batched`")
    parser.add_argument("--rows", type=int, default=300, help="patches in one forward pass of way `cached`")
    parser.add_argument("--cells", type=int, help="sampled cells; default: one for each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--way", dest="ways", action="append", choices=ways, help="default: all")
    call = parser.parse_args()
    call.target = call.target or [name for name, _ in call.adapter]
    call.cells = call.cells or len(call.target)
    known = {BASE, *(name for name, _ in call.adapter)}
    if unknown := {call.source, *call.target} - known:
        parser.error(f"no such model: {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    if min(call.sample // call.cells, call.batch, call.rows, call.threads) < 1:
        parser.error("--sample must be at least --cells; --batch, --rows and --threads at least 1")
    return call


def run(name: str, versions: dict, call: argparse.Namespace, make_peer: Callable) -> int:
    """Times a peer on the sample and prints the JSON."""
    torch.set_num_threads(call.threads)
    prompts = read_prompts(call.decisions)
    peer = make_peer(call, prompts)
    everything = all_patches(peer.n_layers, peer.n_heads)
    dice = random.Random(call.seed)
    cells = []
    for number in range(call.cells):
        target, prompt = call.target[number % len(call.target)], dice.choice(prompts)
        patches = dice.sample(everything, call.sample // call.cells)
        print(f"{name}: {call.source} -> {target}, {prompt.id}", file=sys.stderr)
        cells.append(run_cell(peer, call, target, prompt, patches, everything))
    n_cells = len(call.target) * len(prompts)
    whole = {"prompts": len(prompts), "cells": n_cells, "patches": n_cells * len(everything)}
    report = {"peer": name, "seed": call.seed, "whole": whole} | smollm2.surroundings(call.threads)
    report["versions"] |= versions
    report["checks"] = getattr(peer, "checks", {})
    report["ways"] = {way: summary(cells, way, peer.ways[way].cached, whole) for way in call.ways or peer.ways}
    report["cells"] = [{key: cell[key] for key in cell if key != "patches"} for cell in cells]
    report["patches"] = [patch for cell in cells for patch in cell["patches"]]
    print(json.dumps(report, indent=1))
    return 0
