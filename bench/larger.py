#!/usr/bin/env python3
"""A model of twice the memory: decisions and a sweep of patches, with the weights read from the disk in every sweep.

    bench/run.sh larger [--limit GIB] [--prompts N] [--threads N]

Each process runs in a control group whose memory, the pages of files that it reads included, is at most half of the weights' size, so
that a page is gone long before it is wanted again. Before each, the system forgets the file. *Read* is what the disk gave,
as the system counts it; *rate* is that over wall time, and *share* is the rate over that of a plain sequential read of the same file
in the same group. With many or long prompts arithmetic takes longer than the disk, and the share falls: then `of a processor`
nears the number of threads.

Needs Linux, and the right to make control groups (root).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

GIB = 2**30
BLOCK = 1 << 23


class Group:
    """A control group of memory, of either version."""

    def __init__(self, limit: int) -> None:
        root = Path("/sys/fs/cgroup")
        self.is_first = (root / "memory").is_dir()
        self.place = (root / "memory" if self.is_first else root) / f"lorascope-bench-{os.getpid()}"
        try:
            self.place.mkdir()
            (self.place / ("memory.limit_in_bytes" if self.is_first else "memory.max")).write_text(str(limit))
        except OSError as error:
            sys.exit(f"no control group of memory could be made ({error}); run this as root")

    def enter(self) -> None:
        (self.place / "cgroup.procs").write_text(str(os.getpid()))

    def peak(self) -> int:
        return int((self.place / ("memory.max_usage_in_bytes" if self.is_first else "memory.peak")).read_text())

    def close(self) -> None:
        self.place.rmdir()


@dataclass
class Took:
    """What a process in the group took; sizes in bytes."""

    seconds: float
    processor: float
    read: int
    peak: int


def forget(files: list[Path]) -> None:
    """The system drops what it has of these files in memory."""
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def run(command: list[str], limit: int, files: list[Path]) -> Took:
    """One process, in a group of its own."""
    forget(files)
    group = Group(limit)
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=group.enter)
    _, status, usage = os.wait4(process.pid, 0)
    seconds, peak = time.perf_counter() - start, group.peak()
    group.close()
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"failed: {' '.join(command)}")
    return Took(seconds, usage.ru_utime + usage.ru_stime, usage.ru_inblock * 512, peak)


def read_through(files: list[Path]) -> None:
    """Reads files from their beginnings to their ends."""
    block = bytearray(BLOCK)
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(block):
                pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="what make_random_model.py wrote")
    parser.add_argument("--limit", type=float, help="GiB of memory (default: half of the weights)")
    parser.add_argument("--prompts", type=int, default=1, help="short questions (default: 1)")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    files = sorted((args.folder / "model").glob("*.safetensors"))
    size = sum(path.stat().st_size for path in files)
    limit = int(args.limit * GIB) if args.limit else size // 2
    scratch = tempfile.TemporaryDirectory(dir=args.folder)
    place = Path(scratch.name)
    questions = [
        {"id": i, "prompt": f"Question: is {i + 10} larger than {37 * i % 100 + 10}? Answer:", "answer_a": " yes", "answer_b": " no"}
        for i in range(args.prompts)
    ]
    prompts = place / "prompts.json"
    prompts.write_text(json.dumps(questions))
    adapter = sorted((args.folder / "adapters").iterdir())[0]
    print(f"weights {size / GIB:.2f} GiB, memory {limit / GIB:.2f} GiB, {args.prompts} prompt(s), base and one adapter, {args.threads} thread(s)")

    results: dict[str, list[dict]] = {"read": [], "decide": [], "patch": []}
    for round_ in range(args.rounds):
        plain = run([sys.executable, __file__, "--read", *map(str, files)], limit, files)
        results["read"].append(vars(plain))
        disk = plain.read / plain.seconds
        print(f"plain read: {plain.read / 1e9:.2f} GB at {disk / 1e9:.2f} GB/s")
        for work in ("decide", "patch"):
            command = ["target/release/lorascope", work, "--base", str(args.folder / "model"), "--adapter", f"{adapter.name}={adapter}"]
            command += ["--prompts", str(prompts), "--raw", "--memory", f"{limit // 3 >> 20}MiB", "--threads", str(args.threads)]
            command += ["--source", "base", "--site", "z", "--site", "mlp_out"] if work == "patch" else []
            took = run([*command, "--out", str(place / f"{work}-{round_}")], limit, files)
            results[work].append(vars(took))
            rate = took.read / took.seconds
            print(
                f"{work:>10}: {took.seconds:.1f} s, {took.processor / took.seconds:.2f} of a processor, read {took.read / 1e9:.2f} GB "
                f"({took.read / size:.2f} times the weights) at {rate / 1e9:.2f} GB/s, share {rate / disk:.2f}, peak {took.peak / GIB:.2f} GiB",
                flush=True,
            )
    results_folder = Path("bench/results")
    results_folder.mkdir(exist_ok=True)
    about = {"weights": size, "memory": limit, "prompts": args.prompts, "threads": args.threads, "runs": results}
    (results_folder / "larger.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--read"]:
        read_through([Path(name) for name in sys.argv[2:]])
    else:
        main()
