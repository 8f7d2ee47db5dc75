#!/usr/bin/env python3
"""Run lorascope and its Python peers in turn on the same work and threads, and print the ratios.

Called by bench/run.sh, which prepares what this needs. Every round runs ours, then the peer (A B A B ...), each
in a process of its own, so that a busy or throttled machine hurts both; the ratio of a round is peer / ours,
and the table quotes the median ratio. Standard library only. Everything raw goes to bench/results/<time>.json.

The works:
    forward  one forward pass of SmolLM2 on 232 tokens, all logits; ours: the minimum of its runs in a process;
             the peer: the faster of eager and sdpa attention. Loading is in neither.
    decide   15 prompts on base + 4 adapters. Ours: wall time of the whole command, loading and writing
             included. The peer: scoring alone; its loading and imports are not counted against it.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
TOKENS = 232
ADAPTERS = ("PT2_strategic", "PT3_deontological", "PT3_utilitarian", "PT4_hybrid")


class BenchError(Exception):
    """A command failed or printed something unexpected."""


def run(command: list[str]) -> tuple[str, float]:
    """Standard output and wall seconds of a command; its errors go to the terminal."""
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    elapsed = time.perf_counter() - start
    if done.returncode != 0:
        raise BenchError(f"`{' '.join(command)}` ended with status {done.returncode}")
    return done.stdout, elapsed


def run_json(command: list[str]) -> dict:
    output, elapsed = run(command)
    try:
        return json.loads(output) | {"wall_seconds": elapsed}
    except json.JSONDecodeError as error:
        raise BenchError(f"`{' '.join(command)}` printed no JSON: {error}") from None


def adapter_arguments(folder: Path) -> list[str]:
    return [part for name in ADAPTERS for part in ("--adapter", f"{name}={folder / name}")]


def forward_round(call: argparse.Namespace) -> dict:
    """One round of the forward pass: both sides' minimum over `--runs` passes."""
    size = ["--base", str(call.base), "--tokens", str(TOKENS), "--threads", str(call.threads), "--runs", str(call.runs)]
    ours = run_json([str(ROOT / "target/release/examples/bench_forward"), *size])
    peer = run_json([str(call.python), str(BENCH / "peers/transformers_forward.py"), *size])
    ratios = {f"{way['attention']}, {way['logits']} logits": way["min"] / min(ours["seconds"]) for way in peer["ways"]}
    ratios["fastest with all logits"] = min(peer["seconds"]) / min(ours["seconds"])
    return {"ours": ours, "peer": peer, "ours_seconds": min(ours["seconds"]), "ratios": ratios}


def decide_round(call: argparse.Namespace) -> dict:
    """One round of deciding: our whole command against the peer's scoring, both its ways."""
    work = ["--base", str(call.base), *adapter_arguments(call.adapters)]
    work += ["--prompts", str(BENCH / "prompts_15.json"), "--threads", str(call.threads)]
    with tempfile.TemporaryDirectory(prefix="lorascope-bench-") as scratch:
        out = Path(scratch) / "run"
        _, seconds = run([str(ROOT / "target/release/lorascope"), "decide", *work, "--out", str(out)])
        table = (out / "tables/decisions.csv").read_text()
    peer = run_json([str(call.python), str(BENCH / "peers/transformers_peft_decide.py"), *work])
    ratios = {way: total / seconds for way, total in peer["seconds"].items()}
    difference = worst_difference(table, peer["results"])
    return {"ours_seconds": seconds, "peer": peer, "ratios": ratios, "worst_delta_difference": difference}


def worst_difference(table: str, results: list[dict]) -> float:
    """Largest |delta - peer's delta| over all models and prompts: both sides must have done the same work."""
    ours = {(row["model"], row["prompt_id"]): float(row["delta"]) for row in csv.DictReader(table.splitlines())}
    theirs = {(r["model"], d["prompt_id"]): d["delta"] for r in results for d in r["decisions"]}
    if missing := theirs.keys() - ours.keys():
        raise BenchError(f"our decisions lack {sorted(missing)[:3]} …")
    return max(abs(ours[key] - value) for key, value in theirs.items())


def summarise(rounds: list[dict]) -> dict:
    """Median seconds of ours, and for each way of the peer the median and extremes of the ratio."""
    ratios = {way: [one["ratios"][way] for one in rounds] for way in rounds[0]["ratios"]}
    return {
        "ours_median_seconds": statistics.median(one["ours_seconds"] for one in rounds),
        "ratios": {way: {"median": statistics.median(v), "min": min(v), "max": max(v)} for way, v in ratios.items()},
    }


def print_work(name: str, summary: dict, rounds: list[dict]) -> None:
    print(f"\n{name}: ours {summary['ours_median_seconds']:.3f} s (median of {len(rounds)} rounds)")
    print(f"  {'peer / ours':<30} {'median':>8} {'min':>8} {'max':>8}")
    for way, ratio in summary["ratios"].items():
        print(f"  {way:<30} {ratio['median']:>8.2f} {ratio['min']:>8.2f} {ratio['max']:>8.2f}")
    if "worst_delta_difference" in rounds[0]:
        print(f"  largest difference in delta: {max(r['worst_delta_difference'] for r in rounds):.2e}")


def write_raw(kind: str, numbers: dict) -> None:
    """Writes everything measured to `results/`, under the time and the kind of the benchmark."""
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    target = BENCH / "results" / f"{stamp}{kind}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(numbers, indent=1) + "\n")
    print(f"\nraw numbers: {target.relative_to(ROOT)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="SmolLM2's GGUF file")
    parser.add_argument("--adapters", type=Path, required=True, help="folder that holds the four adapter folders")
    parser.add_argument("--python", type=Path, required=True, help="the peers' Python")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=10, help="forward passes in one process")
    call = parser.parse_args()
    works = {"forward": forward_round, "decide": decide_round}
    rounds: dict[str, list[dict]] = {name: [] for name in works}
    try:
        for number in range(call.rounds):
            for name, one_round in works.items():
                print(f"round {number + 1} of {call.rounds}: {name}", file=sys.stderr)
                rounds[name].append(one_round(call))
    except (BenchError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    peer = rounds["decide"][0]["peer"]
    surroundings = {key: peer[key] for key in ("versions", "cpu", "threads")}
    versions = ", ".join(f"{name} {version}" for name, version in peer["versions"].items())
    print(f"\n{peer['cpu']}, {call.threads} threads; {versions}")
    summaries = {name: summarise(list_of_rounds) for name, list_of_rounds in rounds.items()}
    for name, summary in summaries.items():
        print_work(name, summary, rounds[name])
    write_raw("", surroundings | {"summaries": summaries, "rounds": rounds})
    return 0


if __name__ == "__main__":
    sys.exit(main())
