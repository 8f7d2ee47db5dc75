#!/usr/bin/env python3
"""What each analysis costs at Gemma-2-2b's true size: decide, lens, dla and patch, one process each, time and peak memory.

The weights are random (`scripts/make_random_model.py`), so the results mean nothing; the work is the real one. Then the share of
the machine's fastest matrix product that a sweep of patches reaches in the engine, and what the sweep of the analysis would take if every
patch were a forward pass over the whole prompt, at the speed of PyTorch's best product: a bound from below for any tool that
patches so. Needs PyTorch, for its product.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from sweep import PRODUCT

WORK = ("decide", "lens", "dla", "patch")
GIGA = 1e9


def parameters_in_products(config: dict) -> int:
    """Weights that every token of a forward pass is multiplied with; the embedding's table is looked up, not multiplied."""
    width, heads, head = config["hidden_size"], config["num_attention_heads"], config["head_dim"]
    attention = width * head * (2 * heads + 2 * config["num_key_value_heads"])
    return config["num_hidden_layers"] * (attention + 3 * width * config["intermediate_size"])


def run(command: list[str]) -> tuple[float, int]:
    """Wall time in seconds and peak memory in bytes of one process, memory-mapped pages of the weights included."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"failed: {' '.join(command)}")
    return time.perf_counter() - start, usage.ru_maxrss * 1024


def sweep(args: argparse.Namespace, adapter: Path, best: float) -> dict:
    """The sweep by itself, in the engine: what share of the machine's fastest product it uses on the FLOPs that it needs."""
    command = ["target/release/examples/bench_sweep", "--base", str(args.folder / "model"), "--adapter", str(adapter)]
    command += ["--threads", str(args.threads), "--lengths", "256", "--patches", str(args.patches)]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    row = json.loads(lines[-1])
    fastest = max(best, row["best_product_gflop_per_second"])
    row |= {"pytorch_product": best, "efficiency": row["gflop_per_second"] / fastest}
    print(
        f"{row['patches']} patches at the end of {row['tokens']} tokens: {row['gflop_per_second']:.0f} GFLOP/s, {row['efficiency']:.0%} of the "
        f"fastest product (PyTorch {best:.0f}, ours {row['best_product_gflop_per_second']:.0f})"
    )
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="what make_random_model.py wrote")
    parser.add_argument("--prompts", type=Path, default=Path("bench/prompts_15.json"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=WORK, default=WORK)
    parser.add_argument("--patches", type=int, default=2000, help="of the sweep that shows the efficiency; 0 leaves it out")
    args = parser.parse_args()

    out = args.folder / "runs"
    adapters = sorted((args.folder / "adapters").iterdir())
    results = {}
    for work in args.only:
        folder = out / f"{work}-{int(time.time())}"
        command = ["target/release/lorascope", work, "--base", str(args.folder / "model")]
        for adapter in adapters:
            command += ["--adapter", f"{adapter.name}={adapter}"]
        command += ["--prompts", str(args.prompts), "--threads", str(args.threads), "--out", str(folder)]
        # As in the sweep against the peers: z of every head and every MLP's output of the base, into each adapter.
        command += ["--source", "base", "--site", "z", "--site", "mlp_out"] if work == "patch" else []
        seconds, peak = run(command)
        results[work] = {"seconds": seconds, "peak_bytes": peak}
        print(f"{work:>8} {seconds:8.1f} s {peak / 2**30:6.2f} GiB at the peak", flush=True)

    product = [sys.executable, "-c", PRODUCT, str(args.threads)]
    rate = float(subprocess.run(product, check=True, capture_output=True, text=True).stdout)
    if args.patches:
        results["sweep"] = sweep(args, adapters[0], rate)
    config = json.loads((args.folder / "model" / "config.json").read_text())
    prompts = json.loads(args.prompts.read_text())
    units = config["num_hidden_layers"] * (config["num_attention_heads"] + 1)
    patches = units * len(adapters) * len(prompts)
    tokens = 232  # of an average prompt of prompts_15.json
    hours = patches * 2 * parameters_in_products(config) * tokens / (rate * GIGA) / 3600
    print(f"{patches} patches as full forward passes, at {rate:.0f} GFLOP/s: {hours:.1f} hours")
    results["full_forwards"] = {"patches": patches, "hours": hours, "gflop_per_second": rate}
    folder = Path("bench/results")
    folder.mkdir(exist_ok=True)
    (folder / "size.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
