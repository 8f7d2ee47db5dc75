"""What this machine is, and its measured limits: the fastest matrix product of both sides, and memory bandwidth."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from pathlib import Path

from contract import ROOT, Bench, BenchError

# What every side multiplies at its best, and how fast memory is read: 1 GiB summed, the fastest of several.
LIMITS = """
import json, sys, time, torch
torch.set_num_threads(int(sys.argv[1]))
def fastest(work, times):
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best
x, w = torch.randn(512, 2304), torch.randn(9216, 2304)
product = 2 * 512 * 2304 * 9216 / fastest(lambda: torch.nn.functional.linear(x, w), 8)
many = torch.ones(1 << 28)
print(json.dumps({"product": product, "bandwidth": 4 * many.numel() / fastest(many.sum, 5)}))
"""


def limits(bench: Bench, python: Path) -> dict:
    """FLOP/s of the best products and bytes/s read, with the threads of this run."""
    command = [str(python), "-c", LIMITS, str(bench.threads)]
    torch = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    command = [str(bench.examples / "matmul_speed"), "0.1", f"t{bench.threads}", "576x1536", "1536x576"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    found = re.search(r"peak ([\d.]+) GFLOP/s", lines[0])
    if found is None:
        raise BenchError(f"matmul_speed printed no peak: {lines[0]}")
    ours = max(float(cell) for line in lines[2:] for cell in line.split()[1:])
    return torch | {"our_product": 1e9 * ours, "registers": 1e9 * float(found[1])}


def surroundings(threads: int) -> dict:
    """Processor, cores, memory, kernel, commit and load."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    field = {line.split(":", 1)[0].strip(): line.split(":", 1)[1].strip() for line in lines if ":" in line}
    flags = field.get("flags", field.get("Features", "")).split()
    memory = next(line.split()[1] for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain", "crates"], check=True, capture_output=True, text=True).stdout
    rust = subprocess.run(["rustc", "--version"], check=True, capture_output=True, text=True).stdout.strip()
    return {
        "processor": f"{field.get('model name', platform.machine())}, family {field.get('cpu family')}, model {field.get('model')}",
        "vector": next((flag for flag in ("avx512f", "avx2", "asimd") if flag in flags), "none known"),
        "cores": os.cpu_count(),
        "memory_bytes": int(memory) * 1024,
        "system": f"{platform.system()} {platform.release()}",
        "rust": rust,
        "commit": commit + (" with uncommitted changes" if changed else ""),
        "threads": threads,
        "load_average": list(os.getloadavg()),
    }
