#!/usr/bin/env python3
"""The benchmark suite: the same work by lorascope and its peers, in turn, with the same threads, results checked equal.

Called by `bench/run.sh suite`, which prepares what this needs. Every round runs, for each row, ours and then each peer, so
that a busy machine hurts all of them; ratios are of a round, and the page has their medians. Peers do a seeded sample of the
work and the page says what it comes to. Writes results/suite.md, suite.json and, of the cost curves, suite.svg (or --name). A row that a side fails at, or in which
results differ, is in the page as such, and the command then ends with status 1. Standard library only.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

import curves
import machine
import page
from contract import BENCH, ROOT, SUITE, Bench, BenchError, Peer

ROWS = (
    "load",
    "forward",
    "decide",
    "lens",
    "dla",
    "patch",
    "patch_between",
    "patch_all",
    "patch_each",
    "attribution",
    "paths",
    "leave_one_out",
    "probe",
)
PYTHON_PEERS = {"transformers": "of_transformers", "TransformerLens": "of_transformer_lens", "nnsight": "of_nnsight"}
ADAPTERS = ("PT2_strategic", "PT3_deontological", "PT3_utilitarian", "PT4_hybrid")


def arguments_of_call() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="SmolLM2's GGUF file")
    parser.add_argument("--adapters", type=Path, required=True, help="folder that holds the four adapter folders")
    parser.add_argument("--python", type=Path, required=True, help="the peers' Python")
    parser.add_argument("--candle-mi", type=Path, help="the program of bench/suite/candle_mi; without it candle-mi is left out")
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/lorascope")
    parser.add_argument("--examples", type=Path, default=ROOT / "target/release/examples")
    parser.add_argument("--prompts", type=Path, default=BENCH / "prompts_15.json")
    parser.add_argument("--rows", default=",".join(ROWS), help=f"some of: {', '.join(ROWS)} (default: all)")
    parser.add_argument("--peers", default=",".join((*PYTHON_PEERS, "candle-mi")), help="default: all")
    parser.add_argument("--no-curves", action="store_true", help="leave out the cost curves")
    parser.add_argument("--quick", action="store_true", help="a small version of every work")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, help="default: 2; 1 with --quick")
    parser.add_argument("--name", default="suite", help="name of the results page and its numbers")
    parser.add_argument("--note", default="", help="a sentence for the head of the page, e.g. what else the machine did")
    call = parser.parse_args()
    call.rows, call.peers = call.rows.split(","), call.peers.split(",")
    if unknown := set(call.rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    if unknown := set(call.peers) - {*PYTHON_PEERS, "candle-mi"}:
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    call.rounds = call.rounds or (1 if call.quick else 2)
    return call


def start_peers(call: argparse.Namespace, bench: Bench, failures: list[str]) -> dict[str, Peer]:
    """The peers' processes, each timed from its start to its first pass. One that can't be started is left out, aloud."""
    peers = {}
    threads = {name: str(call.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")}
    for name in call.peers:
        if name == "candle-mi":
            if call.candle_mi is None:
                continue
            words = [str(call.candle_mi), str(bench.converted())]
        else:
            script = SUITE / "peers/serve.py"
            words = [str(call.python), str(script), PYTHON_PEERS[name], *bench.models(), "--threads", str(call.threads)]
        try:
            print(f"starting {name}", file=sys.stderr, flush=True)
            peers[name] = Peer(name, words, threads)
        except (BenchError, OSError) as error:
            failures.append(f"{name} did not start: {error}")
    return peers


def checked(row, ours: dict, peer: dict) -> float | None:
    """The largest difference of a value that both sides have; everything a peer computed must be in ours."""
    if row.TOLERANCE is None:
        return None
    known = {name: value for one in ours["ways"] for name, value in one["values"].items()}
    theirs = {name: value for one in peer["ways"] for name, value in one["values"].items()}
    if not theirs:
        raise BenchError("the peer gave no values")
    if missing := theirs.keys() - known.keys():
        raise BenchError(f"ours lacks {len(missing)} of the peer's {len(theirs)} values, e.g. {min(missing)}")
    return max(abs(known[name] - value) for name, value in theirs.items())


def started(name: str, peer: Peer) -> dict:
    """The row `load` of a peer: what it took to start."""
    load = peer.hello["load"]
    clock = {one: load[one] for one in ("seconds", "processor")}
    return {"ways": [{"way": "start", "units": 1, **clock, "values": {}}], "peak_bytes": load["peak_bytes"]}


def one_round(name: str, bench: Bench, peers: dict[str, Peer], round_: int, failures: list[str]) -> dict:
    """Ours and every peer of a row, one after another."""
    row = importlib.import_module(f"rows.{name}")
    begun = time.monotonic()
    try:
        found = {"ours": row.ours(bench), "peers": {}}
        job = row.job(bench, round_) if hasattr(row, "job") else None
        # What of the job only our result can say.
        job = found["ours"].pop("job", {}) | job if job else job
    except (BenchError, OSError, KeyError, ValueError) as error:
        failures.append(f"{name}: ours: {error}")
        return {}
    for peer in (peers[one] for one in row.PEERS if one in peers):
        try:
            answer = started(peer.name, peer) if job is None else peer.ask(name, job)
            difference = checked(row, found["ours"], answer)
            if difference is not None and difference > row.TOLERANCE:
                failures.append(f"{name}: {peer.name} and ours differ by {difference:.2e}, allowed {row.TOLERANCE}")
            found["peers"][peer.name] = answer | {"difference": difference}
        except BenchError as error:
            failures.append(f"{name}: {error}")
    for side in (found["ours"], *found["peers"].values()):
        for one in side["ways"]:
            one["n_values"] = len(one.pop("values"))
    print(f"round {round_ + 1}: {name}, {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return found


def write(call: argparse.Namespace, numbers: dict, modules: dict, begun: float) -> None:
    """The page and its numbers, after every row anew: a run that is cut off leaves what it had."""
    numbers["about"] |= {"load_average_after": list(os.getloadavg()), "seconds": time.monotonic() - begun}
    results = BENCH / "results"
    results.mkdir(exist_ok=True)
    (results / f"{call.name}.json").write_text(json.dumps(numbers, indent=1) + "\n")
    (results / f"{call.name}.md").write_text(page.page(numbers, modules, call.name))


def main() -> int:
    call = arguments_of_call()
    adapters = {name: call.adapters / name for name in ADAPTERS}
    begun, failures = time.monotonic(), []
    modules = {name: importlib.import_module(f"rows.{name}") for name in call.rows}
    with tempfile.TemporaryDirectory(prefix="lorascope-bench-") as scratch:
        bench = Bench(
            call.base, adapters, call.prompts, call.python, call.program, call.examples, Path(scratch), call.threads, call.quick
        )
        about = machine.surroundings(call.threads) | {"started": datetime.now(timezone.utc).isoformat(timespec="seconds")}
        limits = [machine.limits(bench, call.python)]
        bench.decisions = bench.command("decide", adapters=[]).prompts()
        peers = start_peers(call, bench, failures)
        numbers = {
            "about": about,
            "note": call.note,
            "quick": call.quick,
            "versions": {name: peer.hello["versions"] for name, peer in peers.items()},
            "limits": limits,
            "costs": {name: row.cost(bench) for name, row in modules.items()},
            "rounds": {name: [] for name in call.rows},
            "curves": [],
            "failures": failures,
        }
        try:
            for round_ in range(call.rounds):
                for name in call.rows:
                    if found := one_round(name, bench, peers, round_, failures):
                        numbers["rounds"][name].append(found)
                    write(call, numbers, modules, begun)
        finally:
            for peer in peers.values():
                peer.close()
        numbers["curves"] = [] if call.no_curves else curves.measure(bench)
        limits.append(machine.limits(bench, call.python))
        write(call, numbers, modules, begun)
        if numbers["curves"]:
            files = [BENCH / "results" / f"{call.name}{end}" for end in (".json", ".svg")]
            subprocess.run([call.python, SUITE / "figure.py", *files], check=True)
    print(f"results: bench/results/{call.name}.md and .json", file=sys.stderr)
    for failure in failures:
        print(f"bench: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
