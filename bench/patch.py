#!/usr/bin/env python3
"""Run `lorascope patch` and its Python peers in turn on the same sweep and threads; print one table.

Called by `bench/run.sh patch`, which prepares what this needs. The sweep: 15 prompts; base into each of four
adapters; `z` of each of SmolLM2's 270 heads and `mlp_out` of its 30 layers, at the decision point: 18,000 patches.
Ours does all of them; its time is that of the whole command, loading and writing included. A peer does a seeded
sample (bench/peers/patching.py), and its time is what that comes to for the sweep, loading not counted. Every
patched delta of a peer must be ours to 1e-3. Standard library only. Everything raw goes to
bench/results/<time>-patch.json.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
import tempfile
from pathlib import Path

from compare import ADAPTERS, BENCH, ROOT, BenchError, adapter_arguments, run, run_json, write_raw

PEERS = {name: BENCH / "peers" / f"{name}_patch.py" for name in ("transformer_lens", "transformers", "nnsight")}
DELTAS = ("delta_source", "delta_target", "delta_patched")
TOLERANCE = 1e-3  # f32 on both sides; of logits around 10
SOURCE = "base"


def models(call: argparse.Namespace) -> list[str]:
    return ["--base", str(call.base), *adapter_arguments(call.adapters), "--threads", str(call.threads)]


def decide(call: argparse.Namespace, folder: Path) -> None:
    """The prompts' token ids and decision points, for the peers."""
    run([str(call.program), "decide", *models(call), "--prompts", str(call.prompts), "--out", str(folder)])


def ours(call: argparse.Namespace, folder: Path) -> dict:
    """Our sweep: seconds of the whole command, and its table."""
    pairs = ["--source", SOURCE, *(part for name in ADAPTERS for part in ("--target", name))]
    what = [*pairs, "--site", "z", "--site", "mlp_out", "--position", "decision"]
    work = [*models(call), "--prompts", str(call.prompts), *what, "--out", str(folder)]
    _, seconds = run([str(call.program), "patch", *work])
    with (folder / "tables/patches.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    table = {key(row): {name: float(row[name]) for name in DELTAS} for row in rows}
    return {"seconds": seconds, "patches": len(rows), "table": table}


def key(row: dict) -> tuple:
    """Identity of a patch, from our CSV or a peer's JSON."""
    head = row["head"]
    place = (row["site"], int(row["layer"]), None if head in ("", None) else int(head))
    return (row["source"], row["target"], row["prompt_id"], *place)


def peer(call: argparse.Namespace, name: str, decisions: Path) -> dict:
    size = [part for size in ("sample", "batch", "rows", "seed") for part in (f"--{size}", str(getattr(call, size)))]
    command = [str(call.python), str(PEERS[name]), *models(call), "--decisions", str(decisions), *size]
    return run_json([*command, "--source", SOURCE])


def differences(patches: list[dict], table: dict) -> dict:
    """Largest |ours − peer's| of the deltas of both runs and of the patched one."""
    if missing := {key(patch) for patch in patches} - table.keys():
        raise BenchError(f"our patches lack {len(missing)} of the peer's, e.g. {min(missing, key=str)}")
    return {name: max(abs(patch[name] - table[key(patch)][name]) for patch in patches) for name in DELTAS}


def rows_of(name: str, runs: list[dict], our_rates: list[float]) -> list[dict]:
    """One row of the printed table for each way of a peer: medians over rounds, least seconds of all."""
    rows = []
    for way in runs[0]["ways"]:
        ways = [one["ways"][way] for one in runs]
        sweeps = [one["sweep_seconds"] for one in ways]
        rates = [one["whole"]["patches"] / seconds for one, seconds in zip(runs, sweeps)]
        ratios = [ours_rate / rate for ours_rate, rate in zip(our_rates, rates)]
        rows.append({
            "side": name,
            "way": f"{way}, {ways[0]['batch']} a pass" if ways[0]["batch"] > 1 else way,
            "median_seconds": statistics.median(one["median_seconds"] for one in ways),
            "min_seconds": min(one["min_seconds"] for one in ways),
            "sweep_seconds": statistics.median(sweeps),
            "ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
        })
    return rows


def print_table(call: argparse.Namespace, rounds: list[dict], rows: list[dict]) -> None:
    seconds = statistics.median(one["ours"]["seconds"] for one in rounds)
    patches = rounds[0]["ours"]["patches"]
    some = next(iter(rounds[0]["peers"].values()))
    versions = {name: version for one in rounds[0]["peers"].values() for name, version in one["versions"].items()}
    print(f"\n{some['cpu']}, {call.threads} threads; {', '.join(f'{n} {v}' for n, v in versions.items())}")
    print(f"patch: {patches} patches, median of {len(rounds)} rounds; ms a patch; the peers' sweep from their sample")
    print(f"  {'side':<18} {'way':<20} {'median':>9} {'min':>9} {'sweep':>11} {'ours is faster by':>26}")
    fastest = min(one["ours"]["seconds"] for one in rounds)
    times = f"{1e3 * seconds / patches:>9.2f} {1e3 * fastest / patches:>9.2f} {seconds:>9.1f} s"
    print(f"  {'lorascope':<18} {'whole command':<20} {times}")
    for row in rows:
        ratio = "{median:.1f} ({min:.1f} to {max:.1f})".format(**row["ratio"])
        times = f"{1e3 * row['median_seconds']:>9.2f} {1e3 * row['min_seconds']:>9.2f} {row['sweep_seconds']:>9.1f} s"
        print(f"  {row['side']:<18} {row['way']:<20} {times} {ratio:>26}")
    best = min(rows, key=lambda row: row["sweep_seconds"])
    print(f"  to beat: {best['side']}, {best['way']}")


def print_differences(rounds: list[dict]) -> float:
    """Prints the largest differences of each peer; returns the largest of all."""
    worst = 0.0
    for name, one in rounds[0]["peers"].items():
        largest = {delta: max(r["peers"][name]["differences"][delta] for r in rounds) for delta in DELTAS}
        worst = max(worst, *largest.values())
        compared = len({key(patch) for patch in one["patches"]})
        listed = ", ".join(f"{delta} {value:.1e}" for delta, value in largest.items())
        print(f"  {name}: largest difference over {compared} patches: {listed}")
    return worst


def arguments_of_call() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="SmolLM2's GGUF file")
    parser.add_argument("--adapters", type=Path, required=True, help="folder that holds the four adapter folders")
    parser.add_argument("--python", type=Path, required=True, help="the peers' Python")
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/lorascope")
    parser.add_argument("--prompts", type=Path, default=BENCH / "prompts_15.json")
    parser.add_argument("--peer", dest="peers", action="append", choices=PEERS, help="default: all")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sample", type=int, default=40, help="patches that a peer does one by one and in batches")
    parser.add_argument("--batch", type=int, default=10, help="patches in one pass of a peer's batched way")
    parser.add_argument("--rows", type=int, default=300, help="patches in one pass of a peer's cached way")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> int:
    call = arguments_of_call()
    rounds: list[dict] = []
    try:
        with tempfile.TemporaryDirectory(prefix="lorascope-bench-") as scratch:
            decisions = Path(scratch) / "decide"
            decide(call, decisions)
            for number in range(call.rounds):
                print(f"round {number + 1} of {call.rounds}", file=sys.stderr)
                one = {"ours": ours(call, Path(scratch) / f"patch-{number}"), "peers": {}}
                table = one["ours"].pop("table")
                for name in call.peers or PEERS:
                    one["peers"][name] = found = peer(call, name, decisions)
                    found["differences"] = differences(found["patches"], table)
                rounds.append(one)
    except (BenchError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    our_rates = [one["ours"]["patches"] / one["ours"]["seconds"] for one in rounds]
    rows = []
    for name in call.peers or PEERS:
        rows += rows_of(name, [one["peers"][name] for one in rounds], our_rates)
    print_table(call, rounds, rows)
    worst = print_differences(rounds)
    write_raw("-patch", {"threads": call.threads, "summary": rows, "rounds": rounds})
    if worst > TOLERANCE:
        print(f"bench: deltas are {worst:.2e} apart, allowed {TOLERANCE}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
