"""What the way through Python costs: a function on one head against the native patch, and a cache of 1 GB against its size in memory.

    python bench/python.py --base SmolLM2-135M-Instruct.Q4_1.gguf

Needs the Python package alone. Processor time is given, the least of several runs in turn, because others may use the machine.
"""

from __future__ import annotations

import argparse
import time
from typing import Any, Dict, List

import numpy as np

import lorascope


def kib(what: str) -> int:
    """A line of this process's memory."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(what))


def tokens(model: lorascope.Model, prompts: int, length: int) -> np.ndarray:
    """Prompts of equal length that begin alike only in their first token."""
    found = np.random.default_rng(0).integers(3, model.d_vocab, (prompts, length))
    found[:, 0] = model.tokenize("a")[0]
    return found


def hooks(model: lorascope.Model, rounds: int, prompts: int, length: int) -> None:
    """One head replaced by a function, by an intervention, and not at all."""
    name, values = f"blocks.{model.n_layers // 2}.attn.hook_z", np.zeros((1, 1, model.d_head), np.float32)

    def put(z: np.ndarray, hook: lorascope.Hook) -> None:
        z[:, :, 3] = values

    ways: Dict[str, Dict[str, Any]] = {
        "nothing": {},
        "intervention": {"interventions": [lorascope.at(name, head=3).replace(values)]},
        "function": {"fwd_hooks": [(name, put)]},
    }
    asked = tokens(model, prompts, length)
    took: Dict[str, List[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, what in ways.items():
            begun = time.process_time()
            model.run_with_hooks(asked, logits="last", **what)
            took[way].append(time.process_time() - begun)
    least = {way: min(times) for way, times in took.items()}
    told = ", ".join(f"{way} {seconds:.4f}" for way, seconds in least.items())
    print(f"{prompts} prompts of {length} tokens, one head of {model!r}, processor seconds: {told}")
    print(f"the function takes {least['function'] / least['intervention']:.3f} times as long as the intervention")


def cache(model: lorascope.Model, gigabytes: float) -> None:
    """How much the process grows by a cache, and whether its arrays are the engine's memory."""
    names = [f"blocks.{layer}.{site}" for layer in range(model.n_layers) for site in ("attn.hook_result", "hook_q_input")]
    model.run_with_cache(tokens(model, 1, 8), names=names, logits="none")
    one = sum(array.nbytes for array in model.run_with_cache(tokens(model, 1, 64), names=names, logits="none")[1].values())
    asked = tokens(model, max(1, round(gigabytes * 1e9 / one)), 64)
    before, begun = kib("VmHWM"), time.process_time()
    _, found = model.run_with_cache(asked, names=names, logits="none")
    took, grown = time.process_time() - begun, kib("VmHWM") - before
    size = sum(array.nbytes for array in found.values())
    shared = not any(array.flags["OWNDATA"] for array in found.values())
    print(f"a cache of {size / 1e9:.3f} GB: peak memory grew by {grown * 1024 / 1e9:.3f} GB, in {took:.1f} processor seconds; the engine's memory: {shared}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="organism")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    given = parser.parse_args()
    lorascope.set_threads(1)
    model = lorascope.Model.load(given.base, progress=False)
    hooks(model, given.rounds, given.prompts, given.length)
    cache(model, given.gigabytes)


if __name__ == "__main__":
    main()
