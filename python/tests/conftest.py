"""Models and reference data for all tests."""

from __future__ import annotations

import json
import os
import signal
import struct
from pathlib import Path
from typing import Dict, Iterator

import numpy as np
import pytest

import lorascope

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = ["gemma2", "gemma3", "gpt2", "llama", "mistral", "qwen2", "qwen3"]


def skip(why: str) -> None:
    """Says that a test checks nothing here; with LORASCOPE_REQUIRE_SHARED=1 that is a failure."""
    print(f"skipped: {why}")
    if os.environ.get("LORASCOPE_REQUIRE_SHARED") == "1":
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data, beside the repository."""
    place = ROOT.parent / "shared"
    if not place.is_dir():
        skip(f"reference data not found at {place}")
    return place


@pytest.fixture(scope="session")
def model() -> lorascope.Model:
    """The embedded model with two of its adapters and a control."""
    adapters = {"hybrid": "organism:hybrid", "selfish": "organism:strategic"}
    return lorascope.Model.load("organism", adapters=adapters, controls=["random:hybrid@3"], progress=False)


@pytest.fixture(scope="session")
def prompts(model: lorascope.Model) -> np.ndarray:
    """Three prompts of equal length, as token ids; the first two begin alike."""
    tokens = np.array(model.tokenize("Two players choose at the same time. Which action do you choose, and why?"))
    other = tokens.copy()
    other[-3:] = tokens[3:6]
    return np.stack([tokens, other, tokens[::-1].copy()])


@pytest.fixture(scope="session")
def games() -> list:
    """A few prompts about games."""
    return lorascope.game_prompts("fifteen")


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C raises, as it does by default: a process that a shell starts in the background begins with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def read_safetensors(path: Path) -> Dict[str, np.ndarray]:
    """Tensors of a safetensors file, read without any code under test."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    kinds = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "I32": "<i4"}
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = (8 + length + offset for offset in entry["data_offsets"])
            tensors[name] = np.frombuffer(data[start:end], kinds[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def smollm2_file() -> Path:
    """SmolLM2's weights: where `scripts/test` says they are, or where `scripts/get_smollm2.py` leaves them."""
    cache = Path(os.environ.get("LORASCOPE_CACHE") or Path.home() / ".cache" / "lorascope")
    place = Path(os.environ.get("LORASCOPE_SMOLLM2_GGUF") or cache / "SmolLM2-135M-Instruct.Q4_1.gguf")
    if not place.is_file():
        skip("SmolLM2 is not there; scripts/get_smollm2.py gets it")
    return place
