#!/usr/bin/env python3
"""Run 10,000 one-round games with `lorascope play`, and a sample of them with one `transformers` call a game; print one table.

Called by `bench/run.sh play`, which prepares what this needs. The games: one adapter on SmolLM2 against the random opponent in five
games of the catalogue, told on `--surfaces` surfaces each (wordings, preambles, symbols, labels and orders vary). Many games come to the
same prompt, which ours scores once and the peer once a game; the number of distinct prompts is printed, and with
`--surfaces 400` hardly two games share one. Ours does all games; its time is that of the whole command, loading and
writing included, and the policy is asked for the states that are met only. The peer does a seeded sample of games
(bench/peers/transformers_play.py), and its time is what that comes to for all, loading not counted. Its probabilities must be ours to
1e-3. Standard library only. Everything raw goes to bench/results/<time>-play.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import random
import resource
import statistics
import sys
import tempfile
from pathlib import Path

from compare import ADAPTERS, BENCH, ROOT, BenchError, run, run_json, write_raw

GAMES = ("ipd", "stag_hunt", "chicken", "volunteer", "defective_coordination")
FACTORS = (
    "wording=structured,unstructured",
    "moral=none,utilitarian",
    "symbols=action1/action2,action3/action4,A/B,X/Y",
)
TOTAL = 10_000
TOLERANCE = 1e-3  # of a probability, f32 on both sides


def table(folder: Path, name: str) -> list[dict]:
    with (folder / f"tables/{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def ours(call: argparse.Namespace, folder: Path) -> dict:
    """All games: seconds of the whole command, its matches, and the prompt and policy of each situation."""
    surfaces = [part for factor in (*FACTORS, f"per_scenario={call.surfaces}") for part in ("--set", factor)]
    repetitions = TOTAL // (len(GAMES) * call.surfaces)
    work = ["--base", str(call.base), "--adapter", f"{call.adapter}={call.adapters / call.adapter}"]
    work += ["--player", call.adapter, "--opponent", "random", "--rounds", "1", "--repetitions", str(repetitions)]
    work += [part for game in GAMES for part in ("--game", game)]
    work += [*surfaces, "--policies", "met", "--threads", str(call.threads), "--out", str(folder)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _, seconds = run([str(call.program), "play", *work])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    matches = table(folder, "matches")
    situations = {(row["game"], row["state"], row["surface"]): row for row in table(folder, "policies")}
    seconds = {"wall": seconds, "processor": processor}
    return {"seconds": seconds, "matches": matches, "situations": situations}


def sampled(call: argparse.Namespace, one: dict, folder: Path, target: Path) -> list[dict]:
    """Writes the prompts of a seeded sample of games; returns our policy in each."""
    games = random.Random(call.seed).sample(one["matches"], call.sample)
    rows = [one["situations"][game["game"], game["start"], game["surface"]] for game in games]
    prompts = {item["id"]: item for item in json.loads((folder / "prompts.json").read_text())}
    target.write_text(json.dumps([prompts[row["prompt_id"]] for row in rows]))
    return rows


def difference(rows: list[dict], decisions: list[dict]) -> float:
    """Largest difference of a probability of both sides: of defecting among the two, and of giving either answer."""
    worst = 0.0
    for row, decision in zip(rows, decisions, strict=True):
        if row["prompt_id"] != decision["prompt_id"]:
            raise BenchError(f"the peer played {decision['prompt_id']}, not {row['prompt_id']}")
        a, b = (math.exp(decision[name]) for name in ("logp_a", "logp_b"))
        worst = max(worst, abs(b / (a + b) - float(row["p_defect"])), abs(a + b - float(row["legal_mass"])))
    return worst


def arguments_of_call() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="SmolLM2's GGUF file")
    parser.add_argument("--adapters", type=Path, required=True, help="folder that holds the four adapter folders")
    parser.add_argument("--python", type=Path, required=True, help="the peers' Python")
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/lorascope")
    parser.add_argument("--adapter", default=ADAPTERS[3], choices=ADAPTERS)
    parser.add_argument("--surfaces", type=int, default=100, help="surfaces of each game, a multiple of 4 that divides 2,000")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--sample", type=int, default=60, help="games that the peer plays")
    parser.add_argument("--seed", type=int, default=0)
    call = parser.parse_args()
    if call.surfaces % 4 or TOTAL % (len(GAMES) * call.surfaces):
        parser.error(f"--surfaces {call.surfaces} is not a multiple of 4 that divides {TOTAL // len(GAMES)}")
    return call


def main() -> int:
    call = arguments_of_call()
    rounds = []
    try:
        with tempfile.TemporaryDirectory(prefix="lorascope-bench-") as scratch:
            for number in range(call.rounds):
                print(f"round {number + 1} of {call.rounds}", file=sys.stderr)
                folder, games = Path(scratch) / f"play-{number}", Path(scratch) / "games.json"
                one = ours(call, folder)
                rows = sampled(call, one, folder, games)
                work = ["--base", str(call.base), "--adapter", f"{call.adapter}={call.adapters / call.adapter}"]
                work += ["--games", str(games), "--threads", str(call.threads)]
                peer = run_json([str(call.python), str(BENCH / "peers/transformers_play.py"), *work])
                rounds.append({
                    "ours_seconds": one["seconds"],
                    "games": len(one["matches"]),
                    "distinct_prompts": len(one["situations"]),
                    "peer": peer,
                    "difference": difference(rows, peer["decisions"]),
                })
    except (BenchError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    first = rounds[0]
    versions = ", ".join(f"{name} {version}" for name, version in first["peer"]["versions"].items())
    print(f"\n{first['peer']['cpu']}, {call.threads} threads; {versions}; load {os.getloadavg()[0]:.1f}")
    print(f"play: {first['games']} one-round games on {first['distinct_prompts']} distinct prompts, median of {len(rounds)} rounds;"
          f" the peer's time from {call.sample} games")
    for clock in ("wall", "processor"):
        ours_seconds = statistics.median(one["ours_seconds"][clock] for one in rounds)
        print(f"  {clock} time\n    lorascope, whole command {ours_seconds:>31.1f} s")
        for way in first["peer"]["median_seconds"]:
            total = TOTAL * statistics.median(one["peer"]["median_seconds"][way][clock] for one in rounds)
            print(f"    transformers, {way:<9} one call a game {total:>15.1f} s {total / ours_seconds:>8.1f} times ours")
    worst = max(one["difference"] for one in rounds)
    print(f"  largest difference of a probability: {worst:.1e}")
    write_raw("-play", {"threads": call.threads, "surfaces": call.surfaces, "sample": call.sample, "rounds": rounds})
    if worst > TOLERANCE:
        print(f"bench: probabilities are {worst:.2e} apart, allowed {TOLERANCE}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
