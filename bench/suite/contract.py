"""What rows, peers and the driver of the suite have in common: clocks, processes, samples, and the JSON between them.

A *row* is one work, in a file of its own below rows/. It says what lorascope runs (`ours`), what a peer does (`peer`, in
terms of a library's primitives), which job both get (`job`), and what the work costs (`cost`). Both sides give *ways*:

    {"way": str, "units": how many of the row's units were done, "seconds": wall, "processor": user + system,
     "values": {key: number}}

and values of the same key must agree to the row's tolerance. A peer is a process of its own that stays alive: it reads one
job a line and answers with one line of ways and the most memory that it held meanwhile, so that rounds can alternate
without loading anything twice. Standard library only.
"""

from __future__ import annotations

import csv
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

SUITE = Path(__file__).resolve().parent
BENCH = SUITE.parent
ROOT = BENCH.parent

sys.path.append(str(BENCH / "peers"))
from decided import decided  # noqa: E402


class BenchError(Exception):
    """A command failed or printed something unexpected."""


def clocked(work: Callable) -> tuple[object, dict]:
    """What `work()` returns, and its wall and processor seconds in this process."""
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    return result, {"seconds": time.perf_counter() - wall, "processor": time.process_time() - processor}


def of_captures(library, job: dict, places: list, of: Callable[[str, dict], dict]) -> list[dict]:
    """A peer's way where values come from what one pass captures: `of(model, prompt)` for every model and prompt of a job, a pass of each
    model before the clock starts."""
    values, clocks = {}, []
    for model in job["models"]:
        library.select(model)
        library.run(job["prompts"][0]["ids"], places)
        for prompt in job["prompts"]:
            found, clock = clocked(lambda: of(model, prompt))
            values |= found
            clocks.append(clock)
    return [way("captured", len(clocks), {one: sum(c[one] for c in clocks) for one in clocks[0]}, values)]


def way(name: str, units: float, clock: dict, values: dict) -> dict:
    return {"way": name, "units": units, **clock, "values": values}


def key(*parts) -> str:
    """The identity of a value on both sides."""
    return "|".join("" if part is None else str(part) for part in parts)


@dataclass
class Bench:
    """What a row needs to know of this run of the suite."""

    base: Path
    adapters: dict[str, Path]
    prompts: Path
    python: Path  # the peers'
    program: Path
    examples: Path
    scratch: Path
    threads: int
    quick: bool
    decisions: list[dict] = field(default_factory=list)  # prompts as `lorascope decide` left them, see peers/decided.py
    runs: int = 0

    def size(self, whole: int, quick: int) -> int:
        return quick if self.quick else whole

    def models(self, names: list[str] | None = None) -> list[str]:
        """Arguments that name the base, and all adapters or those given."""
        chosen = self.adapters if names is None else {name: self.adapters[name] for name in names}
        return ["--base", str(self.base), *(part for name, path in chosen.items() for part in ("--adapter", f"{name}={path}"))]

    def converted(self) -> Path:
        """The folder of the base in f32 and its tokenizer, as the Python peers use it; SmolLM2 only."""
        script = "import sys, pathlib, smollm2; sys.stdout.write(str(smollm2.converted(pathlib.Path(sys.argv[1]))))"
        command = [str(self.python), "-c", script, str(self.base)]
        search = os.environ | {"PYTHONPATH": str(BENCH / "peers")}
        return Path(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=search).stdout)

    def command(self, analysis: str, *what: str, adapters: list[str] | None = None, prompts: Path | None = None) -> "Command":
        """One whole command of lorascope, loading, statistics, figures and report included."""
        self.runs += 1
        out = self.scratch / f"{analysis}-{self.runs}"
        words = [str(self.program), analysis, *self.models(adapters), "--prompts", str(prompts or self.prompts)]
        words += ["--threads", str(self.threads), *what, "--out", str(out)]
        return Command(out, measured(words))

    def subset(self, ids: list[str]) -> Path:
        """A prompt file with these prompts only."""
        chosen = [entry for entry in json.loads(self.prompts.read_text()) if entry["id"] in ids]
        path = self.scratch / f"prompts-{len(list(self.scratch.glob('prompts-*')))}.json"
        path.write_text(json.dumps(chosen))
        return path


@dataclass(frozen=True)
class Command:
    """A finished run of lorascope: its folder and what it took."""

    out: Path
    took: dict

    def table(self, name: str) -> list[dict]:
        with (self.out / f"tables/{name}.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def prompts(self) -> list[dict]:
        """The prompts of a `decide` with what it found of them, see peers/decided.py."""
        return decided(self.out)

    def side(self, units: float, values: dict) -> dict:
        """Our side of a row."""
        clock = {one: self.took[one] for one in ("seconds", "processor")}
        return {"ways": [way("whole command", units, clock, values)], "peak_bytes": self.took["peak_bytes"]}


def measured(words: list[str]) -> dict:
    """Wall and processor seconds and peak memory of one process; its errors go to a log that is shown if it fails."""
    start = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output = process.stdout.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if process.returncode != 0:
        raise BenchError(f"`{' '.join(words)}` ended with status {process.returncode}:\n{output[-2000:]}")
    processor = usage.ru_utime + usage.ru_stime
    return {"seconds": seconds, "processor": processor, "peak_bytes": usage.ru_maxrss * 1024, "output": output}


class Peer:
    """A peer's process: one job a line in, one answer a line out."""

    def __init__(self, name: str, words: list[str], environment: dict[str, str]):
        self.name = name
        start = time.perf_counter()
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | environment
        )
        self.hello = self.read()
        self.hello["load"]["seconds"] = time.perf_counter() - start

    def read(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise BenchError(f"{self.name} ended with status {self.process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise BenchError(f"{self.name}: {answer['error']}")
        return answer

    def ask(self, row: str, job: dict) -> dict:
        self.process.stdin.write(json.dumps({"row": row, "job": job}) + "\n")
        self.process.stdin.flush()
        return self.read()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=30)


def reset_peak() -> None:
    """Makes the kernel forget this process's largest memory so far (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """Most memory of this process since the last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def serve(library: str, versions: dict, answer: Callable[[str, dict], list[dict]], load: dict) -> None:
    """A peer's main loop. A row that a peer fails at is an answer, too; its trace goes to the terminal."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    load |= {"processor": usage.ru_utime + usage.ru_stime, "peak_bytes": usage.ru_maxrss * 1024}
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not get between the answers
    print(json.dumps({"peer": library, "versions": versions, "load": load}), file=replies, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        reset_peak()
        try:
            reply = {"ways": answer(asked["row"], asked["job"]), "peak_bytes": peak_bytes()}
        except Exception as error:  # the libraries raise anything
            import traceback

            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)
