"""What Ray costs and gains: one study by a single process, by one node, and by two, each with one thread.

    python bench/scale.py --base SmolLM2-135M-Instruct.Q4_1.gguf --adapter hybrid=../shared/adapters/smollm2/hybrid --rounds 2

Needs the Python package with Ray. The nodes are Ray's test cluster on this machine. For each round and way: seconds, processor seconds of
what carries units out, and of the driver; the tables must be the same to the byte. Where others use the machine too, seconds are theirs as
well: `waited` says for how many of them each process that carries units out had work and no core (Linux counts that).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Dict, List

STUDY = """
base = "{base}"
analyses = {analyses}
prompts = "prompts.json"
raw = true
{adapters}
[settings.patch]
layer = {layers}
"""


class Waiting:
    """Seconds that the threads of some processes have waited for a core; it looks again and again, since workers end."""

    def __init__(self, name: str) -> None:
        self._name, self._ended = name, threading.Event()
        self._found: Dict[int, float] = {}
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while not self._ended.wait(0.5):
            for place in Path("/proc").iterdir():
                try:
                    if place.name.isdigit() and (place / "cmdline").read_bytes().startswith(self._name.encode()):
                        waited = [int(path.read_text().split()[1]) for path in (place / "task").glob("*/schedstat")]
                        self._found[int(place.name)] = max(self._found.get(int(place.name), 0.0), sum(waited) / 1e9)
                except OSError:  # It has ended meanwhile.
                    continue

    def seconds(self) -> List[float]:
        """Of each process."""
        self._ended.set()
        return sorted(round(seconds, 1) for seconds in self._found.values())


def one(way: str, study: str, out: str) -> None:
    """Runs the study in this process, `way` = nodes (0 for none), and prints what it took."""
    import lorascope

    nodes, begun = int(way), time.monotonic()
    if nodes == 0:
        lorascope.set_threads(1)
        waiting = Waiting(sys.executable + "\0" + __file__ + "\0--one")
        lorascope.study(study, out=out, progress=False)
        took = {"seconds": time.monotonic() - begun, "workers": time.process_time(), "driver": 0.0}
    else:
        from ray.cluster_utils import Cluster

        from lorascope import scale

        lorascope.set_threads(1)
        cluster = Cluster()
        for i in range(nodes):
            cluster.add_node(num_cpus=1, object_store_memory=200 << 20, **({"include_dashboard": False} if i == 0 else {}))
        import ray

        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        begun, before, waiting = time.monotonic(), time.process_time(), Waiting("ray::Worker")
        with_ray = scale.Cluster(cluster.address)
        lorascope.study(study, out=out, progress=False, ray=with_ray)
        took = {"seconds": time.monotonic() - begun, "driver": time.process_time() - before}
        took |= {"workers": with_ray.processor_seconds} | with_ray.counts
        ray.shutdown()
        cluster.shutdown()
    took["waited"] = waiting.seconds()
    took["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(took))


def tables(out: Path) -> str:
    """A hash over all tables."""
    found = hashlib.sha256()
    for path in sorted((out / "tables").iterdir()):
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", required=True)
    parser.add_argument("--adapter", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--analysis", action="append", metavar="NAME")
    parser.add_argument("--prompts", type=int, default=128, help="short questions; 16 of them are a unit of patching")
    parser.add_argument("--layers", default="[]", help="layers that are patched, as in study files; all by default")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--ways", default="0,1,2", help="numbers of nodes; 0 for a single process")
    given = parser.parse_args()
    place = Path(tempfile.mkdtemp())
    pairs = [pair.split("=", 1) for pair in given.adapter]
    adapters = "\n".join(f'[[adapter]]\nname = "{n}"\npath = "{os.path.abspath(p)}"' for n, p in pairs)
    base = os.path.abspath(given.base) if os.path.exists(given.base) else given.base
    analyses = json.dumps(given.analysis or ["patch"])
    study = place / "study.toml"
    study.write_text(STUDY.format(base=base, analyses=analyses, adapters=adapters, layers=given.layers))
    questions = [
        {"id": i, "prompt": f"Question: is {i + 10} larger than {37 * i % 100 + 10}? Answer:", "answer_a": " yes", "answer_b": " no"}
        for i in range(given.prompts)
    ]
    (place / "prompts.json").write_text(json.dumps(questions))
    hashes = set()
    try:
        for round_ in range(given.rounds):
            for way in given.ways.split(","):
                out = place / f"{round_}-{way}"
                command = [sys.executable, __file__, "--one", way, str(study), str(out)]
                found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                hashes.add(tables(out))
                print(f"round {round_}, nodes {way}: {found.stdout.strip().splitlines()[-1]}", flush=True)
    finally:
        shutil.rmtree(place)
    print("tables: " + ("the same bytes" if len(hashes) == 1 else f"{len(hashes)} DIFFERENT HASHES"))
    sys.exit(len(hashes) != 1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(*sys.argv[2:])
    else:
        main()
