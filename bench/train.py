#!/usr/bin/env python3
"""Run `lorascope train` and PEFT on PyTorch in turn on the same steps and threads; print one table.

Called by `bench/run.sh train`. A step: four prompts of one surface form, both answers in two spellings, rank 8 in all
linear layers of SmolLM2, exact gradient, AdamW. Ours: the wall time of the whole command with `--steps` more steps, less that
of the command with one, over those steps; so loading is out, and checkpoints are in. The peer times its steps
(bench/peers/transformers_peft_train.py), loading not counted, in two ways: *plain*, and *packed* into one token tree as ours.
Before the first update, both sides' objective must agree to 1e-3. Everything raw goes to bench/results/<time>-train.json.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
import tempfile
from pathlib import Path

from compare import BENCH, ROOT, BenchError, run, run_json, write_raw

PEER = BENCH / "peers/transformers_peft_train.py"
TOLERANCE = 1e-3  # f32 on both sides; the objective is about -6
ONE_FORM = ("wording=structured", "first_mention=cd", "second_mention=cd", "row_order=cd", "column_order=cd")


def ours(call: argparse.Namespace, folder: Path, steps: int) -> tuple[float, list[dict]]:
    form = [part for setting in ONE_FORM for part in ("--set", f"prompts.{setting}")]
    size = ["--steps", str(steps), "--threads", str(call.threads), "--set", "optimizer.warm_up=0"]
    what = ["train", "--base", str(call.base), "--reward", "strategic", *size, *form, "--out", str(folder)]
    _, seconds = run([str(call.program), *what])
    with (folder / "tables/training.csv").open(newline="") as file:
        return seconds, list(csv.DictReader(file))


def one_round(call: argparse.Namespace, scratch: Path, number: int) -> dict:
    short, _ = ours(call, scratch / f"short-{number}", 1)
    long, rows = ours(call, scratch / f"long-{number}", 1 + call.steps)
    size = ["--threads", str(call.threads), "--steps", str(call.peer_steps)]
    prompts = scratch / f"long-{number}/prompts.json"
    peer = run_json([str(call.python), str(PEER), "--base", str(call.base), "--prompts", str(prompts), *size])
    begin = float(rows[0]["objective"])
    difference = max(abs(way["objective"][0] - begin) for way in peer["ways"].values())
    return {"ours_seconds": (long - short) / call.steps, "short": short, "long": long, "peer": peer, "difference": difference}


def print_table(call: argparse.Namespace, rounds: list[dict]) -> None:
    peer = rounds[0]["peer"]
    versions = ", ".join(f"{name} {version}" for name, version in peer["versions"].items())
    print(f"\n{peer['cpu']}, {call.threads} threads; {versions}")
    print(f"train: 4 prompts of {peer['prompt_tokens']} tokens, rank 8, all linear; seconds a step over {len(rounds)} rounds")
    print(f"  {'side':<26} {'tokens':>7} {'median':>8} {'min':>8} {'ours is faster by':>24}")
    own = [one["ours_seconds"] for one in rounds]
    print(f"  {'lorascope':<26} {'':>7} {statistics.median(own):>8.3f} {min(own):>8.3f}")
    for way in peer["ways"]:
        medians = [statistics.median(one["peer"]["ways"][way]["seconds"]) for one in rounds]
        least = min(min(one["peer"]["ways"][way]["seconds"]) for one in rounds)
        ratios = [theirs / mine for theirs, mine in zip(medians, own)]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        tokens = peer["ways"][way]["tokens"]
        print(f"  {'PEFT, ' + way:<26} {tokens:>7} {statistics.median(medians):>8.3f} {least:>8.3f} {ratio:>24}")
    print(f"  objectives before the first update differ by at most {max(one['difference'] for one in rounds):.1e}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="SmolLM2's GGUF file")
    parser.add_argument("--adapters", type=Path, help="not used; bench/run.sh gives it to every driver")
    parser.add_argument("--python", type=Path, required=True, help="the peer's Python")
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/lorascope")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="timed steps of ours in a round")
    parser.add_argument("--peer-steps", type=int, default=4, help="timed steps of each of the peer's ways in a round")
    call = parser.parse_args()
    rounds: list[dict] = []
    try:
        with tempfile.TemporaryDirectory(prefix="lorascope-bench-") as scratch:
            for number in range(call.rounds):
                print(f"round {number + 1} of {call.rounds}", file=sys.stderr)
                rounds.append(one_round(call, Path(scratch), number))
    except (BenchError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print_table(call, rounds)
    write_raw("-train", {"threads": call.threads, "rounds": rounds})
    worst = max(one["difference"] for one in rounds)
    if worst > TOLERANCE:
        print(f"bench: objectives are {worst:.2e} apart, allowed {TOLERANCE}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
