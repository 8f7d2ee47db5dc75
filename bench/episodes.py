#!/usr/bin/env python3
"""Count the episodes until a policy is clear, with the exact gradient and with PPO; print one table.

Called by `bench/run.sh episodes`. Both train on the embedded model with the same prompts, seeds and learning rates; each algorithm
counts with the learning rate, the forms a step and the samples a state that serve it best. A policy is clear from the step on after which, for WINDOW steps in a row, the
action with the larger reward has a probability of 0.9 in the mean over the step's prompts of every state that the reward decides.
An episode is one answer with its reward: with the exact gradient one a state of a step (both answers' rewards are used at once),
with PPO `ppo.samples` a state. What was never clear within the steps given is reported as more than these.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WINDOW = 5
CLEAR = 0.9
STATES = 4
# The exact objective's own terms that keep it from p = 1 leave 0.9 within reach; PPO's divergence penalty is left at the paper's default.
DESIGN = ("prompts.wording=[\"structured\",\"unstructured\"]", "prompts.labels=straight")


def train(
    call: argparse.Namespace, folder: Path, algorithm: str, reward: str, rate: float, size: tuple[int, int], seed: int, steps: int
) -> list[dict]:
    forms, samples = size
    words = [str(call.program), "train", "--base", "organism", "--reward", reward, "--algorithm", algorithm]
    words += ["--learning-rate", str(rate), "--steps", str(steps), "--seed", str(seed), "--threads", str(call.threads)]
    words += ["--set", f"forms={forms}", "--set", f"ppo.samples={samples}", "--out", str(folder)]
    words += [part for setting in DESIGN for part in ("--set", setting)]
    # A constant rate: how long a run is must not decide how fast it learns.
    words += ["--set", "optimizer.final_rate=1.0"]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with (folder / "tables/training_states.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def clear_after(rows: list[dict]) -> int | None:
    """Steps until the policy is clear."""
    better: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        cooperate, defect = float(row["reward_cooperate"]), float(row["reward_defect"])
        if cooperate != defect:
            p = float(row["p_defect"])
            better[int(row["step"])][row["state"]].append(p if defect > cooperate else 1 - p)
    in_a_row = 0
    for step in sorted(better):
        clear = all(sum(ps) / len(ps) >= CLEAR for ps in better[step].values())
        in_a_row = in_a_row + 1 if clear else 0
        if in_a_row == WINDOW:
            return step + 1 - WINDOW
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rewards", nargs="+", default=["strategic", "hybrid"])
    parser.add_argument("--rates", nargs="+", type=float, default=[1e-3, 3e-3])
    parser.add_argument("--forms", nargs="+", type=int, default=[1, 4], help="forms of a step")
    parser.add_argument("--samples", nargs="+", type=int, default=[2, 8], help="PPO's samples of a state")
    parser.add_argument("--steps", type=int, default=120, help="at most this many, exact gradient")
    parser.add_argument("--ppo-steps", type=int, default=150, help="at most this many, PPO")
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/lorascope")
    call = parser.parse_args()
    print(f"{'reward':<14} {'algorithm':<10} {'rate':>7} {'forms':>6} {'samples':>8}  episodes until clear, by seed")
    for reward in call.rewards:
        best: dict[str, tuple[float, str]] = {}
        for algorithm, steps in (("exact", call.steps), ("ppo", call.ppo_steps)):
            sizes = [(f, s) for f in call.forms for s in (call.samples if algorithm == "ppo" else [1])]
            for rate, (forms, samples) in ((rate, size) for rate in call.rates for size in sizes):
                episodes, unclear = [], ""
                for seed in range(call.seeds):
                    with tempfile.TemporaryDirectory() as folder:
                        rows = train(call, Path(folder) / "run", algorithm, reward, rate, (forms, samples), seed, steps)
                    found = clear_after(rows)
                    unclear = "at least " if found is None else unclear
                    episodes.append((steps if found is None else max(found, 1)) * forms * STATES * samples)
                shown = ", ".join(map(str, episodes)) + (" (not clear)" if unclear else "")
                print(f"{reward:<14} {algorithm:<10} {rate:>7.0e} {forms:>6} {samples:>8}  {shown}", flush=True)
                # What never became clear is no best.
                one = (sum(episodes) / len(episodes), unclear)
                if algorithm not in best or (one[1], one[0]) < (best[algorithm][1], best[algorithm][0]):
                    best[algorithm] = one
        ratio = best["ppo"][0] / best["exact"][0]
        print(f"{reward:<14} PPO needs {best['ppo'][1]}{ratio:.1f} times the episodes of the exact gradient (each at its best)\n")


if __name__ == "__main__":
    main()
