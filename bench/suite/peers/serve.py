#!/usr/bin/env python3
"""A peer of the suite as a process: loads a library with base and adapters, then answers jobs (../contract.py).

    python bench/suite/peers/serve.py of_transformers --base X.gguf --adapter NAME=FOLDER … --threads 1
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

PEERS = Path(__file__).resolve().parent
sys.path += [str(PEERS.parent), str(PEERS.parents[1] / "peers"), str(PEERS)]

import contract
import library

import torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", choices=("of_transformers", "of_transformer_lens", "of_nnsight"))
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--adapter", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--threads", type=int, required=True)
    call = parser.parse_args()
    torch.set_num_threads(call.threads)
    module = importlib.import_module(call.library)
    imported = time.process_time()
    with torch.no_grad():
        loaded = module.load(library.call_of(call.base, dict(part.split("=", 1) for part in call.adapter)))
        loaded.select("base")
        loaded.run([1, 50, 60, 70])  # the first pass is part of loading, on all sides

        def answer(row: str, job: dict) -> list[dict]:
            return importlib.import_module(f"rows.{row}").peer(loaded, job)

        contract.serve(module.NAME, module.VERSIONS, answer, {"import_processor": imported})


if __name__ == "__main__":
    main()
