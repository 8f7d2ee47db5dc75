"""Logits and caches against Hugging Face's own values, of every family, with and without an adapter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import FAMILIES, read_safetensors

import lorascope


def tiny(shared: Path, family: str, place: Path) -> lorascope.Model:
    """A tiny model with its adapter; the reference data brings no tokenizer, so it gets one whose tokens are numbers."""
    source = shared / "tiny" / family
    base = place / family
    shutil.copytree(source / "model", base, copy_function=shutil.copy)
    size = json.loads((base / "config.json").read_text())["vocab_size"]
    vocab = {str(i): i for i in range(size)}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "0"},
    }
    (base / "tokenizer.json").write_text(json.dumps(tokenizer))
    return lorascope.Model.load(base, adapters={"lora": source / "adapter"}, progress=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_and_caches_are_hugging_faces(family: str, shared: Path, tmp_path: Path) -> None:
    model = tiny(shared, family, tmp_path)
    reference = read_safetensors(shared / "tiny" / family / "ref.safetensors")
    # As the engine's own parity test: Hugging Face's f32 is 2.2e-4 away from its f64 for the tiny Gemma-2.
    tolerance = 2.2e-4 if family == "gemma2" else 1e-4
    for adapter, prefix in [("base", "base"), ("lora", "lora")]:
        logits, cache = model.run_with_cache(reference["input_ids"], adapter=adapter)

        def off(name: str, values: np.ndarray) -> float:
            expected = reference[f"{prefix}.{name}"].astype(np.float64)
            assert values.dtype == np.float32 and values.size == expected.size
            return float(np.abs(values.reshape(expected.shape) - expected).max())

        def inside(name: str, values: np.ndarray) -> float:
            return off(name, values) / float(np.abs(reference[f"{prefix}.{name}"]).max())

        assert off("logits", logits) <= tolerance
        assert off("final_norm", cache["ln_final.hook_normalized"]) <= tolerance
        for layer in range(model.n_layers):
            assert off(f"hidden.{layer}", cache["resid_pre", layer]) <= tolerance
            assert off(f"hidden.{layer + 1}", cache["resid_post", layer]) <= tolerance
            assert off(f"attn.{layer}", cache["pattern", layer]) <= tolerance
            assert inside(f"heads.{layer}", cache["z", layer]) <= tolerance / 10
            assert inside(f"attn_out.{layer}", cache["attn_out", layer]) <= tolerance / 10
            assert inside(f"mlp_out.{layer}", cache["mlp_out", layer]) <= tolerance / 10
            assert inside(f"mlp_act.{layer}", cache["post", layer]) <= tolerance / 10


def test_ids_need_no_tokenizer_but_text_uses_it(shared: Path, tmp_path: Path) -> None:
    model = tiny(shared, "llama", tmp_path)
    assert model.tokenize("17 3 5") == [17, 3, 5]
    assert np.array_equal(model("17 3 5"), model([17, 3, 5]))
