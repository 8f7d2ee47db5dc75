#!/usr/bin/env python3
"""What a sweep of patches costs against their number and against the length of the prompt, and how much of the machine it uses.

Runs the example `bench_sweep` on SmolLM2 with one adapter, and the peer's best matrix product (PyTorch, f32, same threads)
before and after it. Efficiency is FLOP/s on the FLOPs that the patches need over the faster of the two best products.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

PRODUCT = """
import sys, time, torch
torch.set_num_threads(int(sys.argv[1]))
x, w = torch.randn(512, 2304), torch.randn(9216, 2304)
best = float("inf")
for _ in range(10):
    start = time.perf_counter()
    torch.nn.functional.linear(x, w)
    best = min(best, time.perf_counter() - start)
print(2 * 512 * 2304 * 9216 / best * 1e-9)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--adapters", type=Path, required=True)
    parser.add_argument("--python", type=Path, required=True, help="a Python that has PyTorch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--lengths", default="16,64,256,1024,2048")
    parser.add_argument("--patches", default="100,1000,10000,100000")
    args = parser.parse_args()
    ours = [
        "target/release/examples/bench_sweep",
        "--base", str(args.base),
        "--adapter", str(args.adapters / "PT2_strategic"),
        "--threads", str(args.threads),
        "--lengths", args.lengths,
        "--patches", args.patches,
    ]  # fmt: skip

    def product() -> float:
        command = [str(args.python), "-c", PRODUCT, str(args.threads)]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    best = product()
    lines = subprocess.run(ours, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    best = max(best, product())
    results = Path("bench/results")
    results.mkdir(exist_ok=True)
    rows = [json.loads(line) for line in lines]
    (results / "sweep.json").write_text(json.dumps({"pytorch_product": best, "rows": rows}, indent=1) + "\n")
    fastest = max(best, *(row["best_product_gflop_per_second"] for row in rows))
    print(f"best product: PyTorch {best:.0f} GFLOP/s, ours {rows[0]['best_product_gflop_per_second']:.0f} GFLOP/s")
    print(f"{'tokens':>7} {'patches':>8} {'seconds':>8} {'trunk':>7} {'ms/patch':>9} {'GFLOP/s':>8} {'efficiency':>11}")
    for row in rows:
        rate = row["gflop_per_second"]
        print(
            f"{row['tokens']:>7} {row['patches']:>8} {row['seconds']:>8.2f} {row['seconds_trunk']:>7.2f} "
            f"{row['milliseconds_per_patch']:>9.3f} {rate:>8.0f} {rate / fastest:>10.0%}"
        )


if __name__ == "__main__":
    sys.exit(main())
