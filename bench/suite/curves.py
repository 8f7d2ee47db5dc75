"""Cost curves of lorascope: processor time against one size at a time, with the cost model beside it."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace

from contract import ROOT, Bench, Command
from cost import SMOLLM2, Shape

WORDS = "the sea is calm and a boat goes out to fish while birds fly over it in the light of a clear morning "


def point(curve: str, size: int, done: Command, cost: dict) -> dict:
    """`size` is what the curve runs over; `cost` has the model's `flop` and `bytes`."""
    return {"curve": curve, "size": size, **cost, **{one: done.took[one] for one in ("seconds", "processor", "peak_bytes")}}


def of_length(bench: Bench) -> list[dict]:
    """Decisions of base + 4 adapters on one prompt of so many tokens (raw text, about one token a word)."""
    points = []
    for tokens in bench.size([16, 64, 256, 1024], [16, 256]):
        words = (WORDS * (1 + tokens // 20)).split()[:tokens]
        file = bench.scratch / f"length-{tokens}.json"
        file.write_text(json.dumps([{"id": "one", "prompt": " ".join(words), "answer_a": " yes", "answer_b": " no"}]))
        done = bench.command("decide", "--raw", prompts=file)
        n = int(done.table("decisions")[0]["n_tokens"])
        points.append(point("tokens of a prompt", n, done, SMOLLM2.decisions(done.prompts(), len(bench.adapters))))
    return points


def of_prompts(bench: Bench) -> list[dict]:
    points = []
    for count in bench.size([1, 4, 15], [1, 4]):
        chosen = bench.decisions[:count]
        done = bench.command("decide", prompts=bench.subset([prompt["id"] for prompt in chosen]))
        points.append(point("prompts", count, done, SMOLLM2.decisions(chosen, len(bench.adapters))))
    return points


def of_adapters(bench: Bench) -> list[dict]:
    points = []
    chosen = bench.decisions[:3]
    file = bench.subset([prompt["id"] for prompt in chosen])
    for count in bench.size([0, 1, 2, 4], [0, 4]):
        done = bench.command("decide", adapters=list(bench.adapters)[:count], prompts=file)
        points.append(point("models: base and adapters", 1 + count, done, SMOLLM2.decisions(chosen, count)))
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
        cost = {"flop": patches * each + trunk, "bytes": 2.0 * prompts * SMOLLM2.weights_bytes()}
        points.append(point("patches", patches, done, cost))
    return points


def of_models(bench: Bench) -> list[dict]:
    """Decisions of a base and one adapter of rank 64 on three prompts, for models of real shapes with random weights, made for this and
    removed again."""
    points = []
    chosen = [prompt["id"] for prompt in bench.decisions[:3]]
    for shape in bench.size(["smollm2-135m", "smollm2-360m", "smollm2-1.7b", "gemma-2-2b"], ["smollm2-135m"]):
        folder = bench.scratch / shape
        make = [str(bench.python), str(ROOT / "scripts/make_random_model.py"), str(folder), "--shape", shape, "--adapters", "1"]
        subprocess.run([*make, "--tokenizer", str(bench.converted())], check=True)
        model = replace(bench, base=folder / "model", adapters={"random1": folder / "adapters/random1"}, scratch=folder)
        done = model.command("decide", prompts=model.subset(chosen))
        sizes = Shape.of(json.loads((folder / "model/config.json").read_text()), rank=64)
        points.append(point("weights of a model", sizes.weights, done, sizes.decisions(done.prompts(), 1)))
        shutil.rmtree(folder)
    return points


def measure(bench: Bench) -> list[dict]:
    return [point for curve in (of_length, of_prompts, of_adapters, of_patches, of_models) for point in curve(bench)]
